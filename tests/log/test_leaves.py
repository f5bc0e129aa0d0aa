"""Search by leaf hash: the right index, or none."""

import pytest

from auditlog.core.errors import NotFoundError
from auditlog.core.merkle import leaf_hash
from auditlog.core.tiles import tile_path
from auditlog.log.growth import grow
from auditlog.log.leaves import find_leaf

LEAVES = [leaf_hash(b"entry %d" % number) for number in range(600)]


class Tiles:
    """The tiles of a tree, with the partial ones of every size asked for."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.data = {tile_path(*tile): data for tile, data in grow(0, (), leaves).tiles}

    def get(self, path: str) -> bytes | None:
        return self.data.get(path)

    def put(self, objects: object) -> None:
        raise AssertionError("searching writes nothing")

    prune = put


@pytest.mark.parametrize("index", [0, 1, 255, 256, 511, 512, 599])
def test_each_leaf_is_found(index: int) -> None:
    assert find_leaf(Tiles(LEAVES), LEAVES[index], 600) == index


@pytest.mark.parametrize("size", [0, 1, 256, 512])
def test_leaves_beyond_the_size_are_not(size: int) -> None:
    with pytest.raises(NotFoundError, match=f"in the tree of size {size}"):
        find_leaf(Tiles(LEAVES), LEAVES[size], size)


def test_a_match_across_two_hashes_is_none() -> None:
    across = LEAVES[3][16:] + LEAVES[4][:16]
    with pytest.raises(NotFoundError, match="no entry with leaf hash"):
        find_leaf(Tiles(LEAVES), across, 600)
    leaves = [LEAVES[3], LEAVES[4], across]
    assert find_leaf(Tiles(leaves), across, 3) == 2
