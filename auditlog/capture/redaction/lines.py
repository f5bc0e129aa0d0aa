"""Texts of JSON one after the other: one a line, or each behind a separator."""

from auditlog.capture.redaction.cut_json import is_strict
from auditlog.capture.redaction.json_document import redact_json
from auditlog.capture.redaction.places import Places
from auditlog.capture.redaction.rules import Rules

__all__ = ["redact_lines"]


def redact_lines(
    rules: Rules, value: bytes, places: Places, *, mark: bytes = b"\n", cut: bool
) -> bytes | None:
    """Return what may be stored of several texts of JSON, or of their first bytes.

    Args:
        rules: what may not be stored.
        value: the texts.
        places: where pointers are at the root of each.
        mark: what separates them: a line feed, or RS (RFC 7464).
        cut: whether it is known to go on.

    Returns:
        None if one of them is no strict JSON; the last one may be the start of such.

    Raises:
        FailedRedactorError: a callable failed.
    """
    lines = value.split(mark)
    last = len(lines) - 1
    stored = [
        _line(rules, line, places, last=number == last, cut=cut)
        for number, line in enumerate(lines)
    ]
    whole = [line for line in stored if line is not None]
    return mark.join(whole) if len(whole) == len(stored) else None


def _line(
    rules: Rules, line: bytes, places: Places, *, last: bool, cut: bool
) -> bytes | None:
    if not line.strip():
        return line
    if last:
        return redact_json(rules, line, places, cut=cut)
    # Two lines that are the start and the end of one text are not two texts.
    try:
        strict = is_strict(line.decode())
    except UnicodeDecodeError:
        return None
    return redact_json(rules, line, places) if strict else None
