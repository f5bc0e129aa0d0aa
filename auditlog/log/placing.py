"""Faults as they may be logged: what kind, and where, but not what strangers say.

What a foreign exception says may hold what a client sent, such as the bytes that are no
UTF-8; and so may a printed traceback, which ends with it. Ours never do.
"""

import traceback

from auditlog.core.errors import AuditLogError

__all__ = ["described"]

_FRAMES = 6


def described(error: BaseException) -> str:
    """Return the kind of an exception; what it says, if it is ours; else its places."""
    kind = type(error).__name__
    if isinstance(error, AuditLogError):
        return f"{kind}: {error}"
    frames = traceback.extract_tb(error.__traceback__, limit=-_FRAMES)
    places = ", ".join(f"{one.filename}:{one.lineno}" for one in reversed(frames))
    return f"{kind} at {places or 'nowhere'}"
