"""Merkle-Patricia proofs: what is in a trie, what is not, and no other answer."""

import random

import pytest
import rlp  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from trie.hexary import HexaryTrie

from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.evm.rlp import encode
from auditlog.anchors.evm.trie import EMPTY_TRIE, MAX_NODE, look_up, prove
from auditlog.core.errors import MalformedError, VerificationError
from tests.anchors.evm.blocks import way


def of_library(values: dict[bytes, bytes]) -> HexaryTrie:
    trie = HexaryTrie({})
    for key, value in values.items():
        trie[key] = value
    return trie


def indexed(count: int, seed: int = 1) -> dict[bytes, bytes]:
    """Return values by position, as receipts stand; some nodes are embedded."""
    chance = random.Random(seed)
    sizes = [1, 5, 31, 32, 33, 200]
    return {
        rlp.encode(number): b"x" + chance.randbytes(chance.choice(sizes))
        for number in range(count)
    }


@pytest.mark.parametrize("count", [1, 2, 3, 16, 17, 128, 129])
def test_proofs_as_the_library_makes_them(count: int) -> None:
    values = indexed(count)
    trie = of_library(values)
    for key in [*list(values)[::9], rlp.encode(count), rlp.encode(70_000)]:
        root, proof = prove(values, key)
        assert root == trie.root_hash
        assert proof == way(trie, key)
        assert look_up(root, key, proof) == values.get(key)


def test_keys_of_hashes_and_absence() -> None:
    values = {keccak(b"%d" % n): b"%d" % n for n in range(300)}
    root = of_library(values).root_hash
    for number in range(0, 600, 83):
        key = keccak(b"%d" % number)
        made, proof = prove(values, key)
        assert made == root
        assert look_up(root, key, proof) == values.get(key)


@given(
    values=st.dictionaries(
        st.binary(min_size=2, max_size=2), st.binary(min_size=1, max_size=40)
    ),
    key=st.binary(min_size=2, max_size=2),
)
def test_any_trie(values: dict[bytes, bytes], key: bytes) -> None:
    root, proof = prove(values, key)
    assert root == of_library(values).root_hash
    assert look_up(root, key, proof) == values.get(key)


def test_a_key_that_starts_another() -> None:
    values = {
        b"do": b"verb",
        b"dog": b"puppy",
        b"doge": b"coins",
        b"horse": b"stallion",
    }
    trie = of_library(values)
    for key in [*values, b"d", b"dogs", b"horses"]:
        assert look_up(trie.root_hash, key, way(trie, key)) == values.get(key)


def test_the_empty_trie() -> None:
    assert keccak(rlp.encode(b"")) == EMPTY_TRIE == HexaryTrie({}).root_hash
    assert prove({}, b"key") == (EMPTY_TRIE, ())
    assert look_up(EMPTY_TRIE, b"key", ()) is None
    with pytest.raises(MalformedError, match="expected a trie node of 2 or 17"):
        look_up(EMPTY_TRIE, b"key", [encode(b"")])


def test_too_few_and_too_many_nodes() -> None:
    values = indexed(300)
    key = rlp.encode(200)
    root, proof = prove(values, key)
    assert len(proof) > 2
    for count in range(len(proof)):
        with pytest.raises(VerificationError, match="expected more nodes"):
            look_up(root, key, proof[:count])
    with pytest.raises(VerificationError, match="expected the trie proof to end"):
        look_up(root, key, [*proof, proof[-1]])
    with pytest.raises(VerificationError, match="has another hash"):
        look_up(root, key, proof[::-1])
    with pytest.raises(VerificationError, match="expected up to 64 nodes, got 65"):
        look_up(root, key, [proof[0]] * 65)
    with pytest.raises(VerificationError, match="has another hash"):
        look_up(bytes(32), key, proof)


def test_every_bit() -> None:
    values = indexed(40)
    key = rlp.encode(33)
    root, proof = prove(values, key)
    for number, node in enumerate(proof):
        for bit in range(0, 8 * len(node), 3):
            data = bytearray(node)
            data[bit // 8] ^= 1 << bit % 8
            with pytest.raises(VerificationError, match="has another hash"):
                look_up(root, key, [*proof[:number], bytes(data), *proof[number + 1 :]])


HASH = b"\1" * 32
LONG = [b"\x20" + b"\1" * 40, b"value"]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (b"bytes", "expected a trie node of 2 or 17 items"),
        ([], "expected a trie node of 2 or 17 items"),
        ([b"\x20", b"a", b"b"], "expected a trie node of 2 or 17 items"),
        ([b"", b"value"], "expected a path in a trie node"),
        ([b"\x40", b"value"], "expected a path in a trie node"),
        ([b"\x21", b"value"], "in its one spelling"),
        ([b"\x00", HASH], "in its one spelling"),
        ([[b"\x20"], b"value"], "expected a path in a trie node"),
        ([b"\x20", b""], "expected a leaf with a value"),
        ([b"\x20", [b"value"]], "expected a leaf with a value"),
        ([b"\x16", b""], "expected a trie node by a hash of 32 bytes"),
        ([b"\x16", b"short"], "expected a trie node by a hash of 32 bytes"),
        ([b"short"] + [b""] * 16, "expected a trie node by a hash of 32 bytes"),
        ([b""] * 16 + [[]], "expected the value of a branch as bytes"),
        ([b""] * 6 + [LONG] + [b""] * 10, "of 32 bytes or more by its hash"),
    ],
)
def test_nodes_that_no_trie_has(node: object, message: str) -> None:
    data = rlp.encode(node)
    with pytest.raises(MalformedError, match=message):
        look_up(keccak(data), b"key", [data])


def test_a_node_that_is_too_long() -> None:
    with pytest.raises(MalformedError, match="a trie node of up to 65536 bytes"):
        look_up(HASH, b"key", [bytes(MAX_NODE + 1)])


def test_extensions_do_not_loop() -> None:
    data = rlp.encode([b"\x16", HASH])
    with pytest.raises(VerificationError, match="has another hash"):
        look_up(keccak(data), b"key", [data, data])
