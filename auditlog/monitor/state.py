"""What a monitor remembers: one directory, which survives a kill at any instruction.

====================  ================================================================
``state.json``        the last verified checkpoint and the right edge of its tree, how
                      far a rebuilding has come, what the entries said, which alerts
                      are still to be told; replaced as a whole
``tile/``             what was rebuilt (`auditlog.monitor.kept_tiles`)
``fork-*.json``       forks, each a proof by itself (`auditlog.monitor.fork`)
``suspicion-*.json``  what contradicts itself and proves nothing, with all the bytes
``monitor.lock``      held while a monitor runs: two on one directory refuse each other
====================  ================================================================

Nothing that a log serves makes this grow without end: files of each kind are counted,
and the first ones are kept.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from auditlog.core.checkpoint import Policy, SignedCheckpoint, open_checkpoint
from auditlog.core.encoding import format_base64, parse_hash
from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.core.record import canonical_json, check_fields, parse_json
from auditlog.log.growth import Edge, edge_root
from auditlog.monitor.account import Account
from auditlog.storage.files import FileLock, storage_errors, write_durably

__all__ = [
    "MAX_FILES",
    "Followed",
    "Place",
    "State",
    "StateDirectory",
    "anybody",
    "open_pending",
]

SCHEMA = "auditlog.monitor.v1"
MAX_FILES = 64
"""Forks that are kept, and suspicions: one is enough, and disks are finite."""

_MAX_STATE = 1 << 26
_NAME_DIGITS = 16
_NOT_OURS = (AttributeError, TypeError, ValueError)
_FIELDS = {
    "followed": object,
    "origin": str,
    "outbox": list,
    "pending": list,
    "progress": object,
    "schema": str,
    "told": list,
}


@dataclass(frozen=True, slots=True)
class Place:
    """A size in the growing tree, and all that is needed to go on from there."""

    size: int
    edge: Edge
    """Right edge of the tree of `size`."""
    start: int = 0
    """First entry that was rebuilt; before it, only hashes of subtrees are known."""
    account: Mapping[str, Any] | None = None
    """What the entries up to `size` said (`auditlog.monitor.account`)."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The last checkpoint that verified, and the place where its tree ends."""

    signed: SignedCheckpoint
    place: Place


@dataclass(frozen=True, slots=True)
class State:
    """All that a monitor remembers of a log."""

    origin: str
    followed: Followed | None = None
    progress: Place | None = None
    """Rebuilt beyond `followed`, under no verified root yet."""
    pending: tuple[bytes, ...] = ()
    """Signed notes that were shown and are not in the followed tree, or not yet."""
    told: frozenset[str] = frozenset()
    """Findings that were told already, by key."""
    outbox: tuple[Mapping[str, Any], ...] = ()
    """Alerts that the webhook has not taken yet."""


def anybody(policy: Policy) -> Policy:
    """Return the policy without its quorum: whatever the log signed binds it."""
    return replace(policy, quorum="none")


def open_pending(note: bytes, policy: Policy) -> SignedCheckpoint | None:
    """Return a checkpoint that was kept; None if the policy no longer believes it."""
    try:
        return open_checkpoint(note, anybody(policy))
    except AuditLogError:
        return None


class StateDirectory:
    """The directory of one monitor, locked as long as it is entered."""

    def __init__(self, path: Path) -> None:
        """Name it; it is created when it is entered."""
        self.path = path
        self._lock = FileLock(path / "monitor.lock", timeout=0)
        self._written: bytes | None = None

    def __enter__(self) -> Self:
        """Create the directory and keep others out.

        Raises:
            StorageError: another monitor is at work here, or it cannot be written.
        """
        with storage_errors(f"create {self.path}"):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock.__enter__()
        # What a kill in the middle of `write_durably` left; nobody else writes here.
        for left in self.path.glob(".*.tmp"):
            left.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Let the next one in."""
        self._lock.__exit__()

    def load(self, policy: Policy) -> State | None:
        """Return what was saved last; None if there is nothing.

        The checkpoint in it is verified again, and the edge is held to its root.

        Raises:
            ConfigurationError: the file is none of ours, or the policy does not
                believe what it holds.
        """
        path = self.path / "state.json"
        try:
            with storage_errors(f"read {path}"):
                data = path.read_bytes() if path.exists() else None
            return None if data is None else _parse(data, policy)
        except (LookupError, *_NOT_OURS, AuditLogError) as error:
            raise ConfigurationError(
                f"{path} is not what a monitor under this policy saved ({error}): "
                "move it away to begin anew"
            ) from None

    def save(self, state: State) -> None:
        """Replace what was saved, durably.

        Raises:
            StorageError: it cannot be written; the old state stays.
        """
        data = _format(state)
        if data != self._written:
            write_durably(self.path / "state.json", data)
            self._written = data

    def keep(self, kind: str, data: bytes) -> Path | None:
        """Keep a fork or a suspicion, durably; the same bytes are kept once.

        Args:
            kind: ``fork`` or ``suspicion``.
            data: the file.

        Returns:
            Where it is; None if there are too many of the kind.

        Raises:
            StorageError: it cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()[:_NAME_DIGITS]
        path = self.path / f"{kind}-{digest}.json"
        if path.exists():
            return path
        if len(self.kept(kind)) >= MAX_FILES:
            return None
        write_durably(path, data)
        return path

    def kept(self, kind: str) -> list[Path]:
        """Return the files of a kind."""
        return sorted(self.path.glob(f"{kind}-*.json"))


def _format(state: State) -> bytes:
    followed = state.followed
    fields = {
        "followed": None if followed is None else _followed_json(followed),
        "origin": state.origin,
        "outbox": [dict(one) for one in state.outbox],
        "pending": [note.decode() for note in state.pending],
        "progress": None if state.progress is None else _place_json(state.progress),
        "schema": SCHEMA,
        "told": sorted(state.told),
    }
    return canonical_json(fields) + b"\n"


def _followed_json(followed: Followed) -> dict[str, Any]:
    return {"note": followed.signed.note.decode(), **_place_json(followed.place)}


def _place_json(place: Place) -> dict[str, Any]:
    return {
        "account": None if place.account is None else dict(place.account),
        "edge": [[format_base64(one) for one in hashes] for hashes in place.edge],
        "size": place.size,
        "start": place.start,
    }


def _parse(data: bytes, policy: Policy) -> State:
    fields = check_fields(parse_json(data, limit=_MAX_STATE), "a state", _FIELDS)
    if fields["schema"] != SCHEMA:
        raise ValueError("another schema")
    followed, progress = fields["followed"], fields["progress"]
    return State(
        fields["origin"],
        None if followed is None else _followed(followed, policy),
        None if progress is None else _place(progress),
        tuple(note.encode() for note in fields["pending"]),
        frozenset(fields["told"]),
        tuple(fields["outbox"]),
    )


def _followed(fields: Mapping[str, Any], policy: Policy) -> Followed:
    signed = open_checkpoint(fields["note"].encode(), anybody(policy))
    place = _place(fields)
    if signed.checkpoint[1:] != (place.size, edge_root(place.edge)):
        raise ValueError("its hashes do not give the root that was signed")
    return Followed(signed, place)


def _place(fields: Mapping[str, Any]) -> Place:
    edge = tuple(tuple(map(parse_hash, hashes)) for hashes in fields["edge"])
    account = fields["account"]
    if account is not None:
        Account.load(account)  # refuses what it could not go on from
    return Place(fields["size"], edge, fields["start"], account)
