"""Nodes that lie: nothing final comes of it, and the next try may go well."""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditlog.anchors.attestation import Attestation
from auditlog.anchors.evm.anchor import EvmAnchor
from auditlog.core.errors import AuditLogError, ConfigurationError
from tests.anchors.evm.chain import Anvil
from tests.anchors.evm.liar import Liar, Lie, lying

NOW = 1_795_000_000.0
DIGEST = secrets.token_bytes(32)


@pytest.fixture
def liar(chain: Anvil) -> Iterator[Liar]:
    with lying(chain.url) as node:
        yield node


@pytest.fixture
def mined(chain: Anvil, tmp_path: Path) -> Attestation:
    """Pending evidence of what stands in the newest block."""
    anchor = chain.anchor(tmp_path)
    pending = anchor.submit(DIGEST, [], now=NOW)
    anchor.upgrade(DIGEST, pending, now=NOW)
    chain.mine()
    assert len(chain.logs(DIGEST)) == 1
    return pending


def of_liar(chain: Anvil, liar: Liar, tmp_path: Path, **options: Any) -> EvmAnchor:
    return chain.anchor(tmp_path, rpc=liar.url, **options)


def with_honest(chain: Anvil, liar: Liar, tmp_path: Path, **options: Any) -> EvmAnchor:
    nodes = [liar.url, chain.url]
    return chain.anchor(tmp_path, rpc=nodes, **options)


def changed(field: str, value: Any) -> Lie:
    return lambda _, truth: {**truth, field: value} if truth else truth


def _one_for_each(changes: list[dict[str, Any]]) -> Lie:
    return lambda _, truth: [{**truth[0], **one} for one in changes]


def test_another_chain(
    chain: Anvil, liar: Liar, tmp_path: Path, mined: Attestation
) -> None:
    liar.lies["eth_chainId"] = lambda *_: "0x1"
    anchor = of_liar(chain, liar, tmp_path)
    message = r"expected chain 31337, http://127.0.0.1:\d+ serves 1"
    with pytest.raises(ConfigurationError, match=message):
        anchor.submit(DIGEST, [], now=NOW)
    with pytest.raises(ConfigurationError, match=message):
        anchor.upgrade(DIGEST, mined, now=NOW)
    assert "eth_sendRawTransaction" not in liar.asked


def test_no_contract(chain: Anvil, liar: Liar, tmp_path: Path) -> None:
    for code in ("0x", "0x6001"):
        liar.lies["eth_getCode"] = lambda *_, code=code: code
        with pytest.raises(ConfigurationError, match="expected the contract Audit"):
            of_liar(chain, liar, tmp_path).submit(DIGEST, [], now=NOW)


class TestUnfinal:
    def lie(self, liar: Liar, chain: Anvil) -> None:
        newest = chain.block()
        liar.lies["eth_getBlockByNumber"] = lambda params, truth: (
            newest if params[0] == "finalized" else truth
        )

    def test_two_nodes_must_agree(
        self, chain: Anvil, liar: Liar, tmp_path: Path, mined: Attestation
    ) -> None:
        self.lie(liar, chain)
        anchor = with_honest(chain, liar, tmp_path, confirmations="finalized")
        assert anchor.upgrade(DIGEST, mined, now=NOW) == mined
        for _ in range(6):
            chain.mine(16)
        assert anchor.upgrade(DIGEST, mined, now=NOW).state == "final"

    def test_the_guard_is_the_second_node(
        self, chain: Anvil, liar: Liar, tmp_path: Path, mined: Attestation
    ) -> None:
        self.lie(liar, chain)
        options = {"agree": 1, "confirmations": "finalized"}
        anchor = with_honest(chain, liar, tmp_path, **options)
        assert anchor.upgrade(DIGEST, mined, now=NOW).state == "final"


class TestBlocks:
    def test_a_header_that_does_not_hash_to_what_it_says(
        self, chain: Anvil, liar: Liar, tmp_path: Path, mined: Attestation
    ) -> None:
        liar.lies["eth_getBlockByHash"] = changed("timestamp", "0x1")
        with pytest.raises(
            AuditLogError, match="a header of another hash than it says"
        ):
            of_liar(chain, liar, tmp_path).upgrade(DIGEST, mined, now=NOW)

    def test_two_nodes_with_different_blocks(
        self, chain: Anvil, liar: Liar, tmp_path: Path, mined: Attestation
    ) -> None:
        other = chain.block(chain.number() - 1)
        liar.lies["eth_getBlockByNumber"] = lambda params, truth: (
            other if params[0].startswith("0x") else truth
        )
        anchor = with_honest(chain, liar, tmp_path)
        with pytest.raises(AuditLogError, match=r"has another block \d+ than 0x"):
            anchor.upgrade(DIGEST, mined, now=NOW)
        liar.lies.clear()
        assert anchor.upgrade(DIGEST, mined, now=NOW).state == "final"

    def test_one_liar_of_three_changes_nothing(
        self, chain: Anvil, liar: Liar, tmp_path: Path, mined: Attestation
    ) -> None:
        other = chain.block(chain.number() - 1)
        liar.lies["eth_getBlockByNumber"] = lambda params, truth: (
            other if params[0].startswith("0x") else truth
        )
        with lying(chain.url) as third:
            nodes = [liar.url, chain.url, third.url]
            anchor = chain.anchor(tmp_path, rpc=nodes)
            assert anchor.upgrade(DIGEST, mined, now=NOW).state == "final"


