"""Rotation of the key-encryption key: nothing is lost, and nothing of the old stays."""

import os
import shutil
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from auditlog.core.errors import ConfigurationError, StorageError
from auditlog.core.record import parse_entry
from auditlog.log import rotating
from auditlog.log.backing import back_up, restore
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, create_log, open_log
from auditlog.log.key_entry import KEY, parse_key_entry
from auditlog.log.rotating import Rotated, finish, resume, rotate
from auditlog.log.runtime import Runtime
from auditlog.storage import Query
from auditlog.storage.keys import Keys
from auditlog.storage.sealing import SLOT_SIZE, unwrap_slot
from tests.dying import every_death
from tests.fakes import MemoryStore
from tests.faults.logs import directory_of
from tests.log.builders import config_of, exchange, now_us
from tests.storage.processes import start, wait_all


class Made(NamedTuple):
    """A log with keys, as it was made."""

    directory: Path
    keys: dict[bytes, bytes]
    """By id, those that live."""
    destroyed: bytes
    """Id of one that was destroyed."""
    kek: bytes


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    directory = tmp_path_factory.mktemp("rotating") / "audit"
    with create_log(config_of(directory)) as log:
        keys = dict(log.keys.epoch_key(f"day {n}") for n in range(4))
        destroyed = sorted(keys)[1]
        del keys[destroyed]
        log.keys.destroy(destroyed)
        kek = log.vault_key.known()[0].key if log.vault_key else b""
    return Made(directory, keys, destroyed, kek)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keys under one lock, so that a rotation has several pages."""
    monkeypatch.setattr(rotating, "_PAGE", 2)


@pytest.fixture
def made(made_once: Made, tmp_path: Path) -> Made:
    directory = _copy(made_once, tmp_path / "audit")
    return made_once._replace(directory=directory, keys=dict(made_once.keys))


@pytest.fixture
def log(made: Made) -> Iterator[LogDirectory]:
    with open_log(made.directory) as opened:
        yield opened


def _copy(made: Made, directory: Path) -> Path:
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(made.directory, directory)
    (directory / "place").unlink(missing_ok=True)
    return directory


def _generations(log: LogDirectory) -> list[object]:
    """Return what the log says of rotations, in its order."""
    rows = log.store.find(Query(type=KEY))
    entries = [log.store.read(row.index or 0, (row.index or 0) + 1)[0] for row in rows]
    return [parse_key_entry(parse_entry(entry).data) for entry in reversed(entries)]


def _check_keys(made: Made, generation: int) -> None:
    """Require that every key is as it was, under one generation alone."""
    with open_log(made.directory) as log:
        assert {key_id: log.keys.key(key_id) for key_id in made.keys} == made.keys
        line = (made.directory / "keys" / "vault.key").read_text().split()
        assert int(line[1]) == generation
        slots = _slots(log)
        for key_id, key in made.keys.items():
            slot = log.store.slot_of(key_id) or 0
            wrapped = slots[slot]
            assert unwrap_slot(b64decode(line[0]), wrapped, key_id, slot) == key
        assert slots[log.store.slot_of(made.destroyed) or 0] == bytes(SLOT_SIZE)
        assert check_log(log).problems == ()
    assert sorted(one.name for one in (made.directory / "keys").iterdir()) == [
        *("keyring", "log.key", "vault.key")
    ]


def _slots(log: LogDirectory) -> list[bytes]:
    raw = log.keys.keyring.raw()
    return [raw[at : at + SLOT_SIZE] for at in range(0, len(raw), SLOT_SIZE)]


# --- what it does ---------------------------------------------------------------------


def test_every_key_is_under_the_new_generation_alone(
    log: LogDirectory, made: Made
) -> None:
    before = _slots(log)
    assert rotate(log, now_us()) == Rotated(2, begun_before=False)
    _check_keys(made, 2)
    assert not set(before) & set(_slots(log)) - {bytes(SLOT_SIZE)}
    assert rotate(log, now_us()) == Rotated(3, begun_before=False)
    _check_keys(made, 3)
    assert _generations(log) == [2, 3]


def test_the_old_key_is_in_no_file_and_opens_nothing(
    log: LogDirectory, made: Made
) -> None:
    rotate(log, now_us())
    old = open_log(made.directory).vault_key
    assert old is not None
    assert old.known()[0].key != made.kek
    for slot, wrapped in enumerate(_slots(log)):
        for key_id in made.keys:
            with pytest.raises(Exception, match=r"expected a key wrapped for|version"):
                unwrap_slot(made.kek, wrapped, key_id, slot)
    _check_nowhere(made)


def _check_nowhere(made: Made) -> None:
    text = (made.directory / "keys" / "vault.key").read_bytes()
    assert made.kek not in b64decode(text.split()[0])
    for path in (one for one in made.directory.rglob("*") if one.is_file()):
        data = path.read_bytes()
        assert made.kek not in data, path
        assert made.kek.hex().encode() not in data, path


def test_a_log_without_keys_is_rotated_too(tmp_path: Path) -> None:
    with create_log(config_of(tmp_path / "audit")) as log:
        assert rotate(log, now_us()).generation == 2
        first = log.keys.epoch_key("a")
    with open_log(tmp_path / "audit") as log:
        assert log.keys.epoch_key("a") == first


def test_slots_that_no_key_is_registered_for_are_cleared(
    log: LogDirectory, made: Made
) -> None:
    """Such as one whose maker died before it was registered."""
    with (made.directory / "keys" / "keyring").open("ab") as file:
        file.write(b"\1" * SLOT_SIZE)
    rotate(log, now_us())
    assert _slots(log)[4] == bytes(SLOT_SIZE)
    _check_keys(made, 2)


def test_a_slot_that_does_not_open_stops_it_before_it_begins(
    log: LogDirectory, made: Made
) -> None:
    keyring, key_file = log.paths.keyring, log.paths.vault_key
    whole, before = keyring.read_bytes(), key_file.read_bytes()
    at = max(log.store.slot_of(key_id) or 0 for key_id in made.keys)
    damaged = bytearray(whole)
    damaged[at * SLOT_SIZE + 20] ^= 1
    keyring.write_bytes(damaged)
    with pytest.raises(StorageError, match=rf"slot {at} of the keyring .* not open"):
        rotate(log, now_us())
    assert keyring.read_bytes() == bytes(damaged)
    assert key_file.read_bytes() == before
    assert _generations(log) == []
    keyring.write_bytes(whole)
    rotate(log, now_us())
    _check_keys(made, 2)


def test_a_missing_keyring_is_not_made_anew(log: LogDirectory) -> None:
    log.paths.keyring.unlink()
    before = log.paths.vault_key.read_bytes()
    with pytest.raises(ConfigurationError, match="restore it from its own backup"):
        rotate(log, now_us())
    assert log.paths.vault_key.read_bytes() == before
    assert not log.paths.keyring.exists()


def test_a_key_that_is_in_no_file_cannot_be_rotated(tmp_path: Path) -> None:
    log = directory_of(MemoryStore(), tmp_path)
    with pytest.raises(ConfigurationError, match="of this log is in no file"):
        rotate(log, now_us())


# --- who dies -------------------------------------------------------------------------


def test_whoever_dies_at_any_step_loses_nothing_and_is_finished_by_the_next(
    made_once: Made, tmp_path: Path
) -> None:
    made = made_once._replace(directory=tmp_path / "audit")

    def begin() -> Callable[[], object]:
        _copy(made_once, made.directory)
        return lambda: rotate(open_log(made.directory), now_us())

    steps, seen = 0, set()
    for step in every_death(begin, torn=True):
        with open_log(made.directory) as log:
            # Before anybody mends it, and to whoever only reads:
            assert {one: log.keys.key(one) for one in made.keys} == made.keys
            first = rotate(log, now_us())
            seen.add((first.generation, first.begun_before))
            assert _generations(log) == [2], step
            _check_keys(made, 2)
            _check_nowhere(made)
            assert log.keys.epoch_key("another")
        steps += 1
    assert steps > 15
    assert seen == {(2, False), (2, True)}


def test_the_next_start_finishes_it_and_tells_of_it_once(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    with open_log(made.directory) as log:
        assert log.vault_key is not None
        with log.keys.keyring.writing():
            log.vault_key.begin(os.urandom(32), now_us())
    for _ in range(2):
        Runtime(config_of(made.directory)).stop()
    assert caplog.text.count("finished the rotation to key 2") == 1
    _check_keys(made, 2)
    with open_log(made.directory) as log:
        assert _generations(log) == [2]
        assert finish(log) is None


def test_a_rotation_that_cannot_be_finished_keeps_no_service_out(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    with open_log(made.directory) as log:
        assert log.vault_key is not None
        log.vault_key.begin(os.urandom(32), now_us())
        slot = min(log.store.slot_of(one) or 0 for one in made.keys)
        whole = log.paths.keyring.read_bytes()
        log.paths.keyring.write_bytes(
            whole[: slot * 64] + b"\1" * 64 + whole[slot * 64 + 64 :]
        )
        resume(log)
        assert "could not be finished: slot" in caplog.text
        assert len(log.vault_key.reload()) == 2
        log.paths.keyring.write_bytes(whole)
        resume(log)
    _check_keys(made, 2)


# --- who else is there ----------------------------------------------------------------


def test_a_process_that_runs_follows(made: Made) -> None:
    """It makes keys, and reads old ones, without being told."""
    with open_log(made.directory) as running, open_log(made.directory) as log:
        for generation in (2, 3):
            rotate(log, now_us())
            fresh = Keys(running.keys.keyring, running.store)
            assert {one: fresh.key(one) for one in made.keys} == made.keys
            made.keys.update([running.keys.epoch_key(f"generation {generation}")])
        _check_keys(made, 3)


def test_a_service_records_across_rotations(made: Made) -> None:
    runtime = Runtime(config_of(made.directory))
    for _ in range(3):
        one = exchange(0)
        one.sequence = runtime.open(one.id, one.time)
        runtime.submit(one)
        assert runtime.flush(10)
        with open_log(made.directory) as log:
            rotate(log, now_us())
    runtime.stop()
    with open_log(made.directory) as log:
        report = check_log(log)
        assert (report.problems, report.unchecked) == ((), ())
        assert report.decisions == 3
        assert _generations(log) == [2, 3, 4]


class Pauses:
    """What others do while a rotation lets them at the keyring, in its order."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        self._acts = list(acts)

    def __call__(self, _seconds: float) -> None:
        if self._acts:
            self._acts.pop(0)()


