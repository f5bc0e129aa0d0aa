"""Every error that auditlog raises on purpose, as one tree.

::

    AuditLogError                 1   could not do it
    ├── MalformedError           16   the bytes are not what they claim to be
    ├── VerificationError        10   the evidence does not hold
    │   ├── UntrustedError       13   signed by nobody the policy believes
    │   └── RollbackError        10   the past that others saw is not our past
    ├── ConfigurationError        2   an option, a key or a directory is wrong
    ├── NotFoundError            11   no such decision, tile or file
    ├── PendingError             12   not yet included, witnessed or anchored
    └── StorageError              1   a store could not do what was asked
        └── ConflictError         1   somebody else moved the head, or other bytes
                                      stand where ours should

The number is `exit_code`, the exit status of a command that ends with the error
(`DESIGN.md` §10). The type says whose fault it is; the message says what was
expected and what came, and never holds a key or captured content.
"""

__all__ = [
    "AuditLogError",
    "ConfigurationError",
    "ConflictError",
    "MalformedError",
    "NotFoundError",
    "PendingError",
    "RollbackError",
    "StorageError",
    "UntrustedError",
    "VerificationError",
]


class AuditLogError(Exception):
    """Base of every error that auditlog raises on purpose."""

    exit_code = 1


class MalformedError(AuditLogError):
    """Bytes or values from outside do not follow their format."""

    exit_code = 16


class VerificationError(AuditLogError):
    """Well-formed evidence that does not prove what it should."""

    exit_code = 10


class UntrustedError(VerificationError):
    """The evidence may hold, but nobody whom the policy believes signed it."""

    exit_code = 13


class RollbackError(VerificationError):
    """This copy of the log is behind, or beside, one that others have seen."""


class ConfigurationError(AuditLogError):
    """An option, a key file or a log directory cannot be used as it is."""

    exit_code = 2


class NotFoundError(AuditLogError):
    """The named thing is not in the log."""

    exit_code = 11


class PendingError(AuditLogError):
    """The named thing is in the log, but has not reached the level asked for."""

    exit_code = 12


class StorageError(AuditLogError):
    """A store could not read or write."""


class ConflictError(StorageError):
    """A compare-and-swap lost, or different bytes stand under an immutable name."""
