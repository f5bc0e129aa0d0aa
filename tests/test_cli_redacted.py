"""What `auditlog show` says of what was redacted, withheld or erased."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from auditlog.core.receipt import parse_receipt
from tests.command import called
from tests.filled import fill_log
from tests.log.redactions import WordRedaction


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    directory = tmp_path_factory.mktemp("redacted") / "audit"
    redaction = WordRedaction(b"Ada", b"lang", withhold=["response"])
    return directory, fill_log(directory, 1, redaction=redaction)[0]


def test_copies_are_named_as_such_and_what_was_withheld_is_said_to_be(
    log: tuple[Path, str],
) -> None:
    done = called("show", log[1], "--content", "--dir", log[0])
    assert done.status == 0
    copied = ", a copy: something was redacted when it was recorded\n"
    assert f'--- request{copied}{{"age": 41, "name": "[redacted]"}}\n' in done.out
    withheld = "--- response, withheld when it was recorded: nothing of it was stored\n"
    assert withheld in done.out
    assert f"--- context/stored.target{copied}/score?[redacted]=en\n" in done.out
    assert "Ada" not in done.out


def test_what_was_redacted_cannot_be_disclosed(log: tuple[Path, str]) -> None:
    told = ("--field", "request/name", "--recipient", "a court", "--dir", log[0])
    done = called("disclose", log[1], *told)
    assert done.status == 11
    assert "'request/name' was redacted when it was recorded" in done.err


def test_all_that_is_kept_is_disclosed_without_a_secret(log: tuple[Path, str]) -> None:
    file = log[0].parent / "all.receipt.json"
    told = ("--all", "--recipient", "a court", "-o", file, "--dir", log[0])
    done = called("disclose", log[1], *told)
    assert done.status == 0
    assert "It holds the secret" not in done.err
    assert re.search(
        "Of [2-9] parts, in which something was redacted, only hashes are kept: nobody "
        "can open them, or confirm a guess.",
        done.err,
    )
    receipt = parse_receipt(file.read_bytes())
    assert receipt.secret is None
    assert "request/age" in [one.path for one in receipt.disclosures]
    assert b"Ada" not in b"".join(one.value for one in receipt.disclosures)
    verified = called("verify", file, "--policy", log[0] / "policy")
    assert verified.status == 0


def test_erased_content_is_said_to_be(tmp_path: Path) -> None:
    (id_,) = fill_log(tmp_path / "audit", 1)
    (path,) = (tmp_path / "audit").glob("*.sqlite3")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE vault SET key_id = zeroblob(16), sealed = x''")
    shown = called("show", id_, "--dir", tmp_path / "audit")
    facts = dict(line.split(None, 1) for line in shown.out.splitlines())
    assert facts["content"] == "erased: nothing can open it"
    machine = called("show", id_, "--json", "--dir", tmp_path / "audit")
    assert machine.document()["vault"] == "erased"
    done = called("show", id_, "--content", "--dir", tmp_path / "audit")
    assert done.status == 11
    assert f"the content of {id_} was erased: nothing can open it" in done.err
