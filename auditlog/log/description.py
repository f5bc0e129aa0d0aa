"""From exchange to entry: what is said in clear, and what only under a commitment."""

import base64
import os
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

from auditlog.capture.body import Body
from auditlog.capture.exchange import Exchange
from auditlog.capture.media import OTHER, media_type_name, method_name
from auditlog.core.commitment import MAX_PATH, commitment_digest, salt_stream
from auditlog.core.errors import MalformedError
from auditlog.core.record import DECISION, MAX_ENTRY, canonical_json, format_id
from auditlog.log.content import Content, Part
from auditlog.log.entry_template import EntryTemplate, Variable
from auditlog.log.model_entry import identity, model_entry_id
from auditlog.log.protocol_leaves import with_reading
from auditlog.log.redacting import Committed, Seen, look, pass_through, without_secret
from auditlog.log.sides import HASHED, Side, closed_sides, open_sides
from auditlog.models.identity import Model
from auditlog.storage import IndexRow

__all__ = ["SUBJECT_BYTES", "Described", "Describer"]

_UNROUTED = OTHER
SUBJECT_BYTES = 16
"""Of the tag in CloudEvents ``subject``: random where no subject is known."""
_MAX_KINDS = 1024
"""Kinds of decisions remembered; some of what tells them apart comes from traffic."""


class Described(NamedTuple):
    """A decision, ready to be sealed."""

    entry: bytes
    """Canonical bytes."""
    row: IndexRow
    content: Content


class _Kind(NamedTuple):
    """What is the same for all decisions that look alike from outside."""

    template: EntryTemplate
    route: str
    model: str | None
    version: str | None
    hidden: tuple[tuple[str, bytes], ...]
    """Literals that may not stand in clear, by name of their ``context/`` leaf."""


class Describer:
    """Builds decision entries for one emitter of one log.

    Every string in an entry comes from configuration, code or a closed list; what
    came with the traffic and is in none of them is written ``other`` and its literal
    becomes a ``context/`` leaf (`FORMATS.md` §1).
    """

    def __init__(
        self, origin: str, emitter: bytes, *, depth: int, models: Iterable[str] = ()
    ) -> None:
        """Fix what is the same for every decision."""
        self.origin = origin
        self._emitter = emitter
        self._depth = depth
        declared = frozenset(models)
        self._models = declared | {Model.parse(text).name for text in declared}
        self._kinds: dict[tuple[object, ...], _Kind] = {}
        self._entries: dict[Model, str] = {}
        """Id of the entry about each model that was named."""
        self.unwritten: dict[bytes, Model] = {}
        """Models that were named, of which nobody said yet that their entry, with this
        id, is in the log; whoever brings it there removes them."""

    def describe(self, exchange: Exchange, subject: bytes | None = None) -> Described:
        """Return the entry of an exchange, and the content its commitment covers.

        Args:
            exchange: what was captured.
            subject: 16 random bytes, never used before; None draws them.

        Raises:
            MalformedError: what configuration and code say does not fit in an entry.
        """
        asked, answered = _sides(exchange, self._depth)
        redaction = exchange.redaction
        seen = None
        if redaction is not None:
            seen = look(redaction, exchange, asked, answered)
        exchange = with_reading(exchange, asked, answered, _copies(seen))
        kind = self._kind(exchange, asked.split, answered.split)
        context = _context(exchange, kind.hidden)
        passed = None
        if redaction is not None and seen is not None:
            bodies = list(zip((asked, answered), seen, strict=True))
            passed = pass_through(redaction, bodies, context)
            context = context if passed is None else passed.context
        named = asked.leaves + answered.leaves
        named += [(part.path, part.value) for part in context]
        if asked.decoded or answered.decoded:
            decoded = [part for part in (asked.decoded, answered.decoded) if part]
            context = [*decoded, *context]
            named[:0] = [(part.path, part.value) for part in decoded]
        committed = _commit(exchange, asked.raw, answered.raw, named)
        variable = Variable(
            exchange.id,
            exchange.time,
            exchange.duration,
            exchange.sequence,
            committed.digest,
            subject or os.urandom(SUBJECT_BYTES),
        )
        entry = kind.template.format(variable)
        if len(entry) > MAX_ENTRY:
            msg = f"expected an entry of at most {MAX_ENTRY} bytes, got {len(entry)}"
            raise MalformedError(msg)
        if passed is None:
            content = Content(exchange.secret, (asked.raw, answered.raw, *context))
        else:
            content = without_secret(passed, committed, asked, answered, self._depth)
        return Described(entry, self._row(exchange, kind), content)

    def _row(self, exchange: Exchange, kind: _Kind) -> IndexRow:
        return IndexRow(
            None,
            exchange.id,
            DECISION,
            exchange.time,
            self._emitter,
            exchange.sequence,
            kind.route,
            kind.model,
            kind.version,
            exchange.outcome,
        )

    def _kind(self, exchange: Exchange, asked: str, answered: str) -> _Kind:
        key = (
            exchange.operation,
            exchange.method,
            exchange.route,
            exchange.status,
            exchange.model,
            exchange.outcome,
            *(exchange.request.media_type, exchange.request.state, asked),
            *(exchange.response.media_type, exchange.response.state, answered),
        )
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            kind = self._kinds[key] = self._new_kind(exchange, asked, answered)
        return kind

    def _new_kind(self, exchange: Exchange, asked: str, answered: str) -> _Kind:
        hidden: dict[str, bytes] = {}
        model = self._name_model(exchange.model, hidden)
        common: dict[str, Any] = {
            "emitter": base64.b64encode(self._emitter).decode(),
            **_describe_call(exchange, hidden),
            **model,
            "outcome": exchange.outcome,
            "request": _describe_body("request", exchange.request, asked, hidden),
            "response": _describe_body("response", exchange.response, answered, hidden),
        }
        return _Kind(
            EntryTemplate(self.origin, self._depth, common),
            exchange.operation or exchange.route or _UNROUTED,
            model.get("model.name"),
            model.get("model.version"),
            tuple(hidden.items()),
        )

    def _name_model(
        self, model: Model | None, hidden: dict[str, bytes]
    ) -> dict[str, str]:
        if model is None:
            return {}
        given = identity(model)
        if self._models and model.name not in self._models:
            bare = {key.removeprefix("model."): given[key] for key in given}
            hidden["model"] = canonical_json(bare)
            return {"model.name": OTHER}
        # What is not declared says so little that no entry tells more.
        return given if model.name == OTHER else given | self._entry_of(model)

    def _entry_of(self, model: Model) -> dict[str, str]:
        if model not in self._entries:
            if len(self._entries) >= _MAX_KINDS:
                self._entries.clear()
            id_ = model_entry_id(model)
            self.unwritten[id_] = model
            self._entries[model] = format_id(id_)
        return {"model.entry": self._entries[model]}


