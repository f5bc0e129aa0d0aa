"""MLflow's scoring server, its server for agents, and what else is at their path.

Shapes are those that MLflow 3.17 writes and reads: `pyfunc.scoring_server`,
`genai.agent_server` and `types.agent`; and OpenAI's, in which agents answer.
"""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.protocols.mlflow import MLflow
from auditlog.capture.reading import Answer, Reading, ToolCall, Traffic
from tests.capture.protocols.cutting import cuts, damaged, read

SPLIT = {"columns": ["a", "b"], "index": [0, 1], "data": [[1, 2], [3, 4]]}
TALK = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
FAILURE = {
    "error_code": "BAD_REQUEST",
    "message": "Failed to predict data 'Ms. Doe'",
    "stack_trace": "Traceback …",
}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def stream(*some: Any, done: bool = True) -> bytes:
    """Return events as the server for agents writes them."""
    sent = [json.dumps(one) for one in some] + (["[DONE]"] if done else [])
    return "".join(f"data: {data}\n\n" for data in sent).encode()


def chunk(**delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "agent",
        "choices": [choice],
    }


def agent(text: str, key: str = "m1", **fields: Any) -> dict[str, Any]:
    delta = {"role": "assistant", "content": text, "id": key, **fields}
    return {"delta": delta, "finish_reason": None, "usage": None}


CHAT = stream(chunk(role="assistant", content="Good "), chunk(content="day, ü."))
AGENT = stream(agent("Good "), agent("day, ü."), {"trace_id": "tr-1"})
RESPONSES = stream(
    {"type": "response.output_text.delta", "item_id": "m1", "delta": "Good "},
    {"type": "response.output_text.delta", "item_id": "m1", "delta": "day, ü."},
    {
        "type": "response.output_item.done",
        "item": {
            "type": "message",
            "id": "m1",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Good day, ü."}],
        },
    },
)
FAILED = stream(agent("Good "), {"error": "no such customer: Ms. Doe"})
STREAMS = [CHAT, AGENT, RESPONSES]


def traffic(request: Any, answer: Any, /, **fields: Any) -> Traffic:
    streamed = isinstance(answer, bytes)
    exchange = Traffic(
        path="/invocations",
        status=200,
        request=request if isinstance(request, bytes) else json.dumps(request).encode(),
        request_type="application/json",
        response=answer if isinstance(answer, bytes) else json.dumps(answer).encode(),
        response_type="text/event-stream; charset=utf-8"
        if streamed
        else "application/json",
    )
    return msgspec.structs.replace(exchange, **fields)


def reading_of(request: Any, answer: Any, /, **fields: Any) -> Reading | None:
    return read(MLflow(), traffic(request, answer, **fields))


def must(request: Any, answer: Any, /, **fields: Any) -> Reading:
    reading = reading_of(request, answer, **fields)
    assert reading is not None
    return reading


@pytest.mark.parametrize(
    ("request_body", "items"),
    [
        ({"dataframe_split": SPLIT}, 2),
        ({"dataframe_split": {"columns": ["a"]}}, None),
        ({"dataframe_split": [1]}, None),
        ({"dataframe_records": [{"a": 1}, {"a": 2}, {"a": 3}]}, 3),
        ({"instances": [[1.0, 2.0]], "params": {"t": 1}}, 1),
        ({"instances": {"a": [1, 2], "b": [3, 4]}}, 2),
        ({"inputs": [1, 2, 3]}, 3),
        ({"inputs": {"a": [1, 2]}}, 2),
        ({"inputs": "one text"}, None),
        ({"inputs": {}}, None),
    ],
)
def test_rows_are_counted_in_each_format(request_body: Any, items: int | None) -> None:
    assert must(request_body, {"predictions": [0, 1]}) == Reading(
        protocol="mlflow", operation="predict", items=items
    )


@pytest.mark.parametrize(
    ("table", "items"),
    [
        (b"a,b\n1,2\n3,4\n", 2),
        (b'a,b\r\n1,"two\nlines"\r\n', 1),
        (b"a\n\n1\n\n", 1),
        (b"a,b\n", 0),
        (b"\n", 0),
        (b"a,b\n1,2\n3,", None),
        (b"a\n\xff\n", None),
        (b"a\n" + b"x" * 200_000 + b"\n", None),
        (b"", None),
    ],
)
@pytest.mark.parametrize("media_type", ["text/csv", "Text/CSV; charset=utf-8"])
def test_rows_of_a_table_are_counted(
    table: bytes, items: int | None, media_type: str
) -> None:
    reading = must(table, {"predictions": [0]}, request_type=media_type)
    assert (reading.operation, reading.items) == ("predict", items)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/invocations", None),
        ("/invocations/", None),
        ("/serving-endpoints/credit%20risk/invocations", "credit risk"),
        ("/serving-endpoints/credit/served-models/credit-3/invocations", "credit"),
        ("/endpoints/credit/invocations", "credit"),
    ],
)
def test_an_endpoint_in_the_path_is_the_model_that_was_asked(
    path: str, model: str | None
) -> None:
    reading = must({"inputs": [1]}, {"predictions": [1]}, path=path)
    assert reading.requested_model == model


