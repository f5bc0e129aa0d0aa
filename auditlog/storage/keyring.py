"""The keys of the vault, wrapped, in a file of their own beside the database.

``FORMATS.md`` §4: slots of 64 bytes, each overwritten in place and synced, so that a
key that was destroyed is nowhere: not in the database, its journal, or an ordinary
backup of them. Which slot is whose is for `auditlog.storage.keys` to know; the slot
itself is bound to its key id and number, so slots cannot be swapped.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from auditlog.core.errors import (
    ConfigurationError,
    MalformedError,
    NotFoundError,
    StorageError,
    VerificationError,
)
from auditlog.storage.files import (
    check_private,
    close_own,
    open_own,
    storage_errors,
    sync_directory,
    sync_file,
)
from auditlog.storage.sealing import SLOT_SIZE, unwrap_slot, wrap_slot

__all__ = ["Keyring", "KeyringWriter", "SlotKey"]

_MAX_SLOTS = 1 << 32
_KEK_BYTES = 32
_NONCE_BYTES = 12
_DESTROYED = bytes(SLOT_SIZE)


class SlotKey(NamedTuple):
    """A key and where it is."""

    key_id: bytes
    """Its name, 16 random bytes."""
    slot: int
    key: bytes
    """K, 32 bytes."""

    def __repr__(self) -> str:
        """Name the key, never show it."""
        return f"SlotKey({self.key_id.hex()}, slot {self.slot})"


class Keyring:
    """The file of slots. Methods may be called from any thread."""

    def __init__(self, path: Path, kek: bytes) -> None:
        """Name the file; it is created with its first key.

        Args:
            path: the keyring file, readable by its owner only.
            kek: key-encryption key, 32 bytes, from a file elsewhere.

        Raises:
            ConfigurationError: the file can be reached by others than its owner, or
                the key-encryption key is not 32 bytes.
        """
        if len(kek) != _KEK_BYTES:
            raise ConfigurationError(
                f"expected a key-encryption key of {_KEK_BYTES} bytes, got {len(kek)}"
            )
        self.path = path
        self._kek = kek
        if path.exists():
            with self._open(os.O_RDONLY):
                pass

    def __repr__(self) -> str:
        """Name the file, never a key."""
        return f"{type(self).__name__}({str(self.path)!r})"

    def read(self, key_id: bytes, slot: int) -> bytes:
        """Return the key in a slot, 32 bytes.

        Raises:
            ConfigurationError: the keyring is missing.
            NotFoundError: the key was destroyed.
            StorageError: the slot cannot be read, or does not open.
        """
        data = self._stored(slot)
        if data == _DESTROYED:
            raise NotFoundError(f"the key {key_id.hex()} was destroyed")
        return self._unwrap(data, key_id, slot)

    def occupied(self, slots: Sequence[int]) -> list[int]:
        """Return those of the slots that hold anything but zeros.

        Where there is no keyring, none does.

        Raises:
            ConfigurationError: others than its owner can reach the file.
            StorageError: it cannot be read.
        """
        if not slots or not self.path.exists():
            return []
        with storage_errors(f"read {self.path}"), self._open(os.O_RDONLY) as fd:
            return [
                slot
                for slot in slots
                if os.pread(fd, SLOT_SIZE, _offset(slot)).strip(b"\0")
            ]

    @contextlib.contextmanager
    def writing(self, *, create: bool = False) -> Iterator["KeyringWriter"]:
        """Lend the one right to write, which other processes wait for.

        Args:
            create: make the file if it is not there; only for the very first key.

        Raises:
            ConfigurationError: others than its owner can reach the file.
            StorageError: it cannot be opened; it is missing, for one.
        """
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        with self._open(flags) as fd:
            with storage_errors(f"lock {self.path}"):
                fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                yield KeyringWriter(self.path, fd, self._kek)
            finally:
                with storage_errors(f"unlock {self.path}"):
                    fcntl.flock(fd, fcntl.LOCK_UN)

    def _stored(self, slot: int) -> bytes:
        if not self.path.exists():
            raise ConfigurationError(
                f"the keyring {self.path} is missing, but keys are registered: "
                "restore it from its own backup; without it nothing sealed opens"
            )
        with storage_errors(f"read {self.path}"), self._open(os.O_RDONLY) as fd:
            return os.pread(fd, SLOT_SIZE, _offset(slot))

    def _unwrap(self, data: bytes, key_id: bytes, slot: int) -> bytes:
        try:
            return unwrap_slot(self._kek, data, key_id, slot)
        except (MalformedError, VerificationError) as error:
            raise StorageError(
                f"slot {slot} of the keyring {self.path} does not open: it is damaged "
                "or older than the database, or the key-encryption key is another one "
                f"({error})"
            ) from None

    @contextlib.contextmanager
    def _open(self, flags: int) -> Iterator[int]:
        with storage_errors(f"open {self.path}"):
            fd = open_own(self.path, flags)
        try:
            check_private(fd, self.path)
            yield fd
        finally:
            close_own(fd)


class KeyringWriter:
    """Writes slots, while nobody else does. From `Keyring.writing`."""

    def __init__(self, path: Path, fd: int, kek: bytes) -> None:
        """Use `Keyring.writing`."""
        self._path = path
        self._fd = fd
        self._kek = kek

    def write(self, keys: Sequence[SlotKey]) -> None:
        """Write keys into their slots, durably, over whatever was there.

        Raises:
            StorageError: it is unknown which of them are there.
        """
        for key_id, slot, key in keys:
            nonce = os.urandom(_NONCE_BYTES)
            self._put(slot, wrap_slot(self._kek, key, key_id, slot, nonce))
        self._sync()

    def destroy(self, slots: Sequence[int]) -> None:
        """Overwrite slots with zeros, durably; what their keys sealed is gone.

        Raises:
            StorageError: it is unknown which of them were overwritten.
        """
        for slot in slots:
            self._put(slot, _DESTROYED)
        self._sync()

    def _put(self, slot: int, data: bytes) -> None:
        with storage_errors(f"write {self._path}"):
            written = os.pwrite(self._fd, data, _offset(slot))
        if written != SLOT_SIZE:
            raise StorageError(f"cannot write {self._path}: disk full")

    def _sync(self) -> None:
        with storage_errors(f"write {self._path}"):
            sync_file(self._fd)
        # The name may be new; a later key finds it durable already.
        sync_directory(self._path.parent)


def _offset(slot: int) -> int:
    if not 0 <= slot < _MAX_SLOTS:
        raise StorageError(f"expected a keyring slot below {_MAX_SLOTS}, got {slot}")
    return slot * SLOT_SIZE
