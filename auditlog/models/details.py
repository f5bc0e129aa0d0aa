"""What may be said of a model in clear: short words from code and artifacts."""

import re

__all__ = ["DETAIL", "MAX_TEXT", "is_detail", "is_printable"]

MAX_TEXT = 256
"""Characters of a name, a version, or the value of a detail."""
DETAIL = re.compile(r"[a-z][a-z0-9._-]{0,63}")
"""Name of a detail."""


def is_printable(text: object) -> bool:
    """Return whether a value is a text that may stand in clear in an entry."""
    # Printable also means: no lone surrogate, so that it can be written as UTF-8.
    return isinstance(text, str) and 0 < len(text) <= MAX_TEXT and text.isprintable()


def is_detail(name: str, text: str) -> bool:
    """Return whether these can be the name and the value of a detail of a model."""
    return DETAIL.fullmatch(name) is not None and is_printable(text)
