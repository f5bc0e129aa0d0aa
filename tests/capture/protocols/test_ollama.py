"""Ollama's chats, texts and embeddings, in the shapes of its documentation."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.protocols.ollama import OllamaChat, OllamaEmbed, OllamaGenerate
from auditlog.capture.reading import (
    MAX_TEXT,
    Answer,
    ModelProtocol,
    Reading,
    ToolCall,
    Traffic,
)
from tests.capture.protocols.cutting import cuts, damaged, read

OPTIONS = {
    "temperature": 0,
    "seed": 42,
    "num_predict": 128,
    "stop": ["\n"],
    "num_ctx": 4096,
}
ASKED = {
    "model": "qwen3",
    "messages": [{"role": "user", "content": "Weather in Tokyo?"}],
    "options": OPTIONS,
}
STAMP = {"model": "qwen3", "created_at": "2025-10-26T17:15:24.097767Z"}
METRICS = {
    "total_duration": 4883583458,
    "load_duration": 1334875,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 342546000,
    "eval_count": 282,
    "eval_duration": 4535599000,
}
CALL = {"function": {"index": 0, "name": "weather", "arguments": {"city": "東京"}}}


def said(**message: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "", **message}
    return {**STAMP, "message": message, "done": False}


def done(**fields: Any) -> dict[str, Any]:
    return {**STAMP, "done": True, "done_reason": "stop", **METRICS, **fields}


def lines(*some: dict[str, Any]) -> bytes:
    return "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in some).encode()


CHAT = lines(
    said(thinking="They want "),
    said(thinking="the weather."),
    said(content="It is "),
    said(content='"über 20°"'),
    said(tool_calls=[CALL, CALL]),
    done(message={"role": "assistant", "content": "."}),
)
TEXT = lines(
    {**STAMP, "response": "The", "done": False},
    {**STAMP, "response": " sky", "done": False},
    done(response="", context=[1, 2, 3]),
)
FAILED = lines(
    {**STAMP, "response": " Yes", "done": False},
    {"error": "an error was encountered while running the model for Ms. Doe"},
)
EMBED = {
    "model": "all-minilm",
    "embeddings": [[0.010071029, -0.0017594862], [-0.0098027075, 0.06042469]],
    "total_duration": 14143917,
    "load_duration": 1019500,
    "prompt_eval_count": 8,
}


def traffic(path: str, answer: bytes | dict[str, Any], /, **fields: Any) -> Traffic:
    streamed = isinstance(answer, bytes)
    exchange = Traffic(
        path=path,
        status=200,
        request=json.dumps(ASKED).encode(),
        request_type="application/json",
        response=answer if isinstance(answer, bytes) else json.dumps(answer).encode(),
        response_type="application/x-ndjson"
        if streamed
        else "application/json; charset=utf-8",
    )
    return msgspec.structs.replace(exchange, **fields)


def chat(answer: bytes | dict[str, Any], /, **fields: Any) -> Reading | None:
    return read(OllamaChat(), traffic("/api/chat", answer, **fields))


def text(answer: bytes | dict[str, Any], /, **fields: Any) -> Reading | None:
    return read(OllamaGenerate(), traffic("/api/generate", answer, **fields))


def embed(answer: bytes | dict[str, Any], /, **fields: Any) -> Reading | None:
    fields = {"request": b'{"model":"all-minilm","input":["a","b"]}', **fields}
    return read(OllamaEmbed(), traffic("/api/embed", answer, **fields))


def test_a_chat_is_put_together() -> None:
    assert chat(CHAT) == Reading(
        protocol="ollama.chat",
        operation="chat",
        streamed=True,
        requested_model="qwen3",
        answered_model="qwen3",
        parameters={
            "gen_ai.request.max_tokens": 128,
            "gen_ai.request.seed": 42,
            "gen_ai.request.stop_sequences": ["\n"],
            "gen_ai.request.temperature": 0,
        },
        usage={
            "gen_ai.usage.input_tokens": 26,
            "gen_ai.usage.output_tokens": 282,
        },
        answers=[
            Answer(
                role="assistant",
                text='It is "über 20°".',
                reasoning="They want the weather.",
                tool_calls=[ToolCall(name="weather", arguments='{"city":"東京"}')] * 2,
                finish_reason="stop",
            )
        ],
    )


def test_a_text_is_put_together() -> None:
    reading = text(TEXT)
    assert reading is not None
    assert (reading.operation, reading.streamed) == ("text_completion", True)
    assert reading.answers == [Answer(text="The sky", finish_reason="stop")]


@pytest.mark.parametrize("indent", [None, 2])
def test_what_is_not_streamed_says_the_same(indent: int | None) -> None:
    message = {"role": "assistant", "content": "Hello", "tool_calls": [CALL]}
    body = json.dumps(done(message=message, done_reason="length"), indent=indent)
    request = json.dumps({"model": "qwen3", "stream": False, "messages": []})
    reading = chat({}, response=body.encode(), request=request.encode())
    assert reading is not None
    assert (reading.streamed, reading.completeness) == (False, "complete")
    assert reading.parameters == {"gen_ai.request.stream": False}
    assert reading.finish_reasons == ["length"]
    assert reading.usage["gen_ai.usage.output_tokens"] == 282
    assert reading.answers[0].tool_calls[0].name == "weather"


def test_lines_sent_as_json_are_still_lines() -> None:
    reading = chat(CHAT, response_type="application/json")
    assert reading is not None
    assert reading.completeness == "complete"
    assert reading.answers[0].text == 'It is "über 20°".'


def test_embeddings_are_a_batch() -> None:
    assert embed(EMBED) == Reading(
        protocol="ollama.embed",
        operation="embeddings",
        requested_model="all-minilm",
        answered_model="all-minilm",
        usage={"gen_ai.usage.input_tokens": 8},
        items=2,
    )


def test_one_text_alone_is_no_batch() -> None:
    old = traffic("/api/embeddings", {"embedding": [0.5, 0.25]})
    reading = read(OllamaEmbed(), old)
    assert reading is not None
    assert (reading.items, reading.completeness) == (None, "complete")


def test_an_error_in_a_stream_keeps_what_came_before() -> None:
    reading = text(FAILED)
    assert reading is not None
    assert (reading.completeness, reading.error_type) == ("error_frame", None)
    assert reading.answers == [Answer(text=" Yes")]
    assert b"Doe" not in msgspec.json.encode(reading)
    late = text(FAILED + TEXT)
    assert late is not None
    assert late.completeness == "error_frame"


def test_a_stream_may_be_nothing_but_an_error() -> None:
    for ask in (chat, text, embed):
        reading = ask(lines({"error": {"code": "overloaded", "message": "Doe"}}))
        assert reading is not None
        assert (reading.completeness, reading.answers) == ("error_frame", [])
        assert reading.error_type == "overloaded"


@pytest.mark.parametrize("ask", [chat, text, embed])
def test_an_error_status_is_one(ask: Any) -> None:
    reading = ask({"error": "model 'qwen9' not found"}, status=404)
    assert (reading.completeness, reading.error_type) == ("error_frame", None)


def test_a_stream_that_is_never_done_has_no_end() -> None:
    reading = chat(lines(said(content="It"), said(content=" is")))
    assert reading is not None
    assert (reading.completeness, reading.usage) == ("no_terminator", {})
    assert reading.answers == [Answer(role="assistant", text="It is")]


def test_lines_that_say_less_take_nothing_back() -> None:
    thought = {"message": {"thinking": "Hm."}}
    reading = chat(lines(said(content="Hi"), thought, {"done": True}, {}))
    assert reading is not None
    assert (reading.completeness, reading.answered_model) == ("complete", "qwen3")
    assert reading.answers == [Answer(role="assistant", text="Hi", reasoning="Hm.")]
    silent = chat(lines({**STAMP, "message": {"role": "assistant"}, "done": False}))
    assert silent is not None
    assert silent.answers == [Answer(role="assistant")]


def test_calls_to_more_tools_than_are_put_together_are_admitted() -> None:
    reading = chat(lines(said(tool_calls=[CALL] * 1025), done()))
    assert reading is not None
    assert len(reading.answers[0].tool_calls) == 1024
    assert reading.partial


def test_a_line_that_is_no_json_is_admitted() -> None:
    reading = chat(lines(said(content="It")) + b"oops\n" + lines(done()))
    assert reading is not None
    assert (reading.completeness, reading.partial) == ("complete", True)


def test_what_is_longer_than_is_put_together_is_admitted() -> None:
    reading = chat(lines(*[said(content="x" * 100_000)] * 11, done()))
    assert reading is not None
    assert len(reading.answers[0].text) == MAX_TEXT
    assert reading.partial


@pytest.mark.parametrize(
    ("protocol", "path", "answer"),
    [
        (OllamaChat(), "/api/chat/completions", CHAT),
        (OllamaChat(), "/chat", CHAT),
        (OllamaChat(), "/api/chat", b'{"reply":"Hi"}\n'),
        (OllamaChat(), "/api/chat", b'{"model":"m","reply":"Hi"}\n'),
        (OllamaChat(), "/api/chat", b'{"token":"Hi","done":false}\n'),
        (OllamaChat(), "/api/chat", b""),
        (OllamaGenerate(), "/api/generate", b'{"image":"iVBOR"}'),
        (OllamaGenerate(), "/api/pull", TEXT),
        (OllamaEmbed(), "/api/embed", b'{"html":"<iframe>"}'),
        (OllamaEmbed(), "/v1/embeddings", b'{"embedding":[1]}'),
    ],
)
def test_other_services_of_such_paths_are_left_alone(
    protocol: ModelProtocol, path: str, answer: bytes
) -> None:
    assert not protocol.claims(traffic(path, answer))


@pytest.mark.parametrize("body", [b'{"reply":"Hi"}', b"<html>", b"[1]\n[2]\n", b"1"])
def test_something_else_is_not_read_even_if_asked_for(body: bytes) -> None:
    for protocol in (OllamaChat(), OllamaGenerate()):
        assert protocol.read(traffic("/mine", body)) is None
    assert OllamaEmbed().read(traffic("/mine", {"reply": "Hi"})) is None


def test_of_a_capped_answer_the_end_still_counts() -> None:
    reading = chat(CHAT[:300], tail=CHAT[-400:], capped=True)
    assert reading is not None
    assert (reading.completeness, reading.partial) == ("complete", True)
    body = json.dumps({**STAMP, "response": "x" * 500, "done": True}).encode()
    for tail, ended in ((body[-20:], "complete"), (body[-20:-3], "no_terminator")):
        half = text({}, response=body[:100], tail=tail, capped=True)
        assert half is not None
        assert (half.completeness, half.partial) == (ended, True)
    body = json.dumps(EMBED).encode()
    half = embed({}, response=body[:60], tail=body[-9:], capped=True)
    assert half is not None
    assert (half.completeness, half.partial) == ("complete", True)


@pytest.mark.parametrize("body", [CHAT, TEXT, FAILED], ids=["chat", "text", "failed"])
def test_a_stream_cut_at_any_byte_holds_its_whole_lines(body: bytes) -> None:
    protocol = OllamaChat() if body is CHAT else OllamaGenerate()
    path = "/api/chat" if body is CHAT else "/api/generate"
    ended = "error_frame" if body is FAILED else "complete"
    for sent, cut in cuts(traffic(path, body)):
        reading = read(protocol, cut)
        if b'"done"' not in sent:
            assert reading is None
            continue
        assert reading is not None, sent
        assert reading.completeness == (ended if sent == body[:-1] else "no_terminator")
        expected = "".join(map(_content, sent.split(b"\n")))
        assert "".join(one.text for one in reading.answers) == expected, sent


def _content(line: bytes) -> str:
    try:
        one = json.loads(line)
    except ValueError:
        return ""
    return str(one.get("response", "") or one.get("message", {}).get("content", ""))


def test_what_is_not_streamed_has_no_end_if_it_is_cut() -> None:
    whole = traffic("/api/generate", done(response="Hi"))
    for sent, cut in cuts(whole):
        reading = read(OllamaGenerate(), cut)
        assert (reading is None) == (b'"done"' not in sent)
        assert reading is None or reading.completeness == "no_terminator"
    for sent, cut in cuts(traffic("/api/embed", EMBED)):
        reading = read(OllamaEmbed(), cut)
        assert (reading is None) == (b'"embedding' not in sent)
        assert reading is None or reading.completeness == "no_terminator"


@given(st.data())
def test_no_damage_raises_anything(data: st.DataObject) -> None:
    some = [
        (OllamaChat(), traffic("/api/chat", CHAT)),
        (OllamaGenerate(), traffic("/api/generate", TEXT)),
        (OllamaGenerate(), traffic("/api/generate", FAILED)),
        (OllamaEmbed(), traffic("/api/embed", EMBED)),
    ]
    protocol, whole = data.draw(st.sampled_from(some))
    hit = msgspec.structs.replace(
        whole,
        request=data.draw(damaged(whole.request)),
        response=data.draw(damaged(whole.response)),
    )
    read(protocol, hit)  # type: ignore[arg-type]


@pytest.mark.parametrize("ask", [chat, text])
def test_a_job_that_is_not_done_is_no_answer_that_was_cut(ask: Any) -> None:
    assert ask({"model": "painter", "done": False, "job": 12}) is None
