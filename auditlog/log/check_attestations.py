"""What `check` says of attestations: the log's own entries tell what must be stored.

Each column of a row follows from the entries about it, so a row that was changed, moved
or removed shows. What the evidence proves is another matter, which needs the trust file
of a verifier.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

from auditlog.anchors.attestation import anchor_digest
from auditlog.core.errors import MalformedError, StorageError
from auditlog.core.record import Entry, canonical_json, parse_json
from auditlog.log.anchor_answer import MAX_EVIDENCE
from auditlog.log.anchor_entry import ANCHOR, Word, parse_word, row_id
from auditlog.log.anchor_ledger import LedgerStore
from auditlog.log.check_files import Problem
from auditlog.storage import AttestationRow

__all__ = ["AttestationCheck"]


class _Row(NamedTuple):
    """What there is to compare of a row; evidence may be long."""

    size: int
    anchor: str
    kind: str
    state: str
    evidence: bytes
    """Its SHA-256."""
    submitted: int
    updated: int
    id: bytes
    """Of the entry that tells of it."""


class _Told(NamedTuple):
    """An entry about an anchor."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    id: bytes
    time: int
    word: Word


class AttestationCheck:
    """Takes in the entries of a log in their order; then compares what is stored."""

    def __init__(self, store: LedgerStore) -> None:
        """Take in what is stored, before the entries that tell of it are read.

        Args:
            store: of the log; a running service may go on writing to it.
        """
        self._store = store
        self._problems: list[Problem] = []
        self._told: defaultdict[tuple[int, str], list[_Told]] = defaultdict(list)
        self._last: dict[str, int] = {}
        """By anchor: time of the newest entry that is no failure."""
        self.rows = list(self._stored())
        """What was stored in the beginning."""
        self._newest: dict[str, _Row] = {}
        """By anchor: the row that changed last."""
        for row in sorted(self.rows, key=lambda one: one.updated):
            self._newest[row.anchor] = row

    def _stored(self) -> Iterator[_Row]:
        try:
            sizes = self._store.attested_sizes()
        except StorageError as error:
            self._problems.append(Problem("attestations", str(error)))
            return
        for size in sizes:
            try:
                rows = self._store.attestations(size)
            except StorageError as error:
                self._problems.append(Problem(f"attestation {size}", str(error)))
                continue
            yield from map(self._taken, rows)

    def _taken(self, row: AttestationRow) -> _Row:
        if not _is_canonical(row.evidence):
            what = "expected evidence as a canonical JSON object"
            self._problems.append(Problem(_where(row.size, row.anchor), what))
        try:
            id_ = row_id(row)
        except (MalformedError, OverflowError):
            id_ = b""  # a time that no entry has
        return _Row(*row[:4], sha256(row.evidence).digest(), *row[5:], id_)

    def note(self, index: int, entry: Entry) -> None:
        """Take in the entry at `index`.

        Raises:
            MalformedError: it is about an anchor, and does not say what it must.
        """
        if entry.type != ANCHOR:
            return
        word = parse_word(entry.data)
        if word.size > index:
            raise MalformedError(f"tells of a checkpoint of {word.size} entries")
        told = _Told(index, entry.id, entry.time, word)
        self._told[word.size, word.anchor].append(told)
        if word.state != "failed":
            newest = self._last.get(word.anchor, 0)
            self._last[word.anchor] = max(newest, entry.time)

    def finish(self) -> tuple[Sequence[Problem], Counter[str]]:
        """Return what does not hold, and what could not be checked here."""
        unchecked: Counter[str] = Counter()
        for row in self.rows:
            found = list(self._row_problems(row, unchecked))
            where = _where(row.size, row.anchor)
            self._problems += [Problem(where, what) for what in found]
            if row.state == "final" and not found:
                unchecked[
                    f"evidence of kind {row.kind}: what it proves is for `auditlog "
                    "verify` to say, by a trust file"
                ] += 1
        for (size, anchor), told in self._told.items():
            for where, what in self._told_problems(size, anchor, told):
                self._problems.append(Problem(where, what))
        return self._problems, unchecked

    def _row_problems(self, row: _Row, unchecked: Counter[str]) -> Iterator[str]:
        if self._note(row.size) is None:
            yield "belongs to no checkpoint"
        told = self._told.get((row.size, row.anchor), [])
        kept = [one for one in told if one.word.state != "failed"]
        same = next((one for one in kept if one.id == row.id), None)
        if same is None:
            if self._may_come(row, kept):
                unchecked["attestation of which no entry tells yet"] += 1
            else:
                yield "is not as the entries about it say"
            return
        if not _tells_of(same, row):
            yield f"is not as entry {same.index} says"
        if kept[0].time != row.submitted:
            yield f"was submitted at another time than entry {kept[0].index} says"

    def _may_come(self, row: _Row, kept: Sequence[_Told]) -> bool:
        """Return whether a crash, or a running service, may explain a missing entry.

        Of each anchor that is true of the newest change only, and a final one does not
        change any more.
        """
        newest = self._newest[row.anchor]
        final = any(one.word.state == "final" for one in kept)
        last = self._last.get(row.anchor, 0)
        return row is newest and row.updated > last and not final

    def _told_problems(
        self, size: int, anchor: str, told: Sequence[_Told]
    ) -> Iterator[tuple[str, str]]:
        note, where = self._note(size), _where(size, anchor)
        if note is None:
            yield where, f"entry {told[0].index} tells of a checkpoint that is missing"
            return
        digest = anchor_digest(note)
        for one in told:
            if one.word.digest != digest:
                what = f"tells of another checkpoint of size {size}"
                yield f"entry {one.index}", what
        kept = [one for one in told if one.word.state != "failed"]
        if kept:
            for what in self._kept_problems(size, anchor, kept):
                yield where, what

    def _kept_problems(
        self, size: int, anchor: str, kept: Sequence[_Told]
    ) -> Iterator[str]:
        """Compare with what is stored now: it may have moved on since we began."""
        try:
            rows = self._store.attestations(size)
        except StorageError:
            return  # it has been said
        row = next((one for one in rows if one.anchor == anchor), None)
        last = kept[-1]
        if row is None:
            yield f"is missing, of which entry {last.index} tells"
            return
        stored = sha256(row.evidence).digest(), row.state
        *earlier, newest = [(one.word.evidence, one.word.state) for one in kept]
        if stored != newest and stored in earlier:
            yield f"is older than entry {last.index} says"
        for one in kept:
            said = one.word.evidence, one.word.state
            if one.word.state == "final" and stored != said:
                yield f"is not what entry {one.index} says was final"

    def _note(self, size: int) -> bytes | None:
        try:
            found = self._store.covering(size)
        except StorageError:
            return None
        return None if found is None or found[0] != size else found[1]


def _is_canonical(evidence: bytes) -> bool:
    try:
        value = parse_json(evidence, limit=MAX_EVIDENCE)
        return type(value) is dict and canonical_json(value) == evidence
    except MalformedError:
        return False


def _where(size: int, anchor: str) -> str:
    return f"attestation {size} {anchor[:64]}"


def _tells_of(told: _Told, row: _Row) -> bool:
    word = told.word
    said = (word.kind, word.state, word.evidence, told.time)
    return said == (row.kind, row.state, row.evidence, row.updated)
