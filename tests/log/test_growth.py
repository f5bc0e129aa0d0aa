"""Growing a tree gives the tiles and roots of RFC 6962, however it is cut."""

import hashlib
import random
from itertools import pairwise

import pytest

from auditlog.core.errors import StorageError
from auditlog.core.merkle import leaf_hash
from auditlog.core.tiles import Tile, tile_path
from auditlog.log.growth import edge_root, fetch_tile, grow, read_edge
from tests import oracle
from tests.reference import MTH

LEAVES = [leaf_hash(b"leaf-%d" % number) for number in range(70_000)]


def _tiles_after(sizes: list[int]) -> tuple[dict[str, bytes], bytes]:
    tiles: dict[str, bytes] = {}
    growth = grow(0, (), [])
    for old, new in pairwise([0, *sizes]):
        growth = grow(old, growth.edge, LEAVES[old:new])
        tiles |= {tile_path(*tile): data for tile, data in growth.tiles}
    return tiles, growth.root


def test_root_is_that_of_the_definition_for_all_small_sizes() -> None:
    entries = [b"leaf-%d" % number for number in range(300)]
    for size in range(300):
        assert grow(0, (), LEAVES[:size]).root == MTH(entries[:size])


def test_root_is_that_of_merkletools() -> None:
    for size in (1, 2, 255, 256, 257, 1000):
        assert grow(0, (), LEAVES[:size]).root == oracle.root_of(LEAVES[:size])


@pytest.mark.parametrize("seed", range(5))
def test_full_tiles_and_root_do_not_depend_on_how_growth_was_cut(seed: int) -> None:
    choose = random.Random(seed)
    cuts = sorted(choose.sample(range(1, 70_000), 20))
    cut_tiles, cut_root = _tiles_after([*cuts, 70_000])
    whole_tiles, whole_root = _tiles_after([70_000])
    assert cut_root == whole_root
    assert {path: cut_tiles[path] for path in whole_tiles} == whole_tiles


def test_tiles_are_those_of_the_independent_generator() -> None:
    from tests.vectorset import own  # noqa: PLC0415 - only here

    tiles, _ = _tiles_after([70_000])
    expected = {one["path"]: one["sha256"] for one in own("tiles_70000")["tiles"]}
    shared = expected.keys() & tiles.keys()
    assert len(shared) == len(expected)
    for path in shared:
        assert hashlib.sha256(tiles[path]).hexdigest() == expected[path]


def test_edge_read_from_tiles_continues_the_tree() -> None:
    tiles, root = _tiles_after([300, 65_536 + 300])
    edge = read_edge(tiles.get, 65_836)
    assert edge_root(edge) == root
    assert grow(65_836, edge, LEAVES[65_836:]).root == grow(0, (), LEAVES).root


def test_a_pruned_partial_tile_is_cut_from_the_full_one() -> None:
    tiles, _ = _tiles_after([256])
    assert fetch_tile(tiles.get, Tile(0, 0, 7)) == b"".join(LEAVES[:7])


def test_a_missing_tile_is_named() -> None:
    with pytest.raises(
        StorageError, match="tile/0/003: expected 8192 bytes, got nothing"
    ):
        fetch_tile(dict[str, bytes]().get, Tile(0, 3))
    with pytest.raises(
        StorageError, match=r"tile/0/000\.p/2: expected 64 bytes, got 5"
    ):
        fetch_tile({"tile/0/000.p/2": b"short"}.get, Tile(0, 0, 2))
