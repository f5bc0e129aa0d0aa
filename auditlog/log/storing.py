"""From what was submitted to what is durable, and then in the store, once.

Single-threaded: it runs on the recorder's thread. Where there is an acceptance file,
items are durable before they are in the store, and the store is filled behind.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from auditlog.capture.exchange import Exchange
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    ConflictError,
    StorageError,
)
from auditlog.core.record import DECISION, Entry
from auditlog.log.emitter import Emitter, gap_entry
from auditlog.log.late_erasure import without_content
from auditlog.log.model_entry import MODEL
from auditlog.log.placing import described
from auditlog.log.preparation import Preparation, plain_item
from auditlog.metrics import SILENT, Observer
from auditlog.storage import Index, KeyErasedError, Spool, SpoolItem
from auditlog.storage.acceptance import Acceptance

__all__ = ["Dropped", "Ready", "Storing", "Submission", "is_stored"]

_log = logging.getLogger("auditlog")


class Submission(Protocol):
    """An exchange that waits, and whom to tell once."""

    @property
    def exchange(self) -> Exchange:
        """What waits."""

    def tell(self, error: AuditLogError | None) -> None:
        """Say that it is durable, or why it is not; the first word counts."""


class Dropped(NamedTuple):
    """Numbers for which there will be no decision."""

    first: int
    last: int
    reason: str


class Ready(NamedTuple):
    """An item, and what it accounts for."""

    item: SpoolItem
    sequences: range
    """Numbers that are accounted for once the item is in the store."""
    submission: Submission | None = None
    """Whom to tell about a decision; None where nobody is to be told any more."""
    reason: str | None = None
    """Of a gap."""


class _Store(Spool, Index, Protocol):
    """Where decisions are ordered, and can be looked up again."""


def is_stored(store: _Store, item: SpoolItem) -> bool:
    """Return whether an item is in the store: its append may have lost its answer."""
    row = store.by_id(item.row.id)
    if row is None or row.index is None:
        return False
    if item.row.type == MODEL:
        # The id says it all: another process was first to tell of this model.
        return True
    return store.read(row.index, row.index + 1) == [item.entry]


class Storing:
    """Prepares, accepts and stores, in the order in which it is given things."""

    def __init__(
        self,
        store: _Store,
        preparation: Preparation,
        emitter: Emitter,
        origin: str,
        clock: Callable[[], float],
        acceptance: Acceptance | None,
        observer: Observer = SILENT,
        erase_said: Callable[[Sequence[bytes]], None] | None = None,
    ) -> None:
        """Take over the emitter's side of a log.

        Args:
            store: where decisions are ordered.
            preparation: turns exchanges into items.
            emitter: whose numbers the exchanges carry.
            origin: the log's name.
            clock: seconds since the epoch.
            acceptance: makes items durable ahead of the store; None where the store
                does that itself.
            observer: is told what came into the store, and what could not.
            erase_said: erases what was said of decisions, whose ids it is given,
                before their content was erased on its way; None where nobody says
                anything of decisions.
        """
        self.observer = observer
        self._store = store
        self._preparation = preparation
        self._emitter = emitter
        self._origin = origin
        self._clock = clock
        self._acceptance = acceptance
        self._erase_said = erase_said
        self._behind: list[Ready] = []
        """Durable, but not in the store yet."""

    @property
    def behind(self) -> int:
        """How many items are durable and not in the store yet."""
        return len(self._behind)

    def begin(self, batch: Sequence[Submission | Dropped | Entry]) -> None:
        """Get ready to prepare a batch.

        Raises:
            StorageError: the keys cannot be reached now.
        """
        told = [one for one in batch if not isinstance(one, Dropped | Entry)]
        try:
            self._preparation.begin([one.exchange for one in told])
        except ConfigurationError as error:
            raise StorageError(str(error)) from None

    def prepare(self, one: Submission | Dropped | Entry) -> Ready:
        """Return the item of one thing that waits; a gap where there can be none.

        Raises:
            StorageError: the keys cannot be reached now.
        """
        if isinstance(one, Entry):
            return Ready(plain_item(one), range(0))
        if isinstance(one, Dropped):
            return self._gap(one)
        number = one.exchange.sequence
        try:
            item = self._preparation.prepare(one.exchange)
        except StorageError:
            raise
        except ConfigurationError as error:
            # The keys are not where they were: as bad as the disk, and as curable.
            raise StorageError(str(error)) from None
        except Exception as error:  # noqa: BLE001 - whatever it is
            # A fault of ours must not lose the number: admit it by name.
            place = described(error)
            _log.error("auditlog: a decision could not be described: %s", place)
            self.observer.error("describe")
            kind = type(error).__name__
            one.tell(StorageError(f"the decision could not be described: {kind}"))
            return self._gap(Dropped(number, number, "unrecordable"))
        return Ready(item, range(number, number + 1), one)

    def with_models(self, ready: Sequence[Ready]) -> Sequence[Ready]:
        """Return what was prepared, and before it the models that it is first to name.

        So no decision names what is not in the log.

        Raises:
            StorageError: store or keys cannot be reached now.
        """
        if not self._preparation.unwritten:
            return ready
        kinds = [one.item.row.type for one in ready]
        first = kinds.index(DECISION) if DECISION in kinds else 0
        return [*ready[:first], *self._models(), *ready[first:]]

    def _models(self) -> list[Ready]:
        unwritten = self._preparation.unwritten
        for id_ in [id_ for id_ in unwritten if self._store.by_id(id_) is not None]:
            del unwritten[id_]
        now = int(self._clock() * 1_000_000)
        models = list(unwritten.values())
        items = [self._preparation.prepare_model(model, now) for model in models]
        return [Ready(item, range(0)) for item in items]

    def _announced(self, ready: Sequence[Ready]) -> None:
        unwritten = self._preparation.unwritten
        if unwritten:
            for one in ready:
                unwritten.pop(one.item.row.id, None)

    def accept(self, ready: Sequence[Ready]) -> bool:
        """Make items durable ahead of the store, if that can be; return whether.

        They are then in the store with the next `store`.
        """
        if self._acceptance is None:
            return False
        try:
            accepted = self._acceptance.append([one.item for one in ready])
        except StorageError as error:
            _log.warning("auditlog: decisions go to the store directly: %s", error)
            return False
        if accepted:
            self._announced(ready)
            # Without the exchanges, whose bodies may be a thousand times as large.
            self._behind += [one._replace(submission=None) for one in ready]
        return accepted

    def store(self, ready: Sequence[Ready] = ()) -> None:
        """Bring into the store what is behind, and then `ready`, durably.

        Raises:
            StorageError: nothing is there yet, or it is unknown; try again.
        """
        everything = [*self._behind, *ready]
        self._append(everything)
        self._announced(everything)
        for one in everything:
            self._emitter.settle(one.sequences)
        if self._acceptance is not None:
            self._acceptance.clear()
        self._behind.clear()
        self._preparation.keys.settled()
        if self.observer.watches:
            self._observe(everything)

    def _observe(self, stored: Sequence[Ready]) -> None:
        """Count by what stands in the entries: no more than that may be a label."""
        rows = [one.item.row for one in stored if one.item.row.type == DECISION]
        self.observer.decisions((row.route, row.model, row.outcome) for row in rows)
        for one in stored:
            if one.reason is not None:
                self.observer.gap(one.reason, len(one.sequences))
        self.observer.in_flight(self._emitter.open_count)

    def _append(self, ready: Sequence[Ready]) -> None:
        """Bring into the store what of this is not there.

        Raises:
            StorageError: nothing is there yet, or it is unknown.
        """
        try:
            self._store.append([one.item for one in ready])
        except KeyErasedError as error:
            # Before what could be taken for a conflict: prepared again, an item that is
            # stored already would look like another one of its id.
            missing = [one for one in ready if not is_stored(self._store, one.item)]
            self._append_sealed_again(missing, error.key_ids)
        except ConflictError:
            # An earlier append, whose answer was lost, has stored all of them; or a
            # number of ours is in the log with other bytes, which stops no other.
            for one in ready:
                if not is_stored(self._store, one.item):
                    self._append_alone(one)

    def _append_sealed_again(
        self, missing: Sequence[Ready], erased: Sequence[bytes]
    ) -> None:
        """Append what is not in the store, its erased keys replaced by new ones.

        Raises:
            StorageError: the keys cannot be reached now, or as for `_append`.
        """
        again = self._accepted_again(missing, erased)
        # Remembered before the keys are forgotten: nothing else has what they sealed.
        at = {one.item.row.id: one for one in again}
        self._behind = [at.get(one.item.row.id, one) for one in self._behind]
        self._behind += again[len(missing) :]
        self._preparation.forget(erased)
        prepared = [
            one if one.submission is None else self.prepare(one.submission)
            for one in again
        ]
        if prepared:
            self._append(prepared)

    def _accepted_again(
        self, missing: Sequence[Ready], erased: Sequence[bytes]
    ) -> list[Ready]:
        """Return items, those whose exchange is gone sealed under keys that live.

        What nothing opens any more is stored as erased, with an entry at the end that
        says so.
        """
        again = [
            self._sealed_again(one)
            if one.submission is None and one.item.key_id in erased
            else one
            for one in missing
        ]
        gone = [one for one in again if one.submission is None]
        lost = [one.item.row.id for one in gone if one.item.key_id in erased]
        if lost and self._erase_said is not None:
            self._erase_said(lost)
        told = without_content(
            [one.item for one in gone],
            erased,
            self._preparation.keys,
            self._origin,
            int(self._clock() * 1_000_000),
        )
        items = iter(told)
        again = [
            one._replace(item=next(items)) if one.submission is None else one
            for one in again
        ]
        return again + [Ready(item, range(0)) for item in items]

    def _sealed_again(self, one: Ready) -> Ready:
        """Return an item under a key that lives, or as it is if nothing opens it."""
        try:
            item = self._preparation.seal_again(one.item)
        except ConfigurationError as error:
            raise StorageError(str(error)) from None
        return one if item is None else one._replace(item=item)

    def _append_alone(self, one: Ready) -> None:
        try:
            self._store.append([one.item])
        except KeyErasedError as error:
            self._append_sealed_again([one], error.key_ids)
        except ConflictError as error:
            number = one.item.row.sequence
            if number is None:
                # Such as a second word on what followed a decision: the first counts.
                _log.error("auditlog: an entry cannot be recorded: %s", error)
                return
            _log.error("auditlog: number %d cannot be recorded: %s", number, error)
            if one.submission is not None:
                one.submission.tell(error)
            gap = self._gap(Dropped(number, number, "unrecordable"))
            self._store.append([gap.item])

    def _gap(self, dropped: Dropped) -> Ready:
        now = int(self._clock() * 1_000_000)
        entry = gap_entry(self._emitter.id, *dropped, self._origin, now, now)
        numbers = range(dropped.first, dropped.last + 1)
        return Ready(plain_item(entry), numbers, reason=dropped.reason)
