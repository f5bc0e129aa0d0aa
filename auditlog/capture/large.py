"""A body that outgrew memory: hashed as it passes, kept elsewhere if at all.

The raw leaf and its pieces are hashed while the bytes pass, so nothing of it has to be
read again to finish the commitment: only the stored copy needs a place, which is a
`Spill`. Whatever happens to that, the commitment covers everything.

One body is another matter: messages that a WebSocket sends. Their leaves come after
those of all messages it receives, and how many these are is known at the end only. All
of it goes to the spill and is hashed then, block by block.
"""

from collections.abc import Iterator
from typing import Protocol

from auditlog.capture.cutting import CUTTERS, whole
from auditlog.capture.hashing import PieceHashes
from auditlog.core.commitment import (
    MAX_BODY,
    disclosure_hash,
    leaf_hasher,
    leaf_salt,
    salts,
)

__all__ = ["REQUEST_FIRSTS", "TAIL", "Large", "Place", "Spill", "Spills"]

REQUEST_FIRSTS = (2, 3)
"""Where pieces of a request begin: after both raw bodies, or a decoded response too."""
TAIL = 256 << 10
"""Bytes at the end that stay in memory."""

_MAX_PENDING = 8 << 20
"""Bytes that wait in memory until the place of their leaves is known."""
_SLACK = 64 << 10
_ALL = 1 << 62


class Spill(Protocol):
    """Takes the kept bytes of one large body, out of memory and never in clear.

    No method raises. `add` never waits for a disk. What a disk did not take is not
    kept, nor is anything after it; there is no gap in what `read` yields.
    """

    def add(self, data: bytes) -> None:
        """Keep `data` after what was added before."""

    def read(self) -> Iterator[bytes]:
        """Yield what was kept, after the last `add`; may be called again."""


class Spills(Protocol):
    """Makes a spill for each large body."""

    def open(self) -> Spill:
        """Return a new spill."""


class Place(Protocol):
    """Finds out where the leaves of pieces of a body begin."""

    def find(self) -> int | None:
        """Return the index of the first one, or None while it is not known."""


