"""A body that outgrew memory: hashed as it passes, kept elsewhere if at all.

The raw leaf and its pieces are hashed while the bytes pass, so nothing of it has to be
read again to finish the commitment: only the stored copy needs a place (`Kept`), and
whatever happens to that, the commitment covers everything.

One body is another matter: messages that a WebSocket sends. Their leaves come after
those of all messages it receives, and how many these are is known at the end only. All
of it goes to disk and is hashed then, block by block.
"""

from collections.abc import Iterator
from typing import Protocol

from auditlog.capture.cutting import CUTTERS, whole
from auditlog.capture.hashing import PieceHashes
from auditlog.capture.kept import Kept, Spills
from auditlog.core.commitment import (
    MAX_BODY,
    disclosure_hash,
    leaf_hasher,
    leaf_salt,
    salts,
)

__all__ = ["REQUEST_FIRSTS", "Large", "Place"]

REQUEST_FIRSTS = (2, 3)
"""Where pieces of a request begin: after both raw bodies, or a decoded response too."""
_SESSION_FIRSTS = (2,)
"""Nothing is decoded in a session."""
_MAX_PENDING = 8 << 20
"""Bytes that wait in memory until the place of their leaves is known."""


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
        frames: how many of them are held, if it is frames.
        keep: how many of the following bytes are kept.
        spills: where these go; without it they are not kept.
        place: where the leaves of its pieces begin; None for a request.
    """

    __slots__ = (
        *("_frames", "_held", "_kept", "_pending", "_pieces", "_place", "_raw"),
        *("_secret", "_side", "_size", "_splits"),
    )

    def __init__(
        self,
        secret: bytes,
        leaf: int,
        held: bytes,
        *,
        split: str,
        frames: int,
        keep: int,
        spills: Spills | None,
        place: Place | None,
    ) -> None:
        self._secret = secret
        self._side = side = ("request", "response")[leaf]
        self._held = held
        self._size = len(held)
        self._frames = frames
        self._raw = leaf_hasher(leaf_salt(secret, leaf), side)
        self._raw.update(held)
        # It is not known before the end which one it will be.
        self._splits = [one for one in CUTTERS if one in {split, "chunks"}]
        again = split == "ws" and place is not None
        self._kept = Kept(keep, spills, again=again)
        self._place = place
        # What follows the held bytes and is in no hash of a piece; None if too much,
        # or if all of it is read again.
        self._pending = None if again else bytearray()
        self._pieces: dict[str, PieceHashes] = {}
        if place is None:
            self._start(_SESSION_FIRSTS if split == "ws" else REQUEST_FIRSTS)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._size += len(data)
        self._raw.update(data)
        self._kept.add(data)
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
            self._pieces[split] = hashes = self._hashing(split, firsts)
            hashes.update(pending)

    def _hashing(self, split: str, firsts: tuple[int, ...]) -> PieceHashes:
        """Return what hashes the bytes that follow the held ones."""
        # Whole pieces that are held can be hashed at the end, off the event loop.
        number, end = self._frames, len(self._held)
        if split != "ws":
            found, end = whole(split, self._held)
            number = len(found)
        cutter = CUTTERS[split]()
        hashes = PieceHashes(self._secret, self._side, firsts, cutter, number)
        hashes.update(self._held[end:])
        return hashes

    @property
    def held_bytes(self) -> int:
        """Bytes that are in memory, besides those that it was made with."""
        return len(self._pending or b"") + self._kept.held_bytes

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
        if not self._pieces and self._pending is not None:
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
        if split in self._pieces:
            return self._pieces[split].hashes(first)
        size, hashes = len(self._held), self._hashing(split, (first,))
        for block in self._kept.blocks():
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
        return self._kept.read()

    def tail(self) -> bytes:
        """Return the last bytes, at most 256 KiB, without what is held or kept."""
        return self._kept.tail()

    @property
    def capped(self) -> bool:
        """Whether bytes are missing between those kept and the tail."""
        return self._kept.capped
