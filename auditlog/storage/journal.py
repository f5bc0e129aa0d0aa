"""Numbers that were issued, on record before the application is called.

One append-only file per emitter, ``<directory>/<emitter in hex>.journal``::

    header   "alogjrnl" || u8 version 1 || emitter(16) || u64 next || u32 crc
    record   u64 sequence || id(16) || u64 time in microseconds || u32 crc

CRC-32 covers what precedes it; that of a record also covers the emitter. Every number
below `next` that has no record is settled: in the log, or admitted there. Numbers that
have a record may be settled too: the log knows.

A record is one ``write`` to a descriptor in append mode, so it survives SIGKILL, and
threads need no lock. Where the disk was full, a part of a record may stand in the
middle; a reader finds the next whole one by its CRC.

The process that owns a journal keeps its ``flock``. Whoever gets that lock knows that
the owner is dead, and keeps it while admitting what was lost, so that it happens once.
"""

import fcntl
import os
import re
import struct
import threading
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self
from zlib import crc32

from auditlog.core.errors import StorageError
from auditlog.storage.files import (
    FileLock,
    close_own,
    open_own,
    own,
    storage_errors,
    sync_directory,
    sync_file,
    try_lock,
    write_all,
)

__all__ = [
    "AbandonedJournal",
    "Journal",
    "JournalRecord",
    "JournalView",
    "abandoned",
    "emitters_with_journal",
    "find_open",
    "read_journals",
]

_MAGIC = b"alogjrnl\x01"
_HEADER = struct.Struct(">9s16sQI")
_RECORD = struct.Struct(">Q16sQI")
_CRC_BYTES = 4
_BODY_BYTES = _RECORD.size - _CRC_BYTES
_ID_BYTES = 16
_NAME = re.compile(r"([0-9a-f]{32})\.journal", re.ASCII)
_COMPACT_BYTES = 1 << 20
_FULL_BYTES = 1 << 24
"""Bytes that an owner writes at most; some 460,000 numbers. It must stay readable."""
_MAX_BYTES = 1 << 28
_LOCK_SECONDS = 10.0
_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW


class JournalRecord(NamedTuple):
    """A number that was issued."""

    sequence: int
    id: bytes
    """Id of the decision, 16 bytes."""
    time: int
    """Arrival of the request, microseconds since the epoch."""


