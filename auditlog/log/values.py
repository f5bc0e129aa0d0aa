"""What goes into a decision and comes out of it beyond HTTP, as the bytes of a body.

- bytes as they are: ``application/octet-stream``, unless another type is given;
- text as UTF-8: ``text/plain``, likewise;
- anything else as JSON: ``application/json``, whose members open one by one like those
  of a request. NumPy scalars and arrays, and whatever else has a `tolist`, are the
  lists and numbers that it gives.

JSON is written without white space, in the order of the value, each float as the
shortest decimal that reads back as the same double. What JSON cannot say is refused:
NaN and infinity, keys that are no text, dates, objects. No message holds a value.
"""

import json
from typing import Any, NamedTuple

from auditlog.core.errors import ConfigurationError
from auditlog.log.said import words

__all__ = ["ABSENT", "Written", "written"]

ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "ABSENT"})()
"""Stands for an input or output that was not given; None is the JSON null."""

_MAX_DEPTH = 64
"""Containers inside each other: as many as open into members (`FORMATS.md` §3)."""
_MAX_TYPE = 256
_PLAIN = frozenset({bool, float, int, str, type(None)})


class Written(NamedTuple):
    """A body that nobody sent."""

    data: bytes
    media_type: str
    """As a Content-Type would say it."""


def written(what: str, value: Any, media_type: str | None = None) -> Written:
    """Return the body of a value.

    Args:
        what: the value as a message calls it, such as ``the input``.
        value: see the module.
        media_type: of bytes, of a text, or of the JSON that is written.

    Raises:
        ConfigurationError: JSON cannot say it; or the media type is not 1 to 256
            printable ASCII characters.
    """
    if media_type is not None:
        _check_type(what, media_type)
    if isinstance(value, bytes | bytearray | memoryview):
        return Written(bytes(value), media_type or "application/octet-stream")
    if isinstance(value, str):
        text = str.__str__(value)
        return Written(_utf8(what, text), media_type or "text/plain; charset=utf-8")
    return Written(_json(what, value), media_type or "application/json")


def _check_type(what: str, media_type: str) -> None:
    text = words(f"the media type of {what}", media_type, _MAX_TYPE)
    if not (text.isascii() and text.isprintable()):
        raise ConfigurationError(
            f"expected the media type of {what} in printable ASCII, got other text"
        )


def _json(what: str, value: Any) -> bytes:
    try:
        text = json.dumps(
            _plain(what, value, _MAX_DEPTH),
            allow_nan=False,
            check_circular=False,
            ensure_ascii=False,
            separators=(",", ":"),
        )
    except ValueError:
        # Numbers are all that it still refuses; its own message may hold one.
        raise ConfigurationError(
            f"expected {what} without NaN, infinity or integers of thousands of "
            "digits, which JSON does not have: say None for a value that is missing"
        ) from None
    return _utf8(what, text)


def _utf8(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"expected {what} without lone surrogates, which UTF-8 cannot say"
        ) from None


def _plain(what: str, value: Any, depth: int) -> Any:
    """Return a copy of what JSON can say, with arrays as lists."""
    if type(value) in _PLAIN:
        return value
    if depth == 0:
        raise ConfigurationError(
            f"expected {what} at most {_MAX_DEPTH} containers deep, got a deeper one"
        )
    if isinstance(value, dict):
        return {
            _key(what, key): _plain(what, item, depth - 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(what, item, depth - 1) for item in value]
    return _plain_scalar(what, value, depth)


def _key(what: str, key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise ConfigurationError(
        f"expected text as each key in {what}, got {type(key).__name__}: JSON has no "
        "other keys"
    )


def _plain_scalar(what: str, value: Any, depth: int) -> Any:
    """Return what an enumeration, a scalar or an array of NumPy says."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value)
    if hasattr(value, "tolist"):
        plain = value.tolist()
        # Some scalars, of more precision than a double has, give themselves.
        if type(plain) is not type(value):
            return _plain(what, plain, depth - 1)
    raise ConfigurationError(
        f"expected {what} as bytes, text or JSON, got {type(value).__name__} in it"
    )
