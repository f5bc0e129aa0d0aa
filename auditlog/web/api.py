"""The reading interface of a log over HTTP.

::

    app.include_router(auditlog.web.api.router())        # in an existing FastAPI app
    auditlog serve                                       # or beside it, or after it

    GET /checkpoint                                      public
    GET /tile/{L}/{N}[.p/{W}]                            public
    GET /tile/entries/{N}[.p/{W}]                        auditor
    GET /api/v1/decisions                                auditor
    GET /api/v1/decisions/{id}                           auditor
    GET /api/v1/decisions/{id}/receipt                   auditor; content to disclose
    GET /api/v1/proofs/inclusion, .../consistency        public

The first three are C2SP tlog-tiles, which other people's tools read. A role comes with
``Authorization: Bearer alt_…`` (`auditlog token create`). Every error is RFC 9457
problem details. Nothing is opened or created before the first request, and handlers
are plain functions, so that the framework runs them off the event loop.
"""

import base64
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, FastAPI, Query, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from auditlog import __version__
from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.errors import ConfigurationError, MalformedError, PendingError
from auditlog.core.note import split_unverified_note
from auditlog.core.proof import TlogProof, format_tlog_proof
from auditlog.core.record import DECISION, parse_id
from auditlog.core.tiles import parse_tile_path
from auditlog.log.access import record_access
from auditlog.log.anchor_status import watched_anchors
from auditlog.log.leaves import find_leaf
from auditlog.log.publication import meets_quorum
from auditlog.log.state import state_of
from auditlog.log.views import (
    decision_json,
    page_json,
    parse_leaf,
    parse_moment,
    parse_number,
)
from auditlog.metrics import exposition
from auditlog.storage import Query as Lookup
from auditlog.web.problems import (
    RETRY_SECONDS,
    ProblemError,
    ProblemRoute,
    as_problem,
    bad_request,
)
from auditlog.web.source import Credentials, LogSource

__all__ = ["create_app", "router"]

_MAX_PAGE = 500
_NO_STORE = {"Cache-Control": "no-store"}
_BRIEF = {"Cache-Control": "public, max-age=2"}
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
_PRIVATE = {"Cache-Control": "private, max-age=31536000, immutable"}
_OCTETS = "application/octet-stream"
_T = TypeVar("_T")

_Text = Annotated[str | None, Query()]


def router(directory: Path | None = None) -> APIRouter:
    """Return the routes, to be included in an existing FastAPI app.

    Args:
        directory: the log's; None takes ``AUDITLOG_DIR``, or the default, on first use.
    """
    return _router(LogSource(directory))


def create_app(directory: Path) -> FastAPI:
    """Return an app of its own, with ``/livez``, ``/readyz`` and ``/metrics`` too."""
    log = LogSource(directory)
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
    app.include_router(_metrics(log, time.time))  # noqa: TID251
    return app


def _router(log: LogSource) -> APIRouter:
    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        log.close()

    routes = APIRouter(route_class=ProblemRoute, lifespan=lifespan, tags=["auditlog"])
    api = _Api(log, clock=time.time)  # noqa: TID251
    for path, endpoint in (
        ("/checkpoint", api.checkpoint),
        ("/tile/{path:path}", api.tile),
        ("/api/v1/decisions", api.decisions),
        ("/api/v1/decisions/{id}", api.decision),
        ("/api/v1/decisions/{id}/receipt", api.receipt),
        ("/api/v1/proofs/inclusion", api.inclusion),
        ("/api/v1/proofs/consistency", api.consistency),
    ):
        routes.add_api_route(path, endpoint, response_class=Response)
    return routes


