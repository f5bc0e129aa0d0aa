import asyncio
import json
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from demo_service.app import create_service
from demo_service.models import load_data, train_models
from demo_service.text.model import train_text_model

ROWS = load_data().test_rows()


class Client:
    """Calls an application in this process, without a server."""

    def __init__(self, service: FastAPI) -> None:
        self._service = service

    def get(self, path: str) -> httpx.Response:
        return asyncio.run(self._ask("GET", path))

    def post(self, path: str, **body: Any) -> httpx.Response:
        return asyncio.run(self._ask("POST", path, **body))

    async def _ask(self, method: str, path: str, **body: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self._service)
        async with httpx.AsyncClient(transport=transport, base_url="http://demo") as c:
            return await c.request(method, path, **body)


@pytest.fixture(scope="module")
def client() -> Client:
    return Client(create_service())


def expected(row: dict[str, float], version: str) -> dict[str, Any]:
    found = train_models()[version].predict([row])[0]
    return {"label": found.label, "score": found.score, "version": version}


@pytest.mark.parametrize("version", ["1", "2"])
def test_predict_answers_what_the_model_says(client: Client, version: str) -> None:
    answer = client.post(f"/predict?version={version}", json={"features": ROWS[0]})
    assert answer.status_code == 200
    assert answer.json() == expected(ROWS[0], version)


def test_without_a_version_the_newest_model_answers(client: Client) -> None:
    answer = client.post("/predict", json={"features": ROWS[1]})
    assert answer.json() == expected(ROWS[1], "2")


def test_a_batch_is_answered_row_by_row_in_order(client: Client) -> None:
    body = {"instances": ROWS[:7]}
    answer = client.post("/predict/batch?version=1", json=body)
    assert answer.json() == {"predictions": [expected(row, "1") for row in ROWS[:7]]}


def test_a_stream_has_one_event_a_row_and_a_last_one(client: Client) -> None:
    body = {"instances": ROWS[:3]}
    answer = client.post("/predict/stream?version=2", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *events, last, rest = answer.text.split("\n\n")
    assert rest == ""
    assert last == 'event: done\ndata: {"count": 3}'
    for number, (event, row) in enumerate(zip(events, ROWS[:3], strict=True)):
        name, data = event.split("\n")
        assert name == "event: prediction"
        wanted = expected(row, "2")
        found = json.loads(data.removeprefix("data: "))
        assert found == {
            "instance": number,
            "label": wanted["label"],
            "score": wanted["score"],
        }


def test_healthz_names_the_models_by_digest(client: Client) -> None:
    digests = {version: model.digest for version, model in train_models().items()}
    text = train_text_model()
    assert client.get("/healthz").json() == digests | {text.name: text.digest}


def without(name: str) -> dict[str, float]:
    return {other: value for other, value in ROWS[0].items() if other != name}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/predict", {"features": without("mean area")}, "missing: mean area; unknown"),
        (
            "/predict",
            {"features": {**ROWS[0], "age": 61}},
            "missing: none; unknown: age",
        ),
        ("/predict", {"features": {**ROWS[0], "mean area": "x"}}, "valid number"),
        (
            "/predict",
            {"features": ROWS[0], "note": ""},
            "Extra inputs are not permitted",
        ),
        ("/predict", {}, "Field required"),
        ("/predict?version=3", {"features": ROWS[0]}, "'1' or '2'"),
        ("/predict/batch", {"instances": []}, "at least 1 item"),
        ("/predict/batch", {"instances": [ROWS[0]] * 257}, "at most 256 items"),
        ("/predict/stream", {"instances": [{}]}, "expected the 30 measurements"),
    ],
)
def test_what_is_not_a_tumour_is_refused_and_said_why(
    client: Client, path: str, body: Any, message: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 422
    assert message in json.dumps(answer.json(), ensure_ascii=False)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_refused(client: Client, word: str) -> None:
    body = json.dumps({"features": ROWS[0]}).replace(str(ROWS[0]["mean area"]), word)
    answer = client.post(
        "/predict", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert "finite number" in answer.text
    assert word not in answer.text
