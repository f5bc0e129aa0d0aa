"""Digests on a real chain: signed, stored, sent, followed until they are final."""

import base64
import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from auditlog.anchors.attestation import Anchor, Attestation
from auditlog.anchors.evm.anchor import EvmAnchor
from auditlog.anchors.evm.block import TOLERANCE
from auditlog.anchors.evm.check import check
from auditlog.anchors.evm.contract import ADDRESS
from auditlog.anchors.evm.pending import MAX_TRANSACTIONS, parse_pending
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.record import canonical_json
from tests.anchors.evm.chain import Anvil
from tests.e2e.processes import free_port

NOW = 1_795_000_000.0
DIGEST = secrets.token_bytes(32)
GWEI = 10**9


def transactions(attestation: Attestation) -> Any:
    return parse_pending(attestation.evidence)[1]


def stored(attestation: Attestation) -> Attestation:
    """Return what comes back from a store: canonical JSON, parsed."""
    evidence = json.loads(canonical_json(dict(attestation.evidence)))
    return Attestation(attestation.kind, attestation.state, evidence)


def sent(
    anchor: EvmAnchor, digest: bytes, attestation: Attestation, now: float = NOW
) -> Attestation:
    """Upgrade until nothing changes; no block is made meanwhile."""
    for _ in range(6):
        newer = anchor.upgrade(digest, stored(attestation), now=now)
        if newer == attestation:
            return newer
        attestation = newer
    raise AssertionError(attestation)


def followed(
    chain: Anvil,
    anchor: EvmAnchor,
    digest: bytes,
    attestation: Attestation,
    now: float = NOW,
) -> Attestation:
    """Upgrade until nothing changes, and once more with a block more."""
    attestation = sent(anchor, digest, attestation, now)
    if attestation.state == "pending":
        chain.mine()
    return sent(anchor, digest, attestation, now)


class TestWholeWay:
    def test_from_a_digest_to_a_time(self, chain: Anvil, tmp_path: Path) -> None:
        anchor: Anchor = chain.anchor(tmp_path)
        before = time.time()
        pending = anchor.submit(DIGEST, [], now=NOW)
        assert (pending.kind, pending.state) == ("evm", "pending")
        assert anchor.upgrade(DIGEST, stored(pending), now=NOW) == pending
        chain.mine()
        final = anchor.upgrade(DIGEST, stored(pending), now=NOW)
        assert final.state == "final"
        assert set(final.evidence) == {"chain_id", "header", "proof", "tx_index"}
        assert anchor.upgrade(DIGEST, final, now=NOW) is final
        assert isinstance(anchor, EvmAnchor)
        bound = check(DIGEST, stored(final).evidence, chain.trust(anchor))
        assert bound.party == "Anvil"
        assert bound.detail.startswith(f"block {chain.number()} of chain 31337")
        mined = int(chain.block()["timestamp"], 16)
        assert bound.not_after == mined * 1_000_000 + TOLERANCE
        assert bound.not_after > before * 1_000_000

    def test_submitting_sends_nothing(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path)
        anchor.submit(DIGEST, [], now=NOW)
        chain.mine()
        assert chain.logs(DIGEST) == []

    def test_among_many_transactions_of_others(
        self, chain: Anvil, tmp_path: Path
    ) -> None:
        anchor = chain.anchor(tmp_path)
        payer, other = chain.rpc("eth_accounts")[:2]
        for _ in range(40):
            payment = {"from": payer, "to": other, "value": "0x1"}
            chain.rpc("eth_sendTransaction", payment)
        pending = sent(anchor, DIGEST, anchor.submit(DIGEST, [], now=NOW))
        for _ in range(100):
            payment = {"from": other, "to": payer, "value": "0x1"}
            chain.rpc("eth_sendTransaction", payment)
        chain.mine()
        final = followed(chain, anchor, DIGEST, pending)
        assert len(final.evidence["proof"]) > 1
        assert check(DIGEST, final.evidence, chain.trust(anchor)).party == "Anvil"

    def test_only_what_the_chain_calls_final(
        self, chain: Anvil, tmp_path: Path
    ) -> None:
        anchor = chain.anchor(tmp_path, confirmations="finalized")
        pending = followed(chain, anchor, DIGEST, anchor.submit(DIGEST, [], now=NOW))
        assert pending.state == "pending"
        assert len(chain.logs(DIGEST)) == 1
        mined = chain.number()
        while int(chain.block("finalized")["number"], 16) < mined:
            assert sent(anchor, DIGEST, pending).state == "pending"
            chain.mine(16)
        assert sent(anchor, DIGEST, pending).state == "final"

    def test_a_number_of_confirmations(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path, confirmations=3)
        pending = followed(chain, anchor, DIGEST, anchor.submit(DIGEST, [], now=NOW))
        for _ in range(2):
            assert sent(anchor, DIGEST, pending).state == "pending"
            chain.mine()
        assert sent(anchor, DIGEST, pending).state == "final"

    def test_a_later_block_is_trusted(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path)
        final = followed(chain, anchor, DIGEST, anchor.submit(DIGEST, [], now=NOW))
        chain.mine(20)
        trust = chain.trust(anchor, "latest")
        with pytest.raises(UntrustedError, match="does not name block"):
            check(DIGEST, final.evidence, trust)
        longer = anchor.history.extend(final.evidence, chain.number() - 7)
        longer = anchor.history.extend(longer, chain.number())
        assert len(longer["headers"]) == 20
        assert check(DIGEST, longer, trust).party == "Anvil"
        with pytest.raises(
            AuditLogError, match="expected one of the 8192 blocks after"
        ):
            anchor.history.extend(longer, chain.number())


