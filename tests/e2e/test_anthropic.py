"""The anthropic client, unchanged, asks the demo through the middleware and without."""

import json
from typing import Any

import anthropic
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
    ask_all,
    expect_same_bytes,
    expect_stored_bytes,
    replay,
    shown,
)

CLIENTS = Clients(
    lambda url, http: anthropic.Anthropic(
        base_url=url, api_key="none", http_client=http, max_retries=0
    ),
    lambda url, http: anthropic.AsyncAnthropic(
        base_url=url, api_key="none", http_client=http, max_retries=0
    ),
    anthropic.APIStatusError,
)
WHY = [{"role": "user", "content": "Why was my application declined?"}]
SCORE = "What is the credit score of applicant A-1042, with an income of €52,000? — «Ω»"
SCHEMA = {
    "type": "object",
    "properties": {"applicant": {"type": "string"}, "income": {"type": "number"}},
    "required": ["applicant", "income"],
}
TOOLS = [{"name": "credit_score", "input_schema": SCHEMA}]
CALLED = [
    {"type": "tool_use", "id": "toolu_1", "name": "credit_score", "input": {"n": 1}}
]
RETURNED = [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "0.41"}]
AFTER_TOOL = [
    *WHY,
    {"role": "assistant", "content": CALLED},
    {"role": "user", "content": RETURNED},
]


def ask(**arguments: Any) -> Call:
    standard = {"model": MODEL, "messages": WHY, "max_tokens": 200}
    return Call("messages.create", {**standard, **arguments})


# The newest models take no temperature, and so the client does not offer it.
TOO_HOT = {"temperature": 1.5}
ABOUT_SCORE = {"messages": [{"role": "user", "content": SCORE}], "tools": TOOLS}
CALLS = {
    "message": ask(),
    "streamed": ask(stream=True),
    "with a system prompt": ask(
        system="Answer about payments.", extra_body={"temperature": 0.5}
    ),
    "in blocks": ask(
        messages=[{"role": "user", "content": [{"type": "text", "text": SCORE}]}]
    ),
    "cut short": ask(max_tokens=3),
    "stopped": ask(stop_sequences=["declined", "approved", "."], stream=True),
    "helped": ask()._replace(method="messages.stream"),
    "a tool": ask(**ABOUT_SCORE),
    "a tool helped": ask(**ABOUT_SCORE)._replace(method="messages.stream"),
    "a tool streamed": ask(**ABOUT_SCORE, stream=True),
    "a tool that must be": ask(tools=TOOLS, tool_choice={"type": "any"}),
    "after the tool": ask(messages=AFTER_TOOL, tools=TOOLS),
    "another model": ask(model="another"),
    "too hot": ask(stream=True, extra_body=TOO_HOT),
    "left half-way": ask(
        messages=[{"role": "user", "content": ENDLESS}],
        extra_body={"temperature": 0},
        max_tokens=65_536,
        stream=True,
    )._replace(leaves=True),
}
every_call = pytest.mark.parametrize(
    ("name", "way"), [(name, way) for name in CALLS for way in WAYS]
)

