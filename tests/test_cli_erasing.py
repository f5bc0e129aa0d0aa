"""`auditlog erase`, as an operator runs it.

In this process but for one, for each of its own takes half a second.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from auditlog.cli import main
from auditlog.core.record import format_id
from auditlog.log.directory import open_log
from tests.command import Done, environment
from tests.log.erasures import ADA, BOB, fill, give_record_key, made

Run = Callable[..., Done]


@pytest.fixture
def auditlog(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> Done:
        try:
            status = main([*map(str, arguments)])
        except SystemExit as stop:
            status = int(str(stop.code))
        return Done(status, *capsys.readouterr())

    return run


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with made(tmp_path / "audit") as log:
        fill(log)
    return tmp_path / "audit"


def test_without_yes_it_only_says_what_would_be_erased(
    directory: Path, auditlog: Run
) -> None:
    before = (directory / "log.sqlite3").read_bytes()
    done = auditlog("erase", "--dir", directory, "--subject", ADA)
    assert done.status == 0
    lines = [line.split("  ")[0].split("\t") for line in done.out.splitlines()]
    assert [one[0] for one in lines[:3]] == [
        *("decisions", "amendments", "access entries"),
    ]
    assert lines[-1][1:4] == ["Court of Appeal", "case 7", "disclosure"]
    assert "no backup is recorded" in done.out
    assert done.err == (
        "Nothing was changed. With --yes this content is erased for ever.\n"
    )
    assert (directory / "log.sqlite3").read_bytes() == before
    said = auditlog("erase", "--dir", directory, "--subject", ADA, "--json").document()
    assert said["dryRun"] is True
    assert [said[name] for name in ("decisions", "amendments", "accesses")] == [3, 1, 1]
    assert said["given"][0]["recipient"] == "Court of Appeal"
    assert said["backupsExpire"] is None
    assert ADA not in json.dumps(said)


def test_with_yes_it_is_erased_and_the_person_can_prove_it(
    directory: Path, tmp_path: Path, auditlog: Run
) -> None:
    receipt = tmp_path / "ada.receipt.json"
    options = ("--dir", directory, "--subject", ADA, "--json")
    more = ("--yes", "--reason", "a letter", "--receipt", receipt)
    done = auditlog("erase", *options, *more).document()
    assert (done["state"], done["records"]) == ("final", 5)
    assert receipt.stat().st_mode & 0o777 == 0o600
    verified = auditlog("verify", receipt, "--policy", directory / "policy")
    assert verified.status == 0
    assert f'context/subject = {{"id":"{ADA}","kind":"person"}}' in verified.out
    again = auditlog("erase", *options, "--yes")
    assert again.status == 11
    assert "nothing is held about this subject" in again.err
    assert ADA not in again.out + again.err
    [row] = auditlog("erase", "--dir", directory, "--list", "--json").document()[
        "erasures"
    ]
    assert (row["id"], row["state"], row["waitsFor"]) == (done["id"], "final", None)


def test_an_identifier_may_come_on_stdin(directory: Path) -> None:
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "auditlog",
        "erase",
        "--dir",
        directory,
    ]
    done = subprocess.run(
        [*command, "--subject", "-", "--json"],
        input=f"{BOB}\n",
        capture_output=True,
        text=True,
        env=environment(),
        cwd=Path(__file__).resolve().parent.parent,
        check=False,
    )
    assert json.loads(done.stdout)["decisions"] == 3


def test_a_receipt_never_takes_the_place_of_a_file(
    directory: Path, tmp_path: Path, auditlog: Run
) -> None:
    receipt = tmp_path / "there"
    receipt.write_text("mine")
    options = ("--dir", directory, "--subject", ADA, "--yes", "--receipt", receipt)
    done = auditlog("erase", *options)
    assert done.status == 1
    assert f"cannot write {receipt}" in done.err
    assert receipt.read_text() == "mine"
    assert auditlog("erase", "--dir", directory, "--subject", ADA).status == 0


def test_one_decision_goes_alone_only_under_a_key_of_its_own(
    directory: Path, auditlog: Run
) -> None:
    with open_log(directory) as log:
        rows = log.store.rows_under(log.keys.epoch_key("2026-11-27")[0])
        alone = format_id(rows[0].id)
        options = ("--dir", directory, "--decision", alone)
        refused = auditlog("erase", *options, "--yes")
        assert refused.status == 2
        assert "is sealed with that of others of its day" in refused.err
        give_record_key(log, rows[0].index or 0)
    done = auditlog("erase", *options, "--yes", "--json").document()
    assert done["records"] == 1
    assert auditlog("erase", *options).status == 11
    with open_log(directory) as log:
        ada = log.store.rows_under(log.keys.subject_key("person", ADA)[0])[0]
    refused = auditlog("erase", "--dir", directory, "--decision", format_id(ada.id))
    assert refused.status == 2
    assert "erase the subject" in refused.err


def test_a_copied_list_of_erased_keys_is_applied(
    directory: Path, tmp_path: Path, auditlog: Run
) -> None:
    listed = tmp_path / "erased"
    with open_log(directory) as log:
        key_id = log.keys.subject("person", ADA)
        epoch, _ = log.keys.epoch_key("2026-11-27")
    assert key_id is not None
    listed.write_text(f"{epoch.hex()}\n")
    refused = auditlog("erase", "--dir", directory, "--replay", listed)
    assert refused.status == 2
    assert "expected keys that can be erased alone" in refused.err
    listed.write_text("x\n")
    assert auditlog("erase", "--dir", directory, "--replay", listed).status == 16
    listed.write_text(f"{key_id.hex()}\n{'07' * 16}\n")
    done = auditlog("erase", "--dir", directory, "--replay", listed, "--json")
    assert done.document()["forgotten"] == 1
    assert auditlog("erase", "--dir", directory, "--subject", ADA).status == 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "one of the arguments --subject --decision --list --finish --replay"),
        (("--subject", "a", "--finish"), "not allowed with argument"),
        (("--subject", ""), "expected a subject of 1 to 1024 characters, got 0"),
        (("--decision", "x"), "--decision: expected"),
        (("--yes", "--receipt", "r", "--decision"), "expected one argument"),
    ],
)
def test_what_makes_no_sense_is_a_mistake_of_usage(
    directory: Path, auditlog: Run, options: tuple[str, ...], message: str
) -> None:
    done = auditlog("erase", "--dir", directory, *options)
    assert done.status == 2
    assert message in done.err
