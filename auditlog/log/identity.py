"""Identifiers of entries: UUIDv7, 16 bytes inside, text at the edge."""

import os
from uuid import UUID

from auditlog.core.errors import MalformedError

__all__ = ["format_id", "new_id", "parse_id"]

_RANDOM_BYTES = 10


def new_id(time: int, entropy: bytes | None = None) -> bytes:
    """Return a UUIDv7 (RFC 9562 §5.7) of 16 bytes.

    Args:
        time: microseconds since the epoch; the id begins with its milliseconds.
        entropy: 10 random bytes; None draws them.
    """
    random = os.urandom(_RANDOM_BYTES) if entropy is None else entropy
    return b"%b%c%c%c%b" % (
        (time // 1000).to_bytes(6),
        0x70 | random[0] & 0x0F,
        random[1],
        0x80 | random[2] & 0x3F,
        random[3:],
    )


def format_id(id_: bytes) -> str:
    """Return the canonical text of an id."""
    text = id_.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def parse_id(text: str) -> bytes:
    """Read the canonical text of a UUIDv7.

    Raises:
        MalformedError: it is not one, or not in its canonical spelling.
    """
    try:
        parsed = UUID(text)
    except (ValueError, AttributeError, TypeError):
        parsed = None
    if parsed is None or str(parsed) != text or parsed.version != 7:
        msg = f"expected a decision id (a UUIDv7 in lower case), got {str(text)[:64]!r}"
        raise MalformedError(msg)
    return parsed.bytes
