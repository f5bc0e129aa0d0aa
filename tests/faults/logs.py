"""Logs to break: in memory and on disk, and the oracle over either."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from auditlog.core.note import ED25519, ML_DSA_44, make_signer
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, Paths
from auditlog.log.sequencer import Sequencer
from auditlog.storage.keyring import Keyring
from auditlog.storage.keys import Keys
from auditlog.storage.sqlite import SqliteStore
from tests.fakes import MemoryStore
from tests.harness import Log, check_memory_log, check_whole_log
from tests.log.builders import ORIGIN, gap_items

__all__ = [
    "ITEMS",
    "SIGNERS",
    "VERIFIERS",
    "DiskLog",
    "MemoryLog",
    "check_contents",
    "directory_of",
    "in_the_log",
    "sequencer_of",
]

SIGNERS = tuple(
    make_signer(ORIGIN, kind, bytes([64 + kind]) * 32) for kind in (ED25519, ML_DSA_44)
)
VERIFIERS = tuple(signer.verifier for signer in SIGNERS)
KEK = bytes(range(32))

ITEMS = gap_items(560)
"""Entries without content, made once."""


def sequencer_of(store: Any) -> Sequencer:
    """Return a sequencer of the log, which verifies what was published."""
    return Sequencer(store, ORIGIN, SIGNERS)


class MemoryLog:
    """A log in memory; it does not survive its process."""

    def __init__(self, prepare: Callable[[Any], None]) -> None:
        self._first = MemoryStore(ORIGIN)
        prepare(self._first)

    def copy(self, _: Path) -> MemoryStore:
        """Return the prepared store as if nobody had touched it."""
        return self._first.copy()

    @staticmethod
    def check(store: Any, _: Path) -> Log:
        """Run the oracle."""
        return check_memory_log(store, VERIFIERS)


class DiskLog:
    """A log in a file, opened anew by everybody who uses it."""

    def __init__(self, prepare: Callable[[Any], None], directory: Path) -> None:
        self._directory = directory
        vkeys = "".join(f"{one.vkey}\n" for one in VERIFIERS)
        (directory / "vkeys").write_text(vkeys)
        with SqliteStore.create(directory / "log.sqlite3", ORIGIN) as store:
            prepare(store)

    def copy(self, directory: Path) -> SqliteStore:
        """Copy the prepared log to `directory`, and open it."""
        shutil.copytree(self._directory, directory, dirs_exist_ok=True)
        return self.reopened(directory)

    @staticmethod
    def reopened(directory: Path) -> SqliteStore:
        """Open the log in `directory`."""
        return SqliteStore(directory / "log.sqlite3")

    @staticmethod
    def check(_: Any, directory: Path) -> Log:
        """Run the oracle."""
        return check_whole_log(directory)


def in_the_log(log: Log, ids: Sequence[str]) -> list[int]:
    """Return how often each id stands in a log."""
    found = [str(one["id"]) for one in log.decisions]
    return [found.count(id_) for id_ in ids]


def directory_of(store: Any, path: Path) -> LogDirectory:
    """Return what the parts of the product take for an opened log, over any store."""
    paths = Paths(path)
    paths.keyring.parent.mkdir(exist_ok=True)
    keys = Keys(Keyring(paths.keyring, KEK), store)
    vkeys = [one.vkey for one in VERIFIERS]
    paths.vkeys.write_text("".join(f"{vkey}\n" for vkey in vkeys))
    if not paths.policy.exists():
        lines = [*(f"log {vkey}" for vkey in vkeys), "quorum none"]
        paths.policy.write_text("".join(f"{line}\n" for line in lines))
    return LogDirectory(paths, ORIGIN, SIGNERS, store, keys, paths.policy)


def check_contents(log: LogDirectory) -> None:
    """Run the product's own check, which also opens what is sealed."""
    report = check_log(log)
    # The runtime writes starts, and it has no part in these tests.
    problems = [one for one in report.problems if one.what != "it has no start"]
    assert not problems, problems
    assert not report.unchecked, report.unchecked
