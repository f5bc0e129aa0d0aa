"""A sequence of texts, such as the data of events, in which values go on.

Each text is JSON or plain. Strings at the same place of several JSON texts, and plain
texts, are put together in every way that may be the right one
(`auditlog.capture.redaction.grouping`). The rules look at the whole, and what they take
out is taken out of each fragment. After that they look at each text alone.
"""

from bisect import bisect_right
from collections.abc import Sequence
from json import dumps

from auditlog.capture.redaction.edits import Edit, applied, changes, merged, spread
from auditlog.capture.redaction.engine import Engine
from auditlog.capture.redaction.grouping import Fragment, Item, fragments_of, groups
from auditlog.capture.redaction.patterns import MAX_MATCH
from auditlog.capture.redaction.quoted import looks_like_json
from auditlog.capture.redaction.rules import REDACTED

__all__ = ["redact_items"]

_Edits = dict[tuple[int, int], list[Edit]]
"""Of each fragment, by its text and where it stands there; -1 for a plain text."""


def redact_items(engine: Engine, items: Sequence[Item], *, cut: bool) -> list[str]:
    """Return the texts without what must go, as many as there were.

    Args:
        engine: applies the rules.
        items: in order.
        cut: whether the sequence goes on, and the last text may not be whole.

    Raises:
        Exception: whatever a callable raises.
    """
    opened = fragments_of(items)
    edits: _Edits = {}
    has_json = any(fragments is not None for fragments in opened)
    parts = False
    """Whether plain texts are one JSON text, all put together."""
    for group in groups(items, opened):
        read = _edit(engine, group, edits, cut=cut)
        parts |= read and group[0].spot is None
    found: list[str] = []
    for number, item in enumerate(items):
        fragments = opened[number]
        if fragments is not None:
            text = applied(item.text, _rewritten(engine, fragments, edits))
            found.append(_or_mask(engine.json(text)))
        elif has_json and looks_like_json(item.text):
            # It was to be JSON as the others are, and is cut or broken.
            found.append(REDACTED)
        else:
            text = _changed(engine, item.text, edits.get((number, -1)))
            found.append(_plain(engine, text, is_part=parts))
    if cut and items and opened[-1] is None and items[-1].text:
        found[-1] = REDACTED
    return found


def _or_mask(text: str | None) -> str:
    return REDACTED if text is None else text


def _edit(
    engine: Engine, group: Sequence[Fragment], edits: _Edits, *, cut: bool
) -> bool:
    """Add to the edits of each fragment what rules find in all put together.

    Returns:
        Whether that is a JSON text.
    """
    values = [fragment.value for fragment in group]
    constant = len(group) > 1 and len(set(values)) == 1
    if constant and not _find(engine, _repeated(values[0], len(values)))[0]:
        return False
    whole = "".join(values)
    wanted, read = _find(engine, whole)
    if cut and engine.searches and len(group) > 1 and not constant:
        tail = Edit(max(len(whole) - engine.tail, 0), len(whole), REDACTED)
        wanted = merged([*wanted, tail])
    if wanted:
        for fragment, mine in zip(group, spread(values, wanted), strict=True):
            edits.setdefault(_key(fragment), []).extend(mine)
    return read


def _key(fragment: Fragment) -> tuple[int, int]:
    return fragment.item, -1 if fragment.spot is None else fragment.spot.start


def _repeated(value: str, count: int) -> str:
    """Return enough of a repeated fragment to find whatever is found in all of it."""
    return value * min(count, MAX_MATCH // max(len(value), 1) + 2)


def _find(engine: Engine, whole: str) -> tuple[list[Edit], bool]:
    """Return what goes of a text that was put together, and if it was read as JSON."""
    if looks_like_json(whole):
        after = engine.json(whole)
        if after is not None:
            return changes(whole, after), True
        if engine.has_places:
            return [Edit(0, len(whole), REDACTED)], False
    return engine.search(whole), False


def _rewritten(
    engine: Engine, fragments: Sequence[Fragment], edits: _Edits
) -> list[Edit]:
    """Return the edits of a JSON text, given those of its strings."""
    return [
        Edit(spot.start, spot.end, dumps(_changed(engine, spot.value, mine)))
        for one in fragments
        if (spot := one.spot) and (mine := edits.get((one.item, spot.start)))
    ]


def _changed(engine: Engine, text: str, edits: list[Edit] | None) -> str:
    """Return a fragment without what went of it in others, or goes of it alone.

    What goes of it alone might not be found any more after the others.
    """
    if not edits:
        return text
    found = merged(edits)
    starts = [one.start for one in found]
    for one in _find(engine, text)[0]:
        before = found[max(bisect_right(starts, one.start) - 1, 0)]
        if not (before.start <= one.start and one.end <= before.end):
            edits.append(one)
    return applied(text, merged(edits))


def _plain(engine: Engine, text: str, *, is_part: bool) -> str:
    """Return a plain text after the rules looked at it alone."""
    if engine.has_places and not is_part and looks_like_json(text):
        return _or_mask(engine.json(text))
    return applied(text, engine.search(text))
