"""One captured request: owns all its state, and stands on both its channels."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from auditlog.capture.exchange import Body, Exchange, ModelIdentity
from auditlog.capture.large import Spills
from auditlog.capture.tap import Ending, Tap
from auditlog.core.errors import AuditLogError, ConfigurationError, StorageError
from auditlog.log.decision import _CURRENT, SCOPE_KEY, Decision
from auditlog.log.identity import new_id
from auditlog.web.asgi import (
    App,
    Message,
    Receive,
    Scope,
    Send,
    entity_headers,
    settle_extensions,
    target,
)
from auditlog.web.process import Process, Recording

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

__all__ = ["Faults", "Responder", "Rules", "open_decision"]

_log = logging.getLogger("auditlog")

_ENTROPY_BYTES = 10
_SECRET_BYTES = 32
_HOLD_SECONDS = 10.0


class Faults:
    """Logs faults that lose no decision, each kind of them once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, what: str, error: Exception) -> None:
        """Log that `what` happened, unless it was said before."""
        if what not in self._said:
            self._said.add(what)
            kind = type(error).__name__
            _log.error("auditlog: %s (said once): %s: %s", what, kind, error)


class Rules(msgspec.Struct, kw_only=True, frozen=True, eq=False):
    """What is the same for every request of one middleware."""

    app: App
    process: Process
    """Told of requests while they are in flight."""
    faults: Faults
    model_of: Callable[[Scope], ModelIdentity | None]
    """Names the model of a request that ends and did not name it; never raises."""
    header: bytes
    """Name of the response header with the id; empty sends none."""
    limit: int
    """Bytes of each body that are kept."""
    depth: int
    """Levels of a JSON body that open into members."""
    spills: Spills
    """Where kept bytes go that are too many for memory."""
    sync: bool
    """Hold the end of an answer until its decision is durable."""
    closed: bool
    """Release nothing unlogged."""


class Responder(msgspec.Struct, eq=False):
    """Answers one request through the application while its `Tap` looks on.

    However the call ends, and however often it seems to, exactly one exchange is
    submitted for the number that was opened.
    """

    # Made for each request, so a struct, and by `open_decision` only.
    rules: Rules
    runtime: Recording
    scope: Scope
    from_server: Receive
    to_server: Send
    decision: Decision
    tap: Tap
    exchange: Exchange
    started: int
    """Nanoseconds, on the monotonic clock."""
    finished: bool = False
    withheld: AuditLogError | None = None

    async def run(self) -> None:
        """Call the application; whatever it does, submit once."""
        self.rules.process.in_flight.add(self)
        self.scope[SCOPE_KEY] = self.decision
        token = _CURRENT.set(self.decision)
        ending: Ending = "interrupted"
        try:
            await self.rules.app(self.scope, self.receive, self.send)
            ending = "incomplete"
        except Exception:
            ending = "error"
            raise
        finally:
            _CURRENT.reset(token)
            if not self.finished:
                self._finish(ending)

    async def receive(self) -> Message:
        """Pass on a message of the server, having looked at it."""
        message = await self.from_server()
        if not self.finished:
            try:
                self.tap.received(message)
            except Exception as error:  # noqa: BLE001 - ours; the application goes on
                self._note(error)
        return message

    async def send(self, message: Message) -> None:
        """Pass on a message of the application, having looked at it.

        Raises:
            AuditLogError: nothing may be released unlogged, and this would be.
            Exception: whatever the server raises.
        """
        if self.withheld is not None:
            raise self.withheld
        last = False
        try:
            if message.get("type") == "http.response.start":
                message = self._with_header(message)
            last = not self.finished and self.tap.sent(message)
        except Exception as error:  # noqa: BLE001 - ours; the application goes on
            self._note(error)
        if last and self.rules.sync:
            await self._hold()
        try:
            await self.to_server(message)
        except OSError:
            self.tap.disconnected = True
            raise
        if last:
            self._finish("incomplete")

    def interrupt(self) -> None:
        """Submit what is known so far; the answer goes on unobserved."""
        self._finish("interrupted")

    def _with_header(self, message: Message) -> Message:
        # Headers may be any iterable, even one that can be read only once.
        headers = list(message.get("headers") or ())
        if self.rules.header:
            headers.append((self.rules.header, self.decision.id.encode()))
        return {**message, "headers": headers}

    def _finish(self, ending: Ending) -> None:
        exchange = self._conclude(ending)
        if exchange is not None:
            error = self._submit(exchange)
            if error is not None:
                self._lament(error)

    def _conclude(self, ending: Ending) -> Exchange | None:
        """Close the exchange and return it; None if that was done before."""
        if self.finished:
            return None
        self.finished = True
        self.rules.process.in_flight.discard(self)
        tap, exchange = self.tap, self.exchange
        exchange.outcome = tap.conclude(ending)
        exchange.status = tap.status
        exchange.model = self.decision.model or self.rules.model_of(self.scope)
        exchange.duration = (time.perf_counter_ns() - self.started) // 1000
        return exchange

    def _submit(
        self,
        exchange: Exchange,
        on_accepted: Callable[[AuditLogError | None], None] | None = None,
    ) -> Exception | None:
        try:
            self.runtime.submit(exchange, on_accepted)
        except Exception as error:  # noqa: BLE001 - decided by on_failure
            self.rules.process.forget()
            return error
        return None

    async def _hold(self) -> None:
        """Wait until the decision is accepted, or is known not to be."""
        exchange = self._conclude("incomplete")
        error = None if exchange is None else await self._accepted(exchange)
        if error is None:
            return
        self._lament(error)
        if self.rules.closed:
            self.withheld = AuditLogError(
                f"expected decision {self.decision.id} to be recorded, but it was "
                "not: its answer is withheld (on_failure=closed)"
            )
            raise self.withheld from error

    async def _accepted(self, exchange: Exchange) -> Exception | None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            needed = ConfigurationError("durability='sync' needs asyncio, got no loop")
            return self._submit(exchange) or needed
        accepted: Future[AuditLogError | None] = loop.create_future()
        refused = self._submit(exchange, lambda error: _wake(loop, accepted, error))
        if refused is not None:
            return refused
        timer = loop.call_later(_HOLD_SECONDS, _give_up, accepted)
        try:
            return await accepted
        finally:
            timer.cancel()

    def _note(self, error: Exception) -> None:
        self.tap.faulty = True
        self.rules.faults.say("a message could not be read", error)

    def _lament(self, error: Exception) -> None:
        name, kind = self.decision.id, type(error).__name__
        _log.error("auditlog: decision %s is not recorded: %s: %s", name, kind, error)


