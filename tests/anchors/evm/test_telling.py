"""Trees on a real chain: signed, stored, sent, followed until there is no way back."""

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from auditlog.anchors.attestation import Attestation
from auditlog.anchors.evm.contract import call_advance, origin_hash
from auditlog.anchors.evm.pending import MAX_TRANSACTIONS, Transaction, parse_pending
from auditlog.core.checkpoint import Checkpoint
from auditlog.core.errors import AuditLogError, ConfigurationError, VerificationError
from auditlog.core.merkle import NodeReader, nodes_of, prove_consistency, tree_root
from auditlog.core.record import canonical_json
from tests.anchors.evm.chain import Anvil
from tests.anchors.evm.kept import Kept
from tests.anchors.evm.liar import Liar, lying

ORIGIN = "bank.example/credit"
NOW = time.time()
DIGEST = b"\1" * 32
GWEI = 10**9
HEAD = "0x24e8393d"
"""How a call for a head begins."""


def nodes(mark: bytes = b"") -> NodeReader:
    return nodes_of(
        [hashlib.sha256(b"\0%s%d" % (mark, n)).digest() for n in range(300)]
    )


GOOD = nodes()


def consistency(old: int, new: int) -> tuple[bytes, ...]:
    return tuple(prove_consistency(old, new, GOOD))


class Teller:
    """An anchor that tells the trees of one log, and a store between its answers."""

    def __init__(self, chain: Anvil, directory: Path, **options: Any) -> None:
        self.chain = chain
        self.directory = directory
        self.configure(**options)

    def configure(self, **options: Any) -> None:
        """Name the anchor anew, as after a restart."""
        options = {"mode": "advance", **options}
        self.anchor = self.chain.anchor(self.directory, **options)

    def tell(self, size: int, *pending: Attestation) -> Attestation | None:
        tree = Checkpoint(ORIGIN, size, tree_root(size, GOOD))
        return self.anchor.tell_history(tree, consistency, pending, now=NOW)

    def told(self, size: int, *pending: Attestation) -> Attestation:
        got = self.tell(size, *pending)
        assert got is not None
        return got

    def follow(self, size: int, known: Attestation, after: float = 0.0) -> Attestation:
        tree = Checkpoint(ORIGIN, size, tree_root(size, GOOD))
        evidence = json.loads(canonical_json(dict(known.evidence)))
        stored = Attestation(known.kind, known.state, evidence)
        return self.anchor.follow_history(tree, consistency, stored, now=NOW + after)

    def head(self) -> int:
        return self.anchor.history.head(ORIGIN).size

    def by_hand(self, size: int) -> None:
        """Tell the contract a tree by another way."""
        known = self.head()
        proof = consistency(known, size) if known else ()
        self.anchor.history.advance(ORIGIN, size, tree_root(size, GOOD), proof, now=NOW)


@pytest.fixture
def teller(chain: Anvil, tmp_path: Path) -> Teller:
    return Teller(chain, tmp_path)


def transactions(attestation: Attestation) -> tuple[Transaction, ...]:
    return parse_pending(attestation.evidence)[1]


def pool(chain: Anvil) -> dict[int, bytes]:
    """Return the hashes of what waits to be mined, by number."""
    found = chain.rpc("txpool_content")
    return {
        int(nonce): bytes.fromhex(one["hash"][2:])
        for sort in ("pending", "queued")
        for ours in found[sort].values()
        for nonce, one in ours.items()
    }


def set_price(chain: Anvil, price: int) -> None:
    chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(price))
    chain.mine()


def nothing_known(params: list[Any], _: Any) -> str:
    """Answer as a contract does that was told nothing."""
    return "0x" + bytes(96 if params[0]["data"].startswith(HEAD) else 32).hex()


# --- the whole way --------------------------------------------------------------------


