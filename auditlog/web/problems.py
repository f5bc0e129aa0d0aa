"""Errors over HTTP: RFC 9457 problem details, and nothing else.

Each kind of `AuditLogError` has one status and one ``type`` (a tag URI, RFC 4151:
compare it, do not fetch it). What went wrong inside the server is told to its log,
not to the caller: the detail of a 5xx never holds a message, a path or a traceback.
"""

import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    NotFoundError,
    PendingError,
    VerificationError,
)

__all__ = [
    "MEDIA_TYPE",
    "RETRY_SECONDS",
    "ProblemError",
    "ProblemRoute",
    "as_problem",
    "bad_request",
    "problem_of",
    "problem_response",
    "unavailable",
]

MEDIA_TYPE = "application/problem+json"

_TYPE = "tag:auditlog.invalid,2026:"
RETRY_SECONDS = "2"
"""When to come again for what is not there yet, in seconds."""

_DAMAGED = "what is stored is not what was logged; `auditlog check` says where"
_MAX_SHOWN = 64
_UNAVAILABLE = "the log cannot answer now; its operator finds the reason in its log"
_INTERNAL = "unexpected error; the operator finds it in the server's log"
_logger = logging.getLogger("auditlog.web")


class ProblemError(Exception):
    """A refusal by the interface itself, ready to be sent."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a problem.

        Args:
            status: HTTP status code.
            kind: what stands at the end of the ``type``, such as ``not-found``.
            detail: one sentence for the caller.
            headers: sent with it, such as ``WWW-Authenticate``.
        """
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})


def problem_response(problem: ProblemError) -> Response:
    """Return the response that carries `problem` (RFC 9457 §3)."""
    body = {
        "type": _TYPE + problem.kind,
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return Response(
        json.dumps(body),
        status_code=problem.status,
        headers=headers | problem.headers,
        media_type=MEDIA_TYPE,
    )


def problem_of(error: Exception) -> ProblemError:
    """Return the problem that tells the caller about `error`, and no more.

    Whatever the caller sent was checked before the log was asked, so malformed bytes
    found behind that are our own stored ones.
    """
    match error:
        case ProblemError():
            return error
        case NotFoundError():
            return ProblemError(404, "not-found", str(error))
        case PendingError():
            retry = {"Retry-After": RETRY_SECONDS}
            return ProblemError(404, "pending", str(error), retry)
        case MalformedError() | VerificationError():
            _logger.error("what is stored does not hold: %s", error)
            return ProblemError(500, "damaged", _DAMAGED)
        case AuditLogError():
            return unavailable(error)
    _logger.error("unexpected error while answering", exc_info=error)
    return ProblemError(500, "internal", _INTERNAL)


def unavailable(error: AuditLogError) -> ProblemError:
    """Return the problem of a log that cannot be read at all."""
    _logger.error("cannot answer from the log: %s", error)
    return ProblemError(503, "unavailable", _UNAVAILABLE)


def bad_request(detail: str) -> ProblemError:
    """Return the problem of a question that makes no sense."""
    return ProblemError(400, "malformed", detail)


def as_problem(_: Request, error: Exception) -> Response:
    """Turn what no route of ours raised into a problem too, such as 404 and 405."""
    assert isinstance(error, HTTPException)
    kind = "not-found" if error.status_code == 404 else "refused"
    problem = ProblemError(error.status_code, kind, error.detail, error.headers)
    return problem_response(problem)


class ProblemRoute(APIRoute):
    """A route that refuses unknown parameters and turns errors into problems."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler of the framework."""
        handler = super().get_route_handler()
        known = {field.alias for field in self.dependant.query_params}

        async def handle(request: Request) -> Response:
            try:
                _check_parameters(request, known)
                response = await handler(request)
            # In somebody else's app nothing of ours may escape.
            except Exception as error:  # noqa: BLE001
                return problem_response(problem_of(error))
            response.headers["X-Content-Type-Options"] = "nosniff"
            return response

        return handle


def _check_parameters(request: Request, known: set[str]) -> None:
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            takes = ", ".join(sorted(known)) or "no parameter"
            shown = repr(name[:_MAX_SHOWN])
            msg = f"unknown query parameter {shown}; this resource takes {takes}"
            raise bad_request(msg)
        if name in seen:
            raise bad_request(f"query parameter {name!r} is given twice")
        seen.add(name)
