"""Where the decisions of this process go: what is needed of a runtime, and which it is.

That is this process's own runtime for the log (`auditlog.log.runtime`), unless a test
lets something else stand in for it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from auditlog.capture.exchange import Exchange
from auditlog.config import Config
from auditlog.core.errors import AuditLogError
from auditlog.log.amendment import Aftermath, Amendment

__all__ = ["OnAccepted", "Recording", "recording_for", "stand_in"]

OnAccepted = Callable[[AuditLogError | None], None]
"""Gets None when a decision is durable, else why it is not; runs on any thread."""


class Recording(Protocol):
    """What whoever captures decisions needs of a runtime.

    Every number given by `open` comes back in exactly one `submit`.
    """

    def open(self, id_: bytes, time_us: int) -> int:
        """Number a decision before the application is called; takes microseconds."""

    def submit(self, exchange: Exchange, on_accepted: OnAccepted | None = None) -> None:
        """Take a finished exchange; never blocks."""

    def amend(self, decision: bytes, kind: Aftermath) -> None:
        """Say what followed a decision that was submitted, once; never blocks."""

    def append(self, amendment: Amendment) -> bytes:
        """Make an amendment durable and return its id; waits for the disk.

        Raises:
            NotFoundError: there is no such decision.
            StorageError: it is unknown whether it is there.
        """

    def healthy(self) -> bool:
        """Return whether decisions reach the disk, and there is room for one more."""

    def flush(self, timeout: float) -> object:
        """Wait until everything submitted is durable."""

    def stop(self, timeout: float) -> object:
        """Flush, and end all threads."""


def recording_for(config: Config) -> Recording:
    """Return what records for the log of `config` in this process, starting it once.

    Raises:
        ConfigurationError: the log cannot be used as it is.
        StorageError: the disk does not do what it must.
    """
    if _STAND_INS:
        return _STAND_INS[-1](config)
    # Imported late: it brings SQLite and threads, which must not exist at a fork.
    from auditlog.log.runtime import runtime_for  # noqa: PLC0415

    return runtime_for(config)


_STAND_INS: list[Callable[[Config], Recording]] = []


@contextmanager
def stand_in(make: Callable[[Config], Recording]) -> Iterator[None]:
    """Let everything in this process be recorded elsewhere for a while: in tests."""
    _STAND_INS.append(make)
    try:
        yield
    finally:
        _STAND_INS.remove(make)
