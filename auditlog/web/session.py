"""Decisions that are a WebSocket, or the messages of one."""

import time
from asyncio import Future, Lock, shield
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any

import msgspec

from auditlog.capture.exchange import Body
from auditlog.capture.session import SessionTap
from auditlog.core.errors import AuditLogError
from auditlog.core.record import format_id
from auditlog.log.decision import _CURRENT, NIL, SCOPE_KEY, Decision
from auditlog.log.said import NOTHING, Facts
from auditlog.log.waiting import in_asyncio
from auditlog.web.asgi import TRY_AGAIN_LATER, Message, Receive, Scope, Send
from auditlog.web.opened import Arrival, Opened, draw, open_exchange
from auditlog.web.process import Recording
from auditlog.web.responder import Responder
from auditlog.web.waiting import Waiter

__all__ = ["open_session"]

_REASON = "decisions cannot be recorded"


def open_session(
    call: Arrival,
    receive: Receive,
    send: Send,
    *,
    each: bool,
    clock: Callable[[], int],
) -> Responder:
    """Open the decision of a handshake; after this, `Responder.run` must be called.

    Args:
        call: the handshake.
        receive: the server's channel.
        send: the server's channel.
        each: whether each message of the client is a decision of its own; the first
            is that of the handshake.
        clock: microseconds since the epoch.

    Raises:
        Exception: whatever the runtime raises; nothing is open then.
    """
    _, accepts = _handshake(call.scope)
    tap = SessionTap(accepts=accepts)
    id_, secret = draw(call.now)
    session = {"connection": format_id(id_)}
    facts = NOTHING.plus("session", session) if each else None
    opened = _open(call, tap, id_, secret, facts)
    responder = Responder(opened, call.scope, receive, send, tap)
    if each or call.rules.closed:
        gate = _Gate(call, responder, receive, tap, facts, clock)
        responder.from_server = gate.receive
    return responder


def _open(
    call: Arrival, tap: SessionTap, id_: bytes, secret: bytes, facts: Facts | None
) -> Opened:
    """Open one decision of a session, which the tap fills from now on."""
    started = time.perf_counter_ns()
    rules, runtime, scope, _, _ = call
    limit, spills = rules.limit, rules.spills
    request = Body(secret, 0, limit, framed=True, spills=spills)
    response = Body(
        secret,
        1,
        limit,
        before=request,
        depth=rules.depth,
        spills=spills,
        framed=True,
    )
    method, _ = _handshake(scope)
    exchange = open_exchange(call, method, id_, request, response)
    tap.begin(exchange)
    decision = Decision(
        id_, runtime.open, rules.closed, _facts=facts, _turn=tap.new_turn
    )
    return Opened(rules, runtime, scope, decision, tap, exchange, started)


def _handshake(scope: Scope) -> tuple[str, int]:
    """Return the method of a handshake, and the status that accepts it.

    HTTP/1.1 upgrades (RFC 6455 §4); HTTP/2 and 3 connect (RFC 8441 §5, RFC 9220).
    """
    if str(scope.get("http_version", "1.1")).startswith("1"):
        return "GET", 101
    return "CONNECT", 200


def _turns() -> AbstractAsyncContextManager[Any]:
    """Let tasks pass one by one, in their order; elsewhere nothing here waits."""
    return Lock() if in_asyncio() else nullcontext()


