"""One entry about a person as a document to read, with what proves each word of it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from auditlog.core.encoding import format_base64
from auditlog.core.errors import (
    MalformedError,
    NotFoundError,
    PendingError,
    VerificationError,
)
from auditlog.core.record import (
    DECISION,
    MAX_DEPTH,
    Entry,
    format_id,
    format_time,
    nested_deeper,
    parse_entry,
)
from auditlog.log.access import ACCESS
from auditlog.log.amendment import AMENDMENT
from auditlog.log.batch_part import NOWHERE, Place, own_paths, place_in_batch
from auditlog.log.content import verify_content
from auditlog.log.parts import SIDES, STORED, Content, Leaf
from auditlog.log.reader import Reader
from auditlog.log.transcript import transcript
from auditlog.log.views import reading_json
from auditlog.storage import IndexRow

__all__ = ["Document", "document_of"]

_SHARED = frozenset(
    f"context/{name}"
    for name in ("target", "stored.target", "stored.request", "stored.response")
)
"""Leaves that speak of a body, which is that of all in a batch."""
_STAFF = "context/user"
"""In what was done later: who of the operator's people looked, or decided."""


class Document(NamedTuple):
    """What is told of one entry."""

    said: dict[str, Any]
    """JSON; `msgspec.Raw` in it is JSON as it was captured."""
    receipts: tuple[tuple[str, bytes], ...]
    """Name and bytes of the proofs of it."""
    state: str
    """``whole``; ``partly``, where something of it is not here; ``pending``, before it
    can be proven; ``unreadable``, where what is stored is damaged."""


class _Opened(NamedTuple):
    """Content, and which leaves of it a person is shown."""

    content: Content
    leaves: list[Leaf]
    paths: list[str] | None
    """None: all that is kept."""
    missing: list[dict[str, str]]


def document_of(reader: Reader, row: IndexRow, *, firm: Collection[str]) -> Document:
    """Return what is told of an entry to whom it is about.

    Args:
        reader: of the log.
        row: of the entry.
        firm: levels from which on a verifier who holds to the log's own policy is
            convinced; below them there is no receipt yet.

    Raises:
        NotFoundError: its content was erased meanwhile.
        StorageError: it cannot be read.
    """
    id_ = format_id(row.id)
    view = reader.decision(id_)
    assert view.entry is not None  # it has a row
    entry = parse_entry(view.entry)
    said = _in_clear(entry, view.level)
    if "commitment" not in entry.data:
        return _proven(reader, firm, said, None)
    try:
        opened = _open(reader, entry)
    except (MalformedError, VerificationError) as error:
        said["missing"] = [_missing("everything", f"it cannot be opened: {error}")]
        return _proven(reader, firm, said, None)._replace(state="unreadable")
    said |= _content(reader, entry, opened)
    made = _proven(reader, firm, said, opened)
    return _with_own_part(reader, firm, made, opened)


def _in_clear(entry: Entry, level: str) -> dict[str, Any]:
    data = {k: v for k, v in entry.data.items() if k not in _TECHNICAL}
    return {
        "id": format_id(entry.id),
        "type": entry.type,
        "time": format_time(entry.time),
        "level": level,
        **data,
    }


_TECHNICAL = frozenset({"commitment", "emitter", "sequence", "request", "response"})
"""What the receipt says of an entry, and nobody reads."""


# --- what may be shown ----------------------------------------------------------------


def _open(reader: Reader, entry: Entry) -> _Opened:
    content, leaves = reader.opened(format_id(entry.id))
    missing = list(_not_kept(content))
    paths = None
    place = _place(content) if entry.type == DECISION else None
    if place is not None and place.holder is None:
        paths = _own_and_context(place, content, leaves)
        missing.append(_missing("the bodies", _OF_OTHERS))
    if entry.type in {ACCESS, AMENDMENT}:
        paths = [leaf.path for leaf in leaves if leaf.path.startswith("context/")]
        if _STAFF in paths:
            paths.remove(_STAFF)
            missing.append(_missing(_STAFF, _NOT_NAMED))
    return _Opened(content, leaves, paths, missing)


_OF_OTHERS = (
    "they hold data of others too, in a batch; what is at its own place is opened, "
    "where the bodies have one place for each"
)
_NOT_NAMED = "people who work for the operator are not named here"


def _place(content: Content) -> Place | None:
    if "annotations" in content.redaction:
        # What was taken out may be that others are in the body, too.
        return NOWHERE
    return place_in_batch(content.context)


def _own(place: Place, content: Content, leaves: Sequence[Leaf]) -> dict[str, bytes]:
    """Return path and value of what stands at an item's own place."""
    values = {leaf.path: leaf.value for leaf in leaves if leaf.value is not None}
    # Of a body that was redacted it cannot be told how many places there are.
    told = [path for path in values if content.became(path)[1] is None]
    return {path: values[path] for path in own_paths(place, told)}


def _own_and_context(
    place: Place, content: Content, leaves: Sequence[Leaf]
) -> list[str]:
    kept = [leaf.path for leaf in leaves if leaf.value is not None]
    context = [path for path in kept if path.startswith("context/")]
    return [
        *_own(place, content, leaves),
        *(path for path in context if path not in _SHARED),
    ]


def _not_kept(content: Content) -> Iterator[dict[str, str]]:
    """Yield what the commitment covers and nobody can open any more."""
    for name, became in content.redaction.items():
        yield _missing(name, _BECAME[became])
    for side, raw in zip(SIDES, content.parts, strict=False):
        if content.is_capped(side):
            kept = len(content.body(side).value)
            yield _missing(side, _CUT.format(kept, raw.size) if kept else _NOT_KEPT)


