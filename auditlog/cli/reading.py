"""Commands of whoever asks: find, show, receipt."""

import argparse
import base64
import os
import time
from pathlib import Path
from typing import Any

from auditlog.capture.reading import Reading
from auditlog.cli.opening import open_chosen, read_option
from auditlog.cli.output import Output
from auditlog.core.errors import AuditLogError, PendingError
from auditlog.core.receipt import parse_receipt
from auditlog.core.record import DECISION, parse_id
from auditlog.log.access import record_access
from auditlog.log.content import Content
from auditlog.log.reader import LEVELS, DecisionView, Reader
from auditlog.log.transcript import Line, transcript
from auditlog.log.views import (
    content_json,
    decision_json,
    page_json,
    parse_moment,
    parse_number,
    reading_json,
)
from auditlog.storage import Query

__all__ = ["find", "receipt", "show"]

_POLL_SECONDS = 0.1
_MARKS = {
    "capped": ", only its first bytes were kept",
    "redacted": ", a copy: something was redacted when it was recorded",
    "withheld": ", withheld when it was recorded: nothing of it was stored",
}
_COLUMNS = ("time", "id", "model", "version", "route", "outcome", "index")


def find(options: argparse.Namespace, out: Output) -> int:
    """List decisions, newest first."""
    query = _query(options)
    with open_chosen(options) as log:
        page = page_json(Reader(log).find(query), options.limit)
    if out.machine:
        out.document(page)
        return 0
    rows = [[row[name] for name in _COLUMNS] for row in page["decisions"]]
    out.table(_COLUMNS, rows)
    if page["next"] is not None:
        out.say(f"there are more: go on with --cursor {page['next']}")
    elif not rows:
        out.say("no decision matches")
    return 0


def _query(options: argparse.Namespace) -> Query:
    since, until, cursor = options.since, options.until, options.cursor
    return Query(
        time_from=since and read_option("--from", since, parse_moment),
        time_to=until and read_option("--to", until, parse_moment),
        model=options.model,
        version=options.version,
        route=options.route,
        outcome=options.outcome,
        type=DECISION,
        before=cursor and read_option("--cursor", cursor, parse_number),
        limit=options.limit + 1,
    )


def show(options: argparse.Namespace, out: Output) -> int:
    """Print what is known of a decision; with ``--content`` what was captured too."""
    read_option("ID", options.id, parse_id)
    with open_chosen(options) as log:
        reader = Reader(log)
        view = reader.decision(options.id)
        content = reading = None
        if options.content:
            content, reading = reader.read(options.id)
            now = time.time()
            record_access(log, options.id, what="content", channel="cli", now=now)
    lines = [] if content is None else _said(view, content)
    if content is not None:
        out.warn("this unseals what was captured; that it was read is now in the log")
    if out.machine:
        opened: dict[str, Any] = {}
        if content is not None:
            opened["content"] = content_json(content)
        if lines:
            opened["messages"] = [_line_json(line) for line in lines]
        if reading is not None:
            opened["reading"] = reading_json(reading)
        out.document(decision_json(view) | opened)
        return 0
    out.fields(_fields(view))
    if content is not None:
        _print_content(content, lines, out)
    if reading is not None:
        _print_reading(reading, out)
    return 0


def _fields(view: DecisionView) -> list[tuple[str, object]]:
    known = decision_json(view)
    data: dict[str, Any] = known["data"] or {}
    return [
        *((name, known.get(name)) for name in ("id", "level", "index", "time")),
        ("kind", data.get("kind")),
        ("about", data.get("decision")),
        ("operation", data.get("operation")),
        ("method", data.get("http.request.method")),
        ("route", data.get("http.route")),
        ("status", data.get("http.response.status_code")),
        ("outcome", known.get("outcome")),
        *(("afterwards", _afterwards(one)) for one in known["amendments"]),
        ("model", data.get("model.name", known.get("model"))),
        ("version", data.get("model.version", known.get("version"))),
        ("digest", data.get("model.digest")),
        *_model_fields(known["ranOn"]),
        *_details(data.get("model.details", {})),
        ("request", _body_line(data.get("request"))),
        ("response", _body_line(data.get("response"))),
        ("duration", _duration(data.get("duration"))),
        ("content", "erased: nothing can open it" if view.vault == "erased" else None),
        ("leaf", known["leaf"]),
    ]


def _model_fields(model: dict[str, Any] | None) -> list[tuple[str, object]]:
    """Return what the log says of a model beside its name, version and digest."""
    if model is None:
        return []
    first = ("model entry", f"{model['id']} of {model['time']}")
    return [first, *_details(model["details"])]


def _details(details: dict[str, str]) -> list[tuple[str, object]]:
    return [(f"model {name}", text) for name, text in details.items()]


def _afterwards(amendment: dict[str, Any]) -> str:
    """Return the kind, with the id under which there is more to be read."""
    kind = str(amendment["kind"])
    return f"{kind} {amendment['id']}" if amendment["sealed"] else kind


