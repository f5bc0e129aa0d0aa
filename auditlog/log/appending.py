"""An entry of ours straight into the store, in whatever process.

It has no number, and nobody recovers it. So it is there when `append_once` returns, and
whoever gets an error may look for its id.
"""

import logging
from collections.abc import Callable
from contextlib import suppress

import zstandard

from auditlog.core.errors import ConflictError, NotFoundError, StorageError
from auditlog.core.record import Entry
from auditlog.log.content import Content
from auditlog.log.directory import LogDirectory
from auditlog.log.preparation import sealed_item
from auditlog.log.storing import is_stored
from auditlog.storage import KeyErasedError, SpoolItem
from auditlog.storage.acceptance import find_accepted
from auditlog.storage.keys import RECORD, SUBJECT

__all__ = ["append_once", "sealed_about"]

_log = logging.getLogger("auditlog")

_ATTEMPTS = 3


def append_once(log: LogDirectory, seal: Callable[[], SpoolItem], what: str) -> bytes:
    """Make an entry durable, once; return its id.

    Args:
        log: the opened log, not read-only.
        seal: returns the entry, always the same bytes, sealed under a key that lives
            now; asked again where that key was erased meanwhile.
        what: the entry is, for messages, such as ``an amendment``.

    Raises:
        StorageError: it is unknown whether it is there.
        KeyErasedError: each key died before it was used; nothing is there.
    """
    item = seal()
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            log.store.append([item])
        except KeyErasedError as error:
            if attempt == _ATTEMPTS:
                raise
            log.keys.forget(error.key_ids)
            item = seal()
        except StorageError as error:
            if is_stored(log.store, item):
                break
            # Nothing of it is there, so that trying again makes no second one.
            if attempt == _ATTEMPTS or isinstance(error, ConflictError):
                raise
            _log.warning("auditlog: %s is tried again: %s", what, error)
        else:
            break
    return item.row.id


def sealed_about(
    log: LogDirectory, decision: bytes, entry: Entry, content: Content
) -> SpoolItem:
    """Return an entry that is about a decision, with its sealed content.

    It is sealed under the key of whom the decision is about, so that it goes with the
    decision; under that of the day where there is nobody. Where it cannot be known, for
    the decision is still on its way or was erased, it has a key of its own, which is
    erased together with the decision, or alone.

    Args:
        log: the opened log.
        decision: id of the decision, 16 bytes.
        entry: what is said in clear.
        content: what its commitment covers.

    Raises:
        StorageError: there is no key to seal under now.
    """
    compressor = zstandard.ZstdCompressor()
    with suppress(NotFoundError):
        under = _key_about(log, decision)
        return sealed_item(entry, content, log.keys, compressor, under=under)
    # Nobody knows whom it is about, or they were erased since it was looked up.
    ((own, _),) = log.keys.record_keys([entry.id])
    return sealed_item(entry, content, log.keys, compressor, under=own)


def _key_about(log: LogDirectory, decision: bytes) -> bytes | None:
    """Return the id of the key of whom a decision is about; None if that is nobody.

    Raises:
        NotFoundError: it cannot be known, or was erased.
    """
    row = log.store.by_id(decision)
    if row is not None and row.index is not None:
        key_id = log.store.sealed_by(row.index)
    else:
        accepted = find_accepted(log.paths.journals, decision)
        if accepted is None:
            raise NotFoundError("the decision is on its way")
        key_id = accepted.key_id
    kind = None if key_id is None else log.keys.kind(key_id)
    if key_id is not None and kind is None:
        raise NotFoundError("the content of the decision was erased")
    return key_id if kind in {SUBJECT, RECORD} else None
