"""New identifiers of entries: UUIDv7, 16 bytes."""

import os

__all__ = ["new_id"]

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
