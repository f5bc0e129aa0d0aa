"""Proofs of what the contract holds: a root that was told, or none."""

from typing import Any

import pytest

from auditlog.anchors.evm.contract import ADDRESS
from auditlog.anchors.evm.state import read_root, verify_absence, verify_presence
from auditlog.anchors.trust import Trust
from auditlog.core.errors import MalformedError, UntrustedError, VerificationError
from tests.anchors.evm.blocks import (
    CHAIN_ID,
    SENDER,
    TIME,
    b64,
    header,
    of_storage,
    trusting,
)

ORIGIN = "bank.example/credit"
ROOT = bytes([0, 0, *range(1, 31)])
ROOTS = {(ORIGIN, size): bytes([size]) * 32 for size in range(1, 40)} | {
    (ORIGIN, 100): ROOT,
    ("other.example", 7): b"\x77" * 32,
}


def proof_of(
    size: int, origin: str = ORIGIN, roots: Any = None, **fields: Any
) -> tuple[dict[str, Any], Trust]:
    made = of_storage(ROOTS if roots is None else roots, (origin, size), **fields)
    block = header(state_root=made.state_root)
    proof = {
        "account": [b64(node) for node in made.account],
        "chain_id": CHAIN_ID,
        "header": b64(block),
        "storage": [b64(node) for node in made.storage],
    }
    return proof, trusting(block)


class TestPresence:
    @pytest.mark.parametrize(("size", "root"), [(1, b"\1" * 32), (100, ROOT)])
    def test_a_root_that_was_told(self, size: int, root: bytes) -> None:
        proof, trust = proof_of(size)
        slot = verify_presence(SENDER, ORIGIN, size, root, proof, trust)
        assert slot == (root, "Ethereum", 100, TIME * 1_000_000)

    def test_another_root_shows_a_split_view(self) -> None:
        proof, trust = proof_of(5)
        with pytest.raises(
            VerificationError, match=r"split view: root 0505.* of size 5"
        ):
            verify_presence(SENDER, ORIGIN, 5, ROOT, proof, trust)

    def test_none(self) -> None:
        proof, trust = proof_of(50)
        with pytest.raises(VerificationError, match="no root of size 50 was anchored"):
            verify_presence(SENDER, ORIGIN, 50, ROOT, proof, trust)


class TestAbsence:
    @pytest.mark.parametrize("size", [40, 50, 99, 101, 2**53 - 1])
    def test_a_size_that_was_never_told(self, size: int) -> None:
        proof, trust = proof_of(size)
        assert verify_absence(SENDER, ORIGIN, size, proof, trust).root is None

    def test_of_a_contract_that_holds_nothing(self) -> None:
        proof, trust = proof_of(5, roots={})
        assert proof["storage"] == []
        assert verify_absence(SENDER, ORIGIN, 5, proof, trust).root is None

    def test_of_another_log(self) -> None:
        proof, trust = proof_of(7, "third.example")
        assert verify_absence(SENDER, "third.example", 7, proof, trust).root is None

    def test_a_size_that_was_told(self) -> None:
        proof, trust = proof_of(5)
        with pytest.raises(
            VerificationError, match=r"root 0505.* was anchored by block"
        ):
            verify_absence(SENDER, ORIGIN, 5, proof, trust)

    def test_the_proof_of_another_size_proves_nothing(self) -> None:
        proof, trust = proof_of(50)
        for size in (5, 51, 100):
            with pytest.raises(VerificationError):
                verify_absence(SENDER, ORIGIN, size, proof, trust)

    def test_a_proof_that_is_cut_short(self) -> None:
        proof, trust = proof_of(5)
        for name in ("account", "storage"):
            nodes: list[str] = proof[name]
            for cut in (nodes[:-1], nodes[1:], nodes[:0]):
                with pytest.raises(VerificationError):
                    verify_absence(SENDER, ORIGIN, 5, {**proof, name: cut}, trust)


class TestRefused:
    def test_nobody_trusts_it(self) -> None:
        proof, trust = proof_of(5)
        with pytest.raises(UntrustedError, match="does not name sender 0x0101"):
            read_root(b"\1" * 20, ORIGIN, 5, proof, trust)
        with pytest.raises(UntrustedError, match="names no chain 9"):
            read_root(SENDER, ORIGIN, 5, {**proof, "chain_id": 9}, trust)
        with pytest.raises(UntrustedError, match="does not name block"):
            read_root(SENDER, ORIGIN, 5, proof, trusting())

    def test_another_contract_stands_there(self) -> None:
        proof, trust = proof_of(5, code_hash=b"\1" * 32)
        with pytest.raises(
            VerificationError, match="at that address is not AuditAnchor"
        ):
            read_root(SENDER, ORIGIN, 5, proof, trust)

    def test_no_contract_stands_there(self) -> None:
        proof, trust = proof_of(5, address=b"\2" * 19 + b"\3")
        with pytest.raises(VerificationError, match="block 100 has no such contract"):
            read_root(SENDER, ORIGIN, 5, proof, trust)

    def test_the_trust_file_names_another_contract(self) -> None:
        proof, trust = proof_of(5)
        chain = trust.chains[0]
        other = trusting(contract=b"\1" * 20, blocks=chain.blocks)
        assert chain.contract == ADDRESS
        with pytest.raises(VerificationError):
            read_root(SENDER, ORIGIN, 5, proof, other)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"more": 1}, "expected a proof of state with the fields"),
            ({"account": "AA=="}, "expected list as account"),
            ({"storage": [1]}, "expected trie nodes in base64"),
            ({"headers": []}, "expected headers, or no such field"),
        ],
    )
    def test_malformed(self, change: dict[str, Any], message: str) -> None:
        proof, trust = proof_of(5)
        with pytest.raises(MalformedError, match=message):
            read_root(SENDER, ORIGIN, 5, {**proof, **change}, trust)

    @pytest.mark.parametrize("size", [0, -1, 2**53])
    def test_no_size(self, size: int) -> None:
        proof, trust = proof_of(5)
        with pytest.raises(MalformedError, match="expected a size from 1"):
            read_root(SENDER, ORIGIN, size, proof, trust)
