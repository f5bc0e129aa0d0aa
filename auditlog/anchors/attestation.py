r"""What an anchor is asked, and what it gives: pure values, and one protocol.

Anchored is the digest of a checkpoint *as first signed*, with the log's own signatures
only (`FORMATS.md` §7)::

    digest = SHA-256("auditlog/anchor/v1\n" ‖ note)

So an attestation proves that the log's signature existed by then, too: it outlives a
later theft of the log's keys. Nothing else goes out, no name and no size.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from auditlog.core.errors import UntrustedError
from auditlog.core.record import canonical_json

__all__ = [
    "TAG",
    "Anchor",
    "Attestation",
    "Bound",
    "anchor_digest",
    "earliest_by",
    "evidence_digest",
]

TAG = b"auditlog/anchor/v1\n"


@dataclass(frozen=True, slots=True)
class Attestation:
    """What an anchor gave for one digest, as it stands in a store and in a receipt."""

    kind: str
    """``rfc3161``, ``evm`` or ``ots``: who can check `evidence`."""
    state: Literal["pending", "final"]
    """Pending until nothing more is to come; only a final one proves anything."""
    evidence: Mapping[str, Any]
    """JSON of `kind`: strings, integers, lists, objects; bytes stand in base64."""


class Bound(NamedTuple):
    """What a checked attestation proves: the digest existed before this time."""

    kind: str
    party: str
    """Who says so, by the name that the verifier's trust file gives: of one party
    only the earliest time counts."""
    not_after: int
    """Microseconds since the epoch; clock tolerances of the anchor are added."""
    detail: str
    """What was checked, for a reader: a serial number, a block."""


class Anchor(Protocol):
    """An outside system that fixes a digest in time.

    Both methods do I/O, may block for up to the timeout that the anchor was made with,
    and may be repeated after any crash: the same digest again is no error. They keep
    nothing themselves; what they return is stored before anything else is done.

    They raise `AuditLogError` itself where trying again later may help, and a subclass
    of it where it does not: `VerificationError` for an answer that proves nothing,
    `ConfigurationError`, `MalformedError`. No other exception leaves them.
    """

    @property
    def name(self) -> str:
        """The operator's name for it, unique in a log, ``[a-z0-9._-]{1,64}``."""

    @property
    def kind(self) -> str:
        """As `Attestation.kind`."""

    def submit(
        self, digest: bytes, pending: Sequence[Attestation], *, now: float
    ) -> Attestation:
        """Ask for an attestation of a digest of 32 bytes.

        An anchor that must not do something twice does not do it here: it returns all
        that `upgrade` needs to do it, or to find it done, after a crash.

        Args:
            digest: what is to be fixed in time.
            pending: this anchor's own attestations that are stored and not final,
                oldest first.
            now: seconds since the epoch.
        """

    def upgrade(
        self, digest: bytes, attestation: Attestation, *, now: float
    ) -> Attestation:
        """Bring a pending attestation forward; return it unchanged if nothing came.

        Args:
            digest: the one it was submitted for.
            attestation: what was returned last.
            now: seconds since the epoch.
        """


def anchor_digest(note: bytes) -> bytes:
    """Return the 32 bytes that are anchored for a checkpoint (`FORMATS.md` §7).

    Args:
        note: the checkpoint exactly as first signed, log signatures only.
    """
    return hashlib.sha256(TAG + note).digest()


def evidence_digest(evidence: Mapping[str, Any]) -> str:
    """Return SHA-256 of evidence in canonical JSON, in base64.

    It stands in the `anchor` entry that tells of an attestation, so that a log proves
    which evidence it had.

    Raises:
        MalformedError: the evidence is no JSON of ours.
    """
    data = canonical_json(dict(evidence))
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def earliest_by(bounds: Sequence[Bound], parties: int) -> int:
    """Return the time before which so many distinct parties saw a digest.

    That is the k-th earliest of the times of each party: k - 1 liars cannot back-date.

    Args:
        bounds: what was proven of one digest, or of things it must have preceded.
        parties: how many must agree, k, at least 1.

    Returns:
        Microseconds since the epoch.

    Raises:
        UntrustedError: fewer distinct parties than asked for.
    """
    assert parties >= 1
    earliest: dict[str, int] = {}
    for bound in bounds:
        known = earliest.setdefault(bound.party, bound.not_after)
        earliest[bound.party] = min(known, bound.not_after)
    if len(earliest) < parties:
        raise UntrustedError(
            f"expected anchors of {parties} distinct parties, got {len(earliest)}"
        )
    return sorted(earliest.values())[parties - 1]
