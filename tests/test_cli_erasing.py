"""`auditlog erase`, as an operator runs it.

In this process but for one, for each of its own takes half a second.
"""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from auditlog.cli.erasure_receipt import keep
from auditlog.cli.who import login
from auditlog.core.errors import AuditLogError
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    Signer,
    make_signer,
    split_unverified_note,
)
from auditlog.core.receipt import Disclosure
from auditlog.core.record import format_id
from auditlog.log.directory import open_log
from auditlog.log.erasing import erase, plan_erasure
from auditlog.log.identity import new_id
from auditlog.log.reader import Reader
from auditlog.storage import Cosignature
from tests.command import called, environment
from tests.harness import read_log
from tests.log.builders import now_us
from tests.log.erasures import ADA, BOB, fill, give_record_key, made


def entries(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(one) for one in read_log(directory).entries]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with made(tmp_path / "audit") as log:
        fill(log)
    return tmp_path / "audit"


def test_without_yes_it_only_says_what_would_be_erased(directory: Path) -> None:
    before = entries(directory)
    done = called("erase", "--dir", directory, "--subject", ADA)
    assert done.status == 0
    lines = [line.split("  ")[0].split("\t") for line in done.out.splitlines()]
    assert [one[0] for one in lines[:3]] == [
        *("decisions", "amendments", "access entries"),
    ]
    assert lines[-1][1:4] == ["Court of Appeal", "case 7", "disclosure"]
    assert "no backup is recorded" in done.out
    assert done.err == (
        "Nothing was erased. With --yes this content is erased for ever.\n"
        "auditlog: warning: that it was looked for what is held is now in the log\n"
    )
    (look,) = entries(directory)[len(before) :]
    assert (look["type"], look["data"]["what"]) == ("auditlog.access.v1", "search")
    assert ADA not in json.dumps(look)
    said = called("erase", "--dir", directory, "--subject", ADA, "--json").document()
    assert said["dryRun"] is True
    assert [said[name] for name in ("decisions", "amendments", "accesses")] == [3, 1, 2]
    assert said["given"][0]["recipient"] == "Court of Appeal"
    assert said["backupsExpire"] is None
    assert ADA not in json.dumps(said)


def test_with_yes_it_is_erased_and_the_person_can_prove_it(
    directory: Path, tmp_path: Path
) -> None:
    receipt = tmp_path / "ada.receipt.json"
    options = ("--dir", directory, "--subject", ADA, "--json")
    more = ("--yes", "--reason", "a letter", "--receipt", receipt)
    done = called("erase", *options, *more).document()
    assert (done["state"], done["records"]) == ("final", 5)
    assert receipt.stat().st_mode & 0o777 == 0o600
    verified = called("verify", receipt, "--policy", directory / "policy")
    assert verified.status == 0
    assert f'context/subject = {{"id":"{ADA}","kind":"person"}}' in verified.out
    with open_log(directory, read_only=True) as log:
        context = Reader(log).content(done["id"]).context
    assert json.loads(context["user"]) == login()
    assert json.loads(context["reason"]) == {"text": "a letter"}
    again = called("erase", *options, "--yes")
    assert again.status == 11
    assert "nothing is held about this subject" in again.err
    assert ADA not in again.out + again.err
    [row] = called("erase", "--dir", directory, "--list", "--json").document()[
        "erasures"
    ]
    assert (row["id"], row["state"], row["waitsFor"]) == (done["id"], "final", None)


def _ask_a_witness(directory: Path) -> Signer:
    """Have the log's policy ask for a witness; return who it is."""
    witness = make_signer("w.example/w", COSIGNATURE_ED25519, b"w" * 32)
    with open_log(directory) as log:
        lines = [f"log {key}" for key in log.vkeys]
        lines += [f"witness w {witness.verifier.vkey} http://127.0.0.1:9/", "quorum w"]
        log.policy_path.write_text("\n".join(lines) + "\n")
    return witness


