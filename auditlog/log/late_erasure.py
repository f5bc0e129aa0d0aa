"""Content whose key was erased before it came into the store.

It was accepted, and acknowledged, so its entry is stored; but nothing opens what was
sealed, so nothing is kept of that. An erasure entry of its own says how much that was,
in the same transaction, so that what is missing from the vault is always accounted for.
"""

import base64
import os
from collections import Counter
from collections.abc import Collection, Sequence

import zstandard

from auditlog.core.record import Entry, canonical_json
from auditlog.log.content import context_only
from auditlog.log.identity import new_id
from auditlog.log.preparation import SealingKeys, sealed_item
from auditlog.storage import ERASED, SpoolItem

__all__ = ["ERASURE", "erased_entry", "without_content"]

ERASURE = "auditlog.erasure.v1"

_SECRET_BYTES = 32


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


def erased_entry(
    key_id: bytes, records: int, keys: SealingKeys, origin: str, now: int
) -> SpoolItem:
    """Return an erasure entry about content that was erased on its way.

    Args:
        key_id: of the key that was erased before.
        records: how many items it had sealed.
        keys: of the log.
        origin: the log's name.
        now: microseconds since the epoch.

    Raises:
        StorageError: there is no key to seal under now.
    """
    leaves = [("context/records", canonical_json(records))]
    said, content = context_only(os.urandom(_SECRET_BYTES), leaves)
    said |= {"key": base64.b64encode(key_id).decode(), "state": "shredded"}
    entry = Entry(new_id(now), ERASURE, origin, now, said)
    return sealed_item(entry, content, keys, zstandard.ZstdCompressor())
