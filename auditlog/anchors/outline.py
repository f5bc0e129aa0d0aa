"""What final evidence says of itself, for a reader. Nothing of it is checked here.

A verifier who wants to believe a chain or a header learns from it which one to ask for,
elsewhere; `auditlog.anchors.checking` says whether the evidence holds.
"""

from collections.abc import Callable, Mapping
from typing import Any

from auditlog.anchors.batch import anchored_digest, parse_path
from auditlog.anchors.evm.block import parse_header
from auditlog.anchors.ots.check import parse_evidence
from auditlog.anchors.ots.proof import BITCOIN
from auditlog.anchors.rfc3161.token import open_response
from auditlog.core.encoding import parse_base64
from auditlog.core.errors import MalformedError
from auditlog.core.record import format_time

__all__ = ["outline_of"]

Said = dict[str, str | int]


def outline_of(kind: str, digest: bytes, evidence: Mapping[str, Any]) -> Said:
    """Return names and values of what an attestation says, empty for another kind.

    ``evm`` names chain, number, hash and time of the block to be believed, the last one
    to which it leads; ``rfc3161`` serial number, time and policy of the token; ``ots``
    the height of the lowest block.

    Args:
        kind: of the attestation.
        digest: of the checkpoint, see `auditlog.anchors.attestation.anchor_digest`.
        evidence: as stored, with its path in a batch.

    Raises:
        AuditLogError: the evidence does not follow its format.
    """
    if kind not in _KINDS:
        return {}
    own = {name: value for name, value in evidence.items() if name != "batch"}
    if "batch" in evidence:
        digest = anchored_digest(digest, parse_path(evidence["batch"]))
    try:
        return _KINDS[kind](digest, own)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise MalformedError(f"expected evidence of kind {kind}") from None


def _evm(_: bytes, evidence: Mapping[str, Any]) -> Said:
    data = [evidence["header"], *evidence.get("headers", ())][-1]
    header = parse_header(parse_base64(data))
    return {
        "chain": evidence["chain_id"],
        "block": header.number,
        "hash": "0x" + header.hash.hex(),
        "time": format_time(header.time),
    }


def _rfc3161(_: bytes, evidence: Mapping[str, Any]) -> Said:
    info = open_response(parse_base64(evidence["response"])).info
    # Up to 160 bits: in JSON a number that long is not the same for everybody.
    return {
        "serial": f"{info.serial:x}",
        "time": format_time(info.time),
        "policy": info.policy,
    }


def _ots(digest: bytes, evidence: Mapping[str, Any]) -> Said:
    ways = parse_evidence(digest, evidence)
    heights = [way.end.height for way in ways if way.end.tag == BITCOIN]
    return {"block": min(heights)} if heights else {}


_KINDS: dict[str, Callable[[bytes, Mapping[str, Any]], Said]] = {
    "evm": _evm,
    "ots": _ots,
    "rfc3161": _rfc3161,
}
