"""Redaction of JSON as one would write it plainly: parsed, changed, compared."""

import json
import re
from typing import Any, NamedTuple

__all__ = ["Object", "naive_redact", "parse", "strings"]

KEY = re.compile(r"[-_ ]*s[-_ ]*s[-_ ]*n[-_ ]*", re.IGNORECASE)
PATTERN = re.compile(r"canary[0-9]+|[0-9]{3}-[0-9]{2}")
"""What stands as `redact_keys` and `redact_patterns` where this is compared with."""
FIELDS = [("a", "*", "b"), ("data", "0")]


class Object(NamedTuple):
    """A JSON object with all its names, the same ones too."""

    pairs: tuple[tuple[str, Any], ...]


class Number(str):
    __slots__ = ()


def _refuse(text: str) -> Any:
    raise ValueError(text)


def parse(text: str | bytes) -> Any:
    """Return a JSON text with nothing of it lost but its spelling."""
    return json.loads(
        text,
        object_pairs_hook=lambda pairs: Object(tuple(pairs)),
        parse_int=Number,
        parse_float=Number,
        parse_constant=_refuse,
    )


def naive_redact(value: Any, path: tuple[str, ...] = ()) -> Any:
    """Return a parsed text without what may not be stored."""
    if isinstance(value, Object):
        pairs = [(name, one, (*path, name)) for name, one in value.pairs]
        return Object(
            tuple((name, _member(n, v, p)) for n, v, p in pairs for name in [n])
        )
    if isinstance(value, list):
        return [_member("", v, (*path, str(n))) for n, v in enumerate(value)]
    if isinstance(value, Number):
        return "[redacted]" if PATTERN.search(value) else value
    if isinstance(value, str):
        return PATTERN.sub("[redacted]", value)
    return value


def _member(name: str, value: Any, path: tuple[str, ...]) -> Any:
    if KEY.fullmatch(name) or any(_is(path, field) for field in FIELDS):
        return "[redacted]"
    return naive_redact(value, path)


def _is(path: tuple[str, ...], field: tuple[str, ...]) -> bool:
    return len(path) == len(field) and all(
        want in ("*", got) for want, got in zip(field, path, strict=True)
    )


def strings(value: Any) -> list[str]:
    """Return every string, name and number of a parsed text."""
    if isinstance(value, Object):
        return [s for name, one in value.pairs for s in (name, *strings(one))]
    if isinstance(value, list):
        return [s for one in value for s in strings(one)]
    return [value] if isinstance(value, str) else []
