"""Which key seals what: made on first use, found again, forgotten for ever.

A *kind* of key says what it is for, its *label* for which one:

===========  =================================================  ====================
kind         what it seals                                      label
===========  =================================================  ====================
``epoch``    content of a day about nobody in particular        ``2026-11-27``
``subject``  content about one person or thing                  blinded
``record``   content of one decision that may have to go alone  id of the entry
``index``    nothing: it blinds the labels of subjects          empty
===========  =================================================  ====================

The label of a subject is HMAC-SHA-256(K_index, u8 len(kind) || kind || identifier) in
hex (`FORMATS.md` §5): the store names nobody about whom there is content.

A slot is written first and registered afterwards. Who dies in between leaves bytes
that no key id names, and the next key overwrites them. However many keys are missing,
they are made by one locked write, one sync and one transaction.

Those who seal hold keys in memory. Another process may erase one meanwhile: they look
into the list of erased keys before each batch (`Keys.heed`). What was just being sealed
the store refuses (`auditlog.storage.Spool.append`), and whoever is refused forgets the
key. Those who open content hold no key that can be erased alone.
"""

import contextlib
import hashlib
import hmac
import os
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol
from unicodedata import normalize

from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    NotFoundError,
    StorageError,
)
from auditlog.core.record import format_id
from auditlog.storage.erased_keys import ErasedKeys
from auditlog.storage.held_keys import HeldKey, HeldKeys, Use
from auditlog.storage.keyring import DamagedSlotError, Keyring, SlotKey

__all__ = [
    "EPOCH",
    "INDEX",
    "RECORD",
    "SUBJECT",
    "KeyRegistry",
    "Keys",
    "Renewed",
    "subject_tag",
]

EPOCH, SUBJECT, RECORD, INDEX = "epoch", "subject", "record", "index"
_TAG = b"auditlog/subject-tag/v1\n"
_TAG_BYTES = 16
_NEW = struct.Struct("16s32s")
"""Key id and key."""
_LOOK_SECONDS = 0.02


class KeyRegistry(Protocol):
    """Who knows which key is in which slot, durably; a part of the store."""

    def key_slot(self, kind: str, label: str) -> tuple[bytes, int] | None:
        """Return (key id, slot) of a key by what it is for, or None."""

    def key_slots(
        self, kind: str, labels: Sequence[str]
    ) -> Mapping[str, tuple[bytes, int]]:
        """Return (key id, slot) by label of those keys of a kind that there are."""

    def slot_of(self, key_id: bytes) -> int | None:
        """Return the slot of the key with this id, or None."""

    def use_of(self, key_id: bytes) -> tuple[str, str] | None:
        """Return kind and label of the key with this id, or None."""

    def is_lost(self, key_id: bytes) -> bool:
        """Return whether the key with this id was declared lost."""

    def last_key(self) -> tuple[bytes, int] | None:
        """Return (key id, slot) of the key in the last slot taken, or None."""

    def last_slot(self) -> int:
        """Return the last slot taken, also by a key that was erased or lost.

        -1 if none is.
        """

    def add_keys(self, keys: Sequence[tuple[bytes, int, str, str]]) -> None:
        """Record durably, all or none, key id, slot, kind and label of new keys."""


class Renewed(NamedTuple):
    """A key that was erased while it is still in memory, and the one in its place."""

    old: bytes
    """K of the erased one."""
    key_id: bytes
    """Of the new one."""
    key: bytes
    """K of the new one."""

    def __repr__(self) -> str:
        """Name the new key, never show one."""
        return f"Renewed(by {self.key_id.hex()})"


def subject_tag(key: bytes, id_: bytes) -> bytes:
    """Return what an entry says of whom it is about, 16 bytes (`FORMATS.md` §5).

    Args:
        key: K of the subject, or of the one decision, 32 bytes.
        id_: the entry's own, 16 bytes.
    """
    return hashlib.shake_256(_TAG + key + id_).digest(_TAG_BYTES)


