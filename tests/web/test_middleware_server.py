"""The middleware under a real server: uvicorn, over real sockets."""

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import Response, StreamingResponse

from auditlog.core.record import parse_entry
from auditlog.log.directory import open_log
from auditlog.web.middleware import AuditMiddleware
from tests.web.fake_runtime import FakeRuntime

TIMEOUT = 10


def build() -> FastAPI:
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    @app.post("/chunks")
    async def chunks(request: Request) -> StreamingResponse:
        parts = [part async for part in request.stream()]
        return StreamingResponse(iter(parts))

    @app.post("/unread")
    async def unread() -> str:
        return "not read"

    @app.post("/endless")
    async def endless() -> StreamingResponse:
        return StreamingResponse(ticks(), media_type="text/event-stream")

    @app.get("/read")
    def read() -> str:
        return "read"

    return app


async def ticks() -> AsyncIterator[bytes]:
    while True:
        yield b"data: tick\n\n"
        await asyncio.sleep(0.01)


@contextlib.contextmanager
def serving(app: Any, **options: Any) -> Iterator[int]:
    """Serve `app` in a thread; yield the port."""
    config = uvicorn.Config(app, port=0, log_level="error", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(TIMEOUT)
    assert not thread.is_alive()


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def post(port: int, path: str, body: Any = b"") -> tuple[int, bytes, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    connection.request("POST", path, body, {"content-type": "application/json"})
    answer = connection.getresponse()
    result = (answer.status, answer.read(), answer.getheader("decision-id"))
    connection.close()
    return result


def exchange_bytes(port: int, request: bytes) -> bytes:
    """Send raw bytes that end with ``Connection: close``; return all that comes."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_decisions_over_one_connection(durability: Any) -> None:
    runtime, app = FakeRuntime(), build()
    app.add_middleware(AuditMiddleware, runtime=runtime, durability=durability)
    with serving(app) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        for number in range(5):
            connection.request("POST", "/echo", b"[%d]" % number)
            answer = connection.getresponse()
            assert answer.read() == b"[%d]" % number
            assert answer.getheader("decision-id") is not None
            connection.request("GET", "/read")
            assert connection.getresponse().read() == b'"read"'
        connection.close()
        wait_for(lambda: len(runtime.seen) == 5)
    runtime.check()
    assert runtime.calls == ["flush", "stop"]
    assert [seen.response for seen in runtime.seen] == [b"[%d]" % n for n in range(5)]


def raw(path: str, *lines: str, body: bytes = b"", version: str = "1.1") -> bytes:
    head = [f"{path} HTTP/{version}", "Host: t", "Connection: close", *lines, "", ""]
    return "\r\n".join(head).encode() + body


CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
RAW = [
    raw("POST /echo", "Content-Length: 2", body=b"{}"),
    raw("POST /echo", CHUNKED, body=CHUNKS),
    raw("POST /chunks", CHUNKED, body=CHUNKS),
    raw("POST /unread", "Expect: 100-continue", "Content-Length: 2", body=b"{}"),
    raw("POST /missing"),
    raw("HEAD /read"),
    raw("POST /echo", version="1.0"),
]


def test_bytes_on_the_wire_are_the_same_but_for_the_header() -> None:
    runtime = FakeRuntime()
    audited = AuditMiddleware(build(), runtime=runtime, durability="sync")
    with serving(build(), date_header=False) as bare:
        expected = [exchange_bytes(bare, request) for request in RAW]
    with serving(audited, date_header=False) as port:
        got = [exchange_bytes(port, request) for request in RAW]
    assert [re.sub(rb"decision-id: [-0-9a-f]{36}\r\n", b"", one) for one in got] == (
        expected
    )
    assert sum(b"decision-id: " in one for one in got) == len(runtime.opened) == 5
    runtime.check()


@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_a_client_that_leaves_a_stream(durability: Any, base: bool) -> None:
    runtime, app = FakeRuntime(), build()
    if base:
        app.add_middleware(BaseHTTPMiddleware, dispatch=_pass_on)
    app.add_middleware(AuditMiddleware, runtime=runtime, durability=durability)
    with serving(app) as port:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
            connection.sendall(raw("POST /endless"))
            read = b""
            while read.count(b"tick") < 3:
                read += connection.recv(4096)
        wait_for(lambda: runtime.seen)
    seen = runtime.only()
    assert seen.exchange.outcome == "client_disconnected"
    assert seen.states[1] == "partial"
    assert seen.response.count(b"tick") >= 3


async def _pass_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


def test_streams_arrive_while_the_end_is_held() -> None:
    runtime, app = FakeRuntime(gated=True), build()
    app.add_middleware(AuditMiddleware, runtime=runtime, durability="sync")
    with (
        serving(app) as port,
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection,
        connection.makefile("rb") as answer,
    ):
        connection.sendall(raw("POST /chunks", "Content-Length: 2", body=b"ab"))
        while answer.readline() != b"\r\n":
            pass
        assert answer.read(7) == b"2\r\nab\r\n"
        wait_for(lambda: runtime.waiting)
        connection.settimeout(0.05)
        with pytest.raises(TimeoutError):
            answer.raw.read(1)
        runtime.accept()
        connection.settimeout(TIMEOUT)
        assert connection.recv(100) == b"0\r\n\r\n"
    assert runtime.only().exchange.outcome == "completed"


def test_a_slow_client_slows_the_application() -> None:
    produced: list[int] = []
    chunk = bytes(1 << 20)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        for number in range(100):
            produced.append(number)
            body = {"type": "http.response.body", "body": chunk, "more_body": True}
            await send(body)
        await send({"type": "http.response.body"})

    runtime = FakeRuntime()
    audited = AuditMiddleware(app, runtime=runtime, max_stored_bytes=10)
    with (
        serving(audited, lifespan="off") as port,
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection,
    ):
        connection.sendall(raw("POST /endless"))
        wait_for(lambda: produced)
        # What fits into the buffers of the kernel goes on; then somebody has to read.
        before = -1
        while len(produced) != before:
            before = len(produced)
            time.sleep(0.2)
        assert len(produced) < 100
        while connection.recv(1 << 20):
            pass
    assert len(produced) == 100
    assert runtime.only().exchange.response.size == 100 << 20


def test_a_large_upload_and_answer() -> None:
    runtime, app = FakeRuntime(), build()
    app.add_middleware(AuditMiddleware, runtime=runtime, max_stored_bytes=1000)
    body = bytes(range(256)) * 8192
    with serving(app) as port:
        assert post(port, "/chunks", body)[:2] == (200, body)
        wait_for(lambda: runtime.seen)
    seen = runtime.only()
    assert seen.exchange.request.size == seen.exchange.response.size == len(body)
    assert seen.request == seen.response == body[:1000]


def test_many_clients_at_once() -> None:
    runtime, app = FakeRuntime(), build()
    app.add_middleware(AuditMiddleware, runtime=runtime, durability="sync")

    def one(number: int) -> None:
        for turn in range(10):
            body = b"[%d,%d]" % (number, turn)
            assert post(port, "/echo", body)[:2] == (200, body)

    with serving(app) as port:
        threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
    runtime.check()
    assert len({seen.request for seen in runtime.seen}) == 80
    assert all(seen.request == seen.response for seen in runtime.seen)


@pytest.mark.parametrize("base", [False, True])
def test_a_stream_that_is_killed_at_shutdown_is_interrupted(base: bool) -> None:
    runtime, app = FakeRuntime(), build()
    if base:
        app.add_middleware(BaseHTTPMiddleware, dispatch=_pass_on)
    app.add_middleware(AuditMiddleware, runtime=runtime)
    with (
        contextlib.ExitStack() as outlives,
        serving(app, timeout_graceful_shutdown=1) as port,
    ):
        connection = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        outlives.enter_context(connection)
        connection.sendall(raw("POST /endless"))
        assert connection.recv(4096)
        wait_for(lambda: runtime.opened)
    assert runtime.calls == ["flush", "stop"]
    seen = runtime.only()
    assert seen.exchange.outcome == "interrupted"
    assert seen.states[1] == "partial"


def test_a_server_without_lifespan() -> None:
    runtime, app = FakeRuntime(), build()
    app.add_middleware(AuditMiddleware, runtime=runtime)
    with serving(app, lifespan="off") as port:
        assert post(port, "/echo", b"{}")[:2] == (200, b"{}")
    assert runtime.only().exchange.outcome == "completed"
    assert runtime.calls == []


SERVICE = """
    import asyncio
    from fastapi import FastAPI
    from starlette.responses import StreamingResponse
    from auditlog import AuditMiddleware

    app = FastAPI()
    app.add_middleware(AuditMiddleware, model="demo@1")

    @app.post("/score/{key}")
    def score(key: str) -> str:
        return key

    @app.post("/endless")
    async def endless() -> StreamingResponse:
        async def ticks():
            while True:
                yield b"tick"
                await asyncio.sleep(0.01)
        return StreamingResponse(ticks())
"""


def test_sigterm_during_a_stream_leaves_a_whole_log(tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(textwrap.dedent(SERVICE))
    root = Path(__file__).resolve().parents[2]
    environment = {
        **os.environ,
        "AUDITLOG_DIR": str(tmp_path / "audit"),
        "AUDITLOG_ORIGIN": "test.example/log",
        "PYTHONPATH": str(root),
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", str(port)]
    command += ["--timeout-graceful-shutdown", "1", "--log-level", "error"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        wait_for(lambda: _accepts(port))
        status, body, id_ = post(port, "/score/alice")
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as connection:
            connection.sendall(raw("POST /endless"))
            assert connection.recv(4096)
            process.send_signal(signal.SIGTERM)
            process.wait(TIMEOUT)
    assert (status, body) == (200, b'"alice"')
    log = open_log(tmp_path / "audit")
    entries = [parse_entry(entry) for entry in log.store.read(0, log.store.size())]
    log.close()
    decisions = {e.data["http.route"]: e.data for e in entries if "decision" in e.type}
    assert decisions["/score/{key}"]["outcome"] == "completed"
    assert decisions["/endless"]["outcome"] == "interrupted"
    assert sorted(data["sequence"] for data in decisions.values()) == [0, 1]
    emitters = [e.data.get("state") for e in entries if "emitter" in e.type]
    assert emitters == ["start", "stop"]
    assert id_ is not None


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
