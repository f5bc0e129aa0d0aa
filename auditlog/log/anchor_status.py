"""How far anchoring has come: by anchor, and what is still open to a rewrite."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from auditlog.core.errors import ConfigurationError
from auditlog.log.anchor_entry import ANCHOR, is_history
from auditlog.log.anchor_file import AnchorFile
from auditlog.log.anchor_ledger import EMITTER, LedgerStore, recent_words
from auditlog.log.anchoring import restored_pace
from auditlog.metrics import AnchorLag

__all__ = [
    "AnchorStatus",
    "OpenWindow",
    "attesting",
    "lag_of",
    "open_window",
    "status_of",
    "watched_anchors",
]

_MICROSECONDS = 1_000_000


class AnchorStatus(NamedTuple):
    """What one anchor has given so far; times are seconds since the epoch."""

    anchor: str
    kind: str | None
    """None where it is not configured, or cannot be used, and gave nothing yet."""
    configured: bool
    final_size: int
    """Of the largest checkpoint with a final attestation; 0 if there is none."""
    final_time: float | None
    """When that one became final."""
    pending: int
    """Attestations that are not final."""
    pending_since: float | None
    """When the oldest of them was submitted."""
    lag: AnchorLag
    failures: int
    """Attempts in a row that failed until now."""
    reason: str | None
    """Why the last of them did."""
    next_try: float | None
    """When a server would submit next, if there is anything to submit; None if it
    would now, or the anchor is not configured."""


class OpenWindow(NamedTuple):
    """What no final attestation of any anchor covers: the operator's word alone."""

    size: int
    """Of the largest checkpoint with a final attestation; 0 if there is none."""
    lag: AnchorLag


def status_of(
    store: LedgerStore,
    anchor: str,
    kind: str | None,
    interval: float,
    now: float,
) -> AnchorStatus:
    """Return what is known of one anchor.

    Args:
        store: of the log.
        anchor: the operator's name for it.
        kind: of the anchor; None if it is not configured any more.
        interval: seconds between two submissions.
        now: seconds since the epoch.

    Raises:
        StorageError: the store cannot be read.
    """
    final = store.last_attestation(anchor, state="final")
    pending = store.attestations_by(anchor, state="pending")
    pace = restored_pace(store, anchor, interval)
    newest = next(recent_words(store, anchor), None)
    known = final or (pending[-1] if pending else None)
    tries = max(pace.asking.wait.end, pace.submission.end)
    return AnchorStatus(
        anchor=anchor,
        kind=kind or (None if known is None else known.kind),
        configured=kind is not None,
        final_size=0 if final is None else final.size,
        final_time=None if final is None else final.updated / _MICROSECONDS,
        pending=len(pending),
        pending_since=pending[0].submitted / _MICROSECONDS if pending else None,
        lag=lag_of(store, 0 if final is None else final.size, now),
        failures=pace.asking.failures,
        reason=None if newest is None else newest[0].reason,
        next_try=tries if kind is not None and tries > now else None,
    )


def open_window(store: LedgerStore, anchors: Sequence[str], now: float) -> OpenWindow:
    """Return what no final attestation covers yet.

    Args:
        store: of the log.
        anchors: the names of those that count.
        now: seconds since the epoch.

    Raises:
        StorageError: the store cannot be read.
    """
    rows = [store.last_attestation(anchor, state="final") for anchor in anchors]
    size = max((row.size for row in rows if row is not None), default=0)
    return OpenWindow(size, lag_of(store, size, now))


def watched_anchors(store: LedgerStore, path: Path) -> list[str]:
    """Return the names of the anchors whose lag is of interest.

    Those of the operator's file; while that cannot be read, nobody is asked, and it is
    those that gave something: their lag must grow then, not vanish.

    Args:
        store: of the log.
        path: the operator's file.

    Raises:
        StorageError: the store cannot be read.
    """
    try:
        return list(AnchorFile(path).kinds())
    except ConfigurationError:
        return attesting(store)


def attesting(store: LedgerStore) -> list[str]:
    """Return the names of the anchors that gave something, sorted.

    Raises:
        StorageError: the store cannot be read.
    """
    return [one for one in store.attesting() if not is_history(one)]


def lag_of(store: LedgerStore, size: int, now: float) -> AnchorLag:
    """Return how far the log is beyond an attested checkpoint.

    Where nothing but words about anchors and emitters came after it, that is nothing:
    an idle log is not behind, however long it is idle.

    Args:
        store: of the log.
        size: of the checkpoint; 0 if nothing is attested.
        now: seconds since the epoch.

    Raises:
        StorageError: the store cannot be read.
    """
    first = store.first_but(size, (ANCHOR, EMITTER))
    if first is None or first.index is None:
        return AnchorLag(0, 0.0)
    seconds = max(0.0, now - first.time / _MICROSECONDS)
    return AnchorLag(store.size() - first.index, seconds)
