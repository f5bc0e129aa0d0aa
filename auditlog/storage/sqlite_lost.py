"""Keys that were declared lost, in SQLite.

::

    lost_keys  id and slot of each

A row names no person, and no label leads to the key any more. It stays: what the key
sealed stays in the vault under its id, and no other key may ever get its slot.
"""

from collections.abc import Sequence

from auditlog.core.errors import ConflictError
from auditlog.storage import SpoolItem
from auditlog.storage.database import Database
from auditlog.storage.sqlite_entries import insert_items

__all__ = ["LOST_SCHEMA", "LostTables"]

LOST_SCHEMA = """
CREATE TABLE lost_keys (key_id BLOB PRIMARY KEY, slot INTEGER NOT NULL UNIQUE)"""


class LostTables:
    """Keys that were declared lost."""

    _database: Database

    def lose_keys(self, key_ids: Sequence[bytes], said: Sequence[SpoolItem]) -> None:
        """Let keys be registered no more and append what says so, in one transaction.

        Raises:
            ConflictError: one is not registered; nothing was changed.
            StorageError: it is unknown whether it was done.
        """
        move = "INSERT INTO lost_keys SELECT key_id, slot FROM keys WHERE key_id = ?"
        with self._database.writing() as connection:
            for key_id in key_ids:
                if connection.execute(move, (key_id,)).rowcount != 1:
                    raise ConflictError(f"no key {key_id.hex()} is registered")
                connection.execute("DELETE FROM keys WHERE key_id = ?", (key_id,))
            insert_items(connection, said)

    def lost_keys(self) -> list[tuple[bytes, int]]:
        """Return key id and slot of each key that was declared lost, by slot."""
        query = "SELECT key_id, slot FROM lost_keys ORDER BY slot"
        return self._database.fetch(query, (), (bytes, int))

    def is_lost(self, key_id: bytes) -> bool:
        """Return whether a key was declared lost."""
        query = "SELECT 1 FROM lost_keys WHERE key_id = ?"
        return bool(self._database.fetch(query, (key_id,), (int,)))
