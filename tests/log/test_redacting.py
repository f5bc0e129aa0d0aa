"""What a redactor took out is committed to, and not kept; all else can be opened."""

import gzip
import io
import os
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.body import Body
from auditlog.capture.exchange import Exchange
from auditlog.core.commitment import CHUNK, commit
from auditlog.core.opening import content_of
from auditlog.core.pieces import TEXT, frame, split_body
from auditlog.core.record import Entry, parse_entry, parse_json
from auditlog.log.content import Content, context_only, pack, unpack, verify_content
from auditlog.log.description import Describer
from auditlog.log.parts import Hashed
from auditlog.storage.spill import SpillDirectory
from tests.log.builders import ORIGIN, exchange
from tests.log.redactions import WordRedaction

MIB = 1 << 20
COMPRESSOR = zstandard.ZstdCompressor(level=1)
ASKED = b'{"pin": "493817", "who": {"name": "Ada", "age": 41}, "n": 7}'
PIN = WordRedaction(b"493817")


def describe(one: Exchange, depth: int = 1) -> tuple[Entry, Content]:
    """Describe an exchange; what is kept of it opens its commitment, packed too."""
    described = Describer(ORIGIN, bytes(16), depth=depth).describe(one)
    entry = parse_entry(described.entry)
    content = unpack(pack(described.content, COMPRESSOR))
    assert content == described.content
    verify_content(entry, content)
    return entry, content


def opened(entry: Entry, content: Content) -> dict[str, bytes | None]:
    """Return all leaves that are more than a hash, by path."""
    leaves = verify_content(entry, content)
    assert all(leaf.salt == b"" for leaf in leaves if leaf.value is None)
    return {leaf.path: leaf.value for leaf in leaves if leaf.salt}


def hashes(content: Content) -> int:
    assert content.salts is not None
    return sum(isinstance(leaf, Hashed) for leaf in content.salts.leaves)


def body_of(leaf: int, data: bytes, secret: bytes, **fields: Any) -> Body:
    known: dict[str, Any] = {"limit": MIB, **fields}
    one = Body(secret, leaf, **known)
    for at in range(0, len(data), 60_000):
        one.feed(data[at : at + 60_000])
    one.state = "complete"
    return one


def with_body(data: bytes, media_type: str | None, **fields: Any) -> Exchange:
    """Return an exchange with this request, of which PIN is redacted."""
    secret = os.urandom(32)
    asked = body_of(0, data, secret, **fields)
    given: dict[str, Any] = {"secret": secret, "request_type": media_type}
    return exchange(0, request=asked, redaction=PIN, **given)


def test_without_anything_to_take_out_all_is_as_it_was() -> None:
    one = exchange(0)
    plain = Describer(ORIGIN, bytes(16), depth=1).describe(one, bytes(16))
    one.redaction = WordRedaction(b"not there")
    seen = Describer(ORIGIN, bytes(16), depth=1).describe(one, bytes(16))
    assert seen == plain
    assert seen.content.secret == one.secret
    assert [name for name, _ in one.redaction.calls] == [
        "request",
        "response",
        "target",
    ]


def test_the_commitment_covers_what_crossed_the_wire_and_the_copy() -> None:
    one = exchange(0, request=ASKED, redaction=PIN)
    entry, content = describe(one)
    asked, answered = ASKED, one.response.kept()
    copy = ASKED.replace(b"493817", b"[redacted]")
    leaves = [
        *(split_body("json", "request", asked, 1) or ()),
        *(split_body("json", "response", answered, 1) or ()),
        ("context/redaction", b'{"request":"redacted"}'),
        ("context/stored.request", copy),
        ("context/target", b"/score?lang=en"),
    ]
    assert (
        content_of(entry).digest == commit(one.secret, asked, answered, leaves).digest
    )
    assert content.body("request") == (copy, False, "redacted")


def test_members_that_hold_nothing_redacted_can_be_opened() -> None:
    entry, content = describe(exchange(0, request=ASKED, redaction=PIN), depth=2)
    assert content.secret is None
    assert opened(entry, content) == {
        "request/who": b'{"name": "Ada", "age": 41}',
        "request/who/name": b'"Ada"',
        "request/who/age": b"41",
        "request/n": b"7",
        "response": b'{"decision":"approve","score":0.87}',
        "response/decision": b'"approve"',
        "response/score": b"0.87",
        "context/redaction": b'{"request":"redacted"}',
        "context/stored.request": ASKED.replace(b"493817", b"[redacted]"),
        "context/target": b"/score?lang=en",
    }
    assert hashes(content) == 2, "the raw request and the member"


