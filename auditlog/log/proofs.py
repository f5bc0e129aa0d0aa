"""Proofs from stored tiles."""

from collections.abc import Callable

from auditlog.core.errors import MalformedError
from auditlog.core.merkle import (
    HASH_SIZE,
    NodeReader,
    nodes_of,
    prove_consistency,
    prove_inclusion,
)
from auditlog.core.tiles import TILE_WIDTH, Tile, tile_path
from auditlog.log.growth import fetch_tile
from auditlog.storage import Objects

__all__ = ["TileReader", "consistency_proof", "inclusion_proof"]

_CACHED_TILES = 256


def inclusion_proof(objects: Objects, index: int, size: int) -> tuple[bytes, ...]:
    """Prove that leaf `index` is in the tree of `size` (RFC 6962 §2.1.1)."""
    return prove_inclusion(index, size, _nodes(objects, size))


def consistency_proof(objects: Objects, old: int, new: int) -> tuple[bytes, ...]:
    """Prove that the tree of `new` begins with that of `old` (RFC 6962 §2.1.2)."""
    return prove_consistency(old, new, _nodes(objects, new))


def _nodes(objects: Objects, size: int) -> NodeReader:
    return TileReader(lambda tile: fetch_tile(objects.get, tile), size)


class TileReader:
    """A `NodeReader` over tiles; it asks only for tiles that the tree of `size` has.

    Tiles are believed: proofs made from them are only as good as their verification.
    Not for use by several threads at once.
    """

    def __init__(self, fetch: Callable[[Tile], bytes], size: int) -> None:
        """Read the tree of `size` through `fetch`, whose errors pass unchanged."""
        self._fetch = fetch
        self._size = size
        self._cache: dict[tuple[int, int], NodeReader] = {}

    def __call__(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree; see `NodeReader`.

        Raises:
            MalformedError: the tree has no such subtree, or a tile of other length
                came.
        """
        if not 0 <= index < self._size >> level:
            raise MalformedError(
                f"expected a node of the tree of {self._size}, got {level}/{index}"
            )
        inner = level % 8
        tile_index = index >> (8 - inner)
        node = self._tile(level // 8, tile_index)
        return node(inner, index - (tile_index << (8 - inner)))

    def _tile(self, level: int, index: int) -> NodeReader:
        if (level, index) not in self._cache:
            if len(self._cache) >= _CACHED_TILES:
                self._cache.clear()
            self._cache[level, index] = self._load(level, index)
        return self._cache[level, index]

    def _load(self, level: int, index: int) -> NodeReader:
        rest = (self._size >> 8 * level) - index * TILE_WIDTH
        tile = Tile(level, index, min(TILE_WIDTH, rest))
        data = self._fetch(tile)
        if len(data) != HASH_SIZE * tile.width:
            raise MalformedError(
                f"expected {HASH_SIZE * tile.width} bytes in {tile_path(*tile)}, "
                f"got {len(data)}"
            )
        return nodes_of([data[i : i + 32] for i in range(0, len(data), HASH_SIZE)])
