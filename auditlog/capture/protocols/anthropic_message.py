"""One message of Anthropic's Messages API while it is put together.

It is made of blocks of text, thinking and calls to tools, in order. In a stream each
event says its type in its data, too::

    message_start  content_block_start  content_block_delta …  content_block_stop …
    message_delta (stop_reason, usage)  message_stop           ping, error: anywhere

Numbers of `usage` in ``message_delta`` are totals and replace those before them. Input
tokens leave out what was read from a cache or written to it; the conventions count
these too in ``gen_ai.usage.input_tokens``. Citations, signatures, thinking that is
redacted, and what tools of the server returned are not put together.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from auditlog.capture.protocols.draft import Draft
from auditlog.capture.protocols.values import Shape, Struct, code_of, count_of
from auditlog.capture.reading import Answer, Completeness

__all__ = ["EVENT", "MESSAGE", "MessageDraft"]


class _Details(Struct):
    thinking_tokens: int | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: _Details | None = None


class _Block(Struct):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class _Stop(Struct):
    explanation: str | None = None


class _Delta(Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_details: _Stop | None = None


class _Message(Struct):
    type: str | None = None
    id: str | None = None
    model: str | None = None
    role: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_details: _Stop | None = None
    usage: _Usage | None = None
    error: Any = None


class _Event(Struct):
    type: str | None = None
    index: int = 0
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: _Usage | None = None
    error: Any = None


MESSAGE = Shape(_Message)
"""Reads an answer that is not streamed."""
EVENT = Shape(_Event)
"""Reads the data of an event."""
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_CACHED = ("cache_creation.input_tokens", "cache_read.input_tokens")


class MessageDraft:
    """A message as far as it came, and how it ended."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.model: str | None = None
        self.completeness: Completeness = "no_terminator"
        self.error_type: str | None = None
        self.known = False
        """Whether an event of this protocol came."""
        self.left_out = False
        """Whether something that was sent is missing."""
        self._draft = Draft()
        self._begun = False
        self._usage: dict[str, int] = {}
        self._given: set[int] = set()
        """Blocks whose input came at once: parts of it, if they come, replace it."""

    @property
    def partial(self) -> bool:
        """Whether anything was left out, here or before."""
        return self.left_out or self._draft.partial or self._draft.oversized

    def take(self, name: str, data: str) -> None:
        """Take in the next event; what is none of this protocol changes nothing."""
        event = EVENT.read(data)
        if event is None:
            # Proxies add the end of another protocol.
            self.left_out = self.left_out or not data.startswith("[DONE]")
            event = _Event()
        kind = "error" if name == "error" else event.type or name
        taken = _TAKE.get(kind)
        if taken is not None:
            taken(self, event)
            self.known = True
        elif event.error is not None:
            self.fail(event.error)

    def begin(self, message: _Message) -> None:
        """Take the message as it is at the start, or as a whole."""
        self._begun = True
        self.id, self.model = message.id, message.model
        self._draft.role = message.role
        for index, block in enumerate(message.content or ()):
            self.open(index, block, whole=True)
        self.stop(message.stop_reason, message.stop_details)

    def open(self, index: int, block: _Block, *, whole: bool = False) -> None:
        """Begin a block with what it holds; the empty input of a whole one is one."""
        self._begun = True
        self._draft.text.append(block.text or "")
        self._draft.reasoning.append(block.thinking or "")
        if block.type is not None and block.type.endswith("tool_use"):
            tool = self._draft.tool(index)
            tool.id, tool.name = block.id, block.name
            if block.input or (whole and block.input is not None):
                self._given.add(index)
                tool.arguments.append(_json(block.input))

    def add(self, index: int, delta: _Delta) -> None:
        """Take what comes to a block."""
        self._begun = True
        if delta.text is not None:
            self._draft.text.append(delta.text)
        elif delta.thinking is not None:
            self._draft.reasoning.append(delta.thinking)
        elif delta.partial_json is not None:
            tool = self._draft.tool(index)
            if index in self._given:
                self._given.discard(index)
                tool.arguments.clear()
            tool.arguments.append(delta.partial_json)

    def stop(self, reason: str | None, details: _Stop | None) -> None:
        """Take why it stopped, and how a refusal is explained."""
        self._draft.finish_reason = reason or self._draft.finish_reason
        if details is not None and details.explanation:
            self._draft.refusal.append(details.explanation)

    def use(self, usage: _Usage | None, *, final: bool = True) -> None:
        """Take counts; those of the output only if they are `final`."""
        if usage is None:
            return
        details = usage.output_tokens_details or _Details()
        counts = {
            "input_tokens": usage.input_tokens,
            "cache_creation.input_tokens": usage.cache_creation_input_tokens,
            "cache_read.input_tokens": usage.cache_read_input_tokens,
            "output_tokens": usage.output_tokens if final else None,
            "reasoning.output_tokens": details.thinking_tokens if final else None,
        }
        known = {name: count_of(count) for name, count in counts.items()}
        self._usage |= {name: n for name, n in known.items() if n is not None}

    def fail(self, error: object) -> None:
        """Note that an error came instead of the rest, and of which type."""
        self.completeness = "error_frame"
        self.error_type = self.error_type or code_of(error)

    def end(self) -> None:
        """Note that the message is whole."""
        if self.completeness != "error_frame":
            self.completeness = "complete"

    def usage(self) -> dict[str, int]:
        """Return the counts by their full names; none that did not come."""
        counts = dict(self._usage)
        if "input_tokens" in counts:
            counts["input_tokens"] += sum(counts.get(name, 0) for name in _CACHED)
        known = {name: count_of(count) for name, count in counts.items()}
        return {f"gen_ai.usage.{name}": n for name, n in known.items() if n is not None}

    def answers(self) -> list[Answer]:
        """Return the one answer, or none if none began."""
        return [self._draft.answer(0)] if self._begun else []


def _start(draft: MessageDraft, event: _Event) -> None:
    if event.message is not None:
        draft.begin(event.message)
        # What it says of the output is a first guess.
        draft.use(event.message.usage, final=False)


def _open(draft: MessageDraft, event: _Event) -> None:
    if event.content_block is not None:
        draft.open(event.index, event.content_block)


def _add(draft: MessageDraft, event: _Event) -> None:
    if event.delta is not None:
        draft.add(event.index, event.delta)


def _change(draft: MessageDraft, event: _Event) -> None:
    delta = event.delta or _Delta()
    draft.stop(delta.stop_reason, delta.stop_details)
    draft.use(event.usage)


_TAKE: Mapping[str, Callable[[MessageDraft, _Event], None]] = {
    "message_start": _start,
    "content_block_start": _open,
    "content_block_delta": _add,
    "message_delta": _change,
    "message_stop": lambda draft, _: draft.end(),
    "error": lambda draft, event: draft.fail(event.error),
}
