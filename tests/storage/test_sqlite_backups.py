"""Backups of the keyring on record: with their entries, or not at all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from auditlog.core.errors import ConflictError, StorageError
from auditlog.storage import IndexRow, SpoolItem, sqlite_access
from auditlog.storage.sqlite import SqliteStore
from auditlog.storage.sqlite_backups import BackupRow
from tests.log.builders import gap_items

ONE, TWO = BackupRow(b"1" * 16, 10, 30), BackupRow(b"2" * 16, 5, 90)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.create(tmp_path / "log.sqlite3", "test.example/log") as created:
        yield created


def _item() -> SpoolItem:
    return gap_items(1)[0]


def test_backups_are_listed_oldest_first(store: SqliteStore) -> None:
    for row in (ONE, TWO):
        store.add_backup(row, _item())
    assert store.keyring_backups() == [TWO, ONE]
    assert store.keyring_backup(ONE.id) == ONE
    assert store.keyring_backup(b"3" * 16) is None
    assert store.size() == 2


def test_a_backup_and_its_entry_come_together_or_not_at_all(store: SqliteStore) -> None:
    item = _item()
    store.add_backup(ONE, item)
    for row, said in ((ONE, _item()), (TWO, item)):
        with pytest.raises(ConflictError):
            store.add_backup(row, said)
    too_long = SpoolItem(b"x" * 65_536, IndexRow(None, b"9" * 16, "t", 1))
    with pytest.raises(StorageError, match="got one of 65536"):
        store.add_backup(TWO, too_long)
    assert (store.keyring_backups(), store.size()) == ([ONE], 1)


def test_a_backup_expires_earlier_never_later(store: SqliteStore) -> None:
    store.add_backup(ONE, _item())
    store.expire_backup(ONE.id, 20, _item())
    assert store.keyring_backups() == [ONE._replace(expires=20)]
    for id_, expires in ((ONE.id, 20), (ONE.id, 25), (TWO.id, 1)):
        with pytest.raises(ConflictError, match="that is still kept, got none"):
            store.expire_backup(id_, expires, _item())
    assert (store.keyring_backups()[0].expires, store.size()) == (20, 2)


KEY = (b"k" * 16, 4, "subject", "x")


def test_a_key_is_registered_again(store: SqliteStore) -> None:
    for _ in range(2):
        store.register_again(KEY)
        assert [*store.registered_keys()] == [KEY]


@pytest.mark.parametrize("erased", [(KEY[0], 9), (b"e" * 16, KEY[1])])
def test_a_key_that_was_erased_is_not_registered_again(
    store: SqliteStore, erased: tuple[bytes, int]
) -> None:
    """Also where that happened while it was being restored."""
    with store._database.writing() as connection:
        row = (b"i" * 16, *erased, "pending", 1, b"")
        connection.execute("INSERT INTO erasures VALUES (?, ?, ?, ?, ?, ?)", row)
    store.register_again(KEY)
    assert [*store.registered_keys()] == []
    assert [row[1:3] for row in store.erasures()] == [erased]


def test_an_erasure_waits_for_every_backup_that_was_on_record_by_then(
    store: SqliteStore,
) -> None:
    """Its caller may have read the clock before the backup was made."""
    store.add_keys([KEY])
    item = _item()
    store.begin_erasure(KEY[0], 8, lambda *_: item)
    store.add_backup(ONE, _item())
    store.shred(item.row.id, 8)
    (row,) = store.erasures()
    assert (row.state, row.time) == ("shredded", ONE.made)
    assert store.backup_expiry(row.time) == max(ONE.expires, 0)


@pytest.mark.parametrize(
    "taken", [(b"o" * 16, 4, "subject", "y"), (b"o" * 16, 5, "subject", "x")]
)
def test_what_is_another_keys_by_now_stays_so(
    store: SqliteStore, taken: tuple[bytes, int, str, str]
) -> None:
    store.add_keys([taken])
    store.register_again(KEY)
    assert [*store.registered_keys()] == [taken]


def test_keys_are_read_a_page_at_a_time(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [(bytes([n]) * 16, 2 * n, "epoch", f"{n}") for n in range(5)]
    store.add_keys(keys)
    assert store.keys_after(-1, 2) == keys[:2]
    assert store.keys_after(2, 9) == keys[2:]
    assert store.keys_after(8, 9) == []
    monkeypatch.setattr(sqlite_access, "_PAGE", 2)
    assert [*store.registered_keys()] == keys
    assert store.slots_taken() == (5, 8, 0)
