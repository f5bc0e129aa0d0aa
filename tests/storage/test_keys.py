"""Keys of subjects and of single decisions: one each, made together, forgotten."""

import hmac
import os
import stat
from collections.abc import Iterator, Sequence
from hashlib import shake_256
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import NotFoundError, StorageError
from auditlog.core.record import format_id
from auditlog.log.identity import new_id
from auditlog.storage.held_keys import MAX_HELD, HeldKey, HeldKeys, Use
from auditlog.storage.keyring import Keyring
from auditlog.storage.keys import INDEX, RECORD, SUBJECT, Keys, subject_tag
from auditlog.storage.sqlite import SqliteStore
from tests.fakes import MemoryStore
from tests.faults.stores import acknowledged_by, die
from tests.log.builders import now_us
from tests.storage.processes import start, wait_all

KEK = bytes(range(32))
ADA, BOB = ("person", "Ada"), ("person", "Bob")


@pytest.fixture
def slots() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def keys(tmp_path: Path, slots: MemoryStore) -> Keys:
    return Keys(Keyring(tmp_path / "keyring", KEK), slots)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.create(tmp_path / "log.sqlite3", "test.example/log") as created:
        yield created


def _erase(slots: MemoryStore, key_id: bytes) -> None:
    """Do what an erasure does to who seals: the key is not registered any more."""
    slots.erased[key_id] = slots.keys.pop(key_id)[0]


# --- what the format says -------------------------------------------------------------


@given(key=st.binary(min_size=32, max_size=32), id_=st.binary(min_size=16, max_size=16))
def test_a_tag_is_what_the_format_says(key: bytes, id_: bytes) -> None:
    told = shake_256()
    for part in (b"auditlog/subject-tag/v1", b"\n", key, id_):
        told.update(part)
    assert subject_tag(key, id_) == told.digest(99)[:16]


@pytest.mark.parametrize("name", ["Ada", "Å", "A\u030a", "\U0001f600", "x" * 1024])
def test_a_label_is_what_the_format_says(
    keys: Keys, slots: MemoryStore, name: str
) -> None:
    key_id, _ = keys.subject_key("customer", name)
    index = keys.key(slots.key_slot(INDEX, "")[0])  # type: ignore[index]
    told = hmac.new(index, digestmod="sha256")
    told.update(bytes([8]) + b"customer" + normalize("NFC", name).encode("utf-8"))
    assert slots.use_of(key_id) == (SUBJECT, told.hexdigest())


def test_the_store_names_nobody(keys: Keys, store: SqliteStore, tmp_path: Path) -> None:
    keys = Keys(Keyring(tmp_path / "keyring", KEK), store)
    keys.subject_key("person", "canary-of-a-name")
    store.close()
    for path in tmp_path.iterdir():
        assert b"canary-of-a-name" not in path.read_bytes(), path


# --- one key each ---------------------------------------------------------------------


def test_a_subject_has_one_key_whatever_its_form(keys: Keys) -> None:
    one = keys.subject_key("person", "\u00e9")
    assert keys.subject_key("person", "e\u0301") == one
    assert keys.subject("person", "e\u0301") == one[0]
    assert keys.kind(one[0]) == SUBJECT


def test_kind_and_identifier_cannot_be_mistaken_for_each_other(keys: Keys) -> None:
    made = keys.subject_keys([("ab", "c"), ("a", "bc"), ("abc", "")])
    assert len(set(made)) == 3


def test_a_subject_that_comes_twice_in_a_batch_has_one_key(
    keys: Keys, slots: MemoryStore
) -> None:
    ada, bob, again = keys.subject_keys([ADA, BOB, ADA])
    assert ada == again != bob
    assert len(slots.keys) == 3, "two subjects, and the key that blinds them"


def test_a_decision_alone_has_a_key_under_its_id(
    keys: Keys, slots: MemoryStore
) -> None:
    ids = [new_id(now_us()) for _ in range(3)]
    made = keys.record_keys(ids)
    assert [slots.use_of(key_id) for key_id, _ in made] == [
        (RECORD, format_id(id_)) for id_ in ids
    ]
    assert keys.record_keys(ids[::-1]) == made[::-1]


def test_looking_for_a_subject_makes_nothing(keys: Keys, slots: MemoryStore) -> None:
    assert keys.subject("person", "nobody") is None
    assert not slots.keys
    keys.subject_key(*ADA)
    assert keys.subject("person", "nobody") is None
    assert len(slots.keys) == 2


def test_of_nobody_no_key_is_asked_for(keys: Keys, slots: MemoryStore) -> None:
    assert keys.subject_keys([]) == []
    assert keys.record_keys([]) == []
    assert not slots.keys


