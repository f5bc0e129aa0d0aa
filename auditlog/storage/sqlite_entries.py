"""Entries in SQLite: the spool, what is looked up of them, and their sealed content.

::

    spool        first index, count, and 1 to 256 entries as in a tlog-tiles bundle
    entry_index  what a look-up knows of each entry
    vault        sealed content by index, with the id of its key

They are filled in one transaction, so they stand in one module.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from auditlog.core.errors import MalformedError, StorageError
from auditlog.core.tiles import TILE_WIDTH, format_bundle, parse_bundle
from auditlog.storage import ERASED, IndexRow, KeyErasedError, Query, SpoolItem
from auditlog.storage.database import (
    Database,
    Kinds,
    checked,
    first_of,
    insert,
    only_of,
)

__all__ = [
    "ABOUT_SCHEMA",
    "ENTRIES_SCHEMA",
    "INDEX_ROW",
    "MAX_BATCH_BYTES",
    "VAULT_KEY_SCHEMA",
    "EntryTables",
    "insert_items",
]

MAX_BATCH_BYTES = 1 << 26
"""Bytes of entries in one append: 1,024 entries of the largest size fit."""

ABOUT_SCHEMA = (
    "CREATE INDEX entry_index_about ON entry_index (about) WHERE about IS NOT NULL"
)
VAULT_KEY_SCHEMA = "CREATE INDEX vault_key ON vault (key_id)"
ENTRIES_SCHEMA = f"""
CREATE TABLE spool (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, entries BLOB NOT NULL);
CREATE TABLE entry_index (
    idx INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, type TEXT NOT NULL,
    time INTEGER NOT NULL, emitter BLOB, sequence INTEGER, route TEXT, model TEXT,
    version TEXT, outcome TEXT, about BLOB, UNIQUE (emitter, sequence));
