"""The contestants of one request: nothing, our middleware in its modes, the peers."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from auditlog.config import Config
from auditlog.log.directory import create_log
from auditlog.log.runtime import Runtime
from auditlog.storage.sqlite import SqliteStore
from auditlog.web.asgi import App
from auditlog.web.middleware import AuditMiddleware
from tests.bench.peers import MIDDLEWARE

__all__ = [
    "BARE",
    "OURS",
    "Mode",
    "Running",
    "name_of",
    "start_arm",
    "start_configured",
    "wait_until_included",
]

BARE = "bare"
_DRAIN_SECONDS = 30.0
_CHECKPOINT_SECONDS = 0.3
_POLL_SECONDS = 0.15


class Mode(NamedTuple):
    """How our middleware is configured."""

    durability: Literal["spool", "sync"]
    depth: int


OURS = [Mode(durability, depth) for durability in ("spool", "sync") for depth in (1, 0)]


def name_of(mode: Mode) -> str:
    """Return the name of one of our arms."""
    return f"{mode.durability}, depth {mode.depth}"


class Running(NamedTuple):
    """An application behind a middleware, in this process."""

    app: App
    drain: Callable[[], None]
    """Finish what the middleware still has to do for past requests."""
    stop: Callable[[], None]


def _nothing() -> None:
    """Do nothing: there is nothing left over."""


def start_arm(name: str, app: App, directory: Path) -> Running:
    """Put a contestant around an application.

    Args:
        name: `BARE`, the `name_of` a mode, or the name of an installed peer.
        app: the application.
        directory: where a log may be made.
    """
    if name == BARE:
        return Running(app, _nothing, _nothing)
    for mode in OURS:
        if name_of(mode) == name:
            return _ours(mode, app, directory)
    peer = next(peer for peer in MIDDLEWARE if peer.name == name)
    return Running(peer.wrap(app), _nothing, _nothing)


def _ours(mode: Mode, app: App, directory: Path) -> Running:
    return start_configured(
        app, directory, durability=mode.durability, depth=mode.depth
    )


def start_configured(app: App, directory: Path, **options: Any) -> Running:
    """Put our middleware with these options around an application.

    Args:
        app: the application.
        directory: where a log may be made.
        options: fields of `Config`, by name.
    """
    config = Config(
        dir=directory,
        origin="log.example/bench",
        checkpoint_interval=_CHECKPOINT_SECONDS,
        **options,
    )
    create_log(config).close()
    runtime = Runtime(config)
    store = SqliteStore(directory / "log.sqlite3", read_only=True)

    def drain() -> None:
        assert runtime.flush(_DRAIN_SECONDS), "decisions did not reach the disk"
        # Looking costs CPU time too, so look when it is about time.
        time.sleep(_CHECKPOINT_SECONDS)
        wait_until_included(store, poll=_POLL_SECONDS)

    def stop() -> None:
        store.close()
        runtime.stop()

    wrapped = AuditMiddleware(app, runtime=runtime, dir=directory, **options)
    return Running(wrapped, drain, stop)


def wait_until_included(store: SqliteStore, *, poll: float) -> None:
    """Wait until all that a log holds is under a signed checkpoint."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while (newest := store.newest()) is None or newest[0] < store.size():
        assert time.monotonic() < deadline, "no checkpoint was made"
        time.sleep(poll)
