"""A real log with decisions in it, made through the runtime of a service."""

import os
from pathlib import Path

from auditlog.config import load_config
from auditlog.core.record import DECISION, format_id
from auditlog.log.description import Describer
from auditlog.log.directory import create_log, open_log
from auditlog.log.runtime import runtime_for
from auditlog.models.identity import Model
from auditlog.storage import Query, SpoolItem
from tests.log.builders import exchange

__all__ = ["ORIGIN", "decision_at", "fill_log", "record_unsigned"]

ORIGIN = "log.example/tests"
_MODELS = (Model("credit", "3"), Model("credit", "4"))


def fill_log(directory: Path, count: int = 6, **fields: object) -> list[str]:
    """Record `count` decisions in a log, and stop; return their ids, oldest first.

    Models are credit 3 and 4 in turn, routes /score, and /batch for every third;
    `fields` are those of `tests.log.builders.exchange`, for all.
    """
    options = {"dir": directory, "origin": ORIGIN, "checkpoint_interval": 0.05}
    config = load_config(options, env={})
    if not directory.exists():
        create_log(config).close()
    runtime = runtime_for(config)
    ids = []
    for number in range(count):
        done = exchange(
            0,
            model=_MODELS[number % 2],
            route="/batch" if number % 3 == 2 else "/score",
            outcome="error" if number == 0 else "completed",
            **fields,  # type: ignore[arg-type]
        )
        done.sequence = runtime.open(done.id, done.time)
        runtime.submit(done)
        ids.append(format_id(done.id))
    runtime.stop()
    return ids


def decision_at(directory: Path, number: int) -> int:
    """Return the index of decision `number`, from 0, of a log."""
    with open_log(directory, read_only=True) as log:
        rows = log.store.find(Query(type=DECISION, limit=1 << 20))
    index = rows[-1 - number].index
    assert index is not None
    return index


def record_unsigned(directory: Path) -> str:
    """Make one decision durable that no checkpoint covers yet; return its id."""
    with open_log(directory) as log:
        describer = Describer(log.origin, os.urandom(16), depth=1, models=())
        done = exchange(0)
        entry, row, _ = describer.describe(done)
        log.store.append([SpoolItem(entry, row)])
    return format_id(done.id)
