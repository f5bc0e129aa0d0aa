"""What the offline verifier makes of a fork file, by what was asked of it.

`auditlog.monitor.fork` says what a file proves. Here that is held against the options
of the command, and against the keys that the trust file revokes: who took one can sign
as many histories as he likes, and they are not the log's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from auditlog.core.checkpoint import Policy, SignedCheckpoint
from auditlog.core.errors import AuditLogError, UntrustedError
from auditlog.core.note import ML_DSA_44

__all__ = ["ForkRules"]


@dataclass(frozen=True, slots=True)
class ForkRules:
    """Whom a verifier believes of a fork, and what they ask for."""

    policy: Policy
    revoked: Sequence[str] = ()
    """Log keys, as name and id."""
    min_anchors: int | None = None
    require_pq: bool = False

    def verify(self, data: bytes) -> Any:
        """Return the `auditlog.monitor.fork.ForkVerdict` on a file.

        Raises:
            MalformedError: the bytes are no fork file.
            VerificationError: it proves nothing.
            UntrustedError: it may, but not by the keys that count, or not what was
                asked for.
            AuditLogError: this build cannot check forks.
        """
        try:
            module = import_module("auditlog.monitor.fork")
        except ModuleNotFoundError:
            raise AuditLogError("this build cannot check forks") from None
        if self.min_anchors:
            raise UntrustedError("expected a receipt with anchors, got a fork")
        found = module.verify_fork(data, self.policy)
        for signed in (found.a, found.b):
            self._check_signers(found.claim, signed)
        return found

    def _check_signers(self, claim: str, signed: SignedCheckpoint) -> None:
        signers = [one.verifier for one in signed.log_signatures]
        if self.require_pq and ML_DSA_44 not in {one.type for one in signers}:
            raise UntrustedError("expected an ML-DSA signature of the log, got none")
        keys = [one.key for one in signers]
        if set(keys) <= set(self.revoked):
            raise UntrustedError(
                f"{claim}; but one of them is signed by revoked keys only, and so by "
                f"whoever took them: {', '.join(keys)}"
            )
