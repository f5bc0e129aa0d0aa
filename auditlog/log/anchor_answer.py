"""What an anchor answers, as it is kept: an attestation, or a reason of our own words.

Nothing that comes from an anchor is believed to be what it must be, and no exception of
others gets further than this.
"""

import traceback
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

from auditlog.anchors.attestation import Attestation
from auditlog.core.errors import AuditLogError, MalformedError, StorageError
from auditlog.core.record import canonical_json, parse_json
from auditlog.log.anchor_entry import reason_of
from auditlog.storage import AttestationRow

__all__ = [
    "MAX_EVIDENCE",
    "Failure",
    "answer_of",
    "attestation_of",
    "checked",
    "evidence_bytes",
]

MAX_EVIDENCE = 1 << 20
"""Bytes of the longest evidence that is kept; a receipt may hold several."""

_T = TypeVar("_T")


class Failure(NamedTuple):
    """Why an anchor gave nothing."""

    reason: str
    """One of `auditlog.log.anchor_entry.REASONS`."""
    text: str
    """For the server's log: it may hold what the anchor said."""
    error: Exception


def answer_of(ask: Callable[[], _T]) -> _T | Failure:
    """Return what an anchor gives, or why it gives nothing.

    Raises:
        StorageError: a store of ours, no anchor, does not do what it must.
    """
    try:
        return ask()
    except StorageError:
        raise
    except AuditLogError as error:
        return Failure(reason_of(error), str(error), error)
    # A fault in what others wrote must not end the thread that anchors.
    except Exception as error:  # noqa: BLE001
        # Without its message, which may hold anything, a key even.
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__} at {place.filename}:{place.lineno}"
        return Failure(reason_of(error), text, error)


def checked(got: Attestation, kind: str) -> Attestation:
    """Return what an anchor of `kind` gave, if it is an attestation of ours.

    Raises:
        MalformedError: it is of another kind or state, or its evidence cannot be kept.
    """
    if got.kind != kind or got.state not in ("pending", "final"):
        raise MalformedError(
            f"expected an attestation of kind {kind}, pending or final"
        )
    evidence_bytes(got, None)
    return got


def attestation_of(row: AttestationRow) -> tuple[Attestation, Any]:
    """Return what an anchor gave, and the path that leads to it in a batch, if any.

    Raises:
        MalformedError: the row was not stored by us.
    """
    evidence = parse_json(row.evidence, limit=MAX_EVIDENCE)
    if type(evidence) is not dict or row.state not in ("pending", "final"):
        raise MalformedError(f"the attestation of size {row.size} is damaged")
    path = evidence.pop("batch", None)
    state: Literal["pending", "final"]
    state = "final" if row.state == "final" else "pending"
    return Attestation(row.kind, state, evidence), path


def evidence_bytes(attestation: Attestation, path: Any) -> bytes:
    """Return evidence as it is stored, together with its path in a batch, if any.

    Raises:
        MalformedError: it is too long, no JSON of ours, or takes a name that is ours.
    """
    evidence = dict(attestation.evidence)
    if {"batch", "renewal"} & evidence.keys():
        raise MalformedError("expected evidence without batch or renewal of its own")
    if path is not None:
        evidence["batch"] = path
    data = canonical_json(evidence)
    if len(data) > MAX_EVIDENCE:
        raise MalformedError(
            f"expected at most {MAX_EVIDENCE} bytes of evidence, got {len(data)}"
        )
    return data
