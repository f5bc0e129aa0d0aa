"""Text as all C2SP formats write it: lines, numbers and base64, in one spelling."""

import re
from binascii import a2b_base64, b2a_base64

from auditlog.core.errors import MalformedError

__all__ = [
    "MAX_TEXT",
    "check_range",
    "decode_text",
    "format_base64",
    "format_decimal",
    "parse_base64",
    "parse_decimal",
    "parse_hash",
]

MAX_TEXT = 1 << 20
"""Bytes in the longest text that is read."""

_CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f]")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")


def check_range(what: str, value: int, highest: int, lowest: int = 0) -> int:
    """Return `value` if it is an int, and no bool, within bounds that are included.

    Raises:
        MalformedError: it is not.
    """
    if type(value) is not int:
        raise MalformedError(f"expected {what} as int, got {type(value).__name__}")
    # The number is not in the message: formatting one of 5,000 digits raises.
    if not lowest <= value <= highest:
        limit = highest if highest < 2**32 else f"2^{highest.bit_length()}-1"
        raise MalformedError(f"expected {what} from {lowest} to {limit}")
    return value


def decode_text(data: bytes) -> str:
    """Return the text of a note as str (C2SP signed-note).

    Raises:
        MalformedError: it is not UTF-8, holds a control character, does not end in a
            newline, or is longer than `MAX_TEXT`.
    """
    if type(data) is not bytes or len(data) > MAX_TEXT or data[-1:] != b"\n":
        raise MalformedError("expected a text of up to 1 MiB, ending in a newline")
    if _CONTROL.search(data):
        raise MalformedError("expected a text without control characters")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedError("expected a text in UTF-8, got other bytes") from None


def format_base64(data: bytes) -> str:
    """Return standard base64 with padding (RFC 4648 §4)."""
    return b2a_base64(data, newline=False).decode()


def parse_base64(text: str) -> bytes:
    """Return the bytes of padded standard base64, in its canonical spelling only.

    Raises:
        MalformedError: `format_base64` makes no such text.
    """
    try:
        data = a2b_base64(text, strict_mode=True)
        canonical = type(text) is str and format_base64(data) == text
    except (TypeError, ValueError):
        canonical, data = False, b""
    if not canonical:
        # What came may be the text of a key: it is not in the message.
        raise MalformedError("expected canonical padded base64, got something else")
    return data


def format_decimal(value: int) -> str:
    """Return a number from 0 to 2^63-1 in ASCII digits.

    Raises:
        MalformedError: it is no int, or outside.
    """
    return str(check_range("a number", value, 2**63 - 1))


def parse_decimal(text: str) -> int:
    """Return a number from 0 to 2^63-1 in ASCII digits without leading zeros.

    Raises:
        MalformedError: the text is anything else.
    """
    if type(text) is not str or not _DECIMAL.fullmatch(text):
        raise MalformedError("expected a decimal number without sign or leading zeros")
    return check_range("a number", int(text), 2**63 - 1)


def parse_hash(text: str) -> bytes:
    """Return the 32 bytes of a hash in base64.

    Raises:
        MalformedError: the text is not base64, or not of 32 bytes.
    """
    value = parse_base64(text)
    if len(value) != 32:
        raise MalformedError(f"expected a hash of 32 bytes, got {len(value)}")
    return value
