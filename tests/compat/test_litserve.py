"""LitServe: an API of its own, served as OpenAI's, streamed and not."""

from pathlib import Path

import pytest

from tests.compat.environments import environment_of, needs_servers
from tests.compat.serving import lines_of, proved, serve, texts

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
        # Which this model cannot take; the status was sent before.
        parts = [{"type": "text", "text": "six"}]
        failed = server.ask(CHAT, json=asked(parts, stream=True))
        refused = server.ask(CHAT, json={"messages": "none"})
    assert whole.json()["choices"][0]["message"]["content"] == "three two one "
    assert (failed.status, refused.status) == (200, 422)
    decisions = proved(server.log, [whole, streamed, failed, refused])
    assert {one["route"] for one in decisions} == {CHAT}
    outcomes = [one["outcome"] for one in decisions]
    # Its last event, an error, has no end: clients drop it, and so does the reading.
    assert outcomes == ["completed", "completed", "incomplete", "rejected"]
    read = texts(decisions[:2])
    assert read == [("openai.chat", "three two one "), ("openai.chat", "five four ")]
    assert decisions[1]["data"]["response"]["split"] == "sse"
