"""One document, redacted: which of its readers it is for, by media type and by form."""

from auditlog.capture.redaction.redaction import Side
from auditlog.capture.redaction.rules import Rules
from auditlog.capture.redaction.text import FailedRedactorError, redact_text_body

__all__ = ["redact_document"]


def redact_document(
    rules: Rules,
    side: Side,
    value: bytes,
    media_type: str | None,
    *,
    cut: bool = False,
) -> bytes | None:
    """Return what may be stored of a body that is no stream; None if that is nothing.

    What comes back equals `value` where there was nothing to take out. Bytes that no
    rule touches stay as they are, one by one. Whatever the bytes are, nothing is raised.

    Args:
        rules: what may not be stored.
        side: which body it is.
        value: all of it, or its first bytes.
        media_type: Content-Type as sent; None without one.
        cut: whether it is known to go on. JSON, its lines and multipart show by
            themselves that they were cut; of other kinds a match that the cut hides is
            left out only where this is said.
    """
    if not value or not rules.apply_to(side):
        return value
    try:
        return redact_text_body(rules, value, "utf-8", cut=cut)
    except FailedRedactorError:
        return None
