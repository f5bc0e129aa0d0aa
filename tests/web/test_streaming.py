"""A body that is written in one thread and read in another, whole or not at all."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from auditlog.web.streaming import Piped, PipedResponse, Write

PIECE = 1 << 16


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def threads() -> int:
    return sum(one.name == "auditlog-export" for one in threading.enumerate())


def test_bits_come_out_as_they_went_in_gathered_into_pieces() -> None:
    def produce(write: Write) -> None:
        for number in range(100_000):
            write(b"%d," % number)

    pieces = list(Piped(produce))
    assert b"".join(pieces) == b"".join(b"%d," % number for number in range(100_000))
    assert {len(piece) for piece in pieces[:-1]} == {PIECE}


def test_nothing_written_is_nothing_read() -> None:
    assert b"".join(Piped(lambda _: None)) == b""


def test_what_fails_before_a_piece_is_raised_where_it_is_begun() -> None:
    def produce(write: Write) -> None:
        write(b"some bytes")
        raise LookupError("nothing is held")

    with pytest.raises(LookupError, match="nothing is held"):
        Piped(produce)


def test_what_fails_later_breaks_off_and_its_message_goes_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def produce(write: Write) -> None:
        write(b"x" * PIECE)
        raise LookupError("about Ada")

    pieces = iter(Piped(produce))
    assert next(pieces) == b"x" * PIECE
    with pytest.raises(RuntimeError, match="broke off while it was written"):
        next(pieces)
    assert "an answer breaks off: LookupError" in caplog.text
    assert "Ada" not in caplog.text


def test_a_writer_does_not_run_ahead_of_its_reader() -> None:
    written: list[int] = []

    def produce(write: Write) -> None:
        for number in range(200):
            write(b"x" * PIECE)
            written.append(number)

    piped = Piped(produce)
    wait_for(lambda: len(written) >= 16)
    time.sleep(0.05)
    assert len(written) <= 18
    assert sum(len(piece) for piece in piped) == 200 * PIECE


@pytest.mark.parametrize("read", [0, 3])
def test_whoever_writes_for_nobody_ends(read: int) -> None:
    ended: list[bool] = []

    def produce(write: Write) -> None:
        try:
            while True:
                write(b"x" * PIECE)
        finally:
            ended.append(True)

    before = threads()
    pieces = iter(Piped(produce))
    for _ in range(read):
        next(pieces)
    del pieces
    gc.collect()
    wait_for(lambda: bool(ended) and threads() == before)


def test_whoever_leaves_an_answer_ends_its_writer() -> None:
    """At once, not when somebody collects what was left: few may write."""
    piped = Piped(lambda write: [write(b"x" * PIECE) for _ in range(100)])
    answer = PipedResponse(piped, "application/zip", {})

    async def receive() -> Message:
        raise AssertionError("nobody asks for more of the question")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client is gone")

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}}

    async def serve() -> None:
        with pytest.raises(ClientDisconnect):
            await answer(scope, receive, send)
        # A loop that goes on collects nothing by itself.
        wait_for(lambda: threads() == 0)

    asyncio.run(serve())
