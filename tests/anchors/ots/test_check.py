"""What evidence proves by the verifier's own headers, and what it does not."""

import base64
import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from opentimestamps.core.notary import BitcoinBlockHeaderAttestation
from opentimestamps.core.serialize import BytesDeserializationContext
from opentimestamps.core.timestamp import Timestamp

from auditlog.anchors.attestation import Bound
from auditlog.anchors.ots.check import TOLERANCE, check
from auditlog.anchors.ots.proof import (
    BITCOIN,
    PENDING,
    SHA256,
    End,
    Operation,
    Way,
    append,
    extend,
    follow,
    format_proof,
    parse_proof,
)
from auditlog.anchors.trust import Trust, parse_trust
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from tests.anchors.ots.calendar import Calendar, Chain

COUNT = int(os.environ.get("MUTATIONS", "2000"))
SEED = int(os.environ.get("MUTATIONS_SEED", "3"))
DIGEST = bytes(range(32))


def evidence_of(ways: Any) -> dict[str, Any]:
    return {"ots": base64.b64encode(format_proof(ways)).decode()}


class World:
    """A digest in two blocks, the later one by another calendar, and all headers."""

    def __init__(self, directory: Path) -> None:
        self.chain = Chain()
        self.chain.mine()
        first, second = self._brought(directory / "a"), self._brought(directory / "b")
        self.chain.mine()
        self.early, self.late = first[1], second[1]
        self.blocks = [first[0], second[0]]
        self.promise = Way((append(b"n"),), End(PENDING, 0, b"http://a.example"))
        self.evidence = evidence_of(self.blocks)
        self.trust = parse_trust(self.chain.trust())

    def _brought(self, directory: Path) -> tuple[Way, int]:
        directory.mkdir()
        calendar = Calendar(directory, self.chain)
        blinded = (append(directory.name.encode() * 16), SHA256)
        (start,) = parse_proof(calendar.promise(_after(blinded)), _after(blinded))
        message = _after((*blinded, *start.operations))
        height = calendar.mine()
        proof = calendar.find(message)
        assert proof is not None
        ways = extend((*blinded, *start.operations), parse_proof(proof, message))
        return ways[0], height

    def bound(self, height: int) -> Bound:
        time = (self.chain.time(height) + TOLERANCE) * 1_000_000
        return Bound("ots", "Bitcoin", time, f"block {height}")


def _after(operations: Iterable[Operation]) -> bytes:
    return follow(operations, DIGEST)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("calendars"))


class TestHolds:
    def test_the_earliest_of_several_blocks(self, world: World) -> None:
        assert check(DIGEST, world.evidence, world.trust) == world.bound(world.early)
        for way, height in zip(world.blocks, (world.early, world.late), strict=True):
            found = check(DIGEST, evidence_of([way]), world.trust)
            assert found == world.bound(height)

    def test_the_library_agrees(self, world: World) -> None:
        data = base64.b64decode(world.evidence["ots"])
        read = Timestamp.deserialize(BytesDeserializationContext(data), DIGEST)
        times = [
            one.verify_against_blockheader(
                message, world.chain.block(one.height).get_header()
            )
            for message, one in read.all_attestations()
            if isinstance(one, BitcoinBlockHeaderAttestation)
        ]
        bound = check(DIGEST, world.evidence, world.trust)
        assert len(times) == 2
        assert bound.not_after == (min(times) + 7200) * 1_000_000

    def test_only_headers_that_the_verifier_has(self, world: World) -> None:
        trust = parse_trust(world.chain.trust(world.late))
        assert check(DIGEST, world.evidence, trust) == world.bound(world.late)

    def test_the_party_is_named_by_the_trust_file(self, world: World) -> None:
        other, own = Chain(start=1), world.chain.trust(party="Satoshi & Co")
        tables = [
            table
            for text in (other.trust(other.first), own)
            for table in parse_trust(text).bitcoin
        ]
        bound = check(DIGEST, world.evidence, Trust(bitcoin=tuple(tables)))
        assert bound == world.bound(world.early)._replace(party="Satoshi & Co")

    def test_promises_and_what_we_do_not_know_are_no_harm(self, world: World) -> None:
        strange = Way((append(b"x"),), End(bytes(8), 0, b"whatever"))
        ways = [*world.blocks, world.promise, strange]
        bound = check(DIGEST, evidence_of(ways), world.trust)
        assert bound == world.bound(world.early)

    def test_one_wrong_block_beside_a_right_one(self, world: World) -> None:
        wrong = Way(world.blocks[0].operations, End(BITCOIN, world.late))
        evidence = evidence_of([wrong, world.blocks[1]])
        assert check(DIGEST, evidence, world.trust) == world.bound(world.late)


