"""Checks any attestation offline: evidence and trust in, a time out.

Pure: nothing here, and nothing it loads, opens a file or a connection or looks at a
clock. What a kind needs beyond the standard library and `cryptography` is loaded when
its first evidence comes.
"""

from collections.abc import Callable, Mapping
from typing import Any

from auditlog.anchors.attestation import Bound
from auditlog.anchors.batch import anchored_digest, parse_path
from auditlog.anchors.evm import check as evm
from auditlog.anchors.ots import check as ots
from auditlog.anchors.rfc3161 import check as rfc3161
from auditlog.anchors.trust import Trust, parse_trust
from auditlog.core.errors import AuditLogError, MalformedError

__all__ = ["KINDS", "TABLES", "Check", "check_attestation", "load_trust"]

Check = Callable[[bytes, Mapping[str, Any], Trust], Bound]
"""(digest, evidence, trust) -> what is proven; raises as `check_attestation` does."""

KINDS: dict[str, Check] = {
    "evm": evm.check,
    "ots": ots.check,
    "rfc3161": rfc3161.check,
}
"""Who checks evidence, by its kind."""

TABLES: dict[str, Callable[[Trust], None]] = {
    "ots": ots.check_tables,
    "rfc3161": rfc3161.check_tables,
}
"""Who reads what `auditlog.anchors.trust` leaves to a kind, by the kind."""


def load_trust(text: str) -> Trust:
    """Return what stands in a trust file, once all of it can be used.

    Found later, at the evidence that needs it, a mistake in it would look like one of
    a receipt.

    Raises:
        MalformedError: some of it is not understood.
    """
    trust = parse_trust(text)
    for check_tables in TABLES.values():
        check_tables(trust)
    return trust


def check_attestation(
    kind: str, digest: bytes, evidence: Mapping[str, Any], trust: Trust
) -> Bound:
    """Return the time before which a digest existed, by the evidence of one anchor.

    Args:
        kind: one of `KINDS`.
        digest: 32 bytes, see `auditlog.anchors.attestation.anchor_digest`.
        evidence: of a final attestation, as JSON; a renewal is no part of it.
        trust: whom the verifier believes; nothing is believed because the evidence
            says so. When a table ends to be believed is the caller's business.

    Raises:
        MalformedError: the evidence does not follow its format.
        VerificationError: the evidence proves nothing about this digest.
        UntrustedError: it may, by a party that the trust file does not name.
        AuditLogError: this version, or this installation, cannot check the kind.
    """
    if not isinstance(evidence, Mapping):
        raise MalformedError("expected evidence as a JSON object")
    check = KINDS.get(kind)
    if check is None:
        known = ", ".join(KINDS)
        raise AuditLogError(f"this version checks {known}, not {kind[:40]!r}")
    own = {name: value for name, value in evidence.items() if name != "batch"}
    if "batch" in evidence:
        digest = anchored_digest(digest, parse_path(evidence["batch"]))
    return check(digest, own, trust)
