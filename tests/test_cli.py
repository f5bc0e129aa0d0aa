"""Every verb as a process against a real log: what it prints, where, and its status."""

import base64
import json
import os
import pty
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from auditlog import __version__
from auditlog.cli.who import login
from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.errors import NotFoundError
from auditlog.core.note import open_note, parse_vkey
from auditlog.log.directory import open_log
from auditlog.log.leader import make_checkpoint
from auditlog.log.reader import Reader
from auditlog.log.tokens import grant_of
from tests.command import Done, auditlog, environment
from tests.filled import ORIGIN, fill_log, record_unsigned
from tests.harness import check_whole_log, read_log

UNKNOWN = "01995e6c-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of six decisions that no test adds a decision to."""
    directory = tmp_path_factory.mktemp("log") / "audit"
    fill_log(directory)
    return directory


def ids(directory: Path) -> list[str]:
    return [str(one["id"]) for one in read_log(directory).decisions]


def accesses(directory: Path) -> list[dict[str, Any]]:
    """Return what each access entry says in clear, and what is sealed of it."""
    events = [json.loads(entry) for entry in read_log(directory).entries]
    found = [one for one in events if one["type"] == "auditlog.access.v1"]
    with open_log(directory, read_only=True) as log:
        contexts = [Reader(log).content(one["id"]).context for one in found]
    names = ("channel", "decision", "what")
    return [
        {name: one["data"][name] for name in names}
        | {name: json.loads(value) for name, value in context.items()}
        for one, context in zip(found, contexts, strict=True)
    ]


def clean(done: Done) -> Done:
    """Assert that a command succeeded and had nothing to say."""
    assert (done.status, done.err) == (0, ""), done
    return done


# --- init -----------------------------------------------------------------------------


def test_init_prints_the_keys_and_says_what_is_next(tmp_path: Path) -> None:
    done = auditlog("init", "--origin", ORIGIN, "--dir", tmp_path / "a")
    assert done.status == 0
    vkeys = done.out.splitlines()
    assert [parse_vkey(vkey).name for vkey in vkeys] == [ORIGIN, ORIGIN]
    assert vkeys == (tmp_path / "a" / "vkeys").read_text().splitlines()
    assert "app.add_middleware(auditlog.AuditMiddleware)" in done.err
    assert "vllm serve MODEL --middleware auditlog.AuditMiddleware" in done.err
    assert f"AUDITLOG_DIR={tmp_path / 'a'}" in done.err
    assert "warning" not in done.err


def test_init_without_a_name_warns_that_it_is_for_ever(tmp_path: Path) -> None:
    done = auditlog("init", "--json", cwd=tmp_path)
    document = done.document()
    assert re.fullmatch(r"auditlog\.invalid/[0-9a-f]{16}", document["origin"])
    assert (document["ok"], document["dir"]) == (True, "audit")
    assert len(document["vkeys"]) == 2
    assert "a log keeps its name for ever" in done.err
    assert (tmp_path / "audit" / "log.sqlite3").exists()


def test_options_have_twins_in_the_environment(tmp_path: Path) -> None:
    twins = {"AUDITLOG_DIR": str(tmp_path / "b"), "AUDITLOG_ORIGIN": "bank.example/x"}
    assert auditlog("init", env=twins).status == 0
    listed = clean(auditlog("key", "list", env=twins))
    assert listed.out.startswith("bank.example/x\t")


# --- find -----------------------------------------------------------------------------


def test_find_prints_tabs_and_no_header_into_a_pipe(log: Path) -> None:
    done = clean(auditlog("find", "--dir", log))
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[1] for row in rows] == ids(log)[::-1]
    assert rows[-1][2:6] == ["credit", "3", "/score", "error"]


