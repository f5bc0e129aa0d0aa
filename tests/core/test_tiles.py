"""Names of tiles, and bundles, against vectors and malformed ones."""

import hashlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import MalformedError
from auditlog.core.record import MAX_ENTRY
from auditlog.core.tiles import (
    TILE_WIDTH,
    Tile,
    format_bundle,
    parse_bundle,
    parse_tile_path,
    tile_path,
)
from tests.vectorset import own

ENTRIES = [b"leaf-%d" % i for i in range(70_000)]


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
        entries = [b"", b"x", bytes(MAX_ENTRY)]
        assert parse_bundle(format_bundle(entries)) == entries

    def test_too_much_to_format(self) -> None:
        with pytest.raises(MalformedError, match="bytes in an entry from 0 to 65535"):
            format_bundle([bytes(MAX_ENTRY + 1)])
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
