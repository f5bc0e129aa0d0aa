"""A runtime that keeps the contract of the real one, and catches who breaks it."""

import threading
import time
from typing import NamedTuple

from auditlog.capture.exchange import Exchange
from auditlog.core.errors import StorageError
from auditlog.log.amendment import Amendment
from auditlog.log.identity import new_id
from auditlog.web.process import OnAccepted


class Seen(NamedTuple):
    """An exchange as it was when it was submitted."""

    exchange: Exchange
    request: bytes
    response: bytes
    states: tuple[str, str]
    at: float


class FakeRuntime:
    """Numbers decisions and takes each exactly once.

    What the middleware must not do is collected and told by `check`, because the
    middleware swallows what a runtime raises.
    """

    def __init__(self, *, gated: bool = False) -> None:
        self.opened: dict[int, tuple[bytes, int]] = {}
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        self.waiting: list[OnAccepted] = []
        self.calls: list[str] = []
        self.amended: dict[bytes, str] = {}
        self.appended: list[Amendment] = []
        self.gated = gated
        self.is_healthy = True
        self.open_error: Exception | None = None
        self.submit_error: Exception | None = None
        self.amend_error: Exception | None = None
        self.accept_error: StorageError | None = None
        self.stop_error: Exception | None = None
        self._lock = threading.Lock()

    def open(self, id_: bytes, time_us: int) -> int:
        if self.open_error is not None:
            raise self.open_error
        with self._lock:
            self._expect(len(id_) == 16 and id_[6] >> 4 == 7, "the id is a UUIDv7")
            known = [id_ for id_, _ in self.opened.values()]
            self._expect(id_ not in known, "each id is new")
            self._expect(abs(time_us - time.time_ns() // 1000) < 60e6, "time is now")
            sequence = len(self.opened)
            self.opened[sequence] = (id_, time_us)
            return sequence

    def submit(self, exchange: Exchange, on_accepted: OnAccepted | None = None) -> None:
        with self._lock:
            opened = self.opened.get(exchange.sequence)
            self._expect(opened == (exchange.id, exchange.time), "only what is open")
            numbers = [one.exchange.sequence for one in self.seen]
            self._expect(exchange.sequence not in numbers, "each number once")
            self._expect(len(exchange.secret) == 32, "a secret has 32 bytes")
            self.seen.append(_look(exchange))
        if self.submit_error is not None:
            raise self.submit_error
        if on_accepted is None:
            return
        if self.gated:
            self.waiting.append(on_accepted)
        else:
            threading.Thread(target=on_accepted, args=(self.accept_error,)).start()

    def amend(self, decision: bytes, kind: str) -> None:
        with self._lock:
            ids = {one.exchange.id for one in self.seen}
            self._expect(decision in ids, "only what was submitted is amended")
            self._expect(decision not in self.amended, "a decision is amended once")
            self.amended[decision] = kind
        if self.amend_error is not None:
            raise self.amend_error

    def append(self, amendment: Amendment) -> bytes:
        with self._lock:
            ids = {one.exchange.id for one in self.seen}
            self._expect(amendment.decision in ids, "only what was submitted")
            self.appended.append(amendment)
        return new_id(time.time_ns() // 1000)

    def healthy(self) -> bool:
        return self.is_healthy

    def flush(self, timeout: float) -> bool:
        self.calls.append("flush")
        self._expect(timeout > 0, "a flush is bounded")
        return True

    def stop(self, timeout: float) -> None:
        self.calls.append("stop")
        self._expect(timeout > 0, "a stop is bounded")
        if self.stop_error is not None:
            raise self.stop_error

    def accept(self, error: StorageError | None = None) -> None:
        """Answer everyone who waits, from another thread."""
        waiting, self.waiting = self.waiting, []
        for on_accepted in waiting:
            thread = threading.Thread(target=on_accepted, args=(error,))
            thread.start()
            thread.join()

    def check(self) -> None:
        """Fail on a broken contract, a lost number, or a change after submission."""
        assert self.violations == []
        submitted = sorted(one.exchange.sequence for one in self.seen)
        assert submitted == sorted(self.opened), "a number was opened, not submitted"
        for one in self.seen:
            assert _look(one.exchange)[:4] == one[:4], "changed after submission"

    def only(self) -> Seen:
        """Return the one exchange that there must be."""
        self.check()
        assert len(self.seen) == 1, [one.exchange for one in self.seen]
        return self.seen[0]

    def afterwards(self) -> list[str]:
        """Return what was said of decisions after they were submitted."""
        return list(self.amended.values())

    def _expect(self, kept: bool, rule: str) -> None:
        if not kept:
            self.violations.append(rule)


def _look(exchange: Exchange) -> Seen:
    return Seen(
        exchange,
        exchange.request.kept(),
        exchange.response.kept(),
        (exchange.request.state, exchange.response.state),
        time.monotonic(),
    )
