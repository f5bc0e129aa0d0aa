"""Streams of the Responses API are read event by event, and broken ones as far as sent.

Shapes by the API reference and the types of OpenAI's Python client; content invented.
"""

import json
from itertools import accumulate
from typing import Any

import msgspec
import pytest
from hypothesis import given

from auditlog.capture.protocols.openai_responses import Responses
from auditlog.capture.reading import Answer, Completeness, Reading, ToolCall, Traffic
from tests.capture.protocols.cutting import cuts, damaged, read
from tests.capture.protocols.openai_traffic import answer, events

PROTOCOL = Responses()
PATH = "/v1/responses"
REQUEST = {
    "model": "o4-mini",
    "input": "Why was my loan refused?",
    "stream": True,
    "max_output_tokens": 500,
    "temperature": 1,
    "service_tier": "auto",
}
USAGE = {
    "input_tokens": 37,
    "input_tokens_details": {"cached_tokens": 12},
    "output_tokens": 11,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 48,
}
REASONING = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Income is low."}],
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [
        {"type": "output_text", "annotations": [], "text": "Too little \U0001f600."},
        {"type": "refusal", "refusal": "No more."},
    ],
}
CALL = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "arguments": '{"income": 7}',
    "call_id": "call_a",
    "name": "score",
}
CUSTOM = {
    "id": "ctc_1",
    "type": "custom_tool_call",
    "call_id": "call_b",
    "name": "sql",
    "input": "SELECT 1",
}
OUTPUT: list[dict[str, Any]] = [REASONING, MESSAGE, CALL, CUSTOM]
SAID = Answer(
    role="assistant",
    text="Too little \U0001f600.",
    reasoning="Income is low.",
    refusal="No more.",
    tool_calls=[
        ToolCall(id="call_a", name="score", arguments='{"income": 7}'),
        ToolCall(id="call_b", name="sql", arguments="SELECT 1"),
    ],
    finish_reason="completed",
)


def response(status: str = "completed", **more: Any) -> dict[str, Any]:
    ended = status not in ("in_progress", "queued")
    return {
        "id": "resp_67c9fdce",
        "object": "response",
        "created_at": 1741290958,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": "Be brief.",
        "model": "o4-mini-2025-04-16",
        "output": OUTPUT if ended else [],
        "service_tier": "default",
        "usage": USAGE if ended else None,
        **more,
    }


def part(kind: str, index: int, text: str) -> dict[str, Any]:
    item = OUTPUT[index]["id"]
    return {
        "type": f"response.{kind}.delta",
        "item_id": item,
        "output_index": index,
        "delta": text,
    }


def item(kind: str, index: int, **more: Any) -> dict[str, Any]:
    said = {**OUTPUT[index], **more}
    return {"type": f"response.output_item.{kind}", "output_index": index, "item": said}


def state(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "response": response(kind, **more)}


BEGUN = [
    {"type": "response.created", "response": response("in_progress")},
    {"type": "response.in_progress", "response": response("in_progress")},
]
TOLD = [
    item("added", 0, summary=[]),
    part("reasoning_summary_text", 0, "Income "),
    part("reasoning_summary_text", 0, "is low."),
    {"type": "response.reasoning_summary_text.done", "text": "Income is low."},
    item("done", 0),
    item("added", 1, content=[]),
    {"type": "response.content_part.added", "output_index": 1, "part": {}},
    part("output_text", 1, "Too"),
    part("output_text", 1, " little \U0001f600."),
    {"type": "response.output_text.done", "output_index": 1, "text": "Too little"},
    part("refusal", 1, "No "),
    part("refusal", 1, "more."),
    item("done", 1),
    item("added", 2, arguments=""),
    part("function_call_arguments", 2, '{"income"'),
    part("function_call_arguments", 2, ": 7}"),
    item("done", 2),
    item("added", 3, input=""),
    part("custom_tool_call_input", 3, "SELECT 1"),
    item("done", 3),
]
STREAM = [*BEGUN, *TOLD, state("completed")]


def blocks(said: list[dict[str, Any]]) -> list[bytes]:
    numbered = [one | {"sequence_number": place} for place, one in enumerate(said)]
    return [
        f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode()
        for one in numbered
    ]


def stream(*said: dict[str, Any], end: bytes = b"") -> Traffic:
    return events(b"".join(blocks(list(said))) + end, PATH, REQUEST)


def reading_of(traffic: Traffic) -> Reading:
    found = read(PROTOCOL, traffic)
    assert found is not None
    return found


def test_a_streamed_response_is_put_together() -> None:
    assert reading_of(stream(*STREAM)) == Reading(
        protocol="openai.responses",
        operation="chat",
        streamed=True,
        requested_model="o4-mini",
        answered_model="o4-mini-2025-04-16",
        response_id="resp_67c9fdce",
        parameters={
            "gen_ai.request.stream": True,
            "gen_ai.request.temperature": 1.0,
            "gen_ai.request.max_tokens": 500,
            "openai.request.service_tier": "auto",
        },
        usage={
            "gen_ai.usage.input_tokens": 37,
            "gen_ai.usage.output_tokens": 11,
            "gen_ai.usage.cache_read.input_tokens": 12,
            "gen_ai.usage.reasoning.output_tokens": 3,
        },
        attributes={"openai.response.service_tier": "default"},
        answers=[SAID],
    )


