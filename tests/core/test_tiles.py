"""Tiles and bundles against vectors, a naive tree and malformed paths."""

import hashlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.checkpoint import open_checkpoint, parse_checkpoint, parse_policy
from auditlog.core.errors import AuditLogError, MalformedError, NotFoundError
from auditlog.core.merkle import (
    leaf_hash,
    nodes_of,
    prove_consistency,
    prove_inclusion,
    root_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)
from auditlog.core.note import parse_vkey
from auditlog.core.tiles import (
    MAX_ENTRY_SIZE,
    TILE_WIDTH,
    Tile,
    TileReader,
    format_bundle,
    hash_tile,
    parse_bundle,
    parse_tile_path,
    partials_below,
    tile_path,
    tiles_between,
    tiles_of,
)
from tests.vectorset import b64, own, public

ENTRIES = [b"leaf-%d" % i for i in range(70_000)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
NODE = nodes_of(LEAVES)
EDGES = [1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 70_000]


class Store:
    """Tiles of a tree, which fails when one is asked for that the tree has not."""

    def __init__(self, size: int) -> None:
        self.tiles = {tile: hash_tile(tile, NODE) for tile in tiles_of(size)}
        self.asked: list[Tile] = []

    def __call__(self, tile: Tile) -> bytes:
        self.asked.append(tile)
        return self.tiles[tile]


class TestPaths:
    def test_vectors_both_ways(self) -> None:
        for vector in own("tile_paths")["vectors"]:
            level, index, width = vector["level"], vector["index"], vector["width"]
            assert tile_path(level, index, width) == vector["path"]
            assert parse_tile_path(vector["path"]) == Tile(level, index, width)
            if "entries_path" in vector:
                bundle = Tile("entries", index, width)
                assert tile_path(*bundle) == vector["entries_path"]
                assert parse_tile_path(vector["entries_path"]) == bundle

    @pytest.mark.parametrize("vector", own("tile_paths")["malformed"])
    def test_malformed_vectors(self, vector: dict[str, Any]) -> None:
        assert vector["xmod_rejects"]
        with pytest.raises(MalformedError, match="expected"):
            parse_tile_path(vector["path"])

    @pytest.mark.parametrize(
        "path",
        [
            "",
            "tile",
            "/tile/0/000",
            "tile/0/000\n",
            "tile/00/000",
            "tile/01/000",
            "tile/64/000",
            "tile/+1/000",
            "tile/\u0661/000",
            "tile/0/00\u0661",
            "tile/8/0/000",
            "tile/data/000",
            "tile/Entries/000",
            "tile/0/x000/000",
            "tile/0/x000/001",
            "tile/0/X001/000",
            "tile/0/001/000",
            "tile/0/000.p/256",
            "tile/0/000.p/-1",
            "tile/0/000.p/1_0",
            "tile/0/000.p/1.p/1",
            "tile/0/000.P/1",
            "tile/0/x009/x223/x372/x036/x854/x775/808",
            "tile/0/" + "x001/" * 1000 + "000",
            "tile/0/\ud800",
            b"tile/0/000",
            None,
            0,
        ],
        ids=repr,
    )
    def test_everything_else_is_refused(self, path: Any) -> None:
        with pytest.raises(MalformedError, match="expected"):
            parse_tile_path(path)

    @pytest.mark.parametrize("level", [-1, 64, True, "0", "data", None, 1.0])
    def test_no_such_level(self, level: Any) -> None:
        with pytest.raises(MalformedError, match="tile level"):
            tile_path(level, 0)

    @pytest.mark.parametrize("index", [-1, 2**63, True, "0", None])
    def test_no_such_index(self, index: Any) -> None:
        with pytest.raises(MalformedError, match="tile index"):
            tile_path(0, index)

    @pytest.mark.parametrize("width", [0, -1, 257, True, "8", None])
    def test_no_such_width(self, width: Any) -> None:
        with pytest.raises(MalformedError, match="tile width"):
            tile_path("entries", 0, width)

    def test_the_largest(self) -> None:
        path = tile_path(63, 2**63 - 1, 255)
        assert path == "tile/63/x009/x223/x372/x036/x854/x775/807.p/255"
        assert parse_tile_path(path) == (63, 2**63 - 1, 255)

    @given(
        st.one_of(st.integers(0, 63), st.just("entries")),
        st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 2000)),
        st.integers(1, 256),
    )
    def test_round_trip(self, level: Any, index: int, width: int) -> None:
        assert parse_tile_path(tile_path(level, index, width)) == (level, index, width)

    @given(st.one_of(st.text(), st.from_regex(r"tile/[0-9a-z/.x]*")))
    def test_one_spelling(self, path: str) -> None:
        with suppress(MalformedError):
            assert tile_path(*parse_tile_path(path)) == path


