r"""A copy of the keyring, in one file that says which keys it holds.

::

    file   = body || HMAC-SHA-256(K_mac, body)
    body   = "auditlog/keyring-backup/v1\n" || u32 |head| || head || record*
    head   = canonical JSON {"expires", "id", "kek", "made", "origin"}
    record = key_id(16) || u32 slot || text(kind) || text(label) || 64 bytes
    text   = u8 length || UTF-8
    K_mac  = 32 bytes of SHAKE-256("auditlog/backup-mac/v1\n" || KEK)
    kek    = 8 bytes of SHAKE-256("auditlog/kek-name/v1\n" || KEK), in hex

`id` is 16 bytes in hex, `made` and `expires` are microseconds since the epoch, records
are in the order of their slots. The 64 bytes of a slot are as they stood in the keyring
(`FORMATS.md` §4), so each is bound to its key id and number, and opens with the
key-encryption key alone: that is not in the file. Without it the file shows how many
keys there are, and the days of the epochs among them.
"""

import hmac
import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256, shake_256
from itertools import chain
from typing import NamedTuple

from auditlog.core.encoding import check_range
from auditlog.core.errors import (
    ConfigurationError,
    MalformedError,
    VerificationError,
)
from auditlog.core.record import MAX_INTEGER, canonical_json, check_fields, parse_json
from auditlog.storage.sealing import SLOT_SIZE
from auditlog.storage.vault_key import Generation

__all__ = ["MAX_BACKUP", "Backup", "BackupHead", "BackupKey", "format_backup"]

MAX_BACKUP = 1 << 30
"""Bytes of a backup: more than six million keys."""

_LABEL = b"auditlog/keyring-backup/v1\n"
_MAC = 32
_ID = 16
_MAX_HEAD = 4096
_MAX_TEXT = 255
_NAME = 8
_HEX_ID, _HEX_NAME = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{16}")
_HEAD = {
    "expires": int,
    "id": str,
    "kek": str,
    "made": int,
    "origin": str,
}


class BackupHead(NamedTuple):
    """What a backup says of itself."""

    id: bytes
    """16 random bytes, as in the log."""
    origin: str
    """Name of the log."""
    made: int
    """Microseconds since the epoch."""
    expires: int
    """Until when it may be kept, likewise."""


class BackupKey(NamedTuple):
    """A key in a backup, wrapped."""

    key_id: bytes
    slot: int
    kind: str
    label: str
    wrapped: bytes
    """The 64 bytes of its slot."""


def format_backup(
    head: BackupHead, keys: Iterable[BackupKey], kek: bytes
) -> Iterator[bytes]:
    """Yield the bytes of a backup, a piece at a time.

    Args:
        head: what it says of itself.
        keys: in the order of their slots.
        kek: key-encryption key under which they are wrapped.
    """
    told = _format_head(head, kek)
    mac = hmac.new(_mac_key(kek), digestmod=sha256)
    for piece in chain([_LABEL, len(told).to_bytes(4), told], map(_format_key, keys)):
        mac.update(piece)
        yield piece
    yield mac.digest()


class Backup:
    """A backup that is whole, unchanged, and of the log that it is asked for."""

    def __init__(
        self, data: bytes, origin: str, generations: Sequence[Generation]
    ) -> None:
        """Check all of it.

        Args:
            data: bytes of the file.
            origin: name of the log.
            generations: of the key-encryption key.

        Raises:
            MalformedError: it is no backup, or of another version.
            ConfigurationError: it is of another log, or under another
                key-encryption key.
            VerificationError: it was changed, or cut.
        """
        if not data.startswith(_LABEL):
            raise MalformedError("expected a backup of a keyring, version 1")
        self._body = data[:-_MAC]
        self.head, name, self._start = _parse_head(data)
        if self.head.origin != origin:
            raise ConfigurationError(
                f"expected a backup of the log {origin}, got one of {self.head.origin}"
            )
        self.kek = _kek_of(name, generations)
        mac = hmac.digest(_mac_key(self.kek), self._body, "sha256")
        if not hmac.compare_digest(mac, data[-_MAC:]):
            raise VerificationError(
                "expected a backup as it was made, got one that was changed or cut"
            )
        self._check_keys()

    def each(self) -> Iterator[BackupKey]:
        """Yield the keys, in the order of their slots."""
        at = self._start
        while at < len(self._body):
            key, at = _parse_key(self._body, at)
            yield key

    def _check_keys(self) -> None:
        last = -1
        for key in self.each():
            if key.slot <= last:
                raise MalformedError("expected the keys of a backup in order of slots")
            last = key.slot