def test_a_whole_response_says_the_same_as_a_streamed_one() -> None:
    streamed = reading_of(stream(*STREAM))
    whole = reading_of(answer(response(), PATH, request=REQUEST))
    assert whole == msgspec.structs.replace(streamed, streamed=False)


def test_without_names_of_events_the_types_tell() -> None:
    body = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in STREAM)
    assert reading_of(events(body, PATH, REQUEST)) == reading_of(stream(*STREAM))


def test_without_types_the_names_of_events_tell() -> None:
    body = stream(*STREAM).response.replace(b'"type": "response.', b'"kind": "')
    assert reading_of(events(body, PATH, REQUEST)) == reading_of(stream(*STREAM))


def test_without_indices_the_ids_of_items_tell() -> None:
    body = stream(*STREAM).response.replace(b'"output_index"', b'"place"')
    assert reading_of(events(body, PATH, REQUEST)) == reading_of(stream(*STREAM))


def test_what_came_without_deltas_is_taken_from_the_items() -> None:
    done = [item("done", place) for place in range(4)]
    told = stream(*BEGUN, *done, state("completed"))
    assert reading_of(told) == reading_of(stream(*STREAM))


def test_what_came_without_items_is_taken_from_the_response() -> None:
    assert reading_of(stream(*BEGUN, state("completed"))).answers == [SAID]


def test_a_transcript_of_speech_is_text() -> None:
    audio = {"type": "response.audio.transcript.delta", "delta": "Hello"}
    assert reading_of(stream(*BEGUN, audio)).answers == [Answer(text="Hello")]


def test_deltas_and_items_of_odd_types_are_left_out() -> None:
    odd = [
        part("output_text", 1, "a"),
        part("output_text", 1, "?") | {"delta": {"text": "x"}},
        item("done", 2, name=7, call_id=[], arguments={}),
        part("output_text", 1, "b") | {"output_index": "1"},
    ]
    answers = reading_of(stream(*BEGUN, *odd)).answers
    assert answers == [Answer(text="ab", tool_calls=[ToolCall(id="fc_1")])]


ERROR = {"code": "server_error", "message": "dear Ms. Doe"}


@pytest.mark.parametrize(
    ("end", "completeness", "error", "finish"),
    [
        (state("completed"), "complete", None, "completed"),
        (
            state("incomplete", incomplete_details={"reason": "max_output_tokens"}),
            "complete",
            None,
            "max_output_tokens",
        ),
        (state("failed", error=ERROR), "error_frame", "server_error", "failed"),
        ({"type": "response.failed"}, "error_frame", None, ""),
        ({"type": "error", **ERROR}, "error_frame", "server_error", ""),
        ({"type": "error", "error": ERROR}, "error_frame", "server_error", ""),
        ({"type": "response.output_text.done"}, "no_terminator", None, ""),
    ],
)  # fmt: skip
def test_how_a_stream_ends_is_said(
    end: dict[str, Any],
    completeness: Completeness,
    error: str | None,
    finish: str,
) -> None:
    reading = reading_of(stream(*BEGUN, *TOLD, end))
    assert reading.completeness == completeness
    assert reading.error_type == error
    assert reading.finish_reasons == [finish or None]
    assert reading.answers[0].text == SAID.text
    assert b"Doe" not in msgspec.json.encode(reading)


@pytest.mark.parametrize(
    ("status", "completeness"),
    [
        ("completed", "complete"),
        ("incomplete", "complete"),
        ("cancelled", "complete"),
        ("queued", "no_terminator"),
        ("in_progress", "no_terminator"),
    ],
)
def test_a_response_that_is_not_done_has_no_end(
    status: str, completeness: Completeness
) -> None:
    reading = reading_of(answer(response(status), PATH, request=REQUEST))
    assert reading.completeness == completeness


def test_an_event_named_error_need_not_be_json() -> None:
    end = b"event: error\ndata: out of memory\n\n"
    reading = reading_of(stream(*BEGUN, *TOLD, end=end))
    assert (reading.completeness, reading.error_type) == ("error_frame", None)


@pytest.mark.parametrize("body", [b"", b'{"id": 5, "no', b'{"error":"no such form"}'])
def test_responses_to_a_survey_are_left_alone(body: bytes) -> None:
    for traffic in (
        answer(body, "/surveys/7/responses", request={"answers": [1, 2]}),
        events(b"", "/surveys/7/responses", {"answers": [1, 2]}),
    ):
        assert PROTOCOL.claims(traffic)
        assert read(PROTOCOL, traffic) is None