def test_nothing_is_sent_that_was_not_stored(chain: Anvil, teller: Teller) -> None:
    pending = teller.told(5)
    assert (pending.kind, pending.state) == ("evm", "pending")
    assert pool(chain) == {}
    assert teller.follow(5, pending) == pending
    (one,) = transactions(pending)
    assert pool(chain) == {0: one.hash}
    chain.mine()
    done = teller.follow(5, pending)
    assert (done.state, done.evidence) == ("final", pending.evidence)
    assert teller.follow(5, done) is not pending
    assert teller.head() == 5
    assert teller.tell(5) is None
    assert teller.tell(4) is None


def test_each_tree_extends_what_is_known_when_it_is_sent(
    chain: Anvil, teller: Teller
) -> None:
    """Somebody told another one meanwhile: the stored proof is of no use any more."""
    teller.configure(stuck_after=100)
    pending = teller.told(20)
    teller.by_hand(5)
    chain.mine()
    # Its number went to the other one.
    again = teller.follow(20, pending)
    assert [one.nonce for one in transactions(again)] == [0, 1]
    assert teller.follow(20, again) == again
    chain.mine()
    assert teller.follow(20, again).state == "final"
    assert [size for size, _ in chain.trees()] == [5, 20]


def test_what_the_contract_refuses_is_said_and_not_sent(
    chain: Anvil, teller: Teller
) -> None:
    evil = nodes(b"evil")
    teller.by_hand(5)
    chain.mine()
    tree = Checkpoint(ORIGIN, 9, tree_root(9, evil))

    def proof(old: int, new: int) -> tuple[bytes, ...]:
        return tuple(prove_consistency(old, new, evil))

    with pytest.raises(VerificationError, match="the contract refuses: Inconsistent"):
        teller.anchor.tell_history(tree, proof, [], now=NOW)
    assert pool(chain) == {}


def test_only_where_the_operator_wants_it(chain: Anvil, teller: Teller) -> None:
    """Who wanted it once, and does not any more, has no number held up by it."""
    pending = teller.told(5)
    teller.configure(mode="batch")
    assert teller.tell(9) is None
    assert teller.follow(5, pending) == pending
    chain.mine()
    assert teller.follow(5, pending).state == "final"


# --- numbers --------------------------------------------------------------------------


def test_trees_and_digests_have_numbers_of_one_row(teller: Teller) -> None:
    first = teller.anchor.submit(DIGEST, [], now=NOW)
    tree = teller.told(5, first)
    second = teller.anchor.submit(DIGEST, [first, tree], now=NOW)
    numbers = [transactions(one)[0].nonce for one in (first, tree, second)]
    assert numbers == [0, 1, 2]


def test_a_number_that_another_took_may_come_back(chain: Anvil, teller: Teller) -> None:
    teller.configure(confirmations=2)
    lost = teller.told(5)
    won = teller.anchor.submit(DIGEST, [], now=NOW)
    teller.anchor.upgrade(DIGEST, won, now=NOW)
    chain.mine()
    assert teller.follow(5, lost, 10_000) == lost
    assert pool(chain) == {}
    chain.mine()
    again = teller.follow(5, lost)
    assert [one.nonce for one in transactions(again)] == [0, 1]
    assert teller.head() == 0
    teller.follow(5, again)
    chain.rpc("anvil_mine", "0x3", "0x1")
    assert teller.follow(5, again).state == "final"


def test_what_others_told_and_may_be_taken_back_is_waited_for(
    chain: Anvil, teller: Teller
) -> None:
    teller.configure(confirmations=3)
    lost = teller.told(5)
    teller.anchor.upgrade(DIGEST, teller.anchor.submit(DIGEST, [], now=NOW), now=NOW)
    chain.mine(3)
    teller.by_hand(5)
    chain.mine()
    assert teller.follow(5, lost) == lost
    chain.rpc("anvil_mine", "0x4", "0x1")
    assert teller.follow(5, lost).state == "final"


