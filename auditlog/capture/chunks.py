"""Hashes of the chunk leaves of a body, made while it passes (`FORMATS.md` §3).

A leaf's hash begins with its salt, and its salt follows from its place among all leaves
of the commitment. So a chunk can be hashed without being kept only if its place is
known when it passes; where a few places are possible, it is hashed for each.
"""

from typing import TYPE_CHECKING

from auditlog.core.commitment import CHUNK, MAX_MEMBERS, leaf_hasher, salt_stream

if TYPE_CHECKING:
    import hashlib

__all__ = ["ChunkHashes"]

_SALT = 16


class ChunkHashes:
    """Hashes a body chunk by chunk, in memory that hardly grows: 32 bytes a chunk.

    Args:
        secret: of the commitment.
        side: ``request`` or ``response``.
        firsts: the indices that the leaf of chunk 0 may have.
        number: the chunk to begin with.
    """

    __slots__ = (
        *("_firsts", "_hashes", "_number", "_open", "_room", "_salts", "_secret"),
        "_side",
    )

    def __init__(
        self, secret: bytes, side: str, firsts: tuple[int, ...], number: int = 0
    ) -> None:
        self._secret = secret
        self._side = side
        self._firsts = firsts
        self._number = number
        # Of finished chunks, one after the other, for each possible place.
        self._hashes = [bytearray() for _ in firsts]
        self._open: list[hashlib._Hash] = []
        self._room = 0
        self._salts = b""

    def update(self, data: bytes | bytearray) -> None:
        """Take the next bytes of the body."""
        view = memoryview(data)
        while view and self._hashes:
            if not self._room:
                self._begin()
                continue
            piece = view[: self._room]
            for hasher in self._open:
                hasher.update(piece)
            view = view[len(piece) :]
            self._room -= len(piece)
            if not self._room:
                self._end()

    def _begin(self) -> None:
        if self._number == MAX_MEMBERS:
            self._hashes, self._open = [], []  # too many: there will be none
            return
        path = f"{self._side}#{self._number}"
        self._open = [
            leaf_hasher(self._salt(first + self._number), path)
            for first in self._firsts
        ]
        self._number += 1
        self._room = CHUNK

    def _end(self) -> None:
        for done, hasher in zip(self._hashes, self._open, strict=True):
            done.extend(hasher.digest())

    def _salt(self, leaf: int) -> bytes:
        end = _SALT * (leaf + 2)
        if end > len(self._salts):
            # The stream starts anew each time: twice as far, so that it seldom does.
            self._salts = salt_stream(self._secret, 2 * leaf + 64)
        return self._salts[end - _SALT : end]

    def hashes(self, first: int) -> list[bytes] | None:
        """Return the hashes if chunk 0 is leaf `first`.

        Returns:
            32 bytes a chunk; None if they were made for other places, or are too many.
        """
        if first not in self._firsts or not self._hashes:
            return None
        at = self._firsts.index(first)
        every = bytes(self._hashes[at])
        if self._room:
            every += self._open[at].digest()
        return [every[at : at + 32] for at in range(0, len(every), 32)]