class TestRefused:
    def test_promises_prove_nothing(self, world: World) -> None:
        with pytest.raises(VerificationError, match="got promises of calendars only"):
            check(DIGEST, evidence_of([world.promise]), world.trust)

    def test_another_digest(self, world: World) -> None:
        with pytest.raises(VerificationError, match="does not lead to the Merkle root"):
            check(bytes(32), world.evidence, world.trust)

    def test_another_block(self, world: World) -> None:
        for height in (world.late, world.early - 1, world.chain.first):
            wrong = Way(world.blocks[0].operations, End(BITCOIN, height))
            with pytest.raises(
                VerificationError, match=f"to the Merkle root of block {height}"
            ) as caught:
                check(DIGEST, evidence_of([wrong]), world.trust)
            assert not isinstance(caught.value, UntrustedError)

    def test_a_block_on_another_chain(self, world: World) -> None:
        other = Chain(start=1_700_000_000)
        for _ in range(5):
            other.mine(b"something else")
        with pytest.raises(VerificationError, match="does not lead"):
            check(DIGEST, world.evidence, parse_trust(other.trust()))

    def test_a_root_that_is_only_part_of_what_is_reached(self, world: World) -> None:
        way = world.blocks[0]
        longer = Way((*way.operations, append(b"x")), way.end)
        with pytest.raises(VerificationError, match="does not lead"):
            check(DIGEST, evidence_of([longer]), world.trust)

    @pytest.mark.parametrize("tables", ["", "elsewhere"])
    def test_no_header_of_any_of_its_heights(self, world: World, tables: str) -> None:
        text = world.chain.trust(world.chain.first) if tables else ""
        heights = f"{world.early}, {world.late}"
        with pytest.raises(UntrustedError, match=f"of height {heights}: add it"):
            check(DIGEST, world.evidence, parse_trust(text))

    def test_a_known_header_that_contradicts_is_worse_than_an_unknown_one(
        self, world: World
    ) -> None:
        wrong = Way(world.blocks[0].operations, End(BITCOIN, world.early - 1))
        trust = parse_trust(world.chain.trust(world.early - 1))
        with pytest.raises(VerificationError, match="does not lead") as caught:
            check(DIGEST, evidence_of([wrong, world.blocks[1]]), trust)
        assert not isinstance(caught.value, UntrustedError)

    @pytest.mark.parametrize(
        "evidence",
        [
            *({}, {"ots": 1}, {"ots": "", "more": 1}, {"OTS": ""}, {"ots": None}),
            *({"ots": "AA"}, {"ots": "AA==\n"}, {"ots": ""}, {"ots": "é"}),
        ],
    )
    def test_what_is_no_evidence(self, world: World, evidence: dict[str, Any]) -> None:
        with pytest.raises(MalformedError, match="expected"):
            check(DIGEST, evidence, world.trust)


