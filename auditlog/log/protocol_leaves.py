"""What a model protocol read of an exchange, put under its commitment.

========================  ==========================================================
``context/protocol``      ``name``, ``gen_ai.operation.name``, ``streamed``, ``items``,
                          ``gen_ai.request.*``, what the answer says of its making
``context/usage``         ``gen_ai.usage.*``
``context/outcome``       ``completeness``, ``error.type``,
                          ``gen_ai.response.finish_reasons``
``context/model``         ``gen_ai.request.model``, ``gen_ai.response.model``,
                          ``gen_ai.response.id``
========================  ==========================================================

What the application said itself wins. An answer that ended well by HTTP and badly by
its own protocol changes the outcome of the decision: to ``error`` with an error in it,
to ``incomplete`` where the mark is missing that ends it. The answer itself is not
stored twice: `read_content` reads it again from what is stored.
"""

from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from auditlog.capture.exchange import Body, Exchange
from auditlog.capture.media import NO_MEDIA_TYPE, OTHER
from auditlog.capture.protocols.registry import Protocols
from auditlog.capture.reading import Completeness, Reading, Traffic
from auditlog.core.errors import AuditLogError
from auditlog.core.record import DECISION, Entry, canonical_json, parse_json
from auditlog.log.parts import Content
from auditlog.log.said import MAX_BYTES, NOTHING, json_value
from auditlog.log.sides import Side

__all__ = ["FAULTS", "read_content", "with_reading"]

FAULTS = "auditlog.faults"
"""Name of the annotation that says which hooks failed."""

_UNSEEN = frozenset({"not_observed", "omitted"})
_BAD_END = {"error_frame": "error", "no_terminator": "incomplete"}
_CLIENT_ERROR = 400
_MOST = 1 << 23
"""Bytes of a body that are read: as JSON of many small values they need twenty times
as much memory."""
_END = 1 << 18
"""Bytes of its end that are read besides, as of a body that is not kept whole."""
_NO_ANSWERS = frozenset({1, 3})
_NO_ANSWER = frozenset({202, 204, 205})
"""Statuses (and, before them, classes of these) that say that no answer is here."""


def with_reading(
    exchange: Exchange,
    asked: Side,
    answered: Side,
    copies: tuple[bytes | None, bytes | None] = (None, None),
) -> Exchange:
    """Return an exchange with what its protocol says of it, or as it is.

    Args:
        exchange: finished; it is not changed.
        asked: its request, opened.
        answered: its response, opened.
        copies: what is stored instead of each, where something was redacted; what a
            body said under one name is not to be kept under another.
    """
    protocols = exchange.protocols
    if protocols is None or not exchange.keep or not _is_legible(exchange, answered):
        return exchange
    traffic = Traffic(
        path=_path(exchange.target or b""),
        status=exchange.status,
        request=_legible(exchange.request, asked),
        request_type=exchange.request.media_type,
        response=(answered.decoded or answered.raw).value,
        response_type=exchange.response.media_type,
        tail=exchange.response.tail(),
        capped=exchange.response.capped,
    )
    reading, fault = protocols.read(_bounded(traffic), exchange.route)
    if reading is None and fault is None:
        return exchange
    if reading is not None and copies != (None, None):
        first, second = copies
        stored = msgspec.structs.replace(
            traffic,
            request=traffic.request if first is None else first,
            response=traffic.response if second is None else second,
            tail=traffic.tail if second is None else b"",
        )
        kept = protocols.read(_bounded(stored), exchange.route).reading
        reading = _as_kept(reading, kept)
    return _told(exchange, reading, fault)


def _as_kept(reading: Reading, kept: Reading | None) -> Reading:
    """Return a reading that says no text but what was read of what is stored."""
    if kept is None or kept.protocol != reading.protocol:
        kept = Reading(protocol=reading.protocol, operation=reading.operation)
    return msgspec.structs.replace(
        reading,
        error_type=kept.error_type,
        requested_model=kept.requested_model,
        answered_model=kept.answered_model,
        response_id=kept.response_id,
        parameters=kept.parameters,
        attributes=kept.attributes,
    )


def _bounded(traffic: Traffic) -> Traffic:
    """Return traffic of which no more is there than may be read."""
    request, response, tail = traffic.request, traffic.response, traffic.tail
    if max(len(request), len(response)) <= _MOST:
        return traffic
    return msgspec.structs.replace(
        traffic,
        request=request[:_MOST],
        response=response[:_MOST],
        tail=tail if traffic.capped else (response[_MOST:] + tail)[-_END:],
        capped=traffic.capped or len(response) > _MOST,
    )


