"""One question to one OpenTimestamps calendar, and what is kept of its answer.

::

    POST /digest, 32 bytes               → 200, a proof from them to a promise
    GET  /timestamp/<hex of promised>    → 200, a proof from there to a block
                                           404: not yet, or never heard of it

An answer is read within bounds and by our own parser, and cut down to what was asked
for: the promise of a calendar that may give one, or up to four blocks.
"""

from collections.abc import Sequence
from http import HTTPStatus

from auditlog.anchors.http import Endpoint, Response, get, post
from auditlog.anchors.ots.proof import (
    BITCOIN,
    PENDING,
    Way,
    extend,
    follow,
    parse_proof,
)
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    VerificationError,
)

__all__ = ["ask_blocks", "ask_promise", "find_calendar"]

_MAX_ANSWER = 8000
_MAX_BLOCKS = 4
_MAX_COMMITMENT = 256  # bytes; calendars of today promise 44
_MEDIA_TYPE = "application/vnd.opentimestamps.v1"
_ROOT_BYTES = 32
_TOO_MANY_REQUESTS = 429


def find_calendar(calendars: Sequence[Endpoint], uri: str) -> Endpoint | None:
    """Return the calendar that has this name, a final slash aside, or None."""
    for calendar in calendars:
        if calendar.url.rstrip("/") == uri.rstrip("/"):
            return calendar
    return None


def ask_promise(
    server: Endpoint, allowed: Sequence[Endpoint], commitment: bytes, deadline: float
) -> Way:
    """Submit a commitment; return one promise of a calendar that may give it.

    Args:
        server: a calendar, or a pool of some.
        allowed: whose promise is wanted.
        commitment: 32 bytes.
        deadline: on the clock of `time.monotonic`.

    Raises:
        AuditLogError: see `Anchor`.
    """
    response = post(
        server,
        "/digest",
        commitment,
        deadline,
        accept=_MEDIA_TYPE,
        limit=_MAX_ANSWER,
    )
    for way in _parse_answer(server, response, commitment):
        tag, _, uri = way.end
        if tag == PENDING and find_calendar(allowed, uri.decode()):
            _check_commitment(server, follow(way.operations, commitment))
            return way
    raise VerificationError(
        f"{server.url} answers without the promise of a calendar of the list"
    )


def ask_blocks(
    calendar: Endpoint, promise: Way, digest: bytes, deadline: float
) -> tuple[Way, ...]:
    """Return the ways from a digest to blocks, over a promise; none if not yet.

    Args:
        calendar: who gave the promise.
        promise: from the digest on.
        digest: 32 bytes.
        deadline: on the clock of `time.monotonic`.

    Raises:
        AuditLogError: see `Anchor`.
    """
    commitment = follow(promise.operations, digest)
    _check_commitment(calendar, commitment)
    path = f"/timestamp/{commitment.hex()}"
    response = get(calendar, path, deadline, accept=_MEDIA_TYPE, limit=_MAX_ANSWER)
    if response.status == HTTPStatus.NOT_FOUND:
        return ()
    ways = [
        way
        for way in _parse_answer(calendar, response, commitment)
        if way.end.tag == BITCOIN
        and len(follow(way.operations, commitment)) == _ROOT_BYTES
    ]
    if not ways:
        raise VerificationError(f"{calendar.url} answers without a Bitcoin attestation")
    ways.sort(key=lambda way: way.end.height)
    return extend(promise.operations, ways[:_MAX_BLOCKS])


def _parse_answer(
    endpoint: Endpoint, response: Response, message: bytes
) -> tuple[Way, ...]:
    status = response.status
    if status == _TOO_MANY_REQUESTS or status >= 500:
        raise AuditLogError(f"{endpoint.url} cannot answer now ({status})")
    if 300 <= status < 400:
        raise MalformedError(
            f"{endpoint.url} redirects ({status}), which is not followed: configure "
            "its final URL"
        )
    if status != HTTPStatus.OK:
        raise MalformedError(f"{endpoint.url} answered with status {status}")
    try:
        return parse_proof(response.body, message, _MAX_ANSWER)
    except MalformedError as error:
        raise MalformedError(f"{endpoint.url}: {error}") from None


def _check_commitment(endpoint: Endpoint, commitment: bytes) -> None:
    if len(commitment) > _MAX_COMMITMENT:
        raise MalformedError(
            f"{endpoint.url} promises {len(commitment)} bytes; expected up to "
            f"{_MAX_COMMITMENT}"
        )
