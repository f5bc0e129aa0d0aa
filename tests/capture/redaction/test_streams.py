"""Server-sent events and JSON by the line: what goes, and what stays as it is."""

import json
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlog.capture.redaction.choke import MAX_BODY, ChokePoint
from auditlog.capture.redaction.rules import REDACTED, parse_rules
from auditlog.core.pieces import blocks

EVENTS = "text/event-stream"
CANARY = "jane.doe@canary.example"
CARD = "4111 1111 1111 1111"


def choke(
    *patterns: str,
    keys: Sequence[str] = (),
    fields: Sequence[str] = (),
    redactors: Sequence[Callable[[str], str]] = (),
) -> ChokePoint:
    return ChokePoint(
        parse_rules(keys=keys, fields=fields, patterns=patterns, redactors=redactors)
    )


def redacted(
    point: ChokePoint,
    stream: bytes,
    media_type: str = EVENTS,
    *,
    cut: bool = False,
) -> bytes:
    after = point.body("response", stream, media_type, framed=False, cut=cut)
    assert after is not None
    return after


def stream(*data: str) -> bytes:
    return "".join(f"data: {one}\n\n" for one in data).encode()


def chunk(text: str, index: int = 0, **more: object) -> str:
    choice = {"index": index, "delta": {"content": text}}
    return json.dumps({"id": "chatcmpl-1", "choices": [choice], **more})


def said(body: bytes, index: int = 0) -> str:
    """What a client puts together of one choice."""
    found = ""
    for block in blocks(body):
        data = block.decode().removeprefix("data: ").strip()
        for choice in json.loads(data)["choices"]:
            if choice["index"] == index:
                found += choice["delta"]["content"]
    return found


def test_one_event_changes_and_the_others_are_the_same_bytes() -> None:
    first, third = b": ping\r\n\r\n", b"id: 7\rdata:{}\r\r"
    second = f"event: answer\ndata: write to {CANARY}\n\n".encode()
    after = redacted(choke("email"), first + second + third)
    assert after == first + b"event: answer\ndata: write to [redacted]\n\n" + third


def test_where_nothing_is_found_it_is_the_same() -> None:
    body = b"\xef\xbb\xbfdata\ndata: a\ndata:  b\r\n\r\n\r\n:\n:c\nretry: 3\nodd\n\n"
    body += b"data: {"
    assert redacted(choke("email"), body) == body


def test_a_value_that_a_model_writes_in_many_events_goes_from_all_of_them() -> None:
    parts = ["Write to ja", "ne", ".doe@can", "ary.exam", "ple today"]
    after = redacted(choke("email"), stream(*map(chunk, parts)))
    assert said(after) == "Write to [redacted] today"
    contents = [json.loads(block[6:])["choices"][0]["delta"] for block in blocks(after)]
    assert [one["content"] for one in contents] == [
        "Write to [redacted]",
        "",
        "",
        "",
        " today",
    ]


def test_answers_that_come_at_once_are_told_apart_by_their_index() -> None:
    parts = [("ja", "4111 1111"), ("ne.doe@", " 1111 "), ("canary.example", "1111")]
    data = [chunk(part, index) for both in parts for index, part in enumerate(both)]
    after = redacted(choke("email", "card"), stream(*data))
    assert (said(after, 0), said(after, 1)) == (REDACTED, REDACTED)


def test_an_index_that_counts_tokens_keeps_no_value_apart() -> None:
    data = [
        json.dumps({"index": number, "token": {"id": 70 + number, "text": text}})
        for number, text in enumerate(("ja", "ne.doe@", "canary.example", " and"))
    ]
    after = redacted(choke("email"), stream(*data)).decode()
    texts = [json.loads(line[6:])["token"]["text"] for line in after.split("\n\n")[:-1]]
    assert texts == [REDACTED, "", "", " and"]


def test_an_answer_that_begins_in_another_place_goes_on_in_its_deltas() -> None:
    start = {"index": 0, "content_block": {"type": "text", "text": "jane.d"}}
    delta = {"index": 0, "delta": {"type": "text_delta", "text": "oe@canary.example"}}
    after = redacted(choke("email"), stream(json.dumps(start), json.dumps(delta)))
    assert b"jane" not in after
    assert b"canary" not in after


def test_plain_data_goes_on_from_event_to_event() -> None:
    after = redacted(choke("card"), stream("pay with 4111", " 1111 11", "11 1111 now"))
    assert after == stream("pay with [redacted]", "", " now")


def test_words_in_quotes_among_plain_data_are_plain() -> None:
    after = redacted(choke("email"), stream("jane", '"."', "doe@canary.example"))
    assert b"canary" not in after


def test_data_of_several_lines_stays_one_event() -> None:
    body = f"data: to\r\ndata:{CANARY}\r\ndata: bye\r\n\r\ndata: x\r\n\r\n".encode()
    after = redacted(choke("email"), body)
    assert after == b"data: to\r\ndata:[redacted]\r\ndata: bye\r\n\r\ndata: x\r\n\r\n"