def test_of_containers_of_what_was_redacted_only_hashes_are_kept() -> None:
    ada = exchange(0, request=ASKED, redaction=WordRedaction(b"Ada"))
    entry, content = describe(ada, depth=2)
    assert [path for path in opened(entry, content) if path.startswith("request")] == [
        *("request/pin", "request/who/age", "request/n")
    ]
    assert hashes(content) == 3, "the raw request, /who and /who/name"


def test_nothing_that_was_redacted_is_in_what_is_sealed() -> None:
    one = exchange(0, request=ASKED, redaction=PIN, target=b"/s?pin=493817")
    content = Describer(ORIGIN, bytes(16), depth=8).describe(one).content
    packed = pack(content, COMPRESSOR, compress_from=1 << 20)
    assert b"493817" not in packed
    assert one.secret not in packed
    assert b"[redacted]" in packed


def test_a_side_that_was_withheld_is_a_commitment_only() -> None:
    one = exchange(0, redaction=WordRedaction(withhold=["response"]))
    entry, content = describe(one)
    assert content.body("response") == (b"", False, "withheld")
    assert content.redaction == {"response": "withheld"}
    assert "context/stored.response" not in opened(entry, content)
    assert hashes(content) == 3
    assert content.body("request").value == one.request.kept()


def test_leaves_pass_too_and_copies_stand_beside_them() -> None:
    said = {"annotations": b'{"note":"pin 493817"}', "user": b'{"caller":"Ada"}'}
    redaction = WordRedaction(b"493817", withhold=["user"])
    one = exchange(0, target=b"/s?pin=493817", context=said, redaction=redaction)
    entry, content = describe(one)
    assert dict(content.context) == {
        "redaction": (
            b'{"annotations":"redacted","target":"redacted","user":"withheld"}'
        ),
        "stored.annotations": b'{"note":"pin [redacted]"}',
        "stored.target": b"/s?pin=[redacted]",
    }
    assert content.leaf("target") == b"/s?pin=[redacted]"
    assert content.leaf("user") is None
    assert "request/age" in opened(entry, content), "the bodies held nothing"
    assert hashes(content) == 3


def test_literals_that_stand_in_no_entry_pass_too() -> None:
    kind = "application/x-493817"
    one = exchange(0, request_type=kind, method="PIN493817", redaction=PIN)
    entry, content = describe(one)
    assert entry.data["http.request.method"] == "other"
    assert content.context["stored.request.method"] == b"PIN[redacted]"
    assert content.context["stored.request.mediatype"] == b"application/x-[redacted]"


def test_of_a_compressed_body_the_decoded_one_is_redacted() -> None:
    coded = gzip.compress(ASKED)
    one = with_body(coded, "application/json", coding="gzip")
    entry, content = describe(one)
    assert ("request", ASKED) in PIN.calls
    found = opened(entry, content)
    assert found["request/n"] == b"7"
    assert "request:decoded" not in found
    assert content.decoded == {}
    assert hashes(content) == 3, "raw, decoded, and the member"
    assert content.body("request").value == ASKED.replace(b"493817", b"[redacted]")


@pytest.mark.parametrize(
    ("coded", "name"),
    [
        (gzip.compress(ASKED, mtime=0)[:-1], "gzip"),
        (b"\x0b\x02\x80{}\x03", "br"),
        (b"\xff\xfe", "identity"),
    ],
    ids=["cut", "unknown", "not text"],
)
def test_what_cannot_be_decoded_cannot_be_looked_through(
    coded: bytes, name: str
) -> None:
    redaction = WordRedaction()
    one = with_body(coded, "application/json", coding=name)
    one.redaction = redaction
    _, content = describe(one)
    assert content.body("request") == (b"", False, "withheld")
    assert "request" not in [side for side, _ in redaction.calls]


def test_text_that_only_says_that_it_is_encoded_is_looked_through() -> None:
    one = with_body(ASKED, "application/json", coding="gzip")
    _, content = describe(one)
    assert content.body("request").value == ASKED.replace(b"493817", b"[redacted]")


