"""Tiles: the Merkle tree and its entries in immutable files (C2SP tlog-tiles).

A hash tile is up to 256 hashes in a row: hash i of tile (level, index) is the root of
the complete subtree over the leaves ``(256·index + i)·256**level`` to
``(256·index + i + 1)·256**level``. A bundle is up to 256 entries, each after its
length as u16. Full ones never change; a partial one, whose width is in its path, is
replaced when the full one exists. ::

    tile/0/x001/x234/067          tile 1,234,067 of level 0, full
    tile/1/000.p/17               the first 17 hashes of tile 0 of level 1
    tile/entries/273.p/112        the first 112 entries of bundle 273
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from auditlog.core.encoding import check_range
from auditlog.core.errors import MalformedError
from auditlog.core.merkle import MAX_SIZE
from auditlog.core.record import MAX_ENTRY

__all__ = [
    "TILE_WIDTH",
    "Tile",
    "format_bundle",
    "parse_bundle",
    "parse_tile_path",
    "tile_path",
]

TILE_WIDTH = 256
"""Hashes in a full tile, entries in a full bundle."""

_MAX_LEVEL = 63
_PATH = re.compile(
    r"tile/(entries|[0-9]{1,2})/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([0-9]{1,3}))?"
)


class Tile(NamedTuple):
    """Name of a hash tile, or of a bundle of entries."""

    level: int | Literal["entries"]
    """0 to 63, leaf hashes at 0; ``"entries"`` for a bundle."""
    index: int  # type: ignore[assignment]  # hides tuple.index
    """Position among the tiles of its level."""
    width: int = TILE_WIDTH
    """Hashes or entries in it, 1 to 256; below 256 it is partial."""


def tile_path(
    level: int | Literal["entries"], index: int, width: int = TILE_WIDTH
) -> str:
    """Return the path of a tile, ``"entries"`` for bundles (C2SP tlog-tiles).

    Raises:
        MalformedError: there is no such tile.
    """
    if level != "entries":
        check_range("tile level", level, _MAX_LEVEL)
    check_range("tile index", index, MAX_SIZE)
    check_range("tile width", width, TILE_WIDTH, lowest=1)
    *high, low = (digits.zfill(3) for digits in f"{index:,}".split(","))
    path = f"tile/{level}/{''.join(f'x{digits}/' for digits in high)}{low}"
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def parse_tile_path(path: str) -> Tile:
    """Return the tile that a path names; every tile has exactly one path.

    Raises:
        MalformedError: the path is none that `tile_path` makes.
    """
    match = _PATH.fullmatch(path) if type(path) is str else None
    if match is None:
        raise MalformedError("expected a path such as tile/0/x001/067.p/8")
    level, digits, width = match.groups()
    tile = Tile(
        "entries" if level == "entries" else int(level),
        int(digits.replace("x", "").replace("/", "")),
        TILE_WIDTH if width is None else int(width),
    )
    if tile_path(*tile) != path:
        raise MalformedError(f"expected the path {tile_path(*tile)}, got {path}")
    return tile


def format_bundle(entries: Sequence[bytes]) -> bytes:
    """Return the bytes of a bundle of 1 to 256 entries (C2SP tlog-tiles).

    Raises:
        MalformedError: none or too many entries, or one of more than 65,535 bytes.
    """
    check_range("entries in a bundle", len(entries), TILE_WIDTH, lowest=1)
    for entry in entries:
        check_range("bytes in an entry", len(entry), MAX_ENTRY)
    return b"".join([len(entry).to_bytes(2) + entry for entry in entries])


def parse_bundle(data: bytes, count: int | None = None) -> list[bytes]:
    """Return the entries of a bundle: exactly `count`, or else 1 to 256.

    Raises:
        MalformedError: the bytes are not that many entries, each after its length.
    """
    if type(data) is not bytes:
        raise MalformedError(f"expected a bundle as bytes, got {type(data).__name__}")
    entries: list[bytes] = []
    position = 0
    while position < len(data) and len(entries) <= TILE_WIDTH:
        start = position + 2
        position = start + int.from_bytes(data[position:start])
        entries.append(data[start:position])
    if position != len(data) or not 0 < len(entries) <= TILE_WIDTH:
        raise MalformedError("expected 1 to 256 entries, each after its length as u16")
    if count not in (None, len(entries)):
        raise MalformedError(f"expected {count} entries, got {len(entries)}")
    return entries
