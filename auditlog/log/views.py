"""What look-ups take and give, as text and JSON: one shape for command line and API."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from auditlog.capture.reading import Reading
from auditlog.core.errors import MalformedError
from auditlog.core.merkle import leaf_hash
from auditlog.core.record import format_id, format_time
from auditlog.log.reader import DecisionView
from auditlog.storage import IndexRow

__all__ = [
    "decision_json",
    "page_json",
    "parse_leaf",
    "parse_moment",
    "parse_number",
    "reading_json",
    "row_json",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?"
    r"(?:Z|[+-][0-9]{2}:[0-9]{2})?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_LEAF = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_NUMBER = (1 << 63) - 1


def parse_moment(text: str) -> int:
    """Read a date, or a date and time (RFC 3339 §5.6, seconds may be left out).

    A date is its first instant; what names no offset is UTC.

    Returns:
        Microseconds since the epoch.

    Raises:
        MalformedError: it is neither, or before 1970.
    """
    try:
        moment = datetime.fromisoformat(text) if _MOMENT.fullmatch(text) else None
    except ValueError:
        moment = None
    if moment is not None:
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        microseconds = (aware - _EPOCH) // timedelta(microseconds=1)
        if microseconds >= 0:
            return microseconds
    msg = (
        "expected a date or time since 1970, such as 2026-08-01 or "
        f"2026-08-01T09:30:00Z, got {text[:64]!r}"
    )
    raise MalformedError(msg)


def parse_number(text: str, *, low: int = 0, high: int = _MAX_NUMBER) -> int:
    """Read a decimal number in its one spelling.

    Raises:
        MalformedError: it is none, or not within `low` and `high`, both included.
    """
    if _NUMBER.fullmatch(text) and low <= int(text) <= high:
        return int(text)
    msg = f"expected a whole number from {low} to {high}, got {text[:64]!r}"
    raise MalformedError(msg)


def parse_leaf(text: str) -> bytes:
    """Read a leaf hash, 64 lower-case hex digits.

    Raises:
        MalformedError: it is not that.
    """
    if _LEAF.fullmatch(text) is None:
        msg = f"expected a leaf hash, 64 lower-case hex digits, got {text[:80]!r}"
        raise MalformedError(msg)
    return bytes.fromhex(text)


def row_json(row: IndexRow) -> dict[str, Any]:
    """Return what a list of decisions says of one."""
    return {
        "id": format_id(row.id),
        "index": row.index,
        "time": format_time(row.time),
        "route": row.route,
        "model": row.model,
        "version": row.version,
        "outcome": row.outcome,
    }


def page_json(rows: Sequence[IndexRow], limit: int) -> dict[str, Any]:
    """Return one page of a look-up that asked for ``limit + 1`` rows.

    ``next`` is the cursor of the page after it, None on the last. It is the index of
    the last row here: decisions that come in meanwhile move no page.
    """
    page = rows[:limit]
    more = len(rows) > limit
    return {
        "decisions": [row_json(row) for row in page],
        "next": str(page[-1].index) if more else None,
    }


def decision_json(view: DecisionView) -> dict[str, Any]:
    """Return all that is known of one decision, short of its content.

    ``entry`` is the exact text that is hashed, ``leaf`` its hash in hex; both are None
    while the decision is only opened. ``vault`` is ``sealed`` or ``erased``, None where
    nothing was kept of what was captured.
    """
    known: dict[str, Any] = {"id": view.id, "level": view.level}
    if view.row is not None:
        known |= row_json(view.row)
    entry = view.entry
    return known | {
        "leaf": None if entry is None else leaf_hash(entry).hex(),
        "data": None if entry is None else json.loads(entry)["data"],
        "entry": None if entry is None else entry.decode(),
        "vault": view.vault,
        "amendments": [_amendment_json(one) for one in view.amendments],
        "ranOn": None if view.model is None else _model_json(view.model),
    }


def _model_json(entry: bytes) -> dict[str, Any]:
    event = json.loads(entry)
    details = event["data"].get("model.details", {})
    return {"id": event["id"], "time": event["time"], "details": details}


def reading_json(reading: Reading) -> dict[str, Any]:
    """Return what content says by a model protocol; its members are `Reading`'s."""
    known: dict[str, Any] = msgspec.to_builtins(reading)
    return known


def _amendment_json(entry: bytes) -> dict[str, Any]:
    """Return what stands in clear, and whether there is sealed content besides."""
    event = json.loads(entry)
    data = event["data"]
    return {
        "id": event["id"],
        "time": event["time"],
        "kind": data.get("kind"),
        "sealed": "commitment" in data,
    }