class Journal:
    """The journal of this process's emitter. Methods may be called from any thread.

    The descriptor keeps its number for the life of the object, whatever file is
    behind it: a thread that is about to write can never hit a stranger's file.
    """

    @classmethod
    def create(cls, directory: Path, emitter: bytes, *, sync: bool = False) -> Self:
        """Start the journal of an emitter.

        Args:
            directory: where journals are; created if need be.
            emitter: 16 bytes.
            sync: make each record survive a power cut, not only SIGKILL.

        Raises:
            StorageError: there is such a journal, or it cannot be written.
        """
        with storage_errors(f"create the directory {directory}"):
            directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / f"{emitter.hex()}.journal"
        # While we hold this, nobody takes the unlocked new file for a dead one's.
        with _scan_lock(directory):
            fd = _start(path, _format_header(emitter, 0), exclusive=True)
        try:
            sync_directory(directory)
        except BaseException:
            close_own(fd)
            path.unlink(missing_ok=True)
            raise
        return cls(path, emitter, fd, sync=sync)

    def __init__(self, path: Path, emitter: bytes, fd: int, *, sync: bool) -> None:
        """Take over an open and locked file; use `create`."""
        self._path = path
        self._emitter = emitter
        self._seed = crc32(emitter)
        self._fd = fd
        self._sync = sync
        self._pid: int | None = os.getpid()  # None once closed
        self._moving = threading.Lock()
        # Guarded by _moving; read without it by `opened`.
        self._generation = 0
        self._compact_at = _COMPACT_BYTES
        # Near enough where threads write at once.
        self._room = _FULL_BYTES - _HEADER.size
        weakref.finalize(self, _close_of, os.getpid(), fd)

    def opened(self, sequence: int, id_: bytes, time: int) -> None:
        """Put on record that a number was issued; takes microseconds.

        Args:
            sequence: the number.
            id_: id of the decision, 16 bytes.
            time: arrival of the request, microseconds since the epoch.

        Raises:
            StorageError: it is not on record. Later records are not affected.
        """
        if self._pid != os.getpid():
            raise StorageError(f"{self._path} is closed, or of another process")
        record = _format_record(self._seed, sequence, id_, time)
        if self._room < len(record):
            raise StorageError(f"{self._path} is full: too many numbers are open")
        self._room -= len(record)
        generation = self._generation
        self._write(record)
        if generation != self._generation:
            # The file was replaced meanwhile, maybe after it had been copied.
            self._write(record)

    def _write(self, record: bytes) -> None:
        # No context manager: this runs on the event loop for each request.
        try:
            written = os.write(self._fd, record)
        except OSError:
            with storage_errors(f"write {self._path}"):
                raise
        if written != len(record):
            raise StorageError(f"cannot write {self._path}: disk full")
        if self._sync:
            with storage_errors(f"write {self._path}"):
                sync_file(self._fd)

    @property
    def wants_compaction(self) -> bool:
        """Whether the file has grown so much that `compact` is worth its while."""
        with storage_errors(f"look at {self._path}"):
            return os.fstat(self._fd).st_size > self._compact_at

    def compact(self, still_open: Sequence[tuple[int, bytes, int]], next_: int) -> None:
        """Drop what is settled. Numbers may be opened meanwhile, without waiting.

        Args:
            still_open: (sequence, id, time) of every open number below `next_`.
            next_: numbers from here on are kept as they are.

        Raises:
            StorageError: the journal is as good as before, but not shorter.
        """
        with self._moving, storage_errors(f"compact {self._path}"):
            if self._pid != os.getpid():
                raise StorageError(f"{self._path} is closed, or of another process")
            records = [_format_record(self._seed, *record) for record in still_open]
            head = _format_header(self._emitter, next_) + b"".join(records)
            new = _start(_unnamed(self._path), head)
            try:
                self._move(new, next_)
            finally:
                close_own(new)
            size = os.fstat(self._fd).st_size
            self._compact_at = max(_COMPACT_BYTES, 2 * size)
            self._room = _FULL_BYTES - size
            sync_directory(self._path.parent)

    def _move(self, new: int, next_: int) -> None:
        old = own(os.dup(self._fd))
        try:
            self._switch(new)
            # From here on both files count: recovery reads the unnamed one, too.
            self._copy(old, new, next_)
            sync_file(new)
            # Whoever scans must not find the old file unlocked before the rename.
            with _scan_lock(self._path.parent):
                _unnamed(self._path).replace(self._path)
        except BaseException:
            self._switch(old)
            self._copy(new, old, 0)
            _unnamed(self._path).unlink()
            raise
        finally:
            close_own(old)

    def _switch(self, fd: int) -> None:
        self._generation += 1
        os.dup2(fd, self._fd, inheritable=False)

    def _copy(self, source: int, target: int, next_: int) -> None:
        records = _parse(_read(source, self._path), self._emitter).records
        kept = [_format_record(self._seed, *r) for r in records if r.sequence >= next_]
        # One call, for others append at the same time.
        if os.write(target, b"".join(kept)) != len(kept) * _RECORD.size:
            raise StorageError(f"cannot write {self._path}: disk full")

    def close_clean(self) -> None:
        """Remove the journal: everything that it names is settled.

        Raises:
            StorageError: it may still be there.
        """
        with self._moving, storage_errors(f"remove {self._path}"):
            if self._pid == os.getpid():
                self._path.unlink(missing_ok=True)
                self._retire()
                sync_directory(self._path.parent)

    def abandon(self) -> None:
        """Leave the journal to whoever starts next."""
        with self._moving, storage_errors(f"close {self._path}"):
            if self._pid == os.getpid():
                self._retire()

    def _retire(self) -> None:
        self._pid = None
        # A child that is just being started may still have a copy of the descriptor.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, self._fd, inheritable=False)
        os.close(nothing)


