"""An application with every kind of answer, with the middleware or without.

``WITH`` says how: nothing, ``added`` inside the compression, or ``wrapped`` around all.
"""

import gzip
import hashlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    Response,
    StreamingResponse,
)
from starlette import responses
from starlette.middleware.gzip import GZipMiddleware

from auditlog import AuditMiddleware

PAGE = (Path(__file__).parent / "eventsource.html").read_text("utf-8")
METHODS = ["GET", "HEAD", "POST", "PUT"]
EVENTS = (
    ": a comment\n\n",
    "data: one\n\n",
    "id: 2\nevent: named\ndata: två\ndata: lines\n\n",
    'data: {"token": "\N{GRINNING FACE}"}\r\n\r\n',
    "id: 4\nretry: 50\ndata:\n\n",
)

# What differs from answer to answer anyway: the second in the header of gzip, and the
# boundary between two ranges.
setattr(gzip, "time", SimpleNamespace(time=lambda: 0))  # noqa: B010
setattr(responses, "token_hex", lambda _: "boundary")  # noqa: B010

app = FastAPI()


@app.api_route("/json", methods=METHODS)
async def as_json(request: Request) -> JSONResponse:
    """Answer with what was asked, read whole or not at all."""
    body = await request.body() if "unread" not in request.query_params else b""
    return JSONResponse({"asked": hashlib.sha256(body).hexdigest(), "é": [1.5, None]})


@app.api_route("/chunks", methods=METHODS)
async def chunks(request: Request) -> StreamingResponse:
    """Answer in chunks of many sizes, an empty one among them."""
    body = b"".join([part async for part in request.stream()])
    parts = [b"", b"a", body, b"\x00\xff" * 40_000, b"", b"end"]
    return StreamingResponse(iter(parts), media_type="application/octet-stream")


@app.api_route("/long", methods=METHODS)
async def long() -> JSONResponse:
    """Answer with so much that it is compressed."""
    return JSONResponse({"rows": [{"n": n, "label": "approved"} for n in range(2000)]})


@app.api_route("/drip", methods=METHODS)
async def drip() -> StreamingResponse:
    """Answer in chunks that are compressed one by one."""
    return StreamingResponse((b"row %d\n" % n for n in range(500)), media_type="text/x")


@app.api_route("/sse", methods=METHODS)
async def sse(request: Request) -> StreamingResponse:
    """Send events, cut at unlucky places; the second time, the last one."""
    text = "".join(EVENTS)
    if "last-event-id" in request.headers:
        text = f"event: end\ndata: after {request.headers['last-event-id']}\n\n"
    data = text.encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 7):
            yield data[start : start + 7]

    return StreamingResponse(pieces(), media_type="text/event-stream")


@app.api_route("/file", methods=METHODS)
async def file() -> FileResponse:
    """Send a file, whole or in ranges."""
    return FileResponse(__file__, media_type="text/x-python")


@app.api_route("/etag", methods=METHODS)
async def etag(request: Request) -> Response:
    """Say that nothing has changed, to who knows."""
    headers = {"etag": '"v1"', "cache-control": "no-cache"}
    if request.headers.get("if-none-match") == '"v1"':
        return Response(status_code=304, headers=headers)
    return Response(b"version 1", headers=headers)


@app.api_route("/nothing", methods=METHODS)
async def nothing() -> Response:
    """Send no body."""
    return Response(status_code=204)


@app.api_route("/typed/{number}", methods=METHODS)
async def typed(number: int) -> dict[str, int]:
    """Refuse what is no number."""
    return {"number": number}


@app.api_route("/refused", methods=METHODS)
async def refused() -> None:
    """Refuse, with a header."""
    raise HTTPException(401, "who are you", headers={"WWW-Authenticate": "Bearer"})


@app.api_route("/broken", methods=METHODS)
async def broken() -> None:
    """Fail before the answer."""
    raise ValueError("on purpose")


@app.api_route("/cut", methods=METHODS)
async def cut() -> StreamingResponse:
    """Fail in the middle of the answer."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"begun, "
        raise ValueError("on purpose")

    return StreamingResponse(pieces(), media_type="text/plain")


@app.get("/page")
async def page() -> HTMLResponse:
    """Return the page that listens to the events."""
    return HTMLResponse(PAGE)


@app.delete("/page")
async def result(request: Request) -> Response:
    """Take what the page has heard. It is not captured: only what it tells us."""
    _write(json.dumps(await request.json()))
    return Response(status_code=204)


def _write(text: str) -> None:
    Path(os.environ["HEARD"]).write_text(text)


def _finished(how: str) -> Any:
    """Return the application as the environment wants it."""
    if how == "added":
        app.add_middleware(AuditMiddleware, methods=METHODS)
    app.add_middleware(GZipMiddleware, minimum_size=500)
    return AuditMiddleware(app, methods=METHODS) if how == "wrapped" else app


served = _finished(os.environ.get("WITH", ""))
