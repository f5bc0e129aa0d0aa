"""JSON, redacted where it stands: no other byte changes.

Members that no rule touches keep their exact bytes, which is what lets them be shown
later (`FORMATS.md` §3, §6). So the text is not parsed and written again: it is checked
to be strict JSON, then its tokens are walked through, and values that go are replaced.
"""

import codecs
import re
import sys
from itertools import count

from auditlog.capture.redaction.cut_json import Ended, end_json, is_strict
from auditlog.capture.redaction.json_tokens import (
    CLOSE,
    NAME,
    OPEN,
    SCALAR,
    TEXT,
    TOKEN,
    names_of,
    plain_number,
    suspects,
    unescape,
    write_string,
)
from auditlog.capture.redaction.places import Places, may_apply, step, within
from auditlog.capture.redaction.rules import REDACTED, Rules
from auditlog.capture.redaction.text import redact_cut_text, redact_text

__all__ = ["looks_like_json", "redact_json", "redact_json_text", "redact_value"]

_MAX_LEVEL = 4
"""Texts of JSON within each other; a deeper one goes as a whole."""

_NONE = (sys.maxsize, sys.maxsize)  # no suspect any more

Edit = tuple[int, int, str]


def redact_json(
    rules: Rules, value: bytes, places: Places, *, cut: bool = False
) -> bytes | None:
    """Return what may be stored of a JSON body, or of its first bytes.

    Args:
        rules: what may not be stored.
        value: the body.
        places: where pointers are at its root.
        cut: whether it is known to go on; else only a text that cannot end is cut.

    Returns:
        None if it is neither strict JSON nor the start of such.

    Raises:
        FailedRedactorError: a callable failed.
    """
    try:
        text, size = codecs.utf_8_decode(value, "strict", False)
    except UnicodeDecodeError:
        return None
    half = size < len(value)  # half a character at the end: something is open there
    if half and is_strict(text):
        return None
    redacted = redact_json_text(rules, text, places, cut=cut or half)
    if redacted is None:
        return None
    return value if redacted == text and not half else redacted.encode()


def redact_json_text(
    rules: Rules,
    text: str,
    places: Places = (),
    *,
    level: int = 0,
    cut: bool | None = None,
) -> str | None:
    """Return what may be stored of a text of JSON; None if it is none.

    Args:
        rules: what may not be stored.
        text: it, or the start of it.
        places: where pointers are at its root.
        level: texts of JSON that this one stands in.
        cut: whether it is known to go on; None if it does not, so that what it ends
            with is nothing but an unfinished text.

    Raises:
        FailedRedactorError: a callable failed.
    """
    ends_open = cut and text.rstrip()[-1:] not in ("]", "}", '"')
    if not ends_open and is_strict(text):
        ended = Ended(text, len(text), None)
    elif (found := end_json(text)) is not None:
        ended = found if cut is not None else found._replace(cut_at=None)
    else:
        return None
    return _splice(text, ended.kept, _Walk(rules, ended, places, level).edits())


def _splice(text: str, kept: int, edits: list[Edit]) -> str:
    if not edits:
        return text[:kept]
    parts: list[str] = []
    at = 0
    for start, end, new in edits:
        if start >= kept:  # in what was put in to end it
            break
        parts += text[at:start], new
        at = end
    return "".join(parts) + text[at:kept]


def looks_like_json(text: str) -> bool:
    """Return whether a text begins as an object or array does."""
    return text.lstrip(" \t\n\r")[:1] in ("{", "[")


def redact_value(
    rules: Rules,
    text: str,
    places: Places = (),
    *,
    level: int = 0,
    cut: bool | None = None,
) -> str:
    """Return what may be stored of a string, which may be a text of JSON itself.

    The arguments are those of `redact_json_text`.

    Raises:
        FailedRedactorError: a callable failed.
    """
    if looks_like_json(text):
        if level > _MAX_LEVEL:
            return REDACTED
        nested = redact_json_text(rules, text, places, level=level, cut=cut)
        if nested is not None:
            return nested
    return redact_cut_text(rules, text) if cut else redact_text(rules, text)


