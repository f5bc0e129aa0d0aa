"""Evidence for AI decisions: every call to a model, in a witnessed Merkle log.

Importing the package imports nothing; public names are resolved on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditlog.capture.subjects import Subject
    from auditlog.log.decision import Decision, current, get_decision
    from auditlog.log.direct import amend, decision, record
    from auditlog.log.recorded import recorded
    from auditlog.models.identity import Model
    from auditlog.web.install import install
    from auditlog.web.middleware import AuditMiddleware

__all__ = [
    "AuditMiddleware",
    "Decision",
    "Model",
    "Subject",
    "__version__",
    "amend",
    "current",
    "decision",
    "get_decision",
    "install",
    "record",
    "recorded",
]

__version__ = "0.1.0"

_HOMES = {
    "AuditMiddleware": "auditlog.web.middleware",
    "Decision": "auditlog.log.decision",
    "Model": "auditlog.models.identity",
    "Subject": "auditlog.capture.subjects",
    "amend": "auditlog.log.direct",
    "current": "auditlog.log.decision",
    "decision": "auditlog.log.direct",
    "get_decision": "auditlog.log.decision",
    "install": "auditlog.web.install",
    "record": "auditlog.log.direct",
    "recorded": "auditlog.log.recorded",
}


def __getattr__(name: str) -> Any:
    """Resolve a public name on first use."""
    if name not in _HOMES:
        msg = f"module 'auditlog' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)
