"""What an entry says in clear, and what stands only under its commitment."""

import json
import os
from typing import Any

import pytest

from auditlog.capture.exchange import Body, ModelIdentity
from auditlog.core.record import Entry, format_entry
from auditlog.log.content import Content, verify_content
from auditlog.log.description import Describer
from tests.log.builders import ORIGIN, exchange

EMITTER = bytes(range(16))


def _describe(
    depth: int = 1, models: tuple[str, ...] = (), **fields: Any
) -> tuple[Entry, Content]:
    describer = Describer(ORIGIN, EMITTER, depth=depth, models=models)
    entry, content = describer.describe(exchange(7, **fields))
    verify_content(entry, content)
    return entry, content


def test_an_entry_says_this_and_nothing_else() -> None:
    entry, _ = _describe()
    event = json.loads(format_entry(entry))
    assert set(event) == {
        *("data", "id", "source", "specversion", "subject", "time", "type")
    } | (set(event) & {"datacontenttype"})
    assert event["type"] == "auditlog.decision.v1"
    assert event["source"] == ORIGIN
    data = event["data"]
    assert len(data.pop("commitment")["digest"]) == 44
    described = {"mediaType": "application/json", "split": "json", "state": "complete"}
    assert data == {
        "duration": 1234,
        "emitter": "AAECAwQFBgcICQoLDA0ODw==",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/score",
        "model.name": "credit",
        "model.version": "3",
        "outcome": "completed",
        "request": described,
        "response": described,
        "sequence": 7,
    }


def test_nothing_that_came_with_the_traffic_stands_in_clear() -> None:
    canary = b"CANARY-7f3a"
    text = canary.decode()
    entry, content = _describe(
        method=text,
        target=b"/" + canary + b"?q=" + canary,
        request_type=f"application/{text}",
        response_type=f"text/{text}; charset=utf-8",
        request=_body(0, canary),
        response=_body(1, canary),
        route=None,
    )
    assert canary not in format_entry(entry)
    assert entry.data["http.request.method"] == "other"
    assert entry.data["http.route"] == "other"
    assert entry.data["request"]["mediaType"] == "other"
    assert content.context["request.method"] == canary
    assert content.context["target"] == b"/" + canary + b"?q=" + canary
    assert canary in content.context["response.mediatype"]


def test_a_model_that_was_not_declared_stands_under_the_commitment() -> None:
    model = ModelIdentity("from-traffic", "9")
    entry, content = _describe(models=("credit",), model=model)
    assert entry.data["model.name"] == "other"
    assert "model.version" not in entry.data
    assert content.context["model"] == b'{"name":"from-traffic","version":"9"}'


def test_an_unknown_model_is_absent() -> None:
    entry, _ = _describe(model=None)
    assert not [name for name in entry.data if name.startswith("model.")]


def test_an_answer_that_never_started_has_no_status() -> None:
    entry, _ = _describe(status=None, outcome="error")
    assert "http.response.status_code" not in entry.data
    assert entry.data["outcome"] == "error"


def test_depth_0_splits_nothing() -> None:
    entry, content = _describe(depth=0)
    assert entry.data["commitment"]["depth"] == 0
    assert entry.data["request"]["split"] == "none"
    assert [leaf.path for leaf in verify_content(entry, content)] == [
        *("request", "response", "context/target")
    ]


def test_every_decision_has_a_subject_tag_of_its_own() -> None:
    tags = {_describe()[0].subject for _ in range(20)}
    assert len(tags) == 20
    assert {len(str(tag)) for tag in tags} == {24}


@pytest.mark.parametrize("over", [0, 1])
def test_a_body_over_the_limit_is_committed_whole_and_kept_in_part(over: int) -> None:
    body = Body(b"s" * 32, 0, 1000)
    data = os.urandom(1000 + over)
    for at in range(0, len(data), 300):
        body.feed(data[at : at + 300])
    body.state = "complete"
    entry, content = _describe(request=body, secret=b"s" * 32, response=_body(1, b"{}"))
    assert content.request == data[:1000]
    assert content.request_capped is bool(over)
    assert content.parts[0].size == 1000 + over
    whole = Body(b"s" * 32, 0, 1 << 20)
    whole.feed(data)
    whole.state = "complete"
    uncapped = exchange(7, request=whole, secret=b"s" * 32, response=_body(1, b"{}"))
    other, _ = Describer(ORIGIN, EMITTER, depth=1).describe(uncapped)
    assert other.data["commitment"] == entry.data["commitment"]


def _body(leaf: int, data: bytes) -> Body:
    body = Body(b"s" * 32, leaf, 1 << 20)
    body.feed(data)
    body.state = "complete"
    return body
