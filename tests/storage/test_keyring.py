"""The keyring: one key per epoch whoever asks, nothing readable without the KEK."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    NotFoundError,
    StorageError,
)
from auditlog.storage.keyring import Keyring
from auditlog.storage.keys import Keys
from auditlog.storage.sealing import unwrap_slot
from auditlog.storage.sqlite import SqliteStore
from tests.fakes import MemoryStore
from tests.storage.processes import start, wait_all

KEK = bytes(range(32))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keyring"


@pytest.fixture
def slots() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def ring(path: Path, slots: MemoryStore) -> Keys:
    return Keys(Keyring(path, KEK), slots)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.create(tmp_path / "log.sqlite3", "test.example/log") as created:
        yield created


def test_an_epoch_has_one_key_for_ever(
    ring: Keys, path: Path, slots: MemoryStore
) -> None:
    key_id, key = ring.epoch_key("2025-01-01")
    assert (len(key_id), len(key)) == (16, 32)
    assert ring.epoch_key("2025-01-01") == (key_id, key)
    again = Keys(Keyring(path, KEK), slots)
    assert again.epoch_key("2025-01-01") == (key_id, key)
    assert again.key(key_id) == key


def test_epochs_have_different_keys_in_slots_of_64_bytes(
    ring: Keys, path: Path, slots: MemoryStore
) -> None:
    made = [ring.epoch_key(f"day {n}") for n in range(3)]
    assert len(set(made)) == 3
    data = path.read_bytes()
    assert len(data) == 3 * 64
    for slot, (key_id, key) in enumerate(made):
        assert slots.slot_of(key_id) == slot
        assert key not in data
        wrapped = data[64 * slot : 64 * slot + 64]
        assert unwrap_slot(KEK, wrapped, key_id, slot) == key


def test_many_slots_are_read_with_one_open(
    ring: Keys, path: Path, slots: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [ring.epoch_key(f"day {n}") for n in range(5)]
    ring.destroy(made[2][0])
    opened, open_ = [], Keyring._open

    def counted(keyring: Keyring, flags: int) -> contextlib.AbstractContextManager[int]:
        opened.append(flags)
        return open_(keyring, flags)

    monkeypatch.setattr(Keyring, "_open", counted)
    named = [(key_id, slot) for slot, (key_id, _) in enumerate(made)]
    keys: list[bytes | None] = [key for _, key in made]
    keys[2] = None
    assert Keyring(path, KEK).read_many(named[::-1]) == keys[::-1]
    assert len(opened) == 2, "once to look at its permissions, once to read"
    with pytest.raises(StorageError, match=r"slot 1 of the keyring .* not open"):
        ring.keyring.read_many([named[0], (named[0][0], 1)])


def test_the_file_is_private(ring: Keys, path: Path) -> None:
    ring.epoch_key("a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_created_before_the_first_key(ring: Keys, path: Path) -> None:
    assert not path.exists()
    with pytest.raises(NotFoundError, match=r"no key 0101.* is registered"):
        ring.key(b"\1" * 16)
    assert not path.exists()


def test_a_keyring_never_shows_keys(ring: Keys) -> None:
    key = ring.epoch_key("a")[1]
    shown = f"{ring!r} {ring}"
    for secret in (key, KEK):
        assert secret.hex() not in shown
        assert repr(secret) not in shown


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_file_that_others_reach_is_refused(
    ring: Keys, path: Path, slots: MemoryStore, mode: int
) -> None:
    ring.epoch_key("a")
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=rf"permissions {mode:04o}.*chmod 600"):
        Keys(Keyring(path, KEK), slots)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        ring.epoch_key("b")


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_kek_of_another_length_is_refused(
    path: Path, slots: MemoryStore, length: int
) -> None:
    with pytest.raises(ConfigurationError, match=rf"32 bytes, got {length}"):
        Keys(Keyring(path, bytes(length)), slots)


def test_another_kek_opens_nothing_and_makes_nothing(
    ring: Keys, path: Path, slots: MemoryStore
) -> None:
    key_id, _ = ring.epoch_key("a")
    before = path.read_bytes()
    other = Keys(Keyring(path, KEK[::-1]), slots)
    with pytest.raises(StorageError, match="key-encryption key is another one"):
        other.key(key_id)
    with pytest.raises(StorageError, match="key-encryption key is another one"):
        other.epoch_key("b")
    assert path.read_bytes() == before
    assert slots.key_slot("epoch", "b") is None


def test_a_missing_keyring_is_not_made_anew(
    ring: Keys, path: Path, slots: MemoryStore
) -> None:
    key_id, _ = ring.epoch_key("a")
    path.unlink()
    late = Keys(Keyring(path, KEK), slots)
    with pytest.raises(ConfigurationError, match="restore it from its own backup"):
        late.key(key_id)
    with pytest.raises(ConfigurationError, match="restore it from its own backup"):
        late.epoch_key("b")
    assert not path.exists()
    # This one has the key in memory, and still makes no second keyring.
    with pytest.raises(StorageError, match="No such file"):
        ring.epoch_key("b")


def test_a_keyring_older_than_its_database_is_reported(
    ring: Keys, path: Path, slots: MemoryStore
) -> None:
    ring.epoch_key("a")
    old = path.read_bytes()
    key_id, _ = ring.epoch_key("b")
    path.write_bytes(old)
    with pytest.raises(StorageError, match="older than the database"):
        Keys(Keyring(path, KEK), slots).key(key_id)


def test_slots_cannot_be_swapped(ring: Keys, path: Path, slots: MemoryStore) -> None:
    key_id, _ = ring.epoch_key("a")
    ring.epoch_key("b")
    data = path.read_bytes()
    path.write_bytes(data[64:] + data[:64])
    with pytest.raises(StorageError, match=r"slot 0 of the keyring .* does not open"):
        Keys(Keyring(path, KEK), slots).key(key_id)


def test_a_slot_that_was_written_but_not_registered_is_used_again(
    ring: Keys, path: Path, slots: MemoryStore
) -> None:
    first = ring.epoch_key("a")
    slots.faults["add_keys"] = "lost"
    with pytest.raises(StorageError, match="failed as ordered"):
        ring.epoch_key("b")
    assert len(path.read_bytes()) == 2 * 64
    second = ring.epoch_key("b")
    assert len(path.read_bytes()) == 2 * 64
    again = Keys(Keyring(path, KEK), slots)
    assert [again.epoch_key("a"), again.epoch_key("b")] == [first, second]


def test_a_registration_whose_answer_was_lost_is_found(
    ring: Keys, path: Path, slots: MemoryStore
) -> None:
    slots.faults["add_keys"] = "persisted"
    with pytest.raises(StorageError, match="failed as ordered"):
        ring.epoch_key("a")
    key_id, key = ring.epoch_key("a")
    assert Keys(Keyring(path, KEK), slots).key(key_id) == key
    assert len(path.read_bytes()) == 64


def test_a_destroyed_key_is_gone_from_the_disk(
    ring: Keys, path: Path, slots: MemoryStore
) -> None:
    kept = ring.epoch_key("a")
    key_id, _ = ring.epoch_key("b")
    ring.destroy(key_id)
    assert path.read_bytes()[64:] == bytes(64)
    for keyring in (ring, Keys(Keyring(path, KEK), slots)):
        with pytest.raises(NotFoundError, match=rf"key {key_id.hex()} was destroyed"):
            keyring.key(key_id)
        assert keyring.epoch_key("a") == kept
    with pytest.raises(NotFoundError, match="was destroyed"):
        ring.epoch_key("b")


def test_a_key_is_made_after_a_destroyed_one(ring: Keys, path: Path) -> None:
    key_id, _ = ring.epoch_key("a")
    ring.destroy(key_id)
    ring.epoch_key("b")
    assert path.read_bytes()[:64] == bytes(64)
    assert len(path.read_bytes()) == 128


def test_destroying_what_never_was_is_refused(ring: Keys) -> None:
    with pytest.raises(NotFoundError, match="is registered"):
        ring.destroy(b"1" * 16)


@pytest.mark.parametrize("slot", [-1, 1 << 32, 1 << 62])
def test_a_slot_out_of_range_is_refused(
    ring: Keys, slots: MemoryStore, slot: int
) -> None:
    ring.epoch_key("a")
    slots.keys[b"2" * 16] = (slot, "epoch", "b")
    with pytest.raises(StorageError, match=rf"below 4294967296, got {slot}"):
        ring.key(b"2" * 16)


def test_a_keyring_that_is_no_file_is_refused(path: Path, slots: MemoryStore) -> None:
    path.mkdir(mode=0o700)
    with pytest.raises(ConfigurationError, match="is not a plain file"):
        Keys(Keyring(path, KEK), slots)


def test_a_link_to_a_keyring_elsewhere_is_followed(
    ring: Keys, path: Path, slots: MemoryStore
) -> None:
    made = ring.epoch_key("a")
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))
    assert Keys(Keyring(path, KEK), slots).epoch_key("a") == made


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.one_of(st.binary(max_size=200), st.binary(min_size=64, max_size=64)))
def test_any_bytes_in_the_file_give_an_error_of_ours(path: Path, data: bytes) -> None:
    slots = MemoryStore()
    slots.add_keys([(b"1" * 16, 0, "epoch", "a")])
    slots.add_keys([(b"2" * 16, 1, "epoch", "b")])
    path.write_bytes(data)
    path.chmod(0o600)
    ring = Keys(Keyring(path, KEK), slots)
    for label in ("a", "b"):
        with pytest.raises(AuditLogError, match=r"does not open|was destroyed"):
            ring.epoch_key(label)


RACE = """
    import sys
    from pathlib import Path
    from auditlog.storage.keyring import Keyring
    from auditlog.storage.keys import Keys
    from auditlog.storage.sqlite import SqliteStore

    directory = Path(sys.argv[1])
    with SqliteStore(directory / "log.sqlite3") as store:
        ring = Keys(Keyring(directory / "keyring", bytes(range(32))), store)
        for number in range(20):
            key_id, key = ring.epoch_key(f"epoch {number}")
            print(number, key_id.hex(), key.hex())
    """


def test_processes_that_race_get_the_same_keys(
    store: SqliteStore, tmp_path: Path
) -> None:
    written = wait_all([start(RACE, tmp_path) for _ in range(4)])
    assert len(written[0].splitlines()) == 20
    assert len(set(written)) == 1
    ring = Keys(Keyring(tmp_path / "keyring", KEK), store)
    lines = [line.split() for line in written[0].splitlines()]
    assert [ring.key(bytes.fromhex(row[1])).hex() for row in lines] == [
        row[2] for row in lines
    ]
    assert (tmp_path / "keyring").stat().st_size == 20 * 64


def full(fd: int, data: bytes, offset: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def nearly_full(fd: int, data: bytes, offset: int) -> int:
    return 7


@pytest.mark.parametrize("pwrite", [full, nearly_full])
def test_a_full_disk_is_reported_and_nothing_registered(
    ring: Keys,
    slots: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    pwrite: Callable[[int, bytes, int], int],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(StorageError, match=r"cannot write .*keyring: disk full"):
            ring.epoch_key("a")
    assert slots.key_slot("epoch", "a") is None
    assert ring.epoch_key("a")


def test_a_slot_is_durable_before_it_is_registered(
    ring: Keys, slots: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, add_key = os.fsync, slots.add_keys

    def traced_sync(fd: int) -> None:
        calls.append("sync directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync")
        sync(fd)

    def traced_add(keys: Sequence[tuple[bytes, int, str, str]]) -> None:
        calls.append("register")
        add_key(keys)

    monkeypatch.setattr(os, "fsync", traced_sync)
    monkeypatch.setattr(slots, "add_keys", traced_add)
    ring.epoch_key("a")
    assert calls == ["sync", "sync directory", "register"]
