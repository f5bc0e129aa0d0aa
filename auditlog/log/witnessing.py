"""Having the newest checkpoint cosigned by witnesses, on a schedule."""

import logging
import re
import threading
import time
from collections.abc import Callable, Sequence

from auditlog.anchors.witness import Memory, WitnessResult, ask_witnesses
from auditlog.config import Config
from auditlog.core.checkpoint import Policy, Witness
from auditlog.core.errors import AuditLogError, RollbackError
from auditlog.core.note import Signature
from auditlog.log.directory import LogDirectory
from auditlog.log.proofs import consistency_proof
from auditlog.storage import Cosignature

__all__ = ["Witnessing"]

_log = logging.getLogger("auditlog")

_LOOK_SECONDS = 5.0
_DIGITS = re.compile("[0-9]+")
"""What differs from time to time: seconds that are left, sizes."""
_BACKOFF_SECONDS = (1.0, 2.0, 5.0, 15.0, 60.0)


class Witnessing:
    """Asks the witnesses of the operator's policy to cosign the newest checkpoint."""

    def __init__(
        self, log: LogDirectory, config: Config, clock: Callable[[], float]
    ) -> None:
        """Read the policy lazily, so that witnesses can be added while running."""
        self._log = log
        self._config = config
        self._clock = clock
        self._turn = threading.Lock()
        self._asked: tuple[int, Policy] | None = None
        self._memory = Memory()
        self._said: dict[str, str] = {}
        """By the name of a witness, why it did not cosign when it was asked last."""
        self._failures = 0
        self._next = 0.0

    def due(self) -> bool:
        """Return whether it is time to look whether anybody is to be asked."""
        return time.monotonic() >= self._next

    def ask(self, *, timeout: float = 10.0) -> None:
        """Ask every witness with an address for the newest checkpoint, once.

        Args:
            timeout: seconds for each witness.

        Raises:
            RollbackError: a witness has seen another past than ours.
            AuditLogError: the policy or the store cannot be read.
        """
        with self._turn:
            self._next = time.monotonic() + min(
                _LOOK_SECONDS, self._config.anchor_interval
            )
            policy = self._log.policy()
            newest = self._log.store.newest()
            if newest is None or (newest[0], policy) == self._asked:
                return
            if any(witness.url for witness in policy.witnesses):
                failed = self._collect(policy, *newest, timeout)
                self._after(newest[0], policy, failed=failed)

    def _collect(self, policy: Policy, size: int, note: bytes, timeout: float) -> bool:
        """Ask, store what verified, and return whether anybody is still to be asked."""
        store = self._log.store
        results = ask_witnesses(
            self._to_be_asked(policy, size),
            note,
            size,
            lambda old, new: consistency_proof(store, old, new),
            self._memory,
            log_keys=[signer.verifier for signer in self._log.signers],
            now=self._clock(),
            timeout=timeout,
            newest=self._newest_size,
        )
        cosigned = [one.cosigned for one in results if one.cosigned is not None]
        store.add_cosignatures(
            [_cosignature(size, signed) for one in cosigned for signed in one.lines]
        )
        return self._report(results)

    def _to_be_asked(self, policy: Policy, size: int) -> Sequence[Witness]:
        """Return all witnesses, or, of a checkpoint that some lack, only those.

        The first time it is all, for they may have seen more of this log than we have.
        """
        if not self._failures:
            return policy.witnesses
        known = {one.key for one in self._log.store.cosignatures(size)}
        return [one for one in policy.witnesses if one.verifier.key not in known]

    def _report(self, results: Sequence[WitnessResult]) -> bool:
        for result in results:
            # A witness that saw more of this log than we have, or something else, is
            # what a restored backup or a second copy looks like: we would fork the log.
            if isinstance(result.error, RollbackError):
                raise result.error
            self._complain(result.witness.name, result.error)
        return any(result.error is not None for result in results)

    def _complain(self, name: str, error: AuditLogError | None) -> None:
        """Log what fails once, not each time it is tried again."""
        text = "" if error is None else str(error)
        known, self._said[name] = self._said.get(name, ""), text
        if text and _DIGITS.sub("", text) != _DIGITS.sub("", known):
            _log.warning("auditlog: %s did not cosign: %s", name, text)

    def _newest_size(self) -> int:
        newest = self._log.store.newest()
        return 0 if newest is None else newest[0]

    def _after(self, size: int, policy: Policy, *, failed: bool) -> None:
        wait = self._config.anchor_interval
        if failed:
            step = min(self._failures, len(_BACKOFF_SECONDS) - 1)
            wait = min(wait, _BACKOFF_SECONDS[step])
            self._failures += 1
        else:
            self._asked, self._failures = (size, policy), 0
        self._next = time.monotonic() + wait


def _cosignature(size: int, signed: Signature) -> Cosignature:
    return Cosignature(size, signed.verifier.key, signed.timestamp, signed.line)
