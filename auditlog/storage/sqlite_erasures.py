"""Keys that were erased, in SQLite.

::

    erasures  the slot of each key that was destroyed or is being destroyed

A row of `erasures` names no person: only a key that no label leads to any more. It
stays, so that a keyring from a backup can be made to forget again. Its `state`:

===========  =======================================================================
state        what holds
===========  =======================================================================
``pending``  the key is not registered any more; `pending` holds the entry to append
``shredded`` its slot is zeros, nothing sealed under it is stored, the entry is in
             the log; `pending` is empty, and NULL once no copy of what was deleted
             is left in the free space of the file or in the write-ahead log
``final``    besides, the last backup of the keyring that may hold it has expired,
             and a second entry says so
===========  =======================================================================

Times are microseconds since the epoch; that of a row is when it came into its state.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import msgspec

from auditlog.core.errors import StorageError
from auditlog.storage import ERASED, IndexRow, KeyErasedError, SpoolItem
from auditlog.storage.database import Database, Kinds, first_of
from auditlog.storage.sqlite_entries import INDEX_ROW, insert_items
from auditlog.storage.stale_pages import has_stale_copy

__all__ = ["ERASURES_SCHEMA", "ErasureRow", "ErasureState", "ErasureTables"]

ERASURES_SCHEMA = """
CREATE TABLE erasures (
    id BLOB PRIMARY KEY, key_id BLOB NOT NULL UNIQUE, slot INTEGER NOT NULL UNIQUE,
    state TEXT NOT NULL, time INTEGER NOT NULL, pending BLOB)"""

ErasureState = Literal["pending", "shredded", "final"]

_SWEEPING, _RECORD = b"", "record"
_ROW: Kinds = (bytes, bytes, int, str, int, (bytes, type(None)))
_AT_ONCE = 500
_SWEEPS = 3
_SWEPT = 8
"""Erasures at a time."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SpoolItem).decode


class ErasureRow(NamedTuple):
    """What is known of the erasure of one key."""

    id: bytes
    """Id of the entry that says so, 16 bytes."""
    key_id: bytes
    slot: int
    """Where in the keyring the key was; no other one will ever be there."""
    state: ErasureState
    time: int
    """When it came into this state, microseconds since the epoch."""
    pending: bytes | None
    """See the module."""


