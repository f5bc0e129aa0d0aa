"""Two of everything, in real processes: makers, recoverers, sequencers, copies, pasts.

What one host can see is refused at the start. What it cannot see, such as a copy on
another host or an old copy of a whole directory, is seen by a witness, which the next
leader asks before it signs anything.
"""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from auditlog.core.errors import (
    ConfigurationError,
    ConflictError,
    RollbackError,
    StorageError,
)
from auditlog.log.directory import create_log, ensure_log, open_log
from auditlog.log.emitter import Emitter
from auditlog.log.leader import make_checkpoint
from auditlog.log.recovery import recover
from auditlog.log.runtime import Runtime
from auditlog.log.witnessing import Witnessing
from auditlog.storage.journal import Journal
from tests.command import auditlog
from tests.faults.logs import ITEMS, DiskLog, directory_of, sequencer_of
from tests.faults.stores import Fate, FaultyStore, Forked, fork
from tests.faults.tracing import expect_whole
from tests.harness import Log, check_whole_log
from tests.log.builders import config_of, exchange, gap_items, now_us
from tests.witnesses import served_witness


def _nothing(_: object) -> None:
    pass


# --- two that begin -------------------------------------------------------------------


def test_two_that_make_one_log_while_others_die_making_it(tmp_path: Path) -> None:
    """Three try at once, and one of them is killed a little later each time."""
    for round_ in range(12):
        directory = tmp_path / f"{round_}"

        def work(say: Callable[[str], None], directory: Path = directory) -> None:
            log, _ = ensure_log(config_of(directory, origin=None))
            say(log.vkeys[0])
            log.close()

        makers = [fork(work) for _ in range(3)]
        time.sleep(round_ * 0.003)
        makers[round_ % 3].kill()
        keys = {key for maker in makers for key in maker.wait()}
        log, created = ensure_log(config_of(directory, origin=None))
        with log:
            # Whoever saw a log saw this one; nobody saw one that died with its maker.
            assert keys <= {log.vkeys[0]}
            assert not (keys and created)
            assert log.store.size() == 0


def _leave_dead(directory: Path, count: int) -> int:
    """Leave journals of dead processes, with three numbers each; return how many."""
    for number in range(count):
        id_ = bytes([number]) * 16
        emitter = Emitter(Journal.create(directory / "journal", id_), id_)
        for _ in range(3):
            one = exchange(0)
            sequence = emitter.issue(one.id, one.time)
            emitter.put_on_record(sequence, one.id, one.time)
        emitter.close(clean=False)
    return 3 * count


FATES: tuple[Fate, ...] = ("killed before", "killed after")


@pytest.mark.parametrize("fate", FATES)
def test_two_that_recover_while_a_third_dies_of_it(tmp_path: Path, fate: Fate) -> None:
    (tmp_path / "log").mkdir()
    log = DiskLog(_nothing, tmp_path / "log")
    for number in range(0, 20, 3):
        directory = tmp_path / f"{number}"
        log.copy(directory).close()
        lost = _leave_dead(directory, 4)

        def work(
            say: Callable[[str], None],
            directory: Path = directory,
            fates: dict[int, Fate] | None = None,
        ) -> None:
            with log.reopened(directory) as store:
                recover(directory_of(FaultyStore(store, fates), directory), now_us())
                say("done")

        dying = partial(work, fates={number: fate})
        for one in [fork(dying), fork(work), fork(work)]:
            one.wait()
        with log.reopened(directory) as store:
            recover(directory_of(store, directory), now_us())
            sequencer_of(store).step()
        found = check_whole_log(directory)
        assert len(found.decisions) == lost
        assert len(found.entries) == lost + 4


def test_two_sequencers_without_a_lock_while_each_is_killed(tmp_path: Path) -> None:
    """Both believe they lead, and die at a random call; another takes the place."""
    choice = random.Random(7)
    (tmp_path / "log").mkdir()
    log = DiskLog(_nothing, tmp_path / "log")
    store = log.copy(tmp_path / "audit")

    def work(say: Callable[[str], None], last: int = 0) -> None:
        fates: dict[int, Fate] = {last: choice.choice(FATES)}
        with log.reopened(tmp_path / "audit") as mine:
            faulty = FaultyStore(mine, fates)
            while True:
                try:
                    sequencer = sequencer_of(faulty)
                    while True:
                        sequencer.step()
                except (ConflictError, StorageError):
                    continue

    def begin() -> Forked:
        last = choice.randrange(5, 150)
        return fork(lambda say: work(say, last))

    running = [begin(), begin()]
    size = 0
    for _ in range(30):
        count = choice.choice((1, 3, 17, 40))
        store.append(ITEMS[size : size + count])
        size = min(size + count, len(ITEMS))
        for place in (0, 1):
            running[place].wait()
            running[place] = begin()
        check_whole_log(tmp_path / "audit")
    for one in running:
        one.kill()
        one.wait()
    with store:
        sequencer_of(store).step()
    found = check_whole_log(tmp_path / "audit")
    assert found.head[1] == len(found.entries) == size
    assert len(found.checkpoints) > 10