def _body_line(body: dict[str, str] | None) -> str | None:
    return None if body is None else f"{body['mediaType']}, {body['state']}"


def _duration(microseconds: int | None) -> str | None:
    return None if microseconds is None else f"{microseconds / 1000:.3f} ms"


def _said(view: DecisionView, content: Content) -> list[Line]:
    """Return what was said on a WebSocket; nothing of a request."""
    data = decision_json(view)["data"]
    asked, answered = content.body("request"), content.body("response")
    return transcript(data, asked.value, answered.value)


def _line_json(line: Line) -> dict[str, Any]:
    known = {"order": line.order, "by": line.by, "path": line.path}
    if isinstance(line.payload, str):
        return known | {"text": line.payload}
    return known | {"base64": base64.b64encode(line.payload).decode()}


def _print_content(content: Content, lines: list[Line], out: Output) -> None:
    shown = content_json(content)
    context = shown.pop("context")
    if lines:
        # Their frames are for machines.
        bodies = {side: shown.pop(side) for side in ("request", "response")}
        shown |= {f"{line.path}, {line.by}": _line_json(line) for line in lines}
        shown |= {side: _remark(body) for side, body in bodies.items() if _marks(body)}
    parts = shown | {f"context/{name}": value for name, value in context.items()}
    for path, value in parts.items():
        kind = ", not text, in base64" if "base64" in value else ""
        out.lines(["", f"--- {path}{kind}{_marks(value)}"])
        text: str = value.get("text", value.get("base64", ""))
        out.text(text if text.endswith("\n") or not text else f"{text}\n")


def _remark(body: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of a body, without its value."""
    return {name: said for name, said in body.items() if name in _MARKS}


def _marks(value: dict[str, Any]) -> str:
    return "".join(said for name, said in _MARKS.items() if value.get(name))


def _print_reading(reading: Reading, out: Output) -> None:
    """Print answers put together; the bytes above are what was committed to."""
    cut = "; partial" if reading.partial else ""
    cut += "; of a redacted copy" if reading.redacted else ""
    said = f"{reading.protocol}, {reading.completeness}{cut}"
    for answer in reading.answers:
        why = "" if answer.finish_reason is None else f", {answer.finish_reason}"
        out.lines(["", f"--- answer {answer.index} as read by {said}{why}; advisory"])
        said_as = ("reasoning", answer.reasoning), ("refusal", answer.refusal)
        parts = [answer.text, *(f"{name}: {text}" for name, text in said_as if text)]
        parts += [f"tool call: {one.name} {one.arguments}" for one in answer.tool_calls]
        for part in filter(None, parts):
            out.text(part if part.endswith("\n") else f"{part}\n")


def receipt(options: argparse.Namespace, out: Output) -> int:
    """Write the proof file of a decision."""
    read_option("ID", options.id, parse_id)
    with open_chosen(options) as log:
        reader = Reader(log)
        if options.wait is not None:
            _wait(reader, options.id, options.wait, options.timeout)
        renew = options.renew_by or ([] if options.renew else None)
        data = reader.receipt(options.id, disclose=options.disclose, renew=renew)
        level = reader.decision(options.id).level
        if options.disclose:
            now = time.time()
            record_access(log, options.id, what="disclosure", channel="cli", now=now)
    if renew is not None:
        _say_what_is_not_renewed(data, out)
    if options.output is None or str(options.output) == "-":
        out.bytes(data)
        return 0
    _write_file(options.output, data)
    if out.machine:
        known = {"id": options.id, "level": level, "file": str(options.output)}
        out.document(known | {"disclosed": sorted(set(options.disclose))})
    else:
        out.say(f"wrote {options.output}: {options.id} is {level}")
    return 0


def _say_what_is_not_renewed(data: bytes, out: Output) -> None:
    anchors = parse_receipt(data).anchors
    count = sum("renewal" not in one.evidence for one in anchors)
    if count:
        out.warn(
            f"{count} of {len(anchors)} anchors are not renewed: it takes a later "
            "attestation, of another anchor, that covers the log's entry about theirs"
        )


def _wait(reader: Reader, id_: str, level: str, timeout: float) -> None:
    """Return when the decision has reached `level`.

    Raises:
        PendingError: it has not within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        reached = reader.decision(id_).level
        if LEVELS.index(reached) >= LEVELS.index(level):
            return
        if time.monotonic() >= deadline:
            msg = (
                f"{id_} is {reached}, not {level} after {timeout:g} s; if no service "
                "is running on this log, `auditlog checkpoint --witness` and `auditlog "
                "anchor now` do their part"
            )
            raise PendingError(msg)
        time.sleep(_POLL_SECONDS)


def _write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; an existing one is replaced."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise AuditLogError(f"cannot write {path}: {error.strerror}") from None
