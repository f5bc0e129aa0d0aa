"""The contract, in an EVM: one history for each log of each sender, and no other."""

import hashlib
import random

import pytest

from auditlog.anchors.evm.contract import ANCHORED, BATCH
from auditlog.core.merkle import nodes_of, prove_consistency, tree_root
from tests.anchors.evm.vm import Reverted, Vm
from tests.reference import MTH, PROOF

ENTRIES = [b"entry %d" % number for number in range(300)]
NODE = nodes_of([hashlib.sha256(b"\0" + entry).digest() for entry in ENTRIES])
ORIGIN = hashlib.sha256(b"bank.example/credit").digest()
OTHER = hashlib.sha256(b"other").digest()


def root(size: int) -> bytes:
    return tree_root(size, NODE)


def proof(old: int, new: int) -> list[bytes]:
    return list(prove_consistency(old, new, NODE))


@pytest.fixture(scope="module")
def shared() -> Vm:
    return Vm()


@pytest.fixture
def vm() -> Vm:
    return Vm()


class TestConsistent:
    """RFC 9162 §2.1.4.2, on chain."""

    def pairs(self) -> list[tuple[int, int]]:
        chance = random.Random(6962)
        small = [(old, new) for new in range(1, 13) for old in range(1, new + 1)]
        large = [(chance.randint(1, 299), 300) for _ in range(20)]
        return [*small, *large, (128, 256), (255, 256), (256, 257), (1, 300)]

    def test_proofs_of_the_product_and_of_the_definition(self, shared: Vm) -> None:
        for old, new in self.pairs():
            given = proof(old, new)
            if old < new:
                assert given == PROOF(old, ENTRIES[:new])
                assert root(new) == MTH(ENTRIES[:new])
            call = ("consistent", old, root(old), new, root(new), given)
            assert shared.call(*call) == (True,), (old, new)

    def test_whatever_is_changed(self, shared: Vm) -> None:
        chance = random.Random(9162)
        pairs = self.pairs()
        for old, new in pairs[::9]:
            good = (old, root(old), new, root(new), proof(old, new))
            for number in range(5):
                bad = _change(chance, number, *good)
                assert shared.call("consistent", *bad) == (False,), (bad, good)

    @pytest.mark.parametrize(
        ("old", "new", "count"),
        [(0, 5, 0), (0, 5, 1), (5, 4, 0), (5, 4, 3), (2**64 - 1, 1, 1), (3, 7, 0)],
    )
    def test_no_such_step(self, shared: Vm, old: int, new: int, count: int) -> None:
        call = ("consistent", old, root(5), new, root(5), [root(1)] * count)
        assert shared.call(*call) == (False,)

    @pytest.mark.parametrize(("old", "new", "claimed"), [(4, 8, 64), (3, 300, 4)])
    def test_a_proof_to_a_tree_of_another_size(
        self, shared: Vm, old: int, new: int, claimed: int
    ) -> None:
        call = ("consistent", old, root(old), claimed, root(new), proof(old, new))
        assert shared.call(*call) == (False,)

    def test_a_proof_of_a_thousand_hashes_ends_early(self, shared: Vm) -> None:
        given = proof(100, 300) + [bytes(32)] * 1000
        call = ("consistent", 100, root(100), 300, root(300), given)
        assert shared.call(*call, gas=500_000) == (False,)


def _change(
    chance: random.Random,
    number: int,
    old: int,
    old_root: bytes,
    new: int,
    new_root: bytes,
    given: list[bytes],
) -> tuple[int, bytes, int, bytes, list[bytes]]:
    at = chance.randrange(len(given)) if given else 0
    match number:
        case 0:
            return old, OTHER, new, new_root, given
        case 1:
            return old, old_root, new, OTHER, given
        case 2:
            return old, old_root, new, new_root, [*given, OTHER]
        case 3 if given:
            return old, old_root, new, new_root, given[:-1]
        case 4 if given:
            changed = [*given[:at], OTHER, *given[at + 1 :]]
            return old, old_root, new, new_root, changed
    return old, old_root, new, OTHER, given[::-1]


class TestBatch:
    def test_an_event_and_nothing_else(self, shared: Vm) -> None:
        receipt = shared.send("batch", OTHER, sender=1)
        sender = bytes.fromhex(shared.accounts[1][2:]).rjust(32, b"\0")
        (log,) = receipt["logs"]
        topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
        assert topics == [BATCH, sender, OTHER]
        assert log["data"] in ("", "0x")
        assert receipt["gas_used"] < 23_500

    def test_the_same_again(self, shared: Vm) -> None:
        assert len(shared.send("batch", OTHER)["logs"]) == 1
        assert len(shared.send("batch", OTHER)["logs"]) == 1


