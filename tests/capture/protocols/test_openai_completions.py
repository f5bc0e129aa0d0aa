"""Chat and text completions are read as their clients read them, broken ones too."""

import json
from itertools import accumulate
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.protocols.openai_completions import (
    ChatCompletions,
    TextCompletions,
)
from auditlog.capture.reading import (
    MAX_TEXT,
    Answer,
    Completeness,
    Reading,
    ToolCall,
    Traffic,
)
from tests.capture.protocols import openai_traffic as sent
from tests.capture.protocols.cutting import cuts, damaged, read
from tests.capture.protocols.openai_traffic import chunk, delta, stream, tool, whole

CHAT = ChatCompletions()
TEXT = TextCompletions()
STREAMS = {
    "openai": sent.OPENAI,
    "vllm": sent.VLLM,
    "azure": sent.AZURE,
    "tools": sent.TOOLS,
    "several": sent.SEVERAL,
    "refused": sent.REFUSED,
    "spoken": sent.SPOKEN,
}


def reading_of(traffic: Traffic) -> Reading:
    found = read(CHAT, traffic)
    assert found is not None
    return found


def only(reading: Reading) -> Answer:
    assert len(reading.answers) == 1
    return reading.answers[0]


def test_a_streamed_answer_is_put_together() -> None:
    assert reading_of(stream(*sent.OPENAI)) == Reading(
        protocol="openai.chat",
        operation="chat",
        streamed=True,
        requested_model="gpt-4o-mini",
        answered_model="gpt-4o-mini-2024-07-18",
        response_id="chatcmpl-B9MBs8",
        parameters={
            "gen_ai.request.stream": True,
            "gen_ai.request.temperature": 0.2,
            "gen_ai.request.top_p": 1.0,
            "gen_ai.request.seed": 7,
            "gen_ai.request.max_tokens": 300,
            "gen_ai.request.choice.count": 1,
            "gen_ai.request.presence_penalty": 0.5,
            "gen_ai.request.stop_sequences": ["END"],
        },
        usage=sent.COUNTED,
        attributes={
            "openai.response.system_fingerprint": "fp_44709d6fcb",
            "openai.response.service_tier": "default",
        },
        answers=[
            Answer(
                role="assistant",
                text="Because your income is too low. é\U0001f600",
                finish_reason="stop",
            )
        ],
    )


def test_a_whole_answer_says_the_same_as_a_streamed_one() -> None:
    text = "Because your income is too low. é\U0001f600"
    one = reading_of(sent.answer(whole({"role": "assistant", "content": text})))
    streamed = reading_of(stream(*sent.OPENAI))
    assert one == msgspec.structs.replace(streamed, streamed=False)


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_any_line_end_will_do(newline: str) -> None:
    expected = reading_of(stream(*sent.OPENAI))
    assert reading_of(stream(*sent.OPENAI, newline=newline)) == expected


def test_comments_and_names_of_events_change_nothing() -> None:
    body = stream(*sent.OPENAI).response
    kept_alive = b": ping\n\n" + body.replace(b"data: {", b": ping\nevent: x\ndata:{")
    assert reading_of(sent.events(kept_alive)) == reading_of(stream(*sent.OPENAI))


def test_reasoning_is_read_once_by_whichever_name() -> None:
    reading = reading_of(stream(*sent.VLLM))
    assert only(reading) == Answer(
        role="assistant",
        text="Refused.",
        reasoning="The income is low.",
        finish_reason="length",
    )
    assert reading.usage == sent.COUNTED
    message = {"role": "assistant", "reasoning_content": "Hm", "content": "No."}
    assert only(reading_of(sent.answer(whole(message)))).reasoning == "Hm"


def test_chunks_that_only_filter_add_nothing() -> None:
    reading = reading_of(stream(*sent.AZURE))
    assert (reading.response_id, reading.answered_model) == (
        "chatcmpl-B9MBs8",
        "gpt-4o-mini-2024-07-18",
    )
    assert only(reading) == Answer(role="assistant", text="No.", finish_reason="stop")


