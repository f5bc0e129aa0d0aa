"""One screen of text: acts, and rows of aligned fields, never wider than a screen."""

import sys
from collections.abc import Iterable

__all__ = ["WIDTH", "Screen"]

WIDTH = 100
_NAME = 31
_LABEL = 11


class Screen:
    """Prints the demo as it goes along."""

    def __init__(self) -> None:
        """Begin with an empty screen."""
        self._acts = 0

    def title(self, text: str) -> None:
        """Print the first line."""
        self._line(text)

    def act(self, text: str) -> None:
        """Print the heading of the next act."""
        self._acts += 1
        self._line(f"{self._acts}  {text}")

    def row(self, name: str, text: str) -> None:
        """Print what somebody or something has, does or says."""
        self._line(f"   {name:<{_LABEL}} {text}")

    def finding(self, name: str, result: str, text: str) -> None:
        """Print one attack, or under it one more thing that came of it."""
        self._line(f"   {name:<{_NAME}} {result:<{_LABEL}} {text}")

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines that the reader may copy, however long."""
        for line in lines:
            sys.stdout.write(f"   {line}\n")
        sys.stdout.flush()

    def _line(self, text: str) -> None:
        text = text.rstrip()
        if len(text) > WIDTH:
            text = f"{text[: WIDTH - 3]}..."
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
