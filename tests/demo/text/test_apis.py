"""What the APIs refuse, and what they say then; the rest is shown by real clients."""

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from demo_service.text.answer import Clerk
from demo_service.text.model import train_text_model
from demo_service.text.routes import add_text_model

SAID = [{"role": "user", "content": "Why?"}]
CHAT = {"model": "credit-letters", "messages": SAID}
RESPONSE = {"model": "credit-letters", "input": "Why?"}
MESSAGE = {**CHAT, "max_tokens": 9}
PATHS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "response": ("/v1/responses", RESPONSE),
    "message": ("/v1/messages", MESSAGE),
}
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]
CHOICES = ("none", "required")
SECRET = "the applicant's own words"


@pytest.fixture(scope="module")
def client() -> TestClient:
    service = FastAPI()
    add_text_model(service, Clerk(train_text_model()))
    return TestClient(service)


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"model": SECRET}, 404, "there is one model here, credit-letters, and"),
        ({"temperature": "warm"}, 400, "temperature: Input should be a valid number"),
        ({"top_p": 1.1}, 400, "top_p: Input should be less than or equal to 1"),
        ({"logprobs": True}, 400, "logprobs: Extra inputs are not permitted"),
        ({"model": None}, 400, "model: Input should be a valid string"),
        ({"tools": [{"name": 5}]}, 400, "tools.0."),
    ],
)
def test_what_it_cannot_do_is_refused_in_the_words_of_the_api(
    client: TestClient, api: str, change: dict[str, Any], status: int, message: str
) -> None:
    path, body = PATHS[api]
    answer = client.post(path, json={**body, **change})
    assert answer.status_code == status
    said = answer.json()
    assert said["error"]["message"].startswith(message)
    assert SECRET not in answer.text
    if api == "message":
        kind = "not_found_error" if status == 404 else "invalid_request_error"
        assert (said["type"], said["error"]["type"]) == ("error", kind)
    else:
        assert said["error"]["type"] == "invalid_request_error"
        assert said["error"]["param"].partition(".")[0] in change


@pytest.mark.parametrize(
    ("api", "change", "message"),
    [
        ("chat", {"messages": []}, "messages: List should have at least 1 item"),
        ("chat", {"messages": IMAGE}, "messages.0.content."),
        ("chat", {"n": 9}, "n: Input should be less than or equal to 8"),
        ("chat", {"stop": ""}, "stop."),
        ("chat", {"stop": list("abcde")}, "stop."),
        ("chat", {"max_tokens": 0}, "max_tokens: Input should be greater"),
        ("chat", {"max_tokens": 65_537}, "max_tokens: Input should be less"),
        ("chat", {"tool_choice": "required"}, "expected a tool that can be chosen"),
        ("response", {"input": []}, "input."),
        ("response", {"store": True}, "store: Input should be False"),
        ("response", {"tool_choice": "required"}, "expected a tool that can be chosen"),
        ("message", {"max_tokens": None}, "max_tokens: Input should be a valid"),
        ("message", {"temperature": 1.5}, "temperature: Input should be less"),
        ("message", {"messages": IMAGE}, "messages.0.content."),
        (
            "message",
            {"tool_choice": {"type": "tool", "name": "x"}},
            "expected a tool that can be chosen",
        ),
    ],
)
def test_questions_that_are_none_are_refused_and_said_why(
    client: TestClient, api: str, change: dict[str, Any], message: str
) -> None:
    path, body = PATHS[api]
    answer = client.post(path, json={**body, **change})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)


@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'"x"'])
def test_what_is_no_json_object_is_refused(
    client: TestClient, api: str, body: bytes
) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post(PATHS[api][0], content=body, headers=headers)
    assert answer.status_code == 400
    assert "message" in answer.json()["error"]


@pytest.mark.parametrize("api", ["chat", "response"])
def test_a_tool_is_not_called_where_the_caller_says_so(
    client: TestClient, api: str
) -> None:
    path, body = PATHS[api]
    function = {"name": "credit", "parameters": {}}
    tool = {"type": "function", **(function if api == "response" else {})}
    tool |= {} if api == "response" else {"function": function}
    asked = [{**body, "tools": [tool], "tool_choice": how} for how in CHOICES]
    without, having = (client.post(path, json=one).text for one in asked)
    assert ("call_" in without, "call_" in having) == (False, True)


def test_the_models_are_listed(client: TestClient) -> None:
    (only,) = client.get("/v1/models").json()["data"]
    assert (only["id"], only["object"]) == ("credit-letters", "model")
