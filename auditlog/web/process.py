"""The runtime behind one middleware in this process: found late, dropped at a fork."""

import asyncio
import logging
import os
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from auditlog.capture.exchange import Exchange
from auditlog.config import Config
from auditlog.core.errors import AuditLogError, StorageError
from auditlog.web.waiting import Waiters

__all__ = [
    "InFlight",
    "OnAccepted",
    "Process",
    "Recording",
    "stand_in",
    "stops_start",
]

_log = logging.getLogger("auditlog")

_STOP_SECONDS = 10.0
_RETRY_SECONDS = 1.0

_T = TypeVar("_T")

OnAccepted = Callable[[AuditLogError | None], None]
"""Gets None when a decision is durable, else why it is not; runs on any thread."""


class Recording(Protocol):
    """What a middleware needs of a runtime; `auditlog.log.runtime` has one.

    Every number given by `open` comes back in exactly one `submit`.
    """

    def open(self, id_: bytes, time_us: int) -> int:
        """Number a decision before the application is called; takes microseconds."""

    def submit(self, exchange: Exchange, on_accepted: OnAccepted | None = None) -> None:
        """Take a finished exchange; never blocks."""

    def healthy(self) -> bool:
        """Return whether decisions are reaching the disk."""

    def flush(self, timeout: float) -> object:
        """Wait until everything submitted is durable."""

    def stop(self, timeout: float) -> object:
        """Flush, and end all threads."""


class InFlight(Protocol):
    """A request that has been opened and not yet submitted."""

    def interrupt(self) -> None:
        """Submit what is known so far; the answer goes on. Never raises."""


class Process:
    """Starts, keeps and stops the runtime of one middleware in this process.

    Used from event loops only; what blocks runs in a thread.

    Args:
        config: names the log.
        given: a runtime to use instead of this process's own.
    """

    def __init__(self, config: Config, given: Recording | None = None) -> None:
        self.runtime = given
        """None until it has started."""
        self.in_flight: set[InFlight] = set()
        self._waiters: Waiters | None = None
        self._config = config
        self._given = given
        self._has_started = False
        self._retry_at = 0.0
        self._said = ""
        _PROCESSES.add(self)

    async def start(self) -> None:
        """Start the runtime, off the event loop, unless it runs.

        Raises:
            AuditLogError: configuration, keys or log cannot be used as they are.
            StorageError: the disk does not do what it must.
        """
        if self.runtime is None:
            self.runtime = await _off_loop(self._make)
        self._has_started = True
        self._said = ""

    async def obtain(self) -> Recording | None:
        """Return the runtime, starting it if need be; None if the disk fails.

        Raises:
            AuditLogError: at the very first start, as for `start`.
        """
        if self.runtime is None and time.monotonic() >= self._retry_at:
            try:
                await self.start()
            except Exception as error:
                if stops_start(error) and not self._has_started:
                    raise
                self._retry_at = time.monotonic() + _RETRY_SECONDS
                self.complain(error)
        return self.runtime

    def complain(self, error: Exception) -> None:
        """Log why the runtime did not start; the same reason is said once."""
        if str(error) != self._said:
            self._said = str(error)
            foreign = None if isinstance(error, AuditLogError) else error
            said = "auditlog: no decision can be recorded now: %s"
            _log.error(said, error, exc_info=foreign)

    async def stop(self) -> None:
        """Make everything durable and end the runtime; never raises.

        A runtime that another application of this process uses goes on. A later
        request starts another one: some servers go on after a shutdown.
        """
        runtime = self.runtime
        self.forget()
        if runtime is not None:
            shared = any(other.runtime is runtime for other in _PROCESSES)
            end = _flush if shared and self._given is None else _stop
            try:
                await _off_loop(lambda: end(runtime))
            except Exception:  # noqa: BLE001 - the server must be able to stop
                _log.exception("auditlog: the log did not stop cleanly")

    def waiters(self) -> Waiters:
        """Return those that wait on the event loop that runs here.

        Raises:
            RuntimeError: none runs here.
        """
        loop = asyncio.get_running_loop()
        if self._waiters is None or self._waiters.loop is not loop:
            self._waiters = Waiters(loop)
        return self._waiters

    def interrupt_all(self) -> None:
        """Submit everything in flight as interrupted."""
        for request in list(self.in_flight):
            request.interrupt()

    def forget(self) -> None:
        """Ask for the runtime again before it is next used."""
        self.runtime = self._given

    def forget_parent(self) -> None:
        """Drop what belongs to the process that this one was forked from."""
        self.forget()
        self.in_flight.clear()

    def _make(self) -> Recording:
        # Imported late: it brings SQLite and threads, which must not exist at a fork.
        from auditlog.log.runtime import runtime_for  # noqa: PLC0415

        make = _STAND_INS[-1] if _STAND_INS else runtime_for
        return make(self._config)


_PROCESSES: "weakref.WeakSet[Process]" = weakref.WeakSet()


_STAND_INS: list[Callable[[Config], Recording]] = []


@contextmanager
def stand_in(make: Callable[[Config], Recording]) -> Iterator[None]:
    """Let the middlewares of this process record elsewhere for a while: in tests.

    Those that were given a runtime of their own keep it.
    """
    _STAND_INS.append(make)
    try:
        _forget_all()
        yield
    finally:
        _STAND_INS.remove(make)
        _forget_all()


def _forget_all() -> None:
    for process in list(_PROCESSES):
        process.forget()


def _forget_parent() -> None:
    for process in _PROCESSES:
        process.forget_parent()


os.register_at_fork(after_in_child=_forget_parent)


def stops_start(error: Exception) -> bool:
    """Whether an error stops start-up in both modes: any of ours but a bad disk."""
    return isinstance(error, AuditLogError) and not isinstance(error, StorageError)


def _flush(runtime: Recording) -> None:
    runtime.flush(_STOP_SECONDS)


def _stop(runtime: Recording) -> None:
    _flush(runtime)
    runtime.stop(_STOP_SECONDS)


async def _off_loop(function: Callable[[], _T]) -> _T:
    """Run a blocking function in a thread; in place where there is no asyncio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function()
    return await asyncio.to_thread(function)
