"""Who shows which checkpoint of a log: the log itself, and every vantage point."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from auditlog.core.checkpoint import Policy, SignedCheckpoint, open_checkpoint
from auditlog.core.errors import AuditLogError, NotFoundError, UntrustedError
from auditlog.monitor.source import Source
from auditlog.monitor.state import anybody

__all__ = ["View", "look", "look_at_all", "meets_quorum"]

_THREADS = 8


class View(NamedTuple):
    """What one place showed: one of `signed` and `error` is set."""

    source: Source
    """Where the tiles of what it showed are likely to be."""
    signed: SignedCheckpoint | None
    """Signed by the log; nothing is said about its quorum."""
    error: AuditLogError | None


def look(source: Source, origin: str, policy: Policy) -> View:
    """Ask one place for the checkpoint of a log, and open it."""
    try:
        note = source.checkpoint()
        signed = open_checkpoint(note, anybody(policy))
        if signed.checkpoint.origin != origin:
            raise UntrustedError(
                f"expected a checkpoint of {origin}, got one of another log"
            )
    except AuditLogError as error:
        return View(source, None, error)
    return View(source, signed, None)


def look_at_all(sources: Sequence[Source], origin: str, policy: Policy) -> list[View]:
    """Ask several places at once; none waits for another.

    A prefix of witnesses or mirrors, which serve many logs, is asked for this one by
    the hash of its origin (C2SP tlog-witness, tlog-mirror).
    """

    def ask(source: Source) -> View:
        view = look(source, origin, policy)
        if not isinstance(view.error, NotFoundError):
            return view
        name = hashlib.sha256(origin.encode()).hexdigest()
        named = replace(source, url=f"{source.url.rstrip('/')}/{name}")
        other = look(named, origin, policy)
        return view if isinstance(other.error, NotFoundError) else other

    if not sources:
        return []
    with ThreadPoolExecutor(min(len(sources), _THREADS), "look") as threads:
        return list(threads.map(ask, sources))


def meets_quorum(signed: SignedCheckpoint, policy: Policy) -> bool:
    """Say whether enough witnesses of the policy have cosigned a checkpoint."""
    return policy.satisfied_by({witness.name for witness, _ in signed.cosignatures})
