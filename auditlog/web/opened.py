"""One decision from its number to its submission, whatever its call travels by."""

import logging
import os
import time
from asyncio import Future
from collections.abc import Callable
from functools import partial
from sys import modules
from typing import NamedTuple, Protocol

import msgspec

from auditlog.capture.exchange import Body, Exchange
from auditlog.capture.tap import Ending, Outcome
from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.log.amendment import Aftermath
from auditlog.log.decision import Decision, Said
from auditlog.log.identity import new_id
from auditlog.log.placing import described
from auditlog.log.subjects import take
from auditlog.log.telling import Named, fill
from auditlog.log.together import submit_all
from auditlog.web.asgi import Message, Scope, Send, target
from auditlog.web.models import value_of
from auditlog.web.process import Recording
from auditlog.web.rules import Rules
from auditlog.web.subjects import SubjectSources
from auditlog.web.tracing import OPENTELEMETRY, active_span, trace_leaf, traceparent
from auditlog.web.waiting import Waiter

__all__ = ["Arrival", "Opened", "Watching", "draw", "open_exchange"]

_log = logging.getLogger("auditlog")

_ENTROPY_BYTES = 10
_SECRET_BYTES = 32
_WELL = frozenset({"completed", "rejected", "skipped"})
"""Outcomes to which a later exception of the application adds something."""


class Arrival(NamedTuple):
    """A call that has come in and is a decision."""

    rules: Rules
    runtime: Recording
    """Gives numbers and takes exchanges."""
    scope: Scope
    """The application may change it later."""
    route: str | None
    """Template of the route, if there is one."""
    now: int
    """Microseconds since the epoch."""


class Watching(Protocol):
    """A tap: what it saw says how a decision ends."""

    status: int | None
    ended: bool
    disconnected: bool
    faulty: bool

    def received(self, message: Message) -> None:
        """Look at a message from server to application."""

    def sent(self, message: Message) -> bool:
        """Look at a message of the application; say whether it ends the decision."""

    def conclude(self, ending: Ending) -> Outcome:
        """Settle the bodies and say how it ended; from then on they do not change."""