def test_a_match_over_a_line_break_leaves_a_comment_for_a_line() -> None:
    body = b"data: a SECRET\ndata: CODE b\n\ndata: c\n\n"
    after = redacted(choke(r"SECRET\s+CODE"), body)
    assert after == b"data: a [redacted] b\n:\n\ndata: c\n\n"


def test_what_a_callable_returns_ends_no_event() -> None:
    point = choke(redactors=[lambda text: text.replace("x", "1\n\n2\r3")])
    after = redacted(point, b": x\nx\nid: x\ndata: x\n\ndata: y\n\n")
    assert len(blocks(after)) == 2
    assert after.endswith(b"data: y\n\n")


def test_a_callable_that_leaves_nothing_ends_no_event() -> None:
    point = choke(redactors=[lambda text: text.replace("gone", "")])
    after = redacted(point, b"data: a\ngone\ndata: gone\n\ndata: y\n\n")
    assert len(blocks(after)) == 2


@pytest.mark.parametrize("line", [": {}", "id: {}", "event: {}", "other: {}", "{}"])
def test_lines_that_are_no_data_are_searched(line: str) -> None:
    after = redacted(choke("email"), f"{line.format(CANARY)}\ndata: 1\n\n".encode())
    assert after == f"{line.format(REDACTED)}\ndata: 1\n\n".encode()


def test_fields_are_named_as_members_are() -> None:
    after = redacted(choke(keys=["ssn"]), b"ssn: 078-05-1120\ndata: 1\n\n")
    assert after == b"ssn: [redacted]\ndata: 1\n\n"