CALLS = [
    ToolCall(id="call_a", name="score", arguments='{"income": 7}'),
    ToolCall(id="call_b", name="explain", arguments="{}"),
]


def test_calls_to_tools_are_merged_by_index() -> None:
    answer = only(reading_of(stream(*sent.TOOLS)))
    assert (answer.tool_calls, answer.finish_reason) == (CALLS, "tool_calls")


def test_whole_calls_to_tools_are_read() -> None:
    calls = [
        tool(None, id=call.id, name=call.name, arguments=call.arguments)
        for call in CALLS
    ]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    answer = only(reading_of(sent.answer(whole(message, "tool_calls"))))
    assert answer.tool_calls == CALLS


@pytest.mark.parametrize("index", [0, None])
def test_whole_calls_under_one_index_are_several(index: int | None) -> None:
    parts = [
        chunk(delta(tool_calls=[tool(index, id=x, name="f", arguments=f'"{x}"')]))
        for x in "ab"
    ]
    # What follows without an id belongs to the newest.
    parts.append(chunk(delta(tool_calls=[tool(index, arguments=" ")])))
    assert only(reading_of(stream(*parts))).tool_calls == [
        ToolCall(id="a", name="f", arguments='"a"'),
        ToolCall(id="b", name="f", arguments='"b" '),
    ]


def test_an_id_drawn_for_each_part_does_not_begin_a_call() -> None:
    parts = [
        chunk(delta(tool_calls=[tool(id="r1", name="f", arguments="")])),
        chunk(delta(tool_calls=[tool(id="r2", arguments="{")])),
        chunk(delta(tool_calls=[tool(id="r3", name=None, arguments="}")])),
    ]
    call = ToolCall(id="r1", name="f", arguments="{}")
    assert only(reading_of(stream(*parts))).tool_calls == [call]


def test_a_call_may_begin_with_its_id_alone() -> None:
    parts = [
        chunk(delta(tool_calls=[{"index": 0, "id": "a", "type": "function"}])),
        chunk(delta(tool_calls=[tool(name="f", arguments="{}")])),
    ]
    call = ToolCall(id="a", name="f", arguments="{}")
    assert only(reading_of(stream(*parts))).tool_calls == [call]


def test_the_function_call_of_before_there_were_tools_is_read() -> None:
    parts = [
        chunk(delta(function_call={"name": "score", "arguments": ""})),
        chunk(delta(function_call={"arguments": '{"a"'})),
        chunk(delta(function_call={"arguments": ":1}"})),
        chunk(delta(finish="function_call")),
    ]
    call = ToolCall(name="score", arguments='{"a":1}')
    assert only(reading_of(stream(*parts))).tool_calls == [call]


def test_custom_tools_and_arguments_that_are_json_are_read() -> None:
    calls: list[dict[str, Any]] = [
        {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}},
        {"id": "d", "function": {"name": "f", "arguments": {"a": 1}}},
    ]
    assert only(reading_of(sent.answer(whole({"tool_calls": calls})))).tool_calls == [
        ToolCall(id="c", name="sql", arguments="SELECT 1"),
        ToolCall(id="d", name="f", arguments='{"a": 1}'),
    ]


def test_several_answers_are_kept_apart() -> None:
    reading = reading_of(stream(*sent.SEVERAL))
    assert [answer.text for answer in reading.answers] == ["AB", "xy"]
    assert reading.finish_reasons == ["stop", "length"]


def test_a_refusal_is_no_text() -> None:
    answer = only(reading_of(stream(*sent.REFUSED)))
    assert (answer.text, answer.refusal) == ("", "I cannot say.")


def test_of_speech_the_transcript_is_read() -> None:
    assert only(reading_of(stream(*sent.SPOKEN))).text == "Hello"


