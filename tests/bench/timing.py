"""Measuring: rounds that take turns, medians, clocks of other processes."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

__all__ = [
    "Cost",
    "interleave",
    "measured",
    "median",
    "per_call",
    "percentile",
    "process_cost",
]

_T = TypeVar("_T")


class Cost(NamedTuple):
    """Time spent, in seconds."""

    wall: float
    cpu: float
    """All threads of the process."""
    main: float
    """The thread that measured, or a process's first one: the event loop."""

    def __sub__(self, other: "Cost") -> "Cost":
        """Return what was spent since `other`."""
        return Cost(*(one - two for one, two in zip(self, other, strict=True)))


def measured() -> Cost:
    """Read the clocks of this process and thread."""
    return Cost(time.perf_counter(), time.process_time(), time.thread_time())


def process_cost(pid: int) -> Cost:
    """Read the clocks of another process: Linux, whose threads have not ended."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    spent = {task.parent.name: int(task.read_text().split()[0]) for task in tasks}
    total, first = sum(spent.values()) / 1e9, spent[str(pid)] / 1e9
    return Cost(time.perf_counter(), total, first)


def interleave(
    contestants: Mapping[str, Callable[[], _T]], rounds: int
) -> dict[str, list[_T]]:
    """Run every contestant once a round, so that all meet the same machine."""
    results: dict[str, list[_T]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            results[name].append(run())
    return results


def median(values: Iterable[float]) -> float:
    """Return the middle of some values."""
    return statistics.median(values)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share (0 to 1) of all lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def per_call(run: Callable[[], object], seconds: float) -> float:
    """Return the median seconds of one call, from calls over about `seconds`."""
    spent: list[float] = []
    end = time.perf_counter() + seconds
    while not spent or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return median(spent)
