"""One log, several processes: who leads, who recovers, what a stop leaves."""

import base64
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.encoding import format_base64
from auditlog.core.errors import ConfigurationError, PendingError, StorageError
from auditlog.core.record import Entry, format_id, parse_entry
from auditlog.log.check import check_log
from auditlog.log.description import Describer
from auditlog.log.directory import LogDirectory, create_log, open_log
from auditlog.log.emitter import gap_entry
from auditlog.log.identity import new_id
from auditlog.log.leader import make_checkpoint
from auditlog.log.preparation import Preparation, plain_item
from auditlog.log.reader import Reader
from auditlog.log.recovery import recover
from auditlog.log.runtime import Runtime, runtime_for
from auditlog.storage import SpoolItem
from auditlog.storage.acceptance import AcceptanceFile
from auditlog.storage.journal import Journal
from tests.harness import check_whole_log
from tests.log.builders import config_of, exchange, gap_items, now_us

ROOT = Path(__file__).parents[2]
DEAD = bytes(range(16))
GAP = "auditlog.gap.v1"


def _record(runtime: Runtime, **fields: Any) -> str:
    one = exchange(0, **fields)
    one.sequence = runtime.open(one.id, one.time)
    runtime.submit(one)
    return format_id(one.id)


def _wait_for_level(runtime: Runtime, id_: str, level: str) -> None:
    deadline = time.monotonic() + 10
    while Reader(runtime._log).decision(id_).level != level:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _states(directory: Path) -> list[str]:
    entries = [parse_entry(entry) for entry in check_whole_log(directory).entries]
    return [
        entry.data.get("state") or entry.data.get("reason") or entry.data["outcome"]
        for entry in entries
    ]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "audit"


@pytest.fixture
def runtime(directory: Path) -> Iterator[Runtime]:
    runtime = runtime_for(config_of(directory))
    yield runtime
    runtime.stop()


def test_a_process_has_one_runtime_per_log(runtime: Runtime, directory: Path) -> None:
    assert runtime_for(config_of(directory)) is runtime
    assert runtime_for(config_of(directory / ".." / directory.name)) is runtime


def test_a_decision_is_included_within_the_interval(runtime: Runtime) -> None:
    id_ = _record(runtime)
    _wait_for_level(runtime, id_, "included")


def test_a_stop_leaves_everything_signed_and_no_journal(
    runtime: Runtime, directory: Path
) -> None:
    ids = [_record(runtime) for _ in range(20)]
    runtime.stop()
    log = check_whole_log(directory)
    assert log.checkpoints[-1][0] == len(log.entries)
    assert [one["id"] for one in log.decisions] == ids
    assert _states(directory)[0] == "start"
    assert _states(directory)[-1] == "stop"
    assert list((directory / "journal").glob("*.journal")) == []


