"""The witness over ASGI and HTTP: paths, limits, failures, and death at any line."""

import asyncio
import hashlib
import http.client
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from auditlog.cli import serving
from auditlog.core.checkpoint import open_checkpoint, parse_policy
from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.core.merkle import EMPTY_ROOT
from auditlog.core.note import ED25519, ML_DSA_44, Verifier, open_note, parse_vkey
from auditlog.storage.witness_directory import init_witness
from auditlog.storage.witness_state import NOTHING_SEEN, Seen, WitnessState
from auditlog.web import witness_server
from auditlog.web.witness_limits import per_second
from auditlog.web.witness_logs import LogBook
from auditlog.web.witness_protocol import SIZE_TYPE, TEXT_TYPE
from auditlog.web.witness_server import (
    MAX_BODY,
    WitnessApp,
    open_witness,
    serve_witness,
)
from tests.witnesses import (
    NOW,
    WITNESS_NAME,
    SomeLog,
    new_state,
    served_witness,
    witness_signers,
)

ROOT = Path(__file__).resolve().parents[2]
LOG = SomeLog()
WITNESS = [signer.verifier for signer in witness_signers()]
MONITOR = f"/{hashlib.sha256(LOG.origin.encode()).hexdigest()}/checkpoint"


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture
def app(tmp_path: Path) -> Iterator[WitnessApp]:
    made = WitnessApp(
        new_state(tmp_path), LogBook(LOG.vkeys), witness_signers(), clock=lambda: NOW
    )
    with closing(made):
        yield made


def call(
    app: WitnessApp,
    method: str,
    path: str,
    chunks: list[bytes] | None = None,
    *,
    root_path: str = "",
    hang: bool = False,
) -> Reply:
    """One request through ASGI, checking what the application sends."""
    return asyncio.run(_call(app, method, path, chunks or [b""], root_path, hang))


async def _call(
    app: WitnessApp, method: str, path: str, chunks: list[bytes], root: str, hang: bool
) -> Reply:
    left = list(chunks)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not left and hang:
            await asyncio.sleep(3600)
        if not left:
            return {"type": "http.disconnect"}
        more = len(left) > 1 or hang
        return {"type": "http.request", "body": left.pop(0), "more_body": more}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "root_path": root}
    await app({**scope, "headers": []}, receive, send)
    start, body = sent
    assert start["type"] == "http.response.start"
    assert body["type"] == "http.response.body"
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    if method != "HEAD":
        assert int(headers["content-length"]) == len(body["body"])
    return Reply(start["status"], headers, body["body"])


