"""Revoked log keys: what they signed counts up to the last good checkpoint, no more."""

import base64
from dataclasses import fields, replace
from typing import Any, ClassVar

import pytest

from auditlog.anchors.trust import Revocation, Trust
from auditlog.anchors.verdict import (
    AnchoredVerdict,
    verify_anchored_entry,
    verify_anchored_receipt,
)
from auditlog.core.checkpoint import (
    Checkpoint,
    Policy,
    parse_checkpoint,
    parse_policy,
)
from auditlog.core.errors import UntrustedError, VerificationError
from auditlog.core.note import (
    ED25519,
    ML_DSA_44,
    Verifier,
    split_unverified_note,
)
from auditlog.core.receipt import Anchor, Related
from auditlog.core.record import Entry, format_entry
from tests.anchors.stamps import DAY, Stamper, anchor_of, note_of, renewed, trust_of
from tests.receipts import ORIGIN, TIME, MemoryLog, make_decision, make_id

pytestmark = pytest.mark.usefixtures("stamps_only")

A, B = Stamper("TSA A", 1), Stamper("TSA B", 2)
DECISION = make_decision()
LOST = TIME + 10 * DAY
"""When the key was lost."""


def make_log(**options: Any) -> MemoryLog:
    log = MemoryLog(**{"types": (ED25519,), **options})
    log.add(DECISION.entry, *(make_decision(number).entry for number in range(1, 5)))
    return log


LOG = make_log()


def root_of(log: MemoryLog, size: int) -> bytes:
    return parse_checkpoint(split_unverified_note(log.checkpoint(size))[0]).root


def revoked(
    log: MemoryLog = LOG, size: int = 3, *, key: int = 0, **changes: Any
) -> Revocation:
    """Say that the last good checkpoint of a key of the log had this size."""
    name = log.signers[key].verifier.key
    return replace(Revocation(name, size, root_of(log, size)), **changes)


def verify(
    revocation: Revocation,
    *anchors: Anchor,
    size: int,
    quorum: str = "none",
    log: MemoryLog = LOG,
    **options: Any,
) -> AnchoredVerdict:
    data = log.receipt(DECISION, size=size, anchors=anchors)
    trust = trust_of(A, B, revocations=(revocation,))
    return verify_anchored_receipt(data, log.policy(quorum), trust, **options)


# --- what still counts ----------------------------------------------------------------


def test_the_last_good_checkpoint_itself_counts() -> None:
    assert verify(revoked(), size=3).size == 3


def test_smaller_ones_count_if_the_quorum_cosigned_them() -> None:
    assert verify(revoked(), size=2, quorum="all").size == 2
    uncosigned = LOG.proof(0, note=note_of(LOG, 2), size=2)
    data = LOG.receipt(DECISION, proof=uncosigned)
    trust = Trust(revocations=(revoked(),))
    with pytest.raises(UntrustedError, match="expected the quorum of witnesses, or"):
        verify_anchored_receipt(data, LOG.policy("none"), trust)


def test_witnesses_that_cosigned_after_the_key_was_lost_save_no_signature() -> None:
    # One that is new to the log cosigns whatever it is shown first.
    in_time = revoked(before=TIME + 1_000_000)
    assert verify(in_time, size=2, quorum="all").size == 2
    with pytest.raises(UntrustedError, match="expected the quorum of witnesses, or"):
        verify(revoked(before=TIME), size=2, quorum="all")


def test_smaller_ones_count_if_an_anchor_saw_them_before_the_key_was_lost() -> None:
    revocation = revoked(before=LOST)
    for time in (TIME, LOST - 1):
        verdict = verify(revocation, anchor_of(LOG, 0, A, time, 2), size=2)
        assert verdict.existed_before == time


@pytest.mark.parametrize(
    ("time", "seen", "before"),
    [(LOST, 2, LOST), (LOST + DAY, 2, LOST), (TIME, 1, LOST), (TIME, 2, None)],
    ids=["just then", "later", "another note", "no such time is known"],
)
def test_other_anchors_save_no_signature(
    time: int, seen: int, before: int | None
) -> None:
    anchor = anchor_of(LOG, 0, A, time, seen)
    with pytest.raises(
        UntrustedError,
        match=r"^the key .* is revoked: expected the quorum of witnesses, or an anchor "
        r"from before it was lost, for its checkpoint of size 2$",
    ):
        verify(revoked(before=before), anchor, size=2)


