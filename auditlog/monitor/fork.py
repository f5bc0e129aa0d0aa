r"""A fork of a log, as a file that proves it by itself.

Two checkpoints, signed by the log's own keys, that no one history can have::

    {"a":"<note>","b":"<note>","hashes":["<base64>",…],"root":"<base64>",
     "schema":"auditlog.fork.v1"}

without the line break, canonical (RFC 8785), and a newline. `a` states size m and root
A, `b` size n ≥ m and root B, both of one origin, m > 0.

- m < n: `root` is what the first m leaves of b's tree have, and `hashes` the proof of
  consistency (RFC 9162 §2.1.4) from (m, root) to (n, B). It holds and root ≠ A: then
  b's history does not go on from a's.
- m = n: A ≠ B says it all; `root` and `hashes` are absent, and A sorts before B.

That somebody was shown less than others, or an older view, proves nothing: a log may
be slow. What is kept here is what nobody can explain away. It says neither which of
the two histories is the true one, nor whether the operator signed or whoever took his
key; the cosignatures in the notes say which witness saw which.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from auditlog.core.checkpoint import (
    Checkpoint,
    Policy,
    SignedCheckpoint,
    open_checkpoint,
    parse_checkpoint,
)
from auditlog.core.encoding import MAX_TEXT, format_base64, parse_hash
from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.merkle import verify_consistency
from auditlog.core.note import split_unverified_note
from auditlog.core.record import canonical_json, check_fields, parse_json

__all__ = [
    "MAX_FORK",
    "SCHEMA",
    "Fork",
    "ForkVerdict",
    "format_fork",
    "parse_fork",
    "verify_fork",
]

SCHEMA = "auditlog.fork.v1"
MAX_FORK = 5 * MAX_TEXT
"""Bytes of the largest fork file: two of the longest notes, each byte of them escaped,
must fit, or a log could sign what nobody can keep."""

_MAX_HASHES = 64
_REQUIRED = {"a": str, "b": str, "schema": str}
_GROWN = {"hashes": list, "root": str}


@dataclass(frozen=True, slots=True)
class Fork:
    """What stands in a fork file; nothing of it is verified."""

    a: bytes
    """Signed note of the smaller tree; of two equal ones, of the smaller root."""
    b: bytes
    """Signed note of the other one."""
    root: bytes | None = None
    """Root over the first leaves of b's tree, as many as a has; None at equal sizes."""
    hashes: tuple[bytes, ...] = ()
    """Consistency proof from `root` to b's root."""


class ForkVerdict(NamedTuple):
    """Two checkpoints that one log signed, and no one history has."""

    origin: str
    a: SignedCheckpoint
    """Of the smaller tree. Its `cosignatures` are of witnesses of the policy."""
    b: SignedCheckpoint
    root: bytes
    """What b's tree has in place of a's root."""

    @property
    def claim(self) -> str:
        """What is proven, in one line."""
        a, b = self.a.checkpoint, self.b.checkpoint
        return (
            f"{self.origin} signed two histories: one of size {a.size} with root "
            f"{a.root.hex()}, and one of size {b.size} whose first {a.size} entries "
            f"have root {self.root.hex()}"
        )

    @property
    def not_proven(self) -> tuple[str, ...]:
        """What a reader must not take it for."""
        return (
            "which of the two is the true history",
            "whether the operator signed both, or somebody who has the log's key",
        )


def parse_fork(data: bytes) -> Fork:
    """Return what stands in a fork file.

    Raises:
        MalformedError: `format_fork` makes no such file.
    """
    fields = check_fields(
        parse_json(data, limit=MAX_FORK), "a fork", _REQUIRED, dict(_GROWN)
    )
    if fields["schema"] != SCHEMA:
        raise MalformedError(f"expected the schema {SCHEMA}, got another one")
    if ("root" in fields) != ("hashes" in fields):
        raise MalformedError("expected root and hashes together in a fork")
    hashes = fields.get("hashes", [])
    if len(hashes) > _MAX_HASHES:
        raise MalformedError(f"expected up to {_MAX_HASHES} hashes, got {len(hashes)}")
    fork = Fork(
        fields["a"].encode(),
        fields["b"].encode(),
        parse_hash(fields["root"]) if "root" in fields else None,
        tuple(parse_hash(one) for one in hashes),
    )
    if format_fork(fork) != data:
        raise MalformedError("expected a canonical fork, got another spelling of it")
    return fork


def format_fork(fork: Fork) -> bytes:
    """Return the bytes of a fork file.

    Raises:
        MalformedError: these are no two checkpoints of one log, in order.
    """
    a, b = _unverified(fork.a), _unverified(fork.b)
    if a.origin != b.origin:
        raise MalformedError("expected two checkpoints of one log, got two origins")
    if not 0 < a.size <= b.size:
        raise MalformedError(
            f"expected the smaller tree first, with leaves, got {a.size} and {b.size}"
        )
    if a.size == b.size and a.root > b.root:
        raise MalformedError("expected the smaller root first at equal sizes")
    if (fork.root is None) != (a.size == b.size):
        raise MalformedError("expected root and hashes in a fork if the sizes differ")
    fields: dict[str, object] = {
        "a": fork.a.decode(),
        "b": fork.b.decode(),
        "schema": SCHEMA,
    }
    if fork.root is not None:
        fields["hashes"] = [format_base64(one) for one in fork.hashes]
        fields["root"] = format_base64(fork.root)
    return canonical_json(fields) + b"\n"


def verify_fork(data: bytes, policy: Policy) -> ForkVerdict:
    """Return what a fork file proves.

    The log's keys are those of the policy. No quorum is asked for: a log that signs
    two histories has forked, whoever cosigned them.

    Args:
        data: the file.
        policy: of the verifier.

    Raises:
        MalformedError: the bytes are no fork file.
        UntrustedError: one of the two is signed by no log key of the policy.
        VerificationError: a signature does not verify, or one history can have both.
    """
    fork = parse_fork(data)
    anybody = replace(policy, quorum="none")
    a, b = (open_checkpoint(note, anybody) for note in (fork.a, fork.b))
    (_, size, root), (_, larger, end) = a.checkpoint, b.checkpoint
    other = end
    if fork.root is not None:
        verify_consistency(size, fork.root, larger, end, fork.hashes)
        other = fork.root
    if other == root:
        raise VerificationError(
            f"no fork: both checkpoints have root {root.hex()} at size {size}"
        )
    return ForkVerdict(a.checkpoint.origin, a, b, other)


def _unverified(note: bytes) -> Checkpoint:
    text, _ = split_unverified_note(note)
    return parse_checkpoint(text)
