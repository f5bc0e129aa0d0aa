"""RLP, as blocks, receipts and tries are written: one spelling for every value.

::

    item   = bytes | list of items
    byte   below 0x80                    stands for itself
    bytes  of up to 55                   0x80 + length, then the bytes
    bytes  of more                       0xb7 + length of the length, length, bytes
    lists  in the same way               0xc0, 0xf7

Lengths have no leading zero, and are written in the shortest way (Ethereum yellow
paper, appendix B). Numbers are big-endian bytes without leading zeros, zero is empty.
"""

from collections.abc import Sequence
from typing import TypeAlias

from auditlog.core.errors import MalformedError

__all__ = ["Item", "decode", "decode_integer", "encode", "encode_integer"]

Item: TypeAlias = bytes | Sequence["Item"]
"""What RLP can say."""

MAX_DEPTH = 16
"""Lists inside each other: receipts have four, the smallest tries a few more."""

_SHORT = 55


def encode(item: Item) -> bytes:
    """Return an item as RLP."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _head(0x80, len(item)) + item
    body = b"".join(encode(one) for one in item)
    return _head(0xC0, len(body)) + body


def encode_integer(value: int) -> bytes:
    """Return the bytes that stand for a number, itself not encoded yet."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def decode(data: bytes) -> Item:
    """Return the item that `data` is, bytes as bytes and lists as lists.

    Raises:
        MalformedError: `encode` makes no such bytes, or lists are too deep.
    """
    item, end = _item(data, 0, len(data), MAX_DEPTH)
    if end != len(data):
        raise MalformedError(f"expected one RLP item, got {len(data) - end} bytes more")
    return item


def decode_integer(item: Item) -> int:
    """Return the number that an item is, up to 2^64-1.

    Raises:
        MalformedError: it is none, or has a leading zero.
    """
    if not isinstance(item, bytes) or len(item) > 8 or item[:1] == b"\0":
        raise MalformedError("expected a number of up to 64 bits in RLP")
    return int.from_bytes(item, "big")


def _head(kind: int, length: int) -> bytes:
    if length <= _SHORT:
        return bytes([kind + length])
    size = encode_integer(length)
    return bytes([kind + _SHORT + len(size)]) + size


def _item(data: bytes, at: int, limit: int, depth: int) -> tuple[Item, int]:
    """Return the item at `at`, and where it ends, at most at `limit`."""
    if at >= limit:
        raise MalformedError("expected an RLP item, got the end")
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    start, end = _body(data, at, limit)
    if first >= 0xC0:
        return _items(data, start, end, depth), end
    if end - start == 1 and data[start] < 0x80:
        raise MalformedError("expected a byte below 0x80 to stand for itself in RLP")
    return data[start:end], end


def _items(data: bytes, at: int, end: int, depth: int) -> list[Item]:
    if not depth:
        raise MalformedError(f"expected RLP lists at most {MAX_DEPTH} deep")
    items = []
    while at < end:
        item, at = _item(data, at, end, depth - 1)
        items.append(item)
    return items


def _body(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """Return where what belongs to the head at `at` starts and ends."""
    length = (data[at] - 0x80) & 0x3F
    start = at + 1
    if length > _SHORT:
        size = data[start : min(limit, start + length - _SHORT)]
        start += length - _SHORT
        length = int.from_bytes(size, "big")
        if length <= _SHORT or size[0] == 0 or start > limit:
            raise MalformedError("expected the shortest RLP length")
    if length > limit - start:
        raise MalformedError("expected more bytes of RLP, got the end")
    return start, start + length