def test_find_filters_and_pages(log: Path) -> None:
    wanted = ids(log)
    options = ("find", "--dir", log, "--version", "4", "--from", "2020-01-01")
    assert clean(auditlog(*options)).out.count("\n") == 3
    first = auditlog(*options, "--limit", "2", "--json").document()
    assert [one["id"] for one in first["decisions"]] == [wanted[5], wanted[3]]
    rest = auditlog(*options, "--limit", "2", "--json", "--cursor", first["next"])
    assert [one["id"] for one in rest.document()["decisions"]] == [wanted[1]]
    assert rest.document()["next"] is None


def test_find_says_that_there_is_more_and_that_there_is_nothing(log: Path) -> None:
    more = auditlog("find", "--dir", log, "--limit", "1")
    assert re.search(r"there are more: go on with --cursor \d+\n", more.err)
    none = auditlog("find", "--dir", log, "--to", "2020-01-01")
    assert (none.status, none.out, none.err) == (0, "", "no decision matches\n")


def test_find_prints_a_table_on_a_terminal(log: Path) -> None:
    screen = on_terminal("find", "--dir", str(log), "--limit", "6").splitlines()
    assert " ".join(screen[0].split()) == "time id model version route outcome index"
    columns = {line.index("credit") for line in screen[1:7]}
    assert columns == {screen[0].index("model")}