class _Api:
    """The handlers. They run in the framework's worker threads."""

    def __init__(self, log: LogSource, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._searching = threading.Lock()

    def checkpoint(self) -> Response:
        """Return the newest public checkpoint with its cosignatures (tlog-checkpoint).

        It is the newest that the quorum of the operator's policy cosigned. Where there
        is no quorum, the header `Auditlog-Checkpoint` says `unwitnessed`.
        """
        shown = self._log().public.checkpoint()
        headers = _BRIEF | _marked(witnessed=shown.witnessed)
        return Response(
            shown.note, media_type="text/plain; charset=utf-8", headers=headers
        )

    def tile(self, path: str, credentials: Credentials) -> Response:
        """Return a hash tile, or to auditors a bundle of entries (C2SP tlog-tiles)."""
        tile = _input(parse_tile_path, f"tile/{path}")
        if tile.level != "entries":
            data = self._log().reader.tile(f"tile/{path}")
            return Response(data, media_type=_OCTETS, headers=_FOREVER)
        reader = self._log.authorize(credentials, "auditor").reader
        headers = _PRIVATE | {"Vary": "Authorization"}
        data = reader.tile(f"tile/{path}")
        return Response(data, media_type=_OCTETS, headers=headers)

    def decisions(
        self,
        credentials: Credentials,
        since: Annotated[str | None, Query(alias="from")] = None,
        until: Annotated[str | None, Query(alias="to")] = None,
        model: _Text = None,
        version: _Text = None,
        route: _Text = None,
        outcome: _Text = None,
        cursor: _Text = None,
        limit: _Text = None,
    ) -> Response:
        """List decisions, newest first; `next` of a page is the `cursor` of the next.

        `from` is included and `to` is not; both are dates or times, UTC unless they
        say otherwise. `limit` is 1 to 500, and 50 if absent.
        """
        reader = self._log.authorize(credentials, "auditor").reader
        size = 50 if limit is None else _number(limit, low=1, high=_MAX_PAGE)
        lookup = Lookup(
            time_from=None if since is None else _input(parse_moment, since),
            time_to=None if until is None else _input(parse_moment, until),
            model=model,
            version=version,
            route=route,
            outcome=outcome,
            type=DECISION,
            before=None if cursor is None else _number(cursor),
            limit=size + 1,
        )
        return JSONResponse(page_json(reader.find(lookup), size), headers=_NO_STORE)

    def decision(self, id: str, credentials: Credentials) -> Response:  # noqa: A002
        """Return what is known of a decision, and which level it has reached."""
        reader = self._log.authorize(credentials, "auditor").reader
        _input(parse_id, id)
        return JSONResponse(decision_json(reader.decision(id)), headers=_NO_STORE)

    def receipt(
        self,
        id: str,  # noqa: A002
        credentials: Credentials,
        disclose: Annotated[list[str] | None, Query()] = None,
    ) -> Response:
        """Return the receipt of a decision; 202 until it is in the signed tree.

        It discloses nothing but what each `disclose` names, such as `request/age`,
        for which the token needs the role `content`.
        """
        paths = disclose or []
        opened = self._log.authorize(credentials, "content" if paths else "auditor")
        _input(parse_id, id)
        try:
            data = opened.reader.receipt(id, disclose=paths)
        except PendingError as error:
            return _pending(id, opened.reader.decision(id).level, error)
        if paths:
            now = self._clock()
            record_access(opened.log, id, what="disclosure", channel="api", now=now)
        name = f'attachment; filename="{id}.receipt.json"'
        headers = _NO_STORE | {"Content-Disposition": name}
        return Response(data, media_type="application/json", headers=headers)

    def inclusion(
        self, index: _Text = None, leaf: _Text = None, size: _Text = None
    ) -> Response:
        """Prove that the entry at `index`, or with hash `leaf`, is in the tree.

        `size` is one that was published; the newest that was signed if absent, which
        may be newer than the public checkpoint, and is then marked as unwitnessed.
        """
        if (index is None) == (leaf is None):
            raise bad_request("give either index or leaf, and size if you like")
        tree = None if size is None else _number(size, low=1)
        if leaf is not None:
            number = self._search(_input(parse_leaf, leaf), tree)
        else:
            number = _number(str(index))
        proof = self._log().reader.inclusion(number, tree)
        witnessed = meets_quorum(proof.checkpoint, self._log().log.policy())
        headers = _BRIEF | _marked(witnessed=witnessed)
        return JSONResponse(_inclusion_json(proof), headers=headers)

    def consistency(
        self,
        old: Annotated[str | None, Query(alias="from")] = None,
        new: Annotated[str | None, Query(alias="to")] = None,
    ) -> Response:
        """Prove that the tree of size `to` only appends to the tree of size `from`."""
        if old is None or new is None:
            raise bad_request("give two tree sizes, as in ?from=10&to=20")
        sizes = _number(old, low=1), _number(new, low=1)
        if sizes[0] > sizes[1]:
            raise bad_request("from is the older size, and at most to")
        hashes = self._log().reader.consistency(*sizes)
        body = {"from": sizes[0], "to": sizes[1], "hashes": _base64(hashes)}
        return JSONResponse(body, headers=_BRIEF)

    def _search(self, leaf: bytes, size: int | None) -> int:
        """Return the index of a leaf; one search at a time, for it reads the tree."""
        opened = self._log()
        if size is None:
            checkpoint = split_unverified_note(opened.reader.checkpoint())[0]
            size = parse_checkpoint(checkpoint).size
        size = min(size, opened.log.store.size())
        if not self._searching.acquire(blocking=False):
            retry = {"Retry-After": RETRY_SECONDS}
            detail = "another search by leaf is under way; the index needs no search"
            raise ProblemError(503, "busy", detail, retry)
        try:
            return find_leaf(opened.log.store, leaf, size)
        finally:
            self._searching.release()


def _health(log: LogSource) -> APIRouter:
    routes = APIRouter(route_class=ProblemRoute, tags=["health"])

    @routes.get("/livez", response_class=Response)
    def livez() -> Response:
        """Say that the process answers."""
        return JSONResponse({"ok": True}, headers=_NO_STORE)

    @routes.get("/readyz", response_class=Response)
    def readyz() -> Response:
        """Say that the log can be read."""
        log().log.store.size()
        return JSONResponse({"ok": True}, headers=_NO_STORE)

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
        return Response(text, media_type=media_type, headers=_NO_STORE)

    return routes


def _marked(*, witnessed: bool) -> dict[str, str]:
    """Return the header that says whether the policy's quorum cosigned."""
    return {"Auditlog-Checkpoint": "witnessed" if witnessed else "unwitnessed"}


def _pending(id_: str, level: str, error: PendingError) -> Response:
    body = {"id": id_, "level": level, "detail": str(error)}
    headers = _NO_STORE | {"Retry-After": RETRY_SECONDS}
    return JSONResponse(body, status_code=202, headers=headers)


def _inclusion_json(proof: TlogProof) -> dict[str, Any]:
    """Return the parts of a proof, and the whole as tlog-proof text for `verify`."""
    return {
        "index": proof.index,
        "hashes": _base64(proof.hashes),
        "checkpoint": proof.checkpoint.decode(),
        "proof": format_tlog_proof(proof).decode(),
    }


def _base64(hashes: tuple[bytes, ...]) -> list[str]:
    return [base64.b64encode(hash_).decode() for hash_ in hashes]


def _number(text: str, *, low: int = 0, high: int = (1 << 63) - 1) -> int:
    return _input(lambda text: parse_number(text, low=low, high=high), text)


def _input(parse: Callable[[str], _T], text: str) -> _T:
    """Parse what the caller sent; its fault is a 400, unlike that of stored bytes."""
    try:
        return parse(text)
    except MalformedError as error:
        raise bad_request(str(error)) from None
