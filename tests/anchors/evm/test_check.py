"""Evidence of kind evm: believed only by what the verifier's own file names."""

import base64
import copy
import os
import random
from typing import Any

import pytest

from auditlog.anchors.attestation import Bound
from auditlog.anchors.batch import aggregate, format_path
from auditlog.anchors.checking import check_attestation
from auditlog.anchors.evm.block import MAX_HEADERS, TOLERANCE
from auditlog.anchors.evm.check import check
from auditlog.anchors.evm.contract import ADDRESS, ANCHORED, BATCH
from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.trust import Chain, Trust
from auditlog.core.errors import MalformedError, UntrustedError, VerificationError
from tests.anchors.evm.blocks import (
    DIGEST,
    SENDER,
    TIME,
    b64,
    batch_log,
    header,
    make_receipt,
    of_receipts,
    trusting,
)

COUNT = int(os.environ.get("MUTATIONS", "2000"))
SEED = int(os.environ.get("MUTATIONS_SEED", "3"))

OTHER_LOG = (b"\xcc" * 20, (b"\7" * 32,), b"data")
PLAIN = [make_receipt(OTHER_LOG, kind=n % 3) for n in range(200)]
GOOD = make_receipt(OTHER_LOG, batch_log())
PADDED = SENDER.rjust(32, b"\0")


def block_with(receipt: bytes, index: int = 130, **fields: Any) -> dict[str, Any]:
    return of_receipts([*PLAIN[:index], receipt, *PLAIN[index:]], index, **fields)


def decoded(evidence: dict[str, Any]) -> bytes:
    return base64.b64decode(evidence["header"])


def trust_of(evidence: dict[str, Any], **fields: Any) -> Trust:
    return trusting(decoded(evidence), **fields)


EVIDENCE = block_with(GOOD)
TRUST = trust_of(EVIDENCE)
EXPECTED = Bound(
    "evm",
    "Ethereum",
    TIME * 1_000_000 + TOLERANCE,
    "block 100 of chain 1, transaction 130",
)


class TestProven:
    @pytest.mark.parametrize("index", [0, 1, 127, 128, 199])
    @pytest.mark.parametrize("kind", [0, 1, 2, 3, 4])
    def test_at_any_position_of_any_kind(self, index: int, kind: int) -> None:
        evidence = block_with(make_receipt(batch_log(), kind=kind), index)
        bound = check(DIGEST, evidence, trust_of(evidence))
        assert bound.not_after == EXPECTED.not_after
        assert bound.detail == f"block 100 of chain 1, transaction {index}"

    def test_the_only_transaction_of_a_block(self) -> None:
        evidence = of_receipts([GOOD], 0)
        assert check(DIGEST, evidence, trust_of(evidence)).party == "Ethereum"

    def test_the_time_is_the_block_s_and_a_quarter_of_an_hour(self) -> None:
        assert check(DIGEST, EVIDENCE, TRUST) == EXPECTED
        assert TOLERANCE == 15 * 60 * 1_000_000

    def test_one_of_several_tables_believes_it(self) -> None:
        chain = TRUST.chains[0]
        other = Chain("Other", 1, b"\1" * 20, (SENDER,), chain.blocks)
        third = Chain("Third", 2, ADDRESS, (SENDER,), chain.blocks)
        trust = Trust(chains=(third, other, chain))
        assert check(DIGEST, EVIDENCE, trust) == EXPECTED

    def test_many_logs_under_one_event(self) -> None:
        digests = [bytes([n]) * 32 for n in range(5)]
        top, paths = aggregate(digests, [bytes([n]) * 16 for n in range(5)])
        evidence = block_with(make_receipt(batch_log(top)))
        trust = trust_of(evidence)
        for digest, path in zip(digests, paths, strict=True):
            whole = {**evidence, "batch": format_path(path)}
            bound = check_attestation("evm", digest, whole, trust)
            assert bound.not_after == EXPECTED.not_after
        moved = {**evidence, "batch": format_path(paths[1])}
        with pytest.raises(VerificationError):
            check_attestation("evm", digests[0], moved, trust)


