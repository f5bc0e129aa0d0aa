"""A letter that the text model writes, word by word, and one word of it shown alone."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from demo_service.client import http
from demo_service.processes import DemoError

__all__ = ["Letter", "ask_for_letter"]

_QUESTION = {
    "model": "credit-letters",
    "messages": [{"role": "user", "content": "Why was my application declined?"}],
    "temperature": 0,
    "stream": True,
}
_WORD = "declined"


class Letter(NamedTuple):
    """A streamed answer, as its caller remembers it."""

    id: str
    """Of the decision."""
    events: Sequence[bytes]
    """As they came, each with the empty line that ends it."""

    @property
    def number(self) -> int:
        """Which event brought the word that matters.

        Raises:
            DemoError: none did.
        """
        for number, event in enumerate(self.events):
            if _WORD in _written(event):
                return number
        raise DemoError(f"no event of the letter brought the word {_WORD}")

    @property
    def path(self) -> str:
        """What a receipt has to open, for that event and nothing else."""
        return f"response#{self.number}"

    def opened(self, said: Mapping[str, Any]) -> str:
        """Return the word in the one event that a verified receipt opens.

        Raises:
            DemoError: it opens something else.
        """
        (path, value), *others = (
            (one["path"], base64.b64decode(one["value"])) for one in said["disclosed"]
        )
        if others or (path, value) != (self.path, self.events[self.number]):
            raise DemoError(f"expected {self.path} alone to be opened, as it was sent")
        return _written(value).strip()


def ask_for_letter(url: str) -> Letter:
    """Ask the text model of the service at a URL for a letter.

    Raises:
        DemoError: the answer is not 200, not whole, or carries no id.
    """
    reply = http(f"{url}/v1/chat/completions", _QUESTION).expect(200)
    *events, rest = reply.body.split(b"\n\n")
    if rest or events[-1] != b"data: [DONE]" or "decision-id" not in reply.headers:
        raise DemoError("the letter is not whole, or has no decision-id header")
    whole = tuple(event + b"\n\n" for event in events)
    return Letter(reply.headers["decision-id"], whole)


def _written(event: bytes) -> str:
    """Return the text that one event brings."""
    data = event.removeprefix(b"data: ").strip()
    if data == b"[DONE]":
        return ""
    (choice,) = json.loads(data)["choices"]
    text: str = choice["delta"].get("content", "")
    return text
