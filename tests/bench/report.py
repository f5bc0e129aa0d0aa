"""Rows of the benchmark: goals, table, JSON."""

import json
import os
import platform
import sqlite3
import ssl
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = [
    "Goal",
    "Row",
    "at_least",
    "at_most",
    "compare",
    "machine",
    "missing",
    "ratio_at_least",
    "ratio_at_most",
    "show",
    "write_json",
]


class Goal(NamedTuple):
    """What a figure, or its ratio to a peer's, has to be."""

    of: Literal["ours", "ratio"]
    sign: Literal["<=", ">="]
    limit: float

    def __str__(self) -> str:
        """Return the goal as it stands in the table."""
        return f"{'ratio ' if self.of == 'ratio' else ''}{self.sign} {self.limit:g}"

    def is_met(self, value: float) -> bool:
        """Return whether a figure meets it."""
        return value <= self.limit if self.sign == "<=" else value >= self.limit


def at_most(limit: float) -> Goal:
    """Return the goal that our figure is no larger."""
    return Goal("ours", "<=", limit)


def at_least(limit: float) -> Goal:
    """Return the goal that our figure is no smaller."""
    return Goal("ours", ">=", limit)


def ratio_at_most(limit: float) -> Goal:
    """Return the goal that ours divided by the peer's is no larger."""
    return Goal("ratio", "<=", limit)


def ratio_at_least(limit: float) -> Goal:
    """Return the goal that ours divided by the peer's is no smaller."""
    return Goal("ratio", ">=", limit)


class Row(NamedTuple):
    """One line of the table, and one object of ``bench.json``."""

    name: str
    ours: float | None
    peer: float | str | None
    """The peer's figure, or why there is none."""
    unit: str
    ratio: float | None
    """Ours divided by the peer's."""
    target: str | None
    gate: Literal["goal", "info", "skipped"]
    ok: bool | None
    """Whether the target is met; None where there is none, or it was skipped."""


def compare(
    name: str,
    ours: float,
    unit: str,
    peer: float | None = None,
    goal: Goal | None = None,
    *,
    gate: bool = True,
) -> Row:
    """Return the row of a measured figure.

    Args:
        name: what was measured.
        ours: our figure.
        unit: of both figures.
        peer: the other figure of the same run.
        goal: what has to hold.
        gate: whether the goal is one of the product's; else it only informs.
    """
    # Noise can bring an added cost to nothing, of which no ratio can be taken.
    ratio = ours / peer if peer is not None and peer > 0 else None
    kind: Literal["goal", "info"] = "goal" if goal is not None and gate else "info"
    target = None if goal is None else str(goal)
    if goal is None:
        return Row(name, ours, peer, unit, ratio, target, kind, None)
    value = ours if goal.of == "ours" else ratio
    return Row(
        name,
        ours,
        peer,
        unit,
        ratio,
        target,
        kind,
        value is not None and goal.is_met(value),
    )


def missing(
    name: str, ours: float | None, unit: str, why: str, goal: Goal | None = None
) -> Row:
    """Return the row of a comparison that could not be made."""
    target = None if goal is None else str(goal)
    return Row(name, ours, why, unit, None, target, "skipped", None)


def show(rows: Iterable[Row]) -> str:
    """Return rows as a table."""
    width = max((len(row.name) for row in rows), default=0)
    head = f"{'':{width}}  {'ours':>10} {'peer':>10} {'unit':9} {'ratio':>7}  goal"
    return "\n".join([head, *(_line(row, width) for row in rows)])


def _line(row: Row, width: int) -> str:
    peer = row.peer if isinstance(row.peer, str) else _number(row.peer)
    ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
    verdict = {None: "", True: "ok", False: "MISSED"}[row.ok]
    if row.ok is False and row.gate == "info":
        verdict = "missed (no gate)"
    if row.gate == "skipped":
        verdict = "skipped"
    target = row.target or ""
    line = f"{row.name:{width}}  {_number(row.ours):>10} {peer:>10} {row.unit:9}"
    return f"{line} {ratio:>7}  {target:15} {verdict}".rstrip()


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """Write ``bench.json``."""
    data = [row._asdict() for row in rows]
    path.write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def machine() -> str:
    """Return one line about what the figures were measured on."""
    cores = len(os.sched_getaffinity(0))
    loads = "/".join(f"{load:.1f}" for load in os.getloadavg())
    return (
        f"{_processor()}, {cores} cores, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"{ssl.OPENSSL_VERSION}, load before {loads}, {sys.platform}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()
