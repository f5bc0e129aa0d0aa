"""Receipts as files: what an auditor is handed for one decision (`FORMATS.md` §7).

A `*.receipt.json` is one JSON object in UTF-8, at most 16 MiB::

    schema       "auditlog.receipt.v1"
    entry        canonical text of the entry
    proof        tlog-proof text, for the entry
    commitment   {salt, requestSize, responseSize, hashes}        may be absent,
    disclosures  [{index, path, salt, value}]                     as all that follow
    secret       the secret of the commitment: full opening
    anchors      [{kind, proof, evidence}]
    related      [{rel, entry, proof}]

Bytes stand in base64. We write canonical JSON (RFC 8785) and a newline, and put the
SHA-256 of the checkpoint note into the proof's `extra`: a receipt that says so has one
spelling, so that every damaged byte shows. Other writers may leave the checksum out
and spell the JSON as they like. Nothing is verified here; that is
`auditlog.core.verify`.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from auditlog.core.commitment import MAX_PATH
from auditlog.core.encoding import check_range, format_base64, parse_base64
from auditlog.core.errors import MalformedError
from auditlog.core.proof import format_tlog_proof, parse_tlog_proof
from auditlog.core.record import MAX_INTEGER, canonical_json, check_fields, parse_json

__all__ = [
    "MAX_RECEIPT",
    "SCHEMA",
    "Anchor",
    "Disclosure",
    "Opening",
    "Receipt",
    "Related",
    "format_receipt",
    "parse_receipt",
    "with_checksum",
]

SCHEMA = "auditlog.receipt.v1"
MAX_RECEIPT = 16 << 20
"""Bytes of the largest receipt."""

_WITH_CHECKSUM = b"c2sp.org/tlog-proof@v1\nextra "
_RELATIONS = {"amendment", "erasure", "key", "model"}
_POINTER = r"(?:/(?:[^~/]++|~[01])*+)++"  # RFC 6901 §3; possessive, so cheap to refuse
_PATH = re.compile(
    rf"(?:request|response)(?::decoded|(?:\#(?:0|[1-9][0-9]*))?(?:{_POINTER})?)"
    r"|context/[a-z0-9._]+",
    re.DOTALL,
)


class Opening(NamedTuple):
    """What stands behind the commitment of an entry, leaf by leaf."""

    salt: bytes
    """salt_0, 16 bytes."""
    request_size: int
    response_size: int
    hashes: tuple[bytes, ...]
    """Of all leaves, 32 bytes each."""


class Disclosure(NamedTuple):
    """One opened leaf of a commitment."""

    index: int  # type: ignore[assignment]  # hides tuple.index
    path: str
    salt: bytes
    """salt_{index+1}, 16 bytes."""
    value: bytes


class Anchor(NamedTuple):
    """What an outside system holds about a checkpoint that covers the entry."""

    kind: str
    proof: bytes
    """tlog-proof of the entry, under exactly the anchored note; see `with_checksum`."""
    evidence: Any
    """A JSON value, by kind."""


class Related(NamedTuple):
    """Another entry of the same log, told along."""

    rel: str
    """``model``, ``amendment``, ``key`` or ``erasure``."""
    entry: bytes
    proof: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The self-contained proof file of one decision, not verified."""

    entry: bytes
    """Canonical bytes."""
    proof: bytes
    """tlog-proof of the entry; its `extra`, if any, is SHA-256 of its note."""
    opening: Opening | None = None
    """The field `commitment`."""
    disclosures: tuple[Disclosure, ...] = ()
    secret: bytes | None = None
    """32 bytes."""
    anchors: tuple[Anchor, ...] = ()
    related: tuple[Related, ...] = ()


def parse_receipt(data: bytes) -> Receipt:
    """Return the receipt in the bytes of a file.

    Raises:
        MalformedError: not a receipt, or one with a checksum that is not exactly what
            `format_receipt` writes.
    """
    fields = check_fields(
        parse_json(data, limit=MAX_RECEIPT),
        "a receipt",
        {"schema": str, "entry": str, "proof": str},
        {"commitment": dict, "disclosures": list, "secret": str}
        | {"anchors": list, "related": list},
    )
    if fields["schema"] != SCHEMA:
        raise MalformedError(f"expected schema {SCHEMA}, got {fields['schema'][:60]!r}")
    receipt = Receipt(
        entry=fields["entry"].encode(),
        proof=fields["proof"].encode(),
        opening=_parse_opening(fields.get("commitment")),
        disclosures=tuple(map(_parse_disclosure, fields.get("disclosures", ()))),
        secret=parse_base64(fields["secret"]) if "secret" in fields else None,
        anchors=tuple(map(_parse_anchor, fields.get("anchors", ()))),
        related=tuple(map(_parse_related, fields.get("related", ()))),
    )
    if format_receipt(receipt) != data and receipt.proof.startswith(_WITH_CHECKSUM):
        raise MalformedError("expected a canonical receipt, got another spelling of it")
    return receipt


