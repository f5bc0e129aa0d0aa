"""Names and values in a text that is not JSON, and looks like it in places.

Half of a tool call, an object as Python prints it, an answer with an example of JSON in
it: no parser takes these, and the value behind a name must go all the same.
"""

import re
from collections.abc import Callable
from json import JSONDecodeError, JSONDecoder

from auditlog.capture.redaction.edits import Edit
from auditlog.capture.redaction.rules import REDACTED

__all__ = ["looks_like_json", "named_values"]

# A name in quotes of either kind, perhaps escaped, because such text stands in strings.
_NAME = re.compile(
    r"""(?<!\\)(\\*+)(["'])((?:[^"'\\\r\n]|\\++u[0-9a-fA-F]{4})*+)\1\2\s*+:\s*+"""
)
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})")
_SCALAR = re.compile(r"[^\s,}\]\"']*+")
_STRINGS = {
    '"': re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL),
    "'": re.compile(r"'(?:[^'\\]|\\.)*+'?", re.DOTALL),
}
_DECODER = JSONDecoder()


def looks_like_json(text: str) -> bool:
    """Return whether a text begins as an object or an array that holds a string."""
    return text.lstrip("\ufeff \t\r\n").startswith(("{", "[")) and '"' in text


def named_values(text: str, names: Callable[[str], bool]) -> list[Edit]:
    """Return edits that take out what stands behind names, in order.

    What cannot be told to end, ends with the text.
    """
    found: list[Edit] = []
    at = 0
    while (name := _NAME.search(text, at)) is not None:
        at = name.end()
        if names(_unescaped(name[3])):
            end = _end_of_value(text, at, name[1])
            found.append(Edit(at, end, f'"{REDACTED}"'))
            at = max(end, at)
    return [edit for edit in found if text[edit.start : edit.end] != edit.text]


def _unescaped(name: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 16)), name)


def _end_of_value(text: str, start: int, escape: str) -> int:
    if escape:
        # Text in a string in a string: where its values end is told by too little.
        return len(text)
    first = text[start : start + 1]
    if first in _STRINGS:
        match = _STRINGS[first].match(text, start)
        assert match is not None  # it takes one quote alone as well
        return match.end()
    if first and first in "{[":
        try:
            return _DECODER.raw_decode(text, start)[1]
        except (JSONDecodeError, RecursionError):
            return len(text)
    match = _SCALAR.match(text, start)
    return len(text) if match is None else match.end()
