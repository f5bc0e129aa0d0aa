"""One small application with an endpoint for each way a call can end.

``PLACEMENT`` says where the middleware stands: ``added`` to the application, ``added``
with a ``BaseHTTPMiddleware`` inside it, or ``wrapped`` around everything.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from auditlog import AuditMiddleware
from auditlog.web.asgi import Receive, Scope, Send


class BoomError(Exception):
    """Raised on purpose."""


async def completed(request: Request) -> JSONResponse:
    return JSONResponse({"asked": await request.json()})


async def rejected(request: Request) -> JSONResponse:
    return JSONResponse({"detail": "not so"}, 422)


async def failed(request: Request) -> JSONResponse:
    return JSONResponse({"detail": "it broke"}, 503)


async def raises(request: Request) -> JSONResponse:
    raise BoomError


async def raises_later(request: Request) -> JSONResponse:
    await request.body()
    return JSONResponse({"score": 1}, background=BackgroundTask(_boom))


def _boom() -> None:
    raise BoomError


async def streamed(request: Request) -> StreamingResponse:
    await request.body()
    return _stream(_ticks(3))


async def raises_in_stream(request: Request) -> StreamingResponse:
    await request.body()
    return _stream(_ticks(1, then=BoomError()))


async def endless(request: Request) -> StreamingResponse:
    await request.body()
    return _stream(_ticks(10**9))


async def killed(request: Request) -> StreamingResponse:
    await request.body()
    return _stream(_ticks(10**9))


def _stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(events, media_type="text/event-stream")


async def _ticks(count: int, then: Exception | None = None) -> AsyncIterator[bytes]:
    for number in range(count):
        yield b"data: %d\n\n" % number
        await asyncio.sleep(0.01)
    if then is not None:
        raise then


class Raw:
    """An endpoint that sends these messages and returns, whatever is missing."""

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        for message in self._messages:
            await send(message)


START: dict[str, Any] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"10")],
}
HALF: dict[str, Any] = {"type": "http.response.body", "body": b"12345"}


async def _pass_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


def build(placement: str) -> Any:
    """Return the application with the middleware in its place."""
    endpoints: dict[str, Any] = {
        function.__name__: function
        for function in (completed, rejected, failed, raises, raises_later)
    }
    endpoints |= {
        function.__name__: function
        for function in (streamed, raises_in_stream, endless, killed)
    }
    endpoints |= {
        "unread": PlainTextResponse("not read"),
        "silent": Raw(),
        "unfinished": Raw(START, {**HALF, "more_body": True}),
        "short": Raw(START, HALF),
    }
    application = Starlette(
        routes=[
            Route(f"/{name}", endpoint, methods=["POST"])
            for name, endpoint in endpoints.items()
        ]
    )
    if placement == "behind":
        application.add_middleware(BaseHTTPMiddleware, dispatch=_pass_on)
    if placement == "wrapped":
        return AuditMiddleware(application)
    application.add_middleware(AuditMiddleware)
    return application


app = build(os.environ["PLACEMENT"])