@pytest.mark.parametrize("streamed", [True, False])
def test_content_in_parts_is_read(streamed: bool) -> None:
    parts: list[Any] = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, 7]},
        {"type": "thinking", "thinking": "."},
        {"type": "text", "text": "No"},
        {"type": "refusal", "refusal": "Never"},
        "?",
    ]
    traffic = sent.answer(whole({"content": parts}))
    if streamed:
        traffic = stream(chunk(delta(content=parts)))
    answer = only(reading_of(traffic))
    assert (answer.text, answer.reasoning) == ("No", "Hm.")
    assert answer.refusal == "Never"


def test_a_character_in_two_halves_is_made_whole() -> None:
    # As servers in JavaScript cut it: each half is JSON, but no UTF-8.
    parts = [chunk(delta(content="a\ud83d")), chunk(delta(content="\ude00b"))]
    assert only(reading_of(stream(*parts))).text == "a\U0001f600b"


@pytest.mark.parametrize(
    ("chunks", "done", "completeness", "finish"),
    [
        (sent.said("a"), True, "complete", "stop"),
        (sent.said("a"), False, "no_terminator", "stop"),
        (sent.said("a", finish=None), True, "complete", None),
        (sent.said("a", finish=""), True, "complete", None),
        ([*sent.said("a"), chunk(delta(finish=""))], True, "complete", "stop"),
        ([*sent.said("a"), chunk(delta(finish="length"))], True, "complete", "length"),
        ([*sent.said("a"), chunk(usage=sent.USAGE)], False, "no_terminator", "stop"),
        ([chunk(delta(content="a", finish="stop"))], True, "complete", "stop"),
    ],
)
def test_how_a_stream_ends_is_said(
    chunks: list[dict[str, Any]],
    done: bool,
    completeness: Completeness,
    finish: str | None,
) -> None:
    reading = reading_of(stream(*chunks, done=done))
    assert (reading.completeness, reading.finish_reasons) == (completeness, [finish])
    assert only(reading).text == "a"


SECRET = "dear Ms. Doe"
ERRORS: list[tuple[Any, str | None]] = [
    ({"error": {"message": SECRET, "code": "server_error"}}, "server_error"),
    ({"error": {"message": SECRET, "type": "BadRequest", "code": 400}}, "BadRequest"),
    ({"error": {"message": SECRET, "code": "500"}}, "500"),
    ({"error": SECRET}, None),
    ({"object": "error", "message": SECRET, "type": "Wrong", "code": 50}, "Wrong"),
]


@pytest.mark.parametrize(("error", "code"), ERRORS)
def test_an_error_in_the_stream_ends_it_and_its_message_is_not_taken(
    error: Any, code: str | None
) -> None:
    reading = reading_of(stream(*sent.said("a"), error, *sent.said("lost")))
    assert (reading.completeness, reading.error_type) == ("error_frame", code)
    assert only(reading).text == "a"
    assert b"Doe" not in msgspec.json.encode(reading)


@pytest.mark.parametrize(("error", "code"), ERRORS)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_error_instead_of_an_answer_is_one_whatever_the_status(
    error: Any, code: str | None, status: int
) -> None:
    reading = reading_of(sent.answer(error, status=status))
    assert (reading.completeness, reading.error_type) == ("error_frame", code)
    assert reading.requested_model == "gpt-4o-mini"
    assert b"Doe" not in msgspec.json.encode(reading)


def test_an_error_beside_an_answer_is_one() -> None:
    body = sent.WHOLE | {"error": {"message": SECRET, "code": "content_filter"}}
    reading = reading_of(sent.answer(body))
    assert (reading.completeness, reading.error_type) == (
        "error_frame",
        "content_filter",
    )


def test_an_event_named_error_is_an_error() -> None:
    body = sent.stream(*sent.said("a"), done=False).response
    body += b'event: error\ndata: {"message":"Ms. Doe","code":"overloaded"}\n\n'
    reading = reading_of(sent.events(body + b"data: [DONE]\n\n"))
    assert (reading.completeness, reading.error_type) == ("error_frame", "overloaded")


