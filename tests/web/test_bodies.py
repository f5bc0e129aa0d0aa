"""Bodies through the middleware, whoever reads and sends them, and in whatever way."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response

from auditlog.capture.kept import TAIL
from auditlog.web.asgi import App, Receive, Scope, Send, entity_headers
from auditlog.web.middleware import AuditMiddleware
from tests.web.asgi_driver import START, Server, call, chunk, http_scope
from tests.web.asgi_driver import body as answer
from tests.web.fake_runtime import FakeRuntime

PARTS = [b'{"age":', b" 4", b"1}"]
WHOLE = b"".join(PARTS)


def serving(endpoint: Callable[..., Any], **options: Any) -> tuple[App, FakeRuntime]:
    runtime, app = FakeRuntime(), Starlette()
    app.add_route("/score", endpoint, methods=["POST"])
    app.add_middleware(AuditMiddleware, runtime=runtime, **options)
    return app, runtime


async def raw(request: Request) -> bytes:
    parts, more = [], True
    while more:
        message = await request.receive()
        parts.append(message["body"])
        more = message["more_body"]
    return b"".join(parts)


async def body(request: Request) -> bytes:
    return await request.body()


async def twice(request: Request) -> bytes:
    await request.body()
    return await request.body()


async def stream(request: Request) -> bytes:
    return b"".join([part async for part in request.stream()])


async def json(request: Request) -> bytes:
    assert await request.json() == {"age": 41}
    return WHOLE


@pytest.mark.parametrize("read", [raw, body, twice, stream, json])
def test_whoever_reads_the_body_gets_all_of_it(read: Callable[..., Any]) -> None:
    async def endpoint(request: Request) -> Response:
        return Response(await read(request))

    app, runtime = serving(endpoint)
    incoming = [chunk(part, more=True) for part in PARTS] + [chunk()]
    server = call(app, Server(incoming))
    assert server.body() == WHOLE
    assert server.incoming == []
    assert runtime.only().request == WHOLE
    assert runtime.only().states == ("complete", "complete")


@pytest.mark.parametrize("kind", ["pathsend", "zerocopysend"])
def test_a_file_passes_through_us_though_the_server_could_send_it_itself(
    tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "model card.pdf"
    file.write_bytes(bytes(range(256)) * 700)

    async def endpoint(request: Request) -> Response:
        return FileResponse(file)

    app, runtime = serving(endpoint)
    extensions: dict[str, Any] = {f"http.response.{kind}": {}}
    server = call(app, scope=http_scope(extensions=extensions))
    assert server.body() == file.read_bytes()
    assert runtime.only().response == file.read_bytes()
    assert runtime.only().states[1] == "complete"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], (None, None)),
        ([(b"Content-Type", b"a/b"), (b"CONTENT-ENCODING", b"gzip")], ("a/b", "gzip")),
        ([(b"content-type", b"a/b"), (b"content-type", b"c/d")], ("a/b", None)),
        (
            [(b"content-encoding", b"br"), (b"content-encoding", b"gzip")],
            (None, "br, gzip"),
        ),
        ([(b"x-request-id", b"1"), (b"content-location", b"2")], (None, None)),
        (iter([(b"content-type", b"\xe9")]), ("é", None)),
    ],
    ids=range(6),
)
def test_what_a_request_says_of_its_body(headers: Any, expected: Any) -> None:
    assert entity_headers({"headers": headers}) == expected
    assert entity_headers({}) == (None, None)


@pytest.mark.parametrize("limit", [0, 5, 1 << 20])
def test_a_coding_is_recorded_whatever_is_kept(limit: int) -> None:
    async def endpoint(request: Request) -> Response:
        await request.body()
        return PlainTextResponse("coded", headers={"content-encoding": "gzip"})

    app, runtime = serving(endpoint, max_stored_bytes=limit)
    headers = [(b"content-encoding", b"zstd"), (b"content-type", b"application/json")]
    call(app, scope=http_scope(headers=headers))
    exchange = runtime.only().exchange
    assert (exchange.request.coding, exchange.response.coding) == ("zstd", "gzip")
    assert exchange.request_type == "application/json"
    assert exchange.response_type == "text/plain; charset=utf-8"


LARGE = bytes(range(251)) * 6000
"""Over 1 MiB, 23 chunks."""


def wait_until_split() -> None:
    """Wait for the threads that split requests to learn where chunks begin."""
    for thread in threading.enumerate():
        if thread.name == "auditlog-split":
            thread.join(30)


@pytest.mark.parametrize(("depth", "first"), [(0, 2), (1, 3), (2, 5)])
def test_the_chunks_of_an_answer_follow_the_members_of_its_request(
    depth: int, first: int
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(answer(LARGE[: 1 << 20], more=True))
        await send(answer(LARGE[1 << 20 : -1000], more=True))
        await asyncio.to_thread(wait_until_split)
        await send(answer(LARGE[-1000:]))

    runtime = FakeRuntime()
    request = chunk(b'{"a": {"b": 1, "c": 2}}')
    call(AuditMiddleware(app, runtime=runtime, depth=depth), Server([request]))
    response = runtime.only().exchange.response
    assert response.held_bytes <= (1 << 20) + 2 * TAIL
    assert len(response.piece_hashes(first, 1)[1]) == 23
    assert response.piece_hashes(first + 1, 1) == ("none", [])
