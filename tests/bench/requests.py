"""Group a: what a middleware adds to a request, in one process without a server.

The application is called as a server would call it, by `CALLERS` at once, so that what
a request costs is not lost in what a server and a socket cost. *Loop* is CPU time of
the event loop's thread; *total* is CPU time of the process until everything that the
round caused is done: for us until its decisions are under a signed checkpoint.
"""

import asyncio
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from auditlog.web.asgi import App, Message
from tests.bench.arms import BARE, OURS, Running, name_of, start_arm
from tests.bench.context import Context
from tests.bench.peers import MIDDLEWARE, NOT_INSTALLED
from tests.bench.report import (
    Goal,
    Row,
    at_most,
    compare,
    missing,
    ratio_at_most,
)
from tests.bench.timing import Cost, interleave, measured, median
from tests.bench.workload import ENDPOINTS, Endpoint

__all__ = ["CALLERS", "comparison", "contestants", "drive", "one_round", "run"]

CALLERS = 16
_LOOP_GOAL = at_most(15)
_TOTAL_GOALS = {0: ratio_at_most(1 / 8), 1: ratio_at_most(1 / 5)}
_MICRO = 1e6


def contestants() -> list[str]:
    """Return the names of all arms that can run here."""
    ours = [name_of(mode) for mode in OURS]
    return [BARE, *ours, *(peer.name for peer in MIDDLEWARE if peer.installed)]


def run(context: Context) -> Iterator[Row]:
    """Measure both endpoints."""
    for key, make in ENDPOINTS.items():
        endpoint = make()
        context.say(f"requests to the {endpoint.name}, in process")
        spent = _measure(context, endpoint)
        yield from _rows(key, spent)


def _measure(context: Context, endpoint: Endpoint) -> dict[str, list[Cost]]:
    """Return the cost of one request by contestant, in each round."""
    scale = context.scale
    count = scale.requests // (3 if endpoint.name != "echo" else 1)
    with ExitStack() as stack, asyncio.Runner() as runner:
        directory = stack.enter_context(context.directory())
        arms = {}
        for number, name in enumerate(contestants()):
            running = start_arm(name, endpoint.make(), directory / str(number))
            stack.callback(running.stop)
            arms[name] = running
            runner.run(drive(running.app, endpoint, 2 * CALLERS))
        return interleave(
            {
                name: lambda running=running: one_round(
                    runner, running, endpoint, count
                )  # type: ignore[misc]
                for name, running in arms.items()
            },
            scale.rounds,
        )


def one_round(
    runner: asyncio.Runner, running: Running, endpoint: Endpoint, count: int
) -> Cost:
    """Return the cost of one request, from `count` of them."""
    gc.collect()
    start = measured()
    runner.run(drive(running.app, endpoint, count))
    loop = (measured() - start).main
    running.drain()
    spent = measured() - start
    return Cost(spent.wall / count, spent.cpu / count, loop / count)


async def drive(app: App, endpoint: Endpoint, count: int) -> None:
    """Make `count` requests, `CALLERS` at a time."""
    numbers = iter(range(count))

    async def caller() -> None:
        for _ in numbers:
            await _Call(endpoint).run(app)

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())


class _Call:
    """The server's side of one request."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._unread = True
        self._status = 0
        self._over = asyncio.Event()

    async def run(self, app: App) -> None:
        await app(self._scope(), self._receive, self._send)
        assert self._over.is_set(), "the application did not answer"
        assert self._status == 200, f"the application answered {self._status}"

    def _scope(self) -> dict[str, Any]:
        endpoint = self._endpoint
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": endpoint.target,
            "raw_path": endpoint.target.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [
                (b"host", b"127.0.0.1:8000"),
                (b"content-type", b"application/json"),
                (b"content-length", str(len(endpoint.body)).encode()),
                (b"user-agent", b"bench"),
            ],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }

    async def _receive(self) -> Message:
        if self._unread:
            self._unread = False
            body = self._endpoint.body
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif not message.get("more_body", False):
            self._over.set()


def _rows(key: str, spent: dict[str, list[Cost]]) -> Iterator[Row]:
    gate = key == "echo"
    loop = {name: [one.main * _MICRO for one in costs] for name, costs in spent.items()}
    goals = {name_of(mode): _LOOP_GOAL for mode in OURS}
    yield from comparison(f"a {key}: loop CPU", "µs", loop, goals, gate=gate)
    total = {name: [one.cpu * _MICRO for one in costs] for name, costs in spent.items()}
    goals = {name_of(mode): _TOTAL_GOALS[mode.depth] for mode in OURS}
    yield from comparison(f"a {key}: total CPU", "µs", total, goals, gate=gate)


def comparison(
    what: str,
    unit: str,
    figures: Mapping[str, Sequence[float]],
    goals: Mapping[str, Goal],
    *,
    gate: bool,
) -> Iterator[Row]:
    """Yield what our arms add over bare, against what the peers add.

    Args:
        what: the start of each name.
        unit: of the figures.
        figures: of one request, by contestant, in each round.
        goals: by the name of our arm; against the first peer.
        gate: whether they are the product's.
    """
    added = {name: _added(values, figures[BARE]) for name, values in figures.items()}
    first, *others = MIDDLEWARE
    ours = [name_of(mode) for mode in OURS]
    whole, bare = median(figures[ours[0]]), median(figures[BARE])
    yield compare(f"{what}, {ours[0]}: all of it, peer bare", whole, unit, bare)
    for name in ours:
        title, goal = f"{what} added, {name}: peer {first.title}", goals.get(name)
        if first.installed:
            yield compare(title, added[name], unit, added[first.name], goal, gate=gate)
        elif goal is not None and goal.of == "ours":
            row = compare(title, added[name], unit, None, goal, gate=gate)
            yield row._replace(peer=NOT_INSTALLED)
        else:
            yield missing(title, added[name], unit, NOT_INSTALLED, goal)
    for peer in others:
        title = f"{what} added, {ours[0]}: peer {peer.title}"
        if peer.installed:
            yield compare(title, added[ours[0]], unit, added[peer.name])
        else:
            yield missing(title, added[ours[0]], unit, NOT_INSTALLED)


def _added(values: Sequence[float], bare: Sequence[float]) -> float:
    """Return what was added, each round against bare in the same round."""
    return median(value - base for value, base in zip(values, bare, strict=True))
