"""Bodies that outgrow memory: what is hashed, what is kept, and where."""

import gzip
import itertools
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auditlog.capture.body import Body
from auditlog.capture.kept import TAIL
from auditlog.core.commitment import (
    CHUNK,
    MAX_BODY,
    chunks,
    disclosure_hash,
    leaf_salt,
    salts,
)
from auditlog.core.pieces import BINARY, MAX_PIECES, TEXT, blocks, frame, split_body
from auditlog.storage.spill import SpillDirectory

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

    def read(self) -> Iterator[bytes]:
        self._was_read = True
        for at in range(0, len(self._kept), 1000):
            yield bytes(self._kept[at : at + 1000])


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


def chunk_hashes(side: str, body: bytes, first: int) -> tuple[str, list[bytes]]:
    pairs = chunks(side, body)
    keys = salts(SECRET, first + len(pairs))[first + 1 :]
    both = zip(keys, pairs, strict=True)
    return "chunks", [disclosure_hash(key, *pair) for key, pair in both]


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
        assert body.piece_hashes(first, 1) == chunk_hashes("request", LARGE, first)
    assert body.leaf_hash() == disclosure_hash(leaf_salt(SECRET, 0), "request", LARGE)
    assert body.kept() == LARGE[:limit]
    assert body.kept_bytes == min(limit, len(LARGE))


@pytest.mark.parametrize(("size", "count"), [(MAX_BODY, 0), (MAX_BODY + 1, 17)])
@pytest.mark.parametrize("limit", [1000, 2 * MIB])
def test_exactly_1_mib_has_no_chunks(limit: int, size: int, count: int) -> None:
    body = feed(Body(SECRET, 0, limit, spills=FakeSpills()), bytes(size))
    assert len(body.piece_hashes(2, 1)[1]) == count


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
    assert body.piece_hashes(2, 1) == chunk_hashes("request", LARGE, 2)
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
    assert MIB + TAIL <= body.held_bytes < MIB + 2 * TAIL


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
    assert answered.piece_hashes(first, 1) == chunk_hashes("response", LARGE, first)


def test_a_request_that_nobody_reads_has_no_leaves_to_wait_for() -> None:
    answered = feed(Body(SECRET, 1, MIB, before=Body(SECRET, 0, MIB)), LARGE)
    assert answered.piece_hashes(2, 1) == chunk_hashes("response", LARGE, 2)


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
    assert answered.held_bytes < MIB + 2 * TAIL, "nothing has to wait any more"
    expected = chunk_hashes("response", LARGE, 2 + 9000)
    assert answered.piece_hashes(2 + 9000, 1) == expected


def test_a_response_during_its_request_waits_in_memory_for_the_end_of_it() -> None:
    asked = Body(SECRET, 0, MIB, state="partial")
    answered = large_after(asked, [LARGE])
    assert answered.held_bytes == len(LARGE) + TAIL
    asked.state = "complete"
    assert answered.piece_hashes(2, 1) == chunk_hashes("response", LARGE, 2)
    assert answered.held_bytes < MIB + 2 * TAIL


def test_a_response_that_cannot_wait_any_longer_has_no_chunks() -> None:
    asked = Body(SECRET, 0, MIB, state="partial")
    answered = Body(SECRET, 1, MIB, before=asked)
    tracemalloc.start()
    for _ in range(400):
        answered.feed(bytes(CHUNK))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 * MIB
    assert answered.held_bytes < MIB + 2 * TAIL
    assert answered.piece_hashes(2, 1) == ("none", [])
    whole = bytes(400 * CHUNK)
    expected = disclosure_hash(leaf_salt(SECRET, 1), "response", whole)
    assert answered.leaf_hash() == expected


def test_a_response_that_could_not_wait_is_read_again_if_all_of_it_is_kept() -> None:
    asked = Body(SECRET, 0, MIB, state="partial")
    answered = Body(SECRET, 1, 1 << 30, before=asked, spills=FakeSpills())
    whole = bytes(200 * CHUNK)
    feed(answered, whole, CHUNK)
    assert answered.held_bytes < 2 * MIB, "nothing waits in memory"
    assert answered.piece_hashes(9, 1) == chunk_hashes("response", whole, 9)


def test_a_request_that_grows_after_all_costs_the_response_its_chunks() -> None:
    asked = Body(SECRET, 0, MIB, media_type="application/json")
    answered = large_after(asked, [LARGE])  # it had not been read
    feed(asked, b'{"late":1}')
    assert answered.piece_hashes(3, 1) == ("none", [])


def test_where_no_thread_can_be_had_a_response_waits_for_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    asked = feed(Body(SECRET, 0, MIB, media_type="application/json"), b'{"a":1}')
    answered = large_after(asked, [LARGE[:-9], LARGE[-9:]])
    assert answered.piece_hashes(3, 1) == chunk_hashes("response", LARGE, 3)


# Event streams and sessions.


