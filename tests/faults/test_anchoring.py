"""Anchoring: each call to the store or the anchor fails, or is the last one.

Whoever comes next must arrive where nobody failed: every row told of once, nothing paid
for twice, everything final in the end.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.errors import StorageError
from auditlog.log.anchoring import Anchoring
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.runtime import Runtime
from tests.anchoring import KINDS, FakeAnchor, World, check_attestations, write_anchors
from tests.command import environment
from tests.e2e.processes import wait_until
from tests.faults.logs import ITEMS, DiskLog, MemoryLog, directory_of, sequencer_of
from tests.faults.stores import (
    CHANGES,
    FATES,
    Fate,
    FaultyStore,
    acknowledged_by,
    fork,
    rows,
)
from tests.harness import check_whole_log
from tests.log.builders import config_of, exchange

ROOT = Path(__file__).parents[2]
START = 1_800_000_000.0
ROUNDS = 3


def _prepare(store: Any) -> None:
    store.append(ITEMS[:5])
    sequencer_of(store).step()


def _anchoring(log: LogDirectory, now: float) -> Anchoring:
    return Anchoring(log, config_of(log.paths.directory), lambda: now, kinds=KINDS)


def _work(log: LogDirectory) -> None:
    """Have one checkpoint anchored, from the submission to the end, and another."""
    for number in range(ROUNDS):
        _anchoring(log, START + 1000 * number).round("now")
    log.store.append(ITEMS[5:6])
    sequencer_of(log.store).step()
    _anchoring(log, START + 5000).round("now")


def _finish(log: LogDirectory) -> None:
    """Let those who come next do their work, until all is final."""
    for number in range(ROUNDS + 2):
        _anchoring(log, START + 10_000 + 1000 * number).round("now")
        if not log.store.attestations_by("a1", state="pending"):
            break
    sequencer_of(log.store).step()


def _expect_all(log: LogDirectory, directory: Path, *, disk: bool) -> None:
    newest = max(log.store.attested_sizes())
    for size in log.store.attested_sizes():
        assert [row.state for row in log.store.attestations(size)] == ["final"]
    assert newest >= 5
    World(directory / "world").check()
    if disk:
        check_attestations(log)
        assert check_log(log).problems == ()


def _begin(directory: Path, **table: object) -> None:
    write_anchors(directory, {"mode": "spend", **table})
    World(directory / "world").set("ripe")


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The calls to the store while nobody fails."""
    directory = tmp_path_factory.mktemp("calls")
    log = MemoryLog(_prepare)
    store = log.copy(directory)
    counted = FaultyStore(store)
    _begin(directory)
    _work(directory_of(counted, directory))
    calls = list(counted.calls)
    _finish(directory_of(store, directory))
    _expect_all(directory_of(store, directory), directory, disk=False)
    return calls


def test_the_calls_are_those_that_matter(calls: list[str]) -> None:
    assert calls.count("put_attestation") == 2 * 3
    assert calls.count("append") == 2 * 3 + 1
    assert calls.index("put_attestation") < calls.index("append")


@pytest.mark.parametrize("again", ["the same", "another"])
def test_a_call_that_fails(tmp_path: Path, calls: list[str], again: str) -> None:
    log = MemoryLog(_prepare)
    for number, fate in rows(calls, "lost", "persisted"):
        if again == "another" and calls[number] not in CHANGES:
            continue  # To read makes no difference to those who come later.
        directory = tmp_path / f"{number}-{fate}"
        directory.mkdir()
        store = log.copy(directory)
        _begin(directory)
        faulty = FaultyStore(store, {number: fate})
        with suppress(StorageError):
            _work(directory_of(faulty, directory))
        healthy = directory_of(faulty if again == "the same" else store, directory)
        _finish(healthy)
        _expect_all(healthy, directory, disk=False)
        log.check(store, directory)


def test_a_call_that_is_the_last(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, calls: list[str]
) -> None:
    """Only calls that change something: between two others nothing is different."""
    log = DiskLog(_prepare, tmp_path_factory.mktemp("log"))
    writes = [
        (number, fate)
        for number, fate in rows(calls, "killed before", "killed after")
        if calls[number] in {"put_attestation", "append"}
    ]
    for number, fate in writes:
        directory = tmp_path / f"{number}-{fate}"
        with log.copy(directory) as store:
            _begin(directory)
            _expect_death(log, directory, {number: fate})
            _after_death(log, store, directory)


@pytest.mark.parametrize("fate", FATES)
@pytest.mark.parametrize("number", range(3))
def test_a_question_that_is_the_last(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, number: int, fate: Fate
) -> None:
    """To submit, to send, to look: the anchor may have done it, or not."""
    log = DiskLog(_prepare, tmp_path_factory.mktemp("log"))
    fates = ["", "", ""]
    fates[number] = {"persisted": "lost", "lost": "unreachable"}.get(fate, fate)
    with log.copy(tmp_path) as store:
        _begin(tmp_path, fates=fates)
        if "killed" in fate:
            _expect_death(log, tmp_path, {})
        else:
            _anchoring(directory_of(store, tmp_path), START).round("now")
        _begin(tmp_path)
        _after_death(log, store, tmp_path)


