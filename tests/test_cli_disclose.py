"""`auditlog disclose`: some parts for somebody, and the log says to whom."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from auditlog.cli.who import login
from auditlog.core.errors import NotFoundError
from auditlog.core.merkle import leaf_hash
from auditlog.core.receipt import parse_receipt
from auditlog.core.record import format_id, parse_id
from auditlog.log.access import Access, record_access, record_person_access
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.reader import Reader
from auditlog.storage import Query
from auditlog.storage.keys import SUBJECT
from auditlog.storage.sealing import seal, unseal
from tests.command import Done, called
from tests.filled import fill_log
from tests.harness import read_log


@pytest.fixture
def log(tmp_path: Path) -> Path:
    fill_log(tmp_path / "audit", 1)
    return tmp_path / "audit"


def the_id(log: Path) -> str:
    (decision,) = read_log(log).decisions
    return str(decision["id"])


def disclosed(log: Path, *more: object) -> Done:
    done = called("disclose", the_id(log), "--dir", log, *more)
    assert done.status == 0, done
    return done


def last_access(log: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the newest access entry says in clear, and what is sealed."""
    entry = json.loads(read_log(log).entries[-1])
    assert entry["type"] == "auditlog.access.v1"
    with open_log(log, read_only=True) as opened:
        context = Reader(opened).content(entry["id"]).context
    return entry, {name: json.loads(value) for name, value in context.items()}


def test_it_says_exactly_what_is_shown_and_what_is_not(log: Path) -> None:
    fields = ("--field", "response/decision", "--field", "request/age")
    file = log.parent / "court.receipt.json"
    to = ("--recipient", "Court of Ghent", "--purpose", "case 7")
    done = disclosed(log, *fields, *to, "-o", file)
    entry, sealed = last_access(log)
    assert done.out == ""
    assert done.err == (
        "It shows to Court of Ghent 2 of 7 parts:\n"
        "    request/age\n"
        "    response/decision\n"
        "It does not show:\n"
        "    request\n"
        "    response\n"
        "    request/name\n"
        "    response/score\n"
        "    context/target\n"
        "Whoever has it also learns how many parts there are, and the size of both "
        f"bodies. That it was handed out is in the log, as {entry['id']}.\n"
    )
    assert sealed == {
        "paths": ["request/age", "response/decision"],
        "recipient": {"name": "Court of Ghent", "purpose": "case 7"},
        "user": login(),
    }
    in_clear = json.dumps(entry)
    assert "Ghent" not in in_clear
    assert "request/age" not in in_clear
    verified = called("verify", file, "--policy", log / "policy")
    assert "request/age = 41" in verified.out
    assert "anything about the 5 undisclosed leaves" in verified.out
    assert file.stat().st_mode & 0o777 == 0o600


def test_all_is_a_full_opening_and_the_log_says_that_the_secret_was_given(
    log: Path,
) -> None:
    done = disclosed(log, "--all", "--recipient", "Ada herself")
    receipt = parse_receipt(done.out.encode())
    assert receipt.secret is not None
    assert "It shows to Ada herself 7 of 7 parts:" in done.err
    assert "It holds the secret: a guess at anything else can be confirmed." in done.err
    assert "does not show" not in done.err
    paths = [one.path for one in receipt.disclosures]
    assert last_access(log)[1]["paths"] == [*paths, "secret"]


def test_as_json(log: Path) -> None:
    file = log.parent / "r.json"
    told = ("--field", "request", "--recipient", "r", "-o", file, "--json")
    document = disclosed(log, *told).document()
    assert document.pop("access") == last_access(log)[0]["id"]
    assert document.pop("hidden")[:2] == ["response", "request/age"]
    assert document == {
        "ok": True,
        "id": the_id(log),
        "file": str(file),
        "recipient": "r",
        "shown": ["request"],
        "lost": [],
        "nameless": 0,
        "secret": False,
    }


def test_what_is_kept_in_part_is_said_to_be_lost(tmp_path: Path) -> None:
    large = b'{"text": "' + b"x" * (1 << 20) + b'"}'
    fill_log(tmp_path / "audit", 1, request=large)
    log = tmp_path / "audit"
    done = disclosed(log, "--all", "--recipient", "r")
    assert "Nobody can open any more what is not kept whole:\n    request\n" in done.err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--field", "request"], "the following arguments are required: --recipient"),
        (["--recipient", "r"], "one of the arguments --field --all is required"),
        (["--recipient", "r", "--all", "--field", "request"], "not allowed with"),
    ],
)
def test_a_recipient_and_what_is_opened_must_be_said(
    log: Path, more: list[str], message: str
) -> None:
    before = read_log(log).entries
    done = called("disclose", the_id(log), "--dir", log, *more)
    assert (done.status, done.out) == (2, "")
    assert message in done.err
    assert read_log(log).entries == before


