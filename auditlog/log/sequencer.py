"""The one writer that turns spool into tree, and tree into signed checkpoints.

The order was fixed durably when the spool accepted the entries, so every tile is a
function of what is stored, and whoever computes it computes the same bytes. The
compare-and-swap of the head is the fence between two sequencers that both believe
they lead. Only what has been read again from storage after that is signed, once:

1. read the head, and the spool behind it;
2. store the new tiles (the same bytes again succeed, others halt);
3. swap the head;
4. read the stored entries and tiles again, recompute the root, compare with the head;
5. sign, and publish; sizes strictly grow.

A process may die on any line: the next one starts at 1 and arrives at the same bytes,
but for the signature, which nobody saw before 5.
"""

from collections.abc import Sequence
from typing import Protocol

from auditlog.core.checkpoint import Checkpoint, format_checkpoint, parse_checkpoint
from auditlog.core.errors import ConflictError, RollbackError
from auditlog.core.merkle import leaf_hash
from auditlog.core.note import Signer, open_note, sign_note
from auditlog.core.tiles import TILE_WIDTH, Tile, tile_path
from auditlog.log.growth import Edge, Growth, edge_root, grow, hash_level, read_edge
from auditlog.storage import Head, HeadState, Objects, Publication, Spool

__all__ = ["Sequencer", "SequencerStore"]

_LIMIT = 65_536
"""Entries integrated in one pass, which bounds memory."""


class SequencerStore(Spool, Objects, Head, Publication, Protocol):
    """The ports that a sequencer needs."""


class Sequencer:
    """Moves the head of one log. Single-threaded; `Leadership` says who may try."""

    def __init__(
        self, store: SequencerStore, origin: str, signers: Sequence[Signer]
    ) -> None:
        """Verify that the log at hand is the one that was published.

        Raises:
            RollbackError: the store is behind, or beside, its newest checkpoint.
            StorageError: a tile of the right edge is missing.
        """
        self._store = store
        self._origin = origin
        self._signers = tuple(signers)
        self._published = self._verify_published()

    @property
    def published(self) -> int:
        """Size of the newest published checkpoint; 0 before the first."""
        return self._published.size

    def pending(self) -> int:
        """Return how many accepted entries are not under a checkpoint yet."""
        return self._store.size() - self._published.size

    def step(self) -> int:
        """Integrate what the spool holds and publish a checkpoint of it.

        Returns:
            The size of the newest checkpoint.

        Raises:
            ConflictError: another sequencer moved the head; try again.
            RollbackError: stored bytes changed under us; nothing is signed any more.
        """
        while self._integrate():
            pass
        head = self._store.head()
        if head.size > self._published.size:
            self._verify_stored(head)
            self._publish(head)
        return self._published.size

    def _integrate(self) -> bool:
        head = self._store.head()
        end = min(self._store.size(), head.size + _LIMIT)
        if end < head.size:
            msg = f"the head says {head.size} entries, the spool holds {end}"
            raise RollbackError(msg)
        if end == head.size:
            return False
        growth = self._grow(head, end)
        self._put(growth)
        self._store.swap_head(head, HeadState(head.generation + 1, end, growth.root))
        self._prune(head.size, growth)
        return True

    def _put(self, growth: Growth) -> None:
        tiles = [(tile_path(*tile), data) for tile, data in growth.tiles]
        try:
            self._store.put(tiles)
        except ConflictError as error:
            # Tiles are a function of the spool, so one of the two was changed.
            msg = f"stored tiles do not match the stored entries: {error}"
            raise RollbackError(msg) from None

    def _grow(self, head: HeadState, end: int) -> Growth:
        edge = self._edge(head)
        leaves = [leaf_hash(entry) for entry in self._store.read(head.size, end)]
        return grow(head.size, edge, leaves)

    def _edge(self, head: HeadState) -> Edge:
        edge = read_edge(self._store.get, head.size)
        if edge_root(edge) != head.root:
            msg = (
                f"stored tiles give root {edge_root(edge).hex()} at size {head.size}, "
                f"but the head says {head.root.hex()}"
            )
            raise RollbackError(msg)
        return edge

    def _prune(self, old_size: int, growth: Growth) -> None:
        """Remove partial tiles that a full one replaces (C2SP tlog-tiles allows it)."""
        replaced = [
            tile_path(tile.level, tile.index, width)
            for tile, _ in growth.tiles
            if tile.width == TILE_WIDTH and _was_partial(tile, old_size)
            for width in range(1, TILE_WIDTH)
        ]
        if replaced:
            self._store.prune(replaced)

    def _verify_stored(self, head: HeadState) -> None:
        """Recompute the head from stored bytes alone, from the last checkpoint on.

        Memory may have lied when the tiles were computed; a wrong root, once signed,
        ends a log for ever (Yeti 2022, `peers.md` §11).
        """
        start = self._published.size
        edge = read_edge(self._store.get, start)
        while start < head.size:
            end = min(start + _LIMIT, head.size)
            leaves = [leaf_hash(entry) for entry in self._store.read(start, end)]
            growth = grow(start, edge, leaves)
            self._compare_tiles(growth, final=end == head.size)
            start, edge = end, growth.edge
        if edge_root(edge) != head.root:
            msg = (
                f"stored entries give root {edge_root(edge).hex()} at {head.size}, but "
                f"the head says {head.root.hex()}: nothing is signed"
            )
            raise RollbackError(msg)

    def _compare_tiles(self, growth: Growth, *, final: bool) -> None:
        for tile, data in growth.tiles:
            # Passes may have been cut elsewhere, so inner partial tiles differ.
            if tile.width < TILE_WIDTH and not final:
                continue
            path = tile_path(*tile)
            if self._store.get(path) != data:
                msg = f"stored {path} does not match the stored entries"
                raise RollbackError(msg)

    def _publish(self, head: HeadState) -> None:
        checkpoint = Checkpoint(self._origin, head.size, head.root)
        note = sign_note(format_checkpoint(checkpoint), self._signers)
        self._store.publish(head.size, note)
        self._published = checkpoint

    def _verify_published(self) -> Checkpoint:
        newest = self._store.newest()
        if newest is None:
            return Checkpoint(self._origin, 0, edge_root(()))
        size, note = newest
        verifiers = [signer.verifier for signer in self._signers]
        checkpoint = parse_checkpoint(open_note(note, verifiers).text)
        head = self._store.head()
        if (checkpoint.origin, checkpoint.size) != (self._origin, size):
            msg = f"the checkpoint stored under size {size} is {checkpoint[:2]}"
            raise RollbackError(msg)
        if head.size < size or self._store.size() < head.size:
            msg = (
                f"a checkpoint of size {size} is published, but the head says "
                f"{head.size} and the spool holds {self._store.size()}: an older "
                "copy was restored? Nothing is signed"
            )
            raise RollbackError(msg)
        self._check_root(checkpoint)
        return checkpoint

    def _check_root(self, checkpoint: Checkpoint) -> None:
        root = edge_root(read_edge(self._store.get, checkpoint.size))
        if root != checkpoint.root:
            msg = (
                f"stored tiles give root {root.hex()} at size {checkpoint.size}, but "
                f"the published checkpoint says {checkpoint.root.hex()}"
            )
            raise RollbackError(msg)


def _was_partial(tile: Tile, size: int) -> bool:
    """Return whether the tree of `size` had a partial tile in place of `tile`."""
    complete = size >> (8 * hash_level(tile))
    return complete // TILE_WIDTH == tile.index and complete % TILE_WIDTH > 0