def test_a_stop_keeps_its_time_beside_a_witness_that_hangs(
    runtime: Runtime, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hangs is what asks: the lock of whoever asks is held for as long."""
    asking, answered = threading.Event(), threading.Event()
    given: list[float] = []

    def hang(*, timeout: float) -> None:
        given.append(timeout)
        asking.set()
        answered.wait(timeout)

    # Whoever takes over the lead asks too.
    _wait_for_level(runtime, _record(runtime), "included")
    monkeypatch.setattr(runtime._leader._witnessing, "ask", hang)
    monkeypatch.setattr(runtime._leader._witnessing, "due", lambda: True)
    assert asking.wait(10)
    threads = runtime._leader._threads
    runtime.stop(1)
    assert any(thread.is_alive() for thread in threads)
    assert given == [10], "nobody asks a second time"
    answered.set()
    assert _states(directory) == ["start", "completed", "stop"]


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_a_stop_returns_while_another_process_hangs_in_a_transaction(
    directory: Path, durability: str
) -> None:
    """Such as one that was stopped by a debugger: nobody can write until it goes on."""
    runtime = Runtime(config_of(directory, durability=durability))
    assert runtime.flush(10)
    lock = os.open(directory / "log.sqlite3.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    id_ = _record(runtime)
    stopping = threading.Thread(target=runtime.stop, args=(0.5,), daemon=True)
    stopping.start()
    stopping.join(30)
    assert not stopping.is_alive()
    os.close(lock)
    runtime._recorder._thread.join(10)
    runtime._leader._threads[0].join(10)
    Runtime(config_of(directory)).stop()
    log = check_whole_log(directory)
    assert [one["id"] for one in log.decisions] == [id_]


def test_a_thread_that_the_stop_overtakes_gets_no_number(
    runtime: Runtime, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be in no entry and in no journal."""
    issue = runtime._emitter.issue

    def overtaken(id_: bytes, time: int) -> int:
        runtime.stop()
        return issue(id_, time)

    monkeypatch.setattr(runtime._emitter, "issue", overtaken)
    with pytest.raises(StorageError, match="has been stopped in this process"):
        _record(runtime)
    assert _states(directory) == ["start", "stop"]


def test_a_runtime_can_be_started_again_after_a_stop(directory: Path) -> None:
    for _ in range(3):
        runtime = runtime_for(config_of(directory))
        _record(runtime)
        runtime.stop()
        runtime.stop()
    assert _states(directory) == ["start", "completed", "stop"] * 3


def test_many_decisions_do_not_wait_for_the_interval(directory: Path) -> None:
    config = config_of(directory, checkpoint_interval=3600, checkpoint_decisions=10)
    runtime = Runtime(config)
    try:
        ids = [_record(runtime) for _ in range(11)]
        _wait_for_level(runtime, ids[0], "included")
    finally:
        runtime.stop()


def test_two_runtimes_share_a_log_and_the_second_takes_over(directory: Path) -> None:
    one, two = (Runtime(config_of(directory)) for _ in range(2))
    first = [_record(one), _record(two)]
    for id_ in first:
        _wait_for_level(two, id_, "included")
    one.stop()
    _wait_for_level(two, _record(two), "included")
    two.stop()
    log = check_whole_log(directory)
    assert len(log.decisions) == 3
    assert log.checkpoints[-1][0] == len(log.entries)


def test_stopping_at_once_leaves_nothing_unsigned(directory: Path) -> None:
    runtimes = [Runtime(config_of(directory)) for _ in range(3)]
    for runtime in runtimes:
        for _ in range(5):
            _record(runtime)
    for runtime in runtimes:
        runtime.stop()
    log = check_whole_log(directory)
    assert len(log.decisions) == 15
    assert log.checkpoints[-1][0] == len(log.entries)


KILLED = """
import os, signal, sys
from pathlib import Path
from auditlog.log.runtime import Runtime
from tests.log.builders import config_of, exchange
runtime = Runtime(config_of(Path(sys.argv[1])))
for number in range(5):
    one = exchange(0)
    one.sequence = runtime.open(one.id, one.time)
    if number < 3:
        runtime.submit(one)
runtime.flush(10)
os.kill(os.getpid(), signal.SIGKILL)
"""


def _kill_one(directory: Path, program: str = KILLED) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, str(directory)]
    killed = subprocess.run(command, env=env, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL


def test_what_a_killed_process_had_open_is_interrupted_once(directory: Path) -> None:
    _kill_one(directory)
    for _ in range(2):
        Runtime(config_of(directory)).stop()
    states = _states(directory)
    assert states[:4] == ["start", "completed", "completed", "completed"]
    assert states[4:7] == ["interrupted", "interrupted", "unclean-stop"]
    assert states[7:] == ["start", "stop"] * 2
    with open_log(directory, read_only=True) as log:
        report = check_log(log)
    assert (report.problems, report.unchecked) == ((), ())


ACCEPTED = """
import os, signal, sys, threading
from pathlib import Path
from auditlog.log import recorder
from auditlog.log.runtime import Runtime
from auditlog.storage.sqlite import SqliteStore
from tests.log.builders import config_of, exchange
recorder._BEHIND_SECONDS = 3600  # on a slow machine, the third would wait for the store
SqliteStore.append = lambda *_: threading.Event().wait()
runtime = Runtime(config_of(Path(sys.argv[1]), durability="sync"))
told = threading.Semaphore(0)
for number in range(5):
    one = exchange(0)
    one.sequence = runtime.open(one.id, one.time)
    if number < 3:
        runtime.submit(one, lambda error: error or told.release())
for _ in range(3):
    assert told.acquire(timeout=50)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_accepted_is_stored_once(directory: Path) -> None:
    """It dies with three decisions accepted, none of them in the store."""
    Runtime(config_of(directory)).stop()
    _kill_one(directory, ACCEPTED)
    assert _states(directory) == ["start", "stop"]
    for _ in range(2):
        Runtime(config_of(directory)).stop()
    states = _states(directory)[2:]
    assert states[:4] == ["start", "completed", "completed", "completed"]
    assert states[4:7] == ["interrupted", "interrupted", "unclean-stop"]
    assert states[7:] == ["start", "stop"] * 2
    assert not list((directory / "journal").glob("*.accepted"))


@pytest.fixture
def left(directory: Path) -> Iterator[LogDirectory]:
    """Return a log, and what a dead process left: an accepted decision, and a file."""
    with create_log(config_of(directory)) as log:
        Journal.create(log.paths.journals, DEAD).abandon()
        yield log


def _accept(log: LogDirectory, *items: SpoolItem) -> None:
    file = AcceptanceFile.create(log.paths.journals, DEAD)
    assert file.append(items)
    file.close(clean=False)


def _decision(log: LogDirectory, emitter: bytes = DEAD) -> SpoolItem:
    describer = Describer(log.origin, emitter, depth=1)
    return Preparation(describer, log.keys).prepare(exchange(0))


def test_an_accepted_item_is_stored_as_it_is(left: LogDirectory) -> None:
    item = _decision(left)
    _accept(left, item)
    assert recover(left, now_us()) == 1
    assert left.store.read(0, 1) == [item.entry]


def _other_origin(log: LogDirectory) -> SpoolItem:
    return plain_item(Entry(new_id(1), GAP, "log.example/other", 1, {}))


def _mismatch(log: LogDirectory) -> SpoolItem:
    item = _decision(log)
    return item._replace(row=item.row._replace(outcome="rejected"))


FOREIGN: dict[str, Callable[[LogDirectory], SpoolItem]] = {
    "no entry": lambda log: _decision(log)._replace(entry=b"{}"),
    "an entry that is too long": lambda log: _decision(log)._replace(
        entry=b"x" * 70_000
    ),
    "a row of another entry": _mismatch,
    "another log": _other_origin,
    "another emitter": lambda log: _decision(log, bytes(16)),
    "content without its key": lambda log: _decision(log)._replace(key_id=None),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_no_process_of_ours_accepted_is_refused(
    left: LogDirectory, what: str
) -> None:
    """Whole frames with a right checksum: nothing of it comes into the log."""
    _accept(left, _decision(left), FOREIGN[what](left))
    with pytest.raises(StorageError, match=r"accepted holds an item that no process"):
        recover(left, now_us())
    assert left.store.size() == 0
    assert len(list(left.paths.journals.glob(f"{DEAD.hex()}.*"))) == 2


def test_what_it_admitted_itself_is_not_admitted_again(left: LogDirectory) -> None:
    """A number that could not be journalled was named; then the process died."""
    emitter, now = os.urandom(16), now_us()
    journal = Journal.create(left.paths.journals, emitter)
    for number in (0, 2):
        journal.opened(number, new_id(now), now)
    said = gap_entry(emitter, 1, 1, "unjournalled", left.origin, now, now)
    other = gap_entry(bytes(16), 0, 2, "overload", left.origin, now, now)
    left.store.append([plain_item(said), plain_item(other)])
    journal.abandon()
    recover(left, now)
    found = [parse_entry(entry).data for entry in left.store.read(0, left.store.size())]
    ours = [one for one in found if one["emitter"] == format_base64(emitter)]
    assert [one["sequence"] for one in ours if "sequence" in one] == [0, 2]
    gaps = [(one["from"], one["to"]) for one in ours if "reason" in one]
    assert gaps == [(1, 1), (3, None)]


def test_very_many_numbers_are_admitted_in_many_appends(
    left: LogDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One append takes 64 MiB: after a long outage of the store there is more."""
    emitter = os.urandom(16)
    journal = Journal.create(left.paths.journals, emitter)
    for number in range(2500):
        journal.opened(number, new_id(now_us()), now_us())
    journal.abandon()
    appended: list[int] = []
    append = left.store.append

    def count(items: Sequence[SpoolItem]) -> int:
        appended.append(len(items))
        return append(items)

    monkeypatch.setattr(left.store, "append", count)
    assert recover(left, now_us()) == 2
    assert max(appended) == 1024
    assert len(left.store.sequences(emitter)) == 2500


def test_an_owner_that_stores_to_the_last_moment_does_not_stop_recovery(
    left: LogDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop that timed out leaves a thread whose append may still come to its end."""
    items = [_decision(left), plain_item(Entry(new_id(2), GAP, left.origin, 2, {}))]
    _accept(left, *items)
    append = left.store.append

    def append_after(given: Sequence[SpoolItem]) -> int:
        monkeypatch.undo()
        append(items[:1])
        return append(given)

    monkeypatch.setattr(left.store, "append", append_after)
    assert recover(left, now_us()) == 1
    assert left.store.read(0, 2) == [item.entry for item in items]


def test_two_that_start_at_once_recover_once(directory: Path) -> None:
    _kill_one(directory)
    starting = "import sys; from pathlib import Path; from tests.log.builders import *"
    starting += "; from auditlog.log.runtime import Runtime"
    starting += "; Runtime(config_of(Path(sys.argv[1]))).stop()"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen([sys.executable, "-c", starting, str(directory)], env=env)
        for _ in range(3)
    ]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert sorted(_states(directory)) == sorted(
        ["start"] * 4
        + ["completed"] * 3
        + ["interrupted"] * 2
        + ["unclean-stop"]
        + ["stop"] * 3
    )


def test_a_restored_backup_is_not_signed(
    runtime: Runtime, directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Publish, go back to the database of before, and keep the checkpoints."""
    _wait_for_level(runtime, _record(runtime), "included")
    runtime.stop()
    with open_log(directory) as log, log.store._database.writing() as db:
        db.execute("DELETE FROM spool WHERE first > 0")
    Runtime(config_of(directory)).stop(0.5)
    assert "HALTED, nothing is signed any more" in caplog.text
    assert "an older copy was restored?" in caplog.text


def test_a_journal_that_cannot_be_written_hurts_only_under_closed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        msg = "disk full"
        raise StorageError(msg)

    for on_failure in ("open", "closed"):
        runtime = Runtime(config_of(directory, on_failure=on_failure))
        monkeypatch.setattr(runtime._emitter._journal, "opened", full)
        if on_failure == "open":
            _record(runtime)
        else:
            with pytest.raises(StorageError, match="disk full"):
                _record(runtime)
        monkeypatch.undo()
        runtime.stop()
    assert _states(directory) == [
        *("start", "completed", "stop"),
        *("start", "unjournalled", "stop"),
    ]


def test_a_beat_speaks_for_all_numbers_below_it(
    runtime: Runtime, directory: Path
) -> None:
    _record(runtime)
    one = exchange(0)
    sequence = runtime.open(one.id, one.time)
    runtime._recorder.add_entry(
        runtime._emitter.beat_entry("log.example/tests", one.time)
    )
    assert runtime.flush(5)
    one.sequence = sequence
    runtime.submit(one)
    runtime.stop()
    beats = [
        entry.data
        for entry in map(parse_entry, check_whole_log(directory).entries)
        if entry.data.get("state") == "beat"
    ]
    assert beats[0]["next"] == 2
    assert beats[0]["open"][-1][1] == sequence
    assert len(base64.b64decode(beats[0]["emitter"])) == 16


def test_a_child_made_by_fork_gets_a_runtime_of_its_own(
    runtime: Runtime, directory: Path
) -> None:
    _record(runtime)
    pid = os.fork()
    if pid == 0:
        try:
            child = runtime_for(config_of(directory))
            same = child is runtime
            _record(child)
            child.stop()
            os._exit(1 if same else 0)
        except BaseException:  # noqa: BLE001
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    runtime.stop()
    assert len(check_whole_log(directory).decisions) == 2


def test_a_checkpoint_on_demand_covers_what_nobody_sequenced(directory: Path) -> None:
    with create_log(config_of(directory)) as log:
        with pytest.raises(PendingError, match="the log is empty"):
            make_checkpoint(log)
        log.store.append(gap_items(7))
        note = make_checkpoint(log)
        assert make_checkpoint(log) == note
        assert note.splitlines()[1] == b"7"


def test_an_incomplete_directory_stops_the_start(directory: Path) -> None:
    create_log(config_of(directory)).close()
    (directory / "keys" / "log.key").unlink()
    with pytest.raises(ConfigurationError, match=r"keys/log\.key missing"):
        runtime_for(config_of(directory))
