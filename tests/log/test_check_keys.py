"""What `check` and `doctor` say of keys, their backups, and what is in free slots."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditlog.core.errors import MalformedError
from auditlog.core.record import Entry
from auditlog.log.backing import back_up, forget
from auditlog.log.backup_age import look_at_backups
from auditlog.log.check import CheckReport, check_log
from auditlog.log.check_keys import KeyCheck
from auditlog.log.directory import LogDirectory, create_log, open_log
from auditlog.log.key_entry import (
    KEY,
    BackupWord,
    backup_entry,
    parse_key_entry,
    rotation_entry,
)
from auditlog.log.preparation import plain_item
from auditlog.log.rotating import rotate
from auditlog.storage.sealing import SLOT_SIZE
from tests.erasing import erase_key
from tests.log.builders import ORIGIN, config_of, now_us

DAY = 86_400_000_000
ID = bytes(range(16))
NOW = 1_800_000_000_000_000


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogDirectory]:
    with create_log(config_of(tmp_path / "audit")) as made:
        for number in range(3):
            made.keys.epoch_key(f"day {number}")
        yield made


def _backed_up(log: LogDirectory, days: int = 30) -> bytes:
    place = log.paths.directory.parent / os.urandom(4).hex()
    return back_up(log, place, days * DAY, now_us()).row.id


def _said(log: LogDirectory) -> list[str]:
    report = _check(log)
    return [f"{where}: {what}" for where, what in report.problems]


def _check(log: LogDirectory) -> CheckReport:
    with open_log(log.paths.directory, read_only=True) as again:
        return check_log(again)


def _change(log: LogDirectory, statement: str, *values: object) -> None:
    with contextlib.closing(sqlite3.connect(log.paths.database)) as db, db:
        assert db.execute(statement, values).rowcount == 1


# --- entries --------------------------------------------------------------------------


def test_what_an_entry_says_is_read_back() -> None:
    rotation = rotation_entry(ORIGIN, 2, NOW)
    assert rotation.data == {"generation": 2, "what": "vault"}
    assert parse_key_entry(rotation.data) == 2
    assert (rotation.type, rotation.time) == (KEY, NOW)
    for word in (
        BackupWord("backup", ID, NOW + DAY),
        BackupWord("forgotten", ID),
        BackupWord("restored", ID),
    ):
        assert parse_key_entry(backup_entry(ORIGIN, NOW, word).data) == word


def test_the_id_of_a_rotation_follows_from_it() -> None:
    one = rotation_entry(ORIGIN, 2, NOW).id
    assert one == rotation_entry(ORIGIN, 2, NOW).id
    others = [
        rotation_entry("another", 2, NOW).id,
        rotation_entry(ORIGIN, 3, NOW).id,
        rotation_entry(ORIGIN, 2, NOW + 1).id,
    ]
    assert len({one, *others}) == 4


REFUSED: dict[str, dict[str, object]] = {
    "about vault, backup, forgotten, restored": {"what": "other"},
    "a generation from 2": {"what": "vault", "generation": 1},
    "int as generation": {"what": "vault", "generation": True},
    "with the fields what, generation": {"what": "vault", "generation": 2, "key": "x"},
    "with the fields what, backup, expires": {"what": "backup", "backup": "AAAA"},
    "id of a backup, got 3 bytes": {"what": "restored", "backup": "AAAA"},
    "base64": {"what": "forgotten", "backup": "?"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_any_other_key_entry_is_refused(message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_key_entry(REFUSED[message])


def _noted(*entries: Entry) -> None:
    check = KeyCheck()
    for entry in entries:
        check.note(entry)


def test_entries_that_contradict_each_other_are_refused() -> None:
    made = backup_entry(ORIGIN, NOW, BackupWord("backup", ID, NOW + DAY))
    gone = backup_entry(ORIGIN, NOW + 5, BackupWord("forgotten", ID))
    late = backup_entry(ORIGIN, NOW + DAY, BackupWord("forgotten", ID))
    second, third = (rotation_entry(ORIGIN, n, NOW) for n in (2, 3))
    _noted(made, gone, second, third)
    with pytest.raises(MalformedError, match="a new backup, got the id of another"):
        _noted(made, made)
    for wrong in ((gone,), (made, gone, gone), (made, late)):
        with pytest.raises(MalformedError, match="a backup that was kept until then"):
            _noted(*wrong)
    for wrong in ((third, second), (second, second)):
        with pytest.raises(MalformedError, match=r"a generation after [23], got 2"):
            _noted(*wrong)


def test_an_entry_of_another_form_is_a_problem_of_the_log(log: LogDirectory) -> None:
    entry = rotation_entry(ORIGIN, 2, NOW)
    log.store.append([plain_item(rotation_entry(ORIGIN, 3, NOW)), plain_item(entry)])
    assert _said(log) == [
        "entry 1: does not say what it must: expected a generation after 3, got 2"
    ]


# --- backups and slots ----------------------------------------------------------------


def test_backups_and_rotations_leave_nothing_to_say(log: LogDirectory) -> None:
    forget(log, _backed_up(log), now_us())
    rotate(log, now_us())
    _backed_up(log)
    report = _check(log)
    assert (report.problems, report.unchecked) == ((), ())


def test_a_backup_that_is_taken_off_the_record_is_named(log: LogDirectory) -> None:
    """Or an erasure would be called final while a copy still holds the key."""
    id_ = _backed_up(log)
    _change(log, "DELETE FROM keyring_backups")
    what = "is in the log, but not on record: no erasure would wait for it"
    assert _said(log) == [f"keyring backup {id_.hex()}: {what}"]


@pytest.mark.parametrize("column", ["made", "expires"])
def test_a_backup_with_other_times_is_named(log: LogDirectory, column: str) -> None:
    id_ = _backed_up(log)
    _change(log, f"UPDATE keyring_backups SET {column} = {column} - 1")
    what = "is on record with other times than in the log"
    assert _said(log) == [f"keyring backup {id_.hex()}: {what}"]


def test_one_that_is_called_destroyed_without_a_word_in_the_log_is_named(
    log: LogDirectory,
) -> None:
    id_ = _backed_up(log)
    _change(log, "UPDATE keyring_backups SET expires = made + 1 WHERE id = ?", id_)
    assert _said(log)[0].startswith(f"keyring backup {id_.hex()}: is on record with")


def test_a_backup_that_no_entry_tells_of_is_named(log: LogDirectory) -> None:
    _change(log, "INSERT INTO keyring_backups VALUES (?, 1, 2)", ID)
    assert _said(log) == [f"keyring backup {ID.hex()}: belongs to no entry"]


def test_backups_made_while_the_log_is_checked_are_no_problem(
    log: LogDirectory,
) -> None:
    check, size = KeyCheck(), log.store.size()
    _backed_up(log)
    forget(log, _backed_up(log), now_us())
    rotate(log, now_us())
    problems, unchecked = check.finish(log, size)
    assert (problems, sum(unchecked.values())) == ([], 0)


def test_a_free_slot_that_holds_something_is_named(log: LogDirectory) -> None:
    """A key was led away from it; or one that nobody knows was put there."""
    _change(log, "DELETE FROM keys WHERE slot = 1")
    what = "holds something, but is no registered key's"
    assert f"keyring slot 1: {what}" in _said(log)
    with log.keys.keyring.writing() as writer:
        writer.destroy([1])
    assert not any(one.startswith("keyring slot") for one in _said(log))


def test_a_slot_whose_key_was_erased_is_not_free(log: LogDirectory) -> None:
    erase_key(log, log.keys.subject_key("person", "Ada")[0])
    assert _said(log) == []


def test_a_slot_after_the_last_may_be_just_being_made(log: LogDirectory) -> None:
    with log.paths.keyring.open("ab") as file:
        file.write(b"\1" * SLOT_SIZE)
    assert _said(log) == []


def test_a_key_file_of_an_older_generation_is_told(log: LogDirectory) -> None:
    before = log.paths.vault_key.read_bytes()
    rotate(log, now_us())
    log.paths.vault_key.write_bytes(before)
    report = _check(log)
    assert report.problems == ()
    assert "1 x vault.key is of generation 1, the log tells of 2" in report.unchecked
    assert sum("does not open" in one for one in report.unchecked) == 3


# --- what doctor says -----------------------------------------------------------------


def _found(log: LogDirectory, later: float = 0) -> tuple[str, str]:
    with open_log(log.paths.directory, read_only=True) as again:
        finding = look_at_backups(again, now_us() / 1_000_000 + later)
    assert bool(finding.todo) is (finding.level == "warning")
    return finding.level, finding.said


def test_without_keys_nothing_is_to_be_backed_up(tmp_path: Path) -> None:
    with create_log(config_of(tmp_path / "audit")) as log:
        assert _found(log) == ("ok", "there are no keys to back up yet")


def test_a_log_without_a_backup_is_warned(log: LogDirectory) -> None:
    assert _found(log)[0] == "warning"
    assert "none is kept" in _found(log)[1]


def test_a_backup_is_enough_until_it_expires(log: LogDirectory) -> None:
    _backed_up(log, days=2)
    assert _found(log)[0] == "ok"
    level, said = _found(log, later=3 * 86_400)
    assert (level, said[:12]) == ("warning", "none is kept")


def test_a_backup_older_than_the_newest_key_is_warned(log: LogDirectory) -> None:
    _backed_up(log)
    log.keys.epoch_key("since then")
    level, said = _found(log)
    assert level == "warning"
    assert said.endswith(", and keys were made or destroyed since then")
    _backed_up(log)
    assert _found(log)[0] == "ok"


def test_a_backup_from_before_a_rotation_is_warned(log: LogDirectory) -> None:
    _backed_up(log)
    rotate(log, now_us())
    level, said = _found(log)
    assert level == "warning"
    assert said.endswith("was rotated: it opens nothing")


def test_a_keyring_that_is_missing_is_for_another_finding(log: LogDirectory) -> None:
    _backed_up(log)
    log.paths.keyring.unlink()
    assert _found(log)[0] == "ok"
