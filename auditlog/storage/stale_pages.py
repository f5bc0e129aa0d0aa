"""Where in the pages of an SQLite file bytes stand that nothing refers to any more.

A page of a b-tree is rebuilt when it is split, and what was moved away from it stays
in its free space, which `PRAGMA secure_delete` does not reach. So the bytes themselves
are looked at (https://sqlite.org/fileformat2.html §1.6): in whatever page they stand,
unless it is one of a table that is meant to hold them.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from auditlog.core.errors import StorageError
from auditlog.storage.files import storage_errors

__all__ = ["has_stale_copy"]

_HEADER = 100
_INTERIOR = (2, 5)
_LEAF = (10, 13)
_MAX_PAGES = 1 << 20
_PIECE = 1 << 22

_OPENING = threading.Lock()
_OPEN: dict[tuple[int, int], int] = {}
"""Descriptors by device and inode, never closed: to close any descriptor of a file
takes the POSIX locks from it that SQLite holds in this process
(https://sqlite.org/howtocorrupt.html §2.2). Guarded by _OPENING."""


def has_stale_copy(path: Path, needles: Sequence[bytes], roots: Sequence[int]) -> bool:
    """Return whether any page holds one of the needles, but for pages of some b-trees.

    Args:
        path: the database, whose write-ahead log has been brought into it; nobody may
            write to it meanwhile.
        needles: what to look for.
        roots: numbers of the first pages of b-trees that may hold it.

    Raises:
        StorageError: the file cannot be read, or is none of SQLite.
    """
    with storage_errors(f"read {path}"):
        fd = _opened(path)
        size = _page_size(os.pread(fd, _HEADER, 0))
        meant = {page for root in roots for page in _pages(fd, size, root)}
        return any(1 + at // size not in meant for at in _places(fd, needles))


def _opened(path: Path) -> int:
    with _OPENING:
        found = path.stat()
        name = found.st_dev, found.st_ino
        if name not in _OPEN:
            _OPEN[name] = os.open(path, os.O_RDONLY)
        return _OPEN[name]


def _page_size(header: bytes) -> int:
    size = int.from_bytes(header[16:18])
    size = 1 << 16 if size == 1 else size
    if not header.startswith(b"SQLite format 3\0") or size < 512:
        raise StorageError("expected a database of SQLite, got another file")
    return size


def _places(fd: int, needles: Sequence[bytes]) -> Iterator[int]:
    """Yield where needles stand, also across the pieces that are read."""
    overlap = max(map(len, needles)) - 1
    start = 0
    while data := os.pread(fd, _PIECE + overlap, start):
        for needle in needles:
            at = data.find(needle)
            while at >= 0:
                yield start + at
                at = data.find(needle, at + 1)
        start += _PIECE


def _pages(fd: int, size: int, root: int) -> Iterator[int]:
    """Yield the numbers of the pages of a b-tree; not those that values overflow to."""
    left, seen = [root], 0
    while left:
        page = left.pop()
        data = os.pread(fd, size, (page - 1) * size)
        seen += 1
        if not data or data[0] not in _INTERIOR + _LEAF or seen > _MAX_PAGES:
            raise StorageError(f"expected a page of a b-tree as page {page}")
        yield page
        if data[0] in _INTERIOR:
            left += _children(data)


def _children(data: bytes) -> Iterator[int]:
    """Yield the pages below an interior one, which is not the first of the file."""
    yield int.from_bytes(data[8:12])
    for number in range(int.from_bytes(data[3:5])):
        at = 12 + 2 * number
        cell = int.from_bytes(data[at : at + 2])
        yield int.from_bytes(data[cell : cell + 4])
