"""Keys that were erased, in SQLite.

::

    erasures  the slot of each key that was destroyed or is being destroyed

A row of `erasures` names no person: only a key that no label leads to any more. It
stays, so that a keyring from a backup can be made to forget again.
"""

from auditlog.storage.database import Database

__all__ = ["ERASURES_SCHEMA", "ErasureTables"]

ERASURES_SCHEMA = """
CREATE TABLE erasures (
    id BLOB PRIMARY KEY, key_id BLOB NOT NULL UNIQUE, slot INTEGER NOT NULL UNIQUE,
    state TEXT NOT NULL, time INTEGER NOT NULL, pending BLOB)"""


class ErasureTables:
    """Erased keys."""

    _database: Database
