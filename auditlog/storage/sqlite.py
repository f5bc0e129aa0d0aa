"""The ports on one SQLite file: durable when a method returns, no server.

``log.sqlite3`` holds everything but keys and journals; ``log.sqlite3.lock`` is what
its writers queue on. Format version 1::

    meta         format, version, origin
    spool        first index, count, and 1 to 256 entries as in a tlog-tiles bundle
    entry_index  what a look-up knows of each entry
    vault        sealed content by index, with the id of its key
    keys         where in the keyring a key is, never the key
    objects      hash tiles by path
    head         the one newest state
    checkpoints  as first signed; cosignatures collected for them
    tokens       hashes of access tokens

Columns are checked when they are read: a file that somebody else changed gives
`StorageError`. Whether positions are contiguous and hashes right is for the log's own
check to say, which reads every entry.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self, TypeVar

from auditlog.core.errors import ConflictError, MalformedError, StorageError
from auditlog.core.merkle import EMPTY_ROOT
from auditlog.core.tiles import TILE_WIDTH, format_bundle, parse_bundle
from auditlog.storage import (
    Cosignature,
    HeadState,
    IndexRow,
    Query,
    SpoolItem,
)
from auditlog.storage.database import BUSY_SECONDS, Database, Kinds, checked, insert
from auditlog.storage.files import (
    MOUNTS,
    FileLock,
    refuse_network_filesystem,
    storage_errors,
    sync_directory,
)

__all__ = ["MAX_BATCH_BYTES", "SqliteStore"]

_T = TypeVar("_T")

MAX_BATCH_BYTES = 1 << 26
"""Bytes of entries in one append: 1,024 entries of the largest size fit."""

_FORMAT = "auditlog"
_VERSION = 1
_MAX_ENTRY = 65_535
_MAYBE_BYTES = (bytes, type(None))
_MAYBE_INT = (int, type(None))
_MAYBE_STR = (str, type(None))
_ROW: Kinds = (
    *(int, bytes, str, int, _MAYBE_BYTES, _MAYBE_INT),
    *(_MAYBE_STR, _MAYBE_STR, _MAYBE_STR, _MAYBE_STR),
)

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE spool (
    first INTEGER PRIMARY KEY, count INTEGER NOT NULL, entries BLOB NOT NULL);
CREATE TABLE entry_index (
    idx INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, type TEXT NOT NULL,
    time INTEGER NOT NULL, emitter BLOB, sequence INTEGER, route TEXT, model TEXT,
    version TEXT, outcome TEXT, UNIQUE (emitter, sequence));
CREATE INDEX entry_index_time ON entry_index (time);
CREATE INDEX entry_index_model ON entry_index (model);
CREATE TABLE vault (
    idx INTEGER PRIMARY KEY, key_id BLOB NOT NULL, sealed BLOB NOT NULL);
CREATE TABLE keys (
    key_id BLOB PRIMARY KEY, slot INTEGER NOT NULL UNIQUE, kind TEXT NOT NULL,
    label TEXT NOT NULL, UNIQUE (kind, label));
CREATE TABLE objects (path TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 0), generation INTEGER NOT NULL,
    size INTEGER NOT NULL, root BLOB NOT NULL);
CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note BLOB NOT NULL);
CREATE TABLE cosignatures (
    size INTEGER NOT NULL, key TEXT NOT NULL, time INTEGER NOT NULL,
    line BLOB NOT NULL, PRIMARY KEY (size, key)) WITHOUT ROWID;
CREATE TABLE tokens (
    hash BLOB PRIMARY KEY, role TEXT NOT NULL, label TEXT NOT NULL,
    created INTEGER NOT NULL)
"""