def test_where_one_before_it_is_missing_no_price_helps(
    chain: Anvil, teller: Teller
) -> None:
    """The next digest takes that number; until then nothing is made dearer."""
    teller.configure(stuck_after=100)
    gone = teller.anchor.submit(DIGEST, [], now=NOW)
    pending = teller.told(5, gone)
    for later in (0, 100, 10_000):
        assert teller.follow(5, pending, later) == pending
        chain.mine()
    assert teller.head() == 0
    digest = teller.anchor.submit(DIGEST, [], now=NOW)
    assert transactions(digest)[0].nonce == 0
    teller.anchor.upgrade(DIGEST, digest, now=NOW)
    chain.mine()
    assert teller.follow(5, pending).state == "final"


def test_a_node_that_knows_an_older_head_brings_no_second_one_about(
    chain: Anvil, teller: Teller
) -> None:
    """Several nodes behind one address, as providers have them."""
    with lying(chain.url) as liar:
        teller.configure(rpc=liar.url)
        pending = teller.told(5)
        teller.follow(5, pending)
        chain.mine()
        liar.lies["eth_call"] = lambda *_: "0x" + bytes(96).hex()
        with pytest.raises(AuditLogError, match="gave no head of a log"):
            teller.follow(5, pending)
        liar.lies["eth_call"] = nothing_known
        assert teller.follow(5, pending) == pending
        liar.lies.clear()
        assert teller.follow(5, pending).state == "final"


def test_it_gives_up(teller: Teller) -> None:
    teller.configure(stuck_after=1)
    one = teller.told(5)
    kept = list(one.evidence["transactions"]) * MAX_TRANSACTIONS
    many = Attestation("evm", "pending", {**one.evidence, "transactions": kept})
    with pytest.raises(VerificationError, match="gave up after 64 transactions"):
        teller.follow(5, many, 10)


def test_what_was_signed_for_another_chain_is_not_sent_here(
    chain: Anvil, teller: Teller
) -> None:
    pending = teller.told(5)
    other = Attestation("evm", "pending", {**pending.evidence, "chain_id": 7})
    with pytest.raises(ConfigurationError, match=r"is of chain 31337, and was of 7"):
        teller.follow(5, other)
    assert pool(chain) == {}


# --- prices ---------------------------------------------------------------------------


def test_what_is_stuck_is_made_dearer_after_a_restart_too(
    chain: Anvil, teller: Teller
) -> None:
    teller.configure(stuck_after=100)
    pending = teller.told(5)
    assert teller.follow(5, pending, 99) == pending
    teller.configure(stuck_after=100)
    dearer = teller.follow(5, pending, 100)
    old, new = transactions(dearer)
    assert new.nonce == old.nonce
    assert new.fee >= old.fee * 1.125
    assert new.tip >= old.tip * 1.125
    assert pool(chain) == {0: old.hash}, "stored first, sent only then"
    assert teller.follow(5, dearer, 101) == dearer
    assert pool(chain) == {0: new.hash}
    chain.mine()
    assert teller.follow(5, dearer, 102).state == "final"
    assert len(chain.sent(teller.anchor.address)) == 1


def test_the_cheap_one_was_mined_after_all(chain: Anvil, teller: Teller) -> None:
    teller.configure(stuck_after=100)
    pending = teller.told(5)
    teller.follow(5, pending)
    dearer = teller.follow(5, pending, 100)
    chain.mine()
    assert teller.follow(5, dearer, 101).state == "final"


def test_one_that_is_too_cheap_to_be_taken_is_replaced_at_once(
    chain: Anvil, teller: Teller
) -> None:
    teller.configure(max_fee=1000)
    pending = teller.told(5)
    set_price(chain, 50 * GWEI)
    dearer = teller.follow(5, pending)
    old, new = transactions(dearer)
    assert old.fee < 50 * GWEI < new.fee
    assert old.nonce == new.nonce
    assert teller.follow(5, dearer) == dearer
    chain.mine()
    assert teller.follow(5, dearer).state == "final"


def test_never_more_than_allowed(chain: Anvil, teller: Teller) -> None:
    teller.configure(max_fee=10, stuck_after=100)
    set_price(chain, 50 * GWEI)
    pending = teller.told(5)
    assert transactions(pending)[0].fee == 10 * GWEI
    for later in (0, 100, 100_000):
        assert teller.follow(5, pending, later) == pending
        chain.mine()
    set_price(chain, 1 * GWEI)
    teller.follow(5, pending)
    chain.mine()
    assert teller.follow(5, pending).state == "final"