class ErasureTables:
    """Erased keys."""

    _database: Database
    _labels: dict[bytes, bytes]
    """Of keys whose erasure this process began, by key id."""

    def begin_erasure(
        self, key_id: bytes, time: int, prepare: Callable[[bytes, int], SpoolItem]
    ) -> None:
        """Let a key be registered no more, and note durably what is to be done.

        So it is done with the keys of their own under which something was said of
        decisions that this key seals (`said_apart`), in the same transaction. From now
        on nothing is appended that is sealed under any of them.

        Args:
            key_id: the key.
            time: microseconds since the epoch.
            prepare: returns the entry that will say so, given a key and how many
                entries' content it seals; called within the transaction, so it must
                not come back here.

        Raises:
            KeyErasedError: the key is not registered; somebody else was first.
            StorageError: it is unknown whether this was noted.
        """
        with self._database.writing() as connection:
            apart = connection.execute(_SAID_APART, (key_id,)).fetchall()
            labels = {
                one: _take_out(connection, one, time, prepare)
                for one in [key_id, *(found for (found,) in apart)]
            }
        # In memory alone, and until it was looked for.
        self._labels.update(
            (one, label) for one, label in labels.items() if label is not None
        )

    def said_apart(self, key_id: bytes) -> list[bytes]:
        """Return the keys of single entries about decisions that a key seals.

        What was said of a decision before anybody could know whom it is about has a
        key of its own, and goes with the decision.
        """
        found = self._database.fetch(_SAID_APART, (key_id,), (bytes,))
        return [one for (one,) in found]

    def said_of(self, decision: bytes) -> list[bytes]:
        """Return the keys of single entries about a decision, stored or not."""
        found = self._database.fetch(_SAID_OF, (decision,), (bytes,))
        return [one for (one,) in found]

    def shred(self, id_: bytes, time: int) -> None:
        """Remove what the key of a pending erasure sealed, and append its entry.

        All of it in one transaction; nothing happens where that is done already.

        Args:
            id_: of the erasure, which is in `erasures`.
            time: microseconds since the epoch, after the key was destroyed.

        Raises:
            StorageError: it is unknown whether it is done.
        """
        with self._database.writing() as connection:
            query = "SELECT key_id, state, pending FROM erasures WHERE id = ?"
            found = connection.execute(query, (id_,)).fetchone()
            if found is None or found[1] != "pending":
                return
            query = "UPDATE vault SET key_id = ?, sealed = x'' WHERE key_id = ?"
            connection.execute(query, (ERASED, found[0]))
            insert_items(connection, [_item(found[2])])
            query = (
                "UPDATE erasures SET state = 'shredded', pending = ?, time = max(?, "
                "(SELECT coalesce(max(made), 0) FROM keyring_backups)) WHERE id = ?"
            )
            # A backup that is on record by now may hold the key, whatever the clocks
            # say; one that comes later found its slot overwritten.
            connection.execute(query, (_SWEEPING, time, id_))

    def finish_erasures(
        self, items: Sequence[tuple[bytes, SpoolItem]], time: int
    ) -> None:
        """Append the last entry of erasures, and note that they are final, in one.

        Args:
            items: id of the erasure, and its entry. Those that are not shredded, and
                swept, are left alone.
            time: microseconds since the epoch.

        Raises:
            StorageError: it is unknown whether it is done.
        """
        query = (
            "UPDATE erasures SET state = 'final', time = ? "
            "WHERE id = ? AND state = 'shredded' AND pending IS NULL"
        )
        with self._database.writing() as connection:
            for id_, item in items:
                if connection.execute(query, (time, id_)).rowcount:
                    insert_items(connection, [item])

    def erasures(self, *states: ErasureState) -> list[ErasureRow]:
        """Return the erasures in any of these states, all by default, oldest first."""
        marks = ", ".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        return self._erasures(f"{where} ORDER BY rowid", *states)

    def erasure_of(self, key_id: bytes) -> ErasureRow | None:
        """Return the erasure of a key, or None."""
        return first_of(self._erasures("WHERE key_id = ?", key_id))

    def _erasures(self, where: str, *values: object) -> list[ErasureRow]:
        query = f"SELECT * FROM erasures {where}"  # noqa: S608 (our own words only)
        rows = self._database.fetch(query, values, _ROW)
        return [ErasureRow(*row) for row in rows]

    def registered(self, key_ids: Sequence[bytes]) -> list[bytes]:
        """Return those of the keys that are registered and can be erased alone."""
        found: list[bytes] = []
        for at in range(0, len(key_ids), _AT_ONCE):
            part = key_ids[at : at + _AT_ONCE]
            query = (
                f"SELECT key_id FROM keys WHERE key_id IN ({_marks(part)}) "  # noqa: S608 (our own words only)
                "AND kind IN ('subject', 'record')"
            )
            found += (one for (one,) in self._database.fetch(query, part, (bytes,)))
        return found

    def rows_under(self, key_id: bytes) -> list[IndexRow]:
        """Return the index rows of all entries whose content a key seals, in order."""
        query = (
            "SELECT entry_index.* FROM vault JOIN entry_index USING (idx) "
            "WHERE key_id = ? ORDER BY idx"
        )
        rows = self._database.fetch(query, (key_id,), INDEX_ROW)
        return [IndexRow(*row) for row in rows]

    def backup_expiry(self, before: int) -> int | None:
        """Return when the last backup of the keyring expires that was made by then.

        Args:
            before: microseconds since the epoch.

        Returns:
            Microseconds since the epoch; None where there is no such backup.
        """
        query = "SELECT max(expires) FROM keyring_backups WHERE made <= ?"
        kinds = ((int, type(None)),)
        found: int | None = self._database.fetch(query, (before,), kinds)[0][0]
        return found

    # --- what deleting leaves ---------------------------------------------------------

    def sweep(self) -> bool:
        """Leave no copy of what erasures deleted, in the file or its write-ahead log.

        SQLite overwrites what it deletes, but not what it has moved before: where a
        page of an index was split, a copy of a key id or label stays in the free
        space of the old one (seen for 1 to 2 % of keys). So indices are built anew.

        Returns:
            Whether it is so for all erasures that are shredded; while somebody reads
            an old state of the log it cannot be.

        Raises:
            StorageError: it failed; to be tried again.
        """
        rows = [row for row in self.erasures("shredded") if row.pending is not None]
        if not rows:
            return True
        if not self._database.truncate():
            return False
        if any(row.key_id not in self._labels for row in rows):
            # What a label was that another process erased cannot be looked for.
            self._rebuild("keys")
        # A few at a time, for the write-ahead log grows while the file is read.
        parts = (rows[at : at + _SWEPT] for at in range(0, len(rows), _SWEPT))
        return all(map(self._sweep, parts))

    def _sweep(self, rows: Sequence[ErasureRow]) -> bool:
        key_ids = [row.key_id for row in rows]
        labels = [self._labels[one] for one in key_ids if one in self._labels]
        for _ in range(_SWEEPS):
            if not self._database.truncate():
                return False
            if not self._has_stale_copy(key_ids, labels):
                return self._note_swept(rows)
            self._rebuild("keys")
            self._rebuild("vault_key")
        return False

    def _rebuild(self, name: str) -> None:
        with self._database.writing() as connection:
            connection.execute(f"REINDEX {name}")

    def _has_stale_copy(
        self, key_ids: Sequence[bytes], labels: Sequence[bytes]
    ) -> bool:
        # While this is lent, nobody writes to the file, only to the log beside it.
        with self._database.reading() as connection:
            connection.execute("BEGIN")
            try:
                query = "SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'erasures'"
                roots = [root for (root,) in connection.execute(query) if root]
                # Of who came back since then the label is meant to be there.
                query = "SELECT 1 FROM keys WHERE kind = 'subject' AND label = ?"
                gone = [
                    label
                    for label in labels
                    if not connection.execute(query, (label.decode(),)).fetchall()
                ]
                return has_stale_copy(self._database.path, [*key_ids, *gone], roots)
            finally:
                connection.execute("ROLLBACK")

    def _note_swept(self, rows: Sequence[ErasureRow]) -> bool:
        with self._database.writing() as connection:
            query = "UPDATE erasures SET pending = NULL WHERE id = ? AND state = ?"
            connection.executemany(query, [(row.id, "shredded") for row in rows])
        for row in rows:
            self._labels.pop(row.key_id, None)
        return True


