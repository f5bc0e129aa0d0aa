"""The ports of the log: what a store must promise, and nothing about how.

A backend is one file that implements these protocols; backends share no base
class. Every method raises `StorageError` (or `ConflictError`, a kind of it) and no
foreign exception. Methods may be called from any thread.

Durable means: after the method returned, the effect survives SIGKILL of every
process and a power cut of the host.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from auditlog.core.errors import ConflictError

__all__ = [
    "ERASED",
    "AttestationRow",
    "Attestations",
    "Cosignature",
    "Head",
    "HeadState",
    "Index",
    "IndexRow",
    "KeyErasedError",
    "Objects",
    "Publication",
    "Query",
    "Scan",
    "Spool",
    "SpoolItem",
    "TokenRow",
    "Vault",
]


ERASED = bytes(16)
"""Stands in the vault for the id of a key that was erased, beside no sealed bytes: so
that nothing tells any more which entries were about one person."""


class KeyErasedError(ConflictError):
    """A key lives no more under which content was sealed: it is to be sealed again."""

    def __init__(self, key_ids: Sequence[bytes]) -> None:
        """Name the keys by their ids."""
        super().__init__(
            f"expected content sealed under keys that live, got {len(key_ids)} erased"
        )
        self.key_ids = tuple(key_ids)


class IndexRow(NamedTuple):
    """What a look-up knows of one entry; everything but `index` is in the entry.

    The index can be rebuilt from the entries and is never believed over them.
    """

    index: int | None  # type: ignore[assignment]  # hides tuple.index
    """Position in the tree; None until the spool has given it."""
    id: bytes
    """CloudEvents id, a UUIDv7, 16 bytes."""
    type: str
    """CloudEvents type, such as ``auditlog.decision.v1``."""
    time: int
    """CloudEvents time, microseconds since the epoch."""
    emitter: bytes | None = None
    """16 bytes; None for entries that are not decisions."""
    sequence: int | None = None
    route: str | None = None
    """Route template, or the operation of a decision beyond HTTP."""
    model: str | None = None
    """Model name."""
    version: str | None = None
    """Model version."""
    outcome: str | None = None
    about: bytes | None = None
    """Id of the decision that an entry of another type is about, 16 bytes."""


class SpoolItem(NamedTuple):
    """One entry on its way into the spool, with what is stored beside it."""

    entry: bytes
    """Canonical bytes, 1 to 65,535."""
    row: IndexRow
    """Its index fields; `row.index` is None."""
    key_id: bytes | None = None
    """Key of the vault under which `sealed` is sealed; None without content."""
    sealed: bytes | None = None
    """Sealed content (`FORMATS.md` §4); None without content."""


class Spool(Protocol):
    """Accepted entries, in the order of the tree.

    The position given by `append` is the index in the tree, for ever. Positions are
    contiguous from 0. Several processes of one host may append at once; they queue.
    """

    def append(self, items: Sequence[SpoolItem]) -> int:
        """Append all items, or none, durably; return the index of the first.

        Index rows and sealed content become visible in the same transaction.

        Raises:
            KeyErasedError: content is sealed under a key that is not registered, or not
                any more (and not `ERASED`); nothing was appended. Some of the items may
                be there from an append whose answer was lost.
            ConflictError: an id or an (emitter, sequence) is already in the log;
                nothing was appended. After an append whose answer was lost, look the
                ids up before trying again.
            StorageError: nothing was appended, or it is unknown whether it was.
        """

    def size(self) -> int:
        """Return the number of entries accepted so far."""

    def read(self, start: int, end: int) -> list[bytes]:
        """Return the entries ``start`` (included) to ``end`` (excluded), in order.

        Raises:
            StorageError: an entry of the range is not there.
        """


class Objects(Protocol):
    """Immutable named bytes: the hash tiles, under their C2SP paths."""

    def put(self, objects: Sequence[tuple[str, bytes]]) -> None:
        """Store each (path, bytes) durably; the same bytes again succeed.

        Raises:
            ConflictError: other bytes stand under one of the paths.
        """

    def get(self, path: str) -> bytes | None:
        """Return the bytes under `path`, or None."""

    def prune(self, paths: Sequence[str]) -> None:
        """Remove objects that fuller ones replace; missing ones are no error."""


class HeadState(NamedTuple):
    """The newest state of the tree."""

    generation: int
    """Grows by one with each swap, so that no state ever comes back."""
    size: int
    root: bytes


class Head(Protocol):
    """One cell, moved only by compare-and-swap: the fence between writers."""

    def head(self) -> HeadState:
        """Return the current state. A new log has generation 0 and size 0."""

    def swap_head(self, expected: HeadState, new: HeadState) -> None:
        """Replace `expected` by `new`, durably.

        Raises:
            ConflictError: the cell does not hold `expected`. It may hold `new`: a
                swap whose answer was lost. Read, and compare.
        """


class Cosignature(NamedTuple):
    """A witness's signature line over a published checkpoint."""

    size: int
    """Size of the checkpoint."""
    key: str
    """Key name, ``+``, key id in hex, as at the start of a vkey."""
    time: int
    """Seconds since the epoch, as signed by the witness."""
    line: bytes
    """The signature line, with its newline."""


