"""Histories that an anchor keeps: each call to the store or the anchor fails, or is the
last one.

Whoever comes next must arrive where nobody failed: each tree told once, by the very
ticket that is stored, every row told of, everything kept in the end.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.errors import StorageError
from auditlog.log.anchoring import Anchoring
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory
from tests.anchoring import KINDS, World, check_attestations, write_anchors
from tests.faults.logs import ITEMS, DiskLog, MemoryLog, directory_of, sequencer_of
from tests.faults.stores import FATES, Fate, FaultyStore, acknowledged_by, rows
from tests.log.builders import config_of

HISTORY = "a1+history"
START = 1_800_000_000.0


def _prepare(store: Any) -> None:
    store.append(ITEMS[:5])
    sequencer_of(store).step()


def _anchoring(log: LogDirectory, now: float) -> Anchoring:
    return Anchoring(log, config_of(log.paths.directory), lambda: now, kinds=KINDS)


def _work(log: LogDirectory) -> None:
    """Have a tree told until it is kept, and another one."""
    for number in range(2):
        _anchoring(log, START + 1000 * number).round("now")
    log.store.append(ITEMS[5:6])
    sequencer_of(log.store).step()
    _anchoring(log, START + 5000).round("now")


def _finish(log: LogDirectory) -> None:
    for number in range(3):
        _anchoring(log, START + 10_000 + 1000 * number).round("now")
    sequencer_of(log.store).step()


def _expect_all(log: LogDirectory, directory: Path, *, disk: bool) -> None:
    told = World(directory / "world").told("told")
    tickets = {one["size"]: one["ticket"] for one in told}
    assert len(tickets) == len(told) > 0, "a tree was told twice"
    kept = log.store.attestations_by(HISTORY, state="kept")
    stored = {row.size: json.loads(row.evidence)["time"] for row in kept}
    assert stored.items() >= tickets.items(), "what was told was not stored before"
    assert log.store.attestations_by(HISTORY, state="pending") == []
    if disk:
        check_attestations(log)
        assert check_log(log).problems == ()


def _begin(directory: Path, *fates: str) -> None:
    write_anchors(directory, {"keeps": True, "fates": list(fates)})
    World(directory / "world")


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The calls to the store while nobody fails."""
    directory = tmp_path_factory.mktemp("calls")
    log = MemoryLog(_prepare)
    counted = FaultyStore(log.copy(directory))
    _begin(directory)
    _work(directory_of(counted, directory))
    assert [one["size"] for one in World(directory / "world").told("told")] == [5, 9]
    return list(counted.calls)


def _changes(calls: list[str], *fates: Fate) -> list[tuple[int, Fate]]:
    changes = {"put_attestation", "append"}
    return [one for one in rows(calls, *fates) if calls[one[0]] in changes]


def test_a_write_that_fails(tmp_path: Path, calls: list[str]) -> None:
    log = MemoryLog(_prepare)
    for number, fate in _changes(calls, "lost", "persisted"):
        directory = tmp_path / f"{number}-{fate}"
        directory.mkdir()
        store = log.copy(directory)
        _begin(directory)
        with suppress(StorageError):
            _work(directory_of(FaultyStore(store, {number: fate}), directory))
        healthy = directory_of(store, directory)
        _finish(healthy)
        _expect_all(healthy, directory, disk=False)
        log.check(store, directory)


def test_a_write_that_is_the_last(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, calls: list[str]
) -> None:
    log = DiskLog(_prepare, tmp_path_factory.mktemp("log"))
    for number, fate in _changes(calls, "killed before", "killed after"):
        directory = tmp_path / f"{number}-{fate}"
        with log.copy(directory) as store:
            _begin(directory)
            _expect_death(log, directory, {number: fate})
            _after_death(log, store, directory)


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("call", ["tell", "keep"])
def test_a_question_that_is_the_last(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, call: str, fate: Fate
) -> None:
    """The anchor may have prepared it, or told it, or not."""
    log = DiskLog(_prepare, tmp_path_factory.mktemp("log"))
    ends = {"persisted": "lost", "lost": "unreachable"}.get(fate, fate)
    with log.copy(tmp_path) as store:
        _begin(tmp_path, f"{call} {ends}")
        if "killed" in fate:
            _expect_death(log, tmp_path, {})
        else:
            _anchoring(directory_of(store, tmp_path), START).round("now")
        _begin(tmp_path)
        _after_death(log, store, tmp_path)


def _expect_death(log: DiskLog, directory: Path, fates: dict[int, Fate]) -> None:
    def work(say: Callable[[str], None]) -> None:
        with log.reopened(directory) as store:
            _work(directory_of(FaultyStore(store, fates), directory))
        say("survived")

    assert acknowledged_by(work) == []


def _after_death(log: DiskLog, store: Any, directory: Path) -> None:
    healthy = directory_of(store, directory)
    _finish(healthy)
    _expect_all(healthy, directory, disk=True)
    log.check(store, directory)
