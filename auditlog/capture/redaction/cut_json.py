"""JSON that was cut: what stands there, ended such that it can be read.

A body that is larger than what is kept ends anywhere. What is missing is put in, so
that the reader of whole texts does the rest; it knows where the text was cut, and
nothing of what was put in gets into what is stored.
"""

import json
import re
from collections import deque
from typing import NamedTuple, NoReturn

from msgspec import MsgspecError, Raw
from msgspec.json import Decoder

from auditlog.core.record import MAX_DEPTH, nested_deeper

__all__ = ["Ended", "end_json", "is_strict"]

_WHITE = " \t\n\r"
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+("?+)', re.DOTALL)
_NOT_BRACKETS = re.compile(r"[^][{}]+")
_CLOSING = {"[": "]", "{": "}"}
# What a string holds up to its last whole escape, and what may be left of one.
_WHOLE = re.compile(r"(?:[^\\]++|\\[^u]|\\u[0-9a-fA-F]{4})*+", re.DOTALL)
_ESCAPE = re.compile(r"(?:\\(?:u[0-9a-fA-F]{0,3})?)?")
_NUMBER = re.compile(
    r"-?(?:(?:0|[1-9][0-9]*)(?:\.(?:[0-9]+)?)?)?(?:(?<=[0-9])[eE][+-]?[0-9]*)?"
)
_AROUND = ' \t\n\r"[]{}:,'
_WORDS = ("true", "false", "null")


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)  # NaN and infinities are not JSON


_decode_raw = Decoder(Raw).decode
_decode = json.JSONDecoder(
    parse_int=str, parse_float=str, parse_constant=_refuse
).decode


def is_strict(text: str) -> bool:
    """Return whether a text is strict JSON, at most 64 containers deep."""
    data = text.encode("utf-8", "surrogatepass")
    if nested_deeper(data, MAX_DEPTH):
        return False
    try:
        _decode_raw(data)
    except (MsgspecError, ValueError):
        try:  # as msgspec refuses lone surrogates
            _decode(text)
        except ValueError:
            return False
    return True


class Ended(NamedTuple):
    """A cut text with an end."""

    text: str
    """Strict JSON; as the one that was cut, up to `kept`, but for a number there."""
    kept: int
    """Characters of the cut text that are in it."""
    cut_at: int | None
    """Where the string, number or word begins that the cut went through."""


def end_json(text: str) -> Ended | None:
    """Return a text that was cut with an end to it; None if it is no start of JSON."""
    last = deque(_STRING.finditer(text), maxlen=1)
    open_at = last[0].start() if last and not last[0][1] else None
    skeleton = _STRING.sub('""', text[:open_at])
    if (closing := _closing(skeleton)) is None:
        return None
    if open_at is not None:
        ended = _end_string(text, open_at, _names(skeleton, closing))
    elif (start := max(map(text.rfind, _AROUND)) + 1) < len(text):
        ended = _end_scalar(text, start)
    elif closing:
        ended = Ended(text + _missing(skeleton, closing), len(text), None)
    else:
        return None
    if ended is None or not is_strict(whole := ended.text + closing):
        return None
    return ended._replace(text=whole)


def _closing(skeleton: str) -> str | None:
    """Return the brackets that are missing; None where others do not fit."""
    closing: list[str] = []
    for bracket in _NOT_BRACKETS.sub("", skeleton):
        if bracket in _CLOSING:
            closing.append(_CLOSING[bracket])
        elif not closing or closing.pop() != bracket:
            return None
    return "".join(reversed(closing))


def _names(skeleton: str, closing: str) -> bool:
    """Return whether a string that follows is a name."""
    before = skeleton.rstrip(_WHITE)[-1:]
    return before == "{" or (before == "," and closing.startswith("}"))


def _end_string(text: str, start: int, is_name: bool) -> Ended | None:
    whole = _WHOLE.match(text, start + 1)
    assert whole is not None  # it matches the empty text
    if _ESCAPE.fullmatch(text, whole.end()) is None:
        return None
    ending = '":null' if is_name else '"'
    return Ended(text[: whole.end()] + ending, whole.end(), start)


def _end_scalar(text: str, start: int) -> Ended | None:
    scalar = text[start:]
    if any(word.startswith(scalar) for word in _WORDS):
        filler = "null"
    elif _NUMBER.fullmatch(scalar):
        filler = "0"
    else:
        return None
    # At least as long as what it stands for, so that all after it is beyond `kept`.
    return Ended(text[:start] + filler.ljust(len(scalar)), len(text), start)


def _missing(skeleton: str, closing: str) -> str:
    """Return what is missing between the last mark and the brackets that close."""
    skeleton = skeleton.rstrip(_WHITE)
    if skeleton.endswith(":"):
        return "null"
    if skeleton.endswith(","):
        return '"":null' if closing.startswith("}") else "null"
    if skeleton.endswith('"') and _names(skeleton[:-2], closing):
        return ":null"
    return ""
