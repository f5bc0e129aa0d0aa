"""From exchange to entry: what is said in clear, and what only under a commitment."""

import base64
import os
from collections.abc import Iterable

from auditlog.capture.exchange import Body, Exchange, ModelIdentity
from auditlog.capture.media import media_type_name, method_name
from auditlog.capture.splitting import fast_members
from auditlog.core.commitment import (
    commitment_digest,
    disclosure_hash,
    is_json,
    salts,
)
from auditlog.core.record import DECISION, Entry, canonical_json
from auditlog.log.content import Content, Part

__all__ = ["Describer"]

_OTHER = "other"
_UNROUTED = "other"
_SUBJECT_BYTES = 16


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
        self._emitter = base64.b64encode(emitter).decode()
        self._depth = depth
        self._models = frozenset(models)

    def describe(self, exchange: Exchange) -> tuple[Entry, Content]:
        """Return the entry of an exchange, and the content its commitment covers."""
        context = {"target": exchange.target, **exchange.context}
        data = self._clear_fields(exchange, context)
        request, request_members = self._split(exchange, exchange.request, 0, context)
        response, response_members = self._split(
            exchange, exchange.response, 1, context
        )
        parts = [
            _part("request", exchange.request),
            _part("response", exchange.response),
        ]
        parts += [
            Part(f"context/{name}", value, len(value))
            for name, value in sorted(context.items())
        ]
        named = [*request_members, *response_members]
        named += [(part.path, part.value) for part in parts[2:]]
        digest = _commit(exchange, parts[0], parts[1], named)
        data["commitment"] = {
            "depth": self._depth,
            "digest": base64.b64encode(digest).decode(),
            "v": 1,
        }
        data["request"], data["response"] = request, response
        subject = base64.urlsafe_b64encode(os.urandom(_SUBJECT_BYTES)).decode()
        entry = Entry(exchange.id, DECISION, self.origin, exchange.time, data, subject)
        return entry, Content(exchange.secret, tuple(parts))

    def _clear_fields(
        self, exchange: Exchange, context: dict[str, bytes]
    ) -> dict[str, object]:
        method = method_name(exchange.method)
        if method == _OTHER:
            context["request.method"] = exchange.method.encode("utf-8", "replace")
        data: dict[str, object] = {
            "duration": exchange.duration,
            "emitter": self._emitter,
            "http.request.method": method,
            "http.route": exchange.route or _UNROUTED,
            "outcome": exchange.outcome,
            "sequence": exchange.sequence,
        }
        if exchange.status is not None:
            data["http.response.status_code"] = exchange.status
        if exchange.model is not None:
            self._name_model(exchange.model, data, context)
        return data

    def _name_model(
        self, model: ModelIdentity, data: dict[str, object], context: dict[str, bytes]
    ) -> None:
        named = {"name": model.name, "version": model.version, "digest": model.digest}
        given = {key: value for key, value in named.items() if value is not None}
        if self._models and model.name not in self._models:
            context["model"] = canonical_json(given)
            given = {"name": _OTHER}
        data.update({f"model.{key}": value for key, value in given.items()})

    def _split(
        self, exchange: Exchange, body: Body, leaf: int, context: dict[str, bytes]
    ) -> tuple[dict[str, str], list[tuple[str, bytes]]]:
        prefix = ("request", "response")[leaf]
        header = (exchange.request_type, exchange.response_type)[leaf]
        name, literal = media_type_name(header)
        if literal is not None:
            context[f"{prefix}.mediatype"] = literal
        found = None
        if header is not None and is_json(header) and not body.capped:
            found = fast_members(prefix, body.kept(), self._depth)
        split = "none" if found is None else "json"
        return {"mediaType": name, "split": split, "state": body.state}, found or []


def _part(path: str, body: Body) -> Part:
    return Part(path, body.kept(), body.size, body.leaf_hash())


def _commit(
    exchange: Exchange, request: Part, response: Part, named: list[tuple[str, bytes]]
) -> bytes:
    all_salts = salts(exchange.secret, 2 + len(named))
    hashes = [
        part.leaf_hash or disclosure_hash(salt, part.path, part.value)
        for part, salt in ((request, all_salts[1]), (response, all_salts[2]))
    ]
    hashes += [
        disclosure_hash(salt, path, value)
        for (path, value), salt in zip(named, all_salts[3:], strict=True)
    ]
    return commitment_digest(all_salts[0], request.size, response.size, hashes)
