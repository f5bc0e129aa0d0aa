"""One captured request: owns all its state, and stands on both its channels."""

import logging
import os
import time
import traceback
from collections.abc import Callable
from functools import partial
from sys import modules

import msgspec

from auditlog.capture.exchange import Body, Exchange
from auditlog.capture.large import Spills
from auditlog.capture.tap import Ending, Tap
from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.log.amendment import Aftermath
from auditlog.log.decision import _CURRENT, SCOPE_KEY, Decision, Said
from auditlog.log.identity import new_id
from auditlog.log.telling import Named, fill
from auditlog.log.together import submit_all
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
from auditlog.web.models import ModelSources, value_of
from auditlog.web.process import Process, Recording
from auditlog.web.tracing import OPENTELEMETRY, active_span, trace_leaf, traceparent

__all__ = ["Faults", "Responder", "Rules", "open_decision"]

_log = logging.getLogger("auditlog")

_ENTROPY_BYTES = 10
_SECRET_BYTES = 32
_WELL = frozenset({"completed", "rejected", "skipped"})
"""Outcomes to which a later exception of the application adds something."""


class Faults:
    """Logs faults that lose no decision, each kind of them once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, what: str, error: Exception) -> None:
        """Log that `what` happened, unless it was said before.

        What a foreign exception says may hold what a client sent: only its kind and
        its place are logged.
        """
        if what not in self._said:
            self._said.add(what)
            why = error if isinstance(error, AuditLogError) else _place(error)
            kind = type(error).__name__
            _log.error("auditlog: %s (said once): %s: %s", what, kind, why)


def _place(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else "nowhere"


class Rules(msgspec.Struct, kw_only=True, frozen=True, eq=False):
    """What is the same for every request of one middleware."""

    app: App
    process: Process
    """Told of requests while they are in flight."""
    faults: Faults
    models: ModelSources
    """Name the model of a request that ends and did not name it."""
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
    keep_rejected: bool = False
    """Keep bodies of answers such as 401."""


class Responder(msgspec.Struct, eq=False):
    """Answers one request through the application while its `Tap` looks on.

    However the call ends, and however often it seems to, exactly one exchange is
    submitted for the number that was opened. What happens after that is said by one
    entry more, linked to the decision.
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
    others: list[Exchange] | None = None
    """Of a batch, its further decisions."""
    said_model: bytes | None = None
    """Value of the response header that names the model."""
    amended: bool = False
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
            if self.finished and self.exchange.outcome in _WELL:
                self._amend("error_after_response")
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
            if last and self.finished:
                self._amend("client_disconnected")
            raise
        if last:
            self._finish("incomplete")

    def interrupt(self) -> None:
        """Submit what is known so far, because the log is about to stop.

        Under ``open`` the answer goes on, unobserved; under ``closed`` it is cut.
        """
        self._finish("interrupted")
        if self.rules.closed and not self.tap.ended:
            self.withheld = AuditLogError(
                f"expected decision {self.decision.id} to end before the log stopped, "
                "but it did not: its answer is cut (on_failure=closed)"
            )

    def _amend(self, kind: Aftermath) -> None:
        """Say what followed the decision; of several things only the first."""
        if self.amended:
            return
        self.amended = True
        try:
            self.runtime.amend(self.exchange.id, kind)
        except Exception as error:  # noqa: BLE001 - ours; the application goes on
            self.rules.faults.say("what followed a decision is not recorded", error)

    def _with_header(self, message: Message) -> Message:
        # Headers may be any iterable, even one that can be read only once.
        headers = list(message.get("headers") or ())
        if self.rules.models.header:
            self.said_model = value_of(self.rules.models.header, headers)
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
        exchange.duration = (time.perf_counter_ns() - self.started) // 1000
        self._fill(ending)
        return exchange

    def _fill(self, ending: Ending) -> None:
        """Add what application and configuration say about the decision."""
        exchange, rules = self.exchange, self.rules
        try:
            if exchange.outcome == "rejected":
                exchange.keep = rules.keep_rejected
            # A span that began inside of us; of who ends a process there is none.
            if OPENTELEMETRY in modules and ending != "interrupted":
                span = None if exchange.context else active_span()
                if span is not None:
                    exchange.context["trace"] = span
            said, named = self.decision.conclude(), rules.models.fixed
            if said is not None or named is None:
                self._tell(said)
            else:
                exchange.model = named.model
        except Exception as error:  # noqa: BLE001 - ours; the answer goes on
            rules.faults.say("what was said about a decision is lost", error)

    def _tell(self, said: Said | None) -> None:
        """Add what a handler said, and what depends on the request."""
        exchange, models = self.exchange, self.rules.models
        if said is not None and said.model is not None:
            named = Named(said.model)
        else:
            named = models.name(self.scope, self.said_model, exchange.route)
        exchange.model = named.model
        self.others = fill(exchange, said, named)

    def _submit(
        self,
        exchange: Exchange,
        on_accepted: Callable[[AuditLogError | None], None] | None = None,
    ) -> Exception | None:
        try:
            if self.others:
                submit_all(self.runtime, [exchange, *self.others], on_accepted)
            else:
                self.runtime.submit(exchange, on_accepted)
        except Exception as error:  # noqa: BLE001 - decided by on_failure
            self.rules.process.forget()
            return error
        return None

    async def _hold(self) -> None:
        """Wait until the decision is accepted, or is known not to be."""
        exchange = self._conclude("incomplete")
        if exchange is None:
            return
        try:
            error = await self._accepted(exchange)
        except BaseException:
            # The server gave up on the request while its last message was held.
            self._amend("answer_withheld")
            raise
        if error is None:
            return
        self._lament(error)
        if self.rules.closed:
            self._amend("answer_withheld")
            self.withheld = AuditLogError(
                f"expected decision {self.decision.id} to be recorded, but it was "
                "not: its answer is withheld (on_failure=closed)"
            )
            raise self.withheld from error

    async def _accepted(self, exchange: Exchange) -> Exception | None:
        try:
            waiters = self.rules.process.waiters()
        except RuntimeError:
            needed = ConfigurationError("durability='sync' needs asyncio, got no loop")
            return self._submit(exchange) or needed
        accepted = waiters.add()
        refused = self._submit(exchange, partial(waiters.tell, accepted))
        if refused is None:
            return await accepted
        # Or it would look as if somebody had waited in vain.
        accepted.cancel()
        return refused

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
    decision = Decision(id_, runtime.open, rules.closed)
    parent = traceparent(scope)
    traced = parent is not None or OPENTELEMETRY in modules
    trace = trace_leaf(parent) if traced else None
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
    if trace is not None:
        exchange.context["trace"] = trace
    return Responder(
        rules, runtime, scope, receive, send, decision, tap, exchange, started
    )
