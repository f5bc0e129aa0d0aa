"""The LiteLLM proxy before an endpoint as OpenAI's, asked as both vendors are."""

import json
from pathlib import Path

import pytest

from tests.compat.environments import environment_of, needs_servers
from tests.compat.serving import Answer, Served, lines_of, proved, serve, texts
from tests.compat.upstream import upstream

pytestmark = [pytest.mark.interop, pytest.mark.slow, needs_servers]

KEY = "sk-0123456789abcdef0123456789abcdef"
CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ENV = {
    "LITELLM_MASTER_KEY": KEY,
    "LITELLM_LOCAL_MODEL_COST_MAP": "true",
    "AUDITLOG_MODEL_HEADER": "x-litellm-model-name",
    "AUDITLOG_MODELS": "hosted_vllm/mirror",
}


def configuration(address: str) -> str:
    parameters = {"model": "hosted_vllm/mirror", "api_base": address, "api_key": "none"}
    # JSON is YAML.
    return json.dumps(
        {"model_list": [{"model_name": "mirror", "litellm_params": parameters}]}
    )


def asked(content: str, **more: object) -> dict[str, object]:
    return {
        "model": "mirror",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 20,
        **more,
    }


def ask_all(server: Served) -> list[Answer]:
    server.client.headers["authorization"] = f"Bearer {KEY}"
    answers = [
        server.ask(CHAT, json=asked("one two three")),
        server.ask(CHAT, json=asked("four five", stream=True)),
        # Its route is not there yet: the proxy adds it when it is asked for.
        server.ask(MESSAGES, json=asked("six seven")),
        server.ask(MESSAGES, json=asked("eight nine", stream=True)),
        server.ask(CHAT, json=asked("ten") | {"model": "unknown"}),
    ]
    # Who has no key: where there is no database, the proxy raises.
    del server.client.headers["authorization"]
    assert server.ask(CHAT, json=asked("eleven")).status == 500
    return answers


def test_calls_through_the_proxy_are_decisions(tmp_path: Path) -> None:
    environment = environment_of("litellm")
    lines = lines_of("LiteLLM proxy")
    with upstream() as address:
        lines.files["config.yaml"] = configuration(address)
        with serve(lines, environment, tmp_path, "/health/liveliness", ENV) as server:
            answers = ask_all(server)
    whole, streamed, message, _, unknown = answers
    assert whole.json()["choices"][0]["message"]["content"] == "three two one"
    assert streamed.got.endswith(b"data: [DONE]\n\n")
    assert message.json()["content"][0]["text"] == "seven six"
    assert unknown.status == 400
    decisions = proved(server.log, answers, errors=1)
    routes = [one["route"] for one in decisions]
    assert routes == [CHAT, CHAT, MESSAGES, MESSAGES, CHAT]
    assert {one["outcome"] for one in decisions} == {"completed"}
    assert {one["model"] for one in decisions[:2]} == {"hosted_vllm/mirror"}
    assert texts(decisions[:4]) == [
        ("openai.chat", "three two one"),
        ("openai.chat", "five four "),
        ("anthropic.messages", "seven six"),
        ("anthropic.messages", "nine eight "),
    ]
