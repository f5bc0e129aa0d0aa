"""OpenAI chat completions, and the completions of text that came before them.

A stream is chunks of choices, and ends with ``[DONE]``. A client stops there, or at the
first error, and so does the reading. What servers of this API send besides what OpenAI
does is read as most clients read it::

    vLLM, DeepSeek     reasoning in `reasoning` or `reasoning_content`; usage anywhere
    vLLM               errors as an object of their own kind; several parts of one call
                       to a tool in one chunk
    Azure              chunks without choices or without a delta, which only filter
    Gemini             several whole calls under one index, each with an id and a name
    Mistral            content as a list of texts and thoughts
"""

import json
import re
from typing import Any

from auditlog.capture.events import Stream, is_events, read_events
from auditlog.capture.protocols.draft import Draft, Drafts, ToolDraft
from auditlog.capture.protocols.openai_answer import (
    Source,
    Usage,
    fail,
    is_asked,
    read_body,
    read_failure,
    says_object,
    tell_source,
    usage_of,
)
from auditlog.capture.protocols.openai_request import Request, batch_size, begin
from auditlog.capture.protocols.values import Shape, Struct
from auditlog.capture.reading import Reading, Traffic

__all__ = ["ChatCompletions", "TextCompletions"]

_DONE = "[DONE]"
_ENDS_WITH_DONE = ("/completions", "/invocations")
_CHAT = re.compile(rb'"object"\s*:\s*"chat\.completion(?:\.chunk)?"')
_TEXT = re.compile(rb'"object"\s*:\s*"text_completion(?:\.chunk)?"')


class _Function(Struct):
    name: str | None = None
    arguments: Any = None
    input: str | None = None


