"""The ASGI names that our middleware shares, and what it reads from a scope."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

__all__ = [
    "TRY_AGAIN_LATER",
    "App",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "entity_headers",
    "refuse",
    "settle_extensions",
    "target",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TRY_AGAIN_LATER = 1013
"""Code by which a WebSocket is closed that cannot be served now (IANA registry)."""

_UNSEEN_BODIES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
_TYPE_SIZE = len(b"content-type")
_CODING_SIZE = len(b"content-encoding")
_REFUSAL = (
    b'{"type":"about:blank","title":"Service Unavailable","status":503,'
    b'"detail":"Decisions cannot be recorded at the moment, so none is made."}'
)


def target(scope: Mapping[str, Any]) -> bytes:
    """Return path and query as the client sent them."""
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    query = scope.get("query_string")
    if not query:
        return bytes(raw)
    # Some servers put the query into raw_path too.
    return bytes(raw).partition(b"?")[0] + b"?" + bytes(query)


def entity_headers(scope: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return Content-Type and Content-Encoding as sent; None where there is none."""
    media_type = coding = None
    for name, value in scope.get("headers", ()):
        size = len(name)
        if size == _TYPE_SIZE:
            if media_type is None and name.lower() == b"content-type":
                media_type = str(value, "latin-1")
        elif size == _CODING_SIZE and name.lower() == b"content-encoding":
            text = str(value, "latin-1")
            coding = f"{coding}, {text}" if coding else text
    return media_type, coding


def settle_extensions(scope: Scope) -> bool:
    """Hide the extensions by which a body would reach the server without us.

    The application then sends it in messages. The server's own dictionary stays as
    it is.

    Returns:
        Whether the server can send trailers.
    """
    extensions = scope.get("extensions")
    if not extensions:
        return False
    if not _UNSEEN_BODIES.isdisjoint(extensions):
        scope["extensions"] = {
            name: value
            for name, value in extensions.items()
            if name not in _UNSEEN_BODIES
        }
    return "http.response.trailers" in extensions


async def refuse(scope: Scope, send: Send) -> None:
    """Answer 503 with problem details (RFC 9457).

    A WebSocket whose server cannot send an answer instead of the handshake is closed
    before it is accepted; the client gets 403 then.
    """
    kind = "http.response"
    if scope["type"] == "websocket":
        kind = "websocket.http.response"
        if kind not in (scope.get("extensions") or ()):
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
            return
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(_REFUSAL)).encode()),
        (b"retry-after", b"1"),
    ]
    await send({"type": f"{kind}.start", "status": 503, "headers": headers})
    await send({"type": f"{kind}.body", "body": _REFUSAL})
