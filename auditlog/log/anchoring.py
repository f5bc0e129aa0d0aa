"""Fixing checkpoints in time, outside the operator's reach, on a schedule.

A round asks every anchor of ``anchors.toml`` that is due, all at once and each in a
thread of its own, and is fenced by a lock file: leadership is a hint, and an operator
may ask beside the server. None of it is in the way of capture, sequencing or witnesses.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

from auditlog.anchors.attestation import Anchor
from auditlog.config import Config
from auditlog.core.errors import ConfigurationError, RollbackError
from auditlog.log.anchor_file import KINDS, AnchorFile, Configure
from auditlog.log.anchor_history import HistoryWork, histories
from auditlog.log.anchor_ledger import Ledger, LedgerStore, failures_of
from auditlog.log.anchor_pace import Pace, Wait
from auditlog.log.anchor_work import AnchorWork, Outcome, When
from auditlog.log.directory import LogDirectory
from auditlog.metrics import SILENT, Observer
from auditlog.storage.files import FileLock

__all__ = ["Anchoring", "restored_pace"]

_LOOK_SECONDS = 5.0
_LOCK_SECONDS = 1.0
_MICROSECONDS = 1_000_000


class Anchoring:
    """Asks the operator's anchors for one log, or for several at once."""

    def __init__(
        self,
        log: LogDirectory,
        config: Config,
        clock: Callable[[], float],
        *,
        kinds: Mapping[str, Configure] = KINDS,
        also: Sequence[LogDirectory] = (),
        observer: Observer = SILENT,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """Name what is to be anchored; `require` reads the file of anchors.

        Args:
            log: whose anchors are asked.
            config: of that log.
            clock: seconds since the epoch.
            kinds: what makes an anchor of each kind.
            also: logs that are anchored under the same digests.
            observer: is told of each attempt.
            wake: called when an entry was appended.
        """
        self._logs = (log, *also)
        self._config = config
        self._clock = clock
        self._observer = observer
        self._ledgers = [Ledger(one.store, one.origin, wake) for one in self._logs]
        self._file = AnchorFile(log.paths.anchors, kinds)
        self._reading = threading.Lock()
        self._anchors: tuple[Anchor, ...] = ()
        self._works: list[AnchorWork] = []
        self._turn = threading.Lock()
        self._next = 0.0

    def require(self) -> None:
        """Make sure that all anchors can be used as they are configured.

        Raises:
            ConfigurationError: naming the one that cannot.
        """
        self._read()

    def histories(self) -> list[HistoryWork]:
        """Return the work of each anchor that keeps a history, for `HistoryWork.check`.

        Raises:
            ConfigurationError: the file of anchors cannot be used.
        """
        anchors = self._read()
        return [one for anchor in anchors for one in histories(anchor, *self._ledgers)]

    def due(self) -> bool:
        """Return whether it is time to look whether any anchor is to be asked."""
        return time.monotonic() >= self._next

    def round(
        self, when: When = "scheduled", *, patience: float = _LOCK_SECONDS
    ) -> list[Outcome]:
        """Ask every anchor that is due, once.

        Args:
            when: how much to hurry.
            patience: seconds to wait for another round that is under way.

        Returns:
            What became of each attempt.

        Raises:
            ConfigurationError: the file of anchors cannot be used, or somebody who
                asks for a round now has none.
            RollbackError: an anchor knows another past of a log, and proves it: nothing
                must be signed there any more.
            StorageError: a store does not do what it must, or another round is under
                way for too long; nothing is lost, another round goes on.
        """
        with self._turn:
            look = min(_LOOK_SECONDS, self._config.anchor_interval)
            self._next = time.monotonic() + look
            works = self._current()
            if not works and when in ("now", "look"):
                raise ConfigurationError(
                    f"there is no anchor to ask: name one in {self._file.path}"
                )
            if when == "scheduled":
                works = [work for work in works if work.due()]
            if not works:
                return []
            with ExitStack() as locks:
                # In one order everywhere, or two rounds could wait for each other.
                files = {one.paths.anchor_lock.resolve() for one in self._logs}
                for path in sorted(files):
                    locks.enter_context(FileLock(path, patience))
                return _at_once(works, when)

    def _current(self) -> list[AnchorWork]:
        """Return the work of each anchor; those of a file that changed begin anew."""
        anchors = self._read()
        if anchors is not self._anchors:
            self._works = [self._work(anchor) for anchor in anchors]
            self._anchors = anchors
        return self._works

    def _read(self) -> tuple[Anchor, ...]:
        with self._reading:
            return self._file.anchors()

    def _work(self, anchor: Anchor) -> AnchorWork:
        store, interval = self._logs[0].store, self._config.anchor_interval
        pace = restored_pace(store, anchor.name, interval)
        return AnchorWork(anchor, self._ledgers, pace, self._clock, self._observer)


def restored_pace(store: LedgerStore, anchor: str, interval: float) -> Pace:
    """Return the pace of an anchor as the log remembers it.

    Args:
        store: of the log.
        anchor: the operator's name for it.
        interval: seconds between two submissions.

    Raises:
        StorageError: the store cannot be read.
    """
    pace = Pace(interval)
    failures, last = failures_of(store, anchor)
    pace.asking.restore(failures, last)
    rows = [
        store.last_attestation(anchor, state=state) for state in ("pending", "final")
    ]
    submitted = max((row.submitted for row in rows if row is not None), default=0)
    if submitted:
        pace.submission = Wait(submitted / _MICROSECONDS, interval)
    return pace


def _at_once(works: Sequence[AnchorWork], when: When) -> list[Outcome]:
    """Let each anchor have its turn in a thread; return what became of all attempts.

    The threads are not waited for by an interpreter that ends, as those of an executor
    would be: an anchor that hangs must not keep a service from stopping.
    """
    turns = [_Turn(work, when) for work in works]
    threads = [
        threading.Thread(target=turn.run, name=f"auditlog-anchor-{name}", daemon=True)
        for turn in turns
        for name in [turn.work.anchor.name]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [turn.error for turn in turns if turn.error is not None]
    errors.sort(key=lambda error: not isinstance(error, RollbackError))
    if errors:
        raise errors[0]
    return [outcome for turn in turns for outcome in turn.outcomes]


class _Turn:
    """One turn of one anchor, and what came of it."""

    def __init__(self, work: AnchorWork, when: When) -> None:
        self.work = work
        self.outcomes: list[Outcome] = []
        self.error: Exception | None = None
        self._when: When = when

    def run(self) -> None:
        try:
            self.outcomes = self.work.turn(self._when)
        except Exception as error:  # noqa: BLE001 - it is raised by who waits for it
            self.error = error
