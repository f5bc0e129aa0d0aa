r"""Signed notes, their keys and signatures (C2SP signed-note, tlog-cosignature).

::

    note      = text "\n" 1*line                the text ends in a newline
    line      = "— " name " " base64(key id[4] ‖ signature) "\n"
    key id    = first 4 bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key)
    vkey      = name "+" hex(key id) "+" base64(type ‖ public key)
    skey      = "PRIVATE+KEY+" name "+" hex(key id) "+" base64(type ‖ seed)

====  ==========================  ===================================================
type  signature                   signs
====  ==========================  ===================================================
0x01  Ed25519, 64 bytes           the text
0x04  u64 time ‖ Ed25519          ``cosignature/v1``, time, the text
0x06  u64 time ‖ ML-DSA-44, 2420  ``subtree/v1``, names, time and tree of a checkpoint
====  ==========================  ===================================================

Lines of unknown keys are ignored, as the format demands: a changed one looks like a
missing one. Stricter than the standard: one spelling of hex and base64, times below
2^63, one line for each known key, and no ML-DSA-44 over extension lines, which it does
not cover.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.mldsa import (
    MLDSA44PrivateKey,
    MLDSA44PublicKey,
)

from auditlog.core.encoding import (
    MAX_TEXT,
    check_range,
    decode_text,
    format_base64,
    parse_base64,
    parse_decimal,
    parse_hash,
)
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    UntrustedError,
    VerificationError,
)

__all__ = [
    "COSIGNATURE_ED25519",
    "ED25519",
    "MAX_SIGNATURES",
    "ML_DSA_44",
    "Note",
    "Signature",
    "Signer",
    "Verifier",
    "make_signer",
    "open_note",
    "parse_skey",
    "parse_vkey",
    "sign_note",
    "split_unverified_note",
]

ED25519 = 0x01
"""Signature type of a log."""

COSIGNATURE_ED25519 = 0x04
"""Signature type of a witness."""

ML_DSA_44 = 0x06
"""Signature type of a log or a witness, safe against quantum computers."""

MAX_SIGNATURES = 100
"""Signature lines in the largest note that is read."""

_MAX_NAME = 255
_MAX_TIMESTAMP = 2**63 - 1
_PUBLIC_KEY_SIZES = {ED25519: 32, COSIGNATURE_ED25519: 32, ML_DSA_44: 1312}
_SIGNATURE_SIZES = {ED25519: 64, COSIGNATURE_ED25519: 72, ML_DSA_44: 2428}
_SEED_SIZE = 32
# The points of small order on edwards25519, as y in hex without its sign bit, and the
# other spellings of two of them: under such a key, signatures are for the taking.
_SMALL_ORDER = {
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        *(f"{low}{'ff' * 30}7f" for low in ("ec", "ed", "ee")),
    )
}
_SKEY_PREFIX = "PRIVATE+KEY+"
_UNSUPPORTED = "this build of cryptography cannot use keys of type 0x{:02x}"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key: whose it is, and what its signatures look like.

    Raises:
        MalformedError: on construction, when the fields do not fit each other.
    """

    name: str
    """Key name; a log's is its origin."""
    key_id: bytes
    """4 bytes, derived from all other fields."""
    type: int
    """`ED25519`, `COSIGNATURE_ED25519` or `ML_DSA_44`."""
    public_key: bytes = field(repr=False)
    """32 bytes, or 1,312 for ML-DSA-44."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.type not in _PUBLIC_KEY_SIZES:
            raise MalformedError(
                f"expected key type 0x01, 0x04 or 0x06, got 0x{self.type:02x}"
            )
        if len(self.public_key) != _PUBLIC_KEY_SIZES[self.type]:
            raise MalformedError(
                f"expected {_PUBLIC_KEY_SIZES[self.type]} bytes of public key, "
                f"got {len(self.public_key)}"
            )
        y = self.public_key[:31] + bytes([self.public_key[31] & 0x7F])
        if self.type != ML_DSA_44 and y in _SMALL_ORDER:
            raise MalformedError("expected a public key, got one of small order")
        expected = _key_id(self.name, self.type, self.public_key)
        if self.key_id != expected:
            raise MalformedError(
                f"expected key id {expected.hex()}, got {self.key_id.hex()}"
            )

    @property
    def key(self) -> str:
        """Name and key id, as at the start of the vkey."""
        return f"{self.name}+{self.key_id.hex()}"

    @property
    def vkey(self) -> str:
        """The key as text, for `parse_vkey`."""
        return f"{self.key}+{format_base64(bytes([self.type]) + self.public_key)}"

    def verify(self, text: bytes, signature: bytes) -> int:
        """Check a signature over the text of a note; return its time.

        Args:
            text: The note's text, with its final newline.
            signature: The decoded signature without the key id: 64, 72 or 2,428 bytes.

        Returns:
            Seconds since the epoch as signed; 0 for type 0x01, which has no time.

        Raises:
            VerificationError: the key did not sign this, or in a way that is refused.
            MalformedError: ML-DSA-44 over a text that is no checkpoint.
        """
        if len(signature) != _SIGNATURE_SIZES[self.type]:
            raise VerificationError(
                f"expected {_SIGNATURE_SIZES[self.type]} bytes of signature by "
                f"{self.key}, got {len(signature)}"
            )
        time_size = 0 if self.type == ED25519 else 8
        timestamp = int.from_bytes(signature[:time_size])
        if timestamp > _MAX_TIMESTAMP:
            raise VerificationError(f"expected a time below 2^63 by {self.key}")
        message = _message(self, text, timestamp)
        kind = MLDSA44PublicKey if self.type == ML_DSA_44 else Ed25519PublicKey
        try:
            key = kind.from_public_bytes(self.public_key)
            key.verify(signature[time_size:], message)
        except InvalidSignature:
            raise VerificationError(
                f"signature by {self.key} does not verify"
            ) from None
        except UnsupportedAlgorithm:
            raise AuditLogError(_UNSUPPORTED.format(self.type)) from None
        return timestamp


@dataclass(frozen=True, slots=True, eq=False)
class Signer:
    """A private key with its public half. Never shows the seed unless asked for it."""

    verifier: Verifier
    _seed: bytes = field(repr=False)

    @property
    def skey(self) -> str:
        """The private key as text, for `parse_skey`. Keep it secret."""
        secret = format_base64(bytes([self.verifier.type]) + self._seed)
        return f"{_SKEY_PREFIX}{self.verifier.key}+{secret}"

    def sign(self, text: bytes, timestamp: int = 0) -> bytes:
        """Return a signature line, with its newline, over the text of a note.

        Args:
            text: The note's text, with its final newline.
            timestamp: Seconds since the epoch, up to 2^63-1. A witness states the
                time; a log signs with 0. Type 0x01 does not carry it.

        Raises:
            MalformedError: this is no text or time that can be signed.
            VerificationError: ML-DSA-44 would leave extension lines unsigned.
        """
        decode_text(text)
        check_range("a time", timestamp, _MAX_TIMESTAMP)
        message = _message(self.verifier, text, timestamp)
        time = b"" if self.verifier.type == ED25519 else timestamp.to_bytes(8)
        signature = _private_key(self.verifier.type, self._seed).sign(message)
        encoded = format_base64(self.verifier.key_id + time + signature)
        return f"— {self.verifier.name} {encoded}\n".encode()


class Signature(NamedTuple):
    """A signature that verified."""

    verifier: Verifier
    timestamp: int
    """Seconds since the epoch as signed; 0 for type 0x01."""
    line: bytes
    """The signature line, with its newline."""


class Note(NamedTuple):
    """A note that at least one of the keys asked for has signed."""

    text: bytes
    """What is signed, with its final newline."""
    signatures: tuple[Signature, ...]
    """Verified, in the order of the note."""
    unknown: tuple[bytes, ...]
    """Lines of keys that were not asked for; nothing is known of them."""


def parse_vkey(vkey: str) -> Verifier:
    """Return the public key in a vkey (C2SP signed-note).

    Raises:
        MalformedError: the text is no vkey, in its one spelling, of a known type.
    """
    name, key_id, data = _parse_key(vkey, "vkey")
    verifier = Verifier(name, key_id, data[0], data[1:])
    if verifier.vkey != vkey:
        raise MalformedError("expected a vkey with its key id in lowercase hex")
    return verifier


def parse_skey(skey: str) -> Signer:
    """Return the private key in an skey (the encoding of Go's ``sumdb/note``).

    Raises:
        MalformedError: the text is no skey, in its one spelling, of a known type. The
            message shows none of it.
    """
    if type(skey) is not str or not skey.startswith(_SKEY_PREFIX):
        raise MalformedError("expected an skey, starting with PRIVATE+KEY+")
    name, _, data = _parse_key(skey.removeprefix(_SKEY_PREFIX), "skey")
    signer = make_signer(name, data[0], data[1:])
    if signer.skey != skey:
        raise MalformedError("expected an skey with the key id of its own key")
    return signer


def make_signer(name: str, type: int, seed: bytes) -> Signer:  # noqa: A002
    """Return the private key that follows from 32 random bytes.

    Args:
        name: Key name; a log's is its origin. No spaces, no plus sign.
        type: `ED25519`, `COSIGNATURE_ED25519` or `ML_DSA_44`.
        seed: 32 bytes, from a good source of randomness, used for nothing else.

    Raises:
        MalformedError: there can be no such key.
    """
    _check_name(name)
    if type not in _PUBLIC_KEY_SIZES:
        raise MalformedError(f"expected key type 0x01, 0x04 or 0x06, got 0x{type:02x}")
    if len(seed) != _SEED_SIZE:
        raise MalformedError(f"expected a seed of 32 bytes, got {len(seed)}")
    public_key = _private_key(type, seed).public_key().public_bytes_raw()
    key_id = _key_id(name, type, public_key)
    return Signer(Verifier(name, key_id, type, public_key), seed)


def sign_note(text: bytes, signers: Sequence[Signer], timestamp: int = 0) -> bytes:
    """Return a note: the text and one signature line for each signer, in order.

    Raises:
        MalformedError: this is no text that can be signed, or nobody signs.
        VerificationError: ML-DSA-44 would leave extension lines unsigned.
    """
    if not signers:
        raise MalformedError("expected at least one signer, got none")
    lines = [signer.sign(text, timestamp) for signer in signers]
    return b"".join([text, b"\n", *lines])


def open_note(note: bytes, verifiers: Iterable[Verifier]) -> Note:
    """Return the text of a note, once a known key is found to have signed it.

    Raises:
        MalformedError: the bytes are no note, or hold two lines of a known key.
        VerificationError: the signature of a known key does not verify.
        UntrustedError: no known key signed.
        ConfigurationError: two of `verifiers` share name and key id.
    """
    known = _by_key(verifiers)
    text, lines = split_unverified_note(note)
    signatures: dict[Verifier, Signature] = {}
    unknown = []
    for line in lines:
        name, data = _parse_line(line)
        verifier = known.get((name, data[:4]))
        if verifier is None:
            unknown.append(line)
            continue
        if verifier in signatures:
            raise MalformedError(f"expected one signature by {verifier.key}, got two")
        timestamp = verifier.verify(text, data[4:])
        signatures[verifier] = Signature(verifier, timestamp, line)
    if not signatures:
        raise UntrustedError(
            f"expected a signature by one of {len(known)} known keys, got none"
        )
    return Note(text, tuple(signatures.values()), tuple(unknown))


def split_unverified_note(note: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return text and signature lines of a well-formed note. Nothing is verified.

    For those who pass notes on, and for finding out whom a note claims to be from.
    Joined with a newline in between they are the note again.

    Raises:
        MalformedError: the bytes are no note.
    """
    if type(note) is not bytes or len(note) > MAX_TEXT:
        raise MalformedError(f"expected a note of up to {MAX_TEXT} bytes")
    end = note.rfind(b"\n\n") + 1
    if not end:
        raise MalformedError("expected an empty line before the signatures, got none")
    text, rest = note[:end], note[end + 1 :]
    decode_text(text)
    lines = tuple(rest.splitlines(keepends=True))
    if not 0 < len(lines) <= MAX_SIGNATURES:
        raise MalformedError(
            f"expected 1 to {MAX_SIGNATURES} signature lines, got {len(lines)}"
        )
    for line in lines:
        _parse_line(line)
    return text, lines


def _parse_line(line: bytes) -> tuple[str, bytes]:
    """Return name, and key id with signature, of a signature line."""
    try:
        start, name, encoded = line.decode().split(" ")
    except ValueError:  # UnicodeDecodeError is one
        start, name, encoded = "", "", ""
    if start != "—" or encoded[-1:] != "\n":
        raise MalformedError("expected a signature line: — name base64")
    _check_name(name)
    data = parse_base64(encoded[:-1])
    if len(data) < 5:
        raise MalformedError("expected key id and signature, got less than 5 bytes")
    return name, data


def _parse_key(text: str, what: str) -> tuple[str, bytes, bytes]:
    """Return name, key id, and type with key, of a vkey or an skey."""
    parts = text.split("+", 2) if type(text) is str and len(text) <= 4096 else []
    if len(parts) != 3 or not re.fullmatch("[0-9a-fA-F]{8}", parts[1]):
        raise MalformedError(f"expected the {what} as name+hex+base64")
    data = parse_base64(parts[2])
    if not data:
        raise MalformedError(f"expected a key in the {what}, got none")
    return parts[0], bytes.fromhex(parts[1]), data


def _by_key(verifiers: Iterable[Verifier]) -> dict[tuple[str, bytes], Verifier]:
    known: dict[tuple[str, bytes], Verifier] = {}
    for verifier in verifiers:
        # Key ids are 4 bytes: whoever chooses keys can make two agree.
        if known.setdefault((verifier.name, verifier.key_id), verifier) != verifier:
            raise ConfigurationError(f"expected one key {verifier.key}, got two")
    return known


def _check_name(name: str) -> None:
    try:
        size = len(name.encode())
    except (AttributeError, UnicodeEncodeError):
        size = 0
    if not 0 < size <= _MAX_NAME:
        raise MalformedError("expected a key name of 1 to 255 bytes of UTF-8")
    if any(c.isspace() or c < " " or c == "+" for c in name):
        raise MalformedError("expected a key name without spaces, controls and +")


def _key_id(name: str, type_: int, public_key: bytes) -> bytes:
    return sha256(name.encode() + bytes([0x0A, type_]) + public_key).digest()[:4]


def _message(verifier: Verifier, text: bytes, timestamp: int) -> bytes:
    """Return the bytes that a signature of this type signs (C2SP tlog-cosignature)."""
    if verifier.type == ED25519:
        return text
    if verifier.type == COSIGNATURE_ED25519:
        return b"cosignature/v1\ntime %d\n" % timestamp + text
    lines = decode_text(text).split("\n")
    if len(lines) < 4:
        raise MalformedError("expected a checkpoint of three lines under ML-DSA-44")
    if len(lines) > 4:
        raise VerificationError(
            "expected a checkpoint without extension lines, which ML-DSA-44 does not "
            f"cover, got {len(lines) - 1} lines"
        )
    parts = [
        b"subtree/v1\n\x00",
        _short(verifier.name.encode()),
        timestamp.to_bytes(8),
        _short(lines[0].encode()),
        bytes(8),  # start: a checkpoint is the subtree from leaf 0
        parse_decimal(lines[1]).to_bytes(8),
        parse_hash(lines[2]),
    ]
    return b"".join(parts)


def _short(data: bytes) -> bytes:
    if not 0 < len(data) <= 255:
        raise MalformedError(f"expected an origin of 1 to 255 bytes, got {len(data)}")
    return bytes([len(data)]) + data


def _private_key(type_: int, seed: bytes) -> Ed25519PrivateKey | MLDSA44PrivateKey:
    try:
        if type_ == ML_DSA_44:
            return MLDSA44PrivateKey.from_seed_bytes(seed)
        return Ed25519PrivateKey.from_private_bytes(seed)
    except UnsupportedAlgorithm:
        raise AuditLogError(_UNSUPPORTED.format(type_)) from None
