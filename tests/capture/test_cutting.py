"""Cutters give the pieces of the definition, whatever the cuts a body comes in."""

import itertools
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.cutting import (
    CUTTERS,
    BlockCutter,
    ChunkCutter,
    Cutter,
    FrameCutter,
    whole,
)
from auditlog.core.commitment import CHUNK
from auditlog.core.errors import MalformedError
from auditlog.core.pieces import BINARY, TEXT, blocks, frame, messages

STREAMS = [
    b"data: 1\r\n\r\ndata: 2\r\n\r\n",
    b"a\r\rb\n\nc\r\n\nd\n\r\ne\r\n\rf\n\r",
    b"\r\n\r\n\r\r\n\n\r",
    b": ping\n\nevent: x\rdata: 1\rdata: 2\r\r\r\r",
    "id: ü\n\ndata: €\r\n\r\n".encode(),
    "data: 1\n\ndata: €".encode()[:-1],
]
SESSION = frame(0, TEXT, b"hello") + frame(2, BINARY, b"") + frame(300, TEXT, b"\0" * 9)


def cut(cutter: Cutter, parts: Iterable[bytes]) -> list[bytes]:
    """Cut a body that comes in parts; return its pieces."""
    found, piece, is_open = [], b"", False
    for part, ends in itertools.chain.from_iterable(map(cutter.cut, parts)):
        piece, is_open = piece + part, not ends
        if ends:
            found.append(piece)
            piece = b""
    piece += cutter.rest
    return [*found, piece] if is_open or piece else found


def cut_twice(body: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Every way to cut a body in three, empty parts included."""
    for first in range(len(body) + 1):
        for second in range(first, len(body) + 1):
            yield body[:first], body[first:second], body[second:]


@pytest.mark.parametrize("stream", STREAMS, ids=range(len(STREAMS)))
def test_a_stream_cut_anywhere_has_its_blocks(stream: bytes) -> None:
    for parts in cut_twice(stream):
        assert cut(BlockCutter(), parts) == blocks(stream)


@given(st.text("a:\r\n", max_size=24).map(str.encode))
def test_any_stream_cut_anywhere_has_its_blocks(stream: bytes) -> None:
    for parts in cut_twice(stream):
        assert cut(BlockCutter(), parts) == blocks(stream)
    assert cut(BlockCutter(), [bytes([one]) for one in stream]) == blocks(stream)


def test_frames_cut_anywhere_have_their_messages() -> None:
    expected = [message.payload for message in messages(SESSION)]
    for parts in cut_twice(SESSION):
        assert cut(FrameCutter(), parts) == expected
    assert cut(FrameCutter(), [bytes([one]) for one in SESSION]) == expected


@given(st.lists(st.integers(0, 2 * CHUNK), max_size=6))
def test_chunks_are_as_long_whatever_the_body_comes_in(sizes: list[int]) -> None:
    found = cut(ChunkCutter(), [b"x" * size for size in sizes])
    assert all(len(one) == CHUNK for one in found[:-1])
    assert sum(map(len, found)) == sum(sizes)


@pytest.mark.parametrize(
    "parts", [(b"a\xff",), (b"a\n\n\xe2", b"\n"), (b"\xe2\x82", b"a")]
)
def test_what_is_no_text_is_no_stream(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedError, match="expected an event stream in UTF-8"):
        cut(BlockCutter(), parts)


@pytest.mark.parametrize("stream", STREAMS, ids=range(len(STREAMS)))
def test_of_the_first_bytes_of_a_stream_those_blocks_are_whole_that_no_byte_changes(
    stream: bytes,
) -> None:
    for at in range(len(stream) + 1):
        found, end = whole("sse", stream[:at])
        assert found == blocks(stream)[: len(found)]
        assert end == sum(map(len, found))
        follow = (b"", b"\n", b"\r", b"a\n\n", stream[at:])
        assert all(blocks(stream[:at] + one)[: len(found)] == found for one in follow)
        # And none is left out but the last.
        assert len(found) >= len(blocks(stream[:at])) - 1


def test_of_the_first_bytes_of_a_session_and_of_any_body() -> None:
    expected = [message.payload for message in messages(SESSION)]
    ends = [0, 14, 23, 41]
    for at in range(len(SESSION) + 1):
        count = max(number for number, end in enumerate(ends) if end <= at)
        assert whole("ws", SESSION[:at]) == (expected[:count], ends[count])
    body = bytes(CHUNK) + b"a" * CHUNK + b"b"
    assert whole("chunks", body) == ([bytes(CHUNK), b"a" * CHUNK], 2 * CHUNK)
    assert whole("sse", b"\xff\n\na\n\nb") == ([], 0)


def test_a_body_is_cut_into_chunks_only_where_nothing_else_will_do() -> None:
    assert [*CUTTERS] == ["sse", "ws", "chunks"]
