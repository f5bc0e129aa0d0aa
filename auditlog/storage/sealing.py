r"""Sealed content, and the wrapped keys that open it (`FORMATS.md` §4).

::

    K_rec  = 32 bytes of SHAKE-256("auditlog/record-key/v1\n" ‖ K ‖ r)
    sealed = 0x01 ‖ r ‖ AES-256-GCM(K_rec, nonce 0^96, plaintext, AAD)
    AAD    = "auditlog/seal/v1\n" ‖ leaf_hash(entry) ‖ key_id
    slot   = 0x01 ‖ nonce ‖ AES-256-GCM(KEK, K, AAD) ‖ 000000
    AAD    = "auditlog/wrap/v1\n" ‖ key_id ‖ u64 slot

K_rec is used once, because `r` is drawn anew at every sealing: that is what makes the
constant nonce safe. What opens to these bytes is still to be held against the
commitment of the entry before anything of it is shown.
"""

from hashlib import shake_256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from auditlog.core.errors import MalformedError, VerificationError

__all__ = [
    "MAX_PLAINTEXT",
    "SLOT_SIZE",
    "padme_length",
    "seal",
    "unseal",
    "unwrap_slot",
    "wrap_slot",
]

SLOT_SIZE = 64
"""Bytes of a slot in the keyring."""
MAX_PLAINTEXT = 2**31 - 17
"""Bytes that one sealing takes, far below the bound of GCM (NIST SP 800-38D §5.2)."""

_VERSION = b"\x01"
_TAG_SIZE = 16
_NONCE = bytes(12)
_R_END = 1 + 32
_NONCE_END = 1 + 12
_SLOT_USED = _NONCE_END + 32 + _TAG_SIZE


def padme_length(n: int) -> int:
    """Return the length to which `n` bytes are padded, at most 12 % more.

    Padmé, of "Reducing Metadata Leakage from Encrypted Files" (PETS 2019), §4.3: the
    length keeps as many bits as its logarithm has, so O(log log n) bits leak.
    """
    if not n:
        return 0
    exponent = n.bit_length() - 1
    mask = (1 << (exponent - exponent.bit_length())) - 1
    return (n + mask) & ~mask


def seal(key: bytes, key_id: bytes, leaf: bytes, r: bytes, plaintext: bytes) -> bytes:
    """Seal the content of one entry.

    Args:
        key: K of an epoch, subject, record or hold, 32 bytes.
        key_id: name of K in the keyring, 16 bytes.
        leaf: `leaf_hash` of the entry, to which the content is bound.
        r: 32 random bytes, drawn for this call and no other.
        plaintext: padded content.

    Raises:
        MalformedError: an argument has a wrong length.
    """
    cipher, aad = _cipher(key, key_id, leaf, r)
    if len(plaintext) > MAX_PLAINTEXT:
        raise MalformedError(f"expected at most {MAX_PLAINTEXT} bytes to seal")
    return _VERSION + r + cipher.encrypt(_NONCE, plaintext, aad)


def unseal(key: bytes, key_id: bytes, leaf: bytes, sealed: bytes) -> bytes:
    """Return the plaintext that `seal` was given.

    Raises:
        MalformedError: not the shape of sealed content, or a key of wrong length.
        VerificationError: sealed under another key, for another entry, or changed.
    """
    size = len(sealed) - _R_END - _TAG_SIZE
    if not 0 <= size <= MAX_PLAINTEXT:
        raise MalformedError(
            f"expected sealed content of 49 bytes to 2 GiB, got {len(sealed)} bytes"
        )
    _check_version(sealed)
    cipher, aad = _cipher(key, key_id, leaf, sealed[1:_R_END])
    try:
        return cipher.decrypt(_NONCE, sealed[_R_END:], aad)
    except InvalidTag:
        raise VerificationError(
            "expected content sealed under this key for this entry, got content of "
            "another key or entry, or changed bytes"
        ) from None


def _cipher(key: bytes, key_id: bytes, leaf: bytes, r: bytes) -> tuple[AESGCM, bytes]:
    _check_length("a key", key, 32)
    _check_length("a key id", key_id, 16)
    _check_length("a leaf hash", leaf, 32)
    _check_length("r", r, 32)
    record_key = shake_256(b"auditlog/record-key/v1\n" + key + r).digest(32)
    return AESGCM(record_key), b"auditlog/seal/v1\n" + leaf + key_id


def wrap_slot(kek: bytes, key: bytes, key_id: bytes, slot: int, nonce: bytes) -> bytes:
    """Return the 64 bytes of a keyring slot that holds `key`.

    Args:
        kek: key-encryption key, 32 bytes.
        key: K, 32 bytes.
        key_id: name of K, 16 random bytes.
        slot: number of the slot.
        nonce: 12 random bytes, never used with this `kek` before.

    Raises:
        MalformedError: an argument has a wrong length or is out of range.
    """
    _check_length("a key", key, 32)
    _check_length("a nonce", nonce, 12)
    wrapped = AESGCM(_kek(kek)).encrypt(nonce, key, _slot_aad(key_id, slot))
    return (_VERSION + nonce + wrapped).ljust(SLOT_SIZE, b"\0")


def unwrap_slot(kek: bytes, data: bytes, key_id: bytes, slot: int) -> bytes:
    """Return the key, 32 bytes, that a keyring slot holds.

    Raises:
        MalformedError: not 64 bytes of a slot in use.
        VerificationError: wrapped under another key, id or slot, or changed.
    """
    _check_length("a keyring slot", data, SLOT_SIZE)
    _check_version(data)
    if any(data[_SLOT_USED:]):
        raise MalformedError("expected zeros at the end of a keyring slot")
    aad = _slot_aad(key_id, slot)
    try:
        wrapped = data[_NONCE_END:_SLOT_USED]
        return AESGCM(_kek(kek)).decrypt(data[1:_NONCE_END], wrapped, aad)
    except InvalidTag:
        raise VerificationError(
            "expected a key wrapped for this slot, got one of another key-encryption "
            "key, id or slot, or changed bytes"
        ) from None


def _kek(kek: bytes) -> bytes:
    _check_length("a key-encryption key", kek, 32)
    return kek


def _slot_aad(key_id: bytes, slot: int) -> bytes:
    _check_length("a key id", key_id, 16)
    if not 0 <= slot < 1 << 64:
        raise MalformedError("expected a slot number that fits in 64 bits")
    return b"auditlog/wrap/v1\n" + key_id + slot.to_bytes(8)


def _check_version(data: bytes) -> None:
    if data[:1] != _VERSION:
        raise MalformedError(f"expected version 1 of sealed bytes, got {data[0]}")


def _check_length(what: str, data: bytes, size: int) -> None:
    if len(data) != size:
        raise MalformedError(f"expected {what} of {size} bytes, got {len(data)}")
