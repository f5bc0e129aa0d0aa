"""Prepared entries by many callers, who wait until theirs is durable and in the tree.

What appends is the storage port and the sequencer, with a group commit around them, as
any program that has entries rather than HTTP exchanges would write it.
"""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from auditlog.config import Config
from auditlog.log.directory import LogDirectory, create_log
from auditlog.log.sequencer import Sequencer
from auditlog.storage import SpoolItem
from tests.bench.timing import Cost, measured
from tests.log.builders import ORIGIN

__all__ = ["append_by_callers", "make_log", "sequencer_of"]


def make_log(directory: Path) -> LogDirectory:
    """Make an empty log."""
    return create_log(Config(dir=directory, origin=ORIGIN))


def sequencer_of(log: LogDirectory) -> Sequencer:
    """Return the sequencer of a log that nobody else leads."""
    return Sequencer(log.store, log.origin, log.signers)


def append_by_callers(
    log: LogDirectory, items: Sequence[SpoolItem], callers: int
) -> Cost:
    """Append `items`, one at a time by each of `callers`; return what it cost."""
    return asyncio.run(_append(log, items, callers))


async def _append(log: LogDirectory, items: Sequence[SpoolItem], callers: int) -> Cost:
    waiting = iter(items)
    with _GroupCommit(log) as commit:
        start = measured()

        async def caller() -> None:
            for item in waiting:
                await commit.append(item)

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())
        return measured() - start


class _GroupCommit:
    """One thread that makes whatever waits durable, and brings it into the tree."""

    def __init__(self, log: LogDirectory) -> None:
        self._store = log.store
        self._sequencer = sequencer_of(log)
        self._loop = asyncio.get_running_loop()
        self._wake = threading.Condition()
        # Guarded by _wake.
        self._waiting: list[tuple[SpoolItem, asyncio.Future[None]]] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="bench-commit")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def append(self, item: SpoolItem) -> "asyncio.Future[None]":
        """Return what is done when the item is under a signed checkpoint."""
        done: asyncio.Future[None] = self._loop.create_future()
        with self._wake:
            self._waiting.append((item, done))
            if len(self._waiting) == 1:
                self._wake.notify()
        return done

    def _run(self) -> None:
        while taken := self._take():
            self._store.append([item for item, _ in taken])
            self._sequencer.step()
            self._loop.call_soon_threadsafe(_tell, [done for _, done in taken])

    def _take(self) -> list[tuple[SpoolItem, "asyncio.Future[None]"]]:
        with self._wake:
            while not self._waiting and not self._stopping:
                self._wake.wait()
            taken, self._waiting = self._waiting, []
        return taken


def _tell(waiting: "Sequence[asyncio.Future[None]]") -> None:
    for done in waiting:
        done.set_result(None)
