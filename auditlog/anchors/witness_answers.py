"""What the answer of a witness means, given that it may lie.

=======================================  ============================================
answer                                   raised
=======================================  ============================================
409 with a larger size, 409 without      `RollbackError`, if it also shows a checkpoint
one, 422                                 that the log signed and we do not continue;
                                         else plain `AuditLogError`
403, 404                                 `UntrustedError`: it does not know our key
bad signatures, times not of today       `VerificationError`
not what the protocol says               `MalformedError`
429, 5xx, refused, too slow              plain `AuditLogError`: try again later
=======================================  ============================================

A `RollbackError` stops the log from signing, so a claim is not enough for it: one
witness that lies could stop every log that asks it. A checkpoint signed by the log's
own key is proof, whoever shows it. A witness shows it at ``GET <url>/<hex
sha256(origin)>/checkpoint`` (tlog-witness main, 2026-07); one that follows v1.0.0 may
not have this path, and then its refusal is an error that people have to look at.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from auditlog.anchors.http import Endpoint, Response, get
from auditlog.core.checkpoint import Checkpoint, Witness, parse_checkpoint
from auditlog.core.encoding import parse_decimal
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    RollbackError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.merkle import verify_consistency
from auditlog.core.note import Signature, Verifier, open_note, split_unverified_note

__all__ = [
    "SIZE_TYPE",
    "BusyError",
    "Consistency",
    "Peer",
    "Question",
    "contradicted",
    "larger",
    "refusal",
    "size_seen",
    "verified_line",
]

Consistency = Callable[[int, int], tuple[bytes, ...]]
"""(old size, new size) -> consistency proof of the log's own tree."""

SIZE_TYPE = "text/x.tlog.size"
"""Media type of a 409 that says which size the witness saw last."""

_MAX_SKEW = 300.0
"""Seconds between a witness's clock and ours."""
_BUSY = (429, 503)


class Question(NamedTuple):
    """What is asked of every witness."""

    note: bytes
    size: int
    consistency: Consistency
    newest: Callable[[], int] | None
    log_keys: tuple[Verifier, ...]
    timeout: float
    now: float

    @property
    def checkpoint(self) -> Checkpoint:
        """What the note says."""
        return parse_checkpoint(split_unverified_note(self.note)[0])

    def newest_size(self) -> int:
        """Return the size of the newest checkpoint that this log knows of."""
        return self.size if self.newest is None else self.newest()


class Peer(NamedTuple):
    """A server that is being asked."""

    name: str
    """Of the witness, or witnesses, in the policy."""
    endpoint: Endpoint
    deadline: float
    """Of the whole conversation, on the clock of `time.monotonic`."""


class BusyError(AuditLogError):
    """A witness that said when to come back."""

    def __init__(self, message: str, seconds: int) -> None:
        """Keep how long it asks us to wait."""
        super().__init__(message)
        self.seconds = seconds


def size_seen(peer: Peer, body: bytes) -> int:
    """Return the size in the body of a 409.

    Raises:
        MalformedError: there is none.
    """
    text = body.decode("ascii", "replace")
    try:
        seen = parse_decimal(text.removesuffix("\n"))
    except MalformedError:
        seen = -1
    if seen < 0 or not text.endswith("\n"):
        raise MalformedError(
            f"witness {peer.name}: expected a size and a newline in a 409"
        )
    return seen


def larger(peer: Peer, question: Question, seen: int) -> AuditLogError:
    """Return what it means that a witness says it saw more than it is asked about."""
    newest = question.newest_size()
    if seen <= newest:
        return AuditLogError(
            f"witness {peer.name} has already seen size {seen}: somebody asked it with "
            f"a newer checkpoint than the one of size {question.size}"
        )
    return _judge(
        peer, question, f"says it has seen size {seen} of this log's {newest}"
    )


def contradicted(peer: Peer, question: Question, status: int) -> AuditLogError:
    """Return what it means that a witness does not find our past consistent."""
    return _judge(peer, question, f"refuses our history ({status})")


