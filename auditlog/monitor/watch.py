"""One round of a monitor: look everywhere, compare, rebuild, remember, tell.

1. Ask all vantage points for their checkpoint, then the log: an honest log is then
   not behind what a vantage point shows.
2. Compare the log's checkpoint with the last one that verified. A fork is written and
   synced before anybody is told; the monitor stays with the history that it knows.
3. Rebuild the tree from the last place to the new checkpoint.
4. Compare what the vantage points showed, and what could not be compared earlier, with
   what is followed, with what the log shows, and views of one size with each other.
5. Say what the entries say about anchors and emitters.
6. Save, then tell.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations

from auditlog.core.checkpoint import SignedCheckpoint
from auditlog.core.errors import AuditLogError, ConfigurationError, UntrustedError
from auditlog.core.note import split_unverified_note
from auditlog.monitor.account import NO_LIMITS
from auditlog.monitor.alerts import Webhook, alert
from auditlog.monitor.compare import ContradictionError, Tiles, compare
from auditlog.monitor.evidence import Evidence
from auditlog.monitor.findings import CODES, Finding, severity
from auditlog.monitor.follow import Follower
from auditlog.monitor.kept_tiles import KeptTiles
from auditlog.monitor.round import Options, Round
from auditlog.monitor.source import Source
from auditlog.monitor.state import State, StateDirectory, open_pending
from auditlog.monitor.views import View, look, look_at_all, meets_quorum

__all__ = ["Monitor"]

_MAX_PENDING = 16
_PENDING_SECONDS = 60.0
"""After which no other one of them is begun in the same round."""
_MAX_OUTBOX = 256
_MAX_FINDINGS = 200


class Monitor:
    """Watches one log."""

    def __init__(
        self,
        directory: StateDirectory,
        log: Source,
        vantages: Sequence[Source],
        options: Options,
        webhook: Webhook | None = None,
    ) -> None:
        """Go on from what an entered directory holds.

        Raises:
            ConfigurationError: it is of another log, or cannot be used.
        """
        state = directory.load(options.policy) or State(options.origin)
        if state.origin != options.origin:
            raise ConfigurationError(
                f"{directory.path} follows {state.origin}, not {options.origin}: give "
                "each log a directory of its own"
            )
        self._log = log
        self._vantages = vantages
        self._options = options
        self._webhook = webhook
        self._directory = directory
        self._evidence = Evidence(directory, options.policy)
        self._kept = KeptTiles(directory.path)
        self._follower = Follower(
            directory, self._kept, log, state, options.start, options.max_time
        )
        self._found: list[Finding] = []
        self._status = 0

    def round(self, now: float) -> Round:
        """Look once; `now` in seconds since the epoch.

        Raises:
            StorageError: what was found cannot be kept.
        """
        self._found = []
        origin, policy = self._options.origin, self._options.policy
        shown = look_at_all(self._vantages, origin, policy)
        served = look(self._log, origin, policy)
        if served.signed and any(_is_ahead(view, served) for view in shown):
            # It may just have grown, or be served from a cache.
            served = look(self._log, origin, policy)
        self._follow(served)
        for view in shown:
            self._see(view, served)
        self._try_pending(served)
        if not self._log.terms.stopped():
            self._tell(now)
        return self._summary(now, served, shown)

    # What is shown

    def _follow(self, view: View) -> None:
        """Bring the followed tree to what the log shows, if it goes on from it."""
        signed, followed = view.signed, self._follower.state.followed
        if signed is None:
            self._cannot("log", view)
            return
        if followed is not None:
            if not self._agree(signed, followed.signed, [view.source]):
                return
            if signed.checkpoint.size < followed.signed.checkpoint.size:
                self._stale(view, followed.signed)
                return
        if not meets_quorum(signed, self._options.policy):
            quorum = self._options.policy.quorum
            text = f"its newest checkpoint does not meet the quorum {quorum[:100]!r}"
            self._find("untrusted", "quorum", text)
            self._remember(signed)
        elif followed and followed.signed.checkpoint.size == signed.checkpoint.size:
            self._follower.renew(signed)
        else:
            self._advance(signed)

    def _advance(self, signed: SignedCheckpoint) -> None:
        try:
            self._follower.advance(signed)
        except ContradictionError as error:
            self._suspect(signed, None, error)
            self._remember(signed)
        except AuditLogError as error:
            self._find("unchecked", "log", str(error))
            self._remember(signed)

    def _see(self, view: View, served: View) -> None:
        """Compare what a vantage point shows with what the log shows to us."""
        if view.signed is None:
            self._cannot(view.source.url, view)
            return
        followed = self._follower.state.followed
        self._remember(view.signed)
        known = [served.signed, followed.signed if followed else None]
        # Each of them, or a view that cannot be compared would shield the other.
        agree = [self._agree(view.signed, one, [view.source]) for one in known if one]
        if not all(agree):
            return
        if served.signed and _is_ahead(view, served):
            self._stale(served, view.signed)

    def _try_pending(self, served: View) -> None:
        """Compare what was shown and is not followed; drop what is settled.

        A log that answers slowly must not keep us from telling what was found: what
        there was no time for comes first in the next round.
        """
        policy = self._options.policy
        opened = (open_pending(one, policy) for one in self._follower.state.pending)
        waiting = deque(one for one in opened if one is not None)
        kept, end = [], time.monotonic() + _PENDING_SECONDS
        while waiting:
            one = waiting.popleft()
            if not self._try_one(one, served.signed):
                kept.append(one)
            if waiting and time.monotonic() >= end:
                text = (
                    f"{len(waiting)} signed views are to be compared in the next round"
                )
                self._find("unchecked", "pending", text)
                break
        left = (*waiting, *kept)
        for one, other in combinations(left, 2):
            # Both may go on from what is followed. This needs no tiles.
            if one.checkpoint.size == other.checkpoint.size:
                self._agree(one, other, [])
        pending = tuple(one.note for one in left)
        self._follower.state = replace(self._follower.state, pending=pending)

    def _try_one(
        self, signed: SignedCheckpoint, served: SignedCheckpoint | None
    ) -> bool:
        """Compare a checkpoint with what is followed, and with what is shown now.

        Of the latter the tiles are the likeliest to be there. Say if it is settled.
        """
        followed = self._follower.state.followed
        if followed is not None and self._settled(signed, followed.signed):
            return True
        known = followed and followed.signed.checkpoint
        if served is not None and served.checkpoint != known:
            self._agree(signed, served, [])
        return False

    def _settled(self, signed: SignedCheckpoint, known: SignedCheckpoint) -> bool:
        """Say whether a checkpoint is in the followed tree, or a fork that is kept.

        One that is larger than what is followed stays, even if it agrees: the log may
        yet go on from here to somewhere else.
        """
        before = len(self._found)
        if self._agree(signed, known, []):
            return signed.checkpoint.size <= known.checkpoint.size
        return len(self._found) == before

    def _agree(
        self, one: SignedCheckpoint, other: SignedCheckpoint, first: list[Source]
    ) -> bool:
        """Say whether one history has both; keep and tell what is the matter if not."""
        try:
            fork = compare(one, other, self._tiles(one, other, first))
        except ContradictionError as error:
            self._suspect(one, other, error)
            self._remember(one)
        except AuditLogError as error:
            self._cannot_compare(one, other, error)
            self._remember(one)
        else:
            if fork is not None:
                self._evidence.keep_fork(fork)
            return fork is None
        return False

    def _tiles(
        self, one: SignedCheckpoint, other: SignedCheckpoint, first: list[Source]
    ) -> list[Tiles]:
        """Return who may have the tiles of the larger of two trees."""
        sources = {one.url: one for one in [*first, self._log, *self._vantages]}
        larger = max(one.checkpoint, other.checkpoint, key=lambda tree: tree.size)
        followed = self._follower.state.followed
        ours = followed is not None and followed.signed.checkpoint == larger
        return [*([self._kept] if ours else []), *sources.values()]

    # What is said of it

    def _find(self, kind: str, subject: str, text: str) -> None:
        self._found.append(Finding(kind, subject, text))

    def _cannot(self, subject: str, view: View) -> None:
        kind = "untrusted" if isinstance(view.error, UntrustedError) else "unchecked"
        self._find(kind, subject, f"{view.source.url}: {view.error}")

    def _cannot_compare(
        self, one: SignedCheckpoint, other: SignedCheckpoint, error: AuditLogError
    ) -> None:
        sizes = sorted((one.checkpoint.size, other.checkpoint.size))
        subject = f"compare {one.checkpoint.size} {one.checkpoint.root.hex()}"
        text = f"the checkpoints of size {sizes[0]} and {sizes[1]} cannot be compared"
        self._find("unchecked", subject, f"{text}: {error}")

    def _stale(self, view: View, newer: SignedCheckpoint) -> None:
        assert view.signed is not None
        text = (
            f"{view.source.url} shows size {view.signed.checkpoint.size}; size "
            f"{newer.checkpoint.size} was seen elsewhere or before: an old view, which "
            "may be a cache or be meant for us, and proves nothing"
        )
        self._find("stale", view.source.url, text)

    def _suspect(
        self,
        one: SignedCheckpoint,
        other: SignedCheckpoint | None,
        error: ContradictionError,
    ) -> None:
        reason, received = str(error), error.received
        self._found.append(self._evidence.suspect(one, other, reason, received))

    def _remember(self, signed: SignedCheckpoint) -> None:
        """Keep a checkpoint that is not followed, or not yet, for later rounds.

        Of one tree the first note is kept; of too many trees, the first ones.
        """
        state = self._follower.state
        known = {text for text, _ in map(split_unverified_note, state.pending)}
        fresh = split_unverified_note(signed.note)[0] not in known
        if fresh and len(known) < _MAX_PENDING:
            pending = (*state.pending, signed.note)
            self._follower.state = replace(state, pending=pending)

    def _entries(self, now: float) -> Iterator[Finding]:
        limits, account = self._options.limits, self._follower.account
        if account is not None:
            # Of too many, the newest emitters count, and the log as a whole.
            yield from deque(account.findings(now, limits), _MAX_FINDINGS)
        elif limits != NO_LIMITS and self._follower.state.followed is not None:
            text = (
                "the log does not give its entries to us, so anchors and emitters "
                "cannot be watched: give a token"
            )
            yield Finding("unchecked", "entries", text)

    # What is told

    def _tell(self, now: float) -> None:
        """Save what was found, and then tell what was not told before."""
        found = [*self._found, *self._evidence.forks(), *self._entries(now)]
        self._found = list({one.key: one for one in found}.values())
        state = self._follower.state
        new = [one for one in self._found if one.key not in state.told]
        alerts = [alert(state.origin, one, now) for one in new]
        outbox = (*state.outbox, *alerts) if self._webhook else ()
        # Of too many, those that prove something are kept.
        kept = sorted(outbox, key=lambda one: one["exit"] != CODES["fork"])
        self._status = severity(self._found, state.told)
        told = frozenset(one.key for one in self._found)
        state = replace(state, told=told, outbox=tuple(kept[:_MAX_OUTBOX]))
        self._save(state)
        if self._webhook and state.outbox:
            count = self._webhook.tell(state.outbox)
            self._save(replace(state, outbox=state.outbox[count:]))

    def _save(self, state: State) -> None:
        self._directory.save(state)
        self._follower.state = state

    def _summary(self, now: float, served: View, shown: Sequence[View]) -> Round:
        state, account = self._follower.state, self._follower.account
        followed = state.followed
        silent = None if account is None else account.silent(now)
        return Round(
            origin=state.origin,
            time=now,
            status=self._status,
            findings=tuple(self._found),
            size=followed.place.size if followed else 0,
            root=followed.signed.checkpoint.root if followed else None,
            start=followed.place.start if followed else 0,
            served=_size(served),
            entries=account is not None,
            foreign=0 if account is None else account.foreign,
            anchors={} if account is None else account.anchors(),
            anchor_lag=None if account is None else account.lag(now),
            silence=None if silent is None else max(silent.values(), default=0.0),
            vantages=tuple((view.source.url, _size(view)) for view in shown),
            untold=len(state.outbox),
        )


def _size(view: View) -> int | None:
    return None if view.signed is None else view.signed.checkpoint.size


def _is_ahead(view: View, of: View) -> bool:
    sizes = _size(view), _size(of)
    return None not in sizes and sizes[0] > sizes[1]  # type: ignore[operator]
