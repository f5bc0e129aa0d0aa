"""The decisions of one batch, submitted together."""

import threading
from collections.abc import Sequence

from auditlog.capture.exchange import Exchange
from auditlog.core.errors import AuditLogError
from auditlog.log.recording import OnAccepted, Recording

__all__ = ["submit_all"]


def submit_all(
    runtime: Recording, exchanges: Sequence[Exchange], on_accepted: OnAccepted | None
) -> None:
    """Submit every exchange of a batch, whatever the runtime says of one of them.

    Args:
        runtime: takes them.
        exchanges: all of them.
        on_accepted: gets None when all are durable, else why one is not; once.

    Raises:
        Exception: the first that the runtime raised.
    """
    tell = None if on_accepted is None else _Together(len(exchanges), on_accepted).tell
    errors = []
    for exchange in exchanges:
        try:
            runtime.submit(exchange, tell)
        except Exception as error:  # noqa: BLE001 - raised below
            errors.append(error)
    if errors:
        raise errors[0]


class _Together:
    """Waits for several answers and passes on one; told on any thread."""

    def __init__(self, count: int, on_accepted: OnAccepted) -> None:
        self._lock = threading.Lock()
        self._open = count
        self._error: AuditLogError | None = None
        self._on_accepted = on_accepted

    def tell(self, error: AuditLogError | None) -> None:
        with self._lock:
            self._open -= 1
            self._error = self._error or error
            over = self._open == 0
        if over:
            self._on_accepted(self._error)
