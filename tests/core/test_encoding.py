"""Lines, numbers and base64: one spelling each, whatever comes in."""

import base64
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.encoding import (
    MAX_TEXT,
    decode_text,
    format_base64,
    format_decimal,
    parse_base64,
    parse_decimal,
    parse_hash,
)
from auditlog.core.errors import MalformedError


class TestBase64:
    @given(st.binary())
    def test_round_trip(self, data: bytes) -> None:
        text = base64.b64encode(data).decode()
        assert format_base64(data) == text
        assert parse_base64(text) == data

    @pytest.mark.parametrize(
        "text",
        [
            *("A", "AA", "AAA", "AA=", "AA===", "AAAA=", "=", "=AAA", "AA==AAAA"),
            *("AB==", "AAB=", "AA==\n", "\nAA==", " AA==", "A A==", "AA=\r="),
            *(
                "A-==",
                "A_==",
                "!!!!AAAA",
                "AAAA!",
                "\u0661AAA",
                "AA\ud800=",
                "AA==\x00",
            ),
        ],
        ids=ascii,
    )
    def test_other_spellings(self, text: str) -> None:
        with pytest.raises(MalformedError, match="canonical padded base64"):
            parse_base64(text)

    @pytest.mark.parametrize("value", [None, 1, b"AAAA", bytearray(b"AAAA"), ["AAAA"]])
    def test_other_types(self, value: Any) -> None:
        with pytest.raises(MalformedError, match="canonical padded base64"):
            parse_base64(value)

    def test_what_came_is_not_shown(self) -> None:
        with pytest.raises(MalformedError) as caught:
            parse_base64("c2VjcmV0IGtleQ=")
        assert "c2Vj" not in str(caught.value)
        assert caught.value.__context__ is None or "c2Vj" not in str(
            caught.value.__context__
        )

    @given(st.text())
    def test_one_spelling(self, text: str) -> None:
        with suppress(MalformedError):
            assert format_base64(parse_base64(text)) == text


class TestHashes:
    def test_round_trip(self) -> None:
        assert parse_hash(format_base64(bytes(32))) == bytes(32)

    @pytest.mark.parametrize("size", [0, 31, 33, 64])
    def test_other_lengths(self, size: int) -> None:
        with pytest.raises(MalformedError, match=f"hash of 32 bytes, got {size}"):
            parse_hash(format_base64(bytes(size)))


class TestDecimal:
    @pytest.mark.parametrize("value", [0, 1, 9, 10, 2**53, 2**63 - 1])
    def test_round_trip(self, value: int) -> None:
        assert parse_decimal(format_decimal(value)) == value

    @pytest.mark.parametrize(
        "text",
        [
            *("", " ", "+5", "-5", "-0", "05", "00", " 5", "5 ", "5\n", "5\r", "0_5"),
            *("5.0", "5e3", "0x5", "\u0665", "\uff15", "\u00b2", "five", "\ud800"),
            *("1" * 20, "9" * 5000),
        ],
        ids=lambda text: ascii(text)[:30],
    )
    def test_other_spellings(self, text: str) -> None:
        with pytest.raises(MalformedError, match="without sign or leading zeros"):
            parse_decimal(text)

    @pytest.mark.parametrize("text", ["9223372036854775808", "9999999999999999999"])
    def test_too_large(self, text: str) -> None:
        with pytest.raises(MalformedError, match=r"a number from 0 to 2\^63-1"):
            parse_decimal(text)

    @pytest.mark.parametrize("value", [None, 5, 5.0, b"6", True, ["5"]])
    def test_other_types(self, value: Any) -> None:
        with pytest.raises(MalformedError, match="decimal number"):
            parse_decimal(value)

    @pytest.mark.parametrize(
        "value", [-1, 2**63, pytest.param(10**5000, id="huge"), True, 1.0, "1", None]
    )
    def test_numbers_that_have_no_text(self, value: Any) -> None:
        with pytest.raises(
            MalformedError, match=r"a number (as int, got|from 0 to 2\^63-1)"
        ):
            format_decimal(value)

    @given(st.text(max_size=25))
    def test_one_spelling(self, text: str) -> None:
        with suppress(MalformedError):
            assert format_decimal(parse_decimal(text)) == text


class TestText:
    @pytest.mark.parametrize(
        "data", [b"\n", b"a\n", b"a\n\nb\n", "é—\u2028\x7f\n".encode()]
    )
    def test_texts(self, data: bytes) -> None:
        assert decode_text(data).encode() == data

    @pytest.mark.parametrize("code", [c for c in range(32) if c != 10])
    def test_control_characters(self, code: int) -> None:
        with pytest.raises(MalformedError, match="without control characters"):
            decode_text(b"a" + bytes([code]) + b"b\n")

    @pytest.mark.parametrize(
        "data", [b"\xff\n", b"\xc0\x80\n", b"\xed\xa0\x80\n", b"\xf4\x90\x80\x80\n"]
    )
    def test_other_bytes(self, data: bytes) -> None:
        with pytest.raises(MalformedError, match="in UTF-8, got other bytes"):
            decode_text(data)

    @pytest.mark.parametrize("data", [b"", b"a", None, "a\n", bytearray(b"a\n")])
    def test_no_text(self, data: Any) -> None:
        with pytest.raises(MalformedError, match="ending in a newline"):
            decode_text(data)

    def test_the_longest(self) -> None:
        assert len(decode_text(b"a" * (MAX_TEXT - 1) + b"\n")) == MAX_TEXT == 1_048_576
        with pytest.raises(MalformedError, match="up to 1 MiB"):
            decode_text(b"a" * MAX_TEXT + b"\n")