def test_what_only_an_encoded_body_says_is_not_kept() -> None:
    out = io.BytesIO()
    with gzip.GzipFile("493817.json", "wb", fileobj=out) as file:
        file.write(b'{"n": 7}')
    one = with_body(out.getvalue(), "application/json", coding="gzip")
    entry, content = describe(one)
    assert content.body("request") == (b'{"n": 7}', False, "redacted")
    assert opened(entry, content)["request/n"] == b"7"
    assert b"493817" not in pack(content, COMPRESSOR, compress_from=1 << 20)
    # What says nothing besides is kept as it was sent.
    one = with_body(gzip.compress(b'{"n": 7}'), "application/json", coding="gzip")
    assert describe(one)[1].secret == one.secret


EVENTS = [b"data: %d\n\n" % number for number in (1, 493817, 3)]
FRAMES = [frame(at, TEXT, b"%d" % n) for at, n in enumerate((1, 493817, 3))]


@pytest.mark.parametrize("limit", [28, MIB])
@pytest.mark.parametrize("split", ["sse", "ws"])
def test_events_and_messages_that_hold_nothing_redacted_can_be_opened(
    split: str, limit: int
) -> None:
    data = b"".join(EVENTS if split == "sse" else FRAMES)
    media_type = "text/event-stream" if split == "sse" else None
    one = with_body(b"", media_type, framed=split == "ws", limit=limit)
    for part in EVENTS if split == "sse" else FRAMES:
        one.request.feed(part)
    one.request.state = "complete"
    entry, content = describe(one)
    assert entry.data["request"]["split"] == split
    pieces = dict(split_body(split, "request", data, 1) or ())
    found = opened(entry, content)
    kept = {"request#0", "request#2"} if limit == MIB else {"request#0"}
    assert {path for path in found if path.startswith("request")} == kept
    assert all(found[path] == pieces[path] for path in kept)
    assert content.body("request").capped == (limit != MIB)
    assert content.body("request").redaction == "redacted"
    assert b"493817" not in content.body("request").value


def test_a_redactor_that_breaks_its_frames_leaves_a_copy_without_pieces() -> None:
    class Broken(WordRedaction):
        def body(self, *_: object, **__: object) -> bytes:
            return b"\0" * 40

    one = with_body(b"".join(FRAMES), None, framed=True)
    one.redaction = Broken()
    entry, content = describe(one)
    assert not [path for path in opened(entry, content) if "#" in path]


LARGE = b"%b493817%b" % (b"a" * 2 * CHUNK, b"b" * 20 * CHUNK)


@pytest.mark.parametrize("limit", [MIB, 4 * MIB])
def test_chunks_before_what_was_redacted_can_be_opened(
    limit: int, tmp_path: Any
) -> None:
    one = with_body(
        LARGE, "text/plain", limit=limit, spills=SpillDirectory(tmp_path, 1 << 30)
    )
    entry, content = describe(one)
    assert entry.data["request"]["split"] == "chunks"
    found = opened(entry, content)
    assert [path for path in found if path.startswith("request")] == [
        *("request#0", "request#1"),
        # By chance, as the replacement shifts all that follows: these hold the same.
        *(f"request#{at}" for at in range(3, 22 if limit > MIB else 16)),
    ]
    copy = LARGE[:limit].replace(b"493817", b"[redacted]")
    assert content.body("request") == (copy, limit == MIB, "redacted")
    assert hashes(content) >= 3


