"""Copies of the keyring that may hold keys after they were erased, in SQLite.

::

    keyring_backups  when each was made, and until when it is kept

A row stands before its file does, and stays when the file is gone: no key is called
erased for good while a copy may hold it. Each row comes into the log, and changes, in
one transaction with the entry about it, against which the log's check holds it.
"""

from typing import NamedTuple

from auditlog.core.errors import ConflictError
from auditlog.storage import SpoolItem
from auditlog.storage.database import Database, first_of
from auditlog.storage.sqlite_entries import insert_items

__all__ = ["BACKUPS_SCHEMA", "BackupRow", "BackupTables"]

BACKUPS_SCHEMA = """
CREATE TABLE keyring_backups (
    id BLOB PRIMARY KEY, made INTEGER NOT NULL, expires INTEGER NOT NULL)"""


class BackupRow(NamedTuple):
    """One backup of the keyring."""

    id: bytes
    """16 random bytes."""
    made: int
    """Microseconds since the epoch."""
    expires: int
    """When no copy of it is left, microseconds since the epoch."""


class BackupTables:
    """Backups of the keyring."""

    _database: Database

    def keyring_backups(self) -> list[BackupRow]:
        """Return all backups, oldest first, those that expired too."""
        query = "SELECT id, made, expires FROM keyring_backups ORDER BY made, id"
        rows = self._database.fetch(query, (), (bytes, int, int))
        return [BackupRow(*row) for row in rows]

    def keyring_backup(self, id_: bytes) -> BackupRow | None:
        """Return the backup with this id, or None."""
        query = "SELECT id, made, expires FROM keyring_backups WHERE id = ?"
        row = first_of(self._database.fetch(query, (id_,), (bytes, int, int)))
        return None if row is None else BackupRow(*row)

    def register_again(self, key: tuple[bytes, int, str, str]) -> None:
        """Record durably a key that a backup knows, as `add_keys` does.

        Nothing happens where it was erased meanwhile, or its slot or its label is
        another's by now.

        Args:
            key: key id, slot, kind and label.
        """
        query = (
            "INSERT OR IGNORE INTO keys SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS "
            "(SELECT 1 FROM erasures WHERE key_id = ?1 OR slot = ?2)"
        )
        with self._database.writing() as connection:
            connection.execute(query, key)

    def add_backup(self, row: BackupRow, said: SpoolItem) -> None:
        """Record a backup and append the entry about it, durably, both or neither.

        Raises:
            ConflictError: a backup or an entry with this id is there.
        """
        with self._database.writing() as connection:
            connection.execute("INSERT INTO keyring_backups VALUES (?, ?, ?)", row)
            insert_items(connection, [said])

    def expire_backup(self, id_: bytes, expires: int, said: SpoolItem) -> None:
        """Bring forward when a backup expires and append the entry about it, likewise.

        Raises:
            ConflictError: there is no such backup, or it expires by then already.
        """
        with self._database.writing() as connection:
            query = (
                "UPDATE keyring_backups SET expires = ?2 WHERE id = ?1 AND ?2 < expires"
            )
            if connection.execute(query, (id_, expires)).rowcount != 1:
                raise ConflictError("expected a backup that is still kept, got none")
            insert_items(connection, [said])
