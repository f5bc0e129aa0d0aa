"""What was said on a WebSocket, out of stored content: both directions in one order."""

from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from auditlog.core.pieces import TEXT, messages

__all__ = ["Line", "transcript"]

_SPEAKERS: dict[str, Literal["client", "application"]] = {
    "request": "client",
    "response": "application",
}


class Line(NamedTuple):
    """One message."""

    order: int
    """Its place among the messages of the connection."""
    by: Literal["client", "application"]
    path: str
    """Of its leaf, as `auditlog disclose --field` takes it."""
    payload: str | bytes
    """Text as text, all else as bytes."""


def transcript(data: Mapping[str, Any], request: bytes, response: bytes) -> list[Line]:
    """Return the messages of a decision that are kept whole; none of a request.

    Args:
        data: of its entry.
        request: what is kept of it, checked against the entry's commitment.
        response: likewise.

    Raises:
        MalformedError: these are no frames, though the entry says so.
    """
    sides = {"request": request, "response": response}
    found = [
        line
        for side, raw in sides.items()
        if side in data and data[side]["split"] == "ws"
        for line in _lines(side, raw)
    ]
    return sorted(found, key=attrgetter("order"))


def _lines(side: str, raw: bytes) -> Iterator[Line]:
    for number, (order, kind, payload) in enumerate(messages(raw, cut=True)):
        # What was captured as text is UTF-8, or it would not be there.
        said = payload.decode("utf-8", "replace") if kind == TEXT else payload
        yield Line(order, _SPEAKERS[side], f"{side}#{number}", said)
