"""What a monitor keeps of a conflict: a fork where it is proven, else a suspicion.

A suspicion holds the two notes and all that was received, as far as it goes::

    {"a": "<note>", "b": "<note>" or null, "reason": "…",
     "received": {"<url>": "<base64>", …}, "schema": "auditlog.suspicion.v1"}

It is unsigned, and proves nothing to others: whoever keeps it may have made it up. A
person can follow it up, and a later round can turn the notes into a fork.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from auditlog.core.checkpoint import Policy, SignedCheckpoint
from auditlog.core.encoding import format_base64
from auditlog.core.errors import AuditLogError
from auditlog.core.record import canonical_json
from auditlog.monitor.findings import Finding
from auditlog.monitor.fork import MAX_FORK, Fork, format_fork, parse_fork, verify_fork
from auditlog.monitor.state import StateDirectory
from auditlog.storage.files import storage_errors

__all__ = ["Evidence"]

SCHEMA = "auditlog.suspicion.v1"

_MAX_RECEIVED = 1 << 20
"""Bytes of one answer that are kept; a larger one says by its length that it was."""
_MAX_ANSWERS = 64
_MAX_ALIKE = 4


class Evidence:
    """The files of forks and suspicions of one log."""

    def __init__(self, directory: StateDirectory, policy: Policy) -> None:
        """Keep them in a directory; `policy` says whose signatures prove a fork."""
        self._directory = directory
        self._policy = policy

    def keep_fork(self, fork: Fork) -> None:
        """Keep a fork, durably; it convinces a verifier, or it is a fault of ours.

        A few with the same note are enough: the log that goes on with another history
        gives a new one with each checkpoint.

        Raises:
            StorageError: it cannot be written.
        """
        data = format_fork(fork)
        verify_fork(data, self._policy)
        alike = [one for one in self._known() if {one.a, one.b} & {fork.a, fork.b}]
        if len(alike) < _MAX_ALIKE:
            self._directory.keep("fork", data)

    def forks(self) -> list[Finding]:
        """Return all forks that are kept, each verified again."""
        found = []
        for path in self._directory.kept("fork"):
            try:
                verdict = verify_fork(_read(path), self._policy)
            except AuditLogError as error:
                text = f"{path.name} proves nothing under this policy: {error}"
                found.append(Finding("unchecked", path.name, text, path.name))
            else:
                text = f"FORK: {verdict.claim}"
                found.append(Finding("fork", path.name, text, path.name))
        return found

    def _known(self) -> Iterator[Fork]:
        for path in self._directory.kept("fork"):
            with contextlib.suppress(AuditLogError):
                yield parse_fork(_read(path))

    def suspect(
        self,
        a: SignedCheckpoint,
        b: SignedCheckpoint | None,
        reason: str,
        received: dict[str, bytes],
    ) -> Finding:
        """Keep what contradicts itself and proves nothing; return what to say of it.

        Raises:
            StorageError: it cannot be written.
        """
        fields = {
            "a": a.note.decode(),
            "b": None if b is None else b.note.decode(),
            "reason": reason,
            "received": {
                name: format_base64(data[:_MAX_RECEIVED])
                for name, data in list(received.items())[:_MAX_ANSWERS]
            },
            "schema": SCHEMA,
        }
        path = self._directory.keep("suspicion", canonical_json(fields) + b"\n")
        return Finding("suspicion", reason, reason, None if path is None else path.name)


def _read(path: Path) -> bytes:
    with storage_errors(f"read {path}"), path.open("rb") as file:
        return file.read(MAX_FORK + 1)
