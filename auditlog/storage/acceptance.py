"""Items that are durable before the store has ordered them: one file per emitter.

A transaction of the store changes pages of five trees and costs some 200 µs of CPU time
and a lock between processes. One write, and one sync of a file that does not grow,
costs a fifth of that and no lock. So under ``durability = sync`` a decision is accepted
here, and the store is filled behind, many decisions at a time.

``<directory>/<emitter in hex>.accepted``, beside the journal and under its lock::

    header   "alogacpt" || u8 version 1 || emitter(16) || u32 crc
    frame    u64 round || u32 length || payload || u32 crc
    payload  the items of one append, as MessagePack

CRC-32 covers what precedes it; that of a frame also covers the emitter. Frames follow
each other from the header on. Once all of them are in the store, the file is used from
its start again, in the next *round*: a frame of an earlier round than the newest one
is what was left there, and in the store already. So nothing is ever written to forget
an item, and whoever reads compares with the store. A frame that is damaged costs no
other: the next whole one is found by its CRC.

Only where content was erased, and such left-over frames still hold it, is something
written to forget them: whoever erases touches the file ``forget`` beside
(`has_forgotten`), and the owner of each file, when it clears it next, overwrites what
it has used of it.
"""

import fcntl
import os
import re
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, Self
from zlib import crc32

import msgspec

from auditlog.core.errors import StorageError
from auditlog.storage import SpoolItem
from auditlog.storage.files import (
    close_own,
    open_own,
    storage_errors,
    sync_directory,
    sync_file,
    write_all,
)

__all__ = [
    "Acceptance",
    "AcceptanceFile",
    "accepted_items",
    "accepted_under",
    "find_accepted",
    "has_forgotten",
    "remove_accepted",
]

_MAGIC = b"alogacpt\x01"
_HEADER = struct.Struct(">9s16sI")
_FRAME = struct.Struct(">QI")
_CRC = struct.Struct(">I")
_NAME = re.compile(r"([0-9a-f]{32})\.accepted", re.ASCII)
_START = re.compile(rb"(?=\0{3}.{5}\0)", re.DOTALL)
"""How a frame begins: a round below 2^40, and a length below 2^24."""
_FORGET = "forget"
_CAPACITY = 1 << 20
"""Bytes; some 600 decisions of 1 KiB each way."""
_PIECE = 1 << 18
_CLOSE_SECONDS = 0.5
_LOOK_SECONDS = 0.02
# A write that is its own sync: each call more gives up the interpreter lock, and while
# an event loop is busy getting it back may take 5 ms. (macOS syncs only when asked.)
_SYNCED = 0 if hasattr(fcntl, "F_FULLFSYNC") else getattr(os, "O_DSYNC", 0)
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | _SYNCED
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[SpoolItem]).decode


class Acceptance(Protocol):
    """A place where items are durable until the store has them. Not thread-safe."""

    def append(self, items: Sequence[SpoolItem]) -> bool:
        """Make items durable, after those before them; return whether there was room.

        Raises:
            StorageError: they may be durable, or not. There is no room any more.
        """

    def clear(self) -> None:
        """Make room: everything that was appended is durable in the store."""

    def close(self, *, clean: bool) -> None:
        """Stop using it, and if it is `clean` leave nothing behind.

        Raises:
            StorageError: something may be left behind.
        """


