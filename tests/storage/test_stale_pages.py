"""What SQLite leaves of deleted rows, found by its bytes, and how it is removed.

Key ids and labels are made of numbers, so that pages are split where they were when
this was written: without `sweep`, some of them stay in the file.
"""

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from auditlog.core.errors import StorageError
from auditlog.storage import IndexRow, SpoolItem
from auditlog.storage.sqlite import SqliteStore
from auditlog.storage.stale_pages import has_stale_copy

KEYS, ROWS = 300, 3000
SPLIT = [223, 237]
"""Keys of which a copy stays in a page that was split."""


def _bytes(what: str, number: int, size: int) -> bytes:
    return hashlib.shake_256(f"{what} {number}".encode()).digest(size)


def _key(number: int) -> bytes:
    return _bytes("key", number, 16)


def _label(number: int) -> str:
    return _bytes("label", number, 32).hex()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.create(tmp_path / "log.sqlite3", "test.example/log") as made:
        for first in range(0, ROWS, 100):
            taken = [_pick(row) for row in range(first, first + 100)]
            with made._database.writing() as db:
                for one in dict.fromkeys(taken):
                    row = (_key(one), one, "subject", _label(one))
                    db.execute("INSERT OR IGNORE INTO keys VALUES (?, ?, ?, ?)", row)
                for row_, one in enumerate(taken, first):
                    sealed = _bytes("sealed", row_, 60 + row_ % 400)
                    values = (row_, _key(one), sealed)
                    db.execute("INSERT INTO vault VALUES (?, ?, ?)", values)
        yield made


def _pick(row: int) -> int:
    return int.from_bytes(_bytes("pick", row, 4)) % KEYS


def _erase(store: SqliteStore, number: int) -> None:
    id_ = _bytes("id", number, 16)
    row = IndexRow(None, id_, "auditlog.erasure.v1", number)
    entry = SpoolItem(b"entry %d" % number, row)
    store.begin_erasure(_key(number), number, lambda *_: entry)
    store.shred(id_, number)


def _left(path: Path, numbers: Sequence[int]) -> set[str]:
    """Return what of erased keys stands anywhere but in the table of erasures."""
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        query = "SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'erasures'"
        roots = [root for (root,) in db.execute(query)]
    db.close()
    data = path.read_bytes()
    keys = {f"key {n}" for n in numbers if has_stale_copy(path, [_key(n)], roots)}
    return keys | {f"label {n}" for n in numbers if _label(n).encode() in data}


@pytest.mark.parametrize("began", ["here", "elsewhere"])
def test_nothing_is_left_where_it_was_swept(
    store: SqliteStore, tmp_path: Path, began: str
) -> None:
    numbers, path = [5, *SPLIT], tmp_path / "log.sqlite3"
    for number in numbers:
        _erase(store, number)
    assert _left(path, numbers) == {f"key {number}" for number in SPLIT}
    if began == "elsewhere":
        store._labels.clear()
    assert store.sweep()
    assert store._labels == {}
    assert _left(path, numbers) == set()
    assert {row.pending for row in store.erasures("shredded")} == {None}
    # Those who were not erased are still found.
    for number in range(1, KEYS, 20):
        assert store.key_slot("subject", _label(number)) == (_key(number), number)
        rows = [row for row in range(ROWS) if _pick(row) == number]
        assert store.sealed_under(_key(number)) == rows


def test_a_copy_is_found_also_across_pieces_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "large.sqlite3"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x BLOB)")
        db.execute("INSERT INTO t VALUES (?)", (b"\1" * (9 << 20),))
    db.close()
    assert not has_stale_copy(path, [b"needle"], [])
    for at in (100, (4 << 20) - 3, (4 << 20) + 9, (8 << 20) - 1):
        before = path.read_bytes()
        path.write_bytes(before[:at] + b"needle" + before[at + 6 :])
        assert has_stale_copy(path, [b"haystack", b"needle"], [])
        path.write_bytes(before)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(bytes(8192))
    with pytest.raises(StorageError, match="expected a database of SQLite, got"):
        has_stale_copy(path, [b"needle"], [])
    with pytest.raises(StorageError, match=r"cannot read .*missing"):
        has_stale_copy(tmp_path / "missing", [b"needle"], [])
    with sqlite3.connect(tmp_path / "small") as db:
        db.execute("CREATE TABLE t (x BLOB)")
    db.close()
    with pytest.raises(StorageError, match="expected a page of a b-tree as page 9"):
        has_stale_copy(tmp_path / "small", [b"needle"], [9])
