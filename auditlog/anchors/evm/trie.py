"""Merkle-Patricia tries: what a root says stands, or does not stand, under a key.

A node is RLP and named by its Keccak-256 hash, or stands in its parent where it is
shorter than that (Ethereum yellow paper, appendix D)::

    branch     17 items: a child for each next nibble, and a value
    extension   2 items: a path of nibbles, and a child
    leaf        2 items: the rest of the path, and a value

A path starts with a nibble: its lowest bit says whether the number of nibbles is odd
(otherwise a zero nibble follows), the next one whether this is a leaf.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.evm.rlp import Item, decode, encode
from auditlog.core.errors import MalformedError, VerificationError

__all__ = ["EMPTY_TRIE", "MAX_NODE", "MAX_PROOF", "look_up", "prove"]

EMPTY_TRIE = bytes.fromhex(
    "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
)
"""Root of the trie without keys: the hash of the empty item."""

MAX_PROOF = 64
"""Nodes in the longest proof: one for each nibble of a hash."""

MAX_NODE = 1 << 16
"""Bytes in the longest node: the leaf that holds a receipt."""

_HASH = 32
_BRANCH = 17

Nibbles = tuple[int, ...]


class _Node(NamedTuple):
    """One node on the way, taken apart."""

    path: Nibbles
    """Of an extension or a leaf; empty for a branch."""
    children: Sequence[Item]
    """16 of a branch, one of an extension, none of a leaf."""
    value: bytes | None


def look_up(root: bytes, key: bytes, proof: Sequence[bytes]) -> bytes | None:
    """Return the value under a key, or None if the trie has no such key.

    Args:
        root: hash of the root node, trusted.
        key: its bytes.
        proof: the nodes on the way, from the root, without those that stand in their
            parents; empty for the empty trie.

    Raises:
        MalformedError: a node is none.
        VerificationError: the nodes do not lead from the root to the key, or there
            are more than it takes.
    """
    if root == EMPTY_TRIE and not proof:
        return None
    if len(proof) > MAX_PROOF:
        raise VerificationError(f"expected up to {MAX_PROOF} nodes, got {len(proof)}")
    left = list(reversed(proof))

    def fetch(name: bytes) -> bytes:
        if not left:
            raise VerificationError("expected more nodes in the trie proof")
        data = left.pop()
        if len(data) > MAX_NODE:
            raise MalformedError(f"expected a trie node of up to {MAX_NODE} bytes")
        if keccak(data) != name:
            raise VerificationError("a node of the trie proof has another hash")
        return data

    value = _follow(root, _nibbles(key), fetch)
    if left:
        raise VerificationError("expected the trie proof to end, got more nodes")
    return value


def _follow(
    root: bytes, path: Nibbles, fetch: Callable[[bytes], bytes]
) -> bytes | None:
    """Walk down from the root; `fetch` gives the node of a hash."""
    reference: Item = root
    while reference:
        node = _resolve(reference, fetch)
        if path[: len(node.path)] != node.path:
            return None
        path = path[len(node.path) :]
        if not node.children:
            # The path of a leaf that ends before the key does is another key's.
            return None if path else node.value
        if len(node.children) == 1:
            reference = node.children[0]
        elif path:
            reference, path = node.children[path[0]], path[1:]
        else:
            return node.value
    return None


def _resolve(reference: Item, fetch: Callable[[bytes], bytes]) -> _Node:
    """Return the node that a reference names, or is."""
    if isinstance(reference, bytes):
        return _parse(decode(fetch(reference)))
    if len(encode(reference)) >= _HASH:
        raise MalformedError("expected a trie node of 32 bytes or more by its hash")
    return _parse(reference)


def _parse(item: Item) -> _Node:
    if isinstance(item, bytes) or len(item) not in (2, _BRANCH):
        raise MalformedError("expected a trie node of 2 or 17 items")
    value = item[-1]
    if len(item) == _BRANCH:
        if not isinstance(value, bytes):
            raise MalformedError("expected the value of a branch as bytes")
        for child in item[:-1]:
            _check_reference(child, empty=True)
        return _Node((), item[:-1], value or None)
    path, is_leaf = _parse_path(item[0])
    if not is_leaf:
        _check_reference(value, empty=False)
        return _Node(path, item[1:], None)
    if not isinstance(value, bytes) or not value:
        raise MalformedError("expected a leaf with a value")
    return _Node(path, (), value)


def _check_reference(item: Item, *, empty: bool) -> None:
    if isinstance(item, bytes) and len(item) != _HASH and (item or not empty):
        raise MalformedError("expected a trie node by a hash of 32 bytes")


def _parse_path(item: Item) -> tuple[Nibbles, bool]:
    nibbles = _nibbles(item) if isinstance(item, bytes) else ()
    if not nibbles or nibbles[0] > 3:
        raise MalformedError("expected a path in a trie node")
    first, is_leaf = nibbles[0], nibbles[0] >= 2
    path = nibbles[1:] if first & 1 else nibbles[2:]
    if (not first & 1 and nibbles[1]) or not (path or is_leaf):
        raise MalformedError("expected a path in a trie node in its one spelling")
    return path, is_leaf


def _nibbles(data: bytes) -> Nibbles:
    return tuple(half for byte in data for half in (byte >> 4, byte & 15))


# --- making one -----------------------------------------------------------------------


def prove(values: Mapping[bytes, bytes], key: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the root of the trie of all values, and the proof for one key.

    Args:
        values: by key; no key is the start of another, and no value is empty.
        key: one of them, or not.
    """
    if not values:
        return EMPTY_TRIE, ()
    pairs = sorted((_nibbles(one), value) for one, value in values.items())
    kept: dict[bytes, bytes] = {}
    root = encode(_build(pairs, 0, kept))
    kept[keccak(root)] = root
    way: list[bytes] = []

    def fetch(name: bytes) -> bytes:
        way.append(kept[name])
        return kept[name]

    _follow(keccak(root), _nibbles(key), fetch)
    return keccak(root), tuple(way)


def _build(
    pairs: Sequence[tuple[Nibbles, bytes]], depth: int, kept: dict[bytes, bytes]
) -> list[Any]:
    """Return the node over sorted pairs that agree in their first `depth` nibbles."""
    first, last = pairs[0][0], pairs[-1][0]
    if len(pairs) == 1:
        return [_format_path(first[depth:], is_leaf=True), pairs[0][1]]
    end = depth
    while first[end] == last[end]:
        end += 1
    if end > depth:
        path = _format_path(first[depth:end], is_leaf=False)
        return [path, _refer(_build(pairs, end, kept), kept)]
    node: list[Any] = [b""] * _BRANCH
    for nibble in range(16):
        below = [pair for pair in pairs if pair[0][depth] == nibble]
        if below:
            node[nibble] = _refer(_build(below, depth + 1, kept), kept)
    return node


def _refer(node: list[Any], kept: dict[bytes, bytes]) -> Item:
    data = encode(node)
    if len(data) < _HASH:
        return node
    name = keccak(data)
    kept[name] = data
    return name


def _format_path(path: Nibbles, *, is_leaf: bool) -> bytes:
    odd = len(path) % 2
    padded = (2 * is_leaf + odd, *(() if odd else (0,)), *path)
    pairs = zip(padded[::2], padded[1::2], strict=True)
    return bytes(high << 4 | low for high, low in pairs)
