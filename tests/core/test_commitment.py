"""Commitments and members, held against vectors and against a naive splitter."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.commitment import (
    CHUNK,
    MAX_BODY,
    MAX_MEMBERS,
    chunk_sizes,
    chunks,
    commit,
    commitment_digest,
    disclosure_hash,
    is_json,
    leaf_hasher,
    leaf_salt,
    members,
    salts,
)
from auditlog.core.errors import MalformedError
from tests.json_texts import bodies, naive_members
from tests.vectorset import b64, own

VECTORS = own("commitments")["vectors"]
SECRET = bytes(range(32))


def sides(vector: dict[str, Any]) -> dict[str, list[tuple[str, bytes]] | None]:
    return {
        side: members(side, b64(vector[side]), vector["depth"])
        if is_json(vector[f"{side}Type"])
        else None
        for side in ("request", "response")
    }


# --- vectors --------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_vectors_agree(vector: dict[str, Any]) -> None:
    found = sides(vector)
    splits = {side: "none" if x is None else "json" for side, x in found.items()}
    assert splits == vector["split"]
    leaves = [leaf for side in found.values() for leaf in side or ()]
    context = {f"context/{k}": b64(v) for k, v in vector["context"].items()}
    leaves += sorted(context.items(), key=lambda leaf: leaf[0].encode())
    request, response = b64(vector["request"]), b64(vector["response"])
    made = commit(b64(vector["secret"]), request, response, leaves)
    assert made.digest == b64(vector["digest"])
    assert len(made.hashes) == vector["count"] == len(made.salts) - 1
    assert "leaves" not in vector or made.salts[0] == b64(vector["salt"])
    opened = [("request", request), ("response", response), *leaves]
    for at, leaf in enumerate(vector.get("leaves", [])):
        path, value = opened[at]
        assert path == leaf["path"]
        assert made.salts[at + 1] == b64(leaf["salt"])
        assert made.hashes[at] == b64(leaf["hash"])
        assert leaf["value"] is None or b64(leaf["value"]) == value


def test_all_vectors_but_the_long_one_give_every_leaf() -> None:
    assert sum("leaves" in vector for vector in VECTORS) == len(VECTORS) - 1


# --- commitments ----------------------------------------------------------------------


def test_a_commitment_is_made_as_formats_says() -> None:
    leaves = [("request/a", b"1"), ("context/target", b"/x")]
    made = commit(SECRET, b'{"a":1}', b"", leaves)
    stream = hashlib.shake_128(b"auditlog/salts/v1\n" + SECRET).digest(80)
    assert made.salts == tuple(stream[i : i + 16] for i in range(0, 80, 16))
    opened = [(b"request", b'{"a":1}'), (b"response", b"")]
    opened += [(path.encode(), value) for path, value in leaves]
    hashes = [
        hashlib.sha256(b"\0" + salt + bytes([0, len(p)]) + p + v).digest()
        for salt, (p, v) in zip(made.salts[1:], opened, strict=True)
    ]
    assert list(made.hashes) == hashes
    head = b"auditlog/commitment/v1\n" + made.salts[0] + bytes(7) + b"\7" + bytes(8)
    assert made.digest == hashlib.sha256(head + b"".join(hashes)).digest()


def test_salts_do_not_depend_on_how_many_leaves_follow() -> None:
    assert salts(SECRET, 9)[:4] == salts(SECRET, 3)
    assert [leaf_salt(SECRET, leaf) for leaf in range(5)] == salts(SECRET, 5)[1:]


@given(st.binary(min_size=16, max_size=16), st.lists(st.binary()))
def test_leaves_hash_incrementally(salt: bytes, parts: list[bytes]) -> None:
    hasher = leaf_hasher(salt, "response#3/é")
    for part in parts:
        hasher.update(part)
    assert hasher.digest() == disclosure_hash(salt, "response#3/é", b"".join(parts))


def test_everything_counts_in_a_commitment() -> None:
    base = commit(SECRET, b"a", b"b", [("request/x", b"1")])
    changed = [
        commit(bytes(32), b"a", b"b", [("request/x", b"1")]),
        commit(SECRET, b"A", b"b", [("request/x", b"1")]),
        commit(SECRET, b"a", b"B", [("request/x", b"1")]),
        commit(SECRET, b"a", b"b", [("request/y", b"1")]),
        commit(SECRET, b"a", b"b", [("request/x", b"2")]),
        commit(SECRET, b"a", b"b", [("request/x", b"1"), ("request/x", b"1")]),
        commit(SECRET, b"a", b"b", []),
    ]
    digests = {made.digest for made in [base, *changed]}
    assert len(digests) == len(changed) + 1
    salt, hashes = base.salts[0], base.hashes
    assert commitment_digest(salt, 1, 1, hashes) == base.digest
    assert commitment_digest(salt, 2, 1, hashes) != base.digest
    assert commitment_digest(salt, 1, 2, hashes) != base.digest
    assert commitment_digest(salt, 1, 1, hashes[::-1]) != base.digest


def test_refusals_of_commitments() -> None:
    salt, hash_ = bytes(16), bytes(32)
    with pytest.raises(MalformedError, match="a secret of 32 bytes, got 31"):
        commit(bytes(31), b"", b"", [])
    with pytest.raises(MalformedError, match="at most 1024 bytes, got 1025"):
        commit(SECRET, b"", b"", [("x" * 1025, b"")])
    with pytest.raises(MalformedError, match="at most 1024 bytes, got 1026"):
        leaf_hasher(salt, "é" * 513)
    with pytest.raises(MalformedError, match="no lone surrogate in a path"):
        disclosure_hash(salt, "\ud800", b"")
    with pytest.raises(MalformedError, match="a salt of 16 bytes, got 15"):
        disclosure_hash(salt[1:], "x", b"")
    for wrong in ((salt[1:], [hash_, hash_]), (salt, [hash_, hash_[1:]])):
        with pytest.raises(MalformedError, match="16 bytes and hashes of 32"):
            commitment_digest(wrong[0], 0, 0, wrong[1])
    with pytest.raises(MalformedError, match="two leaves or more, got 1"):
        commitment_digest(salt, 0, 0, [hash_])
    for sizes in ((-1, 0), (0, -1), (1 << 64, 0), (0, 1 << 64)):
        with pytest.raises(MalformedError, match="sizes that fit in 64 bits"):
            commitment_digest(salt, *sizes, [hash_, hash_])


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json;charset=utf-8",
        "application/json ; charset=utf-8",
        " application/json",
        "application/problem+json",
        "application/vnd.api.v2+json; ext=1",
        "application/a+b+json",
    ],
)
def test_json_media_types(media_type: str) -> None:
    assert is_json(media_type)


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "json",
        "text/json",
        "Xapplication/json",
        "application/jsonX",
        "application/jsonl",
        "application/json-seq",
        "application/x-json",
        "application/json+xml",
        "application/+json",
        "application/ld+json/x",
        "application/a b+json",
        "text/plain; x=application/json",
        "xapplication/json",
        "application/json\n",
    ],
)
def test_other_media_types(media_type: str) -> None:
    assert not is_json(media_type)


# --- members --------------------------------------------------------------------------


def test_members_are_in_pre_order_with_their_exact_bytes() -> None:
    body = b' { "a" : [ 1.0 , { "b" : "x\\u00e9" } ] , "c/~" : -0 } \n'
    assert members("request", body, 8) == [
        ("request/a", b'[ 1.0 , { "b" : "x\\u00e9" } ]'),
        ("request/a/0", b"1.0"),
        ("request/a/1", b'{ "b" : "x\\u00e9" }'),
        ("request/a/1/b", b'"x\\u00e9"'),
        ("request/c~1~0", b"-0"),
    ]
    assert members("response", body, 1) == [
        ("response/a", b'[ 1.0 , { "b" : "x\\u00e9" } ]'),
        ("response/c~1~0", b"-0"),
    ]


@pytest.mark.parametrize("body", [b"1", b' "x" ', b"null", b"{}", b" [ ] ", b"-1.5e+3"])
def test_scalars_and_empty_containers_have_no_members_but_are_json(body: bytes) -> None:
    assert members("request", body, 1) == []
    assert members("request", body, 0) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[",
        b"]",
        b"[1",
        b"[1,",
        b"[1,]",
        b"[,1]",
        b"[1 2]",
        b"[1}",
        b'{"a":1]',
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b'{"a":1 "b":2}',
        b"{a:1}",
        b"{'a':1}",
        b"{1:2}",
        b"1 1",
        b"{}{}",
        b"[1]x",
        b"[01]",
        b"[1.]",
        b"[.5]",
        b"[+1]",
        b"[1e]",
        b"[-]",
        b"[0x1]",
        b"[1_0]",
        b"NaN",
        b"[Infinity]",
        b"[nul]",
        b"[nullx]",
        b"[True]",
        b'["a]',
        b'["\\"]',
        b'["\\x"]',
        b'["\\u12g4"]',
        b'["\\u123"]',
        b'["\x1f"]',
        b'["\n"]',
        b"[1]\x0b",
        b"[1\x0c]",
        b"\xc2\xa0[1]",
        b"// x\n[1]",
        b'["\xc0\x80"]',
        b'["\xed\xa0\x80"]',
        b'["\xf4\x90\x80\x80"]',
        b'["\xe2\x82"]',
        b"\xff\xfe[\x001\x00]\x00",
        b"[1]\x00",
    ],
)
@pytest.mark.parametrize(
    "frame", [b"%b", b'{"k":%b}', b"[[[%b]]]", b'{"a":{"b":[%b]}}']
)
def test_what_is_not_strict_json_has_no_members(body: bytes, frame: bytes) -> None:
    if frame == b"%b" or body.strip():
        assert members("request", frame % body, 1) is None
        assert members("request", frame % body, 8) is None


def test_an_ambiguous_name_denies_only_what_is_opened() -> None:
    for name in (b'{"b":1,"b":2}', b'{"b":1,"\\u0062":2}', b'{"\\ud800":1}'):
        assert members("request", name, 1) is None
        body = b'{"a":%b}' % name
        assert members("request", body, 1) == [("request/a", name)]
        assert members("request", body, 2) is None


def test_limits_of_size_depth_count_and_path() -> None:
    body = b"[" + b" " * (MAX_BODY - 3) + b"1]"
    assert members("request", body, 1) == [("request/0", b"1")]
    assert members("request", body + b" ", 1) is None
    deep = b"[" * 64 + b"]" * 64
    assert members("request", deep, 1) == [("request/0", deep[1:-1])]
    assert members("request", b"[%b]" % deep, 1) is None
    assert members("request", b"[%b,%b]" % (deep[1:-1], deep[1:-1]), 1) is not None
    many = b",".join([b"1"] * MAX_MEMBERS)
    assert len(members("request", b"[%b]" % many, 1) or ()) == MAX_MEMBERS
    assert members("request", b"[%b,1]" % many, 1) is None
    assert members("request", b"[[%b]]" % many, 1) is not None
    assert members("request", b"[[%b]]" % many, 2) is None
    for name, size in ((b"n", 1), ("é".encode(), 2), (b"~", 2), (b"\\u0061", 1)):
        fits = (1024 - len("request/")) // size
        assert members("request", b'{"%b":1}' % (name * fits), 1) is not None
        assert members("request", b'{"%b":1}' % (name * (fits + 1)), 1) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 500_000,
        b'{"a":' * 200_000,
        b'["' + b'\\"' * 500_000,
        b"[[" + b"1," * 500_000 + b"[",
        b"[" * 60 + b"[1,[2]]," * 100_000 + b"]" * 60,
        b'{"a":[' + b'{"b":"\\u0061"},' * 60_000 + b"]}",
        b"[" + b" " * 1_000_000,
        b"[" + b"-" * 1_000_000,
        b'"' * 1_000_000,
    ],
    ids=range(9),
)
def test_hostile_bodies_are_refused_in_linear_time(body: bytes) -> None:
    for depth in (1, 2, 8):
        assert members("request", body, depth) is None


def test_batch_containers_open_further_only_at_the_top() -> None:
    def paths(body: bytes, depth: int = 1) -> list[str]:
        found = members("r", body, depth)
        assert found is not None
        return [path for path, _ in found]

    for name in ("instances", "inputs", "predictions", "outputs", "\\u006futputs"):
        plain = json.loads(f'"{name}"')
        body = f'{{"{name}":[[1],{{"x":2}}]}}'.encode()
        assert paths(body) == [f"r/{plain}", f"r/{plain}/0", f"r/{plain}/1"]
        assert paths(b'{"x":%b}' % body) == ["r/x"]
        assert paths(b"[%b]" % body) == ["r/0"]
        assert paths(b"[%b]" % body, 2) == ["r/0", f"r/0/{plain}"]
    split = b'{"dataframe_split":{"data":[[1]],"columns":[]}}'
    top = "r/dataframe_split"
    assert paths(split) == [top, f"{top}/data", f"{top}/data/0", f"{top}/columns"]
    assert paths(b'{"Instances":[1]}') == ["r/Instances"]


@given(bodies(), st.integers(0, 8))
def test_the_naive_splitter_agrees(body: bytes, depth: int) -> None:
    assert members("request", body, depth) == naive_members("request", body, depth)


@given(bodies(), st.data())
def test_the_naive_splitter_agrees_on_damaged_bodies(
    body: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(body)))
    cut = data.draw(st.integers(0, 2))
    put = data.draw(st.sampled_from([b"", b",", b'"', b"[", b"}", b"\\", b"0", b" "]))
    damaged = body[:at] + put + body[at + cut :]
    assert members("r", damaged, 2) == naive_members("r", damaged, 2)


@given(st.binary(max_size=60), st.integers(-1, 9))
def test_any_bytes_give_members_or_none(body: bytes, depth: int) -> None:
    assert members("request", body, depth) == naive_members("request", body, depth)


def test_chunks_cover_a_body_without_gap_or_overlap() -> None:
    for size in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK):
        body = bytes(range(256)) * (size // 256) + bytes(size % 256)
        found = chunks("request", body)
        assert b"".join(value for _, value in found) == body
        assert [path for path, _ in found] == [
            f"request#{number}" for number in range(-(-size // CHUNK))
        ]


@pytest.mark.parametrize(
    ("size", "count", "last"),
    [
        (0, 0, None),
        (1 << 20, 0, None),  # up to 1 MiB a body is not cut
        ((1 << 20) + 1, 17, 1),
        (2 << 20, 32, CHUNK),
        (1 << 30, 16_384, CHUNK),
        ((1 << 30) + 1, 0, None),  # too many
    ],
)
def test_sizes_of_chunks(size: int, count: int, last: int | None) -> None:
    sizes = chunk_sizes(size)
    assert len(sizes) == count
    assert set(sizes[:-1]) <= {CHUNK}
    assert (sizes[-1] if sizes else None) == last
    assert sum(sizes) == (size if count else 0)
