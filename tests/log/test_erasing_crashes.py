"""Erasure on every line that it can die on: nothing is lost, and nothing stays.

Each step of it, in a real process: killed before, killed after, done but its answer
lost. Then the next start, and what is left in the files.
"""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple

import pytest

from auditlog.capture.subjects import Subject
from auditlog.core.errors import NotFoundError, StorageError
from auditlog.core.record import DECISION
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.erasing import (
    Plan,
    catch_up,
    erase,
    is_due,
    plan_erasure,
)
from auditlog.log.finishing import finish
from auditlog.log.runtime import runtime_for
from auditlog.storage import Query
from auditlog.storage.database import Database
from auditlog.storage.erased_keys import ErasedKeys
from auditlog.storage.keyring import KeyringWriter
from auditlog.storage.sqlite import SqliteStore
from tests.filled import ORIGIN, fill_log
from tests.log.builders import config_of, exchange, now_us
from tests.log.erasures import ADA, BOB

STEPS = [
    (SqliteStore, "begin_erasure"),
    (ErasedKeys, "add"),
    (ErasedKeys, "_append"),
    (KeyringWriter, "_overwrite"),
    (KeyringWriter, "destroy"),
    (SqliteStore, "shred"),
    (Database, "truncate"),
    (SqliteStore, "_rebuild"),
    (SqliteStore, "_note_swept"),
    (SqliteStore, "finish_erasures"),
]
NAMES = [name for _, name in STEPS]


class Secrets(NamedTuple):
    """What must be nowhere once somebody was erased."""

    key: bytes
    key_id: bytes
    label: bytes
    slot: int
    wrapped: bytes
    sealed: tuple[bytes, ...]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six decisions: three about Ada, two about Bob."""
    directory = tmp_path_factory.mktemp("filled") / "audit"
    fill_log(directory, 3, subject=Subject("person", ADA))
    fill_log(directory, 2, subject=Subject("person", BOB))
    fill_log(directory, 1)
    return directory


@pytest.fixture
def directory(filled: Path, tmp_path: Path) -> Path:
    copy = Path(copytree(filled, tmp_path / "audit"))
    (copy / "place").unlink()  # it is to go on here
    return copy


def _secrets(directory: Path) -> Secrets:
    with open_log(directory, read_only=True) as log:
        key_id = plan_erasure(log, "person", ADA, now_us()).key_id
        slot, use = log.store.slot_of(key_id), log.store.use_of(key_id)
        assert slot is not None
        assert use is not None
        stored = [log.store.sealed(index) for index in log.store.sealed_under(key_id)]
        wrapped = log.paths.keyring.read_bytes()[64 * slot : 64 * slot + 61]
        sealed = tuple(one[1][40:] for one in stored if one is not None)
        assert len(sealed) == 3
        key = log.keys.key(key_id)
        return Secrets(key, key_id, use[1].encode(), slot, wrapped, sealed)


def _erase_all(log: LogDirectory) -> None:
    erase(log, plan_erasure(log, "person", ADA, now_us()), now=now_us())
    log.store._labels.clear()  # as if another process went on: it does every step
    finish(log, now_us())


def _killed(work: Callable[[], None]) -> None:
    """Run in a child, which has to kill itself."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _kill(function: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    def step(*args: Any, **kwargs: Any) -> None:
        if after:
            function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return step


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=NAMES)
def test_a_process_killed_at_any_step_is_completed_by_the_next(
    directory: Path, owner: type, name: str, after: bool
) -> None:
    secrets = _secrets(directory)

    def work() -> None:
        setattr(owner, name, _kill(getattr(owner, name), after=after))
        with open_log(directory) as log:
            _erase_all(log)

    _killed(work)
    with open_log(directory) as log:
        if name == "begin_erasure" and not after:
            assert not is_due(log)
            assert plan_erasure(log, "person", ADA, now_us()).records == 3
            return
        catch_up(log, now_us())
    _check_erased(directory, secrets)


@pytest.mark.parametrize(("owner", "name"), STEPS, ids=NAMES)
def test_an_answer_that_is_lost_loses_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    secrets, done = _secrets(directory), getattr(owner, name)

    def step(*args: Any, **kwargs: Any) -> None:
        done(*args, **kwargs)
        monkeypatch.undo()
        raise StorageError("the answer was lost")

    monkeypatch.setattr(owner, name, step)
    with open_log(directory) as log:
        if name in {"begin_erasure", "shred"}:
            _erase_all(log)  # it looks for itself
        else:
            with pytest.raises(StorageError, match="the answer was lost"):
                _erase_all(log)
        catch_up(log, now_us())
    _check_erased(directory, secrets)


