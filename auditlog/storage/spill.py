"""Kept bytes of large bodies, on disk until their decision is sealed.

A spill is a file without a name in the log's directory, so that nothing of it outlives
the process, and it is encrypted under a key that exists in memory only. It holds blocks
of 64 KiB, AES-256-GCM each, nonce = number of the block; a key is never used twice.

One thread writes. Whoever adds never waits for it: if it falls behind, or the disk is
full or fails, what follows is not kept. Then the stored copy is shorter, and messages
sent in a session, which are read again from here to be hashed, have no leaves.
"""

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["SpillDirectory", "SpillFile"]

_log = logging.getLogger("auditlog")

_BLOCK = 1 << 16
_SEALED = _BLOCK + 16
_MAX_WAITING = 16 << 20
"""Bytes in memory that wait for the disk, over all spills."""
_IDLE_SECONDS = 5.0
_READ_SECONDS = 5.0


class SpillDirectory:
    """Makes spills in one directory.

    Args:
        directory: of the log; it may not exist yet.
        capacity: bytes on disk at most, over all spills of this process.
    """

    def __init__(self, directory: Path, capacity: int) -> None:
        self._directory = directory
        self._capacity = capacity
        self._writer = _Writer(directory, capacity)

    def open(self) -> "SpillFile":
        """Return a new spill; nothing is made on disk before it has a block."""
        if self._writer.pid != os.getpid():
            # A forked child has neither the thread nor, perhaps, an open lock.
            self._writer = _Writer(self._directory, self._capacity)
        return SpillFile(self._writer)


class SpillFile:
    """One large body's kept bytes. One thread adds, and later one reads."""

    def __init__(self, writer: "_Writer") -> None:
        """Use `SpillDirectory.open`."""
        self._writer = writer
        self._cipher = AESGCM(AESGCM.generate_key(256))
        self._tail = bytearray()
        self._taken = 0
        self._refused = False
        # Of the writing thread, and of others once nothing waits.
        self._file: IO[bytes] | None = None
        self._written = 0
        self.failed = False
        """Whether a block was not written; then no later one is."""

    def add(self, data: bytes) -> None:
        """Keep `data` after what was added before; never waits, never raises."""
        if self._refused or self.failed:
            return
        self._tail += data
        while len(self._tail) >= _BLOCK and not self._refused:
            block = self._tail[:_BLOCK]
            del self._tail[:_BLOCK]  # in place: a copy of the rest costs its square
            self._refused = not self._writer.take(self, block)
            self._taken += not self._refused

    def write(self, block: bytearray, directory: Path) -> None:
        """Write the next block; for the writing thread.

        Raises:
            OSError: the disk is full, or fails.
        """
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - closed with this object
        sealed = self._cipher.encrypt(_nonce(self._written), block, None)
        at = self._written * _SEALED
        while sealed:
            count = os.pwrite(self._file.fileno(), sealed, at)
            sealed, at = sealed[count:], at + count
        self._written += 1

    def read(self) -> Iterator[bytes]:
        """Yield what was kept, in order, after the last `add`; may be called again.

        Waits for the disk, but not for ever.
        """
        if not self._writer.wait_for(self):
            self.failed = True
        for number in range(self._written):
            block = self._read_block(number)
            if block is None:
                self.failed = True
                return
            yield block
        if not (self._refused or self.failed):
            yield bytes(self._tail)

    def _read_block(self, number: int) -> bytes | None:
        assert self._file is not None
        try:
            sealed = os.pread(self._file.fileno(), _SEALED, number * _SEALED)
            return self._cipher.decrypt(_nonce(number), sealed, None)
        except (OSError, InvalidTag):
            # Better a shorter copy than one that does not match its commitment.
            self._writer.complain()
            return None

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()
        self._writer.release(self._taken)


def _nonce(number: int) -> bytes:
    return number.to_bytes(12)


class _Task(NamedTuple):
    spill: SpillFile
    block: bytearray


class _Writer:
    """Owns the thread that writes; it ends when there is nothing to do."""

    def __init__(self, directory: Path, capacity: int) -> None:
        self.pid = os.getpid()
        self._directory = directory
        self._capacity = capacity // _SEALED
        self._complained = False
        # Reentrant, because a spill may be collected by whoever holds it.
        self._changed = threading.Condition(threading.RLock())
        # Guarded by _changed.
        self._tasks: deque[_Task] = deque()
        self._running = False
        self._blocks = 0

    def take(self, spill: SpillFile, block: bytearray) -> bool:
        """Take a block to write; return False if too many wait, or are on disk."""
        with self._changed:
            is_behind = len(self._tasks) * _BLOCK >= _MAX_WAITING
            if is_behind or self._blocks >= self._capacity or not self._runs():
                self.complain()
                return False
            self._blocks += 1
            self._tasks.append(_Task(spill, block))
            self._changed.notify_all()
        return True

    def _runs(self) -> bool:
        """Start the thread if there is none; return whether there is one."""
        if not self._running:
            thread = threading.Thread(
                target=self._run, name="auditlog-spill", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # no more threads are to be had
                thread.start()
                self._running = True
        return self._running

    def wait_for(self, spill: SpillFile) -> bool:
        """Wait until nothing of a spill waits to be written; return whether so."""
        deadline = time.monotonic() + _READ_SECONDS
        with self._changed:
            while any(task.spill is spill for task in self._tasks):
                if not self._changed.wait(deadline - time.monotonic()):
                    return False
        return True

    def release(self, blocks: int) -> None:
        """Count blocks as gone from the disk."""
        if blocks and self.pid == os.getpid():
            with self._changed:
                self._blocks -= blocks

    def complain(self) -> None:
        """Say once that kept bytes are lost."""
        if not self._complained:
            self._complained = True
            _log.error(
                "auditlog: the disk does not take all of a large body: the stored "
                "copy is shorter, the commitment covers everything, but messages of "
                "a session may not be shown one by one (said once)"
            )

    def _run(self) -> None:
        while (task := self._next()) is not None:
            spill, block = task
            try:
                if not spill.failed:
                    spill.write(block, self._directory)
            except OSError:
                spill.failed = True
                self.complain()
            finally:
                with self._changed:
                    self._tasks.popleft()
                    self._changed.notify_all()
            del task, spill  # or the last one would live as long as this thread

    def _next(self) -> _Task | None:
        """Return what to write next, which stays in the queue; None to end."""
        with self._changed:
            if not self._tasks:
                self._changed.wait(_IDLE_SECONDS)
            if not self._tasks:
                self._running = False
                return None
            return self._tasks[0]
