"""The entry about a model: written once for each identity, before who names it.

::

    {"model.details": {"format": "joblib", …}, "model.digest": "sha256:…",
     "model.name": "credit", "model.version": "3"}

is the `data` of such an entry (`auditlog.model.v1`); what is not known is absent. A
decision that ran on the model says the same name, version and digest, and the id of
this entry as ``model.entry``. The id follows from these four alone, so that processes
which never heard of each other give one model one entry. The time is when it was first
named.

What is `sealed` of a model (its parameters, say) stands under a commitment, like the
content of a decision: then ``commitment``, ``request`` and ``response`` are there too,
with empty bodies, and each part is a ``context/`` leaf.
"""

from hashlib import sha256
from typing import Any

from auditlog.core.errors import ConfigurationError, MalformedError
from auditlog.core.record import Entry, canonical_json, check_fields, format_id
from auditlog.log.content import Content, context_only
from auditlog.log.identity import new_id
from auditlog.models.identity import Model

__all__ = ["MODEL", "ModelCheck", "identity", "model_entry", "model_entry_id"]

MODEL = "auditlog.model.v1"
_ENTROPY_BYTES = 10
_KEYS = ("model.name", "model.version", "model.digest")
_OPTIONAL = {
    "model.version": str,
    "model.digest": str,
    "model.details": dict,
    "commitment": dict,
    "request": dict,
    "response": dict,
}


def identity(model: Model) -> dict[str, Any]:
    """Return what stands in clear of a model, as decisions and its entry say it."""
    named = zip(_KEYS, (model.name, model.version, model.digest), strict=True)
    return {key: value for key, value in named if value is not None}


def model_entry_id(model: Model) -> bytes:
    """Return the id of the entry about a model, 16 bytes.

    A UUIDv7 whose time is zero: it follows from the identity alone.
    """
    return _id_of(_said(model))


def _said(model: Model) -> dict[str, Any]:
    said = identity(model)
    return said | {"model.details": dict(model.details)} if model.details else said


def _id_of(said: dict[str, Any]) -> bytes:
    named = b"auditlog/model/v1\n" + canonical_json(said)
    return new_id(0, sha256(named).digest()[:_ENTROPY_BYTES])


def model_entry(
    model: Model, source: str, time: int, secret: bytes
) -> tuple[Entry, Content | None]:
    """Return the entry about a model, and what its commitment covers.

    Args:
        model: the model.
        source: the log's origin.
        time: microseconds since the epoch.
        secret: 32 random bytes, never used before.

    Returns:
        No content where nothing of it is sealed.
    """
    data = _said(model)
    id_ = _id_of(data)
    if not model.sealed:
        return Entry(id_, MODEL, source, time, data), None
    leaves = [(f"context/{name}", value) for name, value in model.sealed]
    said, content = context_only(secret, leaves)
    return Entry(id_, MODEL, source, time, data | said), content


def _parse(entry: Entry) -> dict[str, Any]:
    """Return what a model entry says in clear, once it is what one says.

    Raises:
        MalformedError: it is not, or its id is that of another model.
    """
    fields = check_fields(entry.data, "a model", {"model.name": str}, _OPTIONAL)
    details = tuple(fields.get("model.details", {}).items())
    try:
        name, version, digest = map(fields.get, _KEYS)
        model = Model(name or "", version, digest, details)
    except ConfigurationError as error:
        raise MalformedError(str(error)) from None
    if model_entry_id(model) != entry.id:
        raise MalformedError("expected the id that follows from the model, got another")
    return identity(model)


class ModelCheck:
    """Holds the decisions of a log, in its order, against the models they name."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Any]] = {}

    def note(self, entry: Entry) -> None:
        """Take in the next entry.

        Raises:
            MalformedError: a model is not told of as it must be; or a decision names an
                entry that is not before it, or is about another model.
        """
        if entry.type == MODEL:
            self._known[format_id(entry.id)] = _parse(entry)
        elif "model.entry" in entry.data:
            self._check(entry.data)

    def _check(self, said: dict[str, Any]) -> None:
        model = self._known.get(str(said["model.entry"]))
        if model is None:
            raise MalformedError("expected the entry of its model before it, got none")
        if model != {key: said[key] for key in _KEYS if key in said}:
            raise MalformedError(
                "expected the name, version and digest of the model that it names, got "
                "others"
            )