class TestReceipts:
    def test_of_another_transaction(
        self, chain: Anvil, liar: Liar, tmp_path: Path, mined: Attestation
    ) -> None:
        anchor = chain.anchor(tmp_path)
        other = anchor.submit(b"\1" * 32, [], now=NOW)
        anchor.upgrade(b"\1" * 32, other, now=NOW)
        chain.mine()
        (log,) = chain.logs(b"\1" * 32)
        receipt = chain.rpc("eth_getTransactionReceipt", log["transactionHash"])
        liar.lies["eth_getTransactionReceipt"] = lambda *_: receipt
        with pytest.raises(AuditLogError, match="did not anchor this digest") as caught:
            of_liar(chain, liar, tmp_path).upgrade(DIGEST, mined, now=NOW)
        assert type(caught.value) is AuditLogError
        # The next node knows better.
        honest = with_honest(chain, liar, tmp_path)
        assert honest.upgrade(DIGEST, mined, now=NOW).state == "final"

    @pytest.mark.parametrize(
        "change",
        [{"cumulativeGasUsed": "0x1"}, {"type": "0x1"}, {"logs": []}, {"logs": [{}]}],
        ids=str,
    )
    def test_of_no_such_block(
        self, chain: Anvil, liar: Liar, tmp_path: Path, mined: Attestation, change: Any
    ) -> None:
        lies: list[list[dict[str, Any]]] = [[], [{}, {}], [change]]
        for lie in lies:
            liar.lies["eth_getBlockReceipts"] = _one_for_each(lie)
            with pytest.raises(AuditLogError, match=r"gave receipts of|no such rec"):
                of_liar(chain, liar, tmp_path).upgrade(DIGEST, mined, now=NOW)

    def test_as_failed(
        self, chain: Anvil, liar: Liar, tmp_path: Path, mined: Attestation
    ) -> None:
        liar.lies["eth_getTransactionReceipt"] = changed("status", "0x0")
        again = of_liar(chain, liar, tmp_path).upgrade(DIGEST, mined, now=NOW)
        # Signed once more, and unsent: the first one is not forgotten.
        assert again.state == "pending"
        assert again.evidence["transactions"][0] == mined.evidence["transactions"][0]
        liar.lies.clear()
        final = of_liar(chain, liar, tmp_path).upgrade(DIGEST, again, now=NOW)
        assert final.state == "final"
        assert len(chain.logs(DIGEST)) == 1

    def test_as_missing(
        self, chain: Anvil, liar: Liar, tmp_path: Path, mined: Attestation
    ) -> None:
        liar.lies["eth_getTransactionReceipt"] = lambda *_: None
        again = of_liar(chain, liar, tmp_path).upgrade(DIGEST, mined, now=NOW)
        assert len(again.evidence["transactions"]) == 2
        assert len(chain.logs(DIGEST)) == 1


class TestNonsense:
    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"<html>503</html>",
            b"[]",
            b"null",
            b'{"id":2,"result":"0x7a69"}',
            b'{"id":1,"result":{}}',
            b'{"id":1,"result":"31337"}',
            b'{"id":1,"error":"no"}',
            b'{"id":1,"error":{"message":["%s"]}}',
            b'{"id":1,"result":' + b"[" * 100_000,
        ],
    )
    def test_instead_of_an_answer(
        self,
        chain: Anvil,
        liar: Liar,
        tmp_path: Path,
        mined: Attestation,
        raw: bytes,
    ) -> None:
        liar.raw = raw
        anchor = of_liar(chain, liar, tmp_path)
        for call in (
            lambda: anchor.submit(DIGEST, [], now=NOW),
            lambda: anchor.upgrade(DIGEST, mined, now=NOW),
            lambda: anchor.history.head("origin"),
            lambda: anchor.history.deploy(now=NOW),
            lambda: anchor.history.prove_root("origin", 1),
        ):
            with pytest.raises(AuditLogError) as caught:
                call()
            assert type(caught.value) is AuditLogError

    @pytest.mark.parametrize(
        "method",
        [
            *("eth_blockNumber", "eth_chainId", "eth_estimateGas"),
            *("eth_getBlockByHash", "eth_getBlockByNumber", "eth_getBlockReceipts"),
            *("eth_getCode", "eth_getTransactionCount", "eth_getTransactionReceipt"),
            *("eth_maxPriorityFeePerGas", "eth_sendRawTransaction"),
        ],
    )
    def test_no_other_exception_leaves(
        self,
        chain: Anvil,
        liar: Liar,
        tmp_path: Path,
        mined: Attestation,
        method: str,
    ) -> None:
        anchor = of_liar(chain, liar, tmp_path)
        unsent = anchor.submit(b"\2" * 32, [], now=NOW)
        long = "0x" + "f" * 70
        lies: list[Any] = [None, {}, [], "", "0x", "0xzz", 7, [{}], "0x0", long]
        lies += [long[:18], long[:66]]
        for lie in lies:
            liar.lies[method] = lambda *_, lie=lie: lie
            with contextlib.suppress(AuditLogError):
                assert anchor.submit(DIGEST, [mined], now=NOW).state == "pending"
            for digest, pending in ((DIGEST, mined), (b"\2" * 32, unsent)):
                with contextlib.suppress(AuditLogError):
                    assert anchor.upgrade(digest, pending, now=NOW).kind == "evm"
        assert method in liar.asked

    def test_what_a_node_says_is_cut_and_has_no_control_characters(
        self, chain: Anvil, liar: Liar, tmp_path: Path
    ) -> None:
        liar.raw = b'{"id":1,"error":{"message":"\\u001b[31m%s\\n"}}' % (b"x" * 5000)
        with pytest.raises(AuditLogError, match="answered eth_chainId with") as caught:
            of_liar(chain, liar, tmp_path).submit(DIGEST, [], now=NOW)
        assert len(str(caught.value)) < 250
        assert str(caught.value).isprintable()
