"""Ask witnesses to cosign a checkpoint (C2SP tlog-witness), believing none of them.

A witness is told what the log grew from and to, with a consistency proof, and answers
with signature lines. Nothing it sends is used before its own key, from the operator's
policy, has verified it over the log's own note. What a refusal means:

=====================================  ==============================================
answer                                 raised
=====================================  ==============================================
409, a larger size than ours           `RollbackError`: our past is missing something
409 without a size, 422                `RollbackError`: our pasts differ
403, 404                               `UntrustedError`: it does not know our key
bad signatures, time 0 or in future    `VerificationError`
not what the protocol says             `MalformedError`
429, 5xx, refused, too slow            plain `AuditLogError`: try again later
=====================================  ==============================================
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from auditlog.anchors.http import Endpoint, Response, parse_endpoint, post
from auditlog.core.checkpoint import Witness
from auditlog.core.encoding import parse_decimal
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    RollbackError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.note import Signature, open_note, split_unverified_note
from auditlog.core.proof import AddCheckpoint, format_add_checkpoint

__all__ = ["Consistency", "Cosigned", "WitnessResult", "ask_witness", "ask_witnesses"]

Consistency = Callable[[int, int], tuple[bytes, ...]]
"""(old size, new size) -> consistency proof of the log's own tree."""

_ATTEMPTS = 3
_MAX_REQUEST = 1 << 14
"""Deployed witnesses refuse more."""
_MAX_AHEAD = 300.0
"""Seconds that a witness's clock may be ahead of ours."""
_MAX_THREADS = 32
_SIZE_TYPE = "text/x.tlog.size"
_TOO_MANY_REQUESTS = 429


class Cosigned(NamedTuple):
    """What a witness signed."""

    size: int
    """Size of the checkpoint."""
    lines: tuple[Signature, ...]
    """Verified: whose key, the time it states, and the line for the note."""


class WitnessResult(NamedTuple):
    """What came of asking one witness of the policy: one of the two is set."""

    witness: Witness
    cosigned: Cosigned | None
    error: AuditLogError | None

    @property
    def url(self) -> str:
        """Where the witness was asked."""
        return self.witness.url or ""

    @property
    def cosignatures(self) -> tuple[Signature, ...]:
        """The lines it signed; none with an error."""
        return () if self.cosigned is None else self.cosigned.lines

    @property
    def retryable(self) -> bool:
        """Whether asking again may help, with nothing changed by an operator."""
        return type(self.error) is AuditLogError


class _Question(NamedTuple):
    """What is asked of every witness."""

    note: bytes
    size: int
    consistency: Consistency
    newest: Callable[[], int] | None
    timeout: float
    now: float


def ask_witness(
    witness: Witness,
    note: bytes,
    size: int,
    consistency: Consistency,
    known_size: int | None = None,
    *,
    now: float,
    timeout: float = 10.0,
    newest: Callable[[], int] | None = None,
) -> Cosigned:
    """Have one witness cosign a checkpoint.

    Args:
        witness: name, key and URL, from the policy.
        note: the checkpoint as first signed, with the log's own signatures only.
        size: the checkpoint's size.
        consistency: makes the proof from the size that the witness saw last.
        known_size: that size as far as we know; None if we do not.
        now: seconds since the epoch.
        timeout: seconds for the whole conversation, name look-up excepted.
        newest: returns the size of the log's newest checkpoint, if `note` may not be
            the newest any more: a witness that has seen more than `note`, but not
            more than that, was asked by another process and proves no rollback.

    Raises:
        RollbackError: the witness has seen a larger tree of this log, or another one.
        VerificationError: what it answers does not verify.
        UntrustedError: it does not know this log, or not its key.
        MalformedError: it does not speak the protocol.
        ConfigurationError: it has no usable URL.
        AuditLogError: it cannot answer now; ask again later.
    """
    question = _Question(note, size, consistency, newest, timeout, now)
    (result,) = _ask([witness], question, known_size)
    if result.cosigned is None:
        assert result.error is not None
        raise result.error
    return result.cosigned


def ask_witnesses(
    witnesses: Sequence[Witness],
    note: bytes,
    size: int,
    consistency: Consistency,
    known_sizes: Mapping[str, int] | None = None,
    *,
    now: float,
    timeout: float = 10.0,
    newest: Callable[[], int] | None = None,
) -> list[WitnessResult]:
    """Ask all witnesses of a policy at once; none waits for another.

    Witnesses with one URL are one server with several keys and get one request.
    Those without a URL are not asked, and have no result.

    Args:
        witnesses: as the policy has them.
        note: the checkpoint as first signed, with the log's own signatures only.
        size: the checkpoint's size.
        consistency: makes consistency proofs; never called by two threads at once.
        known_sizes: by ``witness.verifier.key``, the size that each saw last, where
            we know it; what is missing costs one more request.
        now: seconds since the epoch.
        timeout: seconds for each conversation, name look-up excepted.
        newest: as for `ask_witness`.

    Returns:
        A result for each witness asked, in the order of `witnesses`.
    """
    lock = threading.Lock()

    def one_at_a_time(old: int, new: int) -> tuple[bytes, ...]:
        with lock:
            return consistency(old, new)

    question = _Question(note, size, one_at_a_time, newest, timeout, now)
    groups: dict[str, list[Witness]] = {}
    for witness in witnesses:
        if witness.url is not None:
            groups.setdefault(witness.url.rstrip("/"), []).append(witness)
    if not groups:
        return []
    with ThreadPoolExecutor(min(len(groups), _MAX_THREADS), "ask-witness") as threads:
        futures = [
            threads.submit(_ask, group, question, _known(group, known_sizes or {}))
            for group in groups.values()
        ]
        results = [result for future in futures for result in future.result()]
    by_key = {result.witness.verifier.key: result for result in results}
    return [by_key[w.verifier.key] for w in witnesses if w.url is not None]


