"""From exchange to spool: in one batch, once, and never silently lost."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from auditlog.capture.body import Body
from auditlog.core.errors import AuditLogError, StorageError
from auditlog.core.record import format_id, parse_entry
from auditlog.log.amendment import aftermath_entry
from auditlog.log.description import Describer
from auditlog.log.directory import LogDirectory, create_log
from auditlog.log.emitter import Emitter
from auditlog.log.preparation import Preparation
from auditlog.log.reader import Reader
from auditlog.log.recorder import Recorder
from auditlog.log.recovery import recover
from auditlog.log.storing import Storing
from auditlog.storage import SpoolItem
from auditlog.storage.acceptance import (
    Acceptance,
    AcceptanceFile,
    accepted_items,
)
from auditlog.storage.journal import Journal, abandoned
from auditlog.storage.spill import SpillDirectory
from tests.log.builders import ORIGIN, config_of, exchange, now_us

ID = bytes(range(16))


class Spool:
    """The real store, with appends that can fail before or after they are done."""

    def __init__(self, log: LogDirectory) -> None:
        self._store = log.store
        self.batches: list[int] = []
        self.fail_before = 0
        self.fail_after = 0
        self.gate = threading.Event()
        self.gate.set()

    def append(self, items: Sequence[SpoolItem]) -> int:
        self.gate.wait(10)
        if self.fail_before:
            self.fail_before -= 1
            raise StorageError("disk full")
        first = self._store.append(items)
        self.batches.append(len(items))
        if self.fail_after:
            self.fail_after -= 1
            raise StorageError("the answer was lost")
        return first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogDirectory]:
    with create_log(config_of(tmp_path / "audit")) as log:
        yield log


@pytest.fixture
def spool(log: LogDirectory) -> Spool:
    return Spool(log)


@pytest.fixture
def emitter(log: LogDirectory) -> Emitter:
    return Emitter(Journal.create(log.paths.journals, ID), ID)


@pytest.fixture
def make(
    log: LogDirectory, spool: Spool, emitter: Emitter
) -> Iterator[Callable[..., Recorder]]:
    made: list[Recorder] = []

    def make_recorder(acceptance: Acceptance | None = None, **options: Any) -> Recorder:
        describer = Describer(ORIGIN, ID, depth=1)
        preparation = Preparation(describer, log.keys)
        storing = Storing(spool, preparation, emitter, ORIGIN, time.time, acceptance)
        recorder = Recorder(storing, emitter, **{"gather": False, **options})
        made.append(recorder)
        return recorder

    yield make_recorder
    spool.gate.set()
    for recorder in made:
        recorder.stop(5)
    emitter.close()


def _submit(recorder: Recorder, emitter: Emitter, **fields: Any) -> list[Any]:
    """Submit one exchange; return the list that its verdict will be in."""
    one = exchange(0, **fields)
    one.sequence = emitter.issue(one.id, one.time)
    emitter.put_on_record(one.sequence, one.id, one.time)
    verdict: list[AuditLogError | None] = []
    recorder.submit(one, verdict.append)
    return verdict


def _issue(emitter: Emitter) -> int:
    return emitter.issue(exchange(0).id, now_us())


def _data(log: LogDirectory) -> list[dict[str, Any]]:
    entries = log.store.read(0, log.store.size())
    return [parse_entry(entry).data for entry in entries]


def test_a_decision_is_accepted_once_it_is_in_the_spool(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter
) -> None:
    recorder = make()
    recorder.start()
    verdict = _submit(recorder, emitter)
    assert recorder.flush(5)
    assert verdict == [None]
    assert [data["sequence"] for data in _data(log)] == [0]
    assert emitter.state() == (1, [])


def test_what_waits_is_appended_in_one_batch(
    make: Callable[..., Recorder], emitter: Emitter, spool: Spool
) -> None:
    recorder = make()
    verdicts = [_submit(recorder, emitter) for _ in range(300)]
    recorder.start()
    assert recorder.flush(5)
    assert spool.batches == [300]
    assert verdicts == [[None]] * 300


def test_a_failed_append_is_told_at_once_and_tried_again(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter, spool: Spool
) -> None:
    spool.fail_before = 2
    recorder = make()
    verdict = _submit(recorder, emitter)
    recorder.start()
    assert recorder.flush(5)
    assert [str(error) for error in verdict] == ["disk full"]
    assert recorder.failure is None
    assert [data["sequence"] for data in _data(log)] == [0]


def test_an_append_whose_answer_was_lost_is_not_repeated(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter, spool: Spool
) -> None:
    spool.fail_after = 1
    recorder = make()
    for _ in range(3):
        _submit(recorder, emitter)
    recorder.start()
    assert recorder.flush(5)
    assert sorted(data["sequence"] for data in _data(log)) == [0, 1, 2]
    assert emitter.state() == (3, [])


def test_what_does_not_fit_in_memory_becomes_a_gap(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter
) -> None:
    recorder = make(capacity=2)
    verdicts = [_submit(recorder, emitter) for _ in range(5)]
    assert "becomes a gap" in str(verdicts[4][0])
    recorder.start()
    assert recorder.flush(5)
    gap = _data(log)[-1]
    assert (gap["from"], gap["to"], gap["reason"]) == (2, 4, "overload")
    assert emitter.state() == (5, [])


def test_what_is_dropped_in_any_order_takes_no_memory_and_shares_a_gap(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter
) -> None:
    """The store is away for long, and requests end in another order than they came."""
    recorder = make()
    numbers = [_issue(emitter) for _ in range(4000)]
    for number in [*numbers[::2], *numbers[1::2]]:
        recorder.admit(number, "overload")
    assert len(recorder._waiting) == 0
    recorder.start()
    assert recorder.flush(5)
    assert [(one["from"], one["to"]) for one in _data(log)] == [(0, 3999)]
    assert emitter.state() == (4000, [])


def test_very_many_ranges_of_dropped_numbers_are_all_named(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter
) -> None:
    recorder = make()
    for number in [_issue(emitter) for _ in range(3000)][::2]:
        recorder.admit(number, "overload")
    recorder.start()
    assert recorder.flush(5)
    assert sorted(one["from"] for one in _data(log)) == list(range(0, 3000, 2))
    assert emitter.state()[1] == list(range(1, 3000, 2))


def test_bodies_that_wait_are_bounded_in_bytes(
    make: Callable[..., Recorder], emitter: Emitter
) -> None:
    recorder = make(capacity_bytes=1000)
    first = _submit(recorder, emitter, request=b"x" * 2000)
    second = _submit(recorder, emitter)
    assert first == []
    assert "too many decisions wait" in str(second[0])
    recorder.start()
    assert recorder.flush(5)


def test_what_waits_on_disk_takes_no_room_in_memory(
    tmp_path: Path, make: Callable[..., Recorder], emitter: Emitter
) -> None:
    recorder = make(capacity_bytes=4 << 20)
    spills = SpillDirectory(tmp_path, 1 << 30)
    verdicts = []
    for _ in range(4):
        secret = os.urandom(32)
        large = Body(secret, 0, 8 << 20, spills=spills)
        large.feed(bytes(3 << 20))
        verdicts.append(_submit(recorder, emitter, secret=secret, request=large))
    assert verdicts == [[]] * 4
    recorder.start()
    assert recorder.flush(10)
    assert verdicts == [[None]] * 4
    assert recorder._waiting_bytes == 0


def test_a_decision_that_cannot_be_described_is_admitted_by_its_number(
    log: LogDirectory,
    make: Callable[..., Recorder],
    emitter: Emitter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = make()
    verdict = _submit(recorder, emitter, route="r" * 70_000)
    good = _submit(recorder, emitter)
    recorder.start()
    assert recorder.flush(5)
    assert "could not be described" in str(verdict[0])
    assert good == [None]
    gaps = [data for data in _data(log) if data.get("reason")]
    assert [(g["from"], g["to"], g["reason"]) for g in gaps] == [(0, 0, "unrecordable")]
    assert "could not be described" in caplog.text


def test_an_entry_of_ours_comes_after_what_was_submitted_before_it(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter
) -> None:
    recorder = make()
    for _ in range(3000):
        _submit(recorder, emitter, request=b"", response=b"")
    recorder.add_entry(emitter.beat_entry(ORIGIN, 1_800_000_000_000_000))
    recorder.start()
    assert recorder.flush(30)
    assert _data(log)[-1]["state"] == "beat"


def test_a_stop_while_the_disk_fails_leaves_the_numbers_to_recovery(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter, spool: Spool
) -> None:
    spool.fail_before = 10**9
    recorder = make()
    recorder.start()
    _submit(recorder, emitter)
    assert not recorder.stop(0.5)
    assert not recorder.flush(0.1), "what a stop gave up is not durable"
    emitter.close()
    (journal,) = abandoned(log.paths.journals)
    with journal:
        assert [record.sequence for record in journal.records] == [0]


def test_what_comes_in_while_it_stops_and_is_given_up_is_no_clean_stop(
    make: Callable[..., Recorder],
    emitter: Emitter,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = make()
    recorder.start()
    flush = recorder.flush

    def flush_and_go_on(timeout: float) -> bool:
        flushed = flush(timeout)
        spool.fail_before = 10**9
        _submit(recorder, emitter)
        _wait_until(lambda: recorder.failure is not None)
        return flushed

    with monkeypatch.context() as patch:
        patch.setattr(recorder, "flush", flush_and_go_on)
        assert not recorder.stop(5)
    assert emitter.state() == (1, [0])


def test_what_comes_after_the_stop_is_told_so_and_left_to_recovery(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter
) -> None:
    recorder = make()
    recorder.start()
    assert recorder.stop(5)
    assert "has been stopped" in str(_submit(recorder, emitter)[0])
    assert emitter.state() == (1, [0])
    assert log.store.size() == 0


def test_submitting_never_waits_for_the_disk(
    make: Callable[..., Recorder], emitter: Emitter, spool: Spool
) -> None:
    spool.gate.clear()
    recorder = make()
    recorder.start()
    verdicts = [_submit(recorder, emitter) for _ in range(100)]
    assert not recorder.flush(0.05)
    assert verdicts == [[]] * 100
    spool.gate.set()
    assert recorder.flush(5)


def test_a_fault_of_ours_does_not_end_the_thread(
    log: LogDirectory,
    make: Callable[..., Recorder],
    emitter: Emitter,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody else would tell those who wait, or ever store a decision again."""

    def no_memory(items: Sequence[SpoolItem]) -> int:
        raise MemoryError

    recorder = make()
    with monkeypatch.context() as patch:
        patch.setattr(spool, "append", no_memory)
        recorder.start()
        verdict = _submit(recorder, emitter)
        _wait_until(lambda: bool(verdict))
        assert str(verdict[0]) == "a fault of auditlog's own: MemoryError"
        assert not recorder.ready()
    assert recorder.flush(5)
    assert [data["sequence"] for data in _data(log)] == [0]
    assert "MemoryError at " in caplog.text