@pytest.mark.parametrize(
    "answer",
    [
        {"predictions": [1.5, None]},
        {"predictions": {"label": ["a"]}, "error": None},
        {"predictions": [1], "error": "in another column"},
        [1, 0],
        "text",
    ],
)
def test_whatever_json_a_model_returns_is_an_answer(answer: Any) -> None:
    assert must({"inputs": [1]}, answer).completeness == "complete"


def test_scores_that_are_no_numbers_are_an_answer() -> None:
    body = b'{"predictions": [NaN, Infinity, -Infinity, "NaN"]}'
    assert must({"inputs": [1]}, {}, response=body).completeness == "complete"


@pytest.mark.parametrize(
    ("status", "answer", "error_type"),
    [
        (400, FAILURE, "BAD_REQUEST"),
        (200, FAILURE, "BAD_REQUEST"),
        (500, {"detail": "No stream function registered"}, None),
        (500, {"error_code": "It failed for Ms. Doe"}, None),
        (200, {"error": {"code": "overloaded", "message": "Ms. Doe"}}, "overloaded"),
    ],
)
def test_an_error_is_told_by_its_code_alone(
    status: int, answer: Any, error_type: str | None
) -> None:
    for request in ({"inputs": [1]}, TALK):
        reading = must(request, answer, status=status)
        assert (reading.completeness, reading.error_type) == ("error_frame", error_type)
        assert b"Doe" not in msgspec.json.encode(reading)


def test_an_error_in_plain_text_is_one() -> None:
    body = b"Request processing time exceeded limit"
    reading = must({"inputs": [1]}, {}, status=504, response=body)
    assert reading.completeness == "error_frame"


@pytest.mark.parametrize("body", STREAMS, ids=["chat", "agent", "responses"])
def test_a_stream_of_an_agent_is_put_together(body: bytes) -> None:
    reading = must(TALK, body)
    assert (reading.protocol, reading.operation) == ("mlflow", "chat")
    assert (reading.streamed, reading.completeness) == (True, "complete")
    assert [answer.text for answer in reading.answers] == ["Good day, ü."]
    assert reading.parameters == {"gen_ai.request.stream": True}


@pytest.mark.parametrize("body", [CHAT, AGENT], ids=["chat", "agent"])
def test_without_its_terminator_it_has_no_end(body: bytes) -> None:
    reading = must(TALK, body.removesuffix(b"data: [DONE]\n\n"))
    assert reading.completeness == "no_terminator"


@pytest.mark.parametrize("body", STREAMS, ids=["chat", "agent", "responses"])
def test_an_error_in_the_stream_counts_before_its_terminator(body: bytes) -> None:
    begun = body.removesuffix(b"data: [DONE]\n\n")
    failed = begun + stream({"error": "it failed for Ms. Doe"})
    reading = must(TALK, failed)
    assert (reading.completeness, reading.error_type) == ("error_frame", None)
    assert reading.answers[0].text == "Good day, ü."
    assert b"Doe" not in msgspec.json.encode(reading)


def test_an_error_may_be_all_there_is() -> None:
    reading = must(
        TALK, stream({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": ""})
    )
    assert reading.completeness == "error_frame"
    assert reading.error_type == "REQUEST_LIMIT_EXCEEDED"


def test_chunks_of_an_unknown_shape_are_only_known_by_their_end() -> None:
    assert must({"inputs": "x"}, stream({"step": 1})).completeness == "complete"
    assert reading_of({"inputs": "x"}, stream({"step": 1}, done=False)) is None


def test_messages_of_an_agent_are_told_apart() -> None:
    last = agent("20°", "m2") | {
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
    }
    body = stream(
        agent("", "m1", tool_calls=[CALL]),
        {"delta": {"role": "tool", "content": "20", "id": "t1", "tool_call_id": "c1"}},
        last,
    )
    reading = must(TALK, body)
    assert reading.usage == {
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 5,
    }
    assert reading.answers == [
        Answer(
            role="assistant",
            tool_calls=[ToolCall(id="c1", name="f", arguments="{}")],
        ),
        Answer(index=1, role="tool", text="20"),
        Answer(index=2, role="assistant", text="20°", finish_reason="stop"),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}]},
        {"messages": [{"role": "assistant", "content": "Hi", "id": "m1"}]},
        {
            "object": "response",
            "status": "completed",
            "output": [
                {
                    "type": "message",
                    "id": "m1",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Hi"}],
                }
            ],
        },
    ],
)
def test_a_chat_that_is_not_streamed_says_the_same(answer: Any) -> None:
    reading = must({**TALK, "stream": False}, answer)
    assert (reading.protocol, reading.operation) == ("mlflow", "chat")
    assert (reading.streamed, reading.completeness) == (False, "complete")
    assert [one.text for one in reading.answers] == ["Hi"]


@pytest.mark.parametrize(
    ("request_body", "operation"),
    [
        ({"prompt": "Once"}, "text_completion"),
        ({"input": ["a", "b"]}, "embeddings"),
        ({"messages": []}, "chat"),
    ],
)
def test_what_a_model_returns_bare_is_known_by_the_request(
    request_body: Any, operation: str
) -> None:
    reading = must(request_body, ["upon a time"])
    assert (reading.operation, reading.answers) == (operation, [])


