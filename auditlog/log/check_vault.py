"""What `check` says of sealed content: is it there, under its key, and what was logged.

Which key is right depends on what is known:

- of a day: of any entry of that day;
- of one entry alone: of that one, where it is a decision or an amendment;
- of a subject, or of one decision alone: of a decision whose tag that key gives, and of
  later entries about that decision. Where the content still says whom it is about, the
  key must be theirs.

A decision that was accepted while its subject was being erased was sealed again, under
the subject's next key, which does not give its tag. Whether that was so cannot be told
from a mistake once the first key is gone; so where an erasure is younger than such a
decision it counts as unchecked.
"""

from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from auditlog.core.errors import AuditLogError, NotFoundError
from auditlog.core.merkle import leaf_hash
from auditlog.core.record import DECISION, Entry, format_id, parse_id, parse_json
from auditlog.log.access import ACCESS
from auditlog.log.amendment import AMENDMENT
from auditlog.log.content import Content, open_sealed
from auditlog.log.directory import LogDirectory
from auditlog.log.erasure_entry import ERASURE
from auditlog.log.model_entry import MODEL
from auditlog.log.preparation import epoch_of
from auditlog.log.said import subject_of
from auditlog.storage import ERASED
from auditlog.storage.keys import EPOCH, RECORD, SUBJECT, subject_tag

__all__ = ["VaultCheck"]

_WITH_CONTENT = frozenset({ACCESS, AMENDMENT, DECISION, ERASURE, MODEL})
_LATER = frozenset({ACCESS, AMENDMENT})
"""Types of entries that may be about somebody because their decision is."""
_ALONE = frozenset({AMENDMENT, DECISION})
"""Types of entries that may have a key of their own."""
_MAX_HELD = 4096
_BEGINNING = 60_000_000
"""Microseconds that may pass from the time of an erasure until its key seals no more:
it waits for other writers."""
_TAG = "sealed under a key that does not give the tag of its entry"


