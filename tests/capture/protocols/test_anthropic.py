"""Anthropic's messages, in the shapes of its streaming guide and its Python client."""

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.protocols.anthropic import AnthropicMessages
from auditlog.capture.reading import MAX_TEXT, Answer, Reading, ToolCall, Traffic
from tests.capture.protocols.cutting import cuts, damaged, read

REQUEST = {
    "model": "claude-sonnet-5",
    "max_tokens": 1024,
    "temperature": 0.5,
    "top_k": 5,
    "stop_sequences": ["\n\nHuman:"],
    "stream": True,
    "system": "You judge claims.",
    "messages": [{"role": "user", "content": "Why was my claim refused?"}],
}
USAGE = {
    "input_tokens": 25,
    "cache_creation_input_tokens": 100,
    "cache_read_input_tokens": 2000,
    "cache_creation": {"ephemeral_5m_input_tokens": 100},
    "output_tokens": 1,
    "service_tier": "standard",
}
START = {
    "type": "message_start",
    "message": {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5-20260301",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": USAGE,
    },
}
STOP = {"type": "message_stop"}
PING = {"type": "ping"}
OVERLOADED = {
    "type": "error",
    "error": {"type": "overloaded_error", "message": "Overloaded, dear Ms. Doe"},
}


def opening(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    block = {"type": kind, **fields}
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **fields: Any) -> dict[str, Any]:
    said = {"type": kind, **fields}
    return {"type": "content_block_delta", "index": index, "delta": said}


def closing(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def ending(reason: str, output_tokens: int, **fields: Any) -> dict[str, Any]:
    said = {"stop_reason": reason, "stop_sequence": None, **fields}
    usage = {"output_tokens": output_tokens}
    return {"type": "message_delta", "delta": said, "usage": usage}


def stream(*events: dict[str, Any]) -> bytes:
    blocks = [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in events]
    return "".join(blocks).encode()


TEXT = stream(
    START,
    opening(0, "text", text=""),
    PING,
    delta(0, "text_delta", text="The income is "),
    delta(0, "citations_delta", citation={"type": "char_location"}),
    delta(0, "text_delta", text='"too \u00fc\u4f60\U0001f600 low".'),
    closing(0),
    ending("end_turn", 15),
    STOP,
)
TOOLS = stream(
    START,
    opening(0, "thinking", thinking="", signature=""),
    delta(0, "thinking_delta", thinking="Look it up"),
    delta(0, "thinking_delta", thinking=" first."),
    delta(0, "signature_delta", signature="EqQBCgIYAhIM1gbcDa9GJwZA2b3h"),
    closing(0),
    opening(1, "redacted_thinking", data="EmwKAhgBEgy3va3pzix"),
    closing(1),
    opening(2, "text", text=""),
    delta(2, "text_delta", text="Let me look."),
    closing(2),
    opening(3, "tool_use", id="toolu_01T1x", name="get_claim", input={}),
    delta(3, "input_json_delta", partial_json=""),
    delta(3, "input_json_delta", partial_json='{"claim": "C-'),
    delta(3, "input_json_delta", partial_json='17"}'),
    closing(3),
    opening(4, "server_tool_use", id="srvtoolu_01", name="web_search", input={}),
    delta(4, "input_json_delta", partial_json='{"query":"law"}'),
    closing(4),
    opening(5, "web_search_tool_result", tool_use_id="srvtoolu_01", content=[]),
    closing(5),
    ending("tool_use", 89),
    STOP,
)
FAILED = stream(
    START, opening(0, "text", text=""), delta(0, "text_delta", text="Th"), OVERLOADED
)
MESSAGE = {
    **START["message"],  # type: ignore[dict-item]
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "Eq"},
        {"type": "text", "text": "Because ", "citations": None},
        {"type": "text", "text": "of the income."},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, "é"]}},
    ],
    "stop_reason": "tool_use",
    "usage": {
        "input_tokens": 10,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 5},
    },
}


def traffic(answer: bytes | dict[str, Any], /, **fields: Any) -> Traffic:
    exchange = Traffic(
        path="/v1/messages",
        status=200,
        request=json.dumps(REQUEST).encode(),
        request_type="application/json",
        response_type="text/event-stream; charset=utf-8",
    )
    if isinstance(answer, bytes):
        fields = {"response": answer, **fields}
    else:
        body = json.dumps(answer).encode()
        fields = {"response": body, "response_type": "application/json", **fields}
    return msgspec.structs.replace(exchange, **fields)


def reading_of(answer: bytes | dict[str, Any], /, **fields: Any) -> Reading:
    reading = read(AnthropicMessages(), traffic(answer, **fields))
    assert reading is not None
    return reading