def _expect_death(log: DiskLog, directory: Path, fates: dict[int, Fate]) -> None:
    def work(say: Callable[[str], None]) -> None:
        with log.reopened(directory) as store:
            anchors = directory_of(FaultyStore(store, fates), directory)
            # One process asks with one anchor, as a server does.
            anchoring = _anchoring(anchors, START)
            if fates:
                _work(anchors)
            for _ in range(ROUNDS):
                anchoring.round("now")
        say("survived")

    assert acknowledged_by(work) == []


def _after_death(log: DiskLog, store: Any, directory: Path) -> None:
    healthy = directory_of(store, directory)
    _finish(healthy)
    _expect_all(healthy, directory, disk=True)
    log.check(store, directory)


# --- two at once ----------------------------------------------------------------------


def test_two_processes_pay_once_and_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    log = DiskLog(_prepare, tmp_path_factory.mktemp("log"))
    with log.copy(tmp_path) as store:
        _begin(tmp_path)

        def work(say: Callable[[str], None]) -> None:
            with log.reopened(tmp_path) as mine:
                opened = directory_of(mine, tmp_path)
                for number in range(10):
                    anchoring = _anchoring(opened, START + number)
                    anchoring.round("now", patience=60)
            say("done")

        children = [fork(work) for _ in range(3)]
        assert [child.wait() for child in children] == [["done"]] * 3
        assert len(World(tmp_path / "world").submissions()) == 1
        _after_death(log, store, tmp_path)


# --- a server that is killed ----------------------------------------------------------

SERVER = """
import sys, time
from pathlib import Path
from auditlog.log.runtime import Runtime
from tests.anchoring import KINDS
from tests.log.builders import config_of, exchange
config = config_of(Path(sys.argv[1]), anchor_interval=0.05)
runtime = Runtime(config, kinds=KINDS)
while True:
    one = exchange(0)
    one.sequence = runtime.open(one.id, one.time)
    runtime.submit(one)
    time.sleep(0.02)
"""


def _record(runtime: Runtime) -> None:
    one = exchange(0)
    one.sequence = runtime.open(one.id, one.time)
    runtime.submit(one)


def test_a_server_that_is_killed_in_its_rounds_goes_on(tmp_path: Path) -> None:
    """Three times at some moment; then one goes on, and stops as it should."""
    directory = tmp_path / "audit"
    directory.mkdir()
    _begin(directory)
    world = World(directory / "world")
    env = environment(PYTHONPATH=str(ROOT))
    for _ in range(3):
        before = len(world.told("submit", "upgrade"))
        command = [sys.executable, "-c", SERVER, str(directory)]
        with subprocess.Popen(command, env=env) as process:
            try:
                wait_until(
                    lambda: len(world.told("submit", "upgrade")) > before + 3,  # noqa: B023
                    60,
                    "a few questions to the anchor",
                )
            finally:
                os.kill(process.pid, signal.SIGKILL)
    runtime = Runtime(config_of(directory, anchor_interval=0.05), kinds=KINDS)
    _record(runtime)
    runtime.stop()
    check_whole_log(directory)
    with open_log(directory) as log:
        _finish_now(log)
        _expect_all(log, directory, disk=True)


def _finish_now(log: LogDirectory) -> None:
    config = config_of(log.paths.directory)
    for _ in range(ROUNDS):
        Anchoring(log, config, time.time, kinds=KINDS).round("now", patience=60)


def test_a_stop_anchors_the_last_entries_and_signs_what_that_added(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "audit"
    directory.mkdir()
    write_anchors(directory, {})
    runtime = Runtime(config_of(directory, anchor_interval=3600), kinds=KINDS)
    _record(runtime)
    assert runtime.flush(10)
    runtime.stop()
    whole = check_whole_log(directory)
    with open_log(directory) as log:
        newest = max(log.store.attested_sizes())
        check_attestations(log)
    assert b'"state":"stop"' in whole.entries[newest - 1]
    assert len(whole.entries) == newest + 1 == whole.checkpoints[-1][0]


def test_a_stop_keeps_its_time_beside_an_anchor_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auditlog.log.leader._LAST_ANCHORS_SECONDS", 0.5)
    directory = tmp_path / "audit"
    directory.mkdir()
    write_anchors(directory, {})
    runtime = Runtime(config_of(directory, anchor_interval=3600), kinds=KINDS)
    anchoring = runtime._leader._anchoring
    wait_until(lambda: bool(anchoring._works), 30, "the first look")
    (anchor,) = anchoring._file.anchors()
    assert isinstance(anchor, FakeAnchor)
    wait_until(lambda: len(anchor.world.told("submit")) == 1, 30, "the first round")
    answered, waited = threading.Event(), list[bool]()
    anchor.before = lambda call: waited.append(answered.wait(60))
    _record(runtime)
    assert runtime.flush(10)
    runtime.stop(90)
    assert waited == [], "nobody waited for its answer"
    whole = check_whole_log(directory)
    assert b'"state":"stop"' in whole.entries[-1], "signed, though not anchored"
    answered.set()
    for thread in threading.enumerate():
        if thread.name == "auditlog-anchor-a1":
            thread.join()


def test_a_start_with_anchors_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    directory.mkdir()
    write_anchors(directory, {"mode": "sing"})
    with pytest.raises(Exception, match=r"anchor a1: expected mode and world"):
        Runtime(config_of(directory), kinds=KINDS)
    assert not list((directory / "journal").glob("*.journal"))
    write_anchors(directory, {})
    Runtime(config_of(directory), kinds=KINDS).stop()