_BECAME = {
    "redacted": "something was taken out before it was stored; the rest is here",
    "withheld": "it was left out before it was stored",
}
_CUT = "only the first {} of {} bytes were kept"
_NOT_KEPT = "it was not kept"


def _missing(what: str, why: str) -> dict[str, str]:
    return {"what": what, "why": why}


# --- what is shown --------------------------------------------------------------------


def _content(reader: Reader, entry: Entry, opened: _Opened) -> dict[str, Any]:
    content, paths = opened.content, opened.paths
    said: dict[str, Any] = {}
    if paths is None and entry.type == DECISION:
        said |= _bodies(entry, content)
        reading = reader.read(format_id(entry.id))[1]
        if reading is not None:
            said["answer"] = reading_json(reading)
    said["context"] = {
        name: _value(value)
        for name, value in content.context.items()
        if name not in _COPIES and (paths is None or f"context/{name}" in paths)
    }
    if opened.missing:
        said["missing"] = opened.missing
    return said


_COPIES = frozenset(f"{STORED}{side}" for side in SIDES)
"""Leaves that are shown as the bodies that they stand for."""


def _bodies(entry: Entry, content: Content) -> dict[str, Any]:
    bodies = {side: content.body(side) for side in SIDES}
    lines = transcript(entry.data, *(body.value for body in bodies.values()))
    if lines:
        return {
            "messages": [
                {"order": line.order, "by": line.by, **_value(_bytes(line.payload))}
                for line in lines
            ]
        }
    return {
        side: {**entry.data[side], **_value(body.value)}
        for side, body in bodies.items()
    }


def _bytes(payload: str | bytes) -> bytes:
    return payload.encode() if isinstance(payload, str) else payload


def _value(value: bytes) -> dict[str, Any]:
    """Return bytes as JSON, as text or in base64, whatever they are first."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {"base64": format_base64(value)}
    # As it was written: a number read and written again may be another one.
    return {"json": msgspec.Raw(value)} if _is_json(value) else {"text": text}


def _is_json(value: bytes) -> bool:
    if nested_deeper(value, MAX_DEPTH):
        return False
    try:
        # Both read it: what only one of them takes would spoil the whole document.
        msgspec.json.format(value)
        return isinstance(msgspec.json.decode(value), dict | list)
    except msgspec.MsgspecError:
        return False


# --- what proves it -------------------------------------------------------------------


def _proven(
    reader: Reader, firm: Collection[str], said: dict[str, Any], opened: _Opened | None
) -> Document:
    id_ = str(said["id"])
    if said["level"] not in firm:
        return Document(said, (), "pending")
    receipts, why = _receipts(reader, id_, opened)
    if why:
        said["missing"] = [
            *said.get("missing", ()),
            _missing("what the receipt does not open", why),
        ]
    return Document(said, receipts, "partly" if said.get("missing") else "whole")


def _receipts(
    reader: Reader, id_: str, opened: _Opened | None
) -> tuple[tuple[tuple[str, bytes], ...], str | None]:
    """Return the receipt that opens most, and why it does not open all that it may.

    Of what is larger than receipts are, what was kept stands in the document alone.
    """
    why = None
    for wanted in _openings(opened):
        try:
            return ((id_, reader.receipt(id_, **wanted)),), why
        except MalformedError as error:
            why = f"it cannot be made: {error}"
    return (), why


def _openings(opened: _Opened | None) -> Iterator[dict[str, Any]]:
    """Yield what a receipt is to open, at best, else less and less."""
    if opened is not None:
        kept = [leaf.path for leaf in opened.leaves if leaf.value is not None]
        paths = kept if opened.paths is None else opened.paths
        yield {"open_all": True} if opened.paths is None else {"disclose": paths}
        context = (path for path in paths if path.startswith("context/"))
        copy = f"context/{STORED}"
        yield {"disclose": [path for path in context if not path.startswith(copy)]}
    yield {}


def _with_own_part(
    reader: Reader, firm: Collection[str], made: Document, opened: _Opened
) -> Document:
    """Add what stands at an item's own place in the body that is held by another."""
    place = _place(opened.content)
    if place is None:
        return made
    if place.holder is None:
        part = _values(_own(place, opened.content, opened.leaves))
        return made._replace(said=made.said | {"own": part})
    try:
        part, receipt = _part_of(reader, firm, place.holder, place)
    except (NotFoundError, PendingError, VerificationError, MalformedError):
        why = "they are held by another decision of the batch, and cannot be opened"
        missing = [*made.said.get("missing", ()), _missing("the bodies", why)]
        return made._replace(said=made.said | {"missing": missing}, state="partly")
    name = f"{made.said['id']}.batch"
    return made._replace(
        said=made.said | {"own": part}, receipts=(*made.receipts, (name, receipt))
    )


def _part_of(
    reader: Reader, firm: Collection[str], holder: str, place: Place
) -> tuple[dict[str, Any], bytes]:
    """Return the own part of an item, and a receipt that opens no more than that.

    Raises:
        NotFoundError: the body has no place for it, or is not there any more.
    """
    view = reader.decision(holder)
    encoded = view.entry
    if encoded is None or view.level not in firm:
        raise PendingError("no receipt of it would convince anybody yet")
    content = reader.content(holder)
    own = _own(place, content, verify_content(parse_entry(encoded), content))
    if not own:
        raise NotFoundError("no place in the body is that of this item")
    return _values(own), reader.receipt(holder, disclose=[*own])


def _values(values: Mapping[str, bytes]) -> dict[str, Any]:
    return {path: _value(value) for path, value in values.items()}
