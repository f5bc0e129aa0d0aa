"""Bodies that outgrow memory: what is hashed, what is kept, and where."""

import gzip
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable

import pytest

from auditlog.capture.body import Body
from auditlog.core.commitment import (
    CHUNK,
    MAX_BODY,
    chunks,
    disclosure_hash,
    leaf_salt,
    salts,
)

SECRET = bytes(range(32))
MIB = 1 << 20
LARGE = bytes(range(251)) * 6000
"""1.5 million bytes in which no two chunks are alike."""


class FakeSpill:
    """Keeps the contract of a spill, and at most `room` bytes."""

    def __init__(self, room: int) -> None:
        self._kept = bytearray()
        self._room = room
        self._was_read = False

    def add(self, data: bytes) -> None:
        assert not self._was_read, "nothing is added after reading"
        assert data, "nothing empty is added"
        taken = data[: self._room]
        self._room = self._room - len(taken) if len(taken) == len(data) else 0
        self._kept += taken

    def read(self) -> bytes:
        self._was_read = True
        return bytes(self._kept)


class FakeSpills:
    """Makes such spills, and counts them."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.opened = 0
        self._room = room

    def open(self) -> FakeSpill:
        self.opened += 1
        return FakeSpill(self._room)


def feed(body: Body, data: bytes, step: int = 60_000) -> Body:
    for at in range(0, len(data), step):
        body.feed(data[at : at + step])
    body.state = "complete"
    return body


def chunk_hashes(side: str, body: bytes, first: int) -> list[bytes]:
    pairs = chunks(side, body)
    keys = salts(SECRET, first + len(pairs))[first + 1 :]
    return [disclosure_hash(key, *pair) for key, pair in zip(keys, pairs, strict=True)]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("limit", [0, 1000, MIB - 1, MIB, MIB + 1, 2 * MIB])
@pytest.mark.parametrize("step", [999, CHUNK, 1 << 22])
def test_a_request_over_1_mib_has_chunks_whatever_is_kept(
    limit: int, step: int
) -> None:
    body = feed(Body(SECRET, 0, limit, spills=FakeSpills()), LARGE, step)
    for first in (2, 3):
        assert body.chunk_hashes(first) == chunk_hashes("request", LARGE, first)
    assert body.leaf_hash() == disclosure_hash(leaf_salt(SECRET, 0), "request", LARGE)
    assert body.kept() == LARGE[:limit]
    assert body.kept_bytes == min(limit, len(LARGE))


@pytest.mark.parametrize(("size", "count"), [(MAX_BODY, 0), (MAX_BODY + 1, 17)])
@pytest.mark.parametrize("limit", [1000, 2 * MIB])
def test_exactly_1_mib_has_no_chunks(limit: int, size: int, count: int) -> None:
    body = feed(Body(SECRET, 0, limit, spills=FakeSpills()), bytes(size))
    assert len(body.chunk_hashes(2)) == count


def test_only_a_large_body_is_spilled_and_only_what_is_kept() -> None:
    spills = FakeSpills()
    feed(Body(SECRET, 0, 2 * MIB, spills=spills), bytes(MIB))
    feed(Body(SECRET, 0, MIB, spills=spills), LARGE)
    assert spills.opened == 0
    body = feed(Body(SECRET, 0, MIB + 5, spills=spills), LARGE)
    assert spills.opened == 1
    assert body.kept() == body.kept() == LARGE[: MIB + 5]


@pytest.mark.parametrize("room", [0, 100, 100_000])
def test_what_a_disk_does_not_take_is_hashed_all_the_same(room: int) -> None:
    body = feed(Body(SECRET, 0, 1 << 30, spills=FakeSpills(room)), LARGE)
    kept = body.kept()
    assert LARGE.startswith(kept)
    assert MIB <= len(kept) < len(LARGE)
    assert body.chunk_hashes(2) == chunk_hashes("request", LARGE, 2)
    assert body.leaf_hash() == disclosure_hash(leaf_salt(SECRET, 0), "request", LARGE)


def test_without_a_spill_1_mib_is_kept() -> None:
    assert feed(Body(SECRET, 0, 1 << 30), LARGE).kept() == LARGE[:MIB]


def test_a_large_body_stays_out_of_memory() -> None:
    body, part = Body(SECRET, 0, 1 << 20), bytes(CHUNK)
    tracemalloc.start()
    for _ in range(500):
        body.feed(part)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert body.size == 500 * CHUNK
    assert peak < 3 * MIB
    assert body.held_bytes == MIB


REQUESTS: list[tuple[bytes, str | None, str | None, int, int]] = [
    (b"", None, None, 1, 2),
    (b"some text", "text/plain", None, 1, 2),
    (b'{"a":1,"b":[2]}', "application/json", None, 1, 4),
    (b'{"a":1,"b":[2]}', "application/json", None, 2, 5),
    (b'{"a":1,"b":[2]}', "application/json", None, 0, 2),
    (gzip.compress(b'{"a":1}'), "application/json", "gzip", 1, 4),
    (gzip.compress(b"text"), None, "gzip", 0, 3),
    (LARGE, "image/png", None, 1, 2 + 23),
]


@pytest.mark.parametrize(
    ("request_", "media_type", "coding", "depth", "first"), REQUESTS, ids=range(8)
)
def test_chunks_of_a_response_begin_after_the_leaves_of_its_request(
    request_: bytes, media_type: str | None, coding: str | None, depth: int, first: int
) -> None:
    asked = Body(SECRET, 0, MIB, media_type=media_type, coding=coding)
    feed(asked, request_)
    answered = Body(SECRET, 1, MIB, before=asked, depth=depth)
    feed(answered, LARGE)
    assert answered.chunk_hashes(first) == chunk_hashes("response", LARGE, first)


def test_a_request_that_nobody_reads_has_no_leaves_to_wait_for() -> None:
    answered = feed(Body(SECRET, 1, MIB, before=Body(SECRET, 0, MIB)), LARGE)
    assert answered.chunk_hashes(2) == chunk_hashes("response", LARGE, 2)


def large_after(asked: Body, parts: Iterable[bytes]) -> Body:
    answered = Body(SECRET, 1, MIB, before=asked)
    for part in parts:
        answered.feed(part)
    answered.state = "complete"
    return answered


def test_a_response_waits_for_its_request_to_be_split_in_another_thread() -> None:
    asked = Body(SECRET, 0, MIB, media_type="application/json")
    feed(asked, b"[" + b",".join(b"%d" % number for number in range(9000)) + b"]")
    answered = large_after(asked, [LARGE[:MIB], LARGE[MIB : MIB + 10]])
    wait_until(
        lambda: not any(one.name == "auditlog-split" for one in threading.enumerate())
    )
    answered.feed(LARGE[MIB + 10 :])
    assert answered.held_bytes == MIB, "nothing has to wait any more"
    expected = chunk_hashes("response", LARGE, 2 + 9000)
    assert answered.chunk_hashes(2 + 9000) == expected


def test_a_response_during_its_request_waits_in_memory_for_the_end_of_it() -> None:
    asked = Body(SECRET, 0, MIB, state="partial")
    answered = large_after(asked, [LARGE])
    assert answered.held_bytes == len(LARGE)
    asked.state = "complete"
    assert answered.chunk_hashes(2) == chunk_hashes("response", LARGE, 2)
    assert answered.held_bytes == MIB


def test_a_response_that_cannot_wait_any_longer_has_no_chunks() -> None:
    asked = Body(SECRET, 0, MIB, state="partial")
    answered = Body(SECRET, 1, MIB, before=asked)
    tracemalloc.start()
    for _ in range(400):
        answered.feed(bytes(CHUNK))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * MIB
    assert answered.held_bytes == MIB
    assert answered.chunk_hashes(2) == []
    whole = bytes(400 * CHUNK)
    expected = disclosure_hash(leaf_salt(SECRET, 1), "response", whole)
    assert answered.leaf_hash() == expected


def test_a_request_that_grows_after_all_costs_the_response_its_chunks() -> None:
    asked = Body(SECRET, 0, MIB, media_type="application/json")
    answered = large_after(asked, [LARGE])  # it had not been read
    feed(asked, b'{"late":1}')
    assert answered.chunk_hashes(3) == []


def test_where_no_thread_can_be_had_a_response_waits_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    asked = feed(Body(SECRET, 0, MIB, media_type="application/json"), b'{"a":1}')
    answered = large_after(asked, [LARGE[:-9], LARGE[-9:]])
    assert answered.chunk_hashes(3) == chunk_hashes("response", LARGE, 3)
