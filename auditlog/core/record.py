"""Entries: the canonical bytes of the log, and the strict JSON that they are made of.

An entry is a CloudEvents 1.0 event in structured JSON, written as RFC 8785 says, 1 to
65,535 bytes (`FORMATS.md` §1)::

    {"data":{…},"id":"<UUIDv7>","source":"<origin>","specversion":"1.0",
     "subject":"<tag>","time":"2026-11-23T08:00:00.000000Z","type":"auditlog.gap.v1"}

without the line breaks. `subject` stands in every decision, and in no entry that has
none. Numbers are integers up to 2^53-1; everything else that counts is a string.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from itertools import accumulate
from typing import Any, NoReturn

from auditlog.core.errors import MalformedError

__all__ = [
    "DECISION",
    "ENTRY_TYPES",
    "MAX_DEPTH",
    "MAX_ENTRY",
    "MAX_INTEGER",
    "Entry",
    "canonical_json",
    "check_fields",
    "format_entry",
    "format_id",
    "format_time",
    "nested_deeper",
    "parse_entry",
    "parse_id",
    "parse_json",
    "parse_time",
]

MAX_ENTRY = 65_535
"""Bytes of the largest entry: bundles have a 16-bit length (C2SP tlog-tiles)."""
MAX_DEPTH = 64
"""Containers that may stand inside each other, the outermost included."""
MAX_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader keeps exact (RFC 8785 §3.2.2.3)."""

DECISION = "auditlog.decision.v1"
ENTRY_TYPES = frozenset(
    f"auditlog.{name}.v1"
    for name in (
        *("decision", "amendment", "gap", "emitter", "config"),
        *("model", "key", "erasure", "access", "anchor"),
    )
)
"""The CloudEvents types that an entry may have."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_TIME = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_TIME = re.compile(r"[0-9]{4}(?:-[0-9]{2}){2}T(?:[0-9]{2}:){2}[0-9]{2}\.[0-9]{6}Z")
_UUID7 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)
_TAG = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]==")
# The closing quote is optional, or hostile text would cost quadratic time.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_REQUIRED = {"data": dict} | dict.fromkeys(
    ("id", "source", "specversion", "time", "type"), str
)

_encoder = partial(
    json.JSONEncoder, ensure_ascii=False, check_circular=False, separators=(",", ":")
)
_encode = _encoder().encode
# Sorts by code points, which is the order of RFC 8785 for ASCII.
_encode_sorted = _encoder(sort_keys=True).encode


def canonical_json(value: Any) -> bytes:
    """Return `value` as RFC 8785 canonical JSON.

    Strings, booleans, None, lists or tuples, dicts with string keys, and integers
    of at most 2^53-1 either side of zero; at most 64 containers deep.

    Raises:
        MalformedError: anything else, floats and lone surrogates included.
    """
    if _check_json([value], MAX_DEPTH + 1):
        return _to_bytes(_encode_sorted(value))
    return _to_bytes(_encode(_ordered(value)))


def _check_json(container: Any, depth: int) -> bool:
    """Refuse what may not stand in JSON of ours; return whether all keys are ASCII."""
    if depth == 0:
        raise MalformedError(f"expected JSON at most {MAX_DEPTH} containers deep")
    plain, items = True, container
    if type(container) is dict:
        plain, items = _ascii_keys(container), container.values()
    for item in items:
        kind = type(item)
        if kind is str or kind is bool or item is None:
            continue
        if kind is int:
            if not -MAX_INTEGER <= item <= MAX_INTEGER:
                raise MalformedError("expected integers up to 2^53-1, got a larger one")
        elif kind is dict or kind is list or kind is tuple:
            plain = _check_json(item, depth - 1) and plain
        else:
            raise MalformedError(
                "expected a string, integer, boolean, null, list or dict in JSON, got "
                f"a {kind.__name__}; decimals are written as strings"
            )
    return plain


def _ascii_keys(value: dict[Any, Any]) -> bool:
    try:
        return "".join(value).isascii()
    except TypeError:
        raise MalformedError("expected strings as JSON object keys") from None


def _ordered(value: Any) -> Any:
    """Return a copy with keys in the order of their UTF-16 code units (§3.2.3)."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))
        return {key: _ordered(value[key]) for key in keys}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    return value


def _to_bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MalformedError("expected no lone surrogate in JSON") from None


def nested_deeper(data: bytes, limit: int) -> bool:
    """Return whether the JSON text `data` has more than `limit` nested containers.

    For bytes that are not JSON, False still promises that no parser gets deeper
    before it meets the error.
    """
    if data.count(b"[") + data.count(b"{") <= limit:
        return False
    brackets = _STRINGS.sub(b"", data).translate(None, _NOT_BRACKETS)
    depths = accumulate(map(_STEPS.__getitem__, brackets))
    return any(map(limit.__lt__, depths))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedError("expected unique names in a JSON object, got one twice")
    return value


def _integer(text: str) -> int:
    if len(text) <= len(f"-{MAX_INTEGER}") and abs(number := int(text)) <= MAX_INTEGER:
        return number
    raise MalformedError("expected integers up to 2^53-1, got a larger one")


def _no_number(text: str) -> NoReturn:
    raise MalformedError("expected integers as JSON numbers, got another number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_no_number,
    parse_constant=_no_number,
)


