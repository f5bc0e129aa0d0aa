"""JSON from traffic as typed values: what does not fit is left out, nothing is raised.

A reader names the fields that it needs as structs, each with a default::

    class Usage(Struct):
        prompt_tokens: int | None = None

    USAGE = Shape(Usage)
    USAGE.read(b'{"prompt_tokens": 7}')        # Usage(prompt_tokens=7)
    USAGE.read(b'{"prompt_tokens": "many"}')   # Usage(prompt_tokens=None)
    USAGE.read(b'{"prompt_tok')                # None

Servers write odd JSON: a number as text, NaN in probabilities, half a surrogate pair in
each of two chunks. Typed decoding in one go is tried first, and is what most traffic
gets; the field-by-field way gives the same values where both can.

Every parser here is recursive, and an application may have raised the limit that makes
that an error: then deep JSON would end its process. So what is nested too deep is never
parsed.
"""

import json
import re
from functools import cache
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

import msgspec

from auditlog.core.record import MAX_DEPTH, nested_deeper

__all__ = [
    "Shape",
    "Struct",
    "code_of",
    "count_of",
    "is_deep",
    "is_several",
    "short_text",
    "text_of",
]

_MAX_SHORT = 256
_MAX_COUNT = (1 << 53) - 1
_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_OPENS = ("{", b"{")
_NOTHING: Any = object()
_ONE = json.JSONDecoder()


class Struct(msgspec.Struct, gc=False):
    """Base of what is read: every field needs a default, unknown ones are ignored."""


_Kind = TypeVar("_Kind", bound=Struct)


class Shape(Generic[_Kind]):
    """Reads JSON objects as one kind of struct.

    Fields may be of structs, `str`, `int`, `float`, `bool`, `Any`, lists and dicts by
    text of these, and unions of these with None.
    """

    def __init__(self, kind: type[_Kind]) -> None:
        self._kind = kind
        self._decode = msgspec.json.Decoder(kind).decode

    def read(self, data: bytes | str) -> _Kind | None:
        """Return what `data` holds; None if it is no whole JSON object, or too deep."""
        if is_deep(data):
            return None
        try:
            return self._decode(data)
        except ValueError:
            # A stream may have lines by the hundred thousand that are no JSON at all.
            return self._fitted(data) if data.lstrip()[:1] in _OPENS else None

    def _fitted(self, data: bytes | str) -> _Kind | None:
        text = data if isinstance(data, str) else data.decode(errors="replace")
        try:
            fitted = _fit(self._kind, json.loads(text))
        except ValueError:
            return None
        return None if fitted is _NOTHING else fitted


def is_deep(data: bytes | str) -> bool:
    """Return whether JSON, or what is none, has more than 64 nested containers."""
    if isinstance(data, bytes):
        return nested_deeper(data, MAX_DEPTH)
    if data.count("[") + data.count("{") <= MAX_DEPTH:
        return False
    return nested_deeper(data.encode("utf-8", "surrogatepass"), MAX_DEPTH)


def is_several(data: bytes) -> bool:
    """Return whether a body is more than one JSON value: lines of JSON, mostly."""
    if is_deep(data):
        return False
    text = data.decode(errors="replace").strip(" \t\r\n")
    try:
        _, end = _ONE.raw_decode(text)
    except ValueError:
        return False
    return end < len(text)


def text_of(parts: list[str], limit: int) -> str:
    """Return parts of a text put together: at most `limit` characters, valid UTF-8.

    Where JSON of two chunks held one half of a character each, they make it whole.
    """
    text = "".join(parts)[:limit]
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        utf16 = text.encode("utf-16-le", "surrogatepass")
        return utf16.decode("utf-16-le", "replace")
    return text


def short_text(value: object) -> str | None:
    """Return a name, an id, a reason: a text of 1 to 256 characters, else None."""
    if isinstance(value, str) and 0 < len(value) <= _MAX_SHORT:
        return value if value.isascii() else text_of([value], _MAX_SHORT)
    return None


def count_of(value: object) -> int | None:
    """Return a number of things, from 0 to 2^53-1; None for anything else."""
    if type(value) is int and 0 <= value <= _MAX_COUNT:
        return value
    return None


def code_of(error: object) -> str | None:
    """Return what kind of error a JSON value says it is: its code, type or status.

    Never its message: only a short word without spaces passes. A word comes before a
    number, such as a status repeated.
    """
    if not isinstance(error, dict):
        return None
    named = [error.get(name) for name in ("code", "type", "status")]
    words = [word for word in named if isinstance(word, str) and _CODE.fullmatch(word)]
    numbers = [str(count) for value in named if (count := count_of(value)) is not None]
    by_rank = sorted(words, key=str.isdigit) + numbers
    return by_rank[0] if by_rank else None


@cache
def _fields(kind: type[Struct]) -> list[tuple[str, str, Any]]:
    found = msgspec.structs.fields(kind)
    return [(field.name, field.encode_name, field.type) for field in found]


def _fit(kind: Any, value: Any) -> Any:
    # Recursion ends with the kinds, which are not recursive, at any depth of values.
    if kind is Any:
        return value
    origin = get_origin(kind)
    if origin in (Union, UnionType):
        fitted = (_fit(one, value) for one in get_args(kind))
        return next((one for one in fitted if one is not _NOTHING), _NOTHING)
    if origin is list:
        return _fit_list(get_args(kind)[0], value)
    if origin is dict:
        return _fit_dict(get_args(kind)[1], value)
    if issubclass(kind, Struct):
        return _fit_struct(kind, value)
    return _fit_plain(kind, value)


def _fit_list(kind: Any, value: Any) -> Any:
    if not isinstance(value, list):
        return _NOTHING
    return [one for item in value if (one := _fit(kind, item)) is not _NOTHING]


def _fit_dict(kind: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        return _NOTHING
    fitted = ((name, _fit(kind, item)) for name, item in value.items())
    return {name: one for name, one in fitted if one is not _NOTHING}


def _fit_struct(kind: type[Struct], value: Any) -> Any:
    if not isinstance(value, dict):
        return _NOTHING
    fitted = {
        name: one
        for name, sent, inner in _fields(kind)
        if sent in value and (one := _fit(inner, value[sent])) is not _NOTHING
    }
    return kind(**fitted)


def _fit_plain(kind: type, value: Any) -> Any:
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is float and type(value) is int and abs(value) <= _MAX_COUNT:
        return float(value)
    same = type(value) is kind or (kind is NoneType and value is None)
    return value if same else _NOTHING
