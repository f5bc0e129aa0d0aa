"""Backups of the keyring: on record first, whole, and nothing erased comes back."""

import contextlib
import os
import shutil
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from auditlog.core.errors import (
    ConfigurationError,
    ConflictError,
    MalformedError,
    NotFoundError,
    StorageError,
    VerificationError,
)
from auditlog.core.record import parse_entry
from auditlog.log.backing import Restored, back_up, forget, restore
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, create_log, open_log
from auditlog.log.erasing import replay
from auditlog.log.key_entry import KEY, BackupWord, parse_key_entry
from auditlog.log.rotating import rotate
from auditlog.log.runtime import Runtime
from auditlog.storage import Query
from auditlog.storage.keyring_backup import Backup
from auditlog.storage.keys import EPOCH, SUBJECT
from auditlog.storage.sealing import SLOT_SIZE
from auditlog.storage.sqlite_backups import BackupRow
from tests.dying import every_death
from tests.erasing import erase_key
from tests.log.builders import config_of, exchange, now_us
from tests.storage.processes import start, wait_all

DAY = 86_400_000_000


class Made(NamedTuple):
    """A log with keys, and a place for backups beside it."""

    directory: Path
    keys: dict[bytes, bytes]
    backup: Path


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("backing")
    with create_log(config_of(place / "audit")) as log:
        keys = dict(log.keys.epoch_key(f"day {n}") for n in range(3))
        keys.update([log.keys.subject_key("person", "Ada Lovelace")])
        index = log.store.key_slot("index", "")
        assert index is not None
        keys[index[0]] = log.keys.key(index[0])
    return Made(place / "audit", keys, place / "backup")


@pytest.fixture
def made(made_once: Made, tmp_path: Path) -> Made:
    directory = _copy(made_once, tmp_path / "audit")
    return Made(directory, dict(made_once.keys), tmp_path / "backup")


@pytest.fixture
def log(made: Made) -> Iterator[LogDirectory]:
    with open_log(made.directory) as opened:
        yield opened


def _copy(made: Made, directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    return Path(shutil.copytree(made.directory, directory))


def _opened(made: Made) -> dict[bytes, bytes]:
    """Return the keys of a log, as one that opens it now reads them."""
    with open_log(made.directory) as log:
        return {key[0]: log.keys.key(key[0]) for key in log.store.registered_keys()}


def _words(log: LogDirectory) -> list[object]:
    rows = [row.index or 0 for row in log.store.find(Query(type=KEY))]
    entries = [log.store.read(at, at + 1)[0] for at in reversed(rows)]
    return [parse_key_entry(parse_entry(entry).data) for entry in entries]


# --- to make one ----------------------------------------------------------------------


def test_a_backup_holds_all_keys_and_is_on_record(
    log: LogDirectory, made: Made
) -> None:
    now = now_us()
    backup = back_up(log, made.backup, 30 * DAY, now)
    assert (backup.keys, backup.damaged) == (5, 0)
    assert backup.row == (backup.row.id, now, now + 30 * DAY)
    assert log.store.keyring_backups() == [backup.row]
    assert _words(log) == [BackupWord("backup", backup.row.id, now + 30 * DAY)]
    assert log.vault_key is not None
    read = Backup(made.backup.read_bytes(), log.origin, log.vault_key.known())
    assert {key.key_id for key in read.each()} == made.keys.keys()
    assert {(key.kind, key.label) for key in read.each()} == {
        (kind, label) for _, _, kind, label in log.store.registered_keys()
    }
    assert stat.S_IMODE(made.backup.stat().st_mode) == 0o600


def test_no_key_is_in_it(log: LogDirectory, made: Made) -> None:
    back_up(log, made.backup, DAY, now_us())
    data = made.backup.read_bytes()
    assert log.vault_key is not None
    for secret in (*made.keys.values(), log.vault_key.known()[0].key):
        assert secret not in data
    assert b"Ada Lovelace" not in data


def test_nothing_is_written_before_it_is_on_record(
    log: LogDirectory, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[Path]] = []
    add = log.store.add_backup

    def watched(*args: object) -> None:
        seen.append(list(made.backup.parent.iterdir()))
        add(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(log.store, "add_backup", watched)
    back_up(log, made.backup, DAY, now_us())
    assert seen == [[made.directory]]


def test_whoever_dies_while_making_one_leaves_no_copy_that_is_not_on_record(
    made_once: Made, tmp_path: Path
) -> None:
    directory, place = tmp_path / "audit", tmp_path / "place"
    now = now_us()

    def begin() -> Callable[[], object]:
        _copy(made_once, directory)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return lambda: back_up(open_log(directory), place / "backup", DAY, now)

    seen = set()
    for _ in every_death(begin):
        with open_log(directory) as log:
            rows = log.store.keyring_backups()
            words = [word.id for word in _words(log) if isinstance(word, BackupWord)]
            assert [row.id for row in rows] == words, "both or neither"
            files = list(place.iterdir())
            assert not files or rows
            assert {one.name for one in files} <= {"backup"}, "no part of one"
            if (place / "backup").exists():
                assert restore(log, place / "backup", now).kept == 5
            seen.add((len(rows), len(files)))
    assert seen >= {(0, 0), (1, 1)}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("there", "there is something at .*there: name a new file"),
        ("audit/keys/backup", "is in the log's directory"),
        ("link/backup", "is in the log's directory"),
        ("nowhere/backup", "cannot write to .*nowhere"),
    ],
)
def test_a_place_that_will_not_do_is_refused_before_anything_is_said(
    log: LogDirectory, made: Made, path: str, message: str
) -> None:
    place = made.directory.parent
    (place / "there").touch()
    (place / "link").symlink_to(made.directory)
    with pytest.raises(ConfigurationError, match=message):
        back_up(log, place / path, DAY, now_us())
    assert log.store.keyring_backups() == []


