"""A kind of anchor for tests of what is common to all: evidence with a real secret.

Its authorities are those of the trust file, `root` being a secret of theirs: evidence
``{"policy", "time", "token"}`` holds if `token` is HMAC-SHA-256(root, digest ‖ time).
As `auditlog.anchors.rfc3161.check` must, it refuses what is malformed, what does not
hold, and whom the trust file does not name, each with its own error.
"""

import hmac
from collections.abc import Mapping
from typing import Any

from auditlog.anchors.attestation import Bound, anchor_digest, evidence_digest
from auditlog.anchors.trust import Authority, Trust
from auditlog.core.encoding import check_range, format_base64, parse_base64
from auditlog.core.errors import UntrustedError, VerificationError
from auditlog.core.receipt import Anchor
from auditlog.core.record import MAX_INTEGER, Entry, check_fields, format_entry
from tests.receipts import TIME, MemoryLog, make_id

__all__ = ["DAY", "KIND", "Stamper", "anchor_of", "check", "renewed", "trust_of"]

KIND = "rfc3161"
DAY = 86_400_000_000
_FIELDS = {"policy": str, "time": int, "token": str}


class Stamper:
    """An authority that says when it saw a digest."""

    def __init__(
        self, party: str, number: int = 1, *, until: int | None = None
    ) -> None:
        self.authority = Authority(
            party, f"1.2.{number}", f"secret {number}", until=until
        )

    def stamp(self, digest: bytes, time: int) -> dict[str, Any]:
        root = self.authority.root
        token = format_base64(_token(root, digest, time))
        return {"policy": self.authority.policy, "time": time, "token": token}


def trust_of(*stampers: Stamper, **others: Any) -> Trust:
    return Trust(tuple(one.authority for one in stampers), **others)


def check(digest: bytes, evidence: Mapping[str, Any], trust: Trust) -> Bound:
    """Be one of `auditlog.anchors.checking.KINDS`."""
    fields = check_fields(dict(evidence), "a stamp", _FIELDS)
    time = check_range("a time", fields["time"], MAX_INTEGER)
    token = parse_base64(fields["token"])
    known = [one for one in trust.authorities if one.policy == fields["policy"]]
    if not known:
        raise UntrustedError("expected a stamp by an authority of the trust file")
    for one in known:
        if hmac.compare_digest(_token(one.root, digest, time), token):
            return Bound(KIND, one.party, time, f"policy {one.policy}")
    raise VerificationError("expected a stamp of this digest, got another")


def _token(root: str, digest: bytes, time: int) -> bytes:
    return hmac.digest(root.encode(), digest + time.to_bytes(8), "sha256")


def note_of(log: MemoryLog, size: int | None = None) -> bytes:
    """Return a checkpoint as first signed."""
    return log.checkpoint(size, cosigners=())


def anchor_of(
    log: MemoryLog,
    index: int,
    stamper: Stamper,
    time: int = TIME + DAY,
    size: int | None = None,
) -> Anchor:
    """Return an anchor for a receipt: entry `index` under a note that was stamped."""
    note = note_of(log, size)
    evidence = stamper.stamp(anchor_digest(note), time)
    return Anchor(KIND, log.proof(index, size, note=note, extra=None), evidence)


def renewed(
    log: MemoryLog,
    anchor: Anchor,
    stamper: Stamper,
    time: int,
    *,
    source: str | None = None,
    **changes: Any,
) -> Anchor:
    """Return an anchor with a renewal, which adds to the log what that takes.

    `changes` are made to the data of the log's own entry about the evidence.
    """
    data = {
        "anchor": "stamper",
        "attempt": 1,
        "digest": format_base64(anchor_digest(split_proof(anchor.proof))),
        "evidence": evidence_digest(anchor.evidence),
        "kind": anchor.kind,
        "size": 1,
        "state": "final",
    }
    id_, type_ = make_id(900 + len(log.entries)), "auditlog.anchor.v1"
    entry = Entry(id_, type_, source or log.origin, TIME, data | changes)
    at = log.add(format_entry(entry))
    later = anchor_of(log, at, stamper, time)
    renewal = {
        "entry": log.entries[at].decode(),
        "proof": later.proof.decode(),
        "kind": later.kind,
        "evidence": later.evidence,
    }
    return anchor._replace(evidence={**anchor.evidence, "renewal": renewal})


def split_proof(proof: bytes) -> bytes:
    """Return the note of a tlog-proof."""
    return proof.partition(b"\n\n")[2]
