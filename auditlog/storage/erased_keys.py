"""The list of keys that were erased, beside the keyring, in a file that only grows.

``keys/erased``, mode 0600: the key ids in hex, 32 digits, one a line, in the order of
their erasure. Each stands there, durably, before its slot is overwritten. A database
that is restored from a backup still knows the key, a keyring may still hold it: this
file makes both forget again. It names no person, and nothing leads from it to one.

Who dies while adding leaves a line without its end, on which nobody has relied yet:
readers leave it out, and the next one to add removes it. Anything else is refused.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from auditlog.core.errors import MalformedError, StorageError
from auditlog.storage.files import (
    check_private,
    close_own,
    open_own,
    storage_errors,
    sync_directory,
    sync_file,
    write_all,
)

__all__ = ["ErasedKeys", "parse_erased"]

_LINE = 33
_LINES = re.compile(rb"(?:[0-9a-f]{32}\n)*+", re.ASCII)
_PART = re.compile(rb"[0-9a-f]{0,32}", re.ASCII)
_MAX_BYTES = 1 << 30


def parse_erased(data: bytes) -> list[bytes]:
    """Return the key ids in such a file, each once, in order.

    Raises:
        MalformedError: it holds something else, or is larger than 1 GiB.
    """
    end = len(data) - len(data) % _LINE
    whole = len(data) <= _MAX_BYTES and _LINES.fullmatch(data, 0, end)
    if not whole or not _PART.fullmatch(data, end):
        raise MalformedError(
            "expected ids of erased keys, one a line of 32 hex digits, got other bytes"
        )
    lines = data[:end].decode().splitlines()
    return list(dict.fromkeys(bytes.fromhex(line) for line in lines))


class ErasedKeys:
    """The file. Methods may be called from any thread and process."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is made with the first key that is erased."""
        self.path = path
        self._name = str(path)
        self._seen = 0
        """Bytes of the file that `news` has told of."""

    def read(self) -> list[bytes]:
        """Return the ids of all keys in it, each once, in the order of their erasure.

        Raises:
            ConfigurationError: others than its owner can reach the file.
            MalformedError: it holds something else.
            StorageError: it cannot be read.
        """
        if not self.path.exists():
            return []
        with self._open(os.O_RDONLY) as fd:
            return self._parse(fd)

    def news(self) -> list[bytes]:
        """Return the ids that came in since this was called last; cheap if none did.

        Raises:
            ConfigurationError: others than its owner can reach the file.
            MalformedError: it holds something else.
            StorageError: it cannot be read.
        """
        try:
            # A plain name and no Path: services ask all the time.
            size = os.stat(self._name).st_size  # noqa: PTH116
        except FileNotFoundError:
            size = 0
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}") from None
        seen, self._seen = self._seen, size - size % _LINE
        if self._seen == seen:
            return []
        if self._seen < seen:
            return self.read()  # it is another one, from a backup
        with self._open(os.O_RDONLY) as fd:
            return self._parse(fd, seen)

    def add(self, key_ids: Iterable[bytes]) -> None:
        """Add ids that are not in it yet, durably.

        Raises:
            ConfigurationError: others than its owner can reach the file.
            MalformedError: it holds something else; nothing was added.
            StorageError: it is unknown which of them were added.
        """
        with self._open(os.O_RDWR | os.O_CREAT) as fd:
            with storage_errors(f"lock {self.path}"):
                fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                known = set(self._parse(fd))
                new = [key_id for key_id in key_ids if key_id not in known]
                self._append(fd, b"".join(b"%b\n" % one.hex().encode() for one in new))
            finally:
                with storage_errors(f"unlock {self.path}"):
                    fcntl.flock(fd, fcntl.LOCK_UN)

    def _append(self, fd: int, lines: bytes) -> None:
        with storage_errors(f"write {self.path}"):
            size = os.fstat(fd).st_size
            if size % _LINE:
                os.ftruncate(fd, size - size % _LINE)
            os.lseek(fd, 0, os.SEEK_END)
            write_all(fd, lines)
            # Also where nothing is new: whoever wrote it may not have come to this.
            sync_file(fd)
        sync_directory(self.path.parent)

    def _parse(self, fd: int, start: int = 0) -> list[bytes]:
        with storage_errors(f"read {self.path}"):
            size = os.fstat(fd).st_size - start
            data = os.pread(fd, min(max(0, size), _MAX_BYTES + 1), start)
        try:
            return parse_erased(data)
        except MalformedError as error:
            raise MalformedError(f"{self.path}: {error}") from None

    @contextlib.contextmanager
    def _open(self, flags: int) -> Iterator[int]:
        with storage_errors(f"open {self.path}"):
            fd = open_own(self.path, flags | os.O_NOFOLLOW)
        try:
            check_private(fd, self.path)
            yield fd
        finally:
            close_own(fd)
