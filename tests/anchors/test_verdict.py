"""The verdict with its time: what a receipt claims once its anchors are weighed."""

from collections.abc import Callable
from typing import Any

import pytest

from auditlog.anchors import checking
from auditlog.anchors.attestation import anchor_digest
from auditlog.anchors.batch import aggregate, format_path
from auditlog.anchors.trust import Trust
from auditlog.anchors.verdict import (
    MAX_ANCHORS,
    AnchoredVerdict,
    verify_anchored_entry,
    verify_anchored_receipt,
)
from auditlog.core.checkpoint import parse_policy
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.note import COSIGNATURE_ED25519, ED25519, ML_DSA_44
from auditlog.core.receipt import Anchor, Related
from auditlog.core.record import Entry, format_entry
from auditlog.core.verify import contradictions, verify_receipt
from tests.anchors.stamps import (
    DAY,
    KIND,
    Stamper,
    anchor_of,
    note_of,
    trust_of,
)
from tests.receipts import ORIGIN, TIME, MemoryLog, make_decision, make_id

pytestmark = pytest.mark.usefixtures("stamps_only")

A, B, C = Stamper("TSA A", 1), Stamper("TSA B", 2), Stamper("Ethereum", 3)
DECISION = make_decision()
WINDOW = (
    "what it was at first: until its log was cosigned or anchored, the operator could "
    "write it anew"
)
FIRST = "2026-11-19T11:06:40Z"
SECOND = "2026-11-20T11:06:40Z"
THIRD = "2026-11-21T11:06:40Z"


def make_log(**options: Any) -> MemoryLog:
    """A small log: the decision, then two others."""
    log = MemoryLog(**{"types": (ED25519,), **options})
    log.add(DECISION.entry, make_decision(1).entry, make_decision(2).entry)
    return log


def verify(
    log: MemoryLog, *anchors: Anchor, trust: Trust | None = None, **options: Any
) -> AnchoredVerdict:
    data = log.receipt(DECISION, anchors=anchors, **options.pop("receipt", {}))
    policy = options.pop("policy", log.policy())
    trust = trust_of(A, B, C) if trust is None else trust
    return verify_anchored_receipt(data, policy, trust, **options)


# --- what holds -----------------------------------------------------------------------


def test_one_anchor_bounds_the_time() -> None:
    log = make_log(witness_types=(COSIGNATURE_ED25519,) * 3)
    note = log.checkpoint(cosigners=log.witnesses[:2])
    proof = {"proof": log.proof(0, note=note)}
    verdict = verify(log, anchor_of(log, 0, A), receipt=proof, policy=log.policy("2"))
    assert verdict.claim.endswith(
        f"is entry 0 of the log {ORIGIN}, signed by the operator and cosigned by 2 of "
        f"3 witnesses; existed unchanged before {FIRST}, by TSA A"
    )
    assert verdict.existed_before == TIME + DAY
    assert verdict.anchors == ((KIND, "TSA A", TIME + DAY, "policy 1.2.1"),)
    assert verdict.checks[-1] == (
        "anchor",
        f"{KIND}: the checkpoint of size 3 before {FIRST}, by TSA A: policy 1.2.1",
    )
    assert verdict.not_proven[:3] == (
        f"when it happened: only that it existed before {FIRST}",
        WINDOW,
        "that those who vouch for the time are independent of the operator",
    )
    assert not any("the operator's own" in point for point in verdict.not_proven)
    assert not any("trust file" in point for point in verdict.not_proven)


def test_the_rest_of_the_verdict_is_that_of_core() -> None:
    log = make_log()
    data = log.receipt(DECISION, "request/age", anchors=(anchor_of(log, 0, A),))
    plain = verify_receipt(data, log.policy())
    verdict = verify_anchored_receipt(data, log.policy(), trust_of(A))
    assert verdict.claim.startswith(plain.claim)
    assert verdict.checks[:-1] == plain.checks
    same = ("origin", "index", "size", "root", "leaf", "id", "signers", "disclosed")
    for name in same:
        assert getattr(verdict, name) == getattr(plain, name)
    parsed = verify_anchored_receipt(data, parse_policy(log.policy()), trust_of(A))
    assert parsed == verdict


def test_the_time_is_of_the_entry_not_of_what_followed_it() -> None:
    log = make_log()
    anchor = anchor_of(log, 0, A)
    data = {"decision": verify(log).id, "kind": "answer_withheld"}
    entry = Entry(make_id(8), "auditlog.amendment.v1", ORIGIN, TIME, data)
    at = log.add(format_entry(entry))
    related = (Related("amendment", log.entries[at], log.proof(at)),)
    verdict = verify(log, anchor, receipt={"related": related})
    assert (
        f"; existed unchanged before {FIRST}, by TSA A; followed by amendment "
        "(answer_withheld) "
    ) in verdict.claim


