"""A server as the page says to start it, and what auditlog says of it afterwards."""

import base64
import io
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from auditlog.cli import main
from tests.e2e.processes import free_port, members, wait_until

__all__ = ["ORIGIN", "Answer", "Served", "lines_of", "proved", "serve", "texts"]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "auditlog" / "docs" / "compatibility.md"
ORIGIN = "log.example/compat"
SECONDS = 300
"""For a start, on a machine that others use, of modules that nothing has compiled."""


class Lines(NamedTuple):
    """What the page tells a user to write, on a port that is free here."""

    files: dict[str, str]
    """Contents by name."""
    command: str
    """Starts the server."""
    port: int


def lines_of(section: str) -> Lines:
    """Return the files and the command of a section of the page."""
    port = free_port()
    text = PAGE.read_text("utf-8").partition(f"\n## {section}\n")[2].split("\n## ")[0]
    text = re.sub(r"(port[ =])\d+", rf"\g<1>{port}", text)
    python = r"^```python\n# (\S+)\n(.*?)^```$"
    files = dict(re.findall(python, text, re.DOTALL | re.MULTILINE))
    (command,) = re.findall(r"^```sh\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE)
    return Lines(files, command, port)


class Answer(NamedTuple):
    """What a client sent and got."""

    status: int
    id: str
    """The decision's, as the answer's header has it."""
    sent: bytes
    got: bytes

    def json(self) -> Any:
        """Return what the answer says."""
        return json.loads(self.got)


class Served(NamedTuple):
    """A server that answers."""

    client: httpx.Client
    log: Path

    def ask(self, path: str, **request: Any) -> Answer:
        """Post, and return the answer once all of it is there."""
        with self.client.stream("POST", path, **request) as response:
            got = b"".join(response.iter_raw())
            sent = response.request.read()
            id_ = response.headers.get("decision-id", "")
        return Answer(response.status_code, id_, sent, got)


@contextmanager
def serve(
    lines: Lines,
    environment: Path,
    directory: Path,
    ready: str,
    env: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """Start a server by the lines of the page, and stop it as an operator would.

    Args:
        lines: from the page.
        environment: where the server is installed.
        directory: where its files are written, and where it runs.
        ready: a path that is answered by 200 once the server can be asked.
        env: further variables.
    """
    for name, text in lines.files.items():
        (directory / name).write_text(text, "utf-8")
    url, output = f"http://127.0.0.1:{lines.port}", directory / "output.txt"
    client = httpx.Client(
        base_url=url,
        trust_env=False,
        timeout=SECONDS,
        headers={"accept-encoding": "identity"},
    )
    variables = _variables(environment, directory, env or {})
    with client, output.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-euc", lines.command],
            cwd=directory,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until(lambda: _answers(process, client, ready, output), SECONDS, ready)
            yield Served(client, directory / "audit")
            # All of them, as systemd does it: not each first process tells the others.
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(SECONDS)
            wait_until(lambda: not members(process.pid), SECONDS, "the end of workers")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _variables(
    environment: Path, directory: Path, more: Mapping[str, str]
) -> dict[str, str]:
    known = {k: v for k, v in os.environ.items() if not k.startswith("AUDITLOG_")}
    # What was compiled once is worth keeping: some of them import thousands of modules.
    known.pop("PYTHONDONTWRITEBYTECODE", None)
    return {
        **known,
        "DO_NOT_TRACK": "true",
        "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(directory),
        "AUDITLOG_DIR": str(directory / "audit"),
        "AUDITLOG_ORIGIN": ORIGIN,
        **more,
    }


def _answers(
    process: "subprocess.Popen[bytes]", client: httpx.Client, ready: str, output: Path
) -> bool:
    assert process.poll() is None, output.read_text()[-4000:]
    with suppress(httpx.TransportError):
        return client.get(ready).status_code == httpx.codes.OK
    return False


def proved(log: Path, answers: list[Answer], errors: int = 0) -> list[dict[str, Any]]:
    """Return the decisions behind answers, as ``auditlog show`` does.

    Of each, request and response are what the client sent and got, and a receipt with
    the response verifies. Of one that was rejected no bodies are kept, as it is by
    default. There are no others but so many errors, of which the client knows no id,
    and no number is missing. The server has stopped.
    """
    decisions = [_proved(log, answer) for answer in answers]
    found = _auditlog("find", "--dir", log, "--json")["decisions"]
    known = {answer.id for answer in answers}
    others = [one["outcome"] for one in found if one["id"] not in known]
    assert (len(found), others) == (len(known) + errors, ["error"] * errors)
    report = _auditlog("check", "--dir", log, "--json")
    assert (report["problems"], report["unchecked"]) == ([], [])
    assert {one["state"] for one in report["emitters"]} == {"stopped"}
    return decisions


def texts(decisions: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return which protocol each decision speaks, and the text that it answered."""
    readings = [one["reading"] for one in decisions]
    return [(one["protocol"], one["answers"][0]["text"]) for one in readings]


def _proved(log: Path, answer: Answer) -> dict[str, Any]:
    decision = _auditlog("show", "--dir", log, "--json", "--content", answer.id)
    if decision["outcome"] == "rejected":
        assert _disclosed(log, answer.id, []) == []
        return decision
    content = decision["content"]
    assert content["request"]["text"].encode() == answer.sent
    assert content["response"]["text"].encode() == answer.got
    assert _disclosed(log, answer.id, ["response"]) == [answer.got]
    return decision


def _disclosed(log: Path, id_: str, paths: list[str]) -> list[bytes]:
    """Return what a receipt with these parts discloses; it verifies."""
    receipt = log.parent / f"{id_}.receipt.json"
    fields = [word for path in paths for word in ("--field", path)]
    verb = ["disclose", *fields, "--recipient", "a test"] if paths else ["receipt"]
    _auditlog(*verb, "--dir", log, "--json", id_, "-o", receipt)
    verified = _auditlog("verify", "--policy", log / "policy", "--json", receipt)
    return [base64.b64decode(one["value"]) for one in verified["disclosed"]]


def _auditlog(*arguments: object) -> dict[str, Any]:
    """Run a command that succeeds, and return its document."""
    out = io.StringIO()
    with redirect_stdout(out):
        assert main([str(one) for one in arguments]) == 0, arguments
    document: dict[str, Any] = json.loads(out.getvalue())
    return document
