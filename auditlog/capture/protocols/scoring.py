"""What the protocols of models that score share: JSON read no deeper than needed.

A batch may have thousands of rows, and all that is wanted is how many they are. So only
the members of the outermost object are told apart; what they hold stays as it was sent.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from auditlog.capture.reading import Completeness, Traffic
from auditlog.core.commitment import is_json

__all__ = ["Members", "count", "ending", "is_readable", "members", "named", "text"]

Members = Mapping[str, msgspec.Raw]
"""Members of a JSON object by name, each as it was sent; the last of equal names."""

_T = TypeVar("_T")

_MAX_NAME = 256
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_NO_JSON = (b"NaN", b"Infinity")
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|-?\bInfinity\b|\bNaN\b', re.DOTALL)


def members(body: bytes) -> Members | None:
    """Return the members of a JSON object; None if the body is not one, whole.

    NaN and the infinities, which are no JSON but what Python's encoder writes, count
    as null.
    """
    found = _decoded(_MEMBERS, body)
    if found is None and any(word in body for word in _NO_JSON):
        found = _decoded(_MEMBERS, _TOKEN.sub(_or_null, body))
    return found


def _or_null(token: re.Match[bytes]) -> bytes:
    return token.group() if token.group().startswith(b'"') else b"null"


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

    What has an error status or no media type is always worth a try.
    """
    said = traffic.response_type
    if said is None or (traffic.status or 0) >= 400:
        return True
    return is_json(said) or said.partition(";")[0].strip(" \t").lower() in others


def ending(traffic: Traffic, answer: Members | None) -> Completeness:
    """Return how an answer of one JSON object ended."""
    if (traffic.status or 0) >= 400 or (answer is not None and "error" in answer):
        return "error_frame"
    # Of a capped one nobody can say more than that its end is there.
    whole = traffic.capped and traffic.tail.rstrip().endswith(b"}")
    return "complete" if whole or answer is not None else "no_terminator"


def _decoded(decoder: msgspec.json.Decoder[_T], body: bytes | msgspec.Raw) -> _T | None:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