def test_several_anchors_say_the_first_time_and_the_one_that_all_hold() -> None:
    log = make_log()
    anchors = [
        anchor_of(log, 0, stamper, TIME + days * DAY)
        for stamper, days in ((B, 2), (A, 1), (C, 3), (A, 9))
    ]
    verdict = verify(log, *anchors)
    assert verdict.claim.endswith(
        f"; existed unchanged before {FIRST}, by TSA A; before {THIRD}, by TSA A, "
        "TSA B and Ethereum"
    )
    assert verdict.existed_before == TIME + 3 * DAY
    assert len(verdict.anchors) == 4
    same = [anchor_of(log, 0, one) for one in (A, B)]
    claim = f"witnesses; existed unchanged before {FIRST}, by TSA A and TSA B"
    assert verify(log, *same).claim.endswith(claim)


@pytest.mark.parametrize(
    ("wanted", "time", "words"),
    [
        (1, 1, f"before {FIRST}, by TSA A"),
        (2, 2, f"before {SECOND}, by TSA A and TSA B"),
        (3, 3, f"before {THIRD}, by TSA A, TSA B and Ethereum"),
    ],
)
def test_so_many_parties_give_the_time_that_so_many_hold(
    wanted: int, time: int, words: str
) -> None:
    log = make_log()
    anchors = [anchor_of(log, 0, one, TIME + n * DAY) for n, one in ((3, C), (1, A))]
    anchors += [anchor_of(log, 0, B, TIME + n * DAY) for n in (5, 2)]
    verdict = verify(log, *anchors, min_anchors=wanted)
    assert verdict.existed_before == TIME + time * DAY
    assert verdict.claim.endswith(f"; existed unchanged {words}")


def test_a_fraction_of_a_second_is_not_cut_off() -> None:
    log = make_log()
    verdict = verify(log, anchor_of(log, 0, A, TIME + 1))
    assert verdict.claim.endswith("before 2026-11-18T11:06:40.000001Z, by TSA A")


def test_an_anchor_may_see_a_later_tree_than_the_witnesses() -> None:
    log = make_log()
    small = log.proof(0, 2)
    verdict = verify(log, anchor_of(log, 0, A, size=3), receipt={"proof": small})
    assert (verdict.size, verdict.existed_before) == (2, TIME + DAY)
    assert [size for size, _ in verdict.seen] == [3]


def test_without_anchors_a_trust_file_changes_nothing() -> None:
    log = make_log()
    verdict = verify(log)
    plain = verify_receipt(log.receipt(DECISION), log.policy())
    assert verdict.claim == plain.claim
    assert verdict.not_proven == plain.not_proven
    assert (verdict.anchors, verdict.existed_before) == ((), None)


def test_an_entry_with_its_tlog_proof_has_no_anchors() -> None:
    log = make_log()
    proof, policy = log.proof(0), log.policy()
    verdict = verify_anchored_entry(DECISION.entry, proof, policy, trust_of(A))
    assert verdict.existed_before is None
    with pytest.raises(
        UntrustedError, match=r"^expected anchors of 1 distinct parties"
    ):
        verify_anchored_entry(DECISION.entry, proof, policy, trust_of(A), min_anchors=1)


def test_many_logs_share_an_anchor_and_each_receipt_holds_its_own_path() -> None:
    log = make_log()
    note = note_of(log)
    digests = [bytes([number]) * 32 for number in range(7)]
    digests[3] = anchor_digest(note)
    top, paths = aggregate(digests, [bytes([number]) * 16 for number in range(7)])
    evidence = A.stamp(top, TIME + DAY) | {"batch": format_path(paths[3])}
    anchor = Anchor(KIND, log.proof(0, note=note, extra=None), evidence)
    assert verify(log, anchor).existed_before == TIME + DAY
    other = A.stamp(top, TIME + DAY) | {"batch": format_path(paths[2])}
    with pytest.raises(VerificationError, match=rf"^anchor 1 \({KIND}\): "):
        verify(log, anchor._replace(evidence=other))


# --- what proves nothing, and is said so ----------------------------------------------


