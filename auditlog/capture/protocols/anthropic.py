"""Anthropic's Messages API, streamed and not, as Anthropic and many gateways speak it.

    POST …/v1/messages
        {"model", "max_tokens", "messages": [{"role", "content"}, …], "stream": true}

Claimed is what has that path and looks so on one side. The message itself is put
together by `anthropic_message`.
"""

import re
from typing import Any

from auditlog.capture.events import read_events
from auditlog.capture.protocols.anthropic_message import (
    EVENT,
    MESSAGE,
    MessageDraft,
)
from auditlog.capture.protocols.values import Shape, Struct, short_text
from auditlog.capture.reading import Reading, Traffic

__all__ = ["AnthropicMessages"]

_PATH = "/v1/messages"
_ASKS = (b'"max_tokens"', b'"messages"')
_ANSWERS = re.compile(rb'"type"\s{0,8}:\s{0,8}"(?:message|message_start|error)"')
_HEAD = 4096
_STREAM = "text/event-stream"
_ENDINGS = frozenset({"message_stop", "error"})


class _Asked(Struct):
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | int | None = None
    top_p: float | int | None = None
    top_k: int | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None


_ASKED = Shape(_Asked)
_PARAMETERS = (
    "max_tokens",
    "stop_sequences",
    "stream",
    "temperature",
    "top_k",
    "top_p",
)


class AnthropicMessages:
    """Reads calls of the Messages API; not those that count tokens, nor batches."""

    name = "anthropic.messages"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path says so, and request or answer looks like it."""
        if not traffic.path.endswith(_PATH):
            return False
        asks = all(word in traffic.request for word in _ASKS)
        return asks or _ANSWERS.search(traffic.response[:_HEAD]) is not None

    def read(self, traffic: Traffic) -> Reading | None:
        """Return the message put together; None if the answer is something else."""
        said = (traffic.response_type or "").partition(";")[0].strip(" \t").lower()
        streamed = said == _STREAM
        message = _streamed(traffic) if streamed else _whole(traffic)
        if message is None:
            return None
        if (traffic.status or 0) >= 400:
            message.fail(None)
        asked = _ASKED.read(traffic.request) or _Asked()
        return Reading(
            protocol=self.name,
            operation="chat",
            streamed=streamed,
            completeness=message.completeness,
            error_type=message.error_type,
            requested_model=short_text(asked.model),
            answered_model=short_text(message.model),
            response_id=short_text(message.id),
            parameters=_parameters(asked),
            usage=message.usage(),
            answers=message.answers(),
            partial=message.partial or traffic.capped,
        )


def _whole(traffic: Traffic) -> MessageDraft | None:
    draft = MessageDraft()
    message = MESSAGE.read(traffic.response)
    if message is None:
        # Of a capped one nobody can say more than that its end is there.
        if traffic.capped and traffic.tail.rstrip().endswith(b"}"):
            draft.end()
    elif message.error is not None:
        draft.fail(message.error)
    elif message.type == "message":
        draft.begin(message)
        draft.use(message.usage)
        draft.end()
    elif (traffic.status or 0) < 400:
        return None
    return draft


def _streamed(traffic: Traffic) -> MessageDraft | None:
    stream = read_events(traffic)
    draft = MessageDraft()
    draft.left_out = stream.partial
    for name, data in stream.events:
        draft.take(name, data)
    if stream.rest is not None:
        # What the stream broke off in counts only if it says how the message ended.
        name, data = stream.rest
        event = EVENT.read(data)
        if event is not None and (event.type or name) in _ENDINGS:
            draft.take(name, data)
    return draft if draft.known or not stream.events else None


def _parameters(asked: _Asked) -> dict[str, Any]:
    said = {name: getattr(asked, name) for name in _PARAMETERS}
    return {f"gen_ai.request.{name}": it for name, it in said.items() if it is not None}
