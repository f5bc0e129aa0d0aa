"""Whom or what a decision is about: said by a handler, or found by a rule."""

from typing import NamedTuple, Protocol

__all__ = ["Subject", "SubjectFinder"]


class Subject(NamedTuple):
    """Whom or what a decision is about."""

    kind: str
    """What the identifier identifies, such as ``person``."""
    identifier: str
    """In Unicode form NFC, 1 to 1,024 characters. Never to be logged or shown."""

    def __repr__(self) -> str:
        """Name the kind, never the person."""
        return f"Subject({self.kind})"


class SubjectFinder(Protocol):
    """Finds a subject in what was sent and answered. Thread-safe; never raises."""

    def find(
        self,
        request: bytes,
        response: bytes,
        *,
        request_type: str | None,
        response_type: str | None,
    ) -> Subject | None:
        """Return whom a finished exchange is about; None if that is not in it.

        Args:
            request: its body, decoded, as far as it is kept.
            response: likewise.
            request_type: Content-Type as sent; None without one.
            response_type: likewise.
        """