class TestHttp:
    def test_cosign_then_monitor(self, app: WitnessApp) -> None:
        added = call(app, "POST", "/add-checkpoint", [LOG.request(0, 7)])
        assert (added.status, added.headers["content-type"]) == (200, TEXT_TYPE)
        shown = call(app, "GET", MONITOR)
        assert (shown.status, shown.headers["content-type"]) == (200, TEXT_TYPE)
        assert shown.headers["cache-control"] == "no-store"
        assert shown.body == LOG.note(7) + added.body
        known = [*LOG.verifiers, *WITNESS]
        assert len(open_note(shown.body, known).signatures) == 3

    def test_head_has_the_headers_of_get(self, app: WitnessApp) -> None:
        call(app, "POST", "/add-checkpoint", [LOG.request(0, 7)])
        get, head = call(app, "GET", MONITOR), call(app, "HEAD", MONITOR)
        assert (head.status, head.headers, head.body) == (200, get.headers, b"")

    def test_never_cosigned_is_not_found(self, app: WitnessApp) -> None:
        assert call(app, "GET", MONITOR).status == 404

    def test_a_409_says_the_size(self, app: WitnessApp) -> None:
        call(app, "POST", "/add-checkpoint", [LOG.request(0, 7)])
        again = call(app, "POST", "/add-checkpoint", [LOG.request(0, 9)])
        assert (again.status, again.body) == (409, b"7\n")
        assert again.headers["content-type"] == SIZE_TYPE == "text/x.tlog.size"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/"),
            ("POST", "/"),
            ("GET", "/checkpoint"),
            ("POST", "/add-checkpoint/"),
            ("POST", "/x/add-checkpoint"),
            ("GET", MONITOR.upper()),
            ("GET", MONITOR + "/"),
            ("GET", f"/{hashlib.sha256(b'log.example/b').hexdigest()}/checkpoint"),
        ],
    )
    def test_other_paths_are_not_found(
        self, app: WitnessApp, method: str, path: str
    ) -> None:
        assert call(app, method, path).status == 404

    @pytest.mark.parametrize(
        ("method", "path", "allow"),
        [
            ("GET", "/add-checkpoint", "POST"),
            ("PUT", "/add-checkpoint", "POST"),
            ("POST", MONITOR, "GET, HEAD"),
            ("DELETE", MONITOR, "GET, HEAD"),
        ],
    )
    def test_other_methods_are_not_allowed(
        self, app: WitnessApp, method: str, path: str, allow: str
    ) -> None:
        reply = call(app, method, path)
        assert (reply.status, reply.headers["allow"]) == (405, allow)

    def test_below_a_prefix(self, app: WitnessApp) -> None:
        reply = call(app, "GET", "/w1" + MONITOR, root_path="/w1")
        assert reply.status == 404
        body = [LOG.request(0, 7)]
        assert call(app, "POST", "/w1/add-checkpoint", body).status == 404
        reply = call(app, "POST", "/w1/add-checkpoint", body, root_path="/w1")
        assert reply.status == 200

    def test_a_body_in_pieces(self, app: WitnessApp) -> None:
        body = LOG.request(0, 7)
        pieces = [body[i : i + 10] for i in range(0, len(body), 10)]
        assert call(app, "POST", "/add-checkpoint", pieces).status == 200

    def test_the_longest_honest_request_is_read(self, app: WitnessApp) -> None:
        both = SomeLog(LOG.origin, (ED25519, ML_DSA_44))
        body = LOG.request_with(0, (b"h" * 32,) * 63, both.note(9))
        reply = call(app, "POST", "/add-checkpoint", [body])
        assert (reply.status, b"expected no proof" in reply.body) == (422, True)

    def test_the_longest_body(self, app: WitnessApp) -> None:
        reply = call(app, "POST", "/add-checkpoint", [b"x" * MAX_BODY])
        assert reply.status == 400
        reply = call(app, "POST", "/add-checkpoint", [b"x" * MAX_BODY, b"x"])
        assert (reply.status, reply.body) == (413, b"expected up to 65536 bytes\n")

    def test_an_endless_body_is_not_read_to_its_end(self, app: WitnessApp) -> None:
        reply = call(app, "POST", "/add-checkpoint", [b"x" * (MAX_BODY + 1)], hang=True)
        assert reply.status == 413

    def test_a_body_that_never_comes(
        self, app: WitnessApp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(witness_server, "_BODY_SECONDS", 0.02)
        reply = call(app, "POST", "/add-checkpoint", [b"old 0\n"], hang=True)
        assert reply.status == 408

    def test_a_client_that_leaves(self, app: WitnessApp) -> None:
        async def leave() -> Reply:
            return await _call(app, "POST", "/add-checkpoint", [], "", hang=False)

        assert asyncio.run(leave()).status == 400
        assert call(app, "GET", MONITOR).status == 404

    def test_a_state_that_fails(
        self, app: WitnessApp, caplog: pytest.LogCaptureFixture
    ) -> None:
        app._state.close()
        for method, path in [("POST", "/add-checkpoint"), ("GET", MONITOR)]:
            reply = call(app, method, path, [LOG.request(0, 7)])
            assert reply.status == 500
            assert reply.body == b"the witness cannot answer now\n"
        assert "cannot read the witness state" in caplog.text

    def test_the_loop_runs_on_while_the_state_is_locked(
        self, app: WitnessApp, tmp_path: Path
    ) -> None:
        async def meanwhile() -> tuple[int, int]:
            asking = asyncio.create_task(
                _call(
                    app, "POST", "/add-checkpoint", [LOG.request(0, 7)], "", hang=False
                )
            )
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert not asking.done()
            other = await _call(app, "GET", "/nothing", [b""], "", hang=False)
            database.execute("ROLLBACK")
            return other.status, (await asking).status

        with closing(sqlite3.connect(tmp_path / "state.sqlite3")) as database:
            database.isolation_level = None
            database.execute("BEGIN IMMEDIATE")
            assert asyncio.run(meanwhile()) == (404, 200)

    def test_lifespan_closes_the_state(self, tmp_path: Path) -> None:
        app = WitnessApp(new_state(tmp_path), LogBook(LOG.vkeys), witness_signers())
        received = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        sent: list[Any] = []

        async def receive() -> dict[str, str]:
            return next(received)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        asyncio.run(app({"type": "lifespan"}, receive, send))
        assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
        with pytest.raises(sqlite3.ProgrammingError, match="closed database"):
            app._state._db.execute("SELECT 1")

    def test_websockets_are_closed(self, app: WitnessApp) -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> dict[str, str]:
            return {"type": "websocket.connect"}

        asyncio.run(app({"type": "websocket"}, receive, send))
        assert sent == [{"type": "websocket.close", "code": 1000}]


class TestLimits:
    def test_all_logs_together(self, app: WitnessApp) -> None:
        app._writes = per_second(3, lambda: 0.0)
        statuses = [
            call(app, "POST", "/add-checkpoint", [b"junk"]).status for _ in range(6)
        ]
        assert statuses == [400] * 6
        # Not even read: the body never ends.
        body = [LOG.request(0, 7)]
        refused = call(app, "POST", "/add-checkpoint", body, hang=True)
        assert refused.status == 429
        assert refused.headers["retry-after"] == "1"
        assert refused.body == b"the witness is asked too often\n"
        # Whoever fills the one keeps nobody out of the other.
        assert call(app, "GET", MONITOR).status == 404

    def test_monitors_too(self, app: WitnessApp) -> None:
        app._reads = per_second(1, lambda: 0.0)
        answers = [call(app, "GET", MONITOR) for _ in range(3)]
        assert [answer.status for answer in answers] == [404, 404, 429]
        assert answers[2].headers["retry-after"] == "1"

    def test_each_log_by_its_own_day(self, tmp_path: Path) -> None:
        other = SomeLog("log.example/b")
        path = tmp_path / "logs"
        path.write_text(
            "logs/v0\n" + f"vkey {other.vkeys[0]}\nqpd 24\ncontact somebody\n"
        )
        book = LogBook(LOG.vkeys, [path])
        made = WitnessApp(new_state(tmp_path), book, witness_signers())
        with closing(made) as app:
            replies = [
                call(app, "POST", "/add-checkpoint", [other.request(size, size + 1)])
                for size in range(21)
            ]
            assert [reply.status for reply in replies] == [200] * 20 + [429]
            assert 0 < int(replies[20].headers["retry-after"]) <= 3600
            mine = call(app, "POST", "/add-checkpoint", [LOG.request(0, 7)])
            assert mine.status == 200


class TestLists:
    @staticmethod
    def listed(*logs: SomeLog) -> str:
        entries = [f"vkey {log.vkeys[0]}\nqpd 1000\ncontact x\n" for log in logs]
        return "logs/v0\n" + "\n".join(entries)

    def test_logs_come_and_go_and_are_never_forgotten(self, tmp_path: Path) -> None:
        other = SomeLog("log.example/b")
        monitor = f"/{hashlib.sha256(other.origin.encode()).hexdigest()}/checkpoint"
        path, passed = tmp_path / "logs", [0.0]
        path.write_text(self.listed(LOG))
        book = LogBook([], [path], clock=lambda: passed[0])
        state = new_state(tmp_path)
        app = WitnessApp(state, book, witness_signers())

        def ask(log: SomeLog, old: int, new: int, fork: int | None = None) -> int:
            passed[0] += 2
            body = [log.request(old, new, fork)]
            return call(app, "POST", "/add-checkpoint", body).status

        with closing(app):
            assert ask(other, 0, 7) == 404
            path.write_text(self.listed(LOG, other))
            assert ask(other, 0, 7) == 200
            path.write_text(self.listed(LOG))
            assert ask(other, 7, 9) == 404
            assert state.latest(other.origin).size == 7
            shown = call(app, "GET", monitor)
            assert shown.body.startswith(other.note(7))
            path.write_text(self.listed(other, LOG))
            assert ask(other, 0, 9, fork=3) == 409
            assert ask(other, 7, 9, fork=3) == 422
            assert ask(other, 7, 9) == 200
        # A witness that starts without the log still shows what it has cosigned.
        book = LogBook(LOG.vkeys)
        state = WitnessState(tmp_path / "state.sqlite3")
        with closing(WitnessApp(state, book, witness_signers())) as again:
            assert call(again, "GET", monitor).body.startswith(other.note(9))
            body = [other.request(9, 9)]
            assert call(again, "POST", "/add-checkpoint", body).status == 404

    def test_a_broken_list_stops_the_start_only(self, tmp_path: Path) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        (tmp_path / "logs").write_text("logs/v1")
        with pytest.raises(ConfigurationError, match="begin with logs/v0"):
            open_witness(tmp_path, [], lists=[tmp_path / "logs"])

    def test_monitors_see_what_a_witness_died_before_showing(
        self, tmp_path: Path
    ) -> None:
        state = new_state(tmp_path)
        state.advance(LOG.origin, NOTHING_SEEN, Seen(7, LOG.root(7)), LOG.note(7))
        book = LogBook(LOG.vkeys)
        with closing(WitnessApp(state, book, witness_signers())) as app:
            shown = call(app, "GET", MONITOR)
        known = [*LOG.verifiers, *WITNESS]
        assert len(open_note(shown.body, known).signatures) == 3


class TestOpening:
    def test_without_a_state_nothing_starts(self, tmp_path: Path) -> None:
        for start in (
            lambda: open_witness(tmp_path, LOG.vkeys),
            lambda: serve_witness(tmp_path, LOG.vkeys, "127.0.0.1", 0),
        ):
            with pytest.raises(ConfigurationError, match="no key file at"):
                start()
        assert list(tmp_path.iterdir()) == []

    def test_the_keys_are_those_that_init_gave(self, tmp_path: Path) -> None:
        vkeys = init_witness(tmp_path, WITNESS_NAME)
        with closing(open_witness(tmp_path, LOG.vkeys)) as app:
            assert list(app.vkeys) == vkeys

    def test_a_log_with_two_keys_and_one_named_twice(self, tmp_path: Path) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        both = SomeLog(LOG.origin, (ED25519, ML_DSA_44))
        with closing(open_witness(tmp_path, [*both.vkeys, *both.vkeys])) as app:
            for body in (both.request(0, 7), LOG.request(7, 9)):
                assert call(app, "POST", "/add-checkpoint", [body]).status == 200

    @pytest.mark.parametrize(
        ("logs", "reason"),
        [
            ([], "expected the vkey of at least one log, or a list of logs, got none"),
            (["nonsense"], r"the vkey of a log: expected the vkey as"),
            ([WITNESS[0].vkey], r"is a witness's key \(type 0x04\), expected a log's"),
        ],
    )
    def test_logs_that_cannot_be_served(
        self, tmp_path: Path, logs: list[str], reason: str
    ) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        with pytest.raises(ConfigurationError, match=reason):
            open_witness(tmp_path, logs)

    def test_a_version_that_is_not_known(self, tmp_path: Path) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        with pytest.raises(ConfigurationError, match=r"a tlog-witness version of main"):
            open_witness(tmp_path, LOG.vkeys, "v2")  # type: ignore[arg-type]

    @pytest.mark.parametrize("host", ["256.256.256.256", "::zz"])
    def test_an_address_that_is_none(self, tmp_path: Path, host: str) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        with pytest.raises(AuditLogError, match=f"cannot listen on {host} port 0: "):
            serve_witness(tmp_path, LOG.vkeys, host, 0)

    def test_a_port_in_use(self, tmp_path: Path) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(AuditLogError, match=rf"cannot listen on .*{port}: "):
                serve_witness(tmp_path, LOG.vkeys, "127.0.0.1", port)

    def test_without_uvicorn_it_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        monkeypatch.setitem(sys.modules, "uvicorn", None)
        with pytest.raises(ConfigurationError, match=r"decision-auditlog\[web\]"):
            serve_witness(tmp_path, LOG.vkeys, "127.0.0.1", 0)


# --- a real server --------------------------------------------------------------------

SERVE = """
import sys
from pathlib import Path
from auditlog.web.witness_server import serve_witness
directory, host, *logs = sys.argv[1:]
serve_witness(Path(directory), logs, host, 0, ready=lambda url: print(url, flush=True))
"""


@contextmanager
def process(
    directory: Path, host: str = "127.0.0.1"
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A witness in a process of its own; killed at the end if it still runs."""
    command = [sys.executable, "-c", SERVE, str(directory), host, *LOG.vkeys]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as running:
        try:
            assert running.stdout is not None
            yield running, running.stdout.readline().strip()
        finally:
            running.kill()


def send(url: str, method: str, path: str, body: bytes = b"") -> Reply:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    with closing(connection):
        connection.request(method, path, body)
        response = connection.getresponse()
        return Reply(response.status, dict(response.headers), response.read())


def test_a_signal_stops_it_and_the_state_is_whole(tmp_path: Path) -> None:
    vkeys = init_witness(tmp_path, WITNESS_NAME)
    with process(tmp_path) as (running, url):
        assert send(url, "POST", "/add-checkpoint", LOG.request(0, 7)).status == 200
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) in {0, -signal.SIGTERM}
    assert not (tmp_path / "witness.sqlite3-wal").exists()
    with closing(WitnessState(tmp_path / "witness.sqlite3")) as state:
        assert (state.latest(LOG.origin).size, list(state.vkeys)) == (7, vkeys)


@pytest.mark.parametrize(
    "listen", [witness_server._listen, serving._listen], ids=["witness", "log"]
)
def test_no_answer_waits_for_the_acknowledgement_of_its_head(
    listen: Callable[[str, int], socket.socket],
) -> None:
    with listen("127.0.0.1", 0) as listener, socket.socket() as caller:
        caller.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_it_listens_on_ipv6(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    init_witness(tmp_path, WITNESS_NAME)
    with process(tmp_path, "::1") as (_, url):
        assert url.startswith("http://[::1]:")
        assert send(url, "POST", "/add-checkpoint", LOG.request(0, 7)).status == 200


def test_what_monitors_see_satisfies_a_policy(tmp_path: Path) -> None:
    with served_witness(tmp_path, LOG.vkeys) as (url, vkeys):
        send(url, "POST", "/add-checkpoint", LOG.request(0, 7))
        note = send(url, "GET", MONITOR).body
    lines = [f"log {LOG.vkeys[0]}"]
    lines += [f"witness w{number} {vkey}" for number, vkey in enumerate(vkeys)]
    policy = parse_policy("\n".join([*lines, "group all all w0 w1", "quorum all\n"]))
    opened = open_checkpoint(note, policy)
    assert (opened.checkpoint.size, opened.checkpoint.root) == (7, LOG.root(7))
    assert all(abs(time.time() - at) < 60 for _, at in opened.cosignatures)


def test_over_http_too_long_a_body_is_refused(tmp_path: Path) -> None:
    with served_witness(tmp_path, LOG.vkeys) as (url, _):
        reply = send(url, "POST", "/add-checkpoint", b"x" * (MAX_BODY + 1))
        assert reply.status == 413


class Promises:
    """What a witness has signed: one root for each size, and sizes that only grow."""

    def __init__(self, known: list[Verifier]) -> None:
        self.known = known
        self.roots: dict[int, bytes] = {0: EMPTY_ROOT}
        self.size = 0

    def add(self, log: SomeLog, size: int, fork: int | None, lines: bytes) -> None:
        signed = open_note(log.note(size, fork) + lines, self.known).signatures
        assert len(signed) == 2
        root = log.root(size, fork)
        assert self.roots.setdefault(size, root) == root, f"two roots of size {size}"
        assert size >= self.size, f"{size} signed after {self.size}"
        self.size = size


def test_killed_at_any_moment_it_never_contradicts_itself(tmp_path: Path) -> None:
    vkeys = init_witness(tmp_path, WITNESS_NAME)
    promises = Promises([parse_vkey(vkey) for vkey in vkeys])
    chance = random.Random(20261123)
    for _ in range(3):
        with process(tmp_path) as (running, url):
            end = time.monotonic() + chance.uniform(0.15, 0.4)
            # A second process pulls the trigger, so that it falls anywhere.
            killer = subprocess.Popen(
                [
                    "sh",
                    "-c",
                    f"sleep {end - time.monotonic():.4f}; kill -9 {running.pid}",
                ]
            )
            converse(url, promises, chance)
            assert running.wait(10) == -signal.SIGKILL
            assert killer.wait(10) == 0
    with process(tmp_path) as (running, url):
        fork = send(url, "POST", "/add-checkpoint", LOG.request(0, 600, fork=0))
        assert fork.status == 409
        seen = int(fork.body)
        assert seen >= promises.size > 0
        refresh = send(url, "POST", "/add-checkpoint", LOG.request(seen, seen))
        assert refresh.status == 200
        promises.add(LOG, seen, None, refresh.body)
        note = send(url, "GET", MONITOR).body
        assert note == LOG.note(seen) + refresh.body


def converse(url: str, promises: Promises, chance: random.Random) -> None:
    """Grow, fork and roll back, until the witness is dead."""
    size = promises.size
    while True:
        fork = chance.choice([None, None, None, 0, size // 2])
        new = min(chance.choice([size, size + 1, size + 3, size // 2]), 599)
        old = min(size, new)
        if size == 0 and fork is not None:
            continue  # the first tree decides which past is the honest one
        try:
            reply = send(url, "POST", "/add-checkpoint", LOG.request(old, new, fork))
        except (OSError, http.client.HTTPException):
            return
        if reply.status == 200:
            promises.add(LOG, new, fork, reply.body)
            size = new
        elif reply.headers["content-type"] == SIZE_TYPE:
            size = int(reply.body)
        else:
            assert (reply.status, fork is None) == (422, False)


# --- death at each line ---------------------------------------------------------------

DIE = """
import os, signal, sys
from pathlib import Path
from auditlog.storage.witness_state import NOTHING_SEEN, Seen, WitnessState
from auditlog.web.witness_protocol import process_add_checkpoint
from tests.witnesses import NOW, SomeLog, witness_signers

log, path, line = SomeLog(), Path(sys.argv[1]), 0
OURS = ("witness_protocol.py", "witness_state.py")
body = log.request(7, 9)
witness_signers()  # once, and not in each child

def trace(frame, event, arg):
    global line
    if not frame.f_code.co_filename.endswith(OURS):
        return None
    if event == "line":
        line += 1
        if line == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace

deadly = 0
while True:
    deadly += 1
    state = path.with_name(f"{deadly}.sqlite3")
    state.write_bytes(path.read_bytes())
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        opened = WitnessState(state)
        sys.settrace(trace)
        answer = process_add_checkpoint(body, opened, log.keys, witness_signers(), NOW)
        sys.settrace(None)
        os.write(writing, answer.body)
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        sent = pipe.read()
    print(deadly, os.waitstatus_to_exitcode(status), sent.hex(), flush=True)
    if os.WIFEXITED(status):
        break
"""


def test_killed_at_each_line_it_keeps_its_word(tmp_path: Path) -> None:
    with closing(new_state(tmp_path)) as state:
        app = WitnessApp(
            state, LogBook(LOG.vkeys), witness_signers(), clock=lambda: NOW
        )
        assert call(app, "POST", "/add-checkpoint", [LOG.request(0, 7)]).status == 200
        app.close()
    done = subprocess.run(
        [sys.executable, "-c", DIE, str(tmp_path / "state.sqlite3")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    deaths = [line.split(" ") for line in done.stdout.splitlines()]
    assert deaths[-1][1] == "0"
    assert all((status, sent) == ("-9", "") for _, status, sent in deaths[:-1])
    sizes = []
    for number, _, sent in deaths:
        with closing(WitnessState(tmp_path / f"{number}.sqlite3")) as state:
            seen = state.latest(LOG.origin)
            assert seen.root == LOG.root(seen.size)
            assert seen.size == 9 or not sent
            sizes.append(seen.size)
    # It moved at one line, after which nothing had been said yet, and never back.
    assert sizes == sorted(sizes)
    assert set(sizes) == {7, 9}
    assert sizes.count(7) > 20
    assert sizes.count(9) > 5
