"""What handlers of the interface have in common: questions in, answers out."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from auditlog.core.errors import ConfigurationError, MalformedError, PendingError
from auditlog.core.record import check_fields, parse_json
from auditlog.log.views import parse_number
from auditlog.web.problems import RETRY_SECONDS, ProblemError, bad_request

__all__ = [
    "BRIEF",
    "FOREVER",
    "NO_STORE",
    "OCTETS",
    "PRIVATE",
    "Body",
    "Text",
    "asked",
    "number",
    "pending",
    "read_fields",
    "receipt_file",
    "takes",
    "wanted",
]

NO_STORE = {"Cache-Control": "no-store"}
BRIEF = {"Cache-Control": "public, max-age=2"}
FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
PRIVATE = {"Cache-Control": "private, max-age=31536000, immutable"}
OCTETS = "application/octet-stream"
_JSON = "application/json"
_MAX_BODY = 1 << 18
_T = TypeVar("_T")

Text = Annotated[str | None, Query()]
"""A parameter of a question; None without it."""


def asked(parse: Callable[[str], _T], text: str) -> _T:
    """Parse what the caller sent; its fault is a 400, unlike that of stored bytes."""
    return wanted(lambda: parse(text))


def wanted(read: Callable[[], _T]) -> _T:
    """Return what the caller asks for; where it makes no sense, that is a 400."""
    try:
        return read()
    except (MalformedError, ConfigurationError) as error:
        raise bad_request(str(error)) from None


def number(text: str, *, low: int = 0, high: int = (1 << 63) - 1) -> int:
    """Return a number that the caller sent."""
    return asked(lambda text: parse_number(text, low=low, high=high), text)


async def _read_body(request: Request) -> bytes:
    """Return the body of a request in JSON, as far as it is not too large."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip()
    if media_type.lower() != _JSON:
        msg = f"expected a body of {_JSON}"
        raise ProblemError(415, "unsupported", msg)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            msg = f"expected a body of at most {_MAX_BODY} bytes"
            raise ProblemError(413, "too-large", msg)
    return bytes(body)


Body = Annotated[bytes, Depends(_read_body)]
"""The body of a request. Read before it is known who asks, so it is small."""


def read_fields(
    body: bytes,
    what: str,
    required: Mapping[str, type],
    optional: Mapping[str, type] | None = None,
) -> dict[str, Any]:
    """Return the members of a body: strict JSON, and no others.

    Raises:
        ProblemError: 400, saying what was expected.
    """
    return wanted(
        lambda: check_fields(
            parse_json(body, limit=_MAX_BODY), what, required, optional
        )
    )


def takes(properties: Mapping[str, Any], required: list[str]) -> dict[str, Any]:
    """Return how OpenAPI describes a body of these members and no others."""
    schema = {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
    }
    return {"requestBody": {"required": True, "content": {_JSON: {"schema": schema}}}}


def pending(id_: str, level: str, error: PendingError) -> Response:
    """Return the answer that it is not there yet, and when to come again."""
    body = {"id": id_, "level": level, "detail": str(error)}
    headers = NO_STORE | {"Retry-After": RETRY_SECONDS}
    return JSONResponse(body, status_code=202, headers=headers)


def receipt_file(
    id_: str, data: bytes, more: Mapping[str, str] | None = None
) -> Response:
    """Return a receipt, to be saved under the id of its decision."""
    name = f'attachment; filename="{id_}.receipt.json"'
    headers = NO_STORE | {"Content-Disposition": name} | dict(more or {})
    return Response(data, media_type=_JSON, headers=headers)
