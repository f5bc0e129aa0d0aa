"""OpenAI's Responses API: one response of several items, streamed as typed events.

The parts of all items make one answer: the texts of its messages, summaries of its
reasoning, refusals, and the calls to tools that have a name. Deltas say what the client
got; what came without a delta is taken from the item as it was done, and where events
lie in the gap of a long stream, all from the response that ends it.

``response.completed`` and ``response.incomplete`` end a stream whole; the latter says
by its finish reason that a limit cut the answer itself. ``response.failed`` and
``error`` are errors.
"""

import re
from typing import Any

from auditlog.capture.events import Event, Stream, is_events, read_events
from auditlog.capture.protocols.draft import Draft, Drafts
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
from auditlog.capture.protocols.openai_request import Request, begin
from auditlog.capture.protocols.values import Shape, Struct, short_text
from auditlog.capture.reading import Reading, Traffic

__all__ = ["Responses"]

_RESPONSE = re.compile(rb'"object"\s*:\s*"response"')
_FAILED, _ERROR = "response.failed", "error"
_ENDS = frozenset({"response.completed", "response.incomplete", _FAILED, _ERROR})
_ARGUMENTS = "arguments"
_PARTS = {
    "response.output_text.delta": "text",
    "response.audio.transcript.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.function_call_arguments.delta": _ARGUMENTS,
    "response.custom_tool_call_input.delta": _ARGUMENTS,
    "response.mcp_call_arguments.delta": _ARGUMENTS,
}
"""Which part of an answer a delta goes on with."""
_UNFINISHED = frozenset({"queued", "in_progress"})
_CALLS = frozenset({"function_call", "custom_tool_call", "mcp_call"})


class _Part(Struct):
    text: str | None = None
    refusal: str | None = None
    transcript: str | None = None


class _Item(Struct):
    type: str | None = None
    role: str | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None


class _Incomplete(Struct):
    reason: str | None = None


class _Response(Source):
    status: str | None = None
    output: list[_Item] | None = None
    usage: Usage | None = None
    error: Any = None
    incomplete_details: _Incomplete | None = None
    background: bool | None = None


class _Event(Struct):
    type: str = ""
    delta: Any = None
    output_index: int | None = None
    item_id: str | None = None
    item: _Item | None = None
    response: _Response | None = None
    error: Any = None
    code: Any = None


_REQUEST = Shape(Request)
_WHOLE = Shape(_Response)
_EVENT = Shape(_Event)


