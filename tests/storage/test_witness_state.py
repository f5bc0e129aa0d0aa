"""The memory of a witness: compare-and-swap, refusals, and what is no state at all."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from auditlog.core.errors import (
    ConfigurationError,
    ConflictError,
    StorageError,
)
from auditlog.core.merkle import EMPTY_ROOT
from auditlog.storage.witness_directory import init_witness, open_witness_directory
from auditlog.storage.witness_state import NOTHING_SEEN, Refusal, Seen, WitnessState
from tests.witnesses import WITNESS_NAME, new_state

ORIGIN = "log.example/a"
FIVE = Seen(5, b"5" * 32)
SIX = Seen(6, b"6" * 32)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[WitnessState]:
    with closing(new_state(tmp_path)) as opened:
        yield opened


def test_a_log_that_never_came_has_the_empty_tree(state: WitnessState) -> None:
    assert state.latest(ORIGIN) == NOTHING_SEEN == Seen(0, EMPTY_ROOT)
    assert state.cosigned(ORIGIN) is None
    assert state.refused(ORIGIN) == []


def test_advance_survives_reopening_and_leaves_other_logs_alone(tmp_path: Path) -> None:
    with closing(new_state(tmp_path)) as state:
        state.advance(ORIGIN, NOTHING_SEEN, FIVE, b"note")
        state.advance(ORIGIN, FIVE, SIX, b"note")
        state.keep_cosigned(ORIGIN, SIX, b"cosigned")
    with closing(WitnessState(tmp_path / "state.sqlite3")) as state:
        assert state.latest(ORIGIN) == SIX
        assert state.cosigned(ORIGIN) == b"cosigned"
        assert state.latest("log.example/b") == NOTHING_SEEN


@pytest.mark.parametrize("expected", [NOTHING_SEEN, SIX, Seen(5, b"x" * 32)])
def test_advance_from_another_state_is_refused(
    state: WitnessState, expected: Seen
) -> None:
    state.advance(ORIGIN, NOTHING_SEEN, FIVE, b"note")
    with pytest.raises(ConflictError, match=rf"expected size {expected.size}, got 5"):
        state.advance(ORIGIN, expected, Seen(7, b"7" * 32), b"note")
    assert state.latest(ORIGIN) == FIVE


def test_advance_never_shrinks(state: WitnessState) -> None:
    state.advance(ORIGIN, NOTHING_SEEN, SIX, b"note")
    with pytest.raises(ConflictError, match="expected a size from 6, got 5"):
        state.advance(ORIGIN, SIX, FIVE, b"note")
    assert state.latest(ORIGIN) == SIX


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    new_state(tmp_path).close()
    won: list[Seen] = []

    def write(number: int) -> None:
        tree = Seen(5, bytes([number]) * 32)
        with closing(WitnessState(tmp_path / "state.sqlite3")) as state:
            try:
                state.advance(ORIGIN, NOTHING_SEEN, tree, b"note")
            except ConflictError:
                return
        won.append(tree)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(WitnessState(tmp_path / "state.sqlite3")) as state:
        assert [state.latest(ORIGIN)] == won


def test_a_cosigned_note_of_an_older_tree_is_not_stored(state: WitnessState) -> None:
    state.advance(ORIGIN, NOTHING_SEEN, SIX, b"note")
    state.keep_cosigned(ORIGIN, SIX, b"six")
    state.keep_cosigned(ORIGIN, FIVE, b"five")
    assert state.cosigned(ORIGIN) == b"six"


def test_refused_trees_are_kept_once_with_what_was_seen(state: WitnessState) -> None:
    state.advance(ORIGIN, NOTHING_SEEN, FIVE, b"note of five")
    assert state.keep_refused(ORIGIN, SIX, b"request", 10)
    assert not state.keep_refused(ORIGIN, SIX, b"request again", 11)
    expected = Refusal(6, SIX.root, 10, b"note of five", b"request")
    assert state.refused(ORIGIN) == [expected]


def test_a_tree_that_comes_back_with_its_proof_was_not_refused(
    state: WitnessState,
) -> None:
    state.keep_refused(ORIGIN, FIVE, b"request", 10)
    state.keep_refused(ORIGIN, SIX, b"request", 10)
    state.advance(ORIGIN, NOTHING_SEEN, FIVE, b"note")
    assert [refusal.size for refusal in state.refused(ORIGIN)] == [6]


def test_refused_trees_of_one_log_are_limited(state: WitnessState) -> None:
    kept = [state.keep_refused(ORIGIN, Seen(n, b"r" * 32), b"", n) for n in range(105)]
    assert kept == [True] * 100 + [False] * 5
    assert state.keep_refused("log.example/b", FIVE, b"", 1)


def test_forks_are_kept_also_where_everything_else_is_full(state: WitnessState) -> None:
    for n in range(150):
        state.keep_refused(ORIGIN, Seen(n, b"r" * 32), b"", n)
    kept = [
        state.keep_refused(ORIGIN, Seen(n, b"f" * 32), b"fork", n, forked=True)
        for n in range(105)
    ]
    assert kept == [True] * 100 + [False] * 5
    assert not state.keep_refused(ORIGIN, Seen(999, b"r" * 32), b"", 1)


def test_the_logs_that_ever_came(state: WitnessState) -> None:
    assert state.origins() == []
    state.keep_refused("log.example/b", FIVE, b"request", 10)
    state.advance(ORIGIN, NOTHING_SEEN, FIVE, b"note")
    state.keep_refused(ORIGIN, SIX, b"request", 10)
    assert state.origins() == [ORIGIN, "log.example/b"]


def test_what_is_not_cosigned_yet_is_known(state: WitnessState) -> None:
    assert state.not_cosigned(ORIGIN) is None
    state.advance(ORIGIN, NOTHING_SEEN, FIVE, b"five")
    assert state.not_cosigned(ORIGIN) == (FIVE, b"five")
    state.keep_cosigned(ORIGIN, FIVE, b"five and lines")
    assert state.not_cosigned(ORIGIN) is None
    state.advance(ORIGIN, FIVE, SIX, b"six")
    assert state.not_cosigned(ORIGIN) == (SIX, b"six")


def test_a_state_is_never_created_by_opening_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected the state of a witness at"):
        WitnessState(tmp_path / "state.sqlite3")
    assert list(tmp_path.iterdir()) == []


def test_another_database_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite3"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE seen (origin TEXT)")
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="is no witness state of version 1"):
        WitnessState(path)
    assert path.read_bytes() == before


def test_garbage_is_no_state(tmp_path: Path) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(ConfigurationError, match="is not a database"):
        WitnessState(path)


def test_a_locked_or_closed_state_is_a_storage_error(tmp_path: Path) -> None:
    state = new_state(tmp_path)
    with closing(sqlite3.connect(tmp_path / "state.sqlite3")) as other:
        other.execute("BEGIN IMMEDIATE")
        state._db.execute("PRAGMA busy_timeout = 1")
        with pytest.raises(StorageError, match=r"cannot advance .*locked"):
            state.advance(ORIGIN, NOTHING_SEEN, FIVE, b"note")
    assert state.latest(ORIGIN) == NOTHING_SEEN
    state.close()
    with pytest.raises(StorageError, match="cannot read the witness state"):
        state.latest(ORIGIN)


def test_a_full_disk_is_a_storage_error_and_changes_nothing(
    state: WitnessState,
) -> None:
    pages = state._db.execute("PRAGMA page_count").fetchone()[0]
    state._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match=r"cannot advance .* disk is full"):
        state.advance(ORIGIN, NOTHING_SEEN, FIVE, b"n" * 50_000)
    assert state.latest(ORIGIN) == NOTHING_SEEN
    state.advance(ORIGIN, NOTHING_SEEN, FIVE, b"note")
    assert state.latest(ORIGIN) == FIVE


def test_a_commit_is_synced_to_the_disk(state: WitnessState) -> None:
    settings = [
        state._db.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous")
    ]
    assert settings == ["wal", 2]
    # What monitors are shown can be signed again.
    assert state._derived.execute("PRAGMA synchronous").fetchone()[0] == 1


class TestDirectory:
    def test_init_prints_the_keys_that_open(self, tmp_path: Path) -> None:
        vkeys = init_witness(tmp_path / "a" / "w", WITNESS_NAME)
        state, signers = open_witness_directory(tmp_path / "a" / "w")
        state.close()
        assert [signer.verifier.vkey for signer in signers] == vkeys
        assert [signer.verifier.type for signer in signers] == [4, 6]
        assert {signer.verifier.name for signer in signers} == {WITNESS_NAME}
        assert (tmp_path / "a" / "w" / "vkeys").read_text().splitlines() == vkeys

    def test_secrets_are_for_the_owner_alone(self, tmp_path: Path) -> None:
        directory = tmp_path / "w"
        init_witness(directory, WITNESS_NAME)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "witness.key").stat().st_mode & 0o777 == 0o600
        assert (directory / ".gitignore").read_text() == "*\n"

    def test_two_witnesses_have_different_keys(self, tmp_path: Path) -> None:
        one = init_witness(tmp_path / "one", WITNESS_NAME)
        two = init_witness(tmp_path / "two", WITNESS_NAME)
        assert not set(one) & set(two)

    def test_a_witness_is_not_overwritten(self, tmp_path: Path) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with pytest.raises(ConfigurationError, match="already holds a witness"):
            init_witness(tmp_path, WITNESS_NAME)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    @pytest.mark.parametrize("part", ["witness.key", "witness.sqlite3"])
    def test_a_part_of_a_witness_is_not_completed(
        self, tmp_path: Path, part: str
    ) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        (tmp_path / part).unlink()
        with pytest.raises(ConfigurationError, match=r"already holds a witness \("):
            init_witness(tmp_path, WITNESS_NAME)
        with pytest.raises(ConfigurationError, match=part.replace(".", r"\.")):
            open_witness_directory(tmp_path)

    def test_a_name_that_is_no_key_name(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"cannot be named so: .*spaces"):
            init_witness(tmp_path / "w", "two words")
        assert not (tmp_path / "w").exists()

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match=r"cannot create .*/file/w"):
            init_witness(tmp_path / "file" / "w", WITNESS_NAME)

    @pytest.mark.parametrize("written", [0, 1, 2, 3])
    def test_an_init_that_died_is_not_opened_and_is_done_again(
        self, tmp_path: Path, written: int
    ) -> None:
        vkeys = init_witness(tmp_path, WITNESS_NAME)
        (tmp_path / "initialising").write_bytes(b"")
        for part in ["witness.sqlite3", "vkeys", "witness.key"][written:]:
            (tmp_path / part).unlink()
        with pytest.raises(ConfigurationError, match=r"no complete witness in .*init"):
            open_witness_directory(tmp_path)
        again = init_witness(tmp_path, WITNESS_NAME)
        assert not set(vkeys) & set(again)
        state, signers = open_witness_directory(tmp_path)
        state.close()
        assert [signer.verifier.vkey for signer in signers] == again

    def test_no_directory(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"no complete witness in .*init"):
            open_witness_directory(tmp_path / "nowhere")

    def test_the_state_of_another_witness(self, tmp_path: Path) -> None:
        init_witness(tmp_path / "one", WITNESS_NAME)
        init_witness(tmp_path / "two", WITNESS_NAME)
        other = (tmp_path / "two" / "witness.sqlite3").read_bytes()
        (tmp_path / "one" / "witness.sqlite3").write_bytes(other)
        with pytest.raises(ConfigurationError, match="belong to two witnesses"):
            open_witness_directory(tmp_path / "one")

    def test_keys_that_others_can_read(self, tmp_path: Path) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        (tmp_path / "witness.key").chmod(0o644)
        with pytest.raises(ConfigurationError, match="has permissions 0644"):
            open_witness_directory(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"no key\n", b"\xff\n"])
    def test_a_key_file_without_keys(self, tmp_path: Path, content: bytes) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        (tmp_path / "witness.key").write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"expected .*key.* in "):
            open_witness_directory(tmp_path)

    def test_a_key_file_with_one_key(self, tmp_path: Path) -> None:
        init_witness(tmp_path, WITNESS_NAME)
        first = (tmp_path / "witness.key").read_text().splitlines()[0]
        (tmp_path / "witness.key").write_text(first + "\n")
        with pytest.raises(ConfigurationError, match="an Ed25519 and an ML-DSA-44"):
            open_witness_directory(tmp_path)
