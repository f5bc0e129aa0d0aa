"""Content whose key was erased before it came into the store.

It was accepted, and acknowledged, so its entry is stored; but nothing opens what was
sealed, so nothing is kept of that. An erasure entry of its own says how much that was,
in the same transaction, so that what is missing from the vault is always accounted for.
"""

from collections import Counter
from collections.abc import Collection, Sequence

from auditlog.log.erasure_entry import erased_entry
from auditlog.log.preparation import SealingKeys
from auditlog.storage import ERASED, SpoolItem

__all__ = ["without_content"]


def without_content(
    items: Sequence[SpoolItem],
    key_ids: Collection[bytes],
    keys: SealingKeys,
    origin: str,
    now: int,
) -> list[SpoolItem]:
    """Return items without what was sealed under erased keys, and what says so.

    Args:
        items: for the store, in order.
        key_ids: of the keys that were erased.
        keys: of the log.
        origin: the log's name.
        now: microseconds since the epoch.

    Raises:
        StorageError: there is no key to seal the erasure entry under now.
    """
    counts = Counter(one.key_id for one in items if one.key_id in key_ids)
    kept = [
        one._replace(key_id=ERASED, sealed=b"") if one.key_id in key_ids else one
        for one in items
    ]
    entries = [
        erased_entry(key_id, count, keys, origin, now)
        for key_id, count in counts.items()
        if key_id is not None
    ]
    return [*kept, *entries]
