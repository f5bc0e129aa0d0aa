"""Verification of receipts, offline: the answer of the whole package to an auditor.

A receipt is believed for nothing but what follows from it and from the policy, which
is the verifier's own: log keys, witnesses, quorum (`FORMATS.md` §7). A `Verdict` says
what that is, and what it is not; whatever does not hold raises.

Time is not spoken of here, nor are revoked keys: both take a trust file, and
`auditlog.anchors.verdict`, which adds them to what is found here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple

from auditlog.core.checkpoint import (
    Policy,
    SignedCheckpoint,
    open_checkpoint,
    parse_policy,
)
from auditlog.core.errors import MalformedError, UntrustedError, VerificationError
from auditlog.core.merkle import leaf_hash, verify_inclusion
from auditlog.core.note import ML_DSA_44, Verifier
from auditlog.core.opening import Check, verify_opening
from auditlog.core.proof import TlogProof, parse_tlog_proof
from auditlog.core.receipt import Receipt, Related, parse_receipt
from auditlog.core.record import Entry, format_id, format_time, parse_entry

__all__ = [
    "OWN_TIME",
    "Check",
    "Contradiction",
    "Verdict",
    "compare_receipts",
    "contradictions",
    "parse_receipt",
    "verify_entry",
    "verify_receipt",
]

_AMENDMENT = "auditlog.amendment.v1"
_IDENTITY = ("model.name", "model.version", "model.digest")
OWN_TIME = "when it happened: the time in the entry is the operator's own"
"""What is not proven of the time, where no anchor holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What follows from a receipt that verified, and what does not."""

    claim: str
    """One line that says no more than was checked."""
    checks: tuple[Check, ...]
    not_proven: tuple[str, ...]
    """Each continues "This does not prove"."""
    origin: str
    index: int
    """Of the leaf."""
    size: int
    """Of the tree that was signed."""
    root: bytes
    leaf: bytes
    """Leaf hash of the entry."""
    id: str
    """Of the entry, a UUIDv7 as text."""
    entry_type: str
    signers: tuple[str, ...]
    """Log keys that signed, with the type of the signature."""
    witnesses: tuple[str, ...]
    """Witnesses of the policy that cosigned, with the time that each states."""
    disclosed: tuple[tuple[str, bytes], ...] = ()
    """Path and value of what was opened."""
    seen: tuple[tuple[int, bytes], ...] = ()
    """Size and root of each other tree that the evidence shows signed."""


class Contradiction(NamedTuple):
    """Two verdicts that cannot both be those of an honest log."""

    first: int
    """Position of the earlier verdict."""
    second: int
    what: str


class _Proven(NamedTuple):
    """An entry that stands in a signed tree."""

    entry: Entry
    leaf: bytes
    index: int  # type: ignore[assignment]  # hides tuple.index
    signed: SignedCheckpoint
    checks: tuple[Check, ...]


def verify_receipt(
    receipt: bytes | Receipt, policy: str | Policy, *, require_pq: bool = False
) -> Verdict:
    """Verify a receipt against a policy, offline.

    Args:
        receipt: the file, byte for byte, or what `parse_receipt` made of it.
        policy: C2SP tlog-policy, as text or parsed.
        require_pq: demand an ML-DSA signature of the log.

    Raises:
        MalformedError: receipt or policy do not follow their format.
        VerificationError: the evidence does not hold.
        UntrustedError: signed by no log key of the policy that will do, or by too few
            witnesses.
    """
    believed = policy if isinstance(policy, Policy) else parse_policy(policy)
    opened = receipt if isinstance(receipt, Receipt) else parse_receipt(receipt)
    proven = _prove(opened.entry, _issued(opened.proof), believed, require_pq)
    found, points = verify_opening(proven.entry, opened)
    related = _prove_related(opened.related, proven, believed, require_pq)
    checks, points = [*proven.checks, *found], [*_open_points(believed), *points]
    for entry, _, index, *_ in related:
        checks.append(Check("related", f"{_kind(entry)}, leaf {index} of this log"))
    verdict = _verdict(proven, believed, checks, points + _later_points(opened))
    later = [_kind(one.entry) for one in related if one.entry.type == _AMENDMENT]
    return replace(
        verdict,
        claim="; followed by ".join([verdict.claim, *later]),
        disclosed=tuple((item.path, item.value) for item in opened.disclosures),
        seen=tuple(one.signed.checkpoint[1:] for one in related),
    )


def verify_entry(
    entry: bytes, tlog_proof: bytes, policy: str | Policy, *, require_pq: bool = False
) -> Verdict:
    """Verify an entry with its ``.tlog-proof`` against a policy, offline.

    The arguments and errors are as with `verify_receipt`.

    Raises:
        MalformedError: entry, proof or policy do not follow their format.
        VerificationError: the evidence does not hold.
        UntrustedError: signed by no log key of the policy that will do, or by too few
            witnesses.
    """
    believed = policy if isinstance(policy, Policy) else parse_policy(policy)
    proof = parse_tlog_proof(tlog_proof)
    proven = _prove(entry, proof, believed, require_pq)
    open_points = _open_points(believed)
    if proof.extra not in (None, sha256(proof.checkpoint).digest()):
        open_points.append("anything about the extra data in the proof file")
    return _verdict(proven, believed, proven.checks, open_points)


def compare_receipts(a: bytes, b: bytes, policy: str | Policy) -> None:
    """Verify two receipts, and that one honest log can have given both.

    Raises:
        MalformedError: a receipt or the policy does not follow its format.
        VerificationError: one of them does not hold, or both hold and contradict each
            other, which is evidence of fraud by whoever signed.
    """
    for found in contradictions([verify_receipt(item, policy) for item in (a, b)]):
        raise VerificationError(found.what)


def contradictions(verdicts: Sequence[Verdict]) -> list[Contradiction]:
    """Return the pairs of verdicts that no honest log can have given, in linear time.

    Each verdict is held against the first one that speaks of the same thing.
    """
    known: dict[tuple[Any, ...], tuple[int, object]] = {}
    found = []
    for place, verdict in enumerate(verdicts):
        for subject, value, what in _facts(verdict):
            first, expected = known.setdefault(subject, (place, value))
            if value != expected:
                found.append(Contradiction(first, place, what))
    return found


def _facts(verdict: Verdict) -> Iterator[tuple[tuple[Any, ...], object, str]]:
    """Yield (subject, value, what two values mean) of all that has one value."""
    log, id_, index = verdict.origin, verdict.id, verdict.index
    forked, fraud = f"the log {log} has forked: it signed two", "evidence of fraud:"
    for size, root in ((verdict.size, verdict.root), *verdict.seen):
        yield (log, "root", size), root, f"{forked} trees of size {size}"
    yield (log, "leaf", index), verdict.leaf, f"{forked} entries with index {index}"
    twice = f"{fraud} the log {log} holds two entries with id {id_}"
    yield (log, "id", id_), index, twice
    for path, value in verdict.disclosed:
        what = f"{fraud} two values of {path!r} in one decision, {id_}"
        yield (log, "path", verdict.leaf, path), value, what


def _issued(data: bytes) -> TlogProof:
    """Return a proof of a receipt, whose checksum, if any, is that of its note.

    Lines of unknown keys are ignored in a note, so a damaged signature could pass for
    one. Receipts carry a checksum of the note: no evidence, but damage shows.
    """
    proof = parse_tlog_proof(data)
    if proof.extra not in (None, sha256(proof.checkpoint).digest()):
        raise VerificationError("expected the checkpoint as issued, got a changed note")
    return proof


def _prove(entry: bytes, proof: TlogProof, policy: Policy, require_pq: bool) -> _Proven:
    """Return an entry once it is found under a checkpoint that satisfies the policy."""
    parsed = parse_entry(entry)
    _, index, hashes, note = proof
    signed = open_checkpoint(note, policy)
    types = {item.verifier.type for item in signed.log_signatures}
    if require_pq and ML_DSA_44 not in types:
        raise UntrustedError("expected an ML-DSA signature of the log, got none")
    origin, size, root = signed.checkpoint
    if parsed.source != origin:
        raise VerificationError(
            f"expected an entry of the log {origin[:100]!r}, got one of "
            f"{parsed.source[:100]!r}"
        )
    leaf = leaf_hash(entry)
    verify_inclusion(index, size, leaf, hashes, root)
    checks = [
        Check("entry", f"{_kind(parsed)}, canonical, of {origin}"),
        Check("signature", ", ".join(_signers(signed))),
    ]
    if policy.quorum != "none":
        by = ", ".join(_witnesses(signed))
        checks.append(Check("witnesses", f"quorum {policy.quorum} by {by}"))
    detail = f"leaf {index} of {size}, by {len(hashes)} hashes"
    checks.append(Check("inclusion", detail))
    return _Proven(parsed, leaf, index, signed, tuple(checks))


def _prove_related(
    items: Sequence[Related], main: _Proven, policy: Policy, require_pq: bool
) -> list[_Proven]:
    """Prove each entry told along, and that all stand in one log that never forked."""
    if len({item.entry for item in items}) < len(items):
        raise VerificationError("expected each related entry once, got one twice")
    proven = [_prove(i.entry, _issued(i.proof), policy, require_pq) for i in items]
    id_ = format_id(main.entry.id)
    for item, found in zip(items, proven, strict=True):
        expected = f"auditlog.{item.rel}.v1"
        if (got := found.entry.type) != expected:
            raise VerificationError(f"expected a related {expected}, got {got}")
        if found.entry.source != main.entry.source:
            raise VerificationError("expected a related entry of the same log")
        if expected == _AMENDMENT and found.entry.data.get("decision") != id_:
            raise VerificationError(f"expected amendments of {id_}, got one of another")
        if item.rel == "model":
            _check_model(main, found)
    verdicts = [_verdict(found, policy, (), ()) for found in (main, *proven)]
    for contradiction in contradictions(verdicts):
        raise VerificationError(contradiction.what)
    return proven


def _check_model(decision: _Proven, model: _Proven) -> None:
    """Require a decision to name this entry, which was there, and what it tells of."""
    said, told = decision.entry.data, model.entry.data
    same = all(said.get(key) == told.get(key) for key in _IDENTITY)
    if not same or said.get("model.entry") != format_id(model.entry.id):
        raise VerificationError("expected the model of the decision, got another")
    if model.index > decision.index:
        # Or details and parameters could be made up once somebody asks.
        raise VerificationError("expected a model told of before it decides, got after")


def _signers(signed: SignedCheckpoint) -> tuple[str, ...]:
    return tuple(_named(item.verifier) for item in signed.log_signatures)


def _named(verifier: Verifier) -> str:
    kind = "ML-DSA-44" if verifier.type == ML_DSA_44 else "Ed25519"
    return f"{verifier.key} ({kind})"


def _witnesses(signed: SignedCheckpoint) -> tuple[str, ...]:
    return tuple(
        f"{witness.name}, {_named(witness.verifier)}, at {_moment(seconds)}"
        for witness, seconds in signed.cosignatures
    )


def _moment(seconds: int) -> str:
    try:
        return format_time(seconds * 1_000_000).replace(".000000", "")
    except MalformedError:
        return f"{seconds} s"


def _kind(entry: Entry) -> str:
    name = entry.type.removeprefix("auditlog.").removesuffix(".v1")
    kind = str(entry.data.get("kind")) if entry.type == _AMENDMENT else ""
    # A word only: with more, whoever wrote the entry would write on the verdict.
    said = f" ({kind:.40})" * kind.isidentifier()
    return f"{name}{said} {format_id(entry.id)} of {format_time(entry.time)}"


def _open_points(policy: Policy) -> list[str]:
    """Return what no receipt can prove, in the words of this one."""
    points = [
        "that no other decision was left out of the log",
        "that what the operator recorded is true, or that this model made it",
        OWN_TIME,
        "that no later entry amends it, but those that are told here",
    ]
    if policy.quorum == "none":
        points.append("that nobody was shown another view: no witness was required")
    else:
        points.append("that the witnesses are independent of the operator")
        points.append("that it existed earlier than a witness says to have signed")
    return points


def _later_points(receipt: Receipt) -> list[str]:
    loose = {item.rel for item in receipt.related} - {"amendment", "model"}
    anchors = ["anything by its anchors: that takes a trust file"]
    related = ["that the related entries, though in the log, concern this one"]
    return anchors * bool(receipt.anchors) + related * bool(loose)


def _verdict(
    proven: _Proven, policy: Policy, checks: Sequence[Check], not_proven: Sequence[str]
) -> Verdict:
    origin, size, root = proven.signed.checkpoint
    if policy.quorum == "none":
        by = "signed by the operator only; another view may exist"
    else:
        # A witness may sign with several keys: they share its name, and count once.
        count = len({w.verifier.name for w, _ in proven.signed.cosignatures})
        known = len({witness.verifier.name for witness in policy.witnesses})
        by = f"signed by the operator and cosigned by {count} of {known} witnesses"
    return Verdict(
        claim=f"{_kind(proven.entry)} is entry {proven.index} of the log {origin}, "
        f"{by}",
        checks=tuple(checks),
        not_proven=tuple(not_proven),
        origin=origin,
        index=proven.index,
        size=size,
        root=root,
        leaf=proven.leaf,
        id=format_id(proven.entry.id),
        entry_type=proven.entry.type,
        signers=_signers(proven.signed),
        witnesses=_witnesses(proven.signed),
    )
