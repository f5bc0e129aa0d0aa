"""Cutting a body into pieces while it passes, whatever the cuts it comes in.

`auditlog.core.pieces.split_body` is the definition. A cutter holds nothing of a body
but a few bytes, so a piece may be of any size: it comes in parts.
"""

import codecs
import re
from collections.abc import Iterator
from typing import Protocol

from auditlog.core.commitment import CHUNK, MAX_MEMBERS
from auditlog.core.errors import MalformedError
from auditlog.core.pieces import (
    FRAME_HEAD,
    MAX_PIECES,
    blocks,
    is_text,
    messages,
)

__all__ = ["CUTTERS", "BlockCutter", "ChunkCutter", "Cutter", "FrameCutter", "whole"]

Part = tuple[bytes | memoryview, bool]

# A line ends with CRLF, LF or CR (WHATWG HTML §9.2.5); possessive, or CRLF would be two
# of them. Where another line ends right after, that one is empty.
_LINE_END = re.compile(rb"\r\n?+|\n")
_EMPTY_LINE = re.compile(rb"(?:\r\n?+|\n)(?=(\r\n?+|\n))")
_EMPTY_LF_LINE = re.compile(rb"\n(?=(\n))")  # the same without CR, ten times as fast


class Cutter(Protocol):
    """Cuts one body."""

    limit: int
    """Pieces that a body may have."""
    rest: bytes
    """What was taken and is in no part yet, as the next bytes may belong to it."""

    def cut(self, data: bytes) -> Iterator[Part]:
        """Yield the next bytes of the body in parts, and whether each ends a piece.

        Raises:
            MalformedError: such a body has no pieces.
        """


class ChunkCutter:
    """Cuts any body every 64 KiB."""

    limit = MAX_MEMBERS
    rest = b""

    def __init__(self) -> None:
        self._room = CHUNK

    def cut(self, data: bytes) -> Iterator[Part]:
        """See `Cutter`."""
        view = memoryview(data)
        while view:
            part = view[: self._room]
            view = view[len(part) :]
            self._room = self._room - len(part) or CHUNK
            yield part, self._room == CHUNK


class BlockCutter:
    """Cuts an event stream after each empty line."""

    limit = MAX_PIECES

    def __init__(self) -> None:
        # A CR at the end, until it is known whether an LF follows.
        self.rest = b""
        self._at_line_start = True
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def cut(self, data: bytes) -> Iterator[Part]:
        """See `Cutter`; what is no text has no blocks."""
        try:
            self._decoder.decode(data)
        except UnicodeDecodeError:
            raise MalformedError("expected an event stream in UTF-8") from None
        data = self.rest + data
        self.rest = b"\r" if data.endswith(b"\r") else b""
        data = data[: len(data) - len(self.rest)]
        start = 0
        for end in _block_ends(data, at_line_start=self._at_line_start):
            yield data[start:end], True
            start = end
        if data:
            self._at_line_start = data.endswith((b"\n", b"\r"))
        if start < len(data):
            yield data[start:], False


def _block_ends(data: bytes, *, at_line_start: bool = True) -> Iterator[int]:
    """Yield where each block ends in a stretch of an event stream.

    Args:
        data: a CR at its end is taken for a line's end.
        at_line_start: whether a line begins with it.
    """
    first = _LINE_END.match(data) if at_line_start else None
    if first is not None:
        yield first.end()
    empty_line = _EMPTY_LINE if b"\r" in data else _EMPTY_LF_LINE
    for found in empty_line.finditer(data):
        yield found.end(1)


class FrameCutter:
    """Cuts frames of a WebSocket session into the payloads of its messages."""

    limit = MAX_PIECES
    rest = b""

    def __init__(self) -> None:
        self._head = b""
        self._room = 0

    def cut(self, data: bytes) -> Iterator[Part]:
        """See `Cutter`."""
        view = memoryview(data)
        while view:
            if len(self._head) < FRAME_HEAD:
                missing = FRAME_HEAD - len(self._head)
                self._head += view[:missing]
                view = view[missing:]
                if len(self._head) < FRAME_HEAD:
                    return
                self._room = int.from_bytes(self._head[-4:])
            part = view[: self._room]
            view = view[len(part) :]
            self._room -= len(part)
            if not self._room:
                self._head = b""
            yield part, not self._room


CUTTERS: dict[str, type[Cutter]] = {
    "sse": BlockCutter,
    "ws": FrameCutter,
    "chunks": ChunkCutter,
}
"""By what an entry says as `split`; what a body can be split into rather first."""


def whole(split: str, start: bytes) -> tuple[list[bytes], int]:
    """Return what pieces are certain to be whole in the first bytes of a body.

    Args:
        split: ``sse``, ``ws`` or ``chunks``.
        start: the first bytes of a body that goes on.

    Returns:
        These pieces, and how many bytes they take up; none of what is no text where it
        is said to be an event stream.
    """
    if split == "chunks":
        end = len(start) - len(start) % CHUNK
        return [start[at : at + CHUNK] for at in range(0, end, CHUNK)], end
    if split == "ws":
        found = [message.payload for message in messages(start, cut=True)]
        return found, sum(map(len, found)) + FRAME_HEAD * len(found)
    # An LF may follow the CR that ends the last block.
    found = blocks(start)[:-1] if is_text(start) else []
    return found, sum(map(len, found))
