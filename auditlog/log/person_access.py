"""The entry that says that somebody looked for what is held on a person.

A stand-in with the names and signatures of `auditlog.log.access` on branch `access`:
once that is merged, import from there and let this go.
"""

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

import zstandard

from auditlog.core.errors import StorageError
from auditlog.core.record import Entry, canonical_json, format_id
from auditlog.log.access import Channel
from auditlog.log.content import context_only
from auditlog.log.directory import LogDirectory
from auditlog.log.identity import new_id
from auditlog.log.preparation import sealed_item
from auditlog.log.said import words
from auditlog.log.storing import is_stored

__all__ = ["ACCESS", "Access", "Recipient", "make_recipient", "record_person_access"]

ACCESS = "auditlog.access.v1"
_SECRET_BYTES = 32
_NAME, _PURPOSE = 256, 1024


class Recipient(NamedTuple):
    """To whom something is handed, and what for."""

    name: str
    purpose: str | None = None


class Access(NamedTuple):
    """One reading."""

    what: Literal["search", "export"]
    channel: Channel
    by: Mapping[str, str]
    """Who reads: ``token`` and ``label``, or ``login``."""
    recipient: Recipient


def make_recipient(name: str, purpose: str | None = None) -> Recipient:
    """Return a recipient.

    Raises:
        ConfigurationError: name or purpose is not 1 to 256, or 1,024, characters.
    """
    words("a recipient", name, _NAME)
    if purpose is not None:
        words("a purpose", purpose, _PURPOSE)
    return Recipient(name, purpose)


def record_person_access(
    log: LogDirectory, key_id: bytes, access: Access, *, now: float
) -> str:
    """Make durable that it is looked up, or handed out, what is held on a person.

    Args:
        log: the opened log, not read-only.
        key_id: of the person's key.
        access: who reads what.
        now: seconds since the epoch.

    Returns:
        The id of the entry about it.

    Raises:
        NotFoundError: the person was erased meanwhile.
        StorageError: it could not be recorded, so nothing may be handed out.
    """
    time = int(now * 1_000_000)
    said, content = context_only(os.urandom(_SECRET_BYTES), _leaves(access))
    said |= {"channel": access.channel, "what": access.what}
    entry = Entry(new_id(time), ACCESS, log.origin, time, said)
    compressor = zstandard.ZstdCompressor()
    item = sealed_item(entry, content, log.keys, compressor, under=key_id)
    try:
        log.store.append([item])
    except StorageError:
        # The answer may be lost where the entry is not.
        if not is_stored(log.store, item):
            raise
    return format_id(item.row.id)


def _leaves(access: Access) -> list[tuple[str, bytes]]:
    name, purpose = access.recipient
    recipient = {"name": name} | ({} if purpose is None else {"purpose": purpose})
    return [
        ("context/recipient", canonical_json(recipient)),
        ("context/user", canonical_json(dict(access.by))),
    ]