def _is_legible(exchange: Exchange, answered: Side) -> bool:
    """Return whether the bytes of the response are those that the model wrote."""
    response, status = exchange.response, exchange.status
    if status is not None and (status in _NO_ANSWER or status // 100 in _NO_ANSWERS):
        return False
    return response.state not in _UNSEEN and _in_clear(response, answered)


def _in_clear(body: Body, side: Side) -> bool:
    return body.coding is None or side.decoded is not None


def _legible(body: Body, side: Side) -> bytes:
    return (side.decoded or side.raw).value if _in_clear(body, side) else b""


def _path(target: bytes) -> str:
    return target.partition(b"?")[0].decode("latin-1")


def _told(exchange: Exchange, reading: Reading | None, fault: str | None) -> Exchange:
    leaves: dict[str, dict[str, Any]] = {}
    outcome = exchange.outcome
    if reading is not None:
        leaves = _leaves(reading)
        outcome = _outcome(exchange, reading)
    try:
        context = _merged(exchange.context, leaves)
    except AuditLogError as error:
        # More than a decision may say, or text that is none: the bytes still say it.
        context = exchange.context
        fault = f"protocol {reading.protocol}: {error}" if reading else fault
    if fault is not None:
        context = _with_fault(context, fault)
    return msgspec.structs.replace(exchange, outcome=outcome, context=context)


def _outcome(exchange: Exchange, reading: Reading) -> str:
    """Return how the call ended; where HTTP says badly, its word counts."""
    if exchange.outcome != "completed" or (exchange.status or 0) >= _CLIENT_ERROR:
        return exchange.outcome
    return _BAD_END.get(reading.completeness, exchange.outcome)


def _leaves(reading: Reading) -> dict[str, dict[str, Any]]:
    protocol = {
        "name": reading.protocol,
        "gen_ai.operation.name": reading.operation,
        "streamed": reading.streamed,
        "items": reading.items,
        **reading.parameters,
        **reading.attributes,
    }
    reasons = reading.finish_reasons
    outcome = {
        "completeness": reading.completeness,
        "error.type": reading.error_type,
        "gen_ai.response.finish_reasons": reasons if any(reasons) else None,
    }
    model = {
        "gen_ai.request.model": reading.requested_model,
        "gen_ai.response.model": reading.answered_model,
        "gen_ai.response.id": reading.response_id,
    }
    usage = dict(reading.usage)
    return {"protocol": protocol, "usage": usage, "outcome": outcome, "model": model}


def _merged(
    context: Mapping[str, bytes], leaves: Mapping[str, Mapping[str, Any]]
) -> dict[str, bytes]:
    """Return context leaves with more members; those that are there stay.

    Raises:
        ConfigurationError: it is more than may be said about a decision.
    """
    facts = NOTHING
    for leaf, members in leaves.items():
        known = context.get(leaf)
        said = {} if known is None else parse_json(known, limit=len(known))
        more = {
            name: json_value(name, value)
            for name, value in members.items()
            if value is not None and name not in said
        }
        facts = facts.plus(leaf, said, limit=_WITH_SAID)
        facts = facts.plus(leaf, more, limit=_WITH_SAID)
    return {**context, **facts.leaves()}


def _with_fault(context: Mapping[str, bytes], fault: str) -> dict[str, bytes]:
    known = context.get("annotations", b"{}")
    said = parse_json(known, limit=len(known))
    said[FAULTS] = [*said.get(FAULTS, ()), fault]
    return {**context, "annotations": canonical_json(said)}


_WITH_SAID = 32 * MAX_BYTES
"""Bytes that the application's words and those of a protocol may have together."""


def read_content(entry: Entry, content: Content) -> Reading | None:
    """Return what stored content says, read again by the protocol that read it first.

    Args:
        entry: a decision.
        content: what was captured of it.

    Returns:
        None where no protocol read it, or one that is not built in. How an answer
        ended of which only the first bytes are stored is as it was read at capture.
        What was redacted is read from the stored copy, and `redacted` says so.
    """
    name = _said(content, "protocol", "name")
    if entry.type != DECISION or name not in Protocols.BUILT_IN:
        return None
    asked, answered = content.body("request"), content.body("response")
    traffic = Traffic(
        path=_path(content.leaf("target") or b""),
        status=entry.data.get("http.response.status_code"),
        request=asked.value,
        request_type=_media_type(entry, content, "request"),
        response=answered.value,
        response_type=_media_type(entry, content, "response"),
        capped=answered.capped,
    )
    traffic = _bounded(traffic)
    reading = Protocols(name).read(traffic, None).reading
    if reading is not None:
        reading.redacted = bool(asked.redaction or answered.redaction)
        if traffic.capped or answered.redaction:
            reading.completeness = _ended(content, reading.completeness)
    return reading


def _ended(content: Content, read: Completeness) -> Completeness:
    known = _said(content, "outcome", "completeness")
    return next((one for one in get_args(Completeness) if one == known), read)


def _said(content: Content, leaf: str, member: str) -> str | None:
    said = content.leaf(leaf) or b"{}"
    facts = parse_json(said, limit=len(said))
    value = facts.get(member) if isinstance(facts, dict) else None
    return value if isinstance(value, str) else None


def _media_type(entry: Entry, content: Content, side: str) -> str | None:
    name = entry.data[side]["mediaType"]
    if name == OTHER:
        return (content.leaf(f"{side}.mediatype") or b"").decode("latin-1")
    return None if name == NO_MEDIA_TYPE else str(name)
