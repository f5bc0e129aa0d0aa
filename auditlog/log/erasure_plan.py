"""What erasing somebody would do: how much is held, who was given what, what stays."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    NotFoundError,
)
from auditlog.core.merkle import leaf_hash
from auditlog.core.record import DECISION, Entry, parse_entry, parse_id
from auditlog.log.access import ACCESS
from auditlog.log.amendment import AMENDMENT
from auditlog.log.batch_part import place_in_batch
from auditlog.log.content import Content, open_sealed
from auditlog.log.directory import LogDirectory
from auditlog.storage import ERASED, IndexRow
from auditlog.storage.keys import RECORD, SUBJECT

__all__ = ["Given", "Plan", "plan_decision_erasure", "plan_erasure"]


class Given(NamedTuple):
    """What was handed to somebody: it cannot be called back, but they can be told."""

    time: int
    """Microseconds since the epoch."""
    recipient: str
    purpose: str | None
    what: str
    """``disclosure`` or ``export``."""
    decision: str | None
    """Id of the decision; None where all about a person was handed out."""


class Plan(NamedTuple):
    """What is held under one key, and what erasing it does and does not reach."""

    key_id: bytes
    subject: tuple[str, str] | None
    """Kind and identifier; None for a decision that is erased alone."""
    decisions: int
    amendments: int
    accesses: int
    """Entries about who has read what."""
    routes: tuple[str, ...]
    first: int | None
    """Time of the oldest decision, microseconds since the epoch; None without any."""
    last: int | None
    given: tuple[Given, ...]
    """Everything handed to others, oldest first (GDPR Article 19)."""
    elsewhere: int
    """Decisions whose request and answer are stored with another decision of their
    batch, under the key of whoever that one is about."""
    unread: int
    """Entries whose content did not open, so that nothing is known of it."""
    backup_expiry: int | None
    """When the last backup of the keyring expires, microseconds since the epoch."""

    def __repr__(self) -> str:
        """Name nobody."""
        return f"Plan({self.decisions} decisions)"

    @property
    def records(self) -> int:
        """How many entries lose their content."""
        return self.decisions + self.amendments + self.accesses


def plan_erasure(log: LogDirectory, kind: str, identifier: str, now: int) -> Plan:
    """Return what erasing a subject would do; nothing is changed.

    Args:
        log: the opened log.
        kind: what the identifier identifies, such as ``person``.
        identifier: of the subject.
        now: microseconds since the epoch.

    Raises:
        NotFoundError: nothing is held about it.
        ConfigurationError: the keys cannot be used.
        StorageError: it could not be looked up.
    """
    key_id = log.keys.subject(kind, identifier)
    if key_id is None:
        raise NotFoundError("nothing is held about this subject")
    return _plan(log, key_id, (kind, identifier), now)


def plan_decision_erasure(log: LogDirectory, decision: str, now: int) -> Plan:
    """Return what erasing the content of one decision would do, likewise.

    Args:
        log: the opened log.
        decision: text of its id.
        now: microseconds since the epoch.

    Raises:
        MalformedError: it is no id.
        NotFoundError: there is no such decision, or nothing of it is stored.
        ConfigurationError: its content is sealed together with that of others.
        StorageError: it could not be looked up.
    """
    row = log.store.by_id(parse_id(decision))
    if row is None or row.index is None:
        raise NotFoundError(f"no decision {decision} is in the log")
    stored = log.store.sealed(row.index)
    if stored is None or stored[0] == ERASED:
        raise NotFoundError(f"no content is stored for {decision}, or it was erased")
    kind = log.keys.kind(stored[0])
    if kind == SUBJECT:
        raise ConfigurationError(
            f"the content of {decision} is sealed under the key of whom it is about, "
            "with all else about them: erase the subject"
        )
    if kind != RECORD:
        raise ConfigurationError(
            f"the content of {decision} is sealed with that of others of its day, so "
            "it cannot be erased alone: see AUDITLOG_ROUTE_SUBJECTS"
        )
    return _plan(log, stored[0], None, now)


def _plan(
    log: LogDirectory, key_id: bytes, subject: tuple[str, str] | None, now: int
) -> Plan:
    keys = [key_id, *log.store.said_apart(key_id)]
    sealed = [(under, row) for under in keys for row in log.store.rows_under(under)]
    types = Counter(row.type for _, row in sealed)
    decided = [row for _, row in sealed if row.type == DECISION]
    times = [row.time for row in decided]
    # One at a time, for all that is held about somebody may not fit into memory.
    found = [_found(_opened(log, *one)) for one in sealed]
    return Plan(
        key_id,
        subject,
        decisions=types[DECISION],
        amendments=types[AMENDMENT],
        accesses=types.total() - types[DECISION] - types[AMENDMENT],
        routes=tuple(sorted({row.route for row in decided if row.route})),
        first=min(times, default=None),
        last=max(times, default=None),
        given=tuple(one for one in found if isinstance(one, Given)),
        elsewhere=found.count("elsewhere"),
        unread=found.count("unread"),
        backup_expiry=log.store.backup_expiry(now),
    )


_Opened = tuple[Entry, Content] | None


def _opened(log: LogDirectory, key_id: bytes, row: IndexRow) -> _Opened:
    """Return an entry and its content; None where that does not open."""
    index = row.index or 0
    try:
        encoded = log.store.read(index, index + 1)[0]
        entry, stored = parse_entry(encoded), log.store.sealed(index)
        if stored is None:
            return None
        key, leaf = log.keys.key(key_id), leaf_hash(encoded)
        content, _ = open_sealed(entry, leaf, key, (key_id, stored[1]))
    except AuditLogError:
        # Erasing it must be possible all the same.
        return None
    return entry, content


def _found(opened: _Opened) -> Given | Literal["elsewhere", "unread"] | None:
    """Return what is to be told of an entry, other than that it is there."""
    if opened is None:
        return "unread"
    entry, content = opened
    if entry.type == ACCESS:
        return _given(entry, content)
    place = place_in_batch(content.context) if entry.type == DECISION else None
    return None if place is None or place.holder is None else "elsewhere"


def _given(entry: Entry, content: Content) -> Given | None:
    said = _json(content, "recipient")
    if not said:
        return None
    purpose, decision = said.get("purpose"), entry.data.get("decision")
    return Given(
        entry.time,
        str(said.get("name")),
        None if purpose is None else str(purpose),
        str(entry.data.get("what")),
        None if decision is None else str(decision),
    )


def _json(content: Content, name: str) -> Mapping[str, Any]:
    """Return an object under `context/`; nothing where there is none."""
    try:
        value = json.loads(content.context.get(name, b"{}"))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
