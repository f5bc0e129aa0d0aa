"""Each call of a reading fails or is the last one: what is handed out is in the log.

Nobody gets a byte before `record_access` returns. So what was acknowledged is there
exactly once, and what raised may be there, which harms nobody: it says too much.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.errors import NotFoundError, StorageError
from auditlog.core.merkle import leaf_hash
from auditlog.core.record import format_id, parse_id
from auditlog.log.access import (
    ACCESS,
    Access,
    Recipient,
    record_access,
    record_person_access,
)
from auditlog.log.reader import Reader
from auditlog.storage import KeyErasedError, Query, SpoolItem
from auditlog.storage.sealing import seal, unseal
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

NAME = format_id(DECISION.id)
COURT = Recipient("Court", "case 7")
READ = Access("disclosure", "api", {"login": "ada"}, ["request/age"], COURT)


def _read(store: Any, directory: Path) -> str:
    return record_access(
        directory_of(store, directory), NAME, READ, now=now_us() / 1_000_000
    )


def _accesses(store: Any) -> list[str]:
    return [format_id(r.id) for r in store.find(Query(type=ACCESS, about=DECISION.id))]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("calls")
    counted = FaultyStore(with_decision(MemoryStore(ORIGIN), directory))
    _read(counted, directory)
    return counted.calls


@pytest.fixture(scope="module", params=["memory", "disk"])
def log(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MemoryLog | DiskLog:
    if request.param == "memory":
        return MemoryLog(prepare)
    return DiskLog(prepare, tmp_path_factory.mktemp("log"))


def test_it_is_one_append(calls: list[str]) -> None:
    assert [name for name in calls if name in CHANGES] == ["append"]


def test_a_call_that_fails(
    log: MemoryLog | DiskLog, tmp_path: Path, calls: list[str]
) -> None:
    for number, fate in rows(calls, "lost", "persisted"):
        directory = tmp_path / f"{number}-{fate}"
        directory.mkdir()
        store = with_decision(log.copy(directory), directory)
        told: list[str] = []
        with contextlib.suppress(StorageError):
            told.append(_read(FaultyStore(store, {number: fate}), directory))
        assert _accesses(store) == told
        assert told or calls[number] != "append", "an append is tried again"
        check_decided(log, store, directory)


def test_an_answer_that_is_lost_with_the_look_up_after_it(
    log: MemoryLog | DiskLog, tmp_path: Path, calls: list[str]
) -> None:
    """Then nothing is handed out, though the log says that it was about to be."""
    append = calls.index("append")
    store = with_decision(log.copy(tmp_path), tmp_path)
    faulty = FaultyStore(store, {append: "persisted", append + 1: "lost"})
    with pytest.raises(StorageError, match="by_id failed as ordered"):
        _read(faulty, tmp_path)
    assert len(_accesses(store)) == 1
    check_decided(log, store, tmp_path)


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
                say(_read(FaultyStore(store, {number: fate}), at))  # noqa: B023

        assert acknowledged_by(work) == []
        with log.reopened(directory) as store:
            there = fate == "killed after" and calls[number] == "append"
            assert len(_accesses(store)) == int(there)
            check_decided(log, store, directory)


# --- keys that die meanwhile ----------------------------------------------------------


def _about_ada(store: Any, directory: Path) -> bytes:
    """Seal the decision under a key of a subject; return the id of that key."""
    log = directory_of(store, directory)
    entry = store.read(0, 1)[0]
    key_id, sealed = store.vault[0]
    plain = unseal(log.keys.key(key_id), key_id, leaf_hash(entry), sealed)
    key_id, key = log.keys.subject_key("person", "ada")
    store.vault[0] = key_id, seal(key, key_id, leaf_hash(entry), bytes(32), plain)
    return key_id


def test_whoever_is_erased_at_the_last_moment_is_not_read(tmp_path: Path) -> None:
    """The key goes between the look at it and the append."""
    store = with_decision(MemoryStore(ORIGIN), tmp_path)
    key_id = _about_ada(store, tmp_path)
    log = directory_of(store, tmp_path)
    assert Reader(log).content(NAME).request
    append = store.append

    def erased_first(items: list[SpoolItem]) -> int:
        store.keys.pop(key_id, None)
        done: int = append(items)
        return done

    store.append = erased_first
    with pytest.raises(NotFoundError, match=f"the content of {NAME} was erased"):
        record_access(log, NAME, READ, now=now_us() / 1_000_000)
    assert _accesses(store) == []


def test_a_search_for_somebody_who_is_just_erased_finds_nobody(tmp_path: Path) -> None:
    store = with_decision(MemoryStore(ORIGIN), tmp_path)
    key_id = _about_ada(store, tmp_path)
    log = directory_of(store, tmp_path)
    append, size = store.append, store.size()

    def erased_first(items: list[SpoolItem]) -> int:
        store.keys.pop(key_id, None)
        done: int = append(items)
        return done

    store.append = erased_first
    search = READ._replace(what="search", paths=(), recipient=None)
    with pytest.raises(NotFoundError, match=r"^what was held was erased meanwhile$"):
        record_person_access(log, key_id, search, now=now_us() / 1_000_000)
    assert store.size() == size


def test_a_key_of_the_epoch_that_dies_is_not_waited_for(tmp_path: Path) -> None:
    store = with_decision(MemoryStore(ORIGIN), tmp_path)

    def refuse(items: list[SpoolItem]) -> int:
        raise KeyErasedError([item.key_id or b"" for item in items])

    store.append = refuse
    with pytest.raises(KeyErasedError):
        _read(store, tmp_path)


def test_what_is_said_in_clear_is_nothing_but_that_it_was_read(tmp_path: Path) -> None:
    store = with_decision(MemoryStore(ORIGIN), tmp_path)
    id_ = _read(store, tmp_path)
    row = store.by_id(parse_id(id_))
    assert row is not None
    encoded = store.read(row.index, row.index + 1)[0]
    entry = json.loads(encoded)
    commitment = entry["data"].pop("commitment")
    assert set(commitment) == {"depth", "digest", "v"}
    no_body = {"mediaType": "none", "split": "none", "state": "omitted"}
    assert entry["data"] == {
        "channel": "api",
        "decision": NAME,
        "request": no_body,
        "response": no_body,
        "what": "disclosure",
    }
    for secret in (b"ada", b"Court", b"case 7", b"request/age"):
        assert secret not in encoded
