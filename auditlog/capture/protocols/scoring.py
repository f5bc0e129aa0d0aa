"""What the protocols of models that score share: JSON read no deeper than needed.

A batch may have thousands of rows, and all that is wanted is how many they are. So only
the members of the outermost object are told apart; what they hold stays as it was sent.
"""

import json
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from auditlog.capture.protocols.values import is_deep
from auditlog.capture.reading import Completeness, Traffic
from auditlog.core.commitment import is_json

__all__ = [
    "Members",
    "body_of",
    "count",
    "ending",
    "essence",
    "has_failed",
    "is_json_text",
    "is_readable",
    "members",
    "named",
    "text",
]

Members = Mapping[str, msgspec.Raw]
"""Members of a JSON object by name, each as it was sent, or written anew
where that was no JSON; the last of equal names."""

_T = TypeVar("_T")

_FAILED = 400
_MAX_NAME = 256
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_ANY = msgspec.json.Decoder(msgspec.Raw)
_TEXT = msgspec.json.Decoder(str)
_NO_JSON = (b"NaN", b"Infinity")


def members(body: bytes) -> Members | None:
    """Return the members of a JSON object; None if the body is not one, whole.

    NaN and the infinities, which are no JSON but what Python's encoder writes, count
    as null.
    """
    return _lenient(_MEMBERS, body)


def is_json_text(body: bytes) -> bool:
    """Return whether a body is one JSON value, whole; NaN is let pass as above."""
    return _lenient(_ANY, body) is not None


def _lenient(decoder: msgspec.json.Decoder[_T], body: bytes) -> _T | None:
    if is_deep(body):
        return None
    found = _decoded(decoder, body)
    if found is None and any(word in body for word in _NO_JSON):
        found = _decoded(decoder, _without_nan(body))
    return found


def _without_nan(body: bytes) -> bytes:
    try:
        value = json.loads(body.decode(), parse_constant=lambda _: None)
        return json.dumps(value).encode()
    except ValueError:
        return b""


def count(value: msgspec.Raw | None) -> int | None:
    """Return how many elements an array has; None if the value is not an array."""
    elements = None if value is None else _decoded(_ELEMENTS, value)
    return None if elements is None else len(elements)


def text(value: msgspec.Raw | None) -> str | None:
    """Return a string of 1 to 256 characters; None if the value is not one."""
    found = None if value is None else _decoded(_TEXT, value)
    return found if found and len(found) <= _MAX_NAME else None


def named(name: str | None, version: str | None) -> str | None:
    """Return ``name@version``, or ``name`` where no version is known."""
    return f"{name}@{version}" if name and version else name


def is_readable(traffic: Traffic, *others: str) -> bool:
    """Return whether the answer claims to be JSON, or of one of the other media types.

    What has an error status is always worth a try; what has no media type, if it begins
    like JSON of several values. Where neither side has a body, as of a call with the
    method OPTIONS, no model was asked.
    """
    said = traffic.response_type
    if has_failed(traffic):
        return True
    if not traffic.response:
        return bool(traffic.request)
    if said is None:
        return traffic.response.lstrip()[:1] in {b"{", b"["}
    return is_json(said) or essence(said) in others


def essence(said: str | None) -> str:
    """Return a media type in lower case and without parameters; empty if there is none.

    Args:
        said: as sent.
    """
    return (said or "").partition(";")[0].strip(" \t").lower()


def has_failed(traffic: Traffic) -> bool:
    """Return whether the status is that of an error, whatever the body says."""
    return traffic.status is not None and traffic.status >= _FAILED


def body_of(traffic: Traffic) -> bytes:
    """Return the response as far as it is there without a gap."""
    return traffic.response if traffic.capped else traffic.response + traffic.tail


def ending(traffic: Traffic, *, whole: bool, failed: bool = False) -> Completeness:
    """Return how an answer of one JSON value ended.

    Args:
        traffic: the exchange.
        whole: whether `body_of` it is such a value.
        failed: whether that value says that it is an error.
    """
    if failed or has_failed(traffic):
        return "error_frame"
    # Of a capped one nobody can say more than that its end is there.
    closed = traffic.capped and traffic.tail.rstrip().endswith((b"}", b"]"))
    return "complete" if whole or closed else "no_terminator"


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes | msgspec.Raw) -> _T | None:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