class TestNumbers:
    """No transaction takes the number of another that is stored or on its way."""

    def test_after_what_is_stored_and_after_what_is_sent(
        self, chain: Anvil, tmp_path: Path
    ) -> None:
        anchor = chain.anchor(tmp_path)
        first = anchor.submit(b"\1" * 32, [], now=NOW)
        second = anchor.submit(b"\2" * 32, [first], now=NOW)
        third = anchor.submit(b"\3" * 32, [first, second], now=NOW)
        numbers = [transactions(one)[0].nonce for one in (first, second, third)]
        assert numbers == [0, 1, 2]
        for at, pending in enumerate((first, second, third), 1):
            sent(anchor, bytes([at]) * 32, pending)
        fourth = anchor.submit(b"\4" * 32, [], now=NOW)
        assert transactions(fourth)[0].nonce == 3

    def test_another_transaction_took_it(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path, confirmations=2)
        lost = anchor.submit(b"\1" * 32, [], now=NOW)
        won = anchor.submit(b"\2" * 32, [], now=NOW)
        followed(chain, anchor, b"\2" * 32, won)
        # The other one may still lose its block.
        assert sent(anchor, b"\1" * 32, lost, NOW + 10_000) == lost
        chain.mine()
        again = anchor.upgrade(b"\1" * 32, lost, now=NOW)
        assert [one.nonce for one in transactions(again)] == [0, 1]
        assert chain.logs(b"\1" * 32) == []
        again = followed(chain, anchor, b"\1" * 32, again)
        chain.mine()
        assert sent(anchor, b"\1" * 32, again).state == "final"

    def test_one_before_it_never_came(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path, stuck_after=100)
        gone = anchor.submit(b"\1" * 32, [], now=NOW)
        pending = anchor.submit(b"\2" * 32, [gone], now=NOW)
        assert followed(chain, anchor, b"\2" * 32, pending) == pending
        assert chain.logs(b"\2" * 32) == []
        again = anchor.upgrade(b"\2" * 32, pending, now=NOW + 100)
        assert [one.nonce for one in transactions(again)] == [1, 0]
        assert followed(chain, anchor, b"\2" * 32, again, NOW + 100).state == "final"

    def test_it_gives_up(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path, stuck_after=1)
        one = anchor.submit(DIGEST, [], now=NOW)
        kept = list(one.evidence["transactions"]) * MAX_TRANSACTIONS
        many = Attestation("evm", "pending", {**one.evidence, "transactions": kept})
        with pytest.raises(VerificationError, match="gave up after 64 transactions"):
            anchor.upgrade(DIGEST, many, now=NOW + 10)


