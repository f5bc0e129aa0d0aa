"""What a protocol read is committed to, and how a call ended by its own protocol."""

import gzip
import json
from typing import Any

import pytest

from auditlog.capture.body import Body
from auditlog.capture.exchange import Exchange
from auditlog.capture.protocols.registry import Protocols
from auditlog.capture.reading import Reading, Traffic
from auditlog.capture.redaction.choke import ChokePoint
from auditlog.capture.redaction.rules import parse_rules
from auditlog.core.record import parse_entry
from auditlog.log.content import Content, verify_content
from auditlog.log.description import Describer
from auditlog.log.preparation import index_row
from auditlog.log.protocol_leaves import read_content
from tests.log.builders import ORIGIN, exchange
from tests.log.redactions import WordRedaction

ASKED = b'{"model":"m-1","stream":true,"temperature":0.7,"messages":[]}'
HEAD = (
    b'data: {"id":"c1","object":"chat.completion.chunk","model":"m-1-0613","choices":'
    b'[{"index":0,"delta":{"role":"assistant","content":"Re"}}]}\n\n'
)
REST = (
    b'data: {"choices":[{"index":0,"delta":{"content":"fused"},'
    b'"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
)
DONE = b"data: [DONE]\n\n"
PATH = b"/v1/chat/completions"
ERROR = b'data: {"error":{"message":"SECRET","type":"server_error"}}\n\n'


def streamed(*parts: bytes, **fields: Any) -> Exchange:
    """Return an exchange of a chat whose answer was streamed."""
    values = {
        "response_type": "text/event-stream; charset=utf-8",
        "target": b"/v1/chat/completions?x=1",
        "protocols": Protocols(),
        **fields,
    }
    return exchange(7, ASKED, b"".join(parts), **values)


def described(one: Exchange, **options: Any) -> tuple[dict[str, Any], Content]:
    """Return the data of the entry, and its content; both hold together."""
    describer = Describer(ORIGIN, bytes(16), depth=1, **options)
    entry, row, content = describer.describe(one)
    parsed = parse_entry(entry)
    verify_content(parsed, content)
    assert index_row(parsed) == row
    return parsed.data, content


def leaf(content: Content, name: str) -> Any:
    return json.loads(content.context[name])


def test_what_a_stream_says_is_under_the_commitment() -> None:
    data, content = described(streamed(HEAD, REST, DONE))
    assert data["outcome"] == "completed"
    assert leaf(content, "usage") == {
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
    }
    assert leaf(content, "outcome") == {
        "completeness": "complete",
        "gen_ai.response.finish_reasons": ["stop"],
    }
    assert leaf(content, "model") == {
        "gen_ai.request.model": "m-1",
        "gen_ai.response.id": "c1",
        "gen_ai.response.model": "m-1-0613",
    }
    protocol = leaf(content, "protocol")
    assert protocol["name"] == "openai.chat"
    assert protocol["gen_ai.operation.name"] == "chat"
    assert protocol["gen_ai.request.temperature"] == "0.7"
    assert protocol["streamed"] is True


def test_what_was_redacted_is_read_from_the_copy_which_is_said() -> None:
    one = streamed(HEAD, REST, DONE, redaction=WordRedaction(b"fused", b"m-1"))
    described = Describer(ORIGIN, bytes(16), depth=1).describe(one)
    entry, content = parse_entry(described.entry), described.content
    assert content.redaction == dict.fromkeys(("request", "response"), "redacted")
    assert b"m-1" not in content.context["model"]
    reading = read_content(entry, content)
    assert reading is not None
    assert (reading.redacted, reading.completeness) == (True, "complete")
    assert [answer.text for answer in reading.answers] == ["Re[redacted]"]
    one.redaction = WordRedaction(b"not there")
    plain = Describer(ORIGIN, bytes(16), depth=1).describe(one)
    again = read_content(parse_entry(plain.entry), plain.content)
    assert again is not None
    assert (again.redacted, again.answers[0].text) == (False, "Refused")


@pytest.mark.parametrize(
    ("rules", "gone"),
    [
        ({"keys": ["model"]}, b"m-471147"),
        ({"fields": ["response/id"]}, b"c-471147"),
        ({"keys": ["stop"]}, b"QQQ"),
        ({"fields": ["request/seed"]}, b"815115"),
    ],
)
def test_what_a_body_may_not_say_is_not_said_under_another_name(
    rules: dict[str, Any], gone: bytes
) -> None:
    asked = b'{"model":"m-471147","stop":["QQQ"],"seed":815115,"messages":[]}'
    answer = (
        b'{"id":"c-471147","object":"chat.completion","choices":[{"index":0,"message":'
        b'{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}'
    )
    one = exchange(7, asked, answer, target=PATH, protocols=Protocols())
    said = Describer(ORIGIN, bytes(16), depth=1).describe(one).content.context
    assert gone in said["protocol"] + said["model"]
    one.redaction = ChokePoint(parse_rules(**rules))
    kept = Describer(ORIGIN, bytes(16), depth=1).describe(one).content.context
    assert gone not in b"".join(kept.values())
    assert kept["usage"] == said["usage"]


