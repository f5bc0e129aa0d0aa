"""A WebSocket under its tap: what is recorded of it, and how it ended."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.body import Body
from auditlog.capture.exchange import Exchange
from auditlog.capture.session import MAX_TURNS, SessionTap
from auditlog.core.pieces import BINARY, TEXT, Message, messages
from tests.web.websocket_driver import (
    ACCEPT,
    CONNECT,
    LEFT,
    close,
    denial,
    denial_body,
    heard,
    left,
    said,
)

SECRET = bytes(32)


def exchange() -> Exchange:
    return Exchange(
        id=bytes(16),
        secret=SECRET,
        sequence=0,
        time=0,
        method="GET",
        route=None,
        target=b"/chat",
        request=Body(SECRET, 0, 1 << 20, framed=True),
        response=Body(SECRET, 1, 1 << 20, framed=True),
    )


def follow(*passed: Any, ending: Any = "incomplete") -> tuple[SessionTap, Exchange]:
    """Return a tap that saw this, and its exchange with the outcome in it."""
    tap, one = SessionTap(), exchange()
    tap.begin(one)
    for message in passed:
        _show(tap, message)
    one.outcome = tap.conclude(ending)
    return tap, one


_FROM_SERVER = {f"websocket.{kind}" for kind in ("connect", "receive", "disconnect")}


def _show(tap: SessionTap, message: Any) -> None:
    if message["type"] in _FROM_SERVER:
        tap.received(message)
    else:
        tap.sent(message)


OPEN = (CONNECT, ACCEPT, heard("a"), said("b"))
DENIED = (CONNECT, denial(401), denial_body(b"no"))

ENDS: dict[str, tuple[tuple[Any, ...], str, int | None, str, str]] = {
    "client 1000": ((*OPEN, LEFT), "completed", 101, "complete", "complete"),
    "client 1001": ((*OPEN, left(1001)), "completed", 101, "complete", "complete"),
    "client 1005": ((*OPEN, left(1005, "")), "completed", 101, "complete", "complete"),
    "nothing said": ((CONNECT, ACCEPT, LEFT), "completed", 101, "complete", "complete"),
    "lost": ((*OPEN, left(1006)), "client_disconnected", 101, "partial", "partial"),
    # No close frame came: uvicorn says so of a connection that was lost.
    "no frame": ((*OPEN, left(1005)), "client_disconnected", 101, "partial", "partial"),
    "client 1011": (
        (*OPEN, left(1011, "")),
        "client_disconnected",
        101,
        "partial",
        "partial",
    ),
    "server stops": ((*OPEN, left(1012)), "interrupted", 101, "partial", "partial"),
    "client 1012": (
        (*OPEN, left(1012, "")),
        "client_disconnected",
        101,
        "partial",
        "partial",
    ),
    "closed": ((*OPEN, close()), "completed", 101, "complete", "complete"),
    "closed 1008": ((*OPEN, close(1008)), "completed", 101, "complete", "complete"),
    "closed 1011": ((*OPEN, close(1011)), "error", 101, "complete", "complete"),
    "closed after": (
        (*OPEN, left(1006), close()),
        "client_disconnected",
        101,
        "partial",
        "partial",
    ),
    "left after": (
        (*OPEN, close(), left(1006)),
        "completed",
        101,
        "complete",
        "complete",
    ),
    "not closed": (OPEN, "incomplete", 101, "partial", "partial"),
    "never accepted": ((CONNECT,), "incomplete", None, "unread", "not_observed"),
    "left early": (
        (CONNECT, LEFT),
        "client_disconnected",
        None,
        "unread",
        "not_observed",
    ),
    "denied": ((CONNECT, close(1008)), "rejected", 403, "unread", "not_observed"),
    "denied at once": ((close(1008),), "rejected", 403, "unread", "not_observed"),
    "answered": (DENIED, "rejected", 401, "unread", "complete"),
    "answered 200": (
        (CONNECT, denial(200), denial_body(b"ok")),
        "rejected",
        200,
        "unread",
        "complete",
    ),
    "answered 500": (
        (CONNECT, denial(500), denial_body(b"oh")),
        "error",
        500,
        "unread",
        "complete",
    ),
    "answered half": (DENIED[:2], "incomplete", 401, "unread", "partial"),
    "left in denial": (
        (*DENIED[:2], left(1006)),
        "client_disconnected",
        401,
        "unread",
        "partial",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_how_a_session_ended(end: str) -> None:
    passed, outcome, status, asked, answered = ENDS[end]
    tap, one = follow(*passed)
    assert (one.outcome, tap.status) == (outcome, status)
    assert (one.request.state, one.response.state) == (asked, answered)


@pytest.mark.parametrize("ending", ["error", "incomplete", "interrupted", "completed"])
def test_a_session_that_nobody_closed_ends_as_its_call(ending: Any) -> None:
    _, one = follow(*OPEN, ending=ending)
    assert one.outcome == ending
    whole = "complete" if ending == "completed" else "partial"
    assert (one.request.state, one.response.state) == (whole, whole)


def test_a_message_that_could_not_be_sent_is_a_client_that_left() -> None:
    tap, one = SessionTap(), exchange()
    tap.begin(one)
    for message in (*OPEN, close()):
        _show(tap, message)
    tap.disconnected = True
    assert tap.conclude("incomplete") == "client_disconnected"
    assert one.response.state == "partial"


def test_a_session_that_auditlog_closed_was_interrupted() -> None:
    tap, one = SessionTap(), exchange()
    tap.begin(one)
    for message in OPEN:
        _show(tap, message)
    tap.cut(1013)
    tap.received(left(1013))
    assert tap.conclude("incomplete") == "interrupted"
    assert json.loads(one.context["websocket.close"]) == {
        "by": "auditlog",
        "code": 1013,
    }


def test_exactly_one_message_ends_a_session() -> None:
    tap = SessionTap()
    tap.begin(exchange())
    sent = [ACCEPT, said("a"), close(), close(), said("b"), denial(), denial_body(b"")]
    ends = [tap.sent(message) for message in sent]
    assert ends == [False, False, True, False, False, False, False]


def test_the_answer_to_a_handshake_is_kept_as_it_is() -> None:
    kind = (b"Content-Type", b"application/problem+json")
    parts = (denial_body(b'{"a"', more=True), denial_body(b":1}"))
    _, one = follow(CONNECT, denial(403, kind), *parts)
    assert one.response.kept() == b'{"a":1}'
    assert one.response.media_type == "application/problem+json"
    assert not one.response.framed


def test_over_http_2_an_answer_of_200_is_no_handshake() -> None:
    tap, one = SessionTap(accepts=200), exchange()
    tap.begin(one)
    for message in (denial(200), denial_body(b"a", more=True), denial_body(b"b")):
        tap.sent(message)
    assert tap.conclude("incomplete") == "rejected"
    assert (one.response.kept(), one.response.state) == (b"ab", "complete")


def test_what_could_not_be_read_concerns_its_own_decision_only() -> None:
    tap, first, second = SessionTap(), exchange(), exchange()
    tap.begin(first)
    for message in OPEN:
        _show(tap, message)
    tap.faulty = True
    tap.conclude("completed")
    tap.begin(second)
    tap.received(heard("c"))
    tap.conclude("completed")
    assert (first.request.state, second.request.state) == ("partial", "complete")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
PAYLOADS = TEXTS | st.binary(max_size=5)


@given(st.lists(st.tuples(st.booleans(), PAYLOADS), max_size=20))
def test_messages_of_both_directions_are_counted_together(
    passed: list[tuple[bool, str | bytes]],
) -> None:
    _, one = follow(*[heard(what) if ask else said(what) for ask, what in passed])
    expected = {
        order: Message(
            order,
            TEXT if isinstance(what, str) else BINARY,
            what.encode() if isinstance(what, str) else what,
        )
        for order, (_, what) in enumerate(passed)
    }
    asked, answered = messages(one.request.kept()), messages(one.response.kept())
    assert asked == [expected[i] for i, (ask, _) in enumerate(passed) if ask]
    assert answered == [expected[i] for i, (ask, _) in enumerate(passed) if not ask]


ODD = st.one_of(
    st.sampled_from([*OPEN, *DENIED, LEFT, close(), close(1011), left(1012)]),
    st.fixed_dictionaries(
        {
            "type": st.sampled_from(
                [
                    "websocket.receive",
                    "websocket.send",
                    "websocket.accept",
                    "websocket.close",
                    "websocket.disconnect",
                    "websocket.http.response.start",
                    "websocket.http.response.body",
                    "vendor.event",
                ]
            )
        },
        optional={
            "code": st.none() | st.integers(-1, 70_000) | st.text(max_size=2),
            "reason": st.none() | st.text(max_size=200) | st.binary(max_size=2),
            "bytes": st.none() | st.binary(max_size=3),
            "text": st.none() | st.binary(max_size=3) | st.just("\ud800"),
            "subprotocol": st.none() | st.text(max_size=2) | st.integers(),
            "status": st.none() | st.integers(-1, 999),
            "headers": st.none() | st.lists(st.tuples(st.binary(), st.binary())),
            "more_body": st.booleans(),
        },
    ),
)


@given(st.lists(ODD, max_size=12))
def test_whatever_passes_there_is_an_end_and_nothing_changes_after_it(
    passed: list[Any],
) -> None:
    tap, one = SessionTap(), exchange()
    tap.begin(one)
    for message in passed:
        # As whoever shows them does: the application goes on.
        with contextlib.suppress(Exception):
            _show(tap, message)
    tap.conclude("incomplete")
    before = (one.request.kept(), one.response.kept(), one.request.state)
    close_leaf = one.context.get("websocket.close")
    for message in passed:
        with contextlib.suppress(Exception):
            _show(tap, message)
    assert before == (one.request.kept(), one.response.kept(), one.request.state)
    assert one.context.get("websocket.close") == close_leaf
    if close_leaf is not None:
        assert json.loads(close_leaf).keys() <= {"by", "code", "reason"}


def test_bytes_may_be_of_any_kind_and_are_copied() -> None:
    changing: Any = bytearray(b"abc")
    view: Any = memoryview(changing)
    tap, one = SessionTap(), exchange()
    tap.begin(one)
    tap.received(heard(changing))
    tap.sent(said(view))
    changing[:] = b"xyz"
    for body in (one.request, one.response):
        assert [message.payload for message in messages(body.kept())] == [b"abc"]


@pytest.mark.parametrize(
    ("message", "by", "passed"),
    [
        (left(1000, "bye"), {"by": "client", "code": 1000, "reason": "bye"}, OPEN),
        (left(1006), {"by": "client", "code": 1006}, OPEN),
        (left(1005), {"by": "client"}, OPEN),
        ({"type": "websocket.disconnect"}, {"by": "client"}, OPEN),
        (left(1012), {"by": "server", "code": 1012}, OPEN),
        (
            close(4000, "\ud800!"),
            {"by": "application", "code": 4000, "reason": "?!"},
            OPEN,
        ),
        ({"type": "websocket.close"}, {"by": "application", "code": 1000}, OPEN),
        ({"type": "websocket.close", "code": 1 << 60}, {"by": "application"}, OPEN),
    ],
    ids=str,
)
def test_who_closed_and_how_is_recorded(
    message: Any, by: dict[str, Any], passed: Any
) -> None:
    _, one = follow(*passed, message)
    assert json.loads(one.context["websocket.close"]) == by


def test_the_subprotocol_that_was_chosen_is_recorded() -> None:
    _, one = follow(CONNECT, {**ACCEPT, "subprotocol": "chat.v2"}, LEFT)
    assert one.context["websocket.subprotocol"] == b"chat.v2"


def test_without_close_or_subprotocol_nothing_is_said_of_them() -> None:
    _, one = follow(*OPEN)
    assert one.context == {}


def turns(*steps: Any) -> Any:
    """Return what is kept of turns; None among the steps begins one."""
    tap, one = SessionTap(), exchange()
    tap.begin(one)
    for step in steps:
        if step is None:
            tap.new_turn()
        else:
            _show(tap, step)
    tap.conclude("incomplete")
    leaf = one.context.get("websocket.turns")
    return None if leaf is None else json.loads(leaf)


def test_a_turn_begins_with_what_the_client_said_last_or_else_with_what_is_next() -> (
    None
):
    a, b = heard("a"), said("b")
    assert turns(a, b) is None
    assert turns(None, a, b)["begin"] == [0]
    assert turns(a, None, b, a, None, b)["begin"] == [0, 2]
    assert turns(a, b, None, b, None, b)["begin"] == [2, 3]
    assert turns(a, None, None, b, None, None)["begin"] == [0, 2]


def test_of_very_many_turns_it_is_known_how_many_there_were() -> None:
    passed = [heard("a"), None] * (MAX_TURNS + 3)
    kept = turns(*passed)
    assert kept == {"begin": list(range(MAX_TURNS)), "further": 3}
