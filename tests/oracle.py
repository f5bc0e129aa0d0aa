"""merkletools as an independent second opinion on roots and inclusion proofs.

Plain, it hashes leaves and nodes alike, so that an inner node passes for a leaf. Given
leaf hashes, and SHA-256(0x01 ‖ data) for its nodes, it builds exactly the tree of
RFC 6962. Its traps: importing it warns for want of an optional module (only that
warning is silenced), the root of nothing is None, malformed proofs raise KeyError.
"""

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "sha3 is not working!", UserWarning)
    from merkletools import MerkleTools

__all__ = ["proof_leads_to", "proof_of", "root_of"]


def root_of(leaf_hashes: Sequence[bytes]) -> bytes | None:
    """Return the root over leaf hashes; None over none."""
    root = _tree(leaf_hashes).get_merkle_root()
    return None if root is None else bytes.fromhex(root)


def proof_of(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Return the audit path of a leaf, its sibling first."""
    proof = _tree(leaf_hashes).get_proof(index)
    return [bytes.fromhex(sibling) for step in proof for sibling in step.values()]


def proof_leads_to(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> bool:
    """Say whether a proof of ours, given its shape, leads from leaf to root."""
    steps = [
        {side: sibling.hex()}
        for side, sibling in zip(_sides(index, size), proof, strict=True)
    ]
    return bool(_tree([]).validate_proof(steps, leaf.hex(), root.hex()))


def _sides(index: int, size: int) -> list[str]:
    """Return on which side the sibling stands, from the leaf up."""
    sides = []
    while size > 1:
        if index % 2:
            sides.append("left")
        elif index + 1 < size:
            sides.append("right")
        index, size = index // 2, (size + 1) // 2
    return sides


def _tree(leaf_hashes: Sequence[bytes]) -> Any:
    tree = MerkleTools(hash_type="sha256")
    tree.hash_function = lambda data: hashlib.sha256(b"\x01" + bytes(data))
    tree.add_leaf([leaf.hex() for leaf in leaf_hashes], do_hash=False)
    tree.make_tree()
    return tree
