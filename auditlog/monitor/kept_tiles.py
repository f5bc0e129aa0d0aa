"""The tiles that a monitor rebuilt, kept so that no log can take them back.

A log that shows an older, rewritten view is caught by what its own newer tree had at
that size; and who rewrites the past does not serve the old tiles any more. Kept are
full tiles, as plain files: those of level 0 of the newest million entries (32 MiB),
and the newest 65,536 of each level above, which is 1/256 as much for each entry. A file
that is lost or damaged costs a proof, never gives a wrong one: like those of anybody
else, what these tiles say is held to signed roots.
"""

import contextlib
from pathlib import Path

from auditlog.core.errors import NotFoundError
from auditlog.core.merkle import HASH_SIZE
from auditlog.core.tiles import TILE_WIDTH, Tile, tile_path
from auditlog.log.growth import Edge, hash_level
from auditlog.storage.files import storage_errors

__all__ = ["KeptTiles"]

_KEPT = (1 << 12, 1 << 16)
"""Full tiles of level 0, and of each level above, that are kept; the newest ones."""


class KeptTiles:
    """A directory of full tiles; partial ones come from the right edge."""

    def __init__(self, directory: Path) -> None:
        """Name the directory; it need not exist."""
        self.url = "what was rebuilt here"
        self.own = True
        self.size = 0
        """Of the tree that is followed."""
        self.edge: Edge = ()
        """Its right edge."""
        self._directory = directory

    def keep(self, tile: Tile, data: bytes) -> None:
        """Keep a full tile; an earlier one, of a tree that did not verify, is lost.

        Raises:
            StorageError: it cannot be written.
        """
        path = self._path(tile)
        with storage_errors(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            old = tile.index - _KEPT[tile.level != 0]
            if old >= 0:
                self._path(tile._replace(index=old)).unlink(missing_ok=True)

    def tile(self, tile: Tile) -> bytes:
        """Return the hashes of a tile of the followed tree.

        Raises:
            NotFoundError: it is not kept, or not any more.
        """
        data = b""
        with contextlib.suppress(OSError):
            data = self._path(tile).read_bytes()
        if len(data) != HASH_SIZE * TILE_WIDTH:
            data = self._from_edge(tile)
        if len(data) < HASH_SIZE * tile.width:
            raise NotFoundError(f"{tile_path(*tile)} is not kept here")
        return data[: HASH_SIZE * tile.width]

    def _from_edge(self, tile: Tile) -> bytes:
        level = hash_level(tile)
        last = self.size >> 8 * (level + 1)
        known = tile.index == last and level < len(self.edge)
        return b"".join(self.edge[level]) if known else b""

    def _path(self, tile: Tile) -> Path:
        return self._directory / tile_path(tile.level, tile.index)
