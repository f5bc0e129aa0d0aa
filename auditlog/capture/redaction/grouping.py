"""Which fragments of a sequence of texts may be parts of one value."""

from collections.abc import Sequence
from typing import NamedTuple

from auditlog.capture.redaction.spots import WAYS, Reader, Spot
from auditlog.core.errors import MalformedError

__all__ = ["Fragment", "Item", "fragments_of", "groups"]

_MAX_FRAGMENTS = 1 << 17
"""Texts and strings of one body that are put together; each takes some memory."""
_DONE = "[DONE]"
"""Ends the stream of many protocols whose other events are JSON."""


class Item(NamedTuple):
    """One text of a sequence."""

    text: str
    label: str = ""
    """Plain texts of one label may go on in each other, as well as all of them may."""


class Fragment(NamedTuple):
    """A string of a text that is JSON, or a text that is plain."""

    item: int
    """Which text."""
    value: str
    spot: Spot | None = None
    """Where the string stands; None for a plain text."""


def fragments_of(items: Sequence[Item]) -> list[list[Fragment] | None]:
    """Return the strings of each text that is JSON, and None for each that is plain.

    A text is JSON if it is an object or an array in which there is any string, name or
    value. A string alone is JSON where all others are: else it is a word in quotes.

    Raises:
        MalformedError: there are more of them than anybody means.
    """
    opened: list[list[Spot] | None] = []
    count = len(items)
    reader = Reader()
    for item in items:
        spots = _strings(reader, item.text)
        opened.append(spots)
        count += len(spots or ())
        if count > _MAX_FRAGMENTS:
            raise MalformedError(
                f"expected at most {_MAX_FRAGMENTS} strings in a stream, got more"
            )
    plain = {
        item.text.strip()
        for item, spots in zip(items, opened, strict=True)
        if spots is None
    }
    if plain - {"", _DONE}:
        for number, item in enumerate(items):
            if item.text.lstrip().startswith('"'):
                opened[number] = None
    return [
        None
        if spots is None
        else [Fragment(number, spot.value, spot) for spot in spots]
        for number, spots in enumerate(opened)
    ]


def _strings(reader: Reader, text: str) -> list[Spot] | None:
    begins = text.lstrip()[:1]
    if not begins or begins not in '{["' or '"' not in text:
        return None
    return reader.strings(text, _MAX_FRAGMENTS)


def groups(
    items: Sequence[Item], opened: Sequence[list[Fragment] | None]
) -> list[list[Fragment]]:
    """Return all sequences of fragments that may be one value, each of them once.

    Args:
        items: the texts.
        opened: their `fragments_of`.

    Returns:
        Of JSON, those of two fragments and more. Of plain texts, also those of one.
    """
    inside = [one for fragments in opened for one in fragments or ()]
    plain = [
        Fragment(number, items[number].text)
        for number, fragments in enumerate(opened)
        if fragments is None and items[number].text
    ]
    found: dict[tuple[int, ...], list[Fragment]] = {}
    for way in range(WAYS):
        for numbers in _equal([one.spot.keys[way] for one in inside if one.spot]):
            if len(numbers) > 1:
                found[numbers] = [inside[number] for number in numbers]
    apart: dict[tuple[int, ...], list[Fragment]] = {}
    for keys in ([""] * len(plain), [items[one.item].label for one in plain]):
        for numbers in _equal(keys):
            apart[numbers] = [plain[number] for number in numbers]
    return [*found.values(), *apart.values()]


def _equal(keys: Sequence[object]) -> list[tuple[int, ...]]:
    """Return the positions of equal keys."""
    found: dict[object, list[int]] = {}
    for number, key in enumerate(keys):
        found.setdefault(key, []).append(number)
    return [tuple(numbers) for numbers in found.values()]
