"""Keys that were erased, and copies of the keyring that may still hold them, in SQLite.

::

    erasures         the slot of each key that was destroyed or is being destroyed
    keyring_backups  when each was made, and until when it is kept

A row of `erasures` names no person: only a key that no label leads to any more. It
stays, so that a keyring from a backup can be made to forget again.
"""

from auditlog.storage.database import Database

__all__ = ["ERASURES_SCHEMA", "ErasureTables"]

ERASURES_SCHEMA = """
CREATE TABLE erasures (
    id BLOB PRIMARY KEY, key_id BLOB NOT NULL UNIQUE, slot INTEGER NOT NULL UNIQUE,
    state TEXT NOT NULL, time INTEGER NOT NULL, pending BLOB);
CREATE TABLE keyring_backups (
    id BLOB PRIMARY KEY, made INTEGER NOT NULL, expires INTEGER NOT NULL)"""


class ErasureTables:
    """Erased keys, and backups of the keyring."""

    _database: Database
