"""From the hash of a leaf to its index, by reading what is hashed anyway.

An index over leaf hashes would cost every append a random write. The question is rare
(who holds a receipt knows the index), so the level-0 tiles are searched instead,
newest first: at ten million entries that is 320 MB, some tenths of a second.
"""

from auditlog.core.errors import NotFoundError
from auditlog.core.merkle import HASH_SIZE
from auditlog.core.tiles import TILE_WIDTH, Tile
from auditlog.log.growth import fetch_tile
from auditlog.storage import Objects

__all__ = ["find_leaf"]


def find_leaf(objects: Objects, leaf: bytes, size: int) -> int:
    """Return the index, below `size`, of the leaf with this hash.

    Args:
        objects: where the tiles are.
        leaf: a leaf hash, 32 bytes.
        size: size of a published checkpoint.

    Raises:
        NotFoundError: no leaf of that tree has it.
        StorageError: a tile is missing.
    """
    for number in reversed(range(-(-size // TILE_WIDTH))):
        width = min(TILE_WIDTH, size - number * TILE_WIDTH)
        data = fetch_tile(objects.get, Tile(0, number, width))
        position = _find_aligned(data, leaf)
        if position is not None:
            return number * TILE_WIDTH + position
    raise NotFoundError(
        f"no entry with leaf hash {leaf.hex()} in the tree of size {size}"
    )


def _find_aligned(data: bytes, leaf: bytes) -> int | None:
    """Return which hash of a tile is `leaf`; matches across two hashes are none."""
    found = data.find(leaf)
    while found != -1 and found % HASH_SIZE:
        found = data.find(leaf, found + 1)
    return None if found == -1 else found // HASH_SIZE
