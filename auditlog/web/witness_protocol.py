"""What a witness answers: bytes in, status and bytes out (C2SP tlog-witness).

A witness cosigns a log's checkpoint once it has seen proof that the tree extends the
last one that it cosigned. The checks, in order:

======  =============================================================================
status  answered when
======  =============================================================================
400     the request is malformed, or its old size exceeds the checkpoint's
404     the checkpoint's origin is not a log that this witness serves
403     no key of the log signed it, or one of them seems to have and did not
409     the old size is not what the witness saw last: the body is that size
422     the tree is not proven to extend what the witness saw
429     the log has asked too often today (not in tlog-witness, but customary)
503     the clock is behind what this witness signed last for the log (not in it either)
200     the state is durable: the body is the cosignature lines
======  =============================================================================

Whether a log has asked too often is looked at once its own signature has verified, so
that nobody else can spend what it may do.

tlog-witness v1.0.0 has 409 without a size where its main branch (2026-07) has 422 for
another root at the same size; every other step is the same. The default is main: its
422 cannot be taken for a size that moved, and says "fork" to clients of either text.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from auditlog.core.checkpoint import Checkpoint, parse_checkpoint
from auditlog.core.errors import (
    ConfigurationError,
    ConflictError,
    MalformedError,
    VerificationError,
)
from auditlog.core.merkle import verify_consistency
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    Note,
    Signer,
    Verifier,
    open_note,
    split_unverified_note,
)
from auditlog.core.proof import AddCheckpoint, parse_add_checkpoint
from auditlog.storage.witness_state import Seen, WitnessState

__all__ = [
    "SIZE_TYPE",
    "TEXT_TYPE",
    "Answer",
    "Spec",
    "finish_cosigning",
    "process_add_checkpoint",
]

SIZE_TYPE = "text/x.tlog.size"
"""Media type of a 409 that says which size the witness saw last."""

TEXT_TYPE = "text/plain; charset=utf-8"

Spec = Literal["main", "v1.0.0"]
"""Which text of tlog-witness is followed."""

_log = logging.getLogger("auditlog.witness")


class Answer(NamedTuple):
    """What goes back over HTTP."""

    status: int
    content_type: str
    body: bytes
    retry_after: int = 0
    """Seconds after which to come again; 0 says nothing about it."""


class _Submission(NamedTuple):
    """A request whose checkpoint one of the log's keys has signed."""

    body: bytes
    request: AddCheckpoint
    checkpoint: Checkpoint
    note: Note

    @property
    def tree(self) -> Seen:
        """The tree that the log asks the witness to vouch for."""
        return Seen(self.checkpoint.size, self.checkpoint.root)


def process_add_checkpoint(
    body: bytes,
    state: WitnessState,
    logs: Mapping[str, Sequence[Verifier]],
    signers: Sequence[Signer],
    now: float,
    spec: Spec = "main",
    charge: Callable[[str], int] = lambda origin: 0,
) -> Answer:
    """Answer one add-checkpoint request; cosign only what the state has on disk.

    Args:
        body: the request's body, whatever it holds.
        state: what the witness has seen; moved before anything is signed.
        logs: keys of each log, by origin.
        signers: the witness's keys, all of which cosign.
        now: seconds since the epoch, taken when nothing newer was being answered.
        spec: which text of tlog-witness decides between 409 and 422.
        charge: counts a request of a log, by its origin; returns 0, or the seconds
            that the log has to wait.

    Raises:
        ConfigurationError: the clock stands before 1970, so nothing can be signed.
        StorageError: the state cannot be read, or may not be written; nothing was
            signed.
        AuditLogError: what the state holds is damaged; nothing was signed.
    """
    timestamp = int(now)
    if timestamp < 1:
        raise ConfigurationError(f"expected a clock after 1970, got {timestamp} s")
    submission = _open_submission(body, logs)
    if isinstance(submission, Answer):
        return submission
    wait = charge(submission.checkpoint.origin)
    if wait:
        return _refuse(429, "this log has asked too often")._replace(retry_after=wait)
    refusal = _behind(
        submission.checkpoint.origin, state, signers, timestamp
    ) or _advance(submission, state, timestamp, spec)
    if refusal is not None:
        return refusal
    return Answer(200, TEXT_TYPE, _cosign(submission, state, signers, timestamp))


