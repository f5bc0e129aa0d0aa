"""The chain as a witness: it refuses rewritten history, and shows what it was told."""

import hashlib
import time
from pathlib import Path

import pytest

from auditlog.anchors.evm.artifact import load_artifact
from auditlog.anchors.evm.contract import ADDRESS
from auditlog.anchors.evm.state import read_root, verify_absence, verify_presence
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.merkle import NodeReader, nodes_of, prove_consistency, tree_root
from tests.anchors.evm.chain import Anvil, running

ORIGIN = "bank.example/credit"
NOW = time.time()


def tree(mark: bytes = b"") -> NodeReader:
    return nodes_of(
        [hashlib.sha256(b"\0%s%d" % (mark, n)).digest() for n in range(300)]
    )


GOOD = tree()
EVIL = tree(b"evil")


def test_a_log_grows_under_the_eyes_of_the_chain(chain: Anvil, tmp_path: Path) -> None:
    history = chain.anchor(tmp_path, mode="advance").history
    assert history.head(ORIGIN)[0::3] == (0, False)
    for size in (5, 64, 300):
        head = history.head(ORIGIN)
        proof = prove_consistency(head.size, size, GOOD)
        root = tree_root(size, GOOD)
        assert history.advance(ORIGIN, size, root, proof, now=NOW) is not None
        chain.mine()
        head = history.head(ORIGIN)
        assert (head.size, head.root, head.strict) == (size, root, True)
        assert head.time == int(chain.block()["timestamp"], 16)


def test_the_chain_refuses_a_rewritten_history(chain: Anvil, tmp_path: Path) -> None:
    history = chain.anchor(tmp_path, mode="advance").history
    history.advance(ORIGIN, 100, tree_root(100, GOOD), (), now=NOW)
    chain.mine()
    # The operator has all keys, and recomputes the whole log from entry 0 on.
    proof = prove_consistency(100, 200, EVIL)
    with pytest.raises(VerificationError, match="the contract refuses: Inconsistent"):
        history.advance(ORIGIN, 200, tree_root(200, EVIL), proof, now=NOW)
    with pytest.raises(VerificationError, match="the contract refuses: SplitView"):
        history.advance(ORIGIN, 100, tree_root(100, EVIL), (), now=NOW)
    with pytest.raises(VerificationError, match="the contract refuses: Shrinking"):
        history.advance(ORIGIN, 50, tree_root(50, GOOD), (), now=NOW)
    assert chain.rpc("txpool_status")["pending"] == "0x0", "nothing was sent"
    assert history.head(ORIGIN).size == 100


def test_the_same_again_costs_nothing(chain: Anvil, tmp_path: Path) -> None:
    history = chain.anchor(tmp_path, mode="advance").history
    root = tree_root(5, GOOD)
    assert history.advance(ORIGIN, 5, root, (), now=NOW) is not None
    chain.mine()
    assert history.advance(ORIGIN, 5, root, (), now=NOW) is None
    assert chain.rpc("txpool_status")["pending"] == "0x0"


def test_what_was_told_and_what_was_not(chain: Anvil, tmp_path: Path) -> None:
    anchor = chain.anchor(tmp_path, mode="advance")
    history, root = anchor.history, tree_root(5, GOOD)
    history.advance(ORIGIN, 5, root, (), now=NOW)
    chain.mine()
    told = chain.number()
    trust = chain.trust(anchor, told)
    assert read_root(
        anchor.address, ORIGIN, 5, history.prove_root(ORIGIN, 5), trust
    ) == (root, "Anvil", told, int(chain.block()["timestamp"], 16) * 1_000_000)
    absent = history.prove_root(ORIGIN, 6)
    assert verify_absence(anchor.address, ORIGIN, 6, absent, trust).block == told
    with pytest.raises(VerificationError):
        verify_absence(anchor.address, ORIGIN, 5, absent, trust)
    # Any later block shows it, and an earlier one that it was not yet told.
    proof = prove_consistency(5, 9, GOOD)
    history.advance(ORIGIN, 9, tree_root(9, GOOD), proof, now=NOW)
    chain.mine(10)
    later = history.prove_root(ORIGIN, 5)
    trust = chain.trust(anchor)
    verify_presence(anchor.address, ORIGIN, 5, root, later, trust)
    with pytest.raises(VerificationError, match="split view"):
        verify_presence(anchor.address, ORIGIN, 5, tree_root(5, EVIL), later, trust)
    early = history.prove_root(ORIGIN, 9, block=told)
    longer = history.extend(early, chain.number())
    assert verify_absence(anchor.address, ORIGIN, 9, longer, trust).block == told


def test_of_an_account_that_told_nothing(chain: Anvil, tmp_path: Path) -> None:
    anchor = chain.anchor(tmp_path)
    proof = anchor.history.prove_root(ORIGIN, 5)
    trust = chain.trust(anchor)
    assert verify_absence(anchor.address, ORIGIN, 5, proof, trust).root is None
    with pytest.raises(UntrustedError, match="does not name sender"):
        verify_absence(b"\1" * 20, ORIGIN, 5, proof, trust)


def test_only_where_the_operator_wants_it(chain: Anvil, tmp_path: Path) -> None:
    history = chain.anchor(tmp_path).history
    with pytest.raises(ConfigurationError, match='expected mode = "advance"'):
        history.advance(ORIGIN, 5, tree_root(5, GOOD), (), now=NOW)
    history = chain.anchor(tmp_path, mode="advance").history
    with pytest.raises(MalformedError, match="expected a size from 1"):
        history.advance(ORIGIN, 0, tree_root(5, GOOD), (), now=NOW)


class TestDeployment:
    def test_to_the_same_address_once(self, npm: None, tmp_path: Path) -> None:
        with running() as fresh:
            anchor = fresh.anchor(tmp_path)
            with pytest.raises(ConfigurationError, match="expected the contract"):
                anchor.submit(bytes(32), [], now=NOW)
            with pytest.raises(ConfigurationError, match="expected the contract"):
                anchor.history.head(ORIGIN)
            assert anchor.history.deploy(now=NOW) is not None
            assert anchor.history.deploy(now=NOW) is None, "it is on its way"
            fresh.mine()
            assert anchor.history.deploy(now=NOW) is None
            code = fresh.rpc("eth_getCode", "0x" + ADDRESS.hex(), "latest")
            assert code == load_artifact()["runtime"]

            fresh.rpc("anvil_setCode", "0x" + ADDRESS.hex(), "0x")
            fresh.rpc(
                "anvil_setCode", "0x4e59b44847b379578588920cA78FbF26c0B4956C", "0x"
            )
            with pytest.raises(
                ConfigurationError, match="the deployment proxy at 0x4e"
            ):
                anchor.history.deploy(now=NOW)

    def test_without_money(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path, mode="advance")
        chain.fund(anchor.address, 1)
        with pytest.raises(AuditLogError, match="Insufficient funds"):
            anchor.history.advance(ORIGIN, 5, tree_root(5, GOOD), (), now=NOW)
