"""The journal: what was issued survives SIGKILL, full disks and torn tails."""

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog.core.errors import StorageError
from auditlog.storage import journal as journal_module
from auditlog.storage.files import FileLock
from auditlog.storage.journal import (
    AbandonedJournal,
    Journal,
    JournalRecord,
    abandoned,
    find_open,
)
from tests.faults.stores import no_more_files_open
from tests.storage.processes import forked, killed_after, start

EMITTER = b"e" * 16
HEADER, RECORD = 37, 36


def an_id(number: int) -> bytes:
    return number.to_bytes(16)


def record(number: int) -> JournalRecord:
    return JournalRecord(number, an_id(number), 1000 + number)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(directory: Path) -> Journal:
    return Journal.create(directory, EMITTER)


def path_of(directory: Path, emitter: bytes = EMITTER) -> Path:
    return directory / f"{emitter.hex()}.journal"


def open_all(journal: Journal, *numbers: int) -> None:
    for number in numbers:
        journal.opened(*record(number))


def recovered(directory: Path) -> AbandonedJournal:
    (found,) = abandoned(directory)
    found.close()
    return found


def test_a_journal_never_grows_beyond_what_can_be_read_and_compacted(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the store is away nothing settles, however many requests come."""
    monkeypatch.setattr(journal_module, "_FULL_BYTES", HEADER + 100 * RECORD)
    monkeypatch.setattr(journal_module, "_MAX_BYTES", HEADER + 100 * RECORD)
    journal = Journal.create(directory, EMITTER)
    open_all(journal, *range(100))
    with pytest.raises(StorageError, match="is full: too many numbers are open"):
        open_all(journal, 100)
    assert path_of(directory).stat().st_size == HEADER + 100 * RECORD
    journal.compact([record(7)], 100)
    open_all(journal, *range(101, 200))
    with pytest.raises(StorageError, match="is full"):
        open_all(journal, 200)
    journal.abandon()
    with recovered(directory) as found:
        assert [one.sequence for one in found.records] == [7, *range(101, 200)]


# --- writing --------------------------------------------------------------------------


def test_a_journal_is_private_and_of_fixed_records(
    journal: Journal, directory: Path
) -> None:
    open_all(journal, 0, 1)
    path = path_of(directory)
    assert path.stat().st_size == HEADER + 2 * RECORD
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert path.read_bytes().startswith(b"alogjrnl\x01" + EMITTER + bytes(8))


def test_what_was_opened_is_recovered_in_order(
    journal: Journal, directory: Path
) -> None:
    open_all(journal, 2, 0, 1)
    journal.abandon()
    found = recovered(directory)
    assert found.emitter == EMITTER
    assert found.records == (record(0), record(1), record(2))
    assert (found.base, found.damaged) == (0, 0)


def test_an_opened_number_is_one_system_call(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    write = os.write

    def traced(fd: int, data: bytes) -> int:
        calls.append(len(data))
        return write(fd, data)

    monkeypatch.setattr(os, "write", traced)
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append(-1))
    open_all(journal, 0, 1)
    assert calls == [RECORD, RECORD]


def test_a_synced_journal_syncs_each_record(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.create(directory, EMITTER, sync=True)
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    open_all(journal, 0, 1)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1, b"short", 1), "an id of 16 bytes, got 5"),
        ((1, bytes(17), 1), "an id of 16 bytes, got 17"),
        ((-1, bytes(16), 1), "below 2\\^64, got -1 and 1"),
        ((1, bytes(16), 1 << 64), "below 2\\^64"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(
    journal: Journal, directory: Path, values: tuple[int, bytes, int], message: str
) -> None:
    with pytest.raises(StorageError, match=message):
        journal.opened(*values)
    assert path_of(directory).stat().st_size == HEADER


def test_an_emitter_has_one_journal(journal: Journal, directory: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot create .*: File exists"):
        Journal.create(directory, EMITTER)
    open_all(journal, 0)
    assert path_of(directory).stat().st_size == HEADER + RECORD


@pytest.mark.parametrize("length", [0, 15, 17])
def test_an_emitter_of_another_length_is_refused(directory: Path, length: int) -> None:
    with pytest.raises(StorageError, match=f"16 bytes, got {length}"):
        Journal.create(directory, bytes(length))
    assert [file.name for file in directory.iterdir()] == [".lock"]


def test_threads_lose_nothing(journal: Journal, directory: Path) -> None:
    def run(base: int) -> None:
        open_all(journal, *range(base, base + 500))

    threads = [threading.Thread(target=run, args=(n * 500,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.abandon()
    assert recovered(directory).records == tuple(map(record, range(2000)))


# --- ends -----------------------------------------------------------------------------


def test_a_clean_end_leaves_nothing(journal: Journal, directory: Path) -> None:
    open_all(journal, 0)
    journal.close_clean()
    journal.close_clean()
    journal.abandon()
    assert not path_of(directory).exists()
    assert abandoned(directory) == []


@pytest.mark.parametrize("end", [Journal.abandon, Journal.close_clean])
def test_a_closed_journal_takes_nothing(
    journal: Journal, directory: Path, end: Callable[[Journal], None]
) -> None:
    end(journal)
    # Whoever gets the next free descriptor must not be written to.
    with (directory / "stranger").open("wb") as stranger:
        assert stranger.fileno() != journal._fd
        with pytest.raises(StorageError, match="is closed, or of another process"):
            open_all(journal, 1)
        with pytest.raises(StorageError, match="is closed, or of another process"):
            journal.compact([], 1)
        with pytest.raises(StorageError, match="Bad file descriptor"):
            journal._write(b"a thread that was about to write")
    assert (directory / "stranger").read_bytes() == b""


def test_a_living_journal_is_not_abandoned(journal: Journal, directory: Path) -> None:
    open_all(journal, 0)
    assert abandoned(directory) == []
    open_all(journal, 1)
    journal.abandon()
    assert recovered(directory).records == (record(0), record(1))


def test_a_dead_journal_is_recovered_once(journal: Journal, directory: Path) -> None:
    journal.abandon()
    (first,) = abandoned(directory)
    with first:
        assert abandoned(directory) == []
        first.remove()
    first.close()
    assert abandoned(directory) == []
    assert [file.name for file in directory.iterdir()] == [".lock"]


def test_a_recovery_that_fails_is_left_to_the_next(
    journal: Journal, directory: Path
) -> None:
    open_all(journal, 7)
    journal.abandon()
    with pytest.raises(ZeroDivisionError), abandoned(directory)[0]:
        raise ZeroDivisionError
    assert recovered(directory).records == (record(7),)


def test_each_emitter_has_its_own(directory: Path) -> None:
    for byte in (3, 1, 2):
        journal = Journal.create(directory, bytes([byte]) * 16)
        open_all(journal, byte)
        journal.abandon()
    found = abandoned(directory)
    assert [one.emitter[0] for one in found] == [1, 2, 3]
    assert [one.records for one in found] == [(record(n),) for n in (1, 2, 3)]
    for one in found:
        one.close()


def test_no_directory_means_no_journals(directory: Path) -> None:
    assert abandoned(directory) == []
    assert find_open(directory, bytes(16)) is None
    assert not directory.exists()


RUN = """
    import sys
    from pathlib import Path
    from auditlog.storage.journal import Journal
    journal = Journal.create(Path(sys.argv[1]), b"e" * 16)
    number = 0
    while True:
        journal.opened(number, number.to_bytes(16), 1000 + number)
        print(number, flush=True)
        number += 1
        if number % 50 == 0:
            last = number - 1
            journal.compact([(last, last.to_bytes(16), 1000 + last)], number)
    """


@pytest.mark.parametrize("lines", [1, 75, 400])
def test_what_was_opened_survives_sigkill(directory: Path, lines: int) -> None:
    written = killed_after(start(RUN, directory), lines)
    last = int(written[-1])
    found = recovered(directory)
    assert found.damaged == 0
    kept = {one.sequence: one for one in found.records}
    assert kept == {number: record(number) for number in kept}
    assert set(range(found.base, last + 1)) <= set(kept)
    assert found.base <= max(kept) + 1


# --- fork -----------------------------------------------------------------------------


def test_a_child_writes_nothing_and_holds_nothing(
    journal: Journal, directory: Path
) -> None:
    open_all(journal, 0)

    def work() -> None:
        with pytest.raises(StorageError, match="is closed, or of another process"):
            open_all(journal, 1)
        journal.abandon()
        journal.close_clean()
        assert abandoned(directory) == []

    forked(work)
    open_all(journal, 2)
    ready, go = os.pipe()
    pid = os.fork()
    if pid == 0:  # A child that outlives the journal.
        os.close(go)
        os.read(ready, 1)
        os._exit(0)
    journal.abandon()
    assert recovered(directory).records == (record(0), record(2))
    os.close(go)
    os.close(ready)
    os.waitpid(pid, 0)


# --- compaction -----------------------------------------------------------------------


def test_compaction_drops_what_is_settled(journal: Journal, directory: Path) -> None:
    open_all(journal, *range(100))
    journal.compact([record(3), record(97)], 98)
    expected = HEADER + 4 * RECORD
    assert path_of(directory).stat().st_size == expected
    open_all(journal, 100)
    assert abandoned(directory) == []
    journal.abandon()
    found = recovered(directory)
    assert found.base == 98
    assert found.records == tuple(map(record, (3, 97, 98, 99, 100)))


def wants(journal: Journal) -> bool:
    return journal.wants_compaction


def test_compaction_is_wanted_once_the_file_has_grown(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "_COMPACT_BYTES", HEADER + 9 * RECORD)
    journal = Journal.create(directory, EMITTER)
    open_all(journal, *range(9))
    assert not wants(journal)
    open_all(journal, 9)
    assert wants(journal)
    # What stays open must double before it is worth the while again.
    journal.compact([record(n) for n in range(10)], 10)
    assert not wants(journal)
    open_all(journal, *range(10, 20))
    assert not wants(journal)
    open_all(journal, 20, 21)
    assert wants(journal)


def test_numbers_opened_during_compaction_are_kept(
    journal: Journal, directory: Path
) -> None:
    opened = 0

    def run() -> None:
        nonlocal opened
        for number in range(1500):
            open_all(journal, number)
            opened = number + 1

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive():
        following = opened
        journal.compact([record(n) for n in range(following)], following)
    journal.abandon()
    assert recovered(directory).records == tuple(map(record, range(1500)))


def test_a_write_that_meets_the_switch_is_repeated(
    journal: Journal, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stall a thread between its look at the journal and its write to the old file."""
    write = os.write
    old = os.dup(journal._fd)

    def late(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        journal.compact([], 0)
        return write(old, data)  # The old file, already copied and replaced.

    monkeypatch.setattr(os, "write", late)
    open_all(journal, 5)
    os.close(old)
    journal.abandon()
    assert recovered(directory).records == (record(5),)


def test_a_journal_is_never_free_during_compaction(
    journal: Journal, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    sync = os.fsync

    def look_and_sync(fd: int) -> None:
        looks.append(len(abandoned(directory)))
        sync(fd)

    monkeypatch.setattr(os, "fsync", look_and_sync)
    journal.compact([], 0)
    assert looks == [0, 0, 0]


def cut_short_once(when: Callable[[bytes], bool]) -> Callable[[int, bytes], int]:
    write, cut = os.write, [False]

    def short(fd: int, data: bytes) -> int:
        if cut[0] or not when(data):
            return write(fd, data)
        cut[0] = True
        return write(fd, data[:5])

    return short


@pytest.mark.parametrize("broken", ["fsync", "replace", "lock", "copy"])
def test_a_compaction_that_fails_loses_nothing(
    journal: Journal, directory: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    open_all(journal, *range(5))
    calls = [0]
    sync, append = os.fsync, journal.opened

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def second_sync_fails(fd: int) -> None:
        calls[0] += 1
        append(*record(10 + calls[0]))
        if calls[0] == 2:
            fail()
        sync(fd)

    with monkeypatch.context() as patch:
        if broken == "fsync":
            patch.setattr(os, "fsync", second_sync_fails)
        elif broken == "replace":
            patch.setattr(Path, "replace", fail)
        elif broken == "copy":
            open_all(journal, 5)
            patch.setattr(os, "write", cut_short_once(lambda data: len(data) == RECORD))
        else:
            patch.setattr(FileLock, "__enter__", fail)
        with pytest.raises(StorageError, match=r"cannot (compact|write) .*: disk full"):
            journal.compact([record(3)], 5)
    assert sorted(file.suffix for file in directory.iterdir()) == ["", ".journal"]
    open_all(journal, 20)
    more = {"fsync": [11, 12], "copy": [5]}
    expected = [*range(5), *more.get(broken, []), 20]
    journal.compact([record(n) for n in range(5)], 5)
    journal.abandon()
    assert recovered(directory).records == tuple(map(record, expected))


def test_a_crash_before_the_rename_leaves_both_files_to_read(
    journal: Journal, directory: Path
) -> None:
    open_all(journal, 0, 1)
    path = path_of(directory)
    before = path.read_bytes()
    journal.compact([record(1)], 2)
    open_all(journal, 2)
    after = path.read_bytes()
    journal.abandon()
    path.write_bytes(before)
    path.with_name(path.name + ".new").write_bytes(after)
    assert find_open(directory, an_id(2)) == record(2)
    (found,) = abandoned(directory)
    with found:
        assert found.records == tuple(map(record, range(3)))
        assert found.base == 0
        found.remove()
    assert [file.name for file in directory.iterdir()] == [".lock"]


# --- damage ---------------------------------------------------------------------------


def test_a_torn_tail_is_tolerated_at_every_byte(
    journal: Journal, directory: Path
) -> None:
    open_all(journal, 0, 1, 2)
    journal.abandon()
    path = path_of(directory)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = recovered(directory)
        count = max(0, length - HEADER) // RECORD
        assert found.emitter == EMITTER
        assert found.records == tuple(map(record, range(count)))
        torn = length if length < HEADER else (length - HEADER) % RECORD
        assert found.damaged == torn


def test_a_changed_byte_costs_one_record_at_most(
    journal: Journal, directory: Path
) -> None:
    open_all(journal, 0, 1, 2)
    journal.abandon()
    path = path_of(directory)
    whole = path.read_bytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1
        path.write_bytes(changed)
        found = recovered(directory)
        hit = (position - HEADER) // RECORD
        kept = [number for number in range(3) if number != hit]
        assert found.records == tuple(map(record, kept))
        assert found.damaged == (HEADER if position < HEADER else RECORD)


def nothing(fd: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("part", [0, 1, 7, 35])
def test_a_short_write_fails_and_does_not_misalign_the_next(
    journal: Journal, directory: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    open_all(journal, 0)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:part]))
        for _ in range(2):
            with pytest.raises(StorageError, match=r"cannot write .*: disk full"):
                open_all(journal, 1)
        patch.setattr(os, "write", nothing)
        with pytest.raises(StorageError, match=r"cannot write .*: disk full"):
            open_all(journal, 1)
    open_all(journal, 2, 3)
    journal.compact([record(0), record(2)], 3)
    journal.abandon()
    found = recovered(directory)
    assert found.records == (record(0), record(2), record(3))


def test_a_journal_that_cannot_be_begun_leaves_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", nothing)
        with pytest.raises(StorageError, match=r"cannot create .*: disk full"):
            Journal.create(directory, EMITTER)
    assert not path_of(directory).exists()
    Journal.create(directory, EMITTER).close_clean()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), whole=st.integers(0, 2))
def test_any_bytes_are_a_journal_of_what_is_whole(
    tmp_path: Path, data: bytes, whole: int
) -> None:
    emitter = os.urandom(16)
    journal = Journal.create(tmp_path, emitter)
    open_all(journal, *range(whole))
    journal.abandon()
    path = path_of(tmp_path, emitter)
    with path.open("ab") as file:
        file.write(data)
    (found,) = abandoned(tmp_path)
    with found:
        assert found.records == tuple(map(record, range(whole)))
        assert found.damaged == len(data)
        found.remove()


def test_the_journal_of_another_emitter_is_not_believed(
    journal: Journal, directory: Path
) -> None:
    open_all(journal, 0)
    journal.abandon()
    path_of(directory).rename(path_of(directory, b"f" * 16))
    found = recovered(directory)
    assert (found.emitter, found.records) == (b"f" * 16, ())
    assert found.damaged == HEADER + RECORD


def test_other_files_are_left_alone(directory: Path) -> None:
    directory.mkdir()
    for name in ("README", "a.journal", "E" * 32 + ".journal", "e" * 32 + ".journal~"):
        (directory / name).write_bytes(b"x")
    assert abandoned(directory) == []


@pytest.mark.parametrize("kind", ["link", "directory", "huge"])
def test_what_cannot_be_a_journal_is_an_error_of_ours(
    directory: Path, kind: str
) -> None:
    directory.mkdir()
    good = Journal.create(directory, b"a" * 16)
    good.abandon()
    path = path_of(directory)
    if kind == "link":
        path.symlink_to(directory / "elsewhere")
    elif kind == "directory":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate((1 << 28) + 1)
    with pytest.raises(
        StorageError, match=r"symbolic link|directory|at most 268435456"
    ):
        abandoned(directory)
    path.unlink() if kind != "directory" else path.rmdir()
    # The good one was let go.
    assert recovered(directory).emitter == b"a" * 16


# --- look-up --------------------------------------------------------------------------


def test_a_decision_is_found_in_living_and_dead_journals(
    journal: Journal, directory: Path
) -> None:
    open_all(journal, 0, 1)
    dead = Journal.create(directory, b"f" * 16)
    open_all(dead, 2)
    dead.abandon()
    for number in range(3):
        assert find_open(directory, an_id(number)) == record(number)
    assert find_open(directory, an_id(3)) is None


def test_bytes_that_only_look_like_an_id_are_not_found(
    journal: Journal, directory: Path
) -> None:
    open_all(journal, 0)
    assert find_open(directory, EMITTER) is None


@pytest.mark.parametrize("step", ["open_own", "try_lock"])
def test_a_journal_that_another_recovery_removes_meanwhile_is_none(
    directory: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    journal = Journal.create(directory, EMITTER)
    open_all(journal, 1)
    journal.abandon()
    real: Callable[..., Any] = getattr(journal_module, step)

    def after_the_other(*arguments: Any) -> Any:
        if step == "try_lock" or arguments[0] == path_of(directory):
            path_of(directory).unlink(missing_ok=True)
        return real(*arguments)

    monkeypatch.setattr(journal_module, step, after_the_other)
    assert abandoned(directory) == []


def test_a_journal_that_could_not_be_started_is_nobodys(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise StorageError("cannot sync")

    monkeypatch.setattr(journal_module, "sync_directory", fail)
    with no_more_files_open(), pytest.raises(StorageError, match="cannot sync"):
        Journal.create(directory, EMITTER)
    assert not path_of(directory).exists()
