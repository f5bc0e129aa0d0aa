"""The keys of the vault, wrapped, in a file of their own beside the database.

``FORMATS.md`` §4: slots of 64 bytes, each overwritten in place and synced, so that a
key that was destroyed is nowhere: not in the database, its journal, or an ordinary
backup of them. The store says which slot is whose; the slot itself is bound to its
key id and number, so slots cannot be swapped.

A slot is written first and registered afterwards. Who dies in between leaves bytes
that no key id names, and the next key overwrites them.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

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
from auditlog.storage.sealing import unwrap_slot, wrap_slot

__all__ = ["KeySlots", "Keyring"]

_SLOT_SIZE = 64
_MAX_SLOTS = 1 << 32
_KEK_BYTES = _KEY_BYTES = 32
_KEY_ID_BYTES = 16
_NONCE_BYTES = 12
_EPOCH = "epoch"
_DESTROYED = bytes(_SLOT_SIZE)


class KeySlots(Protocol):
    """Who knows which key is in which slot, durably; a part of the store."""

    def key_slot(self, kind: str, label: str) -> tuple[bytes, int] | None:
        """Return (key id, slot) of a key by what it is for, or None."""

    def slot_of(self, key_id: bytes) -> int | None:
        """Return the slot of the key with this id, or None."""

    def last_key(self) -> tuple[bytes, int] | None:
        """Return (key id, slot) of the key in the last slot taken, or None."""

    def add_key(self, key_id: bytes, slot: int, kind: str, label: str) -> None:
        """Record durably where a key is and what it is for."""


class Keyring:
    """Makes, finds and destroys keys. Methods may be called from any thread."""

    def __init__(self, path: Path, kek: bytes, slots: KeySlots) -> None:
        """Name the file; it is created with its first key.

        Args:
            path: the keyring file, readable by its owner only.
            kek: key-encryption key, 32 bytes, from a file elsewhere.
            slots: where keys are registered.

        Raises:
            ConfigurationError: the file can be reached by others than its owner, or
                the key-encryption key is not 32 bytes.
        """
        if len(kek) != _KEK_BYTES:
            raise ConfigurationError(
                f"expected a key-encryption key of {_KEK_BYTES} bytes, got {len(kek)}"
            )
        self._path = path
        self._kek = kek
        self._slots = slots
        self._making = threading.Lock()
        self._keys: dict[bytes, bytes] = {}
        self._epochs: dict[str, bytes] = {}
        if path.exists():
            with self._open(os.O_RDONLY):
                pass

    def __repr__(self) -> str:
        """Name the file, never a key."""
        return f"{type(self).__name__}({str(self._path)!r})"

    def epoch_key(self, label: str) -> tuple[bytes, bytes]:
        """Return (key id, key) of a retention epoch, making the key on first use.

        Whoever asks first, in whatever process, makes it; all get the same.

        Raises:
            ConfigurationError: the keyring is missing, though it has keys.
            NotFoundError: the epoch's key was destroyed.
            StorageError: it could not be made or read, or the key-encryption key
                is another one than before.
        """
        key_id = self._epochs.get(label)
        if key_id is None:
            with self._making:
                key_id = self._find_or_make(_EPOCH, label)
            self._epochs[label] = key_id
        return key_id, self.key(key_id)

    def key(self, key_id: bytes) -> bytes:
        """Return the key with this id, 32 bytes.

        Raises:
            ConfigurationError: the keyring is missing.
            NotFoundError: there never was such a key, or it was destroyed.
            StorageError: its slot cannot be read, or does not open.
        """
        key = self._keys.get(key_id)
        if key is None:
            key = self._keys[key_id] = self._read(key_id)
        return key

    def require(self) -> None:
        """Make sure that the keys that are registered are here and open.

        Raises:
            ConfigurationError: the keyring is missing, or its key-encryption key is
                another one than before.
            StorageError: it cannot be read.
        """
        last = self._slots.last_key()
        if last is None:
            return
        key_id, slot = last
        data = self._stored(slot)
        if data != _DESTROYED:
            try:
                self._unwrap(data, key_id, slot)
            except StorageError as error:
                raise ConfigurationError(str(error)) from None

    def destroy(self, key_id: bytes) -> None:
        """Overwrite a key with zeros, durably; what it sealed is gone for ever.

        Other processes may have the key in memory until they end.

        Raises:
            NotFoundError: there never was such a key.
            StorageError: it is unknown whether it was overwritten.
        """
        slot = self._slot(key_id)
        self._keys.pop(key_id, None)
        with self._locked(os.O_RDWR) as fd:
            self._write(fd, slot, _DESTROYED)

    def _find_or_make(self, kind: str, label: str) -> bytes:
        found = self._slots.key_slot(kind, label)
        if found is not None:
            return found[0]
        slot = self._free_slot()
        flags = os.O_RDWR | (0 if slot else os.O_CREAT)
        with self._locked(flags) as fd:
            # Another process may have made it while we waited.
            found = self._slots.key_slot(kind, label)
            return found[0] if found else self._make(fd, kind, label)

    def _make(self, fd: int, kind: str, label: str) -> bytes:
        key, key_id = os.urandom(_KEY_BYTES), os.urandom(_KEY_ID_BYTES)
        slot = self._free_slot()
        nonce = os.urandom(_NONCE_BYTES)
        self._write(fd, slot, wrap_slot(self._kek, key, key_id, slot, nonce))
        self._slots.add_key(key_id, slot, kind, label)
        self._keys[key_id] = key
        return key_id

    def _free_slot(self) -> int:
        last = self._slots.last_key()
        if last is None:
            return 0
        # A key must not be wrapped under another key-encryption key than the rest.
        with contextlib.suppress(NotFoundError):
            self.key(last[0])
        return last[1] + 1

    def _read(self, key_id: bytes) -> bytes:
        slot = self._slot(key_id)
        data = self._stored(slot)
        if data == _DESTROYED:
            raise NotFoundError(f"the key {key_id.hex()} was destroyed")
        return self._unwrap(data, key_id, slot)

    def _stored(self, slot: int) -> bytes:
        if not self._path.exists():
            raise ConfigurationError(
                f"the keyring {self._path} is missing, but keys are registered: "
                "restore it from its own backup; without it nothing sealed opens"
            )
        with storage_errors(f"read {self._path}"), self._open(os.O_RDONLY) as fd:
            return os.pread(fd, _SLOT_SIZE, _offset(slot))

    def _unwrap(self, data: bytes, key_id: bytes, slot: int) -> bytes:
        try:
            return unwrap_slot(self._kek, data, key_id, slot)
        except (MalformedError, VerificationError) as error:
            raise StorageError(
                f"slot {slot} of the keyring {self._path} does not open: it is damaged "
                "or older than the database, or the key-encryption key is another one "
                f"({error})"
            ) from None

    def _slot(self, key_id: bytes) -> int:
        slot = self._slots.slot_of(key_id)
        if slot is None:
            raise NotFoundError(f"no key {key_id.hex()} is registered")
        return slot

    def _write(self, fd: int, slot: int, data: bytes) -> None:
        with storage_errors(f"write {self._path}"):
            written = os.pwrite(fd, data, _offset(slot))
            if written != _SLOT_SIZE:
                raise StorageError(f"cannot write {self._path}: disk full")
            sync_file(fd)
        # The name may be new; a later key finds it durable already.
        sync_directory(self._path.parent)

    @contextlib.contextmanager
    def _locked(self, flags: int) -> Iterator[int]:
        with self._open(flags) as fd:
            with storage_errors(f"lock {self._path}"):
                fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                yield fd
            finally:
                with storage_errors(f"unlock {self._path}"):
                    fcntl.flock(fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _open(self, flags: int) -> Iterator[int]:
        with storage_errors(f"open {self._path}"):
            fd = open_own(self._path, flags)
        try:
            check_private(fd, self._path)
            yield fd
        finally:
            close_own(fd)


def _offset(slot: int) -> int:
    if not 0 <= slot < _MAX_SLOTS:
        raise StorageError(f"expected a keyring slot below {_MAX_SLOTS}, got {slot}")
    return slot * _SLOT_SIZE
