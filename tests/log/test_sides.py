"""Bodies opened into leaves: what an entry commits to is what the definition says."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.body import Body
from auditlog.capture.cutting import whole
from auditlog.capture.decoding import decode
from auditlog.core.commitment import MAX_BODY, chunks, commit
from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.opening import content_of
from auditlog.core.pieces import BINARY, TEXT, frame, split_body
from auditlog.core.record import Entry, format_entry, parse_entry
from auditlog.log.content import Content, pack, unpack, verify_content
from auditlog.log.description import Describer
from auditlog.storage.spill import SpillDirectory
from tests.log.builders import ORIGIN, exchange

SECRET = bytes(range(32))
COMPRESSOR = zstandard.ZstdCompressor(level=1)
MIB = 1 << 20
LARGE = bytes(range(251)) * 4500
JSON = b'{"age": 41, "name": "Ada"}'


def body_of(leaf: int, data: bytes, **fields: Any) -> Body:
    values = {"limit": MIB, "media_type": "application/json", **fields}
    body = Body(SECRET, leaf, **values)
    for at in range(0, len(data), 60_000):
        body.feed(data[at : at + 60_000])
    body.state = "complete"
    return body


def describe(asked: Body, answered: Body, depth: int = 1) -> tuple[Entry, Content]:
    one = exchange(
        0,
        request=asked,
        response=answered,
        request_type=asked.media_type,
        response_type=answered.media_type,
        secret=SECRET,
    )
    described = Describer(ORIGIN, bytes(16), depth=depth).describe(one)
    return parse_entry(described.entry), described.content


def by_definition(
    bodies: list[tuple[bytes, bytes | None, str | None]],
    context: dict[str, bytes],
    depth: int,
) -> tuple[bytes, list[str]]:
    """Commit to bodies, each with decoded form and type, as `FORMATS.md` §3 says."""
    leaves, splits = [], []
    sides = [*zip(("request", "response"), bodies, strict=True)]
    for side, (_, decoded, _) in sides:
        if decoded is not None:
            leaves.append((f"{side}:decoded", decoded))
    for side, (raw, decoded, media_type) in sides:
        body = raw if decoded is None else decoded
        split = SPLITS.get(media_type)
        found = split_body(split, side, body, depth) if split and depth else None
        splits.append("none" if found is None or split is None else split)
        if found is None and len(raw) > MAX_BODY:
            found, splits[-1] = chunks(side, raw), "chunks"
        leaves += found or []
    leaves += [(f"context/{name}", context[name]) for name in sorted(context)]
    return commit(SECRET, bodies[0][0], bodies[1][0], leaves).digest, splits


def holds(entry: Entry, content: Content) -> list[str]:
    """Pack, unpack and verify content; return the paths of its leaves."""
    again = unpack(pack(content, COMPRESSOR))
    assert again == content
    return [leaf.path for leaf in verify_content(entry, again)]


FRAMED = "frames"
"""Stands for the media type of a session's messages, which have none."""
SPLITS: dict[str | None, str] = {
    "application/json": "json",
    "text/event-stream": "sse",
    FRAMED: "ws",
}
STREAM = b": hi\n\ndata: 1\r\n\r\ndata: \xc3"
SESSION = [frame(0, TEXT, b"hello"), frame(3, BINARY, b""), frame(4, TEXT, b"bye")]
BODIES = [
    (JSON, None, "application/json"),
    (JSON, None, "text/plain"),
    (b"", None, None),
    (gzip.compress(JSON), JSON, "application/json"),
    (gzip.compress(b"text"), b"text", "text/plain"),
    (LARGE, None, "image/png"),
    (b'"' + b"a" * MIB + b'"', None, "application/json"),
    (STREAM, None, "text/event-stream"),
    (gzip.compress(STREAM), STREAM, "text/event-stream"),
    (b"", None, "text/event-stream"),
    (b"\xff\n\n", None, "text/event-stream"),
    (b"".join(SESSION), None, FRAMED),
    (b"", None, FRAMED),
]
NUMBERS = range(len(BODIES))


