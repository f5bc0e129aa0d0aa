"""WebSockets on real servers, with a real client, and what can be shown of them.

``WEBSOCKET_MESSAGES=100000`` makes the long session longer.
"""

import base64
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any, NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from auditlog.core.commitment import disclosure_hash
from auditlog.core.pieces import messages
from auditlog.core.record import parse_entry
from auditlog.log.content import Content, verify_content
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from tests.command import auditlog
from tests.e2e.processes import Server
from tests.e2e.servers import SERVERS, recovered, serve
from tests.e2e.test_memory import Memory
from tests.harness import Log

APP = "tests.e2e.websockets_app:app"
TIMEOUT = 20


class Ended(NamedTuple):
    """What the log says of one session."""

    outcome: str
    status: int | None
    request: str
    response: str


COMPLETE = Ended("completed", 101, "complete", "complete")
LOST = Ended("client_disconnected", 101, "partial", "partial")
SILENT = LOST._replace(request="unread")

EXPECTED = {
    "/echo": COMPLETE,
    "/echo/away": COMPLETE,
    "/echo/wordless": COMPLETE,
    "/echo/lost": LOST,
    "/closed": COMPLETE,
    "/failed": Ended("error", 101, "complete", "complete"),
    "/raises": Ended("error", 101, "unread", "partial"),
    "/raises_first": Ended("error", None, "unread", "not_observed"),
    "/returns": Ended("incomplete", 101, "unread", "partial"),
    "/refused": Ended("rejected", 403, "unread", "not_observed"),
    "/answered": Ended("rejected", 401, "unread", "complete"),
    "/stopped": Ended("interrupted", 101, "unread", "partial"),
}
"""By route, where a server says all that it knows: uvicorn."""

DIFFERENT: dict[str, dict[str, Ended]] = {
    "uvicorn": {"/pushes": SILENT},
    # It says 1006 of whatever the client did, and nothing to who only sends.
    "hypercorn": {"/echo": LOST, "/echo/away": LOST, "/echo/wordless": LOST},
    # It says the same of a close without a code and of a connection that was lost.
    "granian": {"/echo/wordless": LOST},
}


class Arm(NamedTuple):
    """What one server left, and what its clients saw."""

    log: Log
    directory: Path
    ids: dict[str, str | None]


@contextlib.contextmanager
def _connect(server: Server, path: str, **more: Any) -> Iterator[ClientConnection]:
    url = f"ws://127.0.0.1:{server.port}{path}"
    with connect(url, open_timeout=TIMEOUT, close_timeout=TIMEOUT, **more) as socket:
        yield socket


def _id(socket: ClientConnection) -> str | None:
    assert socket.response is not None
    return socket.response.headers.get("decision-id")


@contextlib.contextmanager
def _echoed(
    server: Server, path: str, *said: str | bytes
) -> Iterator[ClientConnection]:
    with _connect(server, path, subprotocols=["chat", "other"]) as socket:
        assert socket.subprotocol == "chat"
        for one in said:
            socket.send(one)
            assert socket.recv(TIMEOUT) == one
        yield socket


def _leave_in_every_way(server: Server) -> dict[str, str | None]:
    """Let a client leave as clients do; return the ids that it was told."""
    with _echoed(server, "/echo", "hello", b"\x00\xff", "") as socket:
        ids = {"/echo": _id(socket)}
    with _echoed(server, "/echo/away", "x") as socket:
        socket.close(1001)
    with _echoed(server, "/echo/wordless", "x") as socket:
        socket.protocol.send_close()
        for data in socket.protocol.data_to_send():
            socket.socket.sendall(data)
    with _echoed(server, "/echo/lost", "x") as socket:
        socket.socket.shutdown(SHUT_RDWR)
    return ids


def _be_left_in_every_way(server: Server) -> None:
    """Let the application end sessions, and refuse them."""
    with _connect(server, "/closed") as socket:
        socket.send("please")
        assert socket.recv(TIMEOUT) == "well"
        with pytest.raises(ConnectionClosed):
            socket.recv(TIMEOUT)
        assert (socket.close_code, socket.close_reason) == (1000, "done")
    for path in ("/failed", "/raises", "/returns"):
        with (
            _connect(server, path) as socket,
            contextlib.suppress(ConnectionClosed),
        ):
            while True:
                assert socket.recv(TIMEOUT) == "well"
    for path in ("/raises_first", "/refused", "/answered", "/nowhere"):
        with pytest.raises(InvalidStatus) as refusal, _connect(server, path):
            pass
        if path == "/answered":
            response = refusal.value.response
            assert (response.status_code, bytes(response.body)) == (401, b"not you")
            assert response.headers["decision-id"]


