"""What a log looks like at one moment, for those who watch it from outside."""

from collections.abc import Sequence
from typing import Protocol

from auditlog.log.anchor_status import open_window
from auditlog.metrics import LogState
from auditlog.storage import Attestations, Index, Objects, Publication, Scan, Spool

__all__ = ["state_of"]

_MICROSECONDS = 1_000_000


class _Store(Spool, Index, Publication, Attestations, Objects, Scan, Protocol):
    """Where a log can be looked at."""


def state_of(store: _Store, now: float, anchors: Sequence[str] = ()) -> LogState:
    """Return the state of a log; a few look-ups, whatever its size.

    Args:
        store: the log's.
        now: seconds since the epoch.
        anchors: the operator's names for those that are configured.

    Raises:
        StorageError: the store cannot be read.
    """
    newest = store.newest()
    covered = 0 if newest is None else newest[0]
    cosigned = max(store.cosigned_sizes(), default=0)
    size = store.size()
    return LogState(
        tree_size=covered,
        checkpoint_time=_time(store, covered - 1) if covered else None,
        merge_delay=_age(store, covered, size, now),
        unwitnessed=size - cosigned,
        unwitnessed_age=_age(store, cosigned, size, now),
        cosignatures={one.key: one.time for one in store.cosignatures(cosigned)},
        anchors={one: open_window(store, [one], now).lag for one in anchors},
    )


def _age(store: _Store, first: int, size: int, now: float) -> float:
    return max(0.0, now - _time(store, first)) if first < size else 0.0


def _time(store: _Store, index: int) -> float:
    rows = store.index_rows(index, index + 1)
    return rows[0].time / _MICROSECONDS if rows else 0.0