def _known(group: Sequence[Witness], sizes: Mapping[str, int]) -> int | None:
    found = [sizes[w.verifier.key] for w in group if w.verifier.key in sizes]
    return max(found, default=None)


def _ask(
    group: Sequence[Witness], question: _Question, known: int | None
) -> list[WitnessResult]:
    """Ask the server behind one URL; give each of its witnesses what is its own."""
    names = " and ".join(witness.name for witness in group)
    try:
        lines = _converse(names, group[0].url, question, known)
    except AuditLogError as error:
        return [WitnessResult(witness, None, error) for witness in group]
    return [_result(witness, question, lines) for witness in group]


def _converse(
    name: str, url: str | None, question: _Question, known: int | None
) -> bytes:
    """Return the signature lines of a 200, having told the server what it missed."""
    if url is None:
        raise ConfigurationError(f"the policy gives no URL for witness {name}")
    endpoint = parse_endpoint(url)
    deadline = time.monotonic() + question.timeout
    old = min(known or 0, question.size)
    for _ in range(_ATTEMPTS):
        response = post(endpoint, "/add-checkpoint", _body(question, old), deadline)
        if response.status == 200:
            return response.body
        if response.status != 409 or response.content_type != _SIZE_TYPE:
            raise _refusal(name, endpoint, response)
        old = _size_seen(name, question, response.body)
    raise AuditLogError(
        f"witness {name} answered {_ATTEMPTS} requests with another size each time"
    )


def _body(question: _Question, old: int) -> bytes:
    hashes: tuple[bytes, ...] = ()
    if 0 < old < question.size:
        hashes = question.consistency(old, question.size)
    body = format_add_checkpoint(AddCheckpoint(old, hashes, question.note))
    if len(body) > _MAX_REQUEST:
        raise MalformedError(
            f"expected a request of up to {_MAX_REQUEST} bytes, got {len(body)}: send "
            "the log's own signatures only"
        )
    return body


def _size_seen(name: str, question: _Question, body: bytes) -> int:
    """Return the size in the body of a 409, from which a proof can be made."""
    text = body.decode("ascii", "replace")
    try:
        seen = parse_decimal(text.removesuffix("\n"))
    except MalformedError:
        seen = -1
    if seen < 0 or not text.endswith("\n"):
        raise MalformedError(f"witness {name}: expected a size and a newline in a 409")
    if seen <= question.size:
        return seen
    newest = question.size if question.newest is None else question.newest()
    if seen <= newest:
        raise AuditLogError(
            f"witness {name} has already seen size {seen}: somebody asked it with a "
            f"newer checkpoint than the one of size {question.size}"
        )
    raise RollbackError(
        f"witness {name} has seen size {seen}, this log has only {newest}: was it "
        "restored from an old backup?"
    )


def _refusal(name: str, endpoint: Endpoint, response: Response) -> AuditLogError:
    """Say what a status other than 200, or 409 with a size, means for the operator."""
    status = response.status
    if status in {409, 422}:
        return RollbackError(
            f"witness {name} refuses ({status}): our history is not consistent with "
            "what it saw; does a copy of this log go on elsewhere?"
        )
    if status in {403, 404}:
        return UntrustedError(
            f"witness {name} at {endpoint.url} does not know this log or its key "
            f"({status}): have its operator add the vkeys of this log"
        )
    if status == _TOO_MANY_REQUESTS or status >= 500:
        return AuditLogError(f"witness {name} cannot answer now ({status})")
    if 300 <= status < 400:
        return MalformedError(
            f"witness {name} redirects ({status}), which is not followed: put its "
            "final URL into the policy"
        )
    return MalformedError(f"witness {name} answered with status {status}")


def _result(witness: Witness, question: _Question, lines: bytes) -> WitnessResult:
    try:
        signature = _verify(witness, question, lines)
    except AuditLogError as error:
        return WitnessResult(witness, None, error)
    return WitnessResult(witness, Cosigned(question.size, (signature,)), None)


def _verify(witness: Witness, question: _Question, lines: bytes) -> Signature:
    """Return the witness's own signature among the lines, or raise."""
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
    ahead = signature.timestamp - question.now
    if signature.timestamp == 0 or ahead > _MAX_AHEAD:
        raise VerificationError(
            f"witness {witness.name} signed the time {signature.timestamp}; expected "
            f"one after 0 and up to {_MAX_AHEAD:.0f} s ahead of {question.now:.0f}"
        )
    return signature
