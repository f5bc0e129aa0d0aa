"""One direction of an exchange: what is held of it, hashed, and kept."""

import contextlib
import threading

import msgspec

from auditlog.capture.kept import Spills
from auditlog.capture.large import Large
from auditlog.capture.splitting import open_body, split_of
from auditlog.core.commitment import MAX_BODY

__all__ = ["Body", "RequestPlace"]

_FIRST = 2
"""Index of the first leaf after both raw bodies."""


class Body(msgspec.Struct, eq=False):
    """One direction of an exchange, as it crossed the wire.

    Up to `limit` bytes, and up to 1 MiB, are held in memory as they came. From the
    byte after on, everything is hashed as it passes, so that the commitment covers the
    whole body while memory stays flat; the first `limit` bytes stay as the stored copy,
    those over 1 MiB in a spill, and the last ones for whoever reads how it ended.
    """

    # Structs, here and in `Exchange`, because several are made for each request.
    secret: bytes
    """Of the commitment, 32 bytes."""
    leaf: int
    """Of the commitment: 0 request, 1 response."""
    limit: int
    state: str = "unread"
    """``complete``, ``unread``, ``partial``, ``not_observed`` or ``omitted``."""
    size: int = 0
    """Bytes that passed so far."""
    media_type: str | None = None
    """Content-Type as sent; None without one."""
    coding: str | None = None
    """Content-Encoding as sent; None without one."""
    framed: bool = False
    """Whether these are messages of a WebSocket, as `auditlog.core.pieces.frame` frames
    them; each `feed` is then one frame."""
    before: "Body | None" = None
    """The request, if this is a response: its leaves come first."""
    depth: int = 1
    """Levels that open into members, if this is a response."""
    spills: Spills | None = None
    """Where kept bytes go that are not held; without it they are not kept."""
    large: Large | None = None
    """What goes on with it once it outgrew memory; None while all of it is held."""
    # Most bodies are one chunk, kept as it is; a second one starts a buffer, so
    # that a million small chunks cost no more memory than their bytes.
    _first: bytes = b""
    _more: bytearray | None = None
    _frames: int = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body; they must not change afterwards."""
        if not self.size and len(chunk) <= self.limit and len(chunk) <= MAX_BODY:
            self.size = len(chunk)
            self._first = chunk
            self._frames = 1
            return
        self.size += len(chunk)
        if self.large is not None:
            self.large.feed(chunk)
        elif self.size <= self.limit and self.size <= MAX_BODY:
            if self._more is None:
                self._more = bytearray()
            self._more += chunk
            self._frames += 1
        else:
            self._outgrow(chunk)

    def _outgrow(self, chunk: bytes) -> None:
        # Of frames, none is cut.
        room = min(self.limit, MAX_BODY) - (self.size - len(chunk))
        room = 0 if self.framed else room
        held = b"".join((self._first, self._more or b"", chunk[:room]))
        self._first, self._more = held, None
        before = self.before
        self.large = Large(
            self.secret,
            self.leaf,
            held,
            split="ws" if self.framed else split_of(self.media_type),
            frames=self._frames,
            keep=self.limit - len(held),
            spills=self.spills,
            place=None if before is None else RequestPlace(before, self.depth),
        )
        self.large.feed(chunk[room:])

    @property
    def held_bytes(self) -> int:
        """Bytes that are in memory."""
        if self.large is None:
            return self.size
        return len(self._first) + self.large.held_bytes

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept, at most the limit; fewer if a disk did not take them."""
        return min(self.size, self.limit)

    def kept(self) -> bytes:
        """Return what is kept of the body. May wait for a disk if it is not held."""
        if self.large is not None:
            return self._first + self.large.read()
        return self._first if self._more is None else self._first + self._more

    def leaf_hash(self) -> bytes | None:
        """Return the hash of leaf `leaf` if the body is not held, else None."""
        return None if self.large is None else self.large.leaf_hash()

    def piece_hashes(self, first: int, depth: int) -> tuple[str, list[bytes]]:
        """Return what a body that is not held is split into, and the leaves' hashes.

        May wait for a disk.

        Args:
            first: index of the first of these leaves.
            depth: levels that open into members; blocks and messages are such.

        Returns:
            ``none`` and no hashes where it has no pieces, or if it is a response that
            passed before it was known how many leaves its request has.
        """
        if self.large is None:
            return "none", []
        return self.large.piece_hashes(first, pieces=depth > 0)

    def tail(self) -> bytes:
        """Return the last bytes of a body that is not held, at most 256 KiB.

        Nothing that `kept` returns is among them. May wait for a disk.
        """
        return b"" if self.large is None else self.large.tail()

    @property
    def capped(self) -> bool:
        """Whether bytes are missing between `kept` and `tail`. May wait for a disk."""
        return self.large is not None and self.large.capped


class RequestPlace:
    """Finds where the pieces of a response begin: after the leaves of its request.

    A request that may have members has to be split for that, which takes too long for
    an event loop: a thread does it.
    """

    __slots__ = ("_depth", "_found", "_request")

    def __init__(self, request: Body, depth: int) -> None:
        self._request = request
        self._depth = depth
        # Filled by the thread; None until it was started.
        self._found: list[int] | None = None

    def find(self) -> int | None:
        """Return the index of the first piece, or None while it is not known."""
        request = self._request
        if request.state == "partial":
            return None  # there is more to come
        if request.large is not None:
            return _FIRST + request.large.count(pieces=self._depth > 0)
        if not request.size:
            return _FIRST
        if self._found is None:
            self._found = []
            # A thread of its own, because a shared one would not survive a fork.
            thread = threading.Thread(
                target=self._split, name="auditlog-split", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # no more threads are to be had
                thread.start()
        return self._found[0] if self._found else None

    def _split(self) -> None:
        assert self._found is not None
        request = self._request
        decoded, _, leaves = open_body(
            "request",
            request.kept(),
            request.media_type,
            request.coding,
            self._depth,
            framed=request.framed,
        )
        self._found.append(_FIRST + (decoded is not None) + len(leaves))