def test_a_receipt_waits_for_the_witnesses_that_the_policy_asks_for(
    directory: Path, tmp_path: Path
) -> None:
    witness, receipt = _ask_a_witness(directory), tmp_path / "ada.receipt.json"
    options = ("--dir", directory, "--subject", ADA, "--receipt", receipt)
    done = called("erase", *options, "--yes")
    assert done.status == 12
    assert "is none yet: the entry is included" in done.err
    assert ADA not in done.out + done.err
    assert receipt.stat().st_mode & 0o777 == 0o600
    finish = ("erase", "--dir", directory, "--finish", "--receipt", receipt)
    assert called(*finish).status == 12
    with open_log(directory) as log:
        newest = log.store.newest()
        assert newest is not None
        size, note = newest
        line = witness.sign(split_unverified_note(note)[0], now_us() // 1_000_000)
        cosigned = Cosignature(size, witness.verifier.key, now_us(), line)
        log.store.add_cosignatures([cosigned])
    assert called(*finish).status == 0
    verified = called("verify", receipt, "--policy", directory / "policy")
    assert verified.status == 0, verified
    assert f'context/subject = {{"id":"{ADA}","kind":"person"}}' in verified.out
    assert called(*finish).status == 16


def test_what_opens_the_receipt_is_there_before_anything_is_erased(
    directory: Path, tmp_path: Path
) -> None:
    """Whatever becomes of the process, the receipt can be made."""
    receipt = tmp_path / "ada.receipt.json"
    with open_log(directory) as log:
        log.claim()
        plan = plan_erasure(log, "person", ADA, now_us())

        def fail(*_: object) -> None:
            raise AuditLogError("the disk is full")

        with pytest.raises(AuditLogError, match="the disk is full"):
            erase(log, plan, now=now_us(), keep=fail)
        assert log.store.erasures() == []
        keep(receipt, format_id(new_id(now_us())), Disclosure(3, "", b"", b""))
    finish = ("erase", "--dir", directory, "--finish", "--receipt", receipt)
    assert "was never begun: remove the file, and erase again" in called(*finish).err
    with open_log(directory) as log:
        erase(log, plan, now=now_us(), keep=partial(keep, receipt))
        # Here the process dies.
    assert ADA not in receipt.read_text()
    done = called(*finish)
    assert done.status == 0, done.err
    verified = called("verify", receipt, "--policy", directory / "policy")
    assert verified.status == 0
    assert f'context/subject = {{"id":"{ADA}","kind":"person"}}' in verified.out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected JSON"),
        ("{}", "expected what opens an erasure with the fields"),
        ('{"schema":"x","erasure":"x","disclosure":{}}', "expected the schema"),
    ],
)
def test_a_file_that_opens_no_erasure_is_left_as_it_is(
    directory: Path, tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    done = called("erase", "--dir", directory, "--finish", "--receipt", file)
    assert done.status == 16
    assert message in done.err
    assert file.read_text() == text


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
        input=f"{BOB}\r\n",
        capture_output=True,
        text=True,
        env=environment(),
        cwd=Path(__file__).resolve().parent.parent,
        check=False,
    )
    assert json.loads(done.stdout)["decisions"] == 3


def test_a_receipt_never_takes_the_place_of_a_file(
    directory: Path, tmp_path: Path
) -> None:
    receipt = tmp_path / "there"
    receipt.write_text("mine")
    options = ("--dir", directory, "--subject", ADA, "--yes", "--receipt", receipt)
    done = called("erase", *options)
    assert done.status == 2
    assert f"--receipt: expected a new file, {receipt} is there" in done.err
    assert receipt.read_text() == "mine"
    nowhere = (*options[:-1], tmp_path / "none" / "there")
    assert "cannot write" in called("erase", *nowhere).err
    assert called("erase", "--dir", directory, "--subject", ADA).status == 0


def test_one_decision_goes_alone_only_under_a_key_of_its_own(directory: Path) -> None:
    with open_log(directory) as log:
        rows = log.store.rows_under(log.keys.epoch_key("2026-11-27")[0])
        alone = format_id(rows[0].id)
        options = ("--dir", directory, "--decision", alone)
        refused = called("erase", *options, "--yes")
        assert refused.status == 2
        assert "is sealed with that of others of its day" in refused.err
        give_record_key(log, rows[0].index or 0)
    done = called("erase", *options, "--yes", "--json").document()
    assert (done["records"], done["state"]) == (1, "final")
    assert called("erase", *options).status == 11
    with open_log(directory) as log:
        ada = log.store.rows_under(log.keys.subject_key("person", ADA)[0])[0]
    refused = called("erase", "--dir", directory, "--decision", format_id(ada.id))
    assert refused.status == 2
    assert "erase the subject" in refused.err


def test_a_copied_list_of_erased_keys_is_applied(
    directory: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "erased"
    with open_log(directory) as log:
        key_id = log.keys.subject("person", ADA)
        epoch, _ = log.keys.epoch_key("2026-11-27")
    assert key_id is not None
    listed.write_text(f"{epoch.hex()}\n")
    refused = called("erase", "--dir", directory, "--replay", listed)
    assert refused.status == 2
    assert "expected keys that can be erased alone" in refused.err
    listed.write_text("x\n")
    assert called("erase", "--dir", directory, "--replay", listed).status == 16
    listed.write_text(f"{key_id.hex()}\n{'07' * 16}\n")
    done = called("erase", "--dir", directory, "--replay", listed, "--json")
    assert done.document()["forgotten"] == 1
    assert called("erase", "--dir", directory, "--subject", ADA).status == 11


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
    directory: Path, options: tuple[str, ...], message: str
) -> None:
    done = called("erase", "--dir", directory, *options)
    assert done.status == 2
    assert message in done.err