def _open_submission(
    body: bytes, logs: Mapping[str, Sequence[Verifier]]
) -> _Submission | Answer:
    """Do the checks that need no state."""
    try:
        request = parse_add_checkpoint(body)
        text, _ = split_unverified_note(request.checkpoint)
        checkpoint = parse_checkpoint(text)
        keys = logs.get(checkpoint.origin)
        if keys is None:
            return _refuse(404, f"unknown log {checkpoint.origin!r}")
        note = open_note(request.checkpoint, keys)
    except MalformedError as error:
        return _refuse(400, error)
    except VerificationError as error:
        return _refuse(403, error)
    if request.old_size > checkpoint.size:
        return _refuse(400, f"old size {request.old_size} exceeds the checkpoint's")
    return _Submission(body, request, checkpoint, note)


def _behind(
    origin: str, state: WitnessState, signers: Sequence[Signer], now: int
) -> Answer | None:
    """Refuse while the clock stands before the time that was signed last."""
    cosigned = state.cosigned(origin)
    if cosigned is None:
        return None
    # One of the keys will do, the first being the fastest: all signed the same time.
    known = [signer.verifier for signer in signers[:1]]
    (signed,) = open_note(cosigned, known).signatures
    if signed.timestamp <= now:
        return None
    refusal = _refuse(503, "the clock of this witness is behind what it signed")
    return refusal._replace(retry_after=signed.timestamp - now)


def _advance(
    submission: _Submission, state: WitnessState, now: int, spec: Spec
) -> Answer | None:
    """Check against what was seen before; make the new tree what was seen."""
    origin, tree = submission.checkpoint.origin, submission.tree
    seen = state.latest(origin)
    forked = tree.size == seen.size and tree.root != seen.root
    if forked:
        _keep(submission, state, now, "with another root than the one cosigned", True)
    if submission.request.old_size != seen.size:
        return _conflict(seen)
    if forked:
        return Answer(409 if spec == "v1.0.0" else 422, TEXT_TYPE, b"")
    try:
        verify_consistency(*seen, *tree, submission.request.hashes)
    except (MalformedError, VerificationError) as error:
        _keep(submission, state, now, f"not proven to extend size {seen.size}")
        return _refuse(422, error)
    try:
        state.advance(origin, seen, tree, _log_note(submission.note))
    except ConflictError:
        # Another process moved the state since; it only grows, so old is stale.
        return _conflict(state.latest(origin))
    return None


def _refuse(status: int, reason: object) -> Answer:
    return Answer(status, TEXT_TYPE, f"{reason}\n".encode(errors="backslashreplace"))


def _conflict(seen: Seen) -> Answer:
    return Answer(409, SIZE_TYPE, b"%d\n" % seen.size)


def _keep(
    submission: _Submission,
    state: WitnessState,
    now: int,
    why: str,
    forked: bool = False,
) -> None:
    """Keep a signed checkpoint that is refused: it may show what the log did."""
    origin, tree = submission.checkpoint.origin, submission.tree
    if state.keep_refused(origin, tree, submission.body, now, forked=forked):
        _log.warning(
            "log %s signed a tree of size %d, %s: refused, and kept",
            origin,
            tree.size,
            why,
        )


def _log_note(note: Note) -> bytes:
    """Return the note with the lines of the log's own keys only."""
    return b"".join([note.text, b"\n", *(s.line for s in note.signatures)])


def _cosign(
    submission: _Submission, state: WitnessState, signers: Sequence[Signer], now: int
) -> bytes:
    """Sign what the state holds durably, and keep the result for monitors."""
    text = submission.note.text
    lines = _sign(text, signers, now)
    cosigned = _log_note(submission.note) + lines
    state.keep_cosigned(submission.checkpoint.origin, submission.tree, cosigned)
    return lines


def _sign(text: bytes, signers: Sequence[Signer], now: int) -> bytes:
    if text.count(b"\n") > 3:
        # ML-DSA-44 cosignatures do not cover extension lines.
        signers = [s for s in signers if s.verifier.type == COSIGNATURE_ED25519]
    return b"".join(signer.sign(text, now) for signer in signers)


def finish_cosigning(
    state: WitnessState, origin: str, signers: Sequence[Signer], now: float
) -> None:
    """Cosign what the state holds of a log, if the witness died before it did.

    The state is what the witness vouches for, so it may be signed at any time; without
    this, monitors would be shown an older tree until the log comes again.

    Raises:
        StorageError: the state cannot be read or written.
    """
    pending = state.not_cosigned(origin)
    if pending is None or now < 1 or _behind(origin, state, signers, int(now)):
        return
    tree, note = pending
    text, _ = split_unverified_note(note)
    state.keep_cosigned(origin, tree, note + _sign(text, signers, int(now)))
