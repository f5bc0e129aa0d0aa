"""What a witness must never forget: the newest tree it saw of each log.

One SQLite file of its own (WAL, ``synchronous=FULL``), moved only by compare-and-swap
and never created by opening it: a witness that starts empty would cosign a history
that it has already contradicted. For the same reason an old copy of the file must
not be put back; restore a witness by giving it a new name and new keys.

Beside the state it keeps the newest cosigned checkpoint of each log, for monitors,
and the signed checkpoints that it refused, because they may show what a log did.
"""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from auditlog.core.errors import ConfigurationError, ConflictError, StorageError
from auditlog.core.merkle import EMPTY_ROOT
from auditlog.storage.files import refuse_network_filesystem, sync_directory

__all__ = ["NOTHING_SEEN", "Refusal", "Seen", "WitnessState"]

_APPLICATION = 0x616C7773  # "alws"
_VERSION = 1
_BUSY_SECONDS = 10.0
_MAX_REFUSALS = 100
"""Of one log, and as many more of the forks that stand on their own: whoever fills the
first with trees that only lack a proof does not keep the second out."""

_SCHEMA = (
    "CREATE TABLE owner (vkeys TEXT NOT NULL)",
    """CREATE TABLE seen (
        origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL,
        note BLOB NOT NULL, cosigned BLOB)""",
    """CREATE TABLE refused (
        origin TEXT NOT NULL, size INTEGER NOT NULL, root BLOB NOT NULL,
        time INTEGER NOT NULL, seen BLOB, request BLOB NOT NULL,
        PRIMARY KEY (origin, size, root))""",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_VERSION}",
)


class Seen(NamedTuple):
    """The newest tree that a witness vouched for."""

    size: int
    root: bytes


NOTHING_SEEN = Seen(0, EMPTY_ROOT)
"""State of a log that never came: as if its empty tree had been cosigned."""


class Refusal(NamedTuple):
    """A checkpoint that a log signed and the witness did not cosign."""

    size: int
    root: bytes
    time: int
    """Seconds since the epoch."""
    seen: bytes | None
    """The log's own note that the witness held then; None if it held none."""
    request: bytes
    """The add-checkpoint request, as it came."""


