"""Content-codings undone: what is decoded, and what stays as it was sent."""

import gzip
import io
import random
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.decoding import decode, says_more

BODY = b'{"prompt": "a cat", "n": 1}' * 40


def bare_deflate(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def zstd_stream(data: bytes) -> bytes:
    """Compress without the size in the frame's header."""
    stream = zstandard.ZstdCompressor().compressobj()
    return stream.compress(data) + stream.flush()


CODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", bare_deflate),
    ("zstd", zstd),
    ("zstd", zstd_stream),
]
EACH = pytest.mark.parametrize(("name", "encode"), CODINGS)


@EACH
def test_each_coding_is_undone(name: str, encode: Callable[[bytes], bytes]) -> None:
    assert decode(encode(BODY), name) == BODY
    assert decode(encode(b""), name) == b""


@pytest.mark.parametrize(
    "header", ["GZIP", " gzip ", "identity, gzip", "gzip,", "gzip, identity"]
)
def test_a_header_may_be_spelled_in_many_ways(header: str) -> None:
    assert decode(gzip.compress(BODY), header) == BODY


def test_one_coding_over_another_is_undone_from_the_last_to_the_first() -> None:
    assert decode(zstd(gzip.compress(BODY)), "gzip, zstd") == BODY
    assert decode(zstd(gzip.compress(BODY)), "zstd, gzip") is None
    thrice = gzip.compress(gzip.compress(gzip.compress(BODY)))
    assert decode(thrice, "gzip, gzip, gzip") == BODY
    assert decode(gzip.compress(thrice), "gzip, gzip, gzip, gzip") is None


@pytest.mark.parametrize("header", ["", "identity", "br", "compress", "gzip, br", ","])
def test_what_is_not_coded_or_not_known_has_no_decoded_form(header: str) -> None:
    assert decode(gzip.compress(BODY), header) is None


def test_a_body_in_several_pieces_is_one() -> None:
    assert decode(gzip.compress(BODY) + gzip.compress(b"!"), "gzip") == BODY + b"!"
    assert decode(zstd(BODY) + zstd_stream(b"!"), "zstd") == BODY + b"!"


@EACH
def test_a_cut_body_has_no_decoded_form(
    name: str, encode: Callable[[bytes], bytes]
) -> None:
    whole = encode(BODY)
    for end in range(len(whole)):
        assert decode(whole[:end], name) is None


@EACH
def test_data_after_the_end_denies_the_decoded_form(
    name: str, encode: Callable[[bytes], bytes]
) -> None:
    assert decode(encode(BODY) + b"junk", name) is None


@EACH
@given(at=st.integers(min_value=0), change=st.integers(1, 255))
def test_a_damaged_body_never_raises(
    name: str, encode: Callable[[bytes], bytes], at: int, change: int
) -> None:
    damaged = bytearray(encode(BODY))
    damaged[at % len(damaged)] ^= change
    decode(bytes(damaged), name)


@given(st.binary(max_size=200), st.text(max_size=30))
def test_any_bytes_under_any_header_never_raise(data: bytes, header: str) -> None:
    for name in (header, "gzip", "deflate", "zstd", "gzip, zstd"):
        decode(data, name)


@EACH
@pytest.mark.parametrize("size", [1 << 20, 32 << 20])
def test_a_bomb_costs_neither_memory_nor_time(
    name: str, encode: Callable[[bytes], bytes], size: int
) -> None:
    bomb = encode(bytes(size))
    tracemalloc.start()
    assert decode(bomb, name) is None
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 << 20


def test_a_bomb_in_a_bomb_is_refused_at_the_first_step() -> None:
    assert decode(gzip.compress(gzip.compress(bytes(16 << 20))), "gzip, gzip") is None


@pytest.mark.parametrize(
    "before",
    [zstd(b""), zstd_stream(b""), zstd(b"x"), b"\x50\x2a\x4d\x18\x04\0\0\0skip"],
    ids=["empty", "stream", "frame", "skippable"],
)
def test_a_bomb_behind_another_frame_is_found(before: bytes) -> None:
    for encode in (zstd, zstd_stream):
        assert decode(before + encode(bytes(64 << 20)), "zstd") is None
    assert decode(before + zstd(BODY), "zstd") in {BODY, b"x" + BODY}


@EACH
def test_small_bodies_may_be_compressed_very_well(
    name: str, encode: Callable[[bytes], bytes]
) -> None:
    assert decode(encode(bytes(60_000)), name) == bytes(60_000)


def test_the_largest_decoded_body() -> None:
    noise = random.Random(1).randbytes(1 << 17)
    largest = noise * 64
    assert decode(zstd(largest), "zstd") == largest
    assert decode(zstd(largest + b"x"), "zstd") is None


@pytest.mark.parametrize(("name", "encode"), [("gzip", gzip.compress), ("zstd", zstd)])
def test_a_body_of_very_many_pieces_is_refused(
    name: str, encode: Callable[[bytes], bytes]
) -> None:
    empty = encode(b"")
    # Each copies what follows it, so that a million would take minutes.
    assert decode(empty * 64, name) == b""
    assert decode(empty * 65, name) is None


def named_gzip(name: str) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=out) as file:
        file.write(BODY)
    return out.getvalue()


@EACH
def test_most_bodies_say_no_more_than_they_decode_to(
    name: str, encode: Callable[[bytes], bytes]
) -> None:
    assert not says_more(encode(BODY), name)
    assert not says_more(encode(BODY), f" {name.upper()}, identity")


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (named_gzip("ada.json"), "gzip"),
        (named_gzip("ada.json"), "X-GZIP"),
        (gzip.compress(BODY) + named_gzip("ada.json"), "gzip"),
        (b"\x50\x2a\x4d\x18\x03\0\0\0Ada" + zstd(BODY), "zstd"),
        (zstd(BODY) + b"\x5f\x2a\x4d\x18\x03\0\0\0Ada", "zstd"),
        (gzip.compress(gzip.compress(BODY)), "gzip, gzip"),
    ],
)
def test_some_say_more(body: bytes, name: str) -> None:
    assert says_more(body, name)
