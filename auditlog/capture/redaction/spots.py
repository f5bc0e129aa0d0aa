"""Where the strings of a JSON text stand, and which of other texts each one goes on in.

A model writes an answer in many events, each of which holds a few characters at the
same place. Which place is the same can be told in several ways, and none is right for
every protocol: an ``index`` tells choices apart in one and counts tokens in another, an
``id`` names the answer here and the event there. So a string has a key for each way,
and whoever puts together tries them all.
"""

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

__all__ = ["WAYS", "Spot", "strings"]

WAYS = 4
"""Ways to tell which strings belong together."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"')
_MAX_DEPTH = 64
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
    indices: tuple[object, ...] = ()
    """Values of ``index`` and its like."""
    ids: tuple[object, ...] = ()
    """Values of ``id`` and its like."""


def strings(text: str, limit: int) -> list[Spot] | None:
    """Return the strings of a JSON text, in order; None if it is none, or too deep.

    Args:
        text: it.
        limit: of them, so many are returned.
    """
    try:
        value = json.loads(text, object_pairs_hook=_Object, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    literals = _STRING.finditer(text)
    try:
        return list(islice(_walk(value, _Around(), literals, 0), limit))
    except _DeepError:
        return None


class _DeepError(Exception):
    """Containers stand in one another too often."""


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _walk(
    value: object, around: _Around, literals: Iterator[re.Match[str]], depth: int
) -> Iterator[Spot]:
    """Yield strings; what was read and the literals come in the same order."""
    if isinstance(value, str):
        literal = next(literals)
        yield Spot(literal.start(), literal.end(), value, _keys(around))
    elif isinstance(value, list):
        if depth >= _MAX_DEPTH:
            raise _DeepError
        walk = _members if isinstance(value, _Object) else _elements
        yield from walk(value, around, literals, depth + 1)


def _members(
    members: "list[Any]",
    around: _Around,
    literals: Iterator[re.Match[str]],
    depth: int,
) -> Iterator[Spot]:
    place, loose, indices, ids = around
    indices += _told_apart(members, "index")
    ids += _told_apart(members, "id")
    for name, value in members:
        next(literals)  # the name
        if value is None or isinstance(value, bool | int | float):
            continue
        inner = _Around((*place, name), (*loose, name), indices, ids)
        yield from _walk(value, inner, literals, depth)


def _elements(
    elements: list[Any],
    around: _Around,
    literals: Iterator[re.Match[str]],
    depth: int,
) -> Iterator[Spot]:
    place, loose, indices, ids = around
    for number, value in enumerate(elements):
        if value is None or isinstance(value, bool | int | float):
            continue
        has_index = isinstance(value, _Object) and _told_apart(value, "index")
        step = _ANY if has_index else number
        inner = _Around((*place, step), (*loose, _ANY), indices, ids)
        yield from _walk(value, inner, literals, depth)


def _told_apart(members: list[tuple[str, Any]], ending: str) -> tuple[object, ...]:
    return tuple(
        value
        for name, value in members
        if name.lower().endswith(ending) and isinstance(value, str | int)
    )


def _keys(around: _Around) -> tuple[tuple[object, ...], ...]:
    place, loose, indices, ids = around
    name = next((step for step in reversed(loose) if step is not _ANY), None)
    return (
        (0, loose),
        (1, place, indices),
        (2, place, indices, ids),
        (3, name, indices),
    )
