"""Ask witnesses to cosign a checkpoint (C2SP tlog-witness), believing none of them.

A witness is told what the log grew from and to, with a consistency proof, and answers
with signature lines. Nothing it sends is used before its own key, from the operator's
policy, has verified it over the log's own note; what an answer means is said in
`auditlog.anchors.witness_answers`. The status codes are those of tlog-witness v1.0.0
and of its main branch (2026-07), whichever the witness follows.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from auditlog.anchors.http import parse_endpoint, post
from auditlog.anchors.witness_answers import (
    SIZE_TYPE,
    BusyError,
    Consistency,
    Peer,
    Question,
    contradicted,
    larger,
    refusal,
    size_seen,
    verified_line,
)
from auditlog.core.checkpoint import Witness
from auditlog.core.errors import AuditLogError, ConfigurationError, MalformedError
from auditlog.core.note import Signature, Verifier
from auditlog.core.proof import AddCheckpoint, format_add_checkpoint

__all__ = [
    "Consistency",
    "Cosigned",
    "Memory",
    "WitnessResult",
    "ask_witness",
    "ask_witnesses",
]

_ATTEMPTS = 3
_MAX_REQUEST = 1 << 14
"""Deployed witnesses refuse more."""
_MAX_REST = 3600
"""Seconds that a busy witness may ask us to wait."""
_MAX_THREADS = 32


@dataclass(slots=True)
class Memory:
    """What whoever asks witnesses remembers from round to round, to ask less."""

    sizes: dict[str, int] = field(default_factory=dict)
    """By ``witness.verifier.key``, the size that each cosigned last."""
    resting: dict[str, float] = field(default_factory=dict)
    """By URL, until when (`time.monotonic`) that server asked to be left alone; an hour
    at most."""


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


def ask_witness(
    witness: Witness,
    note: bytes,
    size: int,
    consistency: Consistency,
    known_size: int | None = None,
    *,
    log_keys: Sequence[Verifier],
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
        log_keys: the log's own, by which alone a witness can show that the log has
            been larger, or another one.
        now: seconds since the epoch.
        timeout: seconds for the whole conversation, name look-up excepted.
        newest: returns the size of the log's newest checkpoint, if `note` may not be
            the newest any more: a witness that has seen more than `note`, but not
            more than that, was asked by another process and proves no rollback.

    Raises:
        RollbackError: the witness shows a larger tree of this log, or another one,
            signed by the log.
        VerificationError: what it answers does not verify.
        UntrustedError: it does not know this log, or not its key.
        MalformedError: it does not speak the protocol.
        ConfigurationError: it has no usable URL.
        AuditLogError: it cannot answer now, or refuses and cannot show why; ask again
            later.
    """
    question = Question(note, size, consistency, newest, tuple(log_keys), timeout, now)
    (result,) = _ask([witness], question, known_size, {})
    if result.cosigned is None:
        assert result.error is not None
        raise result.error
    return result.cosigned


def ask_witnesses(
    witnesses: Sequence[Witness],
    note: bytes,
    size: int,
    consistency: Consistency,
    memory: Memory | None = None,
    *,
    log_keys: Sequence[Verifier],
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
        memory: from earlier rounds, updated here; without it, one more request each.
        log_keys: as for `ask_witness`.
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

    question = Question(
        note, size, one_at_a_time, newest, tuple(log_keys), timeout, now
    )
    memory = Memory() if memory is None else memory
    groups: dict[str, list[Witness]] = {}
    for witness in witnesses:
        if witness.url is not None:
            groups.setdefault(witness.url.rstrip("/"), []).append(witness)
    if not groups:
        return []
    with ThreadPoolExecutor(min(len(groups), _MAX_THREADS), "ask-witness") as threads:
        futures = [
            threads.submit(
                _ask, group, question, _known(group, memory.sizes), memory.resting
            )
            for group in groups.values()
        ]
        results = [result for future in futures for result in future.result()]
    memory.sizes |= {one.witness.verifier.key: size for one in results if one.cosigned}
    by_key = {result.witness.verifier.key: result for result in results}
    return [by_key[w.verifier.key] for w in witnesses if w.url is not None]


def _known(group: Sequence[Witness], sizes: dict[str, int]) -> int | None:
    found = [sizes[w.verifier.key] for w in group if w.verifier.key in sizes]
    return max(found, default=None)


def _ask(
    group: Sequence[Witness],
    question: Question,
    known: int | None,
    resting: dict[str, float],
) -> list[WitnessResult]:
    """Ask the server behind one URL; give each of its witnesses what is its own."""
    names = " and ".join(witness.name for witness in group)
    url = (group[0].url or "").rstrip("/")
    try:
        _let_rest(names, resting.get(url, 0.0))
        lines = _converse(names, group[0].url, question, known)
    except BusyError as error:
        resting[url] = time.monotonic() + min(error.seconds, _MAX_REST)
        return [WitnessResult(one, None, AuditLogError(str(error))) for one in group]
    except AuditLogError as error:
        return [WitnessResult(witness, None, error) for witness in group]
    resting.pop(url, None)
    return [_result(witness, question, lines) for witness in group]


def _let_rest(name: str, until: float) -> None:
    seconds = until - time.monotonic()
    if seconds > 0:
        raise AuditLogError(
            f"witness {name} is busy, and asked not to be asked for {seconds:.0f} s"
        )


def _converse(
    name: str, url: str | None, question: Question, known: int | None
) -> bytes:
    """Return the signature lines of a 200, having told the server what it missed."""
    if url is None:
        raise ConfigurationError(f"the policy gives no URL for witness {name}")
    deadline = time.monotonic() + question.timeout
    peer = Peer(name, parse_endpoint(url), deadline)
    old = min(known or 0, question.size)
    for _ in range(_ATTEMPTS):
        body = _body(question, old)
        response = post(peer.endpoint, "/add-checkpoint", body, deadline)
        if response.status == 200:
            return response.body
        if response.status not in {409, 422}:
            raise refusal(peer, response)
        if response.status != 409 or response.content_type != SIZE_TYPE:
            raise contradicted(peer, question, response.status)
        old = size_seen(peer, response.body)
        if old > question.size:
            raise larger(peer, question, old)
    raise AuditLogError(
        f"witness {name} answered {_ATTEMPTS} requests with another size each time"
    )


def _body(question: Question, old: int) -> bytes:
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


def _result(witness: Witness, question: Question, lines: bytes) -> WitnessResult:
    try:
        signature = verified_line(witness, question, lines)
    except AuditLogError as error:
        return WitnessResult(witness, None, error)
    return WitnessResult(witness, Cosigned(question.size, (signature,)), None)
