"""Keys that are lost: the service goes on, and nothing is hidden or called erased."""

import json
import os
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from auditlog.capture.subjects import Subject
from auditlog.cli import main
from auditlog.core.errors import ConfigurationError, NotFoundError, StorageError
from auditlog.core.record import DECISION, format_id, parse_entry
from auditlog.log.backing import back_up, restore
from auditlog.log.check import CheckReport, check_log
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.erasing import erase, plan_erasure
from auditlog.log.key_entry import KEY, LostWord, parse_key_entry
from auditlog.log.losing import declare_lost, find_lost
from auditlog.log.preparation import plain_item
from auditlog.log.reader import Reader
from auditlog.log.rotating import rotate
from auditlog.log.runtime import Runtime
from auditlog.storage import ERASED, Query
from auditlog.storage.journal import emitters_with_journal
from auditlog.storage.keyring import KeyringWriter
from auditlog.storage.sealing import SLOT_SIZE
from auditlog.storage.sqlite import SqliteStore
from tests.filled import ORIGIN, fill_log
from tests.log.builders import config_of, exchange, now_us
from tests.log.erasures import ADA, BOB, made
from tests.log.working import Working

ADAS, BOBS = Subject("person", ADA), Subject("person", BOB)
LOST = "content lost: its key was declared lost"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decisions about Ada, a backup of the keyring, then some about Bob."""
    directory = tmp_path_factory.mktemp("filled") / "audit"
    fill_log(directory, 2, subject=ADAS)
    with open_log(directory) as log:
        back_up(log, directory.with_name("copy"), 10**12, now_us())
    fill_log(directory, 3, subject=BOBS)
    return directory


@pytest.fixture
def directory(filled: Path, tmp_path: Path) -> Path:
    """The same, restored from a backup that lacks Bob's key."""
    copy = Path(copytree(filled, tmp_path / "audit"))
    (copy / "place").unlink()
    with open_log(copy) as log:
        log.paths.keyring.unlink()
        assert restore(log, filled.with_name("copy"), now_us()).missing == 1
    return copy


def _report(log: LogDirectory) -> CheckReport:
    report = check_log(log)
    assert report.problems == ()
    assert report.erased == 0
    return report


def _start(directory: Path) -> None:
    Runtime(config_of(directory, origin=ORIGIN)).stop()


def test_without_a_word_no_service_starts_and_nothing_is_changed(
    directory: Path,
) -> None:
    with pytest.raises(ConfigurationError, match="does not open"):
        _start(directory)
    with open_log(directory) as log:
        size = log.store.size()
        loss = find_lost(log)
        assert (len(loss.key_ids), loss.kinds) == (1, {"subject": 1})
        assert (loss.entries, loss.subjects_left) == (3, 1)
        assert loss.left == 2
        assert log.store.size() == size
        assert log.store.lost_keys() == []


def test_after_it_the_service_goes_on_and_people_get_new_keys(directory: Path) -> None:
    with open_log(directory) as log:
        old = log.keys.subject(*BOBS)
        loss = declare_lost(log, now_us())
        assert loss.key_ids == (old,)
        assert log.keys.subject(*BOBS) is None
    fill_log(directory, 2, subject=BOBS)
    with open_log(directory) as log:
        new = log.keys.subject(*BOBS)
        assert new not in (None, old)
        assert plan_erasure(log, *BOBS, now_us()).decisions == 2
        assert plan_erasure(log, *ADAS, now_us()).decisions == 2
        report = _report(log)
        assert report.unchecked == (f"3 x {LOST}",)
        assert find_lost(log).key_ids == ()
        rotate(log, now_us())
        assert _report(log).unchecked == (f"3 x {LOST}",)


def test_an_entry_names_each_key(directory: Path) -> None:
    with open_log(directory) as log:
        loss = declare_lost(log, now_us())
        (row, *_) = log.store.find(Query(type=KEY))
        (encoded,) = log.store.read(row.index or 0, (row.index or 0) + 1)
        said = parse_key_entry(parse_entry(encoded).data)
        assert said == LostWord(loss.key_ids)