class TestTrustFile:
    def changed(self, world: World, at: int, bit: int) -> Trust:
        header = bytearray(world.chain.header(at))
        header[bit // 8] ^= 1 << bit % 8
        text = world.chain.trust().replace(
            world.chain.header(at).hex(), bytes(header).hex()
        )
        return parse_trust(text)

    @pytest.mark.parametrize("bit", range(0, 80 * 8, 37))
    def test_a_changed_header(self, world: World, bit: int) -> None:
        """At this difficulty half of all headers show the work, but none fits."""
        where = f"trust file, bitcoin 1, header {world.early} or beside it: "
        with pytest.raises(MalformedError, match=where):
            check(DIGEST, world.evidence, self.changed(world, world.early, bit))

    @pytest.mark.parametrize("beside", [-1, 1])
    def test_a_neighbour_that_does_not_fit(self, world: World, beside: int) -> None:
        refusals = []
        for bit in range(64):
            trust = self.changed(world, world.early + beside, 36 * 8 + bit)
            with pytest.raises(MalformedError, match="beside it: ") as caught:
                check(DIGEST, world.evidence, trust)
            refusals.append(str(caught.value))
        assert any("names the one before it" in one for one in refusals)
        assert any("the work that it claims" in one for one in refusals)

    def test_one_alone_needs_its_own_work_only(self, world: World) -> None:
        trust = parse_trust(world.chain.trust(world.early))
        assert check(DIGEST, world.evidence, trust) == world.bound(world.early)
        refusals = []
        for nonce in range(64):
            header = bytearray(world.chain.header(world.early))
            header[76] ^= nonce + 1
            text = f'[[bitcoin]]\nparty = "B"\nheaders = {{ {world.early} = "'
            text += bytes(header).hex() + '" }\n'
            try:
                check(DIGEST, world.evidence, parse_trust(text))
            except MalformedError as error:
                refusals.append(str(error))
        assert 0 < len(refusals) < 64
        assert all("the work that it claims" in one for one in refusals)


# --- mutations ------------------------------------------------------------------------

Mutation = Callable[[random.Random, bytes], bytes]


def _bit(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _byte(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    new = chance.choice(b"\x00\x01\x08\x20\x80\xf0\xf1\xff")
    return data[:at] + bytes([new]) + data[at + 1 :]


def _cut(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.choice([1, 2, 33, 34, 200]) :]


def _repeat(chance: random.Random, data: bytes) -> bytes:
    at, size = chance.randrange(len(data)), chance.choice([1, 12, 34, 400])
    return data[: at + size] + data[at:]


def _exchange(chance: random.Random, data: bytes) -> bytes:
    one, other = sorted(chance.sample(range(len(data)), 2))
    size = min(chance.choice([1, 8, 13, 34]), other - one)
    first, second = data[one : one + size], data[other : other + size]
    return data[:one] + second + data[one + size : other] + first + data[other + size :]


def _height(chance: random.Random, data: bytes) -> bytes:
    """Another block under the same way, as somebody would who wants an earlier one."""
    ways = list(parse_proof(data, DIGEST))
    at = chance.randrange(len(ways))
    attestation = ways[at].end
    height = abs(attestation.height + chance.choice([-3, -2, -1, 1, -900_000]))
    ways[at] = ways[at]._replace(end=End(BITCOIN, height))
    return format_proof(ways)


def _splice(chance: random.Random, data: bytes) -> bytes:
    """The beginning of one way with the end of another."""
    ways = list(parse_proof(data, DIGEST))
    one, other = chance.choice(ways), chance.choice(ways)
    at = chance.randrange(len(one.operations))
    joined = (
        one.operations[:at] + other.operations[chance.choice([at, at + 1, at + 4]) :]
    )
    return format_proof([*ways[:1], Way(joined, other.end)])


def _without(chance: random.Random, data: bytes) -> bytes:
    ways = list(parse_proof(data, DIGEST))
    del ways[chance.randrange(len(ways))]
    return format_proof(ways)


OF_PROOFS: list[Mutation] = [
    *(_bit, _byte, _cut, _repeat, _exchange, _height, _splice, _without)
]


def _mutant(chance: random.Random, evidence: dict[str, Any]) -> dict[str, Any]:
    data = base64.b64decode(evidence["ots"])
    match chance.randrange(12):
        case 0:
            text = evidence["ots"].encode()
            return {"ots": chance.choice(OF_PROOFS[:5])(chance, text).decode("latin-1")}
        case 1:
            odd: list[Any] = [None, 7, [], {}, True, data, evidence]
            name = chance.choice(["ots", "Ots", "tso"])
            return chance.choice(
                [{}, {name: chance.choice(odd)}, {**evidence, name: chance.choice(odd)}]
            )
        case _:
            mutated = chance.choice(OF_PROOFS)(chance, data)
            return {"ots": base64.b64encode(mutated).decode()}


def test_no_mutation_gives_an_earlier_time_or_another_party(world: World) -> None:
    chance = random.Random(SEED)
    ends: Counter[str] = Counter()
    late_only = evidence_of([world.blocks[1], world.promise])
    both = evidence_of([*world.blocks, world.promise])
    for number in range(COUNT):
        evidence, earliest = chance.choice(
            [(both, world.early), (late_only, world.late)]
        )
        mutant = _mutant(chance, evidence)
        try:
            bound = check(DIGEST, mutant, world.trust)
        except AuditLogError as error:
            ends[type(error).__name__] += 1
            continue
        ends["accepted"] += 1
        true = [world.bound(at) for at in (world.early, world.late) if at >= earliest]
        assert bound in true, f"mutation {number} of seed {SEED}: {json.dumps(mutant)}"
    wanted = {"MalformedError", "VerificationError", "UntrustedError", "accepted"}
    assert wanted <= set(ends)
    print(f"{dict(ends)} of {COUNT}")
