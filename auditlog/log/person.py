"""What is held on one person, and the trace that a look for it leaves.

A person is found by kind and identifier through a key of the keyring that nothing else
leads to (`auditlog.storage.keys`). What that key seals is what is held: decisions, and
what was said, seen and searched of them later. Data about somebody that was recorded
without a word of whom it is about is not found by any of this.

Whoever looks leaves an entry of access that names no decision and is sealed under the
person's own key: it goes with everything else when that person is forgotten.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from auditlog.core.errors import NotFoundError
from auditlog.core.record import DECISION
from auditlog.log.access import Access, Channel, Recipient, record_person_access
from auditlog.log.directory import LogDirectory
from auditlog.storage import IndexRow, Query
from auditlog.storage.acceptance import accepted_under

__all__ = [
    "NOTHING_HELD",
    "Held",
    "Person",
    "about",
    "check_lives",
    "find_person",
    "held_on",
    "rows_at",
    "search_person",
]

NOTHING_HELD = "nothing is held on this subject"
"""All that is said where nothing is: never whom it was about."""
_PAGE = 256
"""Rows of the index read at once."""


class Person(NamedTuple):
    """Somebody about whom there is content."""

    kind: str
    identifier: str
    key_id: bytes
    """Of the key that seals all of it."""

    def __repr__(self) -> str:
        """Name the kind, never the person."""
        return f"Person({self.kind})"


@dataclass(frozen=True, slots=True)
class Held:
    """What one person's key seals, as of one moment."""

    indices: tuple[int, ...]
    """Of entries in the log, ascending."""
    on_their_way: tuple[IndexRow, ...] = field(repr=False)
    """Decisions that were accepted, but have no place in the log yet."""


def find_person(log: LogDirectory, kind: str, identifier: str) -> Person:
    """Return a person by identifier.

    Raises:
        NotFoundError: nothing is held; the message does not say on whom.
        StorageError: it could not be looked up.
    """
    key_id = log.keys.subject(kind, identifier)
    if key_id is None:
        raise NotFoundError(NOTHING_HELD)
    return Person(kind, identifier, key_id)


def held_on(log: LogDirectory, person: Person) -> Held:
    """Return where what is held on a person stands.

    Raises:
        NotFoundError: it was erased meanwhile.
        StorageError: it could not be looked up.
    """
    # In this order: what leaves the files meanwhile is in the store by then.
    coming = accepted_under(log.paths.journals, person.key_id)
    indices = tuple(log.store.sealed_under(person.key_id))
    check_lives(log, person)
    rows = [one.row for one in coming if one.row.type == DECISION]
    missing = tuple(row for row in rows if log.store.by_id(row.id) is None)
    return Held(indices, missing)


def check_lives(log: LogDirectory, person: Person) -> None:
    """Make sure that a person was not erased meanwhile.

    Raises:
        NotFoundError: there is no such key any more.
    """
    if log.keys.kind(person.key_id) is None:
        raise NotFoundError(NOTHING_HELD)


def search_person(
    log: LogDirectory,
    kind: str,
    identifier: str,
    query: Query,
    *,
    recipient: Recipient,
    by: Mapping[str, str],
    channel: Channel,
    now: float,
) -> list[IndexRow]:
    """Return decisions about a person, newest first; the search is an entry itself.

    Args:
        log: the opened log, not read-only.
        kind: what the identifier identifies, such as ``person``.
        identifier: of the person; it stands nowhere but in what is sealed.
        query: what else they have to match.
        recipient: who gets it, and what for.
        by: who asks, as `auditlog.log.access.Access.by`.
        channel: through what.
        now: seconds since the epoch.

    Raises:
        NotFoundError: nothing is held on them; the message does not say on whom.
        StorageError: it could not be looked up or recorded; nothing may be handed out.
    """
    person = find_person(log, kind, identifier)
    access = Access("search", channel, by, recipient=recipient)
    record_person_access(log, person.key_id, access, now=now)
    return log.store.find(query._replace(sealed_under=person.key_id))


def rows_at(log: LogDirectory, indices: tuple[int, ...]) -> Iterator[IndexRow]:
    """Yield index rows by position; few are in memory at a time."""
    for index in indices:
        yield from log.store.index_rows(index, index + 1)


def about(log: LogDirectory, decision: IndexRow, type_: str) -> list[IndexRow]:
    """Return later entries of one type about a decision, oldest first."""
    found: list[IndexRow] = []
    query = Query(type=type_, about=decision.id, limit=_PAGE)
    while page := log.store.find(query):
        found += page
        query = query._replace(before=page[-1].index)
    return found[::-1]