class Large:
    """What becomes of one large body.

    Args:
        secret: of the commitment.
        leaf: 0 request, 1 response.
        held: its first bytes, which stay in memory; of frames, whole ones.
        split: what it is to be split into if it can be: ``sse`` or ``ws``; all else is
            split into chunks.
        keep: how many of the following bytes are kept.
        spills: where these go; without it they are not kept.
        place: where the leaves of its pieces begin; None for a request.
    """

    __slots__ = (
        *("_deferred", "_held", "_keep", "_kept", "_pending", "_pieces", "_place"),
        *("_raw", "_room", "_secret", "_side", "_size", "_spill", "_splits", "_tail"),
    )

    def __init__(
        self,
        secret: bytes,
        leaf: int,
        held: bytes,
        *,
        split: str,
        keep: int,
        spills: Spills | None,
        place: Place | None,
    ) -> None:
        self._secret = secret
        self._side = side = ("request", "response")[leaf]
        self._held = held
        self._size = len(held)
        self._raw = leaf_hasher(leaf_salt(secret, leaf), side)
        self._raw.update(held)
        # It is not known before the end which one it will be.
        self._splits = [one for one in CUTTERS if one in {split, "chunks"}]
        self._deferred = split == "ws" and place is not None
        self._keep = keep
        self._kept: int | None = None
        self._room = _ALL if self._deferred else keep
        self._spill = spills.open() if spills is not None and self._room else None
        self._tail = bytearray()
        self._place = place
        # What follows the held bytes and is in no hash of a piece; None if too much.
        self._pending: bytearray | None = bytearray()
        self._pieces: dict[str, PieceHashes] = {}
        if place is None:
            self._start(REQUEST_FIRSTS)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._size += len(data)
        self._raw.update(data)
        if self._spill is not None and self._room:
            kept = data[: self._room]
            self._room -= len(kept)
            self._spill.add(kept)
        self._tail += data[-TAIL:]
        if len(self._tail) > TAIL + _SLACK:
            del self._tail[:-TAIL]
        if self._deferred:
            return
        for hashes in self._pieces.values():
            hashes.update(data)
        if not self._pieces and self._pending is not None:
            self._wait_for_place(self._pending, data)

    def _wait_for_place(self, pending: bytearray, data: bytes) -> None:
        pending += data
        first = None if self._place is None else self._place.find()
        if first is not None:
            self._start((first,))
        elif len(pending) > _MAX_PENDING:
            self._pending = None

    def _start(self, firsts: tuple[int, ...]) -> None:
        pending = bytes(self._pending or b"")
        self._pending = self._place = None
        for split in self._splits:
            # Whole pieces that are held can be hashed at the end, off the event loop.
            found, end = whole(split, self._held)
            cutter = CUTTERS[split]()
            hashes = PieceHashes(self._secret, self._side, firsts, cutter, len(found))
            hashes.update(self._held[end:])
            hashes.update(pending)
            self._pieces[split] = hashes

    @property
    def held_bytes(self) -> int:
        """Bytes that are in memory, besides those that it was made with."""
        return len(self._pending or b"") + len(self._tail)

    def leaf_hash(self) -> bytes:
        """Return the hash of the raw leaf."""
        return self._raw.digest()

    def count(self, *, pieces: bool) -> int:
        """Return how many leaves a request has for its pieces, once all of it passed.

        Args:
            pieces: whether there may be blocks or messages, and not only chunks.
        """
        for split in self._candidates(pieces=pieces):
            count = self._pieces[split].count
            if count is not None:
                return count
        return 0

    def piece_hashes(self, first: int, *, pieces: bool) -> tuple[str, list[bytes]]:
        """Return what the body is split into, and the hashes of these leaves.

        May wait for a disk.

        Args:
            first: index of the first of these leaves.
            pieces: whether there may be blocks or messages, and not only chunks.

        Returns:
            ``none`` if it can be split into nothing: at most 1 MiB and neither stream
            nor frames, too many pieces, a place that was not known in time, or a disk
            that did not take what had to be read again.
        """
        if not self._pieces and self._pending is not None and not self._deferred:
            self._start((first,))
        for split in self._candidates(pieces=pieces):
            rest = self._rest(split, first)
            if rest is not None:
                return split, [*self._hash_held(split, first), *rest]
        return "none", []

    def _candidates(self, *, pieces: bool) -> Iterator[str]:
        for split in self._splits:
            if self._size > MAX_BODY if split == "chunks" else pieces:
                yield split

    def _rest(self, split: str, first: int) -> list[bytes] | None:
        """Return the hashes of the pieces after the held ones."""
        if self._deferred:
            return self._read_again(split, first)
        hashes = self._pieces.get(split)
        return None if hashes is None else hashes.hashes(first)

    def _read_again(self, split: str, first: int) -> list[bytes] | None:
        found, end = whole(split, self._held)
        cutter = CUTTERS[split]()
        hashes = PieceHashes(self._secret, self._side, (first,), cutter, len(found))
        hashes.update(self._held[end:])
        size = len(self._held)
        for block in () if self._spill is None else self._spill.read():
            hashes.update(block)
            size += len(block)
        return hashes.hashes(first) if size == self._size else None

    def _hash_held(self, split: str, first: int) -> list[bytes]:
        found, _ = whole(split, self._held)
        of_pieces = salts(self._secret, first + len(found))[first + 1 :]
        return [
            disclosure_hash(salt, f"{self._side}#{number}", value)
            for number, (salt, value) in enumerate(zip(of_pieces, found, strict=True))
        ]

    def read(self) -> bytes:
        """Return the kept bytes that follow the held ones."""
        found: list[bytes] = []
        room = self._keep
        if self._spill is not None and room:
            for block in self._spill.read():
                found.append(block[:room])
                room -= len(found[-1])
                if not room:
                    break
        self._kept = self._keep - room
        return b"".join(found)

    def tail(self) -> bytes:
        """Return the last bytes, at most `TAIL`, without what is held or kept."""
        if self._kept is None:
            self.read()
        before = len(self._held) + (self._kept or 0)
        tail = bytes(self._tail[-TAIL:])
        return tail[max(0, before + len(tail) - self._size) :]

    @property
    def capped(self) -> bool:
        """Whether bytes are missing between those kept and the tail."""
        after = len(self.tail())
        return len(self._held) + (self._kept or 0) + after < self._size