def _close_of(pid: int, fd: int) -> None:
    if pid == os.getpid():
        close_own(fd)


class AbandonedJournal:
    """What a dead emitter left; we hold its lock until this is closed."""

    def __init__(self, path: Path, emitter: bytes, fd: int) -> None:
        """Take over an open and locked file; use `abandoned`."""
        self._path = path
        self._fd: int | None = fd
        self.emitter = emitter
        """16 bytes."""
        parsed = _parse(_read(fd, path), emitter)
        later = _parse(_read_if_there(_unnamed(path)), emitter)
        unique = {record.sequence: record for record in later.records + parsed.records}
        self.base: int = parsed.base
        """Numbers below that have no record are settled."""
        self.records: tuple[JournalRecord, ...] = tuple(
            unique[sequence] for sequence in sorted(unique)
        )
        """Numbers on record, ascending; some may be in the log."""
        self.written: int = os.fstat(fd).st_mtime_ns // 1000
        """When it was last written, microseconds since the epoch."""
        self.damaged: int = parsed.damaged
        """Bytes that belong to no whole header or record, as after a power cut."""

    def remove(self) -> None:
        """Remove the journal: what it names is admitted, durably.

        Raises:
            StorageError: it may still be there.
        """
        with storage_errors(f"remove {self._path}"):
            _unnamed(self._path).unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)
        sync_directory(self._path.parent)

    def close(self) -> None:
        """Give up the lock; a journal that was not removed is anybody's again.

        Raises:
            StorageError: it is unknown whether it is.
        """
        fd, self._fd = self._fd, None
        if fd is not None:
            with storage_errors(f"unlock {self._path}"):
                try:
                    fcntl.flock(fd, fcntl.LOCK_UN)
                finally:
                    close_own(fd)

    def __enter__(self) -> Self:
        """Return the journal."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give up the lock."""
        self.close()


def abandoned(directory: Path) -> list[AbandonedJournal]:
    """Return the journals whose owners are dead, each locked until it is closed.

    Raises:
        StorageError: a journal cannot be read.
    """
    if not directory.is_dir():
        return []
    found: list[AbandonedJournal] = []
    with _scan_lock(directory), storage_errors(f"look through {directory}"):
        try:
            for path, emitter in _journals(directory):
                if journal := _claim(path, emitter):
                    found.append(journal)
        except BaseException:
            for journal in found:
                journal.close()
            raise
    return found


