"""Where the decisions of this process go: what is needed of a runtime, and which it is.

That is this process's own runtime for the log (`auditlog.log.runtime`), unless a test
lets something else stand in for it.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from auditlog.capture.exchange import Exchange
from auditlog.config import Config, load_config
from auditlog.core.errors import AuditLogError
from auditlog.log.amendment import Aftermath, Amendment

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["OnAccepted", "Recording", "config_for", "recording_for", "stand_in"]

_DIR = "AUDITLOG_DIR"
_RUNTIME = "auditlog.log.runtime"
"""Looked at only where it was loaded, for with it come threads."""

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


def config_for(options: Mapping[str, Any]) -> Config:
    """Return the configuration of whoever records beyond HTTP.

    Where neither `options` nor the environment say which log, it is the one that this
    process records into, if that is one: a handler writes where its request is written,
    with the options of that log but for those that are given. Which model decides is
    then not known: that of the routes is another matter.

    Raises:
        ConfigurationError: an unknown option, or a value that does not fit.
    """
    given = [name for name, value in options.items() if value is not None]
    loaded = load_config(options) if given else None
    if "dir" not in given and _DIR not in os.environ:
        configs = _configs_in_use()
        if len(configs) == 1:
            said = {name: getattr(loaded, name) for name in given}
            return replace(configs[0], **{"model": None, **said})
    return loaded or load_config()


def _configs_in_use() -> list[Config]:
    """Return the options of all logs that this process records into, one of each."""
    if _STAND_INS:
        return list(_STAND_INS[-1].configs.values())
    if _RUNTIME not in sys.modules:
        return []
    found: list[Config] = sys.modules[_RUNTIME].running_configs()
    return found


def recording_for(config: Config) -> Recording:
    """Return what records for the log of `config` in this process, starting it once.

    Raises:
        ConfigurationError: the log cannot be used as it is.
        StorageError: the disk does not do what it must.
    """
    if _STAND_INS:
        return _STAND_INS[-1].make(config)
    # Imported late: it brings SQLite and threads, which must not exist at a fork.
    from auditlog.log.runtime import runtime_for  # noqa: PLC0415

    return runtime_for(config)


class _StandIn:
    """Stands in for all runtimes of this process."""

    def __init__(self, make: Callable[[Config], Recording]) -> None:
        self._make = make
        self.configs: dict[Path, Config] = {}
        """With which each log was first asked for, by its directory."""

    def make(self, config: Config) -> Recording:
        self.configs.setdefault(config.dir.absolute(), config)
        return self._make(config)


_STAND_INS: list[_StandIn] = []


@contextmanager
def stand_in(make: Callable[[Config], Recording]) -> Iterator[None]:
    """Let everything in this process be recorded elsewhere for a while: in tests."""
    one = _StandIn(make)
    _STAND_INS.append(one)
    try:
        yield
    finally:
        _STAND_INS.remove(one)