CREATE INDEX entry_index_time ON entry_index (time);
CREATE INDEX entry_index_model ON entry_index (model);
{ABOUT_SCHEMA};
CREATE TABLE vault (
    idx INTEGER PRIMARY KEY, key_id BLOB NOT NULL, sealed BLOB NOT NULL);
{VAULT_KEY_SCHEMA}"""

_MAX_ENTRY = 65_535
_SPECIAL = re.compile(r"([?\[])")
_KEY_ID = 16
_MAYBE_BYTES = (bytes, type(None))
_MAYBE_INT = (int, type(None))
_MAYBE_STR = (str, type(None))
_SEALED_UNDER = "idx IN (SELECT idx FROM vault WHERE key_id = ?)"
INDEX_ROW: Kinds = (
    *(int, bytes, str, int, _MAYBE_BYTES, _MAYBE_INT),
    *(_MAYBE_STR, _MAYBE_STR, _MAYBE_STR, _MAYBE_STR, _MAYBE_BYTES),
)
"""Columns of a row of `entry_index`, in order."""


class EntryTables:
    """The ports Spool, Vault and Index, and what Scan asks of them."""

    _database: Database

    # --- Spool ------------------------------------------------------------------------

    def append(self, items: Sequence[SpoolItem]) -> int:
        """See `auditlog.storage.Spool.append`.

        Raises:
            KeyErasedError: see there.
            StorageError: also for an entry that is not 1 to 65,535 bytes, and for more
                than `MAX_BATCH_BYTES` of entries at once; nothing was appended.
        """
        with self._database.writing() as connection:
            return insert_items(connection, items)

    def size(self) -> int:
        """See `auditlog.storage.Spool.size`."""
        with self._database.reading() as connection:
            return _size(connection)

    def read(self, start: int, end: int) -> list[bytes]:
        """See `auditlog.storage.Spool.read`."""
        if not 0 <= start <= end:
            raise StorageError(f"expected a range of entries, got {start} to {end}")
        rows = self._database.fetch(
            "SELECT first, count, entries FROM spool WHERE first < ?2 AND first >= "
            "(SELECT max(first) FROM spool WHERE first <= ?1) ORDER BY first",
            (start, end),
            (int, int, bytes),
        )
        entries: list[bytes] = []
        for first, count, data in rows if start < end else ():
            if first != (rows[0][0] + len(entries)):
                break
            entries += _parse_bundle(first, count, data)
        skip = start - rows[0][0] if rows else 0
        found = entries[skip : skip + end - start]
        if len(found) != end - start:
            missing = start + len(found)
            raise StorageError(f"entry {missing} is not in the spool")
        return found

    # --- Vault, Index -----------------------------------------------------------------

    def sealed(self, index: int) -> tuple[bytes, bytes] | None:
        """See `auditlog.storage.Vault.sealed`."""
        query = "SELECT key_id, sealed FROM vault WHERE idx = ?"
        return first_of(self._database.fetch(query, (index,), (bytes, bytes)))

    def sealed_by(self, index: int) -> bytes | None:
        """See `auditlog.storage.Vault.sealed_by`."""
        query = "SELECT key_id FROM vault WHERE idx = ?"
        return only_of(self._database.fetch(query, (index,), (bytes,)))

    def sealed_under(self, key_id: bytes) -> list[int]:
        """See `auditlog.storage.Vault.sealed_under`."""
        query = "SELECT idx FROM vault WHERE key_id = ? ORDER BY idx"
        return [idx for (idx,) in self._database.fetch(query, (key_id,), (int,))]

    def by_id(self, id_: bytes) -> IndexRow | None:
        """See `auditlog.storage.Index.by_id`."""
        query = "SELECT * FROM entry_index WHERE id = ?"
        row = first_of(self._database.fetch(query, (id_,), INDEX_ROW))
        return None if row is None else IndexRow(*row)

    def find(self, query: Query) -> list[IndexRow]:
        """See `auditlog.storage.Index.find`."""
        conditions = {
            "time >= ?": query.time_from,
            "time < ?": query.time_to,
            "model = ?": query.model,
            "version = ?": query.version,
            "route = ?": query.route,
            "outcome = ?": query.outcome,
            "type = ?": query.type,
            "about = ?": query.about,
            _SEALED_UNDER: query.sealed_under,
            "idx < ?": query.before,
        }
        given = {sql: value for sql, value in conditions.items() if value is not None}
        globs = None if query.routes is None else map(_sqlite_glob, query.routes)
        lists = _any_of("route GLOB ?", globs) | _any_of("id = ?", query.ids)
        where = " AND ".join([*given, *lists]) or "true"
        sql = f"SELECT * FROM entry_index WHERE {where} ORDER BY idx DESC LIMIT ?"  # noqa: S608 (our own words only)
        values = (*given.values(), *chain(*lists.values()), max(0, query.limit))
        rows = self._database.fetch(sql, values, INDEX_ROW)
        return [IndexRow(*row) for row in rows]

    def sequences(self, emitter: bytes) -> list[int]:
        """See `auditlog.storage.Index.sequences`."""
        query = "SELECT sequence FROM entry_index WHERE emitter = ? ORDER BY sequence"
        rows = self._database.fetch(query, (emitter,), (int,))
        return [sequence for (sequence,) in rows]

    # --- Scan -------------------------------------------------------------------------

    def index_rows(self, start: int, end: int) -> list[IndexRow]:
        """See `auditlog.storage.Scan.index_rows`."""
        query = "SELECT * FROM entry_index WHERE idx >= ? AND idx < ? ORDER BY idx"
        return [
            IndexRow(*row)
            for row in self._database.fetch(query, (start, end), INDEX_ROW)
        ]

    def first_but(self, start: int, types: Sequence[str]) -> IndexRow | None:
        """See `auditlog.storage.Scan.first_but`."""
        marks = ", ".join("?" * len(types))
        query = (
            f"SELECT * FROM entry_index WHERE idx >= ? AND type NOT IN ({marks}) "  # noqa: S608 (our own words only)
            "ORDER BY idx LIMIT 1"
        )
        row = first_of(self._database.fetch(query, (start, *types), INDEX_ROW))
        return None if row is None else IndexRow(*row)

    def vault_rows(self, start: int, end: int) -> list[tuple[int, bytes, bytes]]:
        """See `auditlog.storage.Scan.vault_rows`."""
        query = "SELECT * FROM vault WHERE idx >= ? AND idx < ? ORDER BY idx"
        return self._database.fetch(query, (start, end), (int, bytes, bytes))

    def holes(self) -> list[tuple[int, int]]:
        """Return the ranges of indices between entries where none is, in order."""
        query = (
            "SELECT start, next FROM (SELECT first + count AS start, "
            "lead(first) OVER (ORDER BY first) AS next FROM spool) WHERE next > start"
        )
        return self._database.fetch(query, (), (int, int))


def _any_of(sql: str, values: Iterable[object] | None) -> dict[str, list[object]]:
    """Return the condition that one of `values` fits, with the values; of None none."""
    if values is None:
        return {}
    every = [*values]
    return {f"({' OR '.join([sql] * len(every)) or 'false'})": every}


def _sqlite_glob(glob: str) -> str:
    """Return a glob of ours, where only ``*`` is special, for SQLite."""
    return _SPECIAL.sub(r"[\1]", glob)


def insert_items(connection: sqlite3.Connection, items: Sequence[SpoolItem]) -> int:
    """Insert items in a transaction that was begun; return the index of the first.

    Raises:
        KeyErasedError: a key is not registered, or not any more.
        sqlite3.Error: as the database says; some may be inserted.
        StorageError: an entry, or all of them together, are too long.
    """
    bundles = _bundles([item.entry for item in items])
    key_ids = {item.key_id for item in items if item.key_id is not None}
    first = _size(connection, b"".join(key_ids - {ERASED}))
    # The fields of an IndexRow are the columns of its table, in order.
    rows = [(index, *item.row[1:]) for index, item in enumerate(items, first)]
    insert(connection, "spool", list(_numbered(bundles, first)))
    insert(connection, "entry_index", rows)
    insert(connection, "vault", list(_sealed_rows(items, first)))
    return first


def _size(connection: sqlite3.Connection, key_ids: bytes = b"") -> int:
    """Return how many entries there are, having seen that keys live.

    Both by one statement, for each gives up the interpreter lock.

    Args:
        connection: in a transaction, if it is about keys.
        key_ids: of the keys, one after the other.

    Raises:
        KeyErasedError: a key is not registered, or not any more.
    """
    rows = connection.execute(_SIZE_AND_UNREGISTERED, (key_ids,)).fetchall()
    erased = [row[1] for row in rows if row[0] == 0]
    if erased:
        raise KeyErasedError(erased)
    found = checked([row[1:] for row in rows], (int, int))
    return sum(found[0]) if found else 0


_UNREGISTERED = (
    "WITH RECURSIVE named (at) AS (SELECT 1 WHERE length(?1) > 0 "  # noqa: S608 (our own words only)
    f"UNION ALL SELECT at + {_KEY_ID} FROM named WHERE at + {_KEY_ID} <= length(?1)) "
    f"SELECT substr(?1, at, {_KEY_ID}) AS id FROM named WHERE NOT EXISTS "
    f"(SELECT 1 FROM keys WHERE key_id = substr(?1, at, {_KEY_ID}))"
)
"""Ids of keys that are not registered, out of the bytes of many."""
_SIZE_AND_UNREGISTERED = (
    "SELECT 1, first, count FROM spool WHERE first = (SELECT max(first) FROM spool) "  # noqa: S608 (our own words only)
    f"UNION ALL SELECT 0, id, 0 FROM ({_UNREGISTERED})"
)


def _bundles(entries: Sequence[bytes]) -> list[tuple[int, bytes]]:
    """Return (count, bytes) of each 256 entries, so that one of them is read fast."""
    lengths = [len(entry) for entry in entries]
    for extreme in (min(lengths, default=1), max(lengths, default=1)):
        if not 1 <= extreme <= _MAX_ENTRY:
            raise StorageError(
                f"expected entries of 1 to {_MAX_ENTRY} bytes, got one of {extreme}"
            )
    if sum(lengths) > MAX_BATCH_BYTES:
        raise StorageError(
            f"expected at most {MAX_BATCH_BYTES} bytes of entries in one append, got "
            f"{sum(lengths)}: append smaller batches"
        )
    parts = [entries[i : i + TILE_WIDTH] for i in range(0, len(entries), TILE_WIDTH)]
    return [(len(part), format_bundle(part)) for part in parts]


def _numbered(
    bundles: Sequence[tuple[int, bytes]], first: int
) -> Iterator[tuple[int, int, bytes]]:
    for count, data in bundles:
        yield first, count, data
        first += count


def _sealed_rows(
    items: Sequence[SpoolItem], first: int
) -> Iterator[tuple[int, bytes | None, bytes]]:
    for index, item in enumerate(items, first):
        if item.sealed is not None:
            yield index, item.key_id, item.sealed


def _parse_bundle(first: int, count: int, data: bytes) -> list[bytes]:
    try:
        return parse_bundle(data, count)
    except MalformedError as error:
        raise StorageError(
            f"the spool is damaged in the entries from {first} on: {error}"
        ) from None