def on_terminal(*arguments: str) -> str:
    """Run a command with stdout and stderr on a terminal; return what it shows."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "auditlog", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env=environment(),
    )
    os.close(theirs)
    shown = b""
    # On Linux reading fails, and elsewhere it ends, when the other side is closed.
    with os.fdopen(ours, "rb", buffering=0) as screen:
        try:
            while data := screen.read(4096):
                shown += data
        except OSError:
            pass
    assert process.wait() == 0, shown
    return shown.decode().replace("\r\n", "\n")


# --- show -----------------------------------------------------------------------------


def test_show_says_what_is_known(log: Path) -> None:
    id_ = ids(log)[1]
    done = clean(auditlog("show", id_, "--dir", log))
    shown = dict(line.split(None, 1) for line in done.out.splitlines())
    assert shown["id"] == id_
    assert shown["level"] == "included"
    assert shown["version"] == "4"
    assert shown["request"] == "application/json, complete"
    assert shown["duration"] == "1.234 ms"
    assert "Ada" not in done.out


def test_show_as_json_holds_the_exact_entry(log: Path) -> None:
    document = auditlog("show", ids(log)[1], "--dir", log, "--json").document()
    entry = read_log(log).entries[document["index"]]
    assert document["entry"].encode() == entry
    assert document["data"] == json.loads(entry)["data"]
    assert "content" not in document


def test_show_content_unseals_warns_and_is_logged(log: Path) -> None:
    id_ = ids(log)[2]
    before = accesses(log)
    done = auditlog("show", id_, "--dir", log, "--content")
    assert done.status == 0
    assert '--- request\n{"age": 41, "name": "Ada"}\n' in done.out
    assert '--- response\n{"decision":"approve","score":0.87}\n' in done.out
    assert "--- context/target\n/score?lang=en\n" in done.out
    assert done.err.startswith("auditlog: warning: this unseals what was captured")
    told = {"channel": "cli", "decision": id_, "what": "content", "user": login()}
    told |= {"paths": ["request", "response", "context/target"]}
    assert accesses(log)[len(before) :] == [told]


def test_show_content_as_json(log: Path) -> None:
    done = auditlog("show", ids(log)[2], "--dir", log, "--content", "--json")
    content = done.document()["content"]
    assert content["request"] == {
        "text": '{"age": 41, "name": "Ada"}',
        "capped": False,
    }
    assert content["context"]["target"]["text"] == "/score?lang=en"


def test_captured_escape_sequences_do_not_reach_a_terminal(tmp_path: Path) -> None:
    id_ = fill_log(tmp_path / "a", 1, request=b"a\x1b]0;owned\x07\nb\xe2\x80\xae")[0]
    screen = on_terminal("show", id_, "--dir", str(tmp_path / "a"), "--content")
    assert "a\\x1b]0;owned\\x07\nb\\u202e" in screen
    piped = auditlog("show", id_, "--dir", tmp_path / "a", "--content")
    assert "a\x1b]0;owned\x07\nb\u202e" in piped.out


def test_content_that_is_no_text_is_shown_in_base64(tmp_path: Path) -> None:
    id_ = fill_log(tmp_path / "a", 1, request=b"\xff\x00")[0]
    command = ("show", id_, "--dir", tmp_path / "a", "--content")
    assert "--- request, not text, in base64\n/wA=\n" in auditlog(*command).out
    shown = auditlog(*command, "--json").document()["content"]["request"]
    assert base64.b64decode(shown["base64"]) == b"\xff\x00"


# --- receipt and verify ---------------------------------------------------------------


def test_a_receipt_goes_to_stdout_and_verifies(log: Path, tmp_path: Path) -> None:
    done = clean(auditlog("receipt", ids(log)[0], "--dir", log))
    file = tmp_path / "r.receipt.json"
    file.write_text(done.out)
    verified = auditlog("verify", file, "--policy", log / "policy")
    assert verified.status == 0, verified
    assert "signed by the operator only; another view may exist" in verified.out
    machine = auditlog("verify", file, "--policy", log / "policy", "--json")
    assert machine.document()["ok"] is True


def test_a_receipt_goes_into_a_file(log: Path, tmp_path: Path) -> None:
    id_, file = ids(log)[0], tmp_path / "r.receipt.json"
    file.write_text("older")
    command = ("receipt", id_, "--dir", log, "-o", file)
    done = auditlog(*command)
    assert (done.status, done.out) == (0, "")
    assert done.err == f"wrote {file}: {id_} is included\n"
    verified = auditlog("verify", file, "--policy", log / "policy")
    assert "anything about content: none of it is disclosed" in verified.out
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    again = auditlog(*command, "--wait", "included", "--json")
    known = {"id": id_, "level": "included", "file": str(file)}
    assert again.document() == {"ok": True} | known


def test_a_pending_receipt_waits_or_gives_up(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    fill_log(directory, 1)
    id_ = record_unsigned(directory)
    command = ("receipt", id_, "--dir", directory)
    pending = auditlog(*command)
    assert pending.status == 12
    assert "is accepted, but under no checkpoint yet" in pending.err
    waited = auditlog(*command, "--wait", "included", "--timeout", "0.2")
    assert waited.status == 12
    assert f"{id_} is accepted, not included after 0.2 s" in waited.err
    assert auditlog("checkpoint", "--dir", directory).status == 0
    clean(auditlog(*command, "--wait", "included"))
    witnessed = auditlog(*command, "--wait", "witnessed", "--timeout", "0", "--json")
    assert witnessed.status == 12
    assert witnessed.document()["exit_code"] == 12


def test_a_damaged_receipt_fails_with_status_10_or_16(
    log: Path, tmp_path: Path
) -> None:
    receipt = auditlog("receipt", ids(log)[0], "--dir", log).out
    file = tmp_path / "r.json"
    file.write_text(receipt.replace('\\"credit\\"', '\\"debit_\\"'))
    assert auditlog("verify", file, "--policy", log / "policy").status == 10
    file.write_text(receipt[:-3])
    assert auditlog("verify", file, "--policy", log / "policy").status == 16


# --- checkpoint, check ----------------------------------------------------------------


def test_checkpoint_signs_what_waits_and_prints_the_note(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    fill_log(directory, 2)
    record_unsigned(directory)
    size = len(read_log(directory).entries)
    done = auditlog("checkpoint", "--dir", directory)
    assert done.status == 0
    assert done.err == "unwitnessed: the policy asks for no quorum\n"
    vkeys = (directory / "vkeys").read_text().split()
    opened = open_note(done.out.encode(), [parse_vkey(vkey) for vkey in vkeys])
    assert parse_checkpoint(opened.text).size == size
    document = auditlog("checkpoint", "--dir", directory, "--json").document()
    assert document["note"] == done.out
    assert (document["origin"], document["size"]) == (ORIGIN, size)
    assert (document["signatures"], document["witnessed"]) == (2, False)
    check_whole_log(directory)


def test_checkpoint_admits_what_a_killed_process_left_open(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    program = (
        "import os, sys; from pathlib import Path\n"
        "from tests.log.builders import config_of, now_us\n"
        "from auditlog.core.record import format_id\n"
        "from auditlog.log.identity import new_id\n"
        "from auditlog.log.runtime import runtime_for\n"
        "runtime = runtime_for(config_of(Path(sys.argv[1])))\n"
        "id_ = new_id(now_us())\n"
        "runtime.open(id_, now_us()); print(format_id(id_), flush=True)\n"
        "runtime.flush(10); os.kill(os.getpid(), 9)\n"
    )
    root = str(Path(__file__).resolve().parent.parent)
    killed = subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        capture_output=True,
        text=True,
        env=environment(PYTHONPATH=root),
        check=False,
    )
    assert killed.returncode == -9, killed
    id_ = killed.stdout.strip()
    assert auditlog("show", id_, "--dir", directory, "--json").document()["level"] == (
        "opened"
    )
    assert auditlog("checkpoint", "--dir", directory).status == 0
    known = auditlog("show", id_, "--dir", directory, "--json").document()
    assert (known["level"], known["outcome"]) == ("included", "interrupted")


def test_check_finds_a_whole_log_whole(log: Path) -> None:
    done = clean(auditlog("check", "--dir", log))
    assert re.fullmatch(
        r"numbers of 1 emitter: 6 there; .*\n"
        r"\d+ entries \(6 decisions\), \d+ checkpoints, 0 cosignatures: all hold\n",
        done.out,
    )
    document = auditlog("check", "--dir", log, "--json").document()
    assert document["ok"] is True
    assert (document["decisions"], document["problems"]) == (6, [])


def test_check_counts_on_a_terminal(log: Path) -> None:
    screen = on_terminal("check", "--dir", str(log))
    assert re.search(r"\d+ of \d+ entries\x1b\[K", screen)
    assert screen.rstrip().endswith("all hold")


def test_check_names_what_was_tampered_with(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    fill_log(directory, 2)
    with sqlite3.connect(directory / "log.sqlite3") as database:
        database.execute("UPDATE vault SET sealed = zeroblob(length(sealed))")
    database.close()
    done = auditlog("check", "--dir", directory)
    assert done.status == 10
    assert "problem: vault row 3 to 4: " in done.out
    assert done.out.endswith("1 problem found\n")
    machine = auditlog("check", "--dir", directory, "--json")
    assert machine.status == 10
    assert machine.document()["ok"] is False
    assert machine.document()["problems"][0]["where"].startswith("vault row ")


# --- key, token -----------------------------------------------------------------------


def test_key_shows_public_keys_only(log: Path) -> None:
    vkeys = (log / "vkeys").read_text().splitlines()
    assert clean(auditlog("key", "vkey", "--dir", log)).out.splitlines() == vkeys
    assert auditlog("key", "vkey", "--dir", log, "--json").document()["vkeys"] == vkeys
    listed = clean(auditlog("key", "list", "--dir", log)).out.splitlines()
    assert [line.split("\t")[2] for line in listed] == ["Ed25519", "ML-DSA-44"]
    keys = auditlog("key", "list", "--dir", log, "--json").document()["keys"]
    assert [key["vkey"] for key in keys] == vkeys
    for line in (log / "keys" / "log.key").read_text().splitlines():
        # PRIVATE+KEY+<name>+<id>+<base64>, which may hold a "+" itself.
        private = line.split("+", 4)[4]
        assert len(private) == 44
        assert private not in json.dumps(keys)


def test_a_token_is_shown_once_listed_by_id_and_revoked(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    fill_log(directory, 0)
    made = auditlog(
        *("token", "create", "--role", "content", "--label", "Ada"), "--dir", directory
    )
    token = made.out.strip()
    assert re.fullmatch(r"alt_[A-Za-z0-9_-]{43}", token)
    assert "only its hash is stored" in made.err
    assert token not in made.err
    with open_log(directory) as log:
        now = time.time()
        assert grant_of(log.store, token, now).role == "content"
        assert grant_of(log.store, token, now + 89 * 86_400).label == "Ada"
        with pytest.raises(NotFoundError, match="the token has expired"):
            grant_of(log.store, token, now + 91 * 86_400)
    listed = clean(auditlog("token", "list", "--dir", directory)).out.strip()
    id_, role, _, expires, scope, label = listed.split("\t")
    assert (role, scope, label) == ("content", "everything", "Ada")
    assert f"It is good until {expires}." in made.err
    revoked = auditlog("token", "revoke", id_, "--dir", directory)
    assert (revoked.status, revoked.err) == (0, f"token {id_} (content) is revoked\n")
    gone = auditlog("token", "revoke", id_, "--dir", directory)
    assert gone.status == 11
    assert "no such token; `auditlog token list` shows all" in gone.err
    assert auditlog("token", "list", "--dir", directory, "--json").document() == {
        "ok": True,
        "tokens": [],
    }


def test_a_token_that_never_expires_is_one_that_was_asked_for(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    fill_log(directory, 0)
    command = ("token", "create", "--role", "reviewer", "--dir", directory)
    made = auditlog(*command, "--expires", "never")
    assert "it never expires; revoke it when it is not needed any more" in made.err
    listed = clean(auditlog("token", "list", "--dir", directory)).out
    assert listed.split("\t")[3] == "never"


def test_a_token_with_a_scope(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    fill_log(directory, 0)
    id_ = "01995e6c-0000-7000-8000-000000000000"
    command = ("token", "create", "--role", "auditor", "--dir", directory, "--json")
    narrow = ("--route", "/score*", "--decision", id_, "--until", "2030-01-01")
    made = auditlog(*command, "--expires", "2099-01-01", *narrow).document()
    scope: dict[str, Any] = {"routes": ["/score*"], "decisions": [id_]}
    scope |= {"until": "2030-01-01T00:00:00.000000Z"}
    assert (made["scope"], made["expires"]) == (scope, "2099-01-01T00:00:00.000000Z")
    (listed,) = auditlog("token", "list", "--dir", directory, "--json").document()[
        "tokens"
    ]
    assert (listed["scope"], listed["expires"]) == (scope, made["expires"])
    shown = clean(auditlog("token", "list", "--dir", directory)).out.split("\t")[4]
    assert shown == f"/score*, {id_}, until 2030-01-01T00:00:00.000000Z"


def test_tokens_as_json_and_revoked_by_their_text(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    fill_log(directory, 0)
    common = ("--dir", directory, "--json")
    made = auditlog("token", "create", "--role", "auditor", *common).document()
    listed = auditlog("token", "list", *common).document()["tokens"]
    assert [one["id"] for one in listed] == [made["id"]]
    revoked = auditlog("token", "revoke", made["token"], *common).document()
    assert (revoked["id"], revoked["role"]) == (made["id"], "auditor")


# --- beside a running service, and after it -------------------------------------------


def test_it_reads_and_signs_while_another_process_has_the_log_open(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "a"
    wanted = fill_log(directory, 3)
    with open_log(directory) as opened:
        record_unsigned(directory)
        assert len(clean(auditlog("find", "--dir", directory)).out.splitlines()) == 4
        assert auditlog("checkpoint", "--dir", directory).status == 0
        make_checkpoint(opened)
        clean(auditlog("receipt", wanted[0], "--dir", directory))


def test_version_and_the_module() -> None:
    assert clean(auditlog("--version")).out == f"auditlog {__version__}\n"