def test_of_a_withheld_answer_nothing_is_read_but_how_it_ended() -> None:
    one = streamed(HEAD, redaction=WordRedaction(withhold=["response", "protocol"]))
    described = Describer(ORIGIN, bytes(16), depth=1).describe(one)
    assert read_content(parse_entry(described.entry), described.content) is None
    one.redaction = WordRedaction(withhold=["response"])
    described = Describer(ORIGIN, bytes(16), depth=1).describe(one)
    reading = read_content(parse_entry(described.entry), described.content)
    assert reading is not None
    assert (reading.answers, reading.completeness) == ([], "no_terminator")
    assert reading.redacted


def test_nothing_of_it_stands_in_clear() -> None:
    data, _ = described(streamed(HEAD, REST, DONE))
    text = json.dumps(data)
    for said in ("m-1", "c1", "stop", "openai", "usage", "chat"):
        assert said not in text


@pytest.mark.parametrize(
    ("parts", "outcome", "completeness"),
    [
        ((HEAD, REST, DONE), "completed", "complete"),
        ((HEAD, REST), "incomplete", "no_terminator"),
        ((HEAD,), "incomplete", "no_terminator"),
        ((), "incomplete", "no_terminator"),
        ((HEAD, ERROR), "error", "error_frame"),
        ((HEAD, ERROR, DONE), "error", "error_frame"),
    ],
)
def test_an_answer_that_http_calls_whole_ends_as_its_protocol_says(
    parts: tuple[bytes, ...], outcome: str, completeness: str
) -> None:
    data, content = described(streamed(*parts))
    assert data["outcome"] == outcome
    assert leaf(content, "outcome")["completeness"] == completeness


@pytest.mark.parametrize("outcome", ["client_disconnected", "interrupted", "error"])
def test_what_http_says_of_a_bad_end_stays(outcome: str) -> None:
    data, content = described(streamed(HEAD, outcome=outcome))
    assert data["outcome"] == outcome
    assert leaf(content, "outcome")["completeness"] == "no_terminator"


def test_a_refused_request_is_answered_and_not_in_error() -> None:
    refused = exchange(
        7,
        ASKED,
        b'{"error":{"message":"no such model","type":"invalid_request_error"}}',
        status=404,
        target=b"/v1/chat/completions",
        protocols=Protocols(),
    )
    data, content = described(refused)
    assert data["outcome"] == "completed"
    assert leaf(content, "outcome") == {
        "completeness": "error_frame",
        "error.type": "invalid_request_error",
    }


@pytest.mark.parametrize("status", [101, 202, 204, 205, 304, 307])
def test_a_status_that_promises_no_answer_ends_as_http_says(status: int) -> None:
    data, content = described(streamed(status=status))
    assert data["outcome"] == "completed"
    assert "protocol" not in content.context


def test_what_the_application_said_stands_beside_it_and_wins() -> None:
    said = {
        "outcome": b'{"completeness":"mine","result":{"label":"yes"}}',
        "usage": b'{"gen_ai.usage.input_tokens":9}',
    }
    _, content = described(streamed(HEAD, REST, DONE, context=dict(said)))
    outcome = leaf(content, "outcome")
    assert outcome["result"] == {"label": "yes"}
    assert outcome["completeness"] == "mine"
    assert outcome["gen_ai.response.finish_reasons"] == ["stop"]
    assert leaf(content, "usage")["gen_ai.usage.input_tokens"] == 9


def test_described_twice_it_says_the_same() -> None:
    one = streamed(HEAD, ERROR)
    first, second = described(one), described(one)
    assert first[0]["outcome"] == second[0]["outcome"] == "error"
    assert one.outcome == "completed"
    assert first[1].context == second[1].context


def test_what_is_not_kept_is_not_read() -> None:
    data, content = described(streamed(HEAD, ERROR, keep=False))
    assert data["outcome"] == "completed"
    assert set(content.context) == {"target"}


def test_without_a_protocol_nothing_is_added() -> None:
    for protocols in (None, Protocols("none")):
        data, content = described(streamed(HEAD, ERROR, protocols=protocols))
        assert (data["outcome"], set(content.context)) == ("completed", {"target"})


def test_a_compressed_answer_is_read_as_it_was_before() -> None:
    one = streamed(gzip.compress(HEAD + REST + DONE))
    one.response.coding = "gzip"
    data, content = described(one)
    assert data["outcome"] == "completed"
    assert leaf(content, "usage")["gen_ai.usage.output_tokens"] == 2


