"""What is kept of a body that is not held: its next bytes on disk, its last in memory.

Nothing here is needed for a commitment, with one exception (`auditlog.capture.large`):
what a disk did not take is missing from the stored copy, and from nothing else.
"""

from collections.abc import Iterator
from typing import Protocol

__all__ = ["TAIL", "Kept", "Spill", "Spills"]

TAIL = 256 << 10
"""Bytes at the end that stay in memory."""

_SLACK = 64 << 10
_ALL = 1 << 62


class Spill(Protocol):
    """Takes the kept bytes of one large body, out of memory and never in clear.

    No method raises. `add` never waits for a disk. What a disk did not take is not
    kept, nor is anything after it; there is no gap in what `read` yields.
    """

    def add(self, data: bytes) -> None:
        """Keep `data` after what was added before."""

    def read(self) -> Iterator[bytes]:
        """Yield what was kept, after the last `add`; may be called again."""


class Spills(Protocol):
    """Makes a spill for each large body."""

    def open(self) -> Spill:
        """Return a new spill."""


class Kept:
    """Takes a body from where it is no longer held.

    Args:
        keep: how many of its bytes are kept.
        spills: where these go; without it they are not kept.
        again: whether all of them are, to be read again at the end.
    """

    __slots__ = ("_keep", "_read", "_room", "_size", "_spill", "_tail")

    def __init__(self, keep: int, spills: Spills | None, *, again: bool) -> None:
        self._keep = keep
        self._room = _ALL if again else keep
        self._spill = spills.open() if spills is not None and self._room else None
        self._size = 0
        self._tail = bytearray()
        # How many bytes could be read back; None before somebody did.
        self._read: int | None = None

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._size += len(data)
        if self._spill is not None and self._room:
            taken = data[: self._room]
            self._room -= len(taken)
            self._spill.add(taken)
        self._tail += data[-TAIL:]
        if len(self._tail) > TAIL + _SLACK:
            del self._tail[:-TAIL]

    @property
    def held_bytes(self) -> int:
        """Bytes that are in memory."""
        return len(self._tail)

    def blocks(self) -> Iterator[bytes]:
        """Yield all that is there, in order. May wait for a disk."""
        if self._spill is not None:
            yield from self._spill.read()

    def read(self) -> bytes:
        """Return what is kept. May wait for a disk."""
        found: list[bytes] = []
        room = self._keep
        for block in self.blocks() if room else ():
            found.append(block[:room])
            room -= len(found[-1])
            if not room:
                break
        self._read = self._keep - room
        return b"".join(found)

    def tail(self) -> bytes:
        """Return the last bytes, at most `TAIL`, but none that `read` returns."""
        after = self._size - self._count()
        return bytes(self._tail[-min(after, TAIL) :]) if after else b""

    @property
    def capped(self) -> bool:
        """Whether bytes are missing between those kept and the tail."""
        return self._size - self._count() > TAIL

    def _count(self) -> int:
        return len(self.read()) if self._read is None else self._read