class SqliteStore:
    """All ports: Spool, Objects, Head, Publication, Vault, Index and Scan.

    Any number of threads and processes of one host may use one file at once.
    """

    @classmethod
    def create(cls, path: Path, origin: str, *, mounts: Path = MOUNTS) -> Self:
        """Make an empty store, whole or not at all, and open it.

        Args:
            path: where no file may be yet; its directory exists.
            origin: the log's name, kept with the data.
            mounts: see `auditlog.storage.files.refuse_network_filesystem`.

        Raises:
            ConfigurationError: the directory is on a network file system.
            ConflictError: there is a store, or the remains of one, already.
            StorageError: it could not be written.
        """
        refuse_network_filesystem(path, mounts)
        unfinished = path.with_name(f"{path.name}.new")
        with FileLock(path.with_name(f"{path.name}.lock")):
            _refuse_remains(path)
            with storage_errors(f"create {path}"):
                unfinished.unlink(missing_ok=True)
                # Private from its first byte; -wal and -shm take over the mode.
                os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL, 0o600))
            _write_schema(unfinished, origin)
            with storage_errors(f"create {path}"):
                unfinished.replace(path)
        sync_directory(path.parent)
        return cls(path, mounts=mounts)

    def __init__(
        self,
        path: Path,
        read_only: bool = False,
        *,
        busy_timeout: float = BUSY_SECONDS,
        mounts: Path = MOUNTS,
    ) -> None:
        """Open a store that `create` made.

        Args:
            path: the database file.
            read_only: refuse every change; a network file system is then allowed.
            busy_timeout: seconds to wait where another program locks the file.
            mounts: see `auditlog.storage.files.refuse_network_filesystem`.

        Raises:
            ConfigurationError: writing, on a network file system.
            StorageError: there is no store, or it is none of ours, or of a version
                that we do not know.
        """
        if not read_only:
            refuse_network_filesystem(path, mounts)
        if not path.is_file():
            raise StorageError(f"there is no store at {path}")
        self._database = Database(path, read_only=read_only, busy_timeout=busy_timeout)
        try:
            self.origin = self._read_origin()
            """The log's name, as given to `create`."""
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; every later call raises StorageError."""
        self._database.close()

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()

    def _read_origin(self) -> str:
        path, known = self._database.path, f"{_VERSION}"
        meta: dict[str, str] = {}
        with self._database.reading() as connection:
            if connection.execute(
                "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'meta'"
            ).fetchall():
                rows = connection.execute("SELECT key, value FROM meta").fetchall()
                meta = dict(checked(rows, (str, str)))
        if meta.get("format") != _FORMAT or "origin" not in meta:
            raise StorageError(
                f"{path} is an SQLite database, but no store of auditlog"
            )
        if (version := meta.get("version")) != known:
            raise StorageError(
                f"{path} has format version {version}, this auditlog knows {known}: "
                "use the release that wrote it, or a newer one"
            )
        return meta["origin"]

    def tidy(self) -> None:
        """Do, beside the writers, what they would else have to do now and then.

        Raises:
            StorageError: it failed; nothing is lost.
        """
        self._database.tidy()

    # --- Spool ------------------------------------------------------------------------

    def append(self, items: Sequence[SpoolItem]) -> int:
        """See `auditlog.storage.Spool.append`.

        Raises:
            StorageError: also for an entry that is not 1 to 65,535 bytes, and for more
                than `MAX_BATCH_BYTES` of entries at once; nothing was appended.
        """
        bundles = _bundles([item.entry for item in items])
        with self._database.writing() as connection:
            first = _size(connection)
            # The fields of an IndexRow are the columns of its table, in order.
            rows = [(index, *item.row[1:]) for index, item in enumerate(items, first)]
            insert(connection, "spool", list(_numbered(bundles, first)))
            insert(connection, "entry_index", rows)
            insert(connection, "vault", list(_sealed_rows(items, first)))
        return first

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

    # --- Objects ----------------------------------------------------------------------

    def put(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """See `auditlog.storage.Objects.put`."""
        with self._database.writing() as connection:
            before = connection.total_changes
            connection.executemany(
                "INSERT OR IGNORE INTO objects VALUES (?, ?)", objects
            )
            if connection.total_changes - before != len(objects):
                self._compare(connection, objects)

    def _compare(
        self, connection: sqlite3.Connection, objects: Sequence[tuple[str, bytes]]
    ) -> None:
        for path, data in objects:
            query = "SELECT data FROM objects WHERE path = ?"
            if connection.execute(query, (path,)).fetchone() != (data,):
                raise ConflictError(f"other bytes are stored under {path}")

    def get(self, path: str) -> bytes | None:
        """See `auditlog.storage.Objects.get`."""
        query = "SELECT data FROM objects WHERE path = ?"
        return _only(self._database.fetch(query, (path,), (bytes,)))

    def prune(self, paths: Sequence[str]) -> None:
        """See `auditlog.storage.Objects.prune`."""
        with self._database.writing() as connection:
            rows = ((path,) for path in paths)
            connection.executemany("DELETE FROM objects WHERE path = ?", rows)

    # --- Head -------------------------------------------------------------------------

    def head(self) -> HeadState:
        """See `auditlog.storage.Head.head`."""
        query = "SELECT generation, size, root FROM head"
        rows = self._database.fetch(query, (), (int, int, bytes))
        if len(rows) != 1:
            raise StorageError("the database is damaged: it has no head")
        return HeadState(*rows[0])

    def swap_head(self, expected: HeadState, new: HeadState) -> None:
        """See `auditlog.storage.Head.swap_head`.

        Raises:
            StorageError: also if `new` is not the next generation, or is smaller.
        """
        if new.generation != expected.generation + 1 or new.size < expected.size:
            raise StorageError(
                "expected a head of the next generation that is not smaller: after "
                f"generation {expected.generation}, size {expected.size} came "
                f"generation {new.generation}, size {new.size}"
            )
        with self._database.writing() as connection:
            changed = connection.execute(
                "UPDATE head SET generation = ?, size = ?, root = ? "
                "WHERE generation = ? AND size = ? AND root = ?",
                (*new, *expected),
            )
            if changed.rowcount != 1:
                raise ConflictError(
                    f"the head is not generation {expected.generation}, "
                    f"size {expected.size} any more"
                )

    # --- Publication ------------------------------------------------------------------

    def publish(self, size: int, note: bytes) -> None:
        """See `auditlog.storage.Publication.publish`."""
        with self._database.writing() as connection:
            query = "SELECT note FROM checkpoints WHERE size = ?"
            stored = connection.execute(query, (size,)).fetchone()
            if stored == (note,):
                return
            query = "SELECT max(size) FROM checkpoints"
            (newest,) = connection.execute(query).fetchone()
            if newest is not None and newest >= size:
                what = "other bytes are" if stored else f"size {newest} is"
                raise ConflictError(
                    f"cannot publish a checkpoint of size {size}: {what} published"
                )
            connection.execute("INSERT INTO checkpoints VALUES (?, ?)", (size, note))

    def newest(self) -> tuple[int, bytes] | None:
        """See `auditlog.storage.Publication.newest`."""
        query = "SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1"
        return _first(self._database.fetch(query, (), (int, bytes)))

    def covering(self, size: int) -> tuple[int, bytes] | None:
        """See `auditlog.storage.Publication.covering`."""
        query = (
            "SELECT size, note FROM checkpoints WHERE size >= ? ORDER BY size LIMIT 1"
        )
        return _first(self._database.fetch(query, (size,), (int, bytes)))

    def cosigned(self, size: int) -> tuple[int, bytes] | None:
        """See `auditlog.storage.Publication.cosigned`."""
        query = (
            "SELECT size, note FROM cosignatures JOIN checkpoints USING (size) "
            "WHERE size >= ? ORDER BY size LIMIT 1"
        )
        return _first(self._database.fetch(query, (size,), (int, bytes)))

    def sizes(self, start: int, limit: int) -> list[int]:
        """See `auditlog.storage.Publication.sizes`."""
        query = "SELECT size FROM checkpoints WHERE size >= ? ORDER BY size LIMIT ?"
        rows = self._database.fetch(query, (start, max(0, limit)), (int,))
        return [size for (size,) in rows]

    def add_cosignatures(self, cosignatures: Sequence[Cosignature]) -> None:
        """See `auditlog.storage.Publication.add_cosignatures`."""
        with self._database.writing() as connection:
            connection.executemany(
                "INSERT INTO cosignatures VALUES (?, ?, ?, ?) "
                "ON CONFLICT (size, key) DO UPDATE SET time = excluded.time, "
                "line = excluded.line WHERE excluded.time > time",
                cosignatures,
            )

    def cosignatures(self, size: int) -> list[Cosignature]:
        """See `auditlog.storage.Publication.cosignatures`."""
        query = "SELECT * FROM cosignatures WHERE size = ? ORDER BY key"
        rows = self._database.fetch(query, (size,), (int, str, int, bytes))
        return [Cosignature(*row) for row in rows]

    # --- Vault, Index -----------------------------------------------------------------

    def sealed(self, index: int) -> tuple[bytes, bytes] | None:
        """See `auditlog.storage.Vault.sealed`."""
        query = "SELECT key_id, sealed FROM vault WHERE idx = ?"
        return _first(self._database.fetch(query, (index,), (bytes, bytes)))

    def by_id(self, id_: bytes) -> IndexRow | None:
        """See `auditlog.storage.Index.by_id`."""
        query = "SELECT * FROM entry_index WHERE id = ?"
        row = _first(self._database.fetch(query, (id_,), _ROW))
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
            "idx < ?": query.before,
        }
        given = {sql: value for sql, value in conditions.items() if value is not None}
        where = " AND ".join(given) or "true"
        sql = f"SELECT * FROM entry_index WHERE {where} ORDER BY idx DESC LIMIT ?"  # noqa: S608 (our own words only)
        values = (*given.values(), max(0, query.limit))
        rows = self._database.fetch(sql, values, _ROW)
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
            IndexRow(*row) for row in self._database.fetch(query, (start, end), _ROW)
        ]

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

    def object_paths(self) -> list[str]:
        """See `auditlog.storage.Scan.object_paths`."""
        query = "SELECT path FROM objects ORDER BY path"
        return [path for (path,) in self._database.fetch(query, (), (str,))]

    def cosigned_sizes(self) -> list[int]:
        """See `auditlog.storage.Scan.cosigned_sizes`."""
        query = "SELECT DISTINCT size FROM cosignatures ORDER BY size"
        return [size for (size,) in self._database.fetch(query, (), (int,))]

    def schema_changes(self) -> list[str]:
        """Return what is missing or changed in the schema, or acts on its own in it.

        Tables and indices of others change nothing, so they may be there: replication
        tools add some.
        """
        query = (
            "SELECT type || ' ' || name, sql FROM sqlite_schema "
            "WHERE name NOT LIKE 'sqlite~_%' ESCAPE '~'"
        )
        with contextlib.closing(sqlite3.connect(":memory:")) as made:
            made.executescript(_SCHEMA)
            expected = dict(made.execute(query))
        found = dict(self._database.fetch(query, (), (str, _MAYBE_STR)))
        changed = {name for name in expected if found.get(name) != expected[name]}
        added = found.keys() - expected.keys()
        return sorted(changed.union(n for n in added if n[:5] in ("trigg", "view ")))

    # --- where keys are ---------------------------------------------------------------

    def key_slot(self, kind: str, label: str) -> tuple[bytes, int] | None:
        """Return (key id, slot in the keyring) of a key by what it is for, or None."""
        query = "SELECT key_id, slot FROM keys WHERE kind = ? AND label = ?"
        return _first(self._database.fetch(query, (kind, label), (bytes, int)))

    def slot_of(self, key_id: bytes) -> int | None:
        """Return the slot in the keyring of the key with this id, or None."""
        query = "SELECT slot FROM keys WHERE key_id = ?"
        return _only(self._database.fetch(query, (key_id,), (int,)))

    def last_key(self) -> tuple[bytes, int] | None:
        """Return (key id, slot) of the key in the last slot taken, or None."""
        query = "SELECT key_id, slot FROM keys ORDER BY slot DESC LIMIT 1"
        return _first(self._database.fetch(query, (), (bytes, int)))

    def add_key(self, key_id: bytes, slot: int, kind: str, label: str) -> None:
        """Record durably where a key is and what it is for.

        Raises:
            ConflictError: the id, the slot, or (kind, label) is taken.
        """
        with self._database.writing() as connection:
            query = "INSERT INTO keys VALUES (?, ?, ?, ?)"
            connection.execute(query, (key_id, slot, kind, label))

    def registered_keys(self) -> list[tuple[bytes, int, str, str]]:
        """Return (key id, slot, kind, label) of all keys, in the order of slots."""
        query = "SELECT key_id, slot, kind, label FROM keys ORDER BY slot"
        return self._database.fetch(query, (), (bytes, int, str, str))

    # --- access tokens ----------------------------------------------------------------

    def create_token(self, hash_: bytes, role: str, label: str, created: int) -> None:
        """Store the hash of a new token, durably.

        Raises:
            ConflictError: it is there already.
        """
        with self._database.writing() as connection:
            query = "INSERT INTO tokens VALUES (?, ?, ?, ?)"
            connection.execute(query, (hash_, role, label, created))

    def token_role(self, hash_: bytes) -> str | None:
        """Return the role of the token with this hash, or None."""
        query = "SELECT role FROM tokens WHERE hash = ?"
        return _only(self._database.fetch(query, (hash_,), (str,)))

    def tokens(self) -> list[tuple[bytes, str, str, int]]:
        """Return (hash, role, label, created) of all tokens, oldest first."""
        query = "SELECT hash, role, label, created FROM tokens ORDER BY created, rowid"
        return self._database.fetch(query, (), (bytes, str, str, int))

    def revoke_token(self, hash_: bytes) -> bool:
        """Remove a token, durably; return whether it was there."""
        with self._database.writing() as connection:
            query = "DELETE FROM tokens WHERE hash = ?"
            return connection.execute(query, (hash_,)).rowcount == 1


def _refuse_remains(path: Path) -> None:
    # A write-ahead log left from an older file would be applied to the new one.
    for end in ("", "-wal", "-journal"):
        remains = path.with_name(path.name + end)
        if os.path.lexists(remains):
            raise ConflictError(f"{remains} already exists")


def _write_schema(path: Path, origin: str) -> None:
    database = Database(path, read_only=False)
    with contextlib.closing(database):
        with database.writing() as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            meta = {"format": _FORMAT, "version": str(_VERSION), "origin": origin}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            connection.execute("INSERT INTO head VALUES (0, 0, 0, ?)", (EMPTY_ROOT,))
        database.settle()
    with storage_errors(f"create {path}"):
        path.with_name(f"{path.name}.lock").unlink()


def _size(connection: sqlite3.Connection) -> int:
    query = "SELECT first, count FROM spool ORDER BY first DESC LIMIT 1"
    rows = checked(connection.execute(query).fetchall(), (int, int))
    return sum(rows[0]) if rows else 0


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


def _first(rows: list[_T]) -> _T | None:
    return rows[0] if rows else None


def _only(rows: list[tuple[_T]]) -> _T | None:
    return rows[0][0] if rows else None
