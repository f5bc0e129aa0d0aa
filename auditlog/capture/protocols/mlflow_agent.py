"""What an agent of MLflow answers in its own format for chats.

    {"messages": [{"role", "content", "id", "tool_calls"}, …], "finish_reason", "usage"}

or, streamed, chunks with a ``delta`` in place of `messages`: what has the same `id` is
one message. Each message, also one of a tool, is an answer of its own.
"""

from auditlog.capture.events import is_events, read_events
from auditlog.capture.protocols.draft import Draft, Drafts
from auditlog.capture.protocols.openai_answer import Usage, read_body, usage_of
from auditlog.capture.protocols.openai_request import Request, begin
from auditlog.capture.protocols.values import Shape, Struct
from auditlog.capture.reading import Reading, Traffic

__all__ = ["read_agent"]


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(Struct):
    role: str | None = None
    content: str | None = None
    id: str | None = None
    tool_calls: list[_Call] | None = None


class _Part(Struct):
    """A chunk, or a whole answer."""

    messages: list[_Message] | None = None
    delta: _Message | None = None
    finish_reason: str | None = None
    usage: Usage | None = None


_REQUEST = Shape(Request)
_PART = Shape(_Part)


def read_agent(traffic: Traffic) -> Reading | None:
    """Return the messages put together; None if there are none.

    Of a stream the completeness is not told: no chunk says that it is the last.
    """
    reading = begin("mlflow", "chat", traffic, _REQUEST.read(traffic.request))
    assembly = _Assembly()
    if is_events(traffic):
        reading.streamed, reading.completeness = True, "no_terminator"
        for _, data in read_events(traffic).events:
            assembly.take(_PART.read(data))
    else:
        assembly.take(read_body(_PART, traffic))
    reading.answers = assembly.drafts.answers()
    reading.usage = usage_of(assembly.usage)
    reading.partial |= assembly.drafts.partial
    # Each message says whose it is; deltas of other protocols do not.
    known = any(answer.role is not None for answer in reading.answers)
    return reading if known else None


class _Assembly:
    """The messages of one exchange, while they come in."""

    def __init__(self) -> None:
        self.drafts = Drafts()
        self.usage: Usage | None = None
        self._places: dict[object, int] = {}

    def take(self, part: _Part | None) -> None:
        """Add what a chunk, or a whole answer, holds."""
        if part is None:
            return
        self.usage = part.usage or self.usage
        some = part.messages or ([part.delta] if part.delta is not None else [])
        for place, message in enumerate(some):
            key = message.id or (place if part.messages else None)
            draft = self.drafts.at(self._places.setdefault(key, len(self._places)))
            _add(draft, message)
            draft.finish_reason = part.finish_reason or draft.finish_reason


def _add(draft: Draft, message: _Message) -> None:
    draft.role = message.role or draft.role
    draft.text.append(message.content or "")
    for call in message.tool_calls or ():
        function = call.function or _Function()
        tool = draft.tool(call.id)
        tool.id, tool.name = call.id, function.name or tool.name
        tool.arguments.append(function.arguments or "")
