"""Events of a stream are those of the standard, wherever its bytes are cut."""

import re
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture import events
from auditlog.capture.events import Event, EventParser, read_events, read_lines
from auditlog.capture.reading import Traffic
from auditlog.core import pieces

EVERYTHING = (
    "\ufeffdata: one\n\n"
    ": ping\n\n"
    "event: delta\r\ndata:two\r\ndata:  lines\r\n\r\n"
    "id: 7\rretry: 10\rdata: é\U0001f600\r\r"
    "data\n\nevent: nothing\n\nother: x\ndata: \n\n\n\ndata: last\n\n"
).encode()
SAID: list[Event] = [
    ("message", "one"),
    ("delta", "two\n lines"),
    ("message", "é\U0001f600"),
    ("message", ""),
    ("message", ""),
    ("message", "last"),
]
alphabet = st.sampled_from(
    [
        *(b"\r", b"\n", b"\r\n", b"\n\n", b":", b" ", b"data", b"data: x", b"event: e"),
        *(
            b"id: 1",
            "é".encode(),
            b"\xc3",
            b"\xff",
            "\ufeff".encode(),
            b": c",
            b"data:y",
        ),
    ]
)
bodies = st.lists(alphabet, max_size=24).map(b"".join)


def naive(body: bytes) -> list[Event]:
    """WHATWG HTML §9.2.6 as it is written, line by line over the whole text."""
    text = body.decode("utf-8", "replace")
    text = text[1:] if text[:1] == "\ufeff" else text
    found, name, data = [], "", ""
    for line in re.split("\r\n|\r|\n", text)[:-1]:
        if line == "":
            if data != "":
                found.append((name or "message", data[:-1]))
            name, data = "", ""
        elif line[0] != ":":
            field, _, value = line.partition(":")
            value = value[1:] if value[:1] == " " else value
            if field == "event":
                name = value
            elif field == "data":
                data += value + "\n"
    return found


def parsed(*fed: bytes) -> list[Event]:
    parser = EventParser()
    return [event for piece in fed for event in parser.feed(piece)]


def test_events_are_read_as_the_standard_says() -> None:
    assert parsed(EVERYTHING) == SAID == naive(EVERYTHING)


def test_any_two_cuts_give_the_same_events() -> None:
    for one, two in combinations(range(len(EVERYTHING) + 1), 2):
        cut = EVERYTHING[:one], EVERYTHING[one:two], EVERYTHING[two:]
        assert parsed(*cut) == SAID, (one, two)


def test_byte_by_byte_gives_the_same_events() -> None:
    assert parsed(*(bytes([byte]) for byte in EVERYTHING)) == SAID


@given(bodies, st.lists(st.integers(0, 80), max_size=6))
def test_any_bytes_cut_anywhere_are_read_as_the_naive_reader_reads_them(
    body: bytes, cuts: list[int]
) -> None:
    ends = [0, *sorted(cuts), len(body)]
    fed = [body[a:b] for a, b in pairwise(ends)]
    assert parsed(*fed) == naive(body) == parsed(body)


@given(bodies)
def test_each_event_lies_in_one_block_of_the_commitment(body: bytes) -> None:
    parser = EventParser()
    told = [parser.feed(block) for block in pieces.blocks(body)]
    assert all(len(one) <= 1 for one in told)
    assert [event for one in told for event in one] == naive(body)


@pytest.mark.parametrize(
    ("body", "rest"),
    [
        (b"data: a\n\n", None),
        (b"data: a\n\n: ping\n", None),
        (b"data: a\n\nevent: end\n", None),
        (b"data: [DONE]", ("message", "[DONE]")),
        (b"data: [DONE]\n", ("message", "[DONE]")),
        (b"data: [DONE]\r", ("message", "[DONE]")),
        (b"event: stop\ndata: {", ("stop", "{")),
        (b"data: a\ndata: b", ("message", "a\nb")),
        (b"dat", None),
    ],
)
def test_what_follows_the_last_empty_line_is_no_event_but_can_be_asked_for(
    body: bytes, rest: Event | None
) -> None:
    assert read_events(Traffic(path="/", response=body)).rest == rest


def test_of_a_long_name_the_beginning_is_kept() -> None:
    (event,) = EventParser().feed(b"event: " + b"n" * 300 + b"\ndata: x\n\n")
    assert event == ("n" * 256, "x")


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_EVENT", 64)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(
    "block",
    [
        b"event: done\ndata: " + b"x" * 100,
        b"data: " + b"x" * 100 + b"\nevent: done",
        b"event: done\n" + b"data: xx\n" * 9 + b"data: x",
        b": " + b"x" * 100 + b"\nevent: done\ndata: x",
    ],
)
def test_an_event_that_is_too_large_keeps_its_name_and_loses_its_data(
    block: bytes,
) -> None:
    body = block + b"\n\ndata: next\n\n"
    said = [("done", ""), ("message", "next")]
    for cut in range(len(body) + 1):
        assert parsed(body[:cut], body[cut:]) == said, cut
    assert parsed(*(bytes([byte]) for byte in body)) == said
    assert read_events(Traffic(path="/", response=body)).partial


def test_what_is_held_of_an_endless_line_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "MAX_EVENT", 1000)
    parser = EventParser()
    for _ in range(100):
        assert parser.feed(b"data: " + b"x" * 100) == []
    assert parser.oversized
    assert sum(map(len, parser._line)) < 1000


def test_after_the_gap_of_a_long_stream_events_begin_at_a_block() -> None:
    traffic = Traffic(
        path="/",
        response=b"data: 1\n\ndata: 2\n\ndata: cut",
        tail=b"ta: half\n\ndata: 8\n\ndata: 9\n\n",
        capped=True,
    )
    stream = read_events(traffic)
    assert [data for _, data in stream.events] == ["1", "2", "8", "9"]
    assert stream.partial
    assert stream.rest is None


@pytest.mark.parametrize("tail", [b"", b"data: 8", b"8\r\ndata: 9\r\n"])
def test_a_tail_without_an_empty_line_adds_no_event(tail: bytes) -> None:
    traffic = Traffic(path="/", response=b"data: 1\n\n", tail=tail, capped=True)
    assert read_events(traffic).events == [("message", "1")]


def test_a_tail_without_a_gap_continues_the_body() -> None:
    traffic = Traffic(path="/", response=b"data: 1\n\ndat", tail=b"a: 2\n\n")
    stream = read_events(traffic)
    assert [data for _, data in stream.events] == ["1", "2"]
    assert not stream.partial


def test_lines_are_whole_when_they_end() -> None:
    traffic = Traffic(path="/", response=b'{"a":1}\r\n\n {"b":2} \n{"c"')
    assert read_lines(traffic) == ([b'{"a":1}', b'{"b":2}'], b'{"c"', False)


def test_lines_around_a_gap_are_left_out() -> None:
    traffic = Traffic(path="/", response=b"1\n2\n3", tail=b"8\n9\n", capped=True)
    assert read_lines(traffic) == ([b"1", b"2", b"9"], b"", True)
    assert read_lines(Traffic(path="/", response=b"1\n2", tail=b"3\n4")) == (
        [b"1", b"23"],
        b"4",
        False,
    )