class _Gate(msgspec.Struct, eq=False):
    """Stands between server and responder, where the messages of a client come in.

    Where each is a decision of its own, one ends and the next is opened here, before
    the application sees the message. Under ``closed`` a message passes only while
    decisions can be recorded; else the session is closed with code 1013, to the client
    and to the application.
    """

    call: Arrival
    responder: Responder
    from_server: Receive
    tap: SessionTap
    facts: Facts | None
    """Which connection it is, if each message is a decision of its own, else None."""
    clock: Callable[[], int]
    turns: AbstractAsyncContextManager[Any] = msgspec.field(default_factory=_turns)
    """Of tasks that receive at once: each message goes to one of them, in order."""
    kept: Message | None = None
    """Taken from the server and not passed yet."""
    is_next: bool = False
    """Whether the decision of the kept message is open."""
    before: Opened | None = None
    """The decision before it, while it is not known whether it is accepted."""
    accepted: Waiter | Exception | None = None
    """Whether it is, where somebody waits for that."""
    end: Message | None = None
    """Says that the client is gone, where we have closed the session."""

    async def receive(self) -> Message:
        """Return the next message for the application."""
        async with self.turns:
            return self.end or await self._receive()

    async def _receive(self) -> Message:
        # Who asks may give up while a decision is made durable: the message stays.
        message = self.kept = self.kept or await self.from_server()
        if message.get("type") == "websocket.receive" and not await self._may_pass():
            message = await self._cut()
        self.kept, self.is_next = None, False
        return message

    async def _may_pass(self) -> bool:
        """Settle to which decision a message belongs; return whether it may pass."""
        closed = self.call.rules.closed
        if closed and self.responder.opened.withheld is not None:
            return False
        if self.facts is not None and not (self.is_next or self._is_first()):
            self.is_next = await self._next(self.facts)
            if closed and not self.is_next:
                return False
        if await self._is_before_lost() and closed:
            return False
        return not closed or self.responder.opened.runtime.healthy()

    def _is_first(self) -> bool:
        """Whether the decision of the handshake takes the message, being open yet."""
        return not (self.tap.asked or self.responder.opened.finished)

    async def _next(self, facts: Facts) -> bool:
        """End the decision of the message before, and open one for this message."""
        rules, before = self.call.rules, self.responder.opened
        runtime = rules.process.runtime or await rules.process.obtain()
        # In one step from here on: what the application sends belongs to one of both.
        if rules.sync:
            self.before = before
            self.accepted = before.finish_awaited("completed")
        before.finish("completed")
        opened = None if runtime is None else self._opened(runtime, facts)
        if opened is None:
            # What becomes of this message is not to be said of the one before.
            before.amended = True
        else:
            self.responder.opened = opened
        self._make_current(Decision(NIL) if opened is None else opened.decision)
        return opened is not None

    def _make_current(self, decision: Decision) -> None:
        self.call.scope[SCOPE_KEY] = decision
        # In the context of whoever asked for the message, and that is the handler's.
        _CURRENT.set(decision)

    def _opened(self, runtime: Recording, facts: Facts) -> Opened | None:
        rules = self.call.rules
        try:
            if rules.closed and not runtime.healthy():
                return None
            call = self.call._replace(runtime=runtime, now=self.clock())
            return _open(call, self.tap, *draw(call.now), facts)
        except Exception as error:  # noqa: BLE001 - decided by on_failure
            rules.process.forget()
            rules.faults.say("the decision of a message could not be opened", error)
            return None

    async def _is_before_lost(self) -> bool:
        """Wait for the decision before, under ``sync``; return whether it is lost."""
        error = self.accepted
        if isinstance(error, Future):
            # Shielded, for who gives up may ask again.
            error = await shield(error)
        if error is not None and self.before is not None:
            self.before.lament(error)
        self.before = self.accepted = None
        return error is not None

    async def _cut(self) -> Message:
        """Close the session: its messages cannot be recorded (on_failure=closed)."""
        opened = self.responder.opened
        opened.withheld = opened.withheld or AuditLogError(
            "expected the messages of a session to be recorded, but they cannot be: "
            "it is closed (on_failure=closed)"
        )
        self.tap.cut(TRY_AGAIN_LATER)
        close = {"code": TRY_AGAIN_LATER, "reason": _REASON}
        # What the server says of it changes nothing: the session is over.
        with suppress(Exception):
            await self.responder.to_server({"type": "websocket.close", **close})
        self.end = {"type": "websocket.disconnect", **close}
        return self.end
