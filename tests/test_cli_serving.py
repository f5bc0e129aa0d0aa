"""The commands that stay, over real sockets: serve, witness init, witness serve."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from auditlog.core.note import open_note, parse_vkey
from tests.command import Running, auditlog, environment, started
from tests.filled import fill_log
from tests.harness import read_log
from tests.witnesses import SomeLog

_WITHOUT = """
import sys
sys.modules[{name!r}] = None
from auditlog.cli import main
sys.exit(main(sys.argv[1:]))
"""


def stopped_by(running: Running, number: int) -> tuple[int, str]:
    running.process.send_signal(number)
    _, err = running.process.communicate(timeout=20)
    return running.process.returncode, err


def test_serve_answers_beside_the_log_and_stops(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    ids = fill_log(directory, 2)
    made = auditlog("token", "create", "--role", "content", "--dir", directory)
    headers = {"Authorization": f"Bearer {made.out.strip()}"}
    with started("serve", "--dir", directory) as running:
        assert httpx.get(f"{running.url}/livez").json() == {"ok": True}
        assert httpx.get(f"{running.url}/readyz").json() == {"ok": True}
        checkpoint = httpx.get(f"{running.url}/checkpoint")
        assert checkpoint.content.startswith(b"log.example/tests\n")
        assert "server" not in checkpoint.headers
        body = {"fields": ["request/age", "response"], "recipient": "a court"}
        url = f"{running.url}/api/v1/decisions/{ids[0]}/disclosures"
        assert httpx.post(url, json=body).status_code == 401
        receipt = httpx.post(url, json=body, headers=headers)
        missing = httpx.get(f"{running.url}/nowhere")
        assert missing.headers["content-type"] == "application/problem+json"
        status, err = stopped_by(running, signal.SIGINT)
    assert status == 130
    assert "log.example/tests" in err
    assert "Traceback" not in err
    file = tmp_path / "r.receipt.json"
    file.write_bytes(receipt.content)
    verified = auditlog("verify", file, "--policy", directory / "policy")
    assert verified.status == 0
    assert "request/age = 41" in verified.out


def test_serve_refuses_a_port_that_is_taken(tmp_path: Path) -> None:
    fill_log(tmp_path / "a", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = auditlog("serve", "--dir", tmp_path / "a", "--port", port, "--json")
    assert done.status == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address" in done.err
    assert done.document()["ok"] is False


def test_serve_warns_where_tokens_would_travel_in_clear(tmp_path: Path) -> None:
    fill_log(tmp_path / "a", 0)
    with started("serve", "--dir", tmp_path / "a", "--host", "0.0.0.0") as running:
        _, err = stopped_by(running, signal.SIGTERM)
    assert "tokens cross the network in clear: put TLS in front" in err


@pytest.mark.parametrize("missing", ["uvicorn", "fastapi"])
def test_serve_without_the_web_extra_says_what_to_install(
    tmp_path: Path, missing: str
) -> None:
    fill_log(tmp_path / "a", 0)
    program = _WITHOUT.format(name=missing)
    done = subprocess.run(
        [sys.executable, "-c", program, "serve", "--dir", str(tmp_path / "a")],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"auditlog: error: `auditlog serve` needs {missing}, which is not installed: "
        "pip install 'decision-auditlog[web]'\n"
    )


def test_witness_init_prints_its_keys(tmp_path: Path) -> None:
    command = ("witness", "init", "--dir", tmp_path / "w", "--name", "witness.example")
    done = auditlog(*command)
    assert done.status == 0
    vkeys = done.out.splitlines()
    assert [parse_vkey(vkey).name for vkey in vkeys] == ["witness.example"] * 2
    assert "never restore an old copy" in done.err
    again = auditlog(*command)
    assert again.status != 0
    assert again.out == ""
    machine = auditlog(*command[:3], tmp_path / "v", *command[4:], "--json")
    assert len(machine.document()["vkeys"]) == 2


def test_witness_serve_refuses_what_is_no_key(tmp_path: Path) -> None:
    made = ("--dir", tmp_path / "w")
    auditlog("witness", "init", "--name", "witness.example", *made)
    done = auditlog("witness", "serve", *made, "--log", "nonsense")
    assert done.status in {2, 16}
    assert done.err.startswith("auditlog: error: ")


def test_witness_serve_needs_to_know_for_whom(tmp_path: Path) -> None:
    made = ("--dir", tmp_path / "w")
    auditlog("witness", "init", "--name", "witness.example", *made)
    done = auditlog("witness", "serve", *made)
    assert done.status == 2
    assert "the vkey of at least one log, or a list of logs, got none" in done.err


def test_a_witness_says_what_it_saw_and_refused(tmp_path: Path) -> None:
    log, directory = SomeLog(), tmp_path / "w"
    made = ("--dir", directory)
    auditlog("witness", "init", "--name", "witness.example", *made)
    (tmp_path / "logs").write_text(
        f"logs/v0\nvkey {log.vkeys[0]}\nqpd 100\ncontact ops@log.example\n"
    )
    assert auditlog("witness", "status", *made).out == ""
    serve = ("witness", "serve", *made, "--logs", tmp_path / "logs")
    with started(*serve, "--spec", "v1.0.0", "--rate", 50) as running:
        add = f"{running.url}/add-checkpoint"
        statuses = [
            httpx.post(add, content=body).status_code
            for body in (log.request(0, 7), log.request(7, 7, fork=3))
        ]
        assert statuses == [200, 409]
        beside = auditlog("witness", "status", *made)
    assert beside.out == f"{log.origin}\t7\t1\n"
    (shown,) = auditlog("witness", "status", *made, "--json").document()["logs"]
    (refused,) = shown["refused"]
    assert (shown["origin"], shown["size"], refused["size"]) == (log.origin, 7, 7)
    # Two notes of one size and two roots, both signed by the log: nobody has to be
    # believed.
    notes = [refused["seen"].encode(), refused["checkpoint"].encode()]
    opened = [open_note(note, log.verifiers).text for note in notes]
    assert opened == [log.text(7), log.text(7, 3)]


def test_a_witness_cosigns_and_the_receipt_says_so(tmp_path: Path) -> None:
    directory, witness = tmp_path / "a", tmp_path / "w"
    id_ = fill_log(directory, 2)[0]
    logs = (directory / "vkeys").read_text().split()
    vkeys = auditlog(
        "witness", "init", "--dir", witness, "--name", "witness.example"
    ).out.split()
    serve = ("witness", "serve", "--dir", witness, "--log", *logs)
    with started(*serve) as running:
        lines = [f"log {vkey}" for vkey in logs]
        lines += [f"witness w1 {vkeys[0]} {running.url}", "quorum w1"]
        (directory / "policy").write_text("\n".join(lines) + "\n")
        done = auditlog("checkpoint", "--dir", directory, "--witness", "--json")
        assert done.status == 0, done
        assert done.document()["signatures"] == 3
        stopped_by(running, signal.SIGTERM)
    file = tmp_path / "r.receipt.json"
    options = ("--dir", directory, "-o", file, "--wait", "witnessed")
    waited = auditlog("receipt", id_, *options)
    assert waited.err == f"wrote {file}: {id_} is witnessed\n"
    verified = auditlog("verify", file, "--policy", directory / "policy", "--json")
    assert verified.status == 0, verified
    assert any("w1" in str(one) for one in verified.document()["witnesses"])
    report = auditlog("check", "--dir", directory, "--json").document()
    assert (report["ok"], report["cosignatures"]) == (True, 1)


def test_a_witness_that_saw_more_ends_with_10(tmp_path: Path) -> None:
    directory, witness = tmp_path / "a", tmp_path / "w"
    fill_log(directory, 2)
    backup = (directory / "log.sqlite3").read_bytes()
    logs = (directory / "vkeys").read_text().split()
    vkey = auditlog(
        "witness", "init", "--dir", witness, "--name", "witness.example"
    ).out.split()[0]
    serve = ("witness", "serve", "--dir", witness, "--log", *logs)
    with started(*serve) as running:
        lines = [f"log {key}" for key in logs]
        lines += [f"witness w1 {vkey} {running.url}", "quorum w1"]
        (directory / "policy").write_text("\n".join(lines) + "\n")
        fill_log(directory, 2)
        assert auditlog("checkpoint", "--dir", directory, "--witness").status == 0
        for leftover in directory.glob("log.sqlite3-*"):
            leftover.unlink()
        (directory / "log.sqlite3").write_bytes(backup)
        assert len(read_log(directory).decisions) == 2
        done = auditlog("checkpoint", "--dir", directory, "--witness")
    assert done.status == 10, done
    assert done.out == ""


def test_a_witness_out_of_reach_is_pending(tmp_path: Path) -> None:
    directory = tmp_path / "a"
    fill_log(directory, 1)
    vkey = auditlog(
        "witness", "init", "--dir", tmp_path / "w", "--name", "witness.example"
    ).out.split()[0]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    lines = [f"log {key}" for key in (directory / "vkeys").read_text().split()]
    lines += [f"witness w1 {vkey} http://127.0.0.1:{port}", "quorum w1"]
    (directory / "policy").write_text("\n".join(lines) + "\n")
    done = auditlog("checkpoint", "--dir", directory, "--witness")
    assert done.status == 12, done
    assert done.out.startswith("log.example/tests\n")
    assert "w1 did not cosign" in done.err
    assert "the policy demands have not all cosigned it" in done.err
