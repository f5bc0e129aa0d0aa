"""A real log under the eyes of a real chain, which halts it if its past was rewritten.

No node can halt a log by what it says: only our own signature, or several nodes, can.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from auditlog.anchors.evm.contract import ADDRESS, call_advance, origin_hash
from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.evm.node import _transaction
from auditlog.anchors.evm.state import verify_absence, verify_presence
from auditlog.core.checkpoint import Checkpoint
from auditlog.core.errors import RollbackError, VerificationError
from auditlog.core.merkle import EMPTY_ROOT
from auditlog.log.check import check_log
from auditlog.log.directory import open_log
from auditlog.log.runtime import Runtime
from demo_service.dishonest_operator import copy_log, rebuild_without
from tests.anchors.evm.chain import CHAIN_ID, Anvil
from tests.anchors.evm.kept import NOW, Kept, write_anchor
from tests.anchors.evm.liar import Liar, lying
from tests.e2e.processes import ROOT
from tests.filled import decision_at, fill_log
from tests.harness import check_whole_log
from tests.log.builders import config_of, gap_items

OTHER = b"\x11" * 32
ADVANCE = call_advance(bytes(32), 1, OTHER, ())[:4]


@pytest.fixture
def told(kept: Kept) -> Kept:
    """A log of which the chain knows a tree."""
    kept.grow()
    kept.round()
    kept.chain.mine()
    assert kept.head()[0] == 3
    return kept


def test_a_log_grows_under_the_eyes_of_the_chain(kept: Kept) -> None:
    sizes = []
    for _ in range(3):
        sizes.append(kept.grow())
        assert [one.state for one in kept.round()] == ["pending"]
        kept.chain.mine()
        kept.round("look")
        assert kept.head() == kept.checkpoint(sizes[-1])[1:]
    # Whoever has the chain's block holds the log's own checkpoints against it.
    origin, anchor = kept.log.origin, kept.anchor
    trust = kept.chain.trust(anchor)
    for size in kept.log.store.sizes(0, 100):
        proof = anchor.history.prove_root(origin, size)
        if size in sizes:
            root = kept.checkpoint(size).root
            verify_presence(anchor.address, origin, size, root, proof, trust)
        else:
            verify_absence(anchor.address, origin, size, proof, trust)
    assert kept.chain.rpc("txpool_status")["pending"] == "0x0"


def test_by_default_the_chain_hears_of_no_tree(kept: Kept) -> None:
    kept.configure(mode="batch")
    kept.grow()
    kept.round()
    kept.chain.mine()
    kept.round("look")
    assert kept.head()[0] == 0
    (history,) = kept.anchoring.histories()
    assert history.check() == kept.log.store.newest()[0]  # type: ignore[index]


def test_what_a_reorganisation_took_back_is_told_again(kept: Kept) -> None:
    kept.configure(confirmations=3)
    size = kept.grow()
    before = kept.chain.rpc("evm_snapshot")
    kept.round()
    kept.chain.mine()
    assert kept.head()[0] == size
    (history,) = kept.anchoring.histories()
    assert history.check() == 0, "it is not final yet"
    empty = Checkpoint(kept.log.origin, 0, EMPTY_ROOT)
    with pytest.raises(RollbackError, match="our account signed so"):
        kept.anchor.check_history(empty, _no_proof)  # which needs no final block
    kept.chain.rpc("anvil_dropAllTransactions")
    kept.chain.rpc("evm_revert", before)
    kept.chain.mine()
    assert kept.head()[0] == 0
    kept.round("look")
    kept.chain.rpc("anvil_mine", "0x5", "0x1")  # a second apart
    assert kept.head()[0] == size
    kept.round("look")
    assert not any(one.behind() for one in kept.anchoring._works[0]._histories)


def test_who_forgot_what_is_on_its_way_does_no_harm(kept: Kept) -> None:
    """A process that was killed after it sent; the log grew before the next began."""
    size = kept.grow()
    kept.round()
    kept.configure()
    kept.grow()
    kept.round()
    kept.chain.mine()
    assert kept.head()[0] == size, "the second did not extend what the first told"
    kept.configure()
    kept.round()
    kept.chain.mine()
    assert kept.head()[0] > size


def test_whatever_is_killed_the_chain_has_each_tree_once(kept: Kept) -> None:
    every = int(os.environ.get("EVERY", "7"))
    command = [sys.executable, "-m", "tests.anchors.evm.driver", "keep"]
    directory = str(kept.log.paths.directory)
    done = subprocess.run(
        [*command, kept.chain.url, directory, str(every)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = kept.chain.trees()
    assert len(told) >= 20 // every
    assert [size for size, _ in told] == sorted({size for size, _ in told})
    assert told == [kept.checkpoint(size)[1:] for size, _ in told]
    calls = [call for _, call in kept.chain.sent(kept.anchor.address)]
    trees = [call for call in calls if call.startswith(ADVANCE)]
    assert len(trees) == len(told), "one was sent under two numbers"
    store = kept.log.store
    assert store.attestations_by("chain+history", state="pending") == []
    told_rows = store.attestations_by("chain+history", state="kept")
    assert [row.size for row in told_rows] == [size for size, _ in told]
    assert check_log(kept.log).problems == ()
    assert kept.log.store.attestations_by("chain", state="pending") == []
    last = kept.log.store.last_attestation("chain", state="final")
    assert last is not None
    assert last.size == told[-1][0]


def test_what_is_stuck_is_made_dearer(kept: Kept) -> None:
    kept.configure(stuck_after=100)
    kept.grow()
    kept.round()
    first = _pool(kept)
    kept.round("look", after=50)
    assert _pool(kept) == first
    kept.round("look", after=60)
    kept.round("look", after=1)  # what the digest's is replaced by is stored first
    assert all(now > before for now, before in zip(_pool(kept), first, strict=True))
    kept.chain.mine()
    assert kept.head()[0] == 3


def _pool(kept: Kept) -> list[int]:
    """Return what our account offers for each gas, by number."""
    pool = kept.chain.rpc("txpool_content")["pending"]
    (ours,) = pool.values()
    return [int(ours[nonce]["maxFeePerGas"], 16) for nonce in sorted(ours)]


def test_another_account_changes_nothing(told: Kept, tmp_path: Path) -> None:
    stranger = told.chain.anchor(tmp_path, mode="advance")
    stranger.history.advance(told.log.origin, 10_000, OTHER, (), now=NOW)
    told.chain.mine()
    size = told.grow()
    told.round()
    told.chain.mine()
    assert told.head()[0] == size


# --- another past ---------------------------------------------------------------------


def test_a_stolen_key_rewrites_no_history(
    chain: Anvil, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every key and every disk: the log, signed anew, halts when it is served."""
    directory = tmp_path / "audit"
    fill_log(directory, 3)
    write_anchor(directory, chain)
    _serve(directory)
    chain.mine()
    assert len(chain.trees()) == 1
    copy = copy_log(directory, tmp_path / "copy")
    assert "HALTED" not in caplog.text
    rebuild_without(copy, decision_at(copy, 1))
    before = check_whole_log(copy)
    _serve(copy)
    assert check_whole_log(copy).checkpoints == before.checkpoints
    assert "HALTED, nothing is signed any more: anchor chain" in caplog.text
    assert "the chain knows another past of this log: it has another root" in (
        caplog.text
    )
    assert "our account signed so in transaction 0x" in caplog.text


