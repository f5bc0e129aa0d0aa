"""Whom or what a decision is about: said by a handler, or found by a rule."""

from typing import NamedTuple, Protocol

__all__ = ["PERSON", "Sought", "Subject", "SubjectFinder"]

PERSON = "person"
"""What an identifier identifies unless something else is said."""


class Subject(NamedTuple):
    """Whom or what a decision is about."""

    kind: str
    """What the identifier identifies, such as ``person``."""
    identifier: str
    """In Unicode form NFC, 1 to 1,024 characters. Never to be logged or shown."""

    def __repr__(self) -> str:
        """Name the kind, never the person."""
        return f"Subject({self.kind})"


class Sought(NamedTuple):
    """What became of looking for a subject."""

    subject: Subject | None = None
    """None if there is none where it was looked for."""
    fault: str | None = None
    """Why it could not be read, without a word of what was sent; None if it could."""


class SubjectFinder(Protocol):
    """Finds a subject in what was sent and answered. Thread-safe; never raises."""

    def find(
        self,
        request: bytes,
        response: bytes,
        *,
        request_type: str | None,
        response_type: str | None,
    ) -> Sought:
        """Return whom a finished exchange is about, if that is in it.

        Args:
            request: its body, decoded; empty if it is not there as a whole.
            response: likewise.
            request_type: Content-Type as sent; None without one.
            response_type: likewise.
        """
