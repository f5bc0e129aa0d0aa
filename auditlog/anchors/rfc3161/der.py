"""Just enough DER (X.690) to take a token apart and to write it again.

Strict: definite lengths in their shortest form, tags of one byte, nothing behind the
last byte. What it cannot tell, an order inside a SET or a superfluous default, is for
the caller, who formats again and compares.
"""

from functools import lru_cache
from typing import NamedTuple

from auditlog.core.errors import MalformedError

__all__ = [
    "BIT_STRING",
    "BOOLEAN",
    "GENERALIZED_TIME",
    "INTEGER",
    "NULL",
    "OCTET_STRING",
    "OID",
    "SEQUENCE",
    "SET",
    "Item",
    "algorithm",
    "encode",
    "encode_integer",
    "encode_oid",
    "integer",
    "items",
    "oid",
    "pair",
    "tagged",
    "whole",
]

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 1, 2, 3, 4, 5, 6
GENERALIZED_TIME, SEQUENCE, SET = 0x18, 0x30, 0x31

_MAX_INTEGER_BYTES = 64


class Item(NamedTuple):
    """One value: its tag, what it holds, and all of its bytes."""

    tag: int
    content: bytes
    raw: bytes


def tagged(number: int) -> int:
    """Return the tag of a constructed value with a context-specific number."""
    return 0xA0 | number


def items(content: bytes) -> list[Item]:
    """Return the values that stand one behind the other.

    Raises:
        MalformedError: they are not DER to the last byte.
    """
    found, at = [], 0
    while at < len(content):
        item = _read(content, at)
        at += len(item.raw)
        found.append(item)
    return found


def whole(data: bytes, tag: int, what: str) -> Item:
    """Return the one value that `data` is, if it has this tag.

    Raises:
        MalformedError: it is another, or more than one.
    """
    found = items(data)
    if [item.tag for item in found] != [tag]:
        raise MalformedError(f"expected {what} in DER and nothing else")
    return found[0]


def pair(item: Item) -> tuple[Item, Item]:
    """Return the two values in a SEQUENCE.

    Raises:
        MalformedError: it is no SEQUENCE of two.
    """
    fields = items(item.content) if item.tag == SEQUENCE else []
    if len(fields) != 2:
        raise MalformedError("expected a SEQUENCE of two in DER")
    return fields[0], fields[1]


def algorithm(item: Item, what: str) -> str:
    """Return the OID in an AlgorithmIdentifier, whatever its parameters.

    Raises:
        MalformedError: it is no such thing.
    """
    fields = items(item.content) if item.tag == SEQUENCE else []
    if not fields:
        raise MalformedError(f"expected an algorithm as {what}")
    return oid(fields[0], what)


def integer(item: Item, what: str) -> int:
    """Return an INTEGER that is not negative.

    Raises:
        MalformedError: it is no such thing, or of more than 64 bytes.
    """
    value = item.content
    shortest = value[:1] != b"\0" or len(value) == 1 or value[1:2] >= b"\x80"
    fits = 0 < len(value) <= _MAX_INTEGER_BYTES and value[0] < 0x80
    if item.tag != INTEGER or not fits or not shortest:
        raise MalformedError(f"expected a number that is not negative as {what}")
    return int.from_bytes(value, "big")


def oid(item: Item, what: str) -> str:
    """Return an OBJECT IDENTIFIER in dots.

    Raises:
        MalformedError: it is none.
    """
    arcs, value, started = [], 0, False
    for byte in item.content[:_MAX_INTEGER_BYTES]:
        if not started and byte == 0x80:
            break  # a leading zero
        value, started = value << 7 | byte & 0x7F, byte >= 0x80
        if not started:
            arcs.append(value)
            value = 0
    text = ".".join(map(str, _first_two(arcs)))
    if item.tag != OID or not arcs or encode_oid(text) != item.raw:
        raise MalformedError(f"expected an OID as {what}")
    return text


def _first_two(arcs: list[int]) -> list[int]:
    """Split the first subidentifier in the two that it stands for (X.690 §8.19.4)."""
    if not arcs:
        return []
    top = min(arcs[0] // 40, 2)
    return [top, arcs[0] - 40 * top, *arcs[1:]]


def encode(tag: int, *contents: bytes) -> bytes:
    """Return a value that holds the given bytes, one behind the other."""
    size = sum(map(len, contents))
    if size < 0x80:
        length = bytes([size])
    else:
        digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(digits)]) + digits
    return bytes([tag]) + length + b"".join(contents)


def encode_integer(value: int) -> bytes:
    """Return an INTEGER that is not negative."""
    return encode(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


@lru_cache(64)
def encode_oid(text: str) -> bytes:
    """Return an OBJECT IDENTIFIER that is given in dots."""
    first, second, *rest = map(int, text.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.append(arc & 0x7F | 0x80)
        content += bytes(reversed(digits))
    return encode(OID, bytes(content))


def _read(data: bytes, at: int) -> Item:
    if len(data) - at < 2 or data[at] & 0x1F == 0x1F:
        raise MalformedError("expected DER, got a cut value or a tag of many bytes")
    start, size = at + 2, data[at + 1]
    if size >= 0x80:
        count = size & 0x7F
        start += count
        digits = data[at + 2 : start]
        size = int.from_bytes(digits, "big")
        # 1 to 4 bytes, all of them there, no leading zero, and not for a short one.
        if not (1 <= count <= 4 and len(digits) == count and digits[0]) or size < 0x80:
            raise MalformedError("expected DER, got a length not in its shortest form")
    if start + size > len(data):
        raise MalformedError("expected DER, got a value that is cut short")
    return Item(data[at], data[start : start + size], data[at : start + size])