def _claim(path: Path, emitter: bytes) -> AbandonedJournal | None:
    """Lock a journal; None if its owner lives, or somebody else has removed it."""
    try:
        fd = open_own(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        # Between the two calls another recovery may have come to its end.
        if try_lock(fd) and os.fstat(fd).st_nlink:
            return AbandonedJournal(path, emitter, fd)
    except BaseException:
        close_own(fd)
        raise
    close_own(fd)
    return None


def emitters_with_journal(directory: Path) -> frozenset[bytes] | None:
    """Return the emitters that have a journal, whether they live or not.

    None where there is no such directory: a copy of a log without what its processes
    leave behind.

    Raises:
        StorageError: the directory cannot be read.
    """
    if not directory.exists():
        return None
    with storage_errors(f"read {directory}"):
        return frozenset(emitter for _, emitter in _journals(directory))


def find_open(directory: Path, id_: bytes) -> JournalRecord | None:
    """Return the record of a decision in any journal, living or dead, or None.

    Raises:
        StorageError: a journal cannot be read.
    """
    if not directory.is_dir():
        return None
    with storage_errors(f"look through {directory}"):
        for path, emitter in _journals(directory):
            for data in (_read_if_there(path), _read_if_there(_unnamed(path))):
                if id_ in data:
                    for record in _parse(data, emitter).records:
                        if record.id == id_:
                            return record
    return None


class JournalView(NamedTuple):
    """What stands in a journal, living or dead, at one moment."""

    emitter: bytes
    """16 bytes."""
    records: tuple[JournalRecord, ...]
    damaged: int
    """Bytes that belong to no whole header or record; one may just be written."""


def read_journals(directory: Path) -> list[JournalView]:
    """Return what stands in all journals, without a lock.

    Raises:
        StorageError: a journal cannot be read.
    """
    found = []
    with storage_errors(f"look through {directory}"):
        for path, emitter in _journals(directory) if directory.is_dir() else ():
            parsed = _parse(_read_if_there(path), emitter)
            found.append(JournalView(emitter, tuple(parsed.records), parsed.damaged))
    return found


class _Parsed(NamedTuple):
    base: int
    records: list[JournalRecord]
    damaged: int


def _parse(data: bytes, emitter: bytes) -> _Parsed:
    seed = crc32(emitter)
    base = _parse_header(data, emitter)
    offset, damaged = (0, 0) if base is None else (_HEADER.size, 0)
    records = []
    while offset < len(data):
        record = _parse_record(data, offset, seed)
        if record is None:
            offset, damaged = offset + 1, damaged + 1
        else:
            offset += _RECORD.size
            records.append(record)
    return _Parsed(base or 0, records, damaged)


def _parse_header(data: bytes, emitter: bytes) -> int | None:
    if len(data) < _HEADER.size:
        return None
    magic, name, next_, crc = _HEADER.unpack_from(data)
    if (magic, name) != (_MAGIC, emitter):
        return None
    return int(next_) if crc == crc32(data[: _HEADER.size - _CRC_BYTES]) else None


def _parse_record(data: bytes, offset: int, seed: int) -> JournalRecord | None:
    if len(data) - offset < _RECORD.size:
        return None
    sequence, id_, time, crc = _RECORD.unpack_from(data, offset)
    if crc != crc32(data[offset : offset + _BODY_BYTES], seed):
        return None
    return JournalRecord(sequence, id_, time)


def _format_header(emitter: bytes, next_: int) -> bytes:
    if len(emitter) != _ID_BYTES:
        raise StorageError(f"expected an emitter of 16 bytes, got {len(emitter)}")
    packed = _HEADER.pack(_MAGIC, emitter, next_, 0)
    body = packed[:-_CRC_BYTES]
    return body + crc32(body).to_bytes(_CRC_BYTES)


def _format_record(seed: int, sequence: int, id_: bytes, time: int) -> bytes:
    try:
        body = sequence.to_bytes(8) + id_ + time.to_bytes(8)
    except OverflowError:
        raise StorageError(
            f"expected a number and a time below 2^64, got {sequence} and {time}"
        ) from None
    if len(body) != _BODY_BYTES:
        raise StorageError(f"expected an id of 16 bytes, got {len(id_)}")
    return body + crc32(body, seed).to_bytes(_CRC_BYTES)


def _start(path: Path, head: bytes, *, exclusive: bool = False) -> int:
    flags = _APPEND | (os.O_EXCL if exclusive else os.O_TRUNC)
    with storage_errors(f"create {path}"):
        fd = open_own(path, flags)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_all(fd, head)
            sync_file(fd)
        except BaseException:
            close_own(fd)
            path.unlink(missing_ok=True)
            raise
    return fd


def _scan_lock(directory: Path) -> FileLock:
    return FileLock(directory / ".lock", _LOCK_SECONDS)


def _unnamed(path: Path) -> Path:
    """Return where a compacted journal is written before it takes the name."""
    return path.with_name(f"{path.name}.new")


def _journals(directory: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(directory.iterdir()):
        if match := _NAME.fullmatch(path.name):
            yield path, bytes.fromhex(match[1])


def _read_if_there(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    try:
        return _read(fd, path)
    finally:
        os.close(fd)


def _read(fd: int, path: Path) -> bytes:
    size = os.fstat(fd).st_size
    if size > _MAX_BYTES:
        raise StorageError(f"{path} has {size} bytes, expected at most {_MAX_BYTES}")
    parts, offset = [], 0
    while offset < size and (part := os.pread(fd, size - offset, offset)):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