class TestPrices:
    def test_stuck(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path, stuck_after=100)
        pending = anchor.submit(DIGEST, [], now=NOW)
        assert sent(anchor, DIGEST, pending, NOW + 99) == pending
        dearer = anchor.upgrade(DIGEST, pending, now=NOW + 100)
        old, new = transactions(dearer)
        assert new.nonce == old.nonce
        assert new.fee >= old.fee * 1.125
        assert new.tip >= old.tip * 1.125
        # Stored first, sent only then.
        assert self.waiting(chain) == {old.hash}
        assert anchor.upgrade(DIGEST, dearer, now=NOW + 101) == dearer
        assert self.waiting(chain) == {new.hash}
        chain.mine()
        assert sent(anchor, DIGEST, dearer).state == "final"
        assert len(chain.logs(DIGEST)) == 1

    def test_the_cheap_one_was_mined_after_all(
        self, chain: Anvil, tmp_path: Path
    ) -> None:
        anchor = chain.anchor(tmp_path, stuck_after=100)
        pending = sent(anchor, DIGEST, anchor.submit(DIGEST, [], now=NOW))
        dearer = anchor.upgrade(DIGEST, pending, now=NOW + 100)
        assert len(transactions(dearer)) == 2
        chain.mine()
        assert anchor.upgrade(DIGEST, dearer, now=NOW + 101).state == "final"

    def test_too_cheap_to_be_taken(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path, max_fee=1000)
        pending = anchor.submit(DIGEST, [], now=NOW)
        self.set_price(chain, 50 * GWEI)
        dearer = anchor.upgrade(DIGEST, pending, now=NOW)
        old, new = transactions(dearer)
        assert old.fee < 50 * GWEI < new.fee
        assert followed(chain, anchor, DIGEST, dearer).state == "final"

    def test_never_more_than_allowed(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path, max_fee=10, stuck_after=100)
        self.set_price(chain, 50 * GWEI)
        pending = anchor.submit(DIGEST, [], now=NOW)
        assert transactions(pending)[0].fee == 10 * GWEI
        for later in (0, 100, 100_000):
            assert followed(chain, anchor, DIGEST, pending, NOW + later) == pending
        self.set_price(chain, 1 * GWEI)
        assert followed(chain, anchor, DIGEST, pending).state == "final"

    def test_no_money(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path)
        pending = anchor.submit(DIGEST, [], now=NOW)
        chain.fund(anchor.address, 1)
        with pytest.raises(AuditLogError, match="Insufficient funds") as caught:
            anchor.upgrade(DIGEST, pending, now=NOW)
        assert type(caught.value) is AuditLogError
        chain.fund(anchor.address)
        assert followed(chain, anchor, DIGEST, pending).state == "final"

    def set_price(self, chain: Anvil, price: int) -> None:
        chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(price))
        chain.mine()

    def waiting(self, chain: Anvil) -> set[bytes]:
        block = chain.rpc("eth_getBlockByNumber", "pending", False)
        return {bytes.fromhex(one[2:]) for one in block["transactions"]}


class TestReorganisation:
    def test_a_block_is_taken_back(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path, confirmations=3)
        pending = followed(chain, anchor, DIGEST, anchor.submit(DIGEST, [], now=NOW))
        (before,) = chain.logs(DIGEST)
        chain.rpc("anvil_reorg", 1, [])
        assert chain.logs(DIGEST) == []
        assert followed(chain, anchor, DIGEST, pending) == pending
        (after,) = chain.logs(DIGEST)
        assert before["blockHash"] != after["blockHash"]
        assert before["transactionHash"] == after["transactionHash"]
        chain.mine(2)
        final = sent(anchor, DIGEST, pending)
        assert final.state == "final"
        assert check(DIGEST, final.evidence, chain.trust(anchor, chain.number() - 2))

    def test_the_replacement_s_block_is_taken_back_for_the_first(
        self, chain: Anvil, tmp_path: Path
    ) -> None:
        anchor = chain.anchor(tmp_path, confirmations=2, stuck_after=100)
        pending = sent(anchor, DIGEST, anchor.submit(DIGEST, [], now=NOW))
        dearer = anchor.upgrade(DIGEST, pending, now=NOW + 100)
        assert anchor.upgrade(DIGEST, dearer, now=NOW + 101) == dearer
        chain.mine()
        chain.rpc("anvil_reorg", 1, [])
        first = transactions(dearer)[0].raw
        chain.rpc("eth_sendRawTransaction", "0x" + first.hex())
        chain.mine(2)
        assert anchor.upgrade(DIGEST, dearer, now=NOW).state == "final"


