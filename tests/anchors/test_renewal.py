"""Evidence that weakens, and the renewals that keep it strong."""

from typing import Any

import pytest

from auditlog.anchors.renewal import MAX_RENEWALS
from auditlog.anchors.trust import Trust
from auditlog.anchors.verdict import AnchoredVerdict, verify_anchored_receipt
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.note import ED25519
from auditlog.core.receipt import Anchor
from tests.anchors.stamps import DAY, KIND, Stamper, anchor_of, renewed, trust_of
from tests.receipts import TIME, MemoryLog, make_decision

pytestmark = pytest.mark.usefixtures("stamps_only")

UNTIL = TIME + 100 * DAY
OLD = Stamper("TSA A", 1, until=UNTIL)
NEW, OTHER = Stamper("TSA B", 2), Stamper("Ethereum", 3)
DECISION = make_decision()


def make_log(**options: Any) -> MemoryLog:
    log = MemoryLog(**{"types": (ED25519,), **options})
    log.add(DECISION.entry, make_decision(1).entry)
    return log


def verify(
    log: MemoryLog, *anchors: Anchor, trust: Trust | None = None, **options: Any
) -> AnchoredVerdict:
    trust = trust_of(OLD, NEW, OTHER) if trust is None else trust
    data = log.receipt(DECISION, size=2, anchors=anchors)
    return verify_anchored_receipt(data, log.policy(), trust, **options)


def aside(verdict: AnchoredVerdict) -> str:
    """Return why its one anchor proves nothing."""
    assert verdict.existed_before is None
    assert verdict.anchors == ()
    start, _, why = verdict.not_proven[-1].partition(": ")
    assert start == f"anything by anchor 1 ({KIND})"
    return why


def test_a_renewal_from_before_keeps_evidence_strong() -> None:
    log = make_log()
    anchor = renewed(log, anchor_of(log, 0, OLD, size=2), NEW, UNTIL - 1)
    verdict = verify(log, anchor)
    assert verdict.existed_before == TIME + DAY
    assert verdict.claim.endswith(
        "existed unchanged before 2026-11-19T11:06:40Z, by TSA A with TSA B"
    )
    assert verdict.anchors[0].party == "TSA A"
    assert verdict.anchors[0].detail == (
        "policy 1.2.1; renewed before 2027-02-26T11:06:39.999999Z by TSA B"
    )


def test_without_one_nothing_is_believed_whatever_time_it_states() -> None:
    log = make_log()
    ends = "TSA A is believed until 2027-02-26T11:06:40.000000Z only"
    for time in (TIME - 1000 * DAY, TIME, UNTIL - 1):
        verdict = verify(log, anchor_of(log, 0, OLD, time, size=2))
        assert aside(verdict) == f"{ends}: expected a renewal from before, got none"
    verdict = verify(log, anchor_of(log, 0, OLD, UNTIL, size=2))
    assert aside(verdict) == f"{ends}, and says 2027-02-26T11:06:40.000000Z"


def test_a_renewal_that_came_too_late_saves_nothing() -> None:
    log = make_log()
    for time in (UNTIL, UNTIL + DAY):
        late = renewed(log, anchor_of(log, 0, OLD, size=2), NEW, time)
        assert "only, and was renewed at 2027-02-2" in aside(verify(log, late))


def test_a_renewal_by_a_stranger_saves_nothing() -> None:
    log = make_log()
    stranger = Stamper("stranger", 9)
    anchor = renewed(log, anchor_of(log, 0, OLD, size=2), stranger, TIME + 2 * DAY)
    assert aside(verify(log, anchor)).endswith(
        "only, and its renewal is not believed: expected a stamp by an authority of "
        "the trust file"
    )


def test_who_is_not_believed_any_more_cannot_renew_what_he_said() -> None:
    log = make_log()
    anchor = renewed(log, anchor_of(log, 0, OLD, size=2), OLD, TIME + 2 * DAY)
    assert aside(verify(log, anchor)).endswith(
        "its renewal is not believed: TSA A is believed until "
        "2027-02-26T11:06:40.000000Z only: expected a renewal from before, got none"
    )


def test_renewals_are_renewed() -> None:
    log = make_log()
    second = Stamper("TSA B", 2, until=UNTIL + 100 * DAY)
    anchor = renewed(log, anchor_of(log, 0, OLD, size=2), second, UNTIL - 1)
    trust = trust_of(OLD, second, OTHER)
    assert "TSA B is believed until" in aside(verify(log, anchor, trust=trust))
    inner = anchor.evidence["renewal"]
    later = Anchor(inner["kind"], inner["proof"].encode(), inner["evidence"])
    again = renewed(log, later, OTHER, UNTIL + 50 * DAY)
    renewal = {**inner, "evidence": again.evidence}
    twice = anchor._replace(evidence={**anchor.evidence, "renewal": renewal})
    verdict = verify(log, twice, trust=trust)
    assert verdict.claim.endswith("by Ethereum with TSA A with TSA B")


def test_who_renews_and_who_is_renewed_count_once() -> None:
    log = make_log()
    anchor = renewed(log, anchor_of(log, 0, OLD, size=2), NEW, TIME + 2 * DAY)
    anchors = anchor, anchor_of(log, 0, NEW, TIME + 3 * DAY, size=2)
    with pytest.raises(
        UntrustedError, match=r"^expected anchors of 2 distinct parties, got 1$"
    ):
        verify(log, *anchors, min_anchors=2)
    third = anchor_of(log, 0, OTHER, TIME + 5 * DAY, size=2)
    assert verify(log, *anchors, third, min_anchors=2).existed_before == TIME + 5 * DAY


