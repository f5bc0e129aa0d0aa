"""Chunk leaves hashed as a body passes: those of the definition, for any cut."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.chunks import ChunkHashes
from auditlog.core.commitment import (
    CHUNK,
    MAX_MEMBERS,
    chunks,
    disclosure_hash,
    salts,
)

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


def fed(hashes: ChunkHashes, body: bytes, cuts: list[int]) -> ChunkHashes:
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
    hashes = fed(ChunkHashes(SECRET, "response", (first,)), body, cuts)
    assert hashes.hashes(first) == by_definition("response", body, first)


def test_each_possible_place_has_hashes_of_its_own() -> None:
    body = bytes(3 * CHUNK + 1)
    hashes = fed(ChunkHashes(SECRET, "request", (2, 3)), body, [100_000])
    assert hashes.hashes(2) == by_definition("request", body, 2)
    assert hashes.hashes(3) == by_definition("request", body, 3)
    assert hashes.hashes(2) != hashes.hashes(3)
    assert hashes.hashes(4) is None


def test_hashing_may_begin_at_a_later_chunk() -> None:
    body = bytes(range(256)) * 256 + b"rest"
    hashes = fed(ChunkHashes(SECRET, "request", (2,), number=100), body, [])
    assert hashes.hashes(2) == by_definition("request", body, 2, number=100)


def test_asking_changes_nothing() -> None:
    hashes = ChunkHashes(SECRET, "request", (2,))
    hashes.update(b"a")
    assert hashes.hashes(2) == by_definition("request", b"a", 2)
    hashes.update(b"b")
    assert hashes.hashes(2) == by_definition("request", b"ab", 2)


def test_a_body_of_too_many_chunks_has_none() -> None:
    hashes = ChunkHashes(SECRET, "request", (2,), number=MAX_MEMBERS - 1)
    hashes.update(bytes(CHUNK))
    assert len(hashes.hashes(2) or ()) == 1
    hashes.update(b"x")
    assert hashes.hashes(2) is None
    hashes.update(bytes(CHUNK))
    assert hashes.hashes(2) is None