def test_an_event_named_error_need_not_be_json() -> None:
    body = sent.stream(*sent.said("a"), done=False).response
    body += b"event: error\ndata: out of memory\n\n"
    reading = reading_of(sent.events(body))
    assert (reading.completeness, reading.error_type) == ("error_frame", None)
    assert not reading.partial


def test_an_error_before_the_first_token_leaves_no_answer() -> None:
    error = {"error": {"message": "Ms. Doe", "type": "InternalServerError"}}
    reading = reading_of(stream(error))
    assert (reading.completeness, reading.answers) == ("error_frame", [])


def test_a_failure_of_the_framework_is_an_error_without_a_type() -> None:
    reading = reading_of(sent.answer({"detail": "Not Found"}, status=404))
    assert (reading.completeness, reading.error_type) == ("error_frame", None)


@pytest.mark.parametrize(
    "traffic",
    [
        sent.answer({"detail": "fine"}),
        sent.answer([]),
        sent.answer(b"<html>", status=502),
        sent.answer("fine"),
        sent.events(b"data: hello\n\ndata: world\n\n"),
        sent.events(b'event: tick\ndata: {"n":1}\n\n'),
    ],
)
def test_what_is_no_answer_of_this_kind_is_left_to_others(traffic: Traffic) -> None:
    assert CHAT.claims(traffic)
    assert read(CHAT, traffic) is None


@pytest.mark.parametrize(
    "traffic",
    [
        sent.answer(b"", status=204),
        sent.answer(b'{"id": 5, "no'),
        sent.answer({"error": "no such course"}, status=404),
        sent.answer({"detail": "no such course"}, status=404),
        sent.events(b""),
        sent.events(b": ping\n\n"),
    ],
)
@pytest.mark.parametrize("request_", [b"", b'{"grade": 5}', b"grade=5"])
def test_another_application_at_such_a_path_is_left_alone(
    traffic: Traffic, request_: bytes
) -> None:
    other = msgspec.structs.replace(
        traffic, request=request_, request_type="application/x-www-form-urlencoded"
    )
    assert read(CHAT, other) is None
    assert read(CHAT, traffic) is not None


def test_a_request_that_is_too_large_to_be_read_is_believed_to_be_one() -> None:
    cut = msgspec.structs.replace(sent.answer(b'{"id'), request=b'{"messages": [')
    assert reading_of(cut).completeness == "no_terminator"


def test_a_chunk_that_cannot_be_read_is_left_out_and_said_to_be() -> None:
    body = stream(*sent.said("a", "b")).response.replace(b'"a"', b'"a')
    reading = reading_of(sent.events(body))
    assert (only(reading).text, reading.partial) == ("b", True)
    assert reading.completeness == "complete"


def test_fields_of_odd_types_are_left_out_and_the_rest_is_read() -> None:
    odd = chunk(
        {"index": "0", "delta": {"content": "a", "role": 7, "refusal": []}},
        {"index": 1, "delta": {"content": {"text": "b"}}},
        {"index": 1, "delta": {"content": 7}},
        id=7,
        usage={"prompt_tokens": "many", "completion_tokens": 3.0},
    )
    reading = reading_of(stream(odd))
    assert reading.answers == [Answer(text="a"), Answer(index=1)]
    assert reading.usage == {"gen_ai.usage.output_tokens": 3}
    assert reading.response_id is None


def test_nothing_after_the_terminator_counts() -> None:
    body = stream(*sent.said("a")).response + stream(*sent.said("b")).response
    assert only(reading_of(sent.events(body))).text == "a"


@pytest.mark.parametrize("end", [b"data: [DONE]", b"data: [DONE]\n", b"data:[DONE]\r"])
def test_a_terminator_is_one_without_the_empty_line_after_it(end: bytes) -> None:
    body = stream(*sent.said("a"), done=False).response + end
    assert reading_of(sent.events(body)).completeness == "complete"


