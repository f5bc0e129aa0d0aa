"""Checks evidence of kind `rfc3161`."""

from collections.abc import Mapping
from typing import Any

from auditlog.anchors.attestation import Bound
from auditlog.anchors.trust import Trust
from auditlog.core.errors import AuditLogError

__all__ = ["check"]


def check(digest: bytes, evidence: Mapping[str, Any], trust: Trust) -> Bound:
    """Return the time before which `digest` existed."""
    raise AuditLogError("evidence of kind rfc3161 cannot be checked by this version")
