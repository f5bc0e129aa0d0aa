"""Evidence that weakens with time, and what keeps it strong (after RFC 4998).

A time-stamp authority's key ends, is lost, or its algorithm breaks: who holds it then
can make tokens for any time in the past. So a table of the trust file may say `until`.
From then on what that party says is believed only where the evidence itself is proven
to have existed before: by a *renewal*, which the evidence carries::

    "renewal": {"entry", "proof", "kind", "evidence"}

`entry` is the log's own `anchor` entry about the evidence, which names its digest;
`proof` shows it under a later anchored note; `kind` and `evidence` are of the anchor
that saw that note. It may need a renewal itself. There is no clock here: without one,
evidence of such a party proves nothing, whatever time it states.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from auditlog.anchors.attestation import Bound, anchor_digest, evidence_digest
from auditlog.anchors.checking import check_attestation
from auditlog.anchors.trust import Trust
from auditlog.core.checkpoint import Policy, parse_checkpoint
from auditlog.core.encoding import format_base64
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.note import split_unverified_note
from auditlog.core.proof import parse_tlog_proof
from auditlog.core.record import check_fields, format_time, parse_entry
from auditlog.core.verify import Verdict, verify_entry

__all__ = ["MAX_RENEWALS", "Held", "Scales", "anchored_note"]

MAX_RENEWALS = 4
"""Renewals of renewals that are looked at."""

_ENTRY_TYPE = "auditlog.anchor.v1"
_RENEWAL = {"entry": str, "proof": str, "kind": str, "evidence": dict}


class Held(NamedTuple):
    """Evidence that holds."""

    bound: Bound
    parties: frozenset[str]
    """All who must be believed for it."""
    trees: tuple[Verdict, ...]
    """Of the renewals: they are held against all else that the log signed."""


@dataclass(frozen=True, slots=True)
class Scales:
    """Weighs evidence by whom a verifier believes."""

    trust: Trust
    policy: Policy
    """Log keys; no quorum is asked for notes that were anchored as first signed."""

    def weigh(
        self, kind: str, note: bytes, evidence: Any, renewals: int = MAX_RENEWALS
    ) -> Held:
        """Return what the evidence of an anchor proves of a note.

        Args:
            kind: of the anchor.
            note: as first signed, see `anchored_note`.
            evidence: of a final attestation, as JSON.
            renewals: how many, of each other, may follow.

        Raises:
            MalformedError: the evidence does not follow its format.
            VerificationError: it does not hold.
            UntrustedError: it may hold, by somebody who is not believed, or no more.
            AuditLogError: it cannot be checked here.
        """
        if not isinstance(evidence, Mapping):
            raise MalformedError("expected evidence as a JSON object")
        own = {name: value for name, value in evidence.items() if name != "renewal"}
        digest = anchor_digest(note)
        bound = check_attestation(kind, digest, own, self.trust)
        later = None
        if "renewal" in evidence:
            later = self._renewal(kind, digest, own, evidence["renewal"], renewals)
        return self._lasting(kind, digest, own, bound, later)

    def _lasting(
        self,
        kind: str,
        digest: bytes,
        own: Mapping[str, Any],
        bound: Bound,
        later: Held | UntrustedError | None,
    ) -> Held:
        """Return what is left of a bound once `until` is heeded."""
        epochs = self.trust.by_until()
        if all(until is None for until, _ in epochs):
            return Held(bound, frozenset((bound.party,)), _trees(later))
        for until, trust in epochs:
            try:
                bound = check_attestation(kind, digest, own, trust)
            except AuditLogError:
                continue  # by another table; the first look has said that it holds
            if until is None:
                return Held(bound, frozenset((bound.party,)), _trees(later))
            return _renewed(bound, until, later)
        raise UntrustedError(f"expected {bound.party} in one table of the trust file")

    def _renewal(
        self, kind: str, digest: bytes, own: Mapping[str, Any], value: Any, left: int
    ) -> Held | UntrustedError:
        """Return what a renewal proves of evidence, or why it is not believed."""
        if left == 0:
            raise MalformedError(f"expected up to {MAX_RENEWALS} renewals of renewals")
        fields = check_fields(value, "a renewal", _RENEWAL)
        entry, proof = fields["entry"].encode(), fields["proof"].encode()
        _check_entry(entry, kind, digest, own)
        note = anchored_note(proof)
        try:
            verdict = verify_entry(entry, proof, self.policy)
            held = self.weigh(fields["kind"], note, fields["evidence"], left - 1)
        except UntrustedError as error:
            return error
        except (MalformedError, VerificationError):
            raise
        except AuditLogError as error:
            return UntrustedError(str(error))
        return held._replace(trees=(verdict, *held.trees))


def anchored_note(proof: bytes) -> bytes:
    """Return the note that a tlog-proof leads to, once it is one that is anchored.

    Raises:
        MalformedError: these bytes are no tlog-proof.
        VerificationError: the note is not as first signed: others than its log signed
            it too.
    """
    note = parse_tlog_proof(proof).checkpoint
    text, lines = split_unverified_note(note)
    start = f"— {parse_checkpoint(text).origin} ".encode()
    if not all(line.startswith(start) for line in lines):
        raise VerificationError(
            "expected the anchored note as first signed, by nobody but its log"
        )
    return note


def _renewed(bound: Bound, until: int, later: Held | UntrustedError | None) -> Held:
    """Return a bound by a party that is believed until some time, if that holds."""
    ends = f"{bound.party} is believed until {format_time(until)} only"
    if bound.not_after >= until:
        raise UntrustedError(f"{ends}, and says {format_time(bound.not_after)}")
    if later is None:
        raise UntrustedError(f"{ends}: expected a renewal from before, got none")
    if not isinstance(later, Held):
        raise UntrustedError(f"{ends}, and its renewal is not believed: {later}")
    renewed = later.bound.not_after
    if renewed >= until:
        raise UntrustedError(f"{ends}, and was renewed at {format_time(renewed)}")
    detail = f"{bound.detail}; renewed before {format_time(renewed)} by "
    return Held(
        bound._replace(detail=detail + later.bound.party),
        later.parties | {bound.party},
        later.trees,
    )


def _trees(later: Held | UntrustedError | None) -> tuple[Verdict, ...]:
    return later.trees if isinstance(later, Held) else ()


def _check_entry(
    entry: bytes, kind: str, digest: bytes, own: Mapping[str, Any]
) -> None:
    """Require a log's own entry about just this evidence.

    That it is the log of the note needs no look: `digest` is of one note.
    """
    parsed = parse_entry(entry)
    expected = {
        "digest": format_base64(digest),
        "evidence": evidence_digest(own),
        "kind": kind,
        "state": "final",
    }
    if parsed.type != _ENTRY_TYPE:
        raise VerificationError(
            f"expected an entry of {_ENTRY_TYPE} as renewal, got one of {parsed.type}"
        )
    for name, value in expected.items():
        if parsed.data.get(name) != value:
            raise VerificationError(
                f"expected a renewal of this evidence, got another {name}"
            )
