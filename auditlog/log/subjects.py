"""Whom an exchange is about: checked, put under its commitment, looked for in bodies.

It stands in ``context/subject``, whoever said or found it; that it could not be found
because something failed, in the annotation `auditlog.log.protocol_leaves.FAULTS`.
"""

from auditlog.capture.decoding import decode
from auditlog.capture.exchange import Body, Exchange
from auditlog.capture.subjects import Sought
from auditlog.core.commitment import MAX_BODY
from auditlog.core.errors import ConfigurationError
from auditlog.core.record import canonical_json, parse_json
from auditlog.log.protocol_leaves import FAULTS
from auditlog.log.said import subject_of

__all__ = ["LEAF", "add_fault", "look_into_bodies", "take"]

LEAF = "subject"
"""Name of the ``context/`` leaf."""


def take(exchange: Exchange, sought: Sought) -> None:
    """Put into an exchange that has no subject what was found; never raises."""
    subject, fault = sought
    if subject is not None:
        try:
            subject = subject_of(subject.identifier, subject.kind)
        except ConfigurationError as error:
            # It says what was expected, and nothing of what came.
            subject, fault = None, str(error)
    if subject is not None:
        exchange.subject, exchange.subjects = subject, None
        said = {"id": subject.identifier, "kind": subject.kind}
        exchange.context[LEAF] = canonical_json(said)
    if fault is not None:
        add_fault(exchange, fault)


def add_fault(exchange: Exchange, fault: str) -> None:
    """Note in an exchange that something failed which should have said more of it."""
    known = exchange.context.get("annotations", b"{}")
    said = parse_json(known, limit=len(known))
    said[FAULTS] = [*said.get(FAULTS, ()), fault]
    exchange.context["annotations"] = canonical_json(said)


def look_into_bodies(exchange: Exchange) -> None:
    """Look, once, for the subject of an exchange in its bodies; never raises.

    A body that did not pass as a whole, or is larger than any that has members, is not
    looked into.
    """
    finder, whole = exchange.subjects, exchange.whole or exchange
    exchange.subjects = exchange.whole = None
    if finder is None or exchange.subject is not None:
        return
    try:
        sought = finder.find(
            _legible(whole.request),
            _legible(whole.response),
            request_type=whole.request_type,
            response_type=whole.response_type,
        )
    except Exception as error:  # noqa: BLE001 - a decision must not be lost for it
        sought = Sought(fault=f"subject in a body: {type(error).__name__}")
    take(exchange, sought)


def _legible(body: Body) -> bytes:
    if body.large is not None or body.framed or body.size > MAX_BODY:
        return b""
    value = body.kept()
    if body.coding is None:
        return value
    return decode(value, body.coding) or b""
