"""What a check says of attestations, and of entries about anchors that lie."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.encoding import format_base64
from auditlog.core.errors import MalformedError
from auditlog.core.record import Entry, format_entry, parse_entry
from auditlog.log.anchor_entry import REASONS, Word, parse_word
from auditlog.log.anchor_ledger import Ledger
from auditlog.log.check import CheckReport, _Check, check_log
from auditlog.log.directory import LogDirectory, create_log
from auditlog.log.identity import new_id
from auditlog.log.preparation import plain_item
from auditlog.log.sequencer import Sequencer
from auditlog.storage import AttestationRow
from tests.log.builders import config_of, gap_items, now_us

PENDING = b'{"ticket":1}'
FINAL = b'{"stamp":1}'


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogDirectory]:
    """A log with two checkpoints: of the first one is final, of the second pending."""
    with create_log(config_of(tmp_path / "audit")) as log:
        for final in (True, False):
            log.store.append(gap_items(3))
            size = _sign(log)
            _keep(log, size, "pending", PENDING)
            if final:
                _keep(log, size, "final", FINAL)
        _sign(log)
        yield log


def _sign(log: LogDirectory) -> int:
    return Sequencer(log.store, log.origin, log.signers).step()


def _keep(
    log: LogDirectory, size: int, state: str, evidence: bytes, anchor: str = "a"
) -> None:
    rows = [one for one in log.store.attestations(size) if one.anchor == anchor]
    submitted = rows[0].submitted if rows else 0
    # Never twice in one millisecond, in which two words would have the same id.
    time = now_us() - 1_000_000 + 1000 * log.store.size()
    row = AttestationRow(size, anchor, "ots", state, evidence, submitted, time)
    Ledger(log.store, log.origin).keep(row, 1)


def _say(log: LogDirectory, **fields: Any) -> int:
    """Append an entry about the first checkpoint, with other fields."""
    usual = Word("a", "ots", 3, bytes(32), 1, "failed", None, "unreachable")
    digest = Ledger(log.store, log.origin).digest(3)
    word = usual._replace(digest=digest)._replace(**fields)
    return _append(log, word.entry(new_id(now_us()), log.origin, now_us()).data)


def _append(log: LogDirectory, data: dict[str, Any]) -> int:
    time = now_us()
    entry = Entry(new_id(time), "auditlog.anchor.v1", log.origin, time, data)
    index = log.store.append([plain_item(entry)])
    _sign(log)
    return index


def _change(log: LogDirectory, sql: str) -> None:
    with sqlite3.connect(log.paths.database) as db:
        assert db.execute(sql).rowcount == 1
    db.close()


def _said(report: CheckReport) -> list[str]:
    return [f"{one.where} {one.what}" for one in report.problems]


def test_attestations_that_entries_tell_of_have_no_problems(log: LogDirectory) -> None:
    report = check_log(log)
    assert (report.problems, report.attestations) == ((), 2)
    (unchecked,) = report.unchecked
    assert unchecked == (
        "1 x evidence of kind ots: what it proves is for `auditlog verify` to say, by "
        "a trust file"
    )


TAMPERED = {
    "evidence": "attestation 3 a is not as the entries about it say",
    "time": "attestation 3 a is not as entry 4 says",
    "submission": "attestation 3 a was submitted at another time than entry 3 says",
    "made final": "attestation 8 a is not as the entries about it say",
    "made pending": "attestation 3 a is not what entry 4 says was final",
    "rolled back": "attestation 3 a is older than entry 4 says",
    "removed": "attestation 3 a is missing, of which entry 4 tells",
    "another anchor": "attestation 3 a is missing, of which entry 4 tells",
    "no checkpoint": "attestation 4 a belongs to no checkpoint",
    "not canonical": "attestation 3 a expected evidence as a canonical JSON object",
    "no JSON": "attestation 3 a expected evidence as a canonical JSON object",
}
_FIRST = "UPDATE attestations SET {} WHERE size = 3"
STATEMENTS = {
    "evidence": _FIRST.format("""evidence = CAST('{"stamp":2}' AS BLOB)"""),
    "time": _FIRST.format("updated = updated + 1"),
    "submission": _FIRST.format("submitted = submitted - 1"),
    "made final": "UPDATE attestations SET state = 'final' WHERE size = 8",
    "made pending": _FIRST.format("state = 'pending'"),
    "removed": "DELETE FROM attestations WHERE size = 3",
    "another anchor": _FIRST.format("anchor = 'b'"),
    "no checkpoint": _FIRST.format("size = 4"),
    "not canonical": _FIRST.format("""evidence = CAST('{ "stamp":1}' AS BLOB)"""),
    "no JSON": _FIRST.format("evidence = x'ff'"),
}


@pytest.mark.parametrize("what", STATEMENTS)
def test_what_was_changed_in_the_store_is_named(log: LogDirectory, what: str) -> None:
    _change(log, STATEMENTS[what])
    assert TAMPERED[what] in _said(check_log(log))


def test_a_row_that_was_put_back_to_an_earlier_state_is_named(
    log: LogDirectory,
) -> None:
    (row,) = log.store.attestations(3)
    pending = CAST.format("ticket")
    _change(
        log,
        _FIRST.format(
            f"state = 'pending', evidence = {pending}, updated = {row.submitted}"
        ),
    )
    assert TAMPERED["rolled back"] in _said(check_log(log))


CAST = """CAST('{{"{}":1}}' AS BLOB)"""


def test_a_row_of_which_no_entry_tells_yet_is_no_problem(log: LogDirectory) -> None:
    """As after a crash between the two writes; the next round completes it."""
    row = AttestationRow(8, "a", "ots", "final", FINAL, 0, now_us())
    (before,) = log.store.attestations(8)
    log.store.put_attestation(row._replace(submitted=before.submitted))
    report = check_log(log)
    assert report.problems == ()
    assert "1 x attestation of which no entry tells yet" in report.unchecked
    Ledger(log.store, log.origin).complete("a")
    _sign(log)
    report = check_log(log)
    assert report.problems == ()
    assert not any("no entry tells" in one for one in report.unchecked)


def test_only_the_newest_change_of_an_anchor_may_lack_its_entry(
    log: LogDirectory,
) -> None:
    for size in (8, 9):
        row = AttestationRow(size, "b", "ots", "final", FINAL, 7, now_us())
        log.store.put_attestation(row)
    assert "attestation 8 b is not as the entries about it say" in _said(check_log(log))


@pytest.mark.parametrize("last", ["kept", "pending"])
def test_what_an_anchor_was_told_is_held_to_its_entries_too(
    log: LogDirectory, last: str
) -> None:
    """It may be told again, after it was kept, but not without a word."""
    for state, evidence in (("pending", PENDING), ("kept", FINAL), (last, FINAL)):
        _keep(log, 3, state, evidence, "a+history")
    _sign(log)
    report = check_log(log)
    assert (report.problems, report.attestations) == ((), 3)
    assert len(report.unchecked) == 1, "it is no evidence of a time"
    other = {"kept": "pending", "pending": "kept"}[last]
    _change(
        log,
        f"UPDATE attestations SET state = '{other}' WHERE anchor = 'a+history'",
    )
    # By the last entry, or, where that is as old as the one before, by all of them.
    whose = r"(?:entry \d+ says|the entries about it say)"
    named = re.compile(rf"attestation 3 a\+history is not as {whose}")
    assert any(named.fullmatch(one) for one in _said(check_log(log)))


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "final, and nothing is stored": (
        {"anchor": "c", "state": "final", "evidence": bytes(32), "reason": None},
        "attestation 3 c is missing, of which entry {} tells",
    ),
    "pending, and nothing is stored": (
        {"anchor": "c", "state": "pending", "evidence": bytes(32), "reason": None},
        "attestation 3 c is missing, of which entry {} tells",
    ),
    "final, and other evidence is stored": (
        {"state": "final", "evidence": bytes(32), "reason": None},
        "attestation 3 a is not what entry {} says was final",
    ),
    "another digest": (
        {"digest": bytes(32)},
        "entry {} tells of another checkpoint of size 3",
    ),
    "no such checkpoint": (
        {"size": 4},
        "attestation 4 a entry {} tells of a checkpoint that is missing",
    ),
    "a checkpoint of later": (
        {"size": 400},
        "entry {} does not say what it must: tells of a checkpoint of 400 entries",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_entry_that_lies_is_named(log: LogDirectory, lie: str) -> None:
    fields, expected = LIES[lie]
    index = _say(log, **fields)
    assert expected.format(index) in _said(check_log(log))


def test_a_failed_attempt_needs_nothing_stored(log: LogDirectory) -> None:
    _say(log, anchor="c")
    assert check_log(log).problems == ()


def test_what_a_running_service_is_given_meanwhile_is_no_problem(
    log: LogDirectory,
) -> None:
    def service(done: int, of: int) -> None:
        if done == of:
            _keep(log, 8, "final", FINAL)
            log.store.append(gap_items(1))
            _keep(log, _sign(log), "pending", PENDING)

    assert check_log(log, progress=service).problems == ()
    assert check_log(log).problems == ()


def test_what_becomes_final_while_the_check_begins_is_no_problem(
    log: LogDirectory,
) -> None:
    check = _Check(log, lambda done, of: None, 90.0)
    _keep(log, 8, "final", FINAL)
    _sign(log)
    assert check.run().problems == ()


def test_an_entry_that_stands_twice_is_a_problem_not_a_fault(log: LogDirectory) -> None:
    with sqlite3.connect(log.paths.database) as db:
        db.execute(
            "INSERT INTO spool SELECT (SELECT max(first + count) FROM spool), count, "
            "entries FROM spool WHERE first = 4"
        )
    db.close()
    said = _said(check_log(log))
    assert any("has the id of an earlier entry" in one for one in said)


# --- the format -----------------------------------------------------------------------

GOOD = Word("a", "ots", 3, bytes(32), 1, "final", bytes(32))
FAILED = GOOD._replace(state="failed", evidence=None, reason="unreachable")
TOLD = GOOD._replace(anchor="a+history", state="kept")


def _data(word: Word) -> dict[str, Any]:
    return word.entry(new_id(1), "log.example/x", 1).data


@pytest.mark.parametrize(
    "word",
    [
        *(GOOD, FAILED, TOLD, TOLD._replace(state="pending")),
        *(FAILED._replace(reason=one) for one in REASONS),
    ],
)
def test_what_is_written_is_read(word: Word) -> None:
    entry = format_entry(word.entry(new_id(1), "log.example/x", 1))
    assert parse_word(parse_entry(entry).data) == word


HASH = format_base64(bytes(32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchor": "A"}, "another anchor"),
        ({"anchor": ""}, "another anchor"),
        ({"anchor": "a" * 65}, "another anchor"),
        ({"kind": "x y"}, "another kind"),
        ({"state": "done"}, "another state"),
        ({"state": "kept"}, "another state"),
        ({"anchor": "a+history"}, "another state"),
        ({"anchor": "a+other", "state": "pending"}, "another anchor"),
        ({"anchor": "+history", "state": "kept"}, "another anchor"),
        ({"anchor": "a+history+history", "state": "kept"}, "another anchor"),
        ({"reason": "unreachable"}, "another reason"),
        ({"state": "failed"}, "another reason"),
        ({"state": "failed", "reason": "HTTP 500: <html>"}, "another reason"),
        ({"state": "failed", "reason": "fault"}, "another evidence"),
        ({"evidence": "AA=="}, "expected a hash of 32 bytes"),
        ({"digest": "x"}, "expected canonical padded base64"),
        ({"size": 0}, "expected a size from 1"),
        ({"attempt": 0}, "expected an attempt from 1"),
        ({"attempt": True}, "expected int as attempt"),
        ({"more": 1}, "expected an anchor entry with the fields"),
    ],
)
def test_other_words_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(message)):
        parse_word(_data(GOOD) | changes)
    assert _data(GOOD)["digest"] == HASH
