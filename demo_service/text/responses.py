"""``POST /v1/responses``, as clients of OpenAI ask. Nothing is kept between calls."""

from collections.abc import Iterator
from itertools import count
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from demo_service.text.answer import Answer, Clerk, Message, Question
from demo_service.text.chat_completions import openai_refusal
from demo_service.text.model import Sampling
from demo_service.text.tools import Tool
from demo_service.text.wire import (
    Asked,
    Text,
    Tokens,
    callable_tools,
    check_model,
    event,
    events,
    refusing_route,
    text_of,
)

__all__ = ["responses"]

_DEFAULT_TOKENS = 256

Item = dict[str, Any]


class _Tool(Asked):
    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _ToolChoice(Asked):
    type: Literal["function"]
    name: str


class _Said(BaseModel):
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Text]


class _Called(BaseModel):
    type: Literal["function_call"]
    name: str
    arguments: str


class _Returned(BaseModel):
    type: Literal["function_call_output"]
    call_id: str
    output: str | list[Text]


class _Asked(Asked):
    model: str
    input: str | Annotated[list[_Called | _Returned | _Said], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[float, Field(ge=0, le=1)] = 1.0
    stream: bool = False
    tools: list[_Tool] = Field(default_factory=list)
    tool_choice: Literal["none", "auto", "required"] | _ToolChoice = "auto"
    parallel_tool_calls: bool = False
    """Accepted; an answer never asks for more than one call."""
    store: Literal[False] | None = None
    user: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)

    def question(self, clerk: Clerk) -> Question:
        """Return what is asked, in our words."""
        instructions = [Message("system", text)] if (text := self.instructions) else []
        choice = self.tool_choice
        only = choice.name if isinstance(choice, _ToolChoice) else None
        must = only is not None or choice == "required"
        return Question(
            messages=[*instructions, *self._said()],
            sampling=Sampling(clerk.seed(None), self.temperature, self.top_p),
            max_tokens=self.max_output_tokens or _DEFAULT_TOKENS,
            tools=callable_tools(self._tools(), only=only, must=must),
            must_call=must,
        )

    def _tools(self) -> list[Tool]:
        tools = [] if self.tool_choice == "none" else self.tools
        return [Tool(tool.name, tool.parameters or {}) for tool in tools]

    def _said(self) -> Iterator[Message]:
        if isinstance(self.input, str):
            yield Message("user", self.input)
            return
        for item in self.input:
            if isinstance(item, _Said):
                role = "system" if item.role == "developer" else item.role
                yield Message(role, text_of(item.content))
            elif isinstance(item, _Called):
                yield Message("assistant", f"{item.name} {item.arguments}")
            else:
                yield Message("tool", text_of(item.output))


def responses(clerk: Clerk) -> APIRouter:
    """Return the route of this API."""
    router = APIRouter(prefix="/v1", route_class=refusing_route(openai_refusal))

    @router.post("/responses", response_model=None)
    def create(asked: _Asked) -> Response:
        check_model(clerk.model, asked.model)
        response = _Response(clerk, asked)
        return events(response.stream()) if asked.stream else response.whole()

    return router


class _Response:
    """One response, whole or streamed: one item, of text or with a call."""

    def __init__(self, clerk: Clerk, asked: _Asked) -> None:
        question = asked.question(clerk)
        self._input_tokens = clerk.count(question)
        (self._answer,) = clerk.begin(question)
        self._item = _begun(self._answer, clerk)
        self._numbers = count()
        self._written = ""
        self._head: Item = {
            "id": clerk.identifier("resp_"),
            "object": "response",
            "created_at": int(clerk.now()),
            "model": clerk.model.name,
            **_echoed(asked),
        }

    def whole(self) -> JSONResponse:
        """Return all of it at once."""
        self._written = "".join(self._answer.write())
        return JSONResponse(self._ended())

    def stream(self) -> Iterator[str]:
        """Yield it piece by piece."""
        begun: Item = {**self._head, "status": "in_progress", "output": []}
        begun["usage"] = None
        yield self._event("created", response=begun)
        yield self._event("in_progress", response=begun)
        yield self._event("output_item.added", output_index=0, item=self._item)
        yield from self._call() if self._answer.call else self._text()
        ended = self._ended()
        item = ended["output"][0]
        yield self._event("output_item.done", output_index=0, item=item)
        yield self._event(ended["status"], response=ended)

    def _text(self) -> Iterator[str]:
        """Yield the events of the text, which is the only part of its item."""
        place = {**self._place, "content_index": 0}
        yield self._event("content_part.added", **place, part=_part(""))
        for text in self._pieces():
            yield self._event("output_text.delta", **place, delta=text, logprobs=[])
        whole = self._written
        yield self._event("output_text.done", **place, text=whole, logprobs=[])
        yield self._event("content_part.done", **place, part=_part(whole))

    def _call(self) -> Iterator[str]:
        """Yield the events of the arguments of the call."""
        kind = "function_call_arguments"
        for text in self._pieces():
            yield self._event(f"{kind}.delta", **self._place, delta=text)
        whole = {"name": self._item["name"], "arguments": self._written}
        yield self._event(f"{kind}.done", **self._place, **whole)

    def _pieces(self) -> Iterator[str]:
        for text in filter(None, self._answer.write()):
            self._written += text
            yield text

    @property
    def _place(self) -> Item:
        return {"item_id": self._item["id"], "output_index": 0}

    def _event(self, kind: str, **content: Any) -> str:
        kind = f"response.{kind}"
        number = {"sequence_number": next(self._numbers)}
        return event({"type": kind, **content, **number}, kind)

    def _ended(self) -> Item:
        """Return the whole response; all is written."""
        limited = self._answer.finish == "limit"
        status = "incomplete" if limited else "completed"
        content: Item = {"content": [_part(self._written)]}
        if self._answer.call:
            content = {"arguments": self._written}
        ended: Item = {"status": status, "usage": self._usage()}
        ended["output"] = [{**self._item, **content, "status": status}]
        if limited:
            ended["incomplete_details"] = {"reason": "max_output_tokens"}
        return {**self._head, **ended}

    def _usage(self) -> Item:
        written = self._answer.tokens
        return {
            "input_tokens": self._input_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self._input_tokens + written,
        }


def _begun(answer: Answer, clerk: Clerk) -> Item:
    """Return the item in which the answer will stand."""
    if answer.call is None:
        item: Item = {"type": "message", "id": clerk.identifier("msg_")}
        return {**item, "status": "in_progress", "role": "assistant", "content": []}
    return {
        "type": "function_call",
        "id": clerk.identifier("fc_"),
        "call_id": clerk.identifier("call_"),
        "status": "in_progress",
        "name": answer.call.name,
        "arguments": "",
    }


def _echoed(asked: _Asked) -> Item:
    """Return what a response repeats of its question."""
    names = {"instructions", "max_output_tokens", "metadata", "parallel_tool_calls"}
    names |= {"temperature", "tool_choice", "tools", "top_p", "user"}
    echoed: Item = {"error": None, "incomplete_details": None, "store": False}
    return {**echoed, **asked.model_dump(include=names)}


def _part(text: str) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
