"""From exchange to spool, off the event loop, in batches.

One thread takes whatever has been submitted since it last looked and makes it durable
with one sync (group commit). Nothing is forgotten on the way: what cannot be stored
stays in memory and is tried again; what does not fit in memory any more is named by a
gap entry as soon as the store works again.
"""

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from auditlog.capture.exchange import Exchange
from auditlog.core.errors import AuditLogError, StorageError
from auditlog.core.record import Entry
from auditlog.log.emitter import Emitter
from auditlog.log.placing import described
from auditlog.log.ranges import Ranges
from auditlog.log.storing import Dropped, Ready, Storing

__all__ = ["OnAccepted", "Recorder"]

OnAccepted = Callable[[AuditLogError | None], None]
"""Called once, on the recorder's thread, when a decision is durable or has failed."""

_log = logging.getLogger("auditlog")

_BATCH = 1024
_BATCH_BYTES = 32 << 20
_GATHER_SECONDS = 0.03
_BEHIND_SECONDS = 0.05
"""How long the store may be behind what was accepted."""
_BEHIND_ITEMS = 512
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)


class _Submitted:
    """An exchange that waits, and whom to tell once."""

    __slots__ = ("_untold", "exchange", "held_bytes")

    def __init__(self, exchange: Exchange, on_accepted: OnAccepted | None) -> None:
        self.exchange = exchange
        # As of now: what waits for a spill leaves memory meanwhile.
        self.held_bytes = exchange.held_bytes
        self._untold = [] if on_accepted is None else [on_accepted]

    def tell(self, error: AuditLogError | None) -> None:
        """Tell once, whichever thread is first."""
        with contextlib.suppress(IndexError):
            on_accepted = self._untold.pop()
            try:
                on_accepted(error)
            except Exception:  # noqa: BLE001 - it is not ours
                # Such as an event loop that was closed meanwhile.
                _log.exception("auditlog: nobody could be told about a decision")


_Waiting = _Submitted | Dropped | Entry


