"""The tap: what each order of messages says about a call."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.exchange import Body
from auditlog.capture.tap import Message, Tap

SECRET = bytes(32)


def make(*, head: bool = False, trailers: bool = False) -> Tap:
    request, response = Body(SECRET, 0, 1 << 20), Body(SECRET, 1, 1 << 20)
    return Tap(request, response, head=head, trailers=trailers)


def start(status: int = 200, *headers: tuple[bytes, bytes], **more: Any) -> Message:
    message = {"type": "http.response.start", "status": status, "headers": headers}
    return {**message, **more}


def part(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def length(size: int) -> tuple[bytes, bytes]:
    return (b"content-length", b"%d" % size)


def test_a_plain_answer_ends_with_its_last_body() -> None:
    tap = make()
    assert [
        tap.sent(start()),
        tap.sent(part(b"a", more=True)),
        tap.sent(part(b"b")),
    ] == [
        False,
        False,
        True,
    ]
    assert tap.conclude("error") == "completed"
    assert tap.response.kept() == b"ab"
    assert tap.response.state == "complete"
    assert tap.status == 200


def test_content_length_ends_the_answer_before_its_last_message() -> None:
    tap = make()
    tap.sent(start(200, length(3)))
    assert not tap.sent(part(b"ab", more=True))
    assert tap.sent(part(b"c", more=True))
    assert tap.conclude("incomplete") == "completed"
    assert tap.response.state == "complete"


def test_an_answer_shorter_than_announced_is_incomplete() -> None:
    tap = make()
    tap.sent(start(200, length(3)))
    assert tap.sent(part(b"ab"))
    assert tap.conclude("error") == "incomplete"
    assert tap.response.state == "partial"


@pytest.mark.parametrize("value", [b"+3", b"3x", b"", b"-1", b"9" * 19, b"\xb2"])
def test_a_content_length_that_is_no_number_is_ignored(value: bytes) -> None:
    tap = make()
    tap.sent(start(200, (b"content-length", value)))
    assert not tap.sent(part(b"abc", more=True))
    assert tap.sent(part())
    assert tap.conclude("error") == "completed"


@pytest.mark.parametrize(
    ("message", "head", "state"),
    [
        (start(204), False, "complete"),
        (start(304, length(9)), False, "complete"),
        (start(200, length(0)), False, "complete"),
        (start(200, length(31)), True, "omitted"),
    ],
)
def test_where_no_body_can_follow_the_start_is_the_end(
    message: Message, head: bool, state: str
) -> None:
    tap = make(head=head)
    assert tap.sent(message)
    assert tap.conclude("error") == "completed"
    assert tap.response.state == state
    assert tap.response.kept() == b""


def test_a_body_sent_for_head_is_not_recorded() -> None:
    tap = make(head=True)
    tap.sent(start())
    assert not tap.sent(part(b"never delivered"))
    tap.conclude("error")
    assert (tap.response.state, tap.response.kept()) == ("omitted", b"")


def test_announced_trailers_are_the_end() -> None:
    tap = make(trailers=True)
    trailer = {"type": "http.response.trailers", "headers": []}
    assert not tap.sent(start(200, length(1), trailers=True))
    assert not tap.sent(part(b"a"))
    assert not tap.sent({**trailer, "more_trailers": True})
    assert tap.sent(trailer)
    assert tap.conclude("error") == "completed"


def test_trailers_that_never_come_leave_a_whole_body() -> None:
    tap = make(trailers=True)
    tap.sent(start(200, trailers=True))
    tap.sent(part(b"a"))
    assert not tap.ended
    assert tap.conclude("incomplete") == "completed"
    assert tap.response.state == "complete"


def test_trailers_that_the_server_cannot_send_do_not_delay_the_end() -> None:
    tap = make(trailers=False)
    tap.sent(start(200, trailers=True))
    assert tap.sent(part(b"a"))
    assert not tap.sent({"type": "http.response.trailers", "headers": []})


@pytest.mark.parametrize(
    "kind", ["http.response.pathsend", "http.response.zerocopysend"]
)
def test_a_body_that_does_not_pass_is_not_observed(kind: str) -> None:
    tap = make()
    tap.sent(start(200, length(9)))
    assert tap.sent({"type": kind, "path": "/tmp/x", "file": 3})
    assert tap.conclude("error") == "completed"
    assert tap.response.state == "not_observed"


def test_a_disconnect_before_the_end_wins_over_a_clean_end() -> None:
    tap = make()
    tap.sent(start())
    tap.sent(part(b"a", more=True))
    tap.received({"type": "http.disconnect"})
    assert tap.sent(part())
    assert tap.conclude("incomplete") == "client_disconnected"
    assert tap.response.state == "partial"


def test_a_disconnect_after_the_end_says_nothing() -> None:
    tap = make()
    tap.sent(start())
    tap.sent(part(b"a"))
    tap.received({"type": "http.disconnect"})
    assert tap.conclude("error") == "completed"
    assert tap.response.state == "complete"


@pytest.mark.parametrize("ending", ["error", "incomplete", "interrupted"])
@pytest.mark.parametrize("started", [False, True])
def test_an_answer_without_an_end_ends_as_its_call(ending: Any, started: bool) -> None:
    tap = make()
    if started:
        tap.sent(start())
        tap.sent(part(b"a", more=True))
    assert tap.conclude(ending) == ending
    assert tap.status == (200 if started else None)
    assert tap.response.state == ("partial" if started else "not_observed")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "completed"),
        (302, "completed"),
        (404, "completed"),
        (401, "rejected"),
        (403, "rejected"),
        (422, "rejected"),
        (429, "rejected"),
        (500, "error"),
        (503, "error"),
    ],
)
def test_the_status_of_a_whole_answer_decides(status: int, outcome: str) -> None:
    tap = make()
    tap.sent(start(status))
    tap.sent(part(b"x"))
    assert tap.conclude("incomplete") == outcome


def test_request_states() -> None:
    unread, partial, complete, empty = make(), make(), make(), make()
    partial.received({"type": "http.request", "body": b"a", "more_body": True})
    for message in (
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b", "more_body": True},
        {"type": "http.request"},
    ):
        complete.received(message)
    empty.received({"type": "http.request"})
    taps = (unread, partial, complete, empty)
    assert [tap.request.state for tap in taps] == [
        "unread",
        "partial",
        "complete",
        "complete",
    ]
    assert [tap.request.kept() for tap in taps] == [b"", b"a", b"ab", b""]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bodies_may_be_any_bytes_and_are_copied(kind: Any) -> None:
    tap = make()
    data = bytearray(b"score")
    view: Any = memoryview(data) if kind is memoryview else kind(data)
    tap.received({"type": "http.request", "body": view})
    tap.sent(start())
    tap.sent(part(view))
    if kind is not bytes:
        (view if kind is bytearray else data)[0:1] = b"X"
    assert tap.request.kept() == tap.response.kept() == b"score"


def test_names_of_headers_may_be_in_any_case_and_twice() -> None:
    tap = make()
    tap.sent(start(200, (b"Content-Type", b"text/plain"), (b"CONTENT-LENGTH", b"1")))
    assert tap.response.media_type == "text/plain"
    assert tap.sent(part(b"x", more=True))


def test_codings_are_read_in_order_and_in_any_case() -> None:
    tap = make()
    tap.sent(start(200, (b"Content-Encoding", b"br"), (b"content-encoding", b"gzip")))
    assert tap.response.coding == "br, gzip"
    assert make().response.coding is None


def test_messages_without_keys_and_unknown_ones_are_ignored() -> None:
    tap = make()
    tap.received({})
    tap.received({"type": "vendor.event", "body": b"x"})
    for kind in ("http.response.debug", "http.response.push", "vendor.x", None):
        assert not tap.sent({"type": kind, "body": b"x"})
    assert not tap.sent({})
    assert not tap.sent({"type": "http.response.start"})
    assert tap.sent({"type": "http.response.body"})
    assert tap.conclude("error") == "completed"


def test_headers_of_the_same_size_are_not_taken_for_others() -> None:
    tap = make()
    tap.sent(start(200, (b"x-request-id", b"7"), (b"accept-charset", b"1")))
    assert tap.response.media_type is None
    assert not tap.sent(part(b"x", more=True))


@pytest.mark.parametrize(("digits", "ends"), [(18, True), (19, False)])
def test_a_content_length_has_a_limit(digits: int, ends: bool) -> None:
    tap = make()
    tap.sent(start(200, (b"content-length", b"1".zfill(digits))))
    assert tap.sent(part(b"x", more=True)) is ends


def test_only_the_first_start_counts() -> None:
    tap = make()
    tap.sent(start(200, (b"content-type", b"text/plain")))
    tap.sent(start(500, (b"content-type", b"text/html"), length(0)))
    assert (tap.status, tap.response.media_type, tap.ended) == (
        200,
        "text/plain",
        False,
    )


def test_a_fault_makes_nothing_more_complete_than_it_was() -> None:
    for faulty, before in itertools.product([False, True], ["read", "unread"]):
        tap = make()
        if before == "read":
            tap.received({"type": "http.request", "body": b"a"})
        tap.faulty = faulty
        tap.conclude("incomplete")
        expected = "unread" if before == "unread" else "partial"
        assert tap.request.state == (
            expected if faulty or before == "unread" else "complete"
        )


def test_after_a_fault_no_body_counts_as_complete() -> None:
    tap = make()
    tap.received({"type": "http.request", "body": b"a"})
    tap.sent(start())
    with pytest.raises(TypeError, match="string"):
        tap.sent({"type": "http.response.body", "body": "text", "more_body": True})
    tap.faulty = True
    tap.sent(part(b"b"))
    assert tap.conclude("error") == "completed"
    assert (tap.request.state, tap.response.state) == ("partial", "partial")


EVENTS: list[tuple[str, Message]] = [
    ("in", {"type": "http.request", "body": b"q"}),
    ("in", {"type": "http.disconnect"}),
    ("out", start()),
    ("out", part(b"a", more=True)),
    ("out", part(b"z")),
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(len(EVENTS)))))
def test_every_order_of_messages_is_followed(order: tuple[int, ...]) -> None:
    tap, ended, left = make(), False, False
    expected = b""
    for which in order:
        direction, message = EVENTS[which]
        if direction == "in":
            left = left or (message["type"] == "http.disconnect" and not ended)
            tap.received(message)
            continue
        if ended:
            continue  # the middleware stops looking at the end
        expected += message.get("body", b"")
        ended = tap.sent(message)
        assert ended == (message is EVENTS[4][1])
    assert tap.response.kept() == expected
    assert tap.conclude("error") == ("client_disconnected" if left else "completed")


@given(
    chunks=st.lists(st.binary(max_size=40), max_size=30),
    limit=st.integers(0, 200),
    announce=st.booleans(),
)
def test_any_cut_of_a_body_gives_the_same_record(
    chunks: list[bytes], limit: int, announce: bool
) -> None:
    whole = b"".join(chunks)
    bodies = []
    for cut in (chunks, [whole]):
        tap = Tap(
            Body(SECRET, 0, limit), Body(SECRET, 1, limit), head=False, trailers=False
        )
        headers = (length(len(whole)),) if announce else ()
        ends = [tap.sent(start(200, *headers))]
        ends += [tap.sent(part(one, more=True)) for one in cut] + [tap.sent(part())]
        assert ends.count(True) == 1
        assert tap.conclude("error") == "completed"
        bodies.append(tap.response)
    assert [body.size for body in bodies] == [len(whole)] * 2
    assert bodies[0].kept() == bodies[1].kept() == whole[:limit]
    assert bodies[0].leaf_hash() == bodies[1].leaf_hash()