def _texts(chunks: list[dict[str, Any]]) -> list[str]:
    texts: list[str] = []
    for one in chunks:
        parts = [
            (choice.get("delta", {}).get("content") or "")
            + (choice.get("delta", {}).get("audio", {}).get("transcript") or "")
            for choice in one["choices"]
            if choice["index"] == 0
        ]
        texts.append("".join(parts))
    return texts


@pytest.mark.parametrize(
    ("name", "newline"), [*((name, "\n") for name in STREAMS), ("openai", "\r\n")]
)
def test_a_stream_cut_at_any_byte_says_what_the_client_got(
    name: str, newline: str
) -> None:
    chunks = STREAMS[name]
    traffic = stream(*chunks, newline=newline)
    # A CRLF ends its line with the CR already.
    ends = [
        end - (newline == "\r\n")
        for end in accumulate(map(len, sent.blocks(chunks, newline)))
    ]
    texts = _texts(chunks)
    for got, cut in cuts(traffic):
        reading = read(CHAT, cut)
        assert reading is not None
        arrived = sum(end <= len(got) for end in ends)
        text = "".join(answer.text for answer in reading.answers if not answer.index)
        assert text == "".join(texts[:arrived]), got[-40:]
        whole = b"data: [DONE]" in got
        assert reading.completeness == ("complete" if whole else "no_terminator")
        assert not reading.partial


@pytest.mark.parametrize("body", [sent.WHOLE, {"error": {"code": "overloaded"}}])
def test_a_body_cut_at_any_byte_is_an_answer_without_an_end(body: Any) -> None:
    for _, cut in cuts(sent.answer(body)):
        reading = reading_of(cut)
        assert (reading.completeness, reading.answers) == ("no_terminator", [])
        assert reading.requested_model == "gpt-4o-mini"
        assert reading.partial


DAMAGED = st.one_of([damaged(stream(*one).response) for one in STREAMS.values()])


@given(DAMAGED)
def test_a_damaged_stream_gives_a_reading_or_none(body: bytes) -> None:
    read(CHAT, sent.events(body))
    read(TEXT, sent.events(body))


@given(damaged(json.dumps(sent.WHOLE).encode()))
def test_a_damaged_body_gives_a_reading_or_none(body: bytes) -> None:
    read(CHAT, sent.answer(body))
    read(TEXT, sent.answer(body))


@given(damaged(json.dumps(sent.REQUEST).encode()))
def test_a_damaged_request_leaves_the_answer_readable(body: bytes) -> None:
    traffic = msgspec.structs.replace(sent.answer(sent.WHOLE), request=body)
    assert only(reading_of(traffic)).text == "Because your income is too low."


def test_of_an_endless_text_the_beginning_is_kept() -> None:
    part = "é" * (1 << 18)
    for count in (4, 5):
        parts = [chunk(delta(content=part)) for _ in range(count)]
        reading = reading_of(stream(*parts))
        assert only(reading).text == "é" * MAX_TEXT
        assert reading.partial is (count == 5)


def test_in_the_gap_of_a_long_stream_text_is_missing_and_said_to_be() -> None:
    chunks = [*sent.said(*"abcdefgh"), chunk(usage=sent.USAGE)]
    blocks = [*sent.blocks(chunks), b"data: [DONE]\n\n"]
    begun, tail = b"".join(blocks[:3]), b"".join(blocks[7:])
    whole = sent.events(b"".join(blocks))
    capped = msgspec.structs.replace(
        whole,
        response=begun + blocks[3][:50],
        tail=blocks[6][50:] + tail,
        capped=True,
    )
    reading = reading_of(capped)
    assert (reading.completeness, reading.partial) == ("complete", True)
    assert reading.usage == sent.COUNTED
    # Role, a, b; then g, h, the reason: c is cut, d and e in the gap, f is cut.
    assert only(reading) == Answer(role="assistant", text="abgh", finish_reason="stop")
    joined = msgspec.structs.replace(
        whole, response=whole.response[:900], tail=whole.response[900:]
    )
    assert reading_of(joined) == reading_of(whole)