@pytest.mark.parametrize(
    ("fields", "request_body"),
    [
        ({"path": "/api/invocation"}, {"inputs": [1]}),
        ({"path": "/invocations/7"}, {"inputs": [1]}),
        ({}, {"text": "What a container of one's own takes"}),
        ({"request_type": "image/png"}, b"\x89PNG"),
    ],
)
def test_other_services_are_left_alone(
    fields: dict[str, Any], request_body: Any
) -> None:
    other = traffic(request_body, {"answer": 1}, **fields)
    assert not MLflow().claims(other)


def test_an_answer_alone_is_enough() -> None:
    for answer in ({"predictions": [1]}, FAILURE):
        assert MLflow().claims(traffic(b"", answer))


def test_an_answer_that_is_no_json_is_not_read() -> None:
    csv = {"response": b"0.5\n0.25\n", "response_type": "text/csv"}
    assert reading_of({"instances": [1]}, {}, **csv) is None


def test_of_a_capped_answer_only_the_end_counts() -> None:
    begun = {"response": b'{"predictions": [1', "capped": True}
    for tail, ended in ((b", 1]}\n", "complete"), (b", 1", "no_terminator")):
        reading = must({"inputs": [1]}, {}, tail=tail, **begun)
        assert (reading.completeness, reading.partial) == (ended, True)
    reading = must(TALK, AGENT[:100], tail=AGENT[-40:], capped=True)
    assert (reading.completeness, reading.partial) == ("complete", True)


@pytest.mark.parametrize(
    "body", [*STREAMS, FAILED], ids=["chat", "agent", "responses", "failed"]
)
def test_a_stream_cut_at_any_byte_holds_its_whole_deltas(body: bytes) -> None:
    failure = body.find(b'data: {"error"')
    for sent, cut in cuts(traffic(TALK, body)):
        reading = read(MLflow(), cut)
        if reading is None:  # nothing shows yet what it is
            assert b"\n\n" not in sent
            continue
        failed = failure >= 0 and b"}" in sent[failure:]
        done = "complete" if b"[DONE]" in sent else "no_terminator"
        assert reading.completeness == ("error_frame" if failed else done), sent
        text = "".join(answer.text for answer in reading.answers)
        assert text == "".join(map(_delta, sent.split(b"\n\n")[:-1])), sent


def _delta(block: bytes) -> str:
    data = block.removeprefix(b"data: ")
    part = json.loads(data) if data != b"[DONE]" else {}
    if "choices" in part:
        part = part["choices"][0]
    delta = part.get("delta", "")
    return str(delta.get("content") if isinstance(delta, dict) else delta)


@pytest.mark.parametrize("answer", [{"predictions": [1, 2]}, {"choices": []}])
def test_an_answer_cut_at_any_byte_has_no_end(answer: Any) -> None:
    for request in ({"inputs": [1]}, TALK):
        for sent, cut in cuts(traffic(request, answer)):
            reading = read(MLflow(), cut)
            assert reading is not None, sent
            assert reading.completeness == "no_terminator", sent


@given(st.data())
def test_no_damage_raises_anything(data: st.DataObject) -> None:
    some = [traffic(TALK, body) for body in (*STREAMS, FAILED)]
    some += [
        traffic({"dataframe_split": SPLIT}, {"predictions": [0, 1]}),
        traffic({"inputs": {"a": [1]}}, FAILURE),
        traffic(b'a,b\n1,"2"\n', {"predictions": [0]}, request_type="text/csv"),
    ]
    whole = data.draw(st.sampled_from(some))
    hit = msgspec.structs.replace(
        whole,
        request=data.draw(damaged(whole.request)),
        response=data.draw(damaged(whole.response)),
    )
    read(MLflow(), hit)


def test_a_number_that_a_model_calls_its_error_is_none() -> None:
    answer = {"y": 3, "error": 0.2}
    assert must({"inputs": [1]}, answer).completeness == "complete"


@pytest.mark.parametrize("none", [{"error": None}, {"errors": []}, {"error": {}}])
def test_a_chunk_that_begins_with_no_error_is_none(none: Any) -> None:
    body = stream({**none, **chunk(content="Hi")})
    assert must(TALK, body).completeness == "complete"


def test_lines_of_json_are_no_answer_that_was_cut() -> None:
    lines = b'{"token": "a"}\n{"token": "b"}\n'
    assert reading_of({"inputs": [1]}, {}, response=lines) is None


def test_a_table_without_a_media_type_is_no_json_that_was_cut() -> None:
    bare = {"response": b"a,b\n1,2\n", "response_type": None}
    assert reading_of({"inputs": [1]}, {}, **bare) is None


def test_deltas_of_another_protocol_are_no_message_of_an_agent() -> None:
    other = {"type": "content_block_delta", "delta": {"text": "Hi"}}
    assert reading_of({"inputs": [1]}, stream(other, done=False)) is None
