"""Stored content: packed, padded, unpacked, and held to the commitment."""

import os
from contextlib import suppress
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import AuditLogError, MalformedError, VerificationError
from auditlog.core.record import Entry, parse_entry
from auditlog.log.content import Content, Part, pack, unpack, verify_content
from auditlog.log.description import Describer
from auditlog.storage.sealing import padme_length
from tests.log.builders import ORIGIN, exchange

COMPRESSOR = zstandard.ZstdCompressor(level=1)
DESCRIBER = Describer(ORIGIN, bytes(16), depth=1)


def _describe() -> tuple[Entry, Content]:
    described = DESCRIBER.describe(exchange(0))
    return parse_entry(described.entry), described.content


def _content(*values: bytes) -> Content:
    paths = ["request", "response", *(f"context/c{n}" for n in range(len(values) - 2))]
    parts = [Part(p, v, len(v)) for p, v in zip(paths, values, strict=True)]
    return Content(bytes(range(32)), tuple(parts))


@given(st.lists(st.binary(max_size=300), min_size=2, max_size=6))
def test_content_survives_packing(values: list[bytes]) -> None:
    content = _content(*values)
    packed = pack(content, COMPRESSOR)
    assert unpack(packed) == content
    assert len(packed) == padme_length(len(packed))


@given(st.binary(max_size=500))
def test_any_bytes_give_content_or_our_error(data: bytes) -> None:
    for packed in (data, b"\x01" + bytes(32) + data):
        with suppress(AuditLogError):
            unpack(packed)


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_a_damaged_byte_gives_our_error_or_other_content(at: int, change: int) -> None:
    packed = bytearray(pack(_content(b"a" * 400, b"b" * 30, b"c"), COMPRESSOR))
    packed[at % len(packed)] ^= change
    with suppress(AuditLogError):
        assert unpack(bytes(packed)) != _content(b"a" * 400, b"b" * 30, b"c")


def test_large_values_are_compressed_and_padded() -> None:
    packed = pack(_content(b"x" * 100_000, b""), COMPRESSOR)
    assert len(packed) < 200


def test_a_bomb_is_refused() -> None:
    frame = COMPRESSOR.compress(bytes(1000))
    bomb = b"\x01" + bytes(32) + b"\x02\0\x07request\x01" + (10).to_bytes(8)
    bomb += len(frame).to_bytes(4) + frame
    with pytest.raises(
        MalformedError, match="'request' has 1000 bytes, expected 10 at"
    ):
        unpack(bomb)


def test_parts_go_by_their_names() -> None:
    content = _content(b"", b"")
    parts = (content.parts[1], content.parts[0])
    with pytest.raises(MalformedError, match="lacks request or response"):
        unpack(pack(replace(content, parts=parts), COMPRESSOR))


def test_a_value_larger_than_memory_is_kept_in_part() -> None:
    content = _content(b"", b"first bytes")
    large = content.parts[1]._replace(size=5 << 30, leaf_hash=bytes(32))
    content = replace(content, parts=(content.parts[0], large))
    assert unpack(pack(content, COMPRESSOR)) == content


def test_content_of_an_entry_that_is_no_decision() -> None:
    entry, content = _describe()
    gap = replace(entry, type="auditlog.gap.v1", data={"from": 1})
    with pytest.raises(VerificationError, match="expected a decision, got an entry"):
        verify_content(gap, content)


def test_trailing_data_is_refused() -> None:
    with pytest.raises(MalformedError, match="data after its last part"):
        unpack(pack(_content(b"", b""), COMPRESSOR) + b"\x01")


def test_described_content_opens_its_commitment() -> None:
    entry, content = _describe()
    paths = [leaf.path for leaf in verify_content(entry, content)]
    assert paths == [
        *("request", "response", "request/age", "request/name"),
        *("response/decision", "response/score", "context/target"),
    ]


@pytest.mark.parametrize("part", [0, 1, 2])
def test_changed_content_is_refused(part: int) -> None:
    entry, content = _describe()
    parts = list(content.parts)
    changed = parts[part].value.replace(b"e", b"E")
    parts[part] = parts[part]._replace(value=changed)
    with pytest.raises(VerificationError, match="does not match the commitment"):
        verify_content(entry, replace(content, parts=tuple(parts)))


def test_another_secret_is_refused() -> None:
    entry, content = _describe()
    with pytest.raises(VerificationError, match="does not match the commitment"):
        verify_content(entry, replace(content, secret=os.urandom(32)))


def test_secrets_do_not_show() -> None:
    content = _content(b"private request", b"private response")
    assert "private" not in repr(content)
    assert "\\x01\\x02" not in repr(content)
