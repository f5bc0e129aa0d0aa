"""Each call of the recorder, and of the keyring for it, fails or is the last one.

One batch: three decisions and a gap. What was acknowledged is in the log once; what
was not is there or admitted; no number is a hole.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.errors import AuditLogError
from auditlog.core.record import format_id
from auditlog.log import recorder as recorder_module
from auditlog.log.description import Describer
from auditlog.log.emitter import Emitter
from auditlog.log.preparation import Preparation
from auditlog.log.recorder import Recorder
from auditlog.log.recovery import recover
from auditlog.log.storing import Storing
from auditlog.storage.journal import Journal
from tests.fakes import MemoryStore
from tests.faults.logs import (
    DiskLog,
    MemoryLog,
    check_contents,
    directory_of,
    in_the_log,
    sequencer_of,
)
from tests.faults.stores import CHANGES, Fate, FaultyStore, acknowledged_by, rows
from tests.log.builders import ORIGIN, exchange, now_us

ID = bytes(range(16))
DECISIONS = 3

Verdicts = dict[str, list[AuditLogError | None]]


def _prepare(store: Any) -> None:
    """Leave the log empty: its first decision also makes its first key."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "_RETRY_SECONDS", (0.001,))


class Recording:
    """A recorder over a store, with a batch that waits to be recorded."""

    def __init__(
        self, store: FaultyStore, directory: Path, say: Callable[[str], None]
    ) -> None:
        log = directory_of(store, directory)
        self.emitter = Emitter(Journal.create(log.paths.journals, ID), ID)
        preparation = Preparation(Describer(ORIGIN, ID, depth=1), log.keys)
        storing = Storing(log.store, preparation, self.emitter, ORIGIN, time.time, None)
        self.recorder = Recorder(storing, self.emitter, gather=False)
        self.verdicts: Verdicts = {}
        for _ in range(DECISIONS):
            self._submit(say)
        refused = exchange(0)
        number = self.emitter.issue(refused.id, refused.time)
        self.recorder.admit(number, "unjournalled")

    def _submit(self, say: Callable[[str], None]) -> None:
        one = exchange(0)
        one.sequence = self.emitter.issue(one.id, one.time)
        self.emitter.put_on_record(one.sequence, one.id, one.time)
        name = format_id(one.id)
        verdict = self.verdicts[name] = []

        def tell(error: AuditLogError | None) -> None:
            verdict.append(error)
            if error is None:
                say(name)

        self.recorder.submit(one, tell)

    def run(self) -> None:
        self.recorder.start()
        assert self.recorder.flush(10)
        assert self.recorder.stop(10)
        self.emitter.close()


