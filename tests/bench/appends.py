"""Group b: how many decisions, or prepared entries, become part of the log a second.

A decision counts when it is sealed, durable, and under a signed checkpoint; it has
1 KiB of JSON each way. Figures of Tessera and immudb are those of DESIGN §9, measured
elsewhere; they are constants here.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from auditlog.capture.exchange import Exchange
from auditlog.config import Config
from auditlog.log.directory import create_log, open_log
from auditlog.log.runtime import Runtime
from auditlog.storage import SpoolItem
from auditlog.storage.sqlite import SqliteStore
from tests.bench.arms import wait_until_included
from tests.bench.context import Context
from tests.bench.floor import Ready, bare_floor, batches_of, make_ready
from tests.bench.peers import NOT_INSTALLED, has, load
from tests.bench.prepared import append_by_callers, make_log, sequencer_of
from tests.bench.report import (
    Row,
    compare,
    missing,
    ratio_at_least,
    ratio_at_most,
)
from tests.bench.timing import Cost, measured, median
from tests.bench.workload import KIB, entry_items, exchanges

__all__ = ["run"]

_DEPTHS = (1, 0)
_TESSERA = {512: 44_000.0, 64: 2_500.0}
_IMMUDB_ONE, _IMMUDB_BATCH = 2_000.0, 60_000.0
_BATCH = 1000
_FSYNC = "write+fsync, one by one"
_PYMERKLE_ONE = "pymerkle SQLite, one by one"
_PYMERKLE_MANY = "pymerkle SQLite, batches of 1,000"
_MICRO = 1e6


class _Round(NamedTuple):
    """Costs of one decision in one round."""

    ours: Cost
    floor: Cost


def run(context: Context) -> Iterator[Row]:
    """Measure decisions, then prepared entries."""
    singles: dict[str, list[float]] = {name: [] for name in _SINGLES}
    context.say("decisions into the log")
    yield from _decisions(context, singles)
    context.say("prepared entries into the log")
    yield from _prepared(context, singles)


def _decisions(context: Context, singles: dict[str, list[float]]) -> Iterator[Row]:
    rounds: dict[int, list[_Round]] = {depth: [] for depth in _DEPTHS}
    for _ in range(max(2, context.scale.rounds // 2)):
        for depth in _DEPTHS:
            rounds[depth].append(_round(context, depth))
        for name, measure in _SINGLES.items():
            if name.startswith("pymerkle") and not has("pymerkle"):
                continue
            with context.directory() as directory:
                singles[name].append(measure(directory, context.scale.decisions))
    for depth in _DEPTHS:
        yield from _against_floor(depth, rounds[depth])
    ours = median(1 / one.ours.wall for one in rounds[1])
    yield from _against_singles(ours, singles)
    yield from _against_pymerkle("decision, depth 1", ours, singles, gate=False)


def _round(context: Context, depth: int) -> _Round:
    count = context.scale.decisions
    with context.directory() as directory:
        log, made = directory / "log", exchanges(count)
        ours = _ours(log, made, depth)
        ready, every = _read_back(log, made, depth)
        batches = batches_of(log / "log.sqlite3")
        with open_log(log, read_only=True) as opened:
            signers = opened.signers
        start = measured()
        bare_floor(directory / "floor.sqlite3", ready, batches, signers, every)
        floor = measured() - start
    return _Round(_each(ours, count), _each(floor, count))


def _each(cost: Cost, count: int) -> Cost:
    return Cost(*(value / count for value in cost))


def _ours(directory: Path, made: Sequence[Exchange], depth: int) -> Cost:
    """Submit everything at once and wait until it is under a checkpoint."""
    config = Config(
        dir=directory,
        origin="log.example/bench",
        depth=depth,
        # So that the last decisions do not wait long for company.
        checkpoint_interval=0.2,
    )
    create_log(config).close()
    runtime = Runtime(config)
    path = directory / "log.sqlite3"
    with closing(SqliteStore(path, read_only=True)) as store:
        start = measured()
        for one in made:
            one.sequence = runtime.open(one.id, one.time)
            runtime.submit(one)
        assert runtime.flush(60), "decisions did not reach the disk"
        wait_until_included(store, poll=0.01)
        spent = measured() - start
    runtime.stop()
    return spent


def _read_back(
    directory: Path, made: Sequence[Exchange], depth: int
) -> tuple[list[Ready], int]:
    """Return what the floor is to do, and how many decisions a checkpoint had."""
    by_number = {one.sequence: one for one in made}
    ready = []
    with open_log(directory, read_only=True) as log:
        size, checkpoints = log.store.size(), log.store.sizes(0, 1 << 20)
        entries = log.store.read(0, size)
        vault = {index: rest for index, *rest in log.store.vault_rows(0, size)}
        for row in log.store.index_rows(0, size):
            if row.index is None or row.sequence is None:
                continue
            item = SpoolItem(entries[row.index], row, vault[row.index][0])
            ready.append(make_ready(by_number[row.sequence], item, depth))
    assert len(ready) == len(made), "decisions are missing from the log"
    return ready, size // len(checkpoints)


def _against_floor(depth: int, rounds: Sequence[_Round]) -> Iterator[Row]:
    name = f"b decision, depth {depth}: {{}}, peer bare floor"
    ours = median(one.ours.cpu for one in rounds) * _MICRO
    floor = median(one.floor.cpu for one in rounds) * _MICRO
    yield compare(name.format("CPU"), ours, "µs", floor, ratio_at_most(1.5))
    ours = median(1 / one.ours.wall for one in rounds)
    floor = median(1 / one.floor.wall for one in rounds)
    goal = ratio_at_least(1 / 1.5)
    yield compare(name.format("rate"), ours, "1/s", floor, goal, gate=False)


def _write_and_fsync(directory: Path, count: int) -> float:
    """Return how many decisions a second are written and synced, one by one."""
    data, count = os.urandom(2 * KIB), count // 10
    fd = os.open(directory / "plain", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        start = time.perf_counter()
        for _ in range(count):
            os.write(fd, data)
            os.fsync(fd)
        return count / (time.perf_counter() - start)
    finally:
        os.close(fd)


def _pymerkle_one_by_one(directory: Path, count: int) -> float:
    count = count // 20
    with _pymerkle(directory) as tree:
        start = time.perf_counter()
        for _ in range(count):
            tree.append_entry(os.urandom(KIB))
        return count / (time.perf_counter() - start)


def _pymerkle_batches(directory: Path, count: int) -> float:
    data = [os.urandom(KIB) for _ in range(count)]
    with _pymerkle(directory) as tree:
        start = time.perf_counter()
        for at in range(0, count, _BATCH):
            tree.append_entries(data[at : at + _BATCH])
        tree.get_root()
        return count / (time.perf_counter() - start)


def _pymerkle(directory: Path) -> Any:
    return load("pymerkle").SqliteTree(str(directory / "pymerkle.sqlite3"))


_Measure = Callable[[Path, int], float]
_SINGLES: dict[str, _Measure] = {
    _FSYNC: _write_and_fsync,
    _PYMERKLE_ONE: _pymerkle_one_by_one,
    _PYMERKLE_MANY: _pymerkle_batches,
}


def _against_singles(ours: float, singles: dict[str, list[float]]) -> Iterator[Row]:
    name = "b decision, depth 1: rate, peer {}"
    rate = median(singles[_FSYNC])
    yield compare(name.format(_FSYNC), ours, "1/s", rate)
    title = name.format("aics-tlog (not measured)")
    yield missing(title, ours, "1/s", "Py >= 3.12")


def _against_pymerkle(
    what: str, ours: float, singles: dict[str, list[float]], *, gate: bool
) -> Iterator[Row]:
    """Compare with entries that somebody else prepared, which is all pymerkle takes."""
    for name, goal in ((_PYMERKLE_ONE, ratio_at_least(10)), (_PYMERKLE_MANY, None)):
        title = f"b {what}: rate, peer {name}"
        if has("pymerkle"):
            rate = median(singles[name])
            yield compare(title, ours, "1/s", rate, goal, gate=gate)
        else:
            yield missing(title, ours, "1/s", NOT_INSTALLED, goal)


def _prepared(context: Context, singles: dict[str, list[float]]) -> Iterator[Row]:
    count = context.scale.decisions
    rates: dict[str, list[float]] = {}
    for _ in range(max(2, context.scale.rounds // 2)):
        for callers in _TESSERA:
            with context.directory() as directory, make_log(directory) as log:
                items = entry_items(count)
                cost = append_by_callers(log, items, callers)
                rates.setdefault(f"{callers} callers", []).append(count / cost.wall)
        rates.setdefault("one by one", []).append(_batches(context, count // 10, 1))
        rates.setdefault("batches", []).append(_batches(context, count, _BATCH))
    for callers, tessera in _TESSERA.items():
        rate = median(rates[f"{callers} callers"])
        name = f"b 1 KiB entry, {callers} callers, in the tree: rate, peer Tessera*"
        yield compare(name, rate, "1/s", tessera, ratio_at_least(1))
    most = median(rates["512 callers"])
    what = "1 KiB entry, 512 callers, in the tree"
    yield from _against_pymerkle(what, most, singles, gate=True)
    name = "b 1 KiB entry, {}: rate, peer immudb*"
    rate = median(rates["one by one"])
    yield compare(name.format("one by one, durable"), rate, "1/s", _IMMUDB_ONE)
    rate = median(rates["batches"])
    title = name.format("batches of 1,000, in the tree")
    yield compare(title, rate, "1/s", _IMMUDB_BATCH)


def _batches(context: Context, count: int, size: int) -> float:
    """Return how many entries a second one caller appends in batches."""
    items = entry_items(count)
    with context.directory() as directory, make_log(directory) as log:
        sequencer = sequencer_of(log)
        start = time.perf_counter()
        for at in range(0, count, size):
            log.store.append(items[at : at + size])
            if size > 1:
                sequencer.step()
        return count / (time.perf_counter() - start)
