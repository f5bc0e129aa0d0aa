"""One anchor at work: submit the newest checkpoint, follow what is pending.

An anchor that keeps histories is told the same checkpoint, once the rest is done: a
time must not wait for a history.

Each step is durable before the next. Whoever dies between two of them has lost nothing
but an answer, and asks again; what is stored as pending is never submitted again.
"""

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from auditlog.anchors.attestation import Anchor, Attestation
from auditlog.anchors.batch import aggregate, anchored_digest, format_path, parse_path
from auditlog.core.errors import RollbackError, StorageError
from auditlog.log.anchor_answer import (
    Failure,
    answer_of,
    attestation_of,
    checked,
    evidence_bytes,
)
from auditlog.log.anchor_entry import Word
from auditlog.log.anchor_history import HistoryWork, histories
from auditlog.log.anchor_ledger import Ledger, Target
from auditlog.log.anchor_pace import Backoff, Pace
from auditlog.metrics import SILENT, Observer
from auditlog.storage import AttestationRow

__all__ = ["AnchorWork", "Outcome", "When"]

_log = logging.getLogger("auditlog")

When = Literal["scheduled", "stop", "now", "look"]
"""``scheduled`` keeps to interval and backoff, ``stop`` does not wait for the interval,
``now`` for neither, ``look`` neither, and submits nothing."""

_HURRIED = ("now", "look")
_TEMPORARY = ("unreachable", "fault")
_LOOKS = 16
"""Pending attestations that are looked at in one turn, so that none takes for ever."""
_TURN_SECONDS = 60.0
"""After which no other is looked at: a round lasts as long as its slowest anchor."""
_STEPS = 4
"""Times that one attestation is brought forward in one turn."""
_SALT_BYTES = 16
_MICROSECONDS = 1_000_000


class Outcome(NamedTuple):
    """What became of one attempt, in one log."""

    anchor: str
    origin: str
    size: int
    state: str
    """``pending``, ``final`` or ``failed``."""
    reason: str | None = None
    """Of a failure, see `auditlog.log.anchor_entry.REASONS`."""