def test_a_stream_is_put_together() -> None:
    assert reading_of(TEXT) == Reading(
        protocol="anthropic.messages",
        operation="chat",
        streamed=True,
        requested_model="claude-sonnet-5",
        answered_model="claude-sonnet-5-20260301",
        response_id="msg_01XFDUDYJgAACzvnptvVoYEL",
        parameters={
            "gen_ai.request.max_tokens": 1024,
            "gen_ai.request.stop_sequences": ["\n\nHuman:"],
            "gen_ai.request.stream": True,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.top_k": 5,
        },
        usage={
            "gen_ai.usage.input_tokens": 2125,
            "gen_ai.usage.cache_creation.input_tokens": 100,
            "gen_ai.usage.cache_read.input_tokens": 2000,
            "gen_ai.usage.output_tokens": 15,
        },
        answers=[
            Answer(
                role="assistant",
                text='The income is "too \u00fc\u4f60\U0001f600 low".',
                finish_reason="end_turn",
            )
        ],
    )


def test_thinking_and_calls_to_tools_are_told_apart() -> None:
    assert reading_of(TOOLS).answers == [
        Answer(
            role="assistant",
            text="Let me look.",
            reasoning="Look it up first.",
            tool_calls=[
                ToolCall(
                    id="toolu_01T1x", name="get_claim", arguments='{"claim": "C-17"}'
                ),
                ToolCall(
                    id="srvtoolu_01", name="web_search", arguments='{"query":"law"}'
                ),
            ],
            finish_reason="tool_use",
        )
    ]


def test_a_message_that_is_not_streamed_says_the_same() -> None:
    reading = reading_of(MESSAGE)
    assert not reading.streamed
    assert reading.completeness == "complete"
    assert reading.usage == {
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.reasoning.output_tokens": 5,
    }
    assert reading.answers == [
        Answer(
            role="assistant",
            text="Because of the income.",
            reasoning="Hm.",
            tool_calls=[ToolCall(id="toolu_1", name="f", arguments='{"a":[1,"é"]}')],
            finish_reason="tool_use",
        )
    ]


def test_a_refusal_is_explained() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "I can not."}
    refused = stream(START, ending("refusal", 3, stop_details=details), STOP)
    (answer,) = reading_of(refused).answers
    assert (answer.finish_reason, answer.refusal) == ("refusal", "I can not.")


def test_input_of_a_tool_may_come_at_once() -> None:
    given_once = opening(0, "tool_use", id="t", name="f", input={"a": 1})
    (answer,) = reading_of(stream(START, given_once, closing(0), STOP)).answers
    assert answer.tool_calls == [ToolCall(id="t", name="f", arguments='{"a":1}')]
    parts = [
        delta(0, "input_json_delta", partial_json=part) for part in ('{"b"', ":2}")
    ]
    (answer,) = reading_of(stream(START, given_once, *parts, STOP)).answers
    assert answer.tool_calls[0].arguments == '{"b":2}'


def test_a_tool_that_is_called_with_nothing_has_an_empty_object() -> None:
    call = {"type": "tool_use", "id": "t", "name": "now", "input": {}}
    (answer,) = reading_of({**MESSAGE, "content": [call]}).answers
    assert answer.tool_calls == [ToolCall(id="t", name="now", arguments="{}")]


def test_totals_at_the_end_replace_those_at_the_start() -> None:
    usage = {"input_tokens": 40, "cache_read_input_tokens": 2, "output_tokens": 7}
    last = {"type": "message_delta", "delta": {}, "usage": usage}
    assert reading_of(stream(START, last, STOP)).usage == {
        "gen_ai.usage.input_tokens": 142,
        "gen_ai.usage.cache_creation.input_tokens": 100,
        "gen_ai.usage.cache_read.input_tokens": 2,
        "gen_ai.usage.output_tokens": 7,
    }


def test_without_a_last_count_nobody_knows_the_output() -> None:
    reading = reading_of(stream(START, opening(0, "text", text="Hi")))
    assert "gen_ai.usage.output_tokens" not in reading.usage
    assert reading.completeness == "no_terminator"
    assert reading.answers == [Answer(role="assistant", text="Hi")]


@pytest.mark.parametrize(
    ("count", "known"),
    [(0, True), (2**53 - 1, True), (2**53, False), (-1, False), ("7", False)],
)
def test_a_count_that_is_none_is_left_out(count: Any, known: bool) -> None:
    reading = reading_of({**MESSAGE, "usage": {"output_tokens": count}})
    assert ("gen_ai.usage.output_tokens" in reading.usage) is known