class _Walk:
    """One text of JSON on its way to what has to change in it."""

    def __init__(self, rules: Rules, ended: Ended, places: Places, level: int) -> None:
        self._rules = rules
        self._text, self._kept, self._cut_at = ended
        self._level = level
        self._edits: list[Edit] = []
        # Whether to look at all texts, or at those that hold one of the suspects.
        self._all = bool(rules.texts) or any(
            pattern.hint is None for pattern in rules.patterns
        )
        self._suspects = iter(() if self._all else suspects(rules, ended))
        self._suspect = next(self._suspects, _NONE)
        # Where pointers are, in the container that is open; counts items if they are.
        self._here = within(places)
        self._next: Places = ()
        self._items = count()
        self._outer: list[tuple[Places, count[int]]] = []
        # Of a container that goes: where it begins, how deep in it this is.
        self._gone_at, self._gone = 0, 0
        self._taken: set[str] | None = None
        self._renamed = count(2)

    def edits(self) -> list[Edit]:
        """Return what is to be replaced, in order."""
        if self._is_clear():
            return []
        for found in TOKEN.finditer(self._text):
            kind, name = found.lastindex, found[NAME]
            if self._gone:
                self._leave(found)
            elif kind == CLOSE:
                self._here, self._items = self._outer.pop()
            else:
                look = self._all or (
                    found.end() > self._suspect[0] and self._is_suspect(found)
                )
                if look and name is not None:
                    self._rename(found)
                if (name is not None or self._here) and self._goes(name):
                    self._drop(found)
                elif kind == OPEN:
                    self._enter()
                elif look:
                    self._look(found)
        return self._edits

    def _is_clear(self) -> bool:
        """Return whether it can be told at once that nothing is to be replaced."""
        return not (
            self._all
            or self._suspect is not _NONE
            or "\\" in self._text
            or self._rules.may_name_key(self._text)
            or may_apply(self._here, self._text)
        )

    def _is_suspect(self, found: re.Match[str]) -> bool:
        """Return whether this token shares a character with a suspect."""
        start, end = found.span()
        while self._suspect[1] <= start:
            self._suspect = next(self._suspects, _NONE)
        return self._suspect[0] < end

    def _goes(self, name: str | None) -> bool:
        """Return whether the next value goes by its name or its place."""
        if name is not None and "\\" in name:
            name = unescape(name)
        if self._here:
            taken = str(next(self._items)) if name is None else name
            self._next = places = step(self._here, taken)
            if places and any(place.ends for place in places):
                return True
        return name is not None and self._rules.is_key[name]

    def _enter(self) -> None:
        self._outer.append((self._here, self._items))
        if self._here:
            self._here, self._items = self._next, count()

    def _leave(self, found: re.Match[str]) -> None:
        if found.lastindex == OPEN:
            self._gone += 1
        elif found.lastindex == CLOSE:
            self._gone -= 1
            if not self._gone:
                self._put(self._gone_at, found.end(CLOSE), REDACTED)

    def _drop(self, found: re.Match[str]) -> None:
        if found.lastindex == OPEN:
            self._gone_at, self._gone = found.start(OPEN), 1
        elif found.lastindex == TEXT:
            self._put(found.start(TEXT) - 1, found.end(TEXT) + 1, REDACTED)
        else:
            self._put(*found.span(SCALAR), REDACTED)

    def _rename(self, found: re.Match[str]) -> None:
        name = unescape(found[NAME])
        start, end = found.start(NAME) - 1, found.end(NAME) + 1
        change = redact_cut_text if start == self._cut_at else redact_text
        if (new := change(self._rules, name)) != name:
            self._put(start, end, self._unique(new))

    def _unique(self, name: str) -> str:
        """Return the name, or one like it, that is no other's in the document."""
        if self._taken is None:
            self._taken = names_of(self._text)
        unique = name
        while unique in self._taken:
            numbered = f"{REDACTED[:-1]}:{next(self._renamed)}]"
            unique = name.replace(REDACTED, numbered, 1)
            unique = unique if unique != name else name + numbered
        self._taken.add(unique)
        return unique

    def _look(self, found: re.Match[str]) -> None:
        if found.lastindex == TEXT:
            self._look_into(found)
        elif found[SCALAR][0] in "-0123456789":
            start, end = found.span(SCALAR)
            plain = plain_number(found[SCALAR])
            # Of one that was cut, nobody knows what it would be.
            unknown = start == self._cut_at and self._rules.seeks
            if unknown or redact_text(self._rules, plain) != plain:
                self._put(start, end, REDACTED)

    def _look_into(self, found: re.Match[str]) -> None:
        text = unescape(found[TEXT])
        start, end = found.start(TEXT) - 1, found.end(TEXT) + 1
        cut = True if start == self._cut_at else None
        new = redact_value(self._rules, text, level=self._level + 1, cut=cut)
        if new != text:
            self._put(start, end, new)

    def _put(self, start: int, end: int, new: str) -> None:
        if start == self._cut_at:
            end = max(end, self._kept)
        self._edits.append(
            (start, end, write_string(new, ascii_only=self._text.isascii()))
        )
