"""Group a: what a middleware adds under a real server, at half load.

Every contestant is served by a uvicorn of its own; one at a time is asked, at half of
what the bare application can answer but at most 1,000 times a second, where all peers
can follow, in rounds that take turns. Latency is measured
at the client; CPU time is read from the operating system, all threads of the server and
its first one, which runs the event loop. Client and server share the machine.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.bench.arms import BARE, OURS, name_of
from tests.bench.client import closed_loop, open_loop
from tests.bench.context import QUICK, Context
from tests.bench.report import Row, at_most, compare, missing, ratio_at_most
from tests.bench.requests import comparison, contestants
from tests.bench.timing import interleave, median, percentile, process_cost
from tests.bench.workload import ENDPOINTS, KIB, Endpoint
from tests.e2e.processes import free_port, wait_until

__all__ = ["run"]

_ROOT = Path(__file__).parents[2]
_CONNECTIONS = 32
_MICRO, _MILLI = 1e6, 1e3
_SYNCS = 200
_MOST = 1000.0


class _Round(NamedTuple):
    """One round of load on one server."""

    p50: float
    """Milliseconds."""
    p99: float
    cpu: float
    """Microseconds of CPU time of one request."""
    loop: float


class _Server:
    """A contestant's process."""

    def __init__(self, context: Context, key: str, arm: str, directory: Path) -> None:
        self.port = free_port()
        command = [
            *(sys.executable, "-m", "tests.bench.server"),
            *("--arm", arm, "--endpoint", key, "--port", str(self.port)),
            *("--directory", str(directory), "--peers", str(context.peers)),
        ]
        self.process = subprocess.Popen(
            command, cwd=_ROOT, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def run(context: Context) -> Iterator[Row]:
    """Measure both endpoints."""
    for key, make in ENDPOINTS.items():
        if key != "echo" and context.scale is QUICK:
            # Nine servers that each train two models take too long for a look.
            yield missing(f"a {key} under uvicorn", None, "ms", "--quick")
            continue
        endpoint = make()
        context.say(f"requests to the {endpoint.name}, under uvicorn")
        with context.directory() as directory:
            yield from _measure(context, key, endpoint, directory)


def _measure(
    context: Context, key: str, endpoint: Endpoint, directory: Path
) -> Iterator[Row]:
    seconds = context.scale.load_seconds
    with ExitStack() as stack:
        servers = {}
        for number, arm in enumerate(contestants()):
            server = _Server(context, key, arm, directory / str(number))
            stack.callback(server.stop)
            servers[arm] = server
        for server in servers.values():
            _warm_up(server, endpoint)
        rate = min(_MOST, _capacity(servers[BARE], endpoint, seconds) / 2)
        loads = {
            arm: lambda server=server: _load(server, endpoint, seconds, rate)
            for arm, server in servers.items()
        }
        syncs: list[list[float]] = []
        rounds: dict[str, list[_Round]] = {arm: [] for arm in loads}
        for _ in range(max(2, context.scale.rounds // 2)):
            syncs.append(_syncs(directory))
            for arm, found in interleave(loads, 1).items():
                rounds[arm] += found
    name = f"a {key} under uvicorn"
    yield compare(f"{name}: load", rate, "1/s")
    yield from _rows(name, rounds)
    yield from _against_fsync(key, rounds, syncs)


def _warm_up(server: _Server, endpoint: Endpoint) -> None:
    def answers() -> bool:
        assert server.process.poll() is None, "a server ended before it answered"
        try:
            asyncio.run(closed_loop(server.port, endpoint, 0.05, 2))
        except OSError:
            return False
        return True

    wait_until(answers, 60, "a server that answers")


def _capacity(server: _Server, endpoint: Endpoint, seconds: float) -> float:
    """Return how many requests a second a server can answer."""
    load = asyncio.run(closed_loop(server.port, endpoint, seconds, 8))
    return len(load.latencies) / load.seconds


def _load(server: _Server, endpoint: Endpoint, seconds: float, rate: float) -> _Round:
    start = process_cost(server.process.pid)
    load = asyncio.run(open_loop(server.port, endpoint, seconds, rate, _CONNECTIONS))
    # What the requests caused and what comes after the last answer is theirs too.
    time.sleep(0.1)
    spent = process_cost(server.process.pid) - start
    count = len(load.latencies)
    return _Round(
        percentile(load.latencies, 0.5) * _MILLI,
        percentile(load.latencies, 0.99) * _MILLI,
        spent.cpu / count * _MICRO,
        spent.main / count * _MICRO,
    )


def _rows(name: str, rounds: dict[str, list[_Round]]) -> Iterator[Row]:
    loop_goals = {name_of(mode): at_most(15) for mode in OURS}
    total = {0: ratio_at_most(1 / 8), 1: ratio_at_most(1 / 5)}
    goals = {name_of(mode): total[mode.depth] for mode in OURS}
    figures = {arm: [one.p50 for one in found] for arm, found in rounds.items()}
    yield from comparison(f"{name}: p50", "ms", figures, {}, gate=False)
    figures = {arm: [one.p99 for one in found] for arm, found in rounds.items()}
    yield from comparison(f"{name}: p99", "ms", figures, {}, gate=False)
    figures = {arm: [one.loop for one in found] for arm, found in rounds.items()}
    yield from comparison(f"{name}: loop CPU", "µs", figures, loop_goals, gate=False)
    figures = {arm: [one.cpu for one in found] for arm, found in rounds.items()}
    yield from comparison(f"{name}: total CPU", "µs", figures, goals, gate=False)


def _syncs(directory: Path) -> list[float]:
    """Return how many milliseconds single writes with fsync take."""
    data, spent = os.urandom(2 * KIB), []
    fd = os.open(directory / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(_SYNCS):
            start = time.perf_counter()
            os.write(fd, data)
            os.fsync(fd)
            spent.append((time.perf_counter() - start) * _MILLI)
    finally:
        os.close(fd)
    return spent


def _against_fsync(
    key: str, rounds: dict[str, list[_Round]], syncs: list[list[float]]
) -> Iterator[Row]:
    """Yield what `sync` adds at p99 against a bare write with fsync, of both depths."""
    gate = key == "echo"
    bare = rounds[BARE]
    for arm in (name_of(mode) for mode in OURS if mode.durability == "sync"):
        added = median(
            one.p99 - base.p99 for one, base in zip(rounds[arm], bare, strict=True)
        )
        name = f"a {key} under uvicorn: p99 added, {arm}: peer write+fsync"
        p99 = median(percentile(one, 0.99) for one in syncs)
        goal = ratio_at_most(10)
        yield compare(f"{name}, p99", added, "ms", p99, goal, gate=gate)
        p50 = median(percentile(one, 0.5) for one in syncs)
        yield compare(f"{name}, p50", added, "ms", p50, goal, gate=False)