def test_a_response_that_failed_is_an_error() -> None:
    failed = response("failed", error=ERROR, output=[])
    reading = reading_of(answer(failed, PATH, request=REQUEST))
    assert (reading.completeness, reading.error_type) == ("error_frame", "server_error")
    refused = reading_of(answer({"error": ERROR}, PATH, status=400))
    assert (refused.completeness, refused.error_type) == ("error_frame", "server_error")


def test_a_response_that_failed_without_saying_why_is_an_error() -> None:
    reading = reading_of(answer(response("failed", error=None), PATH, request=REQUEST))
    assert (reading.completeness, reading.error_type) == ("error_frame", None)


def test_the_end_that_a_proxy_adds_is_none_of_this_protocol() -> None:
    done = b"data: [DONE]\n\n"
    assert reading_of(stream(*STREAM, end=done)) == reading_of(stream(*STREAM))
    reading = reading_of(stream(*BEGUN, *TOLD, end=done))
    assert (reading.completeness, reading.partial) == ("no_terminator", False)


@pytest.mark.parametrize(
    "traffic",
    [
        events(b"data: hello\n\n", PATH),
        events(b'event: tick\ndata: {"n":1}\n\n', PATH),
        answer({"answers": []}, PATH),
        answer(b"<html>", PATH, status=502),
    ],
)
def test_what_is_no_response_is_left_to_others(traffic: Traffic) -> None:
    assert PROTOCOL.claims(traffic)
    assert read(PROTOCOL, traffic) is None


def test_a_stream_cut_at_any_byte_says_what_the_client_got() -> None:
    ends = list(accumulate(map(len, blocks(STREAM))))
    texts = [
        one["delta"] if one["type"] == "response.output_text.delta" else ""
        for one in STREAM
    ]
    traffic = stream(*STREAM)
    for got, cut in cuts(traffic):
        reading = read(PROTOCOL, cut)
        assert reading is not None
        arrived = sum(end <= len(got) for end in ends)
        text = "".join(one.text for one in reading.answers)
        assert text == "".join(texts[:arrived]), got[-40:]
        # The event that ends it is there once its data is, without the empty line too.
        ended = len(got) >= len(traffic.response) - 2
        assert reading.completeness == ("complete" if ended else "no_terminator")
        assert reading.usage == (reading_of(traffic).usage if ended else {})


def test_a_body_cut_at_any_byte_is_a_response_without_an_end() -> None:
    for _, cut in cuts(answer(response(), PATH, request=REQUEST)):
        reading = reading_of(cut)
        assert (reading.completeness, reading.answers) == ("no_terminator", [])
        assert reading.requested_model == "o4-mini"


@given(damaged(stream(*STREAM).response))
def test_a_damaged_stream_gives_a_reading_or_none(body: bytes) -> None:
    read(PROTOCOL, events(body, PATH, REQUEST))


@given(damaged(json.dumps(response()).encode()))
def test_a_damaged_body_gives_a_reading_or_none(body: bytes) -> None:
    read(PROTOCOL, answer(body, PATH))


def test_what_lies_in_the_gap_of_a_long_stream_is_taken_from_its_end() -> None:
    whole = stream(*STREAM)
    last = len(blocks(STREAM)[-1])
    capped = msgspec.structs.replace(
        whole,
        response=whole.response[:3000],
        tail=whole.response[-last - 50 :],
        capped=True,
    )
    assert reading_of(capped) == reading_of(whole)
    lost = msgspec.structs.replace(capped, tail=whole.response[-last + 50 :])
    assert (reading_of(lost).completeness, reading_of(lost).partial) == (
        "no_terminator",
        True,
    )


def test_an_event_too_large_to_read_still_ends_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    largest = max(map(len, blocks([*BEGUN, *TOLD])))
    monkeypatch.setattr("auditlog.capture.events.MAX_EVENT", largest)
    reading = reading_of(stream(*STREAM))
    assert (reading.completeness, reading.partial) == ("complete", True)
    assert reading.answers[0].text == SAID.text


@pytest.mark.parametrize("path", ["/v1/responses", "/openai/responses/", "/responses"])
def test_responses_are_known_by_the_end_of_the_path(path: str) -> None:
    assert PROTOCOL.claims(Traffic(path=path))
    assert not PROTOCOL.claims(Traffic(path="/v1/responses/resp_1/cancel"))


def test_a_response_at_another_path_is_known_by_what_it_says_it_is() -> None:
    for traffic in (stream(*STREAM), answer(response())):
        assert PROTOCOL.claims(msgspec.structs.replace(traffic, path="/ask"))
    assert not PROTOCOL.claims(answer({"object": "respond"}, "/ask"))


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_call_in_the_background_ends_before_its_response(status: str) -> None:
    body = response(status, background=True, output=[])
    reading = reading_of(answer(body, PATH, request=REQUEST))
    assert (reading.completeness, reading.finish_reasons) == ("complete", [])
