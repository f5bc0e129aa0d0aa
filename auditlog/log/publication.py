"""What the public sees as the newest checkpoint: one that the policy's quorum cosigned.

Where the policy asks for no quorum it is the newest that was signed, marked as
unwitnessed. Whoever reads it may keep it for ever, so it never goes back, whatever the
operator does to the policy: the largest size that was ever shown is kept in a file of
the log's directory. If a new policy asks for more than the one under which that was
shown, it stays, marked as unwitnessed, until a newer one meets the quorum.

Hash tiles follow the newest checkpoint that was signed, which is never smaller.
"""

import contextlib
import logging
import threading
from typing import NamedTuple

from auditlog.core.checkpoint import Policy, open_checkpoint
from auditlog.core.encoding import parse_decimal
from auditlog.core.errors import (
    MalformedError,
    PendingError,
    RollbackError,
    StorageError,
    VerificationError,
)
from auditlog.log.directory import LogDirectory
from auditlog.storage.files import FileLock, storage_errors, write_durably

__all__ = ["PublicCheckpoint", "PublicView", "meets_quorum"]

_NONE = "none"
_CANDIDATES = 64
"""Cosigned checkpoints looked at, newest first, once all were looked at before."""
_LOCK_SECONDS = 1.0

_log = logging.getLogger("auditlog")


class PublicCheckpoint(NamedTuple):
    """A checkpoint that is shown to everybody."""

    size: int
    note: bytes
    """With all cosignatures collected for it."""
    witnessed: bool
    """Whether the quorum of the operator's policy cosigned it."""


def meets_quorum(note: bytes, policy: Policy) -> bool:
    """Say whether the policy asks for a quorum, and it cosigned this note.

    Raises:
        MalformedError: what is stored is no note.
    """
    try:
        return policy.quorum != _NONE and bool(
            open_checkpoint(note, policy).cosignatures
        )
    except VerificationError:
        return False


class PublicView:
    """The newest public checkpoint of a log. May be used from any thread."""

    def __init__(self, log: LogDirectory) -> None:
        """Look at an opened log; nothing is read yet."""
        self._log = log
        self._lock = threading.Lock()
        self._shown = 0
        self._searched = False
        self._complained = False

    def checkpoint(self) -> PublicCheckpoint:
        """Return the newest public checkpoint; never a smaller one than before.

        Raises:
            PendingError: none was signed yet, or none meets the quorum yet.
            RollbackError: a larger one was shown than any that is stored.
            MalformedError: the policy, or what was kept, cannot be read.
            StorageError: the store cannot be read.
        """
        with self._lock:
            self._shown = max(self._shown, self._kept())
            chosen = self._choose(self._log.policy())
            if chosen.size > self._shown:
                self._shown = chosen.size
                self._keep(chosen.size)
            return chosen

    def _choose(self, policy: Policy) -> PublicCheckpoint:
        newest = self._log.store.newest()
        if newest is None and not self._shown:
            raise PendingError(f"log {self._log.origin} has no checkpoint yet")
        size = 0 if newest is None else newest[0]
        if size < self._shown:
            raise RollbackError(
                f"a checkpoint of size {self._shown} was shown to the public, the "
                f"newest one here is of size {size}: was it restored from a backup?"
            )
        if policy.quorum == _NONE:
            return PublicCheckpoint(size, self._note(size), witnessed=False)
        return self._newest_witnessed(policy) or self._as_shown(policy)

    def _newest_witnessed(self, policy: Policy) -> PublicCheckpoint | None:
        for size in reversed(self._candidates()):
            if not self._may_meet(size, policy):
                continue
            note = self._note(size)
            if meets_quorum(note, policy):
                return PublicCheckpoint(size, note, witnessed=True)
        return None

    def _may_meet(self, size: int, policy: Policy) -> bool:
        """Say whether it is worth to verify what was collected for a checkpoint."""
        keys = {one.key for one in self._log.store.cosignatures(size)}
        signed = {one.name for one in policy.witnesses if one.verifier.key in keys}
        return policy.satisfied_by(signed)

    def _candidates(self) -> list[int]:
        """Return the sizes with cosignatures, from the one shown on, ascending.

        Mostly there are one or two. Where witnesses sign for long without a quorum the
        newest must do: cosignatures come for new checkpoints only, so what did not meet
        the quorum when it was looked at first will not any more.
        """
        sizes: list[int] = []
        start = self._shown
        while len(sizes) < _CANDIDATES:
            found = self._log.store.cosigned(start)
            if found is None:
                return sizes
            sizes.append(found[0])
            start = found[0] + 1
        every = [n for n in self._log.store.cosigned_sizes() if n >= self._shown]
        recent = every[-_CANDIDATES:] if self._searched else every
        self._searched = True
        return recent

    def _as_shown(self, policy: Policy) -> PublicCheckpoint:
        if not self._shown:
            raise PendingError(
                f"no checkpoint of log {self._log.origin} meets the quorum "
                f"{policy.quorum!r} of its policy yet"
            )
        return PublicCheckpoint(self._shown, self._note(self._shown), witnessed=False)

    def _note(self, size: int) -> bytes:
        found = self._log.store.covering(size)
        if found is None or found[0] != size:
            raise StorageError(f"expected the checkpoint of size {size}, got none")
        lines = [one.line for one in self._log.store.cosignatures(size)]
        return found[1] + b"".join(lines)

    def _kept(self) -> int:
        path = self._log.paths.published
        with storage_errors(f"read {path}"), contextlib.suppress(FileNotFoundError):
            text = path.read_text("ascii", "replace")
            try:
                return parse_decimal(text.removesuffix("\n"))
            except MalformedError:
                raise MalformedError(f"expected a size in {path}") from None
        return 0

    def _keep(self, size: int) -> None:
        """Keep what is shown, before it is; several processes may show a log."""
        path = self._log.paths.published
        try:
            with FileLock(path.with_name("published.lock"), _LOCK_SECONDS):
                if size > self._kept():
                    write_durably(path, b"%d\n" % size, mode=0o644)
        except StorageError as error:
            # This process knows it; the next one may show less if the policy changes.
            if not self._complained:
                _log.warning("auditlog: what is public cannot be kept: %s", error)
            self._complained = True
