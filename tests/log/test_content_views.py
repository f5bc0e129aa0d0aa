"""Opened content as JSON: what it is, and what became of what is not there."""

from typing import Any

import pytest

from auditlog.core.pieces import TEXT, frame
from auditlog.log.content import Content
from auditlog.log.content_views import content_json, said_on
from auditlog.log.description import Describer
from auditlog.log.reader import DecisionView
from tests.log.builders import ORIGIN, exchange
from tests.log.redactions import WordRedaction


def described(**fields: Any) -> Content:
    return Describer(ORIGIN, bytes(16), depth=1).describe(exchange(0, **fields)).content


def test_what_is_whole_is_shown_as_it_is() -> None:
    assert content_json(described(request=b"\xff", request_type=None)) == {
        "request": {"base64": "/w==", "capped": False},
        "response": {"text": '{"decision":"approve","score":0.87}', "capped": False},
        "context": {"target": {"text": "/score?lang=en", "capped": False}},
    }


def test_what_was_redacted_is_a_copy_and_what_was_withheld_is_not_there() -> None:
    redaction = WordRedaction(b"Ada", b"lang", withhold=["response", "user"])
    content = described(redaction=redaction, context={"user": b'{"caller":"Bob"}'})
    assert content_json(content) == {
        "request": {
            "text": '{"age": 41, "name": "[redacted]"}',
            "capped": False,
            "redacted": True,
        },
        "response": {"withheld": True},
        "context": {
            "stored.target": {
                "text": "/score?[redacted]=en",
                "capped": False,
                "redacted": True,
            },
            "user": {"withheld": True},
        },
    }


@pytest.mark.parametrize("words", [(), (b"secret",)])
def test_messages_are_those_that_are_stored(words: tuple[bytes, ...]) -> None:
    one = exchange(0, request=b"", request_type=None, redaction=WordRedaction(*words))
    one.request.framed = True
    one.request.feed(frame(0, TEXT, b"a secret"))
    found = Describer(ORIGIN, bytes(16), depth=1).describe(one)
    view = DecisionView("", None, found.entry, "included")
    (line,) = said_on(view, found.content)
    assert line.payload == ("a [redacted]" if words else "a secret")
