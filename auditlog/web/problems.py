"""Errors over HTTP: RFC 9457 problem details, and nothing else.

Each kind of `AuditLogError` has one status and one ``type`` (a tag URI, RFC 4151:
compare it, do not fetch it). What went wrong inside the server is told to its log,
not to the caller: the detail of a 5xx never holds a message, a path or a traceback.
"""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus

from fastapi import Response

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
    "problem_of",
    "problem_response",
]

MEDIA_TYPE = "application/problem+json"

_TYPE = "tag:auditlog.invalid,2026:"
RETRY_SECONDS = "2"
"""When to come again for what is not there yet, in seconds."""

_DAMAGED = "what is stored is not what was logged; `auditlog check` says where"
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
            _logger.error("cannot answer from the log: %s", error)
            return ProblemError(503, "unavailable", _UNAVAILABLE)
    _logger.error("unexpected error while answering", exc_info=error)
    return ProblemError(500, "internal", _INTERNAL)
