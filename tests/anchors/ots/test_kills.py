"""SIGKILL in mid-operation, of calendars and of ourselves: what was stored goes on."""

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from auditlog.anchors.attestation import Attestation
from auditlog.anchors.ots.anchor import configure
from auditlog.anchors.ots.check import TOLERANCE, check
from auditlog.anchors.ots.headers import format_headers, parse_header
from auditlog.anchors.trust import parse_trust
from auditlog.core.errors import AuditLogError
from tests.anchors.ots.calendar import TARGET, Calendar, serving
from tests.e2e.processes import ROOT, Server, free_port

NOW = 1_800_000_000.0
DIGEST = secrets.token_bytes(32)

STEP = """
import json, os, sys
from pathlib import Path
from auditlog.anchors.attestation import Attestation
from auditlog.anchors.ots.anchor import configure

path, url, digest = Path(sys.argv[1]), sys.argv[2], bytes.fromhex(sys.argv[3])
anchor = configure("bitcoin", {"calendars": [url]}, path.parent)
if path.exists():
    stored = Attestation(**json.loads(path.read_text()))
    new = anchor.upgrade(digest, stored, now=0.0)
else:
    new = anchor.submit(digest, [], now=0.0)
fields = {"kind": new.kind, "state": new.state, "evidence": new.evidence}
path.with_suffix(".new").write_text(json.dumps(fields))
os.replace(path.with_suffix(".new"), path)
"""
"""One step of an operator's schedule: what is stored is brought forward."""


class Operator:
    """Takes steps in processes of its own, with the attestation in a file."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self._command = [sys.executable, "-c", STEP, str(path), url, DIGEST.hex()]

    def start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(self._command, env=environment)

    def step(self) -> Attestation:
        with self.start() as process:
            assert process.wait(30) == 0
        return Attestation(**json.loads(self.path.read_text()))


class Stall:
    """Keeps requests of one method waiting before the calendar sees them."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.release = threading.Event()
        self.method = ""

    def __call__(self, request: BaseHTTPRequestHandler) -> bool:
        if request.command != self.method:
            return False
        self.reached.set()
        assert self.release.wait(30)
        return True


class Slow(Calendar):
    """A calendar that stalls once it has made a promise, or found a proof."""

    stall = Stall()

    def promise(self, digest: bytes) -> bytes:
        given = super().promise(digest)
        self._wait("promise")
        return given

    def find(self, commitment: bytes) -> bytes | None:
        found = super().find(commitment)
        self._wait("find")
        return found

    def _wait(self, method: str) -> None:
        if self.stall.method == method:
            self.stall.reached.set()
            assert self.stall.release.wait(30)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    calendar = Slow(tmp_path)
    calendar.stall = Stall()
    with serving(calendar, before=calendar.stall):
        try:
            yield calendar
        finally:
            calendar.stall.release.set()


@pytest.mark.parametrize("point", ["POST", "promise", "GET", "find"])
def test_we_are_killed_while_we_ask(slow: Slow, tmp_path: Path, point: str) -> None:
    operator = Operator(tmp_path / "stored.json", slow.url)
    if point in {"GET", "find"}:
        assert operator.step().state == "pending"
        slow.mine()
    before = operator.path.read_bytes() if operator.path.exists() else None
    slow.stall.method = point
    with operator.start() as process:
        assert slow.stall.reached.wait(30)
        process.send_signal(signal.SIGKILL)
    after = operator.path.read_bytes() if operator.path.exists() else None
    assert after == before
    slow.stall.method = ""
    slow.stall.release.set()
    if before is None:
        assert operator.step().state == "pending"
        slow.mine()
    final = operator.step()
    assert final.state == "final"
    trust = parse_trust(slow.chain.trust())
    newest = slow.chain.time(slow.chain.first + 1)
    bound = check(DIGEST, final.evidence, trust)
    assert bound.not_after == (newest + TOLERANCE) * 1_000_000


def test_a_calendar_is_killed_and_keeps_its_promise(tmp_path: Path) -> None:
    port = free_port()
    command = ["-m", "tests.anchors.ots.calendar", str(port), str(tmp_path)]
    server = Server(command, port, tmp_path / "output")
    url = f"http://127.0.0.1:{port}"
    anchor = configure("bitcoin", {"calendars": [url]}, tmp_path)
    with server:
        pending = anchor.submit(DIGEST, [], now=NOW)
        server.signal(signal.SIGSTOP)
        failures: list[AuditLogError] = []

        def ask() -> None:
            try:
                anchor.upgrade(DIGEST, pending, now=NOW)
            except AuditLogError as error:
                failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        server.kill()
        asking.join(30)
        with pytest.raises(AuditLogError, match="cannot reach"):
            anchor.upgrade(DIGEST, pending, now=NOW)
        assert [type(error) for error in failures] == [AuditLogError]
    with server:
        assert anchor.upgrade(DIGEST, pending, now=NOW) is pending
        _ask(port, "POST", "/mine")
        server.kill()
    with server:  # killed after the block, before anybody asked
        final = anchor.upgrade(DIGEST, pending, now=NOW)
        raw = _ask(port, "GET", "/headers")
    assert final.state == "final"
    trust = parse_trust(format_headers(raw, 900_000, easiest=TARGET))
    bound = check(DIGEST, final.evidence, trust)
    block = parse_header(raw[-80:])
    assert bound.not_after == (block.time + TOLERANCE) * 1_000_000


def _ask(port: int, method: str, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(connection):
        connection.request(method, path)
        return connection.getresponse().read()
