"""Patterns in text: those of an operator, and some that are built in."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from auditlog.capture.redaction.identifiers import FINDERS, HINTS, Span
from auditlog.core.errors import ConfigurationError

__all__ = ["MAX_MATCH", "Pattern", "Span", "parse_pattern"]


MAX_MATCH = 4_096
"""Characters of a match that is found wherever it stands, and dropped where a cut may
have gone through one."""
# A search sees no more than this at once, so that an expression which is slow in the
# square of the text is slow in its length only.
_WINDOW = 4 * MAX_MATCH
# An expression that finds nothing among these may still match nothing elsewhere; such
# matches are passed over.
_PROBES = ("", "a", "a 1", "1,\n")
# Whether it matches depends on where a text ends or what stands around.
_BOUND = re.compile(r"[$^]|\\[AZBbz]|\(\?(?!:|[aimsux]+\))|[*+?}]\+")


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """One pattern, ready to be searched for."""

    name: str
    find: Callable[[str], list[Span]]
    """Returns where it matches, in order."""
    hint: Callable[[str], list[Span]] | None
    """Returns stretches of a text, of which each match in each part of it shares a
    character with one; None if that cannot be told but by looking at the part."""


def parse_pattern(source: str) -> Pattern:
    """Return the pattern that is built in under this name, or this expression.

    Raises:
        ConfigurationError: it does not compile, or matches the empty text.
    """
    if source in FINDERS:
        return _built_in(source)
    try:
        regex = re.compile(source)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigurationError(
            f"redact_patterns: expected a regular expression or one of "
            f"{' '.join(FINDERS)}, got {source!r}: {error}"
        ) from error
    if any(
        found.end() == found.start()
        for probe in _PROBES
        for found in regex.finditer(probe)
    ):
        raise ConfigurationError(
            f"redact_patterns: expected an expression that matches some text, got "
            f"{source!r}, which matches the empty one"
        )
    find = _searched(regex)
    return Pattern(source, find, None if _BOUND.search(source) else find)


def _built_in(name: str) -> Pattern:
    finder, hints = FINDERS[name], HINTS[name]

    def find(text: str) -> list[Span]:
        # Much faster than the finder, and in most texts there is none.
        return finder(text) if any(hint.search(text) for hint in hints) else []

    return Pattern(name, find, _any_of(hints))


def _any_of(hints: tuple[re.Pattern[str], ...]) -> Callable[[str], list[Span]]:
    def find(text: str) -> list[Span]:
        return [found.span() for hint in hints for found in hint.finditer(text)]

    return find


def _searched(regex: re.Pattern[str]) -> Callable[[str], list[Span]]:
    return lambda text: list(_spans(regex, text))


def _spans(regex: re.Pattern[str], text: str) -> Iterator[Span]:
    at, size = 0, len(text)
    while True:
        end = min(at + _WINDOW, size)
        last = at
        for found in regex.finditer(text, at, end):
            if end < size and at < found.start() and end - MAX_MATCH < found.end():
                at = found.start()  # once more, with what stands behind it in sight
                break
            if found.start() < found.end():
                yield found.span()
                last = found.end()
        else:
            if end == size:
                return
            at = max(last, end - MAX_MATCH)
