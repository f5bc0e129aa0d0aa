"""One receipt, anchored by parties of three kinds and cosigned by three witnesses.

``python -m tests.anchors.test_three_kinds`` says what a warm verification takes.
"""

import base64
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from auditlog import build_verifier
from auditlog.anchors.attestation import anchor_digest
from auditlog.anchors.evm.contract import ADDRESS
from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.ots.proof import extend, follow, format_proof, parse_proof
from auditlog.anchors.trust import parse_trust
from auditlog.anchors.verdict import verify_anchored_receipt
from auditlog.core.checkpoint import parse_policy
from auditlog.core.errors import VerificationError
from auditlog.core.note import COSIGNATURE_ED25519
from auditlog.core.receipt import Anchor, parse_receipt
from demo_service.time_stamp_authority import TimeStampAuthority
from tests.anchors.evm.blocks import (
    CHAIN_ID,
    SENDER,
    batch_log,
    make_receipt,
    of_receipts,
)
from tests.anchors.ots.calendar import Calendar, Chain
from tests.anchors.rfc3161.stamping import evidence_of, make_authority, token_of
from tests.anchors.stamps import note_of
from tests.receipts import MemoryLog, make_decision

DECISION = make_decision()
REFUSALS = {
    "rfc3161": "the token is for another digest",
    "evm": "the transaction did not anchor this digest",
    "ots": "the proof does not lead to the Merkle root of block",
}


class World(NamedTuple):
    log: MemoryLog
    receipt: bytes
    policy: str
    trust: str


def table_of(authority: TimeStampAuthority) -> str:
    """Return the table that believes an authority."""
    return (
        f'[[authority]]\nparty = "TSA of Example"\npolicy = "{authority.policy}"\n'
        f"root = '''{authority.root.pem}'''\n"
    )


def stamped(digest: bytes) -> tuple[dict[str, Any], str]:
    authority = make_authority()
    return evidence_of(authority, token_of(authority, digest)), table_of(authority)


def mined(digest: bytes) -> tuple[dict[str, Any], str]:
    receipts = [make_receipt(batch_log(bytes([at]) * 32)) for at in range(150)]
    receipts[130] = make_receipt(batch_log(digest))
    evidence = of_receipts(receipts, 130)
    block = keccak(base64.b64decode(evidence["header"])).hex()
    table = (
        f'[[chain]]\nparty = "Ethereum"\nchain_id = {CHAIN_ID}\n'
        f'contract = "0x{ADDRESS.hex()}"\nsenders = ["0x{SENDER.hex()}"]\n'
        f'blocks = ["0x{block}"]\n'
    )
    return evidence, table


def promised(digest: bytes, directory: Path) -> tuple[dict[str, Any], str]:
    chain = Chain()
    calendar = Calendar(directory, chain)
    (start,) = parse_proof(calendar.promise(digest), digest)
    message = follow(start.operations, digest)
    calendar.mine()
    proof = calendar.find(message)
    assert proof is not None
    ways = extend(start.operations, parse_proof(proof, message))
    return {"ots": base64.b64encode(format_proof(ways)).decode()}, chain.trust()


def make_world(directory: Path) -> World:
    log = MemoryLog(witness_types=(COSIGNATURE_ED25519,) * 3)
    log.add(DECISION.entry, *(make_decision(number).entry for number in range(1, 9)))
    note = note_of(log)
    digest = anchor_digest(note)
    found = {
        "rfc3161": stamped(digest),
        "evm": mined(digest),
        "ots": promised(digest, directory),
    }
    proof = log.proof(0, note=note, extra=None)
    anchors = tuple(Anchor(kind, proof, one) for kind, (one, _) in found.items())
    receipt = log.receipt(DECISION, "request/age", anchors=anchors)
    trust = "".join(table for _, table in found.values())
    return World(log, receipt, log.policy("2"), trust)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("calendar"))


def test_three_parties_of_three_kinds(world: World) -> None:
    trust = parse_trust(world.trust)
    verdict = verify_anchored_receipt(
        world.receipt, world.policy, trust, min_anchors=3, require_pq=True
    )
    assert [bound.kind for bound in verdict.anchors] == [*REFUSALS]
    assert verdict.claim.endswith(
        "cosigned by 3 of 3 witnesses; existed unchanged before 2027-01-15T10:10:00Z, "
        "by Ethereum, TSA of Example and Bitcoin"
    )
    last = max(bound.not_after for bound in verdict.anchors)
    assert verdict.existed_before == last


@pytest.mark.parametrize("kind", REFUSALS)
def test_each_kind_refuses_the_note_of_a_rewritten_log(world: World, kind: str) -> None:
    forger = replace(world.log)
    forger.entries = [*world.log.entries[:-1], make_decision(77).entry]
    proof = forger.proof(0, note=note_of(forger), extra=None)
    anchors = parse_receipt(world.receipt).anchors
    moved = tuple(one._replace(proof=proof) for one in anchors if one.kind == kind)
    data = forger.receipt(DECISION, anchors=moved)
    with pytest.raises(VerificationError, match=REFUSALS[kind]):
        verify_anchored_receipt(data, world.policy, parse_trust(world.trust))


def test_the_one_file_verifies_all_three(world: World, tmp_path: Path) -> None:
    build_verifier.build(tmp_path / "v.pyz")
    (tmp_path / "receipt").write_bytes(world.receipt)
    (tmp_path / "policy").write_text(world.policy)
    (tmp_path / "trust").write_text(world.trust)
    command = [sys.executable, "v.pyz", "receipt", "--policy", "policy"]
    done = subprocess.run(
        [*command, "--trust", "trust", "--min-anchors", "3"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "by Ethereum, TSA of Example and Bitcoin" in done.stdout


def measure(world: World, rounds: int = 200) -> str:
    policy, trust = parse_policy(world.policy), parse_trust(world.trust)
    times = []
    for _ in range(rounds):
        start = time.process_time()
        verify_anchored_receipt(world.receipt, policy, trust, min_anchors=3)
        times.append(time.process_time() - start)
    median = 1e3 * sorted(times)[rounds // 2]
    return f"3 anchors, 3 cosignatures, {len(world.receipt)} bytes: {median:.1f} ms"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(measure(make_world(Path(folder))))
