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
    checkpoints  as first signed; cosignatures and attestations collected for them
    tokens       hashes of access tokens
    erasures     slots of keys that were erased
    keyring_backups  until when each copy of the keyring may hold them
    lost_keys    slots of keys that were declared lost

What changes together stands in a module of its own: `auditlog.storage.sqlite_entries`,
`auditlog.storage.sqlite_publication`, `auditlog.storage.sqlite_access`,
`auditlog.storage.sqlite_erasures`, `auditlog.storage.sqlite_backups`,
`auditlog.storage.sqlite_lost`.

Columns are checked when they are read: a file that somebody else changed gives
`StorageError`. Whether positions are contiguous and hashes right is for the log's own
check to say, which reads every entry.
"""

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from auditlog.core.errors import ConflictError, StorageError
from auditlog.core.merkle import EMPTY_ROOT
from auditlog.storage import HeadState
from auditlog.storage.database import BUSY_SECONDS, Database, checked, only_of
from auditlog.storage.files import (
    MOUNTS,
    FileLock,
    refuse_network_filesystem,
    storage_errors,
    sync_directory,
)
from auditlog.storage.sqlite_access import ACCESS_SCHEMA, AccessTables
from auditlog.storage.sqlite_backups import BACKUPS_SCHEMA, BackupTables
from auditlog.storage.sqlite_entries import (
    ENTRIES_SCHEMA,
    MAX_BATCH_BYTES,
    EntryTables,
)
from auditlog.storage.sqlite_erasures import ERASURES_SCHEMA, ErasureTables
from auditlog.storage.sqlite_lost import LOST_SCHEMA, LostTables
from auditlog.storage.sqlite_publication import (
    ATTESTATIONS_SCHEMA,
    PUBLICATION_SCHEMA,
    PublicationTables,
)
from auditlog.storage.sqlite_upgrade import add_missing

__all__ = ["MAX_BATCH_BYTES", "SqliteStore"]

_FORMAT = "auditlog"
_VERSION = 1

_META_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE objects (path TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE head (
    id INTEGER PRIMARY KEY CHECK (id = 0), generation INTEGER NOT NULL,
    size INTEGER NOT NULL, root BLOB NOT NULL);"""
_SCHEMA = (
    f"{_META_SCHEMA}{ENTRIES_SCHEMA};{PUBLICATION_SCHEMA};{ATTESTATIONS_SCHEMA};"
    f"{ACCESS_SCHEMA};{ERASURES_SCHEMA};{BACKUPS_SCHEMA};{LOST_SCHEMA}"
)


class SqliteStore(
    EntryTables,
    PublicationTables,
    AccessTables,
    ErasureTables,
    BackupTables,
    LostTables,
):
    """All ports: Spool, Objects, Head, Publication, Attestations, Vault, Index, Scan.

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
        self._labels = {}
        try:
            self.origin = self._read_origin()
            """The log's name, as given to `create`."""
            if not read_only:
                add_missing(self._database, self.read)
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
        return only_of(self._database.fetch(query, (path,), (bytes,)))

    def prune(self, paths: Sequence[str]) -> None:
        """See `auditlog.storage.Objects.prune`."""
        with self._database.writing() as connection:
            rows = ((path,) for path in paths)
            connection.executemany("DELETE FROM objects WHERE path = ?", rows)

    def object_paths(self) -> list[str]:
        """See `auditlog.storage.Scan.object_paths`."""
        query = "SELECT path FROM objects ORDER BY path"
        return [path for (path,) in self._database.fetch(query, (), (str,))]

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

    # --- the schema -------------------------------------------------------------------

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
        found = dict(self._database.fetch(query, (), (str, (str, type(None)))))
        changed = {name for name in expected if found.get(name) != expected[name]}
        added = found.keys() - expected.keys()
        return sorted(changed.union(n for n in added if n[:5] in ("trigg", "view ")))


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
