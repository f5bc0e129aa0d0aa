"""RLP: every item has one spelling, and everything else is refused."""

import pytest
import rlp as library  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from auditlog.anchors.evm.rlp import (
    Item,
    decode,
    decode_integer,
    encode,
    encode_integer,
)
from auditlog.core.errors import MalformedError

ITEMS: st.SearchStrategy[Item] = st.recursive(
    st.binary(max_size=70), lambda inner: st.lists(inner, max_size=5), max_leaves=12
)


@given(item=ITEMS)
def test_there_and_back_as_the_library(item: Item) -> None:
    data = encode(item)
    assert data == library.encode(item)
    assert decode(data) == item


@given(data=st.binary(max_size=16) | st.binary(max_size=300))
def test_any_bytes_as_the_library(data: bytes) -> None:
    try:
        expected = library.decode(data, strict=True)
    except library.exceptions.DecodingError:
        with pytest.raises(MalformedError):
            decode(data)
    else:
        assert decode(data) == expected
        assert encode(expected) == data


@pytest.mark.parametrize("length", [0, 1, 54, 55, 56, 57, 255, 256, 257, 65536])
def test_lengths(length: int) -> None:
    for item in (b"\x80" * length, [b"\x01"] * length):
        assert decode(encode(item)) == item
        assert encode(item) == library.encode(item)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "expected an RLP item, got the end"),
        ("0000", "expected one RLP item, got 1 bytes more"),
        ("8100", "to stand for itself"),
        ("817f", "to stand for itself"),
        ("82ff", "expected more bytes of RLP"),
        ("b800", "shortest RLP length"),
        ("b837" + "00" * 55, "shortest RLP length"),
        ("b90038" + "00" * 56, "shortest RLP length"),
        ("b9", "shortest RLP length"),
        ("b838" + "00" * 55, "expected more bytes of RLP"),
        ("bfffffffffffffffff", "expected more bytes of RLP"),
        ("f800", "shortest RLP length"),
        ("f90038" + "00" * 56, "shortest RLP length"),
        ("c1", "expected more bytes of RLP"),
        ("c281", "expected more bytes of RLP"),
        ("c28180c0", "expected more bytes of RLP|bytes more"),
        ("c182ffff", "expected more bytes of RLP"),
    ],
)
def test_refused(data: str, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        decode(bytes.fromhex(data))


def test_depth() -> None:
    item: Item = b""
    for _ in range(16):
        item = [item]
    assert decode(encode(item)) == item
    with pytest.raises(MalformedError, match="at most 16 deep"):
        decode(encode([item]))
    with pytest.raises(MalformedError):
        decode(b"\xc1" * 100_000)


def test_numbers() -> None:
    for value in (0, 1, 127, 128, 2**64 - 1):
        assert decode_integer(encode_integer(value)) == value
    for bad in (b"\0", b"\0\1", b"\1" * 9, [], [b"\1"]):
        with pytest.raises(MalformedError, match="a number of up to 64 bits"):
            decode_integer(bad)
