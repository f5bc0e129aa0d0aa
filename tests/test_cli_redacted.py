"""What `auditlog show` says of what was redacted, withheld or erased."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.command import auditlog
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
    done = auditlog("show", log[1], "--content", "--dir", log[0])
    assert done.status == 0
    copied = ", a copy: something was redacted when it was recorded\n"
    assert f'--- request{copied}{{"age": 41, "name": "[redacted]"}}\n' in done.out
    withheld = "--- response, withheld when it was recorded: nothing of it was stored\n"
    assert withheld in done.out
    assert f"--- context/stored.target{copied}/score?[redacted]=en\n" in done.out
    assert "Ada" not in done.out


def test_what_was_redacted_cannot_be_disclosed(log: tuple[Path, str]) -> None:
    done = auditlog(*("receipt", log[1], "--disclose", "request/name", "--dir", log[0]))
    assert done.status == 11
    assert "'request/name' was redacted when it was recorded" in done.err


def test_erased_content_is_said_to_be(tmp_path: Path) -> None:
    (id_,) = fill_log(tmp_path / "audit", 1)
    (path,) = (tmp_path / "audit").glob("*.sqlite3")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE vault SET key_id = zeroblob(16), sealed = x''")
    shown = auditlog("show", id_, "--dir", tmp_path / "audit")
    facts = dict(line.split(None, 1) for line in shown.out.splitlines())
    assert facts["content"] == "erased: nothing can open it"
    machine = auditlog("show", id_, "--json", "--dir", tmp_path / "audit")
    assert machine.document()["vault"] == "erased"
    done = auditlog("show", id_, "--content", "--dir", tmp_path / "audit")
    assert done.status == 11
    assert f"the content of {id_} was erased: nothing can open it" in done.err
