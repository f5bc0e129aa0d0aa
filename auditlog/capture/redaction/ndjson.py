"""JSON by the line, as some servers stream it: each line redacted, and as many left."""

import re

from auditlog.capture.redaction.engine import Engine
from auditlog.capture.redaction.fragments import redact_items
from auditlog.capture.redaction.grouping import Item

__all__ = ["redact_lines"]

# A sequence (RFC 7464) has a record separator before each text.
_LINE = re.compile(r"([\x1e \t]*+)([^\r\n\x1e]*+)([\r\n\x1e]*+)")
_BREAKS = re.compile(r"[\r\n\x1e]+")


def redact_lines(engine: Engine, body: str, *, cut: bool) -> str:
    """Return lines without what must go.

    Args:
        engine: applies the rules.
        body: all of it, or its first characters.
        cut: whether it is known that there is more.

    Raises:
        Exception: whatever a callable raises.
    """
    lines = [match.groups() for match in _LINE.finditer(body) if match[0]]
    items = [Item(text) for _, text, _ in lines]
    texts = redact_items(engine, items, cut=cut)
    return "".join(
        before + (text if text == old else _BREAKS.sub(" ", text)) + after
        for (before, old, after), text in zip(lines, texts, strict=True)
    )