class AnchorWork:
    """Asks one anchor for one log, or for several at once under one digest.

    Used by one thread at a time, which holds the locks of all these logs.
    """

    def __init__(
        self,
        anchor: Anchor,
        ledgers: Sequence[Ledger],
        pace: Pace,
        clock: Callable[[], float],
        observer: Observer = SILENT,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            anchor: whom to ask.
            ledgers: of the logs; the first one's pace counts.
            pace: when to ask.
            clock: seconds since the epoch.
            observer: is told of each attempt.
            random: gives so many random bytes.
        """
        self.anchor = anchor
        self._ledgers = tuple(ledgers)
        self._histories = histories(anchor, *ledgers)
        self._pace = pace
        self._clock = clock
        self._observer = observer
        self._random = random
        self._unsaid: list[Callable[[], None]] = []
        """Entries about failures that are not known to be in the log."""
        self._kept = 0
        """When we changed something last, as the store has it."""
        self._fresh = True

    def due(self) -> bool:
        """Return whether a turn would have something to do.

        Raises:
            StorageError: a store cannot be read.
        """
        now = self._clock()
        self._notice_others()
        if self._fresh or self._unsaid:
            return True
        if self._pace.may_submit(now) and self._targets():
            return True
        if self._pending_due("scheduled", now):
            return True
        return bool(self._histories_due("scheduled", now))

    def turn(self, when: When) -> list[Outcome]:
        """Do what is due.

        Raises:
            RollbackError: the anchor knows another past of a log, and proves it.
            StorageError: a store does not do what it must; another turn goes on where
                this one stopped.
        """
        try:
            return self._turn(when)
        except StorageError:
            self._fresh = True  # to `complete` needs no anchor, and cannot wait
            # What a store misses may be the past that it had once.
            self._check_histories()
            raise

    def _turn(self, when: When) -> list[Outcome]:
        for ledger in self._ledgers:
            ledger.complete(self.anchor.name)
        for history in self._histories:
            history.complete()
        self._say_unsaid()
        self._fresh = False
        now = self._clock()
        outcomes: list[Outcome] = []
        if self._may_submit(when, now):
            outcomes = self._submit()
        if any(one.state == "failed" for one in outcomes):
            return outcomes
        outcomes = self._merged(outcomes, self._look(when))
        if any(one.reason in _TEMPORARY for one in outcomes):
            return outcomes
        return self._merged(outcomes, self._keep_histories(when))

    def _may_submit(self, when: When, now: float) -> bool:
        match when:
            case "now" | "look":
                return when == "now"
            case "stop":
                return self._pace.asking.wait.over(now)
            case "scheduled":
                return self._pace.may_submit(now)

    @staticmethod
    def _merged(first: list[Outcome], later: list[Outcome]) -> list[Outcome]:
        """Return what became of each checkpoint last."""
        known = {(one.origin, one.size): one for one in [*first, *later]}
        return list(known.values())

    def _notice_others(self) -> None:
        """Forget failures where another process was given something since."""
        newest = self._ledgers[0].newest_change(self.anchor.name)
        if newest is None or newest.updated <= self._kept:
            return
        for backoff in (self._pace.asking, self._pace.looking):
            if newest.updated > backoff.wait.since * _MICROSECONDS:
                backoff.succeeded()

    # --- submitting -------------------------------------------------------------------

    def _targets(self) -> list[tuple[Ledger, Target]]:
        found = [(one, one.target(self.anchor.name)) for one in self._ledgers]
        return [(ledger, target) for ledger, target in found if target is not None]

    def _submit(self) -> list[Outcome]:
        targets = self._targets()
        if not targets:
            return []
        now, attempt = self._clock(), self._pace.asking.failures + 1
        digest, paths = self._together([target.digest for _, target in targets])
        pending = self._pending()
        got = answer_of(
            lambda: checked(
                self.anchor.submit(digest, pending, now=now), self.anchor.kind
            )
        )
        if isinstance(got, Failure):
            return self._failed(targets, got, attempt, self._pace.asking)
        # Until it is stored it is worth nothing: a full disk must not ask in a hurry.
        self._pace.asking.failed(now)
        for (ledger, target), path in zip(targets, paths, strict=True):
            row = self._row(target.size, got, path, submitted=0)
            self._kept = ledger.keep(row, attempt).updated
        self._pace.submitted(now)
        return self._succeeded(targets, got.state)

    def _pending(self) -> list[Attestation]:
        """Return what this anchor has not made final yet, oldest first.

        What it is being told of histories, too: an account numbers both in one row.
        """
        name, kind = self.anchor.name, self.anchor.kind
        rows = [row for ledger in self._ledgers for row in ledger.pending(name, kind)]
        rows += [row for history in self._histories for row in history.pending()]
        rows.sort(key=lambda row: (row.submitted, row.size))
        found = [answer_of(partial(attestation_of, row)) for row in rows]
        # One that somebody damaged is no reason to ask for nothing any more.
        return [one[0] for one in found if not isinstance(one, Failure)]

    def _together(self, digests: Sequence[bytes]) -> tuple[bytes, list[Any]]:
        """Return what is anchored for all digests, and the path of each as evidence."""
        if len(digests) == 1:
            return digests[0], [None]
        salts = [self._random(_SALT_BYTES) for _ in digests]
        digest, paths = aggregate(digests, salts)
        return digest, [format_path(path) for path in paths]

    def _row(
        self, size: int, got: Attestation, path: Any, submitted: int
    ) -> AttestationRow:
        return AttestationRow(
            size=size,
            anchor=self.anchor.name,
            kind=got.kind,
            state=got.state,
            evidence=evidence_bytes(got, path),
            submitted=submitted,
            updated=int(self._clock() * _MICROSECONDS),
        )

    # --- following --------------------------------------------------------------------

    def _pending_due(
        self, when: When, now: float
    ) -> list[tuple[int, Ledger, AttestationRow]]:
        """Return what is to be looked at, longest not looked at first."""
        name, kind, hurried = self.anchor.name, self.anchor.kind, when in _HURRIED
        found = [
            (number, ledger, row)
            for number, ledger in enumerate(self._ledgers)
            for row in ledger.pending(name, kind)
            if hurried or self._pace.may_look((number, row.size), now)
        ]
        found.sort(key=lambda one: self._pace.last_looked((one[0], one[2].size)))
        return found if hurried else found[:_LOOKS]

    def _look(self, when: When) -> list[Outcome]:
        outcomes, began = [], self._clock()
        for number, ledger, row in self._pending_due(when, began):
            outcome = self._look_at(number, ledger, row)
            outcomes.append(outcome)
            if outcome.reason in _TEMPORARY:
                break  # The next one would find the same, and make one more entry.
            if when not in _HURRIED and self._clock() - began >= _TURN_SECONDS:
                break
        return outcomes

    def _look_at(self, number: int, ledger: Ledger, row: AttestationRow) -> Outcome:
        """Bring one attestation forward, as long as there is something new to store.

        What an anchor signs in place of something else it sends when it gets it back.
        """
        for _ in range(_STEPS):
            got = self._step(number, ledger, row)
            if isinstance(got, Outcome):
                return got
            before, row = row, got
            if row == before or row.state == "final":
                break
        return Outcome(self.anchor.name, ledger.origin, row.size, row.state)

    def _step(
        self, number: int, ledger: Ledger, row: AttestationRow
    ) -> AttestationRow | Outcome:
        """Ask once; return what is stored then, or the failure."""
        what, now = (number, row.size), self._clock()
        attempt = self._pace.looking.failures + 1
        digest = ledger.digest(row.size)
        got = answer_of(lambda: self._upgraded(digest, row, now))
        if isinstance(got, Failure):
            lasting = got.reason not in _TEMPORARY
            self._pace.looked(what, now, changed=False, lasting=lasting)
            targets = [(ledger, Target(row.size, digest))]
            return self._failed(targets, got, attempt, self._pace.looking)[0]
        changed = (got.state, got.evidence) != (row.state, row.evidence)
        if changed:
            self._pace.looking.failed(now)  # as in `_submit`
            got = ledger.keep(got, attempt)
            self._kept = got.updated
        self._pace.looking.succeeded()
        self._pace.looked(what, now, changed=changed)
        if not changed:
            return row
        self._observer.attested(self.anchor.name, got.state)
        if got.state == "final":
            self._pace.settled(what)
        return got

    def _upgraded(
        self, digest: bytes, row: AttestationRow, now: float
    ) -> AttestationRow:
        before, path = attestation_of(row)
        if path is not None:
            digest = anchored_digest(digest, parse_path(path))
        got = checked(self.anchor.upgrade(digest, before, now=now), row.kind)
        return self._row(row.size, got, path, row.submitted)

    # --- keeping histories ------------------------------------------------------------

    def _histories_due(self, when: When, now: float) -> list[tuple[int, HistoryWork]]:
        return [
            (number, history)
            for number, history in enumerate(self._histories)
            if (when in _HURRIED or self._pace.may_keep(_history(number), now))
            and history.behind()
        ]

    def _keep_histories(self, when: When) -> list[Outcome]:
        """Have each log's history kept; return what failed, the rest is no news."""
        outcomes: list[Outcome] = []
        for number, history in self._histories_due(when, self._clock()):
            outcomes += self._keep_history(number, history)
            if outcomes:
                break
        return outcomes

    def _keep_history(self, number: int, history: HistoryWork) -> list[Outcome]:
        now, pace = self._clock(), self._pace
        got = answer_of(lambda: history.keep(now, self._pending))
        if isinstance(got, Failure):
            newest = history.ledger.newest_target()
            targets = [] if newest is None else [(history.ledger, newest)]
            try:
                return self._failed(
                    targets, got, pace.keeping.failures + 1, pace.keeping
                )
            finally:
                # Whether it can be said or not.
                if isinstance(got.error, RollbackError):
                    raise got.error
        pace.keeping.succeeded()
        if got:
            pace.settled(_history(number))
        else:
            pace.looked(_history(number), now, changed=False)
        return []

    def _check_histories(self) -> None:
        now = self._clock()
        for number, history in enumerate(self._histories):
            if self._pace.may_keep(_history(number), now):
                self._pace.looked(_history(number), now, changed=False)
                got = answer_of(history.check)
                if isinstance(got, Failure) and isinstance(got.error, RollbackError):
                    raise got.error

    # --- attempts ---------------------------------------------------------------------

    def _succeeded(
        self, targets: Sequence[tuple[Ledger, Target]], state: str
    ) -> list[Outcome]:
        self._observer.attested(self.anchor.name, state)
        return [
            Outcome(self.anchor.name, ledger.origin, target.size, state)
            for ledger, target in targets
        ]

    def _failed(
        self,
        targets: Sequence[tuple[Ledger, Target]],
        failure: Failure,
        attempt: int,
        backoff: Backoff,
    ) -> list[Outcome]:
        """Take in a failure, and say it in each log."""
        name, now = self.anchor.name, self._clock()
        backoff.failed(now)
        self._observer.attested(name, "failed")
        if backoff.news(failure.text):
            _log.warning(
                "auditlog: anchor %s failed (%s): %s",
                *(name, failure.reason, failure.text),
            )
        for ledger, target in targets:
            word = Word(
                name,
                self.anchor.kind,
                target.size,
                target.digest,
                attempt,
                "failed",
                reason=failure.reason,
            )
            self._unsaid.append(partial(ledger.say, ledger.failure(word, now)))
        self._say_unsaid()
        return [
            Outcome(name, ledger.origin, target.size, "failed", failure.reason)
            for ledger, target in targets
        ]

    def _say_unsaid(self) -> None:
        while self._unsaid:
            self._unsaid[0]()
            del self._unsaid[0]


def _history(number: int) -> tuple[int, int]:
    """Return by what the pace knows the history of a log: no row has the size 0."""
    return number, 0
