"""``POST /v1/messages``, as clients of Anthropic ask."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from demo_service.text.answer import Answer, Clerk, Finish, Message, Question
from demo_service.text.model import Sampling
from demo_service.text.tools import Tool
from demo_service.text.wire import (
    Asked,
    RefusedError,
    Stop,
    Text,
    Tokens,
    callable_tools,
    check_model,
    event,
    events,
    refusing_route,
    text_of,
)

__all__ = ["messages"]

_REASONS: dict[Finish, str] = {
    "end": "end_turn",
    "stop": "stop_sequence",
    "limit": "max_tokens",
    "call": "tool_use",
}
_ERRORS = {404: "not_found_error", 413: "request_too_large"}

Block = dict[str, Any]


class _ToolUse(BaseModel):
    type: Literal["tool_use"]
    name: str
    input: dict[str, Any]


class _ToolResult(BaseModel):
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | list[Text] | None = None


_Part = Annotated[Text | _ToolUse | _ToolResult, Field(discriminator="type")]


class _Message(Asked):
    role: Literal["user", "assistant"]
    content: str | list[_Part]


class _Tool(Asked):
    name: str
    description: str = ""
    input_schema: dict[str, Any]
    type: Literal["custom"] | None = None


class _ToolChoice(Asked):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False
    """Accepted; an answer never asks for more than one call."""


class _Metadata(Asked):
    user_id: str | None = None


class _Asked(Asked):
    model: str
    max_tokens: Tokens
    messages: Annotated[list[_Message], Field(min_length=1)]
    system: str | list[Text] | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    stop_sequences: list[Stop] = Field(default_factory=list)
    stream: bool = False
    tools: list[_Tool] = Field(default_factory=list)
    tool_choice: _ToolChoice = _ToolChoice(type="auto")
    metadata: _Metadata | None = None

    def question(self, clerk: Clerk) -> Question:
        """Return what is asked, in our words."""
        system = [Message("system", text_of(self.system))] if self.system else []
        said = [one for message in self.messages for one in _said(message)]
        only = self.tool_choice.name if self.tool_choice.type == "tool" else None
        must = self.tool_choice.type in {"any", "tool"}
        return Question(
            messages=[*system, *said],
            sampling=Sampling(clerk.seed(None), self.temperature, self.top_p),
            max_tokens=self.max_tokens,
            stops=self.stop_sequences,
            tools=callable_tools(self._tools(), only=only, must=must),
            must_call=must,
        )

    def _tools(self) -> list[Tool]:
        tools = [] if self.tool_choice.type == "none" else self.tools
        return [Tool(tool.name, tool.input_schema) for tool in tools]


def messages(clerk: Clerk) -> APIRouter:
    """Return the route of this API."""
    router = APIRouter(prefix="/v1", route_class=refusing_route(_refusal))

    @router.post("/messages", response_model=None)
    def create(asked: _Asked) -> Response:
        check_model(clerk.model, asked.model)
        answered = _Answered(clerk, asked.question(clerk))
        return events(answered.stream()) if asked.stream else answered.whole()

    return router


def _refusal(refused: RefusedError) -> dict[str, Any]:
    kind = _ERRORS.get(refused.status, "invalid_request_error")
    error = {"type": kind, "message": refused.message}
    return {"type": "error", "error": error}


def _said(message: _Message) -> Iterator[Message]:
    """Yield what a message says, and apart from it what tools have said in it."""
    if isinstance(message.content, str):
        yield Message(message.role, message.content)
        return
    for block in message.content:
        if isinstance(block, Text):
            yield Message(message.role, block.text)
        elif isinstance(block, _ToolUse):
            yield Message(message.role, f"{block.name} {json.dumps(block.input)}")
        else:
            yield Message("tool", text_of(block.content))


class _Answered:
    """One message in answer, whole or streamed: one block, of text or with a call."""

    def __init__(self, clerk: Clerk, question: Question) -> None:
        self._clerk = clerk
        self._input_tokens = clerk.count(question)
        (self._answer,) = clerk.begin(question)
        self._head = {
            "id": clerk.identifier("msg_"),
            "type": "message",
            "role": "assistant",
            "model": clerk.model.name,
        }

    def whole(self) -> JSONResponse:
        """Return all of it at once."""
        written = "".join(self._answer.write())
        if self._answer.call:
            # One that was cut short is no JSON, and there is no way to send it.
            block = self._block(input=_read(written))
        else:
            block = self._block(text=written)
        body = {"content": [block], **_ended(self._answer)}
        return JSONResponse({**self._head, **body, "usage": self._usage()})

    def stream(self) -> Iterator[str]:
        """Yield it piece by piece."""
        begun = {"stop_reason": None, "stop_sequence": None, "usage": self._usage()}
        message: Block = {**self._head, "content": [], **begun}
        yield _event("message_start", message=message)
        yield _event("content_block_start", index=0, content_block=self._block())
        yield _event("ping")
        for text in filter(None, self._answer.write()):
            yield _event("content_block_delta", index=0, delta=self._delta(text))
        yield _event("content_block_stop", index=0)
        yield _event("message_delta", delta=_ended(self._answer), usage=self._usage())
        yield _event("message_stop")

    def _block(self, **content: Any) -> Block:
        """Return the block; without `content`, as it begins in a stream."""
        call = self._answer.call
        if call is None:
            return {"type": "text", "text": "", **content}
        identifier = self._clerk.identifier("toolu_")
        block = {"type": "tool_use", "id": identifier, "name": call.name, "input": {}}
        return {**block, **content}

    def _delta(self, text: str) -> Block:
        if self._answer.call:
            return {"type": "input_json_delta", "partial_json": text}
        return {"type": "text_delta", "text": text}

    def _usage(self) -> dict[str, int]:
        written = self._answer.tokens
        return {"input_tokens": self._input_tokens, "output_tokens": written}


def _read(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return {}


def _ended(answer: Answer) -> dict[str, str | None]:
    reason = _REASONS[answer.finish]
    return {"stop_reason": reason, "stop_sequence": answer.stopped_by}


def _event(kind: str, **content: Any) -> str:
    return event({"type": kind, **content}, kind)
