"""One line that makes an ASGI application record its decisions.

::

    app.add_middleware(AuditMiddleware)                       # Starlette, FastAPI
    app = AuditMiddleware(app, model="credit-risk@3")         # any ASGI application
    vllm serve MODEL --middleware auditlog.AuditMiddleware    # configured by AUDITLOG_*

Importing the module and creating the middleware start nothing and open nothing, so
that both may happen before a fork. Each process starts its runtime when the server
sends ``lifespan.startup``, or at the first captured request where it sends none.

Messages pass as they are, in order, each in the call in which it came. Two things
differ: the message that opens an answer (``http.response.start``, or
``websocket.accept``) is a copy with one header more, and under ``durability="sync"``
the message that completes an answer waits until its decision is on disk. Under
``on_failure="open"`` no fault of ours reaches client or application; under ``closed`` a
request is refused with 503 while decisions cannot be recorded, and a WebSocket is
closed. What a WebSocket's decisions are says `auditlog/docs/websockets.md`.
"""

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Unpack

from auditlog.capture.protocols.registry import Protocols
from auditlog.capture.reading import ModelProtocol
from auditlog.capture.redaction.configured import Redactor, choke_point
from auditlog.capture.routers import Route
from auditlog.capture.routes import NOT_DECISIONS, Routes, globs
from auditlog.config import load_config
from auditlog.core.errors import AuditLogError
from auditlog.log.decision import _CURRENT, NIL, SCOPE_KEY, Decision
from auditlog.log.placing import described
from auditlog.models.identity import Model
from auditlog.options import Options
from auditlog.storage.spill import SpillDirectory
from auditlog.web.asgi import App, Receive, Scope, Send, refuse, settle_extensions
from auditlog.web.late import Latecomer
from auditlog.web.lifespan import Lifespan
from auditlog.web.models import ModelSource, ModelSources, header_name
from auditlog.web.opened import Arrival
from auditlog.web.process import Process, Recording
from auditlog.web.request import open_request
from auditlog.web.responder import Responder
from auditlog.web.rules import Faults, Rules
from auditlog.web.session import open_session
from auditlog.web.subjects import SubjectSource, subject_sources

__all__ = ["AuditMiddleware", "ModelSource", "SubjectSource"]

_CALLS = frozenset({"http", "websocket"})

_log = logging.getLogger("auditlog")


