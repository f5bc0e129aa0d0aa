"""What became known of a decision after it was closed: a later entry, linked to it.

::

    {"decision": "<id of the decision>", "kind": "error_after_response"}

is the `data` of such an entry (`auditlog.amendment.v1`). Kinds are a closed list, and
nothing from traffic or from an exception stands in it. A decision has at most one
entry of this sort, whose id follows from the decision's: a look-up by id finds it.
"""

from hashlib import sha256
from typing import Literal

from auditlog.core.record import Entry, format_id
from auditlog.log.identity import new_id

__all__ = ["Aftermath", "aftermath_entry", "aftermath_id"]

Aftermath = Literal["answer_withheld", "client_disconnected", "error_after_response"]
"""``answer_withheld``: the decision is recorded, the end of its answer was not sent.
``client_disconnected``: the server could not send the end of the answer.
``error_after_response``: the application raised after the end of the answer, in a
background task, or behind middleware that had ended the answer for it."""

_TYPE = "auditlog.amendment.v1"
_ENTROPY_BYTES = 10
_TIME_BYTES = 6


def aftermath_id(decision: bytes) -> bytes:
    """Return the id of the entry about what followed decision `decision`."""
    named = b"auditlog/aftermath/v1\n" + decision
    milliseconds = int.from_bytes(decision[:_TIME_BYTES])
    return new_id(milliseconds * 1000, sha256(named).digest()[:_ENTROPY_BYTES])


def aftermath_entry(decision: bytes, kind: Aftermath, source: str, time: int) -> Entry:
    """Return the entry that says what followed a decision.

    Args:
        decision: id of the decision, 16 bytes.
        kind: what happened.
        source: the log's origin.
        time: when, microseconds since the epoch.
    """
    data = {"decision": format_id(decision), "kind": kind}
    return Entry(aftermath_id(decision), _TYPE, source, time, data)
