"""Builds a log's tree again from its leaf hashes, and holds what is served to it.

From a place in the tree (its size and right edge) to the size of a signed checkpoint:
every tile of level 0 is fetched, every node above is computed, and only if the end
gives the signed root was the beginning, and all in between, what the log signed. The
tiles of higher levels that are served must be the computed ones. Where the entries can
be read, each must have the leaf hash that stands in its tile.

Cost does not depend on what is already behind; memory is that of a few tiles.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from auditlog.core.checkpoint import Checkpoint
from auditlog.core.errors import (
    AuditLogError,
    NotFoundError,
    VerificationError,
)
from auditlog.core.merkle import HASH_SIZE
from auditlog.core.tiles import TILE_WIDTH, Tile, tile_path
from auditlog.log.growth import Edge, edge_root, grow
from auditlog.log.proofs import TileReader
from auditlog.monitor.compare import ContradictionError
from auditlog.monitor.source import Source, read_bundle

__all__ = ["Job", "first_place", "rebuild"]

_THREADS = 4
_BATCH = 16
"""Tiles of level 0 in flight; with entries half: a bundle may be 16 MiB."""
_SAVE_ENTRIES = 1 << 16


class _Leaves(NamedTuple):
    """A tile of level 0, and its entries if they are read."""

    tile: Tile
    hashes: list[bytes]
    bundle: bytes | None


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be rebuilt, and who is told on the way."""

    source: Source
    target: Checkpoint
    deadline: float
    """On the clock of `time.monotonic`; what is not done then, the next round does."""
    entries: Callable[[int, list[bytes]], None] | None = None
    """Takes the index of the first, and entries in their order; None if they are not
    to be read."""
    keep: Callable[[Tile, bytes], None] = lambda _tile, _data: None
    """Given each full tile, before the signed root is known to follow from it."""
    reached: Callable[[int, Edge], None] = lambda _size, _edge: None
    """Told now and then how far it is, so that a crash does not cost the whole way."""


def rebuild(size: int, edge: Edge, job: Job) -> Edge:
    """Grow the tree of `size` with right edge `edge` to the target; return its edge.

    Raises:
        ContradictionError: what is served is not the tree that was signed.
        AuditLogError: something is not served, or time is up.
    """
    end, saved, take = job.target.size, size, job.entries
    with ThreadPoolExecutor(_THREADS, "monitor") as threads:
        for batch in _batches(size, end, _BATCH if take is None else _BATCH // 2):
            found = list(threads.map(lambda tile: _leaves(job, tile), batch))
            size, edge = _grow(size, edge, found, job, threads)
            late = size < end and time.monotonic() > job.deadline
            if late or size - saved >= _SAVE_ENTRIES:
                job.reached(size, edge)
                saved = size
            if late:  # looked at here, so that each round comes some way
                raise AuditLogError(
                    f"time is up after {size} of {end} entries; the next round goes on"
                )
        if edge_root(edge) != job.target.root:
            raise ContradictionError(
                f"the leaf hashes that {job.source.url} serves do not give the root "
                f"that was signed at size {end}",
                {},
            )
        _check_tiles(_partial_tiles(end, edge), job.source, threads)
    return edge


def first_place(job: Job, start: int = 0) -> tuple[int, Edge]:
    """Return where rebuilding can begin, and the right edge there.

    That is the beginning, or where a pruned log begins (C2SP tlog-tiles), or the last
    full tile before `start`. The edge is believed once the signed root follows from it.

    Raises:
        AuditLogError: the log does not give what is needed.
    """
    full = job.target.size // TILE_WIDTH
    first = min(start // TILE_WIDTH, full)
    if first < full and not _given(job.source, first):
        low, high = first, full  # the first that is given is above low, up to high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if _given(job.source, middle) else (middle, high)
        first = high
    size = first * TILE_WIDTH
    return size, _edge_at(size, TileReader(job.source.tile, job.target.size))


def _given(source: Source, index: int) -> bool:
    try:
        source.tile(Tile(0, index))
    except NotFoundError:
        return False
    return True


def _edge_at(size: int, node: Callable[[int, int], bytes]) -> Edge:
    edge, level = [], 0
    while size:
        size, width = divmod(size, TILE_WIDTH)
        first = size * TILE_WIDTH
        edge.append(tuple(node(8 * level, first + at) for at in range(width)))
        level += 1
    return tuple(edge)


def _batches(size: int, end: int, count: int) -> Iterator[list[Tile]]:
    """Yield the tiles of level 0 over the leaves from `size` to `end`."""
    first, last = size // TILE_WIDTH, -(-end // TILE_WIDTH)
    for start in range(first, last, count):
        yield [
            Tile(0, index, min(TILE_WIDTH, end - index * TILE_WIDTH))
            for index in range(start, min(start + count, last))
        ]


def _leaves(job: Job, tile: Tile) -> _Leaves:
    data = job.source.tile(tile)
    hashes = [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]
    bundle = None
    if job.entries is not None:
        bundle = job.source.bundle(tile._replace(level="entries"))
    return _Leaves(tile, hashes, bundle)


def _grow(
    size: int,
    edge: Edge,
    found: Sequence[_Leaves],
    job: Job,
    threads: ThreadPoolExecutor,
) -> tuple[int, Edge]:
    """Append the leaves of tiles in a row, of which the first may be begun already."""
    known = edge[0] if edge else ()
    if tuple(found[0].hashes[: len(known)]) != known:
        name = f"{job.source.url}/{tile_path(*found[0].tile)}"
        raise ContradictionError(
            f"{name} begins with other hashes than before",
            {name: b"".join(found[0].hashes)},
        )
    for one in found:
        _take_entries(size, one, job)
    leaves = list(chain.from_iterable(one.hashes for one in found))[len(known) :]
    growth = grow(size, edge, leaves)
    full = [one for one in growth.tiles if one[0].width == TILE_WIDTH]
    for tile, data in full:
        job.keep(tile, data)
    _check_tiles([one for one in full if one[0].level], job.source, threads)
    return size + len(leaves), growth.edge


def _take_entries(size: int, leaves: _Leaves, job: Job) -> None:
    if job.entries is None or leaves.bundle is None:
        return
    path = tile_path("entries", leaves.tile.index, leaves.tile.width)
    name = f"{job.source.url}/{path}"
    try:
        entries = read_bundle(leaves.bundle, leaves.hashes)
    except VerificationError as error:
        raise ContradictionError(f"{name}: {error}", {name: leaves.bundle}) from None
    first = leaves.tile.index * TILE_WIDTH
    skipped = max(0, size - first)
    job.entries(first + skipped, entries[skipped:])


def _partial_tiles(size: int, edge: Edge) -> list[tuple[Tile, bytes]]:
    """Return the incomplete tiles of a tree, but for level 0, which was read."""
    tiles = []
    for level, hashes in enumerate(edge):
        size //= TILE_WIDTH
        if level and hashes:
            tiles.append((Tile(level, size, len(hashes)), b"".join(hashes)))
    return tiles


def _check_tiles(
    tiles: Sequence[tuple[Tile, bytes]], source: Source, threads: ThreadPoolExecutor
) -> None:
    """Hold tiles above level 0, as served, to those that were computed."""
    served = threads.map(lambda one: source.tile(one[0]), tiles)
    for (tile, expected), data in zip(tiles, served, strict=True):
        if data != expected:
            name = f"{source.url}/{tile_path(*tile)}"
            raise ContradictionError(
                f"{name} is not what the tiles below it give", {name: data}
            )
