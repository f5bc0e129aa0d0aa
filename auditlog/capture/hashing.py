"""Hashes of the pieces of a body, made while it passes (`FORMATS.md` §3).

A leaf's hash begins with its salt, and its salt follows from its place among all leaves
of the commitment. So a piece can be hashed without being kept only if its place is
known when it passes; where a few places are possible, it is hashed for each.
"""

from typing import TYPE_CHECKING

from auditlog.capture.cutting import Cutter
from auditlog.core.commitment import leaf_hasher, salt_stream
from auditlog.core.errors import MalformedError

if TYPE_CHECKING:
    import hashlib

__all__ = ["PieceHashes"]

_SALT = 16
_HASH = 32


class PieceHashes:
    """Hashes a body piece by piece, in memory that hardly grows: 32 bytes a piece.

    Args:
        secret: of the commitment.
        side: ``request`` or ``response``.
        firsts: the indices that the leaf of piece 0 may have.
        cutter: finds the pieces.
        number: the piece to begin with.
    """

    __slots__ = (
        *("_cutter", "_firsts", "_hashes", "_number", "_open", "_salts", "_secret"),
        "_side",
    )

    def __init__(
        self,
        secret: bytes,
        side: str,
        firsts: tuple[int, ...],
        cutter: Cutter,
        number: int = 0,
    ) -> None:
        self._secret = secret
        self._side = side
        self._firsts = firsts
        self._cutter = cutter
        self._number = number
        # Of finished pieces, one after the other, for each possible place.
        self._hashes = [bytearray() for _ in firsts]
        self._open: list[hashlib._Hash] = []
        self._salts = b""

    def update(self, data: bytes) -> None:
        """Take the next bytes of the body."""
        if not self._hashes:
            return
        try:
            for part, ends in self._cutter.cut(data):
                self._take(part)
                if ends:
                    self._end()
        except MalformedError:
            self._hashes, self._open = [], []  # there will be none

    def _take(self, part: bytes | memoryview) -> None:
        if not self._open:
            self._open = self._begun()
            self._number += 1
        for hasher in self._open:
            hasher.update(part)

    def _begun(self) -> "list[hashlib._Hash]":
        if self._number >= self._cutter.limit:
            raise MalformedError(f"expected at most {self._cutter.limit} pieces")
        path = f"{self._side}#{self._number}"
        return [
            leaf_hasher(self._salt(first + self._number), path)
            for first in self._firsts
        ]

    def _end(self) -> None:
        for done, hasher in zip(self._hashes, self._open, strict=True):
            done.extend(hasher.digest())
        self._open = []

    def _salt(self, leaf: int) -> bytes:
        end = _SALT * (leaf + 2)
        if end > len(self._salts):
            # The stream starts anew each time: twice as far, so that it seldom does.
            self._salts = salt_stream(self._secret, 2 * leaf + 64)
        return self._salts[end - _SALT : end]

    @property
    def count(self) -> int | None:
        """Pieces so far, those before `number` included; None if there will be none."""
        begins_another = bool(self._cutter.rest) and not self._open
        count = self._number + begins_another
        return count if self._hashes and count <= self._cutter.limit else None

    def hashes(self, first: int) -> list[bytes] | None:
        """Return the hashes if piece 0 is leaf `first`.

        Returns:
            32 bytes a piece; None if they were made for other places, are too many, or
            if the body has no such pieces.
        """
        count = self.count
        if first not in self._firsts or count is None:
            return None
        at = self._firsts.index(first)
        every = bytes(self._hashes[at])
        last = self._begun() if count > self._number else self._open
        if last:
            hasher = last[at].copy()  # more may follow
            hasher.update(self._cutter.rest)
            every += hasher.digest()
        return [every[at : at + _HASH] for at in range(0, len(every), _HASH)]
