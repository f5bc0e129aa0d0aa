"""A store of an earlier release is opened, and has what it lacked."""

import contextlib
import sqlite3
from pathlib import Path

import pytest

from auditlog.core.record import Entry, format_entry, format_id
from auditlog.storage import IndexRow, Query, SpoolItem
from auditlog.storage.sqlite import SqliteStore

ORIGIN = "test.example/log"


def an_id(number: int) -> bytes:
    return b"%b\x70\0\x80%b" % (bytes(6), number.to_bytes(7))


DECISION = an_id(77)
NAMED = {"decision": format_id(DECISION)}
ENTRIES = [
    Entry(an_id(0), "auditlog.gap.v1", ORIGIN, 1, {"from": 0}),
    Entry(an_id(1), "auditlog.amendment.v1", ORIGIN, 2, NAMED),
    Entry(an_id(2), "auditlog.access.v1", ORIGIN, 3, NAMED),
    Entry(an_id(3), "auditlog.access.v1", ORIGIN, 4, {"decision": 5}),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store as it was made before the index knew what an entry is about."""
    path = tmp_path / "log.sqlite3"
    with SqliteStore.create(path, ORIGIN) as store:
        rows = [IndexRow(None, one.id, one.type, one.time) for one in ENTRIES]
        entries = [format_entry(one) for one in ENTRIES]
        store.append([SpoolItem(*one) for one in zip(entries, rows, strict=True)])
    with contextlib.closing(sqlite3.connect(path)) as before:
        before.execute("DROP INDEX entry_index_about")
        before.execute("ALTER TABLE entry_index DROP COLUMN about")
    return path


def test_it_gets_the_column_and_what_belongs_there(path: Path) -> None:
    for _ in range(2):
        with SqliteStore(path) as store:
            assert store.schema_changes() == [], "not to be told from a new one"
            found = [row.about for row in store.index_rows(0, 4)]
            assert found == [None, DECISION, DECISION, None]
            query = Query(about=DECISION, type="auditlog.amendment.v1")
            assert [row.index for row in store.find(query)] == [1]


def test_what_is_appended_later_stands_beside_it(path: Path) -> None:
    entry = Entry(an_id(4), "auditlog.amendment.v1", ORIGIN, 5, NAMED)
    row = IndexRow(None, entry.id, entry.type, entry.time, about=DECISION)
    with SqliteStore(path) as store:
        store.append([SpoolItem(format_entry(entry), row)])
        assert [row.index for row in store.find(Query(about=DECISION))] == [4, 2, 1]


def test_entries_that_cannot_be_read_keep_nobody_out(path: Path) -> None:
    """The check of the log will name them."""
    with contextlib.closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE entry_index SET type = 'auditlog.access.v1'")
        length = b"\0\x07garbage"
        other.execute("UPDATE spool SET entries = ?, count = 4", (length * 4,))
    with SqliteStore(path) as store:
        assert [row.about for row in store.index_rows(0, 4)] == [None] * 4