def _sides(exchange: Exchange, depth: int) -> tuple[Side, Side]:
    if exchange.keep:
        return open_sides(exchange.request, exchange.response, depth)
    return closed_sides(exchange.request, exchange.response)


def _copies(seen: tuple[Seen, Seen] | None) -> tuple[bytes | None, bytes | None]:
    """Return what is stored instead of each body; None where it is the body."""
    if seen is None:
        return None, None
    first, second = (one.copy or b"" if one.became else None for one in seen)
    return first, second


def _describe_call(exchange: Exchange, hidden: dict[str, bytes]) -> dict[str, Any]:
    """Return what was called: an operation that code names, or a route over HTTP."""
    if exchange.operation is not None:
        return {"operation": exchange.operation}
    sent = exchange.method or ""
    method = method_name(sent)
    if method == OTHER:
        hidden["request.method"] = sent.encode("utf-8", "replace")
    called: dict[str, Any] = {
        "http.request.method": method,
        "http.route": exchange.route or _UNROUTED,
    }
    if exchange.status is not None:
        called["http.response.status_code"] = exchange.status
    return called


def _describe_body(
    side: str, body: Body, split: str, hidden: dict[str, bytes]
) -> dict[str, str]:
    name, literal = media_type_name(body.media_type)
    if literal is not None:
        hidden[f"{side}.mediatype"] = literal
    return {"mediaType": name, "split": split, "state": body.state}


def _context(exchange: Exchange, hidden: tuple[tuple[str, bytes], ...]) -> list[Part]:
    # The middleware may know more about what is hidden.
    context = [*{**dict(hidden), **exchange.context}.items()]
    if exchange.target is not None:
        context.append(("target", exchange.target))
    if exchange.request.coding is not None:
        context.append(("request.encoding", _literal(exchange.request.coding)))
    if exchange.response.coding is not None:
        context.append(("response.encoding", _literal(exchange.response.coding)))
    return [
        Part(f"context/{name}", value, len(value)) for name, value in sorted(context)
    ]


def _literal(header: str) -> bytes:
    return header.encode("latin-1", "replace")  # how it was decoded


@lru_cache(maxsize=4096)
def _named(path: str) -> bytes:
    """Return what stands between salt and value in a disclosure."""
    name = path.encode()
    if len(name) > MAX_PATH:
        msg = f"expected a path of at most {MAX_PATH} bytes, got {len(name)}"
        raise MalformedError(msg)
    return len(name).to_bytes(2) + name


def _commit(
    exchange: Exchange, request: Part, response: Part, named: list[tuple[str, bytes]]
) -> Committed:
    """Return what `auditlog.core.commitment.commit` would, without a call a leaf."""
    stream = salt_stream(exchange.secret, 2 + len(named))
    hashes = [
        request.leaf_hash
        or exchange.request.leaf_hash()
        or sha256(b"\0%b%b%b" % (stream[16:32], _REQUEST, request.value)).digest(),
        response.leaf_hash
        or exchange.response.leaf_hash()
        or sha256(b"\0%b%b%b" % (stream[32:48], _RESPONSE, response.value)).digest(),
    ]
    at = 48
    for path, value in named:
        if path is HASHED:
            hashes.append(value)
        else:
            salt = stream[at : at + 16]
            hashes.append(sha256(b"\0%b%b%b" % (salt, _named(path), value)).digest())
        at += 16
    digest = commitment_digest(stream[:16], request.size, response.size, hashes)
    return Committed(digest, stream, hashes)


_REQUEST, _RESPONSE = _named("request"), _named("response")