def test_what_is_lost_is_neither_read_nor_erased(directory: Path) -> None:
    with open_log(directory) as log:
        declare_lost(log, now_us())
        newest = log.store.find(Query(type=DECISION, limit=1))[0]
        with pytest.raises(NotFoundError, match="is lost, as was declared: nothing"):
            Reader(log).content(format_id(newest.id))
        stored = log.store.sealed(newest.index or 0)
        assert stored is not None
        assert stored[0] != ERASED
        assert stored[1]


def test_a_copy_that_turns_up_later_opens_nothing(
    directory: Path, filled: Path
) -> None:
    whole = (filled / "keys" / "keyring").read_bytes()
    with open_log(directory) as log:
        (key_id,) = declare_lost(log, now_us()).key_ids
        log.paths.keyring.write_bytes(whole)
        with pytest.raises(NotFoundError, match="was declared lost"):
            log.keys.key(key_id)
        # Said again, what came back is gone again.
        assert declare_lost(log, now_us()).key_ids == ()
        ((_, slot),) = log.store.lost_keys()
        raw = log.keys.keyring.raw()
        assert raw[slot * SLOT_SIZE : (slot + 1) * SLOT_SIZE] == bytes(SLOT_SIZE)
        assert len([*log.store.find(Query(type=KEY))]) == 3


def test_a_backup_that_turns_up_later_brings_nothing_back(
    directory: Path, filled: Path, tmp_path: Path
) -> None:
    whole = (filled / "keys" / "keyring").read_bytes()
    lacking = (directory / "keys" / "keyring").read_bytes()
    with open_log(directory) as log:
        log.paths.keyring.write_bytes(whole)
        back_up(log, tmp_path / "late", 10**12, now_us())
        log.paths.keyring.write_bytes(lacking)
        declare_lost(log, now_us())
        done = restore(log, tmp_path / "late", now_us())
        assert (done.restored, done.erased, done.missing) == (0, 1, 0)
        ((_, slot),) = log.store.lost_keys()
        assert log.keys.keyring.occupied([slot]) == []
        assert _report(log).unchecked == (f"3 x {LOST}",)


def test_with_no_keyring_at_all_everything_is_lost(directory: Path) -> None:
    (directory / "keys" / "keyring").unlink()
    with open_log(directory) as log:
        loss = declare_lost(log, now_us())
        assert loss.kinds == {"index": 1, "subject": 2}
        assert loss.left == 0
    fill_log(directory, 1, subject=ADAS)
    with open_log(directory) as log:
        assert [key[1] for key in log.store.registered_keys()] == [3, 4]
        assert plan_erasure(log, *ADAS, now_us()).decisions == 1
        (unchecked,) = _report(log).unchecked
        assert unchecked.endswith(LOST)


def test_another_vault_key_loses_nothing(directory: Path) -> None:
    vault_key = directory / "keys" / "vault.key"
    kept, keyring = vault_key.read_bytes(), (directory / "keys" / "keyring")
    slots = keyring.read_bytes()
    with open_log(directory) as log:
        lost = find_lost(log)
    vault_key.write_bytes(b64encode(bytes(32)) + b"\n")
    with (
        open_log(directory) as log,
        pytest.raises(ConfigurationError, match=r"vault\.key is another one than"),
    ):
        declare_lost(log, now_us())
    assert keyring.read_bytes() == slots
    vault_key.write_bytes(kept)
    with open_log(directory) as log:
        assert find_lost(log) == lost


def test_those_who_are_left_are_not_made_unfindable(directory: Path) -> None:
    with open_log(directory) as log:
        slot = log.store.key_slot("index", "")
        assert slot is not None
        with log.keys.keyring.writing() as writer:
            writer.destroy([slot[1]])
    with open_log(directory) as log:
        with pytest.raises(ConfigurationError, match="1 of those are not: nobody"):
            declare_lost(log, now_us())
        assert log.store.lost_keys() == []


