"""A log with one decision of a process that ended: for what is said of it later."""

from pathlib import Path
from typing import Any

from auditlog.log.description import Describer
from auditlog.log.emitter import Emitter
from auditlog.log.preparation import Preparation, plain_item
from auditlog.storage.journal import Journal
from tests.faults.logs import (
    DiskLog,
    MemoryLog,
    check_contents,
    directory_of,
    sequencer_of,
)
from tests.log.builders import ORIGIN, exchange

__all__ = ["DECISION", "check_decided", "prepare", "with_decision"]

ID = bytes(range(16))
DECISION = exchange(0)


def prepare(store: Any) -> None:
    """Leave the log empty: the decision, and its key, come with each copy."""


def with_decision(store: Any, directory: Path) -> Any:
    """Return a store with the decision in it, and its key in the directory."""
    log = directory_of(store, directory)
    emitter = Emitter(Journal.create(log.paths.journals, ID), ID)
    preparation = Preparation(Describer(ORIGIN, ID, depth=1), log.keys)
    number = emitter.issue(DECISION.id, DECISION.time)
    store.append([preparation.prepare(DECISION)])
    emitter.settle([number])
    # Or it would have fallen silent, once other tests have taken their time.
    store.append([plain_item(emitter.stop_entry(ORIGIN, DECISION.time))])
    emitter.close()
    return store


def check_decided(log: MemoryLog | DiskLog, store: Any, directory: Path) -> None:
    """Sequence what is there, and require all of it to hold."""
    sequencer_of(store).step()
    log.check(store, directory)
    check_contents(directory_of(store, directory))
