"""Goes along with a log: from one verified checkpoint to the next, never back."""

import time
from dataclasses import dataclass, replace

from auditlog.core.checkpoint import SignedCheckpoint
from auditlog.core.errors import AuditLogError, NotFoundError
from auditlog.core.tiles import TILE_WIDTH, Tile
from auditlog.log.growth import Edge
from auditlog.monitor.account import Account
from auditlog.monitor.compare import ContradictionError
from auditlog.monitor.kept_tiles import KeptTiles
from auditlog.monitor.rebuild import Job, first_place, rebuild
from auditlog.monitor.source import Source
from auditlog.monitor.state import Followed, Place, State, StateDirectory

__all__ = ["Follower"]


@dataclass(slots=True)
class Follower:
    """The state of a monitor, and how it grows."""

    directory: StateDirectory
    tiles: KeptTiles
    source: Source
    state: State
    start: int = 0
    """Where a log that was never followed is begun."""
    max_time: float = 3600.0
    """Seconds of rebuilding in one round."""
    account: Account | None = None
    """What the entries up to the followed size said; None if they are not read."""

    def __post_init__(self) -> None:
        if self.state.followed is not None:
            self.account = _account_of(self.state.followed.place)
            self._show_kept(self.state.followed.place)

    def advance(self, signed: SignedCheckpoint) -> None:
        """Rebuild the tree up to a checkpoint that goes on from the followed one.

        It is saved when it is done, and now and then before.

        Raises:
            ContradictionError: what is served is not the tree that was signed.
            AuditLogError: something is not served, or time is up.
        """
        deadline = time.monotonic() + self.max_time
        job = Job(self.source, signed.checkpoint, deadline)
        place = self._place(job)
        account = self._reading(place, signed)

        def reached(size: int, edge: Edge) -> None:
            here = _at(place, size, edge, account)
            self._save(replace(self.state, progress=here))

        take = None if account is None else account.take_all
        job = replace(job, entries=take, keep=self.tiles.keep, reached=reached)
        try:
            edge = rebuild(place.size, place.edge, job)
        except ContradictionError:
            # What was rebuilt without a root above it may be what is wrong.
            self._save(replace(self.state, progress=None))
            raise
        end = _at(place, signed.checkpoint.size, edge, account)
        self._save(replace(self.state, followed=Followed(signed, end), progress=None))
        self.account = account
        self._show_kept(end)

    def renew(self, signed: SignedCheckpoint) -> None:
        """Keep the note of the followed checkpoint that more witnesses cosigned."""
        followed = self.state.followed
        assert followed is not None
        if len(signed.cosignatures) > len(followed.signed.cosignatures):
            self._save(replace(self.state, followed=replace(followed, signed=signed)))

    def _show_kept(self, place: Place) -> None:
        self.tiles.size, self.tiles.edge = place.size, place.edge

    def _save(self, state: State) -> None:
        self.directory.save(state)
        self.state = state

    def _place(self, job: Job) -> Place:
        """Return where to go on: as far as it was rebuilt, or where it was begun."""
        progress, followed = self.state.progress, self.state.followed
        if progress is not None and progress.size <= job.target.size:
            return progress
        if followed is not None:
            return followed.place
        size, edge = first_place(job, self.start)
        return Place(size, edge, start=size)

    def _reading(self, place: Place, signed: SignedCheckpoint) -> Account | None:
        """Return who takes in the entries; None if the log does not give them.

        Raises:
            AuditLogError: it does not give them any more, or not to our token.
        """
        account = _account_of(place)
        index = place.size // TILE_WIDTH
        width = min(TILE_WIDTH, signed.checkpoint.size - index * TILE_WIDTH)
        if not width:  # nothing is to be read
            return account
        try:
            self.source.bundle(Tile("entries", index, width))
        except NotFoundError as error:
            if account is None and not self.source.token:
                return None
            before = "" if account is None else " any more"
            raise AuditLogError(f"the entries are not given{before}: {error}") from None
        return account or Account(signed.checkpoint.origin, place.size)


def _account_of(place: Place) -> Account | None:
    return None if place.account is None else Account.load(place.account)


def _at(begun: Place, size: int, edge: Edge, account: Account | None) -> Place:
    dumped = None if account is None else account.dump()
    return Place(size, edge, begun.start, dumped)