@pytest.mark.parametrize("also_under_a_lost_one", [False, True])
def test_what_a_dead_process_accepted_under_an_erased_key_stops_nothing(
    tmp_path: Path, also_under_a_lost_one: bool
) -> None:
    """To say that it was erased takes a key, and none can be made before."""
    log = made(tmp_path / "audit")
    work = Working(log)
    others = [exchange(1, subject=BOBS)] if also_under_a_lost_one else []
    work.accept(*others)
    erase(log, plan_erasure(log, *ADAS, now_us()), now=now_us())
    work.die()
    with log.keys.keyring.writing() as writer:
        writer.destroy([key[1] for key in log.store.registered_keys()])
    log.close()
    with open_log(tmp_path / "audit") as log:
        assert "index" in declare_lost(log, now_us()).kinds
        assert emitters_with_journal(log.paths.journals) == frozenset()
        problems = [one.what for one in check_log(log).problems]
        assert [one for one in problems if "start" not in one] == []
    _start(tmp_path / "audit")


def test_beside_a_service_that_runs_nothing_is_given_up(filled: Path) -> None:
    runtime = Runtime(config_of(filled, origin=ORIGIN))
    try:
        with (
            open_log(filled) as log,
            pytest.raises(ConfigurationError, match="stop it"),
        ):
            declare_lost(log, now_us())
    finally:
        runtime.stop()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("owner", "name"), [(SqliteStore, "lose_keys"), (KeyringWriter, "destroy")]
)
def test_whoever_dies_in_the_middle_does_it_again(
    directory: Path, owner: type, name: str, after: bool
) -> None:
    def work() -> None:
        setattr(owner, name, _ending(getattr(owner, name), after=after))
        with open_log(directory) as log:
            declare_lost(log, now_us())

    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with open_log(directory) as log:
        _report(log)
        declare_lost(log, now_us())
        assert len(log.store.lost_keys()) == 1
        assert _report(log).unchecked == (f"3 x {LOST}",)
        assert log.keys.keyring.occupied([log.store.lost_keys()[0][1]]) == []
    _start(directory)


def _ending(function: Callable[..., object], *, after: bool) -> Callable[..., object]:
    def step(*args: object) -> None:
        if after:
            function(*args)
        os._exit(9)

    return step


# --- what check says ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("DELETE FROM lost_keys", "is lost, but not on record as such"),
        (
            "INSERT INTO lost_keys SELECT key_id, slot + 100 FROM keys LIMIT 1",
            "no entry says that it is lost",
        ),
    ],
)
def test_a_loss_that_no_entry_tells_is_found(
    directory: Path, query: str, what: str
) -> None:
    with open_log(directory) as log:
        declare_lost(log, now_us())
        with log.store._database.writing() as connection:
            connection.execute(query)
        found = [one.what for one in check_log(log).problems if "lost" in one.where]
        assert found == [what]


def test_nothing_is_sealed_under_a_lost_key(directory: Path) -> None:
    with open_log(directory) as log:
        row = log.store.find(Query(type=DECISION, limit=1))[0]
        stored = log.store.sealed(row.index or 0)
        assert stored is not None
        declare_lost(log, now_us())
        (encoded,) = log.store.read(row.index or 0, (row.index or 0) + 1)
        item = plain_item(parse_entry(encoded))
        item = item._replace(key_id=stored[0], sealed=stored[1])
        with pytest.raises(StorageError, match="sealed under keys that live"):
            log.store.append([item])


# --- the command line -----------------------------------------------------------------


def test_the_command_shows_first_and_then_does_it(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("--dir", str(directory))
    assert main(["key", "lost", *own]) == 0
    said = capsys.readouterr()
    assert ["entries", "they", "seal", "3"] in [
        x.split() for x in said.out.splitlines()
    ]
    assert "Nothing was changed" in said.err
    assert main(["key", "lost", "--yes", "--json", *own]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "lost": 1,
        "kinds": {"subject": 1},
        "entries": 3,
        "left": 2,
        "dryRun": False,
    }
    assert main(["check", *own]) == 0
    assert f"3 x {LOST}" in "".join(capsys.readouterr())
