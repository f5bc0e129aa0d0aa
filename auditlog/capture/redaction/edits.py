"""What was changed in a text that came in fragments, told of each fragment.

A rule looks at the fragments put together, as nobody can tell from a part of it what a
value is. What it changed there is mapped back here: joined again, the fragments are
exactly what the rule made of the whole.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from itertools import accumulate
from typing import NamedTuple

from auditlog.capture.redaction.rules import REDACTED

__all__ = ["Edit", "applied", "changes", "merged", "spread"]

# In JSON text the mask may have taken the place of more than a string.
_MASKED = re.compile(r'("?\[redacted\]"?)')
_TOKEN = re.compile(r"\w+|\W")
_MAX_TOKENS = 1000
"""Of texts compared word by word; it may take the square of it."""


class Edit(NamedTuple):
    """A part of a text, and what takes its place."""

    start: int
    end: int
    text: str


def changes(before: str, after: str) -> list[Edit]:
    """Return what makes `after` of `before`, in order, without overlaps.

    There are many answers, all of which do. The one given is close to what was meant
    where `REDACTED` took the place of something, or the texts are short.
    """
    if before == after:
        return []
    found = _between_masks(before, after)
    if found is None:
        start, end = _common_ends(before, after)
        inner = before[start : len(before) - end], after[start : len(after) - end]
        found = [
            Edit(edit.start + start, edit.end + start, edit.text)
            for edit in _by_words(*inner)
        ]
    return [edit for edit in found if before[edit.start : edit.end] != edit.text]


def _between_masks(before: str, after: str) -> list[Edit] | None:
    """Take for granted that what is not a mask stands in `before` as it is."""
    first, *rest = _MASKED.split(after)
    masks, kept = rest[::2], rest[1::2]
    if not masks or not before.startswith(first):
        return None
    last = len(before) - len(kept[-1])
    if last < len(first) or not before.endswith(kept[-1]):
        return None
    found: list[Edit] = []
    at = len(first)
    for mask, text in zip(masks[:-1], kept[:-1], strict=True):
        end = before.find(text, at, last)
        if end < 0:
            return None
        found.append(Edit(at, end, mask))
        at = end + len(text)
    return [*found, Edit(at, last, masks[-1])]


def _common_ends(one: str, other: str) -> tuple[int, int]:
    """Return how many characters are the same at the start, and after that at the end.

    Halved until found: comparing slices is faster than characters one by one.
    """
    start = _common_start(one, other)
    return start, _common_start(one[start:][::-1], other[start:][::-1])


def _common_start(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _by_words(before: str, after: str) -> list[Edit]:
    olds, news = _TOKEN.findall(before), _TOKEN.findall(after)
    if max(len(olds), len(news)) > _MAX_TOKENS:
        return [Edit(0, len(before), after)]
    starts = [0, *accumulate(map(len, olds))]
    matcher = SequenceMatcher(None, olds, news, autojunk=False)
    return [
        Edit(starts[one], starts[end], "".join(news[other:until]))
        for tag, one, end, other, until in matcher.get_opcodes()
        if tag != "equal"
    ]


def spread(fragments: Sequence[str], edits: Iterable[Edit]) -> list[list[Edit]]:
    """Return the edits of each fragment, given those of all put together.

    What takes the place of a part stands in the fragment where it began.

    Args:
        fragments: at least one.
        edits: in order, without overlaps.
    """
    found: list[list[Edit]] = [[] for _ in fragments]
    starts = [0, *accumulate(map(len, fragments))]
    number = 0
    for start, end, text in edits:
        while number < len(fragments) - 1 and starts[number + 1] <= start:
            number += 1
        placed, at = text, number
        while True:
            begin, stop = starts[at], starts[at + 1]
            local = Edit(max(start - begin, 0), min(end, stop) - begin, placed)
            if local.text or local.start < local.end:
                found[at].append(local)
            if end <= stop:
                break
            placed, at = "", at + 1
    return found


def merged(edits: Iterable[Edit]) -> list[Edit]:
    """Return edits of one text that several rules asked for, without overlaps.

    Where two of them overlap, all that either takes out goes.
    """
    found: list[Edit] = []
    for edit in sorted(set(edits)):
        last = found[-1] if found else None
        overlaps = last is not None and (edit.start < last.end or edit[:2] == last[:2])
        if last is not None and overlaps:
            text = REDACTED if last.text or edit.text else ""
            found[-1] = Edit(last.start, max(last.end, edit.end), text)
        else:
            found.append(edit)
    return found


def applied(text: str, edits: Iterable[Edit]) -> str:
    """Return a text after its edits, which are in order and do not overlap."""
    found: list[str] = []
    at = 0
    for start, end, new in edits:
        found += text[at:start], new
        at = end
    return "".join((*found, text[at:]))
