"""What the APIs of the text model have in common on the wire."""

import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NoReturn

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from demo_service.text.model import TextModel
from demo_service.text.tools import Tool

__all__ = [
    "MAX_TOKENS",
    "Asked",
    "Refusal",
    "RefusedError",
    "Stop",
    "Text",
    "Tokens",
    "callable_tools",
    "check_model",
    "event",
    "events",
    "refusing_route",
    "text_of",
]

MAX_TOKENS = 65_536
"""The most that an answer may have."""

Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
Stop = Annotated[str, Field(min_length=1)]
Refusal = Callable[["RefusedError"], dict[str, Any]]
"""Returns the body that says, as an API says it, why something is refused."""
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Asked(BaseModel):
    """A body, or a part of one, in which an unknown member is an error."""

    model_config = ConfigDict(extra="forbid")


class Text(BaseModel):
    """A part of a message; this model reads nothing but text."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class RefusedError(Exception):
    """A question that is refused: whose fault it is, and what about it.

    Args:
        status: of the HTTP answer.
        message: what was expected; it holds nothing of the question.
        param: which member of the body it is about.
        code: the same in one word, where the API has one for it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code


def refusing_route(refusal: Refusal) -> type[APIRoute]:
    """Return a class of routes that refuse in the words of their API."""

    class Route(APIRoute):
        def get_route_handler(self) -> Handler:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                try:
                    return await handler(request)
                except RequestValidationError as error:
                    refused = _invalid(error)
                except HTTPException as error:  # no UTF-8, and what else is no body
                    refused = RefusedError(error.status_code, str(error.detail))
                except RefusedError as error:
                    refused = error
                return JSONResponse(refusal(refused), refused.status)

            return handle

    return Route


def _invalid(error: RequestValidationError) -> RefusedError:
    """Say what is wrong with a body, without sending any value of it back."""
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"] if part != "body")
    message = f"{param}: {first['msg']}" if param else str(first["msg"])
    return RefusedError(400, message, param or None)


def check_model(model: TextModel, asked: str) -> None:
    """Refuse a question to another model.

    Raises:
        RefusedError: it is one, with status 404.
    """
    if asked != model.name:
        _no_model(model)


def _no_model(model: TextModel) -> NoReturn:
    message = f"there is one model here, {model.name}, and another was asked for"
    raise RefusedError(404, message, "model", "model_not_found")


def callable_tools(
    tools: Sequence[Tool], *, only: str | None, must: bool
) -> Sequence[Tool]:
    """Return the tools of which one may be called.

    Args:
        tools: all that were given.
        only: name of the only one allowed; None allows all.
        must: whether one has to be called.

    Raises:
        RefusedError: one has to be called, and there is none.
    """
    allowed = [tool for tool in tools if only in (None, tool.name)]
    if must and not allowed:
        raise RefusedError(400, "expected a tool that can be chosen", "tool_choice")
    return allowed


def text_of(content: str | Iterable[Text] | None) -> str:
    """Return the text of a message, whose content may come in parts."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.text for part in content)


def event(data: Mapping[str, Any], name: str | None = None) -> str:
    """Return a server-sent event with JSON in it."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"


def events(stream: Iterable[str]) -> StreamingResponse:
    """Return an answer that sends events as they come."""
    headers = {"Cache-Control": "no-cache"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)