def test_an_anchor_of_a_stranger_proves_nothing_and_is_no_tampering() -> None:
    log = make_log()
    anchors = anchor_of(log, 0, B), anchor_of(log, 0, A)
    verdict = verify(log, *anchors, trust=trust_of(A))
    assert verdict.claim.endswith(f"before {FIRST}, by TSA A")
    assert verdict.not_proven[-1] == (
        f"anything by anchor 1 ({KIND}): expected a stamp by an authority of the trust "
        "file"
    )
    nobody = verify(log, *anchors, trust=Trust())
    assert nobody.existed_before is None
    assert nobody.claim.endswith("witnesses")
    point = "when it happened: the time in the entry is the operator's own"
    assert point in nobody.not_proven


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("evm2", "evm2"),
        ("", "?"),
        ("k" * 5000, "k" * 40),
        ("\x1b[31m", "?"),
        ("ots): before 1999, by Bitcoin (x", "?"),
    ],
    ids=range(5),
)
def test_a_kind_that_is_not_known_proves_nothing(kind: str, shown: str) -> None:
    log = make_log()
    verdict = verify(log, anchor_of(log, 0, A)._replace(kind=kind))
    assert verdict.existed_before is None
    assert verdict.not_proven[-1].startswith(f"anything by anchor 1 ({shown}): this")
    assert "this version checks evm, ots, rfc3161, not" in verdict.not_proven[-1]
    assert len(verdict.not_proven[-1]) < 200


def test_what_cannot_be_checked_here_proves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lacking(*_: Any) -> Any:
        raise AuditLogError("install decision-auditlog[rfc3161] to check this")

    monkeypatch.setitem(checking.KINDS, KIND, lacking)
    log = make_log()
    verdict = verify(log, anchor_of(log, 0, A))
    assert verdict.existed_before is None
    assert verdict.not_proven[-1].endswith(
        "install decision-auditlog[rfc3161] to check this"
    )
    with pytest.raises(
        UntrustedError,
        match=r"^expected anchors of 1 distinct parties, got 0; not anything by "
        r"anchor 1 \(rfc3161\): install decision-auditlog",
    ):
        verify(log, anchor_of(log, 0, A), min_anchors=1)


def test_a_note_by_a_key_that_the_policy_does_not_list_proves_nothing() -> None:
    log, strong = make_log(), make_log(types=(ML_DSA_44,))
    verdict = verify(log, anchor_of(strong, 0, A))
    assert verdict.existed_before is None
    assert "expected a signature by " in verdict.not_proven[-1]


def test_anchored_notes_too_need_a_post_quantum_signature_where_it_is_demanded() -> (
    None
):
    both, weak = make_log(types=(ED25519, ML_DSA_44)), make_log()
    anchors = anchor_of(weak, 0, A), anchor_of(both, 0, B, TIME + 2 * DAY)
    assert verify(both, *anchors).existed_before == TIME + 2 * DAY
    verdict = verify(both, *anchors, require_pq=True)
    assert [bound.party for bound in verdict.anchors] == ["TSA B"]
    assert "expected an ML-DSA signature of the log" in verdict.not_proven[-1]
    with pytest.raises(UntrustedError, match="an ML-DSA signature of the log"):
        verify(weak, *anchors, require_pq=True)


# --- attacks --------------------------------------------------------------------------


def rewritten() -> MemoryLog:
    """The same operator, keys and sizes; the entry after ours is another one."""
    log = make_log()
    log.entries[1] = make_decision(77).entry
    return log


def moved(anchor: Anchor, **changes: Any) -> Anchor:
    return anchor._replace(evidence={**anchor.evidence, **changes})


def in_batch(change: Callable[[dict[str, Any]], None]) -> Anchor:
    log = make_log()
    note = note_of(log)
    digests = [bytes([number]) * 32 for number in range(7)]
    digests[3] = anchor_digest(note)
    top, paths = aggregate(digests, [bytes([number]) * 16 for number in range(7)])
    path = format_path(paths[3])
    change(path)
    evidence = A.stamp(top, TIME + DAY) | {"batch": path}
    return Anchor(KIND, log.proof(0, note=note, extra=None), evidence)


HONEST = make_log()
GOOD = anchor_of(HONEST, 0, A)
FORGER = rewritten()


