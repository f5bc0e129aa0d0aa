"""The client of Anthropic puts messages together as we do."""

import json

import anthropic
import httpx2
import pytest

from tests.capture.protocols.test_anthropic import (
    REQUEST,
    TEXT,
    TOOLS,
    reading_of,
    stream,
)
from tests.capture.protocols.test_anthropic import START as BEGUN


def received(body: bytes) -> anthropic.types.Message:
    def answer(_request: httpx2.Request) -> httpx2.Response:
        head = {"content-type": "text/event-stream"}
        return httpx2.Response(200, content=body, headers=head)

    transport = httpx2.MockTransport(answer)
    with (
        httpx2.Client(transport=transport) as http,
        anthropic.Anthropic(api_key="key", http_client=http, max_retries=0) as client,
        client.messages.stream(
            model=str(REQUEST["model"]),
            max_tokens=8,
            messages=[{"role": "user", "content": "Why?"}],
        ) as events,
    ):
        return events.get_final_message()


@pytest.mark.parametrize(
    "body", [TEXT, TOOLS, stream(BEGUN)], ids=["text", "tools", "cut"]
)
def test_the_client_and_the_reading_agree(body: bytes) -> None:
    message, reading = received(body), reading_of(body)
    (answer,) = reading.answers
    said = [block.text for block in message.content if block.type == "text"]
    thought = [block.thinking for block in message.content if block.type == "thinking"]
    calls = {
        block.id: (block.name, block.input)
        for block in message.content
        if block.type in {"tool_use", "server_tool_use"}
    }
    assert answer.text == "".join(said)
    assert answer.reasoning == "".join(thought)
    assert calls == {
        call.id: (call.name, json.loads(call.arguments)) for call in answer.tool_calls
    }
    assert answer.finish_reason == message.stop_reason
    assert (reading.response_id, reading.answered_model) == (message.id, message.model)
