"""The twelve attacks on anchors, each with real evidence, through ``auditlog verify``.

What does not hold ends with 10, and says so; what is of nobody who is believed proves
nothing, ends with 13 once it is asked for, and is never called tampering.
"""

import base64
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from auditlog.anchors.attestation import anchor_digest
from auditlog.anchors.batch import aggregate, format_path
from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.ots.proof import PENDING, End, format_proof, parse_proof
from auditlog.anchors.rfc3161.token import format_response, parse_token
from auditlog.core.receipt import Anchor, with_checksum
from auditlog.verifier import main
from demo_service.time_stamp_authority import issue, signer_extensions
from tests.anchors.evm.blocks import (
    CHAIN_ID,
    SENDER,
    b64,
    batch_log,
    header,
    make_receipt,
    of_receipts,
)
from tests.anchors.ots.calendar import Chain
from tests.anchors.rfc3161.stamping import (
    DAY,
    NOON,
    evidence_of,
    make_authority,
    token_of,
)
from tests.anchors.stamps import note_of
from tests.anchors.test_three_kinds import (
    REFUSALS,
    mined,
    promised,
    stamped,
    table_of,
)
from tests.receipts import MemoryLog, make_decision

DECISION = make_decision()
Evidence = dict[str, Any]


def make_log(last: int = 2) -> MemoryLog:
    log = MemoryLog()
    log.add(DECISION.entry, make_decision(1).entry, make_decision(last).entry)
    return log


LOG = make_log()
NOTE = note_of(LOG)
DIGEST = anchor_digest(NOTE)
TENANTS = [bytes([number]) * 32 for number in range(7)]


class World(NamedTuple):
    directory: Path
    found: dict[str, tuple[Evidence, str]]
    """By kind: evidence of the digest, and the table that believes it."""
    batched: dict[str, tuple[Evidence, str]]
    """The same, of a batch in which the digest is the fourth of seven."""
    paths: tuple[Evidence, ...]

    def make(self, kind: str, digest: bytes) -> tuple[Evidence, str]:
        if kind == "ots":
            return promised(digest, self.directory)
        return {"rfc3161": stamped, "evm": mined}[kind](digest)

    def verify(
        self,
        kind: str,
        evidence: Evidence,
        trust: str,
        *options: str,
        log: MemoryLog = LOG,
        times: int = 1,
    ) -> tuple[int, str]:
        """Return exit status and output of ``auditlog verify`` on a receipt."""
        note = NOTE if log is LOG else note_of(log)  # ML-DSA signs anew each time
        proof = log.proof(0, note=note, extra=None)
        anchor = with_checksum(Anchor(kind, proof, evidence))
        files = {
            "receipt": log.receipt(DECISION, anchors=(anchor,) * times),
            "policy": log.policy().encode(),
            "trust": trust.encode(),
        }
        for name, data in files.items():
            (self.directory / name).write_bytes(data)
        names = [str(self.directory / name) for name in files]
        arguments = [names[0], "--policy", names[1], "--trust", names[2], *options]
        with redirect_stdout(StringIO()) as out, redirect_stderr(out):
            code = main(arguments)
        return code, out.getvalue()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    digests = [*TENANTS]
    digests[3] = DIGEST
    top, paths = aggregate(digests, [bytes([number]) * 16 for number in range(7)])
    empty = World(tmp_path_factory.mktemp("world"), {}, {}, ())
    found = {kind: empty.make(kind, DIGEST) for kind in REFUSALS}
    batched = {kind: empty.make(kind, top) for kind in REFUSALS}
    return World(empty.directory, found, batched, tuple(map(format_path, paths)))


def refused(result: tuple[int, str], kind: str, message: str) -> None:
    code, out = result
    assert code == 10, out
    assert "NOT VERIFIED: the evidence does not hold\n" in out
    assert f"  anchor 1 ({kind}): {message}" in out
    assert "existed unchanged" not in out


def unknown(
    world: World, kind: str, evidence: Evidence, trust: str, message: str
) -> None:
    """Require evidence to prove nothing, and to be called neither false nor true."""
    code, out = world.verify(kind, evidence, trust)
    assert code == 0, out
    assert f"  - anything by anchor 1 ({kind}): {message}" in out
    assert "the time in the entry is the operator's own" in out
    assert "existed unchanged" not in out
    code, out = world.verify(kind, evidence, trust, "--min-anchors", "1")
    assert code == 13, out
    assert f"got 0; not anything by anchor 1 ({kind}): {message}" in out


