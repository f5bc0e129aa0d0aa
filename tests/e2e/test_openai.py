"""The openai client, unchanged, asks the demo through the middleware and without it."""

import json
from typing import Any

import openai
import pytest

from auditlog.log.check import check_log
from auditlog.log.directory import open_log
from demo_service.text.model import train_text_model
from tests.e2e.model_clients import (
    ENDLESS,
    LEFT,
    MODEL,
    WAYS,
    Asked,
    Call,
    Clients,
    Told,
    ask_all,
    expect_same_bytes,
    expect_stored_bytes,
    replay,
    shown,
)

CLIENTS = Clients(
    lambda url, http: openai.OpenAI(
        base_url=f"{url}/v1", api_key="none", http_client=http, max_retries=0
    ),
    lambda url, http: openai.AsyncOpenAI(
        base_url=f"{url}/v1", api_key="none", http_client=http, max_retries=0
    ),
    openai.APIStatusError,
)
CHAT, RESPONSES = "chat.completions.create", "responses.create"
WHY = [{"role": "user", "content": "Why was my application declined?"}]
SCORE = "What is the credit score of applicant A-1042, with an income of €52,000? — «Ω»"
SCHEMA = {
    "type": "object",
    "properties": {"applicant": {"type": "string"}, "income": {"type": "number"}},
    "required": ["applicant", "income"],
}
FUNCTION = {"name": "credit_score", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": FUNCTION}]
CALLED = {
    "role": "assistant",
    "tool_calls": [
        {
            "id": "call_1",
            "type": "function",
            "function": {"name": "credit_score", "arguments": '{"income": 52000}'},
        }
    ],
}
RETURNED = {"role": "tool", "tool_call_id": "call_1", "content": "0.41, declined"}


def chat(**arguments: Any) -> Call:
    return Call(CHAT, {"model": MODEL, "messages": WHY, "seed": 7, **arguments})


def respond(**arguments: Any) -> Call:
    return Call(RESPONSES, {"model": MODEL, "input": WHY, **arguments})


WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
ABOUT_SCORE = {"messages": [{"role": "user", "content": SCORE}], "tools": TOOLS}
ABOUT_SCORE_TOO = {"input": SCORE, "tools": [{"type": "function", **FUNCTION}]}
CALLS = {
    "chat": chat(),
    "chat, streamed": chat(stream=True),
    "chat, streamed with usage": chat(**WITH_USAGE),
    "chat, three answers": chat(n=3, temperature=0.5),
    "chat, three answers streamed": chat(n=3, temperature=0.5, **WITH_USAGE),
    "chat, cut short": chat(max_tokens=3),
    "chat, stopped": chat(stop=["declined", "approved", "."], stream=True),
    "chat, a tool": chat(**ABOUT_SCORE),
    "chat, a tool streamed": chat(**ABOUT_SCORE, **WITH_USAGE),
    "chat, after the tool": chat(messages=[*WHY, CALLED, RETURNED], tools=TOOLS),
    "chat, another model": chat(model="another"),
    "chat, too hot": chat(temperature=3, stream=True),
    "chat, left half-way": chat(
        messages=[{"role": "user", "content": ENDLESS}],
        temperature=0,
        max_tokens=65_536,
        stream=True,
    )._replace(leaves=True),
    "chat, helped": chat()._replace(method="chat.completions.stream"),
    "chat, a tool helped": chat(**ABOUT_SCORE)._replace(
        method="chat.completions.stream"
    ),
    "responses": respond(),
    "responses, helped": respond()._replace(method="responses.stream"),
    "responses, streamed": respond(stream=True),
    "responses, cut short": respond(stream=True, max_output_tokens=3),
    "responses, a tool": respond(**ABOUT_SCORE_TOO),
    "responses, a tool streamed": respond(**ABOUT_SCORE_TOO, stream=True),
    "responses, another model": respond(model="another"),
}
every_call = pytest.mark.parametrize(
    ("name", "way"), [(name, way) for name in CALLS for way in WAYS]
)

HELPED = ["chat, helped", "chat, a tool helped", "responses, helped"]
REFUSED = ["chat, another model", "chat, too hot", "responses, another model"]
WHOLE = [
    name
    for name, call in CALLS.items()
    if not call.leaves and name not in REFUSED + HELPED
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return ask_all(CLIENTS, CALLS, tmp_path_factory.mktemp("openai"))


def result(asked: Asked, name: str) -> Any:
    return asked.got[name, "sync", "logged"].result


def texts(events: list[dict[str, Any]]) -> list[str]:
    """Return what the chunks of a completion say, by choice."""
    said: dict[int, str] = {}
    for choice in (choice for event in events for choice in event["choices"]):
        text = said.get(choice["index"], "") + (choice["delta"]["content"] or "")
        said[choice["index"]] = text
    return [said[number] for number in sorted(said)]


def told(result: Any) -> list[Told]:
    """Return what a client was told: the text and calls of each answer."""
    if isinstance(result, list):
        last = result[-1]
        return told(last["response"]) if "response" in last else told_in_chunks(result)
    if "choices" in result:
        return [_message(choice["message"]) for choice in result["choices"]]
    parts = [
        part["text"] for item in result["output"] for part in item.get("content") or ()
    ]
    calls = [
        (item["name"], item["arguments"])
        for item in result["output"]
        if item["type"] == "function_call"
    ]
    return [("".join(parts), calls)]


def _message(message: dict[str, Any]) -> Told:
    calls = [call["function"] for call in message["tool_calls"] or ()]
    return message["content"] or "", [(one["name"], one["arguments"]) for one in calls]


def told_in_chunks(chunks: list[dict[str, Any]]) -> list[Told]:
    """Return the same of a streamed completion; it calls one tool at most."""
    found: list[Told] = []
    for number, text in enumerate(texts(chunks)):
        functions = [
            call["function"]
            for chunk in chunks
            for choice in chunk["choices"]
            for call in choice["delta"]["tool_calls"] or ()
            if choice["index"] == number
        ]
        arguments = "".join(one["arguments"] for one in functions)
        found.append((text, [(one["name"], arguments) for one in functions[:1]]))
    return found


def usage(result: Any) -> Any:
    """Return the usage that a client was told, or None."""
    last = result[-1] if isinstance(result, list) else result
    return last.get("response", last)["usage"]


@every_call
def test_the_client_sees_the_same_bytes_with_and_without_the_log(
    asked: Asked, name: str, way: str
) -> None:
    expect_same_bytes(asked, name, way)


@every_call
def test_the_decision_is_of_exactly_these_bytes(
    asked: Asked, name: str, way: str
) -> None:
    route = "/v1/responses" if name.startswith("resp") else "/v1/chat/completions"
    expect_stored_bytes(asked, name, way, route)


@every_call
def test_what_is_stored_says_to_the_client_what_it_was_told(
    asked: Asked, name: str, way: str
) -> None:
    told = asked.got[name, way, "logged"].result
    assert replay(CLIENTS, CALLS[name], asked, name, way) == told


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", WHOLE)
def test_the_decision_shows_what_the_client_was_told(
    asked: Asked, name: str, way: str
) -> None:
    result = asked.got[name, way, "logged"].result
    reading = asked.reading(name, way)
    assert shown(reading) == told(result)
    assert reading.completeness == "complete"
    assert reading.requested_model == reading.answered_model == MODEL
    said = usage(result) or {}
    output = said.get("completion_tokens", said.get("output_tokens"))
    assert reading.usage.get("gen_ai.usage.output_tokens") == output


@pytest.mark.parametrize("name", CALLS)
def test_a_decision_names_the_model_that_answered(asked: Asked, name: str) -> None:
    model = train_text_model()
    named = {
        "model.name": model.name,
        "model.version": model.version,
        "model.digest": model.digest,
    }
    answered = asked.got[name, "sync", "logged"].seen.status == 200
    data = asked.decision(name, "sync")[0].data
    said = {key: value for key, value in data.items() if key.startswith("model.")}
    # Where the log says more about the model: one entry for all of these decisions.
    assert (said.pop("model.entry", None) is not None) == answered
    assert said == (named if answered else {})


@pytest.mark.parametrize("name", CALLS)
def test_asked_in_turn_or_side_by_side_the_answer_is_the_same(
    asked: Asked, name: str
) -> None:
    in_turn, side_by_side = (asked.got[name, way, "logged"].result for way in WAYS)
    assert in_turn == side_by_side


def test_a_streamed_answer_is_the_whole_one_in_pieces(asked: Asked) -> None:
    whole = result(asked, "chat")["choices"][0]["message"]["content"]
    streamed = result(asked, "chat, streamed")
    assert texts(streamed) == [whole]
    assert len(streamed) > 5
    assert [event["usage"] for event in streamed] == [None] * len(streamed)


def test_choices_are_streamed_side_by_side(asked: Asked) -> None:
    whole = result(asked, "chat, three answers")
    streamed = result(asked, "chat, three answers streamed")
    messages = [choice["message"]["content"] for choice in whole["choices"]]
    assert texts(streamed) == messages
    assert len(set(messages)) == 3
    assert [event["choices"][0]["index"] for event in streamed[:6]] == [0, 1, 2] * 2
    assert streamed[-1]["choices"] == []
    assert streamed[-1]["usage"] == whole["usage"]


def test_usage_counts_the_tokens_of_the_model(asked: Asked) -> None:
    tokenizer = train_text_model().tokenizer
    chat = result(asked, "chat")
    content = chat["choices"][0]["message"]["content"]
    assert chat["usage"]["completion_tokens"] == len(tokenizer.encode(content))
    assert result(asked, "chat, cut short")["usage"]["completion_tokens"] == 3
    streamed = result(asked, "chat, streamed with usage")
    assert streamed[-1]["usage"] == chat["usage"]


def test_an_answer_says_why_it_ended(asked: Asked) -> None:
    def reason(name: str) -> str:
        chunk: dict[str, Any] = result(asked, name)
        text: str = chunk["choices"][0]["finish_reason"]
        return text

    assert reason("chat") == "stop"
    assert reason("chat, cut short") == "length"
    assert reason("chat, a tool") == "tool_calls"
    (text,) = texts(result(asked, "chat, stopped"))
    whole = result(asked, "chat")["choices"][0]["message"]["content"]
    assert whole.startswith(text)
    assert "." not in text
    assert result(asked, "responses, cut short")[-1]["response"]["status"] == (
        "incomplete"
    )


def test_a_tool_is_called_with_what_the_question_says(asked: Asked) -> None:
    whole = result(asked, "chat, a tool")["choices"][0]["message"]["tool_calls"]
    deltas = [
        call
        for event in result(asked, "chat, a tool streamed")
        for choice in event["choices"]
        for call in choice["delta"]["tool_calls"] or ()
    ]
    streamed = "".join(call["function"]["arguments"] for call in deltas)
    (item,) = result(asked, "responses, a tool")["output"]
    done = [
        event["arguments"]
        for event in result(asked, "responses, a tool streamed")
        if event["type"] == "response.function_call_arguments.done"
    ]
    arguments = whole[0]["function"]["arguments"]
    assert json.loads(arguments) == {"applicant": "A-1042", "income": 52_000}
    assert {arguments, streamed, item["arguments"], *done} == {arguments}
    assert whole[0]["function"]["name"] == item["name"] == "credit_score"


def test_told_what_the_tool_has_returned_it_answers_in_words(asked: Asked) -> None:
    message = result(asked, "chat, after the tool")["choices"][0]["message"]
    assert message["tool_calls"] is None
    assert message["content"]


def test_a_response_is_the_same_whole_and_streamed(asked: Asked) -> None:
    *_, last = result(asked, "responses, streamed")
    assert last["response"] == result(asked, "responses")


def test_helpers_of_the_client_put_together_what_the_decision_shows(
    asked: Asked,
) -> None:
    def shows(name: str) -> list[Told]:
        return shown(asked.reading(name, "sync"))

    *_, done = result(asked, "chat, helped")
    assert (done["type"], [(done["content"], [])]) == (
        "content.done",
        shows("chat, helped"),
    )
    *_, called = result(asked, "chat, a tool helped")
    assert [("", [(called["name"], called["arguments"])])] == (
        shows("chat, a tool helped")
    )
    *_, whole = result(asked, "responses, helped")
    assert told(whole["response"]) == shows("responses, helped")


def test_refusals_come_as_the_client_expects_them(asked: Asked) -> None:
    assert result(asked, "chat, another model").startswith("Error code: 404 - there is")
    assert "less than or equal to 2" in result(asked, "chat, too hot")
    assert "credit-letters" in result(asked, "responses, another model")


@pytest.mark.parametrize("way", WAYS)
def test_of_an_answer_left_half_way_the_log_has_what_the_client_got(
    asked: Asked, way: str
) -> None:
    entry, _, _ = asked.decision("chat, left half-way", way)
    ((got, _),) = told(asked.got["chat, left half-way", way, "logged"].result)
    reading = asked.reading("chat, left half-way", way)
    ((written, _),) = shown(reading)
    assert entry.data["outcome"] == LEFT
    assert reading.completeness == "no_terminator"
    assert got
    assert written.startswith(got)


def test_the_log_holds(asked: Asked) -> None:
    with open_log(asked.directory, read_only=True) as opened:
        report = check_log(opened)
    assert report.problems == ()
    assert report.decisions == len(CALLS) * len(WAYS)
