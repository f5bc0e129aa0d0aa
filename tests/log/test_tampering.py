"""The tamper matrix: each column of each table, each file, and what `check` says.

`tests/tampering.py` derives the changes from the schema. Each is made alone to a small
log, and all those of one table together to a log of 10,000 entries.
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from auditlog.core.errors import AuditLogError
from auditlog.core.note import ED25519, make_signer
from auditlog.log.check import CheckReport
from auditlog.log.directory import open_log
from auditlog.storage.journal import Journal, JournalRecord
from auditlog.storage.sqlite import SqliteStore
from tests.log.builders import ORIGIN
from tests.tampering import (
    TABLES,
    Change,
    build,
    every_change,
    expected,
    found,
    is_named,
    tamper,
    tamper_often,
)

UNIQUE = {
    *("attestations.size", "attestations.anchor"),
    *("checkpoints.size", "cosignatures.size", "cosignatures.key", "entry_index.id"),
    *("entry_index.idx", "entry_index.sequence", "keys.key_id", "keys.label"),
    "keyring_backups.id",
    *("lost_keys.key_id", "lost_keys.slot"),
    *("erasures.id", "erasures.key_id", "erasures.slot"),
    *("keys.slot", "meta.key", "objects.path", "spool.first", "tokens.hash"),
    "vault.idx",
}
ALIKE = {"erasures.pending", "keys.kind", "tokens.created"}
EMITTER = bytes(range(16))
IN_USE = JournalRecord(7, bytes(16), 1_800_000_000_000_000)


def _matrix(directory: Path) -> list[Change]:
    path = directory / "log.sqlite3"
    SqliteStore.create(path, "log.example/tests").close()
    return every_change(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("small") / "audit"
    build(directory, decisions=12, others=300)
    journal = Journal.create(directory / "journal", EMITTER)
    journal.opened(*IN_USE)
    journal.abandon()
    return directory


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("large") / "audit"
    build(directory, decisions=400, others=9_600)
    return directory


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "audit"))


def test_an_untouched_log_has_no_problems(small: Path, large: Path) -> None:
    reports = [found(directory) for directory in (small, large)]
    for report in reports:
        assert isinstance(report, CheckReport)
        assert (report.problems, report.unchecked) == ((), _unchecked(report))
        assert report.cosignatures == 2 * report.checkpoints > 10
        assert report.attestations == 3 * (report.checkpoints - 1)


@pytest.mark.parametrize("table", TABLES)
def test_each_change_alone_shows_as_it_must(
    small: Path, tmp_path: Path, table: str
) -> None:
    directory = Path(shutil.copytree(small, tmp_path / "audit"))
    changes = [one for one in every_change(small / "log.sqlite3") if one.table == table]
    assert len(changes) >= 10
    for change in changes:
        shutil.copy(small / "log.sqlite3", directory)
        touched = tamper(directory / "log.sqlite3", change, part=0.01)
        name = f"{table}.{change.column}"
        if touched is None:
            assert (
                table == "head" or change.how == "retyped" or name in UNIQUE | ALIKE
            ), change
        else:
            _check_shown(directory, change, touched)


def _check_shown(directory: Path, change: Change, touched: list[object]) -> None:
    report, how = found(directory), expected(change)
    if how == "refused":
        assert isinstance(report, AuditLogError), change
        return
    assert isinstance(report, CheckReport), (change, report)
    if how == "named":
        assert is_named(change, touched, report), (change, touched, report)
        return
    assert report.problems == (), change
    more = report.unchecked != _unchecked(report)
    assert more is (how == "unchecked"), (change, report)


def _unchecked(report: CheckReport) -> tuple[str, ...]:
    """What a check of an untouched log leaves to those who have a trust file."""
    return tuple(
        f"{report.checkpoints - 2} x evidence of kind {kind}: what it proves is for "
        "`auditlog verify` to say, by a trust file"
        for kind in ("ots", "evm")
    )


@pytest.mark.parametrize(
    "table",
    [
        *("attestations", "checkpoints", "cosignatures", "entry_index", "objects"),
        *("spool", "vault"),
    ],
)
def test_many_changes_at_once_are_all_named(
    large: Path, tmp_path: Path, table: str
) -> None:
    directory = Path(shutil.copytree(large, tmp_path / "audit"))
    made = tamper_often(directory / "log.sqlite3", table)
    assert len(made) >= 6
    report = found(directory)
    assert isinstance(report, CheckReport)
    missed = [one for one in made if not is_named(*one, report)]
    assert missed == []


def test_the_matrix_knows_every_table(tmp_path: Path) -> None:
    assert {change.table for change in _matrix(tmp_path)} == set(TABLES)


# --- files ----------------------------------------------------------------------------


def _line(number: int, new: str | None) -> Callable[[bytes], bytes]:
    """Replace a line, or remove it."""

    def change(data: bytes) -> bytes:
        lines = data.decode().splitlines()
        lines[number : number + 1] = [] if new is None else [new]
        return "".join(f"{line}\n" for line in lines).encode()

    return change


def _swap_lines(data: bytes) -> bytes:
    *lines, one, other = data.splitlines(keepends=True)
    return b"".join([*lines, other, one])


def _flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _other_letter(at: int) -> Callable[[bytes], bytes]:
    """A change that base64 still reads, whatever letter of a random key stood there."""
    return lambda data: data[:at] + (b"B" if data[at] == 65 else b"A") + data[at + 1 :]


STRANGER = make_signer(ORIGIN, ED25519, bytes(32)).verifier.vkey
JOURNAL = f"journal/{EMITTER.hex()}.journal"
SLOT = 64
FILES: dict[str, list[tuple[Callable[[bytes], bytes] | None, str]]] = {
    "keys/log.key": [
        (None, "refused: .*keys/log.key missing"),
        (_flip(60), "refused: "),
        (_line(1, None), "problem: vkeys: does not name the keys that sign"),
        (lambda data: data + data, "problem: vkeys: does not name the keys that sign"),
        (_swap_lines, "problem: vkeys: does not name the keys that sign"),
    ],
    "keys/vault.key": [
        (None, "refused: .*keys/vault.key missing"),
        (_other_letter(5), "unchecked: 6 x content not opened: slot 0 .*does not open"),
        (_flip(43), "refused: .*does not hold 32 bytes|unchecked: 6 x content"),
        (lambda data: data + data, "refused: .*two with the newest first, got 2"),
    ],
    "keys/keyring": [
        (None, "unchecked: 12 x content not opened: the keyring .* is missing"),
        (_flip(SLOT + 20), "unchecked: 6 x content not opened: slot 1 of the keyring"),
        (lambda data: data[:SLOT], "unchecked: 6 x content not opened: slot 1 of"),
        (lambda data: data[:SLOT] * 2, "unchecked: 6 x content not opened: slot 1 of"),
        (lambda data: data[SLOT:] + data[:SLOT], "unchecked: 6 x .*: slot 0 of the"),
    ],
    "keys/erased": [
        (None, "problem: keys/erased: does not name 4 keys that were erased"),
        (lambda data: data[33:], "problem: keys/erased: does not name 1 keys that"),
        (
            lambda data: data + b"0" * 32 + b"\n",
            "unchecked: 1 x key named in keys/erased of which the log says nothing",
        ),
        (lambda data: data + b"0" * 33, "refused: .*expected ids of erased keys"),
        (lambda data: data[:-1] + b" ", "refused: .*expected ids of erased keys"),
    ],
    "vkeys": [
        (None, "problem: vkeys: cannot be read: .*No such file"),
        (_flip(30), "problem: vkeys: does not name the keys that sign"),
        (lambda data: b"\xff" + data, "problem: vkeys: cannot be read: .*utf-8"),
        (lambda data: data + data, "problem: vkeys: does not name the keys that sign"),
        (_swap_lines, "problem: vkeys: does not name the keys that sign"),
    ],
    "policy": [
        (None, "unchecked: 1 x witnesses: no policy file"),
        (_line(2, f"log {STRANGER}"), "problem: policy: names a key of this log that"),
        (
            lambda data: data.replace(b"log log", b"log lug"),
            "problem: policy: policy l",
        ),
        (lambda data: data + b"quorum none\n", "problem: policy: policy line"),
        (lambda data: b"quorum none\n", "problem: policy: names no key of this log"),
        (_line(6, None), "unchecked: [0-9]+ x cosignature by w2.example.* not in pol"),
        (lambda data: b"\xff" + data, "unchecked: 1 x witnesses: cannot read the pol"),
    ],
    JOURNAL: [
        (_flip(20), "unchecked: 37 x bytes of journal 0001.* that are no record"),
        (_flip(45), "unchecked: 36 x bytes of journal 0001.* that are no record"),
        (lambda data: data[:-1], "unchecked: 35 x bytes of journal 0001.* that are no"),
    ],
}
NO_EVIDENCE = {
    *(".gitignore", "place", "init.lock", "sequencer.lock", "journal/.lock"),
    *("anchors.toml", "anchors.lock"),
    *("log.sqlite3", "log.sqlite3.lock", "log.sqlite3-wal", "log.sqlite3-shm"),
}
"""Locks, a place, whom to ask; and the database, which the matrix is about."""


@pytest.mark.parametrize("name", FILES)
def test_each_file_changed_shows_as_it_must(copy: Path, name: str) -> None:
    path = copy / name
    before = path.read_bytes()
    for change, pattern in FILES[name]:
        if change is None:
            path.unlink()
        else:
            assert change(before) != before
            path.write_bytes(change(before))
        path.parent.mkdir(exist_ok=True)
        said = _said(copy)
        assert any(re.match(pattern, one) for one in said), (pattern, said)
        path.write_bytes(before)
        path.chmod(0o600)
    assert _said(copy) == []


def _said(directory: Path) -> list[str]:
    report = found(directory)
    if isinstance(report, AuditLogError):
        return [f"refused: {report}"]
    said = [f"problem: {where}: {what}" for where, what in report.problems]
    more = [one for one in report.unchecked if "x evidence of kind" not in one]
    return said + [f"unchecked: {one}" for one in more]


def test_every_file_of_a_log_is_in_the_matrix(small: Path) -> None:
    files = {str(one.relative_to(small)) for one in small.rglob("*") if one.is_file()}
    assert set(FILES) <= files
    assert files <= set(FILES) | NO_EVIDENCE


def test_a_journal_that_contradicts_the_log_is_a_problem(copy: Path) -> None:
    with open_log(copy, read_only=True) as log:
        row = log.store.index_rows(2, 3)[0]
    (copy / JOURNAL).unlink()
    journal = Journal.create(copy / "journal", EMITTER)
    journal.opened(7, row.id, 1_800_000_000_000_000)
    journal.abandon()
    problem = f"problem: journal {EMITTER.hex()}: number 7 has the id of entry 2"
    assert _said(copy) == [problem]