def test_before_the_first_key_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    with create_log(config_of(tmp_path / "audit")) as log:
        with pytest.raises(ConfigurationError, match="no key was made yet"):
            back_up(log, tmp_path / "backup", DAY, now_us())
        assert log.store.keyring_backups() == []


def test_a_full_disk_is_told_and_leaves_no_file(
    log: LogDirectory, made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("auditlog.storage.whole_file.sync_file", full)
        with pytest.raises(StorageError, match="disk full: no backup was made, so"):
            back_up(log, made.backup, DAY, now_us())
    assert [*made.backup.parent.iterdir()] == [made.directory]
    (row,) = log.store.keyring_backups()
    forget(log, row.id, now_us())


def test_slots_that_do_not_open_are_left_out_and_counted(
    log: LogDirectory, made: Made
) -> None:
    data = bytearray(log.paths.keyring.read_bytes())
    data[SLOT_SIZE + 20] ^= 1
    log.paths.keyring.write_bytes(data)
    backup = back_up(log, made.backup, DAY, now_us())
    assert (backup.keys, backup.damaged) == (4, 1)


def test_a_rotation_that_somebody_began_is_finished_first(
    log: LogDirectory, made: Made
) -> None:
    assert log.vault_key is not None
    log.vault_key.begin(os.urandom(32), now_us())
    back_up(log, made.backup, DAY, now_us())
    assert len(log.vault_key.reload()) == 1
    log.paths.keyring.unlink()
    assert restore(log, made.backup, now_us()).restored == 5
    assert _opened(made) == made.keys


# --- to forget one --------------------------------------------------------------------


def test_a_backup_that_was_destroyed_early_is_waited_for_no_more(
    log: LogDirectory, made: Made
) -> None:
    now = now_us()
    row = back_up(log, made.backup, 30 * DAY, now).row
    assert forget(log, row.id, now + 5) == BackupRow(row.id, now, now + 5)
    assert log.store.keyring_backups() == [(row.id, now, now + 5)]
    assert _words(log)[1:] == [BackupWord("forgotten", row.id)]
    with pytest.raises(ConflictError, match="a backup that is still kept, got none"):
        forget(log, row.id, now + 9)
    assert len(_words(log)) == 2
    assert check_log(log).problems == ()


def test_one_that_never_was_cannot_be_forgotten(log: LogDirectory) -> None:
    with pytest.raises(NotFoundError, match=r"no backup 0101.* is on record"):
        forget(log, b"\1" * 16, now_us())
    assert _words(log) == []


# --- to restore one -------------------------------------------------------------------


def _lost(log: LogDirectory) -> None:
    log.paths.keyring.unlink()


def _zeroed(log: LogDirectory) -> None:
    log.paths.keyring.write_bytes(bytes(log.paths.keyring.stat().st_size))


def _scrambled(log: LogDirectory) -> None:
    log.paths.keyring.write_bytes(os.urandom(SLOT_SIZE * 5))


def _cut(log: LogDirectory) -> None:
    os.truncate(log.paths.keyring, 0)


@pytest.mark.parametrize("damage", [_lost, _zeroed, _scrambled, _cut])
def test_a_keyring_that_is_lost_comes_back(
    log: LogDirectory, made: Made, damage: Callable[[LogDirectory], None]
) -> None:
    row = back_up(log, made.backup, DAY, now_us()).row
    damage(log)
    assert restore(log, made.backup, now_us()) == Restored(row.id, 5, 0, 0, 0)
    assert _opened(made) == made.keys
    assert stat.S_IMODE(log.paths.keyring.stat().st_mode) == 0o600
    assert _words(log)[-1] == BackupWord("restored", row.id)
    assert check_log(log).problems == ()


def test_slots_that_are_newer_are_kept(log: LogDirectory, made: Made) -> None:
    back_up(log, made.backup, DAY, now_us())
    made.keys.update([log.keys.epoch_key("since then")])
    with log.paths.keyring.open("r+b") as file:
        file.seek(SLOT_SIZE)
        file.write(b"\1" * SLOT_SIZE)
    assert restore(log, made.backup, now_us())[1:] == (1, 4, 0, 0)
    assert _opened(made) == made.keys


def test_keys_that_no_backup_has_are_counted_as_missing(
    log: LogDirectory, made: Made
) -> None:
    back_up(log, made.backup, DAY, now_us())
    log.keys.epoch_key("since then")
    _lost(log)
    assert restore(log, made.backup, now_us())[1:] == (5, 0, 0, 1)


def test_to_restore_twice_changes_nothing_more(log: LogDirectory, made: Made) -> None:
    back_up(log, made.backup, DAY, now_us())
    _lost(log)
    restore(log, made.backup, now_us())
    before = log.paths.keyring.read_bytes()
    assert restore(log, made.backup, now_us())[1:] == (0, 5, 0, 0)
    assert log.paths.keyring.read_bytes() == before


def test_whoever_dies_while_restoring_begins_again(
    made_once: Made, tmp_path: Path
) -> None:
    made = Made(tmp_path / "audit", made_once.keys, tmp_path / "backup")
    _copy(made_once, made.directory)
    with open_log(made.directory) as log:
        back_up(log, made.backup, DAY, now_us())
        log.paths.keyring.unlink()
    lost = made._replace(
        directory=Path(shutil.copytree(made.directory, tmp_path / "l"))
    )

    def begin() -> Callable[[], object]:
        _copy(lost, made.directory)
        return lambda: restore(open_log(made.directory), made.backup, now_us())

    deaths = 0
    for _ in every_death(begin):
        with open_log(made.directory) as log:
            done = restore(log, made.backup, now_us())
            assert (done.restored + done.kept, done.missing) == (5, 0)
        assert _opened(made) == made.keys
        deaths += 1
    assert deaths > 8


# --- what was erased ------------------------------------------------------------------


def test_a_key_that_was_erased_since_then_does_not_come_back(
    log: LogDirectory, made: Made
) -> None:
    """Neither where the keyring is whole, nor where it is lost."""
    back_up(log, made.backup, DAY, now_us())
    ada = log.keys.subject("person", "Ada Lovelace")
    assert ada is not None
    slot = log.store.slot_of(ada) or 0
    erase_key(log, ada)
    assert restore(log, made.backup, now_us())[1:] == (0, 4, 1, 0)
    _lost(log)
    # What the entry about the erasure is sealed under is newer than the backup.
    assert restore(log, made.backup, now_us())[1:] == (4, 0, 1, 1)
    assert log.keys.keyring.raw()[slot * SLOT_SIZE :][:SLOT_SIZE] in (b"", bytes(64))
    for key_id, key in made.keys.items():
        assert (
            key_id == ada
            or log.keys.keyring.read(key_id, log.store.slot_of(key_id) or 0) == key
        )


def test_a_keyring_that_was_copied_back_by_hand_forgets_again(
    log: LogDirectory, made: Made
) -> None:
    back_up(log, made.backup, DAY, now_us())
    before = log.paths.keyring.read_bytes()
    ada = log.keys.subject("person", "Ada Lovelace")
    assert ada is not None
    slot = log.store.slot_of(ada) or 0
    erase_key(log, ada)
    for mend in (
        lambda: restore(log, made.backup, now_us()),
        lambda: replay(log, now_us()),
    ):
        log.paths.keyring.write_bytes(before)
        mend()
        after = log.paths.keyring.read_bytes()
        assert after[slot * SLOT_SIZE :][:SLOT_SIZE] == bytes(SLOT_SIZE)
        assert after[: slot * SLOT_SIZE] == before[: slot * SLOT_SIZE]


def test_a_database_that_forgot_an_erasure_is_told_by_the_file_beside_the_keyring(
    log: LogDirectory, made: Made, tmp_path: Path
) -> None:
    back_up(log, made.backup, DAY, now_us())
    ada = log.keys.subject("person", "Ada Lovelace")
    assert ada is not None
    erase_key(log, ada)
    with contextlib.closing(sqlite3.connect(log.paths.database)) as db, db:
        # As it was before: the key is registered, and nothing was erased.
        db.execute("INSERT INTO keys SELECT key_id, slot, 'subject', 'x' FROM erasures")
        db.execute("DELETE FROM erasures")
    assert restore(log, made.backup, now_us())[2:] == (4, 1, 0)
    with pytest.raises(NotFoundError, match="was erased"):
        open_log(made.directory).keys.key(ada)


def test_a_file_of_erased_keys_that_cannot_be_read_stops_it(
    log: LogDirectory, made: Made
) -> None:
    back_up(log, made.backup, DAY, now_us())
    _lost(log)
    log.paths.erased.write_bytes(b"not a key\n")
    log.paths.erased.chmod(0o600)
    with pytest.raises(MalformedError, match="expected ids of erased keys"):
        restore(log, made.backup, now_us())


def test_a_database_older_than_the_backup_learns_the_keys_again(
    log: LogDirectory, made: Made
) -> None:
    """Decisions that wait beside the store may be sealed under them."""
    new = log.keys.epoch_key("since then")
    back_up(log, made.backup, DAY, now_us())
    with contextlib.closing(sqlite3.connect(log.paths.database)) as db, db:
        db.execute("DELETE FROM keys WHERE key_id = ?", (new[0],))
    _lost(log)
    assert restore(log, made.backup, now_us())[1:] == (6, 0, 0, 0)
    assert log.store.use_of(new[0]) == (EPOCH, "since then")
    assert _opened(made) == made.keys | dict([new])


# --- refusals -------------------------------------------------------------------------


def test_the_backup_of_another_log_is_refused(log: LogDirectory, made: Made) -> None:
    other = made.directory.parent / "other"
    with create_log(config_of(other, origin="log.example/other")) as theirs:
        theirs.keys.epoch_key("a")
        back_up(theirs, made.backup, DAY, now_us())
    _refused(log, made, ConfigurationError, "of the log log.example/tests, got one of")


def test_the_backup_of_another_log_of_this_name_is_refused(
    log: LogDirectory, made: Made
) -> None:
    """It has another key-encryption key; or the same, and other keys in its slots."""
    other = made.directory.parent / "other"
    with create_log(config_of(other)) as theirs:
        theirs.keys.epoch_key("a")
        back_up(theirs, made.backup, DAY, now_us())
    _refused(log, made, ConfigurationError, "under another key-encryption key")
    made.backup.unlink()
    shutil.copy(log.paths.vault_key, other / "keys")
    (other / "keys" / "keyring").unlink()
    with contextlib.closing(sqlite3.connect(other / "log.sqlite3")) as db, db:
        db.execute("DELETE FROM keys")
    with open_log(other) as theirs:
        theirs.keys.epoch_key("a")
        back_up(theirs, made.backup, DAY, now_us())
    _refused(log, made, ConfigurationError, "slot 0 is another key's in this log than")


def test_a_backup_from_before_a_rotation_needs_the_key_of_that_time(
    log: LogDirectory, made: Made
) -> None:
    back_up(log, made.backup, DAY, now_us())
    before = log.paths.vault_key.read_bytes()
    rotate(log, now_us())
    _refused(log, made, ConfigurationError, "another key-encryption key: before a rot")
    _lost(log)
    log.paths.vault_key.write_bytes(before)
    with open_log(made.directory) as again:
        assert restore(again, made.backup, now_us()).restored == 5
    assert _opened(made) == made.keys


def test_a_backup_that_was_changed_or_cut_is_refused(
    log: LogDirectory, made: Made
) -> None:
    back_up(log, made.backup, DAY, now_us())
    data = made.backup.read_bytes()
    for changed in (data[:-1], data[:-100], data[:200] + b"\0" + data[201:] + b"?"):
        made.backup.write_bytes(changed)
        _refused(log, made, VerificationError, "was changed or cut")
    for other in (b"", b"auditlog", os.urandom(500)):
        made.backup.write_bytes(other)
        _refused(log, made, MalformedError, "expected a backup of a keyring, version 1")
    made.backup.unlink()
    _refused(log, made, StorageError, "cannot read .*backup: No such file")


def _refused(
    log: LogDirectory, made: Made, kind: type[Exception], message: str
) -> None:
    before, words = log.paths.keyring.read_bytes(), _words(log)
    with pytest.raises(kind, match=message):
        restore(log, made.backup, now_us())
    assert log.paths.keyring.read_bytes() == before
    assert _words(log) == words


# --- who else is there ----------------------------------------------------------------


def test_a_service_goes_on_while_its_keyring_is_restored(made: Made) -> None:
    runtime = Runtime(config_of(made.directory))
    _record(runtime)
    with open_log(made.directory) as log:
        back_up(log, made.backup, DAY, now_us())
        _cut(log)
        assert restore(log, made.backup, now_us()).missing == 0
    _record(runtime)
    runtime.stop()
    with open_log(made.directory) as log:
        report = check_log(log)
        assert (report.problems, report.unchecked, report.decisions) == ((), (), 2)


def _record(runtime: Runtime) -> None:
    one = exchange(0)
    one.sequence = runtime.open(one.id, one.time)
    runtime.submit(one)
    assert runtime.flush(10)


BACKING = """
    import sys, time
    from pathlib import Path
    from auditlog.log.backing import back_up, restore
    from auditlog.log.directory import open_log

    with open_log(Path(sys.argv[1])) as log:
        for number in range(6):
            path = Path(sys.argv[2]) / f"{sys.argv[3]}-{number}"
            now = time.time_ns() // 1000
            made = back_up(log, path, 86_400_000_000, now)
            done = restore(log, path, now)
            print(made.damaged, done.restored, done.missing)
    """
MAKING = """
    import sys
    from pathlib import Path
    from auditlog.log.directory import open_log

    with open_log(Path(sys.argv[1])) as log:
        for number in range(30):
            log.keys.epoch_key(f"made {number}")
        print("made")
    """


def test_backups_beside_others_and_beside_who_makes_keys(made: Made) -> None:
    place = made.directory.parent / "place"
    place.mkdir()
    written = wait_all(
        [
            *(start(BACKING, made.directory, place, who) for who in ("one", "two")),
            start(MAKING, made.directory),
        ]
    )
    assert written == ["0 0 0\n" * 6] * 2 + ["made\n"]
    with open_log(made.directory) as log:
        assert len(log.store.keyring_backups()) == 12
        assert check_log(log).problems == ()
    assert made.keys.items() <= _opened(made).items()
    assert len(_opened(made)) == 5 + 30


def test_a_subject_is_found_by_its_label_again(log: LogDirectory, made: Made) -> None:
    back_up(log, made.backup, DAY, now_us())
    _lost(log)
    restore(log, made.backup, now_us())
    with open_log(made.directory) as again:
        key_id, key = again.keys.subject_key("person", "Ada Lovelace")
        assert made.keys[key_id] == key
        assert again.keys.kind(key_id) == SUBJECT
