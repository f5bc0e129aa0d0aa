"""The other line for the audit log: which model decides."""

from contextlib import suppress

import auditlog
from auditlog.core.errors import AuditLogError

__all__ = ["name_in_log"]


def name_in_log(name: str, version: str, digest: str) -> None:
    """Tell the audit log which model decides, if there is a log."""
    with suppress(AuditLogError):  # the service also runs with the log switched off
        auditlog.current().set_model(name, version=version, digest=digest)
