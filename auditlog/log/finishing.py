"""The end of erasures: nothing of what was deleted is left, no backup holds the keys.

`finish` goes on with all that are ``shredded`` (`auditlog.log.erasing`), as far as it
can: others may read an old state of the store, and backups have their time.
"""

import logging
import time

from auditlog.core.errors import AuditLogError
from auditlog.core.record import format_id
from auditlog.log.directory import LogDirectory
from auditlog.log.erasing import Erased
from auditlog.log.erasure_entry import final_entry
from auditlog.storage.acceptance import has_forgotten
from auditlog.storage.sqlite_erasures import ErasureRow

__all__ = ["finish", "settled", "waiting_for"]

_log = logging.getLogger("auditlog")

_POLL_SECONDS = 0.05


def finish(log: LogDirectory, now: int, *, wait: float = 0.0) -> int:
    """Bring erasures to ``final``, as far as they can be; again does no harm.

    Args:
        log: the opened log, not read-only.
        now: microseconds since the epoch.
        wait: seconds to try for, while others read an old state of the store.

    Returns:
        How many have become final.

    Raises:
        StorageError: it could not be done; to be tried again.
    """
    deadline = time.monotonic() + wait
    while not _is_swept(log):
        if time.monotonic() > deadline:
            return 0
        time.sleep(_POLL_SECONDS)
    ready = [row for row in log.store.erasures("shredded") if _is_ready(log, row, now)]
    items = [(row.id, final_entry(row.key_id, log.origin, now)) for row in ready]
    log.store.finish_erasures(items, now)
    return len(items)


def _is_swept(log: LogDirectory) -> bool:
    rows = log.store.erasures("shredded")
    left = [row.key_id for row in rows if row.pending is not None]
    forgotten = not left or has_forgotten(log.paths.journals, left)
    return forgotten and log.store.sweep()


def _is_ready(log: LogDirectory, row: ErasureRow, now: int) -> bool:
    expiry = log.store.backup_expiry(row.time)
    return row.pending is None and (expiry is None or expiry <= now)


def waiting_for(log: LogDirectory, row: ErasureRow, now: int) -> str | None:
    """Return what an erasure waits for until it is final; None if it is.

    Args:
        log: the opened log.
        row: the erasure.
        now: microseconds since the epoch.
    """
    if row.state == "final":
        return None
    if row.state == "pending":
        return "the next start of anything that writes"
    if row.pending is not None:
        return "free space of the store to be overwritten: `auditlog erase --finish`"
    expiry = log.store.backup_expiry(row.time)
    if expiry is None or expiry <= now:
        return "`auditlog erase --finish`, or a service that runs"
    return "the last backup of the keyring to expire"


def settled(
    log: LogDirectory, erased: Erased, now: int, *, wait: float = 0.0
) -> Erased:
    """Return an erasure as it stands once `finish` has been tried; never raises.

    It holds whether that works or not, and what shows whom it was about would be lost
    with an error.

    Args:
        log: the opened log, not read-only.
        erased: by `erase`.
        now: microseconds since the epoch.
        wait: as for `finish`.
    """
    try:
        finish(log, now, wait=wait)
        final = {format_id(row.id) for row in log.store.erasures("final")}
    except AuditLogError as error:
        _log.warning("auditlog: an erasure is not final yet: %s", error)
        return erased
    return erased._replace(state="final") if erased.id in final else erased
