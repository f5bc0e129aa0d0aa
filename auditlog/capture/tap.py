"""One HTTP exchange as its ASGI messages pass: a state machine that only looks.

A `Tap` is shown every message on its way between server and application and keeps what
an entry needs: both bodies, the status, and how the call ended. It never changes,
delays or asks for a message. It is tolerant, because it is not its place to reject
what a server or an application does: every key of a message may be missing, bodies may
be any bytes-like object, and messages of unknown types are ignored.

The answer *ends* with the message after which the client has all of it: the one that
reaches Content-Length, else the one with ``more_body=False``, else the trailers that
were announced; already the start where no body can follow (HEAD, 204, 304,
``Content-Length: 0``).
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from auditlog.capture.exchange import Body

__all__ = ["Ending", "Outcome", "Tap"]

Message = Mapping[str, Any]

Ending = Literal["error", "incomplete", "interrupted", "completed"]
"""How a call ends whose answer does not: the application raised, it returned early, or
the server cancelled it; ``completed`` where the next message of a WebSocket ends what
belongs to the one before."""

Outcome = Literal["rejected", "client_disconnected"] | Ending
"""How a call ended, whatever the model said."""

_BODILESS = frozenset({204, 304})
_REJECTED = frozenset({401, 403, 422, 429})
_SERVER_ERROR = 500
_MAX_LENGTH_DIGITS = 18
# Names are compared by size first: an answer has many headers.
_TYPE_SIZE = len(b"content-type")
_LENGTH_SIZE = len(b"content-length")
_CODING_SIZE = len(b"content-encoding")


class Tap(msgspec.Struct, eq=False):
    """Follows one exchange. Not thread-safe: it lives on the event loop."""

    request: Body
    """Where request bytes go."""
    response: Body
    """Where response bytes go."""
    head: bool = False
    """The method is HEAD, so that no response body reaches the client."""
    trailers: bool = False
    """The server can send trailers."""
    status: int | None = None
    """None until the answer has started."""
    ended: bool = False
    """Whether the message that completes the answer was seen."""
    disconnected: bool = False
    """Whether the client left before the end. Set it too if sending fails."""
    faulty: bool = False
    """Set when a message could not be read: then no body counts as complete."""
    concluded: bool = False
    """Whether the exchange was handed on: then it must not change any more."""
    _length: int | None = None
    _trailed: bool = False
    _whole: bool = False
    _short: bool = False
    _unobserved: bool = False

    def received(self, message: Message) -> None:
        """Look at a message from server to application."""
        if self.concluded:
            return
        kind = message.get("type")
        if kind == "http.request":
            body = message.get("body")
            if body:
                self.request.feed(body if type(body) is bytes else bytes(body))
            more = message.get("more_body", False)
            self.request.state = "partial" if more else "complete"
        elif kind == "http.disconnect" and not self.ended:
            # Servers send it after every finished answer too; only before the end
            # does it mean that the client left.
            self.disconnected = True

    def sent(self, message: Message) -> bool:
        """Look at a message from application to server, before it is forwarded.

        Returns:
            Whether it completes the answer; true for one message at most.
        """
        if self.concluded:
            return False
        kind = message.get("type")
        if kind == "http.response.body":
            last = self._body(message)
        elif kind == "http.response.start":
            last = self._start(message)
        elif kind == "http.response.trailers":
            last = self._trailed and not message.get("more_trailers", False)
        elif kind in {"http.response.pathsend", "http.response.zerocopysend"}:
            self._unobserved = True
            last = not message.get("more_body", False)
        else:
            return False
        if not last or self.ended:
            return False
        self.ended = True
        return True

    def _start(self, message: Message) -> bool:
        if self.status is not None:
            return False
        self.status = int(message.get("status", 0))
        for name, value in message.get("headers", ()):
            size = len(name)
            if size == _TYPE_SIZE and name.lower() == b"content-type":
                self.response.media_type = value.decode("latin-1")
            elif size == _LENGTH_SIZE and name.lower() == b"content-length":
                self._length = _parse_length(value)
            elif size == _CODING_SIZE and name.lower() == b"content-encoding":
                coding = value.decode("latin-1")
                before = self.response.coding
                self.response.coding = f"{before}, {coding}" if before else coding
        self._trailed = self.trailers and bool(message.get("trailers"))
        bodiless = self.head or self._length == 0 or self.status in _BODILESS
        return bodiless and not self._trailed

    def _body(self, message: Message) -> bool:
        body = message.get("body")
        if body and not self.head:
            self.response.feed(body if type(body) is bytes else bytes(body))
        if message.get("more_body", False):
            length = self._length
            return (
                length is not None
                and self.response.size >= length
                and not self._trailed
            )
        self._whole = True
        self._short = self._length is not None and self.response.size < self._length
        return not self._trailed

    def conclude(self, ending: Ending) -> Outcome:
        """Settle the states of both bodies and say how the call ended.

        Args:
            ending: what to say if the answer did not end by itself.
        """
        self.concluded = True
        response = self.response
        over = (self.ended or self._whole) and not self._short
        if self.status is None or self._unobserved:
            response.state = "not_observed"
        elif self.head:
            response.state = "omitted"
        elif over and not self.disconnected and not self.faulty:
            response.state = "complete"
        else:
            response.state = "partial"
        if self.faulty and self.request.state == "complete":
            self.request.state = "partial"
        return self._outcome(ending, over)

    def _outcome(self, ending: Ending, over: bool) -> Outcome:
        if self.disconnected:
            # Some middleware turns a lost client into a clean end: do not believe it.
            return "client_disconnected"
        if not over:
            return "incomplete" if self._short else ending
        status = self.status or 0
        if status >= _SERVER_ERROR:
            return "error"
        return "rejected" if status in _REJECTED else "completed"


def _parse_length(value: bytes) -> int | None:
    if len(value) <= _MAX_LENGTH_DIGITS and value.isdigit():
        return int(value)
    return None
