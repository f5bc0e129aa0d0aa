"""One writer, many ways to die: the tree is always the one that the spool fixed."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.errors import ConflictError, RollbackError, StorageError
from auditlog.core.note import ED25519, ML_DSA_44, make_signer, open_note
from auditlog.log.sequencer import Sequencer
from auditlog.storage import HeadState
from auditlog.storage.sqlite import SqliteStore
from tests.harness import check_whole_log
from tests.log.builders import ORIGIN, gap_items

SIGNERS = [
    make_signer(ORIGIN, kind, bytes([kind]) * 32) for kind in (ED25519, ML_DSA_44)
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    (tmp_path / "vkeys").write_text("\n".join(s.verifier.vkey for s in SIGNERS))
    with SqliteStore.create(tmp_path / "log.sqlite3", ORIGIN) as store:
        yield store


class Faulty:
    """A store that fails once in one method, before or after doing what was asked."""

    def __init__(self, store: SqliteStore, method: str, *, persisted: bool) -> None:
        self._store = store
        self._method = method
        self._persisted = persisted

    def __getattr__(self, name: str) -> Any:
        real: Callable[..., Any] = getattr(self._store, name)
        return self._fail if name == self._method else real

    def _fail(self, *arguments: Any) -> None:
        method, self._method = self._method, ""
        if self._persisted:
            getattr(self._store, method)(*arguments)
        msg = f"{method} failed"
        raise StorageError(msg)


def _sql(directory: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(directory / "log.sqlite3") as db:
        db.execute(statement, values)
    db.close()


def test_an_empty_log_is_not_signed(store: SqliteStore) -> None:
    assert Sequencer(store, ORIGIN, SIGNERS).step() == 0
    assert store.newest() is None


def test_each_step_publishes_what_the_spool_holds(
    store: SqliteStore, tmp_path: Path
) -> None:
    sequencer = Sequencer(store, ORIGIN, SIGNERS)
    size = 0
    for count in (1, 2, 253, 1, 256, 700, 5):
        store.append(gap_items(count, size))
        size += count
        assert sequencer.pending() == count
        assert sequencer.step() == size
    log = check_whole_log(tmp_path)
    assert [checkpoint[0] for checkpoint in log.checkpoints] == [
        *(1, 3, 256, 257, 513, 1213, 1218)
    ]


def test_a_checkpoint_carries_both_signatures_and_no_extension(
    store: SqliteStore,
) -> None:
    store.append(gap_items(3))
    Sequencer(store, ORIGIN, SIGNERS).step()
    newest = store.newest()
    assert newest is not None
    opened = open_note(newest[1], [signer.verifier for signer in SIGNERS])
    assert [one.verifier.type for one in opened.signatures] == [ED25519, ML_DSA_44]
    assert opened.text.count(b"\n") == 3  # no extension lines


def test_a_step_without_new_entries_signs_nothing_again(store: SqliteStore) -> None:
    store.append(gap_items(3))
    sequencer = Sequencer(store, ORIGIN, SIGNERS)
    sequencer.step()
    before = store.newest()
    assert sequencer.step() == 3
    assert Sequencer(store, ORIGIN, SIGNERS).step() == 3
    assert store.newest() == before


@pytest.mark.parametrize("persisted", [False, True], ids=["lost", "persisted"])
@pytest.mark.parametrize("method", ["put", "swap_head", "prune", "publish"])
@pytest.mark.parametrize("first", [3, 250])
def test_a_failed_write_is_made_good_by_whoever_comes_next(
    store: SqliteStore, tmp_path: Path, method: str, first: int, *, persisted: bool
) -> None:
    store.append(gap_items(first))
    Sequencer(store, ORIGIN, SIGNERS).step()
    store.append(gap_items(300, first))
    faulty: Any = Faulty(store, method, persisted=persisted)
    with pytest.raises(StorageError, match=f"{method} failed"):
        Sequencer(faulty, ORIGIN, SIGNERS).step()
    check_whole_log(tmp_path)
    store.append(gap_items(1, first + 300))
    assert Sequencer(store, ORIGIN, SIGNERS).step() == first + 301
    check_whole_log(tmp_path)


def test_two_sequencers_end_in_one_tree(store: SqliteStore, tmp_path: Path) -> None:
    one, two = (Sequencer(store, ORIGIN, SIGNERS) for _ in range(2))
    for turn in range(6):
        store.append(gap_items(100, 100 * turn))
        one.step() if turn % 2 else two.step()
    # The one that was not first has no checkpoint to add, and refuses to make one.
    with pytest.raises(ConflictError):
        two.step()
    assert check_whole_log(tmp_path).head[1] == 600


def test_a_swap_of_an_old_head_is_refused(store: SqliteStore) -> None:
    store.append(gap_items(2))
    old = store.head()
    Sequencer(store, ORIGIN, SIGNERS).step()
    with pytest.raises(ConflictError):
        store.swap_head(old, HeadState(1, 1, bytes(32)))


def test_a_spool_behind_the_published_checkpoint_is_not_signed(
    store: SqliteStore, tmp_path: Path
) -> None:
    for first in (0, 5):
        store.append(gap_items(5, first))
        Sequencer(store, ORIGIN, SIGNERS).step()
    _sql(tmp_path, "DELETE FROM spool WHERE first = 5")
    with pytest.raises(RollbackError, match=r"size 10 is published.*older copy was"):
        Sequencer(store, ORIGIN, SIGNERS)


def test_an_entry_changed_before_it_is_signed_stops_the_sequencer(
    store: SqliteStore, tmp_path: Path
) -> None:
    store.append(gap_items(5))
    faulty: Any = Faulty(store, "publish", persisted=False)
    with pytest.raises(StorageError):
        Sequencer(faulty, ORIGIN, SIGNERS).step()
    other = gap_items(5, 100)
    framed = b"".join(len(i.entry).to_bytes(2) + i.entry for i in other)
    _sql(tmp_path, "UPDATE spool SET entries = ?", framed)
    with pytest.raises(
        RollbackError, match=r"tile/0/000\.p/5 does not match the stored"
    ):
        Sequencer(store, ORIGIN, SIGNERS).step()
    assert store.newest() is None


def test_a_tile_changed_under_the_sequencer_stops_it(
    store: SqliteStore, tmp_path: Path
) -> None:
    store.append(gap_items(5))
    Sequencer(store, ORIGIN, SIGNERS).step()
    _sql(tmp_path, "UPDATE objects SET data = zeroblob(160)")
    with pytest.raises(RollbackError, match="but the published checkpoint says"):
        Sequencer(store, ORIGIN, SIGNERS)


def test_a_checkpoint_of_another_log_stops_the_sequencer(store: SqliteStore) -> None:
    store.append(gap_items(1))
    Sequencer(store, ORIGIN, SIGNERS).step()
    with pytest.raises(RollbackError, match="stored under size 1 is"):
        Sequencer(store, "log.example/other", SIGNERS)