def test_half_a_call_of_a_tool_is_put_together_and_read() -> None:
    pieces = ('{"ss', 'n": "078', '-05-1120"', ', "city": "Bern"}')
    calls = [
        json.dumps({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        for piece in pieces
    ]
    after = redacted(choke(keys=["ssn"]), stream(*calls))
    found = [
        json.loads(block[6:])["tool_calls"][0]["function"]["arguments"]
        for block in blocks(after)
    ]
    assert json.loads("".join(found)) == {"ssn": REDACTED, "city": "Bern"}
    assert b"078" not in after
    assert b"1120" not in after


@pytest.mark.parametrize(
    "whole",
    [
        '{"ssn": 78051120}',
        '{"a": {"SSN": ["078051120", 1]}} trailing',
        '{"s\\u0073n": "078051120"',
        "{'ssn': '078051120', 'x': None}",
        'as in {"ssn": "078051120"}',
        '{"a": 1}{"ssn": {"b": "078051120"',
    ],
)
@pytest.mark.parametrize("size", [1, 5, 100])
def test_named_values_in_plain_data_go_however_it_is_cut(whole: str, size: int) -> None:
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    after = redacted(choke(keys=["ssn"]), stream(*pieces)).decode()
    joined = after.replace("data: ", "").replace("\n\n", "")
    assert "78" not in joined
    assert "1120" not in joined


def test_an_event_in_which_json_breaks_off_goes_where_others_are_json() -> None:
    body = stream(chunk("jane.doe@"), chunk("canary.example"))[:-8]
    after = redacted(choke("email"), body)
    assert b"canary" not in after


def test_what_is_cut_loses_what_may_go_on() -> None:
    body = stream(*(chunk(text) for text in ("x" * 5000, "mail jane.d", "oe@can")))
    after = redacted(choke("email"), body, cut=True)
    assert b"jane" not in after
    assert len(blocks(after)) == 3


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("media", [EVENTS, "application/x-ndjson"])
def test_wherever_it_is_cut_no_value_survives(media: str, known: bool) -> None:
    """Not the canary of a pattern, in pieces, nor that of a name, nor most of one."""
    parts = [
        "mail ja",
        "ne.doe@",
        "canary.example",
        " and ",
        '{"ss',
        'n": "078',
        '-05"',
    ]
    data = [chunk(part, ssn="111-22-3333", café="é") for part in parts]
    end = "\n\n" if media == EVENTS else "\n"
    start = "data: " if media == EVENTS else ""
    body = "".join(start + one + end for one in data).encode()
    point = choke("email", keys=["ssn"])
    for size in range(known, len(body), 2):
        after = redacted(point, body[:size], media, cut=known)
        assert b"111-2" not in after
        whole = "".join(re.findall('"content": "(.*?)"}', after.decode()))
        assert "jane.doe@canary" not in whole.replace("\\", "")
        assert "078" not in whole.replace("\\", "")


def test_of_a_character_that_is_cut_nothing_stays() -> None:
    assert redacted(choke("email"), b"data: Ann\xc3") == b"data: [redacted]"


def test_a_body_beyond_the_bound_is_not_looked_at_and_not_stored() -> None:
    body = b"data: x\n\n" + b":" + b"y" * MAX_BODY + CANARY.encode()
    after = redacted(choke("email"), body)
    assert len(after) <= MAX_BODY
    assert b"canary" not in after


def test_events_are_known_by_their_look() -> None:
    after = redacted(
        choke("email"), stream("jane.doe@", "canary.example"), "text/plain"
    )
    assert after == stream(REDACTED, "")


def test_what_is_no_text_is_withheld() -> None:
    body = b"data: \xff\n\n"
    assert choke("email").body("response", body, EVENTS, framed=False) is None


def test_a_callable_that_fails_withholds_all() -> None:
    def fail(text: str) -> str:
        raise ValueError(CANARY)

    for body in (stream("a"), stream(chunk("a"))):
        point = choke(redactors=[fail])
        assert point.body("response", body, EVENTS, framed=False) is None


def test_json_by_the_line_is_put_together_likewise() -> None:
    lines = [
        json.dumps({"message": {"content": text}, "done": False})
        for text in ("ja", "ne.doe@cana", "ry.example", " ok")
    ]
    body = "\r\n".join(["", *lines, ""]).encode()
    after = redacted(choke("email"), body, "application/x-ndjson; charset=utf-8")
    contents = [
        json.loads(line)["message"]["content"] for line in after.split(b"\r\n")[1:-1]
    ]
    assert contents == [REDACTED, "", "", " ok"]


def test_a_sequence_of_json_keeps_its_separators() -> None:
    body = b'\x1e{"ssn": "1"}\n\x1e{"a": "b"}\n'
    after = redacted(choke(keys=["ssn"]), body, "application/json-seq")
    assert after == b'\x1e{"ssn": "[redacted]"}\n\x1e{"a": "b"}\n'


ENDS = st.sampled_from(["\n", "\r\n", "\r"])
FILLERS = st.sampled_from(["", " ", "Dear ", "é ", "\U0001f600 ", 'say "hi" \\ '])


@st.composite
def split_canaries(draw: st.DrawFn) -> tuple[list[str], str]:
    """A canary among other words, cut anywhere into fragments; and the canary."""
    canary = draw(st.sampled_from([CANARY, CARD, "DE89 3704 0044 0532 0130 00"]))
    whole = draw(FILLERS) + canary + " " + draw(FILLERS)
    places = st.integers(0, len(whole))
    cuts = sorted(draw(st.lists(places, max_size=8)))
    bounds = [0, *cuts, len(whole)]
    parts = [whole[one:end] for one, end in pairwise(bounds)]
    return parts, canary


@given(split=split_canaries(), end=ENDS, ascii_=st.booleans(), plain=st.booleans())
@settings(max_examples=150)
def test_however_a_value_is_split_nothing_of_it_is_left(
    split: tuple[list[str], str], end: str, ascii_: bool, plain: bool
) -> None:
    parts, canary = split
    data = (
        parts
        if plain
        else [
            json.dumps({"choices": [{"delta": {"content": one}}]}, ensure_ascii=ascii_)
            for one in parts
        ]
    )
    body = "".join(f"data: {one}{end}{end}" for one in data).encode()
    after = redacted(choke("email", "card", "iban"), body)
    assert len(blocks(after)) == len(blocks(body))
    left = [block.decode() for block in blocks(after)]
    texts = (
        [one.removeprefix("data: ").removesuffix(end + end) for one in left]
        if plain
        else [json.loads(one[6:])["choices"][0]["delta"]["content"] for one in left]
    )
    whole = "".join(texts)
    assert canary not in whole
    kept = whole.split(REDACTED)
    assert "".join(parts).startswith(kept[0])
    assert not any(piece in whole for piece in canary.split() if len(piece) > 3)


@given(
    body=st.binary(max_size=200),
    media=st.sampled_from([EVENTS, "application/jsonl"]),
    cut=st.booleans(),
)
@settings(max_examples=150)
def test_any_bytes_give_bytes_or_nothing(body: bytes, media: str, cut: bool) -> None:
    point = choke("email", keys=["ssn"], fields=["/a/b"], redactors=[str.upper])
    after = point.body("response", body, media, framed=False, cut=cut)
    assert after is None or isinstance(after, bytes)


LINES = st.lists(
    st.sampled_from(
        [
            "",
            "",
            "data: , x,",
            "data:",
            "data",
            ":c",
            "id: 1",
            "odd",
            'data: {"a": "b"}',
            "data: jane.doe@canary.example",
        ]
    ),
    max_size=12,
)


@given(lines=LINES, ends=st.lists(ENDS, min_size=12, max_size=12), bom=st.booleans())
@settings(max_examples=150)
def test_a_stream_keeps_its_blocks_and_those_without_a_find_are_the_same(
    lines: list[str], ends: list[str], bom: bool
) -> None:
    text = "".join(line + end for line, end in zip(lines, ends, strict=False))
    body = (("\ufeff" if bom else "") + text).encode()
    before, after = blocks(body), blocks(redacted(choke("email"), body))
    assert len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        # JSON and more in one event is broken JSON, where others are whole.
        broken = b"{" in one and one.count(b"data") > 1
        assert one == other or b"canary" in one or broken
        assert b"canary" not in other
