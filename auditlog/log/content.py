"""The plaintext of the vault: captured content, packed for sealing.

::

    packed = 0x01 || secret(32) || u8 n || n * part || zeros up to Padmé length
    part   = u16 len || path || u8 flags || u64 size || u32 len || data

`size` is the length of the value as it was captured. Flag 1: `data` is a zstd frame.
Flag 2: only the first bytes of the value are kept, and `data` begins with the 32-byte
hash of its leaf, so that the commitment can still be recomputed (`FORMATS.md` §4).
The parts are ``request``, ``response``, then ``context/*`` in the order of their bytes.
Members are not stored: they are the bodies, split again.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import zstandard

from auditlog.core.commitment import (
    commitment_digest,
    disclosure_hash,
    members,
    salts,
)
from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.opening import content_of
from auditlog.core.record import Entry
from auditlog.core.sealing import padme_length

__all__ = ["Content", "Leaf", "Part", "leaves_of", "pack", "unpack", "verify_content"]

_VERSION = 1
_ZSTD, _CAPPED = 1, 2
_HASH = 32
_WORTH_COMPRESSING = 96
_MAX_VALUE = 1 << 30
_HEAD = struct.Struct(">BQI")


class Part(NamedTuple):
    """One stored value of a decision."""

    path: str
    value: bytes
    """The value, or its first bytes where `leaf_hash` is given."""
    size: int
    """Length of the whole value in bytes."""
    leaf_hash: bytes | None = None
    """Hash of the leaf of the whole value; None where the whole value is kept."""


@dataclass(frozen=True, slots=True)
class Content:
    """What was captured of one decision, as unsealed from the vault."""

    secret: bytes = field(repr=False)
    parts: tuple[Part, ...] = field(repr=False)

    @property
    def request(self) -> bytes:
        """The request body, or its first bytes."""
        return self.parts[0].value

    @property
    def response(self) -> bytes:
        """The response body, or its first bytes."""
        return self.parts[1].value

    @property
    def request_capped(self) -> bool:
        """Whether only the first bytes of the request were kept."""
        return self.parts[0].leaf_hash is not None

    @property
    def response_capped(self) -> bool:
        """Whether only the first bytes of the response were kept."""
        return self.parts[1].leaf_hash is not None

    @property
    def context(self) -> Mapping[str, bytes]:
        """The ``context/`` leaves by name."""
        return {
            part.path.removeprefix("context/"): part.value for part in self.parts[2:]
        }


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of a commitment, recomputed from stored content."""

    path: str
    value: bytes | None
    """None where the whole value was not kept."""
    salt: bytes = field(repr=False)
    hash: bytes


def pack(content: Content, compressor: zstandard.ZstdCompressor) -> bytes:
    """Return the plaintext to seal."""
    parts = content.parts
    out = [b"%c%b%c" % (_VERSION, content.secret, len(parts))]
    for path, value, size, leaf_hash in parts:
        data, flags = value, 0
        if len(data) >= _WORTH_COMPRESSING:
            frame = compressor.compress(data)
            if len(frame) < len(data):
                data, flags = frame, _ZSTD
        if leaf_hash is not None:
            data, flags = leaf_hash + data, flags | _CAPPED
        name = path.encode()
        out += (len(name).to_bytes(2), name, _HEAD.pack(flags, size, len(data)), data)
    packed = b"".join(out)
    return packed.ljust(padme_length(len(packed)), b"\0")


def unpack(packed: bytes) -> Content:
    """Read a plaintext that `pack` wrote.

    Raises:
        MalformedError: it is not one.
    """
    if len(packed) < 34 or packed[0] != _VERSION:
        msg = f"stored content begins with version byte {packed[:1]!r}, expected 1"
        raise MalformedError(msg)
    parts, offset = [], 34
    for _ in range(packed[33]):
        part, offset = _unpack_part(packed, offset)
        parts.append(part)
    paths = [part.path for part in parts[:2]]
    if paths != ["request", "response"] or packed[offset:].strip(b"\0"):
        msg = (
            "stored content lacks request or response, or has data after its last part"
        )
        raise MalformedError(msg)
    return Content(packed[1:33], tuple(parts))


def _unpack_part(packed: bytes, offset: int) -> tuple[Part, int]:
    try:
        length = int.from_bytes(packed[offset : offset + 2])
        path = packed[offset + 2 : offset + 2 + length].decode()
        flags, size, stored = _HEAD.unpack_from(packed, offset + 2 + length)
    except (struct.error, UnicodeDecodeError):
        msg = f"stored content is cut or damaged at byte {offset}"
        raise MalformedError(msg) from None
    start = offset + 2 + length + _HEAD.size
    data = packed[start : start + stored]
    if len(data) != stored or flags > (_ZSTD | _CAPPED):
        msg = f"stored content is cut or damaged in part {path!r}"
        raise MalformedError(msg)
    leaf_hash = None
    if flags & _CAPPED:
        leaf_hash, data = data[:_HASH], data[_HASH:]
    if flags & _ZSTD:
        data = _decompress(data, path, min(size, _MAX_VALUE))
    if leaf_hash is None and len(data) != size:
        msg = f"stored part {path!r} has {len(data)} bytes, expected {size}"
        raise MalformedError(msg)
    return Part(path, data, size, leaf_hash), start + stored


def _decompress(frame: bytes, path: str, limit: int) -> bytes:
    try:
        size = zstandard.frame_content_size(frame)
        if not 0 <= size <= limit:
            msg = f"stored part {path!r} has {size} bytes, expected {limit} at most"
            raise MalformedError(msg)
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except zstandard.ZstdError as error:
        msg = f"stored part {path!r} does not decompress: {error}"
        raise MalformedError(msg) from None


def leaves_of(entry: Entry, content: Content) -> list[Leaf]:
    """Return all leaves of the decision's commitment, in order, with their salts."""
    committed = content_of(entry)
    named = [(part.path, part) for part in content.parts[:2]]
    values: list[tuple[str, Part]] = named
    for part in content.parts[:2]:
        if committed.sides[part.path]["split"] == "json":
            found = members(part.path, part.value, committed.depth) or []
            values += [(path, Part(path, value, len(value))) for path, value in found]
    values += [(part.path, part) for part in content.parts[2:]]
    all_salts = salts(content.secret, len(values))
    return [
        _leaf(path, part, salt)
        for (path, part), salt in zip(values, all_salts[1:], strict=True)
    ]


def _leaf(path: str, part: Part, salt: bytes) -> Leaf:
    if part.leaf_hash is not None:
        return Leaf(path, None, salt, part.leaf_hash)
    return Leaf(path, part.value, salt, disclosure_hash(salt, path, part.value))


def verify_content(entry: Entry, content: Content) -> list[Leaf]:
    """Recompute the commitment from stored content; return its leaves.

    Raises:
        VerificationError: the content is not what the entry committed to.
    """
    leaves = leaves_of(entry, content)
    digest = commitment_digest(
        salts(content.secret, 0)[0],
        content.parts[0].size,
        content.parts[1].size,
        [leaf.hash for leaf in leaves],
    )
    committed = content_of(entry).digest
    if digest != committed:
        msg = (
            "stored content does not match the commitment in its entry: expected "
            f"{committed.hex()}, recomputed {digest.hex()}"
        )
        raise VerificationError(msg)
    return leaves
