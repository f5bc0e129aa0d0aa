"""The Merkle tree of RFC 6962 §2.1 (RFC 9162 §2.1): hashes, proofs, verification.

::

    leaf(entry)       = SHA-256(0x00 ‖ entry)
    node(left, right) = SHA-256(0x01 ‖ left ‖ right)
    root of nothing   = SHA-256("")
    root of n > 1     = node(root of the first k, root of the rest),
                        k the largest power of two below n

Proofs are made from a `NodeReader`, which gives the hash of any complete subtree,
from memory (`nodes_of`) or from tiles (`auditlog.log.proofs.TileReader`).

An inclusion proof alone does not bind the size of the tree: proofs for different
sizes can have one shape. Take size and root from one verified checkpoint.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256

from auditlog.core.encoding import check_range
from auditlog.core.errors import MalformedError, VerificationError

__all__ = [
    "EMPTY_ROOT",
    "HASH_SIZE",
    "MAX_SIZE",
    "NodeReader",
    "leaf_hash",
    "node_hash",
    "nodes_of",
    "prove_consistency",
    "prove_inclusion",
    "root_hash",
    "tree_root",
    "verify_consistency",
    "verify_inclusion",
]

HASH_SIZE = 32
"""Bytes in a hash."""

MAX_SIZE = 2**63 - 1
"""Largest tree: sizes are signed 64-bit numbers in other implementations."""

EMPTY_ROOT = sha256(b"").digest()
"""Root of the tree without leaves."""

_MAX_PROOF = 64

NodeReader = Callable[[int, int], bytes]
"""(level, index) -> hash of the complete subtree over the leaves
``index * 2**level`` (included) to ``(index + 1) * 2**level`` (excluded)."""


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of the leaf that holds `entry` (RFC 6962 §2.1)."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of the node above two hashes (RFC 6962 §2.1)."""
    return sha256(b"\x01" + left + right).digest()


