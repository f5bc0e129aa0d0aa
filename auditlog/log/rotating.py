"""Rotation of the key-encryption key: all keys under a new one, the old one gone.

::

    1. every key that is registered opens, or nothing is begun
    2. ``keys/vault.key`` holds the new generation and the old one
    3. every slot of the keyring is wrapped again, in place, and synced
    4. ``keys/vault.key`` holds the new generation alone
    5. the entry about it is in the log

Slots are wrapped a page at a time, under the lock of the keyring: keys that are made,
destroyed or restored in between are so under the new generation. Whoever dies leaves a
log in which every key still opens; the next to rotate, or to start, begins with the
slots again, of which those that are done are left alone: `finish`.
"""

import logging
import os
import time
from typing import NamedTuple

from auditlog.core.errors import AuditLogError, ConfigurationError, ConflictError
from auditlog.log.directory import LogDirectory
from auditlog.log.key_entry import rotation_entry
from auditlog.log.preparation import plain_item
from auditlog.storage.keyring import KeyringWriter
from auditlog.storage.vault_key import KEK_BYTES, Generation, VaultKey

__all__ = [
    "Rotated",
    "finish",
    "finish_under",
    "resume",
    "rotate",
    "vault_key_of",
]

_PAGE = 512
"""Keys that are wrapped under one lock: some 10 to 50 ms for who waits to make one."""
_PAUSE_SECONDS = 0.002
_log = logging.getLogger("auditlog")


class Rotated(NamedTuple):
    """What a rotation came to."""

    generation: int
    """Number of the newest key-encryption key."""
    begun_before: bool
    """Whether somebody else had begun it, and died."""


def rotate(log: LogDirectory, now: int) -> Rotated:
    """Rotate the key-encryption key; or finish a rotation that was begun before.

    Args:
        log: the opened log, not read-only.
        now: microseconds since the epoch.

    Raises:
        ConfigurationError: the keyring is missing, or the key is not in a file.
        StorageError: a slot does not open, or it is unknown how far it came; what
            could be read before can still be read.
    """
    if (found := finish(log)) is not None:
        return Rotated(found, begun_before=True)
    keys = vault_key_of(log)
    _check_all_open(log)
    with log.keys.keyring.writing(create=log.store.last_slot() < 0):
        if len(keys.known()) == 1:
            # Somebody who rotated while we waited for the lock may have died untold.
            _tell(log, keys.known()[0])
            keys.begin(os.urandom(KEK_BYTES), now)
        number = keys.known()[0].number
    _tell(log, _wrap_in_pages(log, keys))
    return Rotated(number, begun_before=False)


def finish(log: LogDirectory) -> int | None:
    """Finish a rotation that somebody began who died; return its generation, or None.

    Cheap where there is none.

    Args:
        log: the opened log, not read-only.

    Raises:
        ConfigurationError: the keyring is missing.
        StorageError: a slot does not open, or it is unknown how far it came.
    """
    keys = log.vault_key
    if keys is None:
        return None
    before = keys.reload()
    newest = before[0]
    if len(before) > 1:
        newest = _wrap_in_pages(log, keys)
    elif keys.has_left_overs():
        with log.keys.keyring.writing(create=log.store.last_slot() < 0):
            keys.tidy()
    told = _tell(log, newest)
    return before[0].number if len(before) > 1 or told else None


def resume(log: LogDirectory) -> None:
    """Finish what was begun, or say why not: every key opens nevertheless."""
    try:
        generation = finish(log)
    except AuditLogError as error:
        _log.warning("auditlog: a rotation of keys could not be finished: %s", error)
    else:
        if generation is not None:
            _log.warning("auditlog: finished the rotation to key %d", generation)


def finish_under(log: LogDirectory, writer: KeyringWriter) -> None:
    """Do what is left of a rotation; for whoever holds the lock of the keyring.

    Raises:
        StorageError: as `finish`.
    """
    keys = vault_key_of(log)
    if len(keys.known()) < 2:
        return
    last: int | None = -1
    while last is not None:
        last = _wrap_page(log, writer, last)
    keys.retire()
    writer.use(keys.known())


def _wrap_in_pages(log: LogDirectory, keys: VaultKey) -> Generation:
    """Do what is left of a rotation, and let others at the keyring in between.

    Returns:
        The generation under which every key is, and which is alone.
    """
    last, number = -1, 0
    while True:
        with log.keys.keyring.writing(create=log.store.last_slot() < 0) as writer:
            if len(keys.known()) < 2:
                return keys.known()[0]  # somebody else was faster
            if keys.known()[0].number != number:
                # It may have been faster, and rotated once more since then.
                last, number = -1, keys.known()[0].number
            found = _wrap_page(log, writer, last)
            if found is None:
                keys.retire()
                return keys.known()[0]
        last = found
        # Whoever waits for a lock gets it only from who does not take it at once.
        time.sleep(_PAUSE_SECONDS)


def _wrap_page(log: LogDirectory, writer: KeyringWriter, last: int) -> int | None:
    """Wrap the keys after a slot again, a page of them, durably.

    Returns:
        The last slot of the page; None after the last page.
    """
    writer.use(vault_key_of(log).known())
    page = log.store.keys_after(last, _PAGE)
    end = page[-1][1] if len(page) == _PAGE else writer.slots() - 1
    writer.rewrap((key_id, slot) for key_id, slot, *_ in page)
    # In the others are keys that were never registered, or are being erased.
    taken = {slot for _, slot, *_ in page}
    writer.destroy([slot for slot in range(last + 1, end + 1) if slot not in taken])
    return end if len(page) == _PAGE else None


def vault_key_of(log: LogDirectory) -> VaultKey:
    """Return the file of the key-encryption key.

    Raises:
        ConfigurationError: it is in none.
    """
    if log.vault_key is None:
        raise ConfigurationError("the key-encryption key of this log is in no file")
    return log.vault_key


def _check_all_open(log: LogDirectory) -> None:
    if log.store.last_slot() < 0:
        return
    last = -1
    while page := log.store.keys_after(last, _PAGE):
        log.keys.keyring.read_many([key[:2] for key in page])
        last = page[-1][1]


def _tell(log: LogDirectory, newest: Generation) -> bool:
    """Append the entry about a generation if it is not there; return whether it was."""
    if newest.number == 1:
        return False
    entry = rotation_entry(log.origin, newest.number, newest.made)
    if log.store.by_id(entry.id) is not None:
        return False
    try:
        log.store.append([plain_item(entry)])
    except ConflictError:
        # Somebody else told of it just now.
        return False
    return True