@pytest.mark.parametrize(
    ("anchor", "error", "message"),
    [
        pytest.param(
            GOOD._replace(proof=FORGER.proof(0, note=note_of(FORGER), extra=None)),
            VerificationError,
            "expected a stamp of this digest, got another",
            id="a rewritten root, signed again",
        ),
        pytest.param(
            GOOD._replace(
                proof=HONEST.proof(0, 2, note=note_of(HONEST, 2), extra=None)
            ),
            VerificationError,
            "expected a stamp of this digest, got another",
            id="another note of the log",
        ),
        pytest.param(
            anchor_of(HONEST, 1, A),
            VerificationError,
            "inclusion proof leads to root",
            id="another entry's proof",
        ),
        pytest.param(
            Anchor(
                KIND,
                HONEST.proof(0, extra=None),
                A.stamp(anchor_digest(HONEST.checkpoint()), TIME),
            ),
            VerificationError,
            "expected the anchored note as first signed, by nobody but its log",
            id="a note with cosignatures",
        ),
        pytest.param(
            moved(GOOD, policy="1.2.2"),
            VerificationError,
            "expected a stamp of this digest, got another",
            id="another party's name",
        ),
        pytest.param(
            moved(GOOD, time=TIME),
            VerificationError,
            "expected a stamp of this digest, got another",
            id="an earlier time",
        ),
        pytest.param(
            moved(GOOD, status="final"),
            MalformedError,
            "expected a stamp with the fields",
            id="a field too many",
        ),
        pytest.param(
            GOOD._replace(evidence="AA=="),
            MalformedError,
            "expected evidence as a JSON object",
            id="no object",
        ),
        pytest.param(
            in_batch(lambda path: path.update(index=2)),
            VerificationError,
            "inclusion proof leads to root",
            id="path index",
        ),
        pytest.param(
            in_batch(lambda path: path.update(size=8)),
            VerificationError,
            "expected a stamp of this digest, got another",
            id="path size",
        ),
        pytest.param(
            in_batch(lambda path: path["hashes"].__setitem__(0, path["hashes"][1])),
            VerificationError,
            "inclusion proof leads to root",
            id="path hash",
        ),
        pytest.param(
            in_batch(lambda path: path.update(root=path["hashes"][1])),
            VerificationError,
            "inclusion proof leads to root",
            id="path root",
        ),
        pytest.param(
            in_batch(lambda path: path.update(salt="AAAAAAAAAAAAAAAAAAAAAA==")),
            VerificationError,
            "inclusion proof leads to root",
            id="path salt",
        ),
        pytest.param(
            in_batch(lambda path: path.update(x=1)),
            MalformedError,
            "expected a batch path with the fields",
            id="path field",
        ),
    ],
)
def test_evidence_that_does_not_hold_refuses_the_receipt(
    anchor: Anchor, error: type[AuditLogError], message: str
) -> None:
    with pytest.raises(error) as caught:
        verify(HONEST, anchor_of(HONEST, 0, B), anchor)
    assert type(caught.value) is error
    assert str(caught.value).startswith(f"anchor 2 ({KIND}): {message}")


def test_one_party_counts_once() -> None:
    again = Stamper("TSA A", 4)
    anchors = [anchor_of(HONEST, 0, one) for one in (A, A, again)]
    trust = trust_of(A, again)
    assert len(verify(HONEST, *anchors, trust=trust).anchors) == 3
    with pytest.raises(
        UntrustedError, match=r"^expected anchors of 2 distinct parties, got 1$"
    ):
        verify(HONEST, *anchors, trust=trust, min_anchors=2)


def test_a_liar_cannot_back_date_what_two_must_see() -> None:
    back = anchor_of(HONEST, 0, A, TIME - 1000 * DAY)
    honest = [anchor_of(HONEST, 0, one, TIME + 5 * DAY) for one in (B, C)]
    verdict = verify(HONEST, back, *honest, min_anchors=2)
    assert verdict.existed_before == TIME + 5 * DAY


def test_an_operator_who_rewrites_and_anchors_both_has_forked_his_log() -> None:
    # Both are signed, and both were seen by an authority; each alone would hold.
    main = FORGER.receipt(DECISION, anchors=(anchor_of(HONEST, 0, A),))
    with pytest.raises(
        VerificationError, match="forked: it signed two trees of size 3"
    ):
        verify_anchored_receipt(main, HONEST.policy(), trust_of(A))
    # A fork shows even where the evidence of the other note is not believed.
    with pytest.raises(
        VerificationError, match="forked: it signed two trees of size 3"
    ):
        verify_anchored_receipt(main, HONEST.policy(), Trust())
    between = anchor_of(HONEST, 0, A), anchor_of(FORGER, 0, B)
    small = {"proof": HONEST.proof(0, 1)}
    with pytest.raises(
        VerificationError, match="forked: it signed two trees of size 3"
    ):
        verify(HONEST, *between, receipt=small)


def test_anchored_trees_are_held_against_other_receipts() -> None:
    small = {"proof": HONEST.proof(0, 1)}
    first = verify(HONEST, anchor_of(HONEST, 0, A), receipt=small)
    second = verify(HONEST, anchor_of(FORGER, 0, A), receipt=small)
    assert contradictions([first, first]) == []
    (found,) = contradictions([first, second])
    assert found.what.endswith("forked: it signed two trees of size 3")


def test_too_many_anchors_are_not_looked_at() -> None:
    anchors = [GOOD] * (MAX_ANCHORS + 1)
    assert len(verify(HONEST, *anchors[1:]).anchors) == MAX_ANCHORS
    with pytest.raises(
        MalformedError, match=r"^expected up to 64 anchors in a receipt$"
    ):
        verify(HONEST, *anchors)
