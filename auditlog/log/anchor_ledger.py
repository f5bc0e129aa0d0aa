"""What a log keeps of its anchors: stored attestations, and entries that tell of them.

An attestation is durable before anything else is done with it; then comes its entry.
Whoever dies between the two leaves at most one entry for each anchor to be written,
which `Ledger.complete` does before the next attempt.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from auditlog.anchors.attestation import anchor_digest
from auditlog.core.checkpoint import Checkpoint, parse_checkpoint
from auditlog.core.errors import ConflictError, MalformedError, StorageError
from auditlog.core.merkle import EMPTY_ROOT
from auditlog.core.note import split_unverified_note
from auditlog.core.record import Entry, parse_entry
from auditlog.log.anchor_entry import ANCHOR, Word, parse_word, row_id
from auditlog.log.identity import new_id
from auditlog.log.preparation import plain_item
from auditlog.log.proofs import consistency_proof
from auditlog.storage import (
    AttestationRow,
    Attestations,
    Index,
    Objects,
    Publication,
    Scan,
    Spool,
)

__all__ = [
    "EMITTER",
    "Ledger",
    "LedgerStore",
    "Target",
    "failures_of",
    "recent_words",
]

EMITTER = "auditlog.emitter.v1"
_CHUNK = 1024
_RECENT = 10_000
"""Entries that are searched for earlier attempts when a process starts."""
_BEAT = b'"state":"beat"'
_MICROSECONDS = 1_000_000


class LedgerStore(Spool, Publication, Attestations, Index, Objects, Scan, Protocol):
    """The ports that a ledger needs."""


class Target(NamedTuple):
    """A checkpoint that is to be attested."""

    size: int
    digest: bytes


class Ledger:
    """One log's side of anchoring; every method may be called from any thread."""

    def __init__(
        self,
        store: LedgerStore,
        origin: str,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """Take over a store.

        Args:
            store: of the log.
            origin: the log's name.
            wake: called when an entry was appended, which is to be sequenced.
        """
        self.origin = origin
        self._store = store
        self._wake = wake
        self._quiet: dict[int, int] = {}
        """By size: up to where nothing but words on anchoring and beats came after."""

    def target(self, anchor: str) -> Target | None:
        """Return the newest checkpoint if this anchor has something to attest there.

        A checkpoint that it has attested, or is about to, is none; nor is one that
        only has anchor entries and beats more: an idle log would otherwise be anchored
        for ever, each entry about it being the reason for the next.

        Raises:
            StorageError: the store cannot be read.
        """
        newest, covered = self.newest_target(), self.covered(anchor)
        if newest is None or newest.size <= covered:
            return None
        return newest if self._has_news(covered, newest.size) else None

    def newest_target(self) -> Target | None:
        """Return the newest checkpoint, attested or not, if there is one."""
        newest = self._store.newest()
        return None if newest is None else Target(newest[0], anchor_digest(newest[1]))

    def covered(self, anchor: str) -> int:
        """Return the largest size that this anchor was asked for and did not fail."""
        rows = [
            self._store.last_attestation(anchor, state=state)
            for state in ("pending", "final")
        ]
        return max((row.size for row in rows if row is not None), default=0)

    def _has_news(self, start: int, end: int) -> bool:
        at = max(start, self._quiet.get(start, 0))
        while at < end:
            until = min(at + _CHUNK, end)
            if self._chunk_has_news(at, until):
                return True
            at = until
        self._quiet = {**self._quiet, start: end} if len(self._quiet) < _CHUNK else {}
        return False

    def _chunk_has_news(self, start: int, end: int) -> bool:
        rows = self._store.index_rows(start, end)
        types = {row.type for row in rows}
        if types - {ANCHOR, EMITTER}:
            return True
        if EMITTER not in types:
            return False
        entries = self._store.read(start, end)
        return any(
            row.type == EMITTER and _BEAT not in entries[(row.index or 0) - start]
            for row in rows
        )

    def digest(self, size: int) -> bytes:
        """Return what the checkpoint of exactly `size` anchors.

        Raises:
            StorageError: there is none.
        """
        return anchor_digest(self._note(size))

    def _note(self, size: int) -> bytes:
        found = self._store.covering(size)
        if found is None or found[0] != size:
            raise StorageError(f"the checkpoint of size {size} is missing")
        return found[1]

    def newest(self) -> Checkpoint:
        """Return the newest checkpoint; that of the empty tree if there is none.

        Raises:
            StorageError: the store cannot be read.
        """
        newest = self._store.newest()
        if newest is None:
            return Checkpoint(self.origin, 0, EMPTY_ROOT)
        return _checkpoint(newest[1])

    def checkpoint(self, size: int) -> Checkpoint:
        """Return the checkpoint of exactly `size`.

        Raises:
            StorageError: there is none.
        """
        return _checkpoint(self._note(size))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Prove that the tree of `new` begins with that of `old`."""
        return consistency_proof(self._store, old, new)

    def pending(self, anchor: str, kind: str) -> list[AttestationRow]:
        """Return the stored attestations that are not final, oldest first."""
        rows = self._store.attestations_by(anchor, state="pending")
        return [row for row in rows if row.kind == kind]

    def stored(self, anchor: str, size: int) -> AttestationRow | None:
        """Return what is stored of an anchor for the checkpoint of `size`, if any."""
        rows = self._store.attestations(size)
        return next((row for row in rows if row.anchor == anchor), None)

    def newest_change(self, anchor: str) -> AttestationRow | None:
        """Return the stored attestation of an anchor that changed last, if any."""
        return self._store.newest_change(anchor)

    def complete(self, anchor: str) -> None:
        """Write the entry that a crash, or a lost answer, may have kept from the log.

        Raises:
            StorageError: try again.
        """
        row = self._store.newest_change(anchor)
        if row is not None and self._store.by_id(row_id(row)) is None:
            self._tell(row, failures_of(self._store, anchor)[0] + 1)

    def keep(self, row: AttestationRow, attempt: int) -> AttestationRow:
        """Store an attestation durably, and then the entry that tells of it.

        Args:
            row: `updated` is moved on where an earlier change of this anchor has the
                same time or a later one, so that the newest change stays the newest;
                `submitted` is set to it where it is 0, in the first row of its size.
            attempt: see `Word.attempt`.

        Returns:
            The row as it is stored.

        Raises:
            StorageError: it is unknown how far it came: `complete` before going on.
        """
        before = self._store.newest_change(row.anchor)
        if before is not None and before.updated >= row.updated:
            row = row._replace(updated=before.updated + 1)
        row = row._replace(submitted=row.submitted or row.updated)
        self._store.put_attestation(row)
        self._tell(row, attempt)
        return row

    def _tell(self, row: AttestationRow, attempt: int) -> None:
        word = Word.of_row(row, self.digest(row.size), attempt)
        self.say(word.entry(row_id(row), self.origin, row.updated))

    def failure(self, word: Word, now: float) -> Entry:
        """Return the entry about an attempt that failed, to be said."""
        time = int(now * _MICROSECONDS)
        return word.entry(new_id(time), self.origin, time)

    def say(self, entry: Entry) -> None:
        """Append an entry once, however often an answer gets lost.

        Raises:
            StorageError: it is unknown whether it is there: say it again.
        """
        item = plain_item(entry)
        try:
            self._store.append([item])
        except ConflictError:
            row = self._store.by_id(entry.id)
            if row is None or row.index is None:
                raise
            if self._store.read(row.index, row.index + 1) != [item.entry]:
                raise
        self._wake()


def _checkpoint(note: bytes) -> Checkpoint:
    """Return what a stored checkpoint says, which the sequencer verified."""
    return parse_checkpoint(split_unverified_note(note)[0])


def failures_of(store: LedgerStore, anchor: str) -> tuple[int, float]:
    """Return how many of its newest attempts in a row failed, and when the last one.

    Only the newest entries are searched: whoever forgets an old failure asks earlier.

    Returns:
        A number, and seconds since the epoch.

    Raises:
        StorageError: the store cannot be read.
    """
    failures, last = 0, 0
    for word, time in recent_words(store, anchor):
        if word.state != "failed":
            break
        failures, last = failures + 1, max(last, time)
    return failures, last / _MICROSECONDS


def recent_words(
    store: LedgerStore, anchor: str, limit: int = _RECENT
) -> Iterator[tuple[Word, int]]:
    """Yield what the newest entries say of an anchor, newest first, with their time.

    Args:
        store: of the log.
        anchor: the operator's name for it.
        limit: how many entries of all types are searched.

    Raises:
        StorageError: the store cannot be read.
    """
    end = store.size()
    first = max(0, end - limit)
    while end > first:
        start = max(first, end - _CHUNK)
        rows = store.index_rows(start, end)
        for row in reversed([one for one in rows if one.type == ANCHOR]):
            assert row.index is not None
            (entry,) = store.read(row.index, row.index + 1)
            try:
                word = parse_word(parse_entry(entry).data)
            except MalformedError:
                continue  # `check` says so
            if word.anchor == anchor:
                yield word, row.time
        end = start