def format_receipt(receipt: Receipt) -> bytes:
    """Return the bytes of the file for a receipt.

    Raises:
        MalformedError: the receipt is too large, or no file could hold it.
    """
    fields: dict[str, Any] = {
        "schema": SCHEMA,
        "entry": _text(receipt.entry),
        "proof": _text(receipt.proof),
    }
    if receipt.opening is not None:
        fields["commitment"] = _format_opening(receipt.opening)
    elif receipt.disclosures or receipt.secret is not None:
        raise MalformedError("expected a commitment beside disclosures and secret")
    if receipt.disclosures:
        fields["disclosures"] = _format_disclosures(receipt.disclosures)
    if receipt.secret is not None:
        fields["secret"] = _sized(receipt.secret, 32)
    if receipt.anchors:
        fields["anchors"] = [
            {"kind": kind, "proof": _text(proof), "evidence": evidence}
            for kind, proof, evidence in receipt.anchors
        ]
    if receipt.related:
        fields["related"] = [
            {"rel": _relation(rel), "entry": _text(entry), "proof": _text(proof)}
            for rel, entry, proof in receipt.related
        ]
    data = canonical_json(fields) + b"\n"
    if len(data) > MAX_RECEIPT:
        raise MalformedError(f"expected a receipt of at most {MAX_RECEIPT} bytes")
    return data


def with_checksum(anchor: Anchor) -> Anchor:
    """Return an anchor whose proof has a checksum of all of it in its `extra`.

    It is no evidence, but it shows damage also to those who cannot check the anchor:
    SHA-256 of the proof without it and of ``[kind, evidence]`` in canonical JSON.

    Raises:
        MalformedError: the proof is none, or the evidence no JSON of ours.
    """
    plain = parse_tlog_proof(anchor.proof)._replace(extra=None)
    data = format_tlog_proof(plain) + canonical_json([anchor.kind, anchor.evidence])
    marked = plain._replace(extra=sha256(data).digest())
    return anchor._replace(proof=format_tlog_proof(marked))


def _parse_opening(value: Any) -> Opening | None:
    if value is None:
        return None
    kinds = {"salt": str, "requestSize": int, "responseSize": int, "hashes": list}
    fields = check_fields(value, "a commitment", kinds)
    return Opening(
        parse_base64(fields["salt"]),
        fields["requestSize"],
        fields["responseSize"],
        tuple(map(parse_base64, fields["hashes"])),
    )


def _format_opening(opening: Opening) -> dict[str, Any]:
    return {
        "salt": _sized(opening.salt, 16),
        "requestSize": check_range("a size", opening.request_size, MAX_INTEGER),
        "responseSize": check_range("a size", opening.response_size, MAX_INTEGER),
        "hashes": [_sized(item, 32) for item in opening.hashes],
    }


def _parse_disclosure(value: Any) -> Disclosure:
    kinds = {"index": int, "path": str, "salt": str, "value": str}
    fields = check_fields(value, "a disclosure", kinds)
    salt, content = parse_base64(fields["salt"]), parse_base64(fields["value"])
    return Disclosure(fields["index"], fields["path"], salt, content)


def _format_disclosures(disclosures: tuple[Disclosure, ...]) -> list[dict[str, Any]]:
    indices = {item.index for item in disclosures}
    paths = {item.path for item in disclosures}
    if not len(indices) == len(paths) == len(disclosures):
        raise MalformedError("expected each index and each path to be disclosed once")
    return [
        {
            "index": check_range("an index", index, MAX_INTEGER),
            "path": _checked_path(path),
            "salt": _sized(salt, 16),
            "value": format_base64(value),
        }
        for index, path, salt, value in disclosures
    ]


def _checked_path(path: str) -> str:
    if len(path) > MAX_PATH or not _PATH.fullmatch(path):
        raise MalformedError(f"expected a path to content, got {path[:80]!r}")
    return path


def _parse_anchor(value: Any) -> Anchor:
    kinds = {"kind": str, "proof": str, "evidence": object}
    fields = check_fields(value, "an anchor", kinds)
    anchor = Anchor(fields["kind"], fields["proof"].encode(), fields["evidence"])
    marked = parse_tlog_proof(anchor.proof).extra is not None
    if marked and with_checksum(anchor) != anchor:
        raise MalformedError("expected an anchor as issued, got a changed one")
    return anchor


def _parse_related(value: Any) -> Related:
    kinds = {"rel": str, "entry": str, "proof": str}
    fields = check_fields(value, "a related entry", kinds)
    return Related(fields["rel"], fields["entry"].encode(), fields["proof"].encode())


def _relation(rel: str) -> str:
    if rel not in _RELATIONS:
        raise MalformedError(f"expected a relation we know, got {rel[:40]!r}")
    return rel


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedError("expected entry and proof in UTF-8") from None


def _sized(data: bytes, size: int) -> str:
    if len(data) != size:
        raise MalformedError(f"expected {size} bytes in base64, got {len(data)}")
    return format_base64(data)
