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
that no key id names, and the next key overwrites them.
"""

import contextlib
import hmac
import os
import threading
from collections.abc import Iterable, Sequence
from typing import Protocol
from unicodedata import normalize

from auditlog.core.errors import ConfigurationError, NotFoundError, StorageError
from auditlog.storage.keyring import Keyring, SlotKey

__all__ = ["EPOCH", "INDEX", "RECORD", "SUBJECT", "KeyRegistry", "Keys"]

EPOCH, SUBJECT, RECORD, INDEX = "epoch", "subject", "record", "index"
_KEY_BYTES = 32
_KEY_ID_BYTES = 16


class KeyRegistry(Protocol):
    """Who knows which key is in which slot, durably; a part of the store."""

    def key_slot(self, kind: str, label: str) -> tuple[bytes, int] | None:
        """Return (key id, slot) of a key by what it is for, or None."""

    def slot_of(self, key_id: bytes) -> int | None:
        """Return the slot of the key with this id, or None."""

    def use_of(self, key_id: bytes) -> tuple[str, str] | None:
        """Return kind and label of the key with this id, or None."""

    def last_key(self) -> tuple[bytes, int] | None:
        """Return (key id, slot) of the key in the last slot taken, or None."""

    def last_slot(self) -> int:
        """Return the last slot taken, also by a key that was erased; -1 if none is."""

    def add_keys(self, keys: Sequence[tuple[bytes, int, str, str]]) -> None:
        """Record durably, all or none, key id, slot, kind and label of new keys."""


class Keys:
    """Makes and finds keys. Methods may be called from any thread."""

    def __init__(self, keyring: Keyring, registry: KeyRegistry) -> None:
        """Take the file of slots, and who knows what is in it."""
        self.keyring = keyring
        self._registry = registry
        self._making = threading.Lock()
        self._keys: dict[bytes, bytes] = {}
        self._erased: set[bytes] = set()
        self._epochs: dict[str, bytes] = {}

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
        key_id = self._epochs.get(label)
        if key_id is None:
            key_id = self._epochs[label] = self._find_or_make(EPOCH, label)
        return key_id, self.key(key_id)

    def subject_key(self, kind: str, identifier: str) -> tuple[bytes, bytes]:
        """Return (key id, key) of a subject, making the key on first use.

        Args:
            kind: what the identifier identifies, such as ``person``.
            identifier: of the subject; taken in Unicode form NFC.

        Raises:
            ConfigurationError: the keyring is missing, though it has keys.
            StorageError: it could not be made or read.
        """
        key_id = self._find_or_make(SUBJECT, self._label(kind, identifier))
        return key_id, self.key(key_id)

    def subject(self, kind: str, identifier: str) -> bytes | None:
        """Return the id of a subject's key; None if there is nothing about it.

        Raises:
            ConfigurationError: the keyring is missing, though it has keys.
            StorageError: it could not be looked up.
        """
        if self._registry.key_slot(INDEX, "") is None:
            return None
        found = self._registry.key_slot(SUBJECT, self._label(kind, identifier))
        return None if found is None else found[0]

    def key(self, key_id: bytes) -> bytes:
        """Return the key with this id, 32 bytes.

        Raises:
            ConfigurationError: the keyring is missing.
            NotFoundError: there never was such a key, or it was destroyed.
            StorageError: its slot cannot be read, or does not open.
        """
        if key_id in self._erased:
            raise NotFoundError(f"the key {key_id.hex()} was erased")
        key = self._keys.get(key_id)
        if key is None:
            slot = self._slot(key_id)
            key = self._keys[key_id] = self.keyring.read(key_id, slot)
        return key

    def kind(self, key_id: bytes) -> str | None:
        """Return what a key is for, such as `SUBJECT`; None if it is not registered."""
        use = self._registry.use_of(key_id)
        return None if use is None else use[0]

    def bar(self, key_ids: Iterable[bytes]) -> None:
        """Let keys open nothing any more, whatever the store and the keyring say."""
        for key_id in key_ids:
            self._erased.add(key_id)
            self._keys.pop(key_id, None)

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
        self._keys.pop(key_id, None)
        with self.keyring.writing() as writer:
            writer.destroy([slot])

    def _label(self, kind: str, identifier: str) -> str:
        key = self.key(self._find_or_make(INDEX, ""))
        name = kind.encode()
        told = bytes([len(name)]) + name + normalize("NFC", identifier).encode()
        return hmac.digest(key, told, "sha256").hex()

    def _slot(self, key_id: bytes) -> int:
        slot = self._registry.slot_of(key_id)
        if slot is None:
            raise NotFoundError(f"no key {key_id.hex()} is registered")
        return slot

    def _find_or_make(self, kind: str, label: str) -> bytes:
        found = self._registry.key_slot(kind, label)
        if found is not None:
            return found[0]
        with self._making:
            first = self._next_slot() == 0
            with self.keyring.writing(create=first) as writer:
                # Another process may have made it while we waited.
                found = self._registry.key_slot(kind, label)
                if found is not None:
                    return found[0]
                key_id, key = os.urandom(_KEY_ID_BYTES), os.urandom(_KEY_BYTES)
                made = SlotKey(key_id, self._next_slot(), key)
                writer.write([made])
                self._registry.add_keys([(key_id, made.slot, kind, label)])
            self._keys[key_id] = key
            return key_id

    def _next_slot(self) -> int:
        last = self._registry.last_key()
        if last is not None:
            # A key must not be wrapped under another key-encryption key than the rest.
            with contextlib.suppress(NotFoundError):
                self.key(last[0])
        return self._registry.last_slot() + 1
