"""Each call of a recovery fails or is the last one; the next one finishes it.

Two processes died. One left five numbers, two of which are in the log; the other left
two, the first of which was never journalled.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.errors import StorageError
from auditlog.log.description import Describer
from auditlog.log.directory import LogDirectory
from auditlog.log.emitter import Emitter
from auditlog.log.preparation import Preparation
from auditlog.log.recovery import recover
from auditlog.storage.acceptance import AcceptanceFile
from auditlog.storage.journal import Journal
from tests.fakes import MemoryStore
from tests.faults.logs import (
    ITEMS,
    DiskLog,
    MemoryLog,
    check_contents,
    directory_of,
    sequencer_of,
)
from tests.faults.stores import (
    Fate,
    FaultyStore,
    acknowledged_by,
    no_more_files_open,
    rows,
)
from tests.harness import Log
from tests.log.builders import ORIGIN, exchange, now_us

ONE, TWO = bytes(range(16)), bytes(range(100, 116))
DECISIONS = 6
"""Two that are logged, one that is only accepted, two more of the same process, and one
of the other."""
REASONS = ["unclean-stop", "unclean-stop", "unjournalled"]


def _prepare(store: Any) -> None:
    store.append(ITEMS[:10])


@pytest.fixture(scope="module", params=["memory", "disk"])
def log(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MemoryLog | DiskLog:
    if request.param == "memory":
        return MemoryLog(_prepare)
    return DiskLog(_prepare, tmp_path_factory.mktemp("log"))


def _leave_two_dead(log: LogDirectory) -> None:
    one, two = (
        Emitter(Journal.create(log.paths.journals, id_), id_) for id_ in (ONE, TWO)
    )
    preparation = Preparation(Describer(ORIGIN, ONE, depth=0), log.keys)
    acceptance = AcceptanceFile.create(log.paths.journals, ONE)
    for number in range(5):
        decision = exchange(number)
        one.put_on_record(one.issue(decision.id, decision.time), decision.id, 1)
        if number in {0, 2}:
            log.store.append([preparation.prepare(decision)])
        if number in {2, 3}:
            assert acceptance.append([preparation.prepare(decision)])
    two.issue(exchange(0).id, now_us())
    two.put_on_record(two.issue(exchange(1).id, now_us()), exchange(1).id, now_us())
    acceptance.close(clean=False)
    one.close(clean=False)
    two.close(clean=False)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("calls")
    store = MemoryStore(ORIGIN)
    _prepare(store)
    _leave_two_dead(directory_of(store, directory))
    counted = FaultyStore(store)
    assert recover(directory_of(counted, directory), now_us()) == 2
    return counted.calls


def _expect_all_admitted_once(found: Log) -> None:
    assert len(found.decisions) == DECISIONS
    outcomes = [one["data"]["outcome"] for one in found.decisions]
    assert sorted(outcomes) == ["completed"] * 3 + ["interrupted"] * 3
    assert len(found.entries) == 10 + DECISIONS + len(REASONS)
    for reason in REASONS:
        text = f'"reason":"{reason}"'.encode()
        found_it = [entry for entry in found.entries if text in entry]
        assert len(found_it) == REASONS.count(reason)


def test_a_recovery_looks_before_it_appends(calls: list[str]) -> None:
    assert calls == [
        *("find", *["read"] * calls.count("read")),
        *("by_id", "by_id", "append"),
        *("sequences", *["by_id"] * 3, "append"),
        *("sequences", *["by_id"] * 3, "append"),
    ]


def test_a_call_that_fails(
    log: MemoryLog | DiskLog, tmp_path: Path, calls: list[str]
) -> None:
    for number, fate in rows(calls, "lost", "persisted"):
        directory = tmp_path / f"{number}-{fate}"
        directory.mkdir()
        store = log.copy(directory)
        _leave_two_dead(directory_of(store, directory))
        faulty = directory_of(FaultyStore(store, {number: fate}), directory)
        with (
            no_more_files_open(),
            pytest.raises(StorageError, match=f"{calls[number]} failed as ordered"),
        ):
            recover(faulty, now_us())
        # The one who failed lives on, and may try again itself.
        assert recover(faulty, now_us()) >= 1
        assert recover(faulty, now_us()) == 0
        sequencer_of(store).step()
        _expect_all_admitted_once(log.check(store, directory))


def test_a_call_that_is_the_last(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, calls: list[str]
) -> None:
    log = DiskLog(_prepare, tmp_path_factory.mktemp("log"))
    for number, fate in rows(calls, "killed before", "killed after"):
        directory = tmp_path / f"{number}-{fate}"
        directory.mkdir()
        with log.copy(directory) as store:
            _leave_two_dead(directory_of(store, directory))
        _killed_while_recovering(log, directory, number, fate)
        with log.reopened(directory) as store:
            opened = directory_of(store, directory)
            assert recover(opened, now_us()) >= 1
            assert recover(opened, now_us()) == 0
            sequencer_of(store).step()
            _expect_all_admitted_once(log.check(store, directory))
            check_contents(opened)


def _killed_while_recovering(
    log: DiskLog, directory: Path, number: int, fate: Fate
) -> None:
    def work(say: Callable[[str], None]) -> None:
        with log.reopened(directory) as store:
            recover(
                directory_of(FaultyStore(store, {number: fate}), directory), now_us()
            )
            say("survived")

    assert acknowledged_by(work) == []