class TestHeaders:
    """A later block is trusted, and headers lead to it."""

    def lineage(self, count: int) -> list[bytes]:
        made = [decoded(EVIDENCE)]
        for number in range(count):
            made.append(header(parent=keccak(made[-1]), number=101 + number))
        return made[1:]

    @pytest.mark.parametrize("count", [1, 2, 50])
    def test_children_of_children(self, count: int) -> None:
        later = self.lineage(count)
        evidence = {**EVIDENCE, "headers": [b64(one) for one in later]}
        assert check(DIGEST, evidence, trusting(later[-1])) == EXPECTED

    def test_trust_of_the_block_itself_does_not_carry_to_its_children(self) -> None:
        later = self.lineage(2)
        evidence = {**EVIDENCE, "headers": [b64(one) for one in later]}
        with pytest.raises(UntrustedError, match="does not name block 0x"):
            check(DIGEST, evidence, TRUST)

    @pytest.mark.parametrize("drop", [0, 1, 2])
    def test_one_is_missing(self, drop: int) -> None:
        later = self.lineage(4)
        left = [one for at, one in enumerate(later) if at != drop]
        evidence = {**EVIDENCE, "headers": [b64(one) for one in left]}
        with pytest.raises(VerificationError, match="each header to be the child"):
            check(DIGEST, evidence, trusting(later[-1]))

    def test_out_of_order(self) -> None:
        later = self.lineage(3)
        evidence = {**EVIDENCE, "headers": [b64(later[n]) for n in (1, 0, 2)]}
        with pytest.raises(VerificationError, match="each header to be the child"):
            check(DIGEST, evidence, trusting(later[-1]))

    def test_of_another_branch(self) -> None:
        stranger = header(parent=b"\x99" * 32, number=101)
        evidence = {**EVIDENCE, "headers": [b64(stranger)]}
        with pytest.raises(VerificationError, match="each header to be the child"):
            check(DIGEST, evidence, trusting(stranger))

    @pytest.mark.parametrize(
        ("headers", "message"),
        [
            ([], "expected headers, or no such field"),
            (["AA=="] * (MAX_HEADERS + 1), "expected up to 8192 headers"),
            ([1], "expected headers in base64"),
            (["A" * 4000], "expected headers in base64, up to 2048 bytes"),
            (["AA"], "expected canonical padded base64"),
        ],
    )
    def test_malformed(self, headers: list[Any], message: str) -> None:
        with pytest.raises(MalformedError, match=message):
            check(DIGEST, {**EVIDENCE, "headers": headers}, TRUST)


class TestUntrusted:
    def test_another_chain(self) -> None:
        with pytest.raises(UntrustedError, match="names no chain 5"):
            check(DIGEST, {**EVIDENCE, "chain_id": 5}, TRUST)
        with pytest.raises(UntrustedError, match="names no chain 1"):
            check(DIGEST, EVIDENCE, Trust())

    def test_another_block_however_genuine(self) -> None:
        for trust in (trusting(), trusting(header(number=101))):
            with pytest.raises(UntrustedError, match="does not name block 0x"):
                check(DIGEST, EVIDENCE, trust)

    def test_a_block_that_another_chain_s_table_names(self) -> None:
        blocks = TRUST.chains[0].blocks
        own = Chain("A", 1, ADDRESS, (SENDER,), ())
        other = Chain("B", 2, ADDRESS, (SENDER,), blocks)
        with pytest.raises(UntrustedError, match="does not name block"):
            check(DIGEST, EVIDENCE, Trust(chains=(own, other)))

    @pytest.mark.parametrize(
        "fields",
        [{"contract": b"\1" * 20}, {"senders": (b"\1" * 20,)}, {"senders": ()}],
    )
    def test_another_contract_or_sender(self, fields: dict[str, Any]) -> None:
        with pytest.raises(UntrustedError, match="a contract or a sender that"):
            check(DIGEST, EVIDENCE, trust_of(EVIDENCE, **fields))

    def test_contract_of_one_table_and_sender_of_another(self) -> None:
        blocks = TRUST.chains[0].blocks
        one = Chain("A", 1, ADDRESS, (b"\1" * 20,), blocks)
        other = Chain("A", 1, b"\1" * 20, (SENDER,), blocks)
        with pytest.raises(UntrustedError, match="a contract or a sender that"):
            check(DIGEST, EVIDENCE, Trust(chains=(one, other)))


