"""The entries that say that a key was erased, and what they commit to.

::

    {"commitment": {…}, "key": "<key id>", "state": "shredded",
     "request": {"mediaType": "none", "split": "none", "state": "omitted"},
     "response": {"mediaType": "none", "split": "none", "state": "omitted"}}
    {"key": "<key id>", "state": "final"}

Neither names a decision or a person: nothing may tell any more which entries were about
one person. The leaves of the first, sealed under the key of its day:

===================  ===============================================================
``context/reason``   ``{"text": "…"}``, if one was given
``context/records``  how many entries lost their content; all erasures together account
                     for everything that is missing from the vault
``context/subject``  ``{"id": "…", "kind": "…"}``; its salt is in the receipt that the
                     person gets and nowhere else, so that nobody can confirm a guess
``context/user``     who erased it: ``{"token": …, "label": …}`` or ``{"login": …}``
===================  ===============================================================
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import zstandard

from auditlog.core.commitment import commit, salts
from auditlog.core.encoding import format_base64, parse_base64
from auditlog.core.errors import MalformedError
from auditlog.core.receipt import Disclosure, Opening
from auditlog.core.record import Entry, canonical_json, parse_json
from auditlog.log.content import Content, context_only
from auditlog.log.identity import new_id
from auditlog.log.preparation import (
    SealingKeys,
    epoch_of,
    plain_item,
    sealed_item,
)
from auditlog.storage import SpoolItem

__all__ = [
    "ERASURE",
    "RECORDS",
    "ErasureEntry",
    "Proof",
    "erased_entry",
    "final_entry",
    "named_key",
    "records_in",
]

ERASURE = "auditlog.erasure.v1"

RECORDS, _SUBJECT = "context/records", "context/subject"
_SECRET_BYTES, _KEY_ID_BYTES, _BODIES = 32, 16, 2
_MAX_COUNT = 20


class Proof(NamedTuple):
    """What shows whom an erasure was about; kept nowhere, for the receipt alone."""

    opening: Opening
    disclosure: Disclosure

    def __repr__(self) -> str:
        """Show neither salt nor identifier."""
        return "Proof()"


class ErasureEntry:
    """The entry about an erasure that is about to begin, but for how much it is."""

    def __init__(
        self,
        key_id: bytes,
        keys: SealingKeys,
        origin: str,
        now: int,
        *,
        subject: tuple[str, str] | None = None,
        reason: str | None = None,
        by: Mapping[str, str] | None = None,
    ) -> None:
        """Take what is known; `item` makes the entry.

        Args:
            key_id: of the key that is erased.
            keys: of the log.
            origin: the log's name.
            now: microseconds since the epoch.
            subject: kind and identifier of whom it is about, where that is known.
            reason: why, or at whose request.
            by: who erases it, as `auditlog.log.access.Access.by`.

        Raises:
            StorageError: there is no key to seal under now.
        """
        self.id = new_id(now)
        self.disclosure: Disclosure | None = None
        """What opens `subject`: known before anything is erased."""
        self.key_id = key_id
        self.proof: Proof | None = None
        """What opens `subject`, once the item was made."""
        self.counts: dict[bytes, int] = {}
        """How many entries lose their content, by key, once items were made."""
        self._keys, self._origin, self._now = keys, origin, now
        self._reason, self._by = reason, by
        self._leaves: dict[str, bytes] = {}
        if subject is not None:
            kind, identifier = subject
            said = {"id": identifier, "kind": kind}
            self._leaves[_SUBJECT] = canonical_json(said)
        if reason is not None:
            self._leaves["context/reason"] = canonical_json({"text": reason})
        if by is not None:
            self._leaves["context/user"] = canonical_json(dict(by))
        self._secret = os.urandom(_SECRET_BYTES)
        if subject is not None:
            self.disclosure = self._hidden()
        # Made now, for `item` is called within a transaction.
        keys.epoch_key(epoch_of(now))

    def _hidden(self) -> Disclosure:
        """Return what opens the subject; no salt depends on how much is erased."""
        paths = sorted([*self._leaves, RECORDS])
        number = _BODIES + paths.index(_SUBJECT)
        _, *keys = salts(self._secret, _BODIES + len(paths))
        return Disclosure(number, _SUBJECT, keys[number], self._leaves[_SUBJECT])

    @property
    def total(self) -> int:
        """How many entries lose their content, once items were made."""
        return sum(self.counts.values())

    def item_of(self, key_id: bytes, records: int) -> SpoolItem:
        """Return the item to append for this key, or for one that goes with it.

        Whom the other one was about its entry does not say: one receipt is enough.

        Args:
            key_id: of the key that is erased.
            records: how many entries lose their content.

        Raises:
            StorageError: there is no key to seal under now.
        """
        self.counts[key_id] = records
        if key_id == self.key_id:
            return self.item(records)
        with_it = ErasureEntry(
            key_id,
            self._keys,
            self._origin,
            self._now,
            reason=self._reason,
            by=self._by,
        )
        return with_it.item(records)

    def item(self, records: int) -> SpoolItem:
        """Return the item to append; `records` is how many entries lose their content.

        Raises:
            StorageError: there is no key to seal under now.
        """
        leaves = self._leaves | {RECORDS: canonical_json(records)}
        data, content, opening = _committed(self._secret, sorted(leaves.items()))
        if self.disclosure is not None:
            self.proof = Proof(opening, self.disclosure)
        data |= {"key": format_base64(self.key_id), "state": "shredded"}
        entry = Entry(self.id, ERASURE, self._origin, self._now, data)
        return sealed_item(entry, content, self._keys, zstandard.ZstdCompressor())


def _committed(
    secret: bytes, leaves: Sequence[tuple[str, bytes]]
) -> tuple[dict[str, Any], Content, Opening]:
    """Return members of an entry, what the vault keeps, and what opens it.

    Of `context/subject` the vault keeps the hash alone, and so no secret, either.
    """
    unopened = [path for path, _ in leaves if path == _SUBJECT]
    data, content = context_only(secret, leaves, unopened=unopened)
    _, (first, *_), hashes = commit(secret, b"", b"", leaves)
    return data, content, Opening(first, 0, 0, tuple(hashes))


def erased_entry(
    key_id: bytes, records: int, keys: SealingKeys, origin: str, now: int
) -> SpoolItem:
    """Return the item of an entry about content that was erased on its way.

    Args:
        key_id: of the key that was erased before.
        records: how many items it had sealed.
        keys: of the log.
        origin: the log's name.
        now: microseconds since the epoch.

    Raises:
        StorageError: there is no key to seal under now.
    """
    return ErasureEntry(key_id, keys, origin, now).item(records)


def final_entry(key_id: bytes, origin: str, now: int) -> SpoolItem:
    """Return the item of the entry that says that no backup holds a key any more."""
    data = {"key": format_base64(key_id), "state": "final"}
    return plain_item(Entry(new_id(now), ERASURE, origin, now, data))


def named_key(data: Mapping[str, Any]) -> tuple[bytes, str]:
    """Return the id of the key that an erasure entry names, and the state it says.

    Raises:
        MalformedError: it says something else.
    """
    key, state = data.get("key"), data.get("state")
    key_id = parse_base64(key) if isinstance(key, str) else b""
    if len(key_id) != _KEY_ID_BYTES or state not in {"shredded", "final"}:
        raise MalformedError("expected the id of a key and a state, got something else")
    return key_id, state


def records_in(content: Content) -> int:
    """Return how many entries lost their content, as an erasure says.

    Raises:
        MalformedError: it does not say so.
    """
    value = content.context.get("records", b"")
    count = parse_json(value, limit=_MAX_COUNT) if value else None
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise MalformedError("expected how many entries were erased, got nothing")
    return count
