"""Event blocks and WebSocket messages: the bytes that are leaves of their own."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.commitment import is_event_stream
from auditlog.core.errors import MalformedError
from auditlog.core.pieces import (
    BINARY,
    MAX_PIECES,
    TEXT,
    Message,
    blocks,
    frame,
    is_text,
    messages,
    split_body,
)

TWO = frame(3, TEXT, b"") + frame(4, TEXT, b"b")
STREAM_LIKE = (st.text("a: \r\n", max_size=40) | st.text("a\n")).map(str.encode)
# The grammar of WHATWG HTML §9.2.5, as one expression.
BLOCK = re.compile(rb"(?:[^\r\n]++(?:\r\n|[\r\n]))*+(?:\r\n|[\r\n])")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (b"data: 1\n\ndata: 2\n\n", [b"data: 1\n\n", b"data: 2\n\n"]),
        (b"data: 1\r\n\r\ndata: 2\r\r", [b"data: 1\r\n\r\n", b"data: 2\r\r"]),
        (b"data: 1\n\r\ndata: 2", [b"data: 1\n\r\n", b"data: 2"]),
        (b": ping\n\n\n\xef\xbb\xbfa: 1", [b": ping\n\n", b"\n", b"\xef\xbb\xbfa: 1"]),
        (b"event: a\ndata: 1\ndata: 2\n\n", [b"event: a\ndata: 1\ndata: 2\n\n"]),
        (b"data: 1\n", [b"data: 1\n"]),
        # Line ends of other standards end no line here.
        ("\u2028\x0b\x0c\x85\n\n".encode(), ["\u2028\x0b\x0c\x85\n\n".encode()]),
    ],
)  # fmt: skip
def test_a_stream_is_cut_after_each_empty_line(
    body: bytes, expected: list[bytes]
) -> None:
    assert blocks(body) == expected


@given(STREAM_LIKE)
def test_blocks_are_the_body_and_those_of_the_grammar(body: bytes) -> None:
    found = blocks(body)
    assert b"".join(found) == body
    whole, end = [], 0
    while match := BLOCK.match(body, end):
        whole.append(match.group())
        end = match.end()
    assert found == [*whole, *([body[end:]] if end < len(body) else [])]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 99), st.sampled_from([TEXT, BINARY]), st.binary(max_size=30)
        ),
        max_size=8,
        unique_by=lambda one: one[0],
    )
)
def test_messages_come_out_of_their_frames_as_they_went_in(
    parts: list[tuple[int, int, bytes]],
) -> None:
    sent = [Message(*one) for one in sorted(parts)]
    raw = b"".join(frame(*one) for one in sent)
    assert messages(raw) == sent
    ends = [len(b"".join(frame(*one) for one in sent[:n])) for n in range(len(sent))]
    for at in range(len(raw)):
        whole = sum(end <= at for end in ends) - 1
        assert messages(raw[:at], cut=True) == sent[:whole]
        if at not in ends:
            with pytest.raises(MalformedError, match="whole frames, got one cut at"):
                messages(raw[:at])


@pytest.mark.parametrize("cut", [True, False])
@pytest.mark.parametrize(
    "second",
    [frame(5, TEXT, b""), frame(4, TEXT, b""), frame(6, 0, b""), frame(6, 3, b"")],
)
def test_frames_out_of_order_or_of_no_kind_are_refused(
    second: bytes, cut: bool
) -> None:
    with pytest.raises(
        MalformedError, match="expected frames in order, got another at byte 10"
    ):
        messages(frame(5, BINARY, b"x") + second, cut=cut)


@given(st.binary(max_size=60))
def test_any_bytes_are_messages_or_our_error(raw: bytes) -> None:
    try:
        found = messages(raw)
    except MalformedError:
        return
    assert b"".join(frame(*one) for one in found) == raw


@pytest.mark.parametrize(
    ("body", "is_it"),
    [
        (b"", True),
        ("Zürich €".encode(), True),
        ("Zürich €".encode()[:-1], True),
        ("€".encode()[:-1] + b"\n", False),
        (b"\x1f\x8b\x08", False),
        (b"\xff", False),
    ],
)
def test_text_may_be_cut_inside_its_last_character(body: bytes, is_it: bool) -> None:
    assert is_text(body) is is_it


@pytest.mark.parametrize(
    ("media_type", "is_it"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream ; charset=utf-8", True),
        ("text/event-stream+json", False),
        ("text/plain", False),
        ("", False),
    ],
)
def test_what_is_an_event_stream(media_type: str, is_it: bool) -> None:
    assert is_event_stream(media_type) is is_it


@pytest.mark.parametrize(
    ("split", "body", "expected"),
    [
        ("json", b'{"a":1}', [("response/a", b"1")]),
        ("sse", b"a\n\nb", [("response#0", b"a\n\n"), ("response#1", b"b")]),
        ("ws", b"", []),
        ("ws", TWO, [("response#0", b""), ("response#1", b"b")]),
        ("chunks", b"ab", [("response#0", b"ab")]),
        ("json", b"1 2", None),
        ("sse", b"", None),
        ("sse", b"\x1f\x8b\n\n", None),
        ("ws", frame(3, TEXT, b"")[:-1], None),
        ("sse", b"\n" * MAX_PIECES + b"a", None),
        ("ws", b"".join(frame(n, TEXT, b"") for n in range(MAX_PIECES + 1)), None),
    ],
    ids=range(11),
)  # fmt: skip
def test_a_body_is_split_as_it_is_said_to_be_or_not_at_all(
    split: str, body: bytes, expected: list[tuple[str, bytes]] | None
) -> None:
    assert split_body(split, "response", body, 1) == expected


def test_as_many_pieces_as_may_be_are_leaves() -> None:
    found = split_body("sse", "request", b"\n" * MAX_PIECES, 1)
    assert found is not None
    assert len(found) == MAX_PIECES == 65_536
    assert found[-1] == ("request#65535", b"\n")


def test_with_more_of_them_the_rest_is_one_so_that_a_million_cost_no_more() -> None:
    body = b"\n" * (MAX_PIECES + 9)
    assert split_body("sse", "request", body, 1) is None
    found = blocks(body)
    assert len(found) == MAX_PIECES + 1
    assert b"".join(found) == body
