import base64
import json
from typing import Any

import pytest

from demo_service.letter import Letter
from demo_service.processes import DemoError


def event(**delta: str) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"delta": delta}]}).encode()


EVENTS = (
    event(role="assistant", content=""),
    event(content="It was"),
    event(content=" declined"),
    event(),
    b"data: [DONE]\n\n",
)
LETTER = Letter("id", EVENTS)


def said(*opened: tuple[str, bytes]) -> dict[str, Any]:
    return {
        "disclosed": [
            {"path": path, "value": base64.b64encode(value).decode()}
            for path, value in opened
        ]
    }


def test_the_event_that_brought_the_word_is_the_one_to_open() -> None:
    assert LETTER.path == "response#2"
    assert LETTER.opened(said(("response#2", EVENTS[2]))) == "declined"


@pytest.mark.parametrize(
    "opened",
    [
        [("response#1", EVENTS[2])],
        [("response#2", EVENTS[1])],
        [("response#2", EVENTS[2]), ("response#1", EVENTS[1])],
    ],
    ids=["another path", "another event", "two events"],
)
def test_a_receipt_that_opens_something_else_is_refused(
    opened: list[tuple[str, bytes]],
) -> None:
    with pytest.raises(DemoError, match=r"expected response#2 alone to be opened"):
        LETTER.opened(said(*opened))


def test_a_letter_without_the_word_has_nothing_to_open() -> None:
    with pytest.raises(DemoError, match="no event of the letter brought the word"):
        _ = Letter("id", EVENTS[:2]).number
