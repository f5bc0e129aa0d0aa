"""One answer of Ollama while it is put together from its lines."""

import json
from typing import Any

from auditlog.capture.protocols.draft import Draft
from auditlog.capture.protocols.values import Shape, Struct, code_of, count_of
from auditlog.capture.reading import Answer, Completeness

__all__ = ["LINE", "AnswerDraft", "Line", "usage_of"]


class _Function(Struct):
    name: str | None = None
    arguments: Any = None


class _Call(Struct):
    id: str | None = None
    function: _Function | None = None


class _Message(Struct):
    role: str | None = None
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class Line(Struct):
    """One line of a stream, or the whole of what is not streamed."""

    model: str | None = None
    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    error: Any = None


LINE = Shape(Line)
"""Reads a line."""
_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class AnswerDraft:
    """An answer as far as it came, and how it ended."""

    def __init__(self) -> None:
        self.model: str | None = None
        self.completeness: Completeness = "no_terminator"
        self.error_type: str | None = None
        self.usage: dict[str, int] = {}
        self.read = False
        """Whether there was a line that could be read."""
        self.known = False
        """Whether one of them was of this protocol."""
        self.left_out = False
        """Whether something that was sent is missing."""
        self._draft = Draft()
        self._begun = False

    @property
    def partial(self) -> bool:
        """Whether anything was left out, here or before."""
        return self.left_out or self._draft.partial or self._draft.oversized

    def take(self, line: Line) -> None:
        """Take in the next line."""
        self.read = True
        self.known = self.known or _is_of_answer(line)
        self.model = self.model or line.model
        self._say(line.response, line.thinking)
        if line.message is not None:
            self._draft.role = line.message.role or self._draft.role
            self._say(line.message.content or "", line.message.thinking)
            self._call(line.message.tool_calls or [])
        if line.error:
            self._fail(line.error)
        elif line.done:
            self._end(line)

    def answers(self) -> list[Answer]:
        """Return the one answer, or none if none began."""
        return [self._draft.answer(0)] if self._begun else []

    def _say(self, text: str | None, thinking: str | None) -> None:
        self._begun = self._begun or text is not None
        self._draft.text.append(text or "")
        self._draft.reasoning.append(thinking or "")

    def _call(self, calls: list[_Call]) -> None:
        for call in calls:
            function = call.function or _Function()
            # Each comes whole, in one line, whatever index it gives itself.
            tool = self._draft.tool(object())
            tool.id, tool.name = call.id, function.name
            tool.arguments.append(_json(function.arguments))

    def _fail(self, error: object) -> None:
        self.known = True
        self.completeness = "error_frame"
        self.error_type = code_of(error)

    def _end(self, line: Line) -> None:
        self._draft.finish_reason = line.done_reason or self._draft.finish_reason
        self.usage = usage_of(line)
        if self.completeness != "error_frame":
            self.completeness = "complete"


def _is_of_answer(line: Line) -> bool:
    # Of a job that is not done there may be more to say than of an answer.
    says = line.response is not None or line.message is not None
    return line.done is True or (line.done is False and says)


def usage_of(line: Line) -> dict[str, int]:
    """Return the counts that a line gives, by their full names."""
    counts = {
        "gen_ai.usage.input_tokens": count_of(line.prompt_eval_count),
        "gen_ai.usage.output_tokens": count_of(line.eval_count),
    }
    return {name: count for name, count in counts.items() if count is not None}