def test_no_money(chain: Anvil, teller: Teller) -> None:
    pending = teller.told(5)
    chain.fund(teller.anchor.address, 1)
    with pytest.raises(AuditLogError, match="Insufficient funds") as caught:
        teller.follow(5, pending)
    assert caught.type is AuditLogError


def test_the_number_of_what_is_known_by_another_way_comes_free(
    chain: Anvil, teller: Teller
) -> None:
    """Nothing is left to hope for from that transaction, and no tree is told twice."""
    teller.configure(stuck_after=100)
    pending = teller.told(5)
    stranger = teller.told(5)
    teller.follow(5, stranger)
    chain.mine()
    waiting = teller.told(9)
    chain.rpc("anvil_setNonce", "0x" + teller.anchor.address.hex(), "0x0")
    dearer = teller.follow(5, pending, 100)
    old, new = transactions(dearer)
    assert (old.nonce, new.nonce) == (0, 0)
    teller.follow(5, dearer, 101)
    teller.follow(9, waiting)
    chain.mine()
    assert teller.follow(5, dearer, 102).state == "final"
    assert teller.follow(9, waiting).state == "final"
    calls = [call for _, call in chain.sent(teller.anchor.address)]
    assert calls[1:-1] == [b""], "a transfer of nothing"
    assert [size for size, _ in chain.trees()] == [5, 9]


def test_no_account_is_held_up_by_what_was_cheap_before_a_kill(kept: Kept) -> None:
    """A log whose process died over a cheap transaction; then fees rise for good."""
    kept.configure(max_fee=1000, stuck_after=900)
    size = kept.grow()
    kept.round()
    kept.configure(max_fee=1000, stuck_after=900)  # as after a restart
    kept.chain.rpc("anvil_dropAllTransactions")
    set_price(kept.chain, 50 * GWEI)
    for _ in range(3):
        kept.round("look", after=1)
        kept.configure(max_fee=1000, stuck_after=900)
        kept.chain.mine()
    assert kept.head()[0] == size
    kept.round("look", after=1)
    kept.sign()
    states = {one.anchor: one.state for one in kept.log.store.attestations(size)}
    assert states == {"chain": "final", "chain+history": "kept"}
    calls = [call for _, call in kept.chain.sent(kept.anchor.address)]
    assert len(calls) == 2, "the digest and the tree, each once"


def test_a_transfer_of_nothing_tells_no_tree(chain: Anvil, teller: Teller) -> None:
    """What was known by another way is taken back: then it is told after all."""
    with lying(chain.url) as liar:
        teller.configure(rpc=liar.url, stuck_after=100)
        pending = teller.told(5)
        set_price(chain, 2 * GWEI)
        teller.follow(5, teller.told(5))
        chain.mine()
        chain.rpc("anvil_setNonce", "0x" + teller.anchor.address.hex(), "0x0")
        dearer = teller.follow(5, pending, 100)
        teller.follow(5, dearer, 101)
        chain.mine()
        assert chain.sent(teller.anchor.address)[-1] == (0, b"")
        liar.lies["eth_call"] = nothing_known
        again = teller.follow(5, dearer, 102)
        assert [one.nonce for one in transactions(again)] == [0, 0, 1]


# --- reorganisations ------------------------------------------------------------------


def test_what_was_taken_back_is_sent_again_as_it_was(
    chain: Anvil, teller: Teller
) -> None:
    teller.configure(confirmations=3)
    pending = teller.told(5)
    teller.follow(5, pending)
    chain.mine()
    assert teller.follow(5, pending) == pending
    chain.rpc("anvil_reorg", 1, [])
    assert teller.head() == 0
    assert teller.follow(5, pending) == pending
    chain.rpc("anvil_mine", "0x4", "0x1")
    assert teller.follow(5, pending).state == "final"
    assert len(chain.sent(teller.anchor.address)) == 1