def _run(name: str, directory: Path) -> Arm:
    """Drive one server through every end and then stop it."""
    with serve(SERVERS[name], APP, directory) as server:
        ids = _leave_in_every_way(server)
        _be_left_in_every_way(server)
        if "/pushes" in DIFFERENT[name]:
            with _connect(server, "/pushes") as socket:
                assert socket.recv(TIMEOUT) == "tick"
        with _connect(server, "/stopped") as socket:
            assert socket.recv(TIMEOUT) == "ready"
            server.terminate()
            with contextlib.suppress(ConnectionClosed):
                socket.recv(TIMEOUT)
        server.wait()
    return Arm(recovered(directory), directory, ids)


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Arm]:
    """Return what each server left; they run side by side, most of it is waiting."""
    directories = [tmp_path_factory.mktemp(name) for name in SERVERS]
    with ThreadPoolExecutor(len(SERVERS)) as pool:
        found = pool.map(_run, SERVERS, directories)
        return dict(zip(SERVERS, found, strict=True))


def _ends(log: Log) -> list[tuple[str, Ended]]:
    ends = []
    for decision in log.decisions:
        data = decision["data"]
        states = (data["request"]["state"], data["response"]["state"])
        status = data.get("http.response.status_code")
        ends.append((data["http.route"], Ended(data["outcome"], status, *states)))
    return ends


@pytest.mark.parametrize("server", SERVERS)
def test_each_end_is_told_apart_and_each_session_stands_once(
    arms: dict[str, Arm], server: str
) -> None:
    ends = _ends(arms[server].log)
    expected = EXPECTED | DIFFERENT[server]
    if server == "granian" and ("/stopped", SILENT) in ends:
        # It loses connections and stops the lifespan, in whichever order.
        expected["/stopped"] = SILENT
    assert dict(ends) == expected
    assert len(ends) == len(expected)


def _content(directory: Path, route: str) -> tuple[dict[str, Any], Content]:
    with open_log(directory / "audit", read_only=True) as log:
        reader = Reader(log)
        for encoded in log.store.read(0, log.store.size()):
            event = json.loads(encoded)
            if event["data"].get("http.route") == route:
                return event, reader.content(event["id"])
    raise AssertionError(route)


@pytest.mark.parametrize("server", SERVERS)
def test_what_passed_is_kept_in_its_order_and_nothing_of_it_stands_in_clear(
    arms: dict[str, Arm], server: str
) -> None:
    _, directory, ids = arms[server]
    event, content = _content(directory, "/echo")
    asked, answered = messages(content.request), messages(content.response)
    assert [(one.order, one.kind, one.payload) for one in asked] == [
        (0, 1, b"hello"),
        (2, 2, b"\x00\xff"),
        (4, 1, b""),
    ]
    assert [one.payload for one in answered] == [one.payload for one in asked]
    assert [one.order for one in answered] == [1, 3, 5]
    data = event["data"]
    assert data["http.request.method"] == "GET"
    for side in ("request", "response"):
        assert (data[side]["mediaType"], data[side]["split"]) == ("none", "ws")
    assert content.context["websocket.subprotocol"] == b"chat"
    assert not {"websocket.close", "chat", "1000"} & set(json.dumps(data).split('"'))
    # granian sends no header of the application with its 101.
    assert ids["/echo"] == (None if server == "granian" else event["id"])


@pytest.mark.parametrize("server", SERVERS)
def test_an_answer_instead_of_a_handshake_is_kept(
    arms: dict[str, Arm], server: str
) -> None:
    event, content = _content(arms[server].directory, "/answered")
    assert content.response == b"not you"
    assert event["data"]["response"]["mediaType"] == "text/plain"
    assert event["data"]["response"]["split"] == "none"


@pytest.fixture
def talking(tmp_path: Path) -> Iterator[Server]:
    env = {"AUDITLOG_WEBSOCKET": "message"}
    with serve(SERVERS["uvicorn"], APP, tmp_path, env) as server:
        yield server


def test_each_message_is_a_decision_and_a_kill_takes_none_of_them(
    talking: Server, tmp_path: Path
) -> None:
    with _connect(talking, "/turns") as socket:
        ids = []
        for text in ("one", "two", "three"):
            socket.send(text)
            assert socket.recv(TIMEOUT) == f"{text}, {text}!"
            ids.append(str(socket.recv(TIMEOUT)))
        assert _id(socket) == ids[0]
        talking.signal(signal.SIGKILL)
        talking.kill()
        with contextlib.suppress(ConnectionClosed):
            socket.recv(TIMEOUT)
    log = recovered(tmp_path)
    decisions = {one["id"]: one["data"] for one in log.decisions}
    assert sorted(decisions) == sorted(ids)
    # The last one was open, and what was not on disk yet is admitted likewise.
    outcomes = [decisions[id_]["outcome"] for id_ in ids]
    assert outcomes[2] == "interrupted"
    assert set(outcomes[:2]) <= {"completed", "interrupted"}


