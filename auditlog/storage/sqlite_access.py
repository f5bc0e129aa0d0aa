"""Where keys are, and who may ask, in SQLite.

::

    keys    where in the keyring a key is and what it is for, never the key
    tokens  hashes of access tokens, until when they are good, and for what
"""

from collections.abc import Iterator, Sequence

from auditlog.storage import TokenRow
from auditlog.storage.database import Database, Kinds, first_of, only_of

__all__ = ["ACCESS_SCHEMA", "AccessTables"]

ACCESS_SCHEMA = """
CREATE TABLE keys (
    key_id BLOB PRIMARY KEY, slot INTEGER NOT NULL UNIQUE, kind TEXT NOT NULL,
    label TEXT NOT NULL, UNIQUE (kind, label));
CREATE TABLE tokens (
    hash BLOB PRIMARY KEY, role TEXT NOT NULL, label TEXT NOT NULL,
    created INTEGER NOT NULL, expires INTEGER, scope TEXT)"""

_COLUMNS = ", ".join(TokenRow._fields)
_TOKEN: Kinds = (bytes, str, str, int, (int, type(None)), (str, type(None)))
_LABELS_AT_ONCE = 512
_PAGE = 4096
_LAST_SLOT = (
    "max(coalesce((SELECT max(slot) FROM keys), -1), "
    "coalesce((SELECT max(slot) FROM erasures), -1), "
    "coalesce((SELECT max(slot) FROM lost_keys), -1))"
)
_LOWEST = -(1 << 63)


def _marks(count: int) -> int:
    return 1 << (count - 1).bit_length()


class AccessTables:
    """Slots of keys, and access tokens."""

    _database: Database

    # --- where keys are ---------------------------------------------------------------

    def key_slot(self, kind: str, label: str) -> tuple[bytes, int] | None:
        """Return (key id, slot in the keyring) of a key by what it is for, or None."""
        query = "SELECT key_id, slot FROM keys WHERE kind = ? AND label = ?"
        return first_of(self._database.fetch(query, (kind, label), (bytes, int)))

    def key_slots(
        self, kind: str, labels: Sequence[str]
    ) -> dict[str, tuple[bytes, int]]:
        """Return (key id, slot) by label of those keys of a kind that there are."""
        found: dict[str, tuple[bytes, int]] = {}
        for at in range(0, len(labels), _LABELS_AT_ONCE):
            part = labels[at : at + _LABELS_AT_ONCE]
            # As many marks each time, because each number is a statement to prepare.
            given = [*part, *[part[-1]] * (_marks(len(part)) - len(part))]
            query = (
                "SELECT label, key_id, slot FROM keys "  # noqa: S608 (our own words only)
                f"WHERE kind = ? AND label IN ({', '.join('?' * len(given))})"
            )
            rows = self._database.fetch(query, (kind, *given), (str, bytes, int))
            found |= {label: (key_id, slot) for label, key_id, slot in rows}
        return found

    def slot_of(self, key_id: bytes) -> int | None:
        """Return the slot in the keyring of the key with this id, or None."""
        query = "SELECT slot FROM keys WHERE key_id = ?"
        return only_of(self._database.fetch(query, (key_id,), (int,)))

    def use_of(self, key_id: bytes) -> tuple[str, str] | None:
        """Return kind and label of the key with this id, or None."""
        query = "SELECT kind, label FROM keys WHERE key_id = ?"
        return first_of(self._database.fetch(query, (key_id,), (str, str)))

    def is_erased(self, key_id: bytes) -> bool:
        """Return whether a key was erased, or is just being erased."""
        query = "SELECT 1 FROM erasures WHERE key_id = ?"
        return bool(self._database.fetch(query, (key_id,), (int,)))

    def last_key(self) -> tuple[bytes, int] | None:
        """Return (key id, slot) of the key in the last slot taken, or None."""
        query = "SELECT key_id, slot FROM keys ORDER BY slot DESC LIMIT 1"
        return first_of(self._database.fetch(query, (), (bytes, int)))

    def last_slot(self) -> int:
        """Return the last slot taken, also by a key that is no more; -1 if none is."""
        found: int = self._database.fetch(f"SELECT {_LAST_SLOT}", (), (int,))[0][0]
        return found

    def add_keys(self, keys: Sequence[tuple[bytes, int, str, str]]) -> None:
        """Record durably, all or none, key id, slot, kind and label of new keys.

        Raises:
            ConflictError: an id, a slot, or (kind, label) is taken.
        """
        with self._database.writing() as connection:
            connection.executemany("INSERT INTO keys VALUES (?, ?, ?, ?)", keys)

    def registered_keys(self) -> Iterator[tuple[bytes, int, str, str]]:
        """Yield (key id, slot, kind, label) of all keys, in the order of slots.

        A page is in memory at a time: there may be a key for each of many people.
        """
        slot: int = _LOWEST
        while page := self.keys_after(slot, _PAGE):
            yield from page
            slot = page[-1][1]

    def slots_taken(self) -> tuple[int, int, int]:
        """Return how many slots are taken, the last, and how many of them twice.

        By keys that are registered, were erased, or declared lost.
        """
        query = (
            "SELECT (SELECT count(*) FROM keys) + (SELECT count(*) FROM erasures) "  # noqa: S608 (ours)
            f"+ (SELECT count(*) FROM lost_keys), {_LAST_SLOT}, "
            "(SELECT count(*) FROM erasures JOIN keys USING (slot)) + "
            "(SELECT count(*) FROM lost_keys JOIN keys USING (slot))"
        )
        ((count, last, both),) = self._database.fetch(query, (), (int, int, int))
        return count, last, both

    def keys_after(self, slot: int, limit: int) -> list[tuple[bytes, int, str, str]]:
        """Return (key id, slot, kind, label) of up to `limit` keys, by slot ascending.

        Args:
            slot: the last that does not count.
            limit: of keys.
        """
        query = (
            "SELECT key_id, slot, kind, label FROM keys WHERE slot > ? "
            "ORDER BY slot LIMIT ?"
        )
        return self._database.fetch(query, (slot, limit), (bytes, int, str, str))

    # --- access tokens ----------------------------------------------------------------

    def create_token(
        self,
        hash_: bytes,
        role: str,
        label: str,
        created: int,
        expires: int | None = None,
        scope: str | None = None,
    ) -> None:
        """Store the hash of a new token, and what it may do, durably.

        Raises:
            ConflictError: it is there already.
        """
        with self._database.writing() as connection:
            query = "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?)"
            values = (hash_, role, label, created, expires, scope)
            connection.execute(query, values)

    def token(self, hash_: bytes) -> TokenRow | None:
        """Return what is kept of the token with this hash, or None."""
        query = f"SELECT {_COLUMNS} FROM tokens WHERE hash = ?"  # noqa: S608 (ours)
        row = first_of(self._database.fetch(query, (hash_,), _TOKEN))
        return None if row is None else TokenRow(*row)

    def tokens(self) -> list[TokenRow]:
        """Return what is kept of all tokens, oldest first."""
        query = f"SELECT {_COLUMNS} FROM tokens ORDER BY created, rowid"  # noqa: S608 (ours)
        return [TokenRow(*row) for row in self._database.fetch(query, (), _TOKEN)]

    def revoke_token(self, hash_: bytes) -> bool:
        """Remove a token, durably; return whether it was there."""
        with self._database.writing() as connection:
            query = "DELETE FROM tokens WHERE hash = ?"
            return connection.execute(query, (hash_,)).rowcount == 1