class WitnessState:
    """The state of one witness. Methods may be called from any thread.

    Every method raises `StorageError` if the file cannot be read or written. Several
    processes may use one state; the compare-and-swap keeps them apart.
    """

    def __init__(self, path: Path) -> None:
        """Open a state that exists.

        Raises:
            ConfigurationError: there is none at `path`, or it is something else.
        """
        if not path.is_file():
            raise ConfigurationError(f"expected the state of a witness at {path}")
        refuse_network_filesystem(path)
        self._lock = threading.Lock()
        with _storage_errors(f"open the witness state {path}"):
            self._db = _connect(path, "rw")
            # For what can be made again, and so need not outlive a power cut: in WAL
            # mode a commit is then not synced, but by the next one that is.
            self._derived = _connect(path, "rw")
        try:
            self.vkeys = self._check(path)
        except StorageError as error:
            self.close()
            raise ConfigurationError(f"{path} is no witness state: {error}") from None
        except ConfigurationError:
            self.close()
            raise

    @staticmethod
    def create(path: Path, vkeys: tuple[str, ...]) -> None:
        """Make an empty state that belongs to the witness with these keys, durably.

        Raises:
            ConfigurationError: on a network file system.
            StorageError: it could not be written; remove what is left.
        """
        refuse_network_filesystem(path)
        with (
            _storage_errors(f"create {path}"),
            contextlib.closing(_connect(path, "rwc")) as db,
        ):
            # In WAL mode, which stays with the file, a commit is one synced append;
            # the removal of a rollback journal can come back undone after a power
            # cut, and with it a state older than what was signed.
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA:
                db.execute(statement)
            db.execute("INSERT INTO owner VALUES (?)", ["\n".join(vkeys)])
            db.execute("COMMIT")
        sync_directory(path.parent)

    def latest(self, origin: str) -> Seen:
        """Return the newest tree seen of a log; `NOTHING_SEEN` if it never came."""
        query = "SELECT size, root FROM seen WHERE origin = ?"
        with self._lock, _storage_errors("read the witness state"):
            row = self._db.execute(query, [origin]).fetchone()
        return Seen(*row) if row else NOTHING_SEEN

    def advance(self, origin: str, expected: Seen, new: Seen, note: bytes) -> None:
        """Replace `expected` by `new`, durably, before anything is signed.

        Args:
            origin: the log.
            expected: what `latest` returned, and the new tree was checked against.
            new: the tree to vouch for; never smaller.
            note: the log's note for it, with the log's own signatures only.

        Raises:
            ConflictError: the state is not `expected`.
            StorageError: it is unknown whether the state moved; do not sign.
        """
        if new.size < expected.size:
            raise ConflictError(f"expected a size from {expected.size}, got {new.size}")
        with self._transaction("advance the witness state") as db:
            query = "SELECT size, root FROM seen WHERE origin = ?"
            row = db.execute(query, [origin]).fetchone()
            now = Seen(*row) if row else NOTHING_SEEN
            if now != expected:
                raise ConflictError(f"expected size {expected.size}, got {now.size}")
            db.execute(
                "INSERT INTO seen VALUES (?, ?, ?, ?, NULL) ON CONFLICT DO UPDATE "
                "SET size = excluded.size, root = excluded.root, note = excluded.note",
                [origin, *new, note],
            )
            # Only its proof was missing then; this one came with a good one.
            db.execute(
                "DELETE FROM refused WHERE (origin, size, root) = (?, ?, ?)",
                [origin, *new],
            )

    def keep_cosigned(self, origin: str, tree: Seen, note: bytes) -> None:
        """Store a cosigned note for monitors, unless the state has moved on.

        Not durably: what a power cut takes `not_cosigned` tells of.
        """
        what = "store a cosigned checkpoint"
        with self._transaction(what, self._derived) as db:
            db.execute(
                "UPDATE seen SET cosigned = ? WHERE (origin, size, root) = (?, ?, ?)",
                [note, origin, *tree],
            )

    def cosigned(self, origin: str) -> bytes | None:
        """Return the newest cosigned note of a log, or None.

        It is older than `latest` if the witness died between the two writes, or the
        host before the second was on disk.
        """
        query = "SELECT cosigned FROM seen WHERE origin = ?"
        with self._lock, _storage_errors("read the witness state"):
            row = self._db.execute(query, [origin]).fetchone()
        return row[0] if row else None

    def not_cosigned(self, origin: str) -> tuple[Seen, bytes] | None:
        """Return tree and note of the newest state, if it was never cosigned.

        None if it was, or if the log never came.
        """
        query = "SELECT size, root, note, cosigned FROM seen WHERE origin = ?"
        with self._lock, _storage_errors("read the witness state"):
            row = self._db.execute(query, [origin]).fetchone()
        if row is None:
            return None
        size, root, note, cosigned = row
        return None if (cosigned or b"").startswith(note) else (Seen(size, root), note)

    def origins(self) -> list[str]:
        """Return the logs that ever came, sorted, also if all was refused."""
        query = "SELECT origin FROM seen UNION SELECT origin FROM refused"
        with self._lock, _storage_errors("read the witness state"):
            return sorted(origin for (origin,) in self._db.execute(query))

    def keep_refused(
        self,
        origin: str,
        tree: Seen,
        request: bytes,
        time: int,
        *,
        forked: bool = False,
    ) -> bool:
        """Keep a signed checkpoint that was not cosigned, once per tree.

        Args:
            origin: the log.
            tree: what it signed.
            request: the add-checkpoint request, as it came.
            time: seconds since the epoch.
            forked: with what the witness holds it proves that the log forked.

        Returns:
            Whether it is new, and was kept: at most 100 are, of one log, and then 100
            that are forks.
        """
        most = 2 * _MAX_REFUSALS if forked else _MAX_REFUSALS
        with self._transaction("keep a refused checkpoint") as db:
            kept = db.execute(
                "INSERT INTO refused SELECT ?, ?, ?, ?, "
                "(SELECT note FROM seen WHERE origin = ?), ? "
                "WHERE (SELECT count(*) FROM refused WHERE origin = ?) < ? "
                "ON CONFLICT DO NOTHING",
                [origin, *tree, time, origin, request, origin, most],
            )
            return kept.rowcount == 1

    def refused(self, origin: str) -> list[Refusal]:
        """Return the refused checkpoints of a log, oldest first.

        Two notes of one size and two roots, both signed by the log, prove that it
        forked. A larger tree that was refused only was not proven to be consistent.
        """
        query = (
            "SELECT size, root, time, seen, request FROM refused WHERE origin = ? "
            "ORDER BY time, size, root"
        )
        with self._lock, _storage_errors("read the witness state"):
            return [Refusal(*row) for row in self._db.execute(query, [origin])]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._derived.close()
            self._db.close()

    def _check(self, path: Path) -> tuple[str, ...]:
        marks = [self._one("PRAGMA application_id"), self._one("PRAGMA user_version")]
        if marks != [_APPLICATION, _VERSION]:
            raise ConfigurationError(
                f"{path} is no witness state of version {_VERSION}: expected the marks "
                f"{[_APPLICATION, _VERSION]}, got {marks}"
            )
        # Once per connection: unlike the journal mode it does not stay with the file.
        self._db.execute("PRAGMA synchronous = FULL")
        self._derived.execute("PRAGMA synchronous = NORMAL")
        return tuple(str(self._one("SELECT vkeys FROM owner")).split("\n"))

    def _one(self, query: str) -> object:
        with _storage_errors("read it"):
            return self._db.execute(query).fetchone()[0]

    @contextlib.contextmanager
    def _transaction(
        self, what: str, chosen: sqlite3.Connection | None = None
    ) -> Iterator[sqlite3.Connection]:
        db = self._db if chosen is None else chosen
        with self._lock, _storage_errors(what):
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


@contextlib.contextmanager
def _storage_errors(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(f"cannot {what}: {error}") from None
