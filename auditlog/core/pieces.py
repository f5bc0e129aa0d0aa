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
from itertools import islice, pairwise
from typing import NamedTuple

from auditlog.core.commitment import chunks, members
from auditlog.core.errors import MalformedError

__all__ = [
    "BINARY",
    "FRAME_HEAD",
    "MAX_PIECES",
    "TEXT",
    "Message",
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
_EMPTY_LINE = re.compile(rb"(?:\r\n?+|\n)(?=(\r\n?+|\n))")


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
    text, size = utf_8_decode(body, "ignore")  # of a stream that may go on
    return text.encode() == body[:size]


def blocks(body: bytes) -> list[bytes]:
    """Cut a ``text/event-stream`` body into its event blocks, as they were sent.

    Each ends with the empty line that ends it; what follows the last one is a block
    too, if there is anything. A comment, or an empty line more, is a block like others.
    After `MAX_PIECES` of them, all the rest is one.
    """
    empty = islice(_EMPTY_LINE.finditer(b"\n" + body), MAX_PIECES)
    cuts = [0, *(line.end(1) - 1 for line in empty), len(body)]
    return [body[start:end] for start, end in pairwise(cuts) if start < end]


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
