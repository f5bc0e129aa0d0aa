"""What evidence says of itself, of every kind, and of what is none."""

from collections.abc import Callable
from typing import Any

import pytest

from auditlog.anchors.batch import aggregate, format_path
from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.ots.proof import BITCOIN, PENDING, End, Way, append, format_proof
from auditlog.anchors.outline import outline_of
from auditlog.core.errors import AuditLogError, MalformedError
from auditlog.core.record import canonical_json, format_time, parse_json
from tests.anchors.evm.blocks import TIME, b64, header, make_receipt, of_receipts
from tests.anchors.mutations import survivors
from tests.anchors.rfc3161.stamping import (
    DIGEST,
    NOON,
    Clock,
    evidence_of,
    make_authority,
    token_of,
    us,
)


def _stamped() -> dict[str, Any]:
    authority = make_authority(Clock())
    return evidence_of(authority, token_of(authority))


def _proven() -> dict[str, Any]:
    ways = [
        Way((append(b"late"),), End(BITCOIN, 900_000)),
        Way((append(b"early"),), End(BITCOIN, 899_998)),
        Way((append(b"never"),), End(PENDING, 0, b"http://a.example")),
    ]
    return {"ots": b64(format_proof(ways))}


def _mined() -> dict[str, Any]:
    return of_receipts([make_receipt()], 0)


def test_a_chain_says_which_block_is_to_be_believed() -> None:
    evidence = _mined()
    said = outline_of("evm", DIGEST, evidence)
    assert said["chain"] == 1
    assert said["block"] == 100
    assert said["time"] == format_time(TIME * 1_000_000)
    later = header(number=101, time=TIME + 12)
    said = outline_of("evm", DIGEST, evidence | {"headers": [b64(later)]})
    assert (said["block"], said["hash"]) == (101, "0x" + keccak(later).hex())


def test_a_token_says_serial_number_time_and_policy() -> None:
    said = outline_of("rfc3161", DIGEST, _stamped())
    assert said.keys() == {"serial", "time", "policy"}
    assert said["time"] == format_time(us(NOON))
    assert int(str(said["serial"]), 16) > 0


def test_a_proof_says_its_lowest_block() -> None:
    assert outline_of("ots", DIGEST, _proven()) == {"block": 899_998}


def test_evidence_of_a_batch_says_the_same() -> None:
    other = bytes(32)
    digest, (path, _) = aggregate([DIGEST, other], [bytes(16), b"\1" * 16])
    assert digest != DIGEST
    evidence = _proven() | {"batch": format_path(path)}
    assert outline_of("ots", DIGEST, evidence) == {"block": 899_998}


def test_another_kind_says_nothing() -> None:
    assert outline_of("smoke", DIGEST, {"x": 1}) == {}


@pytest.mark.parametrize("kind", ["evm", "ots", "rfc3161"])
@pytest.mark.parametrize(
    "evidence", [{}, {"header": 1}, {"ots": 1}, {"response": "AA=="}, {"batch": {}}]
)
def test_what_is_no_evidence_is_refused(kind: str, evidence: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        outline_of(kind, DIGEST, evidence)


@pytest.mark.parametrize(
    ("kind", "make"), [("evm", _mined), ("ots", _proven), ("rfc3161", _stamped)]
)
def test_no_mutation_makes_a_foreign_error(
    kind: str, make: Callable[[], dict[str, Any]]
) -> None:
    def outline(data: bytes) -> dict[str, Any]:
        evidence = parse_json(data, limit=1 << 20)
        if type(evidence) is not dict:
            raise AuditLogError("it is no object")
        said = outline_of(kind, DIGEST, evidence)
        return dict(said)

    source = canonical_json(make())
    ended = survivors([source], outline, lambda said: None, 300)
    assert sum(ended.values()) == 300
