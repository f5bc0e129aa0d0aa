"""What a receipt proves once its anchors are weighed too: the verdict, with its time.

`auditlog.core.verify` says what is in the log, and who signed it. Here that is held
against a trust file: each anchor has a proof of its own of this very entry, under the
note that was anchored; keys may be revoked (`auditlog.anchors.revocation`), and old
evidence may need a renewal (`auditlog.anchors.renewal`). Pure, as they are.

An anchor that holds bounds the time. One that does not hold refuses the receipt. One
that cannot be checked here, or is of nobody whom the trust file names, proves nothing,
and the verdict says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

from auditlog.anchors.attestation import Bound
from auditlog.anchors.claim import claim_of, labels_of, moment, points_of, times_of
from auditlog.anchors.renewal import Held, Scales, anchored_note
from auditlog.anchors.revocation import RevokingPolicy, cosigned_trees
from auditlog.anchors.trust import Trust
from auditlog.core.checkpoint import Policy, parse_policy
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.opening import Check
from auditlog.core.proof import parse_tlog_proof
from auditlog.core.receipt import Anchor, parse_receipt
from auditlog.core.verify import (
    Verdict,
    contradictions,
    verify_entry,
    verify_receipt,
)

__all__ = [
    "MAX_ANCHORS",
    "AnchoredVerdict",
    "verify_anchored_entry",
    "verify_anchored_receipt",
]

MAX_ANCHORS = 64
"""Anchors in a receipt that is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchoredVerdict(Verdict):
    """A verdict that knows of time."""

    anchors: tuple[Bound, ...] = ()
    """What each anchor that holds proves."""
    existed_before: int | None = None
    """Microseconds since the epoch: the entry existed by then, unchanged, by as many
    parties as were asked for, or else by all in `anchors`."""