# --- two copies -----------------------------------------------------------------------


def _recorded(directory: Path, count: int = 3) -> Log:
    """Record some decisions in one boot of a process."""
    runtime = Runtime(config_of(directory))
    for _ in range(count):
        one = exchange(0)
        one.sequence = runtime.open(one.id, one.time)
        runtime.submit(one)
    runtime.stop()
    return check_whole_log(directory)


def test_a_copy_beside_its_original_refuses_to_go_on(tmp_path: Path) -> None:
    _recorded(tmp_path / "audit")
    copy = shutil.copytree(tmp_path / "audit", tmp_path / "copy")
    before = check_whole_log(copy)
    with pytest.raises(ConfigurationError, match=r"is a copy of the log in .*/audit, "):
        Runtime(config_of(copy))
    done = auditlog("checkpoint", "--dir", copy)
    assert (done.status, done.out) == (2, "")
    assert "two that go on would fork it" in done.err
    assert check_whole_log(copy) == before
    # What only reads may read a copy, and the original goes on.
    assert auditlog("check", "--dir", copy).status == 0
    _recorded(tmp_path / "audit")


def test_a_copy_of_a_running_log_refuses_to_go_on(tmp_path: Path) -> None:
    runtime = Runtime(config_of(tmp_path / "audit"))
    try:
        copy = shutil.copytree(tmp_path / "audit", tmp_path / "copy")
        with pytest.raises(ConfigurationError, match="which is still there"):
            Runtime(config_of(copy))
    finally:
        runtime.stop()


def test_a_log_that_was_moved_goes_on(tmp_path: Path) -> None:
    _recorded(tmp_path / "audit")
    (tmp_path / "audit").rename(tmp_path / "moved")
    assert len(_recorded(tmp_path / "moved").decisions) == 6
    # A new log may begin where the old one was.
    assert len(_recorded(tmp_path / "audit").decisions) == 3
    assert len(_recorded(tmp_path / "moved").decisions) == 9


def test_a_backup_takes_the_place_of_what_was_lost(tmp_path: Path) -> None:
    _recorded(tmp_path / "audit")
    shutil.copytree(tmp_path / "audit", tmp_path / "backup")
    shutil.rmtree(tmp_path / "audit")
    shutil.copytree(tmp_path / "backup", tmp_path / "audit")
    assert len(_recorded(tmp_path / "audit").decisions) == 6


def test_a_log_seen_under_two_names_is_no_copy(tmp_path: Path) -> None:
    _recorded(tmp_path / "audit")
    (tmp_path / "link").symlink_to(tmp_path / "audit")
    _recorded(tmp_path / "link")
    (tmp_path / "audit" / "place").write_text(f"{tmp_path}/link/.\n")
    assert len(_recorded(tmp_path / "audit").decisions) == 9


def test_the_operator_decides_which_copy_goes_on(tmp_path: Path) -> None:
    _recorded(tmp_path / "audit")
    copy = shutil.copytree(tmp_path / "audit", tmp_path / "copy")
    (copy / "place").unlink()
    assert len(_recorded(copy).decisions) == 6


# --- two pasts ------------------------------------------------------------------------


@contextmanager
def _witnessed(tmp_path: Path) -> Iterator[Path]:
    """Make a log with a witness; yield its directory."""
    directory = tmp_path / "audit"
    with create_log(config_of(directory)) as log:
        vkeys, policy = list(log.vkeys), log.paths.policy
    with served_witness(tmp_path / "witness", vkeys[:1]) as (url, keys):
        lines = [f"log {vkey}" for vkey in vkeys]
        lines += [f"witness w{number} {key} {url}" for number, key in enumerate(keys)]
        lines += ["group both all w0 w1", "quorum both"]
        policy.write_text("\n".join(lines) + "\n")
        yield directory


def _cosigned(directory: Path) -> list[int]:
    with open_log(directory, read_only=True) as log:
        return log.store.cosigned_sizes()


def _swap(directory: Path, other: Path) -> None:
    """Put another copy of a log in its place."""
    shutil.rmtree(directory)
    shutil.copytree(other, directory)


