"""Log keys that are no longer good: which of their signatures still count.

Whoever stole a key can sign any tree, of any size. So what a revoked key signed counts
only up to the last checkpoint that is known to be good, and only where the thief cannot
have made it:

- it is that checkpoint itself, or
- the witnesses of the policy cosigned the tree: they would not have cosigned another
  one of a size that they had already seen; where it is known when the key was lost,
  they did so before, as a new witness has seen nothing yet, or
- an anchor saw this very signature before the key was lost.

At the size of the good checkpoint another tree is a fork, whoever signed it and when.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from auditlog.anchors.attestation import Bound, earliest_by
from auditlog.anchors.trust import Revocation
from auditlog.core.checkpoint import Checkpoint, Policy, open_checkpoint
from auditlog.core.errors import UntrustedError, VerificationError
from auditlog.core.note import Verifier, open_note, split_unverified_note

__all__ = ["RevokingPolicy", "cosigned_trees"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokingPolicy(Policy):
    """A policy some of whose log keys are no longer good."""

    revocations: tuple[Revocation, ...]
    cosigned: frozenset[tuple[Checkpoint, str]] = frozenset()
    """What `cosigned_trees` found in the receipt, and which revoked key it saves."""
    attested: tuple[tuple[bytes, Bound], ...] = ()
    """Notes that anchors saw, with what each proves."""
    parties: int = 1
    """How many must have seen a signature before the key was lost."""

    def keys_for(self, checkpoint: Checkpoint, note: bytes) -> tuple[Verifier, ...]:
        """Return the log keys whose signature counts under a note.

        Raises:
            VerificationError: another tree than the last good one was signed, or a
                signature does not verify.
            UntrustedError: only revoked keys signed, and nothing shows that it was
                before they were lost.
        """
        keys = self.log_keys(checkpoint.origin)
        origins = {revoked.origin for revoked in self.revocations}
        if checkpoint.origin not in origins:
            return keys
        signatures = _signatures(keys, note)
        self._refuse_forks(checkpoint, signatures)
        reasons = {
            verifier: self._why_not(revocation, checkpoint, signatures[verifier])
            for verifier in signatures
            for revocation in self.revocations
            if revocation.key == verifier.key
        }
        refused = {verifier: why for verifier, why in reasons.items() if why}
        if refused and refused.keys() == signatures.keys():
            raise UntrustedError("; ".join(refused.values()))
        return tuple(verifier for verifier in keys if verifier not in refused)

    def _refuse_forks(
        self, checkpoint: Checkpoint, signatures: Mapping[Verifier, bytes]
    ) -> None:
        for revoked in self.revocations:
            is_its = (revoked.origin, revoked.size) == checkpoint[:2]
            if not is_its or not signatures:
                continue
            if checkpoint.root != revoked.root:
                by = ", ".join(verifier.key for verifier in signatures)
                raise VerificationError(
                    f"the log {checkpoint.origin[:100]} has forked: {by} signed a tree "
                    f"of size {revoked.size} that is not the last good one of "
                    f"{revoked.key}"
                )

    def _why_not(self, revoked: Revocation, checkpoint: Checkpoint, line: bytes) -> str:
        """Return why a signature of a revoked key does not count; empty if it does."""
        size, is_revoked = checkpoint.size, f"the key {revoked.key} is revoked"
        if size > revoked.size:
            return (
                f"{is_revoked}: expected a checkpoint of up to size {revoked.size}, "
                f"its last good one, got {size}"
            )
        is_good = size == revoked.size or (checkpoint, revoked.key) in self.cosigned
        if is_good or self._is_attested(line, revoked):
            return ""
        return (
            f"{is_revoked}: expected the quorum of witnesses, or an anchor from before "
            f"it was lost, for its checkpoint of size {size}"
        )

    def _is_attested(self, line: bytes, revoked: Revocation) -> bool:
        seen = [
            bound
            for note, bound in self.attested
            if line in split_unverified_note(note)[1]
        ]
        if revoked.before is None or not seen:
            return False
        try:
            return earliest_by(seen, self.parties) < revoked.before
        except UntrustedError:
            return False


def cosigned_trees(
    notes: Iterable[bytes], policy: Policy, revocations: Sequence[Revocation]
) -> frozenset[tuple[Checkpoint, str]]:
    """Return which trees the quorum of a policy cosigned before which key was lost.

    Each note is looked at once, whatever stands in a receipt and how often.

    Args:
        notes: of a receipt.
        policy: without revocations.
        revocations: of the keys.
    """
    if policy.quorum == "none":
        return frozenset()
    found: set[tuple[Checkpoint, str]] = set()
    for note in dict.fromkeys(notes):
        try:
            signed = open_checkpoint(note, policy)
        except VerificationError:
            continue
        for revoked in revocations:
            names = {
                witness.name
                for witness, seconds in signed.cosignatures
                if revoked.before is None or seconds * 1_000_000 < revoked.before
            }
            if policy.satisfied_by(names):
                found.add((signed.checkpoint, revoked.key))
    return frozenset(found)


def _signatures(verifiers: Sequence[Verifier], note: bytes) -> dict[Verifier, bytes]:
    """Return the signature lines of these keys in a note, verified."""
    try:
        return {one.verifier: one.line for one in open_note(note, verifiers).signatures}
    except UntrustedError:
        return {}
