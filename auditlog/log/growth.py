"""How a tree grows: from its right edge and new leaves to new tiles and a root.

The right edge of a tree is, for each tile level, the hashes of its last, incomplete
tile (0 to 255 of them). It is all that is needed to append leaves and to compute the
root, so the cost of an append does not depend on the size of the tree.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from auditlog.core.errors import StorageError
from auditlog.core.merkle import EMPTY_ROOT, HASH_SIZE, node_hash, root_hash
from auditlog.core.tiles import TILE_WIDTH, Tile, tile_path

__all__ = [
    "Edge",
    "Growth",
    "edge_root",
    "fetch_tile",
    "grow",
    "hash_level",
    "read_edge",
]

Edge = tuple[tuple[bytes, ...], ...]
"""Hashes of the incomplete tile of each level, level 0 first."""


class Growth(NamedTuple):
    """What appending leaves gives."""

    tiles: list[tuple[Tile, bytes]]
    """New hash tiles, full and partial, levels ascending."""
    edge: Edge
    root: bytes


def grow(old_size: int, edge: Edge, leaves: Sequence[bytes]) -> Growth:
    """Append leaf hashes to a tree of `old_size` with right edge `edge`."""
    tiles: list[tuple[Tile, bytes]] = []
    grown: list[tuple[bytes, ...]] = []
    level, size, fresh = 0, old_size, list(leaves)
    while fresh or level < len(edge):
        kept = list(edge[level]) if level < len(edge) else []
        hashes = kept + fresh
        first = size // TILE_WIDTH
        full, roots = len(hashes) // TILE_WIDTH, []
        for number in range(full):
            part = hashes[number * TILE_WIDTH : (number + 1) * TILE_WIDTH]
            tiles.append((Tile(level, first + number), b"".join(part)))
            roots.append(root_hash(part))
        rest = hashes[full * TILE_WIDTH :]
        if fresh and rest:
            tiles.append((Tile(level, first + full, len(rest)), b"".join(rest)))
        grown.append(tuple(rest))
        level, size, fresh = level + 1, first, roots
    return Growth(tiles, tuple(grown), edge_root(grown))


def edge_root(edge: Sequence[Sequence[bytes]]) -> bytes:
    """Return the root of the tree whose right edge is `edge` (RFC 6962 §2.1)."""
    root: bytes | None = None
    for hashes in edge:
        start = 0
        peaks = []
        while start < len(hashes):
            width = 1 << ((len(hashes) - start).bit_length() - 1)
            peaks.append(root_hash(hashes[start : start + width]))
            start += width
        for peak in reversed(peaks):
            root = peak if root is None else node_hash(peak, root)
    return EMPTY_ROOT if root is None else root


def hash_level(tile: Tile) -> int:
    """Return the level of a hash tile; entry bundles lie below level 0.

    Raises:
        StorageError: it is an entry bundle.
    """
    if tile.level == "entries":
        msg = f"expected a hash tile, got {tile_path(*tile)}"
        raise StorageError(msg)
    return tile.level


def fetch_tile(get: Callable[[str], bytes | None], tile: Tile) -> bytes:
    """Read a hash tile; a partial one that was pruned is cut from the full one.

    Raises:
        StorageError: the tile is not there, or has the wrong length.
    """
    data = get(tile_path(*tile))
    if data is None and tile.width < TILE_WIDTH:
        full = get(tile_path(tile.level, tile.index))
        data = None if full is None else full[: HASH_SIZE * tile.width]
    if data is None or len(data) != HASH_SIZE * tile.width:
        found = "nothing" if data is None else f"{len(data)} bytes"
        msg = (
            f"{tile_path(*tile)}: expected {HASH_SIZE * tile.width} bytes, got {found}"
        )
        raise StorageError(msg)
    return data


def read_edge(get: Callable[[str], bytes | None], size: int) -> Edge:
    """Read the right edge of the tree of `size` from stored tiles.

    Raises:
        StorageError: a tile is missing or has the wrong length.
    """
    edge, level = [], 0
    while size:
        index, width = divmod(size, TILE_WIDTH)
        data = b"" if not width else fetch_tile(get, Tile(level, index, width))
        edge.append(
            tuple(data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE))
        )
        level, size = level + 1, index
    return tuple(edge)
