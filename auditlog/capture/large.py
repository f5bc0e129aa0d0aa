"""A body that outgrew memory: hashed as it passes, kept elsewhere if at all.

Nothing of it has to be read again to finish the commitment: the raw leaf and the chunk
leaves are hashed while the bytes pass. So only the stored copy needs a place, which is
a `Spill`; whatever happens to that, the commitment covers everything.
"""

from typing import Protocol

from auditlog.capture.chunks import ChunkHashes
from auditlog.core.commitment import (
    CHUNK,
    MAX_BODY,
    chunks,
    disclosure_hash,
    leaf_hasher,
    leaf_salt,
    salts,
)

__all__ = ["REQUEST_FIRSTS", "Large", "Place", "Spill", "Spills"]

REQUEST_FIRSTS = (2, 3)
"""Where chunks of a request begin: after both raw bodies, or a decoded response too."""

_MAX_PENDING = 8 << 20
"""Bytes that wait in memory until the place of their leaves is known."""


class Spill(Protocol):
    """Takes the kept bytes of one large body, out of memory and never in clear.

    No method raises. `add` never waits for a disk. What a disk did not take is not
    kept, nor is anything after it; there is no gap in what `read` returns.
    """

    def add(self, data: bytes) -> None:
        """Keep `data` after what was added before."""

    def read(self) -> bytes:
        """Return what was kept, after the last `add`; may be called again."""


class Spills(Protocol):
    """Makes a spill for each large body."""

    def open(self) -> Spill:
        """Return a new spill."""


class Place(Protocol):
    """Finds out where the chunk leaves of a body begin."""

    def find(self) -> int | None:
        """Return the index of the first one, or None while it is not known."""


class Large:
    """What becomes of one large body.

    Args:
        secret: of the commitment.
        leaf: 0 request, 1 response.
        held: its first bytes, which stay in memory.
        keep: how many of the following bytes are kept.
        spills: where these go; without it they are not kept.
        place: where the chunk leaves begin; None for a request.
    """

    __slots__ = (
        *("_chunks", "_held", "_keep", "_pending", "_place", "_raw", "_secret"),
        *("_side", "_size", "_spill"),
    )

    def __init__(
        self,
        secret: bytes,
        leaf: int,
        held: bytes,
        *,
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
        self._keep = keep
        self._spill = spills.open() if spills is not None and keep else None
        self._place = place
        # What follows the held bytes and is in no chunk hash yet; None if too much.
        self._pending: bytearray | None = bytearray()
        self._chunks: ChunkHashes | None = None
        if place is None:
            self._start(REQUEST_FIRSTS)

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        self._size += len(data)
        self._raw.update(data)
        if self._spill is not None and self._keep:
            kept = data[: self._keep]
            self._keep -= len(kept)
            self._spill.add(kept)
        if self._chunks is not None:
            self._chunks.update(data)
        elif self._pending is not None:
            self._wait_for_place(self._pending, data)

    def _wait_for_place(self, pending: bytearray, data: bytes) -> None:
        pending += data
        first = None if self._place is None else self._place.find()
        if first is not None:
            self._start((first,))
        elif len(pending) > _MAX_PENDING:
            self._pending = None

    def _start(self, firsts: tuple[int, ...]) -> None:
        # Whole chunks that are held can be hashed at the end, off the event loop.
        number = len(self._held) // CHUNK
        self._chunks = ChunkHashes(self._secret, self._side, firsts, number)
        self._chunks.update(self._held[number * CHUNK :])
        self._chunks.update(self._pending or b"")
        self._pending = self._place = None

    @property
    def pending_bytes(self) -> int:
        """Bytes that are in memory, besides those held."""
        return len(self._pending or b"")

    def leaf_hash(self) -> bytes:
        """Return the hash of the raw leaf."""
        return self._raw.digest()

    def chunk_hashes(self, first: int) -> list[bytes]:
        """Return the hashes of all chunk leaves, of which the first is leaf `first`.

        Returns:
            None of them if the body has at most 1 MiB or too many chunks, or if its
            place was not known in time.
        """
        if self._size <= MAX_BODY:
            return []
        if self._chunks is None and self._pending is not None:
            self._start((first,))
        rest = None if self._chunks is None else self._chunks.hashes(first)
        return [] if rest is None else [*self._hash_held(first), *rest]

    def _hash_held(self, first: int) -> list[bytes]:
        whole = len(self._held) // CHUNK
        of_chunks = salts(self._secret, first + whole)[first + 1 :]
        leaves = chunks(self._side, self._held[: whole * CHUNK])
        return [
            disclosure_hash(salt, path, value)
            for salt, (path, value) in zip(of_chunks, leaves, strict=True)
        ]

    def read(self) -> bytes:
        """Return the kept bytes that follow the held ones."""
        return b"" if self._spill is None else self._spill.read()