def _serve(directory: Path) -> None:
    with open_log(directory) as log:
        origin = log.origin
    runtime = Runtime(config_of(directory, origin=origin))
    runtime._log.store.append(gap_items(3, origin=origin))
    runtime.stop()


def test_an_old_copy_is_behind_the_chain(told: Kept) -> None:
    empty = Checkpoint(told.log.origin, 0, EMPTY_ROOT)
    with pytest.raises(RollbackError, match="it has 3 entries there, and 0 here; our"):
        told.anchor.check_history(empty, _no_proof)


def _no_proof(old: int, new: int) -> tuple[bytes, ...]:
    raise AssertionError(f"asked for a proof from {old} to {new}")


def _lies(liar: Liar, told: Kept, size: int = 10_000) -> None:
    """Let a node tell of a tree that nobody told the contract."""
    head = size.to_bytes(32, "big") + int(NOW).to_bytes(32, "big") + bytes(31) + b"\1"

    def call(params: list[Any], truth: Any) -> Any:
        data = params[0]["data"]
        if data.startswith("0x24e8393d"):
            return "0x" + head.hex()
        return "0x" + OTHER.hex() if data.endswith(head[:32].hex()) else truth

    liar.lies["eth_call"] = call


def test_the_only_node_cannot_halt_a_log_by_a_lie(told: Kept) -> None:
    with lying(told.chain.url) as liar:
        told.configure(rpc=liar.url)
        _lies(liar, told)
        size = told.grow()
        reasons = {one.size: one.reason for one in told.round()}
        assert reasons[size] == "unverified"
        (history,) = told.anchoring.histories()
        with pytest.raises(VerificationError) as caught:
            history.check()
        assert type(caught.value) is VerificationError
        assert "it has 10000 entries there, and" in str(caught.value)
        assert "no transaction of ours says so; there is no other" in str(caught.value)


@pytest.mark.parametrize(
    ("signer", "reason"),
    [
        ("another account", "no transaction of ours says so"),
        ("nobody", "the transaction is signed by nobody"),
        ("ourselves, of another log", "no transaction of ours says so"),
    ],
)
def test_a_transaction_that_we_did_not_sign_proves_nothing(
    told: Kept, tmp_path: Path, signer: str, reason: str
) -> None:
    """A node shows one that says what the lie says, or that we signed, not both."""
    origin, author = told.log.origin, told.chain.anchor(tmp_path, mode="advance")
    if signer == "ourselves, of another log":
        origin, author = "log.example/another", told.anchor
    author.history.advance(origin, 10_000, OTHER, (), now=NOW)
    told.chain.mine()
    block = told.chain.rpc("eth_getBlockByNumber", "latest", True)
    (shown,) = block["transactions"]
    if signer == "nobody":
        shown["r"] = "0x0"
        shown["hash"] = "0x" + keccak(_transaction(shown)).hex()
    with lying(told.chain.url) as liar:
        told.configure(rpc=liar.url)
        _lies(liar, told)
        liar.lies["eth_getLogs"] = lambda *_: [{"transactionHash": shown["hash"]}]
        liar.lies["eth_getTransactionByHash"] = lambda *_: shown
        (history,) = told.anchoring.histories()
        with pytest.raises(VerificationError) as caught:
            history.check()
        assert type(caught.value) is VerificationError
        assert "cannot prove it: " + reason in str(caught.value)