def test_others_find_what_one_made(
    keys: Keys, slots: MemoryStore, tmp_path: Path
) -> None:
    many = [("person", f"{number}") for number in range(600)]
    made = keys.subject_keys(many)
    other = Keys(Keyring(tmp_path / "keyring", KEK), slots)
    assert other.subject_keys([*many, ADA])[:-1] == made


@pytest.mark.parametrize("count", [1, 2, 511, 512, 513, 1300])
def test_the_store_finds_all_labels_that_there_are(
    store: SqliteStore, count: int
) -> None:
    rows = [(b"%016d" % n, n, SUBJECT, f"{n}") for n in range(count)]
    store.add_keys([*rows, (b"x" * 16, count, RECORD, "0")])
    labels = [f"{n}" for n in range(count)] + ["none"]
    expected = {label: (key_id, slot) for key_id, slot, _, label in rows}
    assert store.key_slots(SUBJECT, labels) == expected
    assert store.key_slots(SUBJECT, []) == {}


# --- made together, durably -----------------------------------------------------------


def test_a_thousand_new_subjects_cost_one_sync_and_one_transaction(
    keys: Keys, slots: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys.subject_key("person", "so that the file is there")
    synced: list[str] = []
    sync = os.fsync

    def traced(fd: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
        synced.append("directory" if is_directory else "keyring")
        sync(fd)

    monkeypatch.setattr(os, "fsync", traced)
    slots.writes.clear()
    made = keys.subject_keys([("person", f"{number}") for number in range(1000)])
    assert len(set(made)) == 1000
    assert synced.count("keyring") == 1
    assert slots.writes == ["add_keys"]


def test_of_a_batch_all_keys_are_registered_or_none(
    keys: Keys, slots: MemoryStore, tmp_path: Path
) -> None:
    keys.subject_key("person", "first")
    slots.faults["add_keys"] = "lost"
    with pytest.raises(StorageError, match="failed as ordered"):
        keys.subject_keys([ADA, BOB])
    assert keys.subject(*ADA) is keys.subject(*BOB) is None
    made = keys.subject_keys([ADA, BOB])
    assert (tmp_path / "keyring").stat().st_size == 4 * 64, "its slots are used again"
    other = Keys(Keyring(tmp_path / "keyring", KEK), slots)
    assert other.subject_keys([ADA, BOB]) == made


def test_a_registration_whose_answer_was_lost_is_found(
    keys: Keys, slots: MemoryStore
) -> None:
    keys.subject_key("person", "first")
    slots.faults["add_keys"] = "persisted"
    with pytest.raises(StorageError, match="failed as ordered"):
        keys.subject_keys([ADA, BOB])
    known = {keys.subject(*ADA), keys.subject(*BOB)}
    assert {key_id for key_id, _ in keys.subject_keys([ADA, BOB])} == known


@pytest.mark.parametrize("where", ["before", "after"])
def test_who_is_killed_while_registering_leaves_no_half_key(
    store: SqliteStore, tmp_path: Path, where: str
) -> None:
    path = tmp_path / "keyring"
    first = Keys(Keyring(path, KEK), store).subject_key("person", "first")
    store.close()

    def work(_: object) -> None:
        with SqliteStore(tmp_path / "log.sqlite3") as mine:
            register = mine.add_keys

            def killed(rows: list[tuple[bytes, int, str, str]]) -> None:
                if where == "after":
                    register(rows)
                die()

            mine.add_keys = killed  # type: ignore[assignment, method-assign]
            Keys(Keyring(path, KEK), mine).subject_keys([ADA, BOB])

    assert acknowledged_by(work) == []
    with SqliteStore(tmp_path / "log.sqlite3") as again:
        keys = Keys(Keyring(path, KEK), again)
        assert (keys.subject(*ADA) is None) == (where == "before")
        made = keys.subject_keys([ADA, ("person", "first"), BOB])
        assert made[1] == first
        assert path.stat().st_size == 4 * 64
        for key_id, slot, *_ in again.registered_keys():
            assert keys.keyring.read(key_id, slot)


RACE = """
    import sys
    from pathlib import Path
    from auditlog.storage.keyring import Keyring
    from auditlog.storage.keys import Keys
    from auditlog.storage.sqlite import SqliteStore

    directory = Path(sys.argv[1])
    with SqliteStore(directory / "log.sqlite3") as store:
        keys = Keys(Keyring(directory / "keyring", bytes(range(32))), store)
        for start in range(0, 60, 3):
            many = [("person", f"{start + n}") for n in range(6)]
            for key_id, key in keys.subject_keys(many):
                print(key_id.hex(), key.hex())
    """


def test_processes_that_race_get_the_same_keys(
    store: SqliteStore, tmp_path: Path
) -> None:
    written = wait_all([start(RACE, tmp_path) for _ in range(3)])
    assert len(written[0].splitlines()) == 120
    assert len(set(written)) == 1
    assert len([*store.registered_keys()]) == 63 + 1


# --- forgotten ------------------------------------------------------------------------


def test_an_erased_key_is_given_until_it_is_refused_and_forgotten(
    keys: Keys, slots: MemoryStore
) -> None:
    """The append is what refuses it: nothing is asked of the store for each key."""
    old = keys.subject_key(*ADA)
    _erase(slots, old[0])
    assert keys.subject_key(*ADA) == old
    keys.forget([old[0], b"never there".ljust(16)])
    new = keys.subject_key(*ADA)
    assert new[0] != old[0]
    assert new[1] != old[1]


def test_who_opens_content_holds_no_key_that_can_go_alone(
    keys: Keys, slots: MemoryStore, tmp_path: Path
) -> None:
    made = [keys.subject_key(*ADA), *keys.record_keys([new_id(now_us())])]
    reader = Keys(Keyring(tmp_path / "keyring", KEK), slots)
    for key_id, key in made:
        assert reader.key(key_id) == key
        _erase(slots, key_id)
        for one in (reader, keys):
            with pytest.raises(NotFoundError, match=f"no key {key_id.hex()} is reg"):
                one.key(key_id)


def test_a_key_that_goes_while_it_is_looked_up_is_made_anew(
    keys: Keys, slots: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = keys.subject_key(*ADA)
    other = Keys(Keyring(tmp_path / "keyring", KEK), slots)
    read = other.keyring.read_many

    def erased_first(named: Sequence[tuple[bytes, int]]) -> list[bytes | None]:
        for key_id, slot in named:
            if key_id == old and old in slots.keys:
                with keys.keyring.writing() as writer:
                    writer.destroy([slot])
                _erase(slots, old)
        return read(named)

    monkeypatch.setattr(other.keyring, "read_many", erased_first)
    new, _ = other.subject_key(*ADA)
    assert new != old
    assert other.subject(*ADA) == new


def test_an_erased_key_that_a_backup_brought_back_seals_nothing(
    keys: Keys, slots: MemoryStore
) -> None:
    old, _ = keys.subject_key(*ADA)
    keys.bar([old])
    with pytest.raises(StorageError, match=f"{old.hex()} is registered again, as by"):
        keys.subject_key(*ADA)
    _erase(slots, old)
    assert keys.subject_key(*ADA)[0] != old


def test_slots_of_erased_keys_are_not_used_again(
    keys: Keys, slots: MemoryStore
) -> None:
    old, _ = keys.subject_key(*ADA)
    slot = slots.slot_of(old)
    _erase(slots, old)
    keys.forget([old])
    new, _ = keys.subject_key(*ADA)
    assert slots.slot_of(new) != slot


def test_an_erased_key_is_renewed_as_often_as_asked_until_it_is_forgotten(
    keys: Keys, slots: MemoryStore
) -> None:
    old_id, old = keys.subject_key(*ADA)
    _erase(slots, old_id)
    first, again = keys.renew(old_id), keys.renew(old_id)
    assert first is not None
    assert first == again
    assert first.old == old
    assert (first.key_id, first.key) == keys.subject_key(*ADA)
    keys.forget([old_id])
    assert keys.renew(old_id) is None
    assert (first.key_id, first.key) == keys.subject_key(*ADA)


def test_what_holds_keys_never_shows_them(keys: Keys, slots: MemoryStore) -> None:
    key_id, key = keys.subject_key(*ADA)
    label = slots.use_of(key_id)
    renewed = keys.renew(key_id)
    held = HeldKey(Use(*label), key_id, key)  # type: ignore[misc]
    for shown in (repr(keys), repr(renewed), repr(held), repr(held.use)):
        assert key.hex() not in shown
        assert repr(key) not in shown
        assert label[1] not in shown  # type: ignore[index]


def test_memory_is_bounded_by_the_newest(tmp_path: Path) -> None:
    held = HeldKeys(["epoch"], most=3)
    made = [HeldKey(Use("subject", f"{n}"), b"%016d" % n, bytes(32)) for n in range(9)]
    days = [HeldKey(Use("epoch", f"{n}"), b"e%015d" % n, bytes(32)) for n in range(9)]
    for one, day in zip(made, days, strict=True):
        held.add(one)
        held.add(day)
        held.get(made[0].use)
    assert len(held) == 3 + len(days)
    assert held.named(made[0].key_id) is not None, "used again and again"
    assert held.get(made[5].use) is None
    assert all(held.get(day.use) == day for day in days)


def test_as_many_subjects_as_there_are_leave_few_keys_in_memory(
    keys: Keys, slots: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_held", HeldKeys(["epoch", "index"], most=16))
    many = [("person", f"{number}") for number in range(100)]
    made = keys.subject_keys(many)
    assert len(keys._held) == 16 + 1
    assert keys.subject_keys(many) == made, "the others are found again"
    assert len(slots.keys) == 100 + 1
    assert MAX_HELD >= 2 * 1024, "a batch of the recorder, and one behind it"