class _ToolCall(Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    custom: _Function | None = None


class _Audio(Struct):
    transcript: str | None = None


class _Message(Struct):
    content: Any = None
    role: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: _Audio | None = None


class _Choice(Struct):
    index: int | None = None
    delta: _Message | None = None
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(Source):
    """A chunk of a stream, or a whole answer."""

    choices: list[_Choice] | None = None
    usage: Usage | None = None
    error: Any = None
    code: Any = None
    type: Any = None


class _Prompt(Request):
    prompt: Any = None


_CHUNK = Shape(_Chunk)
_REQUEST = Shape(Request)
_PROMPT = Shape(_Prompt)


class ChatCompletions:
    """``POST …/chat/completions``, or an answer that says it is one."""

    name = "openai.chat"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path or the answer is of this protocol."""
        at_path = traffic.path.rstrip("/").endswith("/chat/completions")
        return at_path or says_object(traffic, _CHAT)

    def read(self, traffic: Traffic) -> Reading | None:
        """Return what the exchange says; None if the answer is of another kind."""
        request = _REQUEST.read(traffic.request)
        return _read(traffic, begin(self.name, "chat", traffic, request))


class TextCompletions:
    """``POST …/completions``, or an answer that says it is one."""

    name = "openai.completions"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path or the answer is of this protocol."""
        path = traffic.path.rstrip("/")
        at_path = path.endswith("/completions") and not path.endswith(
            "/chat/completions"
        )
        return at_path or says_object(traffic, _TEXT)

    def read(self, traffic: Traffic) -> Reading | None:
        """Return what the exchange says; None if the answer is of another kind."""
        request = _PROMPT.read(traffic.request)
        reading = begin(self.name, "text_completion", traffic, request)
        reading.items = batch_size(request.prompt) if request else None
        return _read(traffic, reading)


def _read(traffic: Traffic, reading: Reading) -> Reading | None:
    if is_events(traffic):
        return _read_stream(read_events(traffic), traffic, reading)
    whole = read_body(_CHUNK, traffic)
    if whole is None or whole.choices is None or whole.error:
        return read_failure(traffic, reading)
    assembly = _Assembly()
    assembly.add(whole)
    assembly.finish(reading)
    return reading


def _read_stream(stream: Stream, traffic: Traffic, reading: Reading) -> Reading | None:
    reading.streamed = True
    reading.completeness = "no_terminator"
    reading.partial |= stream.partial
    assembly = _Assembly()
    for name, data in stream.events:
        if assembly.take(name, data, reading):
            break
    else:
        # A terminator is one even if the empty line after it is not there.
        if stream.rest is not None and stream.rest[1].startswith(_DONE):
            assembly.take(*stream.rest, reading)
    if not assembly.begun and (stream.events or not is_asked(traffic, reading)):
        return None
    assembly.finish(reading)
    _excuse_handed_on(traffic, reading)
    return reading


def _excuse_handed_on(traffic: Traffic, reading: Reading) -> None:
    # An application that hands on the chunks of a client's library has no terminator
    # to hand on: libraries keep it. What ends each answer is then why it ended.
    at_path = traffic.path.rstrip("/").endswith(_ENDS_WITH_DONE)
    reasons = reading.finish_reasons
    if reading.completeness == "no_terminator" and not at_path and reasons:
        reading.completeness = "complete" if all(reasons) else "no_terminator"


class _Assembly:
    """The answers of one exchange, while their chunks come in."""

    def __init__(self) -> None:
        self.begun = False
        """Whether anything came that is of this protocol."""
        self._drafts = Drafts()
        self._source = Source()
        self._usage: Usage | None = None

    def take(self, name: str, data: str, reading: Reading) -> bool:
        """Add what an event holds; return whether it ends the stream."""
        if data.startswith(_DONE):
            reading.completeness = "complete"
            self.begun = True
            return True
        chunk = _CHUNK.read(data)
        if name == "error" or (chunk and (chunk.error or chunk.object == "error")):
            own = chunk and {"code": chunk.code, "type": chunk.type}
            fail(reading, (chunk and chunk.error) or own)
            self.begun = True
            return True
        if chunk is None:
            reading.partial = True
        else:
            self.add(chunk)
        return False

    def add(self, chunk: _Chunk) -> None:
        """Add what a chunk, or a whole answer, holds."""
        if chunk.usage is not None:
            self._usage = chunk.usage
        source = self._source
        if not (source.id and source.model):
            source.add(chunk)
        if chunk.choices is not None:
            self.begun = True
            for place, choice in enumerate(chunk.choices):
                index = place if choice.index is None else choice.index
                _add_choice(self._drafts.at(index), choice)

    def finish(self, reading: Reading) -> None:
        """Write what was put together into `reading`."""
        tell_source(reading, self._source)
        reading.usage = usage_of(self._usage)
        reading.answers = self._drafts.answers()
        reading.partial |= self._drafts.partial


def _add_choice(draft: Draft, choice: _Choice) -> None:
    message = choice.delta or choice.message
    if message is not None:
        _add_message(draft, message)
    if choice.text:
        draft.text.append(choice.text)
    if choice.finish_reason:
        draft.finish_reason = choice.finish_reason


def _add_message(draft: Draft, message: _Message) -> None:
    if message.content:
        _add_content(draft, message.content)
    if message.role:
        draft.role = message.role
    # Some servers send the same thought under both names.
    reasoning = message.reasoning_content or message.reasoning
    if reasoning:
        draft.reasoning.append(reasoning)
    if message.refusal:
        draft.refusal.append(message.refusal)
    if message.audio is not None and message.audio.transcript:
        draft.text.append(message.audio.transcript)
    if message.tool_calls:
        _add_calls(draft, message.tool_calls)
    if message.function_call is not None:
        _add_function(draft.tool("function_call"), message.function_call)


def _add_content(draft: Draft, content: object) -> None:
    if isinstance(content, str):
        draft.text.append(content)
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict):
                _add_part(draft, part)


def _add_part(draft: Draft, part: dict[str, Any]) -> None:
    thoughts = part.get("thinking")
    for thought in thoughts if isinstance(thoughts, list) else (thoughts,):
        text = thought.get("text") if isinstance(thought, dict) else thought
        if isinstance(text, str):
            draft.reasoning.append(text)
    for name, parts in (("text", draft.text), ("refusal", draft.refusal)):
        if isinstance(text := part.get(name), str):
            parts.append(text)


def _add_calls(draft: Draft, calls: list[_ToolCall]) -> None:
    for place, call in enumerate(calls):
        index = place if call.index is None else call.index
        function = call.function or call.custom or _Function()
        tool = draft.tool(index)
        if _is_another(tool, call, function):
            tool = draft.new_tool(index)
        tool.id = tool.id or call.id
        _add_function(tool, function)


def _is_another(tool: ToolDraft, call: _ToolCall, function: _Function) -> bool:
    # Gemini counts from 0 in each chunk. Old versions of vLLM draw an id for each part,
    # so an id alone does not begin a call: only one together with a name does.
    named = tool.name and function.name
    return bool(named and tool.id and call.id and tool.id != call.id)


def _add_function(tool: ToolDraft, function: _Function) -> None:
    tool.name = tool.name or function.name
    arguments = function.arguments or function.input
    if isinstance(arguments, str):
        tool.arguments.append(arguments)
    elif arguments:
        tool.arguments.append(json.dumps(arguments))
