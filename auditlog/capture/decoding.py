"""Content-codings undone, within limits (RFC 9110 §8.4).

gzip, deflate and zstd, also one over the other. What is cut, damaged, followed by other
data or larger than the limits has no decoded form, and that is no error: the raw body
is committed to in any case. Nothing here raises, whatever the bytes are.
"""

import re
import zlib

import zstandard

__all__ = ["decode", "says_more"]

# Stored content is decoded again when it is read: these limits may grow, never shrink.
_MAX_DECODED = 8 << 20
_FLOOR = 1 << 16
_RATIO = 100
_MAX_CODINGS = 3
_MAX_FRAMES = 64
"""Each copies what follows it: a body of empty ones would take minutes."""
_ZSTD_WINDOW = 8 << 20
"""The largest window that a zstd content-coding may ask for (RFC 9659)."""
_GZIP, _ZLIB, _RAW_DEFLATE = 31, 15, -15
_MORE = {
    # A member with a name, comment or extra field (RFC 1952 §2.3.1).
    "gzip": re.compile(rb"\x1f\x8b\x08[^\x00\x01]", re.DOTALL),
    # A frame that is skipped (RFC 8878 §3.1.2).
    "zstd": re.compile(rb"[\x50-\x5f]\x2a\x4d\x18"),
}
_MORE["x-gzip"] = _MORE["gzip"]


def decode(body: bytes, header: str) -> bytes | None:
    """Return a body as it was before the codings that Content-Encoding names, or None.

    A decoded body has at most 8 MiB, and at most 64 KiB more than 100 times what was
    sent; so has each step on the way to it.
    """
    names = _names(header)
    if not body or not 0 < len(names) <= _MAX_CODINGS:
        return None
    limit = min(_MAX_DECODED, _FLOOR + _RATIO * len(body))
    decoded: bytes | None = body
    for name in reversed(names):  # the last one was applied last
        decoded = None if decoded is None else _undo(name, decoded, limit)
    return decoded


def says_more(body: bytes, header: str) -> bool:
    """Return whether an encoded body may say more than `decode` gives of it.

    Such as the name of a file in the header of gzip. It may be true by chance, and is
    of codings over each other, of which only the outer one can be seen.
    """
    names = _names(header)
    more = _MORE.get(names[0]) if len(names) == 1 else None
    return len(names) > 1 or (more is not None and more.search(body) is not None)


def _names(header: str) -> list[str]:
    names = [name.strip(" \t").lower() for name in header.split(",")]
    return [name for name in names if name not in {"", "identity"}]


def _undo(name: str, data: bytes, limit: int) -> bytes | None:
    try:
        if name in {"gzip", "x-gzip"}:
            return _gunzip(data, limit)
        if name == "deflate":
            return _inflate(data, limit)
        return _unzstd(data, limit) if name == "zstd" else None
    except (zlib.error, zstandard.ZstdError, _LargeError):
        return None


class _LargeError(Exception):
    """The output is larger than the limit."""


def _gunzip(data: bytes, limit: int) -> bytes | None:
    """Undo gzip, which may be several members (RFC 1952 §2.2)."""
    out: list[bytes] = []
    while data and len(out) < _MAX_FRAMES:
        member = zlib.decompressobj(_GZIP)
        out.append(_all_of(member, data, limit))
        limit -= len(out[-1])
        if not member.eof:
            return None
        data = member.unused_data
    return None if data else b"".join(out)


def _inflate(data: bytes, limit: int) -> bytes | None:
    """Undo deflate: zlib by RFC 9110 §8.4.1.2, bare in what some send."""
    for kind in (_ZLIB, _RAW_DEFLATE):
        stream = zlib.decompressobj(kind)
        try:
            out = _all_of(stream, data, limit)
        except zlib.error:
            continue
        if stream.eof and not stream.unused_data:
            return out
    return None


def _all_of(stream: "zlib._Decompress", data: bytes, limit: int) -> bytes:
    out = stream.decompress(data, limit + 1)  # 0 would mean without a limit
    if len(out) > limit:
        raise _LargeError
    return out


def _unzstd(data: bytes, limit: int) -> bytes | None:
    """Undo zstd, which may be several frames (RFC 8878 §3.1)."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    # Read once to learn the length, because only this way in has a limit ...
    with decompressor.stream_reader(data, read_across_frames=True) as reader:
        if len(reader.read(limit + 1)) > limit:
            raise _LargeError
    # ... and again, because only this one tells where a frame ends.
    out: list[bytes] = []
    while data and len(out) < _MAX_FRAMES:
        frame = decompressor.decompressobj()
        out.append(frame.decompress(data))
        if not frame.eof:
            return None
        data = frame.unused_data
    return None if data else b"".join(out)
