"""One WebSocket as its ASGI messages pass: a state machine that only looks.

A `SessionTap` fills an exchange with what passes: messages of the client are its
request, those of the application its response, each a frame (`auditlog.core.pieces`).
Where each message of the client is a decision of its own, one exchange follows another
under the same tap, and the order of messages goes on.

Who closed, with which code, is all that tells how a session ended; what a server says
of it differs, see ``auditlog/docs/websockets.md``.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from auditlog.capture.exchange import Exchange
from auditlog.capture.tap import Ending, Outcome, Tap
from auditlog.core.pieces import BINARY, TEXT, frame
from auditlog.core.record import canonical_json

__all__ = ["MAX_TURNS", "SessionTap"]

Message = Mapping[str, Any]

MAX_TURNS = 1 << 12
"""Turns of a decision whose beginning is kept; further ones are only counted."""

_DENIED = 403  # what the server answers (ASGI specification, "Close - send event")
# RFC 6455 §7.4.1, and 1012 of the IANA registry.
_NORMAL, _AWAY, _NO_CODE, _INTERNAL_ERROR, _RESTART = 1000, 1001, 1005, 1011, 1012
_WELL = frozenset({_NORMAL, _AWAY, _NO_CODE})
_CODES = range(1 << 16)
_MAX_REASON, _MAX_SUBPROTOCOL = 123, 1024
_DENIAL = "websocket.http.response."


class _Close(NamedTuple):
    """How a session was closed."""

    by: Literal["application", "auditlog", "client", "server"]
    code: int | None
    """None where the message had none that can be one."""
    reason: str | None

    def leaf(self) -> bytes:
        said = {"by": self.by, "code": self.code, "reason": self.reason}
        return canonical_json({k: v for k, v in said.items() if v is not None})


class SessionTap(msgspec.Struct, eq=False):
    """Follows one WebSocket. Not thread-safe: it lives on the event loop."""

    accepts: int = 101
    """Status by which the server says that the handshake was accepted."""
    status: int | None = None
    """None until the handshake was answered."""
    ended: bool = False
    """Whether the application has closed the session, or refused it."""
    disconnected: bool = False
    """Set if sending fails: the client is not there any more."""
    faulty: bool = False
    """Set when a message could not be read: then no body counts as complete."""
    accepted: bool = False
    """Whether the application has accepted the handshake."""
    asked: bool = False
    """Whether a message of the client has passed."""
    order: int = 0
    """Of the next message; those of both directions are counted together."""
    _exchange: Exchange | None = None
    _close: _Close | None = None
    _denial: Tap | None = None
    _subprotocol: str | None = None
    _from_client: bool = False
    _turns: list[int] = msgspec.field(default_factory=list)
    _further_turns: int = 0

    def begin(self, exchange: Exchange) -> None:
        """Fill this exchange from now on, until `conclude`."""
        self._exchange = exchange
        self._turns, self._further_turns = [], 0
        self.faulty = False

    def new_turn(self) -> None:
        """Begin a turn with the message that passed last, if it came from the client.

        Else with the next one.
        """
        begins = self.order - self._from_client
        if self._turns and self._turns[-1] == begins:
            return
        if len(self._turns) < MAX_TURNS:
            self._turns.append(begins)
        else:
            self._further_turns += 1

    def received(self, message: Message) -> None:
        """Look at a message from server to application."""
        kind, exchange = message.get("type"), self._exchange
        if kind == "websocket.receive":
            self.asked = self._from_client = True
            order, self.order = self.order, self.order + 1
            if exchange is not None:
                exchange.request.feed(_frame(order, message))
        elif kind == "websocket.disconnect" and not (self.ended or self._close):
            # Servers send it after every session that the application closed, too.
            self._close = _closed_outside(message)

    def sent(self, message: Message) -> bool:
        """Look at a message from application to server, before it is forwarded.

        Returns:
            Whether it ends the session; true for one message at most.
        """
        kind, exchange = message.get("type", ""), self._exchange
        if self.ended:
            return False
        if kind == "websocket.send":
            self._from_client = False
            order, self.order = self.order, self.order + 1
            if exchange is not None:
                exchange.response.feed(_frame(order, message))
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self.ended = True
            self.status = self.status or _DENIED
            self._close = self._close or _close("application", message, _NORMAL)
        elif kind.startswith(_DENIAL):
            self.ended = self._deny(message)
        return self.ended

    def _accept(self, message: Message) -> None:
        if self.status is None:
            self.accepted, self.status = True, self.accepts
            chosen = message.get("subprotocol")
            self._subprotocol = chosen if isinstance(chosen, str) else None

    def cut(self, code: int) -> None:
        """Know that the session was closed by auditlog itself."""
        self._close = self._close or _Close("auditlog", code, None)

    def _deny(self, message: Message) -> bool:
        """Look at a part of the answer that stands instead of a session."""
        exchange = self._exchange
        if exchange is None or self.accepted:
            return False
        if self._denial is None:
            exchange.response.framed = False
            self._denial = Tap(request=exchange.request, response=exchange.response)
        kind = message["type"].removeprefix("websocket.")
        ended = self._denial.sent({**message, "type": kind})
        self.status = self._denial.status
        return ended

    def conclude(self, ending: Ending) -> Outcome:
        """Settle the exchange and say how it ended; from then on it does not change.

        Args:
            ending: what to say if nobody has closed the session.
        """
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        outcome = self._outcome(ending)
        self._settle(exchange, outcome)
        return outcome

    def _outcome(self, ending: Ending) -> Outcome:
        close = self._close
        if self._denial is not None:
            return self._outcome_of_denial(self._denial, ending)
        if self.disconnected:
            return "client_disconnected"
        if close is None:
            return ending
        if close.by == "application":
            return _outcome_of_close(close, accepted=self.accepted)
        if close.by != "client":
            return "interrupted"
        well = close.code in _WELL and self.accepted
        return "completed" if well else "client_disconnected"

    def _outcome_of_denial(self, denial: Tap, ending: Ending) -> Outcome:
        left = self._close is not None and self._close.by == "client"
        denial.disconnected = left or self.disconnected
        denial.faulty = self.faulty
        outcome = denial.conclude(ending)
        # As HTTP it would be complete, whatever it says; as a handshake it is refused.
        return "rejected" if denial.ended and outcome == "completed" else outcome

    def _settle(self, exchange: Exchange, outcome: Outcome) -> None:
        request, response = exchange.request, exchange.response
        close = self._close
        closed = close is not None and close.by == "application"
        whole = outcome == "completed" or (closed and not self.disconnected)
        if self.accepted:
            response.state = "complete" if whole and not self.faulty else "partial"
            if request.size or response.state == "complete":
                request.state = response.state
        elif self._denial is None:
            response.state = "not_observed"
        exchange.context.update(self._leaves())

    def _leaves(self) -> dict[str, bytes]:
        """Return what is known besides the messages, as ``context/`` leaves."""
        leaves = {}
        if self._close is not None:
            leaves["websocket.close"] = self._close.leaf()
        if self._subprotocol is not None:
            text = self._subprotocol[:_MAX_SUBPROTOCOL]
            leaves["websocket.subprotocol"] = text.encode("utf-8", "replace")
        if self._turns:
            turns = {"begin": self._turns, "further": self._further_turns}
            leaves["websocket.turns"] = canonical_json(turns)
        return leaves


def _frame(order: int, message: Message) -> bytes:
    text = message.get("text")
    if text is not None:
        return frame(order, TEXT, text.encode())
    return frame(order, BINARY, message.get("bytes") or b"")


def _outcome_of_close(close: _Close, *, accepted: bool) -> Outcome:
    if not accepted:
        return "rejected"
    return "error" if close.code == _INTERNAL_ERROR else "completed"


def _close(by: Literal["application", "client"], message: Message, code: int) -> _Close:
    given = message.get("code")
    given = code if given is None else given
    known = int(given) if isinstance(given, int) and given in _CODES else None
    reason = message.get("reason")
    if isinstance(reason, str):
        # What cannot be written as UTF-8 never crossed the wire.
        reason = reason[:_MAX_REASON].encode("utf-8", "replace").decode()
    else:
        reason = None
    return _Close(by, known, reason)


def _closed_outside(message: Message) -> _Close:
    """Return what a disconnect says: a close frame has a reason, even an empty one.

    uvicorn says 1012 without a reason when it stops, and 1005 without a reason when
    the connection was lost and no frame came.
    """
    close = _close("client", message, _NO_CODE)
    if close.reason is None and close.code == _RESTART:
        return close._replace(by="server")
    if close.reason is None and close.code == _NO_CODE:
        return close._replace(code=None)
    return close