def test_a_compressed_answer_that_nobody_can_read_has_no_reading() -> None:
    one = streamed(gzip.compress(HEAD)[:-9])
    one.response.coding = "gzip"
    data, content = described(one)
    assert data["outcome"] == "completed"
    assert "protocol" not in content.context


def test_of_what_is_not_kept_a_protocol_of_ones_own_learns_nothing_either() -> None:
    own = Protocols(own=[Own(Reading(protocol="own", operation="chat"))])
    _, content = described(exchange(7, protocols=own, keep=False))
    assert set(content.context) == {"target"}


class Own:
    """A protocol of one's own."""

    name = "own"

    def __init__(self, reading: object) -> None:
        self._reading = reading

    def claims(self, traffic: Traffic) -> bool:
        return traffic.path == "/score"

    def read(self, traffic: Traffic) -> Reading:
        if isinstance(self._reading, Exception):
            raise self._reading
        return self._reading  # type: ignore[return-value]


def test_a_protocol_that_fails_is_named_and_the_decision_stands() -> None:
    protocols = Protocols(own=[Own(ValueError("SECRET"))])
    known = {"annotations": b'{"auditlog.faults":["model header: x"],"n":1}'}
    data, content = described(exchange(7, protocols=protocols, context=known))
    assert data["outcome"] == "completed"
    assert leaf(content, "annotations") == {
        "auditlog.faults": ["model header: x", "protocol own: ValueError"],
        "n": 1,
    }


def test_a_protocol_that_says_too_much_is_named_and_the_outcome_counts() -> None:
    reading = Reading(
        protocol="own",
        operation="chat",
        completeness="error_frame",
        requested_model="x" * (3 << 20),
    )
    data, content = described(exchange(7, protocols=Protocols(own=[Own(reading)])))
    assert data["outcome"] == "error"
    (fault,) = leaf(content, "annotations")["auditlog.faults"]
    assert fault.startswith("protocol own: expected at most 2097152 bytes said")
    assert "protocol" not in content.context


def entry_and_content(one: Exchange) -> tuple[Any, Content]:
    described_ = Describer(ORIGIN, bytes(16), depth=1).describe(one)
    return parse_entry(described_.entry), described_.content


def test_the_answer_is_read_again_from_what_is_stored() -> None:
    reading = read_content(*entry_and_content(streamed(HEAD, REST, DONE)))
    assert reading is not None
    assert [answer.text for answer in reading.answers] == ["Refused"]
    assert not reading.partial


def test_a_long_stream_is_read_to_its_end_though_its_middle_is_not_kept() -> None:
    one = streamed()
    response = Body(one.secret, 1, 1000, before=one.request)
    response.media_type = "text/event-stream"
    response.state = "complete"
    filler = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    for part in (HEAD, *[filler] * 30_000, REST, DONE):
        response.feed(part)
    one.response = response
    data, content = described(one)
    assert data["outcome"] == "completed"
    assert leaf(content, "usage")["gen_ai.usage.output_tokens"] == 2
    assert leaf(content, "outcome")["gen_ai.response.finish_reasons"] == ["stop"]
    reading = read_content(*entry_and_content(one))
    assert reading is not None
    assert reading.partial
    assert reading.completeness == "complete"


def test_a_media_type_that_does_not_stand_in_clear_is_known_when_it_is_read() -> None:
    odd = streamed(HEAD, REST, DONE, response_type="text/event-stream; odd=1")
    assert read_content(*entry_and_content(odd)) is not None
    lines = b'{"model":"m","response":"Hi","done":false}\n{"done":true}\n'
    ollama = streamed(
        lines, response_type="application/vnd.acme.lines", target=b"/api/generate"
    )
    entry, content = entry_and_content(ollama)
    assert entry.data["response"]["mediaType"] == "other"
    reading = read_content(entry, content)
    assert reading is not None
    assert reading.answers[0].text == "Hi"


def test_of_what_is_kept_only_so_much_is_read_at_once() -> None:
    entry, content = entry_and_content(streamed(HEAD, REST, DONE))
    request, response, *others = content.parts
    comments = b": " + b"x" * (9 << 20) + b"\n\n"
    long = response._replace(value=b"".join((HEAD, comments, REST, DONE)))
    reading = read_content(entry, Content(content.secret, (request, long, *others)))
    assert reading is not None
    assert (reading.completeness, reading.partial) == ("complete", True)
    assert reading.usage["gen_ai.usage.output_tokens"] == 2


def test_without_a_protocol_there_is_nothing_to_read() -> None:
    assert read_content(*entry_and_content(exchange(7))) is None
    own = Protocols(own=[Own(Reading(protocol="own", operation="chat"))])
    assert read_content(*entry_and_content(exchange(7, protocols=own))) is None
