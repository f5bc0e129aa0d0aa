"""Each call of an amendment fails or is the last one: it is in the log once, or not.

What was acknowledged is there exactly once. What raised is there at most once, and then
whole: nobody who says it again in good faith can have made two by himself.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.errors import StorageError
from auditlog.core.record import format_id, parse_id
from auditlog.log.amending import append_amendment
from auditlog.log.amendment import AMENDMENT, amendment
from auditlog.storage import Query
from tests.fakes import MemoryStore
from tests.faults.decided import (
    DECISION,
    check_decided,
    prepare,
    with_decision,
)
from tests.faults.logs import (
    DiskLog,
    MemoryLog,
    directory_of,
)
from tests.faults.stores import CHANGES, FaultyStore, acknowledged_by, rows
from tests.log.builders import ORIGIN, now_us

SAID = amendment(format_id(DECISION.id), "override", by="Kim", label="paid")


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("calls")
    counted = FaultyStore(with_decision(MemoryStore(ORIGIN), directory))
    append_amendment(directory_of(counted, directory), SAID, now_us())
    return counted.calls


@pytest.fixture(scope="module", params=["memory", "disk"])
def log(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MemoryLog | DiskLog:
    if request.param == "memory":
        return MemoryLog(prepare)
    return DiskLog(prepare, tmp_path_factory.mktemp("log"))


def _amendments(store: Any) -> list[str]:
    found = store.find(Query(type=AMENDMENT, about=DECISION.id))
    return [format_id(row.id) for row in found]


def test_it_is_one_append(calls: list[str]) -> None:
    assert [name for name in calls if name in CHANGES] == ["append"]


def test_a_call_that_fails(
    log: MemoryLog | DiskLog, tmp_path: Path, calls: list[str]
) -> None:
    for number, fate in rows(calls, "lost", "persisted"):
        directory = tmp_path / f"{number}-{fate}"
        directory.mkdir()
        store = with_decision(log.copy(directory), directory)
        faulty = FaultyStore(store, {number: fate})
        told: list[str] = []
        with contextlib.suppress(StorageError):
            id_ = append_amendment(directory_of(faulty, directory), SAID, now_us())
            told.append(format_id(id_))
        assert _amendments(store) == told
        assert told or calls[number] != "append", "an append is tried again"
        check_decided(log, store, directory)


def test_an_answer_that_is_lost_with_the_look_up_after_it(
    log: MemoryLog | DiskLog, tmp_path: Path, calls: list[str]
) -> None:
    """Then nobody knows, and it is said so; the entry is whole all the same."""
    append = calls.index("append")
    store = with_decision(log.copy(tmp_path), tmp_path)
    faulty = FaultyStore(store, {append: "persisted", append + 1: "lost"})
    with pytest.raises(StorageError, match="by_id failed as ordered"):
        append_amendment(directory_of(faulty, tmp_path), SAID, now_us())
    assert len(_amendments(store)) == 1
    check_decided(log, store, tmp_path)


def test_a_store_that_stays_broken_is_not_tried_for_ever(tmp_path: Path) -> None:
    store = with_decision(MemoryStore(ORIGIN), tmp_path)
    tried: list[object] = []

    def fail(items: object) -> int:
        tried.append(items)
        raise StorageError("disk full")

    store.append = fail
    with pytest.raises(StorageError, match="disk full"):
        append_amendment(directory_of(store, tmp_path), SAID, now_us())
    assert len(tried) == 3
    assert tried[0] == tried[1] == tried[2], "the same entry, or there could be two"
    assert _amendments(store) == []


def test_an_id_that_is_taken_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = with_decision(MemoryStore(ORIGIN), tmp_path)
    before = list(store.entries)
    monkeypatch.setattr("auditlog.log.amending.new_id", lambda _: DECISION.id)
    with pytest.raises(StorageError, match="is already in the log"):
        append_amendment(directory_of(store, tmp_path), SAID, now_us())
    assert store.entries == before


def test_a_call_that_is_the_last(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, calls: list[str]
) -> None:
    log = DiskLog(prepare, tmp_path_factory.mktemp("log"))
    for number, fate in rows(calls, "killed before", "killed after"):
        directory = tmp_path / f"{number}-{fate}"
        directory.mkdir()
        with_decision(log.copy(directory), directory).close()

        def work(say: Callable[[str], None], at: Path = directory) -> None:
            with log.reopened(at) as store:
                faulty = FaultyStore(store, {number: fate})  # noqa: B023
                opened = directory_of(faulty, at)
                say(format_id(append_amendment(opened, SAID, now_us())))

        said = acknowledged_by(work)
        assert said == []
        with log.reopened(directory) as store:
            there = fate == "killed after" and calls[number] == "append"
            assert len(_amendments(store)) == int(there)
            check_decided(log, store, directory)


def test_what_was_acknowledged_survives_the_process(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    log = DiskLog(prepare, tmp_path_factory.mktemp("log"))
    with_decision(log.copy(tmp_path), tmp_path).close()

    def work(say: Callable[[str], None]) -> None:
        with log.reopened(tmp_path) as store:
            opened = directory_of(store, tmp_path)
            say(format_id(append_amendment(opened, SAID, now_us())))

    said = acknowledged_by(work)
    with log.reopened(tmp_path) as store:
        assert _amendments(store) == said
        assert len(said) == 1
        row = store.by_id(parse_id(said[0]))
        assert row is not None
        assert row.about == DECISION.id
        check_decided(log, store, tmp_path)
