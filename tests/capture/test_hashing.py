"""Chunk leaves hashed as a body passes: those of the definition, for any cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.cutting import BlockCutter, ChunkCutter, FrameCutter
from auditlog.capture.hashing import PieceHashes
from auditlog.core.commitment import (
    CHUNK,
    MAX_MEMBERS,
    chunks,
    disclosure_hash,
    salts,
)
from auditlog.core.pieces import MAX_PIECES, TEXT, frame, split_body

SECRET = bytes(range(32))


def by_definition(
    side: str, body: bytes, first: int, *, skip: int = 0, number: int = 0
) -> list[bytes]:
    """Hash each chunk with the salt of its leaf, as `FORMATS.md` §2 says."""
    pairs = chunks(side, body)
    keys = salts(SECRET, first + number + len(pairs))[first + number + 1 :]
    return [
        disclosure_hash(salt, f"{side}#{at}", value)
        for at, (salt, (_, value)) in enumerate(zip(keys, pairs, strict=True), number)
    ][skip:]


def fed(hashes: PieceHashes, body: bytes, cuts: list[int]) -> PieceHashes:
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, end in itertools.pairwise(edges):
        hashes.update(body[start:end])
    return hashes


@given(
    size=st.integers(0, 4 * CHUNK),
    cuts=st.lists(st.integers(0, 4 * CHUNK), max_size=12),
    first=st.integers(2, 300),
)
def test_any_cut_of_a_body_gives_the_hashes_of_the_definition(
    size: int, cuts: list[int], first: int
) -> None:
    body = (b"0123456789abcde" * (size // 15 + 1))[:size]
    hashes = fed(PieceHashes(SECRET, "response", (first,), ChunkCutter()), body, cuts)
    assert hashes.hashes(first) == by_definition("response", body, first)


def test_each_possible_place_has_hashes_of_its_own() -> None:
    body = bytes(3 * CHUNK + 1)
    hashes = fed(PieceHashes(SECRET, "request", (2, 3), ChunkCutter()), body, [100_000])
    assert hashes.hashes(2) == by_definition("request", body, 2)
    assert hashes.hashes(3) == by_definition("request", body, 3)
    assert hashes.hashes(2) != hashes.hashes(3)
    assert hashes.hashes(4) is None


def test_hashing_may_begin_at_a_later_chunk() -> None:
    body = bytes(range(256)) * 256 + b"rest"
    hashes = fed(
        PieceHashes(SECRET, "request", (2,), ChunkCutter(), number=100), body, []
    )
    assert hashes.hashes(2) == by_definition("request", body, 2, number=100)


def test_asking_changes_nothing() -> None:
    hashes = PieceHashes(SECRET, "request", (2,), ChunkCutter())
    hashes.update(b"a")
    assert hashes.hashes(2) == by_definition("request", b"a", 2)
    hashes.update(b"b")
    assert hashes.hashes(2) == by_definition("request", b"ab", 2)


def test_a_body_of_too_many_chunks_has_none() -> None:
    hashes = PieceHashes(SECRET, "request", (2,), ChunkCutter(), number=MAX_MEMBERS - 1)
    hashes.update(bytes(CHUNK))
    assert len(hashes.hashes(2) or ()) == 1
    hashes.update(b"x")
    assert hashes.hashes(2) is None
    hashes.update(bytes(CHUNK))
    assert hashes.hashes(2) is None


def of_pieces(split: str, body: bytes, first: int) -> list[bytes]:
    """Hash each piece of a body with the salt of its leaf."""
    found = split_body(split, "response", body, 1)
    assert found is not None
    keys = salts(SECRET, first + len(found))[first + 1 :]
    return [disclosure_hash(key, *leaf) for key, leaf in zip(keys, found, strict=True)]


@pytest.mark.parametrize("end", [b"", b"\r", b"\n\r", b"data", b"data\r", b"\n\n\r"])
def test_a_stream_has_the_hashes_of_its_blocks_however_it_ends(end: bytes) -> None:
    stream = b": hi\r\n\r\ndata: 1\n\n" + end
    for at in range(len(stream)):
        hashes = PieceHashes(SECRET, "response", (2, 5), BlockCutter())
        hashes.update(stream[:at])
        hashes.update(stream[at:])
        expected = of_pieces("sse", stream, 5)
        assert hashes.hashes(5) == expected
        assert hashes.hashes(5) == expected, "asking changes nothing"
        assert hashes.count == len(expected)


def test_a_session_has_the_hashes_of_its_messages() -> None:
    session = frame(1, TEXT, b"") + frame(2, TEXT, b"hello")
    hashes = PieceHashes(SECRET, "response", (9,), FrameCutter())
    for one in session:
        hashes.update(bytes([one]))
    assert hashes.hashes(9) == of_pieces("ws", session, 9)


@pytest.mark.parametrize("last", [b"\n", b"\r", b"a"])
def test_a_stream_of_too_many_blocks_has_none(last: bytes) -> None:
    number = MAX_PIECES - 1
    hashes = PieceHashes(SECRET, "response", (2,), BlockCutter(), number)
    hashes.update(b"data: 1\n\n")
    assert len(hashes.hashes(2) or ()) == 1
    assert hashes.count == MAX_PIECES
    hashes.update(last)
    assert hashes.hashes(2) is None
    assert hashes.count is None


def test_a_stream_that_turns_out_to_be_no_text_has_no_blocks() -> None:
    hashes = PieceHashes(SECRET, "response", (2,), BlockCutter())
    hashes.update(b"data: 1\n\n")
    hashes.update(b"\xff")
    hashes.update(b"data: 2\n\n")
    assert hashes.hashes(2) is None
    assert hashes.count is None
