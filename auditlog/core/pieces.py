r"""Event blocks of an SSE body, and messages of a WebSocket session (`FORMATS.md` §3).

Each is a leaf of its own, ``response#<i>``, so that it can be shown and proven alone.
Blocks are the body, cut: joined they give it again. A WebSocket has no body; its raw
value is made of frames, one for each message of a direction::

    u32 order ‖ u8 1 text | 2 binary ‖ u32 length ‖ payload

`order` counts the messages of both directions together, from 0.
"""

import re
import struct
from codecs import utf_8_decode
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from auditlog.core.commitment import chunks, members
from auditlog.core.errors import MalformedError

__all__ = [
    "BINARY",
    "FRAME_HEAD",
    "MAX_PIECES",
    "TEXT",
    "Message",
    "block_ends",
    "blocks",
    "frame",
    "is_text",
    "messages",
    "split_body",
]

MAX_PIECES = 1 << 16
"""Blocks of a body or messages of a direction; with more of them there are none."""
TEXT, BINARY = 1, 2
_HEAD = struct.Struct(">IBI")
FRAME_HEAD = _HEAD.size
"""Bytes before the payload of a frame."""
# A line ends with CRLF, LF or CR (WHATWG HTML §9.2.5); possessive, or CRLF would be two
# of them. Where another line ends right after, that one is empty.
_LINE_END = re.compile(rb"\r\n?+|\n")
_EMPTY_LINE = re.compile(rb"(?:\r\n?+|\n)(?=(\r\n?+|\n))")
_EMPTY_LF_LINE = re.compile(rb"\n(?=(\n))")  # the same without CR, ten times as fast


class Message(NamedTuple):
    """One message of a WebSocket session."""

    order: int
    """Its place among the messages of both directions, from 0."""
    kind: int
    """`TEXT` or `BINARY`."""
    payload: bytes
    """Text as UTF-8."""


def is_text(body: bytes) -> bool:
    """Return whether a body is UTF-8, as far as it goes: its end may cut a character.

    Nothing that is compressed is, but for deflate that was made so.
    """
    try:
        utf_8_decode(body)  # of a stream that may go on
    except UnicodeDecodeError:
        return False
    return True


def blocks(body: bytes) -> list[bytes]:
    """Cut a ``text/event-stream`` body into its event blocks, as they were sent.

    Each ends with the empty line that ends it; what follows the last one is a block
    too, if there is anything. A comment, or an empty line more, is a block like others.
    After `MAX_PIECES` of them, all the rest is one.
    """
    found: list[bytes] = []
    start = 0
    for end in islice(block_ends(body), MAX_PIECES):
        found.append(body[start:end])
        start = end
    return [*found, body[start:]] if start < len(body) else found


def block_ends(data: bytes, *, at_line_start: bool = True) -> Iterator[int]:
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


def frame(order: int, kind: int, payload: bytes) -> bytes:
    """Return one message as it stands in the raw value of its direction."""
    return _HEAD.pack(order, kind, len(payload)) + payload


def messages(raw: bytes, *, cut: bool = False) -> list[Message]:
    """Return the messages of one direction of a session.

    Args:
        raw: its frames.
        cut: whether only the first bytes are there; a last frame that is not whole is
            left out.

    Raises:
        MalformedError: these are not whole frames in growing order.
    """
    found: list[Message] = []
    at = 0
    while at + FRAME_HEAD <= len(raw):
        order, kind, size = _HEAD.unpack_from(raw, at)
        start = at + FRAME_HEAD
        if start + size > len(raw):
            break
        grows = not found or order > found[-1].order
        if kind not in (TEXT, BINARY) or not grows:
            raise MalformedError(f"expected frames in order, got another at byte {at}")
        found.append(Message(order, kind, raw[start : start + size]))
        at = start + size
    if at < len(raw) and not cut:
        raise MalformedError(f"expected whole frames, got one cut at byte {at}")
    return found


def split_body(
    split: str, prefix: str, body: bytes, depth: int
) -> list[tuple[str, bytes]] | None:
    """Return the leaves that a body has besides its raw one: path, value.

    Args:
        split: ``json``, ``sse``, ``ws`` or ``chunks``, as the entry says.
        prefix: ``request`` or ``response``, the start of every path.
        body: the raw body; for ``json`` and ``sse`` the decoded one, if there is one.
        depth: levels of JSON to open.

    Returns:
        In order; None if no body of these bytes is split so: no `members`, an event
        stream that is no text, what is not whole frames, no piece or too many.
    """
    if split == "json":
        return members(prefix, body, depth)
    if split == "chunks":
        return chunks(prefix, body)
    try:
        if split == "ws":
            values = [message.payload for message in messages(body)]
        else:
            values = blocks(body) if is_text(body) else []
    except MalformedError:
        return None
    if len(values) > MAX_PIECES or (split == "sse" and not values):
        return None
    return [(f"{prefix}#{number}", value) for number, value in enumerate(values)]
