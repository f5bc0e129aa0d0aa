"""Text, searched: what matches is replaced, all other characters stay."""

import codecs
import re

from auditlog.capture.redaction.edits import applied
from auditlog.capture.redaction.patterns import MAX_MATCH, Span
from auditlog.capture.redaction.quoted import named_values
from auditlog.capture.redaction.rules import REDACTED, Rules

__all__ = [
    "FailedRedactorError",
    "find",
    "join",
    "redact_cut_text",
    "redact_text",
    "redact_text_body",
    "replace",
]

_ROUNDS = 8
_PLACEHOLDER = re.compile(rf"{re.escape(REDACTED[:-1])}(?::[0-9]+)?\]")


class FailedRedactorError(Exception):
    """A callable raised, or returned no text: nothing of this body may be stored."""


def find(rules: Rules, text: str) -> list[Span]:
    """Return what the patterns match, in order; spans that overlap are one.

    What already stands for something taken out is no match, or part of a larger one.
    """
    spans = [span for pattern in rules.patterns for span in pattern.find(text)]
    if not spans:
        return []
    placeholders = {found.span() for found in _PLACEHOLDER.finditer(text)}
    joined = join([*spans, *placeholders])
    return [span for span in joined if span not in placeholders]


def join(spans: list[Span]) -> list[Span]:
    """Return spans in order, those that overlap as one; at least one is given."""
    spans = sorted(spans)
    joined = [spans[0]]
    for start, end in spans[1:]:
        if start < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def replace(text: str, spans: list[Span]) -> str:
    """Return the text with `REDACTED` instead of each of these spans."""
    kept: list[str] = []
    at = 0
    for start, end in spans:
        kept += text[at:start], REDACTED
        at = end
    return "".join(kept) + text[at:]


def redact_text(rules: Rules, text: str) -> str:
    """Return a text without what patterns match and callables take out.

    And without values behind keys in quotes, as in an example of JSON in an answer.

    Raises:
        FailedRedactorError: a callable failed.
    """
    # What is new may match again, next to what was there. The same text redacted twice
    # is to be the same, and nothing is to be left.
    for _ in range(_ROUNDS):
        fewer = _without_named(rules, replace(text, find(rules, text)))
        if fewer == text:
            break
        text = fewer
    else:
        return REDACTED
    for redactor in rules.texts:
        text = _call(redactor, text)
    return text


def _without_named(rules: Rules, text: str) -> str:
    """Return a text without what stands behind a name, where it looks like JSON."""
    if not rules.keys or ":" not in text:
        return text
    return applied(text, named_values(text, rules.is_key.__getitem__))


def _call(redactor: object, text: str) -> str:
    assert callable(redactor)
    try:
        redacted = redactor(text)
    except Exception as error:  # noqa: BLE001 - of whatever kind, it failed
        raise FailedRedactorError(type(error).__name__) from None
    if not isinstance(redacted, str):
        raise FailedRedactorError(f"expected a text, got {type(redacted).__name__}")
    return redacted


def redact_cut_text(rules: Rules, text: str) -> str:
    """Return of a text that may go on what is certain to hold nothing of a match.

    Its last `MAX_MATCH` characters go, as a match may begin there that the cut hides.
    """
    text = redact_text(rules, text)
    if text.endswith(REDACTED) or not rules.seeks:
        return text
    kept = text[:-MAX_MATCH]
    half = kept.rfind("[", -len(REDACTED))
    if half >= 0 and text.startswith(REDACTED, half):
        kept = kept[:half]
    return kept + REDACTED


def redact_text_body(
    rules: Rules, value: bytes, charset: str, *, cut: bool
) -> bytes | None:
    """Return what may be stored of a text in this charset; None if it is none.

    Raises:
        FailedRedactorError: a callable failed.
    """
    try:
        decoder = codecs.getincrementaldecoder(charset)("strict")
        text = decoder.decode(value)
        whole = not decoder.getstate()[0]
        # An unfinished character at the end shows that there is more.
        change = redact_cut_text if cut or not whole else redact_text
        redacted = change(rules, text)
        if redacted == text and whole:
            return value
        # Where all of it would be written in other bytes, none may be.
        same = not whole or text.encode(charset) == value
        return redacted.encode(charset) if same else None
    except (UnicodeError, LookupError):
        return None
