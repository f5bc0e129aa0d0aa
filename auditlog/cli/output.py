"""What commands print: data on stdout, talk on stderr, no colour anywhere.

A table is aligned under a header on a terminal; anywhere else it is one line for each
row, fields separated by tabs, without a header. Control characters, which captured
content may hold, are escaped before they reach a terminal.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Output", "Progress", "printable", "write_failure"]

_PROGRESS_SECONDS = 0.1


class Output:
    """Where one command prints."""

    def __init__(self, *, machine: bool) -> None:
        """Print JSON documents if `machine`, text for people otherwise."""
        self.machine = machine

    def document(self, value: Mapping[str, Any], *, ok: bool = True) -> None:
        """Print the one JSON document of this command."""
        _write_json({"ok": ok} | dict(value))

    def lines(self, lines: Sequence[str]) -> None:
        """Print lines of data."""
        self.text("".join(f"{line}\n" for line in lines))

    def text(self, text: str) -> None:
        """Print text as it is, or made harmless on a terminal."""
        _write(printable(text) if sys.stdout.isatty() else text)

    def bytes(self, data: bytes) -> None:
        """Print bytes as they are."""
        sys.stdout.flush()
        sys.stdout.buffer.write(data)

    def fields(self, fields: Sequence[tuple[str, object]]) -> None:
        """Print names and values, one a line, aligned; leave out what is None."""
        known = [(name, value) for name, value in fields if value is not None]
        width = max((len(name) for name, _ in known), default=0)
        self.lines([f"{name:<{width}}  {value}" for name, value in known])

    def table(self, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows; None is an empty field."""
        cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
        if not sys.stdout.isatty():
            self.lines(["\t".join(row) for row in cells])
        elif cells:
            self.lines(_aligned([list(header), *cells]))

    def flush(self) -> None:
        """Hand over what was printed so far: the command stays running."""
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Tell the person at the terminal something that is not data."""
        sys.stderr.write(f"{printable(text)}\n")

    def warn(self, text: str) -> None:
        """Warn the person at the terminal."""
        self.say(f"auditlog: warning: {text}")


class Progress:
    """A line on a terminal's stderr that counts; nothing anywhere else."""

    def __init__(self, what: str) -> None:
        """Count `what`, such as ``entries``."""
        self._what = what
        self._shown = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Show how far it is, at most ten times a second."""
        now = time.monotonic()
        if self._shown and (now >= self._next or done == total):
            self._next = now + _PROGRESS_SECONDS
            sys.stderr.write(f"\r{done:,} of {total:,} {self._what}\x1b[K")
            sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")


def printable(text: str) -> str:
    """Return `text` with control and other unprintable characters escaped.

    Captured content may hold escape sequences that make a terminal do things. Line
    ends and tabs stay.
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1]
        for char in text
    )


def write_failure(message: str, status: int) -> None:
    """Print the JSON document of a command that failed."""
    _write_json({"ok": False, "error": message, "exit_code": status})


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]


def _write_json(document: Mapping[str, Any]) -> None:
    _write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
