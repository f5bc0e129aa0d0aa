"""Who sequences, asks witnesses and anchors: one process per log, who holds the lock.

Leadership is a hint that saves work. What keeps two sequencers from harming each
other is the compare-and-swap of the head, see `auditlog.log.sequencer`.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from auditlog.config import Config
from auditlog.core.errors import (
    AuditLogError,
    ConflictError,
    PendingError,
    RollbackError,
    StorageError,
    VerificationError,
)
from auditlog.log.anchor_answer import Failure, answer_of
from auditlog.log.anchor_file import KINDS, Configure, anchor_names
from auditlog.log.anchor_history import HistoryWork
from auditlog.log.anchor_status import watched_anchors
from auditlog.log.anchor_work import When
from auditlog.log.anchoring import Anchoring
from auditlog.log.directory import LogDirectory
from auditlog.log.erasing import catch_up
from auditlog.log.finishing import finish
from auditlog.log.sequencer import Sequencer
from auditlog.log.state import state_of
from auditlog.log.witnessing import Witnessing
from auditlog.metrics import SILENT, Observer
from auditlog.storage.files import FileLock

__all__ = ["Leader", "make_checkpoint", "time_left"]

_log = logging.getLogger("auditlog")

_LOOK_SECONDS = 0.5
_POLL_SECONDS = 0.02
_ASK_SECONDS = 10.0
_OBSERVE_SECONDS = 5.0
_LAST_WORDS_SECONDS = 3.0
_HALT_SECONDS = 10.0
_ERASE_SECONDS = 60.0
_LAST_ANCHORS_SECONDS = 5.0
"""What a stop waits for anchors: one that hangs must not take all of its time."""
_FIRST_ASK_SECONDS = 3.0
_LEAST_SECONDS = 0.5
"""What each step of a stop gets, however late it is."""


class Leader:
    """Three threads: to sequence, to ask witnesses, to ask anchors, while leading."""

    def __init__(
        self,
        log: LogDirectory,
        config: Config,
        clock: Callable[[], float],
        observer: Observer = SILENT,
        kinds: Mapping[str, Configure] = KINDS,
    ) -> None:
        """Prepare; `start` starts the threads.

        Raises:
            ConfigurationError: the anchors cannot be used as they are configured.
        """
        self._observer = observer
        self._clock = clock
        self._look_at = self._erase_at = 0.0
        self._log = log
        self._config = config
        self._witnessing = Witnessing(log, config, clock)
        self._anchoring = Anchoring(
            log, config, clock, kinds=kinds, observer=observer, wake=self.wake
        )
        self._anchoring.require()
        self._lock = ExitStack()
        self._sequencer: Sequencer | None = None
        self._said: dict[str, str] = {}
        self._anchors_said = ""
        """Why the last round of anchors failed."""
        self._signing = threading.Lock()
        """Held by who signs; nobody begins to once it is halted."""
        self._halted = threading.Event()
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._threads = [
            threading.Thread(target=run, name=f"auditlog-{name}", daemon=True)
            for name, run in (
                ("sequencer", self._sequence),
                ("witnesses", self._witness),
            )
        ]
        self._anchors = threading.Thread(
            target=self._anchor, name="auditlog-anchors", daemon=True
        )

    def start(self) -> None:
        """Start the threads."""
        for thread in (*self._threads, self._anchors):
            thread.start()

    def wake(self) -> None:
        """Say that something was submitted; costs nothing while that is known."""
        if not self._wake.is_set():
            self._wake.set()

    def stop(self, timeout: float, *, last_words: bool = True) -> bool:
        """Sequence, witness and anchor what is left, and give the lead away.

        A process that does not lead waits a moment for the lead, because the one
        that has it may be about to stop without having seen our last entries.

        Args:
            timeout: seconds for all of it, each step at least half of one.
            last_words: false where the store is known to hang.

        Returns:
            Whether nobody of ours is at the store any more.
        """
        deadline = time.monotonic() + timeout
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(time_left(deadline))
        # In a system call; and with it whoever else wants to write.
        hangs = self._threads[0].is_alive()
        last_words = last_words and not hangs
        if last_words and self._wait_for_lead(
            min(_LAST_WORDS_SECONDS, time_left(deadline))
        ):
            self._step()
            self._ask_last(deadline)
            if self._anchor_last(deadline) and self._step():
                self._ask_last(deadline)
        self._resign()
        return not hangs

    def _ask_last(self, deadline: float) -> None:
        # A thread that is still there is asking, and gets no answer either.
        if not any(thread.is_alive() for thread in self._threads):
            self._ask(min(_ASK_SECONDS, time_left(deadline)))

    def _anchor_last(self, deadline: float) -> bool:
        """Have the last checkpoint anchored; return whether anybody was asked.

        An anchor that does not answer in time is left behind, with its lock, which
        goes with the process; the next start finds what it stored.
        """
        if self._halted.is_set() or not anchor_names(self._log.paths.anchors):
            return False
        deadline = min(deadline, time.monotonic() + _LAST_ANCHORS_SECONDS)
        self._anchors.join(time_left(deadline))
        if not self._anchors.is_alive():
            last = threading.Thread(target=self._round, args=("stop",), daemon=True)
            last.start()
            last.join(time_left(deadline))
        return True

    def _wait_for_lead(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self._lead():
            if self._halted.is_set() or time.monotonic() > deadline:
                return False
            if _nothing_pending(self._log):
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _sequence(self) -> None:
        last = -math.inf
        while not self._stopping.is_set():
            if not self._lead():
                self._stopping.wait(_LOOK_SECONDS)
                continue
            remaining = last + self._config.checkpoint_interval - time.monotonic()
            if remaining > 0 and not self._many_pending():
                self._stopping.wait(min(remaining, _LOOK_SECONDS / 10))
                continue
            # Other processes cannot wake us, so look now and then as well.
            self._wake.wait(min(_LOOK_SECONDS, self._config.checkpoint_interval))
            self._wake.clear()
            if self._step():
                last = time.monotonic()

    def _witness(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS / 5):
            if self._sequencer is not None and self._witnessing.due():
                self._ask(_ASK_SECONDS)
            # Nobody leads a log that is halted: its gauges must not stand still.
            leads = self._sequencer is not None or self._halted.is_set()
            if leads and self._observer.watches:
                self._observe()

    def _anchor(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS / 5):
            if self._sequencer is not None and self._anchoring.due():
                self._round("scheduled")
            if self._sequencer is not None and time.monotonic() >= self._erase_at:
                self._erase_at = time.monotonic() + _ERASE_SECONDS
                self._finish_erasures()

    def _finish_erasures(self) -> None:
        """Complete what others began, and bring it to its end as far as it can be."""
        what, now = "an erasure waits to be completed", int(self._clock() * 1_000_000)
        try:
            if catch_up(self._log, now) + finish(self._log, now):
                self.wake()
        except AuditLogError as error:
            self._complain(what, error)
        else:
            self._mended(what)

    def _round(self, when: When) -> None:
        said, self._anchors_said = self._anchors_said, ""
        try:
            self._anchoring.round(when)
        except RollbackError as error:
            self._halt(error)
        except AuditLogError as error:
            self._anchors_said = str(error)
            if said != self._anchors_said:
                _log.error("auditlog: anchors were not asked: %s", error)
        # A fault of ours, here too, must not end the thread for good.
        except Exception as error:  # noqa: BLE001
            self._anchors_said = type(error).__name__
            if said != self._anchors_said:
                _log.exception("auditlog: anchors were not asked")

    def _observe(self) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _OBSERVE_SECONDS
        try:
            store = self._log.store
            names = watched_anchors(store, self._log.paths.anchors)
            self._observer.log_state(state_of(store, self._clock(), names))
        except StorageError as error:
            self._complain("the log could not be looked at", error)
        else:
            self._mended("the log could not be looked at")

    def _lead(self) -> bool:
        if self._sequencer is not None:
            return True
        if self._halted.is_set():
            return False
        try:
            lock = FileLock(self._log.paths.leader_lock, timeout=0)
            self._lock.enter_context(lock)
        except StorageError:
            return False
        try:
            self._take_over()
        except VerificationError as error:
            self._halt(error)
        except AuditLogError as error:
            self._complain("cannot sequence", error)
            self._resign()
        return self._sequencer is not None

    def _take_over(self) -> None:
        """Begin to sequence, if no store, witness or anchor speaks against it."""
        log = self._log
        sequencer = Sequencer(log.store, log.origin, log.signers)
        # An old copy of everything looks whole from inside. A witness may know better,
        # or a chain, so they are asked before anything is signed; one that is away is
        # not waited for, and may still halt us later.
        deadline = time.monotonic() + _FIRST_ASK_SECONDS
        checks = self._check_histories()
        self._ask(_FIRST_ASK_SECONDS)
        for check in checks:
            check.join(max(0.0, deadline - time.monotonic()))
        self._sequencer = sequencer
        if self._halted.is_set():
            self._resign()

    def _check_histories(self) -> list[threading.Thread]:
        """Begin to ask the anchors that keep histories, each in a thread of its own."""
        try:
            found = self._anchoring.histories()
        except AuditLogError as error:
            self._complain("the anchors' histories were not checked", error)
            return []
        checks = [
            threading.Thread(target=self._check_history, args=(one,), daemon=True)
            for one in found
        ]
        for check in checks:
            check.start()
        return checks

    def _check_history(self, history: HistoryWork) -> None:
        """Halt if an anchor proves another past than ours."""
        self._hear("an anchor's history was not checked", history.check, RollbackError)

    def _hear(
        self, what: str, ask: Callable[[], object], proof: type[VerificationError]
    ) -> None:
        """Ask outside; halt for a proof, and complain of anything else, once.

        A fault of ours, too, must not end the thread that asks. It is told of in our
        own words, for a foreign message may hold a key.
        """
        try:
            got = answer_of(ask)
        except StorageError as error:
            self._complain(what, error)
            return
        if not isinstance(got, Failure):
            self._mended(what)
        elif isinstance(got.error, proof):
            self._halt(got.error)
        # Of an answer that comes after the store was closed, nothing is to be said.
        elif isinstance(got.error, AuditLogError) or not self._stopping.is_set():
            self._complain(what, AuditLogError(got.text))

    def _many_pending(self) -> bool:
        sequencer = self._sequencer
        if sequencer is None:
            return False
        try:
            return sequencer.pending() >= self._config.checkpoint_decisions
        except StorageError:
            return False

    def _step(self) -> bool:
        """Return whether a new checkpoint was published."""
        sequencer = self._sequencer
        if sequencer is None or self._halted.is_set():
            return False
        before, began = sequencer.published, time.monotonic()
        try:
            with self._signing:
                if self._halted.is_set():
                    return False
                grown = sequencer.step() > before
        except VerificationError as error:
            self._halt(error)
        except ConflictError as error:
            # Somebody else moved the head or stored other bytes: look afresh.
            _log.error("auditlog: another sequencer is at work: %s", error)
            self._resign()
        except StorageError as error:
            self._complain("no checkpoint could be made", error)
            self._stopping.wait(_LOOK_SECONDS)
        else:
            if grown:
                self._observer.integrated(time.monotonic() - began)
            self._mended("no checkpoint could be made", "cannot sequence")
            self._tidy()
            return grown
        return False

    def _tidy(self) -> None:
        try:
            self._log.store.tidy()
        except StorageError as error:
            self._complain("the write-ahead log only grows", error)
        else:
            self._mended("the write-ahead log only grows")

    def _ask(self, timeout: float) -> None:
        self._hear(
            "witnesses were not asked",
            lambda: self._witnessing.ask(timeout=timeout),
            VerificationError,
        )

    def _complain(self, what: str, error: AuditLogError) -> None:
        """Log what fails once, not each time it is tried again."""
        if self._said.get(what) != str(error):
            _log.error("auditlog: %s: %s", what, error)
        self._said[what] = str(error)

    def _mended(self, *what: str) -> None:
        """Complain again should it fail again."""
        for one in what:
            self._said.pop(one, None)

    def _resign(self) -> None:
        self._sequencer = None
        self._lock.close()

    def _halt(self, error: AuditLogError) -> None:
        """Stop signing for good: going on could fork the log before witnesses."""
        self._halted.set()
        # What is being signed just now is signed before it is said that nothing is,
        # but for a disk that hangs.
        if self._signing.acquire(timeout=_HALT_SECONDS):
            self._signing.release()
        _log.critical("auditlog: HALTED, nothing is signed any more: %s", error)
        self._resign()


def time_left(deadline: float) -> float:
    """Return the seconds that a step of a stop may take.

    Args:
        deadline: of the whole stop, on the monotonic clock.
    """
    return max(_LEAST_SECONDS, deadline - time.monotonic())


def make_checkpoint(log: LogDirectory, *, timeout: float = 10.0) -> bytes:
    """Bring all accepted entries under a checkpoint, ourselves or through the leader.

    Args:
        log: the opened log.
        timeout: seconds to wait for a process that leads the log.

    Returns:
        The newest checkpoint, as first signed.

    Raises:
        PendingError: the log is empty.
        StorageError: whoever leads did not make a checkpoint in time.
        RollbackError: the store is not what was published.
    """
    deadline = time.monotonic() + timeout
    wanted = log.store.size()
    while True:
        newest = log.store.newest()
        if newest is not None and newest[0] >= wanted:
            return newest[1]
        try:
            with FileLock(log.paths.leader_lock, timeout=0):
                Sequencer(log.store, log.origin, log.signers).step()
        except StorageError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            if wanted == 0:
                msg = "the log is empty: there is nothing to sign yet"
                raise PendingError(msg)


def _nothing_pending(log: LogDirectory) -> bool:
    try:
        newest = log.store.newest()
        return newest is not None and newest[0] >= log.store.size()
    except StorageError:
        return False
