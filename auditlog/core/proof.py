r"""Proofs as files and requests: C2SP tlog-proof and tlog-witness.

::

    c2sp.org/tlog-proof@v1             old <size>
    [extra <base64>]                   <base64 hash>            0 to 63 of them
    index <decimal>
    <base64 hash>      0 to 63         <signed checkpoint>
                                       (a request to a witness, on the right)
    <signed checkpoint>

Nothing is verified here. A proof holds when its hashes lead from the leaf to the root
(`auditlog.core.merkle.verify_inclusion`) of its checkpoint, once that satisfied a
policy (`auditlog.core.checkpoint.open_checkpoint`).
"""

from typing import NamedTuple

from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.encoding import (
    MAX_TEXT,
    format_base64,
    format_decimal,
    parse_base64,
    parse_decimal,
    parse_hash,
)
from auditlog.core.errors import MalformedError
from auditlog.core.note import split_unverified_note

__all__ = [
    "AddCheckpoint",
    "TlogProof",
    "format_add_checkpoint",
    "format_tlog_proof",
    "parse_add_checkpoint",
    "parse_tlog_proof",
]

_HEADER = "c2sp.org/tlog-proof@v1"
_MAX_HASHES = 63
# 63 hash lines and the longest `extra` before the longest note.
_MAX_SIZE = 2 * MAX_TEXT


class TlogProof(NamedTuple):
    """An inclusion proof with the checkpoint it leads to (C2SP tlog-proof)."""

    extra: bytes | None
    """Unauthenticated data for the application; None without the line."""
    index: int  # type: ignore[assignment]  # hides tuple.index
    """Of the leaf."""
    hashes: tuple[bytes, ...]
    """Sibling of the leaf first, child of the root last."""
    checkpoint: bytes
    """A signed note with a checkpoint, not verified."""


class AddCheckpoint(NamedTuple):
    """A request to a witness to cosign a checkpoint (C2SP tlog-witness)."""

    old_size: int
    """The size that the witness is thought to have cosigned last."""
    hashes: tuple[bytes, ...]
    """Consistency proof from `old_size` to the size of the checkpoint."""
    checkpoint: bytes
    """A signed note with a checkpoint, not verified."""


def parse_tlog_proof(data: bytes) -> TlogProof:
    """Return what stands in a ``.tlog-proof`` file.

    Raises:
        MalformedError: the bytes are no tlog-proof, in its one spelling.
    """
    lines, note = _split(data, "a tlog-proof")
    if lines[:1] != [_HEADER]:
        raise MalformedError(f"expected the first line to be {_HEADER}")
    extra = None
    if lines[1:2] and lines[1].startswith("extra "):
        extra = parse_base64(lines.pop(1).removeprefix("extra "))
    index = _field(lines[1:2], "index ")
    return TlogProof(extra, index, _hashes(lines[2:]), note)


def format_tlog_proof(proof: TlogProof) -> bytes:
    """Return the bytes of a ``.tlog-proof`` file.

    Raises:
        MalformedError: no file would give this proof again.
    """
    extra = [] if proof.extra is None else [f"extra {format_base64(proof.extra)}"]
    lines = [
        _HEADER,
        *extra,
        f"index {format_decimal(proof.index)}",
        *map(format_base64, proof.hashes),
    ]
    data = _join(lines, proof.checkpoint)
    if parse_tlog_proof(data) != proof:
        raise MalformedError("expected a proof made of int, bytes and a note")
    return data


def parse_add_checkpoint(body: bytes) -> AddCheckpoint:
    """Return what stands in the body of an add-checkpoint request.

    Raises:
        MalformedError: the bytes are no such request, in its one spelling.
    """
    lines, note = _split(body, "an add-checkpoint request")
    return AddCheckpoint(_field(lines[:1], "old "), _hashes(lines[1:]), note)


def format_add_checkpoint(request: AddCheckpoint) -> bytes:
    """Return the body of an add-checkpoint request.

    Raises:
        MalformedError: no body would give this request again.
    """
    lines = [
        f"old {format_decimal(request.old_size)}",
        *map(format_base64, request.hashes),
    ]
    body = _join(lines, request.checkpoint)
    if parse_add_checkpoint(body) != request:
        raise MalformedError("expected a request made of int, bytes and a note")
    return body


def _split(data: bytes, what: str) -> tuple[list[str], bytes]:
    """Return the lines before the first empty line, and the note after it."""
    if type(data) is not bytes or len(data) > _MAX_SIZE:
        raise MalformedError(f"expected {what} of up to {_MAX_SIZE} bytes")
    head, separator, note = data.partition(b"\n\n")
    if not separator or not head.isascii():
        raise MalformedError(f"expected ASCII lines, then an empty one, in {what}")
    text, _ = split_unverified_note(note)
    parse_checkpoint(text)
    return head.decode().split("\n"), note


def _join(lines: list[str], note: bytes) -> bytes:
    return b"\n".join([*(line.encode() for line in lines), b"", note])


def _field(lines: list[str], name: str) -> int:
    if not lines or not lines[0].startswith(name):
        raise MalformedError(f"expected a line with {name}and a number")
    return parse_decimal(lines[0].removeprefix(name))


def _hashes(lines: list[str]) -> tuple[bytes, ...]:
    if len(lines) > _MAX_HASHES:
        raise MalformedError(f"expected up to {_MAX_HASHES} hashes, got {len(lines)}")
    return tuple(parse_hash(line) for line in lines)
