"""What an application says about a decision: checked, canonical, bounded.

A value is turned into canonical JSON when it is said, so that a mistake is raised where
it is made, and nothing that the application changes later reaches the log. Numbers are
written as `FORMATS.md` §1 asks: integers up to 2^53-1 as they are, larger ones and
decimals as strings. The text of a float is the shortest decimal that reads back as the
same double, without exponent: ``0.87`` is ``"0.87"``, ``1e-7`` is ``"0.0000001"``.

No message holds a value, for it may be personal.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any
from unicodedata import normalize

from auditlog.capture.subjects import PERSON, Subject
from auditlog.core.errors import ConfigurationError, MalformedError
from auditlog.core.record import MAX_INTEGER, canonical_json, parse_json

__all__ = [
    "MAX_BYTES",
    "NOTHING",
    "Facts",
    "annotations",
    "json_value",
    "number",
    "result",
    "subject_of",
    "texts",
    "words",
]

MAX_BYTES = 1 << 16
"""Bytes of everything that may be said about one decision."""
_MAX_DEPTH = 16
_MAX_REASONS, _REASON = 64, 1024
_KIND = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_KIND_LENGTH, _IDENTIFIER = 256, 1024
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_RESERVED = "auditlog."
_MAX_DIGITS = 4096


class Facts:
    """Members of ``context/`` leaves, each canonical JSON; never changed."""

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[tuple[str, str], bytes] | None = None) -> None:
        """Take what is known by (leaf, member)."""
        self._members = members or {}

    def plus(
        self, leaf: str, members: Mapping[str, Any], *, limit: int = MAX_BYTES
    ) -> "Facts":
        """Return these facts and more; None as a member's value removes it.

        Args:
            leaf: name of the leaf.
            members: JSON of ours by name, in ASCII.
            limit: bytes that everything together may have.

        Raises:
            ConfigurationError: it has more, or a text cannot be written as UTF-8.
        """
        merged = dict(self._members)
        for name, value in members.items():
            if value is None:
                merged.pop((leaf, name), None)
            else:
                merged[leaf, name] = _canonical(name, value)
        size = sum(len(name) + len(value) for (_, name), value in merged.items())
        if size > limit:
            raise ConfigurationError(
                f"expected at most {limit} bytes said about a decision, got {size}"
            )
        return Facts(merged)

    def get(self, leaf: str, member: str) -> Any:
        """Return the value of a member; None if there is none."""
        value = self._members.get((leaf, member))
        return None if value is None else parse_json(value, limit=len(value))

    def has(self, leaf: str, member: str) -> bool:
        """Return whether there is a member."""
        return (leaf, member) in self._members

    def leaves(self) -> dict[str, bytes]:
        """Return the leaves by name, each a canonical JSON object."""
        found: dict[str, list[bytes]] = {}
        # Names of members are ASCII, so code points are in the order of RFC 8785.
        for (leaf, name), value in sorted(self._members.items()):
            found.setdefault(leaf, []).append(b'"%b":%b' % (name.encode(), value))
        return {leaf: b"{%b}" % b",".join(parts) for leaf, parts in found.items()}


NOTHING = Facts()
"""Said by a handler that says nothing."""


def _canonical(name: str, value: Any) -> bytes:
    try:
        return canonical_json(value)
    except MalformedError as error:
        raise ConfigurationError(f"{name} cannot be recorded: {error}") from None


def words(what: str, value: object, longest: int) -> str:
    """Return a text of 1 to `longest` characters, as a plain str.

    Raises:
        ConfigurationError: it is anything else.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"expected {what} as text, got {_kind(value)}")
    if not 0 < len(value) <= longest:
        raise ConfigurationError(
            f"expected {what} of 1 to {longest} characters, got {len(value)}"
        )
    # Of an enumeration or of NumPy, what it says rather than what it prints as.
    return str.__str__(value)


def subject_of(identifier: object, kind: object = PERSON) -> Subject:
    """Return a subject, its identifier in Unicode form NFC.

    Args:
        identifier: 1 to 1,024 characters.
        kind: what it identifies: lower-case letters, digits, ``.``, ``_``, ``-``.

    Raises:
        ConfigurationError: one is not as described, or cannot be written as UTF-8.
    """
    named = words("the kind of a subject", kind, _KIND_LENGTH)
    if not _KIND.fullmatch(named):
        raise ConfigurationError(
            "expected the kind of a subject as up to 64 lower-case letters, "
            "digits, dots, underscores and hyphens"
        )
    text = normalize("NFC", words("a subject", identifier, _IDENTIFIER))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            "expected a subject that can be written as UTF-8, got a lone surrogate"
        ) from None
    return Subject(named, text)


