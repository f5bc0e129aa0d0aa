"""The plaintext of the vault: captured content, packed for sealing.

::

    packed = 0x01 || secret(32) || u8 n || n * part || zeros up to Padmé length
    part   = u16 len || path || u8 flags || u64 size || u32 len || data

`size` is the length of the value as it was captured. Flag 1: `data` is a zstd frame.
Flag 2: only the first bytes of the value are kept, and `data` begins with the 32-byte
hash of its leaf, so that the commitment can still be recomputed (`FORMATS.md` §4).
Flag 4, beside flag 2: next come ``u32 n`` and the 32-byte hashes of the last `n` of
its pieces, those not kept whole. Flag 8: `data` is not the value but the
Content-Encoding that gives it when undone from the raw body.

The parts are ``request``, ``response``, ``request:decoded`` and ``response:decoded``
where they exist, then ``context/*`` in the order of their bytes. Members and pieces are
not stored: they are the bodies, split again.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import zstandard

from auditlog.capture.cutting import whole
from auditlog.capture.decoding import decode
from auditlog.core.commitment import (
    commit,
    commitment_digest,
    disclosure_hash,
    salts,
)
from auditlog.core.encoding import format_base64
from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.opening import content_of
from auditlog.core.pieces import split_body
from auditlog.core.record import Entry
from auditlog.storage.sealing import padme_length

__all__ = [
    "WORTH_COMPRESSING",
    "Content",
    "Leaf",
    "Part",
    "context_only",
    "leaves_of",
    "pack",
    "unpack",
    "verify_content",
]

_VERSION = 1
_ZSTD, _CAPPED, _PIECES, _CODED = 1, 2, 4, 8
_FLAGS = frozenset({0, 1, 2, 3, 6, 7, 8})
"""Sums of flags that can stand together."""
_HASH = 32
WORTH_COMPRESSING = 96
"""Bytes of a value from which compressing it is worth while."""
_MAX_VALUE = 1 << 30
_HEAD = struct.Struct(">BQI")
_NO_BODY = {"mediaType": "none", "split": "none", "state": "omitted"}
"""Nobody's request, and no answer."""


class Part(NamedTuple):
    """One stored value of a decision."""

    path: str
    value: bytes
    """The value, or its first bytes where `leaf_hash` is given."""
    size: int
    """Length of the whole value in bytes."""
    leaf_hash: bytes | None = None
    """Hash of the leaf of the whole value; None where the whole value is kept."""
    piece_hashes: bytes = b""
    """Hashes of the pieces that are not kept whole, 32 bytes each."""
    coding: str | None = None
    """In a decoded part, the Content-Encoding that was undone."""


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
            part.path.removeprefix("context/"): part.value
            for part in self.parts
            if part.path.startswith("context/")
        }

    @property
    def decoded(self) -> Mapping[str, Part]:
        """The decoded bodies by side, ``request`` and ``response``."""
        return {
            part.path.removesuffix(":decoded"): part
            for part in self.parts
            if part.coding is not None
        }


@dataclass(frozen=True, slots=True)
class Leaf:
    """One leaf of a commitment, recomputed from stored content."""

    path: str
    value: bytes | None
    """None where the whole value was not kept."""
    salt: bytes = field(repr=False)
    hash: bytes


def context_only(
    secret: bytes, leaves: Sequence[tuple[str, bytes]]
) -> tuple[dict[str, Any], Content]:
    """Return what an entry says whose content is ``context/`` leaves and no body.

    Args:
        secret: 32 random bytes, never used before.
        leaves: path and value of each, in the order of `FORMATS.md` §3.

    Returns:
        Members of its `data`: ``commitment``, ``request``, ``response``; and the
        content that the commitment covers.
    """
    digest = commit(secret, b"", b"", leaves).digest
    said = {"depth": 0, "digest": format_base64(digest), "v": 1}
    every = [("request", b""), ("response", b""), *leaves]
    parts = tuple(Part(path, value, len(value)) for path, value in every)
    data = {"commitment": said, "request": _NO_BODY, "response": _NO_BODY}
    return data, Content(secret, parts)


