"""Messages of a WebSocket, as a server and an application say them."""

from collections.abc import Awaitable, Callable
from typing import Any

from auditlog.web.asgi import App, Message, Receive, Scope, Send
from tests.web.asgi_driver import Server, call

ACCEPT: Message = {"type": "websocket.accept", "subprotocol": None, "headers": []}
CONNECT: Message = {"type": "websocket.connect"}
LEFT: Message = {"type": "websocket.disconnect", "code": 1000, "reason": ""}
LOST: Message = {"type": "websocket.disconnect", "code": 1006}

Handler = Callable[[Receive, Send], Awaitable[None]]


def heard(payload: str | bytes) -> Message:
    """Return a message of the client."""
    kind = "text" if isinstance(payload, str) else "bytes"
    return {"type": "websocket.receive", kind: payload}


def said(payload: str | bytes) -> Message:
    """Return a message of the application."""
    return {**heard(payload), "type": "websocket.send"}


def left(code: int, reason: str | None = None) -> Message:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def close(code: int = 1000, reason: str = "") -> Message:
    return {"type": "websocket.close", "code": code, "reason": reason}


def denial(status: int = 401, *headers: tuple[bytes, bytes]) -> Message:
    kind = "websocket.http.response.start"
    return {"type": kind, "status": status, "headers": [*headers]}


def denial_body(body: bytes, *, more: bool = False) -> Message:
    kind = "websocket.http.response.body"
    return {"type": kind, "body": body, "more_body": more}


def scope(path: str = "/chat", **more: Any) -> Scope:
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
        **more,
    }


def client(*messages: Message, **more: Any) -> Server:
    """Return a server whose client connects, says this, and then is silent."""
    return Server([CONNECT, *messages], **more)


def handled(handler: Handler) -> App:
    """Return an application that accepts, and then does what the handler does."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await handler(receive, send)

    return app


async def echo(receive: Receive, send: Send) -> None:
    """Answer each message with itself until the client leaves."""
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


def session(app: App, server: Server, **more: Any) -> Server:
    """Run one session to its end, with what it raises."""
    return call(app, server, scope(**more))