def test_what_was_not_captured_is_not_found_and_not_logged(log: Path) -> None:
    before = read_log(log).entries
    told = ("--field", "request", "--field", "request/iban", "--recipient", "r")
    done = called("disclose", the_id(log), "--dir", log, *told)
    assert (done.status, done.out) == (11, "")
    assert "nothing was captured at 'request/iban'" in done.err
    assert read_log(log).entries == before


def test_receipts_disclose_nothing_any_more(log: Path) -> None:
    done = called("receipt", the_id(log), "--dir", log, "--disclose", "request")
    assert done.status == 2
    assert "unrecognized arguments: --disclose" in done.err


def test_the_host_says_who_reads_not_the_environment() -> None:
    assert set(login()) <= {"login", "as"}
    program = "from auditlog.cli.who import login; print(login())"
    told = [sys.executable, "-c", program]
    env = {
        **os.environ,
        "USER": "mallory",
        "LOGNAME": "mallory",
        "SUDO_USER": "mallory",
    }
    done = subprocess.run(told, capture_output=True, text=True, env=env, check=True)
    assert "mallory" not in done.stdout
    assert done.stdout.strip() == str(login())


# --- under whose key ------------------------------------------------------------------

READ = Access("content", "cli", {"login": "ada"}, ["request"])


def _key_of(log: LogDirectory, id_: str) -> bytes:
    row = log.store.by_id(parse_id(id_))
    assert row is not None
    assert row.index is not None
    sealed = log.store.sealed(row.index)
    assert sealed is not None
    return sealed[0]


def _sealed_for(log: LogDirectory, id_: str) -> bytes:
    """Seal content of a decision under a subject's key, as the recorder does."""
    row = log.store.by_id(parse_id(id_))
    assert row is not None
    assert row.index is not None
    entry = Reader(log).entry_at(row.index)
    stored = log.store.sealed(row.index)
    assert stored is not None
    plain = unseal(log.keys.key(stored[0]), stored[0], leaf_hash(entry), stored[1])
    key_id, key = log.keys.subject_key("person", "ada")
    sealed = seal(key, key_id, leaf_hash(entry), bytes(32), plain)
    with log.store._database.writing() as connection:
        connection.execute(
            "UPDATE vault SET key_id = ?, sealed = ? WHERE idx = ?",
            (key_id, sealed, row.index),
        )
    return key_id


def test_a_reading_is_sealed_under_the_key_of_whom_it_is_about(log: Path) -> None:
    id_ = the_id(log)
    with open_log(log) as opened:
        epoch = record_access(opened, id_, READ, now=1_800_000_000)
        assert opened.keys.kind(_key_of(opened, epoch)) == "epoch"
        key_id = _sealed_for(opened, id_)
        about = record_access(opened, id_, READ, now=1_800_000_000)
        assert _key_of(opened, about) == key_id
        assert opened.keys.kind(key_id) == SUBJECT
        searched = record_person_access(
            opened, key_id, READ._replace(what="search"), now=1_800_000_000
        )
        assert _key_of(opened, searched) == key_id
        row = opened.store.by_id(parse_id(searched))
        assert row is not None
        assert row.about is None
        entry = json.loads(Reader(opened).decision(searched).entry or b"")
        assert set(entry["data"]) == {
            *("channel", "commitment", "request", "response", "what")
        }


def test_what_was_erased_since_it_was_opened_is_not_handed_out(log: Path) -> None:
    id_ = the_id(log)
    with open_log(log) as opened:
        key_id = _sealed_for(opened, id_)
        Reader(opened).content(id_)
        with opened.store._database.writing() as connection:
            connection.execute("DELETE FROM keys WHERE key_id = ?", [key_id])
        before = opened.store.size()
        with pytest.raises(NotFoundError, match=f"the content of {id_} was erased"):
            record_access(opened, id_, READ, now=1_800_000_000)
        assert opened.store.size() == before


def test_check_opens_what_is_sealed_of_a_reading(log: Path) -> None:
    id_ = the_id(log)
    with open_log(log) as opened:
        access = record_access(opened, id_, READ, now=1_800_000_000)
        row = opened.store.by_id(parse_id(access))
        assert row is not None
        assert (row.about, format_id(row.id)) == (parse_id(id_), access)
        assert opened.store.find(Query(type=row.type, about=row.about)) == [row]
        assert check_log(opened).problems == ()
        with opened.store._database.writing() as connection:
            connection.execute(
                "UPDATE vault SET sealed = zeroblob(length(sealed)) WHERE idx = ?",
                [row.index],
            )
        (problem,) = check_log(opened).problems
        assert problem.where == f"vault row {row.index}"
