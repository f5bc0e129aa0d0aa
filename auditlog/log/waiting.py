"""Waiting until a decision is accepted, on a thread or a loop, but not for ever."""

import asyncio
import contextlib
import threading

from auditlog.core.errors import AuditLogError, StorageError

__all__ = ["SECONDS", "LoopWaiter", "Waiter", "in_asyncio", "in_vain"]

SECONDS = 10.0
"""How long anybody waits."""


class Waiter:
    """Waits on the thread that asks."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self._error: AuditLogError | None = None

    def tell(self, error: AuditLogError | None) -> None:
        """Answer whoever waits, from any thread."""
        self._error = error
        self._told.set()

    def answer(self) -> AuditLogError | None:
        """Return what was told; an error too if nothing was, for ten seconds."""
        return self._error if self._told.wait(SECONDS) else in_vain()


class LoopWaiter:
    """Waits on the running event loop, which goes on meanwhile."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[AuditLogError | None] = self._loop.create_future()

    def tell(self, error: AuditLogError | None) -> None:
        """Answer whoever waits, from any thread."""
        # The loop may be closed, and with it whoever waited.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: AuditLogError | None) -> None:
        if not self._future.done():
            self._future.set_result(error)

    async def answer(self) -> AuditLogError | None:
        """Return what was told; an error too if nothing was, for ten seconds."""
        try:
            return await asyncio.wait_for(self._future, SECONDS)
        except TimeoutError:
            return in_vain()


def in_asyncio() -> bool:
    """Return whether an event loop of asyncio runs here."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def in_vain() -> StorageError:
    """Return what those are told who have waited as long as anybody does."""
    return StorageError(f"expected acceptance within {SECONDS:.0f} s, got no answer")