def test_an_entry_whose_id_is_taken_stops_no_other(
    log: LogDirectory,
    make: Callable[..., Recorder],
    emitter: Emitter,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = make()
    recorder.start()
    decision = exchange(0).id
    assert recorder.amend(aftermath_entry(decision, "answer_withheld", ORIGIN, 1))
    assert recorder.flush(5)
    assert recorder.amend(aftermath_entry(decision, "error_after_response", ORIGIN, 2))
    verdict = _submit(recorder, emitter)
    assert recorder.flush(5)
    assert verdict == [None]
    assert [data.get("kind") for data in _data(log)] == ["answer_withheld", None]
    assert "an entry cannot be recorded" in caplog.text


# --- ahead of the store ---------------------------------------------------------------


@pytest.fixture
def acceptance(log: LogDirectory, emitter: Emitter) -> Iterator[AcceptanceFile]:
    made = AcceptanceFile.create(log.paths.journals, ID)
    yield made
    made.close(clean=True)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_decision_is_accepted_while_the_store_hangs(
    log: LogDirectory,
    make: Callable[..., Recorder],
    emitter: Emitter,
    spool: Spool,
    acceptance: AcceptanceFile,
) -> None:
    spool.gate.clear()
    recorder = make(acceptance)
    recorder.start()
    verdict = _submit(recorder, emitter)
    _wait_until(lambda: verdict == [None])
    assert log.store.size() == 0
    # Until the store has it, it counts as open, for whoever recovers.
    assert emitter.state() == (1, [0])
    (item,) = accepted_items(log.paths.journals, ID)
    view = Reader(log).decision(format_id(item.row.id))
    assert (view.level, view.entry) == ("accepted", item.entry)
    spool.gate.set()
    assert recorder.flush(5)
    assert [data["sequence"] for data in _data(log)] == [0]
    assert emitter.state() == (1, [])


def test_the_store_is_filled_behind_in_larger_batches_and_in_order(
    log: LogDirectory,
    make: Callable[..., Recorder],
    emitter: Emitter,
    spool: Spool,
    acceptance: AcceptanceFile,
) -> None:
    recorder = make(acceptance)
    recorder.start()
    for _ in range(20):
        verdict = _submit(recorder, emitter)
        _wait_until(lambda: verdict == [None])  # noqa: B023
    assert recorder.flush(5)
    assert [data["sequence"] for data in _data(log)] == list(range(20))
    assert len(spool.batches) < 20


def test_what_was_accepted_is_in_the_store_soon_without_anybody_asking(
    log: LogDirectory,
    make: Callable[..., Recorder],
    emitter: Emitter,
    acceptance: AcceptanceFile,
) -> None:
    recorder = make(acceptance)
    recorder.start()
    _submit(recorder, emitter)
    _wait_until(lambda: log.store.size() == 1)


def test_while_the_store_fails_nothing_is_accepted_ahead_of_it(
    log: LogDirectory,
    make: Callable[..., Recorder],
    emitter: Emitter,
    spool: Spool,
    acceptance: AcceptanceFile,
) -> None:
    spool.fail_before = 10**9
    recorder = make(acceptance)
    recorder.start()
    first = _submit(recorder, emitter)
    _wait_until(lambda: recorder.failure is not None)
    later = _submit(recorder, emitter)
    assert first == [None]
    assert [str(one) for one in later] == ["disk full"]
    spool.fail_before = 0
    assert recorder.flush(5)
    assert [data["sequence"] for data in _data(log)] == [0, 1]


def test_an_acceptance_that_fails_sends_decisions_to_the_store(
    log: LogDirectory,
    make: Callable[..., Recorder],
    emitter: Emitter,
    acceptance: AcceptanceFile,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (path,) = log.paths.journals.glob("*.accepted")
    path.unlink()
    recorder = make(acceptance)
    recorder.start()
    verdicts = []
    for _ in range(3):
        verdicts.append(_submit(recorder, emitter))
        assert recorder.flush(5)
    assert verdicts == [[None]] * 3
    assert [data["sequence"] for data in _data(log)] == [0, 1, 2]
    assert caplog.text.count("decisions go to the store directly") == 1


def test_a_stop_while_the_store_fails_leaves_what_was_accepted_to_recovery(
    log: LogDirectory,
    make: Callable[..., Recorder],
    emitter: Emitter,
    spool: Spool,
    acceptance: AcceptanceFile,
) -> None:
    spool.fail_before = 10**9
    recorder = make(acceptance)
    recorder.start()
    verdict = _submit(recorder, emitter)
    _wait_until(lambda: verdict == [None])
    assert not recorder.stop(0.5)
    assert not recorder._thread.is_alive()
    acceptance.close(clean=False)
    emitter.close(clean=False)
    assert recover(log, now_us()) == 1
    assert [data.get("outcome") for data in _data(log)] == ["completed", None]
    assert list(log.paths.journals.glob("*.accepted")) == []
