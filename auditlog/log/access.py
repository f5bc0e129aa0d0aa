"""Who opens content leaves a trace: each reading is an entry of its own.

::

    {"channel": "api", "commitment": {…}, "decision": "<id>", "what": "disclosure",
     "request": {"mediaType": "none", "split": "none", "state": "omitted"},
     "response": {"mediaType": "none", "split": "none", "state": "omitted"}}

In clear stands that a decision was opened, and how. Who did, what for and what of it
is sealed, each in a leaf of its own (``auditlog/docs/disclosure.md``)::

    context/paths      ["request/age"]; with "secret" in it where that was given
    context/recipient  {"name": "Court", "purpose": "case 7"}, where it was handed on
    context/user       {"token": "<id>", "label": "…"} or {"login": "…"}

It is sealed under the key of whom the decision is about, so that erasing them erases
who read about them. A search for a person, or an export of all about them, names no
decision and is sealed under that person's key.
"""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import zstandard

from auditlog.core.errors import ConfigurationError, NotFoundError
from auditlog.core.record import Entry, canonical_json, format_id, parse_id
from auditlog.log.appending import append_once
from auditlog.log.content import Content, context_only
from auditlog.log.directory import LogDirectory
from auditlog.log.identity import new_id
from auditlog.log.preparation import sealed_item
from auditlog.log.said import words
from auditlog.storage import KeyErasedError, SpoolItem
from auditlog.storage.keys import RECORD, SUBJECT

__all__ = [
    "ACCESS",
    "SECRET",
    "Access",
    "Channel",
    "Recipient",
    "kept_paths",
    "make_recipient",
    "record_access",
    "record_person_access",
]

ACCESS = "auditlog.access.v1"
SECRET = "secret"  # noqa: S105 - a word in a list of paths
"""Stands among the paths where the secret was given, from which every salt follows."""

Channel = Literal["api", "cli"]
"""Through what content was read."""
What = Literal["content", "disclosure", "search", "export"]
"""``content``: somebody read it. ``disclosure``: parts were opened in a receipt, for a
recipient. ``search``: it was looked up what is held on a person. ``export``: all of
that was handed out."""

_SECRET_BYTES = 32
_NAME, _PURPOSE = 256, 1024


class Recipient(NamedTuple):
    """To whom something is handed, and what for."""

    name: str
    purpose: str | None = None


class Access(NamedTuple):
    """One reading."""

    what: What
    channel: Channel
    by: Mapping[str, str]
    """Who reads: ``token`` and ``label``, or ``login``."""
    paths: Sequence[str] = ()
    """What is opened, in order."""
    recipient: Recipient | None = None
    """None where it is for the eyes of who reads."""


def make_recipient(name: str, purpose: str | None = None) -> Recipient:
    """Return a recipient.

    Args:
        name: 1 to 256 printable characters.
        purpose: 1 to 1,024 of them, or None.

    Raises:
        ConfigurationError: one is anything else.
    """
    for what, text, longest in (
        ("a recipient", name, _NAME),
        ("a purpose", purpose, _PURPOSE),
    ):
        if text is not None and not words(what, text, longest).isprintable():
            raise ConfigurationError(f"expected {what} in printable characters")
    return Recipient(name, purpose)


def kept_paths(content: Content) -> list[str]:
    """Return what is opened where somebody reads all that is kept of a decision."""
    return [part.path for part in content.kept]


def record_access(log: LogDirectory, id_: str, access: Access, *, now: float) -> str:
    """Make durable that content of a decision is about to be handed out.

    To be called when the content is known to be intact and before a byte of it
    leaves.

    Args:
        log: the opened log, not read-only.
        id_: text of the id of the decision, or of another entry that has content.
        access: who reads what.
        now: seconds since the epoch.

    Returns:
        The id of the entry about it.

    Raises:
        NotFoundError: the content was erased since it was opened.
        StorageError: it could not be recorded. As with the other, nothing may be
            handed out.
    """
    entry, content = _entry(access, log.origin, now, {"decision": id_})
    seal = partial(_seal_about, log, parse_id(id_), entry, content)
    return format_id(append_once(log, seal, "an access"))


def record_person_access(
    log: LogDirectory, key_id: bytes, access: Access, *, now: float
) -> str:
    """Make durable that it is looked up, or handed out, what is held on a person.

    Args:
        log: the opened log, not read-only.
        key_id: of the person's key (`auditlog.storage.keys.Keys.subject`).
        access: who reads what.
        now: seconds since the epoch.

    Returns:
        The id of the entry about it.

    Raises:
        NotFoundError: the person was erased meanwhile.
        StorageError: it could not be recorded. As with the other, nothing may be
            handed out.
    """
    entry, content = _entry(access, log.origin, now, {})
    compressor = zstandard.ZstdCompressor()
    seal = partial(sealed_item, entry, content, log.keys, compressor, under=key_id)
    try:
        return format_id(append_once(log, seal, "an access"))
    except (KeyErasedError, NotFoundError):
        raise NotFoundError("what was held was erased meanwhile") from None


def _seal_about(
    log: LogDirectory, decision: bytes, entry: Entry, content: Content
) -> SpoolItem:
    row = log.store.by_id(decision)
    stored = None if row is None or row.index is None else log.store.sealed(row.index)
    kind = None if stored is None else log.keys.kind(stored[0])
    # A key is taken out of the store before anything else of an erasure is done: from
    # then on nobody may be handed what was opened before. One look, so that whoever is
    # erased after it is found out when the entry is appended.
    if stored is None or kind is None:
        raise NotFoundError(f"the content of {format_id(decision)} was erased")
    under = stored[0] if kind in {SUBJECT, RECORD} else None
    compressor = zstandard.ZstdCompressor()
    return sealed_item(entry, content, log.keys, compressor, under=under)


def _entry(
    access: Access, origin: str, now: float, about: Mapping[str, str]
) -> tuple[Entry, Content]:
    """Return what is said of a reading in clear, and what is sealed."""
    time = int(now * 1_000_000)
    said, content = context_only(os.urandom(_SECRET_BYTES), _leaves(access))
    data = said | {"channel": access.channel, "what": access.what, **about}
    return Entry(new_id(time), ACCESS, origin, time, data), content


def _leaves(access: Access) -> list[tuple[str, bytes]]:
    leaves: dict[str, object] = {"user": dict(access.by)}
    if access.paths:
        leaves["paths"] = list(access.paths)
    if access.recipient is not None:
        name, purpose = access.recipient
        more = {} if purpose is None else {"purpose": purpose}
        leaves["recipient"] = {"name": name, **more}
    return [
        (f"context/{name}", canonical_json(value))
        for name, value in sorted(leaves.items())
    ]
