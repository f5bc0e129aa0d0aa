"""Spills: kept bytes on disk, never in clear, never waited for."""

import gc
import os
import resource
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from auditlog.storage.spill import SpillDirectory, SpillFile
from tests.storage.processes import forked

BLOCK = 1 << 16
SEALED = BLOCK + 16
DATA = b"private " * 50_000
"""400,000 bytes: six blocks and a rest."""


def read(spill: SpillFile) -> bytes:
    return b"".join(spill.read())


def open_in(directory: Path, capacity: int = 1 << 30) -> SpillFile:
    return SpillDirectory(directory, capacity).open()


def open_files(directory: Path) -> list[Path]:
    """Return what this process has open below a directory, through /proc."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if str(link.readlink()).startswith(f"{directory}/"):
                found.append(link)
    return found


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("step", [1, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 1 << 20])
def test_what_is_added_is_read(tmp_path: Path, step: int) -> None:
    spill, data = open_in(tmp_path), DATA if step > 1 else DATA[: 2 * BLOCK + 3]
    for at in range(0, len(data), step):
        spill.add(data[at : at + step])
    assert read(spill) == data
    assert read(spill) == data, "it may be read again"


def test_a_body_in_one_message_is_cut_where_it_is(tmp_path: Path) -> None:
    spill, data = open_in(tmp_path), bytes(8 << 20)
    buffer = spill._tail
    spill.add(data)
    assert spill._tail is buffer, "a copy of the rest for each block: 27 s for 64 MiB"
    assert read(spill) == data


def test_less_than_a_block_touches_no_disk(tmp_path: Path) -> None:
    spill = open_in(tmp_path / "missing")
    spill.add(DATA[: BLOCK - 1])
    assert read(spill) == DATA[: BLOCK - 1]
    assert read(open_in(tmp_path)) == b""


def test_nothing_is_on_disk_in_clear_or_under_a_name(tmp_path: Path) -> None:
    spill = open_in(tmp_path)
    spill.add(DATA)
    read(spill)
    assert list(tmp_path.iterdir()) == []
    (file,) = open_files(tmp_path)
    stored = file.read_bytes()
    assert len(stored) == 6 * SEALED
    assert b"private" not in stored
    # Equal blocks differ on disk: here are six of one content.
    assert len({stored[at : at + 1000] for at in range(0, len(stored), SEALED)}) == 6
    assert file.stat().st_mode & 0o077 == 0


def test_each_spill_has_a_key_of_its_own(tmp_path: Path) -> None:
    directory = SpillDirectory(tmp_path, 1 << 30)
    spills = [directory.open() for _ in range(2)]
    for spill in spills:
        spill.add(bytes(BLOCK))
        assert read(spill) == bytes(BLOCK)
    first, second = [file.read_bytes() for file in open_files(tmp_path)]
    assert first != second


def test_a_spill_that_is_forgotten_is_gone(tmp_path: Path) -> None:
    spill = open_in(tmp_path)
    spill.add(DATA)
    read(spill)
    del spill
    gc.collect()
    wait_until(lambda: open_files(tmp_path) == [])


def test_many_spills_are_kept_apart(tmp_path: Path) -> None:
    directory = SpillDirectory(tmp_path, 1 << 30)
    spills = [directory.open() for _ in range(5)]
    for at in range(0, len(DATA), 10_000):
        for number, spill in enumerate(spills):
            spill.add(bytes([number]) + DATA[at + 1 : at + 10_000])
    for number, spill in enumerate(spills):
        whole = read(spill)
        assert len(whole) == len(DATA)
        assert set(whole[::10_000]) == {number}


def test_a_full_disk_keeps_what_fitted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        # As on a full disk, a write stops in the middle of a block, and then fails.
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * SEALED + 100,) * 2)
        directory = SpillDirectory(tmp_path, 1 << 30)
        spills = [directory.open() for _ in range(2)]
        for spill in spills:
            spill.add(DATA)
            assert read(spill) == DATA[: 3 * BLOCK]
            spill.add(DATA)
            assert read(spill) == DATA[: 3 * BLOCK], "there is no gap"
        assert len(caplog.messages) == 1
        assert caplog.messages[0] == (
            "auditlog: the disk does not take all of a large body: the stored copy "
            "is shorter, the commitment covers everything, but messages of a session "
            "may not be shown one by one (said once)"
        )

    forked(work)


def test_a_directory_that_takes_no_file_keeps_nothing(tmp_path: Path) -> None:
    spill = open_in(tmp_path / "missing")
    spill.add(DATA)
    assert read(spill) == b""


def test_no_more_than_the_capacity_is_on_disk(tmp_path: Path) -> None:
    directory = SpillDirectory(tmp_path, 8 * SEALED)
    first, second = directory.open(), directory.open()
    first.add(DATA)
    second.add(DATA)
    assert read(first) == DATA
    assert read(second) == DATA[: 2 * BLOCK]
    # What is gone from the disk makes room again.
    del first
    gc.collect()
    third = directory.open()
    third.add(DATA)
    wait_until(lambda: len(read(third)) == len(DATA))


class SlowFile(SpillFile):
    """A spill on a disk that writes nothing until it may."""

    gate = threading.Event()

    def write(self, block: bytearray, directory: Path) -> None:
        assert self.gate.wait(30)
        super().write(block, directory)


def test_a_slow_disk_is_not_waited_for(tmp_path: Path) -> None:
    SlowFile.gate = threading.Event()
    spill = SlowFile(SpillDirectory(tmp_path, 1 << 30)._writer)
    for _ in range(300):
        spill.add(bytes(BLOCK))
    SlowFile.gate.set()
    # What waited in memory was written: 16 MiB, in order, without a gap.
    assert read(spill) == bytes(256 * BLOCK)


def test_a_disk_that_hangs_costs_the_copy_and_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditlog.storage.spill._READ_SECONDS", 0.05)
    SlowFile.gate = threading.Event()
    spill = SlowFile(SpillDirectory(tmp_path, 1 << 30)._writer)
    spill.add(DATA)
    try:
        assert read(spill) == b""
    finally:
        SlowFile.gate.set()


def test_damage_on_disk_shortens_the_copy(tmp_path: Path) -> None:
    spill = open_in(tmp_path)
    spill.add(DATA)
    read(spill)
    (file,) = open_files(tmp_path)
    with file.open("r+b") as stored:
        stored.seek(2 * SEALED + 7)
        byte = stored.read(1)
        stored.seek(-1, os.SEEK_CUR)
        stored.write(bytes([byte[0] ^ 1]))
    assert read(spill) == DATA[: 2 * BLOCK]


def test_a_forked_child_spills_by_itself(tmp_path: Path) -> None:
    directory = SpillDirectory(tmp_path, 8 * SEALED)
    inherited = directory.open()
    inherited.add(DATA)

    def work() -> None:
        nonlocal inherited
        spill = directory.open()
        spill.add(DATA)
        assert read(spill) == DATA
        del inherited  # does not touch the locks of the parent

    forked(work)
    assert read(inherited) == DATA


def test_the_thread_ends_when_there_is_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())
    monkeypatch.setattr("auditlog.storage.spill._IDLE_SECONDS", 0.01)
    directory = SpillDirectory(tmp_path, 1 << 30)
    for _ in range(2):
        spill = directory.open()
        spill.add(DATA)
        assert read(spill) == DATA
        wait_until(lambda: set(threading.enumerate()) <= before)


def no_more_threads(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_without_a_thread_nothing_is_kept_and_nothing_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = SpillDirectory(tmp_path, 1 << 30)
    first, second = directory.open(), directory.open()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more_threads)
        first.add(DATA)
    assert read(first) == b""
    second.add(DATA)
    assert read(second) == DATA, "the next one is tried again"