class Recorder:
    """Owns the thread that turns exchanges into accepted decisions."""

    def __init__(
        self,
        storing: Storing,
        emitter: Emitter,
        *,
        gather: bool,
        capacity: int = 10_000,
        capacity_bytes: int = 256 << 20,
    ) -> None:
        """Prepare a recorder; `start` starts its thread.

        Args:
            storing: makes things durable; from now on it belongs to the thread.
            emitter: whose numbers the exchanges carry.
            gather: wait a moment for company before each append (``spool``) for which
                nobody waits, or append at once (``sync``).
            capacity: how many exchanges may wait; more are admitted as a gap.
            capacity_bytes: how many bytes of bodies may wait.
        """
        self._storing = storing
        self._emitter = emitter
        self._gather = gather
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._lock = threading.Lock()
        self._progress = threading.Condition(self._lock)
        """Notified while somebody flushes."""
        # Guarded by _lock; in the order in which it is to stand in the log.
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._dropped: dict[str, Ranges] = {}
        """Numbers without a decision, by reason; in the log after what waits."""
        self._hurried = False
        """Whether somebody waits for something that waits here."""
        self._full = False
        self._stopping = False
        self._flushing = 0
        self._busy = False
        # The thread sleeps on _gate, which others open while _idle says that it does.
        # A condition does the same at ten times the cost for who wakes: a request.
        self._idle = False
        self._gate = threading.Lock()
        self._gate.acquire()
        # Written by the recorder's thread only.
        self._gave_up = False
        """Whether something was left to recovery, because we had to stop."""
        self._behind_since = math.inf
        """When the store fell behind, on the monotonic clock."""
        self.failure: AuditLogError | None = None
        """Why the last append failed; None while appends succeed."""
        self._thread = threading.Thread(
            target=self._run, name="auditlog-recorder", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, exchange: Exchange, on_accepted: OnAccepted | None = None) -> None:
        """Hand over an exchange; never blocks, never raises.

        `on_accepted` gets None when the decision is durable, else the error.
        """
        submitted = _Submitted(exchange, on_accepted)
        with self._lock:
            stopped, has_room = self._stopping, self._has_room()
            overload, self._full = not has_room and not self._full, not has_room
            if has_room and not stopped:
                self._waiting.append(submitted)
                self._waiting_bytes += submitted.held_bytes
                self._hurried |= on_accepted is not None
                self._rouse()
        if overload:
            _log.error("auditlog: too many decisions wait for the disk: gaps from here")
        if stopped:
            # Its number stays open, so that the next start admits it.
            submitted.tell(StorageError("the log has been stopped"))
        elif not has_room:
            self.admit(exchange.sequence, "overload")
            msg = "too many decisions wait for the disk; this one becomes a gap"
            submitted.tell(StorageError(msg))
        elif self.failure is not None:
            # Nobody shall wait for a disk that fails; the decision does.
            submitted.tell(self.failure)

    def ready(self) -> bool:
        """Return whether appends succeed and one more decision could wait for them."""
        with self._lock:
            return self.failure is None and self._has_room()

    def _has_room(self) -> bool:
        return (
            len(self._waiting) < self._capacity
            and self._waiting_bytes < self._capacity_bytes
        )

    def admit(self, sequence: int, reason: str) -> None:
        """Name a number of ours by a gap: there will be no decision for it."""
        with self._lock:
            # Under overload there may be millions, in any order: they share few gaps.
            self._dropped.setdefault(reason, Ranges()).add(sequence, sequence)
            self._rouse()

    def add_entry(self, entry: Entry) -> None:
        """Append an entry of ours after everything submitted so far."""
        with self._lock:
            self._waiting.append(entry)
            self._rouse()

    def amend(self, entry: Entry) -> bool:
        """Append what followed a decision, unless there is no room for decisions."""
        with self._lock:
            if self._stopping or not self._has_room():
                return False
            self._waiting.append(entry)
            self._rouse()
        return True

    def _rouse(self) -> None:
        """Wake the thread if it sleeps: switching threads costs the event loop."""
        if self._idle:
            self._idle = False
            self._gate.release()

    def flush(self, timeout: float) -> bool:
        """Wait until everything submitted is in the store; return whether it is.

        Once a stop has had to give something up, it never is.
        """
        deadline = time.monotonic() + timeout
        with self._progress:
            self._flushing += 1
            self._rouse()
            try:
                while self._busy or self._pending() or self._storing.behind:
                    remaining = deadline - time.monotonic()
                    if remaining <= 0 or not self._thread.is_alive():
                        return False
                    self._progress.wait(min(remaining, 0.05))
            finally:
                self._flushing -= 1
        return not self._gave_up

    def stop(self, timeout: float) -> bool:
        """Flush, end the thread, and return whether everything is in the store."""
        flushed = self.flush(timeout)
        with self._lock:
            self._stopping = True
            self._rouse()
        self._thread.join(timeout)
        # Something may have come in, and been accepted, since the flush.
        ended = not self._thread.is_alive() and not self._storing.behind
        return flushed and ended and not self._gave_up

    @property
    def hangs(self) -> bool:
        """Whether, after `stop`, the thread still is in a system call."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while self._work(self._take()):
            with self._progress:
                self._busy = False
                if self._flushing:
                    self._progress.notify_all()
            self._compact()
        with self._progress:
            # Who flushes after the end need not wait for more.
            self._busy = False
            self._progress.notify_all()

    def _work(self, taken: Sequence[_Waiting]) -> bool:
        """Make durable what was taken, or store what is behind; false at the end."""
        if not taken and not self._storing.behind:
            return False
        stored = self._store(taken)
        for one in taken if stored else ():
            if isinstance(one, _Submitted):
                one.tell(None)
        return stored or bool(taken)

    def _take(self) -> list[_Waiting]:
        """Return what waits, at most a batch.

        Nothing is returned when it is time to store what is behind, or else to end.
        """
        while not self._begin():
            self._sleep()
        gather = self._gather and not self._hurried
        if gather and 0 < len(self._waiting) < _BATCH:
            time.sleep(_GATHER_SECONDS)
        with self._lock:
            self._hurried = False
            return self._next_batch()

    def _begin(self) -> bool:
        """Return whether there is something to do; if not, others wake us."""
        with self._lock:
            self._busy = bool(self._pending() or self._stopping or self._is_due())
            self._idle = not self._busy
            return self._busy

    def _pending(self) -> bool:
        return bool(self._waiting or self._dropped)

    def _sleep(self) -> None:
        """Wait to be woken, or until what is behind should be stored."""
        if not self._gate.acquire(timeout=self._until_due()):
            with self._lock:
                # Whoever was about to wake us has opened the gate by now.
                if not self._idle:
                    self._gate.acquire()
                self._idle = False

    def _is_due(self) -> bool:
        """Return whether what is behind should be stored now."""
        behind = self._storing.behind
        if not behind:
            return False
        urgent = self._flushing or self._stopping or behind >= _BEHIND_ITEMS
        return bool(urgent) or time.monotonic() >= self._behind_since + _BEHIND_SECONDS

    def _until_due(self) -> float:
        """Return seconds to wait for what is behind; -1, for ever, if nothing is."""
        if not self._storing.behind:
            return -1
        return max(0.0, self._behind_since + _BEHIND_SECONDS - time.monotonic())

    def _next_batch(self) -> list[_Waiting]:
        """Take from the queue what fits into one transaction."""
        dropped = self._take_dropped() if self._dropped else []
        limit = _BATCH - len(dropped)
        taken: list[_Waiting] = []
        size = 0
        while self._waiting and len(taken) < limit and size < _BATCH_BYTES:
            one = self._waiting.popleft()
            if isinstance(one, _Submitted):
                # What is spilled comes back into memory to be sealed.
                size += one.exchange.kept_bytes
                self._waiting_bytes -= one.held_bytes
            taken.append(one)
        return [*taken, *dropped]

    def _take_dropped(self) -> list[Dropped]:
        """Take ranges of dropped numbers, at most a quarter of a batch."""
        every = [
            Dropped(first, last, reason)
            for reason, numbers in self._dropped.items()
            for first, last in numbers.spans()
        ]
        self._dropped = {}
        for first, last, reason in every[_BATCH // 4 :]:
            self._dropped.setdefault(reason, Ranges()).add(first, last)
        return every[: _BATCH // 4]

    def _compact(self) -> None:
        try:
            self._emitter.compact()
        except Exception as error:  # noqa: BLE001 - the next one may work
            _log.warning("auditlog: the journal could not be compacted: %s", error)

    def _store(self, taken: Sequence[_Waiting]) -> bool:
        """Try until it works, or until we stop; return whether it worked."""
        ready: Sequence[Ready] = ()
        attempt = 0
        while True:
            try:
                ready = ready or self._prepared(taken)
                self._make_durable(ready)
            except Exception as error:  # noqa: BLE001 - nobody else would go on
                self._complain(error, taken, attempt)
                if self._stopping:
                    self._gave_up = True
                    return False
                time.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
            else:
                self.failure = None
                return True

    def _prepared(self, taken: Sequence[_Waiting]) -> Sequence[Ready]:
        self._storing.begin(taken)
        ready = [self._storing.prepare(one) for one in taken]
        return self._storing.with_models(ready)

    def _make_durable(self, ready: Sequence[Ready]) -> None:
        """Accept ahead of the store while the store works and is not far behind."""
        ahead = self.failure is None and not self._is_due()
        if ready and ahead and self._storing.accept(ready):
            self._behind_since = min(self._behind_since, time.monotonic())
        else:
            self._storing.store(ready)
            self._behind_since = math.inf

    def _complain(
        self, cause: Exception, taken: Sequence[_Waiting], attempt: int
    ) -> None:
        error = cause if isinstance(cause, StorageError) else _fault(cause)
        if attempt == 0:
            why = error if error is cause else f"{error}: {described(cause)}"
            _log.error("auditlog: decisions cannot be stored, retrying: %s", why)
            self._storing.observer.error("store")
        self.failure = error
        with self._lock:
            waiting = list(self._waiting)
        for one in (*taken, *waiting):
            if isinstance(one, _Submitted):
                one.tell(error)


def _fault(cause: Exception) -> StorageError:
    """Return what those who wait are told of a fault of ours."""
    return StorageError(f"a fault of auditlog's own: {type(cause).__name__}")
