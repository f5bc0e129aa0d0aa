"""Messages of a WebSocket: each redacted, and as many left, in order and of their kind.

What goes on from one message to the next of the same direction is found as
`auditlog.capture.redaction.fragments` says.
"""

from auditlog.capture.redaction.engine import Engine
from auditlog.capture.redaction.fragments import redact_items
from auditlog.capture.redaction.grouping import Item
from auditlog.capture.redaction.rules import REDACTED
from auditlog.core.pieces import TEXT, Message, frame, messages

__all__ = ["redact_messages"]

_LABELS = {True: "text", False: "binary"}


def redact_messages(engine: Engine, raw: bytes, *, cut: bool) -> bytes:
    """Return the frames of one direction without what must go.

    A last frame that is not whole is left out. Binary messages are read where all of
    them are UTF-8; else none is, as any of them may begin what another one ends.

    Args:
        engine: applies the rules.
        raw: its frames, all of them or the first bytes.
        cut: whether it is known that there are more.

    Raises:
        MalformedError: these are no frames.
        Exception: whatever a callable raises.
    """
    found = messages(raw, cut=True)
    texts = _texts(found)
    readable = [number for number, text in enumerate(texts) if text is not None]
    items = [
        Item(texts[number] or "", _LABELS[found[number].kind == TEXT])
        for number in readable
    ]
    payloads = [_unreadable(engine, message) for message in found]
    after = redact_items(engine, items, cut=cut)
    for number, text in zip(readable, after, strict=True):
        payloads[number] = text.encode(errors="replace")
    return b"".join(
        frame(message.order, message.kind, payload)
        for message, payload in zip(found, payloads, strict=True)
    )


def _texts(found: list[Message]) -> list[str | None]:
    """Return the texts of messages; None for each that cannot be read."""
    texts = [_decoded(message.payload) for message in found]
    unread = {
        message.kind for message, text in zip(found, texts, strict=True) if text is None
    }
    return [
        None if message.kind in unread else text
        for message, text in zip(found, texts, strict=True)
    ]


def _decoded(payload: bytes) -> str | None:
    if b"\0" in payload:
        return None  # UTF-16 is UTF-8 with zeros, mostly
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def _unreadable(engine: Engine, message: Message) -> bytes:
    return message.payload if engine.keeps_unreadable else REDACTED.encode()
