"""The ASGI names that our middleware shares, and what it reads from a scope."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

from auditlog.core.errors import ConfigurationError

__all__ = [
    "App",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "header_name",
    "named_headers",
    "refuse",
    "settle_extensions",
    "target",
    "value_of",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_UNSEEN_BODIES = frozenset({"http.response.pathsend", "http.response.zerocopysend"})
_TYPE_SIZE = len(b"content-type")
_PARENT_SIZE = len(b"traceparent")
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]*")
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


def named_headers(scope: Mapping[str, Any]) -> tuple[str | None, bytes | None]:
    """Return the request's Content-Type and traceparent as sent; None without one."""
    kind = parent = None
    for name, value in scope.get("headers", ()):
        size = len(name)
        if size == _TYPE_SIZE and kind is None and name.lower() == b"content-type":
            kind = str(value, "latin-1")
        elif size == _PARENT_SIZE and name.lower() == b"traceparent":
            # More than one is as good as none (W3C Trace Context §3.2.1).
            parent = value if parent is None else b""
    return kind, parent


def value_of(name: bytes, headers: Iterable[Any]) -> bytes | None:
    """Return the first value of a header, named in lower case; None without one."""
    for key, value in headers:
        if len(key) == len(name) and key.lower() == name:
            return bytes(value)
    return None


def header_name(option: str, text: str) -> bytes:
    """Return the value of an option that names a header.

    Raises:
        ConfigurationError: it is not a header's name in lower case.
    """
    if not _HEADER.fullmatch(text):
        raise ConfigurationError(
            f"option {option!r} takes a header name in lower case, got {text!r}"
        )
    return text.encode()


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


async def refuse(send: Send) -> None:
    """Answer 503 with problem details (RFC 9457)."""
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(_REFUSAL)).encode()),
        (b"retry-after", b"1"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _REFUSAL})
