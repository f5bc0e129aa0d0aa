"""What a reading says is what OpenAI's own client makes of the same bytes."""

from collections.abc import Iterator
from typing import Any

import httpx2
import msgspec
import openai
import pytest

from auditlog.capture.protocols.openai_completions import ChatCompletions
from auditlog.capture.protocols.openai_responses import Responses
from auditlog.capture.reading import Reading, Traffic
from tests.capture.protocols import openai_traffic as sent
from tests.capture.protocols import test_openai_responses as responses
from tests.capture.protocols.openai_traffic import chunk, delta, stream

pytestmark = pytest.mark.interop

CHAT, RESPONSES = ChatCompletions(), Responses()
MESSAGES: Any = [{"role": "user", "content": "Why?"}]
STREAMS = {
    "openai": sent.OPENAI,
    "vllm": sent.VLLM,
    "azure": sent.AZURE,
    "tools": sent.TOOLS,
    "several": sent.SEVERAL,
    "refused": sent.REFUSED,
}


class Replay(httpx2.BaseTransport):
    """A server that sends one body, some bytes at a time, whatever it is asked."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": self._traffic.response_type or ""}
        body = self._traffic.response
        pieces = [body[at : at + 97] for at in range(0, len(body), 97)]
        return httpx2.Response(
            self._traffic.status or 200, headers=headers, content=iter(pieces)
        )


def client(traffic: Traffic) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="none",
        base_url="http://model.invalid/v1",
        http_client=httpx2.Client(transport=Replay(traffic)),
        max_retries=0,
    )


def chunks_of(traffic: Traffic) -> list[Any]:
    return list(told_by(traffic))


def told_by(traffic: Traffic) -> Iterator[Any]:
    chats = client(traffic).chat.completions
    yield from chats.create(model="m", messages=MESSAGES, stream=True)


def texts_of(chunks: list[Any]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for one in chunks:
        for choice in one.choices:
            said = (choice.delta and choice.delta.content) or ""
            texts[choice.index] = texts.get(choice.index, "") + said
    return texts


def reading_of(protocol: ChatCompletions | Responses, traffic: Traffic) -> Reading:
    reading = protocol.read(traffic)
    assert reading is not None
    return reading


@pytest.mark.parametrize("chunks", STREAMS.values(), ids=STREAMS)
def test_a_client_gets_the_text_of_a_stream_also_of_one_that_ends_early(
    chunks: list[dict[str, Any]],
) -> None:
    whole = stream(*chunks)
    for end in range(100, len(whole.response) + 1, 101):
        cut = msgspec.structs.replace(whole, response=whole.response[:end])
        reading = reading_of(CHAT, cut)
        told = {answer.index: answer.text for answer in reading.answers}
        assert told == texts_of(chunks_of(cut)), end


@pytest.mark.parametrize("error", [{"message": "no", "code": "x"}, "no"])
def test_where_a_client_raises_the_stream_has_an_error(error: Any) -> None:
    traffic = stream(*sent.said("a"), {"error": error}, *sent.said("b"))
    got: list[Any] = []
    with pytest.raises(openai.APIError):
        got.extend(told_by(traffic))
    reading = reading_of(CHAT, traffic)
    assert reading.completeness == "error_frame"
    assert {0: reading.answers[0].text} == texts_of(got)


def test_a_client_gets_nothing_after_the_terminator() -> None:
    first, second = stream(*sent.said("a")), stream(*sent.said("b"))
    traffic = sent.events(first.response + second.response)
    assert texts_of(chunks_of(traffic)) == {0: "a"}
    assert reading_of(CHAT, traffic).answers[0].text == "a"


def test_a_client_gets_the_tool_calls_of_a_stream() -> None:
    traffic = stream(*sent.TOOLS)
    with client(traffic).chat.completions.stream(
        model="m", messages=MESSAGES
    ) as streamed:
        message = streamed.get_final_completion().choices[0].message
    told = [
        (call.id, call.function.name, call.function.arguments)
        for call in message.tool_calls or ()
    ]
    calls = reading_of(CHAT, traffic).answers[0].tool_calls
    assert told == [(call.id, call.name, call.arguments) for call in calls]


def test_a_client_gets_the_same_of_a_whole_answer() -> None:
    traffic = sent.answer(sent.WHOLE)
    got = client(traffic).chat.completions.create(model="m", messages=MESSAGES)
    reading = reading_of(CHAT, traffic)
    assert got.choices[0].message.content == reading.answers[0].text
    assert (got.id, got.model) == (reading.response_id, reading.answered_model)
    usage = got.usage
    assert usage is not None
    assert reading.usage["gen_ai.usage.input_tokens"] == usage.prompt_tokens


def test_a_client_gets_the_same_of_a_streamed_response() -> None:
    whole = responses.stream(*responses.STREAM)
    for end in range(100, len(whole.response) + 1, 601):
        cut = msgspec.structs.replace(whole, response=whole.response[:end])
        events = list(client(cut).responses.create(model="m", input="x", stream=True))
        deltas = [
            one.delta for one in events if one.type == "response.output_text.delta"
        ]
        answers = reading_of(RESPONSES, cut).answers
        assert "".join(one.text for one in answers) == "".join(deltas)


def test_a_client_gets_the_same_of_a_whole_response() -> None:
    traffic = sent.answer(responses.response(), responses.PATH)
    got = client(traffic).responses.create(model="m", input="x")
    assert got.output_text == reading_of(RESPONSES, traffic).answers[0].text


def test_an_odd_delta_is_no_delta_for_a_client_either() -> None:
    traffic = stream(chunk(delta(content="a")), chunk(delta(content=None)))
    assert texts_of(chunks_of(traffic)) == {0: "a"}
    assert reading_of(CHAT, traffic).answers[0].text == "a"
