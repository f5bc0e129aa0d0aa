"""What `check` says of erasures: that they account for all that is missing.

The entries say which keys were erased, and of how many entries each was the content.
So who empties a row of the vault and calls it erased is found out by counting.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from auditlog.core.record import Entry
from auditlog.log.check_files import Problem
from auditlog.log.content import Content
from auditlog.log.directory import LogDirectory
from auditlog.log.erasure_entry import ERASURE, named_key, records_in
from auditlog.storage import Query
from auditlog.storage.erased_keys import ErasedKeys
from auditlog.storage.sqlite_erasures import ErasureRow

__all__ = ["ErasureCheck"]


class ErasureCheck:
    """Gathers what entries and vault say; `finish` holds the rest against it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._states: defaultdict[bytes, set[str]] = defaultdict(set)
        self._said: dict[bytes, bytes] = {}
        """Key by id of the entry that says it was shredded."""
        self._records: dict[bytes, int] = {}
        """How many entries lost their content, by id of the entry that says so."""

    def note(self, entry: Entry) -> None:
        """Take an entry.

        Raises:
            MalformedError: it is about an erasure, and does not say of what.
        """
        if entry.type != ERASURE:
            return
        key_id, state = named_key(entry.data)
        self._states[key_id].add(state)
        if state == "shredded":
            self._said[entry.id] = key_id

    def note_content(self, entry: Entry, content: Content) -> None:
        """Take the content of an entry, which was held against its commitment.

        Raises:
            MalformedError: it is about an erasure, and does not say of how much.
        """
        if entry.type == ERASURE:
            self._records[entry.id] = records_in(content)

    def finish(
        self, log: LogDirectory, size: int, erased: int
    ) -> tuple[list[Problem], Counter[str]]:
        """Return the problems of all erasures, and what could not be checked.

        Args:
            log: the opened log.
            size: how many entries were noted.
            erased: how many rows of the vault were found without content.

        Raises:
            StorageError: what the store says of them cannot be read.
        """
        unchecked: Counter[str] = Counter()
        rows = log.store.erasures()
        problems = [*_in_keyring(log, rows), *_slots(log, unchecked)]
        newest = log.store.find(Query(type=ERASURE, limit=1))
        if newest and (newest[0].index or 0) >= size:
            unchecked["erasures: some were made while the log was checked"] += 1
            return problems, unchecked
        problems += [*self._count(erased, unchecked), *self._keys(log, rows)]
        for row in rows:
            where = f"erasure {row.id.hex()}"
            problems += [Problem(where, what) for what in self._row(row)]
        problems += self._list(log, rows, unchecked)
        return problems, unchecked

    def _count(self, erased: int, unchecked: Counter[str]) -> Iterator[Problem]:
        said = sum(self._records.values())
        unopened = len(self._said.keys() - self._records.keys())
        if unopened:
            unchecked["erasure that does not open, of how many entries"] += unopened
        if erased != said and not (unopened and erased > said):
            what = f"account for {said} entries without content, {erased} have none"
            yield Problem("erasures", what)

    def _row(self, row: ErasureRow) -> Iterator[str]:
        """Yield what is wrong with what the store says of an erasure."""
        said = self._said.get(row.id)
        if row.state == "pending":
            if said is not None:
                yield "is in the log, but said to be under way"
            elif not row.pending:
                yield "is under way, but its entry is missing"
            return
        if said is None:
            yield "no entry says so"
        elif said != row.key_id:
            yield "the entry says another key"
        expected = "final" if "final" in self._states[row.key_id] else "shredded"
        if row.state != expected:
            yield f"is {row.state[:20]!r}, the entries say {expected}"
        if row.pending:
            yield "is done, but an entry waits to be added"

    def _keys(self, log: LogDirectory, rows: Sequence[ErasureRow]) -> Iterator[Problem]:
        known = {row.key_id for row in rows}
        for id_, key_id in self._said.items():
            where = f"erasure {id_.hex()}"
            if log.store.slot_of(key_id) is not None:
                yield Problem(where, "its key is registered again")
            if key_id not in known:
                yield Problem(where, "the store does not know where its key was")

    def _list(
        self, log: LogDirectory, rows: Sequence[ErasureRow], unchecked: Counter[str]
    ) -> list[Problem]:
        listed = set(ErasedKeys(log.paths.erased).read())
        where = str(log.paths.erased.relative_to(log.paths.directory))
        done = {row.key_id for row in rows if row.state != "pending"}
        if unknown := listed - {row.key_id for row in rows} - self._states.keys():
            what = f"key named in {where} of which the log says nothing"
            unchecked[what] += len(unknown)
        if missing := len(done - listed):
            return [Problem(where, f"does not name {missing} keys that were erased")]
        return []


def _in_keyring(log: LogDirectory, rows: Sequence[ErasureRow]) -> Iterator[Problem]:
    done = {row.slot: row for row in rows if row.state != "pending"}
    for slot in log.keys.keyring.occupied([*done]):
        where = f"erasure {done[slot].id.hex()}"
        yield Problem(where, "its key is in the keyring again")


def _slots(log: LogDirectory, unchecked: Counter[str]) -> Iterator[Problem]:
    count, last, both = log.store.slots_taken()
    if both:
        yield Problem("keys", "and erasures have a slot of the keyring in common")
    # A backup of the keyring may have been restored without some.
    if missing := last + 1 - (count - both):
        what = "slot of the keyring of which neither a key nor an erasure tells"
        unchecked[what] += missing
