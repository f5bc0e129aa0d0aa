"""Words that stand nowhere else, and a search that finds them however they are written.

Every word begins with one mark of twelve random letters, every number with one of nine
random digits. So a few needles tell all of them, in clear and in each encoding in which
a program writes what it was given. A piece of twelve letters that nobody wrote has a
chance of 1 in 10^16 in a gigabyte.
"""

import base64
import gzip
import secrets
import string
import zlib
from collections.abc import Callable, Iterator

import zstandard

__all__ = ["ENCODINGS", "Canaries"]

_MARK, _OWN, _DIGITS = 12, 8, 9
_ZSTD, _GZIP = b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08"
_MAX_FRAME = 8 << 20


def _word(letters: int) -> str:
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(letters))


def _number(digits: int) -> str:
    return "".join(secrets.choice("123456789") for _ in range(digits))


def _base64_phases(mark: bytes) -> list[bytes]:
    """Return what base64 makes of a mark that begins at byte 0, 1 or 2 of three."""
    found = []
    for before in range(3):
        text = base64.b64encode(bytes(before) + mark)
        # Letters that also depend on a byte before or after the mark are left out.
        found.append(text[-(-8 * before // 6) : (8 * (before + len(mark))) // 6])
    return found


def _base32_phases(mark: bytes) -> list[bytes]:
    found = []
    for before in range(5):
        text = base64.b32encode(bytes(before) + mark)
        found.append(text[-(-8 * before // 5) : (8 * (before + len(mark))) // 5])
    return found


ENCODINGS: dict[str, Callable[[bytes], list[bytes]]] = {
    "clear": lambda mark: [mark],
    "upper case": lambda mark: [mark.upper()] if mark.isalpha() else [],
    "UTF-16": lambda mark: [
        # What is between two letters is the same from either end.
        mark.decode().encode("utf-16-le")[:-1]
    ],
    "UTF-32": lambda mark: [mark.decode().encode("utf-32-le")[:-3]],
    "base64": _base64_phases,
    "base32": _base32_phases,
    "hex": lambda mark: [mark.hex().encode(), mark.hex().upper().encode()],
    "hex with colons": lambda mark: [mark.hex(":").encode()],
    "URL": lambda mark: [
        b"".join(b"%%%02x" % one for one in mark),
        b"".join(b"%%%02X" % one for one in mark),
    ],
    "JSON": lambda mark: [b"".join(b"\\u%04x" % one for one in mark)],
    "Python": lambda mark: [b"".join(b"\\x%02x" % one for one in mark)],
    "reversed": lambda mark: [mark[::-1]],
}
"""What each encoding makes of a mark; hashes are nobody's business here."""


class Canaries:
    """The words and numbers of one test run."""

    def __init__(self) -> None:
        self._word, self._number = _word(_MARK), _number(_DIGITS)
        self.names: dict[str, str] = {}
        """What was handed out, by name."""
        self.raw = secrets.token_bytes(16)
        """Sixteen bytes, for ids of traces."""
        self._needles = [
            (name, needle)
            for name, encode in ENCODINGS.items()
            for mark in (self._word, self._number)
            for needle in encode(mark.encode())
        ]
        raw = self.raw
        self._needles += [
            ("raw", raw),
            ("raw, hex", raw.hex().encode()),
            ("raw, base64", base64.b64encode(raw)[:20]),
            ("raw, base64url", base64.urlsafe_b64encode(raw)[:20]),
        ]

    def word(self, name: str) -> str:
        """Return the word of this name, the same each time."""
        return self.names.setdefault(name, self._word + _word(_OWN))

    def number(self, name: str) -> int:
        """Return the number of this name, below 2^53."""
        made = self.names.setdefault(name, self._number + _number(6))
        number = int(made)
        for how, size in (("big", 8), ("little", 8)):
            needle = number.to_bytes(size, how)  # type: ignore[arg-type]
            self._needles.append(("binary", needle))
        return number

    def found_in(self, data: bytes) -> list[str]:
        """Return where the bytes of a file hold a canary: encoding, and some context.

        Also looks into whatever is compressed.
        """
        found = [f"{how} at {at}" for how, at in self._places(data)]
        for at, inner in _frames(data):
            found += [f"{how} in the frame at {at}" for how, _ in self._places(inner)]
        return found

    def _places(self, data: bytes) -> Iterator[tuple[str, int]]:
        for how, needle in self._needles:
            at = data.find(needle)
            if at >= 0:
                yield f"{how} {data[max(0, at - 40) : at + 60]!r}", at


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield what is compressed in some bytes, as far as it can be read."""
    for magic, read in ((_ZSTD, _read_zstd), (_GZIP, _read_gzip)):
        at = data.find(magic)
        while at >= 0:
            inner = read(data[at : at + _MAX_FRAME])
            if inner:
                yield at, inner
            at = data.find(magic, at + 1)


def _read_zstd(data: bytes) -> bytes:
    try:
        reader = zstandard.ZstdDecompressor().decompressobj()
        return reader.decompress(data)
    except zstandard.ZstdError:
        return b""


def _read_gzip(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=31).decompress(data, _MAX_FRAME)
    except zlib.error:
        return b""


def compressed(how: str, value: bytes) -> bytes:
    """Return a frame, for the control of the search."""
    return gzip.compress(value) if how == "gzip" else zstandard.compress(value)