def test_a_backup_that_is_behind_its_witness_signs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The checkpoints went back with everything else: only the witness knows."""
    with _witnessed(tmp_path) as directory:
        _recorded(directory)
        shutil.copytree(directory, tmp_path / "backup")
        after = _recorded(directory)
        assert max(_cosigned(directory)) == len(after.entries)
        _swap(directory, tmp_path / "backup")
        before = check_whole_log(directory)
        _recorded(directory)
        found = check_whole_log(directory)
    assert found.checkpoints == before.checkpoints
    assert caplog.text.count("HALTED, nothing is signed any more") == 1
    assert "was it restored from an old backup?" in caplog.text
    # It recorded all the same: service goes on, and nothing is lost.
    assert len(found.decisions) == len(before.decisions) + 3


def test_asking_a_witness_that_saw_more_is_a_rollback(tmp_path: Path) -> None:
    with _witnessed(tmp_path) as directory:
        _recorded(directory)
        shutil.copytree(directory, tmp_path / "backup")
        _recorded(directory)
        _swap(directory, tmp_path / "backup")
        with (
            open_log(directory) as log,
            pytest.raises(RollbackError, match=r"has seen size \d+, this log has only"),
        ):
            Witnessing(log, config_of(directory), time.time).ask()
        with open_log(directory) as log:
            log.store.append(gap_items(1, origin=log.origin))
            signed = log.store.newest()
        assert auditlog("checkpoint", "--witness", "--dir", directory).status == 10
        with open_log(directory) as log:
            assert log.store.newest() == signed, "it was asked before, not after"


def test_of_two_copies_that_both_went_on_one_is_halted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As on two hosts, neither of which sees the other; the second one has more."""
    with _witnessed(tmp_path) as directory:
        _recorded(directory)
        other = shutil.copytree(directory, tmp_path / "other")
        (other / "place").unlink()
        _recorded(directory)
        assert "HALTED" not in caplog.text
        before = check_whole_log(other)
        _recorded(other, 20)
        _recorded(other, 20)
        assert check_whole_log(other).checkpoints == before.checkpoints
        assert caplog.text.count("HALTED") == 2
        caplog.clear()
        _recorded(directory)
    assert "HALTED" not in caplog.text
    assert max(_cosigned(directory)) == len(check_whole_log(directory).entries)


def test_of_two_that_grew_before_they_were_asked_one_is_halted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The copy is larger than what the witness saw, and grew from an older state."""
    with _witnessed(tmp_path) as directory:
        _recorded(directory)
        other = shutil.copytree(directory, tmp_path / "other")
        (other / "place").unlink()
        with open_log(other) as log:
            log.store.append(ITEMS[:30])
            make_checkpoint(log)
        _recorded(directory)
        before = check_whole_log(other)
        _recorded(other)
        assert check_whole_log(other).checkpoints == before.checkpoints
    assert "it is not consistent with what this log signed at size 10" in caplog.text
    assert caplog.text.count("HALTED") == 1


def test_a_witness_that_is_away_is_not_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with _witnessed(tmp_path) as directory:
        _recorded(directory)
    started = time.monotonic()
    found = _recorded(directory)
    assert time.monotonic() - started < 5
    assert found.checkpoints[-1][0] == len(found.entries)
    assert "did not cosign" in caplog.text


def test_a_backup_that_no_witness_knows_more_of_goes_on(tmp_path: Path) -> None:
    """What nobody saw but us is not missed by anybody: this is not detected."""
    _recorded(tmp_path / "audit")
    shutil.copytree(tmp_path / "audit", tmp_path / "backup")
    _recorded(tmp_path / "audit")
    _swap(tmp_path / "audit", tmp_path / "backup")
    assert len(_recorded(tmp_path / "audit").decisions) == 6


def test_a_mark_of_an_init_that_came_back_removes_no_entries(tmp_path: Path) -> None:
    """As after a power cut, or when somebody makes a file of that name."""
    before = _recorded(tmp_path / "audit")
    (tmp_path / "audit" / "initialising").touch()
    expect_whole(tmp_path / "audit", [str(one["id"]) for one in before.decisions])
    assert not (tmp_path / "audit" / "initialising").exists()


def test_an_older_keyring_stops_the_start(tmp_path: Path) -> None:
    """A database that is newer than its keyring would seal under lost keys."""
    directory = tmp_path / "audit"
    _recorded(directory)
    (directory / "keys" / "keyring").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="damaged or older than the database"):
        Runtime(config_of(directory))