@pytest.mark.parametrize(
    ("chain_id", "shown_as", "reason"),
    [
        (1, None, "no transaction of ours says so"),
        (CHAIN_ID, "11" * 32, "a transaction of another hash than it says"),
    ],
)
def test_nor_does_what_we_signed_elsewhere(
    told: Kept, chain_id: int, shown_as: str | None, reason: str
) -> None:
    """The same account and call, on another chain; or shown under another name."""
    call = call_advance(origin_hash(told.log.origin), 10_000, OTHER, ())
    prices = {"gas": 90_000, "maxFeePerGas": 10, "maxPriorityFeePerGas": 1}
    shown: dict[str, Any] = {**prices, "chainId": chain_id, "nonce": 7, "type": 2}
    shown |= {"value": 0}
    key = (told.log.paths.directory / "chain.key").read_text().strip()
    signed = Account.sign_transaction({**shown, "data": call, "to": ADDRESS}, key)
    shown |= {"r": signed.r, "s": signed.s, "yParity": signed.v}
    shown |= {"to": "0x" + ADDRESS.hex()}
    shown = {k: hex(v) if isinstance(v, int) else v for k, v in shown.items()}
    shown |= {"input": "0x" + call.hex(), "accessList": []}
    named = "0x" + (shown_as or signed.hash.hex())
    with lying(told.chain.url) as liar:
        told.configure(rpc=liar.url)
        _lies(liar, told)
        liar.lies["eth_getLogs"] = lambda *_: [{"transactionHash": named}]
        liar.lies["eth_getTransactionByHash"] = lambda *_: shown
        (history,) = told.anchoring.histories()
        with pytest.raises(VerificationError, match=reason) as caught:
            history.check()
    assert caught.type is VerificationError


@pytest.mark.parametrize("first", [True, False])
def test_one_of_several_nodes_cannot_halt_a_log(told: Kept, first: bool) -> None:
    with lying(told.chain.url) as liar, lying(told.chain.url) as honest:
        others = [honest.url, told.chain.url]
        told.configure(rpc=[liar.url, *others] if first else [*others, liar.url])
        _lies(liar, told)
        liar.lies["eth_getLogs"] = lambda *_: []
        told.grow()
        told.round()
        (history,) = told.anchoring.histories()
        assert history.check() == 3


def test_one_of_several_nodes_cannot_hide_another_past(told: Kept) -> None:
    def nothing(params: list[Any], _: Any) -> str:
        size = 96 if params[0]["data"].startswith("0x24e8393d") else 32
        return "0x" + bytes(size).hex()

    with lying(told.chain.url) as liar:
        told.configure(rpc=[liar.url, told.chain.url])
        liar.lies["eth_call"] = nothing
        empty = Checkpoint(told.log.origin, 0, EMPTY_ROOT)
        with pytest.raises(RollbackError, match="our account signed so in transaction"):
            told.anchor.check_history(empty, _no_proof)


@pytest.mark.parametrize("nodes", [1, 2])
def test_nodes_without_old_transactions_prove_it_together(
    told: Kept, nodes: int
) -> None:
    empty = Checkpoint(told.log.origin, 0, EMPTY_ROOT)
    with lying(told.chain.url) as one, lying(told.chain.url) as two:
        for liar in (one, two):
            liar.lies["eth_getLogs"] = lambda *_: []
        told.configure(rpc=[one.url, two.url][:nodes])
        expected, message = (
            (VerificationError, "there is no other node to ask")
            if nodes == 1
            else (RollbackError, r"stands in block \d+, 0x\w+, as several nodes have")
        )
        with pytest.raises(expected, match=message) as caught:
            told.anchor.check_history(empty, _no_proof)
        assert caught.type is expected


def test_one_node_alone_proves_nothing_by_a_block(told: Kept) -> None:
    """Even if the operator wants one node to be enough."""
    empty = Checkpoint(told.log.origin, 0, EMPTY_ROOT)
    with lying(told.chain.url) as one, lying(told.chain.url) as two:
        for liar in (one, two):
            liar.lies["eth_getLogs"] = lambda *_: []
        two.lies["eth_getBlockByNumber"] = lambda *_: None
        told.configure(rpc=[one.url, two.url], agree=1)
        with pytest.raises(VerificationError, match="too few nodes agree") as caught:
            told.anchor.check_history(empty, _no_proof)
        assert caught.type is VerificationError
