"""From exchange to spool, off the event loop, in batches.

One thread takes whatever has been submitted since it last looked and appends it in
one transaction with one fsync (group commit). Nothing is forgotten on the way: what
cannot be stored stays in memory and is tried again; what does not fit in memory any
more is named by a gap entry as soon as the store works again.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from auditlog.capture.exchange import Exchange
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    ConflictError,
    StorageError,
)
from auditlog.core.record import Entry
from auditlog.log.emitter import Emitter, gap_entry
from auditlog.log.preparation import Preparation, plain_item
from auditlog.storage import Index, Spool, SpoolItem

__all__ = ["OnAccepted", "Recorder"]

OnAccepted = Callable[[AuditLogError | None], None]
"""Called once, on the recorder's thread, when a decision is durable or has failed."""

_log = logging.getLogger("auditlog")

_BATCH = 1024
_BATCH_BYTES = 32 << 20
_GATHER_SECONDS = 0.03
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)


class _Store(Spool, Index, Protocol):
    """Where decisions become durable, and can be looked up again."""


class _Submitted:
    """An exchange that waits, and whom to tell once."""

    __slots__ = ("_untold", "exchange")

    def __init__(self, exchange: Exchange, on_accepted: OnAccepted | None) -> None:
        self.exchange = exchange
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


class _Dropped(NamedTuple):
    first: int
    last: int
    reason: str


_Waiting = _Submitted | _Dropped | Entry


class _Ready(NamedTuple):
    item: SpoolItem
    sequences: range
    """Numbers that are accounted for once the item is durable."""
    source: _Waiting
    """What it was made of."""


