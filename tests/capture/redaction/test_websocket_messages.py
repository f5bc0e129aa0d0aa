"""Messages of a WebSocket: what goes, and what stays as it is."""

import json
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlog.capture.redaction.choke import ChokePoint
from auditlog.capture.redaction.rules import REDACTED, parse_rules
from auditlog.core.pieces import BINARY, TEXT, Message, frame, messages

CANARY = "jane.doe@canary.example"


def choke(
    *patterns: str, keys: tuple[str, ...] = (), unreadable: Literal["drop", "keep"]
) -> ChokePoint:
    return ChokePoint(parse_rules(keys=keys, patterns=patterns, unreadable=unreadable))


def framed(*payloads: str | bytes) -> bytes:
    """Messages of one direction; of the other there is one between each two."""
    return b"".join(
        frame(2 * number, TEXT, payload.encode())
        if isinstance(payload, str)
        else frame(2 * number, BINARY, payload)
        for number, payload in enumerate(payloads)
    )


def redacted(
    raw: bytes, *, unreadable: Literal["drop", "keep"] = "drop", cut: bool = False
) -> bytes:
    point = choke("email", keys=("ssn",), unreadable=unreadable)
    after = point.body("request", raw, None, framed=True, cut=cut)
    assert after is not None
    return after


def payloads(raw: bytes) -> list[bytes]:
    return [message.payload for message in messages(raw)]


def test_one_message_changes_and_the_others_are_the_same_bytes() -> None:
    raw = framed("hello", f"I am {CANARY}", '{ "a" : [1,2] }', b" bytes", "")
    assert redacted(raw) == framed(
        "hello", "I am [redacted]", '{ "a" : [1,2] }', b" bytes", ""
    )


def test_where_nothing_is_found_it_is_the_same() -> None:
    raw = framed("hello", b"\xc3\xa9", '{"a": "b"}')
    assert redacted(raw) == raw


def test_what_goes_on_from_message_to_message_goes_from_all_of_them() -> None:
    deltas = [
        json.dumps({"delta": text}) for text in ("to ja", "ne.doe@", "canary.com")
    ]
    after = [json.loads(one)["delta"] for one in payloads(redacted(framed(*deltas)))]
    assert after == ["to [redacted]", "", ""]
    assert payloads(redacted(framed("to ja", "ne.doe@", "canary.com"))) == [
        b"to [redacted]",
        b"",
        b"",
    ]


def test_order_and_kind_of_messages_stay() -> None:
    raw = framed(f"{CANARY}", CANARY.encode(), b"\x00\xff", "x")
    before, after = messages(raw), messages(redacted(raw))
    assert [one[:2] for one in before] == [one[:2] for one in after]


def test_binary_messages_that_are_no_text_are_not_stored() -> None:
    raw = framed("x", b"\x00\xff", b"jane.d", "y")
    assert redacted(raw) == framed("x", REDACTED.encode(), REDACTED.encode(), "y")
    assert redacted(raw, unreadable="keep") == raw


def test_binary_messages_with_zeros_are_no_text() -> None:
    wide = framed(CANARY.encode("utf-16-le"))
    assert redacted(wide) == framed(REDACTED.encode())


def test_binary_messages_that_are_text_are_searched() -> None:
    raw = framed(CANARY.encode(), b'{"ssn": 123}')
    assert redacted(raw) == framed(b"[redacted]", b'{"ssn": "[redacted]"}')


def test_a_message_that_is_cut_is_left_out() -> None:
    raw = framed("hello", f"I am {CANARY}")
    for size in range(len(raw)):
        after = redacted(raw[:size])
        assert b"jane" not in after
        assert messages(after) in ([], [Message(0, TEXT, b"hello")])


def test_what_may_go_on_behind_a_cut_is_left_out() -> None:
    after = redacted(framed("I am ", "jane", ".do"), cut=True)
    assert b"jane" not in after
    assert len(messages(after)) == 3


@pytest.mark.parametrize("raw", [frame(0, 3, b"x"), frame(1, TEXT, b"") * 2])
def test_what_is_no_frames_is_withheld(raw: bytes) -> None:
    point = choke("email", unreadable="drop")
    assert point.body("request", raw, None, framed=True) is None


@given(cuts=st.lists(st.integers(0, len(CANARY) + 8), max_size=6), json_=st.booleans())
@settings(max_examples=100)
def test_however_a_value_is_split_nothing_of_it_is_left(
    cuts: list[int], json_: bool
) -> None:
    whole = f"It's {CANARY} ok"
    bounds = [0, *sorted(cuts), len(whole)]
    parts = [whole[one:end] for one, end in pairwise(bounds)]
    sent = [json.dumps({"text": one}) if json_ else one for one in parts]
    after = [one.decode() for one in payloads(redacted(framed(*sent)))]
    assert len(after) == len(parts)
    said = "".join(json.loads(one)["text"] if json_ else one for one in after)
    assert said == "It's [redacted] ok"


@given(raw=st.binary(max_size=120), cut=st.booleans())
@settings(max_examples=100)
def test_any_bytes_give_whole_frames_or_nothing(raw: bytes, cut: bool) -> None:
    point = choke("email", keys=("ssn",), unreadable="drop")
    after = point.body("request", raw, None, framed=True, cut=cut)
    if after is not None:
        assert len(messages(after)) == len(messages(raw, cut=True))