def parse_json(data: bytes, *, limit: int) -> Any:
    """Return the value of a JSON text of at most `limit` bytes.

    Strict RFC 8259: UTF-8 without byte order mark, unique names, at most 64
    containers deep, no NaN. And our number rule: integers up to 2^53-1 only.

    Raises:
        MalformedError: the bytes are anything else.
    """
    if type(data) is not bytes:
        raise MalformedError(f"expected JSON as bytes, got {type(data).__name__}")
    if len(data) > limit:
        raise MalformedError(f"expected at most {limit} bytes of JSON, got {len(data)}")
    if nested_deeper(data, MAX_DEPTH):
        raise MalformedError(f"expected JSON at most {MAX_DEPTH} containers deep")
    try:
        value = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise MalformedError("expected JSON in UTF-8, got other bytes") from error
    except ValueError as error:
        raise MalformedError(f"expected JSON, got other text: {error}") from error
    if b"\\u" in data:  # the only way in for a lone surrogate
        _to_bytes(_encode(value))
    return value


def check_fields(
    value: Any,
    what: str,
    required: Mapping[str, type],
    optional: Mapping[str, type] | None = None,
) -> dict[str, Any]:
    """Return `value` if it is a JSON object of these fields, and no others.

    The fields are given with their types, `object` where any will do.

    Raises:
        MalformedError: a field is missing, unknown, or of another type.
    """
    known = {**required, **(optional or {})}
    if type(value) is not dict or not required.keys() <= value.keys() <= known.keys():
        raise MalformedError(f"expected {what} with the fields {', '.join(known)}")
    for name, item in value.items():
        if known[name] not in (type(item), object):
            raise MalformedError(
                f"expected {known[name].__name__} as {name} of {what}, "
                f"got {type(item).__name__}"
            )
    return dict(value)


def format_time(us: int) -> str:
    """Return microseconds since the epoch as RFC 3339 UTC, six decimals.

    Raises:
        MalformedError: before 1970 or after the year 9999.
    """
    if not 0 <= us <= _MAX_TIME:
        raise MalformedError(f"expected a time from 1970 to 9999, got {us} µs")
    seconds, rest = divmod(us, 1_000_000)
    return f"{_format_second(seconds)}.{rest:06}Z"


@lru_cache(64)  # decisions come many a second
def _format_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:-6]


def parse_time(text: str) -> int:
    """Return the microseconds since the epoch of what `format_time` wrote.

    Raises:
        MalformedError: another spelling, or no such day or time.
    """
    try:
        if _TIME.fullmatch(text):
            us = (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
            if format_time(us) == text:
                return us
    except ValueError:
        pass
    raise MalformedError(
        f"expected a time such as 2026-11-23T08:00:00.000000Z, got {text[:40]!r}"
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of the log: a CloudEvents 1.0 event (`FORMATS.md` §1)."""

    id: bytes
    """UUIDv7, 16 bytes."""
    type: str
    """One of `ENTRY_TYPES`."""
    source: str
    """Origin of the log."""
    time: int
    """Microseconds since the epoch, UTC."""
    data: dict[str, Any]
    """What happened, by type; ASCII keys, no floats."""
    subject: str | None = None
    """Blinded tag, 16 bytes in padded base64url; required in a decision."""


def _check_envelope(type_: str, source: str, subject: str | None) -> None:
    if type_ not in ENTRY_TYPES:
        raise MalformedError(f"expected an entry type of ours, got {type_[:60]!r}")
    if not source:
        raise MalformedError("expected the log's origin as source of an entry")
    if subject is None:
        if type_ == DECISION:
            raise MalformedError("expected a subject tag in a decision, got none")
    elif not _TAG.fullmatch(subject):
        raise MalformedError("expected 16 bytes in padded base64url as subject tag")


def format_entry(entry: Entry) -> bytes:
    """Return the canonical bytes of an entry, the ones that the log keeps.

    Raises:
        MalformedError: the entry breaks a rule of `FORMATS.md` §1.
    """
    _check_envelope(entry.type, entry.source, entry.subject)
    if type(entry.data) is not dict:
        raise MalformedError("expected a dict as data of an entry")
    if not _check_json(entry.data, MAX_DEPTH - 1):
        raise MalformedError("expected ASCII keys in an entry, got another one")
    event = {
        "data": entry.data,
        "id": format_id(entry.id),
        "source": entry.source,
        "specversion": "1.0",
        "time": format_time(entry.time),
        "type": entry.type,
    }
    if entry.subject is not None:
        event["subject"] = entry.subject
    data = _to_bytes(_encode_sorted(event))
    if len(data) > MAX_ENTRY:
        raise MalformedError(
            f"expected an entry of at most {MAX_ENTRY} bytes, got {len(data)}"
        )
    return data


def format_id(id_: bytes) -> str:
    """Return a UUIDv7 of 16 bytes as text, lower case (RFC 9562 §4).

    Raises:
        MalformedError: another length, version or variant.
    """
    text = id_.hex()
    text = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    if not _UUID7.fullmatch(text):
        raise MalformedError("expected a UUIDv7, 16 bytes, as id")
    return text


def parse_id(text: str) -> bytes:
    """Return the 16 bytes of a UUIDv7 in the spelling of `format_id`.

    Raises:
        MalformedError: anything else.
    """
    if not _UUID7.fullmatch(text):
        raise MalformedError(f"expected a UUIDv7 in lower case, got {text[:40]!r}")
    return bytes.fromhex(text.replace("-", ""))


def parse_entry(data: bytes) -> Entry:
    """Return the entry of its canonical bytes.

    Raises:
        MalformedError: not 1 to 65,535 bytes of canonical JSON with the fields and
            values of `FORMATS.md` §1.
    """
    event = check_fields(
        parse_json(data, limit=MAX_ENTRY), "an entry", _REQUIRED, {"subject": str}
    )
    entry = Entry(
        id=parse_id(event["id"]),
        type=event["type"],
        source=event["source"],
        time=parse_time(event["time"]),
        data=event["data"],
        subject=event.get("subject"),
    )
    if format_entry(entry) != data:
        raise MalformedError("expected a canonical entry (RFC 8785), got another form")
    return entry