class Keys:
    """Makes and finds keys. Methods may be called from any thread."""

    def __init__(
        self,
        keyring: Keyring,
        registry: KeyRegistry,
        listed: ErasedKeys | None = None,
    ) -> None:
        """Take the file of slots, and who knows what is in it.

        Args:
            keyring: the file of slots.
            registry: knows which key is in which slot.
            listed: keys that were erased, by whatever process; None if nobody else
                erases any.
        """
        self.keyring = keyring
        self._registry = registry
        self._listed = listed
        self._look_at = 0.0
        self._retired: list[bytes] = []
        """Known to be erased, and kept for what was sealed before."""
        self._making = threading.Lock()
        self._held = HeldKeys(_STAYING)
        self._erased: set[bytes] = set()

    def __repr__(self) -> str:
        """Name the file, never a key."""
        return f"{type(self).__name__}({str(self.keyring.path)!r})"

    def epoch_key(self, label: str) -> tuple[bytes, bytes]:
        """Return (key id, key) of a retention epoch, making the key on first use.

        Whoever asks first, in whatever process, makes it; all get the same.

        Raises:
            ConfigurationError: the keyring is missing, though it has keys.
            NotFoundError: the epoch's key was destroyed.
            StorageError: it could not be made or read, or the key-encryption key
                is another one than before.
        """
        held = self._held.get(Use(EPOCH, label)) or self._obtain([Use(EPOCH, label)])[0]
        return held.key_id, held.key

    def subject_key(self, kind: str, identifier: str) -> tuple[bytes, bytes]:
        """Return (key id, key) of a subject, making the key on first use.

        Args:
            kind: what the identifier identifies, such as ``person``.
            identifier: of the subject; taken in Unicode form NFC.

        Raises:
            ConfigurationError: the keyring is missing, though it has keys.
            StorageError: it could not be made or read.
        """
        return self.subject_keys([(kind, identifier)])[0]

    def subject_keys(
        self, subjects: Sequence[tuple[str, str]]
    ) -> list[tuple[bytes, bytes]]:
        """Return (key id, key) of each of many subjects, in order.

        All that are new are made at once.

        Args:
            subjects: kind and identifier of each, as for `subject_key`.

        Raises:
            ConfigurationError: the keyring is missing, though it has keys.
            StorageError: they could not be made or read; then none is made.
        """
        if not subjects:
            return []
        index = self._index_key()
        uses = [Use(SUBJECT, _label(index, *one)) for one in subjects]
        return [(held.key_id, held.key) for held in self._obtain(uses)]

    def record_keys(self, ids: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """Return (key id, key) for each of many decisions alone, likewise.

        Args:
            ids: of their entries, 16 bytes each.

        Raises:
            ConfigurationError: the keyring is missing, though it has keys.
            StorageError: they could not be made or read; then none is made.
        """
        held = self._obtain([Use(RECORD, format_id(id_)) for id_ in ids])
        return [(one.key_id, one.key) for one in held]

    def subject(self, kind: str, identifier: str) -> bytes | None:
        """Return the id of a subject's key; None if there is nothing about it.

        Raises:
            ConfigurationError: the keyring is missing, though it has keys.
            StorageError: it could not be looked up.
        """
        if self._registry.key_slot(INDEX, "") is None:
            return None
        label = _label(self._index_key(), kind, identifier)
        found = self._registry.key_slot(SUBJECT, label)
        return None if found is None else found[0]

    def key(self, key_id: bytes) -> bytes:
        """Return the key with this id, 32 bytes.

        One that can be erased alone is looked up each time.

        Raises:
            ConfigurationError: the keyring is missing.
            NotFoundError: there never was such a key, or it was destroyed.
            StorageError: its slot cannot be read, or does not open.
        """
        if key_id in self._erased:
            raise NotFoundError(f"the key {key_id.hex()} was erased")
        held = self._held.named(key_id)
        if held is not None and held.use.kind in _STAYING:
            return held.key
        key = self.keyring.read(key_id, self._slot(key_id))
        use = self._registry.use_of(key_id)
        if use is not None and use[0] in _STAYING:
            self._held.add(HeldKey(Use(*use), key_id, key))
        return key

    def kind(self, key_id: bytes) -> str | None:
        """Return what a key is for, such as `SUBJECT`; None if it is not registered."""
        use = self._registry.use_of(key_id)
        return None if use is None else use[0]

    def bar(self, key_ids: Iterable[bytes]) -> None:
        """Let keys open nothing any more, whatever the store and the keyring say."""
        gone = list(key_ids)
        self._erased.update(gone)
        self._retire(gone)

    def _retire(self, key_ids: Sequence[bytes]) -> None:
        # What was sealed a moment ago, maybe by another thread, is to be sealed again.
        self._held.retire(key_ids)
        self._retired += [one for one in key_ids if self._held.named(one) is not None]

    def forget(self, key_ids: Iterable[bytes]) -> None:
        """Drop keys from memory that were erased, by whatever process."""
        self._held.drop(key_ids)

    def heed(self) -> None:
        """Give no key any more that was erased since, by whatever process.

        What was sealed under it before can be sealed again, until `settled`.
        """
        # Each look gives up the interpreter lock.
        if self._listed is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_SECONDS
        # Where the list cannot be read, the store refuses nevertheless.
        with contextlib.suppress(AuditLogError):
            self._retire(self._listed.news())

    def settled(self) -> None:
        """Forget keys that were erased: all that they have sealed is in the store."""
        if self._retired:
            gone, self._retired = self._retired, []
            self.forget(gone)

    def renew(self, key_id: bytes) -> Renewed | None:
        """Return a key in place of one that was erased, making it on first use.

        For the same subject, decision or epoch: to seal again what was sealed under
        the old one and is not in the store. The old one stays in memory until
        `forget`.

        Returns:
            None if the old one is not in memory: then what it sealed is gone.

        Raises:
            ConfigurationError: the keyring is missing, though it has keys.
            StorageError: it could not be made or read.
        """
        old = self._held.named(key_id)
        if old is None:
            return None
        (new,) = self._made([old.use])
        return Renewed(old.key, new.key_id, new.key)

    def require(self) -> None:
        """Make sure that the keys that are registered are here and open.

        Raises:
            ConfigurationError: the keyring is missing, or its key-encryption key is
                another one than before.
            StorageError: it cannot be read.
        """
        last = self._registry.last_key()
        if last is None:
            return
        try:
            self.keyring.read(*last)
        except NotFoundError:
            pass  # destroyed, which is what erasure does
        except StorageError as error:
            raise ConfigurationError(str(error)) from None

    def destroy(self, key_id: bytes) -> None:
        """Overwrite a key with zeros, durably; what it sealed is gone for ever.

        Other processes may have the key in memory until they end.

        Raises:
            NotFoundError: there never was such a key.
            StorageError: it is unknown whether it was overwritten.
        """
        slot = self._slot(key_id)
        self.forget([key_id])
        with self.keyring.writing() as writer:
            writer.destroy([slot])

    def _index_key(self) -> bytes:
        use = Use(INDEX, "")
        return (self._held.get(use) or self._obtain([use])[0]).key

    def _slot(self, key_id: bytes) -> int:
        slot = self._registry.slot_of(key_id)
        if slot is None:
            if self._registry.is_lost(key_id):
                raise NotFoundError(f"the key {key_id.hex()} was declared lost")
            raise NotFoundError(f"no key {key_id.hex()} is registered")
        return slot

    def _obtain(self, uses: Sequence[Use]) -> list[HeldKey]:
        """Return a key for each use: held, registered, or made."""
        got = {use: held for use in uses if (held := self._held.get(use)) is not None}
        missing = [use for use in dict.fromkeys(uses) if use not in got]
        if missing:
            got |= {held.use: held for held in self._made(missing)}
        return [got[use] for use in uses]

    def _made(self, uses: Sequence[Use]) -> list[HeldKey]:
        """Return keys that are not held, for different uses; those needed are made."""
        found = self._registered(uses)
        if len(found) < len(uses):
            found |= self._make(uses)
        for held in found.values():
            self._held.add(held)
        return [found[use] for use in uses]

    def _registered(self, uses: Sequence[Use]) -> dict[Use, HeldKey]:
        """Return those of the keys that are registered, read from their slots."""
        found: dict[Use, HeldKey] = {}
        for kind in sorted({use.kind for use in uses}):
            labels = [use.label for use in uses if use.kind == kind]
            slots = self._registry.key_slots(kind, labels)
            self._refuse_erased(key_id for key_id, _ in slots.values())
            keys = self._read(kind, [*slots.values()]) if slots else []
            for (label, (key_id, _)), key in zip(slots.items(), keys, strict=True):
                if key is not None:
                    found[Use(kind, label)] = HeldKey(Use(kind, label), key_id, key)
                elif self._registry.slot_of(key_id) is not None:
                    raise NotFoundError(f"the key {key_id.hex()} was destroyed")
                # Else it was erased meanwhile, so that another one may be made.
        return found

    def _read(self, kind: str, keys: Sequence[tuple[bytes, int]]) -> list[bytes | None]:
        try:
            return self.keyring.read_many(keys)
        except DamagedSlotError as error:
            if kind in _STAYING:
                raise
            # Where other keys open, one that is lost stops nothing about others.
            self.require()
            raise NotFoundError(str(error)) from None

    def _refuse_erased(self, key_ids: Iterable[bytes]) -> None:
        for key_id in key_ids:
            if key_id in self._erased:
                raise StorageError(
                    f"expected no key that was erased, but {key_id.hex()} is "
                    "registered again, as by a backup: its erasure is to be "
                    "replayed before anything is sealed"
                )

    def _make(self, uses: Sequence[Use]) -> dict[Use, HeldKey]:
        with self._making:
            first = self._next_slot() == 0
            with self.keyring.writing(create=first) as writer:
                # Another process may have made some while we waited.
                found = self._registered(uses)
                missing = [use for use in uses if use not in found]
                made = [HeldKey(use, *drawn) for use, drawn in _drawn(missing)]
                if made:
                    slots = range(start := self._next_slot(), start + len(made))
                    placed = list(zip(made, slots, strict=True))
                    writer.add([SlotKey(m.key_id, at, m.key) for m, at in placed])
                    rows = [(m.key_id, at, *m.use) for m, at in placed]
                    self._registry.add_keys(rows)
        return found | {held.use: held for held in made}

    def _next_slot(self) -> int:
        last = self._registry.last_key()
        if last is not None:
            # A key must not be wrapped under another key-encryption key than the rest.
            with contextlib.suppress(NotFoundError):
                self.key(last[0])
        return self._registry.last_slot() + 1


_STAYING = frozenset({EPOCH, INDEX})


def _drawn(uses: Sequence[Use]) -> Iterator[tuple[Use, tuple[bytes, bytes]]]:
    """Yield for each use a new key id and key; the system is asked once for all."""
    return zip(uses, _NEW.iter_unpack(os.urandom(_NEW.size * len(uses))), strict=True)


def _label(index: bytes, kind: str, identifier: str) -> str:
    """Return the blinded label of a subject (`FORMATS.md` §5)."""
    name = kind.encode()
    told = bytes([len(name)]) + name + normalize("NFC", identifier).encode()
    return hmac.digest(index, told, "sha256").hex()
