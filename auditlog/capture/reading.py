"""What traffic says in the language of a model protocol: advisory, never the proof.

A protocol reads a finished exchange, off the event loop, and says what a person would
want to know of it: the answer put together, usage, why it ended, whether it is whole.
The raw bytes remain the truth. What is read at capture (usage, finish reasons,
completeness, names of models) is committed to under ``context/``; the answer itself is
not stored twice: it is read again from the stored bytes when somebody looks.

Names of attributes are those of the OpenTelemetry GenAI conventions where they have one
(``gen_ai.*``, as in semantic-conventions-genai of May 2026), and are never renamed.
"""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

__all__ = [
    "MAX_TEXT",
    "Answer",
    "Completeness",
    "ModelProtocol",
    "Reading",
    "ToolCall",
    "Traffic",
]

Completeness = Literal["complete", "no_terminator", "error_frame"]
"""How an answer ended by its own protocol, whatever HTTP said: with the mark that says
that it is whole; without it; or with an error in the stream or body."""

MAX_TEXT = 1 << 20
"""Characters of each text of an answer that are put together."""


class Traffic(msgspec.Struct, kw_only=True, frozen=True, eq=False):
    """A finished exchange as a protocol sees it: any bytes at all may be in it."""

    path: str
    """Of the request's target, without query, as sent."""
    status: int | None = None
    request: bytes = b""
    """Decoded where a content-encoding was undone; only its first bytes if larger than
    what is kept, or if not all was read."""
    request_type: str | None = None
    """Content-Type as sent, with parameters; None without one."""
    response: bytes = b""
    """Likewise, as far as it was sent."""
    response_type: str | None = None
    tail: bytes = b""
    """Where `response` is only the first bytes: the last ones, with a gap between."""
    capped: bool = False
    """Whether there is such a gap."""


class ToolCall(msgspec.Struct, kw_only=True):
    """A call to a tool that the model asked for."""

    id: str | None = None
    name: str | None = None
    arguments: str = ""
    """JSON text as the model wrote it, which may be no JSON."""


class Answer(msgspec.Struct, kw_only=True):
    """One answer, put together from what was sent: a choice, a message, an item."""

    index: int = 0
    role: str | None = None
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[ToolCall] = msgspec.field(default_factory=list)
    finish_reason: str | None = None
    """Last one that was not empty; None where none came."""


class Reading(msgspec.Struct, kw_only=True):
    """What one exchange says. Everything is as the traffic claims, and nothing more."""

    protocol: str
    """Name of the protocol that read it, such as ``openai.chat``."""
    operation: str
    """``gen_ai.operation.name``: ``chat``, ``text_completion``, ``embeddings``, …; or
    ``predict`` for a model that scores rather than writes."""
    streamed: bool = False
    completeness: Completeness = "complete"
    error_type: str | None = None
    """Of an error in the answer: a short code or class, never its message."""
    requested_model: str | None = None
    """``gen_ai.request.model``."""
    answered_model: str | None = None
    """``gen_ai.response.model``."""
    response_id: str | None = None
    parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """``gen_ai.request.*`` by full name, as JSON: numbers, flags, short texts, lists of
    these; integers beyond 2^53-1 as text."""
    usage: Mapping[str, int] = msgspec.field(default_factory=dict)
    """``gen_ai.usage.*`` by full name, in tokens; empty where the answer says none."""
    attributes: Mapping[str, str] = msgspec.field(default_factory=dict)
    """What else the answer says of itself, by full name, such as
    ``openai.response.system_fingerprint``."""
    items: int | None = None
    """How many inputs a batch holds; None where there is no batch."""
    answers: list[Answer] = msgspec.field(default_factory=list)
    """By index. What an answer holds beyond `MAX_TEXT` characters is left out."""
    partial: bool = False
    """Whether something was left out, or lies in the gap of capped traffic."""

    redacted: bool = False
    """Whether it was read from copies in which something was redacted or withheld."""

    @property
    def finish_reasons(self) -> list[str | None]:
        """``gen_ai.response.finish_reasons``: one of each answer, in order."""
        return [answer.finish_reason for answer in self.answers]


class ModelProtocol(Protocol):
    """Reads traffic of one protocol. Pure, without I/O, and thread-safe.

    Implement it for a protocol of your own, and give an instance to the option
    `protocols` of the middleware; yours are asked before those that are built in.
    """

    @property
    def name(self) -> str:
        """Name in the log: lower-case letters, digits, dots; from code."""

    def claims(self, traffic: Traffic) -> bool:
        """Return whether traffic is of this protocol, by its path and shape.

        Called for every finished exchange, so it has to be quick: look at the path
        first. A mere likeness is no reason to claim: who claims decides the outcome.
        """

    def read(self, traffic: Traffic) -> Reading | None:
        """Return what it says; None if it is of another protocol after all.

        Any bytes may come, cut anywhere. What is raised is noted in the record as a
        fault of the protocol, and the exchange stands as if nobody had read it. So it
        is if a field is not of its type, or a name in `parameters`, `usage` or
        `attributes` has more than 64 ASCII letters, digits, ``.``, ``_`` and ``-``.
        """
