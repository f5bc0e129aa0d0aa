"""What `check_log` says of a log that somebody with write access changed on purpose.

Each row changes one thing that needs a thought, and says what the check must find;
`test_tampering.py` goes through all columns and files. What the check cannot find is
not here: see the witness.
"""

import re
import sqlite3
from pathlib import Path

import pytest

from auditlog.log.check import CheckReport, check_log
from auditlog.log.directory import open_log
from tests.filled import fill_log
from tests.log.builders import ORIGIN

ROWS = {
    "entry changed": ("UPDATE spool SET entries = flip(entries)", "entr"),
    "entries removed": (
        "DELETE FROM spool WHERE first = (SELECT max(first) FROM spool)",
        "only [0-9]+ exist",
    ),
    "entries in the middle removed": (
        "DELETE FROM spool WHERE first = (SELECT min(first) FROM spool WHERE first)",
        "entr",
    ),
    "entries swapped": (
        "UPDATE spool SET entries = swap(entries)",
        "index row 1 differs|differs from the entry",
    ),
    "entry count changed": ("UPDATE spool SET count = count + 1", "entr"),
    "index row moved": (
        "UPDATE entry_index SET idx = 99999 WHERE idx = 5",
        "row 99999.*no entry",
    ),
    "content moved": ("UPDATE vault SET idx = 99999 WHERE idx = 5", "99999.*no entry"),
    "bundle among the tiles": (
        "INSERT INTO objects VALUES ('tile/entries/000', x'00')",
        "tile/entries/000.*no tile",
    ),
    "tile renamed": (
        "UPDATE objects SET path = 'tile/0/007' WHERE path = 'tile/0/000'",
        "tile/0/007.*does not match",
    ),
    "object added": ("INSERT INTO objects VALUES ('x', 'y')", "'x'.*no tile"),
    "head size": ("UPDATE head SET size = size - 1", "head.*root"),
    "head size beyond": ("UPDATE head SET size = size + 9", "head.*only"),
    "checkpoint changed": (
        "UPDATE checkpoints SET note = flip(note)",
        "checkpoint [0-9]+",
    ),
    "checkpoint moved": (
        "UPDATE checkpoints SET size = size + 5000",
        "checkpoint 5[0-9]+.*only",
    ),
    "entries appended again": (
        "INSERT INTO spool SELECT max(first + count), count, entries FROM spool",
        "entry 3[0-9]+ has the id of an earlier entry",
    ),
    "entries appended far away": (
        "INSERT INTO spool SELECT 1 << 60, count, entries FROM spool LIMIT 1",
        "entries 3[0-9]+ to [0-9]+ are not in the spool; nothing after them was",
    ),
    "head at the beginning": (
        (
            "UPDATE head SET size = 0, root = unhex"
            "('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')"
        ),
        "head says 0 entries, 3[0-9]+ were signed",
    ),
    "head at the beginning, with another root": (
        "UPDATE head SET size = 0",
        "head says root .*, the entries give e3b0c442",
    ),
    "last tile removed": (
        "DELETE FROM objects WHERE path LIKE 'tile/1/%'",
        "tile/1/000.p/1 the tile is missing",
    ),
    "tile of an older checkpoint removed": (
        (
            "DELETE FROM objects WHERE path = (SELECT 'tile/0/001.p/' || "
            "min(size - 256) FROM checkpoints WHERE size > 256)"
        ),
        "tile/0/001.p/[0-9]+ the tile is missing",
    ),
    "trigger added": (
        "CREATE TRIGGER t AFTER INSERT ON spool BEGIN DELETE FROM head; END",
        "database trigger t is not as this auditlog makes it",
    ),
    "index removed": (
        "DROP INDEX entry_index_time",
        "database index entry_index_time is not as this auditlog makes it",
    ),
    "label of a key": (
        "UPDATE keys SET label = '1999-12-31'",
        "vault row 2 to 151 sealed under epoch 1999-12-31, expected the key of epoch",
    ),
    "key that is not registered": (
        "UPDATE vault SET key_id = flip(key_id) WHERE idx = 5",
        "vault row 5 sealed under a key that is not registered, expected the key of",
    ),
    "column of another type": (
        "UPDATE entry_index SET emitter = 7 WHERE idx = 5",
        "index row 5 the database is damaged: expected .* found int",
    ),
    "cosignature without checkpoint": (
        "INSERT INTO cosignatures (size, key, time, line) VALUES (3, 'k', 1, 'l')",
        "cosignature 3",
    ),
}