@pytest.mark.parametrize("limit", [0, 1000, MIB])
def test_bytes_that_nobody_looked_at_are_hashes_too(limit: int) -> None:
    tail = b'{"pin": 1234'
    one = with_body(b"x" * MIB + tail, "text/plain", limit=limit)
    one.redaction = WordRedaction(b"not there")
    entry, content = describe(one)
    assert content.secret is None
    assert content.redaction == {}
    assert content.body("request") == (b"x" * limit, True, None)
    whole = [path for path in opened(entry, content) if path.startswith("request")]
    assert whole == [f"request#{at}" for at in range(limit // CHUNK)]
    assert (b'"capped":["request"]' in content.context.get("redaction", b"")) == (
        limit > 0
    )


def test_a_redactor_is_told_what_is_cut() -> None:
    whole, capped = with_body(ASKED, "text/plain"), with_body(ASKED, None, limit=20)
    partial = with_body(ASKED, "text/plain")
    partial.request.state = "partial"
    for one, cut in ((whole, set()), (capped, {"request"}), (partial, {"request"})):
        one.redaction = redaction = WordRedaction(b"493817")
        describe(one)
        assert redaction.cut == cut


def test_what_is_not_kept_at_all_cannot_be_guessed_either() -> None:
    one = exchange(0, request=ASKED, keep=False, redaction=PIN)
    entry, content = describe(one)
    assert content.secret is None
    assert content.body("request") == (b"", True, None)
    assert hashes(content) == 2
    assert opened(entry, content) == {"context/target": b"/score?lang=en"}
    assert one.redaction is PIN
    one = exchange(0, request=b"", response=b"", keep=False, redaction=PIN)
    assert describe(one)[1].secret == one.secret, "nothing is no secret"


def test_a_copy_may_be_empty() -> None:
    one = exchange(0, request=b"493817", redaction=WordRedaction(b"493817", by=b""))
    entry, content = describe(one)
    assert content.body("request") == (b"", False, "redacted")
    assert opened(entry, content)["context/stored.request"] == b""


def test_what_a_copy_says_of_a_member_does_not_move_others() -> None:
    """A redactor may take members out; those that stay are found by their paths."""

    class Dropping(WordRedaction):
        def body(self, side: Any, value: bytes, *_: object, **__: object) -> bytes:
            return value.replace(b'"pin": "493817", ', b"")

    one = exchange(0, request=ASKED, redaction=Dropping())
    entry, content = describe(one, depth=2)
    found = opened(entry, content)
    assert (found["request/n"], found["request/who/age"]) == (b"7", b"41")
    assert hashes(content) == 2


words = st.sampled_from([b"Ada", b"41", b"7", b'"n"', b"4", b"{", b"approve", b"e"])


@given(st.lists(words, max_size=3), st.integers(1, 3), st.booleans())
def test_whatever_is_taken_out_what_is_kept_opens_the_commitment(
    taken: list[bytes], depth: int, coded: bool
) -> None:
    secret = os.urandom(32)
    data, coding = (gzip.compress(ASKED), "gzip") if coded else (ASKED, None)
    asked = body_of(0, data, secret, coding=coding)
    redaction = WordRedaction(*taken, by=b"#")
    one = exchange(0, request=asked, secret=secret, redaction=redaction)
    entry, content = describe(one, depth)
    for path, value in opened(entry, content).items():
        held = path.startswith("context/stored.") or path == "context/redaction"
        assert held or not any(word in (value or b"") for word in taken), path
    assert (content.secret is None) == (content.salts is not None)


# --- entries that have context only ---------------------------------------------------


def leaves() -> list[tuple[str, bytes]]:
    return [("context/reason", b'{"text":"493817"}'), ("context/user", b'{"by":"Eve"}')]


def committed(said: dict[str, Any], content: Content) -> dict[str, bytes | None]:
    data = {"kind": "human", "decision": "x", **said}
    entry = Entry(bytes(16), "auditlog.amendment.v1", ORIGIN, 0, data)
    again = unpack(pack(content, COMPRESSOR))
    assert again == content
    return opened(entry, again)


def test_what_is_said_of_a_decision_later_passes_the_redactor() -> None:
    said, content = context_only(os.urandom(32), leaves(), redaction=PIN)
    assert committed(said, content) == {
        **dict.fromkeys(("request", "response"), b""),
        "context/redaction": b'{"reason":"redacted"}',
        "context/stored.reason": b'{"text":"[redacted]"}',
        "context/user": b'{"by":"Eve"}',
    }
    said, content = context_only(bytes(32), leaves(), redaction=WordRedaction(b"no"))
    assert (said, content) == context_only(bytes(32), leaves())


def test_a_leaf_may_be_kept_by_its_hash_alone() -> None:
    said, content = context_only(bytes(32), leaves(), unopened=["context/user"])
    assert said["commitment"] == context_only(bytes(32), leaves())[0]["commitment"]
    assert "context/user" not in committed(said, content)
    assert content.context == {"reason": b'{"text":"493817"}'}
    assert content.secret is None
    assert parse_json(content.context["reason"], limit=99) == {"text": "493817"}
