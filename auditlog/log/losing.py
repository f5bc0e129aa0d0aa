"""Keys that are lost: said once, in the log, so that a service can go on without them.

A key is lost where it is registered and does not open: its slot came from an older
copy of the keyring, is damaged, or is not there. Declared lost, it is so for ever:
whom it was for gets another key, and what it sealed is never read again, not even if a
copy of it turns up. What it sealed stays in the vault, so that a check can count it;
it was not erased, and nothing says that it was.

Somebody could declare keys lost to hide what they sealed. They cannot hide that: an
entry names each key, and every check counts what it sealed.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from typing import NamedTuple

from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.log.directory import LogDirectory
from auditlog.log.key_entry import lost_entry
from auditlog.log.preparation import plain_item
from auditlog.log.recovery import recover
from auditlog.storage.journal import abandoned, emitters_with_journal
from auditlog.storage.keys import INDEX, SUBJECT

__all__ = ["Loss", "declare_lost", "find_lost"]

_PAGE = 1024
_IN_ONE_ENTRY = 1000


class Loss(NamedTuple):
    """What is lost, or would be declared so."""

    key_ids: tuple[bytes, ...]
    kinds: dict[str, int]
    """How many keys of each kind."""
    entries: int
    """How many entries' content they seal."""
    left: int
    """How many registered keys open."""
    subjects_left: int
    """How many of those are keys of subjects."""

    def __repr__(self) -> str:
        """Count."""
        return f"Loss({len(self.key_ids)} keys)"


def find_lost(log: LogDirectory) -> Loss:
    """Return which keys do not open; nothing is changed.

    Raises:
        StorageError: the store cannot be read.
    """
    lost: list[bytes] = []
    kinds, left = Counter[str](), Counter[str]()
    for key_id, kind, opens in _looked_at(log):
        (left if opens else kinds)[kind] += 1
        if not opens:
            lost.append(key_id)
    entries = sum(len(log.store.sealed_under(key_id)) for key_id in lost)
    return Loss(tuple(lost), dict(kinds), entries, left.total(), left[SUBJECT])


def declare_lost(log: LogDirectory, now: int) -> Loss:
    """Put on record which keys are lost, and go on without them; again does no harm.

    Args:
        log: the opened log, not read-only, which `LogDirectory.claim` was called of.
        now: microseconds since the epoch.

    Raises:
        ConfigurationError: a service runs, which may still have keys in memory; or
            those of people who are left could not be found any more.
        StorageError: it is unknown whether it was done; to be done again.
    """
    # What was accepted under such a key comes into the store while it is registered. It
    # may take a key that cannot be made before the others are given up.
    with suppress(AuditLogError):
        recover(log, now)
    loss = find_lost(log)
    _check_allowed(log, loss)
    starts = range(0, len(loss.key_ids), _IN_ONE_ENTRY)
    parts = [loss.key_ids[at : at + _IN_ONE_ENTRY] for at in starts]
    said = [plain_item(lost_entry(log.origin, now, part)) for part in parts]
    if said:
        log.store.lose_keys(loss.key_ids, said)
    _clear(log)
    recover(log, now)
    return loss


def _check_allowed(log: LogDirectory, loss: Loss) -> None:
    with ExitStack() as locks:
        left = [locks.enter_context(one) for one in abandoned(log.paths.journals)]
        dead = {one.emitter for one in left}
    if (emitters_with_journal(log.paths.journals) or set()) - dead:
        raise ConfigurationError(
            "a service records in this log, and may have these keys in memory: stop "
            "it, so that what it has accepted is stored first"
        )
    if INDEX in loss.kinds and loss.subjects_left:
        raise ConfigurationError(
            f"the key that leads from people to their keys is lost, but "
            f"{loss.subjects_left} of those are not: nobody could be found by name "
            "any more, to be told or erased. Restore a backup that has it"
        )
    slots = map(log.store.slot_of, loss.key_ids)
    kept = log.keys.keyring.occupied([slot for slot in slots if slot is not None])
    if kept and not loss.left:
        raise ConfigurationError(
            f"no key opens, though {log.keys.keyring.path} holds some: the file "
            f"{log.paths.vault_key} is another one than they were wrapped under. "
            "Restore it; or, if it is gone for good, remove the keyring first"
        )


def _clear(log: LogDirectory) -> None:
    """Leave zeros where lost keys were, also for somebody who died before that."""
    slots = [slot for _, slot in log.store.lost_keys()]
    if slots:
        log.keys.forget(key_id for key_id, _ in log.store.lost_keys())
        with log.keys.keyring.writing(create=True) as writer:
            writer.destroy(slots)


def _looked_at(log: LogDirectory) -> Iterator[tuple[bytes, str, bool]]:
    """Yield id and kind of each registered key, and whether it opens."""
    keys = log.store.registered_keys()
    while page := list(islice(keys, _PAGE)):
        opened = _opened(log, [key[:2] for key in page])
        for (key_id, _, kind, _), opens in zip(page, opened, strict=True):
            # One that is just being erased is not lost.
            if opens or log.store.slot_of(key_id) is not None:
                yield key_id, kind, opens


def _opened(log: LogDirectory, keys: Sequence[tuple[bytes, int]]) -> list[bool]:
    read = log.keys.keyring.read_many
    try:
        return [key is not None for key in read(keys)]
    except AuditLogError:
        # One of them does not open, or there is no keyring at all.
        return [len(keys) > 1 and _opened(log, [key])[0] for key in keys]
