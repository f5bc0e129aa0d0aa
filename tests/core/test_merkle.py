"""The Merkle tree against vectors, its definition, a foreign library and nonsense."""

import hashlib
import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import AuditLogError, MalformedError, VerificationError
from auditlog.core.merkle import (
    EMPTY_ROOT,
    MAX_SIZE,
    leaf_hash,
    node_hash,
    nodes_of,
    prove_consistency,
    prove_inclusion,
    root_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from tests import oracle, reference
from tests.vectorset import b64, own, public_files

ENTRIES = [b"leaf-%d" % i for i in range(70_000)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
A, B, C = LEAVES[:3]

# More digits than Python formats.
HUGE = pytest.param(10**5000, id="huge")
NONSENSE = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.sampled_from([2**63 - 1, 2**63, 2**64, 10**5000, -(10**5000)]),
    st.text(max_size=40),
    st.binary(max_size=40),
    st.sampled_from([A, B, EMPTY_ROOT, bytearray(A), memoryview(A), A.hex()]),
    st.lists(st.sampled_from([A, B, None, "x", b"short"]), max_size=70),
    st.builds(object),
)

FIVE = st.tuples(NONSENSE, NONSENSE, NONSENSE, NONSENSE, NONSENSE)


def agree(verdict: bool, check: Any, *arguments: Any) -> None:
    """Require that a check accepts, or refuses with our error, as a vector says."""
    try:
        check(*arguments)
    except AuditLogError as error:
        found, why = False, str(error)
    else:
        found, why = True, "accepted"
    assert found == verdict, (why, arguments)


def inclusion_of(vector: dict[str, Any]) -> tuple[Any, ...]:
    proof = [b64(text) for text in vector["proof"]]
    leaf, root = b64(vector["leaf_hash"]), b64(vector["root"])
    return vector["index"], vector["size"], leaf, proof, root


def consistency_of(vector: dict[str, Any]) -> tuple[Any, ...]:
    proof = [b64(text) for text in vector["proof"]]
    old_root, new_root = b64(vector["old_root"]), b64(vector["new_root"])
    return vector["old_size"], old_root, vector["new_size"], new_root, proof


class TestHashes:
    @pytest.mark.parametrize("vector", own("leaf_and_node_hashes")["vectors"])
    def test_leaf(self, vector: dict[str, Any]) -> None:
        assert leaf_hash(vector["data"].encode()).hex() == vector["leaf_hash_hex"]

    @pytest.mark.parametrize("vector", own("leaf_and_node_hashes")["special_data"])
    def test_leaf_of_special_data(self, vector: dict[str, Any]) -> None:
        assert leaf_hash(b64(vector["data_b64"])).hex() == vector["leaf_hash_hex"]

    @pytest.mark.parametrize("vector", own("leaf_and_node_hashes")["node_vectors"])
    def test_node(self, vector: dict[str, Any]) -> None:
        node = node_hash(b64(vector["left"]), b64(vector["right"]))
        assert node == b64(vector["node"])

    def test_a_node_is_no_leaf(self) -> None:
        assert node_hash(A, B) != leaf_hash(A + B)

    def test_roots(self) -> None:
        for vector in own("tree_roots")["vectors"]:
            size, root = vector["size"], bytes.fromhex(vector["root_hex"])
            assert root_hash(LEAVES[:size]) == root, size

    @pytest.mark.parametrize("size", [*range(130), 255, 256, 257, 1000, 65_537])
    def test_root_from_complete_subtrees(self, size: int) -> None:
        leaves = LEAVES[:size]
        assert tree_root(size, nodes_of(leaves)) == root_hash(leaves)

    def test_root_of_the_empty_tree_reads_no_node(self) -> None:
        assert tree_root(0, nodes_of([])) == EMPTY_ROOT == hashlib.sha256().digest()


class TestAgainstTheDefinition:
    @pytest.mark.parametrize("size", range(65))
    def test_every_root_and_inclusion_proof(self, size: int) -> None:
        entries, leaves = ENTRIES[:size], LEAVES[:size]
        root = root_hash(leaves)
        assert root == reference.MTH(entries)
        for index in range(size):
            proof = prove_inclusion(index, size, nodes_of(leaves))
            assert list(proof) == reference.PATH(index, entries)
            verify_inclusion(index, size, leaves[index], proof, root)

    @pytest.mark.parametrize("new", range(1, 48))
    def test_every_consistency_proof(self, new: int) -> None:
        leaves = LEAVES[:new]
        root = root_hash(leaves)
        for old in range(1, new + 1):
            proof = prove_consistency(old, new, nodes_of(leaves))
            assert list(proof) == reference.PROOF(old, ENTRIES[:new])
            verify_consistency(old, root_hash(leaves[:old]), new, root, proof)

    @given(st.data())
    def test_large_ones(self, data: st.DataObject) -> None:
        size = data.draw(st.integers(65, 700))
        index = data.draw(st.integers(0, size - 1))
        entries, leaves = ENTRIES[:size], LEAVES[:size]
        node, root = nodes_of(leaves), root_hash(leaves)
        assert root == reference.MTH(entries)
        proof = prove_inclusion(index, size, node)
        assert list(proof) == reference.PATH(index, entries)
        verify_inclusion(index, size, leaves[index], proof, root)
        growth = prove_consistency(index + 1, size, node)
        assert list(growth) == reference.PROOF(index + 1, entries)
        verify_consistency(
            index + 1, root_hash(leaves[: index + 1]), size, root, growth
        )


class TestAgainstMerkletools:
    @pytest.mark.parametrize("size", [*range(1, 40), 255, 256, 257, 299])
    def test_roots_and_proofs(self, size: int) -> None:
        leaves = LEAVES[:size]
        root = root_hash(leaves)
        assert oracle.root_of(leaves) == root
        for index in {0, size // 3, size // 2, size - 1}:
            proof = prove_inclusion(index, size, nodes_of(leaves))
            assert oracle.proof_of(leaves, index) == list(proof)
            assert oracle.proof_leads_to(index, size, leaves[index], proof, root)

    def test_it_refuses_what_we_refuse(self) -> None:
        proof = prove_inclusion(1, 5, nodes_of(LEAVES[:5]))
        root = root_hash(LEAVES[:5])
        assert not oracle.proof_leads_to(1, 5, LEAVES[2], proof, root)
        with pytest.raises(VerificationError, match="inclusion proof leads to"):
            verify_inclusion(1, 5, LEAVES[2], proof, root)

    def test_its_root_of_nothing_is_none(self) -> None:
        assert oracle.root_of([]) is None


class TestInclusionVectors:
    def test_there_are_many(self) -> None:
        assert len(own("inclusion_proofs")["vectors"]) > 100
        assert len(own("inclusion_negative")["vectors"]) == 350

    @pytest.mark.parametrize("vector", own("inclusion_proofs")["vectors"])
    def test_proofs_are_made_and_accepted(self, vector: dict[str, Any]) -> None:
        index, size, leaf, proof, root = inclusion_of(vector)
        assert LEAVES[index] == leaf
        assert list(prove_inclusion(index, size, nodes_of(LEAVES[:size]))) == proof
        verify_inclusion(index, size, leaf, proof, root)

    def test_mutations_are_refused(self) -> None:
        for vector in own("inclusion_negative")["vectors"]:
            assert not vector["valid"]
            agree(False, verify_inclusion, *inclusion_of(vector))

    @pytest.mark.parametrize("vector", own("inclusion_size_malleable")["vectors"])
    def test_a_proof_does_not_bind_the_size(self, vector: dict[str, Any]) -> None:
        assert vector["size"] != vector["from_size"]
        verify_inclusion(*inclusion_of(vector))


class TestConsistencyVectors:
    def test_there_are_many(self) -> None:
        assert len(own("consistency_proofs")["vectors"]) > 100
        assert len(own("consistency_negative")["vectors"]) == 257

    @pytest.mark.parametrize("vector", own("consistency_proofs")["vectors"])
    def test_proofs_are_made_and_accepted(self, vector: dict[str, Any]) -> None:
        old, old_root, new, new_root, proof = consistency_of(vector)
        assert list(prove_consistency(old, new, nodes_of(LEAVES[:new]))) == proof
        verify_consistency(old, old_root, new, new_root, proof)

    @pytest.mark.parametrize(
        "vector", own("consistency_proofs")["old_size_zero"]["vectors"]
    )
    def test_every_tree_grows_from_the_empty_one(self, vector: dict[str, Any]) -> None:
        assert prove_consistency(0, vector["new_size"], nodes_of([])) == ()
        verify_consistency(*consistency_of(vector))

    def test_mutations_are_refused(self) -> None:
        for vector in own("consistency_negative")["vectors"]:
            assert not vector["valid"]
            agree(False, verify_consistency, *consistency_of(vector))

    @pytest.mark.parametrize("vector", own("consistency_accepted_mutations")["vectors"])
    def test_a_proof_does_not_bind_the_sizes(self, vector: dict[str, Any]) -> None:
        verify_consistency(*consistency_of(vector))


@pytest.mark.interop
class TestTransparencyDev:
    """github.com/transparency-dev/merkle: 196 vectors, of which 184 are refused."""

    FOLDER = "transparency-dev-merkle/testdata/"

    def test_inclusion(self) -> None:
        refused = 0
        for vector in self.vectors("inclusion", 98):
            proof = [b64(text) for text in vector["proof"] or ()]
            leaf, root = b64(vector["leafHash"]), b64(vector["root"])
            arguments = vector["leafIdx"], vector["treeSize"], leaf, proof, root
            agree(not vector["wantErr"], verify_inclusion, *arguments)
            refused += vector["wantErr"]
        assert refused == 92

    def test_consistency(self) -> None:
        refused = 0
        for vector in self.vectors("consistency", 98):
            proof = [b64(text) for text in vector["proof"] or ()]
            old, new = b64(vector["root1"]), b64(vector["root2"])
            arguments = vector["size1"], old, vector["size2"], new, proof
            agree(not vector["wantErr"], verify_consistency, *arguments)
            refused += vector["wantErr"]
        assert refused == 92

    def vectors(self, kind: str, count: int) -> list[dict[str, Any]]:

        files = public_files(self.FOLDER + kind, "*.json")
        assert len(files) == count
        return [json.loads(path.read_text("utf-8")) for path in files]


class TestInclusionRefusals:
    """The tree of the first three leaves; the proof of leaf 1 is (A, C)."""

    ROOT = root_hash([A, B, C])

    def refused(self, error: type[AuditLogError], match: str, **changes: Any) -> None:
        arguments = {"index": 1, "size": 3, "leaf": B, "proof": (A, C)}
        with pytest.raises(error, match=match):
            verify_inclusion(**{**arguments, "root": self.ROOT, **changes})

    def test_the_unchanged_one_is_accepted(self) -> None:
        verify_inclusion(1, 3, B, (A, C), self.ROOT)
        verify_inclusion(1, 3, B, [A, C], self.ROOT)
        verify_inclusion(2, 3, C, (node_hash(A, B),), self.ROOT)

    @pytest.mark.parametrize("name", ["leaf", "root"])
    def test_hashes_of_other_lengths(self, name: str) -> None:
        for value in (b"", A[:31], A + b"\x00", A + A):
            self.refused(MalformedError, f"{len(value)}$", **{name: value})

    @pytest.mark.parametrize("name", ["leaf", "root"])
    @pytest.mark.parametrize("value", [None, "a" * 32, 32, bytearray(A), [1] * 32])
    def test_hashes_of_other_types(self, name: str, value: Any) -> None:
        self.refused(MalformedError, "as bytes, got", **{name: value})

    def test_a_proof_of_other_hashes(self) -> None:
        self.refused(
            MalformedError, "proof hash of 32 bytes, got 31", proof=(A, C[:31])
        )
        self.refused(
            MalformedError, "proof hash as bytes, got str", proof=("a" * 32, C)
        )

    @pytest.mark.parametrize("proof", [None, 3, "ab", A, iter((A, C)), {A: C}, {A, C}])
    def test_a_proof_that_is_no_sequence(self, proof: Any) -> None:
        self.refused(MalformedError, "proof as list or tuple", proof=proof)

    @pytest.mark.parametrize("name", ["index", "size"])
    @pytest.mark.parametrize("value", [True, 1.0, "1", None, b"2"])
    def test_numbers_of_other_types(self, name: str, value: Any) -> None:
        self.refused(MalformedError, "as int, got", **{name: value})

    @pytest.mark.parametrize("name", ["index", "size"])
    @pytest.mark.parametrize("value", [-1, 2**63, 2**64, HUGE])
    def test_numbers_outside(self, name: str, value: int) -> None:
        self.refused(MalformedError, r"from 0 to 2\^63-1", **{name: value})

    @pytest.mark.parametrize("size", [0, 1])
    def test_an_index_beyond_the_tree(self, size: int) -> None:
        self.refused(VerificationError, f"below {size}, got 1", size=size)

    def test_proofs_of_other_lengths(self) -> None:
        self.refused(VerificationError, "too few hashes", proof=(A,))
        self.refused(VerificationError, "too few hashes", proof=())
        self.refused(VerificationError, "got more hashes", proof=(A, C, C))
        self.refused(VerificationError, "got more hashes", proof=(A,) * 64)
        self.refused(VerificationError, "up to 64 hashes, got 65", proof=(A,) * 65)

    def test_another_root(self) -> None:
        self.refused(VerificationError, "inclusion proof leads to root", root=A)

    def test_the_last_leaf_of_the_largest_tree(self) -> None:
        proof = [A] * 62
        root = B
        for sibling in proof:
            root = node_hash(root, sibling)
        verify_inclusion(0, 2**62, B, proof, root)
        assert MAX_SIZE == 2**63 - 1
        with pytest.raises(VerificationError, match="too few hashes"):
            verify_inclusion(0, MAX_SIZE, B, proof, root)


def test_at_equal_sizes_equal_bytes_are_enough_whatever_their_length() -> None:
    """As transparency-dev/merkle has it: there is nothing to compute a root from."""
    verify_consistency(3, b"root", 3, b"root", ())
    with pytest.raises(VerificationError):
        verify_consistency(3, b"root", 3, b"roof", ())


class TestConsistencyRefusals:
    """From the first two leaves to the first three; the proof is (C)."""

    OLD, NEW = root_hash([A, B]), root_hash([A, B, C])

    def refused(self, error: type[AuditLogError], match: str, **changes: Any) -> None:
        roots = {"old_root": self.OLD, "new_root": self.NEW}
        with pytest.raises(error, match=match):
            verify_consistency(
                **{"old_size": 2, "new_size": 3, "proof": (C,), **roots, **changes}
            )

    def test_the_unchanged_one_is_accepted(self) -> None:
        verify_consistency(2, self.OLD, 3, self.NEW, (C,))
        verify_consistency(2, self.OLD, 3, self.NEW, [C])

    @pytest.mark.parametrize("name", ["old_root", "new_root"])
    def test_hashes_of_other_lengths(self, name: str) -> None:
        for value in (b"", A[:31], A + b"\x00"):
            self.refused(MalformedError, f"{len(value)}$", **{name: value})

    @pytest.mark.parametrize("name", ["old_root", "new_root"])
    @pytest.mark.parametrize("old_size", [0, 2, 3])
    def test_hashes_of_other_types(self, name: str, old_size: int) -> None:
        proof = (C,) if old_size == 2 else ()
        change = {name: "a" * 32, "old_size": old_size, "proof": proof}
        with_root = {"old_root": EMPTY_ROOT} if old_size == 0 else {}
        self.refused(MalformedError, "as bytes, got str", **{**with_root, **change})

    @pytest.mark.parametrize("name", ["old_size", "new_size"])
    @pytest.mark.parametrize("value", [True, 2.0, "2", None])
    def test_numbers_of_other_types(self, name: str, value: Any) -> None:
        self.refused(MalformedError, "as int, got", **{name: value})

    @pytest.mark.parametrize("name", ["old_size", "new_size"])
    @pytest.mark.parametrize("value", [-1, 2**63, HUGE])
    def test_numbers_outside(self, name: str, value: int) -> None:
        self.refused(MalformedError, r"from 0 to 2\^63-1", **{name: value})

    def test_a_proof_of_other_types(self) -> None:
        self.refused(MalformedError, "proof as list or tuple", proof=C)
        self.refused(MalformedError, "of 32 bytes, got 33", proof=(C + b"\x00",))

    def test_a_shrinking_tree(self) -> None:
        self.refused(VerificationError, "old size up to 3, got 4", old_size=4)

    def test_each_root_is_bound(self) -> None:
        self.refused(VerificationError, "leads to new root", old_root=A)
        self.refused(VerificationError, "leads to new root", new_root=A)

    def test_both_roots_are_bound_where_the_old_tree_is_incomplete(self) -> None:
        leaves = LEAVES[:7]
        proof = prove_consistency(5, 7, nodes_of(leaves))
        old, new = root_hash(leaves[:5]), root_hash(leaves)
        verify_consistency(5, old, 7, new, proof)
        self.refused(
            VerificationError,
            "leads to old root",
            old_size=5,
            old_root=A,
            new_size=7,
            new_root=new,
            proof=proof,
        )

    def test_proofs_of_other_lengths(self) -> None:
        self.refused(VerificationError, "a proof from 2 to 3, got 0 hashes", proof=())
        self.refused(VerificationError, "got more hashes", proof=(C, C))
        self.refused(VerificationError, "too few hashes", new_size=5)
        self.refused(VerificationError, "up to 64 hashes, got 65", proof=(C,) * 65)

    def test_equal_sizes(self) -> None:
        verify_consistency(3, self.NEW, 3, self.NEW, ())
        same = {"old_size": 3, "old_root": self.NEW}
        self.refused(VerificationError, "no proof from 3 to 3, got 1 hashes", **same)
        self.refused(
            VerificationError, "root at the same size is", old_size=3, proof=()
        )

    def test_the_empty_tree(self) -> None:
        verify_consistency(0, EMPTY_ROOT, 3, self.NEW, ())
        verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, ())
        empty = {"old_size": 0, "old_root": EMPTY_ROOT}
        self.refused(VerificationError, "no proof from 0 to 3, got 1 hashes", **empty)
        empty["proof"] = ()
        self.refused(MalformedError, "new root of 32 bytes", **empty, new_root=A[:9])
        self.refused(
            VerificationError, "root of the empty tree is", **{**empty, "old_root": A}
        )
        self.refused(VerificationError, "root at the same size is", **empty, new_size=0)


class TestProverRefusals:
    def test_no_such_leaf(self) -> None:
        with pytest.raises(MalformedError, match="leaf index below 3, got 3"):
            prove_inclusion(3, 3, nodes_of(LEAVES[:3]))

    def test_a_shrinking_tree(self) -> None:
        with pytest.raises(MalformedError, match="old size up to 3, got 4"):
            prove_consistency(4, 3, nodes_of(LEAVES[:3]))

    @pytest.mark.parametrize("size", [-1, 2**63, True, 3.0])
    def test_no_such_size(self, size: Any) -> None:
        node = nodes_of(LEAVES[:3])
        for prove in (prove_inclusion, prove_consistency):
            with pytest.raises(MalformedError, match="size"):
                prove(0, size, node)
        with pytest.raises(MalformedError, match="old size"):
            prove_consistency(size, 3, node)
        with pytest.raises(MalformedError, match="leaf index"):
            prove_inclusion(size, 3, node)
        with pytest.raises(MalformedError, match="tree size"):
            tree_root(size, node)


class TestNonsense:
    @given(FIVE)
    def test_into_verify_inclusion(self, arguments: Any) -> None:
        with suppress(AuditLogError):
            verify_inclusion(*arguments)

    @given(FIVE)
    def test_into_verify_consistency(self, arguments: Any) -> None:
        with suppress(AuditLogError):
            verify_consistency(*arguments)

    @given(st.data())
    def test_one_changed_argument(self, data: st.DataObject) -> None:
        leaves = LEAVES[:7]
        proof = prove_inclusion(3, 7, nodes_of(leaves))
        arguments: list[Any] = [3, 7, leaves[3], proof, root_hash(leaves)]
        position = data.draw(st.integers(0, 4))
        arguments[position] = data.draw(NONSENSE)
        value = arguments[position]
        if type(value) is int and value in (3, 5, 6, 7, 8):
            return  # the same, or a size of the same shape: vectors show that
        with pytest.raises(AuditLogError):
            verify_inclusion(*arguments)


@given(st.integers(2, 200), st.data())
def test_no_flipped_bit_is_accepted(size: int, data: st.DataObject) -> None:
    leaves = LEAVES[:size]
    index = data.draw(st.integers(0, size - 1))
    proof = list(prove_inclusion(index, size, nodes_of(leaves)))
    which = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))
    flipped = int.from_bytes(proof[which]) ^ (1 << bit)
    proof[which] = flipped.to_bytes(32)
    with pytest.raises(VerificationError, match="leads to"):
        verify_inclusion(index, size, leaves[index], proof, root_hash(leaves))


def test_every_growth_of_a_log_is_consistent() -> None:
    sizes = [0, 1, 2, 3, 255, 256, 257, 512, 1000]
    for old, new in pairwise(sizes):
        proof = prove_consistency(old, new, nodes_of(LEAVES[:new]))
        roots = root_hash(LEAVES[:old]), root_hash(LEAVES[:new])
        verify_consistency(old, roots[0], new, roots[1], proof)
