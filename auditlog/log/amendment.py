"""What became known of a decision after it was closed: a later entry, linked to it.

Two sorts, both `auditlog.amendment.v1`. What followed the end of an answer, told by the
middleware, has nothing but what stands in clear::

    {"decision": "<id of the decision>", "kind": "error_after_response"}

A decision has at most one of these, whose id follows from the decision's: who looks it
up by id finds it.

What people or systems say later, by `auditlog.amend`, has content as well, sealed and
committed to like that of a decision; any number of them may be about one decision::

    {"commitment": {…}, "decision": "<id>", "kind": "human_review",
     "request": {"mediaType": "none", "split": "none", "state": "omitted"},
     "response": {"mediaType": "none", "split": "none", "state": "omitted"}}

It has no body: who, why and what stand in ``context/`` leaves, so that one of them can
be shown without the others (``auditlog/docs/formats.md``). Kinds are closed lists, and
nothing from traffic, from a person or from an exception stands in clear.
"""

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from hashlib import sha256
from typing import Any, Literal, NamedTuple, get_args

from auditlog.capture.redaction.redaction import Redaction
from auditlog.core.errors import ConfigurationError, MalformedError
from auditlog.core.record import Entry, format_id, parse_id
from auditlog.log.identity import new_id
from auditlog.log.said import NOTHING, Facts, annotations, result, words

__all__ = [
    "AMENDMENT",
    "Aftermath",
    "Amendment",
    "AmendmentKind",
    "aftermath_entry",
    "aftermath_id",
    "amendment",
    "check_kind",
]

Aftermath = Literal["answer_withheld", "client_disconnected", "error_after_response"]
"""``answer_withheld``: the decision is recorded, the end of its answer was not sent.
``client_disconnected``: the server could not send the end of the answer.
``error_after_response``: the application raised after the end of the answer, in a
background task, or behind middleware that had ended the answer for it."""

AmendmentKind = Literal[
    "appeal",
    "correction",
    "explanation",
    "human_review",
    "incident",
    "outcome",
    "override",
    "withdrawal",
]
"""``human_review``: a person looked at it, and let it stand or not.
``override``: a person decided otherwise; the label is what holds now.
``appeal``: whoever it is about, or somebody for them, contests it.
``outcome``: what turned out to be true, known late.
``correction``: something in it was wrong, such as an input.
``explanation``: what the person was told of why.
``incident``: harm, or a fault, that it had a part in.
``withdrawal``: it does not hold any more."""

AMENDMENT = "auditlog.amendment.v1"
_ENTROPY_BYTES = 10
_TIME_BYTES = 6
_WORDS, _REASON = 1024, 1 << 14


class Amendment(NamedTuple):
    """What somebody says later about a decision."""

    decision: bytes
    """Id of the decision, 16 bytes."""
    kind: AmendmentKind
    facts: Facts
    """Who, why and what, by ``context/`` leaf."""
    redaction: Redaction | None = None
    """What these leaves pass before they are stored."""


def amendment(
    decision: str,
    kind: str,
    *,
    by: str | None = None,
    reason: str | None = None,
    label: str | int | bool | None = None,
    score: float | Decimal | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Amendment:
    """Return an amendment; the arguments are those of `auditlog.amend`.

    Raises:
        MalformedError: `decision` is no id.
        ConfigurationError: another argument is not as described.
    """
    facts = NOTHING.plus("outcome", {"result": result(label, score)})
    if by is not None:
        facts = facts.plus("user", {"by": words("who amends", by, _WORDS)})
    if reason is not None:
        facts = facts.plus("reason", {"text": words("a reason", reason, _REASON)})
    facts = facts.plus("annotations", annotations(attributes or {}))
    return Amendment(_id_of(decision), check_kind(kind), facts)


def _id_of(decision: object) -> bytes:
    # Whatever stands there instead may say whom it is about.
    with suppress(MalformedError):
        if isinstance(decision, str):
            return parse_id(decision)
    raise MalformedError(
        "expected the id of a decision, a UUIDv7 in lower case, got something else"
    )


def check_kind(kind: str) -> AmendmentKind:
    """Return a kind of amendment that anybody may make.

    Raises:
        ConfigurationError: it is none.
    """
    for known in get_args(AmendmentKind):
        if kind == known:
            return known  # type: ignore[no-any-return]
    kinds = ", ".join(get_args(AmendmentKind))
    raise ConfigurationError(f"expected a kind of amendment out of {kinds}")


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
    return Entry(aftermath_id(decision), AMENDMENT, source, time, data)