class TestUnproven:
    def test_another_digest(self) -> None:
        for digest in (bytes(32), DIGEST[:31], b"", DIGEST[::-1]):
            with pytest.raises(VerificationError, match="did not anchor this digest"):
                check(digest, EVIDENCE, TRUST)

    @pytest.mark.parametrize("status", [b"", b"\2", b"\1" * 32])
    def test_a_transaction_that_failed(self, status: bytes) -> None:
        evidence = block_with(make_receipt(batch_log(), status=status))
        with pytest.raises(VerificationError, match="the transaction failed"):
            check(DIGEST, evidence, trust_of(evidence))

    @pytest.mark.parametrize(
        "log",
        [
            (ADDRESS, (BATCH, PADDED), DIGEST),
            (ADDRESS, (BATCH, PADDED, DIGEST), b"more"),
            (ADDRESS, (BATCH, PADDED, DIGEST, DIGEST), b""),
            (ADDRESS, (b"\1" * 32, PADDED, DIGEST), b""),
            (ADDRESS, (ANCHORED, PADDED, DIGEST), b""),
            (ADDRESS, (BATCH, DIGEST, PADDED), b""),
            (ADDRESS, (), DIGEST),
        ],
    )
    def test_another_event(self, log: Any) -> None:
        evidence = block_with(make_receipt(log))
        with pytest.raises(VerificationError, match="did not anchor this digest"):
            check(DIGEST, evidence, trust_of(evidence))

    def test_the_history_of_a_log_gives_no_time(self) -> None:
        topics = (ANCHORED, PADDED, DIGEST, (5).to_bytes(32, "big"))
        evidence = block_with(make_receipt((ADDRESS, topics, DIGEST)))
        with pytest.raises(VerificationError, match="did not anchor this digest"):
            check(DIGEST, evidence, trust_of(evidence))

    def test_a_sender_in_dirty_bytes(self) -> None:
        dirty = b"\1" + PADDED[1:]
        evidence = block_with(make_receipt((ADDRESS, (BATCH, dirty, DIGEST), b"")))
        with pytest.raises(UntrustedError):
            check(DIGEST, evidence, trust_of(evidence))

    def test_the_proof_of_another_position(self) -> None:
        with pytest.raises(VerificationError):
            check(DIGEST, {**EVIDENCE, "tx_index": 131}, TRUST)
        other = of_receipts([*PLAIN[:130], GOOD, *PLAIN[130:]], 131)
        with pytest.raises(VerificationError, match="did not anchor this digest"):
            check(DIGEST, other, TRUST)

    def test_no_such_transaction(self) -> None:
        evidence = of_receipts([GOOD], 1)
        with pytest.raises(VerificationError, match="block 100 has no transaction 1"):
            check(DIGEST, evidence, trust_of(evidence))

    def test_a_header_that_is_changed(self) -> None:
        later = header(number=100, time=TIME - 1)
        with pytest.raises(UntrustedError, match="does not name block"):
            check(DIGEST, {**EVIDENCE, "header": b64(later)}, TRUST)