def test_of_a_long_body_the_end_and_the_usage_are_known() -> None:
    body = json.dumps(sent.WHOLE).encode()
    capped = msgspec.structs.replace(
        sent.answer(body), response=body[:100], tail=body[-400:], capped=True
    )
    reading = reading_of(capped)
    assert (reading.completeness, reading.partial) == ("complete", True)
    assert reading.usage == sent.COUNTED
    cut = msgspec.structs.replace(capped, tail=body[-400:-3])
    assert reading_of(cut).completeness == "no_terminator"


COMPLETION: dict[str, Any] = {
    "id": "cmpl-uqkvlQyYK7bGYrRHQ0eXlWi7",
    "object": "text_completion",
    "created": 1589478378,
    "model": "gpt-3.5-turbo-instruct",
    "choices": [
        {"text": "\n\nA", "index": 0, "logprobs": None, "finish_reason": "length"},
        {"text": "B", "index": 1, "logprobs": None, "finish_reason": "stop"},
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
}


@pytest.mark.parametrize(
    ("prompt", "items"),
    [("a", None), (["a", "b"], 2), ([1, 2], None), ([[1], [2], [3]], 3), ([], None)],
)
def test_completions_of_text_are_read_with_the_number_of_prompts(
    prompt: Any, items: int | None
) -> None:
    request = {"model": "gpt-3.5-turbo-instruct", "prompt": prompt, "max_tokens": 7}
    traffic = sent.answer(COMPLETION, "/v1/completions", request=request)
    reading = read(TEXT, traffic)
    assert reading is not None
    assert reading.protocol == "openai.completions"
    assert reading.operation == "text_completion"
    assert reading.items == items
    assert [answer.text for answer in reading.answers] == ["\n\nA", "B"]
    assert reading.finish_reasons == ["length", "stop"]
    assert reading.parameters == {"gen_ai.request.max_tokens": 7}


def test_streamed_completions_of_text_are_read() -> None:
    parts = [
        COMPLETION | {"choices": [{"index": 0, "text": text, "finish_reason": None}]}
        for text in ("He", "llo")
    ]
    body = stream(*parts).response
    reading = read(TEXT, sent.events(body, "/v1/completions"))
    assert reading is not None
    assert (only(reading).text, reading.completeness) == ("Hello", "complete")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/chat/completions/",
        "/openai/deployments/gpt4/chat/completions",
        "/engines/x/chat/completions",
    ],
)
def test_chats_are_known_by_the_end_of_the_path(path: str) -> None:
    assert CHAT.claims(Traffic(path=path))
    assert not TEXT.claims(Traffic(path=path))


@pytest.mark.parametrize(
    "path", ["/v1/completions", "/openai/deployments/g/completions"]
)
def test_completions_of_text_are_known_by_the_end_of_the_path(path: str) -> None:
    assert TEXT.claims(Traffic(path=path))
    assert not CHAT.claims(Traffic(path=path))


def test_a_chat_at_another_path_is_known_by_what_it_says_it_is() -> None:
    for traffic in (stream(*sent.OPENAI), sent.answer(sent.WHOLE)):
        elsewhere = msgspec.structs.replace(traffic, path="/ask")
        assert CHAT.claims(elsewhere)
        assert not TEXT.claims(elsewhere)
    assert TEXT.claims(sent.answer(COMPLETION, "/ask"))
    assert not CHAT.claims(sent.answer(COMPLETION, "/ask"))
    likeness = {"text": 'he said "object":"chat.completion"', "object": "chat"}
    assert not CHAT.claims(sent.answer(likeness, "/ask"))


def test_a_deployment_in_the_path_stands_for_the_model() -> None:
    path = "/openai/deployments/my%20gpt/chat/completions"
    traffic = sent.answer(sent.WHOLE, path, request={"messages": []})
    assert reading_of(traffic).requested_model == "my gpt"


