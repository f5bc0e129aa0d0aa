"""What processes that died without a stop left: brought into the log by the next start.

What they had accepted is stored, what they had opened is interrupted, and what no
journal can know is a gap (`FORMATS.md` §8). Of what they had accepted under a key that
was erased since, the entry is stored, and that its content is gone.
"""

import base64
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import islice

from auditlog.core.errors import AuditLogError, ConflictError, StorageError
from auditlog.core.record import DECISION, parse_entry
from auditlog.log.directory import LogDirectory
from auditlog.log.emitter import GAP, recovery_entries
from auditlog.log.erasing import erase_said_of
from auditlog.log.late_erasure import without_content
from auditlog.log.preparation import index_row, plain_item
from auditlog.log.ranges import Ranges
from auditlog.metrics import SILENT, Observer
from auditlog.storage import KeyErasedError, Query, SpoolItem
from auditlog.storage.acceptance import accepted_items, remove_accepted
from auditlog.storage.journal import AbandonedJournal, abandoned

__all__ = ["recover"]

_log = logging.getLogger("auditlog")

_RECOVERY_BATCH = 1024
"""Entries in one append: as many of the largest size as the store takes."""
_MAX_GAPS = 4096


def recover(log: LogDirectory, now: int, observer: Observer = SILENT) -> int:
    """Admit in the log what processes that died without a stop left open.

    The lock on each journal makes this happen once, whoever starts first; if we die
    half-way, the numbers already admitted are in the log and are skipped next time.

    Args:
        log: the opened log.
        now: microseconds since the epoch.
        observer: is told how many decisions were interrupted.

    Returns:
        How many dead emitters were closed.
    """
    with ExitStack() as locks:
        # All of them, or a failure would leave the others locked for ever.
        journals = [
            locks.enter_context(journal) for journal in abandoned(log.paths.journals)
        ]
        # Named again, a number would look as if it had been lost twice.
        admitted = _admitted(log) if journals else {}
        for journal in journals:
            interrupted = _recover_one(log, journal, admitted, now)
            observer.recovered(interrupted)
            _log.warning(
                "auditlog: a process ended without a stop; %d decisions interrupted",
                interrupted,
            )
    return len(journals)


def _recover_one(
    log: LogDirectory,
    journal: AbandonedJournal,
    admitted: Mapping[str, Ranges],
    now: int,
) -> int:
    """Admit what one journal names; return how many decisions were interrupted."""
    accepted = accepted_items(log.paths.journals, journal.emitter)
    for item in accepted:
        _check_accepted(log, journal.emitter, item)
    _store_missing(log, accepted, now)
    name = base64.b64encode(journal.emitter).decode()
    just_now = _named_in(item.entry for item in accepted)
    logged = log.store.sequences(journal.emitter)
    for named in (admitted, just_now):
        if name in named:
            logged += named[name].from_on(journal.base)
    entries = recovery_entries(journal, logged, log.origin, now)
    stored = _store_missing(log, map(plain_item, entries), now)
    remove_accepted(log.paths.journals, journal.emitter)
    journal.remove()
    return stored


def _check_accepted(log: LogDirectory, emitter: bytes, item: SpoolItem) -> None:
    """Refuse what no process of ours would have accepted.

    Raises:
        StorageError: naming the file, and what to do.
    """
    try:
        entry, name = parse_entry(item.entry), base64.b64encode(emitter).decode()
        ours = (
            entry.source == log.origin
            and entry.data.get("emitter", name) == name
            and index_row(entry) == item.row
            and (item.key_id is None) == (item.sealed is None)
        )
    except (AuditLogError, KeyError, TypeError, ValueError):
        ours = False
    if not ours:
        raise StorageError(
            f"{log.paths.journals}/{emitter.hex()}.accepted holds an item that no "
            "process of this log accepted: restore the file, or move it away to admit "
            "what it holds as interrupted"
        )


def _admitted(log: LogDirectory) -> Mapping[str, Ranges]:
    """Return by emitter the numbers that the newest gaps of the log name as lost."""
    rows = log.store.find(Query(type=GAP, limit=_MAX_GAPS))
    indices = [row.index for row in rows if row.index is not None]
    return _named_in([entry for at in indices for entry in log.store.read(at, at + 1)])


def _named_in(entries: Iterable[bytes]) -> defaultdict[str, Ranges]:
    named: defaultdict[str, Ranges] = defaultdict(Ranges)
    for data in (parse_entry(entry).data for entry in entries):
        # What somebody else wrote is for the log's check to say.
        with suppress(KeyError, TypeError):
            if data["to"] is not None:
                named[data["emitter"]].add(data["from"], data["to"])
    return named


def _store_missing(log: LogDirectory, items: Iterable[SpoolItem], now: int) -> int:
    """Append what is not in the log, in order; return how many decisions that were.

    A batch at a time: after a long outage of the store there may be very many.
    """
    decisions, left = 0, iter(items)
    while batch := list(islice(left, _RECOVERY_BATCH)):
        missing = _missing(log, batch)
        try:
            _append(log, missing, now)
        except ConflictError:
            # Whoever left them may have ended its last append just now.
            missing = _missing(log, batch)
            _append(log, missing, now)
        decisions += sum(1 for item in missing if item.row.type == DECISION)
    return decisions


def _missing(log: LogDirectory, items: Sequence[SpoolItem]) -> list[SpoolItem]:
    return [item for item in items if log.store.by_id(item.row.id) is None]


def _append(log: LogDirectory, items: Sequence[SpoolItem], now: int) -> None:
    if not items:
        return
    try:
        log.store.append(items)
    except KeyErasedError as error:
        gone = [item.row.id for item in items if item.key_id in error.key_ids]
        erase_said_of(log, gone, now)
        left = without_content(items, error.key_ids, log.keys, log.origin, now)
        log.store.append(left)