class AuditMiddleware:
    """Records every decision of the application that it wraps.

    Installed twice around one request, the outer one records it, if it is enabled.

    Args:
        app: the ASGI application.
        runtime: where exchanges go; None takes this process's runtime for the log.
        model: the option of that name, or an identity, or a callable that is given
            the scope when an answer ends. What a handler said by `Decision.set_model`
            wins; where a callable returns None, the next source stands in: the option
            `model_header`, then `route_models`, then ``AUDITLOG_MODEL``.
        subject: a callable that is given the scope when an answer ends and returns whom
            the decision is about: an identifier, a `Subject`, or None. What a handler
            said by `Decision.set_subject` wins; where a callable returns None, the
            option `route_subjects` stands in.
        protocols: of your own, asked before those that are built in.
        redact: callables that are given every text and return what may be stored of
            it, or objects with a method `body` that are given whole bodies; besides
            what the options named ``redact_…`` take out (`auditlog/docs/redaction.md`).
        options: fields of `auditlog.config.Config`, by name.

    Raises:
        ConfigurationError: an option is unknown or does not fit.
    """

    def __init__(
        self,
        app: App,
        *,
        runtime: Recording | None = None,
        model: str | Model | ModelSource | None = None,
        subject: SubjectSource | None = None,
        protocols: Sequence[ModelProtocol] = (),
        redact: Sequence[Redactor] = (),
        **options: Unpack[Options],
    ) -> None:
        text = model if isinstance(model, str) else None
        self.app = app
        self.asks_for_subjects = subject is not None
        """Whether a callable names whom decisions are about."""
        self.config = config = load_config({**options, "model": text})
        self._faults = Faults()
        self._process = Process(config, runtime)
        self._closed = config.on_failure == "closed"
        self._methods = frozenset(method.upper() for method in config.methods)
        self._routes = Routes(app, include=config.include, exclude=config.exclude)
        self._rules = Rules(
            app=app,
            process=self._process,
            faults=self._faults,
            models=ModelSources(model, config, self._faults.say),
            subjects=subject_sources(subject, config, self._faults.say),
            own_keys=globs(config.record_keys),
            header=header_name("header", config.header),
            protocols=Protocols(config.protocol, config.route_protocols, protocols),
            limit=config.max_stored_bytes,
            depth=config.depth,
            spills=SpillDirectory(config.dir, config.max_spilled_bytes),
            sync=config.durability == "sync",
            closed=self._closed,
            keep_rejected=config.keep_rejected,
            redaction=choke_point(config, redact),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI scope."""
        kind = scope["type"]
        outer = scope.get(SCOPE_KEY)
        if kind in _CALLS and not getattr(outer, "recorded", outer):
            await self._answer(scope, receive, send)
        elif kind == "lifespan" and self.config.enabled:
            lifespan = Lifespan(self.app, self._process, send, closed=self._closed)
            await lifespan.run(scope, receive)
        else:
            await self.app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not (self.config.enabled and self._is_wanted(scope)):
            await self._unrecorded(scope, receive, send)
            return
        route = self._route(scope)
        if route is None:
            await self._later(scope, receive, send)
            return
        runtime = self._process.runtime or await self._process.obtain()
        responder = self._open(runtime, scope, receive, send, route.template)
        if responder is not None:
            await responder.run()
        elif self._closed:
            await refuse(scope, send)
        else:
            await self._unrecorded(scope, receive, send)

    def _route(self, scope: Scope) -> Route | None:
        """Decide whether a call is a decision, before the application runs."""
        try:
            return self._routes.find(scope)
        except Exception as error:  # noqa: BLE001 - foreign routes raise what they like
            self._faults.say("the route of a request could not be found", error)
            return Route(None)

    def _is_wanted(self, scope: Scope) -> bool:
        if scope["type"] == "websocket":
            return self.config.websocket != "off"
        method = scope["method"]
        return method in self._methods if self._methods else method not in NOT_DECISIONS

    def _open(
        self,
        runtime: Recording | None,
        scope: Scope,
        receive: Receive,
        send: Send,
        template: str | None,
    ) -> Responder | None:
        """Open a decision; None if that cannot be, and `on_failure` decides."""
        if runtime is None:
            return None
        try:
            if self._closed and not runtime.healthy():
                return None
            call = Arrival(self._rules, runtime, scope, template, _now())
            if scope["type"] == "http":
                return open_request(call, receive, send)
            each = self.config.websocket == "message"
            return open_session(call, receive, send, each=each, clock=_now)
        except Exception as error:  # noqa: BLE001 - decided by on_failure
            self._process.forget()
            place = described(error)
            _log.error("auditlog: a decision could not be opened: %s", place)
            return None

    async def _later(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what no route takes as yet; routes may be added on the way."""
        settle_extensions(scope)
        # As it came: routers change it in place.
        look = partial(self._look_again, dict(scope), scope, receive, send)
        await Latecomer(look, receive, send).run(partial(self._unrecorded, scope))

    async def _look_again(
        self, before: Scope, scope: Scope, receive: Receive, send: Send
    ) -> Responder | None:
        route = self._route(before)
        if route is None:
            return None
        runtime = self._process.runtime or await self._process.obtain()
        # An installation further in, or a task that sends, may have been first.
        if getattr(scope.get(SCOPE_KEY), "recorded", False):
            return None
        responder = self._open(runtime, scope, receive, send, route.template)
        if responder is not None:
            responder.begin()
        elif self._closed:
            raise AuditLogError(
                "expected a request to be recorded, but decisions cannot be at the "
                "moment: it is not answered (on_failure=closed)"
            )
        return responder

    async def _unrecorded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer without recording; handlers that speak of their decision still work.

        An operator who excludes a route, or a method, must not break its handler.
        """
        decision = scope[SCOPE_KEY] = Decision(NIL)
        token = _CURRENT.set(decision)
        try:
            await self.app(scope, receive, send)
        finally:
            _CURRENT.reset(token)
            if self.config.enabled and decision.spoken:
                self._faults.say("a handler spoke of a decision", _UNRECORDED)


_UNRECORDED = AuditLogError(
    "expected its request to be recorded, but it is not: see the options methods, "
    "include and exclude, and the errors before this one"
)


def _now() -> int:
    """Return the time, microseconds since the epoch."""
    return time.time_ns() // 1000
