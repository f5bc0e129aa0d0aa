"""The keys of the vault, wrapped, in a file of their own beside the database.

``FORMATS.md`` §4: slots of 64 bytes, each overwritten in place and synced, so that a
key that was destroyed is nowhere: not in the database, its journal, or an ordinary
backup of them. Which slot is whose is for `auditlog.storage.keys` to know; the slot
itself is bound to its key id and number, so slots cannot be swapped.

While the key-encryption key is rotated, some slots are wrapped under the newest
generation and some under the one before. Whoever writes does so under the lock of the
file, has read the generations under it, and wraps under the newest. Whoever reads needs
no lock; a slot that does not open is read again under the lock, with generations that
were read again, before it is called damaged.
"""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from auditlog.core.errors import (
    AuditLogError,
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
from auditlog.storage.vault_key import FixedKey, Generation

__all__ = ["DamagedSlotError", "Generations", "Keyring", "KeyringWriter", "SlotKey"]

_MAX_SLOTS = 1 << 32
_NONCE_BYTES = 12
_DESTROYED = bytes(SLOT_SIZE)


class DamagedSlotError(StorageError):
    """What is in a slot does not open under any generation."""


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


class Generations(Protocol):
    """Where the key-encryption key comes from; see `auditlog.storage.vault_key`."""

    def known(self) -> tuple[Generation, ...]:
        """Return the generations as last read, newest first."""

    def reload(self) -> tuple[Generation, ...]:
        """Read them again; return them, newest first."""


class Keyring:
    """The file of slots. Methods may be called from any thread."""

    def __init__(self, path: Path, kek: bytes | Generations) -> None:
        """Name the file; it is created with its first key.

        Args:
            path: the keyring file, readable by its owner only.
            kek: key-encryption key, from a file elsewhere; bytes are one that never
                changes.

        Raises:
            ConfigurationError: the file can be reached by others than its owner, or
                the key-encryption key is not 32 bytes.
        """
        self.path = path
        self._generations = FixedKey(kek) if isinstance(kek, bytes) else kek
        self._writing: int | None = None
        """Thread that holds the lock of the file."""
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
        (key,) = self.read_many([(key_id, slot)])
        if key is None:
            raise NotFoundError(f"the key {key_id.hex()} was destroyed")
        return key

    def read_many(self, keys: Sequence[tuple[bytes, int]]) -> list[bytes | None]:
        """Return the key in each of many slots, in order; None for one destroyed.

        Opening the file takes longer than all else, so it is opened once.

        Args:
            keys: key id and slot of each.

        Raises:
            ConfigurationError: the keyring is missing.
            StorageError: a slot cannot be read, or does not open.
        """
        generations = self._generations.known()
        found = []
        for (key_id, slot), data in zip(keys, self._stored(keys), strict=True):
            try:
                found.append(_opened(self.path, data, key_id, slot, generations))
            except StorageError:
                found.append(self._read_again(key_id, slot))
        return found

    def _read_again(self, key_id: bytes, slot: int) -> bytes | None:
        """Return what is in a slot that may be just being wrapped again."""
        with self._undisturbed():
            generations = self._generations.reload()
            (data,) = self._stored([(key_id, slot)])
            return _opened(self.path, data, key_id, slot, generations)

    def raw(self) -> bytes:
        """Return all slots as they are; nothing if there is no file.

        Raises:
            StorageError: the file cannot be read.
        """
        if not self.path.exists():
            return b""
        with storage_errors(f"read {self.path}"), self._open(os.O_RDONLY) as fd:
            return os.pread(fd, os.fstat(fd).st_size, 0)

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
            ConfigurationError: others than its owner can reach the file, or the
                key-encryption key cannot be read.
            StorageError: it cannot be opened; it is missing, for one.
        """
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        with self._open(flags) as fd, self._locked(fd, fcntl.LOCK_EX):
            # What was read before we had the lock may be retired by now.
            generations = self._generations.reload()
            self._writing = threading.get_ident()
            try:
                yield KeyringWriter(self.path, fd, generations)
            finally:
                self._writing = None

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Wait until nobody else writes, and let nobody begin."""
        if self._writing == threading.get_ident() or not self.path.exists():
            yield
        else:
            with self._open(os.O_RDONLY) as fd, self._locked(fd, fcntl.LOCK_SH):
                yield

    @contextlib.contextmanager
    def _locked(self, fd: int, kind: int) -> Iterator[None]:
        with storage_errors(f"lock {self.path}"):
            fcntl.flock(fd, kind)
        try:
            yield
        finally:
            with storage_errors(f"unlock {self.path}"):
                fcntl.flock(fd, fcntl.LOCK_UN)

    def _stored(self, keys: Sequence[tuple[bytes, int]]) -> list[bytes]:
        if not self.path.exists():
            raise ConfigurationError(
                f"the keyring {self.path} is missing, but keys are registered: "
                "restore it from its own backup; without it nothing sealed opens"
            )
        with storage_errors(f"read {self.path}"), self._open(os.O_RDONLY) as fd:
            return [os.pread(fd, SLOT_SIZE, _offset(slot)) for _, slot in keys]

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

    def __init__(self, path: Path, fd: int, generations: Sequence[Generation]) -> None:
        """Use `Keyring.writing`."""
        self._path = path
        self._fd = fd
        self._generations = tuple(generations)

    def use(self, generations: Sequence[Generation]) -> None:
        """Go on with other generations of the key-encryption key, newest first."""
        self._generations = tuple(generations)

    def slots(self) -> int:
        """Return how many slots the file has.

        Raises:
            StorageError: it cannot be read.
        """
        with storage_errors(f"read {self._path}"):
            return -(-os.fstat(self._fd).st_size // SLOT_SIZE)

    def stored(self, slot: int) -> bytes:
        """Return the bytes of a slot as they are; fewer than 64 beyond the end.

        Raises:
            StorageError: it cannot be read.
        """
        with storage_errors(f"read {self._path}"):
            return os.pread(self._fd, SLOT_SIZE, _offset(slot))

    def key(self, key_id: bytes, slot: int) -> bytes | None:
        """Return the key in a slot, or None if it was destroyed.

        Raises:
            StorageError: the slot cannot be read, or does not open.
        """
        data = self.stored(slot)
        return _opened(self._path, data, key_id, slot, self._generations)

    def rewrap(self, keys: Iterable[tuple[bytes, int]]) -> None:
        """Wrap keys, by key id and slot, under the newest generation, in place.

        What was destroyed stays so. Durable only after `sync`.

        Raises:
            StorageError: a slot does not open; those before it are done.
        """
        for key_id, slot in keys:
            data = self.stored(slot)
            if data == _DESTROYED:
                continue
            key, number = _unwrap(self._path, data, key_id, slot, self._generations)
            if number != self._generations[0].number:
                self.put([SlotKey(key_id, slot, key)])

    def add(self, keys: Sequence[SlotKey]) -> None:
        """Write new keys, durably, over whatever was there.

        Args:
            keys: in slots that follow each other.

        Raises:
            StorageError: it is unknown which of them are there.
        """
        drawn = os.urandom(_NONCE_BYTES * len(keys))
        nonces = [drawn[n * _NONCE_BYTES :][:_NONCE_BYTES] for n in range(len(keys))]
        wrapped = map(self._wrapped, keys, nonces)
        self._overwrite(keys[0].slot, b"".join(wrapped))
        self.sync()

    def _wrapped(self, one: SlotKey, nonce: bytes) -> bytes:
        kek = self._generations[0].key
        return wrap_slot(kek, one.key, one.key_id, one.slot, nonce)

    def put(self, keys: Iterable[SlotKey]) -> None:
        """Write keys into their slots; durable only after `sync`.

        Raises:
            StorageError: it is unknown which of them are there.
        """
        for one in keys:
            self._overwrite(one.slot, self._wrapped(one, os.urandom(_NONCE_BYTES)))

    def destroy(self, slots: Sequence[int]) -> None:
        """Overwrite slots with zeros, durably; what their keys sealed is gone.

        Raises:
            StorageError: it is unknown which of them were overwritten.
        """
        for slot in slots:
            self._overwrite(slot, _DESTROYED)
        self.sync()

    def _overwrite(self, slot: int, data: bytes) -> None:
        with storage_errors(f"write {self._path}"):
            written = os.pwrite(self._fd, data, _offset(slot))
        if written != len(data):
            raise StorageError(f"cannot write {self._path}: disk full")

    def sync(self) -> None:
        """Make what was written durable.

        Raises:
            StorageError: it is unknown whether it is.
        """
        with storage_errors(f"write {self._path}"):
            sync_file(self._fd)
        # The name may be new; a later key finds it durable already.
        sync_directory(self._path.parent)


def _opened(
    path: Path,
    data: bytes,
    key_id: bytes,
    slot: int,
    generations: Sequence[Generation],
) -> bytes | None:
    """Return the key in a slot; None if it was destroyed."""
    if data == _DESTROYED:
        return None
    return _unwrap(path, data, key_id, slot, generations)[0]


def _unwrap(
    path: Path,
    data: bytes,
    key_id: bytes,
    slot: int,
    generations: Sequence[Generation],
) -> tuple[bytes, int]:
    """Return the key in a slot, and the number of the generation that wraps it."""
    failed: AuditLogError | None = None
    for generation in generations:
        try:
            return unwrap_slot(generation.key, data, key_id, slot), generation.number
        except (MalformedError, VerificationError) as error:
            failed = error
    raise DamagedSlotError(
        f"slot {slot} of the keyring {path} does not open: it is damaged or older than "
        f"the database, or the key-encryption key is another one ({failed})"
    )


def _offset(slot: int) -> int:
    if not 0 <= slot < _MAX_SLOTS:
        raise StorageError(f"expected a keyring slot below {_MAX_SLOTS}, got {slot}")
    return slot * SLOT_SIZE