def result(
    label: object,
    score: object,
    threshold: object = None,
    reasons: object = (),
) -> dict[str, Any] | None:
    """Return what a model or a person said, as JSON of ours; None if nothing.

    Args:
        label: class or verdict, a text of up to 1,024 characters, a number or bool.
        score: a finite number.
        threshold: what the score was compared with, likewise.
        reasons: list or tuple of up to 64 reasons, each of up to 1,024 characters.

    Raises:
        ConfigurationError: one is not as described.
    """
    said: dict[str, Any] = {}
    if label is not None:
        said["label"] = _label(label)
    if score is not None:
        said["score"] = number("a score", score)
    if threshold is not None:
        said["threshold"] = number("a threshold", threshold)
    given = texts("reasons", reasons, _MAX_REASONS, _REASON)
    if given:
        said["reasons"] = given
    return said or None


def _label(value: object) -> str | int | bool:
    plain = json_value("a label", value)
    if isinstance(plain, str):
        return words("a label", plain, _REASON)
    if isinstance(plain, int):
        return plain
    raise ConfigurationError(
        "expected a label as text, number or bool, got another kind"
    )


def annotations(attributes: object) -> dict[str, Any]:
    """Return attributes by name as JSON of ours; None as a value stays.

    Raises:
        ConfigurationError: they have no names, or a name has more than 64 ASCII
            letters, digits, ``.``, ``_`` and ``-``, or begins with ``auditlog.``; or a
            value is not JSON.
    """
    if not isinstance(attributes, Mapping):
        raise ConfigurationError(
            f"expected attributes as values by name, got {_kind(attributes)}"
        )
    for name in attributes:
        text = name if isinstance(name, str) else ""
        if not _ATTRIBUTE.fullmatch(text) or text.startswith(_RESERVED):
            raise ConfigurationError(
                "expected names of attributes as up to 64 ASCII letters, digits, "
                "dots, underscores and hyphens, not beginning with 'auditlog.'"
            )
    return {name: json_value(name, value) for name, value in attributes.items()}


def texts(what: str, values: object, most: int, longest: int) -> list[str]:
    """Return a list or tuple of at most `most` texts as a list.

    Raises:
        ConfigurationError: it is anything else.
    """
    if not isinstance(values, list | tuple):
        raise ConfigurationError(
            f"expected {what} as a list or tuple of texts, got {_kind(values)}"
        )
    if len(values) > most:
        raise ConfigurationError(f"expected at most {most} {what}, got {len(values)}")
    return [words(f"each of {what}", value, longest) for value in values]


def number(what: str, value: object) -> int | str:
    """Return a finite number as `FORMATS.md` §1 writes it.

    Raises:
        ConfigurationError: it is no number, not finite, or has over 4,096 digits.
    """
    value = _native(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) <= MAX_INTEGER:
            return int(value)
        if value.bit_length() <= _MAX_DIGITS:
            return str(int(value))
        raise ConfigurationError(f"expected {what} of at most {_MAX_DIGITS} bits")
    if isinstance(value, float):
        return _plain_decimal(what, Decimal(float.__repr__(value)))
    if isinstance(value, Decimal):
        return _plain_decimal(what, value)
    raise ConfigurationError(f"expected {what} as a number, got {_kind(value)}")


def _native(value: object) -> object:
    """Return a scalar of NumPy, which models give, as the Python value it is."""
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()  # type: ignore[attr-defined]
    return value


def _plain_decimal(what: str, value: Decimal) -> str:
    if not value.is_finite():
        raise ConfigurationError(f"expected {what} as a finite number, got {value}")
    # Without exponent, 1e999999 has a million digits.
    if len(value.as_tuple().digits) + abs(int(value.as_tuple().exponent)) > _MAX_DIGITS:
        raise ConfigurationError(f"expected {what} of at most {_MAX_DIGITS} digits")
    return format(value, "f")


def json_value(what: str, value: object) -> Any:
    """Return a value as JSON of ours: a copy, with decimals as strings.

    Raises:
        ConfigurationError: it holds anything but text, numbers, booleans, None, lists,
            tuples and dicts with text as keys; is more than 16 containers deep; or has
            more parts than `MAX_BYTES` could hold.
    """
    return _copy(what, value, _MAX_DEPTH, iter(range(MAX_BYTES)))


def _copy(what: str, value: object, depth: int, budget: Iterator[int]) -> Any:
    if depth < 0 or next(budget, None) is None:
        raise ConfigurationError(
            f"expected {what} at most {_MAX_DEPTH} containers deep, and small"
        )
    value = _native(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return {
            words(f"each key in {what}", key, MAX_BYTES): _copy(
                what, item, depth - 1, budget
            )
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_copy(what, item, depth - 1, budget) for item in value]
    if isinstance(value, int | float | Decimal):
        return number(what, value)
    raise ConfigurationError(f"expected {what} as JSON, got {_kind(value)} in it")


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__
