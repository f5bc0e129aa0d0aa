r"""Many logs under one anchored digest, none of which can see or probe another.

The digests of the logs, each behind a salt of its own, are the leaves of an RFC 6962
tree, and what is anchored binds its size::

    leaf_i   = SHA-256(0x00 ‖ salt_i(16) ‖ digest_i)
    anchored = SHA-256("auditlog/anchor/v1\n" ‖ "batch" ‖ u64 size ‖ root)

It is no digest of a note: notes hold no zero byte. Each log keeps its own path only,
as `batch` in the evidence: ``{"hashes", "index", "root", "salt", "size"}``.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from auditlog.anchors.attestation import TAG
from auditlog.core.encoding import format_base64, parse_base64, parse_hash
from auditlog.core.errors import MalformedError
from auditlog.core.merkle import (
    leaf_hash,
    nodes_of,
    prove_inclusion,
    root_hash,
    verify_inclusion,
)
from auditlog.core.record import check_fields

__all__ = ["BatchPath", "aggregate", "anchored_digest", "format_path", "parse_path"]

MAX_BATCH = 1 << 20
"""Logs in the largest batch that is believed; a path has 20 hashes."""

_MAX_HASHES = MAX_BATCH.bit_length() - 1
_SALT_BYTES = 16
_FIELDS = {"hashes": list, "index": int, "root": str, "salt": str, "size": int}


class BatchPath(NamedTuple):
    """What leads from the digest of one log to the digest that was anchored."""

    salt: bytes
    """16 bytes, of this log alone."""
    index: int  # type: ignore[assignment]  # hides tuple.index
    size: int
    """Logs in the batch."""
    root: bytes
    hashes: tuple[bytes, ...]
    """Inclusion proof (RFC 9162 §2.1.3)."""


def aggregate(
    digests: Sequence[bytes], salts: Sequence[bytes]
) -> tuple[bytes, tuple[BatchPath, ...]]:
    """Return what to anchor for all of these digests, and the path of each.

    Args:
        digests: 1 to `MAX_BATCH` of 32 bytes, see
            `auditlog.anchors.attestation.anchor_digest`.
        salts: 16 random bytes for each, never used again.
    """
    assert 0 < len(digests) == len(salts) <= MAX_BATCH
    assert all(len(salt) == _SALT_BYTES for salt in salts)
    pairs = zip(salts, digests, strict=True)
    leaves = [leaf_hash(salt + digest) for salt, digest in pairs]
    size, root, node = len(leaves), root_hash(leaves), nodes_of(leaves)
    paths = tuple(
        BatchPath(salt, index, size, root, prove_inclusion(index, size, node))
        for index, salt in enumerate(salts)
    )
    return _top(size, root), paths


def anchored_digest(digest: bytes, path: BatchPath) -> bytes:
    """Return the digest that was anchored for a batch with `digest` in it.

    Raises:
        VerificationError: the path does not lead from the digest to its root.
    """
    leaf = leaf_hash(path.salt + digest)
    verify_inclusion(path.index, path.size, leaf, path.hashes, path.root)
    return _top(path.size, path.root)


def format_path(path: BatchPath) -> dict[str, Any]:
    """Return a path as it stands in evidence."""
    return {
        "hashes": [format_base64(one) for one in path.hashes],
        "index": path.index,
        "root": format_base64(path.root),
        "salt": format_base64(path.salt),
        "size": path.size,
    }


def parse_path(value: Mapping[str, Any]) -> BatchPath:
    """Return the path that stands in evidence.

    Raises:
        MalformedError: it is not what `format_path` writes.
    """
    fields = check_fields(value, "a batch path", _FIELDS)
    salt = parse_base64(fields["salt"])
    if len(salt) != _SALT_BYTES:
        raise MalformedError(f"expected a salt of {_SALT_BYTES} bytes, got {len(salt)}")
    if not 0 < fields["size"] <= MAX_BATCH:
        raise MalformedError(f"expected a batch of 1 to {MAX_BATCH} logs")
    if not 0 <= fields["index"] < fields["size"]:
        raise MalformedError("expected an index below the size of the batch")
    if len(fields["hashes"]) > _MAX_HASHES:
        raise MalformedError(f"expected up to {_MAX_HASHES} hashes in a batch path")
    hashes = tuple(parse_hash(one) for one in fields["hashes"])
    root = parse_hash(fields["root"])
    return BatchPath(salt, fields["index"], fields["size"], root, hashes)


def _top(size: int, root: bytes) -> bytes:
    return hashlib.sha256(TAG + b"batch" + size.to_bytes(8, "big") + root).digest()
