"""What every group is given: how much to measure, where, and with whom."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

__all__ = ["LONG", "NORMAL", "QUICK", "Context", "Scale"]


class Scale(NamedTuple):
    """How much is measured."""

    rounds: int
    """Rounds in which contestants take turns."""
    requests: int
    """Requests of one round through one middleware."""
    load_seconds: float
    """Seconds of one round of load on one server."""
    decisions: int
    """Decisions of one round of appending."""
    sizes: tuple[int, ...]
    """Entries in the logs that are grown, ascending."""
    starts: int
    """Starts of each program."""


QUICK = Scale(2, 300, 0.4, 1500, (1000, 10_000), 5)
NORMAL = Scale(7, 800, 1.0, 4000, (10_000, 100_000), 15)
LONG = Scale(9, 2000, 2.0, 8000, (10_000, 100_000, 1_000_000), 25)


class Context(NamedTuple):
    """One run of the benchmark."""

    scale: Scale
    peers: Path
    """Directory in which peers may be installed."""
    scratch: Path
    """An empty directory, on the disk that is measured."""
    say: Callable[[str], None]
    """Tells a person what is going on."""

    @contextmanager
    def directory(self) -> Iterator[Path]:
        """Lend a directory, which is removed afterwards."""
        path = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)