def _format_head(head: BackupHead, kek: bytes) -> bytes:
    said = {**head._asdict(), "id": head.id.hex(), "kek": _kek_name(kek)}
    return canonical_json(said)


def _parse_head(data: bytes) -> tuple[BackupHead, str, int]:
    """Return what a backup says of itself and its key, and where its records begin."""
    at = len(_LABEL) + 4
    end = at + int.from_bytes(data[len(_LABEL) : at])
    if not at < end <= min(at + _MAX_HEAD, len(data) - _MAC):
        raise MalformedError("expected the head of a backup, got another length of it")
    said = check_fields(parse_json(data[at:end], limit=_MAX_HEAD), "a backup", _HEAD)
    name, id_ = said.pop("kek"), said.pop("id")
    if not (_HEX_ID.fullmatch(id_) and _HEX_NAME.fullmatch(name)):
        raise MalformedError("expected id and key of a backup as 16 and 8 bytes in hex")
    for what in ("made", "expires"):
        check_range(f"{what} of a backup", said[what], MAX_INTEGER)
    head = BackupHead(id=bytes.fromhex(id_), **said)
    if canonical_json({**said, "id": id_, "kek": name}) != data[at:end]:
        raise MalformedError("expected the head of a backup in canonical JSON")
    return head, name, end


def _kek_of(name: str, generations: Sequence[Generation]) -> bytes:
    for generation in generations:
        if _kek_name(generation.key) == name:
            return generation.key
    raise ConfigurationError(
        "the backup was made under another key-encryption key: before a rotation, or "
        "of another log; the vault.key of that time opens it"
    )


def _kek_name(kek: bytes) -> str:
    return shake_256(b"auditlog/kek-name/v1\n" + kek).hexdigest(_NAME)


def _mac_key(kek: bytes) -> bytes:
    return shake_256(b"auditlog/backup-mac/v1\n" + kek).digest(32)


def _format_key(key: BackupKey) -> bytes:
    slot = key.slot.to_bytes(4)
    return b"".join(
        [key.key_id, slot, _sized(key.kind), _sized(key.label), key.wrapped]
    )


def _sized(text: str) -> bytes:
    data = text.encode()
    if len(data) > _MAX_TEXT:
        raise MalformedError(f"expected at most {_MAX_TEXT} bytes of a key's label")
    return len(data).to_bytes(1) + data


def _parse_key(data: bytes, at: int) -> tuple[BackupKey, int]:
    key_id, slot = data[at : at + _ID], int.from_bytes(data[at + _ID : at + _ID + 4])
    kind, at = _parse_text(data, at + _ID + 4)
    label, at = _parse_text(data, at)
    if at + SLOT_SIZE > len(data):
        raise MalformedError("expected a whole key at the end of a backup, got a part")
    wrapped = data[at : at + SLOT_SIZE]
    return BackupKey(key_id, slot, kind, label, wrapped), at + SLOT_SIZE


def _parse_text(data: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + int.from_bytes(data[at : at + 1])
    try:
        return data[at + 1 : end].decode(), end
    except UnicodeDecodeError:
        raise MalformedError("expected kinds and labels of keys in UTF-8") from None
