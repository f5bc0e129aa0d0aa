"""Group e: what a decision costs as the log grows: bytes, memory, time of an append.

A process of its own grows a log and says after each batch what the append cost and how
much memory it holds. The model fitted to the costs is a + b log10(n).
"""

import json
import math
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.context import Context
from tests.bench.growing import grow_to, make_pattern
from tests.bench.prepared import make_log
from tests.bench.report import Row, compare, ratio_at_most
from tests.bench.timing import median

__all__ = ["run"]

_ROOT = Path(__file__).parents[2]
_FAR = 10_000_000
_MICRO, _MIB = 1e6, 1 << 20
_FLAT = ratio_at_most(1.25)


def run(context: Context) -> Iterator[Row]:
    """Grow a log and say what it cost."""
    context.say("a log that grows")
    sizes = context.scale.sizes
    with context.directory() as directory:
        batches = _grown(directory, sizes)
        size = batches[-1]["size"]
        stored = sum(p.stat().st_size for p in (directory / "log").rglob("*.sqlite3"))
    yield compare("e bytes of a decision, 1 KiB each way", stored / size, "bytes")
    yield compare(f"e log of {_FAR:,}, extrapolated", stored / size * _FAR / 1e9, "GB")
    small, large = sizes[0], sizes[-1]
    at = {mark: _near(batches, mark) for mark in sizes}
    for mark in sizes:
        name = f"e append at {mark:,}: CPU, peer at {small:,}"
        cpu = median(one["cpu"] for one in at[mark])
        base = median(one["cpu"] for one in at[small])
        goal = None if mark == small else _FLAT
        yield compare(name, cpu * _MICRO, "µs", base * _MICRO, goal)
    yield from _fitted([one for one in batches if one["size"] >= small / 2], small)
    name = f"e memory at {large:,}, peer at {small:,}"
    memory = [median(one["rss"] for one in at[mark]) / _MIB for mark in (large, small)]
    yield compare(name, memory[0], "MiB", memory[1], _FLAT)


def _near(batches: Sequence[dict[str, Any]], mark: int) -> list[dict[str, Any]]:
    """Return the batches just before a size was reached."""
    return [one for one in batches if 0.7 * mark < one["size"] <= mark]


def _fitted(batches: Sequence[dict[str, Any]], small: int) -> Iterator[Row]:
    """Yield the model of the cost, by least squares, at ten million."""
    points = [(math.log10(one["size"]), one["cpu"] * _MICRO) for one in batches]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    base = mean_y - slope * mean_x
    name = f"e append at {_FAR:,}: CPU, by {base:.1f} + {slope:.2f} log10 n"
    near = base + slope * math.log10(small)
    far = base + slope * math.log10(_FAR)
    yield compare(name, far, "µs", near, _FLAT)


def _grown(directory: Path, sizes: Sequence[int]) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.bench.sizes", str(directory)]
    command += [str(size) for size in sizes]
    done = subprocess.run(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=True
    )
    batches: list[dict[str, Any]] = json.loads(done.stdout)
    return batches


def _grow(directory: Path, sizes: Sequence[int]) -> list[dict[str, Any]]:
    pattern, batches = make_pattern(directory / "pattern"), []
    with make_log(directory / "log") as log:
        for size, cost in grow_to(log, pattern, sizes, content=True):
            batches.append({"size": size, "cpu": cost.cpu, "rss": _resident()})
    return batches


def _resident() -> int:
    """Return the bytes of memory that this process holds."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    json.dump(_grow(Path(sys.argv[1]), [int(arg) for arg in sys.argv[2:]]), sys.stdout)
