"""An amendment, from what was said to what is durable in the log.

It goes straight into the store, in whatever process: it has no number, and nobody
recovers it. So it is there when `append_amendment` returns, and whoever gets an error
may look for its id.
"""

import logging
import os

import zstandard

from auditlog.core.errors import ConfigurationError, ConflictError, StorageError
from auditlog.core.record import DECISION, Entry, format_id
from auditlog.log.amendment import AMENDMENT, Amendment
from auditlog.log.content import context_only
from auditlog.log.directory import LogDirectory
from auditlog.log.identity import new_id
from auditlog.log.preparation import SealingKeys, sealed_item
from auditlog.log.reader import Reader
from auditlog.log.storing import is_stored
from auditlog.storage import SpoolItem

__all__ = ["amendment_item", "append_amendment"]

_log = logging.getLogger("auditlog")

_SECRET_BYTES = 32
_ATTEMPTS = 3


def append_amendment(log: LogDirectory, amendment: Amendment, now: int) -> bytes:
    """Make an amendment durable; return its id.

    Args:
        log: the opened log, not read-only.
        amendment: about a decision that is in the log, or on its way.
        now: microseconds since the epoch.

    Raises:
        NotFoundError: there is no such entry.
        ConfigurationError: it is no decision, or the keys cannot be used.
        StorageError: it is unknown whether it is there.
    """
    _check_decision(log, amendment.decision)
    item = amendment_item(amendment, log.origin, log.keys, now)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            log.store.append([item])
        except StorageError as error:
            if is_stored(log.store, item):
                break
            # Nothing of it is there, so that trying again makes no second one.
            if attempt == _ATTEMPTS or isinstance(error, ConflictError):
                raise
            _log.warning("auditlog: an amendment is tried again: %s", error)
        else:
            break
    return item.row.id


def _check_decision(log: LogDirectory, id_: bytes) -> None:
    name = format_id(id_)
    # One that was only opened, or accepted, is on its way from some process.
    row = log.store.by_id(id_) or Reader(log).decision(name).row
    if row is not None and row.type != DECISION:
        raise ConfigurationError(
            f"expected the id of a decision to amend, but {name} is of {row.type}"
        )


def amendment_item(
    amendment: Amendment, origin: str, keys: SealingKeys, now: int
) -> SpoolItem:
    """Return the entry of an amendment with its sealed content.

    Args:
        amendment: what is said.
        origin: the log's name.
        keys: of the vault.
        now: microseconds since the epoch.

    Raises:
        StorageError: there is no key to seal under now.
    """
    secret = os.urandom(_SECRET_BYTES)
    leaves = [
        (f"context/{name}", value)
        for name, value in sorted(amendment.facts.leaves().items())
    ]
    said, content = context_only(secret, leaves, redaction=amendment.redaction)
    said |= {"decision": format_id(amendment.decision), "kind": amendment.kind}
    entry = Entry(new_id(now), AMENDMENT, origin, now, said)
    return sealed_item(entry, content, keys, zstandard.ZstdCompressor())
