"""What an entry says in clear, and what stands only under its commitment."""

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.exchange import Body
from auditlog.core.errors import MalformedError
from auditlog.core.record import Entry, format_entry, format_id, parse_entry
from auditlog.log.content import Content, verify_content
from auditlog.log.description import Describer
from auditlog.log.model_entry import model_entry_id
from auditlog.log.preparation import index_row
from auditlog.models.identity import Model
from tests.log.builders import ORIGIN, exchange

EMITTER = bytes(range(16))


def _can_be_written(text: str) -> bool:
    return text == text.encode("utf-8", "replace").decode()


def _describe(
    depth: int = 1, models: tuple[str, ...] = (), **fields: Any
) -> tuple[Entry, Content]:
    describer = Describer(ORIGIN, EMITTER, depth=depth, models=models)
    described = describer.describe(exchange(7, **fields))
    entry = parse_entry(described.entry)
    assert format_entry(entry) == described.entry
    assert index_row(entry) == described.row
    verify_content(entry, described.content)
    return entry, described.content


def test_an_entry_says_this_and_nothing_else() -> None:
    entry, _ = _describe(model=Model("credit", "3"))
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
        "model.entry": format_id(model_entry_id(Model("credit", "3"))),
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
    model = Model("from-traffic", "9")
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
    assert content.is_capped("request") is bool(over)
    assert content.parts[0].size == 1000 + over
    whole = Body(b"s" * 32, 0, 1 << 20)
    whole.feed(data)
    whole.state = "complete"
    uncapped = exchange(7, request=whole, secret=b"s" * 32, response=_body(1, b"{}"))
    other = parse_entry(Describer(ORIGIN, EMITTER, depth=1).describe(uncapped).entry)
    assert other.data["commitment"] == entry.data["commitment"]


@pytest.mark.parametrize("size", [0, 10, 3000])
def test_bodies_that_are_not_kept_are_committed_to_all_the_same(size: int) -> None:
    data = b"[" + b"1," * (size // 2) + b"1]" if size else b""
    bodies = {"request": _body(0, data), "response": _body(1, b"{}")}
    fields: dict[str, Any] = {**bodies, "depth": 0, "secret": b"s" * 32}
    kept, _ = _describe(**fields)
    entry, content = _describe(**fields, keep=False)
    assert (content.request, content.response) == (b"", b"")
    assert content.parts[0].size == len(data)
    assert content.is_capped("request") is (size > 0)
    assert content.is_capped("response")
    assert entry.data == {**kept.data, "commitment": entry.data["commitment"]}
    assert entry.data["commitment"] == kept.data["commitment"]


def test_bodies_that_are_not_kept_have_no_members() -> None:
    entry, content = _describe(depth=8, keep=False)
    assert entry.data["request"]["split"] == entry.data["response"]["split"] == "none"
    assert [leaf.path for leaf in verify_content(entry, content)] == [
        *("request", "response", "context/target")
    ]


def test_what_the_middleware_says_of_the_model_replaces_what_is_hidden() -> None:
    whole = b'{"attempts":[],"name":"hidden"}'
    entry, content = _describe(
        models=("declared",), model=Model("hidden"), context={"model": whole}
    )
    assert entry.data["model.name"] == "other"
    assert content.context["model"] == whole


def test_a_model_may_be_declared_with_its_version() -> None:
    entry, _ = _describe(models=("credit@3", "x"), model=Model("credit", "3"))
    assert (entry.data["model.name"], entry.data["model.version"]) == ("credit", "3")


def _body(leaf: int, data: bytes) -> Body:
    body = Body(b"s" * 32, leaf, 1 << 20)
    body.feed(data)
    body.state = "complete"
    return body


TEXTS = st.text(min_size=1, max_size=40)
FIELDS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["POST", "PUT"]) | TEXTS,
        "route": st.none() | TEXTS.filter(_can_be_written),
        "target": st.binary(max_size=50),
        "request": st.binary(max_size=50),
        "response": st.binary(max_size=50),
        "request_type": st.none() | TEXTS,
        "response_type": st.sampled_from(["application/json", "text/html"]) | TEXTS,
        "status": st.none() | st.integers(100, 599),
        "duration": st.integers(0, 2**40),
        "outcome": st.sampled_from(["completed", "error", "rejected"]),
        "time": st.integers(0, 2**51),
        "model": st.none() | st.builds(Model, TEXTS.filter(str.isprintable)),
    }
)


@given(FIELDS, st.integers(0, 3))
def test_the_template_writes_what_the_definition_writes(
    fields: dict[str, Any], depth: int
) -> None:
    _describe(depth=depth, **fields)


BEYOND_HTTP: dict[str, Any] = {
    **dict.fromkeys(("method", "route", "target", "status")),
    "operation": "nightly-scoring",
}


def test_beyond_http_an_entry_says_what_was_done_and_nothing_of_a_call() -> None:
    entry, content = _describe(**BEYOND_HTTP)
    assert entry.data["operation"] == "nightly-scoring"
    assert not [name for name in entry.data if name.startswith("http.")]
    assert content.context == {}
    assert index_row(entry).route == "nightly-scoring"


@given(TEXTS.filter(str.isprintable), TEXTS.filter(str.isprintable))
def test_two_operations_are_not_taken_for_each_other(one: str, other: str) -> None:
    describer = Describer(ORIGIN, EMITTER, depth=0)
    for name in (one, other, one):
        described = describer.describe(
            exchange(7, **{**BEYOND_HTTP, "operation": name})
        )
        entry = parse_entry(described.entry)
        assert (entry.data["operation"], described.row.route) == (name, name)
        assert format_entry(entry) == described.entry
        assert index_row(entry) == described.row


def test_kinds_from_traffic_are_bounded() -> None:
    describer = Describer(ORIGIN, EMITTER, depth=0)
    for number in range(3000):
        describer.describe(exchange(number, method=f"M{number}"))
    assert len(describer._kinds) <= 1024


def test_what_code_says_must_fit_in_an_entry() -> None:
    with pytest.raises(MalformedError, match="expected an entry of at most 65535 byt"):
        _describe(route="r" * 70_000)