_OF_SINGLE_ENTRIES = (
    "SELECT DISTINCT keys.key_id FROM entry_index AS said "
    "CROSS JOIN vault ON vault.idx = said.idx "
    "CROSS JOIN keys ON keys.key_id = vault.key_id "
    "WHERE keys.kind = 'record' AND said.about "
)
"""In this order: from a decision to what was said of it, however many keys are here."""
_SAID_OF = f"{_OF_SINGLE_ENTRIES} = ?1"
_SAID_APART = (
    f"{_OF_SINGLE_ENTRIES} IN (SELECT decision.id FROM vault AS sealed CROSS JOIN "  # noqa: S608 (ours)
    "entry_index AS decision ON decision.idx = sealed.idx WHERE sealed.key_id = ?1) "
    "AND keys.key_id <> ?1"
)


def _take_out(
    connection: sqlite3.Connection,
    key_id: bytes,
    time: int,
    prepare: Callable[[bytes, int], SpoolItem],
) -> bytes | None:
    """Note what is to be done with a key, and register it no more.

    Returns:
        Its label, of which no copy may stay; None for that of a record, which is the id
        of its entry and stays.

    Raises:
        KeyErasedError: the key is not registered.
    """
    query = "SELECT slot, label, kind FROM keys WHERE key_id = ?"
    found = connection.execute(query, (key_id,)).fetchone()
    if found is None:
        raise KeyErasedError([key_id])
    query = "SELECT count(*) FROM vault WHERE key_id = ?"
    (count,) = connection.execute(query, (key_id,)).fetchone()
    item = prepare(key_id, count)
    row = (item.row.id, key_id, found[0], "pending", time, _encode(item))
    connection.execute("INSERT INTO erasures VALUES (?, ?, ?, ?, ?, ?)", row)
    connection.execute("DELETE FROM keys WHERE key_id = ?", (key_id,))
    return None if found[2] == _RECORD else str(found[1]).encode()


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _item(pending: bytes) -> SpoolItem:
    try:
        return _decode(pending)
    except (msgspec.MsgspecError, TypeError) as error:
        raise StorageError(
            f"the database is damaged: a pending erasure holds no entry ({error})"
        ) from None
