"""Anchor entries: each attempt to have a checkpoint attested, failed ones too.

::

    {"anchor": "tsa", "attempt": 1, "digest": "<base64>", "evidence": "<base64>",
     "kind": "rfc3161", "size": 4711, "state": "final"}

is the `data` of such an entry (`auditlog.anchor.v1`). `digest` is what a checkpoint
anchors, before any batching; `evidence` the SHA-256 of what came back, so that a log
proves which evidence it had, and when. A failed attempt has a `reason` in its place.
Nothing of it comes from the wire: names are configured, reasons a closed list.

Of an anchor that keeps the log's history, what it was told stands under a name of its
own, ``chain+history``: ``pending`` when a tree is about to be told, or is on its way,
``kept`` once the anchor has it for good. Its `evidence` is what was sent. It proves
nothing: whoever wants to know asks that anchor.
"""

import re
from hashlib import sha256
from typing import Any, NamedTuple

from auditlog.core.encoding import check_range, format_base64, parse_hash
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    RollbackError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.record import MAX_INTEGER, Entry, canonical_json, check_fields
from auditlog.log.identity import new_id
from auditlog.storage import AttestationRow

__all__ = [
    "ANCHOR",
    "NAME",
    "REASONS",
    "Word",
    "history_name",
    "is_history",
    "parse_word",
    "reason_of",
    "row_id",
]

ANCHOR = "auditlog.anchor.v1"
NAME = re.compile("[a-z0-9._-]{1,64}")
"""What an operator may call an anchor."""

REASONS = {
    "unreachable": "no answer, or none that helps yet: trying again may",
    "unverified": "an answer that proves nothing about what was asked",
    "rollback": "it knows another past of this log, and proves it",
    "untrusted": "an answer by somebody who is not configured",
    "malformed": "an answer that does not follow its format",
    "misconfigured": "what is configured cannot be used as it is",
    "fault": "a fault of ours, which the server's log tells more of",
}
"""Why an attempt failed, for a reader."""

_REASONS_OF: tuple[tuple[type[AuditLogError], str], ...] = (
    (UntrustedError, "untrusted"),
    (RollbackError, "rollback"),
    (VerificationError, "unverified"),
    (MalformedError, "malformed"),
    (ConfigurationError, "misconfigured"),
    (AuditLogError, "unreachable"),
)
"""Subclasses before their bases."""

_ENTROPY_BYTES = 10
_KIND = re.compile("[a-z0-9]{1,16}")
_STATES = ("pending", "final", "failed")
_HISTORY = "+history"
"""Nothing that an operator may write in a name."""
_HISTORY_STATES = ("pending", "kept")
_REQUIRED = {
    "anchor": str,
    "attempt": int,
    "digest": str,
    "kind": str,
    "size": int,
    "state": str,
}


class Word(NamedTuple):
    """What an anchor entry says."""

    anchor: str
    """The operator's name for the anchor, or its `history_name`."""
    kind: str
    size: int
    """Of the checkpoint."""
    digest: bytes
    """Of the checkpoint, see `auditlog.anchors.attestation.anchor_digest`."""
    attempt: int
    """1 after an attempt that did not fail; one more with each that failed."""
    state: str
    """``pending``, ``final`` or ``failed``; of a history ``pending`` or ``kept``."""
    evidence: bytes | None = None
    """SHA-256 of the evidence in canonical JSON; None if the attempt failed."""
    reason: str | None = None
    """One of `REASONS` if it failed."""

    def entry(self, id_: bytes, source: str, time: int) -> Entry:
        """Return the entry that says this.

        Args:
            id_: of the entry.
            source: the log's origin.
            time: microseconds since the epoch.
        """
        data = self._asdict() | {"digest": format_base64(self.digest)}
        if self.evidence is not None:
            data["evidence"] = format_base64(self.evidence)
        said = {name: value for name, value in data.items() if value is not None}
        return Entry(id_, ANCHOR, source, time, said)

    @classmethod
    def of_row(cls, row: AttestationRow, digest: bytes, attempt: int) -> "Word":
        """Return what is to be said of an attestation that was stored."""
        evidence = sha256(row.evidence).digest()
        return cls(row.anchor, row.kind, row.size, digest, attempt, row.state, evidence)


def history_name(anchor: str) -> str:
    """Return under what name is stored and said what an anchor was told of a log."""
    return anchor + _HISTORY


def is_history(anchor: str) -> bool:
    """Return whether a name is one that `history_name` makes."""
    return anchor.endswith(_HISTORY)


def parse_word(data: dict[str, Any]) -> Word:
    """Return what the `data` of an anchor entry says.

    Raises:
        MalformedError: it is not what `Word.entry` writes.
    """
    fields = check_fields(
        data, "an anchor entry", _REQUIRED, {"evidence": str, "reason": str}
    )
    failed = fields["state"] == "failed"
    states = _HISTORY_STATES if is_history(fields["anchor"]) else _STATES
    for name, known in (
        ("anchor", NAME.fullmatch(fields["anchor"].removesuffix(_HISTORY))),
        ("kind", _KIND.fullmatch(fields["kind"])),
        ("state", fields["state"] in states),
        ("reason", fields.get("reason") in REASONS if failed else "reason" not in data),
        ("evidence", ("evidence" in fields) is not failed),
    ):
        if not known:
            raise MalformedError(f"expected another {name} in an anchor entry")
    evidence = None if failed else parse_hash(fields["evidence"])
    return Word(
        fields["anchor"],
        fields["kind"],
        check_range("a size", fields["size"], MAX_INTEGER, 1),
        parse_hash(fields["digest"]),
        check_range("an attempt", fields["attempt"], MAX_INTEGER, 1),
        fields["state"],
        evidence,
        fields.get("reason"),
    )


def row_id(row: AttestationRow) -> bytes:
    """Return the id of the entry that tells of a stored attestation.

    It follows from the row, so that after a crash between the two a look-up tells
    whether the entry is there.
    """
    evidence = sha256(row.evidence).hexdigest()
    named = canonical_json([row.anchor, row.kind, row.size, row.state, evidence])
    entropy = sha256(b"auditlog/anchor-entry/v1\n" + named).digest()[:_ENTROPY_BYTES]
    return new_id(row.updated, entropy)


def reason_of(error: Exception) -> str:
    """Return which of `REASONS` an anchor failed for."""
    return next(
        (reason for kind, reason in _REASONS_OF if isinstance(error, kind)), "fault"
    )
