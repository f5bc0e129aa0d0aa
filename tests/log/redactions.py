"""A redactor as simple as one can be, that holds to the contract of the choke point."""

import threading
from collections.abc import Iterable

from auditlog.capture.redaction.redaction import Side
from auditlog.core.pieces import frame, messages

__all__ = ["WordRedaction"]


class WordRedaction:
    """Replaces words wherever they stand; keeps what it was given, and what was cut."""

    def __init__(
        self, *words: bytes, by: bytes = b"[redacted]", withhold: Iterable[str] = ()
    ) -> None:
        """Take the words, and names of sides and leaves of which nothing is stored."""
        self._words, self._by, self._withhold = words, by, frozenset(withhold)
        self.cut: set[str] = set()
        self.calls: list[tuple[str, bytes]] = []
        self._lock = threading.Lock()

    def body(
        self,
        side: Side,
        value: bytes,
        media_type: str | None,
        *,
        framed: bool,
        cut: bool = False,
    ) -> bytes | None:
        assert value, "an empty body has nothing to be taken out"
        self._note(side, value)
        if cut:
            self.cut.add(side)
        if side in self._withhold:
            return None
        if not framed:
            return self._without(value)
        sent = messages(value, cut=True)
        return b"".join(
            frame(one.order, one.kind, self._without(one.payload)) for one in sent
        )

    def leaf(self, name: str, value: bytes) -> bytes | None:
        self._note(name, value)
        return None if name in self._withhold else self._without(value)

    def _without(self, value: bytes) -> bytes:
        for word in self._words:
            value = value.replace(word, self._by)
        return value

    def _note(self, name: str, value: bytes) -> None:
        with self._lock:
            self.calls.append((name, value))