class AcceptanceFile:
    """An `Acceptance` in a file of this process's emitter."""

    @classmethod
    def create(cls, directory: Path, emitter: bytes) -> Self:
        """Make the file in its full length, so that a sync has no length to write.

        Args:
            directory: where the journal of the emitter is.
            emitter: 16 bytes.

        Raises:
            StorageError: it is there already, or cannot be written.
        """
        path = _path(directory, emitter)
        with storage_errors(f"create {path}"):
            fd = open_own(path, _FLAGS)
            try:
                # Not only allocated: else each first use of a block has to be noted.
                write_all(fd, _format_header(emitter).ljust(_PIECE, b"\0"))
                for _ in range(_CAPACITY // _PIECE - 1):
                    write_all(fd, bytes(_PIECE))
                sync_file(fd)
                sync_directory(directory)
            except BaseException:
                close_own(fd)
                path.unlink(missing_ok=True)
                raise
        return cls(path, fd, emitter)

    def __init__(self, path: Path, fd: int, emitter: bytes) -> None:
        """Take over an open and empty file; use `create`."""
        self._path = path
        self._name = str(path)
        self._inode = os.fstat(fd).st_ino
        self._seed = crc32(emitter)
        self._closing = threading.Lock()
        self._ended = False
        self._pid = os.getpid()
        # Guarded by _closing: a thread that hangs in a stop may still append.
        self._fd: int | None = fd
        self._round = 1
        self._end = self._used = _HEADER.size
        self._failed = False
        self._look_at = 0.0
        self._forget = path.with_name(_FORGET)
        self._forgot = _touched(self._forget)

    def append(self, items: Sequence[SpoolItem]) -> bool:
        """See `Acceptance.append`."""
        # Cheaper than to find out from a frame of them.
        if sum(len(one.entry) + len(one.sealed or b"") for one in items) > _CAPACITY:
            return False
        frame = _format_frame(self._seed, self._round, items)
        with self._closing:
            fd, end = self._fd, self._end + len(frame)
            if fd is None or self._failed or end > _CAPACITY or self._is_inherited():
                return False
            # After a failed sync, a later one may succeed and mean nothing.
            self._failed = True
            with storage_errors(f"write {self._path}"):
                written = os.pwrite(fd, frame, self._end)
                if not _SYNCED:
                    sync_file(fd)
            if written != len(frame):
                raise StorageError(f"cannot write {self._path}: disk full")
            self._check_in_place()
            if self._ended:
                # Whoever recovers may have read the file before this was in it.
                raise StorageError(f"{self._path} was left to others meanwhile")
            self._failed = False
            self._end = end
            self._used = max(self._used, end)
        return True

    def _is_inherited(self) -> bool:
        # In a child made by fork the descriptor is closed, and may be a stranger's.
        return self._pid != os.getpid()

    def _check_in_place(self) -> None:
        # What is written to a file that has lost its name is gone with the process.
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_SECONDS
        try:
            in_place = os.stat(self._name).st_ino == self._inode  # noqa: PTH116
        except OSError:
            in_place = False
        if not in_place:
            raise StorageError(f"{self._path} was removed or replaced")

    def clear(self) -> None:
        """See `Acceptance.clear`."""
        self._round += 1
        self._end = _HEADER.size
        told = _touched(self._forget)
        if told != self._forgot and self._overwrite():
            self._forgot = told

    def _overwrite(self) -> bool:
        """Overwrite frames of earlier rounds; return whether that is durable."""
        with self._closing:
            if self._fd is None or self._is_inherited():
                return False
            zeros = bytes(self._used - _HEADER.size)
            try:
                written = os.pwrite(self._fd, zeros, _HEADER.size)
                sync_file(self._fd)
            except OSError:
                return False  # to be tried again when it is cleared next
            if written == len(zeros):
                self._used = _HEADER.size
            return written == len(zeros)

    def close(self, *, clean: bool) -> None:
        """See `Acceptance.close`."""
        self._ended = True
        # Who hangs in a system call keeps the descriptor; the process is ending.
        if not self._closing.acquire(timeout=_CLOSE_SECONDS):
            return
        try:
            fd, self._fd = self._fd, None
        finally:
            self._closing.release()
        if fd is not None and not self._is_inherited():
            close_own(fd)
            if clean:
                _remove(self._path)


def accepted_items(directory: Path, emitter: bytes) -> list[SpoolItem]:
    """Return what a dead emitter had accepted, in order; the store may have it.

    Raises:
        StorageError: the file cannot be read, or holds what nobody of ours wrote.
    """
    path = _path(directory, emitter)
    with storage_errors(f"read {path}"):
        return _parse(_read(path), emitter, path)


def find_accepted(directory: Path, id_: bytes) -> SpoolItem | None:
    """Return the item with this id from any file, of the living and the dead, or None.

    The store is to be asked first: what it has may be here as well.

    Raises:
        StorageError: a file cannot be read, or holds what nobody of ours wrote.
    """
    items = _items_with(directory, id_)
    return next((item for item in items if item.row.id == id_), None)


def accepted_under(directory: Path, key_id: bytes) -> list[SpoolItem]:
    """Return the items of all files whose content a key seals, oldest first.

    The store is to be asked afterwards: what it has may be here as well, and what is
    no more here by then is there.

    Raises:
        StorageError: a file cannot be read, or holds what nobody of ours wrote.
    """
    items = _items_with(directory, key_id)
    return sorted(
        (item for item in items if item.key_id == key_id), key=lambda item: item.row.id
    )


def _items_with(directory: Path, named: bytes) -> Iterator[SpoolItem]:
    """Yield the items of each file in which these bytes stand somewhere."""
    with storage_errors(f"look through {directory}"):
        for path in sorted(directory.glob("*.accepted")):
            data = _read(path)
            if named in data and (found := _NAME.fullmatch(path.name)):
                yield from _parse(data, bytes.fromhex(found[1]), path)


def has_forgotten(directory: Path, needles: Sequence[bytes]) -> bool:
    """Return whether no file holds any of these bytes; if one does, ask its owner.

    Raises:
        StorageError: a file cannot be read, or its owner cannot be asked.
    """
    with storage_errors(f"look through {directory}"):
        files = [_read(path) for path in directory.glob("*.accepted")]
        if not any(needle in data for data in files for needle in needles):
            return True
        marker = directory / _FORGET
        marker.touch(mode=0o600)
    return False


def _touched(marker: Path) -> int:
    try:
        return marker.stat().st_mtime_ns
    except OSError:
        return 0


def remove_accepted(directory: Path, emitter: bytes) -> None:
    """Remove the file of a dead emitter: all of it is in the store.

    Raises:
        StorageError: it may still be there.
    """
    _remove(_path(directory, emitter))


def _path(directory: Path, emitter: bytes) -> Path:
    return directory / f"{emitter.hex()}.accepted"


def _read(path: Path) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    try:
        return os.pread(fd, _CAPACITY, 0)
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    with storage_errors(f"remove {path}"):
        path.unlink(missing_ok=True)
    sync_directory(path.parent)


def _format_header(emitter: bytes) -> bytes:
    body = _MAGIC + emitter
    return body + _CRC.pack(crc32(body))


def _format_frame(seed: int, round_: int, items: Sequence[SpoolItem]) -> bytes:
    payload = _encode(items)
    body = _FRAME.pack(round_, len(payload)) + payload
    return body + _CRC.pack(crc32(body, seed))


def _parse(data: bytes, emitter: bytes, path: Path) -> list[SpoolItem]:
    _check_version(data, path)
    frames = list(_frames(data, crc32(emitter)))
    newest = max((round_ for _, round_, _ in frames), default=0)
    items: list[SpoolItem] = []
    for at, round_, payload in frames:
        # Of an earlier one the store has everything.
        if round_ != newest:
            continue
        try:
            items += _decode(payload)
        except msgspec.MsgspecError as error:
            raise StorageError(f"{path} holds no items at byte {at}: {error}") from None
    return items


def _check_version(data: bytes, path: Path) -> None:
    # Of a damaged header nothing is believed: frames have checksums of their own.
    if len(data) < _HEADER.size:
        return
    magic, _, crc = _HEADER.unpack_from(data)
    whole = crc == crc32(data[: _HEADER.size - _CRC.size])
    if whole and magic[:-1] == _MAGIC[:-1] and magic != _MAGIC:
        raise StorageError(
            f"{path} has format version {magic[-1]}, this auditlog knows "
            f"{_MAGIC[-1]}: start the release that wrote it, or a newer one"
        )


def _frames(data: bytes, seed: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield position, round and payload of each whole frame, of any round.

    What was accepted after a frame that is damaged is accepted all the same.
    """
    at, end = _HEADER.size, len(data.rstrip(b"\0")) + _CRC.size
    while at < end:
        frame = _parse_frame(data, at, seed)
        if frame is not None:
            yield at, *frame
            at += _FRAME.size + len(frame[1]) + _CRC.size
        else:
            found = _START.search(data, at + 1)
            at = end if found is None else found.start()


def _parse_frame(data: bytes, at: int, seed: int) -> tuple[int, bytes] | None:
    """Return round and payload of a whole frame; None where there is none."""
    if len(data) - at < _FRAME.size + _CRC.size:
        return None
    round_, length = _FRAME.unpack_from(data, at)
    end = at + _FRAME.size + length
    if not length or len(data) - end < _CRC.size:
        return None
    if _CRC.unpack_from(data, end) != (crc32(data[at:end], seed),):
        return None
    return round_, data[at + _FRAME.size : end]
