import hashlib

import pytest

from auditlog.core import merkle
from demo_service.auditor import BATCH, compare_batches, compare_proof, rebuild
from demo_service.processes import DemoError

ENTRIES = [b"entry %d" % number for number in range(600)]
LEAVES = [merkle.leaf_hash(entry) for entry in ENTRIES]
BATCHES = b"".join(
    merkle.root_hash(LEAVES[start : start + BATCH]) for start in (0, BATCH)
)


def test_an_inner_node_does_not_pass_for_a_leaf() -> None:
    # The hole of merkletools as it comes: its leaves and nodes are hashed alike.
    left, right = LEAVES[:2]
    forged = rebuild([left + right]).get_merkle_root()
    assert forged != rebuild(ENTRIES[:2]).get_merkle_root()


@pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257])
def test_the_rebuilt_tree_is_that_of_the_log(size: int) -> None:
    ours = rebuild(ENTRIES[:size]).get_merkle_root()
    assert ours == merkle.root_hash(LEAVES[:size]).hex()


def test_every_full_batch_is_compared() -> None:
    assert compare_batches(ENTRIES, BATCHES) == 2


def test_a_changed_entry_is_seen_in_its_batch() -> None:
    changed = [*ENTRIES[:300], b"another", *ENTRIES[301:]]
    with pytest.raises(DemoError, match="batch 1: merkletools says"):
        compare_batches(changed, BATCHES)


@pytest.mark.parametrize("tile", [b"", BATCHES[:-1], BATCHES + bytes(32)])
def test_a_tile_of_another_width_is_refused(tile: bytes) -> None:
    with pytest.raises(DemoError, match="expected 2 batch hashes"):
        compare_batches(ENTRIES, tile)


def test_without_a_full_batch_nothing_was_compared() -> None:
    with pytest.raises(DemoError, match="expected 0 batch hashes and at least 1"):
        compare_batches(ENTRIES[:255], b"")


def proof_of(index: int) -> tuple[bytes, ...]:
    return merkle.prove_inclusion(index, len(LEAVES), merkle.nodes_of(LEAVES))


@pytest.mark.parametrize("index", [0, 1, 299, 598, 599])
def test_a_true_proof_is_the_one_of_merkletools(index: int) -> None:
    compare_proof(ENTRIES, index, proof_of(index), merkle.root_hash(LEAVES))


def test_a_proof_of_another_entry_is_refused() -> None:
    with pytest.raises(DemoError, match=r"entry 3: .* different proofs"):
        compare_proof(ENTRIES, 3, proof_of(4), merkle.root_hash(LEAVES))


def test_another_root_is_refused() -> None:
    root = hashlib.sha256(b"another").digest()
    with pytest.raises(DemoError, match="merkletools has root"):
        compare_proof(ENTRIES, 3, proof_of(3), root)