def test_a_stranger_who_saw_it_saves_no_signature() -> None:
    anchor = anchor_of(LOG, 0, Stamper("stranger", 9), TIME, 2)
    with pytest.raises(UntrustedError, match="is revoked"):
        verify(revoked(before=LOST), anchor, size=2)


def test_where_two_must_vouch_for_the_time_two_must_have_seen_the_signature() -> None:
    revocation = revoked(before=LOST)
    early, late = anchor_of(LOG, 0, A, TIME, 2), anchor_of(LOG, 0, B, LOST + DAY, 2)
    verify(revocation, early, late, size=2)
    with pytest.raises(UntrustedError, match="is revoked"):
        verify(revocation, early, late, size=2, min_anchors=2)
    second = anchor_of(LOG, 0, B, TIME + 1, 2)
    verdict = verify(revocation, early, second, size=2, min_anchors=2)
    assert verdict.existed_before == TIME + 1


def test_a_key_that_is_not_revoked_counts_alone() -> None:
    log = make_log(types=(ED25519, ML_DSA_44))
    verdict = verify(revoked(log), size=5, log=log)
    assert [signer.split(" ")[1] for signer in verdict.signers] == ["(ML-DSA-44)"]
    verdict = verify(revoked(log, key=1), size=5, log=log)
    assert [signer.split(" ")[1] for signer in verdict.signers] == ["(Ed25519)"]
    with pytest.raises(UntrustedError, match="expected an ML-DSA signature of the log"):
        verify(revoked(log, key=1), size=5, log=log, require_pq=True)


def test_a_revoked_key_of_another_log_changes_nothing() -> None:
    other = make_log(origin="other.example")
    assert verify(revoked(other, 1), size=5).size == 5
    elsewhere = revoked(size=5, key=0)
    assert verify(replace(elsewhere, key=f"{ORIGIN}+00000000"), size=4).size == 4


# --- what does not --------------------------------------------------------------------


def test_beyond_the_last_good_checkpoint_nothing_counts() -> None:
    early = anchor_of(LOG, 0, A, TIME, 4)
    with pytest.raises(
        UntrustedError,
        match=r"^the key .* is revoked: expected a checkpoint of up to size 3, its "
        r"last good one, got 4$",
    ):
        verify(revoked(before=LOST), early, size=4, quorum="all")


def test_another_tree_of_the_good_size_is_a_fork() -> None:
    forger = make_log()
    forger.entries[1] = make_decision(77).entry
    match = rf"the log {ORIGIN} has forked: .* signed a tree of size 3 that is not"
    with pytest.raises(VerificationError, match=match) as caught:
        verify(revoked(LOG), size=3, log=forger, quorum="all")
    assert not isinstance(caught.value, UntrustedError)
    # Whoever signed it, and whatever an anchor says.
    both = make_log(types=(ED25519, ML_DSA_44))
    both.entries[1] = make_decision(77).entry
    with pytest.raises(VerificationError, match=match):
        verify(
            revoked(LOG, before=LOST), anchor_of(both, 0, A, TIME, 3), size=2, log=both
        )


def test_a_fork_is_not_told_of_a_signature_that_does_not_verify() -> None:
    forger = make_log()
    forger.entries[1] = make_decision(77).entry
    text, (line,) = split_unverified_note(note_of(forger, 3))
    words = line.split(b" ")
    signature = bytearray(base64.b64decode(words[2]))
    signature[-1] ^= 1
    words[2] = base64.b64encode(signature)
    damaged = text + b"\n" + b" ".join(words) + b"\n"
    data = forger.receipt(DECISION, proof=forger.proof(0, 3, note=damaged))
    trust = Trust(revocations=(revoked(LOG),))
    with pytest.raises(VerificationError, match="does not verify"):
        verify_anchored_receipt(data, LOG.policy("none"), trust)


def test_anchored_notes_of_a_revoked_key_prove_nothing_either() -> None:
    revocation = revoked(before=LOST)
    late = anchor_of(LOG, 0, A, LOST + DAY, 4)
    verdict = verify(revocation, late, size=3)
    assert verdict.existed_before is None
    assert verdict.not_proven[-1].endswith("its last good one, got 4")
    early = anchor_of(LOG, 0, A, TIME, 2)
    assert verify(revocation, early, size=3).existed_before == TIME


def test_anchored_notes_count_where_the_witnesses_saw_the_same_tree() -> None:
    late = anchor_of(LOG, 0, A, LOST + DAY, 2)
    verdict = verify(revoked(before=LOST), late, size=2, quorum="all")
    assert verdict.existed_before == LOST + DAY