def _swap(framed: bytes) -> bytes:
    """Swap the first two entries of a row, if it has two."""
    first = 2 + int.from_bytes(framed[:2])
    if first >= len(framed):
        return framed
    second = first + 2 + int.from_bytes(framed[first : first + 2])
    return framed[first:second] + framed[:first] + framed[second:]


def _flip(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _tamper(directory: Path, statement: str) -> None:
    with sqlite3.connect(directory / "log.sqlite3") as db:
        db.create_function("flip", 1, _flip)
        db.create_function("swap", 1, _swap)
        db.create_function("unhex", 1, bytes.fromhex)
        before = db.total_changes, db.execute("PRAGMA schema_version").fetchall()
        db.execute(statement)
        after = db.total_changes, db.execute("PRAGMA schema_version").fetchall()
    db.close()
    assert before != after


def _check(directory: Path) -> CheckReport:
    with open_log(directory, read_only=True) as log:
        return check_log(log)


def test_a_log_that_holds_has_no_problems(filled: Path) -> None:
    report = _check(filled)
    assert (report.problems, report.unchecked) == ((), ())
    assert (report.decisions, report.cosignatures) == (300, 0)


def test_tables_that_a_replication_tool_adds_are_no_problem(filled: Path) -> None:
    _tamper(filled, "CREATE TABLE _replica_seq (id INTEGER PRIMARY KEY, seq INTEGER)")
    assert _check(filled).problems == ()


@pytest.mark.parametrize("row", ROWS)
def test_tampering_is_found_and_named(filled: Path, row: str) -> None:
    statement, expected = ROWS[row]
    _tamper(filled, statement)
    found = [f"{one.where} {one.what}" for one in _check(filled).problems]
    assert [one for one in found if re.search(expected, one)], found


def test_content_whose_key_is_gone_is_unchecked_not_tampered(filled: Path) -> None:
    (filled / "keys" / "keyring").write_bytes(bytes(64))
    report = _check(filled)
    assert report.problems == ()
    assert report.unchecked[0].startswith("300 x content not opened")


def test_progress_reaches_the_end(filled: Path) -> None:
    seen: list[tuple[int, int]] = []
    with open_log(filled, read_only=True) as log:
        report = check_log(log, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (report.entries, report.entries)
    assert seen == sorted(seen)


def test_what_a_running_service_appends_meanwhile_is_no_problem(filled: Path) -> None:
    def service(done: int, of: int) -> None:
        if done == of:
            fill_log(filled, 30)
            with sqlite3.connect(filled / "log.sqlite3") as db:
                db.execute(
                    "INSERT INTO cosignatures (size, key, time, line) "
                    "SELECT max(size), 'k', 1, 'l' FROM checkpoints"
                )
            db.close()

    # It is a copy, and says so to whoever writes.
    (filled / "place").unlink()
    entries = _check(filled).entries
    with open_log(filled, read_only=True) as log:
        report = check_log(log, progress=service)
        assert log.store.size() >= entries + 30
    assert (report.problems, report.entries) == ((), entries)


def test_the_origin_of_every_entry_is_checked(filled: Path) -> None:
    old, new = f'"source":"{ORIGIN}"', f'"source":"{ORIGIN[:-1]}x"'
    with sqlite3.connect(filled / "log.sqlite3") as db:
        rows = db.execute("SELECT first, entries FROM spool").fetchall()
        for first, entries in rows:
            changed = entries.replace(old.encode(), new.encode())
            db.execute("UPDATE spool SET entries = ? WHERE first = ?", (changed, first))
    db.close()
    found = [one.what for one in _check(filled).problems]
    assert "names 'log.example/testx' as its log" in found


def test_the_check_reads_but_never_writes(filled: Path) -> None:
    before = (filled / "log.sqlite3").stat().st_mtime_ns
    _check(filled)
    assert (filled / "log.sqlite3").stat().st_mtime_ns == before