@pytest.mark.parametrize(
    ("request_", "parameters"),
    [
        ({"stop": "x"}, {"gen_ai.request.stop_sequences": ["x"]}),
        ({"stop": ["x", 7, "y" * 999]}, {"gen_ai.request.stop_sequences": ["x"]}),
        ({"stop": None}, {}),
        ({"seed": 2**60}, {"gen_ai.request.seed": str(2**60)}),
        ({"seed": 10**300, "n": 2}, {"gen_ai.request.choice.count": 2}),
        ({"temperature": "hot", "top_k": -1}, {"gen_ai.request.top_k": -1}),
        ({"max_tokens": 5}, {"gen_ai.request.max_tokens": 5}),
        ({"service_tier": "flex"}, {"openai.request.service_tier": "flex"}),
    ],
)
def test_parameters_are_those_of_the_request(
    request_: dict[str, Any], parameters: dict[str, Any]
) -> None:
    reading = reading_of(sent.answer(sent.WHOLE, request=request_))
    assert reading.parameters == parameters


@pytest.mark.parametrize(("request_", "partial"), [(b"", False), (b'{"mod', True)])
def test_a_request_that_is_not_whole_leaves_its_parameters_out(
    request_: bytes, partial: bool
) -> None:
    traffic = msgspec.structs.replace(sent.answer(sent.WHOLE), request=request_)
    reading = reading_of(traffic)
    assert (reading.parameters, reading.partial) == ({}, partial)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"data": [5], "error": {}}, 200),
        ({"data": [5], "error": {"message": "one is missing"}}, 200),
    ],
)
def test_an_error_of_who_asked_no_model_is_left_alone(body: Any, status: int) -> None:
    other = msgspec.structs.replace(
        sent.answer(body, status=status), request=b'{"grade": 5}'
    )
    assert read(CHAT, other) is None


def test_a_field_for_errors_that_is_empty_is_no_error() -> None:
    assert read(CHAT, sent.answer({"data": [5], "error": {}})) is None


def test_chunks_handed_on_without_a_terminator_end_with_their_reasons() -> None:
    body = sent.stream(*sent.said("a"), chunk(delta(finish="stop")), done=False)
    handed_on = msgspec.structs.replace(body, path="/ask")
    assert reading_of(handed_on).completeness == "complete"
    assert reading_of(body).completeness == "no_terminator"


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/json"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_chunks_handed_on_as_lines_of_json_are_no_answer_that_was_cut(
    media_type: str, end: bytes
) -> None:
    lines = b"\n".join(json.dumps(one).encode() for one in sent.said("a")) + end
    traffic = Traffic(
        path="/ask",
        status=200,
        request=json.dumps(sent.REQUEST).encode(),
        request_type="application/json",
        response=lines,
        response_type=media_type,
    )
    assert CHAT.claims(traffic)
    assert read(CHAT, traffic) is None


def test_chunks_handed_on_without_a_reason_have_no_end() -> None:
    body = sent.stream(chunk(delta(content="a")), done=False)
    handed_on = msgspec.structs.replace(body, path="/ask")
    assert reading_of(handed_on).completeness == "no_terminator"


@pytest.mark.parametrize("name", ["temperature", "top_p", "presence_penalty"])
@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_numbers_that_are_not_finite_are_left_out(name: str, number: str) -> None:
    asked = f'{{"model":"m","n":2,"{name}":{number}}}'.encode()
    traffic = msgspec.structs.replace(sent.answer(sent.WHOLE), request=asked)
    assert reading_of(traffic).parameters == {"gen_ai.request.choice.count": 2}


def test_of_texts_that_stop_an_answer_so_many_are_told() -> None:
    asked = json.dumps({"model": "m", "stop": [f"s{n}" for n in range(40)]}).encode()
    traffic = msgspec.structs.replace(sent.answer(sent.WHOLE), request=asked)
    told = reading_of(traffic).parameters["gen_ai.request.stop_sequences"]
    assert told == [f"s{n}" for n in range(16)]