class TestMalformed:
    @pytest.mark.parametrize("field", ["chain_id", "header", "proof", "tx_index"])
    def test_a_field_is_missing(self, field: str) -> None:
        left = {name: value for name, value in EVIDENCE.items() if name != field}
        with pytest.raises(MalformedError, match="expected evidence of kind evm with"):
            check(DIGEST, left, TRUST)

    @pytest.mark.parametrize(
        ("field", "value", "message"),
        [
            ("more", 1, "expected evidence of kind evm with the fields"),
            ("chain_id", "1", "expected int as chain_id"),
            ("chain_id", 0, "expected a chain id from 1"),
            ("chain_id", 2**53, "expected a chain id from 1"),
            ("tx_index", True, "expected int as tx_index"),
            ("tx_index", -1, "expected a transaction index from 0 to 65535"),
            ("tx_index", 65536, "expected a transaction index from 0 to 65535"),
            ("header", "", "expected an RLP item"),
            ("header", "wA==", "expected a block header of 15 or more fields"),
            ("header", "!", "expected canonical padded base64"),
            ("header", "A" * 4000, "expected headers in base64, up to 2048 bytes"),
            ("proof", ["A"], "expected canonical padded base64"),
            ("proof", [b"AA=="], "expected trie nodes in base64"),
            ("proof", [""] * 65, "expected up to 64 trie nodes"),
        ],
    )
    def test_a_field_is_no_such_thing(
        self, field: str, value: Any, message: str
    ) -> None:
        evidence = {**EVIDENCE, field: value}
        trust = TRUST
        if field == "header" and value in ("", "wA=="):
            trust = trusting(base64.b64decode(value))
        with pytest.raises(MalformedError, match=message):
            check(DIGEST, evidence, trust)

    @pytest.mark.parametrize(
        "receipt",
        [b"\xc0", b"\x80", b"\2\xc0", b"\2", make_receipt((b"\1" * 19, (), b""))],
    )
    def test_no_receipt(self, receipt: bytes) -> None:
        evidence = block_with(receipt + b"")
        with pytest.raises(MalformedError):
            check(DIGEST, evidence, trust_of(evidence))


# --- mutations ------------------------------------------------------------------------


def _mutate_bytes(chance: random.Random, text: str) -> str:
    data = bytearray(base64.b64decode(text))
    at = chance.randrange(len(data))
    match chance.randrange(4):
        case 0:
            data[at] ^= 1 << chance.randrange(8)
        case 1:
            del data[at : at + chance.choice([1, 2, 32])]
        case 2:
            data[at:at] = chance.randbytes(chance.randint(1, 3))
        case 3:
            data[at] = chance.randrange(256)
    return b64(bytes(data))


def _mutate_text(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text))
    return text[:at] + chance.choice("A=+/ \n_z") + text[at + chance.randrange(2) :]


def _mutate_list(chance: random.Random, values: list[Any]) -> list[Any]:
    changed = list(values)
    at = chance.randrange(len(changed))
    match chance.randrange(5):
        case 0:
            del changed[at]
        case 1:
            changed.insert(at, changed[chance.randrange(len(changed))])
        case 2:
            other = chance.randrange(len(changed))
            changed[at], changed[other] = changed[other], changed[at]
        case 3:
            changed[at] = _mutate_bytes(chance, changed[at])
        case 4:
            changed[at] = chance.choice([None, 1, [], {}, changed[at] + "\n"])
    return changed


def _mutate(chance: random.Random, evidence: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(evidence)
    name = chance.choice(list(changed))
    value = changed[name]
    if chance.randrange(10) == 0:
        del changed[name]
    elif chance.randrange(10) == 0:
        other = chance.choice(list(changed))
        changed[name], changed[other] = changed[other], value
    elif isinstance(value, int):
        changed[name] = chance.choice([value ^ 1, -value, value << 8, str(value), None])
    elif isinstance(value, list):
        changed[name] = _mutate_list(chance, value)
    else:
        changed[name] = chance.choice([_mutate_bytes, _mutate_text])(chance, value)
    return changed


def test_no_mutation_is_believed_earlier_or_by_others() -> None:
    chance = random.Random(SEED)
    later = [header(parent=keccak(decoded(EVIDENCE)), number=101)]
    later.append(header(parent=keccak(later[0]), number=102))
    long = {**EVIDENCE, "headers": [b64(one) for one in later]}
    trust = trusting(decoded(EVIDENCE), later[-1])
    accepted = 0
    for number in range(COUNT):
        evidence = EVIDENCE if number % 2 else long
        changed = _mutate(chance, evidence)
        try:
            bound = check(DIGEST, changed, trust)
        except (MalformedError, VerificationError):
            continue
        assert bound == EXPECTED, (SEED, number)
        # Nothing is spelled in two ways: it is either evidence as it was.
        assert changed in (EVIDENCE, long), (SEED, number)
        accepted += 1
    assert accepted < COUNT / 4
