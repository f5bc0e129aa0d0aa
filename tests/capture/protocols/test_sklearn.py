"""Services that put a scikit-learn model behind a route of their own."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.protocols.sklearn import SklearnJson
from auditlog.capture.reading import Reading, Traffic
from tests.capture.protocols.cutting import cuts, damaged, read

ROW = {"age": 41, "income": 52000.5}


def traffic(request: Any, response: Any, /, **fields: Any) -> Traffic:
    exchange = Traffic(
        path="/predict",
        status=200,
        request=json.dumps(request).encode(),
        request_type="application/json",
        response=json.dumps(response).encode(),
        response_type="application/json",
    )
    return msgspec.structs.replace(exchange, **fields)


def reading_of(request: Any, response: Any, /, **fields: Any) -> Reading | None:
    return read(SklearnJson(), traffic(request, response, **fields))


@pytest.mark.parametrize(
    ("request_body", "response", "items"),
    [
        ({"features": [5.1, 3.5, 1.4, 0.2]}, {"prediction": 0}, None),
        ({"features": ROW}, {"label": "benign", "score": 0.97}, None),
        ({"features": ROW}, {"label": "yes", "probability": 0.5, "model": "m"}, None),
        ({"features": [[5.1, 3.5]]}, {"prediction": [0]}, 1),
        ({"features": [5.1, 3.5]}, {"predictions": [0]}, 1),
        ({"instances": [ROW, ROW]}, {"predictions": [0, 1]}, 2),
        ({"instances": [1, 2, 3]}, {"predictions": [{"label": "a"}] * 3}, 3),
        ({"inputs": [ROW], "threshold": 0.5}, {"predictions": [0.25]}, 1),
        ({"data": [[1], [2]]}, {"predictions": [0, 1], "took": 3}, 2),
        ({"instances": []}, {"predictions": []}, 0),
    ],
)
def test_a_prediction_is_read_where_both_sides_fit(
    request_body: Any, response: Any, items: int | None
) -> None:
    reading = reading_of(request_body, response)
    assert reading is not None
    assert (reading.operation, reading.items) == ("predict", items)


def test_the_model_that_the_answer_names_is_kept() -> None:
    answer = {"prediction": 1, "model": "credit", "version": "3.1"}
    reading = reading_of({"features": ROW}, answer)
    assert reading is not None
    assert reading.answered_model == "credit@3.1"


@pytest.mark.parametrize(
    "answer", [{"prediction": 1, "version": "3"}, {"prediction": 1, "model": 4}]
)
def test_a_version_alone_names_no_model(answer: Any) -> None:
    reading = reading_of({"features": ROW}, answer)
    assert reading is not None
    assert reading.answered_model is None


@pytest.mark.parametrize(
    ("request_body", "response"),
    [
        ({"text": "Hello"}, {"prediction": 1}),
        ({"features": ROW}, {"result": 1}),
        ({"features": ROW}, {"label": "shipped"}),
        ({"instances": [ROW, ROW]}, {"predictions": [1]}),
        ({"instances": [ROW]}, {"predictions": 1}),
        ({"instances": [ROW], "features": ROW}, {"predictions": [1]}),
        ([ROW], {"prediction": 1}),
        ({"features": ROW}, [{"prediction": 1}]),
        ({"note": '"features"'}, {"prediction": 1}),
        ({"features": ROW}, {"note": '"prediction"'}),
    ],
)
def test_a_mere_likeness_is_not_read(request_body: Any, response: Any) -> None:
    assert reading_of(request_body, response) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 500},
        {"status": 422},
        {"status": None},
        {"response_type": "text/event-stream"},
        {"response_type": None},
        {"capped": True},
        {"response": b'{"prediction": 1'},
        {"response": b""},
        {"request": b'{"features": [1'},
    ],
)
def test_what_is_not_whole_is_left_to_http(fields: dict[str, Any]) -> None:
    assert reading_of({"features": ROW}, {"prediction": 1}, **fields) is None
    chosen = traffic({"features": ROW}, {"prediction": 1}, **fields)
    assert SklearnJson().read(chosen) is None


def test_an_answer_cut_at_any_byte_is_not_read() -> None:
    whole = traffic({"instances": [ROW, ROW]}, {"predictions": [0, 1]})
    for sent, cut in cuts(whole):
        assert read(SklearnJson(), cut) is None, sent


@given(st.data())
def test_no_damage_changes_how_a_call_ended(data: st.DataObject) -> None:
    whole = traffic({"instances": [ROW, ROW]}, {"predictions": [0, 1], "model": "m"})
    request = data.draw(damaged(whole.request))
    response = data.draw(damaged(whole.response))
    hit = msgspec.structs.replace(whole, request=request, response=response)
    reading = read(SklearnJson(), hit)
    assert reading is None or reading.completeness == "complete"
    assert reading is None or reading.error_type is None