def test_between_pages_keys_are_made_destroyed_and_backed_up(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_log(made.directory) as log, open_log(made.directory) as other:
        gone = max(made.keys, key=lambda one: log.store.slot_of(one) or 0)
        del made.keys[gone]
        fresh = Keys(other.keys.keyring, other.store)

        def act() -> None:
            assert {one: fresh.key(one) for one in made.keys} == made.keys
            made.keys.update([other.keys.epoch_key("between")])
            other.keys.destroy(gone)

        monkeypatch.setattr(time, "sleep", Pauses(act))
        rotate(log, now_us())
        monkeypatch.undo()
        assert _slots(log)[log.store.slot_of(gone) or 0] == bytes(SLOT_SIZE)
    _check_keys(made, 2)


def test_a_backup_between_pages_is_under_one_generation(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_log(made.directory) as log, open_log(made.directory) as other:

        def act() -> None:
            back_up(other, tmp_path / "copy", 10**12, now_us())

        monkeypatch.setattr(time, "sleep", Pauses(act))
        rotate(log, now_us())
        monkeypatch.undo()
        (made.directory / "keys" / "keyring").write_bytes(b"")
        assert restore(other, tmp_path / "copy", now_us()).restored == 3
    with open_log(made.directory) as log:
        assert {one: log.keys.key(one) for one in made.keys} == made.keys


def test_whoever_is_overtaken_begins_with_the_slots_again(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one finishes it, begins the next, and dies."""
    with open_log(made.directory) as log, open_log(made.directory) as other:

        def overtake() -> None:
            assert other.vault_key is not None
            assert rotate(other, now_us()) == Rotated(2, begun_before=True)
            with other.keys.keyring.writing():
                other.vault_key.begin(os.urandom(32), now_us())

        monkeypatch.setattr(time, "sleep", Pauses(overtake))
        rotate(log, now_us())
        monkeypatch.undo()
        assert _generations(log) == [2, 3]
    _check_keys(made, 3)


MAKER = """
    import sys
    from pathlib import Path
    from auditlog.log.directory import open_log
    from auditlog.storage.keys import Keys

    with open_log(Path(sys.argv[1])) as log:
        for number in range(int(sys.argv[3])):
            key_id, key = log.keys.epoch_key(f"{sys.argv[2]} {number}")
            print(key_id.hex(), key.hex(), flush=True)
            # Each anew from the file, which is being wrapped again.
            fresh = Keys(log.keys.keyring, log.store)
            for other, *_ in log.store.registered_keys():
                if other.hex() != sys.argv[4]:
                    fresh.key(other)
    """
ROTATOR = """
    import sys, time
    from pathlib import Path
    from auditlog.log.directory import open_log
    from auditlog.log.rotating import rotate

    with open_log(Path(sys.argv[1])) as log:
        for _ in range(int(sys.argv[2])):
            print(rotate(log, time.time_ns() // 1000).generation)
    """


def test_processes_that_rotate_and_make_keys_at_once(made: Made) -> None:
    gone = made.destroyed.hex()
    written = wait_all(
        [
            *(start(MAKER, made.directory, who, 12, gone) for who in ("one", "two")),
            *(start(ROTATOR, made.directory, 6) for _ in range(2)),
        ]
    )
    for row in "".join(written[:2]).splitlines():
        key_id, key = map(bytes.fromhex, row.split())
        made.keys[key_id] = key
    assert len(made.keys) == 3 + 24
    numbers = sorted({int(number) for text in written[2:] for number in text.split()})
    # Two may have found one rotation under way, and neither a number twice.
    assert numbers == [*range(2, numbers[-1] + 1)]
    assert 7 <= numbers[-1] <= 13
    with open_log(made.directory) as log:
        assert sorted(map(str, _generations(log))) == sorted(map(str, numbers))
    _check_keys(made, numbers[-1])


DESTROYER = """
    import sys
    from pathlib import Path
    from auditlog.log.directory import open_log

    with open_log(Path(sys.argv[1])) as log:
        for one in sys.argv[2:]:
            log.keys.destroy(bytes.fromhex(one))
    """


def test_a_slot_that_is_destroyed_beside_a_rotation_never_comes_back(
    made: Made,
) -> None:
    with open_log(made.directory) as log:
        doomed = [log.keys.epoch_key(f"doomed {number}")[0] for number in range(30)]
    names = [one.hex() for one in doomed]
    wait_all(
        [start(ROTATOR, made.directory, 8), start(DESTROYER, made.directory, *names)]
    )
    with open_log(made.directory) as log:
        slots = _slots(log)
        assert {slots[log.store.slot_of(one) or 0] for one in doomed} == {bytes(64)}
    _check_keys(made, 9)
