"""What was said about a decision, put into its exchange when it ends."""

import os
from typing import NamedTuple

import msgspec

from auditlog.capture.exchange import Body, Exchange
from auditlog.capture.subjects import Subject
from auditlog.log.batch import Item
from auditlog.log.decision import BATCH, Decision, Said
from auditlog.log.protocol_leaves import FAULTS
from auditlog.log.said import NOTHING, Facts
from auditlog.models.identity import Model

__all__ = ["Named", "fill"]

_WELL = frozenset({"completed", "rejected"})
_OURS = 1 << 20
"""Bytes that facts may have together with what we add."""
_SECRET_BYTES = 32


class Named(NamedTuple):
    """A model, and what may not stand in clear of it."""

    model: Model | None
    literal: Model | None = None
    """The whole identity where `model` says less; None where it says all."""
    fault: str | None = None
    """Which source failed, and how; None if none did."""


def fill(exchange: Exchange, said: Said | None, named: Named) -> list[Exchange]:
    """Put into an exchange what handler and hooks said.

    Args:
        exchange: of a call that ended; its model is known.
        said: what the handler said.
        named: the model.

    Returns:
        Exchanges of the further decisions of a batch.
    """
    _, facts, items = said or (None, NOTHING, ())
    if facts is NOTHING and named.literal is None and named.fault is None:
        # Most handlers that speak name their model, and that is all.
        return []
    if named.fault is not None:
        facts = facts.plus("annotations", {FAULTS: [named.fault]}, limit=_OURS)
    # Made first, for they begin with what is not yet said of the first.
    others = [_other(exchange, item, named.literal) for item in items]
    if facts.has("annotations", BATCH):
        facts = _with_items(facts, items)
    _settle(exchange, facts, named.literal)
    return others


def _with_items(facts: Facts, further: tuple[Item[Decision], ...]) -> Facts:
    """Name in the first of a batch all others; who is missing was not recorded."""
    batch = facts.get("annotations", BATCH)
    batch["items"] = [item.decision.id for item in further]
    return facts.plus("annotations", {BATCH: batch}, limit=_OURS)


def _other(first: Exchange, item: Item[Decision], literal: Model | None) -> Exchange:
    """Return the exchange of one more decision; the bodies are with the first."""
    secret = os.urandom(_SECRET_BYTES)
    exchange = msgspec.structs.replace(
        first,
        id=item.id,
        secret=secret,
        sequence=item.sequence,
        time=item.time,
        request=_omitted(secret, first.request),
        response=_omitted(secret, first.response),
        context=dict(first.context),
        protocols=None,  # the bodies are with the first
        subject=None,
    )
    model, facts, _ = item.decision.conclude() or (None, NOTHING, ())
    if model is not None:
        exchange.model, literal = model, None
    _settle(exchange, facts, literal)
    return exchange


def _omitted(secret: bytes, body: Body) -> Body:
    """Return a body of the same kind that is with another decision."""
    return Body(secret, body.leaf, 0, "omitted", media_type=body.media_type)


def _settle(exchange: Exchange, facts: Facts, literal: Model | None) -> None:
    if facts.has("outcome", "skipped"):
        exchange.keep = False
        if exchange.outcome in _WELL:
            exchange.outcome = "skipped"
    model = literal or exchange.model
    if model is not None and (literal or facts.has("model", "attempts")):
        whole = {"name": model.name, "version": model.version, "digest": model.digest}
        facts = facts.plus("model", whole, limit=_OURS)
    if facts.has("subject", "id"):
        said = facts.get("subject", "kind"), facts.get("subject", "id")
        exchange.subject = Subject(*said)
    exchange.context.update(facts.leaves())
