"""The rules of one side, applied to single texts of a stream."""

from functools import cached_property

from auditlog.capture.redaction.documents import redact_document
from auditlog.capture.redaction.edits import Edit, changes, merged
from auditlog.capture.redaction.quoted import named_values
from auditlog.capture.redaction.redaction import Side
from auditlog.capture.redaction.rules import REDACTED, Rules

__all__ = ["Engine"]

_JSON = "application/json"


class Engine:
    """Looks at texts. What it raises withholds the whole body: a rule failed."""

    def __init__(self, rules: Rules, side: Side) -> None:
        """Take the rules, and the side on which they are to apply."""
        self._rules = rules
        self._side = side

    @property
    def searches(self) -> bool:
        """Whether there are patterns or callables, which look into every text."""
        return self._rules.seeks

    @cached_property
    def has_places(self) -> bool:
        """Whether there are places whose values go."""
        return bool(self._rules.places.get(self._side))

    @property
    def keeps_unreadable(self) -> bool:
        """Whether what cannot be looked into is stored as it is."""
        return self._rules.unreadable == "keep"

    def named(self, name: str) -> bool:
        """Return whether the values of this name go."""
        return self._rules.has_keys and self._rules.is_key[name]

    def json(self, text: str) -> str | None:
        """Return a JSON text redacted; None if it cannot be read.

        Of one that was cut, what is cut is taken out.
        """
        value = text.encode(errors="surrogatepass")
        after = redact_document(self._rules, self._side, value, _JSON)
        return None if after is None else after.decode(errors="surrogatepass")

    def search(self, text: str) -> list[Edit]:
        """Return what goes of a plain text: what is found, or stands behind a name.

        Raises:
            Exception: whatever a callable raises.
        """
        found = [
            Edit(start, end, REDACTED)
            for pattern in self._rules.patterns
            for start, end in pattern.find(text)
        ]
        for redactor in self._rules.texts:
            after = redactor(text)
            if not isinstance(after, str):
                kind = type(after).__name__
                raise TypeError(f"expected a redactor to return a text, got {kind}")
            found += changes(text, after)
        if self._rules.has_keys:
            found += named_values(text, self.named)
        return merged(found)
