"""Where the strings of JSON texts stand, and which of other texts each one goes on in.

A model writes an answer in many events, each of which holds a few characters at the
same place. Which place is the same can be told in several ways, and none is right for
every protocol: an ``index`` tells choices apart in one and counts tokens in another, an
``id`` names the answer here and the event there. So a string has a key for each way,
and whoever puts together tries them all.

Events of one stream differ in their values and hardly in anything else. So a text is
parsed once for each shape: the text with all its values left out.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from auditlog.core.errors import MalformedError

__all__ = ["WAYS", "Reader", "Spot"]

WAYS = 4
"""Ways to tell which strings belong together."""

# A string, a name if a colon follows; or a number. What does not end is a string too:
# else each quote in it would be looked at as the beginning of one that does not end.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+("(\s*+:)?)?|-?[0-9][0-9.eE+-]*+')
_END, _COLON = 1, 2
_MAX_DEPTH = 64
_MAX_SHAPES = 256
_MAX_TOKENS = 1 << 18
_ANY = "*"


class Spot(NamedTuple):
    """One string, as a value and not as a name."""

    start: int
    """Of its literal in the text, with the quotes."""
    end: int
    value: str
    keys: tuple[tuple[object, ...], ...]
    """One for each way: strings of other texts with an equal key may go on with it."""


class _Object(list[tuple[str, Any]]):
    """Members in order, with repeated names."""


class _Around(NamedTuple):
    """What stands around a value."""

    place: tuple[object, ...] = ()
    """Names, and positions in arrays; of an element that has an index, none."""
    loose: tuple[object, ...] = ()
    """Likewise, without any position."""
    indices: tuple[int, ...] = ()
    """Which values are an ``index`` and its like."""
    ids: tuple[int, ...] = ()
    """Which are an ``id`` and its like."""


_Shape = list[tuple[int, _Around]] | None
"""Which values are strings, and where; None for what is no JSON."""


class Reader:
    """Reads the texts of one stream."""

    def __init__(self) -> None:
        self._shapes: dict[str, _Shape] = {}

    def strings(self, text: str, limit: int) -> list[Spot] | None:
        """Return the strings of a JSON text, in order; None if it is none, or too deep.

        Numbers and characters that JSON does not allow are for others to refuse.

        Args:
            text: it.
            limit: of them, so many are returned.

        Raises:
            MalformedError: it has more names and values than anybody means.
        """
        tokens = list(islice(_TOKEN.finditer(text), _MAX_TOKENS + 1))
        if len(tokens) > _MAX_TOKENS:
            raise MalformedError(f"expected at most {_MAX_TOKENS} names and values")
        if any(token[_END] is None and token[0][0] == '"' for token in tokens):
            return None  # a string does not end
        values = [token for token in tokens if token[_COLON] is None]
        shape = self._shape(text, values)
        if shape is None:
            return None
        try:
            said = [_said(value[0]) for value in values]
        except ValueError:
            return None
        return [
            Spot(*values[number].span(), said[number], _keys(around, said))
            for number, around in islice(shape, limit)
        ]

    def _shape(self, text: str, values: list[re.Match[str]]) -> _Shape:
        blank = _with(
            text, values, ['""' if one[0][0] == '"' else "0" for one in values]
        )
        if blank not in self._shapes:
            if len(self._shapes) >= _MAX_SHAPES:
                self._shapes.clear()
            numbers = [
                f'"{number}"' if one[0][0] == '"' else str(number)
                for number, one in enumerate(values)
            ]
            self._shapes[blank] = _parsed(_with(text, values, numbers))
        return self._shapes[blank]


def _with(text: str, values: list[re.Match[str]], others: list[str]) -> str:
    """Return a text with other values."""
    found: list[str] = []
    at = 0
    for value, other in zip(values, others, strict=True):
        found += text[at : value.start()], other
        at = value.end()
    return "".join((*found, text[at:]))


def _said(literal: str) -> str:
    """Return what a string says, or a number as it stands."""
    if "\\" in literal:
        said: str = json.loads(literal, strict=False)
        return said
    return literal[1:-1] if literal[0] == '"' else literal


def _parsed(text: str) -> _Shape:
    """Return the shape of a text in which each value is its number."""
    try:
        value = json.loads(text, object_pairs_hook=_Object, parse_constant=_refuse)
        return list(_walk(value, _Around(), 0))
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _walk(value: object, around: _Around, depth: int) -> Iterator[tuple[int, _Around]]:
    if isinstance(value, str):
        yield int(value), around
    elif isinstance(value, list):
        if depth >= _MAX_DEPTH:
            raise ValueError(depth)
        walk = _members if isinstance(value, _Object) else _elements
        yield from walk(value, around, depth + 1)


def _members(
    members: list[Any], around: _Around, depth: int
) -> Iterator[tuple[int, _Around]]:
    place, loose, indices, ids = around
    indices += _told_apart(members, "index")
    ids += _told_apart(members, "id")
    for name, value in members:
        inner = _Around((*place, name), (*loose, name), indices, ids)
        yield from _walk(value, inner, depth)


def _elements(
    elements: list[Any], around: _Around, depth: int
) -> Iterator[tuple[int, _Around]]:
    place, loose, indices, ids = around
    for position, value in enumerate(elements):
        has_index = isinstance(value, _Object) and _told_apart(value, "index")
        step = _ANY if has_index else position
        yield from _walk(
            value, _Around((*place, step), (*loose, _ANY), indices, ids), depth
        )


def _told_apart(members: list[tuple[str, Any]], ending: str) -> tuple[int, ...]:
    return tuple(
        int(value)
        for name, value in members
        if isinstance(value, str | int)
        and not isinstance(value, bool)
        and name.lower().endswith(ending)
    )


def _keys(around: _Around, said: list[str]) -> tuple[tuple[object, ...], ...]:
    place, loose, indices, ids = around
    by_index = tuple([said[number] for number in indices])
    by_id = tuple([said[number] for number in ids])
    name = loose[-1] if loose and loose[-1] is not _ANY else loose
    return (loose,), (place, by_index), (place, by_index, by_id), (name, by_index)