def _check_erased(directory: Path, secrets: Secrets) -> None:
    """Require one erasure, nothing left to be erased, and nothing in the files."""
    with open_log(directory) as log:
        assert not is_due(log)
        with pytest.raises(NotFoundError, match="nothing is held"):
            plan_erasure(log, "person", ADA, now_us())
        assert plan_erasure(log, "person", BOB, now_us()).records == 2
        finish(log, now_us(), wait=10)
        assert [row.state for row in log.store.erasures()] == ["final"]
        entries = log.store.find(Query(type="auditlog.erasure.v1"))
        assert len(entries) == 2
        # Bob's are under his key, which the check does not know how to hold to him.
        problems = [
            one for one in check_log(log).problems if "under subj" not in one[1]
        ]
        assert problems == []
        assert log.store._database.truncate()
    _check_files(directory, secrets)


def _check_files(directory: Path, secrets: Secrets) -> None:
    files = [one for one in directory.rglob("*") if one.is_file()]
    held = b"".join(one.read_bytes() for one in files)
    gone = [secrets.key, secrets.label, secrets.wrapped, *secrets.sealed]
    assert [bytes_ in held for bytes_ in gone] == [False] * len(gone)
    # The row that says which key it was, and the index of that column.
    assert held.count(secrets.key_id) == 2
    assert (directory / "keys" / "erased").read_text() == f"{secrets.key_id.hex()}\n"


@pytest.fixture
def reader(directory: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(directory / "log.sqlite3", isolation_level=None)
    db.execute("BEGIN")
    assert db.execute("SELECT count(*) FROM vault").fetchone()
    yield db
    db.close()


def test_it_is_not_final_while_somebody_reads_what_was(
    directory: Path, reader: sqlite3.Connection
) -> None:
    secrets = _secrets(directory)
    with open_log(directory) as log:
        _erase_all(log)
        assert [row.state for row in log.store.erasures()] == ["shredded"]
        assert finish(log, now_us(), wait=0.1) == 0
        (count,) = reader.execute(
            "SELECT count(*) FROM vault WHERE key_id = ?", (secrets.key_id,)
        ).fetchone()
        assert count == 3, "this is why"
        reader.execute("COMMIT")
    _check_erased(directory, secrets)


def test_a_reader_who_sees_the_new_state_is_not_waited_for(directory: Path) -> None:
    secrets = _secrets(directory)
    with open_log(directory) as log:
        erase(log, plan_erasure(log, "person", ADA, now_us()), now=now_us())
        with log.store._database.reading() as connection:
            connection.execute("SELECT 1").fetchall()
            assert finish(log, now_us(), wait=5) == 1
    _check_erased(directory, secrets)


def test_two_who_erase_the_same_make_one_erasure(directory: Path) -> None:
    secrets, states, ready = _secrets(directory), [], threading.Barrier(2)

    def work() -> None:
        with open_log(directory) as log:
            plan = plan_erasure(log, "person", ADA, now_us())
            ready.wait(30)
            states.append(erase(log, plan, now=now_us()))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {one.id for one in states} == {states[0].id}
    assert sorted(one.records or 0 for one in states) == [0, 3]
    assert [one.proof is None for one in states].count(True) == 1
    _check_erased(directory, secrets)


def test_a_check_meanwhile_raises_no_alarm(directory: Path) -> None:
    names = [f"{number}" for number in range(8)]
    for name in names:
        fill_log(directory, 1, subject=Subject("person", name))
    ended = threading.Event()

    def work() -> None:
        try:
            with open_log(directory) as other:
                for name in names:
                    plan = plan_erasure(other, "person", name, now_us())
                    erase(other, plan, now=now_us())
                    finish(other, now_us())
        finally:
            ended.set()

    thread = threading.Thread(target=work)
    thread.start()
    with open_log(directory, read_only=True) as log:
        while not ended.is_set():
            assert check_log(log).problems == ()
    thread.join(30)
    with open_log(directory) as log:
        assert len(log.store.erasures()) == len(names)
        assert check_log(log).problems == ()


def test_a_service_meanwhile_records_the_same_person_under_another_key(
    directory: Path,
) -> None:
    runtime = runtime_for(config_of(directory, origin=ORIGIN))
    submitted = 0
    try:
        with open_log(directory) as log:
            for _ in range(4):
                for _ in range(20):
                    one = exchange(0, subject=Subject("person", ADA))
                    one.sequence = runtime.open(one.id, one.time)
                    runtime.submit(one)
                    submitted += 1
                erase(log, _planned(log), now=now_us())
    finally:
        runtime.stop()
    with open_log(directory) as log:
        assert len({row.key_id for row in log.store.erasures()}) == 4
        finish(log, now_us(), wait=10)
        rows = log.store.find(Query(type=DECISION, limit=1000))
        assert len(rows) == 6 + submitted
        report = check_log(log)
        assert report.problems == ()


def _planned(log: LogDirectory) -> Plan:
    """Return what is held of Ada as soon as anything is."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return plan_erasure(log, "person", ADA, now_us())
        except NotFoundError:
            assert time.monotonic() < deadline