class TestWhichTiles:
    def test_all_of_70000(self) -> None:
        expected = own("tiles_70000")
        tiles = {tile_path(*tile): tile for tile in tiles_of(expected["size"])}
        assert len(tiles) == 277
        for vector in expected["tiles"]:
            tile = tiles[vector["path"]]
            assert tile == Tile(vector["level"], vector["index"], vector["width"])
            data = hash_tile(tile, NODE)
            assert len(data) == vector["bytes"]
            assert hashlib.sha256(data).hexdigest() == vector["sha256"]

    @pytest.mark.parametrize("vector", own("tiles_small_sizes")["sets"])
    def test_all_of_small_sizes(self, vector: dict[str, Any]) -> None:
        found = [
            (tile_path(*tile), hashlib.sha256(hash_tile(tile, NODE)).hexdigest())
            for tile in tiles_of(vector["size"])
        ]
        assert found == [(tile["path"], tile["sha256"]) for tile in vector["tiles"]]

    @pytest.mark.parametrize("vector", own("tiles_raw")["tiles"])
    def test_raw_bytes(self, vector: dict[str, Any]) -> None:
        tile = parse_tile_path(vector["path"])
        assert hash_tile(tile, NODE) == b64(vector["data"])

    def test_none_of_the_empty_tree(self) -> None:
        assert tiles_of(0) == []

    def test_256_leaves_begin_the_next_level(self) -> None:
        assert tiles_between(255, 256) == [Tile(0, 0), Tile(1, 0, 1)]

    def test_the_largest_tree_has_eight_levels(self) -> None:
        largest = 2**63 - 1
        tiles = tiles_between(largest - 1, largest)
        assert tiles == [Tile(0, largest // 256, 255)]
        assert {tile.level for tile in tiles_between(2**56 - 1, 2**56)} == set(range(8))

    @given(st.integers(0, 70_000), st.integers(0, 70_000))
    def test_growth_is_what_is_new(self, one: int, other: int) -> None:
        old, new = sorted((one, other))
        had = set(tiles_of(old))
        assert tiles_between(old, new) == [t for t in tiles_of(new) if t not in had]

    @given(st.integers(1, 70_000))
    def test_every_width_follows_from_the_size(self, size: int) -> None:
        widths: dict[Any, int] = {}
        for tile in tiles_of(size):
            assert 1 <= tile.width <= TILE_WIDTH
            widths[tile.level] = widths.get(tile.level, 0) + tile.width
        expected = {level: size >> 8 * level for level in range(3)}
        assert widths == {level: n for level, n in expected.items() if n}

    @pytest.mark.parametrize(
        "sizes", [(2, 1), (-1, 1), (0, 2**63), (0, True), ("0", 1)]
    )
    def test_no_such_growth(self, sizes: Any) -> None:
        with pytest.raises(MalformedError, match=r"(old|new) size"):
            tiles_between(*sizes)


class TestPruning:
    def test_a_full_tile_replaces_its_partial_ones(self) -> None:
        partials = partials_below(Tile(1, 7))
        assert partials == [Tile(1, 7, width) for width in range(1, 256)]
        assert partials_below(Tile("entries", 7))[0] == Tile("entries", 7, 1)

    @pytest.mark.parametrize("width", [1, 2, 255])
    def test_a_partial_one_replaces_none(self, width: int) -> None:
        assert partials_below(Tile(1, 7, width)) == []


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

    @pytest.mark.parametrize("level", [-1, 64, True, None])
    def test_no_such_level(self, level: Any) -> None:
        with pytest.raises(MalformedError, match="level"):
            TileReader(Store(300), 300)(level, 0)

    @pytest.mark.parametrize("size", [-1, 2**63, True, "300"])
    def test_no_such_tree(self, size: Any) -> None:
        with pytest.raises(MalformedError, match="tree size"):
            TileReader(Store(300), size)

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

    def test_a_bundle_is_no_hash_tile(self) -> None:
        with pytest.raises(MalformedError, match="got a bundle of entries"):
            hash_tile(Tile("entries", 0), NODE)


class TestBundles:
    def test_vectors(self) -> None:
        for vector in own("entry_bundles_70000")["bundles"]:
            start = vector["index"] * TILE_WIDTH
            entries = ENTRIES[start : start + vector["width"]]
            data = format_bundle(entries)
            assert len(data) == vector["bytes"]
            assert hashlib.sha256(data).hexdigest() == vector["sha256"]
            assert parse_bundle(data, vector["width"]) == entries
            tile = Tile("entries", vector["index"], vector["width"])
            assert tile_path(*tile) == vector["path"]

    def test_entries_of_all_lengths(self) -> None:
        entries = [b"", b"x", bytes(MAX_ENTRY_SIZE)]
        assert parse_bundle(format_bundle(entries)) == entries

    def test_too_much_to_format(self) -> None:
        with pytest.raises(MalformedError, match="bytes in an entry from 0 to 65535"):
            format_bundle([bytes(MAX_ENTRY_SIZE + 1)])
        with pytest.raises(MalformedError, match="entries in a bundle from 1 to 256"):
            format_bundle([b"x"] * 257)
        with pytest.raises(MalformedError, match="entries in a bundle from 1 to 256"):
            format_bundle([])

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x00",
            b"\x00\x02x",
            b"\x00\x01x\x00",
            b"\x00\x01x\x00\x02y",
            b"\xff\xff",
            bytes(2 * 257),
            bytes(2 * 10_000),
        ],
        ids=len,
    )
    def test_malformed(self, data: bytes) -> None:
        with pytest.raises(MalformedError, match="1 to 256 entries, each after its"):
            parse_bundle(data)

    @pytest.mark.parametrize("data", [None, "", bytearray(b"\x00\x01x"), [0, 1, 2]])
    def test_other_types(self, data: Any) -> None:
        with pytest.raises(MalformedError, match="bundle as bytes, got"):
            parse_bundle(data)

    @pytest.mark.parametrize("count", [0, 1, 3, 256])
    def test_another_count(self, count: int) -> None:
        data = format_bundle([b"a", b"b"])
        assert parse_bundle(data, 2) == [b"a", b"b"]
        with pytest.raises(MalformedError, match=f"expected {count} entries, got 2"):
            parse_bundle(data, count)

    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
    def test_round_trip(self, entries: list[bytes]) -> None:
        assert parse_bundle(format_bundle(entries), len(entries)) == entries

    @given(st.binary(max_size=2000))
    def test_one_spelling(self, data: bytes) -> None:
        with suppress(MalformedError):
            assert format_bundle(parse_bundle(data)) == data


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
                (tile,) = tiles_of(size)
                leaves = [leaf_hash(entry) for entry in entries]
                assert public(folder + tile_path(*tile)) == b"".join(leaves)
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
        tiles = {tile: public(folder + tile_path(*tile)) for tile in tiles_of(300)}
        node = TileReader(tiles.__getitem__, checkpoint.size)
        assert tree_root(checkpoint.size, node) == checkpoint.root
        level_1 = tiles[Tile(1, 0, 1)]
        full = tiles[Tile(0, 0)]
        hashes = [full[i : i + 32] for i in range(0, len(full), 32)]
        assert root_hash(hashes) == level_1