def stream_of(size: int) -> bytes:
    """An event stream of about this size, in which no two blocks are alike."""
    ends = (b"\n\n", b"\r\n\r\n", b"\r\r")
    found = bytearray(b": \xe2\x82\xac\n\n")
    for number in itertools.count():
        if len(found) > size:
            return bytes(found)
        found += b"data: %d%b%b" % (number, b"x" * 700, ends[number % 3])
    raise AssertionError


def session_of(size: int, start: int = 0) -> list[bytes]:
    """Frames of about this size together, with every other order."""
    count = -(-size // 1009)
    payloads = [b"%d" % n + b"y" * 999 for n in range(count)]
    return [
        frame(start + 2 * n, BINARY, payload[:1000])
        for n, payload in enumerate(payloads)
    ]


STREAM = stream_of(3 * MIB // 2)
SESSION = session_of(3 * MIB // 2)
FEW = session_of(MIB // 2)


def piece_hashes(
    split: str, side: str, body: bytes, first: int
) -> tuple[str, list[bytes]]:
    pairs = split_body(split, side, body, 1)
    assert pairs
    keys = salts(SECRET, first + len(pairs))[first + 1 :]
    both = zip(keys, pairs, strict=True)
    return split, [disclosure_hash(key, *pair) for key, pair in both]


def session(leaf: int, frames: list[bytes], limit: int = MIB, **fields: Any) -> Body:
    body = Body(SECRET, leaf, limit, framed=True, **fields)
    for one in frames:
        body.feed(one)
    body.state = "complete"
    return body


@pytest.mark.parametrize("limit", [0, 1000, MIB, 2 * MIB])
@pytest.mark.parametrize("step", [1, 700, 1 << 20])
@pytest.mark.parametrize("leaf", [0, 1])
def test_a_stream_of_any_size_has_its_blocks(limit: int, step: int, leaf: int) -> None:
    stream = STREAM if step > 1 else STREAM[: 10_000 + limit % MIB]
    asked = Body(SECRET, 0, MIB)
    body = Body(SECRET, leaf, limit, media_type="text/event-stream; charset=utf-8")
    body.spills, body.before = FakeSpills(), asked if leaf else None
    feed(body, stream, step)
    if body.large is None:
        return  # held: see test_sides
    expected = piece_hashes("sse", ("request", "response")[leaf], stream, 2)
    assert body.piece_hashes(2, 1) == expected
    assert body.kept() == stream[:limit]


@pytest.mark.parametrize("limit", [1000, 2 * MIB])
def test_a_stream_that_is_not_to_be_opened_is_cut_into_chunks(limit: int) -> None:
    body = Body(SECRET, 0, limit, media_type="text/event-stream", spills=FakeSpills())
    assert feed(body, STREAM).piece_hashes(2, 0) == chunk_hashes("request", STREAM, 2)


@pytest.mark.parametrize(
    "stream", [STREAM + b"\xff", gzip.compress(LARGE, 0), b"\n" * (MIB + 1)]
)
def test_a_stream_without_blocks_is_cut_into_chunks(stream: bytes) -> None:
    body = Body(SECRET, 0, MIB, media_type="text/event-stream", coding="gzip")
    assert feed(body, stream).piece_hashes(2, 1) == chunk_hashes("request", stream, 2)


def test_a_stream_without_blocks_that_is_not_large_has_no_pieces() -> None:
    body = Body(SECRET, 0, 1000, media_type="text/event-stream")
    assert feed(body, STREAM[:5000] + b"\xff").piece_hashes(2, 1) == ("none", [])


@pytest.mark.parametrize("size", [5000, len(STREAM)])
@pytest.mark.parametrize("limit", [1000, MIB])
def test_a_response_follows_the_blocks_of_its_request(limit: int, size: int) -> None:
    asked = Body(SECRET, 0, limit, media_type="text/event-stream")
    feed(asked, STREAM[:size])
    first = 2 + len(blocks(STREAM[:size]))
    answered = Body(SECRET, 1, MIB, before=asked)
    feed(answered, LARGE[:-1])
    wait_until(
        lambda: not any(one.name == "auditlog-split" for one in threading.enumerate())
    )
    answered.feed(LARGE[-1:])
    assert answered.large is not None
    assert not answered.large._pending, "its place is known"
    assert answered.piece_hashes(first, 1) == chunk_hashes("response", LARGE, first)


@pytest.mark.parametrize("limit", [0, 5000, MIB, 2 * MIB])
@pytest.mark.parametrize("frames", [FEW, SESSION], ids=["few", "many"])
def test_messages_received_are_hashed_as_they_pass(
    limit: int, frames: list[bytes]
) -> None:
    body = session(0, frames, limit)  # there is no disk
    raw = b"".join(frames)
    if body.large is None:
        return
    assert body.piece_hashes(2, 1) == piece_hashes("ws", "request", raw, 2)
    assert raw.startswith(body.kept())


@pytest.mark.parametrize("limit", [0, 5000, MIB, 2 * MIB])
@pytest.mark.parametrize("asked", [[], FEW, SESSION], ids=["none", "few", "many"])
def test_messages_sent_come_after_all_that_were_received(
    limit: int, asked: list[bytes]
) -> None:
    request = Body(SECRET, 0, limit, framed=True)
    answered = session(1, SESSION, limit, before=request, spills=FakeSpills())
    for one in asked:  # and the last of them came when all was sent
        request.feed(one)
    first, raw = 2 + len(asked), b"".join(SESSION)
    expected = piece_hashes("ws", "response", raw, first)
    assert answered.piece_hashes(first, 1) == expected
    assert answered.piece_hashes(first, 1) == expected, "it may be asked again"
    assert answered.kept() == raw[:limit]
    assert answered.leaf_hash() == disclosure_hash(
        leaf_salt(SECRET, 1), "response", raw
    )


@pytest.mark.parametrize("room", [0, 100_000])
def test_messages_sent_that_a_disk_did_not_take_have_no_leaves(room: int) -> None:
    request = Body(SECRET, 0, MIB, framed=True)
    for limit in (0, 2 * MIB):
        answered = session(1, SESSION, limit, before=request, spills=FakeSpills(room))
        assert answered.piece_hashes(2, 1) == ("none", [])
        raw = b"".join(SESSION)
        assert raw.startswith(answered.kept())
        whole = disclosure_hash(leaf_salt(SECRET, 1), "response", raw)
        assert answered.leaf_hash() == whole
    without = session(1, SESSION, MIB, before=request)
    assert without.piece_hashes(2, 1) == ("none", [])


@pytest.mark.parametrize("leaf", [0, 1])
@pytest.mark.parametrize("depth", [0, 1])
def test_more_messages_than_may_be_are_cut_into_chunks(leaf: int, depth: int) -> None:
    count = MAX_PIECES + 1 if depth else 1100
    frames = [frame(number, TEXT, b"y" * (1000, 9)[depth]) for number in range(count)]
    before = Body(SECRET, 0, MIB, framed=True) if leaf else None
    body = session(leaf, frames, MIB // 2, before=before, spills=FakeSpills())
    side, raw = ("request", "response")[leaf], b"".join(frames)
    assert body.piece_hashes(2, depth) == chunk_hashes(side, raw, 2)


def test_a_session_stays_out_of_memory_in_both_directions(tmp_path: Path) -> None:
    spills = SpillDirectory(tmp_path, 1 << 30)
    asked = Body(SECRET, 0, MIB, framed=True, spills=spills)
    answered = Body(SECRET, 1, MIB, before=asked, framed=True, spills=spills)
    tracemalloc.start()
    for number in range(7000):
        asked.feed(frame(2 * number, TEXT, b"q" * 1024))
        answered.feed(frame(2 * number + 1, TEXT, b"a" * 1024))
        if not number % 1000:
            wait_until(lambda: not spills._writer._tasks)
    _, while_passing = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    split, hashes = asked.piece_hashes(2, 1)
    assert (split, len(hashes)) == ("ws", 7000)
    split, hashes = answered.piece_hashes(2 + len(hashes), 1)
    assert (split, len(hashes)) == ("ws", 7000)
    _, at_the_end = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 14 MiB passed. What waits for the disk is memory too, and so are hashes.
    assert while_passing < 6 * MIB
    assert at_the_end < 6 * MIB


# The end of what is not kept whole.


@pytest.mark.parametrize("limit", [0, 1000, MIB, len(LARGE) - TAIL, len(LARGE) - 10])
def test_the_end_of_a_body_is_there_without_what_is_kept(limit: int) -> None:
    body = feed(Body(SECRET, 0, limit, spills=FakeSpills()), LARGE)
    kept, tail = body.kept(), body.tail()
    assert tail == LARGE[limit:][-TAIL:]
    assert body.capped is (len(kept) + len(tail) < len(LARGE))
    assert body.capped is (limit < len(LARGE) - TAIL)


def test_a_body_that_is_kept_whole_has_no_other_end() -> None:
    held = feed(Body(SECRET, 0, MIB), b"all of it")
    spilled = feed(Body(SECRET, 0, 2 * MIB, spills=FakeSpills()), LARGE)
    for body in (held, spilled):
        assert body.tail() == b""
        assert not body.capped


@pytest.mark.parametrize("step", [7, 999, 1 << 22])
def test_the_end_is_the_same_whatever_a_body_came_in(step: int) -> None:
    body = Body(SECRET, 0, MIB)
    feed(body, LARGE[:MIB])
    feed(body, LARGE[MIB:], step)
    assert body.tail() == LARGE[-TAIL:]


def test_where_a_disk_fails_the_end_is_there_all_the_same() -> None:
    body = feed(Body(SECRET, 0, 1 << 30, spills=FakeSpills(room=1000)), LARGE)
    assert body.tail() == LARGE[-TAIL:]
    assert body.capped
    nearly = len(LARGE) - MIB - 7
    body = feed(Body(SECRET, 0, 1 << 30, spills=FakeSpills(room=nearly)), LARGE)
    assert body.kept() + body.tail() == LARGE
    assert not body.capped
