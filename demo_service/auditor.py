"""The auditor's second opinion, by a library that shares no line with the log.

merkletools is a Merkle tree library by other people. As it comes it hashes leaves and
inner nodes alike, so an inner node would pass for a leaf; with the hash of RFC 6962
§2.1 put in, and leaf hashes added as they are, it builds exactly the log's tree. So
two programs that share no line must agree on every batch and every proof.
"""

import hashlib
import warnings
from collections.abc import Sequence

from demo_service.processes import DemoError

with warnings.catch_warnings():
    # Its optional sha3 does not build on the Pythons of today, and is not needed.
    warnings.filterwarnings("ignore", message="sha3 is not working!")
    from merkletools import MerkleTools

__all__ = ["BATCH", "compare_batches", "compare_proof", "rebuild"]

BATCH = 256
"""Entries in a full tile."""


def rebuild(entries: Sequence[bytes]) -> MerkleTools:
    """Build the tree over `entries` with merkletools, hashing as RFC 6962 §2.1 says."""
    tree = MerkleTools()
    tree.hash_function = lambda data: hashlib.sha256(b"\x01" + data)
    leaves = [hashlib.sha256(b"\x00" + entry).hexdigest() for entry in entries]
    tree.add_leaf(leaves, do_hash=False)
    tree.make_tree()
    return tree


def compare_batches(entries: Sequence[bytes], batch_hashes: bytes) -> int:
    """Rebuild every full batch and compare it with the log's level-1 tile.

    Args:
        entries: all entries of the log, from index 0.
        batch_hashes: the log's tile of level 1, 32 bytes for each full batch.

    Returns:
        How many batches agree: all of them.

    Raises:
        DemoError: naming the first that does not.
    """
    count = len(entries) // BATCH
    if count == 0 or len(batch_hashes) != 32 * count:
        msg = f"expected {count} batch hashes and at least 1, got {len(batch_hashes)} B"
        raise DemoError(msg)
    for number in range(count):
        batch = entries[number * BATCH : (number + 1) * BATCH]
        ours = rebuild(batch).get_merkle_root()
        theirs = batch_hashes[32 * number : 32 * number + 32].hex()
        if ours != theirs:
            msg = f"batch {number}: merkletools says {ours}, the log {theirs}"
            raise DemoError(msg)
    return count


def compare_proof(
    entries: Sequence[bytes], index: int, hashes: Sequence[bytes], root: bytes
) -> None:
    """Rebuild the whole tree, and compare one inclusion proof and the root.

    Args:
        entries: all entries under the checkpoint.
        index: which one the proof is of.
        hashes: the log's proof, from the leaf up.
        root: the checkpoint's root.

    Raises:
        DemoError: merkletools has another root or another proof, or refuses it.
    """
    tree = rebuild(entries)
    if tree.get_merkle_root() != root.hex():
        msg = f"merkletools has root {tree.get_merkle_root()}, the log {root.hex()}"
        raise DemoError(msg)
    proof = tree.get_proof(index)
    ours = [value for step in proof for value in step.values()]
    if ours != [value.hex() for value in hashes]:
        msg = f"entry {index}: merkletools and the log have different proofs"
        raise DemoError(msg)
    if not tree.validate_proof(proof, tree.get_leaf(index), root.hex()):
        msg = f"entry {index}: merkletools refuses the log's proof"
        raise DemoError(msg)
