"""Erasure: whose key goes, nobody can read what it sealed, and every proof stays.

In this order, so that whoever dies on any line leaves what the next start completes
(`replay`), and nothing twice:

1. One transaction takes the key out of the store and notes, as ``pending``, the entry
   that will say so. From here on nobody seals under it, and nobody finds it. Keys of
   single entries about decisions that it seals go with it: each is an erasure of its
   own, with all that follows.
2. Its id goes into ``keys/erased``, durably: whatever is restored forgets it again.
3. Its slot in the keyring is overwritten, durably. From here on nothing opens.
4. One transaction takes what it sealed, and which entries that was, out of the vault,
   and appends the entry: ``shredded``.
5. `auditlog.log.finishing`: no copy of what was deleted is left in the file of the
   store or in its write-ahead log, and no backup of the keyring that may hold the key
   is kept any more. An entry says so: ``final``.

Processes that run have the key in memory until the store refuses it, or they end.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from auditlog.core.errors import (
    ConfigurationError,
    NotFoundError,
    StorageError,
)
from auditlog.core.opening import verify_opening
from auditlog.core.receipt import Disclosure, format_receipt, parse_receipt
from auditlog.core.record import format_id, parse_entry
from auditlog.log.directory import LogDirectory
from auditlog.log.erasure_entry import RECORDS, ErasureEntry, Proof
from auditlog.log.erasure_plan import Plan, plan_decision_erasure, plan_erasure
from auditlog.log.reader import Reader
from auditlog.storage import KeyErasedError
from auditlog.storage.erased_keys import ErasedKeys, parse_erased
from auditlog.storage.keys import RECORD, SUBJECT
from auditlog.storage.sqlite_erasures import ErasureRow

__all__ = [
    "Erased",
    "Plan",
    "catch_up",
    "erase",
    "erase_said_of",
    "erasure_receipt",
    "forget_listed",
    "is_due",
    "plan_decision_erasure",
    "plan_erasure",
    "replay",
]

_log = logging.getLogger("auditlog")


class Erased(NamedTuple):
    """An erasure that was made."""

    id: str
    """Id of the entry about it."""
    state: str
    """``shredded`` or ``final``."""
    records: int | None
    """How many entries have lost their content; None where another process was first
    (a later `auditlog check` adds up all of them)."""
    proof: Proof | None
    """What shows whom it was about, for `erasure_receipt`; it is kept nowhere else.
    None where no subject was named, or another process was first."""


def erase(
    log: LogDirectory,
    plan: Plan,
    *,
    now: int,
    reason: str | None = None,
    by: Mapping[str, str] | None = None,
    keep: Callable[[str, Disclosure], object] | None = None,
) -> Erased:
    """Erase what a plan is about, for ever, and log it; it is ``shredded`` after that.

    Content that came in since the plan was made is erased, too. Where another process
    erases the same at this moment, it is the same erasure.

    Args:
        log: the opened log, not read-only, which `LogDirectory.claim` was called of.
        plan: by `plan_erasure` or `plan_decision_erasure`.
        now: microseconds since the epoch.
        reason: why, or at whose request; it is sealed.
        by: who erases it, as `auditlog.log.access.Access.by`; sealed, too.
        keep: is given the id of the entry, and what shows whom it is about, before
            anything is erased: for `erasure_receipt`, whatever happens then.

    Raises:
        ConfigurationError: the keys cannot be used.
        StorageError: it could not be completed; if it was begun, the next start of
            anything that writes does, and so does the same call.
    """
    entry = ErasureEntry(
        plan.key_id,
        log.keys,
        log.origin,
        now,
        subject=plan.subject,
        reason=reason,
        by=by,
    )
    if keep is not None and entry.disclosure is not None:
        keep(format_id(entry.id), entry.disclosure)
    begun = _begin(log, entry, now)
    row = log.store.erasure_of(plan.key_id)
    if row is None:
        raise NotFoundError("nothing is held under this key any more")
    _complete(log, row, now)
    for key_id in begun[1:]:
        _complete_of(log, key_id, now)
    ours = row.id == entry.id
    return Erased(
        format_id(row.id),
        row.state if row.state == "final" else "shredded",
        entry.total if ours else None,
        entry.proof if ours else None,
    )


def erase_said_of(log: LogDirectory, decisions: Iterable[bytes], now: int) -> None:
    """Erase what was said of decisions under keys of its own, for they are erased.

    To be called before they are stored without content: nothing leads from a person to
    a decision whose content is gone, and from there to what was said of it.

    Args:
        log: the opened log, not read-only.
        decisions: their ids.
        now: microseconds since the epoch.

    Raises:
        StorageError: it could not be completed; to be tried again.
    """
    for decision in decisions:
        for key_id in log.store.said_of(decision):
            _begin(log, ErasureEntry(key_id, log.keys, log.origin, now), now)
            _complete_of(log, key_id, now)


def _begin(log: LogDirectory, entry: ErasureEntry, now: int) -> list[bytes]:
    """Take a key, and those that go with it, out of the store; return which, it first.

    None where somebody else was first: what they began is completed.
    """
    try:
        log.store.begin_erasure(entry.key_id, now, entry.item_of)
    except KeyErasedError:
        return []
    except StorageError:
        # The answer may have been lost, and not the erasure.
        row = log.store.erasure_of(entry.key_id)
        if row is None or row.id != entry.id:
            raise
    return list(entry.counts)


def _complete_of(log: LogDirectory, key_id: bytes, now: int) -> None:
    row = log.store.erasure_of(key_id)
    if row is not None:
        _complete(log, row, now)


def _complete(log: LogDirectory, row: ErasureRow, now: int) -> None:
    """Bring an erasure from ``pending`` to ``shredded``; again does no harm."""
    if row.state != "pending":
        return
    ErasedKeys(log.paths.erased).add([row.key_id])
    log.keys.bar([row.key_id])
    _overwrite(log, [row.slot])
    try:
        log.store.shred(row.id, now)
    except StorageError:
        # The answer may have been lost, and not the transaction.
        found = log.store.erasure_of(row.key_id)
        if found is None or found.state == "pending":
            raise


def _overwrite(log: LogDirectory, slots: Sequence[int]) -> None:
    occupied = log.keys.keyring.occupied(slots)
    if occupied:
        with log.keys.keyring.writing() as writer:
            writer.destroy(occupied)


# --- whatever was begun or restored ---------------------------------------------------


def is_due(log: LogDirectory) -> bool:
    """Return whether something is to be completed, or forgotten again.

    Raises:
        MalformedError: the list of erased keys was changed by somebody else.
        StorageError: it could not be found out.
    """
    rows, listed = log.store.erasures(), ErasedKeys(log.paths.erased).read()
    return bool(
        any(row.state == "pending" for row in rows)
        or {row.key_id for row in rows} - {*listed}
        or log.store.registered(listed)
        or log.keys.keyring.occupied([row.slot for row in rows])
    )


def catch_up(log: LogDirectory, now: int) -> int:
    """Do what `replay` does, if something is due; to be called after opening a log.

    Raises:
        ConfigurationError: it is due, and this is a copy of a log that still stands;
            or the keys cannot be used.
        MalformedError: the list of erased keys was changed by somebody else.
        StorageError: it could not be completed; to be tried again.
    """
    if not is_due(log):
        return 0
    log.claim()
    return replay(log, now)


def replay(log: LogDirectory, now: int) -> int:
    """Complete what was begun, and let what was restored forget again.

    To be called before anything is served or added. A database from a backup may know
    keys that ``keys/erased`` names, a keyring from a backup may hold keys whose
    erasure the database knows, and a list from a backup may lack some.

    Args:
        log: the opened log, not read-only, which `LogDirectory.claim` was called of.
        now: microseconds since the epoch.

    Returns:
        How many keys were forgotten.

    Raises:
        ConfigurationError: the keys cannot be used.
        MalformedError: the list of erased keys was changed by somebody else.
        StorageError: it could not be completed; to be tried again.
    """
    listed = ErasedKeys(log.paths.erased)
    again = log.store.registered(listed.read())
    for key_id in again:
        _begin(log, ErasureEntry(key_id, log.keys, log.origin, now), now)
    pending = log.store.erasures("pending")
    for row in pending:
        _complete(log, row, now)
    rows = log.store.erasures()
    slots = log.keys.keyring.occupied([row.slot for row in rows])
    _overwrite(log, slots)
    listed.add(row.key_id for row in rows)
    _log.warning(
        "auditlog: erasures: %d completed, %d keys of a restored keyring forgotten",
        len(pending),
        len(slots),
    )
    return len(pending) + len(slots)


def forget_listed(log: LogDirectory, data: bytes, now: int) -> int:
    """Apply a copy of ``keys/erased``, such as one kept apart from the backups.

    Args:
        log: the opened log, as for `replay`.
        data: what is in the copy.
        now: microseconds since the epoch.

    Returns:
        How many keys were forgotten.

    Raises:
        MalformedError: it is no such list.
        ConfigurationError: it names a key that no erasure can have been about.
        StorageError: it could not be completed; to be tried again.
    """
    listed = parse_erased(data)
    for key_id in listed:
        if log.keys.kind(key_id) not in {None, SUBJECT, RECORD}:
            raise ConfigurationError(
                f"expected keys that can be erased alone, got {key_id.hex()}, which "
                "seals content of others as well"
            )
    ErasedKeys(log.paths.erased).add(listed)
    log.keys.bar(listed)
    return replay(log, now) if is_due(log) else 0


def erasure_receipt(log: LogDirectory, id_: str, disclosure: Disclosure) -> bytes:
    """Return the receipt for the person: it proves the erasure, and that it was theirs.

    Args:
        log: the opened log.
        id_: of the entry about the erasure.
        disclosure: what shows whom it was about; the log does not know it.

    Raises:
        NotFoundError: there is no such entry.
        PendingError: it is under no checkpoint yet.
        VerificationError: it was about somebody else.
    """
    receipt = parse_receipt(Reader(log).receipt(id_, disclose=[RECORDS]))
    opened = replace(receipt, disclosures=(disclosure,))
    verify_opening(parse_entry(opened.entry), opened)
    return format_receipt(opened)