@pytest.mark.parametrize("kind", REFUSALS)
class TestEachKind:
    def test_holds(self, world: World, kind: str) -> None:
        party = {"rfc3161": "TSA of Example", "evm": "Ethereum", "ots": "Bitcoin"}
        for evidence, trust in (world.found[kind], world.batched[kind]):
            own = {} if trust == world.found[kind][1] else {"batch": world.paths[3]}
            code, out = world.verify(kind, evidence | own, trust, "--min-anchors", "1")
            assert code == 0, out
            (claim,) = [
                line for line in out.splitlines() if "existed unchanged" in line
            ]
            assert claim.endswith(f", by {party[kind]}")

    def test_1_a_rewritten_root_signed_again(self, world: World, kind: str) -> None:
        result = world.verify(kind, *world.found[kind], log=make_log(77))
        refused(result, kind, REFUSALS[kind])

    def test_2_the_note_of_another_tenant(self, world: World, kind: str) -> None:
        evidence, trust = world.make(kind, TENANTS[2])
        refused(world.verify(kind, evidence, trust), kind, REFUSALS[kind])
        evidence, trust = world.batched[kind]
        other = evidence | {"batch": world.paths[2]}
        refused(world.verify(kind, other, trust), kind, "inclusion proof leads to root")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"index": 2}, "inclusion proof leads to root"),
            ({"size": 8}, None),
            ({"hashes": []}, "expected the proof to"),
            ({"root": b64(bytes(32))}, "inclusion proof leads to root"),
            ({"salt": b64(bytes(16))}, "inclusion proof leads to root"),
        ],
        ids=["9 index", "10 size", "11 hash", "11 root", "11 salt"],
    )
    def test_a_changed_path(
        self, world: World, kind: str, change: Evidence, message: str | None
    ) -> None:
        evidence, trust = world.batched[kind]
        other = evidence | {"batch": world.paths[3] | change}
        result = world.verify(kind, other, trust)
        refused(result, kind, message or REFUSALS[kind])

    def test_12_one_party_counted_twice(self, world: World, kind: str) -> None:
        evidence, trust = world.found[kind]
        result = world.verify(kind, evidence, trust, "--min-anchors", "2", times=3)
        code, out = result
        assert code == 13
        assert "expected anchors of 2 distinct parties, got 1" in out
        # The same under another name is one liar who counts twice.
        name = {"rfc3161": "root", "evm": "chain", "ots": "Bitcoin chain"}[kind]
        other = trust.replace('party = "', 'party = "Another ')
        other = other.replace("\npolicy = ", "\npolicy = '1.2.3' # ")
        other = other.replace('contract = "0x1c', 'contract = "0x2c')
        both = world.verify(kind, evidence, trust + other, "--min-anchors", "2")
        assert both[0] == 16
        assert f"trust file: expected one party for each {name}, got '" in both[1]


@pytest.mark.parametrize(
    ("kind", "text", "other", "message"),
    [
        ("rfc3161", "-----BEGIN", "-----BEG1N", "authority 'TSA of Example': expected"),
        ("ots", ' = "02', ' = "12', "bitcoin 1, header "),
    ],
    ids=["rfc3161", "ots"],
)
def test_a_mistake_in_the_trust_file_is_none_of_a_receipt(
    world: World, kind: str, text: str, other: str, message: str
) -> None:
    evidence, trust = world.found[kind]
    assert text in trust
    code, out = world.verify(kind, evidence, trust.replace(text, other))
    assert code == 16
    name = world.directory / "trust"
    assert out.startswith(f"auditlog verify: {name}: trust file, {message}")