class TestAnchor:
    def test_a_head_and_its_event(self, vm: Vm) -> None:
        receipt = vm.send("anchor", ORIGIN, 5, root(5))
        (log,) = receipt["logs"]
        sender = bytes.fromhex(vm.accounts[0][2:]).rjust(32, b"\0")
        size = (5).to_bytes(32, "big")
        topics = [bytes.fromhex(topic[2:]) for topic in log["topics"]]
        assert topics == [ANCHORED, sender, ORIGIN, size]
        assert bytes.fromhex(log["data"].removeprefix("0x")) == root(5)
        found, time, strict = vm.call("head", vm.accounts[0], ORIGIN)
        assert (found, strict) == (5, False)
        assert time > 0
        assert vm.call("rootAt", vm.accounts[0], ORIGIN, 5) == (root(5),)

    def test_another_root_of_a_size(self, vm: Vm) -> None:
        vm.send("anchor", ORIGIN, 5, root(5))
        vm.send("anchor", ORIGIN, 9, root(9))
        for size in (5, 9):
            with pytest.raises(Reverted) as caught:
                vm.send("anchor", ORIGIN, size, OTHER)
            assert caught.value.args == ("SplitView", size, root(size))

    def test_a_smaller_tree(self, vm: Vm) -> None:
        vm.send("anchor", ORIGIN, 5, root(5))
        with pytest.raises(Reverted) as caught:
            vm.send("anchor", ORIGIN, 4, root(4))
        assert caught.value.args == ("Shrinking", 5, 4)

    @pytest.mark.parametrize(("size", "given"), [(0, OTHER), (1, bytes(32))])
    def test_nothing(self, vm: Vm, size: int, given: bytes) -> None:
        with pytest.raises(Reverted, match="Empty"):
            vm.send("anchor", ORIGIN, size, given)
        with pytest.raises(Reverted, match="Empty"):
            vm.send("advance", ORIGIN, size, given, [])

    def test_the_same_again_changes_nothing(self, vm: Vm) -> None:
        vm.send("anchor", ORIGIN, 5, root(5))
        vm.send("anchor", ORIGIN, 9, root(9))
        before = vm.call("head", vm.accounts[0], ORIGIN)
        for size in (5, 9):
            assert vm.send("anchor", ORIGIN, size, root(size))["logs"] == []
        assert vm.call("head", vm.accounts[0], ORIGIN) == before

    def test_nobody_squats(self, vm: Vm) -> None:
        vm.send("advance", ORIGIN, 2**64 - 1, OTHER, [], sender=1)
        vm.send("anchor", ORIGIN, 5, root(5), sender=0)
        assert vm.call("rootAt", vm.accounts[0], ORIGIN, 2**64 - 1) == (bytes(32),)
        assert vm.call("rootAt", vm.accounts[1], ORIGIN, 5) == (bytes(32),)
        assert vm.call("head", vm.accounts[0], ORIGIN)[0] == 5

    def test_origins_do_not_meet(self, vm: Vm) -> None:
        vm.send("advance", ORIGIN, 9, root(9), [])
        vm.send("anchor", OTHER, 5, root(5))
        assert vm.call("head", vm.accounts[0], OTHER)[0::2] == (5, False)


class TestAdvance:
    def test_a_log_that_grows(self, vm: Vm) -> None:
        size = 0
        for new in (1, 2, 3, 7, 8, 64, 65, 300):
            given = proof(size, new) if size else []
            assert len(vm.send("advance", ORIGIN, new, root(new), given)["logs"]) == 1
            size = new
        assert vm.call("head", vm.accounts[0], ORIGIN)[0::2] == (300, True)

    def test_a_rewritten_history(self, vm: Vm) -> None:
        vm.send("advance", ORIGIN, 100, root(100), [])
        evil = nodes_of([hashlib.sha256(b"\0evil%d" % n).digest() for n in range(200)])
        for given in (list(prove_consistency(100, 200, evil)), proof(100, 200), []):
            with pytest.raises(Reverted) as caught:
                vm.send("advance", ORIGIN, 200, tree_root(200, evil), given)
            assert caught.value.args == ("Inconsistent", 100, 200)
        assert vm.call("rootAt", vm.accounts[0], ORIGIN, 200) == (bytes(32),)

    def test_strict_for_ever(self, vm: Vm) -> None:
        vm.send("advance", ORIGIN, 5, root(5), [])
        for size, given in ((6, root(6)), (6, OTHER), (5, root(5)), (4, root(4))):
            with pytest.raises(Reverted, match="ProofNeeded"):
                vm.send("anchor", ORIGIN, size, given)

    def test_strict_even_where_the_tree_was_known(self, vm: Vm) -> None:
        vm.send("anchor", ORIGIN, 5, root(5))
        assert vm.send("advance", ORIGIN, 5, root(5), [])["logs"] == []
        with pytest.raises(Reverted, match="ProofNeeded"):
            vm.send("anchor", ORIGIN, 6, OTHER)

    def test_from_an_unproven_head(self, vm: Vm) -> None:
        vm.send("anchor", ORIGIN, 5, root(5))
        with pytest.raises(Reverted, match="Inconsistent"):
            vm.send("advance", ORIGIN, 9, OTHER, proof(5, 9))
        vm.send("advance", ORIGIN, 9, root(9), proof(5, 9))
        with pytest.raises(Reverted, match="ProofNeeded"):
            vm.send("anchor", ORIGIN, 10, root(10))

    def test_not_to_a_smaller_tree_nor_to_another_of_the_size(self, vm: Vm) -> None:
        vm.send("advance", ORIGIN, 9, root(9), [])
        with pytest.raises(Reverted) as caught:
            vm.send("advance", ORIGIN, 5, root(5), [])
        assert caught.value.args == ("Shrinking", 9, 5)
        with pytest.raises(Reverted) as caught:
            vm.send("advance", ORIGIN, 9, OTHER, [])
        assert caught.value.args == ("SplitView", 9, root(9))

    def test_the_first_tree_has_no_proof(self, vm: Vm) -> None:
        with pytest.raises(Reverted) as caught:
            vm.send("advance", ORIGIN, 9, root(9), [OTHER])
        assert caught.value.args == ("Inconsistent", 0, 9)

    def test_the_same_again_changes_nothing(self, vm: Vm) -> None:
        vm.send("advance", ORIGIN, 5, root(5), [])
        vm.send("advance", ORIGIN, 9, root(9), proof(5, 9))
        before = vm.call("head", vm.accounts[0], ORIGIN)
        for size in (5, 9):
            receipt = vm.send("advance", ORIGIN, size, root(size), proof(5, size))
            assert receipt["logs"] == []
        assert vm.call("head", vm.accounts[0], ORIGIN) == before
