"""Proofs from tiles against vectors, logs of others and a naive tree."""

import hashlib
from typing import Any

import pytest

from auditlog.core.checkpoint import open_checkpoint, parse_checkpoint, parse_policy
from auditlog.core.errors import AuditLogError, MalformedError, NotFoundError
from auditlog.core.merkle import (
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from auditlog.core.note import parse_vkey
from auditlog.core.tiles import (
    Tile,
    format_bundle,
    parse_bundle,
    parse_tile_path,
    tile_path,
)
from auditlog.log.growth import grow
from auditlog.log.proofs import TileReader
from tests.vectorset import b64, own, public

LEAVES = [leaf_hash(b"leaf-%d" % i) for i in range(70_000)]
EDGES = [1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000]


class Store:
    """Tiles of a tree, which fails when one is asked for that the tree has not."""

    def __init__(self, size: int) -> None:
        self.tiles = dict(grow(0, (), LEAVES[:size]).tiles)
        self.asked: list[Tile] = []

    def __call__(self, tile: Tile) -> bytes:
        self.asked.append(tile)
        return self.tiles[tile]


class TestTiles:
    @pytest.mark.parametrize("vector", own("tiles_small_sizes")["sets"])
    def test_all_of_a_size(self, vector: dict[str, Any]) -> None:
        found = [
            (tile_path(*tile), hashlib.sha256(data).hexdigest())
            for tile, data in Store(vector["size"]).tiles.items()
        ]
        assert found == [(tile["path"], tile["sha256"]) for tile in vector["tiles"]]

    @pytest.mark.parametrize("vector", own("tiles_raw")["tiles"])
    def test_raw_bytes(self, vector: dict[str, Any]) -> None:
        tile = parse_tile_path(vector["path"])
        size = (256 * tile.index + tile.width) << 8 * int(tile.level)
        assert Store(size).tiles[tile] == b64(vector["data"])


class TestReader:
    @pytest.mark.parametrize("size", EDGES)
    def test_roots_and_proofs(self, size: int) -> None:
        store, root = Store(size), root_hash(LEAVES[:size])
        assert tree_root(size, TileReader(store, size)) == root
        for index in {0, size // 3, size - 1}:
            node = TileReader(store, size)
            proof = prove_inclusion(index, size, node)
            verify_inclusion(index, size, LEAVES[index], proof, root)
            growth = prove_consistency(index, size, node)
            verify_consistency(index, root_hash(LEAVES[:index]), size, root, growth)

    def test_a_smaller_tree_from_the_tiles_of_a_larger(self) -> None:
        node = TileReader(Store(70_000), 70_000)
        root = root_hash(LEAVES[:300])
        assert tree_root(300, node) == root
        proof = prove_inclusion(299, 300, node)
        verify_inclusion(299, 300, LEAVES[299], proof, root)

    def test_few_tiles_for_a_proof_each_once(self) -> None:
        store = Store(70_000)
        node = TileReader(store, 70_000)
        first = prove_inclusion(12_345, 70_000, node)
        expected = {Tile(1, 1, 17), Tile(0, 273, 112), Tile(1, 0), Tile(0, 48)}
        assert set(store.asked) == expected
        assert len(store.asked) == len(expected)
        assert prove_inclusion(12_345, 70_000, node) == first
        assert len(store.asked) == len(expected)

    def test_memory_is_bounded(self) -> None:
        store = Store(70_000)
        node = TileReader(store, 70_000)
        for index in range(0, 70_000, 256):
            assert node(0, index) == LEAVES[index]
        assert len(store.asked) == 274
        assert node(0, 256 * 256) == LEAVES[256 * 256]  # kept since 256 were dropped
        assert len(store.asked) == 274
        assert node(0, 255 * 256) == LEAVES[255 * 256]
        assert len(store.asked) == 275

    @pytest.mark.parametrize("place", [(0, 300), (8, 1), (9, 0), (0, -1), (0, 2**70)])
    def test_no_such_node(self, place: tuple[int, int]) -> None:
        with pytest.raises(MalformedError, match="node of the tree of 300"):
            TileReader(Store(300), 300)(*place)

    @pytest.mark.parametrize("data", [b"", bytes(8191), bytes(8193), bytes(32)])
    def test_a_tile_of_another_length(self, data: bytes) -> None:
        node = TileReader(lambda tile: data, 300)
        with pytest.raises(
            MalformedError, match=f"8192 bytes in tile/0/000, got {len(data)}"
        ):
            node(0, 0)

    def test_a_longer_partial_tile(self) -> None:
        node = TileReader(lambda tile: bytes(8192), 300)
        with pytest.raises(MalformedError, match=r"1408 bytes in tile/0/001\.p/44"):
            node(0, 256)

    def test_errors_of_the_store_pass(self) -> None:
        def fetch(tile: Tile) -> bytes:
            raise NotFoundError(f"no {tile_path(*tile)}")

        with pytest.raises(NotFoundError, match=r"no tile/1/000\.p/1"):
            TileReader(fetch, 300)(8, 0)

    def test_a_changed_tile_makes_a_proof_that_fails(self) -> None:
        store = Store(300)
        data = bytearray(store.tiles[Tile(0, 0)])
        data[0] ^= 1
        store.tiles[Tile(0, 0)] = bytes(data)
        proof = prove_inclusion(1, 300, TileReader(store, 300))
        with pytest.raises(AuditLogError, match="inclusion proof leads to"):
            verify_inclusion(1, 300, LEAVES[1], proof, root_hash(LEAVES[:300]))


@pytest.mark.interop
class TestForeignLogs:
    def test_tessera(self) -> None:
        """A log by transparency-dev/tessera, at each of its sizes from 1 to 15."""
        folder = "transparency-dev-tessera/testdata/log/"
        vkey = (
            "example.com/log/testdata+33d7b496"
            "+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx"
        )
        assert parse_vkey(vkey).vkey == vkey
        policy = parse_policy(f"log {vkey}\nquorum none\n")
        entries: list[bytes] = []
        roots = [root_hash([])]
        for size in range(16):
            note = public(f"{folder}checkpoint.{size}")
            checkpoint = open_checkpoint(note, policy).checkpoint
            assert checkpoint.size == size
            if size:
                bundle = public(folder + tile_path("entries", 0, size))
                entries = parse_bundle(bundle, size)
                assert format_bundle(entries) == bundle
                roots.append(checkpoint.root)
                leaves = [leaf_hash(entry) for entry in entries]
                (tile,) = grow(0, (), leaves).tiles
                assert public(folder + tile_path(*tile[0])) == tile[1]
            node = TileReader(lambda tile: public(folder + tile_path(*tile)), size)
            assert tree_root(size, node) == checkpoint.root
            for index, entry in enumerate(entries):
                proof = prove_inclusion(index, size, node)
                verify_inclusion(index, size, leaf_hash(entry), proof, checkpoint.root)
                growth = prove_consistency(index, size, node)
                verify_consistency(index, roots[index], size, checkpoint.root, growth)
        newest = public(folder + "checkpoint")
        assert open_checkpoint(newest, policy).checkpoint.root in roots

    def test_sunlight_mirror(self) -> None:
        """A mirror's tiles of 300 leaves give the root that it cosigned."""
        folder = (
            "sunlight/cmd/skylight/testdata/witness/mirror/"
            "000de184301123b9278c086a7d9f68c9577e83872224c197058fd90784ea9706/"
        )
        text, _ = public(folder + "checkpoint").split(b"\n\n")
        checkpoint = parse_checkpoint(text + b"\n")
        tiles = {tile: public(folder + tile_path(*tile)) for tile in Store(300).tiles}
        node = TileReader(tiles.__getitem__, checkpoint.size)
        assert tree_root(checkpoint.size, node) == checkpoint.root
        level_1 = tiles[Tile(1, 0, 1)]
        full = tiles[Tile(0, 0)]
        hashes = [full[i : i + 32] for i in range(0, len(full), 32)]
        assert root_hash(hashes) == level_1