class TestEvm:
    def test_3_another_chain(self, world: World) -> None:
        evidence, trust = world.found["evm"]
        block = keccak(base64.b64decode(evidence["header"])).hex()
        moved = evidence | {"chain_id": 5}
        message = "the trust file names no chain 5"
        unknown(world, "evm", moved, trust, message)
        both = trust + trust.replace(f"chain_id = {CHAIN_ID}", "chain_id = 5").replace(
            block, "ab" * 32
        ).replace("Ethereum", "Test chain")
        message = f"the trust file does not name block 0x{block} of chain 5"
        unknown(world, "evm", moved, both, message)

    def test_4_a_block_that_is_not_believed_such_as_one_that_is_not_final(
        self, world: World
    ) -> None:
        evidence, trust = world.found["evm"]
        block = keccak(base64.b64decode(evidence["header"])).hex()
        message = f"the trust file does not name block 0x{block} of chain {CHAIN_ID}"
        other = trust.replace(block, "ab" * 32)
        unknown(world, "evm", evidence, other, message)

    @pytest.mark.parametrize("field", ["senders", "contract"])
    def test_5_another_sender_or_contract(self, world: World, field: str) -> None:
        evidence, trust = world.found["evm"]
        bare = {"senders": SENDER.hex(), "contract": ""}[field]
        start = f'{field} = ["0x' if field == "senders" else f'{field} = "0x'
        at = trust.index(start + bare) + len(start)
        other = trust[:at] + "12" * 20 + trust[at + 40 :]
        message = "the digest was anchored by a contract or a sender that the trust fil"
        unknown(world, "evm", evidence, other, message)

    def test_8_forged_headers(self, world: World) -> None:
        evidence, trust = world.found["evm"]
        block = keccak(base64.b64decode(evidence["header"])).hex()
        child = header(number=101)  # of another parent
        believed = trust.replace(block, keccak(child).hex())
        forged = evidence | {"headers": [b64(child)]}
        message = "expected each header to be the child of the last"
        refused(world.verify("evm", forged, believed), "evm", message)
        earlier = bytearray(base64.b64decode(evidence["header"]))
        earlier[-60] ^= 1
        moved = evidence | {"header": b64(bytes(earlier))}
        unknown(world, "evm", moved, trust, "the trust file does not name block")

    def test_a_transaction_that_failed(self, world: World) -> None:
        failed = of_receipts([make_receipt(batch_log(DIGEST), status=b"")], 0)
        block = keccak(base64.b64decode(failed["header"])).hex()
        own = keccak(base64.b64decode(world.found["evm"][0]["header"])).hex()
        trust = world.found["evm"][1].replace(own, block)
        message = "the transaction failed: its receipt has no status 1"
        refused(world.verify("evm", failed, trust), "evm", message)


class TestRfc3161:
    def test_6_another_root(self, world: World) -> None:
        _, trust = world.found["rfc3161"]
        rogue, _ = stamped(DIGEST)  # by one with all the same names
        message = "no path from the certificate of "
        unknown(world, "rfc3161", rogue, trust, message)

    def test_7_another_policy(self, world: World) -> None:
        evidence, trust = world.found["rfc3161"]
        other = trust.replace("policy = ", "policy = '1.2.3' # ")
        message = "the trust file names no authority with the policy "
        unknown(world, "rfc3161", evidence, other, message)

    def test_another_certificate_of_the_same_key(self, world: World) -> None:
        authority = make_authority()
        key = authority.signer.key
        times = NOON - DAY, NOON + 400 * DAY
        usage = signer_extensions()
        twin = issue("twin", authority.issuing, *times, extensions=usage, key=key)
        parts = parse_token(token_of(authority, DIGEST).dump())
        swapped = parts._replace(signer=twin.der)
        response = format_response(swapped, [authority.issuing.der])
        message = "the certificate in the token is not the one that its signature names"
        evidence = {"crls": [], "response": b64(response)}
        refused(
            world.verify("rfc3161", evidence, table_of(authority)), "rfc3161", message
        )

    def test_a_time_at_which_the_certificate_was_not_valid(self, world: World) -> None:
        early = make_authority(start=NOON + DAY)
        evidence = evidence_of(early, token_of(early, DIGEST))
        result = world.verify("rfc3161", evidence, table_of(early))
        refused(result, "rfc3161", "the certificate of ")
        assert "and not at the time that was stamped" in result[1]


class TestOts:
    def test_8_forged_headers(self, world: World) -> None:
        evidence, _ = world.found["ots"]
        forged = Chain(start=1)
        forged.mine()
        message = "the proof does not lead to the Merkle root of block"
        refused(world.verify("ots", evidence, forged.trust()), "ots", message)

    def test_a_block_that_is_not_known(self, world: World) -> None:
        evidence, _ = world.found["ots"]
        chain = Chain()
        trust = chain.trust(chain.first)
        message = "the trust file has no Bitcoin header of height"
        unknown(world, "ots", evidence, trust, message)

    def test_promises_prove_nothing(self, world: World) -> None:
        evidence, trust = world.found["ots"]
        ways = parse_proof(base64.b64decode(evidence["ots"]), DIGEST)
        end = End(PENDING, 0, b"https://calendar.example")
        promise = [way._replace(end=end) for way in ways]
        only = {"ots": b64(format_proof(promise))}
        message = "expected a Bitcoin attestation in a proof, got promises of calendar"
        refused(world.verify("ots", only, trust), "ots", message)
