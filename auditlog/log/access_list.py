"""Who read content of a decision, or was handed some: told by the entries about it."""

import json
from typing import Any

from auditlog.core.errors import MalformedError, NotFoundError, VerificationError
from auditlog.core.record import Entry, format_id, format_time, parse_entry
from auditlog.log.access import ACCESS
from auditlog.log.directory import LogDirectory
from auditlog.log.reader import DecisionView, Reader
from auditlog.storage import IndexRow, Query

__all__ = ["accesses_of"]

_MOST = 1000
"""Readings that are told, the newest: each has to be opened."""
_LEAVES = ("user", "recipient", "paths")


def accesses_of(
    log: LogDirectory, reader: Reader, view: DecisionView
) -> list[dict[str, Any]]:
    """Return who opened a decision or one of its amendments, newest first.

    That somebody looks at this list is no entry: it holds nothing of what was captured.
    What cannot be opened any more says so by `sealed` without `user`.

    Args:
        log: the opened log.
        reader: of that log.
        view: of the decision.
    """
    about = [view.row.id] if view.row is not None else []
    about += [parse_entry(one).id for one in view.amendments]
    rows = [row for id_ in about for row in _about(log, id_)]
    newest = sorted(rows, key=lambda row: row.index or 0, reverse=True)
    return [_access_json(reader, row) for row in newest[:_MOST]]


def _about(log: LogDirectory, id_: bytes) -> list[IndexRow]:
    return log.store.find(Query(type=ACCESS, about=id_, limit=_MOST))


def _access_json(reader: Reader, row: IndexRow) -> dict[str, Any]:
    assert row.index is not None
    entry = parse_entry(reader.entry_at(row.index))
    data = entry.data
    known = {
        "id": format_id(entry.id),
        "time": format_time(entry.time),
        "what": data.get("what"),
        "channel": data.get("channel"),
        "about": data.get("decision"),
        "sealed": "commitment" in data,
    }
    return known | _opened(reader, entry)


def _opened(reader: Reader, entry: Entry) -> dict[str, Any]:
    """Return what is sealed of a reading, as far as there is still a key to it."""
    if "commitment" not in entry.data:
        return {}
    try:
        context = reader.content(format_id(entry.id)).context
    except NotFoundError:
        return {}  # erased, with whom it was about
    except (MalformedError, VerificationError):
        return {"damaged": True}
    return {name: json.loads(context[name]) for name in _LEAVES if name in context}
