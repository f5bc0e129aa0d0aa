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
_TOO_LONG = "expected the proof to end at the root, got more hashes"

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
    _check_number("tree size", size)
    return _range_root(0, size, node) if size else EMPTY_ROOT


def prove_inclusion(index: int, size: int, node: NodeReader) -> tuple[bytes, ...]:
    """Return the audit path of leaf `index` in the tree of `size` (RFC 6962 §2.1.1).

    The sibling of the leaf comes first, the child of the root last.

    Raises:
        MalformedError: the tree of `size` has no leaf `index`.
    """
    _check_number("leaf index", index)
    _check_number("tree size", size)
    if index >= size:
        raise MalformedError(f"expected a leaf index below {size}, got {index}")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_root(middle, end, node))
            end = middle
        else:
            path.append(_range_root(start, middle, node))
            start = middle
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
    _check_number("old size", old_size)
    _check_number("new size", new_size)
    if old_size > new_size:
        raise MalformedError(f"expected an old size up to {new_size}, got {old_size}")
    if old_size in (0, new_size):
        return ()
    path = []
    start, end = 0, new_size
    while old_size < end:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(_range_root(middle, end, node))
            end = middle
        else:
            path.append(_range_root(start, middle, node))
            start = middle
    if start:  # otherwise the subtree is the old tree, whose root the verifier has
        path.append(_range_root(start, end, node))
    return tuple(reversed(path))


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
    _check_number("leaf index", index)
    _check_number("tree size", size)
    _check_hash("leaf hash", leaf)
    _check_hash("root", root)
    _check_proof(proof)
    if index >= size:
        raise VerificationError(f"expected a leaf index below {size}, got {index}")
    position, last, computed = index, size - 1, leaf
    for sibling in proof:
        if not last:
            raise VerificationError(_TOO_LONG)
        if position & 1 or position == last:
            computed = sha256(b"\x01" + sibling + computed).digest()
            position, last = _climb(position, last)
        else:
            computed = sha256(b"\x01" + computed + sibling).digest()
        position >>= 1
        last >>= 1
    _check_end(last)
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
    _check_number("old size", old_size)
    _check_number("new size", new_size)
    _check_proof(proof)
    if old_size > new_size:
        raise VerificationError(
            f"expected an old size up to {new_size}, got {old_size}"
        )
    if old_size in (0, new_size):
        _check_trivial(old_size, old_root, new_size, new_root, proof)
        return
    _check_hash("old root", old_root)
    _check_hash("new root", new_root)
    if not proof:
        raise VerificationError(
            f"expected a proof from {old_size} to {new_size}, got none"
        )
    position, last = _skip_ones(old_size - 1, new_size - 1)
    # Where the old tree is one complete subtree, its root is the first node.
    path = iter((old_root, *proof) if position == 0 else proof)
    old = new = next(path)
    for node in path:
        if not last:
            raise VerificationError(_TOO_LONG)
        if position & 1 or position == last:
            old = sha256(b"\x01" + node + old).digest()
            new = sha256(b"\x01" + node + new).digest()
            position, last = _climb(position, last)
        else:
            new = sha256(b"\x01" + new + node).digest()
        position >>= 1
        last >>= 1
    _check_end(last)
    _check_root("consistency proof leads to old root", old, old_root)
    _check_root("consistency proof leads to new root", new, new_root)


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


def _climb(position: int, last: int) -> tuple[int, int]:
    """Skip the levels at which the rightmost node has no sibling."""
    while position and not position & 1:
        position >>= 1
        last >>= 1
    return position, last


def _skip_ones(position: int, last: int) -> tuple[int, int]:
    """Climb from the last old leaf to the largest old subtree that it ends."""
    while position & 1:
        position >>= 1
        last >>= 1
    return position, last


def _check_trivial(
    old_size: int,
    old_root: bytes,
    new_size: int,
    new_root: bytes,
    proof: Sequence[bytes],
) -> None:
    """Check the two cases in which there is nothing to prove."""
    if proof:
        raise VerificationError(
            f"expected no proof from {old_size} to {new_size}, got {len(proof)} hashes"
        )
    if old_size == 0:
        _check_hash("old root", old_root)
        _check_hash("new root", new_root)
        _check_root("root of the empty old tree is", old_root, EMPTY_ROOT)
    if new_size == 0:
        _check_root("root of the empty new tree is", new_root, EMPTY_ROOT)
    if old_size == new_size:
        _check_bytes("old root", old_root)
        _check_bytes("new root", new_root)
        if old_root != new_root:
            raise VerificationError(f"expected one root at size {new_size}, got two")


def _check_number(what: str, value: int) -> None:
    # By type, not isinstance: True is no size.
    if type(value) is not int:
        raise MalformedError(f"expected {what} as int, got {type(value).__name__}")
    # The number is not in the message: formatting one of 5,000 digits raises.
    if not 0 <= value <= MAX_SIZE:
        raise MalformedError(f"expected {what} from 0 to 2^63-1, got one outside")


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


def _check_end(last: int) -> None:
    if last:
        raise VerificationError(
            "expected the proof to end at the root, got too few hashes"
        )


def _check_root(what: str, computed: bytes, root: bytes) -> None:
    if computed != root:
        raise VerificationError(f"{what} {computed.hex()}, expected {root.hex()}")
