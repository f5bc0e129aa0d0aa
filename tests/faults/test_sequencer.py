"""Each call of the sequencer is lost, or done and not answered, or the last one.

The log has 250 entries under a checkpoint and 300 that wait, so that a step fills a
tile, prunes what it replaces, and publishes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.errors import ConflictError, StorageError
from auditlog.log.sequencer import Sequencer
from tests.fakes import MemoryStore
from tests.faults.logs import ITEMS, DiskLog, MemoryLog, sequencer_of
from tests.faults.stores import CHANGES, FATES, Fate, FaultyStore, acknowledged_by, rows

FIRST, WAITING = 250, 300


def _prepare(store: Any) -> None:
    store.append(ITEMS[:FIRST])
    sequencer_of(store).step()
    store.append(ITEMS[FIRST : FIRST + WAITING])


def _calls() -> list[str]:
    store = MemoryStore()
    _prepare(store)
    counted = FaultyStore(store)
    sequencer_of(counted).step()
    return counted.calls


CALLS = _calls()


def _each(*fates: Fate) -> pytest.MarkDecorator:
    found = rows(CALLS, *fates)
    names = [f"{number}-{CALLS[number]}-{fate}" for number, fate in found]
    return pytest.mark.parametrize(("number", "fate"), found, ids=names)


@pytest.fixture(scope="module", params=["memory", "disk"])
def log(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MemoryLog | DiskLog:
    if request.param == "memory":
        return MemoryLog(_prepare)
    return DiskLog(_prepare, tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> DiskLog:
    return DiskLog(_prepare, tmp_path_factory.mktemp("log"))


def _fail(store: FaultyStore) -> tuple[Sequencer | None, str]:
    """Step once; return the sequencer, if it came to be, and why it failed."""
    sequencer = None
    try:
        sequencer = sequencer_of(store)
        sequencer.step()
    except StorageError as error:
        return sequencer, str(error)
    return sequencer, "did not fail"


def _step_as_the_leader(store: Any, sequencer: Sequencer | None) -> int:
    """Step until it works, looking afresh where somebody else seems to be at work."""
    try:
        return (sequencer or sequencer_of(store)).step()
    except ConflictError:
        return sequencer_of(store).step()


def test_a_step_makes_every_kind_of_change() -> None:
    assert set(CALLS) & CHANGES == {"put", "swap_head", "prune", "publish"}
    assert len(CALLS) > 20


@pytest.mark.parametrize("reload", [False, True], ids=["retry", "reload"])
@_each("lost", "persisted")
def test_a_call_that_fails(
    log: MemoryLog | DiskLog, tmp_path: Path, number: int, fate: Fate, *, reload: bool
) -> None:
    store = log.copy(tmp_path)
    faulty = FaultyStore(store, {number: fate})
    sequencer, said = _fail(faulty)
    assert said.startswith(f"{CALLS[number]} failed as ordered")
    assert faulty.calls == CALLS[: number + 1]
    before = log.check(store, tmp_path).checkpoints
    retried = _step_as_the_leader(faulty, None if reload else sequencer)
    assert retried == FIRST + WAITING
    after = log.check(store, tmp_path)
    assert after.checkpoints[: len(before)] == before
    _ends_well(log.check, store, tmp_path)


@_each("killed before", "killed after")
def test_a_call_that_is_the_last(
    disk: DiskLog, tmp_path: Path, number: int, fate: Fate
) -> None:
    disk.copy(tmp_path).close()

    def work(say: Callable[[str], None]) -> None:
        with disk.reopened(tmp_path) as store:
            sequencer_of(FaultyStore(store, {number: fate})).step()
            say("survived")

    assert acknowledged_by(work) == []
    before = disk.check(None, tmp_path).checkpoints
    with disk.reopened(tmp_path) as store:
        assert sequencer_of(store).step() == FIRST + WAITING
        assert disk.check(None, tmp_path).checkpoints[: len(before)] == before
        _ends_well(disk.check, store, tmp_path)


def _ends_well(check: Callable[[Any, Path], Any], store: Any, directory: Path) -> None:
    store.append(ITEMS[FIRST + WAITING : FIRST + WAITING + 1])
    assert sequencer_of(store).step() == FIRST + WAITING + 1
    assert check(store, directory).checkpoints[-1][0] == FIRST + WAITING + 1


def test_every_fate_is_met_by_every_change() -> None:
    for name in CHANGES & set(CALLS):
        met = {fate for number, fate in rows(CALLS, *FATES) if CALLS[number] == name}
        assert met == set(FATES)
