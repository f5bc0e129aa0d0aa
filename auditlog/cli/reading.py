"""Commands of whoever asks: find, show, receipt."""

import argparse
import time
from typing import Any

from auditlog.capture.reading import Reading
from auditlog.cli.opening import open_chosen, read_option
from auditlog.cli.output import Output
from auditlog.cli.subjects import recipient_of, subject_of
from auditlog.cli.who import login
from auditlog.core.errors import PendingError
from auditlog.core.receipt import parse_receipt
from auditlog.core.record import DECISION, parse_id
from auditlog.log.access import Access, kept_paths, record_access
from auditlog.log.content import Content
from auditlog.log.content_views import (
    content_json,
    line_json,
    opened_json,
    said_on,
)
from auditlog.log.person import search_person
from auditlog.log.reader import LEVELS, DecisionView, Reader
from auditlog.log.transcript import Line
from auditlog.log.views import (
    decision_json,
    page_json,
    parse_moment,
    parse_number,
)
from auditlog.storage import IndexRow, Query
from auditlog.storage.whole_file import write_whole

__all__ = [
    "find",
    "receipt",
    "renewing",
    "say_what_is_not_renewed",
    "show",
    "wait_for",
]

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
    if options.subject is None:
        with open_chosen(options) as log:
            page = page_json(Reader(log).find(query), options.limit)
    else:
        page = page_json(_find_subject(options, query), options.limit)
        out.warn("that it was looked for what is held on somebody is now in the log")
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


def _find_subject(options: argparse.Namespace, query: Query) -> list[IndexRow]:
    subject, recipient = subject_of(options), recipient_of(options)
    with open_chosen(options) as log:
        log.claim()
        return search_person(
            log,
            *subject,
            query,
            recipient=recipient,
            by=login(),
            channel="cli",
            now=time.time(),
        )


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
            log.claim()
            access = Access("content", "cli", login(), kept_paths(content))
            record_access(log, options.id, access, now=time.time())
    lines = [] if content is None else said_on(view, content)
    if content is not None:
        out.warn("this unseals what was captured; that it was read is now in the log")
    if out.machine:
        opened = {} if content is None else opened_json(view, content, reading)
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


def _print_content(content: Content, lines: list[Line], out: Output) -> None:
    shown = content_json(content)
    context = shown.pop("context")
    if lines:
        # Their frames are for machines.
        bodies = {side: shown.pop(side) for side in ("request", "response")}
        shown |= {f"{line.path}, {line.by}": line_json(line) for line in lines}
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
            wait_for(reader, options.id, options.wait, options.timeout)
        data = reader.receipt(options.id, renew=renewing(options))
        level = reader.decision(options.id).level
    say_what_is_not_renewed(data, options, out)
    if options.output is None or str(options.output) == "-":
        out.bytes(data)
        return 0
    write_whole(options.output, data)
    if out.machine:
        known = {"id": options.id, "level": level, "file": str(options.output)}
        out.document(known)
    else:
        out.say(f"wrote {options.output}: {options.id} is {level}")
    return 0


def renewing(options: argparse.Namespace) -> list[str] | None:
    """Return by which anchors evidence is to be renewed; None if it is not to be."""
    by: list[str] | None = options.renew_by or ([] if options.renew else None)
    return by


def say_what_is_not_renewed(
    data: bytes, options: argparse.Namespace, out: Output
) -> None:
    """Warn of anchors in a receipt that were to be renewed and could not be."""
    if renewing(options) is None:
        return
    anchors = parse_receipt(data).anchors
    count = sum("renewal" not in one.evidence for one in anchors)
    if count:
        out.warn(
            f"{count} of {len(anchors)} anchors are not renewed: it takes a later "
            "attestation, of another anchor, that covers the log's entry about theirs"
        )


def wait_for(reader: Reader, id_: str, level: str, timeout: float) -> None:
    """Return when a decision has reached `level`.

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
