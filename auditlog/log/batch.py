"""The further decisions of one request: numbered at once, submitted at its end."""

import threading
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from auditlog.core.errors import AuditLogError

__all__ = ["Batch", "Item", "Numbering"]

_Decision = TypeVar("_Decision")

Numbering = Callable[[bytes, int], int]
"""Numbers and journals a decision, given its id and a time in microseconds."""


class Item(NamedTuple, Generic[_Decision]):
    """One more decision of a request."""

    decision: _Decision
    id: bytes
    """UUIDv7, 16 bytes."""
    sequence: int
    time: int
    """As numbered, microseconds since the epoch."""


class Batch(Generic[_Decision]):
    """The decisions of one request, but for the first.

    A number that was given out is in what `close` returns: there is no moment in
    between, or nobody would submit it.
    """

    __slots__ = ("_closed", "_items", "_lock")

    def __init__(self) -> None:
        """Begin with nothing."""
        # Its own, for a number may have to wait for the disk.
        self._lock = threading.Lock()
        self._items: list[Item[_Decision]] = []
        self._closed = False

    def add(
        self, decision: _Decision, id_: bytes, time: int, number: Numbering
    ) -> None:
        """Number one more decision.

        Raises:
            AuditLogError: the answer has ended.
            Exception: whatever `number` raises; there is no number then.
        """
        with self._lock:
            if self._closed:
                raise AuditLogError("expected the answer to go on, but it has ended")
            self._items.append(Item(decision, id_, number(id_, time), time))

    def close(self) -> tuple[Item[_Decision], ...]:
        """Return what was numbered; from now on nothing is."""
        with self._lock:
            self._closed = True
            return tuple(self._items)
