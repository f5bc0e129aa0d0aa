r"""What the events of a stream say: server-sent events, and JSON by the line.

`EventParser` follows the standard (WHATWG HTML §9.2.6): UTF-8 with replacement, one BOM
ignored, lines that end with CRLF, LF or CR, an event at each empty line. What follows
the last one was cut off, so that no client ever saw it; `rest` tells what it held.
`pieces.blocks` of core cuts the same stream into the bytes of its blocks.

Events are pairs of name and data: ``message`` is the name of one that gives none.
"""

import re
from codecs import getincrementaldecoder
from typing import NamedTuple

from auditlog.capture.reading import Traffic
from auditlog.core.commitment import is_event_stream

__all__ = [
    "MAX_EVENT",
    "Event",
    "EventParser",
    "Lines",
    "Stream",
    "is_events",
    "read_events",
    "read_lines",
]

Event = tuple[str, str]
"""Name and data of one event."""

MAX_EVENT = 1 << 24
"""Characters of the longest event that is read, with its comments."""

_DEFAULT = "message"
_MAX_NAME = 256
_MAX_FIELD = len("event: ") + _MAX_NAME
_Decoder = getincrementaldecoder("utf-8")
# Two line ends on end: what follows begins a block, wherever the text before began.
_BOUNDARY = re.compile(rb"(?>\r\n|[\r\n]){2}")
# One empty line ends an event, and more of them end nothing.
_BLANKS = re.compile(r"\n{3,}")


class EventParser:
    """Reads a stream fed in pieces of any size; the same events come of any split."""

    def __init__(self) -> None:
        self.oversized = False
        """Whether an event outgrew `MAX_EVENT`: its name was given, with no data."""
        self._decoder = _Decoder("replace")
        self._begun = False
        self._after_cr = False
        self._line: list[str] = []
        """Pieces of the line that has not ended."""
        self._held = 0
        """Characters in them."""
        self._name = ""
        self._data: list[str] = []
        self._size = 0
        """Characters of the lines of the event that has not ended."""

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that end in `piece`, the next bytes of the stream."""
        text = self._normal(self._decoder.decode(piece))
        whole, newline, line = text.rpartition("\n")
        found: list[Event] = []
        if newline:
            self._take("".join((*self._line, whole)), found)
            self._line, self._held = [], 0
        if line:
            self._hold(line)
        return found

    @property
    def rest(self) -> Event | None:
        """The event that the stream broke off in; None if it did in none.

        Its last line counts, though it may be cut: a terminator that is there is one,
        while a part of an answer may not be whole.
        """
        data = list(self._data)
        field, _, value = "".join(self._line).partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
        return (self._name or _DEFAULT, "\n".join(data)) if data else None

    def _normal(self, text: str) -> str:
        # Every line end becomes LF; the LF of a CRLF may come in the next piece.
        if not text:
            return text
        if not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        if self._after_cr:
            text = text.removeprefix("\n")
        self._after_cr = text.endswith("\r")
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        return text

    def _take(self, lines: str, found: list[Event]) -> None:
        # The newline that ends the last line is left out.
        if "\n\n\n" in lines:
            lines = _BLANKS.sub("\n\n", lines)
        *blocks, last = lines.split("\n\n")
        for block in blocks:
            plain = block.startswith("data: ") and "\n" not in block
            if plain and not self._size and len(block) < MAX_EVENT:
                found.append((_DEFAULT, block[6:]))
            else:
                self._read(block, found)
                self._end(found)
        self._read(last, found)

    def _read(self, lines: str, found: list[Event]) -> None:
        for line in lines.split("\n"):
            if line:
                self._field(line)
            else:
                self._end(found)

    def _field(self, line: str) -> None:
        self._size += len(line) + 1
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
        elif name == "event":
            self._name = value.removeprefix(" ")[:_MAX_NAME]
        if self._size > MAX_EVENT:
            self._overflow()

    def _hold(self, line: str) -> None:
        self._line.append(line)
        self._held += len(line)
        if self._size + self._held > MAX_EVENT:
            self._overflow()
            self._line = ["".join(self._line)[:_MAX_FIELD]]

    def _overflow(self) -> None:
        # Until it ends it stays too large, and holds next to nothing.
        self.oversized = True
        self._size = MAX_EVENT + 1
        self._data = [""] if self._data else []

    def _end(self, found: list[Event]) -> None:
        if self._data:
            found.append((self._name or _DEFAULT, "\n".join(self._data)))
        self._name, self._data, self._size = "", [], 0


class Stream(NamedTuple):
    """The events of one body."""

    events: list[Event]
    rest: Event | None
    """As `EventParser.rest` at the end of the body."""
    partial: bool
    """Whether events are missing: in the gap of capped traffic, or too large."""


def is_events(traffic: Traffic) -> bool:
    """Return whether a response is a stream of events, by its type or else its look."""
    if is_event_stream(traffic.response_type or ""):
        return True
    return traffic.response[:6].startswith((b"data:", b"event:", b": "))


def read_events(traffic: Traffic) -> Stream:
    """Return the events of a response as far as it is there."""
    parser = EventParser()
    events = parser.feed(traffic.response)
    if not traffic.capped:
        events += parser.feed(traffic.tail)
        return Stream(events, parser.rest, parser.oversized)
    boundary = _BOUNDARY.search(traffic.tail)
    tail = b"" if boundary is None else traffic.tail[boundary.end() :]
    parser = EventParser()
    return Stream(events + parser.feed(tail), parser.rest, True)


class Lines(NamedTuple):
    """The lines of one body, without their ends; none is empty."""

    whole: list[bytes]
    rest: bytes
    """What follows the last line end: whole only if it says so itself."""
    partial: bool
    """Whether lines are missing: in the gap of capped traffic."""


def read_lines(traffic: Traffic) -> Lines:
    """Return the lines of a response (``application/x-ndjson``, JSON Lines)."""
    if not traffic.capped:
        return Lines(*_lines(traffic.response + traffic.tail), False)
    begun, _ = _lines(traffic.response)
    whole, rest = _lines(traffic.tail.partition(b"\n")[2])
    return Lines(begun + whole, rest, True)


def _lines(body: bytes) -> tuple[list[bytes], bytes]:
    *whole, rest = body.split(b"\n")
    stripped = [line.strip(b" \t\r") for line in whole]
    return [line for line in stripped if line], rest.strip(b" \t\r")
