"""`auditlog show --content` says what a model wrote, put together from its stream."""

from pathlib import Path

from auditlog.capture.protocols.registry import Protocols
from tests.command import auditlog
from tests.filled import fill_log

ASKED = b'{"model":"m-1","stream":true,"messages":[{"role":"user","content":"?"}]}'
STREAM = (
    b'data: {"object":"chat.completion.chunk","model":"m-1","choices":[{"index":0,'
    b'"delta":{"role":"assistant","reasoning_content":"Hm."}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"Zu "}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"content":"alt.\\u001b[2J"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a",'
    b'"function":{"name":"look_up","arguments":"{\\"n\\":"}}]}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,'
    b'"function":{"arguments":"1}"}}]},"finish_reason":"tool_calls"}]}\n\n'
    b"data: [DONE]\n\n"
)


def record(directory: Path, stream: bytes = STREAM) -> str:
    (id_,) = fill_log(
        directory,
        1,
        request=ASKED,
        response=stream,
        response_type="text/event-stream",
        target=b"/v1/chat/completions",
        protocols=Protocols(),
    )
    return id_


def test_the_answer_is_printed_below_the_bytes_and_marked_as_advisory(
    tmp_path: Path,
) -> None:
    id_ = record(tmp_path / "audit")
    done = auditlog("show", id_, "--content", "--dir", tmp_path / "audit")
    assert done.status == 0
    head = "\n--- answer 0 as read by openai.chat, complete, tool_calls; advisory\n"
    _, found, answer = done.out.partition(head)
    assert found
    assert answer.splitlines() == [
        "Zu alt.\x1b[2J",  # escaped on a terminal only
        "reasoning: Hm.",
        'tool call: look_up {"n":1}',
    ]


def test_as_json_it_stands_beside_the_content(tmp_path: Path) -> None:
    id_ = record(tmp_path / "audit")
    done = auditlog("show", id_, "--content", "--json", "--dir", tmp_path / "audit")
    document = done.document()
    assert document["content"]["response"]["text"].encode() == STREAM
    reading = document["reading"]
    assert (reading["protocol"], reading["completeness"]) == ("openai.chat", "complete")
    (answer,) = reading["answers"]
    assert answer["text"] == "Zu alt.\x1b[2J"
    assert answer["tool_calls"] == [
        {"id": "a", "name": "look_up", "arguments": '{"n":1}'}
    ]


def test_an_answer_that_was_cut_shows_what_there_is(tmp_path: Path) -> None:
    id_ = record(tmp_path / "audit", STREAM[: STREAM.index(b"alt.") + 9])
    done = auditlog("show", id_, "--content", "--dir", tmp_path / "audit")
    assert "--- answer 0 as read by openai.chat, no_terminator" in done.out
    assert "\nZu \n" in done.out


def test_without_content_nothing_is_read(tmp_path: Path) -> None:
    id_ = record(tmp_path / "audit")
    done = auditlog("show", id_, "--json", "--dir", tmp_path / "audit")
    assert "reading" not in done.document()
    assert "content" not in done.document()