def test_witnesses_vouch_for_the_tree_that_they_cosigned_only() -> None:
    late = anchor_of(LOG, 0, A, LOST + DAY, 2)
    verdict = verify(revoked(before=LOST), late, size=3, quorum="all")
    assert verdict.existed_before is None
    assert verdict.not_proven[-1].endswith("for its checkpoint of size 2")


def test_related_entries_are_held_to_it_too() -> None:
    log = make_log()
    at = log.add(format_entry(Entry(make_id(7), KEY, ORIGIN, TIME, {})))
    related = (Related("key", log.entries[at], log.proof(at)),)
    data = log.receipt(DECISION, size=3, related=related)
    trust = Trust(revocations=(revoked(log),))
    with pytest.raises(UntrustedError, match="its last good one, got 6"):
        verify_anchored_receipt(data, log.policy(), trust)


@pytest.mark.parametrize(
    "misspelt", [f"{ORIGIN}+00000000", "1og.example/credit+1a2b3c4d"]
)
def test_a_key_that_is_misspelt_revokes_nothing_and_that_is_said(misspelt: str) -> None:
    point = (
        f"anything about the revoked key {misspelt}: no log key of the policy has that "
        "name and id"
    )
    verdict = verify(replace(revoked(), key=misspelt), size=4)
    assert point in verdict.not_proven
    trust = Trust(revocations=(replace(revoked(), key=misspelt),))
    told = verify_anchored_entry(DECISION.entry, LOG.proof(0), LOG.policy(), trust)
    assert point in told.not_proven
    spelt = verify(revoked(), size=3).not_proven
    assert not any("revoked" in one for one in spelt)


KEY = "auditlog.key.v1"


class Counting(Policy):
    """A policy that counts how often a note is opened by it."""

    opened: ClassVar[list[bytes]] = []

    def keys_for(self, checkpoint: Checkpoint, note: bytes) -> tuple[Verifier, ...]:
        self.opened.append(note)
        return super().keys_for(checkpoint, note)


def test_however_many_related_entries_each_note_is_looked_at_once() -> None:
    # Cosigned too late, but anchored in time, so all of them count.
    log, lines = make_log(), [f"— x{at} AAAAAAAA\n".encode() for at in range(20)]
    keys = [Entry(make_id(n), KEY, ORIGIN, TIME, {}) for n in range(7, 27)]
    places = [log.add(format_entry(key)) for key in keys]
    log.add(make_decision(27).entry)
    size = len(log.entries)
    note = log.checkpoint(size)
    related = tuple(
        Related("key", log.entries[at], log.proof(at, size, note=note + line))
        for at, line in zip(places, lines, strict=True)
    )
    anchor = anchor_of(log, 0, A, TIME - 1, size)
    data = log.receipt(DECISION, size=size, related=related, anchors=(anchor,))
    trust = trust_of(A, revocations=(revoked(log, size + 1, before=TIME),))
    plain = parse_policy(log.policy())
    policy = Counting(*(getattr(plain, one.name) for one in fields(Policy)))
    assert verify_anchored_receipt(data, policy, trust).size == size
    assert 0 < len(Counting.opened) <= 2 * len(lines)


def test_a_thief_cannot_have_a_log_look_forked_by_a_renewal() -> None:
    # He has the key, and an authority stamps what he shows it.
    log, thief = make_log(), make_log()
    anchor = renewed(thief, anchor_of(log, 0, A, size=2), B, LOST + DAY)
    log.add(make_decision(5).entry)
    trust = trust_of(A, B)
    data = log.receipt(DECISION, anchors=(anchor,))
    with pytest.raises(VerificationError, match="forked: it signed two trees of size"):
        verify_anchored_receipt(data, log.policy(), trust)
    key = replace(revoked(log, 6), before=LOST)
    saved = trust_of(A, B, revocations=(key,))
    verdict = verify_anchored_receipt(data, log.policy(), saved)
    assert verdict.size == 6


def test_an_entry_with_its_tlog_proof_is_held_to_it() -> None:
    trust = Trust(revocations=(revoked(),))
    policy = LOG.policy()
    verify_anchored_entry(DECISION.entry, LOG.proof(0, 3), policy, trust)
    with pytest.raises(UntrustedError, match="its last good one, got 4"):
        verify_anchored_entry(DECISION.entry, LOG.proof(0, 4), policy, trust)
