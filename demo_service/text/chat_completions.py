"""``POST /v1/chat/completions`` and ``GET /v1/models``, as clients of OpenAI ask."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from demo_service.text.answer import Answer, Clerk, Finish, Message, Question
from demo_service.text.model import Sampling
from demo_service.text.tools import Tool
from demo_service.text.wire import (
    MAX_TOKENS,
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

__all__ = ["chat_completions", "openai_refusal"]

_DEFAULT_TOKENS = 256
_CREATED = 1_764_201_600
"""When the model was written, in seconds since 1970."""
_REASONS: dict[Finish, str] = {
    "end": "stop",
    "stop": "stop",
    "limit": "length",
    "call": "tool_calls",
}


class _FunctionName(Asked):
    name: str


class _Function(Asked):
    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool | None = None


class _Tool(Asked):
    type: Literal["function"]
    function: _Function


class _ToolChoice(Asked):
    type: Literal["function"]
    function: _FunctionName


class _Message(BaseModel):
    # What else it has, an earlier answer of ours among it, says nothing to this model.
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Text] | None = None


class _StreamOptions(BaseModel):
    include_usage: bool = False


class _Asked(Asked):
    model: str
    messages: Annotated[list[_Message], Field(min_length=1)]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=8)] | None = None
    seed: int | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | _ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    """Accepted; an answer never asks for more than one call."""
    user: str | None = None
    metadata: dict[str, str] | None = None

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with what it took."""
        return self.stream_options is not None and self.stream_options.include_usage

    def question(self, clerk: Clerk) -> Question:
        """Return what is asked, in our words."""
        temperature = 1.0 if self.temperature is None else self.temperature
        top_p = 1.0 if self.top_p is None else self.top_p
        most = self.max_completion_tokens or self.max_tokens or _DEFAULT_TOKENS
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or ()
        choice = self.tool_choice
        only = choice.function.name if isinstance(choice, _ToolChoice) else None
        must = only is not None or choice == "required"
        return Question(
            messages=[_said(message) for message in self.messages],
            sampling=Sampling(clerk.seed(self.seed), temperature, top_p),
            max_tokens=min(most, MAX_TOKENS),
            stops=stops,
            tools=callable_tools(self._tools(), only=only, must=must),
            must_call=must,
        )

    def _tools(self) -> list[Tool]:
        tools = [] if self.tool_choice == "none" else self.tools or []
        functions = [tool.function for tool in tools]
        return [Tool(one.name, one.parameters) for one in functions]


def chat_completions(clerk: Clerk) -> APIRouter:
    """Return the routes of this API."""
    router = APIRouter(prefix="/v1", route_class=refusing_route(openai_refusal))
    model = {
        "id": clerk.model.name,
        "object": "model",
        "created": _CREATED,
        "owned_by": "demo_service",
    }

    @router.get("/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [model]}

    @router.post("/chat/completions", response_model=None)
    def chat(asked: _Asked) -> Response:
        check_model(clerk.model, asked.model)
        completion = _Completion(clerk, asked)
        return events(completion.stream()) if asked.stream else completion.whole()

    return router


def openai_refusal(refused: RefusedError) -> dict[str, Any]:
    """Return a refusal as OpenAI words it."""
    said = {
        "message": refused.message,
        "type": "invalid_request_error",
        "param": refused.param,
        "code": refused.code,
    }
    return {"error": said}


def _said(message: _Message) -> Message:
    role = "system" if message.role == "developer" else message.role
    return Message(role, text_of(message.content))


class _Completion:
    """One completion, whole or streamed: some choices, each of them an answer."""

    def __init__(self, clerk: Clerk, asked: _Asked) -> None:
        question = asked.question(clerk)
        self._clerk = clerk
        self._with_usage = asked.with_usage
        self._prompt_tokens = clerk.count(question)
        self._answers = clerk.begin(question, asked.n or 1)
        self._head = {
            "id": clerk.identifier("chatcmpl-"),
            "created": int(clerk.now()),
            "model": clerk.model.name,
            "system_fingerprint": f"fp_{clerk.model.digest[-10:]}",
        }

    def whole(self) -> JSONResponse:
        """Return all of it at once."""
        choices = [
            self._choice(number, answer) for number, answer in enumerate(self._answers)
        ]
        body = {"object": "chat.completion", "choices": choices, "usage": self._usage()}
        return JSONResponse({**self._head, **body})

    def _choice(self, number: int, answer: Answer) -> dict[str, Any]:
        written = "".join(answer.write())
        message: dict[str, Any] = {"role": "assistant", "content": written}
        if answer.call:
            function = {"name": answer.call.name, "arguments": written}
            call = {"id": self._call_id(), "type": "function", "function": function}
            message |= {"content": None, "tool_calls": [call]}
        message["refusal"] = None
        reason = _REASONS[answer.finish]
        ended = {"finish_reason": reason, "logprobs": None}
        return {"index": number, "message": message, **ended}

    def stream(self) -> Iterator[str]:
        """Yield it piece by piece, the choices side by side."""
        parts = [self._parts(number, one) for number, one in enumerate(self._answers)]
        for side_by_side in zip_longest(*parts):
            yield from filter(None, side_by_side)
        if self._with_usage:
            yield self._chunk([], usage=self._usage())
        yield "data: [DONE]\n\n"

    def _parts(self, number: int, answer: Answer) -> Iterator[str]:
        """Yield the events of one choice."""
        first: dict[str, Any] = {"role": "assistant", "content": ""}
        if answer.call:
            function = {"name": answer.call.name, "arguments": ""}
            call = {"index": 0, "id": self._call_id(), "type": "function"}
            first |= {"content": None, "tool_calls": [{**call, "function": function}]}
        yield self._part(number, first)
        for text in filter(None, answer.write()):
            if answer.call:
                call = {"index": 0, "function": {"arguments": text}}
                yield self._part(number, {"tool_calls": [call]})
            else:
                yield self._part(number, {"content": text})
        yield self._part(number, {}, _REASONS[answer.finish])

    def _part(
        self, number: int, delta: dict[str, Any], reason: str | None = None
    ) -> str:
        ended = {"logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self._with_usage else {}
        return self._chunk([{"index": number, "delta": delta, **ended}], **usage)

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> str:
        kind = {"object": "chat.completion.chunk"}
        return event({**self._head, **kind, "choices": choices, **more})

    def _usage(self) -> dict[str, int]:
        written = sum(answer.tokens for answer in self._answers)
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self._prompt_tokens + written,
        }

    def _call_id(self) -> str:
        return self._clerk.identifier("call_")