HELPED = ["helped", "a tool helped"]
REFUSED = ["another model", "too hot"]
WHOLE = [
    name
    for name, call in CALLS.items()
    if not call.leaves and name not in REFUSED + HELPED
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return ask_all(CLIENTS, CALLS, tmp_path_factory.mktemp("anthropic"))


def result(asked: Asked, name: str) -> Any:
    return asked.got[name, "sync", "logged"].result


def text_of(events: list[dict[str, Any]]) -> str:
    """Return what the events of a message say."""
    deltas = [one["delta"] for one in events if one["type"] == "content_block_delta"]
    return "".join(
        delta["text"] if delta["type"] == "text_delta" else delta["partial_json"]
        for delta in deltas
    )


def assembled(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that the events are of, which has one block."""
    (block,) = (
        one["content_block"] for one in events if one["type"] == "content_block_start"
    )
    written = text_of(events)
    if block["type"] == "tool_use":
        block = {**block, "input": json.loads(written)}
    else:
        block = {**block, "text": written}
    (ended,) = (one for one in events if one["type"] == "message_delta")
    usage = {**events[0]["message"]["usage"], **ended["usage"]}
    return {"content": [block], "usage": usage, **ended["delta"]}


@every_call
def test_the_client_sees_the_same_bytes_with_and_without_the_log(
    asked: Asked, name: str, way: str
) -> None:
    expect_same_bytes(asked, name, way)


@every_call
def test_the_decision_is_of_exactly_these_bytes(
    asked: Asked, name: str, way: str
) -> None:
    expect_stored_bytes(asked, name, way, "/v1/messages")


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
    message = assembled(result) if isinstance(result, list) else result
    (block,) = message["content"]
    ((text, calls),) = shown(reading)
    assert text == block.get("text", "")
    assert [(called, json.loads(arguments)) for called, arguments in calls] == (
        [(block["name"], block["input"])] if block["type"] == "tool_use" else []
    )
    assert reading.completeness == "complete"
    assert reading.finish_reasons == [message["stop_reason"]]
    assert reading.requested_model == reading.answered_model == MODEL
    usage = message["usage"]
    assert reading.usage["gen_ai.usage.input_tokens"] == usage["input_tokens"]
    assert reading.usage["gen_ai.usage.output_tokens"] == usage["output_tokens"]


@pytest.mark.parametrize("name", CALLS)
def test_asked_in_turn_or_side_by_side_the_answer_is_the_same(
    asked: Asked, name: str
) -> None:
    in_turn, side_by_side = (asked.got[name, way, "logged"].result for way in WAYS)
    assert in_turn == side_by_side


def test_a_streamed_message_is_the_whole_one_in_pieces(asked: Asked) -> None:
    whole = result(asked, "message")
    events = result(asked, "streamed")
    assert [event["type"] for event in events[:2]] == [
        "message_start",
        "content_block_start",
    ]
    assert [event["type"] for event in events[-3:]] == [
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert text_of(events) == whole["content"][0]["text"]
    assert events[-2]["delta"]["stop_reason"] == whole["stop_reason"] == "end_turn"
    assert events[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


def test_usage_counts_the_tokens_of_the_model(asked: Asked) -> None:
    tokenizer = train_text_model().tokenizer
    message = result(asked, "message")
    text = message["content"][0]["text"]
    assert message["usage"]["output_tokens"] == len(tokenizer.encode(text))
    # It is also given a system prompt, and so more of them.
    more = result(asked, "with a system prompt")["usage"]["input_tokens"]
    assert more > message["usage"]["input_tokens"]


def test_a_message_says_why_it_ended(asked: Asked) -> None:
    assert result(asked, "cut short")["stop_reason"] == "max_tokens"
    ended = result(asked, "stopped")[-2]["delta"]
    assert ended["stop_reason"] == "stop_sequence"
    assert ended["stop_sequence"] in {"declined", "approved", "."}
    assert ended["stop_sequence"] not in text_of(result(asked, "stopped"))


def test_a_tool_is_used_with_what_the_question_says(asked: Asked) -> None:
    (block,) = result(asked, "a tool")["content"]
    assert block["name"] == "credit_score"
    assert block["input"] == {"applicant": "A-1042", "income": 52_000}
    assert json.loads(text_of(result(asked, "a tool streamed"))) == block["input"]
    (forced,) = result(asked, "a tool that must be")["content"]
    assert (forced["name"], forced["input"]) == ("credit_score", {})


def test_told_what_the_tool_has_returned_it_answers_in_words(asked: Asked) -> None:
    message = result(asked, "after the tool")
    assert message["stop_reason"] == "end_turn"
    assert [block["type"] for block in message["content"]] == ["text"]


@pytest.mark.parametrize(
    ("helped", "plain"), [("helped", "message"), ("a tool helped", "a tool")]
)
def test_a_helper_of_the_client_puts_together_the_same_message(
    asked: Asked, helped: str, plain: str
) -> None:
    *_, stop = result(asked, helped)
    whole = result(asked, plain)
    assert stop["type"] == "message_stop"
    assert stop["message"]["stop_reason"] == whole["stop_reason"]
    (block,), (expected,) = stop["message"]["content"], whole["content"]
    for name in ("type", "text", "name", "input"):
        assert block.get(name) == expected.get(name)


def test_refusals_come_as_the_client_expects_them(asked: Asked) -> None:
    assert "'type': 'not_found_error'" in result(asked, "another model")
    assert "less than or equal to 1" in result(asked, "too hot")


@pytest.mark.parametrize("way", WAYS)
def test_of_an_answer_left_half_way_the_log_has_what_the_client_got(
    asked: Asked, way: str
) -> None:
    entry, _, _ = asked.decision("left half-way", way)
    got = text_of(asked.got["left half-way", way, "logged"].result)
    reading = asked.reading("left half-way", way)
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
