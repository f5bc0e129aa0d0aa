"""Backups of the keyring: made, recorded, forgotten, and put back.

A backup holds keys that may be erased later, so that each is on record before a byte of
it is written, and until when it is kept. What comes back from one is held against what
the log knows: a key that was erased since then stays so.

Nothing here needs the service to stop. A backup is the keyring at one moment, under its
lock. To restore is to write slots in place, one by one, while those that open are left
alone. Whoever dies in the middle begins again.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    NotFoundError,
    StorageError,
)
from auditlog.log.directory import LogDirectory
from auditlog.log.erasing import replay
from auditlog.log.key_entry import BackupWord, backup_entry
from auditlog.log.preparation import plain_item
from auditlog.log.rotating import finish, finish_under, vault_key_of
from auditlog.storage import SpoolItem
from auditlog.storage.erased_keys import ErasedKeys
from auditlog.storage.files import storage_errors
from auditlog.storage.keyring import KeyringWriter, SlotKey
from auditlog.storage.keyring_backup import (
    MAX_BACKUP,
    Backup,
    BackupHead,
    BackupKey,
    format_backup,
)
from auditlog.storage.sealing import SLOT_SIZE, unwrap_slot
from auditlog.storage.sqlite_backups import BackupRow
from auditlog.storage.whole_file import whole_file

__all__ = ["MadeBackup", "Restored", "back_up", "forget", "restore"]

_ID_BYTES = 16


class MadeBackup(NamedTuple):
    """A backup that was made."""

    row: BackupRow
    keys: int
    """How many are in it."""
    damaged: int
    """How many are not, because their slots do not open."""


class Restored(NamedTuple):
    """What came out of a backup, in numbers of keys."""

    id: bytes
    """Of the backup."""
    restored: int
    """Written back."""
    kept: int
    """Left alone, because they open."""
    erased: int
    """Not written, because they were erased since then."""
    missing: int
    """Registered, and neither in the keyring nor in the backup: they are lost."""


def back_up(log: LogDirectory, path: Path, keep: int, now: int) -> MadeBackup:
    """Copy the keyring to a new file, which is on record before it is there.

    Args:
        log: the opened log, not read-only.
        path: of the new file.
        keep: until when from now on it may be kept, microseconds.
        now: microseconds since the epoch.

    Raises:
        ConfigurationError: there is something at `path`, or it is in the log's own
            directory; or there are no keys yet.
        StorageError: the file was not made, though it may be on record.
    """
    _check_place(log, path)
    if log.store.last_slot() < 0:
        raise ConfigurationError("there is nothing to back up: no key was made yet")
    finish(log)
    row = BackupRow(os.urandom(_ID_BYTES), now, now + keep)
    # From here on nothing is called erased for good that the copy may hold.
    log.store.add_backup(
        row, _said(log, now, BackupWord("backup", row.id, row.expires))
    )
    copying = _Copying(log)
    head = BackupHead(row.id, log.origin, row.made, row.expires)
    try:
        with whole_file(path, replace=False) as file:
            file.writelines(format_backup(head, copying.keys(), copying.kek))
    except StorageError as error:
        msg = f"{error}: no backup was made, so `--forget {row.id.hex()}` is true"
        raise StorageError(msg) from None
    return MadeBackup(row, copying.found, copying.damaged)


class _Copying:
    """The keyring as it was at one moment."""

    def __init__(self, log: LogDirectory) -> None:
        self._log = log
        self.found = self.damaged = 0
        with log.keys.keyring.writing() as writer:
            finish_under(log, writer)
            self.kek = vault_key_of(log).known()[0].key
            self._raw = log.keys.keyring.raw()

    def keys(self) -> Iterator[BackupKey]:
        """Yield the keys that are registered, count them and those that do not open."""
        for key_id, slot, kind, label in self._log.store.registered_keys():
            wrapped = self._raw[slot * SLOT_SIZE : (slot + 1) * SLOT_SIZE]
            # Destroyed; or made since then, and not in this backup.
            if not any(wrapped):
                continue
            try:
                unwrap_slot(self.kek, wrapped, key_id, slot)
            except AuditLogError:
                self.damaged += 1
            else:
                self.found += 1
                yield BackupKey(key_id, slot, kind, label, wrapped)


def forget(log: LogDirectory, id_: bytes, now: int) -> BackupRow:
    """Put on record that a backup was destroyed, so that nothing waits for it.

    Args:
        log: the opened log, not read-only.
        id_: of the backup, 16 bytes.
        now: microseconds since the epoch.

    Raises:
        NotFoundError: there is no such backup.
        ConflictError: it expired before, or was forgotten.
    """
    row = log.store.keyring_backup(id_)
    if row is None:
        raise NotFoundError(f"no backup {id_.hex()} is on record")
    log.store.expire_backup(id_, now, _said(log, now, BackupWord("forgotten", id_)))
    return row._replace(expires=now)


def restore(log: LogDirectory, path: Path, now: int) -> Restored:
    """Put back keys from a backup that the keyring lacks, or that do not open in it.

    Args:
        log: the opened log, not read-only.
        path: of the backup.
        now: microseconds since the epoch.

    Raises:
        ConfigurationError: it is of another log, or under another key-encryption key,
            or slots in it are other keys' than they are here.
        MalformedError: it is no backup; or the list of erased keys is none.
        VerificationError: it was changed, or cut.
        StorageError: it is unknown how much was restored; to be done again.
    """
    backup = Backup(_read(path), log.origin, vault_key_of(log).reload())
    with log.keys.keyring.writing(create=True) as writer:
        done = _Restoring(log, writer, backup)
        done.run()
        finish_under(log, writer)
    log.store.append([_said(log, now, BackupWord("restored", backup.head.id))])
    # Also of a keyring that somebody has copied back by hand before.
    replay(log, now)
    with log.keys.keyring.writing() as writer:
        keys = log.store.registered_keys()
        missing = sum(1 for key in keys if not _is_there(writer, *key[:2]))
    return Restored(backup.head.id, done.restored, done.kept, done.erased, missing)


class _Restoring:
    """One restoration, under the lock of the keyring."""

    def __init__(
        self, log: LogDirectory, writer: KeyringWriter, backup: Backup
    ) -> None:
        self._log, self._writer, self._backup = log, writer, backup
        # Under the lock: what is erased from now on is destroyed after us.
        listed = ErasedKeys(log.paths.erased).read()
        rows = log.store.erasures()
        self._erased = frozenset([*listed, *(row.key_id for row in rows)])
        self._here = {slot: key_id for key_id, slot, *_ in log.store.registered_keys()}
        self.restored = self.kept = self.erased = 0

    def run(self) -> None:
        self._check_slots()
        for key in self._backup.each():
            if key.key_id in self._erased:
                self._forget(key)
            elif _is_there(self._writer, key.key_id, key.slot):
                self.kept += 1
            else:
                opened = unwrap_slot(
                    self._backup.kek, key.wrapped, key.key_id, key.slot
                )
                self._writer.put([SlotKey(key.key_id, key.slot, opened)])
                self.restored += 1
        self._writer.sync()
        self._register()

    def _check_slots(self) -> None:
        """Refuse a backup in which slots are other keys' than they are here."""
        for key in self._backup.each():
            here = self._here.get(key.slot, key.key_id)
            if here != key.key_id and key.key_id not in self._erased:
                raise ConfigurationError(
                    f"slot {key.slot} is another key's in this log than in the backup: "
                    "it is of another log of this name, or the database of another time"
                )

    def _forget(self, key: BackupKey) -> None:
        self.erased += 1
        if key.slot not in self._here and any(self._writer.stored(key.slot)):
            self._writer.destroy([key.slot])

    def _register(self) -> None:
        """Let a database that is older than the backup know the keys since then.

        Decisions that were accepted ahead of the store may be sealed under them.
        """
        unknown = (key for key in self._backup.each() if key.slot not in self._here)
        for key in unknown:
            if key.key_id not in self._erased:
                self._log.store.register_again(key[:4])


def _is_there(writer: KeyringWriter, key_id: bytes, slot: int) -> bool:
    try:
        return writer.key(key_id, slot) is not None
    except StorageError:
        return False


def _check_place(log: LogDirectory, path: Path) -> None:
    if os.path.lexists(path):
        raise ConfigurationError(f"there is something at {path}: name a new file")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigurationError(f"cannot write to {path.parent}")
    if path.resolve().is_relative_to(log.paths.directory.resolve()):
        raise ConfigurationError(
            f"{path} is in the log's directory, and would be lost with it, or kept in "
            "every copy of it: name a place apart from it"
        )


def _read(path: Path) -> bytes:
    with storage_errors(f"read {path}"), path.open("rb") as file:
        data = file.read(MAX_BACKUP + 1)
    if len(data) > MAX_BACKUP:
        raise MalformedError(f"expected a backup of at most {MAX_BACKUP} bytes")
    return data


def _said(log: LogDirectory, now: int, word: BackupWord) -> SpoolItem:
    return plain_item(backup_entry(log.origin, now, word))
