"""The contracts of the ports, for every store that claims to keep them."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from auditlog.core.errors import ConflictError, StorageError
from auditlog.core.merkle import EMPTY_ROOT
from auditlog.storage import (
    ERASED,
    AttestationRow,
    Attestations,
    Cosignature,
    Head,
    HeadState,
    Index,
    IndexRow,
    KeyErasedError,
    Objects,
    Publication,
    Query,
    Scan,
    Spool,
    SpoolItem,
    Vault,
)
from auditlog.storage.keys import KeyRegistry
from auditlog.storage.sqlite import SqliteStore
from tests.fakes import MemoryStore

EMITTER = b"e" * 16
DECISION = "auditlog.decision.v1"


class Store(
    Spool,
    Objects,
    Head,
    Publication,
    Attestations,
    Vault,
    Index,
    Scan,
    KeyRegistry,
    Protocol,
):
    """All ports; mypy holds both stores to it in the fixture below."""


@pytest.fixture(params=["sqlite", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        with SqliteStore.create(tmp_path / "log.sqlite3", "test.example/log") as sqlite:
            yield sqlite


def an_id(number: int) -> bytes:
    return number.to_bytes(16)


def item(number: int, entry: bytes = b"", **fields: object) -> SpoolItem:
    usual = ("route", "/predict"), ("model", "m"), ("version", "1")
    values = dict(usual) | {"emitter": EMITTER, "sequence": number} | fields
    row = IndexRow(None, an_id(number), DECISION, 1000 + number, outcome="completed")
    return SpoolItem(entry or b"entry %d" % number, row._replace(**values))  # type: ignore[arg-type]


# --- Spool ----------------------------------------------------------------------------


def test_positions_are_contiguous_from_zero(store: Store) -> None:
    assert store.size() == 0
    assert store.append([item(0), item(1)]) == 0
    assert store.append([item(2)]) == 2
    assert store.size() == 3
    assert store.read(0, 3) == [b"entry 0", b"entry 1", b"entry 2"]


def test_appending_nothing_changes_nothing(store: Store) -> None:
    store.append([item(0)])
    assert store.append([]) == 1
    assert store.size() == 1


def test_every_range_is_read_across_batches(store: Store) -> None:
    entries = [b"%d" % number * (number % 7 + 1) for number in range(700)]
    items = [item(number, entry) for number, entry in enumerate(entries)]
    for start, end in ((0, 1), (1, 3), (3, 600), (600, 700)):
        assert store.append(items[start:end]) == start
    edges = (0, 1, 2, 3, 257, 258, 259, 260, 515, 600, 601, 699, 700)
    for start in edges:
        for end in (edge for edge in edges if edge >= start):
            assert store.read(start, end) == entries[start:end]


@pytest.mark.parametrize(("start", "end"), [(0, 3), (2, 3), (5, 6), (-1, 1), (2, 1)])
def test_a_range_that_is_not_there_is_refused(
    store: Store, start: int, end: int
) -> None:
    store.append([item(0), item(1)])
    with pytest.raises(StorageError, match=r"entr(y|ies)"):
        store.read(start, end)


def test_the_smallest_and_the_largest_entry_are_kept(store: Store) -> None:
    store.append([item(0, b"x"), item(1, b"y" * 65_535)])
    assert store.read(0, 2) == [b"x", b"y" * 65_535]


@pytest.mark.parametrize("length", [0, 65_536])
def test_an_entry_of_impossible_length_is_refused(store: Store, length: int) -> None:
    bad = item(1)._replace(entry=b"x" * length)
    with pytest.raises(StorageError, match=rf"{length}"):
        store.append([item(0), bad])
    assert store.size() == 0


def test_an_id_stands_once(store: Store) -> None:
    store.append([item(0)])
    twin = item(0, sequence=7)
    with pytest.raises(ConflictError, match="id"):
        store.append([item(1), twin, item(2)])
    assert store.size() == 1
    assert store.by_id(an_id(1)) is None
    assert store.append([item(1)]) == 1


def test_an_id_stands_once_within_a_batch(store: Store) -> None:
    with pytest.raises(ConflictError, match="id"):
        store.append([item(0), item(0, sequence=1)])
    assert store.size() == 0


def test_a_number_of_an_emitter_stands_once(store: Store) -> None:
    store.append([item(0)])
    with pytest.raises(ConflictError, match=r"sequence|number"):
        store.append([item(1, sequence=0)])
    store.append([item(1, sequence=0, emitter=b"f" * 16)])
    assert store.size() == 2


def test_entries_without_a_number_do_not_clash(store: Store) -> None:
    store.append([item(n, emitter=None, sequence=None) for n in range(3)])
    assert store.size() == 3
    assert store.sequences(EMITTER) == []


def test_threads_append_without_loss(store: Store) -> None:
    def run(base: int) -> None:
        for number in range(base, base + 25):
            store.append([item(number)])

    threads = [threading.Thread(target=run, args=(n * 25,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(store.read(0, 100)) == sorted(b"entry %d" % n for n in range(100))
    assert store.sequences(EMITTER) == list(range(100))


# --- Vault, Index, Scan ---------------------------------------------------------------


def test_sealed_content_is_found_by_index(store: Store) -> None:
    store.add_keys([(b"k" * 16, 0, "epoch", "a")])
    with_content = item(1)._replace(key_id=b"k" * 16, sealed=b"sealed")
    store.append([item(0), with_content, item(2)])
    assert store.sealed(0) is None
    assert store.sealed(1) == (b"k" * 16, b"sealed")
    assert store.sealed(9) is None
    assert [store.sealed_by(at) for at in (0, 1, 9)] == [None, b"k" * 16, None]
    assert store.vault_rows(0, 3) == [(1, b"k" * 16, b"sealed")]
    assert store.vault_rows(2, 3) == []


def test_what_is_sealed_under_a_key_that_is_not_registered_is_refused(
    store: Store,
) -> None:
    store.add_keys([(b"k" * 16, 0, "subject", "a")])
    living = item(0)._replace(key_id=b"k" * 16, sealed=b"sealed")
    dead = item(1)._replace(key_id=b"d" * 16, sealed=b"sealed")
    with pytest.raises(KeyErasedError, match="keys that live, got 1 erased") as caught:
        store.append([living, dead, item(2)])
    assert caught.value.key_ids == (b"d" * 16,)
    assert store.size() == 0
    store.append([living])
    # Before anything else: an item that is there already is refused for its key, too.
    with pytest.raises(KeyErasedError):
        store.append([living, dead])


def test_what_was_erased_on_its_way_is_stored_without_content(store: Store) -> None:
    store.append([item(0)._replace(key_id=ERASED, sealed=b"")])
    assert store.sealed(0) == (ERASED, b"")
    assert store.sealed_under(ERASED) == [0]


def test_a_row_is_found_by_id_with_its_position(store: Store) -> None:
    store.append([item(0), item(1)])
    assert store.by_id(an_id(1)) == item(1).row._replace(index=1)
    assert store.by_id(an_id(5)) is None


def test_rows_are_scanned_in_order(store: Store) -> None:
    store.append([item(n) for n in range(5)])
    assert [row.index for row in store.index_rows(1, 3)] == [1, 2]
    assert [row.index for row in store.index_rows(3, 99)] == [3, 4]
    assert store.index_rows(5, 9) == []


def test_the_first_row_of_another_type(store: Store) -> None:
    types = ["a", "b", "a", "c", "b"]
    store.append([item(n, type=type_) for n, type_ in enumerate(types)])
    for start, skipped, index in (
        (0, (), 0),
        (0, ("a",), 1),
        (0, ("a", "b"), 3),
        (4, ("a", "b"), None),
        (9, (), None),
    ):
        row = store.first_but(start, skipped)
        assert (None if row is None else row.index) == index


def test_what_a_key_seals_is_found_among_all_that_matches(store: Store) -> None:
    store.add_keys([(b"k" * 16, 0, "subject", "a"), (b"l" * 16, 1, "subject", "b")])
    sealed = [
        item(n, route=route)._replace(key_id=key * 16, sealed=b"x")
        for n, (route, key) in enumerate(
            [("/a", b"k"), ("/b", b"k"), ("/a", b"l"), ("/a", b"k")]
        )
    ]
    store.append([*sealed, item(4, route="/a")])
    for query, expected in (
        (Query(sealed_under=b"k" * 16), [3, 1, 0]),
        (Query(sealed_under=b"k" * 16, route="/a"), [3, 0]),
        (Query(sealed_under=b"k" * 16, before=3, limit=1), [1]),
        (Query(sealed_under=b"m" * 16), []),
    ):
        assert [row.index for row in store.find(query)] == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), [5, 4, 3, 2, 1, 0]),
        (Query(limit=2), [5, 4]),
        (Query(limit=0), []),
        (Query(limit=-1), []),
        (Query(before=2), [1, 0]),
        (Query(before=4, limit=1), [3]),
        (Query(time_from=1004), [5, 4]),
        (Query(time_to=1002), [1, 0]),
        (Query(time_from=1001, time_to=1003), [2, 1]),
        (Query(model="m"), [5, 3, 1, 0]),
        (Query(model="other"), [4, 2]),
        (Query(model="m", version="2"), [3]),
        (Query(route="/batch"), [5]),
        (Query(outcome="failed", before=3), [2]),
        (Query(type="auditlog.gap.v1"), [0]),
        (Query(about=b"d" * 16), [4, 0]),
        (Query(about=b"d" * 16, type="auditlog.gap.v1"), [0]),
        (Query(about=b"e" * 16), []),
        (Query(routes=("/batch",)), [5]),
        (Query(routes=("/b*", "/nowhere")), [5]),
        (Query(routes=("*",), before=2), [1, 0]),
        (Query(routes=("/p*c*",), model="m"), [3, 1, 0]),
        (Query(routes=("/PREDICT", "/batc?", "/b[a]tch", "*' OR 1=1 --")), []),
        (Query(routes=()), []),
        (Query(ids=(an_id(3), an_id(1), an_id(9))), [3, 1]),
        (Query(ids=(an_id(3), an_id(5)), routes=("/batch",)), [5]),
        (Query(ids=()), []),
        (Query(model="nobody"), []),
        (Query(model="' OR 1=1 --"), []),
    ],
)
def test_a_look_up_finds_newest_first(
    store: Store, query: Query, expected: list[int]
) -> None:
    store.append(
        [
            item(0, type="auditlog.gap.v1", about=b"d" * 16),
            item(1),
            item(2, model="other", outcome="failed"),
            item(3, version="2"),
            item(4, model="other", about=b"d" * 16),
            item(5, route="/batch", outcome="failed"),
        ]
    )
    assert [row.index for row in store.find(query)] == expected


def test_sequences_are_those_of_one_emitter(store: Store) -> None:
    store.append([item(3), item(1), item(2, emitter=b"f" * 16)])
    assert store.sequences(EMITTER) == [1, 3]
    assert store.sequences(b"f" * 16) == [2]
    assert store.sequences(b"g" * 16) == []


# --- Objects --------------------------------------------------------------------------


def test_objects_are_stored_and_listed(store: Store) -> None:
    store.put([("tile/1/000", b"b"), ("tile/0/000", b"a")])
    assert store.get("tile/0/000") == b"a"
    assert store.get("tile/0/001") is None
    assert store.object_paths() == ["tile/0/000", "tile/1/000"]


def test_the_same_bytes_again_succeed(store: Store) -> None:
    store.put([("a", b"1"), ("a", b"1")])
    store.put([("b", b"2"), ("a", b"1")])
    assert store.object_paths() == ["a", "b"]


def test_other_bytes_are_refused_and_nothing_is_stored(store: Store) -> None:
    store.put([("a", b"1")])
    with pytest.raises(ConflictError, match="other bytes are stored under a"):
        store.put([("b", b"2"), ("a", b"3")])
    assert store.get("a") == b"1"
    assert store.get("b") is None
    with pytest.raises(ConflictError, match="other bytes are stored under c"):
        store.put([("c", b"1"), ("c", b"2")])
    assert store.get("c") is None


def test_pruned_objects_are_gone_and_missing_ones_no_error(store: Store) -> None:
    store.put([("a", b"1"), ("b", b"2")])
    store.prune(["a", "nothing"])
    assert store.object_paths() == ["b"]


# --- Head -----------------------------------------------------------------------------


def test_a_new_log_has_generation_and_size_zero(store: Store) -> None:
    assert store.head() == HeadState(0, 0, EMPTY_ROOT)


def test_the_head_moves_by_compare_and_swap(store: Store) -> None:
    first = store.head()
    second = HeadState(1, 3, b"r" * 32)
    store.swap_head(first, second)
    assert store.head() == second
    with pytest.raises(ConflictError, match="generation 0"):
        store.swap_head(first, HeadState(1, 4, b"s" * 32))
    assert store.head() == second


@pytest.mark.parametrize("wrong", [HeadState(0, 1, EMPTY_ROOT), HeadState(0, 0, b"x")])
def test_the_whole_head_is_compared(store: Store, wrong: HeadState) -> None:
    with pytest.raises(ConflictError, match="not generation 0"):
        store.swap_head(wrong, HeadState(1, 5, b"r" * 32))
    assert store.head().generation == 0


@pytest.mark.parametrize("new", [(1, 5), (3, 5), (2, 2)])
def test_a_head_that_skips_or_shrinks_is_refused(
    store: Store, new: tuple[int, int]
) -> None:
    state = HeadState(1, 3, b"r" * 32)
    store.swap_head(store.head(), state)
    with pytest.raises(StorageError, match="next generation"):
        store.swap_head(state, HeadState(*new, b"s" * 32))
    assert store.head() == state


# --- Publication ----------------------------------------------------------------------


def test_published_sizes_strictly_grow(store: Store) -> None:
    assert store.newest() is None
    store.publish(3, b"three")
    store.publish(7, b"seven")
    assert store.newest() == (7, b"seven")
    with pytest.raises(ConflictError, match="size 5"):
        store.publish(5, b"five")
    with pytest.raises(ConflictError, match="size 7"):
        store.publish(7, b"another seven")
    assert store.sizes(0, 10) == [3, 7]


def test_publishing_the_same_again_succeeds(store: Store) -> None:
    store.publish(3, b"three")
    store.publish(7, b"seven")
    store.publish(7, b"seven")
    store.publish(3, b"three")
    assert store.newest() == (7, b"seven")


def test_the_smallest_checkpoint_that_covers_a_size(store: Store) -> None:
    assert store.covering(0) is None
    for size in (2, 5, 9):
        store.publish(size, b"%d" % size)
    assert store.covering(0) == (2, b"2")
    assert store.covering(3) == (5, b"5")
    assert store.covering(5) == (5, b"5")
    assert store.covering(10) is None
    assert store.sizes(3, 1) == [5]
    assert store.sizes(3, 0) == []
    assert store.sizes(10, 5) == []


def test_cosignatures_stand_by_their_checkpoint(store: Store) -> None:
    for size in (2, 5, 9):
        store.publish(size, b"%d" % size)
    assert store.cosigned(0) is None
    late = Cosignature(5, "w2+00", 7, b"late\n")
    early = Cosignature(5, "w1+00", 8, b"early\n")
    store.add_cosignatures([late, early, Cosignature(9, "w1+00", 9, b"nine\n")])
    assert store.cosignatures(5) == [early, late]
    assert store.cosignatures(2) == []
    assert store.cosigned(0) == (5, b"5")
    assert store.cosigned(6) == (9, b"9")
    assert store.cosigned(10) is None
    assert store.cosigned_sizes() == [5, 9]


def test_the_newest_cosignature_of_a_witness_is_kept(store: Store) -> None:
    store.publish(2, b"2")
    for time, line in ((5, b"a"), (7, b"b"), (6, b"c"), (7, b"d")):
        store.add_cosignatures([Cosignature(2, "w+00", time, line)])
    assert store.cosignatures(2) == [Cosignature(2, "w+00", 7, b"b")]


# --- Attestations ---------------------------------------------------------------------


def attestation(size: int, anchor: str = "a", **fields: object) -> AttestationRow:
    row = AttestationRow(size, anchor, "ots", "pending", b"{}", 7, 8)
    return row._replace(**fields)  # type: ignore[arg-type]


@pytest.fixture
def published(store: Store) -> Store:
    for size in (2, 5, 9):
        store.publish(size, b"%d" % size)
    return store


def test_attestations_stand_by_their_checkpoint(published: Store) -> None:
    rows = [attestation(5, "b"), attestation(5, "a"), attestation(9, "a")]
    for row in rows:
        published.put_attestation(row)
    assert published.attestations(5) == [rows[1], rows[0]]
    assert published.attestations(2) == []
    assert published.attestations_by("a", state="pending") == [rows[1], rows[2]]
    assert published.attestations_by("a", state="final") == []
    assert published.attestations_by("c", state="pending") == []
    assert published.attested_sizes() == [5, 9]


def test_the_last_attestation_and_the_newest_change(published: Store) -> None:
    assert published.newest_change("a") is None
    assert published.last_attestation("a", state="final") is None
    assert published.attesting() == []
    rows = [
        attestation(2, "a", state="final", updated=30),
        attestation(5, "a", state="final", updated=10),
        attestation(9, "a", updated=20),
        attestation(5, "b", updated=40),
    ]
    for row in rows:
        published.put_attestation(row)
    assert published.last_attestation("a", state="final") == rows[1]
    assert published.last_attestation("a", state="pending") == rows[2]
    assert published.newest_change("a") == rows[0]
    assert published.attesting() == ["a", "b"]


def test_the_first_attestation_that_covers_a_size(published: Store) -> None:
    rows = [
        attestation(2, "a", state="final"),
        attestation(5, "a"),
        attestation(9, "a", state="final"),
        attestation(5, "b", state="final"),
    ]
    for row in rows:
        published.put_attestation(row)
    found = [published.first_attestation("a", size=size) for size in (0, 2, 3, 9, 10)]
    assert found == [rows[0], rows[0], rows[2], rows[2], None]
    assert published.first_attestation("c", size=0) is None


def test_a_pending_attestation_is_replaced(published: Store) -> None:
    published.put_attestation(attestation(5))
    newer = attestation(5, evidence=b'{"n":1}', updated=9)
    published.put_attestation(newer)
    assert published.attestations(5) == [newer]
    final = attestation(5, state="final", evidence=b'{"n":2}', updated=10)
    published.put_attestation(final)
    assert published.attestations(5) == [final]
    assert published.attestations_by("a", state="pending") == []


@pytest.mark.parametrize(
    "other",
    [{"evidence": b'{"n":3}'}, {"state": "pending"}, {"kind": "evm"}],
)
def test_a_final_attestation_is_never_replaced(
    published: Store, other: dict[str, object]
) -> None:
    final = attestation(5, state="final")
    published.put_attestation(final)
    with pytest.raises(ConflictError, match="a has given a final attestation of anoth"):
        published.put_attestation(final._replace(**other))  # type: ignore[arg-type]
    assert published.attestations(5) == [final]


def test_the_same_final_attestation_again_succeeds(published: Store) -> None:
    final = attestation(5, state="final")
    published.put_attestation(final)
    published.put_attestation(final._replace(submitted=70, updated=80))
    assert published.attestations(5) == [final]


@pytest.mark.parametrize("size", [0, 3, 10])
def test_an_attestation_needs_its_checkpoint(published: Store, size: int) -> None:
    with pytest.raises(ConflictError, match=f"published checkpoint, got {size}"):
        published.put_attestation(attestation(size))
    assert published.attested_sizes() == []


def test_the_smallest_anchored_checkpoint_that_covers_a_size(published: Store) -> None:
    assert published.anchored(0) is None
    published.put_attestation(attestation(2))
    published.put_attestation(attestation(5, "a", state="final"))
    published.put_attestation(attestation(5, "b", state="final"))
    published.put_attestation(attestation(9, "b", state="final"))
    assert published.anchored(0) == (5, b"5")
    assert published.anchored(6) == (9, b"9")
    assert published.anchored(10) is None


# --- where keys are -------------------------------------------------------------------


def test_keys_are_found_by_label_and_by_id(store: Store) -> None:
    assert store.last_key() is None
    assert store.key_slot("epoch", "a") is None
    assert store.slot_of(b"1") is None
    store.add_keys([(b"1", 0, "epoch", "a")])
    store.add_keys([(b"2", 3, "epoch", "b")])
    store.add_keys([(b"3", 2, "subject", "a")])
    assert store.key_slot("epoch", "b") == (b"2", 3)
    assert store.slot_of(b"3") == 2
    assert store.last_key() == (b"2", 3)


@pytest.mark.parametrize(
    ("key_id", "slot", "label"), [(b"1", 9, "z"), (b"9", 0, "z"), (b"9", 9, "a")]
)
def test_a_key_id_a_slot_and_a_label_are_unique(
    store: Store, key_id: bytes, slot: int, label: str
) -> None:
    store.add_keys([(b"1", 0, "epoch", "a")])
    with pytest.raises(ConflictError, match=r"UNIQUE|taken"):
        store.add_keys([(key_id, slot, "epoch", label)])
    assert store.last_key() == (b"1", 0)


# --- the fake -------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "stored"), [("lost", None), ("persisted", b"1")])
def test_the_fake_fails_once_as_ordered(fault: str, stored: bytes | None) -> None:
    fake = MemoryStore()
    fake.faults["put"] = fault  # type: ignore[assignment]
    with pytest.raises(StorageError, match="put failed as ordered"):
        fake.put([("a", b"1")])
    assert fake.get("a") == stored
    fake.put([("a", b"1")])
    assert fake.get("a") == b"1"
