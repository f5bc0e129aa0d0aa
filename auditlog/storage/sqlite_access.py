"""Where keys are, and who may ask, in SQLite.

::

    keys    where in the keyring a key is and what it is for, never the key
    tokens  hashes of access tokens
"""

from collections.abc import Sequence

from auditlog.storage.database import Database, first_of, only_of

__all__ = ["ACCESS_SCHEMA", "AccessTables"]

ACCESS_SCHEMA = """
CREATE TABLE keys (
    key_id BLOB PRIMARY KEY, slot INTEGER NOT NULL UNIQUE, kind TEXT NOT NULL,
    label TEXT NOT NULL, UNIQUE (kind, label));
CREATE TABLE tokens (
    hash BLOB PRIMARY KEY, role TEXT NOT NULL, label TEXT NOT NULL,
    created INTEGER NOT NULL, expires INTEGER, scope TEXT)"""


class AccessTables:
    """Slots of keys, and access tokens."""

    _database: Database

    # --- where keys are ---------------------------------------------------------------

    def key_slot(self, kind: str, label: str) -> tuple[bytes, int] | None:
        """Return (key id, slot in the keyring) of a key by what it is for, or None."""
        query = "SELECT key_id, slot FROM keys WHERE kind = ? AND label = ?"
        return first_of(self._database.fetch(query, (kind, label), (bytes, int)))

    def slot_of(self, key_id: bytes) -> int | None:
        """Return the slot in the keyring of the key with this id, or None."""
        query = "SELECT slot FROM keys WHERE key_id = ?"
        return only_of(self._database.fetch(query, (key_id,), (int,)))

    def use_of(self, key_id: bytes) -> tuple[str, str] | None:
        """Return kind and label of the key with this id, or None."""
        query = "SELECT kind, label FROM keys WHERE key_id = ?"
        return first_of(self._database.fetch(query, (key_id,), (str, str)))

    def last_key(self) -> tuple[bytes, int] | None:
        """Return (key id, slot) of the key in the last slot taken, or None."""
        query = "SELECT key_id, slot FROM keys ORDER BY slot DESC LIMIT 1"
        return first_of(self._database.fetch(query, (), (bytes, int)))

    def last_slot(self) -> int:
        """Return the last slot taken, also by a key that was erased; -1 if none is."""
        query = (
            "SELECT max(coalesce((SELECT max(slot) FROM keys), -1), "
            "coalesce((SELECT max(slot) FROM erasures), -1))"
        )
        found: int = self._database.fetch(query, (), (int,))[0][0]
        return found

    def add_keys(self, keys: Sequence[tuple[bytes, int, str, str]]) -> None:
        """Record durably, all or none, key id, slot, kind and label of new keys.

        Raises:
            ConflictError: an id, a slot, or (kind, label) is taken.
        """
        with self._database.writing() as connection:
            connection.executemany("INSERT INTO keys VALUES (?, ?, ?, ?)", keys)

    def registered_keys(self) -> list[tuple[bytes, int, str, str]]:
        """Return (key id, slot, kind, label) of all keys, in the order of slots."""
        query = "SELECT key_id, slot, kind, label FROM keys ORDER BY slot"
        return self._database.fetch(query, (), (bytes, int, str, str))

    def keys_from(self, slot: int, limit: int) -> list[tuple[bytes, int, str, str]]:
        """Return (key id, slot, kind, label) of up to `limit` keys, by slot ascending.

        Args:
            slot: the first that counts.
            limit: of keys.
        """
        query = (
            "SELECT key_id, slot, kind, label FROM keys WHERE slot >= ? "
            "ORDER BY slot LIMIT ?"
        )
        return self._database.fetch(query, (slot, limit), (bytes, int, str, str))

    # --- access tokens ----------------------------------------------------------------

    def create_token(self, hash_: bytes, role: str, label: str, created: int) -> None:
        """Store the hash of a new token, durably.

        Raises:
            ConflictError: it is there already.
        """
        with self._database.writing() as connection:
            query = (
                "INSERT INTO tokens (hash, role, label, created) VALUES (?, ?, ?, ?)"
            )
            connection.execute(query, (hash_, role, label, created))

    def token_role(self, hash_: bytes) -> str | None:
        """Return the role of the token with this hash, or None."""
        query = "SELECT role FROM tokens WHERE hash = ?"
        return only_of(self._database.fetch(query, (hash_,), (str,)))

    def tokens(self) -> list[tuple[bytes, str, str, int]]:
        """Return (hash, role, label, created) of all tokens, oldest first."""
        query = "SELECT hash, role, label, created FROM tokens ORDER BY created, rowid"
        return self._database.fetch(query, (), (bytes, str, str, int))

    def revoke_token(self, hash_: bytes) -> bool:
        """Remove a token, durably; return whether it was there."""
        with self._database.writing() as connection:
            query = "DELETE FROM tokens WHERE hash = ?"
            return connection.execute(query, (hash_,)).rowcount == 1
