"""What the command line says when it cannot: message, status, JSON, silence."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from auditlog.cli import main
from auditlog.cli.output import printable
from auditlog.core.errors import AuditLogError
from tests.command import auditlog, environment
from tests.filled import ORIGIN, fill_log

UNKNOWN = "01995e6c-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("log") / "audit"
    fill_log(directory, 1)
    return directory


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: VERB"),
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["find", "--modle", "x"], "unrecognized arguments: --modle x"),
        (["find", "--lim", "3"], "unrecognized arguments: --lim 3"),
        (["find", "--limit", "0"], "expected a whole number from 1 to 10000, got '0'"),
        (["find", "--limit", "²"], "expected a whole number from 1 to 10000, got '²'"),
        (["serve", "--port", "65536"], "expected a whole number from 0 to 65535"),
        (["show"], "the following arguments are required: ID"),
        (["receipt", UNKNOWN, "--wait", "final"], "invalid choice: 'final'"),
        (["token"], "the following arguments are required: VERB"),
        (["token", "create"], "the following arguments are required: --role"),
        (["token", "create", "--role", "admin"], "invalid choice: 'admin'"),
        (["witness", "init", "--name", "w"], "arguments are required: --dir"),
        (["witness", "serve", "--dir", "w", "--spec", "2"], "invalid choice: '2'"),
        (["witness", "serve", "--dir", "w", "--qpd", "0"], "expected a whole number"),
    ],
)
@pytest.mark.parametrize("machine", [False, True])
def test_usage(
    arguments: list[str],
    message: str,
    machine: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([*arguments, "--json"] if machine else arguments)
    shown = capsys.readouterr()
    assert leaving.value.code == 2
    assert shown.err.startswith("usage: auditlog")
    assert message in shown.err
    if machine:
        document = json.loads(shown.out)
        assert (document["ok"], document["exit_code"]) == (False, 2)
        assert message in document["error"]
    else:
        assert shown.out == ""


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["find", "--from", "soon"], 2, "--from: expected a date or time"),
        (["find", "--to", "1969-12-31"], 2, "--to: expected a date or time since 1970"),
        (["find", "--cursor", "-1"], 2, "--cursor: expected a whole number"),
        (["show", "x"], 2, "ID: expected a UUIDv7"),
        (["receipt", UNKNOWN.upper()], 2, "ID: expected a UUIDv7"),
        (["show", UNKNOWN], 11, f"no decision {UNKNOWN} in log {ORIGIN}"),
        (["show", UNKNOWN, "--content"], 11, f"no decision {UNKNOWN}"),
        (["receipt", UNKNOWN, "--wait", "included"], 11, f"no decision {UNKNOWN}"),
        (["disclose", "x", "--all", "--recipient", "r"], 2, "ID: expected a UUIDv7"),
        (
            ["disclose", UNKNOWN, "--all", "--recipient", ""],
            2,
            "expected a recipient of 1 to 256 characters, got 0",
        ),
        (
            ["disclose", UNKNOWN, "--all", "--recipient", "r", "--purpose", "\x1b"],
            2,
            "expected a purpose in printable characters",
        ),
        (
            ["disclose", UNKNOWN, "--all", "--recipient", "r"],
            11,
            f"no decision {UNKNOWN} in log {ORIGIN}",
        ),
        (
            ["token", "create", "--role", "auditor", "--expires", "soon"],
            2,
            "--expires: expected a time such as 30d",
        ),
        (
            ["token", "create", "--role", "auditor", "--route", "*****"],
            2,
            "--route: expected a route as 1 to 256 printable",
        ),
        (
            ["token", "create", "--role", "auditor", "--decision", "x"],
            2,
            "--decision: expected a UUIDv7",
        ),
        (
            ["token", "create", "--role", "auditor", "--since", "soon"],
            2,
            "--since: expected a date or time",
        ),
        (
            [
                *("token", "create", "--role", "auditor"),
                *("--since", "2026-02-01", "--until", "2026-01-01"),
            ],
            2,
            "--until: expected a scope that begins before it ends",
        ),
        (["token", "revoke", "abc"], 2, "ID: name a token by its id"),
        (["token", "revoke", "0" * 12], 11, "no such token"),
        (
            ["token", "create", "--role", "auditor", "--label", "\x1b"],
            2,
            "--label: a label is",
        ),
        (["init"], 2, "already holds a log"),
    ],
)
def test_refusals(
    log: Path,
    arguments: list[str],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments, "--dir", str(log)]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("auditlog: error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert main([*arguments, "--dir", str(log), "--json"]) == status
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["exit_code"]) == (False, status)
    assert f"auditlog: error: {document['error']}\n" == shown.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["find"],
        ["show", UNKNOWN],
        ["receipt", UNKNOWN],
        ["disclose", UNKNOWN, "--all", "--recipient", "r"],
        ["check"],
        ["checkpoint"],
        ["key", "list"],
        ["key", "vkey"],
        ["token", "list"],
        ["serve"],
    ],
)
def test_without_a_log_each_verb_says_how_to_make_one(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--dir", str(tmp_path / "none")]) == 11
    message = f"no log in {tmp_path / 'none'}: create one with `auditlog init`"
    assert capsys.readouterr().err == f"auditlog: error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_log_without_its_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_log(tmp_path / "a", 0)
    (tmp_path / "a" / "keys" / "log.key").unlink()
    assert main(["find", "--dir", str(tmp_path / "a")]) == 2
    assert "keys/log.key missing; restore it from your backup" in (
        capsys.readouterr().err
    )


def test_an_empty_log_has_nothing_to_sign(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--dir", str(tmp_path / "a")]) == 0
    capsys.readouterr()
    assert main(["checkpoint", "--dir", str(tmp_path / "a")]) != 0
    assert "the log is empty" in capsys.readouterr().err


def test_damaged_content_is_never_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    id_ = fill_log(tmp_path / "a", 1)[0]
    with sqlite3.connect(tmp_path / "a" / "log.sqlite3") as database:
        database.execute("UPDATE vault SET sealed = zeroblob(length(sealed))")
    database.close()
    disclose = ["disclose", id_, "--field", "request", "--recipient", "a court"]
    for more in (["show", id_, "--content"], disclose):
        assert main([*more, "--dir", str(tmp_path / "a")]) in {10, 16}
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("auditlog: error: ")
        assert "warning" not in shown.err


def test_a_receipt_that_cannot_be_written(
    log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["find", "--dir", str(log)]) == 0
    id_ = capsys.readouterr().out.split("\t")[1]
    target = tmp_path / "no" / "r.json"
    assert main(["receipt", id_, "--dir", str(log), "-o", str(target)]) == 1
    message = f"cannot write {target}: No such file or directory"
    assert capsys.readouterr().err == f"auditlog: error: {message}\n"
    assert main(["receipt", id_, "--dir", str(log), "-o", str(tmp_path)]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_in_the_environment(log: Path) -> None:
    env = {"AUDITLOG_DIR": str(log), "AUDITLOG_ORIGN": "x"}
    done = auditlog("find", env=env)
    assert done.status == 2
    assert "AUDITLOG_ORIGN is not known; did you mean 'origin'?" in done.err


def test_verify_has_the_same_manners(log: Path, tmp_path: Path) -> None:
    missing = auditlog("verify", tmp_path / "r.json", "--policy", log / "policy")
    assert missing.status == 1
    assert "NOT CHECKED" in missing.out
    assert auditlog("verify").status == 2


@pytest.mark.parametrize("more", [[], ["--traceback"]])
def test_a_defect_of_ours_is_one_line_unless_asked(
    log: Path,
    more: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("what nobody foresaw")

    monkeypatch.setattr("auditlog.cli.reading.find", fail)
    assert main(["find", "--dir", str(log), *more]) == 1
    shown = capsys.readouterr().err
    line = "auditlog: internal error: RuntimeError: what nobody foresaw\n"
    assert shown.endswith(line)
    assert ("Traceback" in shown) == bool(more)


def test_traceback_of_an_expected_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["find", "--dir", str(tmp_path), "--traceback"]) == 11
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_ends_with_130(log: Path) -> None:
    id_ = auditlog("find", "--dir", log).out.split("\t")[1]
    command = ["receipt", id_, "--dir", str(log), "--wait", "witnessed"]
    with subprocess.Popen(
        [sys.executable, "-m", "auditlog", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize("verb", [["find"], ["find", "--json"], ["key", "vkey"]])
def test_a_reader_that_leaves_is_no_error(log: Path, verb: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody_reads:
        done = subprocess.run(
            [sys.executable, "-m", "auditlog", *verb, "--dir", str(log)],
            stdout=nobody_reads,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


def test_a_terminal_that_knows_no_unicode(tmp_path: Path) -> None:
    id_ = fill_log(tmp_path / "a", 1, request="größer".encode())[0]
    command = ("show", id_, "--content", "--dir", tmp_path / "a")
    done = auditlog(*command, env={"PYTHONIOENCODING": "ascii"})
    assert done.status == 0
    assert "gr\\xf6\\xdfer" in done.out


def test_verify_loads_the_core_and_nothing_else() -> None:
    program = (
        "import sys; from auditlog.cli import main; main(['verify', '--help'])\n"
        "print(sorted(m for m in sys.modules if m.startswith('auditlog')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = done.stdout.splitlines()[-1]
    ours = {name.strip("'[] ") for name in loaded.split(",")}
    allowed = {"auditlog", "auditlog.cli", "auditlog.core"}
    allowed |= {
        f"auditlog.verifier{part}" for part in ("", "_compare", "_opened", "_output")
    }
    assert {name for name in ours if not name.startswith("auditlog.core.")} <= allowed


def test_printable_escapes_what_steers_a_terminal() -> None:
    assert printable("a\x1b[31m\r\x00\x9b\u202eb\n\tc") == (
        "a\\x1b[31m\\r\\x00\\x9b\\u202eb\n\tc"
    )


def test_every_error_has_an_exit_status_of_the_design() -> None:
    def family(kind: type[AuditLogError]) -> list[type[AuditLogError]]:
        below = [one for child in kind.__subclasses__() for one in family(child)]
        return [kind, *below]

    assert {kind.exit_code for kind in family(AuditLogError)} <= {1, 2, *range(10, 17)}
