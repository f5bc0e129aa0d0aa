"""The reading interface of a log over HTTP.

::

    app.include_router(auditlog.web.api.router())        # in an existing FastAPI app
    auditlog serve                                       # or beside it, or after it

    GET /checkpoint                                      public
    GET /tile/{L}/{N}[.p/{W}]                            public
    GET /tile/entries/{N}[.p/{W}]                        auditor
    GET /api/v1/decisions                                auditor
    GET /api/v1/decisions/{id}                           auditor
    GET /api/v1/decisions/{id}/receipt                   auditor
    POST /api/v1/decisions/{id}/amendments               reviewer
    GET /api/v1/decisions/{id}/accesses                  content
    GET /api/v1/decisions/{id}/content                   content
    POST /api/v1/decisions/{id}/disclosures              content
    GET /api/v1/erasures                                 privacy
    POST /api/v1/erasures, /api/v1/exports               privacy
    GET /api/v1/proofs/inclusion, .../consistency        public

The first three are C2SP tlog-tiles, which other people's tools read. A role comes with
``Authorization: Bearer alt_…`` (`auditlog token create`); what each may do is in
`auditlog.log.tokens`. No person is named in an address, which servers and proxies write
into their own logs: who is asked about stands in the body of a POST.

Every error is RFC 9457 problem details. Nothing is opened or created before the first
request, and handlers are plain functions, so that the framework runs them off the event
loop.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from auditlog import __version__
from auditlog.core.errors import ConfigurationError
from auditlog.log.anchor_status import watched_anchors
from auditlog.log.state import state_of
from auditlog.metrics import exposition
from auditlog.web.answers import NO_STORE
from auditlog.web.api_content import AMENDMENT_BODY, DISCLOSURE_BODY, ContentApi
from auditlog.web.api_decisions import DecisionsApi
from auditlog.web.api_persons import ERASURE_BODY, EXPORT_BODY, PersonsApi
from auditlog.web.api_public import PublicApi
from auditlog.web.problems import ProblemError, ProblemRoute, as_problem
from auditlog.web.source import LogSource

__all__ = ["create_app", "router"]

_CLOCK = time.time  # noqa: TID251


def router(directory: Path | None = None) -> APIRouter:
    """Return the routes, to be included in an existing FastAPI app.

    Args:
        directory: the log's; None takes ``AUDITLOG_DIR``, or the default, on first use.
    """
    return _router(LogSource(directory, _CLOCK))


def create_app(directory: Path) -> FastAPI:
    """Return an app of its own, with ``/livez``, ``/readyz`` and ``/metrics`` too."""
    log = LogSource(directory, _CLOCK)
    app = FastAPI(
        title="auditlog",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
    )
    app.add_exception_handler(HTTPException, as_problem)
    app.include_router(_router(log))
    app.include_router(_health(log))
    app.include_router(_metrics(log, _CLOCK))
    return app


def _router(log: LogSource) -> APIRouter:
    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        log.close()

    routes = APIRouter(route_class=ProblemRoute, lifespan=lifespan, tags=["auditlog"])
    public, decisions = PublicApi(log), DecisionsApi(log)
    content, persons = ContentApi(log, _CLOCK), PersonsApi(log, _CLOCK)
    for path, endpoint in (
        ("/checkpoint", public.checkpoint),
        ("/tile/{path:path}", public.tile),
        ("/api/v1/decisions", decisions.decisions),
        ("/api/v1/decisions/{id}", decisions.decision),
        ("/api/v1/decisions/{id}/receipt", decisions.receipt),
        ("/api/v1/decisions/{id}/accesses", decisions.accesses),
        ("/api/v1/decisions/{id}/content", content.content),
        ("/api/v1/erasures", persons.erasures),
        ("/api/v1/proofs/inclusion", public.inclusion),
        ("/api/v1/proofs/consistency", public.consistency),
    ):
        routes.add_api_route(path, endpoint, response_class=Response)
    for path, changing, status, body in (
        ("decisions/{id}/disclosures", content.disclosures, 200, DISCLOSURE_BODY),
        ("decisions/{id}/amendments", content.amendments, 201, AMENDMENT_BODY),
        ("erasures", persons.erase, 200, ERASURE_BODY),
        ("exports", persons.export, 200, EXPORT_BODY),
    ):
        routes.add_api_route(
            f"/api/v1/{path}",
            changing,
            methods=["POST"],
            status_code=status,
            response_class=Response,
            openapi_extra=body,
        )
    return routes


def _health(log: LogSource) -> APIRouter:
    routes = APIRouter(route_class=ProblemRoute, tags=["health"])

    @routes.get("/livez", response_class=Response)
    def livez() -> Response:
        """Say that the process answers."""
        return JSONResponse({"ok": True}, headers=NO_STORE)

    @routes.get("/readyz", response_class=Response)
    def readyz() -> Response:
        """Say that the log can be read."""
        log().log.store.size()
        return JSONResponse({"ok": True}, headers=NO_STORE)

    return routes


def _metrics(log: LogSource, clock: Callable[[], float]) -> APIRouter:
    routes = APIRouter(route_class=ProblemRoute, tags=["health"])

    @routes.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Return what the log looks like, for Prometheus; needs the extra `metrics`."""
        opened = log().log
        names = watched_anchors(opened.store, opened.paths.anchors)
        state = state_of(opened.store, clock(), names)
        try:
            text, media_type = exposition(state)
        except ConfigurationError as error:
            raise ProblemError(501, "not-installed", str(error)) from None
        return Response(text, media_type=media_type, headers=NO_STORE)

    return routes