# --- nodes that lie -------------------------------------------------------------------


def used_up(params: list[Any], truth: Any) -> Any:
    return truth if params[1] in ("latest", "pending") else "0x63"


def known(teller: Teller, size: int, liar: Liar) -> None:
    """Let a node say that the contract knows a tree, and that its number is used up."""
    head = size.to_bytes(32, "big") + int(NOW - 9).to_bytes(32, "big") + bytes(32)

    def call(params: list[Any], truth: Any) -> Any:
        if params[0]["data"].startswith(HEAD):
            return "0x" + head.hex()
        return "0x" + tree_root(size, GOOD).hex()

    liar.lies["eth_call"] = call
    liar.lies["eth_getTransactionCount"] = used_up


@pytest.mark.parametrize("first", [True, False])
def test_one_node_that_lies_of_a_number_brings_no_second_one_about(
    chain: Anvil, teller: Teller, first: bool
) -> None:
    with lying(chain.url) as liar, lying(chain.url) as honest:
        others = [honest.url, chain.url]
        teller.configure(rpc=[liar.url, *others] if first else [*others, liar.url])
        pending = teller.told(5)
        liar.lies["eth_getTransactionCount"] = used_up
        assert teller.follow(5, pending) == pending
        assert len(pool(chain)) == 1, "another node was asked"
        teller.configure(rpc=[liar.url, chain.url], agree=2)
        liar.lies["eth_getTransactionCount"] = lambda *_: "0x63"
        assert teller.follow(5, pending, 1) == pending
        teller.configure(rpc=[chain.url, liar.url], agree=2)
        chain.mine()
        assert teller.follow(5, pending).state == "final"


def test_one_node_that_lies_of_a_tree_does_not_end_it(
    chain: Anvil, teller: Teller
) -> None:
    with lying(chain.url) as liar:
        teller.configure(rpc=[liar.url, chain.url], agree=2)
        pending = teller.told(5)
        known(teller, 5, liar)
        assert teller.follow(5, pending) == pending
        assert len(pool(chain)) == 1


def test_a_node_of_another_chain_has_no_say(chain: Anvil, teller: Teller) -> None:
    pending = teller.told(5)
    teller.follow(5, pending)
    chain.mine()
    with lying(chain.url) as liar:
        teller.configure(rpc=[chain.url, liar.url], agree=2)
        liar.lies["eth_chainId"] = lambda *_: "0x7"
        with pytest.raises(AuditLogError, match="known for good, and too few others"):
            teller.follow(5, pending)
        liar.lies.clear()
        assert teller.follow(5, pending).state == "final"


def test_who_has_no_other_node_hears_why(chain: Anvil, teller: Teller) -> None:
    with lying(chain.url) as liar:
        teller.configure(rpc=[liar.url], agree=1)
        pending = teller.told(5)
        known(teller, 5, liar)
        assert teller.follow(5, pending).state == "final", "it is all that it knows"
        teller.configure(rpc=[liar.url, "http://127.0.0.1:9/"], agree=2)
        with pytest.raises(AuditLogError, match="says that 5 entries are known"):
            teller.follow(5, pending)


def test_an_answer_that_gets_lost_loses_nothing(chain: Anvil, teller: Teller) -> None:
    """It was sent, and nobody heard so."""
    with lying(chain.url) as liar:
        teller.configure(rpc=liar.url)
        pending = teller.told(5)

        def gone(params: list[Any], truth: Any) -> Any:
            liar.raw = b"?"
            return truth

        liar.lies["eth_sendRawTransaction"] = gone
        assert teller.follow(5, pending) == pending
        with pytest.raises(AuditLogError, match="gave no useful answer"):
            teller.follow(5, pending)
        liar.raw = None
        liar.lies.clear()
        assert teller.follow(5, pending) == pending
        chain.mine()
        assert teller.follow(5, pending).state == "final"
        assert [call[:4] for _, call in chain.sent(teller.anchor.address)] == [
            call_advance(origin_hash(ORIGIN), 5, tree_root(5, GOOD), ())[:4]
        ]
