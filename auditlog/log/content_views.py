"""Opened content as JSON: one shape for command line and API."""

import base64
from typing import Any

from auditlog.capture.reading import Reading
from auditlog.log.parts import REDACTION, SIDES, STORED, Content
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
    """Return what was captured of a decision, as far as it is kept.

    A value is ``text`` where it is text, else ``base64``; with ``capped`` where only
    its first bytes were kept, ``redacted`` where it is a copy from which something was
    taken out, and ``withheld`` alone where it was not stored at all.
    """
    became = content.redaction
    copies = {f"{STORED}{side}" for side in SIDES}
    context = {
        name: _value_json(value, became.get(name.removeprefix(STORED)))
        for name, value in content.context.items()
        if name not in copies and name != REDACTION
    }
    withheld = {
        name: _value_json(b"", how)
        for name, how in became.items()
        if name not in SIDES and f"{STORED}{name}" not in context
    }
    return {
        **{side: _side_json(content, side) for side in SIDES},
        **{f"{k}:decoded": _value_json(v.value) for k, v in content.decoded.items()},
        "context": context | withheld,
    }


def _side_json(content: Content, side: str) -> dict[str, Any]:
    body = content.body(side)
    shown = body.value
    if side in content.decoded:
        shown = content.parts[SIDES.index(side)].value  # the decoded one stands beside
    return _value_json(shown, body.redaction, capped=body.capped)


def _value_json(
    value: bytes, became: str | None = None, *, capped: bool = False
) -> dict[str, Any]:
    """Return bytes as text if they are text, as base64 if not."""
    marks: dict[str, Any] = {} if became is None else {became: True}
    if became == "withheld":
        return marks
    try:
        return {"text": value.decode(), "capped": capped, **marks}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode(), "capped": capped, **marks}


def said_on(view: DecisionView, content: Content) -> list[Line]:
    """Return what was said on a WebSocket; nothing of a request."""
    data = decision_json(view)["data"]
    asked, answered = content.body("request"), content.body("response")
    return transcript(data, asked.value, answered.value)


def line_json(line: Line) -> dict[str, Any]:
    """Return one message of a session."""
    known = {"order": line.order, "by": line.by, "path": line.path}
    if isinstance(line.payload, str):
        return known | {"text": line.payload}
    return known | {"base64": base64.b64encode(line.payload).decode()}
