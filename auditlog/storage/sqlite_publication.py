"""Checkpoints in SQLite, and what others gave for them.

::

    checkpoints   as first signed, by size
    cosignatures  signature lines of witnesses, by size and key
    attestations  what anchors gave so far, by size and anchor
"""

from collections.abc import Sequence

from auditlog.core.errors import ConflictError
from auditlog.storage import AttestationRow, Cosignature
from auditlog.storage.database import Database, Kinds, first_of

__all__ = ["ATTESTATIONS_SCHEMA", "PUBLICATION_SCHEMA", "PublicationTables"]

PUBLICATION_SCHEMA = """
CREATE TABLE checkpoints (size INTEGER PRIMARY KEY, note BLOB NOT NULL);
CREATE TABLE cosignatures (
    size INTEGER NOT NULL, key TEXT NOT NULL, time INTEGER NOT NULL,
    line BLOB NOT NULL, PRIMARY KEY (size, key)) WITHOUT ROWID"""

ATTESTATIONS_SCHEMA = """
CREATE TABLE attestations (
    size INTEGER NOT NULL, anchor TEXT NOT NULL, kind TEXT NOT NULL,
    state TEXT NOT NULL, evidence BLOB NOT NULL, submitted INTEGER NOT NULL,
    updated INTEGER NOT NULL, PRIMARY KEY (size, anchor)) WITHOUT ROWID;
CREATE INDEX attestations_state ON attestations (anchor, state, size);
CREATE INDEX attestations_updated ON attestations (anchor, updated)"""

_ATTESTATION: Kinds = (int, str, str, str, bytes, int, int)


class PublicationTables:
    """The ports Publication and Attestations, and what Scan asks of them."""

    _database: Database

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
        return first_of(self._database.fetch(query, (), (int, bytes)))

    def covering(self, size: int) -> tuple[int, bytes] | None:
        """See `auditlog.storage.Publication.covering`."""
        query = (
            "SELECT size, note FROM checkpoints WHERE size >= ? ORDER BY size LIMIT 1"
        )
        return first_of(self._database.fetch(query, (size,), (int, bytes)))

    def cosigned(self, size: int) -> tuple[int, bytes] | None:
        """See `auditlog.storage.Publication.cosigned`."""
        query = (
            "SELECT size, note FROM cosignatures JOIN checkpoints USING (size) "
            "WHERE size >= ? ORDER BY size LIMIT 1"
        )
        return first_of(self._database.fetch(query, (size,), (int, bytes)))

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

    def cosigned_sizes(self) -> list[int]:
        """See `auditlog.storage.Scan.cosigned_sizes`."""
        query = "SELECT DISTINCT size FROM cosignatures ORDER BY size"
        return [size for (size,) in self._database.fetch(query, (), (int,))]

    # --- Attestations -----------------------------------------------------------------

    def put_attestation(self, row: AttestationRow) -> None:
        """See `auditlog.storage.Attestations.put_attestation`."""
        with self._database.writing() as connection:
            query = "SELECT 1 FROM checkpoints WHERE size = ?"
            if connection.execute(query, (row.size,)).fetchone() is None:
                raise ConflictError(
                    f"expected the size of a published checkpoint, got {row.size}"
                )
            query = "SELECT * FROM attestations WHERE size = ? AND anchor = ?"
            stored = connection.execute(query, (row.size, row.anchor)).fetchone()
            if stored is not None and stored[3] == "final":
                if stored[2:5] == row[2:5]:
                    return
                raise ConflictError(
                    f"{row.anchor} has given a final attestation of another content "
                    f"for the checkpoint of size {row.size}"
                )
            query = "INSERT OR REPLACE INTO attestations VALUES (?, ?, ?, ?, ?, ?, ?)"
            connection.execute(query, row)

    def attestations(self, size: int) -> list[AttestationRow]:
        """See `auditlog.storage.Attestations.attestations`."""
        return self._attestations("size = ? ORDER BY anchor", size)

    def attestations_by(self, anchor: str, *, state: str) -> list[AttestationRow]:
        """See `auditlog.storage.Attestations.attestations_by`."""
        return self._attestations(
            "anchor = ? AND state = ? ORDER BY size", anchor, state
        )

    def last_attestation(self, anchor: str, *, state: str) -> AttestationRow | None:
        """See `auditlog.storage.Attestations.last_attestation`."""
        where = "anchor = ? AND state = ? ORDER BY size DESC LIMIT 1"
        return first_of(self._attestations(where, anchor, state))

    def first_attestation(self, anchor: str, *, size: int) -> AttestationRow | None:
        """See `auditlog.storage.Attestations.first_attestation`."""
        where = "anchor = ? AND state = 'final' AND size >= ? ORDER BY size LIMIT 1"
        return first_of(self._attestations(where, anchor, size))

    def newest_change(self, anchor: str) -> AttestationRow | None:
        """See `auditlog.storage.Attestations.newest_change`."""
        where = "anchor = ? ORDER BY updated DESC LIMIT 1"
        return first_of(self._attestations(where, anchor))

    def attesting(self) -> list[str]:
        """See `auditlog.storage.Attestations.attesting`."""
        query = "SELECT DISTINCT anchor FROM attestations ORDER BY anchor"
        return [anchor for (anchor,) in self._database.fetch(query, (), (str,))]

    def _attestations(self, where: str, *values: object) -> list[AttestationRow]:
        query = f"SELECT * FROM attestations WHERE {where}"  # noqa: S608 (our own words only)
        rows = self._database.fetch(query, values, _ATTESTATION)
        return [AttestationRow(*row) for row in rows]

    def anchored(self, size: int) -> tuple[int, bytes] | None:
        """See `auditlog.storage.Attestations.anchored`."""
        query = (
            "SELECT size, note FROM attestations JOIN checkpoints USING (size) "
            "WHERE size >= ? AND state = 'final' ORDER BY size LIMIT 1"
        )
        return first_of(self._database.fetch(query, (size,), (int, bytes)))

    def attested_sizes(self) -> list[int]:
        """See `auditlog.storage.Attestations.attested_sizes`."""
        query = "SELECT DISTINCT size FROM attestations ORDER BY size"
        return [size for (size,) in self._database.fetch(query, (), (int,))]