class _Weighed(NamedTuple):
    """An anchor of a receipt, and what came of it."""

    name: str
    anchor: Anchor
    note: bytes
    held: Held | None
    why_not: str = ""
    tree: Verdict | None = None
    """This entry under the note, once that was signed by its log."""


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a verifier asks for."""

    policy: Policy
    trust: Trust
    min_anchors: int | None
    require_pq: bool

    def narrow(
        self, notes: Iterable[bytes], weighed: Sequence[_Weighed] = ()
    ) -> Policy:
        """Return the policy without what is revoked, for a receipt of these notes."""
        if not self.trust.revocations:
            return self.policy
        held = [(one.note, one.held) for one in weighed if one.held]
        labels = labels_of(one for _, one in held)
        attested = [
            (note, one.bound._replace(party=labels[one.bound.party]))
            for note, one in held
        ]
        return RevokingPolicy(
            **{one.name: getattr(self.policy, one.name) for one in fields(Policy)},
            revocations=self.trust.revocations,
            cosigned=cosigned_trees(notes, self.policy, self.trust.revocations),
            attested=tuple(attested),
            parties=self.min_anchors or 1,
        )

    def trees(self, weighed: Iterable[_Weighed]) -> list[Verdict]:
        """Return every tree that somebody who may speak for the log signed.

        Renewals hold whoever signed them. So a thief could add one, under a tree of
        his own, and have the log look forked: a tree that only revoked keys signed is
        left out.
        """
        found = [one.tree for one in weighed if one.tree]
        held = [one.held for one in weighed if one.held]
        revoked = {one.key for one in self.trust.revocations}
        for tree in (tree for one in held for tree in one.trees):
            signers = {signer.rpartition(" ")[0] for signer in tree.signers}
            if not signers <= revoked:
                found.append(tree)
        return found

    def overlooked(self) -> list[str]:
        """Return which revocations are of no key: a misspelt one revokes nothing."""
        known = {one.verifier.key for one in self.policy.logs}
        return [
            f"anything about the revoked key {one.key}: no log key of the policy has "
            "that name and id"
            for one in self.trust.revocations
            if one.key not in known
        ]


def verify_anchored_receipt(
    receipt: bytes,
    policy: str | Policy,
    trust: Trust,
    *,
    min_anchors: int | None = None,
    require_pq: bool = False,
) -> AnchoredVerdict:
    """Verify the bytes of a receipt, its anchors included, offline.

    Args:
        receipt: the file, byte for byte.
        policy: C2SP tlog-policy, as text or parsed.
        trust: whom to believe about time, and which keys are revoked.
        min_anchors: how many distinct parties must vouch for the time, at least 1;
            None asks for none, and tells of all.
        require_pq: demand an ML-DSA signature of the log.

    Raises:
        MalformedError: receipt or policy do not follow their format.
        VerificationError: the evidence does not hold, that of an anchor included.
        UntrustedError: signed by no log key of the policy that will do, or by too few
            witnesses, or anchored by too few parties.
    """
    believed = policy if isinstance(policy, Policy) else parse_policy(policy)
    rules = _Rules(believed, trust, min_anchors, require_pq)
    opened = parse_receipt(receipt)
    if len(opened.anchors) > MAX_ANCHORS:
        raise MalformedError(f"expected up to {MAX_ANCHORS} anchors in a receipt")
    scales = Scales(trust, replace(believed, quorum="none"))
    weighed = [_weigh(at, one, scales) for at, one in enumerate(opened.anchors, 1)]
    proofs = [opened.proof, *(item.proof for item in opened.related)]
    notes = [parse_tlog_proof(proof).checkpoint for proof in proofs]
    narrowed = rules.narrow(notes, weighed)
    main = verify_receipt(replace(opened, anchors=()), narrowed, require_pq=require_pq)
    unwitnessed = replace(narrowed, quorum="none")
    signed: dict[bytes, Verdict | UntrustedError] = {}
    for one in weighed:  # several anchors may have seen one note
        if one.anchor.proof not in signed:
            found = _tree(one, opened.entry, unwitnessed, require_pq)
            signed[one.anchor.proof] = found
    known = [_with_tree(one, signed[one.anchor.proof]) for one in weighed]
    return _conclude(rules, main, known)


def verify_anchored_entry(
    entry: bytes,
    tlog_proof: bytes,
    policy: str | Policy,
    trust: Trust,
    *,
    min_anchors: int | None = None,
    require_pq: bool = False,
) -> AnchoredVerdict:
    """Verify an entry with its ``.tlog-proof``, which has no anchors, offline.

    The arguments and errors are as with `verify_anchored_receipt`.

    Raises:
        MalformedError: entry, proof or policy do not follow their format.
        VerificationError: the evidence does not hold.
        UntrustedError: signed by no log key of the policy that will do, or by too few
            witnesses; or anchors are asked for.
    """
    believed = policy if isinstance(policy, Policy) else parse_policy(policy)
    rules = _Rules(believed, trust, min_anchors, require_pq)
    narrowed = rules.narrow([parse_tlog_proof(tlog_proof).checkpoint])
    main = verify_entry(entry, tlog_proof, narrowed, require_pq=require_pq)
    return _conclude(rules, main, [])


def _weigh(at: int, anchor: Anchor, scales: Scales) -> _Weighed:
    """Return what an anchor proves of its note, or why it proves nothing."""
    # A word only: with more, whoever made the receipt would write on the verdict.
    kind = anchor.kind if anchor.kind.isidentifier() else "?"
    name = f"anchor {at} ({kind[:40]})"
    note = b""
    try:
        note = anchored_note(anchor.proof)
        held = scales.weigh(anchor.kind, note, anchor.evidence)
    except UntrustedError as error:
        return _Weighed(name, anchor, note, None, str(error))
    except (MalformedError, VerificationError) as error:
        raise _named(name, error) from None
    except AuditLogError as error:
        return _Weighed(name, anchor, note, None, str(error))
    return _Weighed(name, anchor, note, held)


def _named(name: str, error: AuditLogError) -> AuditLogError:
    """Return an error that says which anchor it is about."""
    kind = MalformedError if isinstance(error, MalformedError) else VerificationError
    return kind(f"{name}: {error}")


def _tree(
    one: _Weighed, entry: bytes, policy: Policy, require_pq: bool
) -> Verdict | UntrustedError:
    """Require an anchored note to cover this entry, and look who signed it.

    Returns:
        The tree, or why nobody who is believed signed it.
    """
    try:
        return verify_entry(entry, one.anchor.proof, policy, require_pq=require_pq)
    except UntrustedError as error:
        return error
    except (MalformedError, VerificationError) as error:
        raise _named(one.name, error) from None


def _with_tree(one: _Weighed, tree: Verdict | UntrustedError) -> _Weighed:
    """Return an anchor without what it proves, if nobody who is believed signed."""
    if isinstance(tree, Verdict):
        return one._replace(tree=tree)
    return one._replace(held=None, why_not=str(tree))


def _conclude(
    rules: _Rules, main: Verdict, weighed: Sequence[_Weighed]
) -> AnchoredVerdict:
    """Return the verdict on evidence all of which holds, each part alone."""
    held = [one.held for one in weighed if one.held]
    trees = rules.trees(weighed)
    if any(tree.origin != main.origin for tree in trees):
        raise VerificationError("expected renewals by the same log, got another's")
    for contradiction in contradictions([main, *trees]):
        raise VerificationError(contradiction.what)
    times = times_of(held)
    aside = [f"anything by {o.name}: {o.why_not}" for o in weighed if not o.held]
    existed, claim = claim_of(times, rules.min_anchors, aside)
    known = {one.name: getattr(main, one.name) for one in fields(Verdict)}
    seen = (*main.seen, *((tree.size, tree.root) for tree in trees))
    known |= {
        "claim": _with_time(main.claim, claim),
        "checks": (*main.checks, *map(_check, (one for one in weighed if one.held))),
        "not_proven": (*points_of(main, existed), *rules.overlooked(), *aside),
        "seen": tuple(dict.fromkeys(seen)),
    }
    bounds = tuple(one.bound for one in held)
    return AnchoredVerdict(**known, anchors=bounds, existed_before=existed)


def _with_time(main: str, claim: str) -> str:
    """Return a claim with a time, which is of the entry, not of what followed it."""
    entry, followed, later = main.partition("; followed by ")
    return f"{entry}{claim}{followed}{later}"


def _check(one: _Weighed) -> Check:
    assert one.held is not None
    assert one.tree is not None
    kind, party, time, detail = one.held.bound
    under = f"the checkpoint of size {one.tree.size}"
    return Check(
        "anchor", f"{kind}: {under} before {moment(time)}, by {party}: {detail}"
    )
