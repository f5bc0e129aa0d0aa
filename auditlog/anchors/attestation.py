r"""What an anchor is asked, and what it gives: pure values, and one protocol.

Anchored is the digest of a checkpoint *as first signed*, with the log's own signatures
only (`FORMATS.md` §7)::

    digest = SHA-256("auditlog/anchor/v1\n" ‖ note)

So an attestation proves that the log's signature existed by then, too: it outlives a
later theft of the log's keys. Nothing else goes out, no name and no size.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from auditlog.core.checkpoint import Checkpoint
from auditlog.core.errors import UntrustedError
from auditlog.core.record import canonical_json

__all__ = [
    "TAG",
    "Anchor",
    "Attestation",
    "Bound",
    "Consistency",
    "HistoryKeeper",
    "anchor_digest",
    "earliest_by",
    "evidence_digest",
]

TAG = b"auditlog/anchor/v1\n"

Consistency = Callable[[int, int], tuple[bytes, ...]]
"""Makes the proof that the tree of one size begins with that of a smaller one, which is
not empty, from what the log has stored."""


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


@runtime_checkable
class HistoryKeeper(Protocol):
    """What an `Anchor` may be besides: a keeper of each log's one history.

    Once it was told a tree, it takes only trees that extend it. So whoever holds
    another past, an old copy or one that was rewritten, is told so, as by a witness.

    All methods do I/O and keep to the timeout that the anchor was made with; they raise
    as those of `Anchor` do. Of one tree `tell_history` and `follow_history` are what
    `Anchor.submit` and `Anchor.upgrade` are of a digest: what they return is stored
    before anything else is done. An anchor that could keep histories, and is not to,
    says that all is kept, and follows what it began.
    """

    def check_history(self, checkpoint: Checkpoint, consistency: Consistency) -> int:
        """Check that the newest tree that it knows of a log is in the log's past.

        It changes nothing, and may be called by any thread at any time.

        Args:
            checkpoint: the newest that the log signed; of size 0 if there is none.
            consistency: of the log.

        Returns:
            The size up to which it keeps the history for good; 0 while the newest
            that it was told may be taken back.

        Raises:
            RollbackError: it knows a larger tree of this log, or another one, and
                proves it: nobody can make a log halt by a mere claim.
            AuditLogError: trying again may help; a claim without proof, too.
        """

    def tell_history(
        self,
        checkpoint: Checkpoint,
        consistency: Consistency,
        pending: Sequence[Attestation],
        *,
        now: float,
    ) -> Attestation | None:
        """Prepare to tell it a tree, and tell it nothing yet.

        Args:
            checkpoint: that was signed and published.
            consistency: of the log.
            pending: this anchor's own attestations, of digests and of histories, that
                are stored and not final, oldest first.
            now: seconds since the epoch.

        Returns:
            All that `follow_history` needs; None if it knows a tree of this size, or a
            larger one, already.

        Raises:
            VerificationError: it refuses the tree.
        """

    def follow_history(
        self,
        checkpoint: Checkpoint,
        consistency: Consistency,
        attestation: Attestation,
        *,
        now: float,
    ) -> Attestation:
        """Tell it the tree, again if need be; return what is to be stored from now on.

        Args:
            checkpoint: that `tell_history` was asked for.
            consistency: of the log.
            attestation: what was returned last.
            now: seconds since the epoch.

        Returns:
            Final once the tree is known for good, and nothing that was ever sent for it
            may still come into effect: it proves nothing of itself. The same if there
            is nothing new.

        Raises:
            VerificationError: it refuses the tree.
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
