"""What was said on a WebSocket is read out of what is kept."""

import pytest

from auditlog.core.errors import MalformedError
from auditlog.core.pieces import BINARY, TEXT, frame
from auditlog.log.transcript import Line, transcript

SESSION = {"request": {"split": "ws"}, "response": {"split": "ws"}}
REQUEST = frame(0, TEXT, "grüß dich".encode()) + frame(3, BINARY, b"\xff")
RESPONSE = frame(1, TEXT, b"") + frame(2, TEXT, b"well")


def test_messages_of_both_directions_stand_in_one_order() -> None:
    assert transcript(SESSION, REQUEST, RESPONSE) == [
        Line(0, "client", "request#0", "grüß dich"),
        Line(1, "application", "response#0", ""),
        Line(2, "application", "response#1", "well"),
        Line(3, "client", "request#1", b"\xff"),
    ]


def test_what_is_cut_is_left_out() -> None:
    lines = transcript(SESSION, REQUEST[:-1], RESPONSE[:-1])
    assert [line.order for line in lines] == [0, 1]


@pytest.mark.parametrize("split", ["json", "none", "sse", "chunks"])
def test_a_request_has_none(split: str) -> None:
    assert transcript({one: {"split": split} for one in SESSION}, REQUEST, b"") == []


def test_a_decision_that_is_only_opened_has_none() -> None:
    assert transcript({}, b"", b"") == []


def test_a_refused_handshake_has_an_answer_and_no_messages() -> None:
    data = SESSION | {"response": {"split": "none"}}
    assert transcript(data, b"", b"not you") == []


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(MalformedError, match="expected frames in order"):
        transcript(SESSION, RESPONSE + frame(1, TEXT, b"again"), b"")