@pytest.mark.parametrize(
    "frame",
    [
        f"event: error\ndata: {json.dumps(OVERLOADED)}\n\n".encode(),
        f"data: {json.dumps(OVERLOADED)}\n\n".encode(),
        b'data: {"error":{"type":"overloaded_error","message":"secret"}}\n\n',
        f"event: error\ndata: {json.dumps(OVERLOADED)}".encode(),
    ],
)
def test_an_error_in_the_stream_ends_it_even_if_it_seems_to_end_well(
    frame: bytes,
) -> None:
    begun = stream(START, delta(0, "text_delta", text="Th"))
    for sent in (begun + frame, begun + frame + b"\n\n" + stream(STOP)):
        reading = reading_of(sent)
        assert reading.completeness == "error_frame"
        assert reading.error_type == "overloaded_error"
        assert reading.answers[0].text == "Th"
        assert b"Doe" not in msgspec.json.encode(reading)
        assert b"secret" not in msgspec.json.encode(reading)


def test_an_error_that_says_nothing_is_one() -> None:
    reading = reading_of(stream(START) + b"event: error\ndata: upstream died\n\n")
    assert (reading.completeness, reading.error_type) == ("error_frame", None)


@pytest.mark.parametrize(
    ("status", "body", "error_type"),
    [
        (529, json.dumps(OVERLOADED).encode(), "overloaded_error"),
        (200, json.dumps(OVERLOADED).encode(), "overloaded_error"),
        (400, b'{"detail":"bad"}', None),
        (502, b"<html>Bad Gateway</html>", None),
        (500, b"", None),
    ],
)
def test_an_error_instead_of_a_message(
    status: int, body: bytes, error_type: str | None
) -> None:
    reading = reading_of(MESSAGE, status=status, response=body)
    assert (reading.completeness, reading.error_type) == ("error_frame", error_type)
    assert reading.answers == []


def test_events_that_are_new_are_passed_over() -> None:
    new = {"type": "message_heartbeat", "index": "x"}
    block = opening(0, "hologram", text="", data=[1])
    odd = delta(0, "hologram_delta", hologram="x")
    sent = stream(START, new, block, odd, closing(0), ending("end_turn", 1), STOP)
    reading = reading_of(sent)
    assert (reading.completeness, reading.partial) == ("complete", False)


def test_events_without_what_they_are_about_say_nothing() -> None:
    kinds = ["message_start", "content_block_start", "content_block_delta"]
    bare = [{"type": kind} for kind in (*kinds, "message_delta", "message_stop")]
    reading = reading_of(stream(*bare))
    assert (reading.completeness, reading.answers) == ("complete", [])
    assert (reading.usage, reading.partial) == ({}, False)
    (answer,) = reading_of(stream({"type": "message_start", "message": {}})).answers
    assert answer == Answer()
    untyped = {"type": "content_block_start", "content_block": {"id": "t"}}
    (answer,) = reading_of(stream(START, untyped, STOP)).answers
    assert answer == Answer(role="assistant")


def test_an_event_says_what_it_is_by_its_data_or_else_by_its_name() -> None:
    whole = reading_of(TEXT)
    unnamed = b"".join(TEXT.splitlines(keepends=True)[1::3])
    assert reading_of(unnamed.replace(b"\n", b"\n\n")) == whole
    untyped = re.sub(rb'data: {"type": "[a-z_]*",? ?', b"data: {", TEXT)
    assert untyped != TEXT
    assert reading_of(untyped) == whole


def test_calls_to_more_tools_than_are_put_together_are_admitted() -> None:
    calls = [opening(i, "tool_use", id=f"t{i}", name="f") for i in range(1025)]
    reading = reading_of(stream(START, *calls, STOP))
    assert len(reading.answers[0].tool_calls) == 1024
    assert reading.partial


def test_a_stream_without_its_beginning_is_put_together() -> None:
    reading = reading_of(stream(delta(0, "text_delta", text="Hi"), STOP))
    assert reading.answers == [Answer(text="Hi")]
    reading = reading_of(stream(opening(0, "text", text="Hi"), STOP))
    assert reading.answers == [Answer(text="Hi")]


def test_data_that_is_no_json_is_admitted() -> None:
    reading = reading_of(stream(START) + b"data: [1\n\n" + stream(STOP))
    assert (reading.completeness, reading.partial) == ("complete", True)


def test_the_end_of_another_protocol_that_a_proxy_adds_leaves_nothing_out() -> None:
    reading = reading_of(stream(START, STOP) + b"data: [DONE]\n\n")
    assert (reading.completeness, reading.partial) == ("complete", False)