class Recorder:
    """Owns the thread that turns exchanges into accepted decisions."""

    def __init__(
        self,
        spool: _Store,
        preparation: Preparation,
        emitter: Emitter,
        origin: str,
        *,
        gather: bool,
        capacity: int = 10_000,
        capacity_bytes: int = 256 << 20,
        clock: Callable[[], float],
    ) -> None:
        """Prepare a recorder; `start` starts its thread.

        Args:
            spool: where decisions become durable.
            preparation: turns exchanges into spool items.
            emitter: whose numbers the exchanges carry.
            origin: the log's name.
            gather: wait a moment for company before each append (``spool``), or
                append at once (``sync``).
            capacity: how many exchanges may wait; more are admitted as a gap.
            capacity_bytes: how many bytes of bodies may wait.
            clock: seconds since the epoch.
        """
        self._spool = spool
        self._preparation = preparation
        self._emitter = emitter
        self._origin = origin
        self._gather = gather
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._clock = clock
        self._wake = threading.Condition(threading.Lock())
        # Guarded by _wake; in the order in which it is to stand in the log.
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._stopping = False
        self._busy = False
        self._idle = False
        # Written by the recorder's thread only.
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
        with self._wake:
            stopped, has_room = self._stopping, self._has_room()
            if has_room and not stopped:
                self._waiting.append(submitted)
                self._waiting_bytes += exchange.held_bytes
                self._rouse()
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

    def _has_room(self) -> bool:
        return (
            len(self._waiting) < self._capacity
            and self._waiting_bytes < self._capacity_bytes
        )

    def admit(self, sequence: int, reason: str) -> None:
        """Name a number of ours by a gap: there will be no decision for it."""
        with self._wake:
            last = self._waiting[-1] if self._waiting else None
            # Under overload there may be millions: they share one gap.
            if isinstance(last, _Dropped) and last[1:] == (sequence - 1, reason):
                self._waiting[-1] = _Dropped(last.first, sequence, reason)
            else:
                self._waiting.append(_Dropped(sequence, sequence, reason))
            self._rouse()

    def add_entry(self, entry: Entry) -> None:
        """Append an entry of ours after everything submitted so far."""
        with self._wake:
            self._waiting.append(entry)
            self._rouse()

    def _rouse(self) -> None:
        """Wake the thread if it sleeps: switching threads costs the event loop."""
        if self._idle:
            self._idle = False
            self._wake.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything submitted is durable; return whether it is."""
        deadline = time.monotonic() + timeout
        with self._wake:
            while self._busy or self._waiting:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._thread.is_alive():
                    return False
                self._wake.wait(min(remaining, 0.05))
        return True

    def stop(self, timeout: float) -> bool:
        """Flush, end the thread, and return whether everything is durable."""
        flushed = self.flush(timeout)
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(timeout)
        return flushed

    def _run(self) -> None:
        while taken := self._take():
            if self._store(taken):
                for one in taken:
                    if isinstance(one, _Submitted):
                        one.tell(None)
            with self._wake:
                self._busy = False
                self._wake.notify_all()
            self._compact()

    def _take(self) -> list[_Waiting]:
        """Return what waits, at most a batch; nothing when it is time to end."""
        with self._wake:
            while not self._waiting:
                if self._stopping:
                    return []
                self._idle = True
                self._wake.wait()
            self._idle = False
            self._busy = True
            gather = self._gather and len(self._waiting) < _BATCH
        if gather:
            time.sleep(_GATHER_SECONDS)
        with self._wake:
            return self._next_batch()

    def _next_batch(self) -> list[_Waiting]:
        """Take from the queue what fits into one transaction."""
        taken: list[_Waiting] = []
        size = 0
        while self._waiting and len(taken) < _BATCH and size < _BATCH_BYTES:
            one = self._waiting.popleft()
            if isinstance(one, _Submitted):
                # What is spilled comes back into memory to be sealed.
                size += one.exchange.kept_bytes
                self._waiting_bytes -= one.exchange.held_bytes
            taken.append(one)
        return taken

    def _compact(self) -> None:
        try:
            self._emitter.compact()
        except StorageError as error:
            _log.warning("auditlog: the journal could not be compacted: %s", error)

    def _store(self, taken: Sequence[_Waiting]) -> bool:
        """Append until it works, or until we stop; return whether it worked."""
        ready: list[_Ready] = []
        attempt = 0
        while True:
            try:
                ready = ready or [self._prepare(one) for one in taken]
                self._append(ready)
            except StorageError as error:
                self._complain(error, taken, attempt)
                if self._stopping:
                    return False
                time.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
            else:
                self.failure = None
                return True

    def _append(self, ready: list[_Ready]) -> None:
        try:
            self._spool.append([one.item for one in ready])
        except ConflictError:
            # An earlier append, whose answer was lost, has stored all of them; or a
            # number of ours is in the log with other bytes, which stops no other.
            for one in ready:
                if not self._is_stored(one.item):
                    self._append_alone(one)
        for one in ready:
            self._emitter.settle(one.sequences)

    def _append_alone(self, one: _Ready) -> None:
        try:
            self._spool.append([one.item])
        except ConflictError as error:
            if not isinstance(one.source, _Submitted):
                raise
            number = one.source.exchange.sequence
            _log.error("auditlog: number %d cannot be recorded: %s", number, error)
            one.source.tell(error)
            gap = self._gap(_Dropped(number, number, "unrecordable"))
            self._spool.append([gap.item])

    def _is_stored(self, item: SpoolItem) -> bool:
        row = self._spool.by_id(item.row.id)
        if row is None or row.index is None:
            return False
        return self._spool.read(row.index, row.index + 1) == [item.entry]

    def _complain(
        self, error: StorageError, taken: Sequence[_Waiting], attempt: int
    ) -> None:
        if attempt == 0:
            _log.error("auditlog: decisions cannot be stored, retrying: %s", error)
        self.failure = error
        with self._wake:
            waiting = list(self._waiting)
        for one in (*taken, *waiting):
            if isinstance(one, _Submitted):
                one.tell(error)

    def _prepare(self, one: _Waiting) -> _Ready:
        if isinstance(one, Entry):
            return _Ready(plain_item(one), range(0), one)
        if isinstance(one, _Dropped):
            return self._gap(one)
        number = one.exchange.sequence
        try:
            item = self._preparation.prepare(one.exchange)
        except StorageError:
            raise
        except ConfigurationError as error:
            # The keys are not where they were: as bad as the disk, and as curable.
            raise StorageError(str(error)) from None
        except Exception as error:  # noqa: BLE001 - whatever it is
            # A fault of ours must not lose the number: admit it by name.
            _log.exception("auditlog: a decision could not be described")
            kind = type(error).__name__
            one.tell(StorageError(f"the decision could not be described: {kind}"))
            return self._gap(_Dropped(number, number, "unrecordable"))
        return _Ready(item, range(number, number + 1), one)

    def _gap(self, dropped: _Dropped) -> _Ready:
        now = int(self._clock() * 1_000_000)
        entry = gap_entry(self._emitter.id, *dropped, self._origin, now, now)
        numbers = range(dropped.first, dropped.last + 1)
        return _Ready(plain_item(entry), numbers, dropped)