def root_hash(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the root of the tree over `leaf_hashes`, in order (RFC 6962 §2.1)."""
    level = list(leaf_hashes) or [EMPTY_ROOT]
    while len(level) > 1:
        # Pairing and promoting the odd last one builds exactly the tree that the
        # definition splits at powers of two.
        odd = level[-1:] if len(level) & 1 else []
        level = _parents(level) + odd
    return level[0]


def _parents(level: Sequence[bytes]) -> list[bytes]:
    pairs = zip(level[::2], level[1::2], strict=False)
    return [sha256(b"\x01" + left + right).digest() for left, right in pairs]


def nodes_of(leaf_hashes: Sequence[bytes]) -> NodeReader:
    """Return a `NodeReader` over leaf hashes in memory; it hashes them all once."""
    levels = [list(leaf_hashes)]
    while len(levels[-1]) > 1:
        levels.append(_parents(levels[-1]))

    def node(level: int, index: int) -> bytes:
        return levels[level][index]

    return node


def tree_root(size: int, node: NodeReader) -> bytes:
    """Return the root of the tree of `size` leaves, from its complete subtrees.

    Raises:
        MalformedError: `size` is no size of a tree.
    """
    check_range("tree size", size, MAX_SIZE)
    return _range_root(0, size, node) if size else EMPTY_ROOT


def prove_inclusion(index: int, size: int, node: NodeReader) -> tuple[bytes, ...]:
    """Return the audit path of leaf `index` in the tree of `size` (RFC 6962 §2.1.1).

    The sibling of the leaf comes first, the child of the root last.

    Raises:
        MalformedError: the tree of `size` has no leaf `index`.
    """
    check_range("leaf index", index, MAX_SIZE)
    check_range("tree size", size, MAX_SIZE)
    if index >= size:
        raise MalformedError(f"expected a leaf index below {size}, got {index}")
    path, _ = _descend(index, index + 1, size, node)
    return tuple(reversed(path))


def prove_consistency(
    old_size: int, new_size: int, node: NodeReader
) -> tuple[bytes, ...]:
    """Return the proof that the old tree is a prefix of the new (RFC 6962 §2.1.2).

    It is empty for equal sizes, and from the empty tree, with which every tree is
    consistent (C2SP tlog-witness).

    Raises:
        MalformedError: a size is no size of a tree, or the old is the larger one.
    """
    check_range("old size", old_size, MAX_SIZE)
    check_range("new size", new_size, MAX_SIZE)
    if old_size > new_size:
        raise MalformedError(f"expected an old size up to {new_size}, got {old_size}")
    if old_size in (0, new_size):
        return ()
    path, start = _descend(0, old_size, new_size, node)
    if start:  # otherwise the subtree is the old tree, whose root the verifier has
        path.append(_range_root(start, old_size, node))
    return tuple(reversed(path))


def _descend(
    first: int, stop: int, size: int, node: NodeReader
) -> tuple[list[bytes], int]:
    """Go down from the root to a subtree without leaves before `first` or past `stop`.

    Returns:
        The siblings on the way, and the first leaf of that subtree.
    """
    path = []
    start, end = 0, size
    while end > stop or start < first:
        middle = start + _split(end - start)
        if stop <= middle:
            path.append(_range_root(middle, end, node))
            end = middle
        else:
            path.append(_range_root(start, middle, node))
            start = middle
    return path, start


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> None:
    """Check that `leaf` is the leaf hash at `index` of a tree (RFC 9162 §2.1.3.2).

    `size` and `root` must come from one verified checkpoint: a proof alone does not
    bind the size.

    Raises:
        MalformedError: an argument is no size, hash or proof at all.
        VerificationError: the proof does not lead from the leaf to the root.
    """
    check_range("leaf index", index, MAX_SIZE)
    check_range("tree size", size, MAX_SIZE)
    _check_hash("leaf hash", leaf)
    _check_hash("root", root)
    _check_proof(proof)
    if index >= size:
        raise VerificationError(f"expected a leaf index below {size}, got {index}")
    computed = leaf
    for on_left, sibling in _climb(index, size - 1, proof):
        pair = (sibling, computed) if on_left else (computed, sibling)
        computed = node_hash(*pair)
    _check_root("inclusion proof leads to root", computed, root)


def verify_consistency(
    old_size: int,
    old_root: bytes,
    new_size: int,
    new_root: bytes,
    proof: Sequence[bytes],
) -> None:
    """Check that one tree is a prefix of another (RFC 9162 §2.1.4.2).

    Every tree is consistent with the empty one, whose root is `EMPTY_ROOT`; the
    proof is then empty (C2SP tlog-witness). At equal sizes the proof is empty and
    the roots are the same bytes.

    Raises:
        MalformedError: an argument is no size, hash or proof at all.
        VerificationError: the proof does not bind both roots, or the old tree is
            the larger one.
    """
    check_range("old size", old_size, MAX_SIZE)
    check_range("new size", new_size, MAX_SIZE)
    _check_proof(proof)
    if old_size > new_size:
        raise VerificationError(
            f"expected an old size up to {new_size}, got {old_size}"
        )
    # Where equality is all, whatever is equal will do (transparency-dev/merkle).
    check = _check_bytes if old_size == new_size else _check_hash
    check("old root", old_root)
    check("new root", new_root)
    trivial = old_size in (0, new_size)
    if trivial == bool(proof):
        raise VerificationError(
            f"expected {'no' if trivial else 'a'} proof from {old_size} to {new_size}, "
            f"got {len(proof)} hashes"
        )
    if old_size == 0:
        _check_root("root of the empty tree is", old_root, EMPTY_ROOT)
    if old_size == new_size:
        _check_root("root at the same size is", new_root, old_root)
    if trivial:
        return
    position, last = old_size - 1, new_size - 1
    while position & 1:  # climb to the largest old subtree that the last old leaf ends
        position, last = position >> 1, last >> 1
    # Where the old tree is one complete subtree, its root is the first node.
    first, *path = proof if position else (old_root, *proof)
    old = new = first
    for on_left, node in _climb(position, last, path):
        if on_left:
            old, new = node_hash(node, old), node_hash(node, new)
        else:
            new = node_hash(new, node)
    _check_root("consistency proof leads to old root", old, old_root)
    _check_root("consistency proof leads to new root", new, new_root)


def _climb(
    position: int, last: int, proof: Sequence[bytes]
) -> Iterator[tuple[bool, bytes]]:
    """Yield the siblings on the way up to the root, and which are on the left.

    Args:
        position: of the node at which the way starts, in its level.
        last: position of the last node of that level.
        proof: the siblings.

    Raises:
        VerificationError: they end below the root, or go on above it.
    """
    for sibling in proof:
        if not last:
            raise VerificationError(
                "expected the proof to end at the root, got more hashes"
            )
        on_left = position & 1 == 1 or position == last
        yield on_left, sibling
        if on_left:  # skip the levels at which the rightmost node has no sibling
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        position, last = position >> 1, last >> 1
    if last:
        raise VerificationError(
            "expected the proof to end at the root, got too few hashes"
        )


def _split(size: int) -> int:
    """Return the largest power of two below `size`, which is at least 2."""
    return 1 << ((size - 1).bit_length() - 1)


def _range_root(start: int, end: int, node: NodeReader) -> bytes:
    """Return the root over the leaves of a range that is a subtree of some tree."""
    peaks = [node(level, index) for level, index in _peaks(start, end)]
    root = peaks.pop()
    while peaks:
        root = node_hash(peaks.pop(), root)
    return root


def _peaks(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield (level, index) of the complete subtrees of a range, left to right."""
    while start < end:
        level = (end - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def _check_bytes(what: str, value: bytes) -> None:
    if type(value) is not bytes:
        raise MalformedError(f"expected {what} as bytes, got {type(value).__name__}")


def _check_hash(what: str, value: bytes) -> None:
    _check_bytes(what, value)
    if len(value) != HASH_SIZE:
        raise MalformedError(f"expected {what} of 32 bytes, got {len(value)}")


def _check_proof(proof: Sequence[bytes]) -> None:
    if not isinstance(proof, list | tuple):
        raise MalformedError(
            f"expected the proof as list or tuple, got {type(proof).__name__}"
        )
    if len(proof) > _MAX_PROOF:
        raise VerificationError(f"expected up to 64 hashes, got {len(proof)}")
    for value in proof:
        _check_hash("proof hash", value)


def _check_root(what: str, computed: bytes, root: bytes) -> None:
    if computed != root:
        raise VerificationError(f"{what} {computed.hex()}, expected {root.hex()}")
