"""Server-sent events: the data of each redacted, everything around it left as it is.

The stream is read by the line, as the standard has it (WHATWG HTML §9.2.6). Lines that
are empty are never touched, and none becomes so: the stream has as many blocks as
before (`auditlog.core.pieces.blocks`), and each in which nothing was found is the same
bytes. What goes on from one event to the next is found as
`auditlog.capture.redaction.fragments` says.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice, zip_longest

import msgspec

from auditlog.capture.redaction.edits import applied
from auditlog.capture.redaction.engine import Engine
from auditlog.capture.redaction.fragments import redact_items
from auditlog.capture.redaction.grouping import Item
from auditlog.capture.redaction.rules import REDACTED
from auditlog.core.errors import MalformedError

__all__ = ["redact_events"]

# With all empty lines that follow.
_LINE = re.compile(r"([^\r\n]*+)((?:\r\n?+|\n)++|\Z)")
_ONE_END = frozenset({"\n", "\r\n", "\r", ""})
_MAX_LINES = 1 << 18
_LINE_END = re.compile(r"\r\n?+|\n")
_BOM = "\ufeff"


class _Line(msgspec.Struct):
    head: str
    """What stands before the value: name of the field, colon, space."""
    name: str
    value: str
    end: str
    """Of the line, and of the empty ones that follow; these end an event."""

    @property
    def text(self) -> str:
        return self.head + self.value + self.end


class _Event(msgspec.Struct):
    data: list[_Line]
    name: str = ""

    @property
    def text(self) -> str:
        return "\n".join(line.value for line in self.data)


def redact_events(engine: Engine, stream: str, *, cut: bool) -> str:
    """Return a stream of events without what must go.

    Args:
        engine: applies the rules.
        stream: all of it, or its first characters.
        cut: whether it is known that there is more.

    Raises:
        MalformedError: it has too many lines.
        Exception: whatever a callable raises.
    """
    matches = islice(_LINE.finditer(stream), _MAX_LINES + 1)
    lines = [_line(*match.groups()) for match in matches]
    if len(lines) > _MAX_LINES:
        raise MalformedError(f"expected at most {_MAX_LINES} lines, got more")
    last = lines[-2] if len(lines) > 1 else lines[-1]  # one matches the end alone
    events = list(_events(lines))
    items = [Item(event.text, event.name) for event in events]
    texts = redact_items(engine, items, cut=cut)
    other = cache(lambda name, value: _other(engine, name, value))
    for line in lines:
        if line.name != "data" and line.head + line.value:
            line.value = other(line.name, line.value)
    if cut and not last.end and last.name != "data" and engine.searches:
        last.value = REDACTED
    for event, item, text in zip(events, items, texts, strict=True):
        if text != item.text:
            _write(event.data, text)
    return "".join([line.text for line in lines])


def _line(text: str, end: str) -> _Line:
    name, colon, value = text.partition(":")
    if not colon:
        # A name alone has an empty value, and may be any text as well.
        is_data = name.removeprefix(_BOM) == "data"
        return _Line(name, "data", "", end) if is_data else _Line("", "", name, end)
    space = " " if value.startswith(" ") else ""
    head = f"{name}:{space}"
    return _Line(head, name.removeprefix(_BOM), value.removeprefix(" "), end)


def _events(lines: Sequence[_Line]) -> Iterator[_Event]:
    """Yield what has data; also what no empty line ends, which no client ever saw."""
    event = _Event([])
    for line in lines:
        if line.name == "data":
            event.data.append(line)
        elif line.name == "event":
            event.name = line.value
        if line.end not in _ONE_END:
            if event.data:
                yield event
            event = _Event([])
    if event.data:
        yield event


def _other(engine: Engine, name: str, value: str) -> str:
    """Return the value of a comment, of another field, or of a line that is none."""
    if engine.named(name):
        return REDACTED
    after = _LINE_END.sub(" ", applied(value, engine.search(value)))
    # A line that had a text and no colon would be empty, which ends an event.
    return after or (value and REDACTED)


def _write(data: Sequence[_Line], text: str) -> None:
    """Give the lines of an event another text, which may have more lines or fewer.

    Every line keeps its end, as with the next one it may be an empty line, or not. Of
    those that are not needed a comment is left.
    """
    values = _LINE_END.split(text)
    further = values[len(data) :]
    for line, value in zip_longest(data, values[: len(data)]):
        if value is None:
            line.head, line.value = ":", ""
        else:
            line.head = line.head if ":" in line.head else f"{line.head}: "
            line.value = value
    data[-1].value = "\ndata: ".join([data[-1].value, *further])
