"""LitServe: an API of its own, served as OpenAI's, streamed and not."""

import json
from pathlib import Path

import pytest

from tests.compat.environments import environment_of, needs_servers
from tests.compat.serving import lines_of, proved, serve

pytestmark = [pytest.mark.interop, pytest.mark.slow, needs_servers]

CHAT = "/v1/chat/completions"


def asked(content: object, **more: object) -> dict[str, object]:
    return {
        "model": "words",
        "messages": [{"role": "user", "content": content}],
        **more,
    }


def test_chats_streamed_and_not_are_decisions(tmp_path: Path) -> None:
    environment = environment_of("litserve")
    with serve(lines_of("LitServe"), environment, tmp_path, "/health") as server:
        whole = server.ask(CHAT, json=asked("one two three"))
        streamed = server.ask(CHAT, json=asked("four five", stream=True))
        refused = server.ask(CHAT, json={"messages": "none"})
    assert whole.json()["choices"][0]["message"]["content"] == "three two one "
    events = [line[6:] for line in streamed.got.splitlines() if line]
    deltas = [json.loads(one)["choices"][0]["delta"] for one in events[:-1]]
    assert "".join(one["content"] or "" for one in deltas) == "five four "
    decisions = proved(server.log, [whole, streamed, refused])
    assert {one["route"] for one in decisions} == {CHAT}
    assert [one["outcome"] for one in decisions] == [
        "completed",
        "completed",
        "rejected",
    ]
    types = [one["data"]["response"]["mediaType"] for one in decisions]
    assert types == ["application/json", "text/event-stream", "application/json"]