class Responses:
    """``POST …/responses``, or an answer that says it is a response."""

    name = "openai.responses"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path or the answer is of this protocol."""
        at_path = traffic.path.rstrip("/").endswith("/responses")
        return at_path or says_object(traffic, _RESPONSE)

    def read(self, traffic: Traffic) -> Reading | None:
        """Return what the exchange says; None if the answer is of another kind."""
        request = _REQUEST.read(traffic.request)
        reading = begin(self.name, "chat", traffic, request)
        if is_events(traffic):
            return _read_stream(read_events(traffic), traffic, reading)
        whole = read_body(_WHOLE, traffic)
        if whole is None or whole.output is None:
            return read_failure(traffic, reading)
        # One in the background was never to be done when this call ended.
        if whole.status in _UNFINISHED and not whole.background:
            reading.completeness = "no_terminator"
        _tell(reading, whole, _drafted(whole.output))
        return reading


def _read_stream(stream: Stream, traffic: Traffic, reading: Reading) -> Reading | None:
    reading.streamed = True
    reading.completeness = "no_terminator"
    assembly = _Assembly()
    assembly.partial = stream.partial
    for name, data in stream.events:
        assembly.take(name, data)
        if assembly.ended:
            break
    else:
        assembly.take_rest(stream.rest)
    if not assembly.begun and (stream.events or not is_asked(traffic, reading)):
        return None
    assembly.finish(reading)
    return reading


class _Assembly:
    """One response, while its events come in."""

    def __init__(self) -> None:
        self.begun = False
        """Whether anything came that is an event of this API."""
        self.ended = False
        """Whether the event came that ends a response, or an error."""
        self.partial = False
        """Whether an event is missing, or could not be read."""
        self._drafts = Drafts()
        self._told: set[int | str | None] = set()
        """Items of which deltas came."""
        self._response = _Response()
        self._error: Any = None

    def take(self, name: str, data: str) -> None:
        """Add what an event holds."""
        event = _EVENT.read(data)
        if event is None:
            self._take_unread(name, data)
            return
        kind = event.type or name
        part = _PARTS.get(kind)
        if part is not None:
            self._take_delta(part, event)
        elif event.item is not None:
            self._take_item(event, event.item, done=kind.endswith(".done"))
        else:
            self._take_state(kind, event)

    def take_rest(self, rest: Event | None) -> None:
        """End the stream if that is what its last block does, cut after its data."""
        event = None if rest is None else _EVENT.read(rest[1])
        if rest is not None and event is not None and event.item is None:
            kind = event.type or rest[0]
            if kind in _ENDS:
                self._take_state(kind, event)

    def finish(self, reading: Reading) -> None:
        """Write what was put together into `reading`."""
        output = self._response.output
        if self.ended and output and (self.partial or not self._told):
            self.partial = False
            self._drafts = _drafted(output)
        if self.ended:
            reading.completeness = "complete"
        reading.partial |= self.partial
        _tell(reading, self._response, self._drafts)
        if self._error:
            fail(reading, self._error)

    def _take_unread(self, name: str, data: str) -> None:
        # Proxies add the end of another protocol; an event too large has its name only.
        if data.startswith("[DONE]"):
            return
        self.partial = True
        self._take_state(name, _Event())

    def _take_delta(self, part: str, event: _Event) -> None:
        self.begun = True
        if not isinstance(event.delta, str):
            return
        key = event.item_id if event.output_index is None else event.output_index
        self._told.add(key)
        draft = self._drafts.at(0)
        if part == _ARGUMENTS:
            draft.tool(key).arguments.append(event.delta)
        else:
            parts: list[str] = getattr(draft, part)
            parts.append(event.delta)

    def _take_item(self, event: _Event, item: _Item, *, done: bool) -> None:
        self.begun = True
        key = item.id if event.output_index is None else event.output_index
        told = key in self._told
        if done:
            self._told.add(key)
        _add_item(self._drafts.at(0), key, item, content=done and not told)

    def _take_state(self, kind: str, event: _Event) -> None:
        if event.response is not None:
            self._response = event.response
        self.begun = self.begun or kind == _ERROR or kind.startswith("response.")
        self.ended = kind in _ENDS
        if kind in (_FAILED, _ERROR):
            self._error = event.error or self._response.error or {"code": event.code}


def _drafted(output: list[_Item]) -> Drafts:
    drafts = Drafts()
    for place, item in enumerate(output):
        _add_item(drafts.at(0), place, item, content=True)
    return drafts


def _add_item(
    draft: Draft, key: int | str | None, item: _Item, *, content: bool
) -> None:
    draft.role = draft.role or item.role
    if item.type in _CALLS:
        tool = draft.tool(key)
        tool.id = item.call_id or item.id
        tool.name = item.name
        arguments = item.arguments or item.input
        if content and arguments:
            tool.arguments.append(arguments)
    elif content:
        _add_parts(draft, item)


def _add_parts(draft: Draft, item: _Item) -> None:
    texts = draft.reasoning if item.type == "reasoning" else draft.text
    for part in [*(item.summary or ()), *(item.content or ())]:
        text = part.text or part.transcript
        if text:
            texts.append(text)
        if part.refusal:
            draft.refusal.append(part.refusal)


def _tell(reading: Reading, response: _Response, drafts: Drafts) -> None:
    tell_source(reading, response)
    reading.usage = usage_of(response.usage)
    reading.partial |= drafts.partial
    reading.answers = drafts.answers()
    for answer in reading.answers:
        answer.finish_reason = _reason(response)
    if response.error or response.status == "failed":
        fail(reading, response.error)


def _reason(response: _Response) -> str | None:
    cut = response.incomplete_details
    if cut is not None and cut.reason:
        return short_text(cut.reason)
    return None if response.status in _UNFINISHED else short_text(response.status)
