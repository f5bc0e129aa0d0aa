"""What handlers tell the audit log, if there is one: one line each."""

from contextlib import suppress

import auditlog
from auditlog.core.errors import AuditLogError

__all__ = ["name_in_log", "turn_in_log"]


def name_in_log(name: str, version: str, digest: str) -> None:
    """Say which model decides."""
    with suppress(AuditLogError):  # the service also runs with the log switched off
        auditlog.current().set_model(name, version=version, digest=digest)


def turn_in_log() -> None:
    """Say that the message which just came over a WebSocket begins another turn."""
    with suppress(AuditLogError):
        auditlog.current().new_turn()
