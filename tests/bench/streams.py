"""Group a: the first byte of a streamed answer, under each server, with and without us.

One client asks again and again over a connection kept open; rounds take turns.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench.context import Context
from tests.bench.report import Row, compare, ratio_at_most
from tests.bench.timing import interleave, median, percentile
from tests.e2e.servers import SERVERS, serve

__all__ = ["run"]

_ARMS = ("bare", "audited")
_MILLI = 1e3
_WARM = 20
_REQUEST = (
    b"POST /stream HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    b"content-length: 2\r\n\r\n{}"
)


def run(context: Context) -> Iterator[Row]:
    """Measure under every server."""
    for server in SERVERS:
        context.say(f"the first byte of a stream, under {server}")
        with context.directory() as directory:
            yield from _measure(context, server, directory)


def _measure(context: Context, server: str, directory: Path) -> Iterator[Row]:
    count = max(50, context.scale.requests // 4)
    with ExitStack() as stack:
        asking = {}
        for arm in _ARMS:
            (directory / arm).mkdir()
            serving = stack.enter_context(
                serve(
                    SERVERS[server],
                    "tests.bench.stream_app:app",
                    directory / arm,
                    {"STREAM": arm},
                )
            )
            connection = stack.enter_context(
                socket.create_connection(("127.0.0.1", serving.port), 10)
            )
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _first_bytes(connection, _WARM)
            asking[arm] = lambda connection=connection: _first_bytes(connection, count)
        rounds = interleave(asking, max(2, context.scale.rounds // 2))
    yield from _rows(f"a first streamed byte, {server}", rounds)


def _first_bytes(connection: socket.socket, count: int) -> list[float]:
    """Return how many milliseconds each of so many answers took to begin."""
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        connection.sendall(_REQUEST)
        received = b""
        while b"data:" not in received:
            received += connection.recv(65536)
        spent.append((time.perf_counter() - start) * _MILLI)
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += connection.recv(65536)
    return spent


def _rows(name: str, rounds: dict[str, list[list[float]]]) -> Iterator[Row]:
    bare, ours = (rounds[arm] for arm in _ARMS)
    for share in (0.5, 0.99):
        figures = (
            median(percentile(one, share) for one in arm) for arm in (ours, bare)
        )
        yield compare(f"{name}: p{share * 100:.0f}", next(figures), "ms", next(figures))
    added = median(
        percentile(with_us, 0.5) - percentile(without, 0.5)
        for with_us, without in zip(ours, bare, strict=True)
    )
    # Later is what stands out of how much the bare first byte varies by itself.
    noise = median(percentile(one, 0.9) - percentile(one, 0.1) for one in bare)
    label = f"{name}: p50 added: peer p10 to p90 bare"
    yield compare(label, added, "ms", noise, ratio_at_most(1))
