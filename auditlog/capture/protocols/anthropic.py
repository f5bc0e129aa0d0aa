"""Anthropic's Messages API, streamed and not, as Anthropic and many gateways speak it.

    POST …/v1/messages
        {"model", "max_tokens", "messages": [{"role", "content"}, …], "stream": true}

Claimed is what has that path and looks so on one side. The message itself is put
together by `anthropic_message`.
"""

import re
from typing import Any

from auditlog.capture.events import is_events, read_events
from auditlog.capture.protocols.anthropic_message import (
    EVENT,
    MESSAGE,
    MessageDraft,
)
from auditlog.capture.protocols.openai_answer import read_body
from auditlog.capture.protocols.openai_request import Request, begin
from auditlog.capture.protocols.scoring import ending, has_failed
from auditlog.capture.protocols.values import Shape, short_text
from auditlog.capture.reading import Reading, Traffic

__all__ = ["AnthropicMessages"]

_PATH = "/v1/messages"
_ASKS = (b'"max_tokens"', b'"messages"')
_ANSWERS = re.compile(rb'"type"\s{0,8}:\s{0,8}"(?:message|message_start|error)"')
_HEAD = 4096
_ENDINGS = frozenset({"message_stop", "error"})


class _Asked(Request):
    stop_sequences: Any = None


_ASKED = Shape(_Asked)


class AnthropicMessages:
    """Reads calls of the Messages API; not those that count tokens, nor batches."""

    name = "anthropic.messages"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path says so, and request or answer looks like it."""
        if not traffic.path.rstrip("/").endswith(_PATH):
            return False
        asks = all(word in traffic.request for word in _ASKS)
        return asks or _ANSWERS.search(traffic.response[:_HEAD]) is not None

    def read(self, traffic: Traffic) -> Reading | None:
        """Return the message put together; None if the answer is something else."""
        streamed = is_events(traffic)
        message = _streamed(traffic) if streamed else _whole(traffic)
        if message is None:
            return None
        if has_failed(traffic):
            message.fail(None)
        reading = _begin(self.name, traffic)
        reading.streamed = streamed
        reading.completeness = message.completeness
        reading.error_type = message.error_type
        reading.answered_model = short_text(message.model)
        reading.response_id = short_text(message.id)
        reading.usage = message.usage()
        reading.answers = message.answers()
        reading.partial |= message.partial
        return reading


def _begin(protocol: str, traffic: Traffic) -> Reading:
    asked = _ASKED.read(traffic.request)
    if asked is not None:
        # What it is called here; a tier of the service has no name of its own.
        asked.stop, asked.service_tier = asked.stop_sequences, None
    return begin(protocol, "chat", traffic, asked)


def _whole(traffic: Traffic) -> MessageDraft | None:
    message = read_body(MESSAGE, traffic)
    if message is None:
        return _cut(traffic)
    draft = MessageDraft()
    if message.error is not None:
        draft.fail(message.error)
    elif message.type == "message":
        draft.begin(message)
        draft.use(message.usage)
        draft.end()
    elif not has_failed(traffic):
        return None
    return draft


def _cut(traffic: Traffic) -> MessageDraft | None:
    # What begins like an object, or not at all, was to be one; a page of HTML was not.
    if not has_failed(traffic) and traffic.response.lstrip()[:1] not in {b"", b"{"}:
        return None
    draft = MessageDraft()
    draft.left_out = bool(traffic.response)
    if ending(traffic, whole=False) == "complete":
        draft.end()
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