def _ignore(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    counted = FaultyStore(MemoryStore(ORIGIN))
    Recording(counted, tmp_path_factory.mktemp("calls"), _ignore).run()
    return counted.calls


@pytest.fixture(scope="module", params=["memory", "disk"])
def log(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> MemoryLog | DiskLog:
    if request.param == "memory":
        return MemoryLog(_prepare)
    return DiskLog(_prepare, tmp_path_factory.mktemp("log"))


def _fresh(directory: Path, number: object) -> Path:
    fresh = directory / f"{number}"
    fresh.mkdir()
    return fresh


def _record_through(
    log: MemoryLog | DiskLog, directory: Path, fates: Mapping[int, Fate]
) -> tuple[FaultyStore, Verdicts]:
    """Record the batch while calls fail; everything must be there in the end."""
    store = log.copy(directory)
    faulty = FaultyStore(store, fates)
    recording = Recording(faulty, directory, _ignore)
    recording.run()
    assert recording.emitter.state() == (DECISIONS + 1, [])
    sequencer_of(store).step()
    found = log.check(store, directory)
    assert in_the_log(found, list(recording.verdicts)) == [1] * DECISIONS
    assert len(found.entries) == DECISIONS + 1
    check_contents(directory_of(store, directory))
    return faulty, recording.verdicts


def test_the_batch_makes_a_key_and_one_append(calls: list[str]) -> None:
    assert [name for name in calls if name in CHANGES] == ["add_keys", "append"]


def test_a_call_that_fails(
    log: MemoryLog | DiskLog, tmp_path: Path, calls: list[str]
) -> None:
    for number, fate in rows(calls, "lost", "persisted"):
        fresh = _fresh(tmp_path, f"{number}-{fate}")
        _, verdicts = _record_through(log, fresh, {number: fate})
        # Nobody waits for the second attempt, and nobody is told twice.
        for verdict in verdicts.values():
            assert [str(one).split(" ")[0] for one in verdict] == [calls[number]]


def test_two_calls_that_fail(
    log: MemoryLog | DiskLog, tmp_path: Path, calls: list[str]
) -> None:
    """The second one hits what the first one made necessary, such as a look-up."""
    append = calls.index("append")
    hit = set()
    for number in range(append + 1, append + 12):
        for fate in ("lost", "persisted"):
            fates: dict[int, Fate] = {append: "persisted", number: fate}
            fresh = _fresh(tmp_path, f"{number}-{fate}")
            faulty, _ = _record_through(log, fresh, fates)
            hit |= set(faulty.calls[number : number + 1])
    assert hit >= {"append", "by_id", "read"}


def test_a_call_that_is_the_last(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, calls: list[str]
) -> None:
    log = DiskLog(_prepare, tmp_path_factory.mktemp("log"))
    for number, fate in rows(calls, "killed before", "killed after"):
        fresh = _fresh(tmp_path, f"{number}-{fate}")
        said = _killed_while_recording(log, fresh, {number: fate})
        with log.reopened(fresh) as store:
            opened = directory_of(store, fresh)
            assert recover(opened, now_us()) == 1
            assert recover(opened, now_us()) == 0
            sequencer_of(store).step()
            found = log.check(store, fresh)
            assert in_the_log(found, said) == [1] * len(said)
            assert len(found.decisions) == DECISIONS
            check_contents(opened)


def _killed_while_recording(
    log: DiskLog, directory: Path, fates: Mapping[int, Fate]
) -> list[str]:
    log.copy(directory).close()

    def work(say: Callable[[str], None]) -> None:
        with log.reopened(directory) as store:
            recording = Recording(FaultyStore(store, fates), directory, say)
            recording.run()
            say("survived")

    said = acknowledged_by(work)
    assert "survived" not in said
    return said


def test_who_is_killed_after_the_acknowledgement_keeps_it(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    log = DiskLog(_prepare, tmp_path_factory.mktemp("log"))
    log.copy(tmp_path).close()

    def work(say: Callable[[str], None]) -> None:
        with log.reopened(tmp_path) as store:
            Recording(FaultyStore(store), tmp_path, say).run()

    said = acknowledged_by(work)
    assert len(said) == DECISIONS
    assert in_the_log(log.check(None, tmp_path), said) == [1] * DECISIONS


def test_a_number_that_is_taken_stops_no_other(tmp_path: Path) -> None:
    store = MemoryStore(ORIGIN)
    recording = Recording(FaultyStore(store), tmp_path, _ignore)
    # As if the lock of the journal had been lost, and the living taken for dead.
    recording.emitter._journal.abandon()
    assert recover(directory_of(store, tmp_path), now_us()) == 1
    recording.recorder.start()
    assert recording.recorder.flush(10)
    late = exchange(0)
    late.sequence = recording.emitter.issue(late.id, late.time)
    verdict: list[AuditLogError | None] = []
    recording.recorder.submit(late, verdict.append)
    assert recording.recorder.flush(10)
    assert recording.recorder.stop(10)
    assert verdict == [None]
    for told in recording.verdicts.values():
        assert ["is already in the log" in str(one) for one in told] == [True]
    found = MemoryLog.check(store, tmp_path)
    assert len(found.decisions) == DECISIONS + 1