class TestOutage:
    def test_hours_without_a_node(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path)
        down = chain.anchor(tmp_path, rpc=f"http://127.0.0.1:{free_port()}", timeout=2)
        with pytest.raises(AuditLogError, match="cannot reach") as caught:
            down.submit(DIGEST, [], now=NOW)
        assert type(caught.value) is AuditLogError
        pending = anchor.submit(DIGEST, [], now=NOW)
        for hour in range(3):
            with pytest.raises(AuditLogError, match="cannot reach"):
                down.upgrade(DIGEST, pending, now=NOW + 3600 * hour)
        final = followed(chain, anchor, DIGEST, pending, NOW + 4 * 3600)
        assert final.state == "final"

    def test_one_of_two_nodes_is_down(self, chain: Anvil, tmp_path: Path) -> None:
        nodes = [f"http://127.0.0.1:{free_port()}", chain.url]
        anchor = chain.anchor(tmp_path, rpc=nodes, agree=1)
        pending = anchor.submit(DIGEST, [], now=NOW)
        assert followed(chain, anchor, DIGEST, pending).state == "final"
        strict = chain.anchor(tmp_path, rpc=nodes, agree=2)
        assert followed(chain, strict, DIGEST, pending) == pending


class TestMisconfigured:
    def test_another_chain(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path, chain_id=1)
        with pytest.raises(
            ConfigurationError, match=r"expected chain 1, .* serves 31337"
        ):
            anchor.submit(DIGEST, [], now=NOW)

    def test_another_contract(self, chain: Anvil, tmp_path: Path) -> None:
        anchor = chain.anchor(tmp_path, contract="0x" + "11" * 20)
        with pytest.raises(ConfigurationError, match="AuditAnchor at 0x1111"):
            anchor.submit(DIGEST, [], now=NOW)

    def test_pending_on_a_chain_that_is_not_ours_any_more(
        self, chain: Anvil, tmp_path: Path
    ) -> None:
        pending = chain.anchor(tmp_path).submit(DIGEST, [], now=NOW)
        moved = chain.anchor(tmp_path, chain_id=1)
        with pytest.raises(ConfigurationError, match="is of chain 1, and was of 31337"):
            moved.upgrade(DIGEST, pending, now=NOW)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("raw", base64.b64encode(b"\2\xc0").decode()),
            ("raw", ""),
            ("hash", base64.b64encode(bytes(32)).decode()),
            ("nonce", 7),
            ("signed", -1),
            ("more", 1),
        ],
    )
    def test_pending_evidence_that_nobody_wrote(
        self, chain: Anvil, tmp_path: Path, name: str, value: Any
    ) -> None:
        anchor = chain.anchor(tmp_path)
        (one,) = anchor.submit(DIGEST, [], now=NOW).evidence["transactions"]
        evidence = {"chain_id": 31337, "transactions": [{**one, name: value}]}
        with pytest.raises(MalformedError):
            anchor.upgrade(DIGEST, Attestation("evm", "pending", evidence), now=NOW)
        none = {"chain_id": 31337, "transactions": []}
        with pytest.raises(MalformedError, match="expected 1 to 64 transactions"):
            anchor.upgrade(DIGEST, Attestation("evm", "pending", none), now=NOW)

    def test_the_contract_is_where_it_is_on_every_chain(self, chain: Anvil) -> None:
        assert len(chain.rpc("eth_getCode", "0x" + ADDRESS.hex(), "latest")) > 1000