class Opened(msgspec.Struct, eq=False):
    """One decision that has a number.

    However the call ends, and however often it seems to, exactly one exchange is
    submitted for the number. What happens after that is said by one entry more, linked
    to the decision.
    """

    # Made for each request, so a struct.
    rules: Rules
    runtime: Recording
    scope: Scope
    decision: Decision
    tap: Watching
    exchange: Exchange
    started: int
    """Nanoseconds, on the monotonic clock."""
    finished: bool = False
    others: list[Exchange] | None = None
    """Of a batch, its further decisions."""
    said_model: bytes | None = None
    """Value of the response header that names the model."""
    amended: bool = False
    """Whether no more is to be said of what followed it."""
    withheld: AuditLogError | None = None
    """Why nothing more may be sent; None while it may."""

    def __post_init__(self) -> None:
        """Be in flight from now on."""
        self.rules.process.in_flight.add(self)

    def add_header(self, message: Message) -> Message:
        """Return the message that opens an answer, with the decision's id in it."""
        if not (self.rules.header or self.rules.models.header):
            return message
        # Headers may be any iterable, even one that can be read only once.
        headers = list(message.get("headers") or ())
        if self.rules.models.header:
            self.said_model = value_of(self.rules.models.header, headers)
        if self.rules.header:
            headers.append((self.rules.header, self.decision.id.encode()))
        return {**message, "headers": headers}

    async def end(self, message: Message, to_server: Send) -> None:
        """Pass on the message that ends the answer, and finish.

        Raises:
            AuditLogError: nothing may be released unlogged, and this would be.
            Exception: whatever the server raises.
        """
        if self.rules.sync:
            await self._hold()
        try:
            await to_server(message)
        except OSError:
            self.tap.disconnected = True
            if self.finished:
                self._amend("client_disconnected")
            raise
        self.finish("incomplete")

    def fail(self) -> None:
        """Say that the application raised after an answer that had ended well."""
        if self.finished and self.exchange.outcome in _WELL:
            self._amend("error_after_response")

    def interrupt(self) -> None:
        """Submit what is known so far, because the log is about to stop.

        Under ``open`` the answer goes on, unobserved; under ``closed`` it is cut.
        """
        self.finish("interrupted")
        if self.rules.closed and not self.tap.ended:
            self.withheld = AuditLogError(
                f"expected decision {self.decision.id} to end before the log stopped, "
                "but it did not: its answer is cut (on_failure=closed)"
            )

    def finish(self, ending: Ending) -> None:
        """Submit the decision, unless that was done before.

        Args:
            ending: how it ends if its tap has seen no end.
        """
        exchange = self._conclude(ending)
        if exchange is not None:
            error = self._submit(exchange)
            if error is not None:
                self.lament(error)

    def finish_awaited(self, ending: Ending) -> Waiter | Exception | None:
        """Submit the decision likewise, for somebody who waits for it.

        Returns:
            What is done when it is accepted, or when it is known why not; that reason
            if it is known at once; None if it was submitted before.
        """
        exchange = self._conclude(ending)
        if exchange is None:
            return None
        try:
            waiters = self.rules.process.waiters()
        except RuntimeError:
            needed = ConfigurationError("durability='sync' needs asyncio, got no loop")
            return self._submit(exchange) or needed
        accepted = waiters.add()
        refused = self._submit(exchange, partial(waiters.tell, accepted))
        if refused is None:
            return accepted
        # Or it would look as if somebody had waited in vain.
        accepted.cancel()
        return refused

    def lament(self, error: Exception) -> None:
        """Log that the decision is not recorded, and why."""
        name, why = self.decision.id, described(error)
        _log.error("auditlog: decision %s is not recorded: %s", name, why)

    def note(self, error: Exception) -> None:
        """Log a message that we could not read; no body counts as complete then."""
        self.tap.faulty = True
        self.rules.faults.say("a message could not be read", error)

    def _amend(self, kind: Aftermath) -> None:
        """Say what followed the decision; of several things only the first."""
        if self.amended:
            return
        self.amended = True
        try:
            self.runtime.amend(self.exchange.id, kind)
        except Exception as error:  # noqa: BLE001 - ours; the application goes on
            self.rules.faults.say("what followed a decision is not recorded", error)

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
                span = None if "trace" in exchange.context else active_span()
                if span is not None:
                    exchange.context["trace"] = span
            said, named = self.decision.conclude(), rules.models.fixed
            if said is not None or named is None:
                self._tell(said)
            else:
                exchange.model = named.model
            if rules.subjects is not None:
                self._look_for_subjects(rules.subjects)
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

    def _look_for_subjects(self, sources: SubjectSources) -> None:
        """Add whom the decisions are about of which no handler said it."""
        exchange = self.exchange
        without = [
            one for one in (exchange, *(self.others or ())) if one.subject is None
        ]
        if not without:
            return
        sought, finder = sources.look(self.scope, exchange.route)
        for one in without:
            take(one, sought)
            if one.subject is None and finder is not None:
                one.subjects = finder
                one.whole = None if one is exchange else exchange

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
        asked = self.finish_awaited("incomplete")
        try:
            error = await asked if isinstance(asked, Future) else asked
        except BaseException:
            # The server gave up on the request while its last message was held.
            self._amend("answer_withheld")
            raise
        if error is None:
            return
        self.lament(error)
        if self.rules.closed:
            self._amend("answer_withheld")
            self.withheld = AuditLogError(
                f"expected decision {self.decision.id} to be recorded, but it was "
                "not: its answer is withheld (on_failure=closed)"
            )
            raise self.withheld from error


def draw(now: int) -> tuple[bytes, bytes]:
    """Return a new id, 16 bytes, and a secret, 32 bytes, for a decision at `now`."""
    entropy = os.urandom(_ENTROPY_BYTES + _SECRET_BYTES)
    return new_id(now, entropy[:_ENTROPY_BYTES]), entropy[_ENTROPY_BYTES:]


def open_exchange(
    call: Arrival, method: str, id_: bytes, request: Body, response: Body
) -> Exchange:
    """Number a decision and journal the number; after this it must be submitted.

    Args:
        call: what came in.
        method: of the request.
        id_: as drawn.
        request: where its bytes will go, with the secret drawn.
        response: likewise.

    Raises:
        Exception: whatever the runtime raises; nothing is open then.
    """
    parent = traceparent(call.scope)
    traced = parent is not None or OPENTELEMETRY in modules
    trace = trace_leaf(parent) if traced else None
    exchange = Exchange(
        id=id_,
        secret=request.secret,
        time=call.now,
        method=method,
        route=call.route,
        target=target(call.scope),
        request=request,
        response=response,
        sequence=call.runtime.open(id_, call.now),
        # Those that there are read requests, and not messages.
        protocols=None if request.framed else call.rules.protocols,
        own_key=_has_own_key(call),
        redaction=call.rules.redaction,
    )
    if trace is not None:
        exchange.context["trace"] = trace
    return exchange


def _has_own_key(call: Arrival) -> bool:
    globs = call.rules.own_keys
    return globs is not None and bool(globs.match(call.route or call.scope["path"]))