@pytest.mark.parametrize("asked", NUMBERS)
@pytest.mark.parametrize("answered", NUMBERS)
@pytest.mark.parametrize("depth", [0, 1])
def test_an_entry_commits_to_what_the_definition_says(
    asked: int, answered: int, depth: int
) -> None:
    bodies, context = [BODIES[asked], BODIES[answered]], {"target": b"/score?lang=en"}
    fed: list[Body] = []
    for leaf, (raw, decoded, media_type) in enumerate(bodies):
        coding = None if decoded is None else "gzip"
        known: dict[str, Any] = {"media_type": media_type, "coding": coding}
        if media_type == FRAMED:
            known |= {"media_type": None, "framed": True}
        if fed:
            known |= {"before": fed[0], "depth": depth}
        fed.append(body_of(leaf, raw, **known))
        if coding:
            context[("request.encoding", "response.encoding")[leaf]] = b"gzip"
    entry, content = describe(fed[0], fed[1], depth)
    digest, splits = by_definition(bodies, context, depth)
    assert content_of(entry).digest == digest
    assert [entry.data[side]["split"] for side in ("request", "response")] == splits
    holds(entry, content)


@pytest.mark.parametrize("limit", [0, 100_000, 3 << 16, MIB])
def test_what_is_not_kept_is_known_by_its_hash(limit: int) -> None:
    asked = body_of(0, LARGE, limit=limit)
    entry, content = describe(asked, body_of(1, LARGE, limit=limit, before=asked))
    paths = holds(entry, content)
    count = -(-len(LARGE) // (1 << 16))
    assert len(paths) == 2 + 2 * count + 1
    leaves = {leaf.path: leaf for leaf in verify_content(entry, content)}
    kept = [path for path in paths if leaves[path].value is not None]
    whole = range(limit >> 16)
    assert kept == [
        *(f"request#{number}" for number in whole),
        *(f"response#{number}" for number in whole),
        "context/target",
    ]
    assert content.request == content.response == LARGE[:limit]


@pytest.mark.parametrize(
    ("name", "coded"),
    [
        ("gzip", gzip.compress(JSON)),
        ("deflate", zlib.compress(JSON)),
        ("zstd", COMPRESSOR.compress(JSON)),
        ("deflate, gzip", gzip.compress(zlib.compress(JSON))),
    ],
    ids=["gzip", "deflate", "zstd", "both"],
)
def test_members_of_a_compressed_body_are_those_of_what_it_holds(
    name: str, coded: bytes
) -> None:
    entry, content = describe(body_of(0, coded, coding=name), body_of(1, JSON))
    assert entry.data["request"]["split"] == "json"
    assert holds(entry, content) == [
        *("request", "response", "request:decoded", "request/age", "request/name"),
        *("response/age", "response/name", "context/request.encoding"),
        "context/target",
    ]
    assert content.decoded["request"].value == JSON
    assert content.context["request.encoding"] == name.encode()


@pytest.mark.parametrize(
    ("name", "coded"),
    [
        ("gzip", gzip.compress(JSON)[:-1]),
        ("gzip", b"no gzip"),
        ("gzip", gzip.compress(bytes(9 << 20))),
        ("br", b"\x0b\x02\x80{}\x03"),
        ("identity", b"\xff"),
    ],
    ids=["cut", "other", "bomb", "unknown", "none"],
)
def test_what_cannot_be_decoded_is_committed_to_as_it_was_sent(
    name: str, coded: bytes
) -> None:
    entry, content = describe(body_of(0, JSON), body_of(1, coded, coding=name))
    assert entry.data["response"]["split"] == "none"
    assert holds(entry, content) == [
        *("request", "response", "request/age", "request/name"),
        *("context/response.encoding", "context/target"),
    ]
    assert content.response == coded


def test_deflate_that_is_text_is_not_undone() -> None:
    # Made by hand: a verifier that sees only this takes it for text without members.
    coded = (
        b"S@\x06H\x00\tp\"\x03d\x10\xcd\x8b\x04\xd0\x81!/'\n@\x01 \x00\x02\xc8\x80\x0b"
        b"\x04x\x158\xd1\x81\x02:@\x01H\x00\x04\xd0\x81\x02\x17'''2@\x07(\x00\x04b\x01"
    )
    assert coded.decode()
    decoded = decode(coded, "deflate")
    assert decoded is not None
    assert decoded.split() == [b"[", b"1", b"]"]
    entry, content = describe(body_of(0, coded, coding="deflate"), body_of(1, JSON))
    assert entry.data["request"]["split"] == "none"
    assert "request:decoded" not in holds(entry, content)


def test_a_compressed_body_over_1_mib_is_not_decoded() -> None:
    coded = gzip.compress(LARGE, compresslevel=0)
    entry, content = describe(body_of(0, coded, coding="gzip"), body_of(1, JSON))
    assert entry.data["request"]["split"] == "chunks"
    assert "request:decoded" not in holds(entry, content)


def test_no_coding_stands_in_clear() -> None:
    canary = "CANARY-\xe9"
    entry, content = describe(
        body_of(0, JSON, coding=canary), body_of(1, JSON, coding=f"gzip, {canary}")
    )
    assert b"CANARY" not in format_entry(entry)
    assert content.context["request.encoding"] == b"CANARY-\xe9", "as it was sent"
    assert content.context["response.encoding"] == b"gzip, CANARY-\xe9"


@given(at=st.integers(min_value=0), change=st.integers(1, 255))
def test_damaged_content_of_every_kind_gives_our_error_or_other_content(
    at: int, change: int
) -> None:
    _, content = describe(
        body_of(0, LARGE, limit=1000), body_of(1, gzip.compress(JSON), coding="gzip")
    )
    packed = bytearray(pack(content, COMPRESSOR))
    packed[at % len(packed)] ^= change
    try:
        found = unpack(bytes(packed))
    except MalformedError:
        return
    assert found != content


def test_a_decoded_part_needs_its_whole_body() -> None:
    _, content = describe(
        body_of(0, gzip.compress(JSON), coding="gzip"), body_of(1, b"")
    )
    raw, response, decoded, *rest = content.parts
    lies = [
        (
            raw._replace(leaf_hash=bytes(32)),
            decoded,
            "no whole body to be decoded from",
        ),
        (raw, decoded._replace(path="context/a"), "no whole body to be decoded from"),
        (raw, decoded._replace(size=3), "'request:decoded' does not decode to 3 bytes"),
        (raw, decoded._replace(coding="zstd"), "does not decode to 26 bytes"),
    ]
    for one, other, message in lies:
        lie = Content(content.secret, (one, response, other, *rest))
        with pytest.raises(MalformedError, match=message):
            unpack(pack(lie, COMPRESSOR))


def test_a_response_that_could_not_wait_is_not_split() -> None:
    asked = Body(SECRET, 0, MIB, media_type="application/json")
    answered = body_of(1, LARGE, media_type="image/png", before=asked)
    asked.feed(JSON)  # only now it is read
    asked.state = "complete"
    entry, content = describe(asked, answered)
    assert entry.data["response"]["split"] == "none"
    assert holds(entry, content) == [
        *("request", "response", "request/age", "request/name", "context/target")
    ]


LONG_STREAM = b"".join(b"data: %d%b\r\n\r\n" % (n, b"x" * 500) for n in range(2500))
LONG_SESSION = [frame(n, TEXT, b"%d" % n + b"y" * 500) for n in range(2500)]


def by_pieces(
    split: str, asked: bytes, answered: bytes, depth: int = 1
) -> tuple[bytes, list[str]]:
    """Commit to two bodies that are split alike, as `FORMATS.md` §3 says."""
    leaves = [
        leaf
        for side, body in (("request", asked), ("response", answered))
        for leaf in split_body(split, side, body, depth) or ()
    ]
    leaves.append(("context/target", b"/score?lang=en"))
    digest = commit(SECRET, asked, answered, leaves).digest
    return digest, [path for path, _ in leaves]


@pytest.mark.parametrize("limit", [0, 1000, MIB, 2 * MIB])
@pytest.mark.parametrize("split", ["sse", "ws"])
def test_streams_and_sessions_of_any_size_are_what_the_definition_says(
    limit: int, split: str, tmp_path: Path
) -> None:
    known: dict[str, Any] = {"media_type": None, "framed": True}
    parts = LONG_SESSION
    if split == "sse":
        known = {"media_type": "text/event-stream"}
        parts = [LONG_STREAM[at : at + 997] for at in range(0, len(LONG_STREAM), 997)]
    spills = SpillDirectory(tmp_path, 1 << 30)
    asked = Body(SECRET, 0, limit, spills=spills, **known)
    answered = Body(SECRET, 1, limit, before=asked, spills=spills, **known)
    for body, some in ((asked, parts[:300]), (answered, parts)):
        for part in some:
            body.feed(part)
        body.state = "complete"
    entry, content = describe(asked, answered)
    raw = b"".join(parts)
    digest, paths = by_pieces(split, b"".join(parts[:300]), raw)
    assert entry.data["request"]["split"] == entry.data["response"]["split"] == split
    assert content_of(entry).digest == digest
    assert holds(entry, content) == ["request", "response", *paths]
    # Every piece that is kept whole can be shown.
    values = {leaf.path: leaf.value for leaf in verify_content(entry, content)}
    shown = [values[path] for path in paths if path.startswith("response#")]
    kept, _ = whole(split, raw[:limit])
    every = [value for _, value in split_body(split, "", raw, 1) or ()]
    assert shown == (every if limit > len(raw) else kept + [None] * (2500 - len(kept)))
    assert content.response == raw[:limit]


@pytest.mark.parametrize("split", ["sse", "ws"])
def test_streams_and_sessions_have_no_pieces_at_depth_0(split: str) -> None:
    known = {"media_type": "text/event-stream", "framed": split == "ws"}
    raw = LONG_STREAM if split == "sse" else b"".join(LONG_SESSION)
    asked = body_of(0, b"".join(SESSION), **known)
    answered = body_of(1, raw, limit=1000, before=asked, depth=0, **known)
    entry, content = describe(asked, answered, depth=0)
    assert entry.data["request"]["split"] == "none"
    # Sent messages would have to be read again, and there is no disk.
    assert entry.data["response"]["split"] == {"sse": "chunks", "ws": "none"}[split]
    holds(entry, content)


def test_what_a_session_sent_is_committed_to_though_a_disk_did_not_take_it() -> None:
    asked = Body(SECRET, 0, MIB, framed=True)
    answered = Body(SECRET, 1, MIB, before=asked, framed=True)
    for one in LONG_SESSION:
        asked.feed(one)
        answered.feed(one)
    entry, content = describe(asked, answered)
    assert entry.data["request"]["split"] == "ws"
    assert entry.data["response"]["split"] == "none"
    assert "response#0" not in holds(entry, content)


@pytest.mark.parametrize("split", ["sse", "ws"])
def test_a_changed_piece_is_not_what_was_committed_to(split: str) -> None:
    known: dict[str, Any] = {"media_type": "text/event-stream", "framed": split == "ws"}
    asked = Body(SECRET, 0, 1200, **known)
    for one in LONG_SESSION if split == "ws" else [LONG_STREAM]:
        asked.feed(one)
    entry, content = describe(asked, body_of(1, JSON))
    raw, *others = content.parts
    hashes = raw.piece_hashes
    lies = [
        raw._replace(value=raw.value.replace(b"1", b"2", 1)),
        raw._replace(value=raw.value[:-1000]),
        raw._replace(piece_hashes=hashes[:-32]),
        raw._replace(piece_hashes=hashes[32:64] + hashes[:32] + hashes[64:]),
    ]
    for lie in lies:
        with pytest.raises(VerificationError, match="does not match the commitment"):
            verify_content(entry, Content(content.secret, (lie, *others)))
