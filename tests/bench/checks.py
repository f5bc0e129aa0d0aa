"""Group d: how fast a whole log is checked, by one core."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.merkle import leaf_hash, root_hash
from auditlog.core.note import split_unverified_note
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.growth import Edge, grow
from tests.bench.context import Context
from tests.bench.growing import record
from tests.bench.prepared import make_log, sequencer_of
from tests.bench.report import Row, at_least, compare
from tests.bench.timing import interleave, median
from tests.log.builders import gap_items

__all__ = ["run"]

_GOAL = at_least(400_000)
_CHUNK = 4096


def run(context: Context) -> Iterator[Row]:
    """Measure the whole check, and the part of it that only hashes."""
    context.say("checks of whole logs")
    count = context.scale.decisions
    with context.directory() as directory:
        _entries(directory / "plain", 5 * count)
        record(directory / "sealed", count)
        with (
            open_log(directory / "plain", read_only=True) as plain,
            open_log(directory / "sealed", read_only=True) as sealed,
        ):
            contestants: dict[str, Callable[[], float]] = {
                "full, entries without content": lambda: _rate(plain, _check),
                "full, sealed decisions": lambda: _rate(sealed, _check),
                "tree only: read, hash, root": lambda: _rate(plain, _hash_again),
                "in memory: hash, root": lambda: _in_memory(plain),
            }
            found = interleave(contestants, max(2, context.scale.rounds // 2))
    rates = {name: median(values) for name, values in found.items()}
    *ours, memory = rates
    for name in ours:
        gate = name != "full, sealed decisions"
        title, peer = f"d check {name}, peer {memory}", rates[memory]
        yield compare(title, rates[name], "leaves/s", peer, _GOAL, gate=gate)


def _entries(directory: Path, count: int) -> None:
    """Make a log of small entries without content, under a few checkpoints."""
    with make_log(directory) as log:
        sequencer, items = sequencer_of(log), gap_items(count)
        for at in range(0, count, _CHUNK):
            log.store.append(items[at : at + _CHUNK])
            sequencer.step()


def _rate(log: LogDirectory, check: Callable[[LogDirectory], None]) -> float:
    start = time.process_time()
    check(log)
    return log.store.size() / (time.process_time() - start)


def _check(log: LogDirectory) -> None:
    report = check_log(log)
    assert not report.problems, report.problems[:3]


def _hash_again(log: LogDirectory) -> None:
    """Recompute every tile from the entries, and the root that was signed."""
    size, edge, root = 0, (), b""
    newest = log.store.newest()
    assert newest is not None
    grown: Edge = edge
    while size < newest[0]:
        end = min(size + _CHUNK, newest[0])
        leaves = [leaf_hash(entry) for entry in log.store.read(size, end)]
        growth = grow(size, grown, leaves)
        size, grown, root = end, growth.edge, growth.root
    assert root == parse_checkpoint(split_unverified_note(newest[1])[0]).root


def _in_memory(log: LogDirectory) -> float:
    """Hash entries that are in memory: what is left of a check without a log."""
    entries = log.store.read(0, log.store.size())
    start = time.process_time()
    root_hash([leaf_hash(entry) for entry in entries])
    return len(entries) / (time.process_time() - start)
