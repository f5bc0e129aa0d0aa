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

Where there is no secret (`FORMATS.md` §6), each leaf of the commitment stands by
itself, in order::

    packed = 0x02 || salt_0(16) || u64 |request| || u64 |response| || u32 n || n * leaf
             || zeros up to Padmé length
    leaf   = 0x00 || hash(32)              nothing of it can ever be opened
           | 0x01 || salt(16) || part      its value follows; no flag 2 or 4
           | 0x02 || salt(16) || u32 i     piece i of what is stored of the request
           | 0x03 || salt(16) || u32 i     piece i of what is stored of the response

What is stored of a side is its copy, ``context/stored.request``, or the body itself,
never both; its pieces are its members, blocks, messages or chunks, as the entry says.
So no value stands here twice, and no path of a leaf that is only a hash.
"""

import struct
from collections.abc import Sequence

import zstandard

from auditlog.capture.decoding import decode
from auditlog.core.errors import MalformedError
from auditlog.log.parts import (
    CONTEXT,
    SIDES,
    STORED,
    Content,
    Hashed,
    Part,
    Piece,
    Salted,
    Salts,
)
from auditlog.storage.sealing import padme_length

__all__ = ["WORTH_COMPRESSING", "pack", "unpack"]

_WITH_SECRET, _WITHOUT = 1, 2
_ZSTD, _CAPPED, _PIECES, _CODED = 1, 2, 4, 8
_FLAGS = frozenset({0, 1, 2, 3, 6, 7, 8})
"""Sums of flags that can stand together."""
_IS_HASHED, _IS_SALTED, _IS_PIECE = b"\0", b"\1", (b"\2", b"\3")
_HASH, _SALT = 32, 16
WORTH_COMPRESSING = 96
"""Bytes of a value from which compressing it is worth while."""
_MAX_VALUE = 1 << 30
_HEAD = struct.Struct(">BQI")
_BARE = struct.Struct(">B16sQQI")
"""What stands before the leaves where there is no secret."""
_Known = Hashed | Salted | Piece


def pack(
    content: Content,
    compressor: zstandard.ZstdCompressor,
    compress_from: int = WORTH_COMPRESSING,
) -> bytes:
    """Return the plaintext to seal; values of `compress_from` bytes are compressed."""
    if content.secret is None:
        out = _pack_leaves(content, compressor, compress_from)
    else:
        out = [b"%c%b%c" % (_WITH_SECRET, content.secret, len(content.parts))]
        _pack_parts(out, content.parts, compressor, compress_from)
    packed = b"".join(out)
    return packed.ljust(padme_length(len(packed)), b"\0")


def _pack_parts(
    out: list[bytes],
    parts: Sequence[Part],
    compressor: zstandard.ZstdCompressor,
    compress_from: int,
) -> None:
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


def _pack_leaves(
    content: Content, compressor: zstandard.ZstdCompressor, compress_from: int
) -> list[bytes]:
    """Return what stands before the padding where there is no secret."""
    assert content.salts is not None
    first, leaves = content.salts
    asked, answered = content.parts[:2]
    out = [_BARE.pack(_WITHOUT, first, asked.size, answered.size, len(leaves))]
    further = iter(content.parts[2:])
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, Piece):
            salt, side, number = leaf
            out += (_IS_PIECE[side == "response"], salt, number.to_bytes(4))
        elif isinstance(leaf, Hashed):
            out += (_IS_HASHED, leaf.hash)
        else:
            out += (_IS_SALTED, leaf.salt)
            part = content.parts[place] if place < len(SIDES) else next(further)
            _pack_parts(out, [part], compressor, compress_from)
    return out


def unpack(packed: bytes) -> Content:
    """Read a plaintext that `pack` wrote.

    Raises:
        MalformedError: it is not one.
    """
    if packed[:1] == b"\2":
        return _unpack_leaves(packed)
    if len(packed) < 34 or packed[0] != _WITH_SECRET:
        msg = f"stored content begins with version byte {packed[:1]!r}, expected 1 or 2"
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


def _unpack_leaves(packed: bytes) -> Content:
    """Read what `_pack_leaves` wrote, with its padding."""
    try:
        _, first, *sizes, count = _BARE.unpack_from(packed)
    except struct.error:
        raise _damaged(0) from None
    leaves: list[_Known] = []
    parts: list[Part] = []
    offset = _BARE.size
    for place in range(count):
        leaf, offset = _unpack_leaf(packed, offset)
        leaves.append(leaf)
        if isinstance(leaf, Salted):
            part, offset = _unpack_part(packed, offset)
            parts.append(_whole(part, parts))
        if place < len(SIDES):
            _add_side(parts, place, leaf, sizes[place])
    if count < len(SIDES) or len(packed) != padme_length(offset):
        msg = f"stored content has {count} leaves and ends elsewhere than they do"
        raise MalformedError(msg)
    if packed[offset:].strip(b"\0"):
        raise MalformedError("stored content has data after its last leaf")
    _check_parts(parts)
    return Content(None, tuple(parts), Salts(first, tuple(leaves)))


def _unpack_leaf(packed: bytes, offset: int) -> tuple[_Known, int]:
    """Return the leaf at `offset`, without its value, and where that is."""
    kind, start = packed[offset : offset + 1], offset + 1
    known: _Known
    if kind == _IS_HASHED:
        end = start + _HASH
        known = Hashed(packed[start:end])
    elif kind == _IS_SALTED:
        end = start + _SALT
        known = Salted(packed[start:end])
    elif kind in _IS_PIECE:
        end = start + _SALT + 4
        number = int.from_bytes(packed[start + _SALT : end])
        side = SIDES[_IS_PIECE.index(kind)]
        known = Piece(packed[start : start + _SALT], side, number)
    else:
        raise _damaged(offset)
    if end > len(packed):
        raise _damaged(offset)
    return known, end


def _damaged(offset: int) -> MalformedError:
    return MalformedError(f"stored content is cut or damaged at byte {offset}")


def _whole(part: Part, before: list[Part]) -> Part:
    """Return a part whose whole value is there, decoded if it has to be."""
    if part.leaf_hash is not None:
        msg = f"stored part {part.path!r} is cut, where only whole ones can be"
        raise MalformedError(msg)
    return part if part.coding is None else _decode(part, before)


def _add_side(parts: list[Part], place: int, leaf: _Known, size: int) -> None:
    """Take the raw body of a side; of one that cannot be opened, only its size."""
    path = SIDES[place]
    if isinstance(leaf, Hashed):
        parts.append(Part(path, b"", size, leaf.hash))
    elif len(parts) != place + 1 or parts[place][:3:2] != (path, size):
        msg = f"stored content lacks the {path}, of {size} bytes, as leaf {place}"
        raise MalformedError(msg)


def _check_parts(parts: list[Part]) -> None:
    """Refuse what has two forms of one value, or another order than it must have."""
    paths = [part.path for part in parts]
    whole = [part.path for part in parts[:2] if part.leaf_hash is None]
    twice = [side for side in whole if f"{CONTEXT}{STORED}{side}" in paths]
    if twice:
        msg = f"stored content has both the {twice[0]} and a copy of it"
        raise MalformedError(msg)
    decoded = [part.path for part in parts[2:] if part.coding is not None]
    context = paths[2 + len(decoded) :]
    ordered = paths[2:] == [*sorted(set(decoded)), *sorted(set(context))]
    if not ordered or not all(path.startswith(CONTEXT) for path in context):
        raise MalformedError("stored content has parts that cannot be where they are")


def _unpack_part(packed: bytes, offset: int) -> tuple[Part, int]:
    try:
        length = int.from_bytes(packed[offset : offset + 2])
        path = packed[offset + 2 : offset + 2 + length].decode()
        flags, size, stored = _HEAD.unpack_from(packed, offset + 2 + length)
    except (struct.error, UnicodeDecodeError):
        raise _damaged(offset) from None
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
        return zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        msg = f"stored part {path!r} does not decompress: {error}"
        raise MalformedError(msg) from None