class _Row(NamedTuple):
    """A vault row, and the entry beside which it was stored."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    encoded: bytes
    entry: Entry
    key_id: bytes
    sealed: bytes


class VaultCheck:
    """Holds vault rows against entries and keys, in the order of the log."""

    def __init__(
        self, log: LogDirectory, opened: Callable[[Entry, Content], None]
    ) -> None:
        """Take the opened log, and who is to be given content that holds."""
        self._log = log
        self._opened = opened
        self._store = log.store
        self.erased = 0
        """Entries whose content was erased."""
        self.unchecked: Counter[str] = Counter()
        """What could not be checked, and why."""
        self._uses: dict[bytes, tuple[str, str] | None] = {}
        self._keys: dict[bytes, bytes] = {}
        self._untagged: list[tuple[int, int]] = []
        """Index and time of decisions whose key does not give their tag."""
        self._newest_erasure = -1

    def check(
        self,
        index: int,
        encoded: bytes,
        entry: Entry,
        stored: tuple[bytes, bytes] | None,
    ) -> Iterator[str]:
        """Yield what is wrong with the content of one entry.

        Args:
            index: of the entry.
            encoded: its canonical bytes.
            entry: the same, parsed.
            stored: its vault row; None if it has none.

        Raises:
            StorageError: what the store knows of keys cannot be read.
        """
        if entry.type == ERASURE:
            self._newest_erasure = max(self._newest_erasure, entry.time)
        if entry.type not in _WITH_CONTENT:
            if stored is not None:
                yield "belongs to no decision"
        elif "commitment" not in entry.data:
            if stored is not None:
                yield "the entry has no commitment"
        elif stored is None:
            yield "the stored content is missing"
        else:
            yield from self._check_row(_Row(index, encoded, entry, *stored))

    def finish(self) -> Iterator[tuple[int, str]]:
        """Yield index and problem of decisions whose keys do not give their tags."""
        for index, time in self._untagged:
            if time < self._newest_erasure + _BEGINNING:
                what = "tag of a decision older than an erasure: it was sealed again"
                self.unchecked[what] += 1
            else:
                yield index, _TAG

    def _check_row(self, row: _Row) -> Iterator[str]:
        if row.key_id == ERASED:
            self.erased += 1
            if row.sealed:
                yield "is marked as erased, but holds content"
            elif row.entry.type == ERASURE:
                yield "is marked as erased, which an erasure is not"
            return
        if self._use(row.key_id) is None and self._store.is_lost(row.key_id):
            self.unchecked["content lost: its key was declared lost"] += 1
            return
        wrong = list(self._key_problems(row))
        if wrong and self._has_changed(row):
            return
        yield from wrong
        yield from self._open(row)

    def _has_changed(self, row: _Row) -> bool:
        """Whether content was erased, or begins to be, since its row was read."""
        now = self._store.sealed(row.index)
        if now is not None and now[0] == ERASED:
            self.erased += 1
            return True
        if now is not None and self._store.is_erased(row.key_id):
            self.unchecked["content that is just being erased"] += 1
            return True
        return False

    def _key_problems(self, row: _Row) -> Iterator[str]:
        """Yield why a row may not be sealed under its key, by what that is for."""
        kind, label = self._use(row.key_id) or ("", "")
        entry = row.entry
        if kind == SUBJECT and entry.type in {DECISION, ACCESS}:
            named = entry.type == DECISION or "decision" not in entry.data
        elif kind == RECORD and entry.type in _ALONE:
            named = label == format_id(entry.id)
        else:
            named = kind == EPOCH and label == epoch_of(entry.time)
        if not (named or self._is_key_of_decision(row, kind)):
            got = f"{kind} {label}" if kind == EPOCH else kind and f"a key of {kind}"
            expected = f"the key of {EPOCH} {epoch_of(entry.time)}"
            if entry.type in _LATER:
                expected += ", or of the decision that it is about"
            got = got or "a key that is not registered"
            yield f"sealed under {got}, expected {expected}"

    def _is_key_of_decision(self, row: _Row, kind: str) -> bool:
        """Whether a later entry is sealed under the key of the decision it is about."""
        if row.entry.type not in _LATER or kind not in {SUBJECT, RECORD}:
            return False
        decision = row.entry.data.get("decision")
        found = None if decision is None else self._store.by_id(parse_id(decision))
        if found is None or found.index is None:
            return False
        stored = self._store.sealed(found.index)
        return stored is not None and stored[0] == row.key_id

    def _open(self, row: _Row) -> Iterator[str]:
        try:
            key = self._key(row.key_id)
        except AuditLogError as error:
            if isinstance(error, NotFoundError) and self._has_changed(row):
                return
            self.unchecked[f"content not opened: {error}"] += 1
            return
        try:
            stored, leaf = (row.key_id, row.sealed), leaf_hash(row.encoded)
            content, _ = open_sealed(row.entry, leaf, key, stored)
            self._opened(row.entry, content)
        except AuditLogError as error:
            yield str(error)
            return
        if row.entry.type == DECISION:
            yield from self._check_subject(row, key, content)

    def _check_subject(self, row: _Row, key: bytes, content: Content) -> Iterator[str]:
        """Hold the key of a decision against its tag, and whom its content names."""
        kind, _ = self._use(row.key_id) or ("", "")
        if kind not in {SUBJECT, RECORD}:
            return
        tag = urlsafe_b64encode(subject_tag(key, row.entry.id)).decode()
        if tag != row.entry.subject:
            self._untagged.append((row.index, row.entry.time))
        said = content.context.get("subject")
        if kind != SUBJECT or said is None or not self._is_another(row, said):
            return
        if not self._has_changed(row):
            yield "sealed under the key of another subject than its content names"

    def _is_another(self, row: _Row, said: bytes) -> bool:
        try:
            named = parse_json(said, limit=len(said))
            subject = subject_of(named["id"], named["kind"])
        except (AuditLogError, KeyError, TypeError):
            return True
        try:
            return self._log.keys.subject(*subject) != row.key_id
        except AuditLogError as error:
            self.unchecked[f"subject not looked up: {error}"] += 1
            return False

    def _use(self, key_id: bytes) -> tuple[str, str] | None:
        # Looked up after the row was read: the store knows a key before anything is
        # sealed under it. Few at a time: a log may have a million.
        if key_id not in self._uses:
            if len(self._uses) >= _MAX_HELD:
                self._uses.clear()
            self._uses[key_id] = self._store.use_of(key_id)
        return self._uses[key_id]

    def _key(self, key_id: bytes) -> bytes:
        key = self._keys.get(key_id)
        if key is None:
            if len(self._keys) >= _MAX_HELD:
                self._keys.clear()
            key = self._keys[key_id] = self._log.keys.key(key_id)
        return key
