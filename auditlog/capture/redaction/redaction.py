"""The one choke point: every value passes here before it is sealed."""

from typing import Literal, Protocol

__all__ = ["Redaction", "Side"]

Side = Literal["request", "response"]


class Redaction(Protocol):
    """Takes out of values what may not be stored. Thread-safe; never raises.

    What comes back is equal to what was given where there was nothing to take out, and
    None where that cannot be told: a rule failed, or the value cannot be read. Then
    nothing of it may be stored, and only the commitment covers it.
    """

    def body(
        self,
        side: Side,
        value: bytes,
        media_type: str | None,
        *,
        framed: bool,
        cut: bool = False,
    ) -> bytes | None:
        """Return what may be stored of a body, decoded if it was encoded.

        Args:
            side: which one.
            value: all of it, or its first bytes: it may be cut anywhere.
            media_type: Content-Type as sent; None without one.
            framed: whether these are messages of a WebSocket, framed as
                `auditlog.core.pieces.frame` does; what comes back has as many.
            cut: whether it is known that more followed, or was about to. What stands at
                the end is then a part of something that no rule can tell any more, and
                goes.
        """

    def leaf(self, name: str, value: bytes) -> bytes | None:
        """Return what may be stored of the leaf ``context/<name>``.

        Args:
            name: such as ``target``, which is path and query, or ``annotations``.
            value: canonical JSON, or bytes.
        """