def _see_what_was_said(directory: Path, id_: str) -> None:
    command = ("show", id_, "--dir", directory, "--content")
    shown = auditlog(*command).out
    assert "--- request#0, client\ntwo\n" in shown
    assert "--- response#0, application\ntwo, two!\n" in shown
    assert "--- request\n" not in shown
    assert auditlog(*command, "--json").document()["messages"] == [
        {"order": 3, "by": "client", "path": "request#0", "text": "two"},
        {"order": 4, "by": "application", "path": "response#0", "text": "two, two!"},
        {"order": 5, "by": "application", "path": "response#1", "text": id_},
    ]


def test_a_message_and_its_answer_are_disclosed_and_verified_offline(
    talking: Server, tmp_path: Path
) -> None:
    directory = tmp_path / "audit"
    with _connect(talking, "/turns") as socket:
        ids = []
        for text in ("one", "two"):
            socket.send(text)
            assert socket.recv(TIMEOUT) == f"{text}, {text}!"
            ids.append(str(socket.recv(TIMEOUT)))
    second = ids[1]
    _see_what_was_said(directory, second)
    file = tmp_path / "second.receipt.json"
    paths = ("request#0", "response#0", "context/session", "context/websocket.turns")
    chosen = [word for path in paths for word in ("--field", path)]
    done = auditlog(
        *("disclose", second, "--dir", directory, "--wait", "included", "-o", file),
        *(*chosen, "--recipient", "a test"),
    )
    assert done.status == 0, done
    verified = auditlog("verify", file, "--policy", directory / "policy", "--json")
    assert verified.status == 0, verified
    shown = {
        one["path"]: base64.b64decode(one["value"])
        for one in verified.document()["disclosed"]
    }
    assert shown["request#0"] == b"two"
    assert shown["response#0"] == b"two, two!"
    assert json.loads(shown["context/websocket.turns"])["begin"] == [3]
    assert json.loads(shown["context/session"])["connection"] != second


COUNT = int(os.environ.get("WEBSOCKET_MESSAGES", "10000"))
PAYLOAD = 1024
WINDOW = 250
"""Messages that are under way at once."""


def _message(number: int) -> bytes:
    return number.to_bytes(4) * (PAYLOAD // 4)


def _talk(server: Server, count: int) -> str:
    """Have so many messages echoed in one session; return its id."""
    with _connect(server, "/echo", compression=None) as socket:
        for start in range(0, count, WINDOW):
            window = range(start, min(start + WINDOW, count))
            for number in window:
                socket.send(_message(number))
            for number in window:
                assert socket.recv(TIMEOUT) == _message(number)
        id_ = _id(socket)
    assert id_ is not None
    return id_


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="resident memory is read in /proc"
)
def test_a_long_session_leaves_memory_flat_and_one_of_its_messages_can_be_shown(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "audit"
    with serve(SERVERS["uvicorn"], APP, tmp_path) as server:
        # What every process takes once is not what is measured.
        _talk(server, 1500)
        memory = Memory(server.pid)
        id_ = _talk(server, COUNT)
        file = tmp_path / "r.receipt.json"
        named = (
            *("disclose", id_, "--dir", directory, "--recipient", "a test"),
            *("--wait", "included", "-o", file),
        )
        shown = ("--field", "request#500", "--field", "response#500")
        done = auditlog(*named, *shown)
        assert done.status == 0, done
        assert memory.growth() < 24 << 20
        seen = auditlog("show", id_, "--dir", directory, "--content").out
        assert "\n--- request, only its first bytes were kept\n" in seen
        assert "\n--- response#500, application, not text, in base64\n" in seen
        beyond = auditlog(*named, "--field", f"response#{COUNT - 1}")
        assert beyond.status != 0
        assert "only the first bytes of 'response#" in beyond.err
    verified = auditlog("verify", file, "--policy", directory / "policy", "--json")
    assert verified.status == 0, verified
    opened = [
        base64.b64decode(one["value"]) for one in verified.document()["disclosed"]
    ]
    assert opened == [_message(500), _message(500)]
    with open_log(directory, read_only=True) as log:
        reader = Reader(log)
        entry = reader.decision(id_).entry
        assert entry is not None
        leaves = verify_content(parse_entry(entry), reader.content(id_))
    split = json.loads(entry)["data"]["response"]["split"]
    assert split == "ws"
    # The leaf of the last message, which was not kept, is what was sent.
    (last,) = (leaf for leaf in leaves if leaf.path == f"response#{COUNT - 1}")
    assert last.hash == disclosure_hash(last.salt, last.path, _message(COUNT - 1))
