"""Opened content as JSON: one shape for command line and API."""

import base64
from typing import Any

from auditlog.capture.reading import Reading
from auditlog.log.content import Content
from auditlog.log.reader import DecisionView
from auditlog.log.transcript import Line, transcript
from auditlog.log.views import decision_json, reading_json

__all__ = ["content_json", "line_json", "opened_json", "said_on"]


def opened_json(
    view: DecisionView, content: Content, reading: Reading | None
) -> dict[str, Any]:
    """Return what was captured of a decision, and what it says, where that is known."""
    opened: dict[str, Any] = {"content": content_json(content)}
    if lines := said_on(view, content):
        opened["messages"] = [line_json(line) for line in lines]
    if reading is not None:
        opened["reading"] = reading_json(reading)
    return opened


def content_json(content: Content) -> dict[str, Any]:
    """Return everything that is kept, by what it is."""
    return {
        "request": _body_json(content.request, capped=content.request_capped),
        "response": _body_json(content.response, capped=content.response_capped),
        **{f"{k}:decoded": _body_json(v.value) for k, v in content.decoded.items()},
        "context": {name: _body_json(v) for name, v in content.context.items()},
    }


def _body_json(body: bytes, *, capped: bool = False) -> dict[str, Any]:
    """Return bytes as text if they are text, as base64 if not."""
    try:
        return {"text": body.decode(), "capped": capped}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(body).decode(), "capped": capped}


def said_on(view: DecisionView, content: Content) -> list[Line]:
    """Return what was said on a WebSocket; nothing of a request."""
    data = decision_json(view)["data"]
    return transcript(data, content.request, content.response)


def line_json(line: Line) -> dict[str, Any]:
    """Return one message of a session."""
    known = {"order": line.order, "by": line.by, "path": line.path}
    if isinstance(line.payload, str):
        return known | {"text": line.payload}
    return known | {"base64": base64.b64encode(line.payload).decode()}