def test_counts_that_no_number_can_hold_together_are_left_out() -> None:
    most = (1 << 53) - 1
    usage = {"input_tokens": most, "cache_read_input_tokens": 1, "output_tokens": 2}
    reading = reading_of({"type": "message", "usage": usage})
    assert reading.usage == {
        "gen_ai.usage.cache_read.input_tokens": 1,
        "gen_ai.usage.output_tokens": 2,
    }


def test_what_is_longer_than_is_put_together_is_admitted() -> None:
    long = [delta(0, "text_delta", text="x" * 100_000)] * 11
    reading = reading_of(stream(START, *long, STOP))
    assert len(reading.answers[0].text) == MAX_TEXT
    assert reading.partial


@pytest.mark.parametrize(
    ("path", "claimed"),
    [
        ("/v1/messages", True),
        ("/anthropic/v1/messages", True),
        ("/v1/messages/count_tokens", False),
        ("/v1/messages/batches", False),
        ("/v1/threads/t/messages", False),
        ("/messages", False),
    ],
)
def test_it_is_known_by_its_path(path: str, claimed: bool) -> None:
    assert AnthropicMessages().claims(traffic(TEXT, path=path)) is claimed


def test_another_service_of_the_same_path_is_left_alone() -> None:
    other = traffic({"message": "sent"}, request=b'{"to":"Ann","messages":["Hi"]}')
    assert not AnthropicMessages().claims(other)
    assert AnthropicMessages().read(other) is None
    page = traffic(MESSAGE, response=b"<html>", response_type="text/html")
    assert AnthropicMessages().read(page) is None
    events = traffic(b"data: 1\n\ndata: 2\n\n")
    assert AnthropicMessages().read(events) is None


def test_an_answer_alone_is_enough() -> None:
    for answer in (traffic(TEXT), traffic(MESSAGE), traffic(OVERLOADED)):
        alone = msgspec.structs.replace(answer, request=b"")
        assert AnthropicMessages().claims(alone)


def test_of_a_capped_stream_the_end_still_counts() -> None:
    gap = reading_of(TEXT[:600], tail=TEXT[-150:], capped=True)
    assert (gap.completeness, gap.partial) == ("complete", True)
    cut = reading_of(TEXT[:600], tail=TEXT[-150:-40], capped=True)
    assert (cut.completeness, cut.partial) == ("no_terminator", True)


def test_of_a_capped_message_only_the_end_counts() -> None:
    body = json.dumps(MESSAGE).encode()
    half = reading_of(MESSAGE, response=body[:50], tail=body[-9:], capped=True)
    assert (half.completeness, half.partial) == ("complete", True)
    half = reading_of(MESSAGE, response=body[:50], tail=body[-9:-3], capped=True)
    assert (half.completeness, half.partial) == ("no_terminator", True)


def _whole_events(sent: bytes) -> list[dict[str, Any]]:
    blocks = sent.decode(errors="replace").split("\n\n")[:-1]
    return [json.loads(block.partition("data: ")[2]) for block in blocks]


@pytest.mark.parametrize("body", [TEXT, TOOLS, FAILED], ids=["text", "tools", "failed"])
def test_a_stream_cut_at_any_byte_holds_its_whole_deltas(body: bytes) -> None:
    last = body.rstrip()
    whole = "error_frame" if body is FAILED else "complete"
    for sent, cut in cuts(traffic(body)):
        reading = read(AnthropicMessages(), cut)
        assert reading is not None, sent
        expected = whole if sent.startswith(last) else "no_terminator"
        assert reading.completeness == expected, sent
        deltas = [one.get("delta", {}) for one in _whole_events(sent)]
        text = "".join(one.get("text", "") for one in deltas)
        parts = "".join(one.get("partial_json", "") for one in deltas)
        (answer,) = reading.answers or [Answer()]
        assert answer.text == text, sent
        assert "".join(one.arguments for one in answer.tool_calls) == parts, sent


def test_a_message_cut_at_any_byte_has_no_end() -> None:
    for sent, cut in cuts(traffic(MESSAGE)):
        reading = read(AnthropicMessages(), cut)
        assert reading is not None, sent
        assert reading.completeness == "no_terminator", sent
        assert reading.answers == []


@given(st.data())
def test_no_damage_raises_anything(data: st.DataObject) -> None:
    answers = [traffic(TEXT), traffic(TOOLS), traffic(FAILED), traffic(MESSAGE)]
    whole = data.draw(st.sampled_from(answers))
    hit = msgspec.structs.replace(
        whole,
        request=data.draw(damaged(whole.request)),
        response=data.draw(damaged(whole.response)),
    )
    read(AnthropicMessages(), hit)