def _judge(peer: Peer, question: Question, claim: str) -> AuditLogError:
    """Return a rollback if the witness can show one; if not, say what it shows."""
    try:
        shown = _shown(peer, question)
    except AuditLogError as error:
        return AuditLogError(
            f"witness {peer.name} {claim}, but shows nothing that this log signed to "
            f"prove it ({error}): ask its operator"
        )
    newest = question.newest_size()
    if shown.size > newest:
        return RollbackError(
            f"witness {peer.name} has seen size {shown.size}, this log has only "
            f"{newest}: was it restored from an old backup?"
        )
    if shown.size > question.size:
        return AuditLogError(
            f"witness {peer.name} {claim}: somebody asked it with a newer checkpoint "
            f"than the one of size {question.size}"
        )
    if _continues(question, shown):
        return AuditLogError(
            f"witness {peer.name} {claim}, but the checkpoint that it shows, of size "
            f"{shown.size}, is our past: ask its operator"
        )
    return RollbackError(
        f"witness {peer.name} {claim}: it is not consistent with what this log signed "
        f"at size {shown.size}; does a copy of this log go on elsewhere?"
    )


def _shown(peer: Peer, question: Question) -> Checkpoint:
    """Return the checkpoint of this log, signed by it, that a witness shows.

    Raises:
        AuditLogError: it shows none.
    """
    origin = question.checkpoint.origin
    path = f"/{sha256(origin.encode()).hexdigest()}/checkpoint"
    response = get(peer.endpoint, path, peer.deadline)
    if response.status != 200:
        raise AuditLogError(f"its monitoring path answers {response.status}")
    note = open_note(response.body, question.log_keys)
    shown = parse_checkpoint(note.text)
    if shown.origin != origin:
        raise VerificationError("it shows a checkpoint of another log")
    return shown


def _continues(question: Question, shown: Checkpoint) -> bool:
    """Say whether our tree begins with the one that a witness shows."""
    _, size, root = question.checkpoint
    hashes: tuple[bytes, ...] = ()
    if 0 < shown.size < size:
        hashes = question.consistency(shown.size, size)
    try:
        verify_consistency(shown.size, shown.root, size, root, hashes)
    except VerificationError:
        return False
    return True


def refusal(peer: Peer, response: Response) -> AuditLogError:
    """Say what another status than 200, 409 or 422 means for the operator."""
    status, name = response.status, peer.name
    if status in {403, 404}:
        return UntrustedError(
            f"witness {name} at {peer.endpoint.url} does not know this log or its key "
            f"({status}): have its operator add the vkeys of this log"
        )
    if status in _BUSY and response.retry_after:
        return BusyError(
            f"witness {name} cannot answer now ({status}), and asks to wait for "
            f"{response.retry_after} s",
            response.retry_after,
        )
    if status in _BUSY or status >= 500:
        return AuditLogError(f"witness {name} cannot answer now ({status})")
    if 300 <= status < 400:
        return MalformedError(
            f"witness {name} redirects ({status}), which is not followed: put its "
            "final URL into the policy"
        )
    return MalformedError(f"witness {name} answered with status {status}")


def verified_line(witness: Witness, question: Question, lines: bytes) -> Signature:
    """Return the witness's own signature among the lines of a 200.

    Raises:
        UntrustedError: there is none.
        VerificationError: it does not verify, or states a time that is not now.
        MalformedError: these are no signature lines, or two are by its key.
    """
    text, _ = split_unverified_note(question.note)
    try:
        note = open_note(text + b"\n" + lines, [witness.verifier])
    except UntrustedError:
        raise UntrustedError(
            f"witness {witness.name} answered without a signature by its key "
            f"{witness.verifier.key}"
        ) from None
    except MalformedError as error:
        raise MalformedError(f"witness {witness.name}: {error}") from None
    if note.text != text:
        # The answer held an empty line: what it signs is not our checkpoint.
        raise MalformedError(
            f"witness {witness.name}: expected signature lines, got another text"
        )
    (signature,) = note.signatures
    # Whoever trusts the time of a cosignature must not be told an earlier one either.
    if abs(signature.timestamp - question.now) > _MAX_SKEW:
        raise VerificationError(
            f"witness {witness.name} signed the time {signature.timestamp}; expected "
            f"one within {_MAX_SKEW:.0f} s of {question.now:.0f}: see whose clock is "
            "wrong"
        )
    return signature