def open_decision(
    rules: Rules,
    runtime: Recording,
    scope: Scope,
    receive: Receive,
    send: Send,
    route: str | None,
    now: int,
) -> Responder:
    """Open a decision; after this, `Responder.run` must be called.

    Args:
        rules: of the middleware.
        runtime: gives the number and takes the exchange.
        scope: the request; the application may change it later.
        receive: the server's channel.
        send: the server's channel.
        route: template of the route, if there is one.
        now: microseconds since the epoch.

    Raises:
        Exception: whatever the runtime raises; nothing is open then.
    """
    started = time.perf_counter_ns()
    entropy = os.urandom(_ENTROPY_BYTES + _SECRET_BYTES)
    secret = entropy[_ENTROPY_BYTES:]
    id_ = new_id(now, entropy[:_ENTROPY_BYTES])
    media_type, coding = entity_headers(scope)
    request = Body(
        secret,
        0,
        rules.limit,
        media_type=media_type,
        coding=coding,
        spills=rules.spills,
    )
    response = Body(
        secret, 1, rules.limit, before=request, depth=rules.depth, spills=rules.spills
    )
    # Mounts and other middleware change a scope in place: it is read here.
    method = scope["method"]
    tap = Tap(
        request=request,
        response=response,
        head=method == "HEAD",
        trailers=settle_extensions(scope),
    )
    decision = Decision(id_)
    exchange = Exchange(
        id=id_,
        secret=secret,
        time=now,
        method=method,
        route=route,
        target=target(scope),
        request=request,
        response=response,
        sequence=runtime.open(id_, now),
    )
    return Responder(
        rules, runtime, scope, receive, send, decision, tap, exchange, started
    )


def _wake(
    loop: "AbstractEventLoop",
    accepted: "Future[AuditLogError | None]",
    error: AuditLogError | None,
) -> None:
    """Answer a waiting request, from the recorder's thread."""
    try:
        loop.call_soon_threadsafe(_settle, accepted, error)
    except RuntimeError:
        # The loop is closed, and with it whoever waited.
        _log.debug("auditlog: nobody waits for a decision any more")


def _settle(
    accepted: "Future[AuditLogError | None]", error: AuditLogError | None
) -> None:
    if not accepted.done():
        accepted.set_result(error)


def _give_up(accepted: "Future[AuditLogError | None]") -> None:
    text = f"expected acceptance within {_HOLD_SECONDS:.0f} s, got no answer"
    _settle(accepted, StorageError(text))