class Publication(Protocol):
    """Checkpoints as first signed, and the cosignatures collected for them.

    Sizes strictly grow. Stored bytes are what is cosigned, anchored, handed out.
    """

    def publish(self, size: int, note: bytes) -> None:
        """Store a signed checkpoint durably; the same bytes again succeed.

        Raises:
            ConflictError: a checkpoint of this size with other bytes, or a larger
                one, is published.
        """

    def newest(self) -> tuple[int, bytes] | None:
        """Return size and note of the largest checkpoint, or None."""

    def covering(self, size: int) -> tuple[int, bytes] | None:
        """Return the smallest checkpoint of at least `size`, or None."""

    def cosigned(self, size: int) -> tuple[int, bytes] | None:
        """Return the smallest checkpoint of at least `size` with a cosignature."""

    def sizes(self, start: int, limit: int) -> list[int]:
        """Return up to `limit` published sizes from `start` on, ascending."""

    def add_cosignatures(self, cosignatures: Sequence[Cosignature]) -> None:
        """Store lines durably; of one (size, key) the newest time is kept."""

    def cosignatures(self, size: int) -> list[Cosignature]:
        """Return the lines stored for the checkpoint of exactly `size`, by key."""


class AttestationRow(NamedTuple):
    """What an anchor gave for a published checkpoint, or was told of it, so far."""

    size: int
    """Size of the checkpoint."""
    anchor: str
    """The operator's name for the anchor; with ``+history`` for what it was told."""
    kind: str
    """``rfc3161``, ``evm`` or ``ots``."""
    state: str
    """``pending`` or ``final``; ``kept`` where it was told, for good."""
    evidence: bytes
    """Canonical JSON; with a `batch` where it was anchored with other logs."""
    submitted: int
    """Microseconds since the epoch."""
    updated: int
    """Microseconds since the epoch, of the newest change."""


class Attestations(Protocol):
    """What anchors gave, one row for each (checkpoint, anchor)."""

    def put_attestation(self, row: AttestationRow) -> None:
        """Store a row durably, in place of an older one of its size and anchor.

        Raises:
            ConflictError: a final one with other evidence stands there, or no
                checkpoint of this size is published.
        """

    def attestations(self, size: int) -> list[AttestationRow]:
        """Return the rows of the checkpoint of exactly `size`, by anchor."""

    def attestations_by(self, anchor: str, *, state: str) -> list[AttestationRow]:
        """Return the rows of one anchor in one state, by size ascending."""

    def last_attestation(self, anchor: str, *, state: str) -> AttestationRow | None:
        """Return the row of one anchor in one state with the largest size, or None."""

    def first_attestation(self, anchor: str, *, size: int) -> AttestationRow | None:
        """Return an anchor's final row of the smallest size from `size` on, or None."""

    def newest_change(self, anchor: str) -> AttestationRow | None:
        """Return the row of one anchor that was updated last, or None."""

    def attesting(self) -> list[str]:
        """Return the anchors of which there are rows, sorted."""

    def anchored(self, size: int) -> tuple[int, bytes] | None:
        """Return the smallest checkpoint of at least `size` with a final row."""

    def attested_sizes(self) -> list[int]:
        """Return the sizes for which rows are stored, ascending."""


class Vault(Protocol):
    """Sealed content by tree index, and the ids of the keys that open it."""

    def sealed(self, index: int) -> tuple[bytes, bytes] | None:
        """Return (key id, sealed bytes) of the entry at `index`, or None.

        The key id is `ERASED`, and there are no bytes, where the key was erased.
        """

    def sealed_by(self, index: int) -> bytes | None:
        """Return the key id alone that `sealed` returns."""

    def sealed_under(self, key_id: bytes) -> list[int]:
        """Return the indices of all entries whose content a key seals, ascending."""


class Query(NamedTuple):
    """A look-up over the index; None means any."""

    time_from: int | None = None
    """Microseconds since the epoch, included."""
    time_to: int | None = None
    """Microseconds since the epoch, excluded."""
    model: str | None = None
    version: str | None = None
    route: str | None = None
    outcome: str | None = None
    type: str | None = None
    about: bytes | None = None
    routes: tuple[str, ...] | None = None
    """Globs, of which one must fit the route; nothing but ``*`` is special in them."""
    ids: tuple[bytes, ...] | None = None
    """Ids, of which it must have one."""
    sealed_under: bytes | None = None
    """Only entries whose content the key with this id seals."""
    before: int | None = None
    """Only entries with an index below this one: the cursor."""
    limit: int = 50


class Index(Protocol):
    """Look-up of entries by what is in them. Derived, rebuildable, never proof."""

    def by_id(self, id_: bytes) -> IndexRow | None:
        """Return the row of the entry with this id, or None."""

    def find(self, query: Query) -> list[IndexRow]:
        """Return matching rows, newest index first, at most ``query.limit``."""

    def sequences(self, emitter: bytes) -> list[int]:
        """Return the sequence numbers in the log for an emitter, ascending."""


class Scan(Protocol):
    """Everything that is stored: what is there, not what should be."""

    def index_rows(self, start: int, end: int) -> list[IndexRow]:
        """Return the index rows with ``start <= index < end``, ascending."""

    def vault_rows(self, start: int, end: int) -> list[tuple[int, bytes, bytes]]:
        """Return (index, key id, sealed bytes) in the same way."""

    def first_but(self, start: int, types: Sequence[str]) -> IndexRow | None:
        """Return the first row with ``start <= index`` of another type, or None."""

    def object_paths(self) -> list[str]:
        """Return the paths of all objects."""

    def cosigned_sizes(self) -> list[int]:
        """Return the sizes for which cosignatures are stored, ascending."""


class TokenRow(NamedTuple):
    """What is kept of an access token; its text is kept nowhere."""

    hash: bytes
    """SHA-256 of its text."""
    role: str
    label: str
    """What the operator calls it, such as whom it was given to."""
    created: int
    """Seconds since the epoch."""
    expires: int | None = None
    """Seconds since the epoch, from which on it is refused; None for never."""
    scope: str | None = None
    """What it may see, as `auditlog.log.token_scope` writes it; None for everything."""
