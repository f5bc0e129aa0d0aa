r"""Event blocks of an SSE body, and messages of a WebSocket session (`FORMATS.md` §3).

Each is a leaf of its own, ``response#<i>``, so that it can be shown and proven alone.
Blocks are the body, cut: joined they give it again. A WebSocket has no body; its raw
value is made of frames, one for each message of a direction::

    u32 order ‖ u8 1 text | 2 binary ‖ u32 length ‖ payload

`order` counts the messages of both directions together, from 0.
"""

import re
import struct
from typing import NamedTuple

from auditlog.core.errors import MalformedError

__all__ = ["BINARY", "MAX_PIECES", "TEXT", "Message", "blocks", "frame", "messages"]

MAX_PIECES = 1 << 16
"""Blocks of a body or messages of a direction; with more of them there are none."""
TEXT, BINARY = 1, 2
_HEAD = struct.Struct(">IBI")
# A line ends with CRLF, LF or CR, and a block with an empty line (WHATWG HTML §9.2.5).
_BLOCK = re.compile(rb"(?:[^\r\n]++(?:\r\n|[\r\n]))*+(?:\r\n|[\r\n])")


class Message(NamedTuple):
    """One message of a WebSocket session."""

    order: int
    """Its place among the messages of both directions, from 0."""
    kind: int
    """`TEXT` or `BINARY`."""
    payload: bytes
    """Text as UTF-8."""


def blocks(body: bytes) -> list[bytes]:
    """Cut a ``text/event-stream`` body into its event blocks, as they were sent.

    Each ends with the empty line that ends it; what follows the last one is a block
    too, if there is anything. A comment, or an empty line more, is a block like others.
    """
    found: list[bytes] = []
    end = 0
    for match in _BLOCK.finditer(body):
        found.append(match.group())
        end = match.end()
    return found if end == len(body) else [*found, body[end:]]


def frame(order: int, kind: int, payload: bytes) -> bytes:
    """Return one message as it stands in the raw value of its direction."""
    return _HEAD.pack(order, kind, len(payload)) + payload


def messages(raw: bytes) -> list[Message]:
    """Return the messages of one direction of a session.

    Raises:
        MalformedError: these are not whole frames in growing order.
    """
    found: list[Message] = []
    at = 0
    while at < len(raw):
        if at + _HEAD.size > len(raw):
            raise MalformedError(f"expected whole frames, got one cut at byte {at}")
        order, kind, size = _HEAD.unpack_from(raw, at)
        payload = raw[at + _HEAD.size : at + _HEAD.size + size]
        grows = not found or order > found[-1].order
        if len(payload) != size or kind not in (TEXT, BINARY) or not grows:
            raise MalformedError(f"expected frames in order, got another at byte {at}")
        found.append(Message(order, kind, payload))
        at += _HEAD.size + size
    return found
