"""Tokens of strict JSON, found by one expression, and what is known before a walk."""

import json
import re
from decimal import Decimal

from auditlog.capture.redaction.cut_json import Ended
from auditlog.capture.redaction.patterns import Span
from auditlog.capture.redaction.rules import Rules
from auditlog.capture.redaction.text import join

__all__ = [
    "CLOSE",
    "NAME",
    "OPEN",
    "SCALAR",
    "TEXT",
    "TOKEN",
    "names_of",
    "plain_number",
    "suspects",
    "unescape",
    "write_string",
]

_WHITE = r"[ \t\n\r]*+"
_STRING = r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
# Of strict JSON. One token is a value with the name before it, or the end of a
# container, and what separates it from the next.
TOKEN = re.compile(
    rf'{_WHITE}(?:{_STRING}{_WHITE}:{_WHITE})?+(?:{_STRING}|([^\s"[\]{{}},:]++)|'
    rf"([\[{{])|([\]}}])){_WHITE},?+",
    re.DOTALL,
)
NAME, TEXT, SCALAR, OPEN, CLOSE = range(1, 6)
_EVERY_STRING = re.compile(rf"{_STRING}({_WHITE}:)?+", re.DOTALL)
# Where a token does not stand in the text as it is meant: the escapes of a string, from
# the first to the last one, and numbers with an exponent.
_ESCAPES = re.compile(r"\\.(?:[^\"\\]*+\\.)*+", re.DOTALL)
# And, for keys, where a name may be within a string: with double quotes it has escapes.
_QUOTED = re.compile(r"'\s*+:")
_EXPONENT = re.compile(r"[eE]\+?[0-9]")
_MOST_DIGITS = 32
_FLOAT = re.compile(r"-?[0-9]{1,64}(?:\.[0-9]{1,64})?(?:[eE][+-]?[0-9]{1,2})?")


def suspects(rules: Rules, ended: Ended) -> list[Span]:
    """Return what a text must share a character with, for a rule to match in it.

    A text without escapes stands in the document as it is; others are all suspect.
    """
    if not rules.patterns and not rules.keys:
        return []
    spelled = [_ESCAPES]
    if rules.patterns:
        spelled.append(_EXPONENT)
    if rules.keys:
        spelled.append(_QUOTED)
    spans = [found.span() for kind in spelled for found in kind.finditer(ended.text)]
    for pattern in rules.patterns:
        if pattern.hint is not None:
            spans += pattern.hint(ended.text)
    if ended.cut_at is not None:
        spans.append((ended.cut_at, ended.cut_at + 1))
    return join(spans) if spans else []


def unescape(text: str) -> str:
    """Return what a string of JSON says, given what stands between its quotes."""
    return str(json.loads(f'"{text}"')) if "\\" in text else text


def plain_number(number: str) -> str:
    """Return a number without exponent and without zeros as fraction, if it is short.

    A card number that was a float somewhere reads ``4.111e+15``, or ends with ``.0``.
    """
    if _FLOAT.fullmatch(number) is None:
        return number
    exact = Decimal(number)
    if exact.adjusted() > _MOST_DIGITS or exact != exact.to_integral_value():
        return number
    return f"{exact:f}".partition(".")[0]


def write_string(text: str, *, ascii_only: bool) -> str:
    """Return a string of JSON, in ASCII also where it would not be UTF-8."""
    if not ascii_only:
        try:
            text.encode()
        except UnicodeEncodeError:
            ascii_only = True
    return json.dumps(text, ensure_ascii=ascii_only)


def names_of(text: str) -> set[str]:
    """Return the names of all members of a text of JSON, however deep."""
    return {unescape(name) for name, colon in _EVERY_STRING.findall(text) if colon}
