"""Answers that wait on an event loop until their decisions are accepted.

The recorder's thread says so for many at a time. Waking an event loop from another
thread takes two system calls and a turn of the loop, and a timer for each answer as
much again; so both are shared by all that wait on one loop.
"""

import asyncio
import logging
from collections import deque

from auditlog.core.errors import AuditLogError
from auditlog.log.waiting import SECONDS, in_vain

__all__ = ["Waiter", "Waiters"]

_log = logging.getLogger("auditlog")

Waiter = asyncio.Future[AuditLogError | None]
"""Gets None when a decision is accepted, else why it is not; never an exception."""


class Waiters:
    """All answers that wait on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait on `loop`, on whose thread all but `tell` is called."""
        self.loop = loop
        self._deadlines: deque[tuple[float, Waiter]] = deque()
        """Who waits and who did, in the order in which they give up."""
        self._timer: asyncio.TimerHandle | None = None
        # Appended to by any thread, emptied by the loop's.
        self._told: deque[tuple[Waiter, AuditLogError | None]] = deque()
        self._is_woken = False
        self._hangs = False
        """Whether somebody has waited in vain, and nobody was told since."""

    def add(self) -> Waiter:
        """Return what is done when `tell` was called for it, or nobody did for long.

        Once one has waited in vain, nobody waits until somebody is told again: a disk
        that hangs delays those who are there when it begins to, and no later ones.
        """
        waiter: Waiter = self.loop.create_future()
        if self._hangs:
            waiter.set_result(in_vain())
            return waiter
        self._deadlines.append((self.loop.time() + SECONDS, waiter))
        if self._timer is None:
            self._timer = self.loop.call_later(SECONDS, self._give_up)
        return waiter

    def tell(self, waiter: Waiter, error: AuditLogError | None) -> None:
        """Answer one that waits, from any thread."""
        self._told.append((waiter, error))
        # Read before it is set by whoever empties: one wake too many is harmless.
        if not self._is_woken:
            self._is_woken = True
            try:
                self.loop.call_soon_threadsafe(self._settle)
            except RuntimeError:
                # The loop is closed, and with it whoever waited.
                _log.debug("auditlog: nobody waits for a decision any more")

    def _settle(self) -> None:
        self._is_woken = self._hangs = False
        while self._told:
            waiter, error = self._told.popleft()
            if not waiter.done():
                waiter.set_result(error)
        while self._deadlines and self._deadlines[0][1].done():
            self._deadlines.popleft()

    def _give_up(self) -> None:
        """Answer those that have waited too long; look again when the next one has."""
        self._timer = None
        now = self.loop.time()
        while self._deadlines and (
            self._deadlines[0][1].done() or self._deadlines[0][0] <= now
        ):
            _, waiter = self._deadlines.popleft()
            if not waiter.done():
                self._hangs = True
                waiter.set_result(in_vain())
        if self._deadlines:
            self._timer = self.loop.call_at(self._deadlines[0][0], self._give_up)
