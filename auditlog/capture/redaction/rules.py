"""What an operator does not want stored: names, places, patterns and callables."""

import inspect
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeGuard

from auditlog.capture.redaction.patterns import Pattern, parse_pattern
from auditlog.capture.redaction.places import Places, parse_places
from auditlog.capture.redaction.redaction import Side
from auditlog.core.errors import ConfigurationError

__all__ = [
    "REDACTED",
    "BodyRedactor",
    "Rules",
    "TextRedactor",
    "parse_rules",
]

REDACTED = "[redacted]"
"""Stands where something was taken out."""

TextRedactor = Callable[[str], str]
"""Returns a text without what may not be stored. Where it raises, or returns anything
but a text, nothing of that body is stored."""

_MAX_VERDICTS = 4_096
_LONGEST_NAME = 64
_JOINTS = dict.fromkeys(map(ord, "_- "))


class BodyRedactor(Protocol):
    """Looks at whole bodies, of kinds that no rule can read too."""

    def body(self, side: Side, value: bytes, media_type: str | None) -> bytes | None:
        """Return what may be stored of a body; None where it cannot tell.

        The other rules then run over what it returns. Where they cannot look into
        such a body, as it is an image, say, this answer is the last word: so return
        None, not the value, for a kind of body that this knows nothing of.

        Args:
            side: which one.
            value: all of it, or its first bytes: it may be cut anywhere.
            media_type: Content-Type as sent; None without one.
        """


class _Verdicts(dict[str, bool]):
    """Whether a name is one of the keys, remembered for the names that come often."""

    def __init__(self, keys: frozenset[str]) -> None:
        super().__init__()
        self._keys = keys

    def __missing__(self, name: str) -> bool:
        verdict = _normal(name) in self._keys
        if len(self) < _MAX_VERDICTS and len(name) <= _LONGEST_NAME:
            self[name] = verdict
        return verdict


def _normal(name: str) -> str:
    """Return a name such that `user_name`, `userName` and `User-Name` are one."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded).translate(_JOINTS)


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """All rules, checked and ready to be used. Thread-safe; made by `parse_rules`."""

    is_key: dict[str, bool]
    """Whether a name, by itself, is one whose value goes; asked by index, as it is
    asked for every member. Empty at first: never ask it by ``in`` or `get`."""
    keys: frozenset[str] = frozenset()
    """These names, in the form in which all their spellings are one."""
    places: dict[Side, Places] = field(default_factory=dict)
    """Where pointers begin, by side."""
    patterns: tuple[Pattern, ...] = ()
    texts: tuple[TextRedactor, ...] = ()
    bodies: tuple[BodyRedactor, ...] = ()
    unreadable: Literal["drop", "keep"] = "drop"
    """What becomes of a body that none of these can look into."""

    @property
    def seeks(self) -> bool:
        """Whether texts are to be searched, whatever their name."""
        return bool(self.patterns or self.texts)

    def may_name_key(self, text: str) -> bool:
        """Return whether one of the keys may stand in a text of JSON without escapes.

        Much faster than to look at each of its names.
        """
        if not self.keys:
            return False
        normal = _normal(text)
        return any(f'"{key}"' in normal for key in self.keys)

    def names(self, side: Side) -> bool:
        """Return whether something goes because of its name or place on this side."""
        return bool(self.keys) or bool(self.places.get(side))

    def apply_to(self, side: Side) -> bool:
        """Return whether anything at all may have to go on this side."""
        return self.seeks or bool(self.bodies) or self.names(side)


def parse_rules(
    *,
    keys: Iterable[str] = (),
    fields: Iterable[str] = (),
    patterns: Iterable[str] = (),
    redactors: Iterable[TextRedactor | BodyRedactor] = (),
    unreadable: Literal["drop", "keep"] = "drop",
) -> Rules:
    """Return the rules, checked.

    Args:
        keys: names whose values go; case, ``_``, ``-`` and spaces do not count.
        fields: pointers, as `auditlog.capture.redaction.places` has them.
        patterns: regular expressions, or names of built-in ones.
        redactors: callables, and objects with a method `body`.
        unreadable: what becomes of a body that no rule can look into.

    Raises:
        ConfigurationError: one of them is none; it is named.
    """
    normal = frozenset(map(_parse_key, keys))
    bodies: list[BodyRedactor] = []
    texts: list[TextRedactor] = []
    for redactor in redactors:
        if _is_body_redactor(redactor):
            bodies.append(redactor)
        else:
            texts.append(_checked(redactor))
    if unreadable not in ("drop", "keep"):
        raise ConfigurationError(
            f"redact_unreadable: expected drop or keep, got {unreadable!r}"
        )
    return Rules(
        is_key=_Verdicts(normal),
        keys=normal,
        places=parse_places(fields),
        patterns=tuple(map(parse_pattern, patterns)),
        texts=tuple(texts),
        bodies=tuple(bodies),
        unreadable=unreadable,
    )


def _parse_key(key: str) -> str:
    if not (normal := _normal(key)):
        raise ConfigurationError(
            f"redact_keys: expected a name with a letter or digit, got {key!r}"
        )
    return normal


def _is_body_redactor(redactor: object) -> TypeGuard[BodyRedactor]:
    return callable(getattr(redactor, "body", None))


def _checked(redactor: object) -> TextRedactor:
    named = getattr(redactor, "__name__", type(redactor).__name__)
    if not callable(redactor):
        raise ConfigurationError(
            f"redact: expected a callable or an object with `body`, got {named}"
        )
    if inspect.iscoroutinefunction(redactor):
        raise ConfigurationError(
            f"redact: expected a plain function, got {named}, which is async"
        )
    return redactor
