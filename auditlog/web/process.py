"""The runtime behind one middleware in this process: found late, dropped at a fork."""

import asyncio
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Protocol, TypeVar

from auditlog.config import Config
from auditlog.core.errors import AuditLogError, StorageError
from auditlog.log import recording
from auditlog.log.recording import OnAccepted, Recording, recording_for
from auditlog.log.waiting import in_asyncio
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
_POLL_SECONDS = 0.01
_START_SECONDS = 30.0
"""How long the start of the server waits for a disk."""
_FIRST_SECONDS = 5.0
"""How long a request waits where no lifespan has started the runtime."""

_T = TypeVar("_T")


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
        self._attempt: Future[Recording] | None = None
        self._ending: Recording | None = None
        self._has_started = False
        self._has_failed = False
        self._retry_at = 0.0
        self._said = ""
        _PROCESSES.add(self)

    async def start(self, within: float | None = None) -> None:
        """Start the runtime, off the event loop, unless it runs.

        Args:
            within: seconds to wait, 30 unless given; what is begun goes on.

        Raises:
            AuditLogError: configuration, keys or log cannot be used as they are.
            StorageError: the disk does not do what it must, or not in time.
        """
        if self.runtime is None:
            try:
                self.runtime = await self._try(within or _START_SECONDS)
            except Exception as error:
                self._has_failed = self._has_started or not stops_start(error)
                self._retry_at = time.monotonic() + _RETRY_SECONDS
                raise
        self._has_started = True
        self._has_failed = False
        self._said = ""

    async def _try(self, within: float) -> Recording:
        if not in_asyncio():
            return self._make()
        attempt = self._attempt = self._attempt or _begin(self._make)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(attempt), within)
        except TimeoutError:
            if attempt.done():
                raise
            text = f"expected the log to start within {within:g} s, got no answer"
            raise StorageError(text) from None
        finally:
            if attempt.done() and self._attempt is attempt:
                self._attempt = None

    async def obtain(self) -> Recording | None:
        """Return the runtime, starting it if need be; None if the disk fails.

        The first requests wait for the start, for a while. Once it has failed, it is
        tried again behind their backs: a bad disk delays nobody twice.

        Raises:
            AuditLogError: at the very first start, as for `start`.
        """
        try:
            if self.runtime is None and self._is_due():
                await self.start(_FIRST_SECONDS)
        except Exception as error:
            if stops_start(error) and not self._has_started:
                raise
            self.complain(error)
        return self.runtime

    def _is_due(self) -> bool:
        """Whether to ask for the runtime now; begins another try when it is time."""
        if not self._has_failed:
            return True
        if self._attempt is None and time.monotonic() >= self._retry_at:
            self._attempt = _begin(self._make)
        return self._attempt is not None and self._attempt.done()

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
            self._ending = runtime if end is _stop else None
            try:
                await _off_loop(lambda: end(runtime))
            except Exception:  # noqa: BLE001 - the server must be able to stop
                _log.exception("auditlog: the log did not stop cleanly")
            finally:
                self._ending = None

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
        self._attempt = self._ending = None
        self.in_flight.clear()

    def _make(self) -> Recording:
        while (runtime := recording_for(self._config)) is self._ending:
            # A request that comes while the log stops is recorded by the next one.
            time.sleep(_POLL_SECONDS)
        return runtime


_PROCESSES: "weakref.WeakSet[Process]" = weakref.WeakSet()


@contextmanager
def stand_in(make: Callable[[Config], Recording]) -> Iterator[None]:
    """Let everything in this process be recorded elsewhere for a while: in tests.

    Middlewares that were given a runtime of their own keep it.
    """
    try:
        with recording.stand_in(make):
            _forget_all()
            yield
    finally:
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


def _begin(make: Callable[[], Recording]) -> "Future[Recording]":
    """Make a runtime on a thread that nobody has to wait for."""
    attempt: Future[Recording] = Future()
    # From here on it cannot be cancelled by whoever stops waiting.
    attempt.set_running_or_notify_cancel()

    def run() -> None:
        try:
            attempt.set_result(make())
        except BaseException as error:  # noqa: BLE001 - told to who asks
            attempt.set_exception(error)

    threading.Thread(target=run, name="auditlog-start", daemon=True).start()
    return attempt


def _flush(runtime: Recording) -> None:
    runtime.flush(_STOP_SECONDS)


def _stop(runtime: Recording) -> None:
    _flush(runtime)
    runtime.stop(_STOP_SECONDS)


async def _off_loop(function: Callable[[], _T]) -> _T:
    """Run a blocking function in a thread; in place where there is no asyncio."""
    if not in_asyncio():
        return function()
    return await asyncio.to_thread(function)
