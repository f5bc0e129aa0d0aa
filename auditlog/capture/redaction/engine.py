"""The rules of one side, applied to single texts of a stream."""

from dataclasses import replace
from functools import lru_cache

from auditlog.capture.redaction.edits import Edit, changes, merged
from auditlog.capture.redaction.identifiers import FINDERS
from auditlog.capture.redaction.json_document import redact_json_text
from auditlog.capture.redaction.patterns import MAX_MATCH
from auditlog.capture.redaction.quoted import named_values
from auditlog.capture.redaction.redaction import Side
from auditlog.capture.redaction.rules import REDACTED, Rules
from auditlog.capture.redaction.text import find, redact_text

__all__ = ["Engine"]

_TAIL = 256
"""Characters of the longest address; no card or account is as long."""
_REMEMBERED = 4096
"""Texts of a body of which a callable is asked once: events say the same again."""


class Engine:
    """Looks at the texts of one body. What it raises withholds all: a rule failed."""

    def __init__(self, rules: Rules, side: Side) -> None:
        """Take the rules, and the side on which they are to apply."""
        # What looks at whole bodies has seen this one.
        texts = tuple(map(lru_cache(_REMEMBERED), rules.texts))
        self._rules = replace(rules, texts=texts, bodies=())
        self._callables = replace(self._rules, patterns=())
        self._places = rules.places.get(side, ())

    @property
    def searches(self) -> bool:
        """Whether there are patterns or callables, which look into every text."""
        return self._rules.seeks

    @property
    def tail(self) -> int:
        """How many characters at a cut may be the start of what would be found."""
        known = all(pattern.name in FINDERS for pattern in self._rules.patterns)
        return _TAIL if known and not self._rules.texts else MAX_MATCH

    @property
    def has_places(self) -> bool:
        """Whether there are places whose values go."""
        return bool(self._places)

    @property
    def keeps_unreadable(self) -> bool:
        """Whether what cannot be looked into is stored as it is."""
        return self._rules.unreadable == "keep"

    def named(self, name: str) -> bool:
        """Return whether the values of this name go."""
        return bool(self._rules.keys) and self._rules.is_key[name]

    def json(self, text: str, *, cut: bool = False) -> str | None:
        """Return a JSON text redacted, or the start of one; None if it is neither.

        Args:
            text: it.
            cut: whether it is known to go on.

        Raises:
            FailedRedactorError: a callable failed.
        """
        return redact_json_text(self._rules, text, self._places, cut=cut or None)

    def search(self, text: str) -> list[Edit]:
        """Return what goes of a plain text: what is found, or stands behind a name.

        Raises:
            FailedRedactorError: a callable failed.
        """
        found = [Edit(start, end, REDACTED) for start, end in find(self._rules, text)]
        if self._rules.texts:
            found += changes(text, redact_text(self._callables, text))
        if self._rules.keys:
            found += named_values(text, self.named)
        return merged(found)