def pack(
    content: Content,
    compressor: zstandard.ZstdCompressor,
    compress_from: int = WORTH_COMPRESSING,
) -> bytes:
    """Return the plaintext to seal; values of `compress_from` bytes are compressed."""
    parts = content.parts
    out = [b"%c%b%c" % (_VERSION, content.secret, len(parts))]
    for path, value, size, leaf_hash, piece_hashes, coding in parts:
        data, flags = value, 0
        if coding is not None:
            data, flags = coding.encode(), _CODED
        elif len(data) >= compress_from:
            frame = compressor.compress(data)
            if len(frame) < len(data):
                data, flags = frame, _ZSTD
        if leaf_hash is not None:
            if piece_hashes:
                count = len(piece_hashes) // _HASH
                data = b"%b%b%b" % (count.to_bytes(4), piece_hashes, data)
                flags |= _PIECES
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
    parts: list[Part] = []
    offset = 34
    for _ in range(packed[33]):
        part, offset = _unpack_part(packed, offset)
        parts.append(part if part.coding is None else _decode(part, parts))
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
    if len(data) != stored or flags not in _FLAGS:
        msg = f"stored content is cut or damaged in part {path!r}"
        raise MalformedError(msg)
    if flags & _CODED:
        coding = data.decode("utf-8", "replace")
        return Part(path, b"", size, coding=coding), start + stored
    leaf_hash, piece_hashes = None, b""
    if flags & _CAPPED:
        leaf_hash, data = data[:_HASH], data[_HASH:]
    if flags & _PIECES:
        end = 4 + _HASH * int.from_bytes(data[:4])
        piece_hashes, data = data[4:end], data[end:]
    if flags & _ZSTD:
        data = _decompress(data, path, min(size, _MAX_VALUE))
    if leaf_hash is None and len(data) != size:
        msg = f"stored part {path!r} has {len(data)} bytes, expected {size}"
        raise MalformedError(msg)
    return Part(path, data, size, leaf_hash, piece_hashes), start + stored


def _decode(part: Part, before: list[Part]) -> Part:
    """Return a decoded part with its value, made of the raw body again."""
    sources = [one for one in before[:2] if f"{one.path}:decoded" == part.path]
    if part.coding is None or len(sources) != 1 or sources[0].leaf_hash is not None:
        msg = f"stored part {part.path!r} has no whole body to be decoded from"
        raise MalformedError(msg)
    value = decode(sources[0].value, part.coding)
    if value is None or len(value) != part.size:
        msg = f"stored part {part.path!r} does not decode to {part.size} bytes"
        raise MalformedError(msg)
    return part._replace(value=value)


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
    decoded = content.decoded
    values = [*content.parts[:2], *decoded.values()]
    for raw in content.parts[:2]:
        split = committed.sides[raw.path]["split"]
        if raw.leaf_hash is not None and split not in {"json", "none"}:
            values += _capped_pieces(raw, split)
        elif split != "none":
            body = decoded.get(raw.path, raw).value
            found = split_body(split, raw.path, body, committed.depth) or []
            values += [Part(path, value, len(value)) for path, value in found]
    values += content.parts[2 + len(decoded) :]
    all_salts = salts(content.secret, len(values))
    return [_leaf(part, salt) for part, salt in zip(values, all_salts[1:], strict=True)]


def _capped_pieces(raw: Part, split: str) -> list[Part]:
    """Return the pieces of a body, those that are not kept whole as hashes."""
    found, _ = whole(split, raw.value)
    rest = raw.piece_hashes
    hashes = [rest[at : at + _HASH] for at in range(0, len(rest), _HASH)]
    return [
        *(
            Part(f"{raw.path}#{number}", value, len(value))
            for number, value in enumerate(found)
        ),
        *(
            Part(f"{raw.path}#{number}", b"", 0, leaf_hash)
            for number, leaf_hash in enumerate(hashes, len(found))
        ),
    ]


def _leaf(part: Part, salt: bytes) -> Leaf:
    if part.leaf_hash is not None:
        return Leaf(part.path, None, salt, part.leaf_hash)
    hash_ = disclosure_hash(salt, part.path, part.value)
    return Leaf(part.path, part.value, salt, hash_)


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