def test_a_party_that_lasts_needs_no_renewal_and_may_have_one() -> None:
    log = make_log()
    lasting = Stamper("TSA A", 4)
    trust = trust_of(OLD, lasting, NEW)
    plain = anchor_of(log, 0, lasting, size=2)
    assert verify(log, plain, trust=trust).existed_before == TIME + DAY
    anchor = renewed(log, plain, Stamper("stranger", 9), TIME + 2 * DAY)
    verdict = verify(log, anchor, trust=trust)
    assert verdict.claim.endswith(", by TSA A")


def test_the_table_that_lasts_longest_counts() -> None:
    log = make_log()
    twice = trust_of(OLD, Stamper("TSA A", 1, until=UNTIL + DAY), NEW)
    anchor = renewed(log, anchor_of(log, 0, OLD, size=2), NEW, UNTIL)
    assert verify(log, anchor, trust=twice).existed_before == TIME + DAY


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "AAAA"}, "expected a renewal of this evidence, got another digest"),
        ({"evidence": "AA=="}, "expected a renewal of this evidence, got another evid"),
        ({"kind": "evm"}, "expected a renewal of this evidence, got another kind"),
        ({"state": "pending"}, "expected a renewal of this evidence, got another stat"),
        ({"source": "other.example"}, "expected an entry of the log"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_renewal_of_something_else_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    log = make_log()
    anchor = anchor_of(log, 0, OLD, size=2)
    other = renewed(log, anchor, NEW, TIME + 2 * DAY, **changes)
    with pytest.raises(VerificationError, match=rf"^anchor 1 \({KIND}\): {message}"):
        verify(log, other)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"entry": "{}"}, MalformedError, "expected an entry with the fields"),
        (
            {"entry": DECISION.entry.decode()},
            VerificationError,
            "expected an entry of auditlog.anchor.v1 as renewal, got one of",
        ),
        ({"proof": ""}, MalformedError, "expected"),
        ({"evidence": {}}, MalformedError, "expected a stamp with the fields"),
        ({"more": 1}, MalformedError, "expected a renewal with the fields"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_renewal_that_does_not_hold_refuses_the_receipt(
    change: dict[str, Any], error: type[AuditLogError], message: str
) -> None:
    log = make_log()
    anchor = renewed(log, anchor_of(log, 0, OLD, size=2), NEW, TIME + 2 * DAY)
    renewal = anchor.evidence["renewal"] | change
    changed = anchor._replace(evidence={**anchor.evidence, "renewal": renewal})
    with pytest.raises(error, match=rf"^anchor 1 \({KIND}\): {message}"):
        verify(log, changed)


def test_a_proof_that_does_not_lead_to_the_entry_refuses_the_receipt() -> None:
    log = make_log()
    anchor = renewed(log, anchor_of(log, 0, OLD, size=2), NEW, TIME + 2 * DAY)
    log.add(make_decision(5).entry)
    other = anchor_of(log, 3, NEW, TIME + 2 * DAY)
    renewal = anchor.evidence["renewal"] | {
        "proof": other.proof.decode(),
        "evidence": other.evidence,
    }
    changed = anchor._replace(evidence={**anchor.evidence, "renewal": renewal})
    with pytest.raises(VerificationError, match="inclusion proof leads to root"):
        verify(log, changed)


def test_a_renewal_under_a_fork_is_found() -> None:
    log, fork = make_log(), make_log()
    anchor = renewed(log, anchor_of(log, 0, OLD, size=2), NEW, TIME + 2 * DAY)
    fork.add(make_decision(9).entry)
    both = anchor, anchor_of(fork, 0, OTHER, size=3)
    with pytest.raises(VerificationError, match="it signed two trees of size 3"):
        verify(log, *both)


def test_another_log_renews_nothing() -> None:
    log, other = make_log(), MemoryLog("other.example", types=(ED25519,))
    anchor = renewed(other, anchor_of(log, 0, OLD, size=2), NEW, TIME + 2 * DAY)
    key = other.policy("none").splitlines()[0]
    data = log.receipt(DECISION, size=2, anchors=(anchor,))
    with pytest.raises(
        VerificationError, match=r"^expected renewals by the same log, got another's$"
    ):
        verify_anchored_receipt(
            data, f"{key}\n{log.policy()}", trust_of(OLD, NEW, OTHER)
        )


def test_renewals_of_renewals_end_somewhere() -> None:
    log = make_log()
    chain = [anchor_of(log, 0, NEW, size=2)]
    for _ in range(MAX_RENEWALS + 1):
        made = renewed(log, chain[-1], NEW, TIME + 2 * DAY)
        inner = made.evidence["renewal"]
        chain[-1] = made
        chain.append(Anchor(inner["kind"], inner["proof"].encode(), inner["evidence"]))
    for depth, error in ((MAX_RENEWALS, None), (MAX_RENEWALS + 1, MalformedError)):
        evidence: Any = chain[depth].evidence
        evidence = {name: evidence[name] for name in ("policy", "time", "token")}
        for one in reversed(chain[:depth]):
            renewal = one.evidence["renewal"] | {"evidence": evidence}
            evidence = {**one.evidence, "renewal": renewal}
        anchor = chain[0]._replace(evidence=evidence)
        if error is None:
            assert verify(log, anchor).existed_before == TIME + DAY
        else:
            with pytest.raises(error, match="expected up to 4 renewals of renewals"):
                verify(log, anchor)
