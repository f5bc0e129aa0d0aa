"""A client that costs little: requests at a fixed rate over connections kept open."""

import asyncio
import time
from collections import deque
from typing import NamedTuple

from tests.bench.workload import Endpoint

__all__ = ["Load", "closed_loop", "open_loop"]

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_LAST_SECONDS = 5.0


class Load(NamedTuple):
    """What a load was answered with."""

    latencies: list[float]
    """Seconds from when a request was due to be sent to its last byte."""
    seconds: float


class _Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request under way at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def ask(self, request: bytes) -> "asyncio.Future[None]":
        assert self._transport is not None
        self._received = b""
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._done

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(_END)
        if not end or self._done is None:
            return
        at = head.lower().index(_LENGTH) + len(_LENGTH)
        if len(body) >= int(head[at:].split(b"\r\n", 1)[0]):
            if not head.startswith(b"HTTP/1.1 200"):
                self._done.set_exception(AssertionError(head.decode("latin-1")))
            elif not self._done.done():
                self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(AssertionError("the server hung up"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _request(endpoint: Endpoint) -> bytes:
    head = (
        f"POST {endpoint.target} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        f"content-type: application/json\r\ncontent-length: {len(endpoint.body)}"
    )
    return head.encode() + _END + endpoint.body


async def _connect(port: int, count: int) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(_Connection, "127.0.0.1", port)
        for _ in range(count)
    ]
    return [connection for _, connection in made]


async def closed_loop(
    port: int, endpoint: Endpoint, seconds: float, callers: int
) -> Load:
    """Let `callers` ask as fast as they are answered."""
    request, latencies = _request(endpoint), []
    connections = await _connect(port, callers)
    start = time.perf_counter()

    async def call(connection: _Connection) -> None:
        while (asked := time.perf_counter()) < start + seconds:
            await connection.ask(request)
            latencies.append(time.perf_counter() - asked)

    async with asyncio.TaskGroup() as group:
        for connection in connections:
            group.create_task(call(connection))
    spent = time.perf_counter() - start
    for connection in connections:
        connection.close()
    return Load(latencies, spent)


async def open_loop(
    port: int, endpoint: Endpoint, seconds: float, rate: float, connections: int
) -> Load:
    """Ask at a fixed rate, whether or not the server keeps up.

    A request that finds no free connection waits for one, and its time counts from
    when it was due: a server that stalls is not asked less.
    """
    request, latencies = _request(endpoint), []
    free = deque(await _connect(port, connections))
    everyone = list(free)
    returned = asyncio.Event()
    due: deque[float] = deque()

    async def call(connection: _Connection, asked: float) -> None:
        await connection.ask(request)
        latencies.append(time.perf_counter() - asked)
        free.append(connection)
        returned.set()

    start = time.perf_counter()
    sent, count = 0, int(seconds * rate)
    async with asyncio.timeout(seconds + _LAST_SECONDS), asyncio.TaskGroup() as group:
        while sent < count or due:
            now = time.perf_counter()
            while sent < count and start + sent / rate <= now:
                # What is due within one tick of the client's own timer is due now.
                due.append(now)
                sent += 1
            while due and free:
                group.create_task(call(free.popleft(), due.popleft()))
            if due:
                returned.clear()
                await returned.wait()
            elif sent < count:
                await asyncio.sleep(max(0, start + sent / rate - time.perf_counter()))
    spent = time.perf_counter() - start
    for connection in everyone:
        connection.close()
    return Load(latencies, spent)
