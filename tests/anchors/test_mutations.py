"""Anchored receipts under mutation: never an earlier time or a stronger claim."""

from dataclasses import dataclass, field

import pytest

from auditlog.anchors.attestation import anchor_digest
from auditlog.anchors.batch import aggregate, format_path
from auditlog.anchors.trust import Revocation, Trust
from auditlog.anchors.verdict import AnchoredVerdict, verify_anchored_receipt
from auditlog.core.checkpoint import parse_checkpoint, parse_policy
from auditlog.core.note import COSIGNATURE_ED25519, ED25519, split_unverified_note
from auditlog.core.receipt import Anchor
from tests.anchors.mutations import COUNT, survivors
from tests.anchors.stamps import (
    DAY,
    KIND,
    Stamper,
    anchor_of,
    note_of,
    renewed,
    trust_of,
)
from tests.receipts import TIME, MemoryLog, make_decision

pytestmark = pytest.mark.usefixtures("stamps_only")

OLD = Stamper("old", 1, until=TIME + 50 * DAY)
A, B, C = Stamper("A", 2), Stamper("B", 3), Stamper("C", 4)
STRANGER = Stamper("stranger", 9)
HONEST = {"old": TIME + DAY, "A": TIME + 2 * DAY, "B": TIME + 3 * DAY}
"""The earliest time that each party said, of anything."""
LOST = TIME + 20 * DAY


@dataclass
class World:
    """A log with anchors of every sort, receipts of it, and all that is true."""

    log: MemoryLog = field(
        default_factory=lambda: MemoryLog(
            types=(ED25519,), witness_types=(COSIGNATURE_ED25519,) * 2
        )
    )
    receipts: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        decisions = [make_decision(number) for number in range(6)]
        self.log.add(*(one.entry for one in decisions))
        for index in (0, 3):
            anchors = self._anchors(index)
            for extra in (b"", None):
                proof = self.log.proof(index, 6, extra=extra)
                for some in (anchors[::-1], anchors[:2], anchors[1:3], anchors[2:]):
                    data = self.log.receipt(
                        decisions[index], "request/age", proof=proof, anchors=some
                    )
                    self.receipts.append(data)
        text, _ = split_unverified_note(self.log.checkpoint(6))
        key = self.log.signers[0].verifier.key
        root = parse_checkpoint(text).root
        self.trust = trust_of(
            *(OLD, A, B, C), revocations=(Revocation(key, 6, root, LOST),)
        )
        self.policy = parse_policy(self.log.policy("any"))

    def _anchors(self, index: int) -> tuple[Anchor, ...]:
        old = anchor_of(self.log, index, OLD, HONEST["old"], 6)
        note = note_of(self.log, 6)
        top, paths = aggregate([bytes(32), anchor_digest(note)], [bytes(16)] * 2)
        evidence = A.stamp(top, HONEST["A"]) | {"batch": format_path(paths[1])}
        return (
            renewed(self.log, old, C, TIME + 40 * DAY),
            Anchor(KIND, self.log.proof(index, 6, note=note, extra=None), evidence),
            anchor_of(self.log, index, B, HONEST["B"], 5),
            anchor_of(self.log, index, STRANGER, TIME, 6),
            anchor_of(self.log, index, OLD, TIME - DAY, 6),
        )

    def verify(self, data: bytes, wanted: int | None = None) -> AnchoredVerdict:
        return verify_anchored_receipt(
            data, self.policy, self.trust, min_anchors=wanted
        )

    def hold(self, verdict: AnchoredVerdict) -> None:
        """Hold the times of a verdict against what was said when it was."""
        for bound in verdict.anchors:
            assert HONEST[bound.party] <= bound.not_after
        if verdict.existed_before is not None:
            assert verdict.anchors
            first = min(bound.not_after for bound in verdict.anchors)
            assert verdict.existed_before >= first
        assert verdict.origin == self.log.origin
        assert verdict.size <= 6


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_what_is_still_accepted_states_no_earlier_time(world: World) -> None:
    honest = [world.verify(data) for data in world.receipts]
    assert {bound.party for one in honest for bound in one.anchors} == {*HONEST}
    for verdict in honest:
        world.hold(verdict)
    ends = survivors(world.receipts, world.verify, world.hold)
    assert {"MalformedError", "VerificationError", "accepted"} <= set(ends)
    print(f"{dict(ends)} of {COUNT}")


def test_what_two_parties_must_hold_two_hold(world: World) -> None:
    second = sorted(HONEST.values())[1]

    def hold(verdict: AnchoredVerdict) -> None:
        world.hold(verdict)
        assert verdict.existed_before is not None
        assert verdict.existed_before >= second

    some = COUNT // 5
    ends = survivors(world.receipts, lambda data: world.verify(data, 2), hold, some)
    assert {"MalformedError", "UntrustedError", "accepted"} <= set(ends)
    print(f"{dict(ends)} of {some}")


def test_without_trust_nothing_is_said_of_time(world: World) -> None:
    for data in world.receipts:
        verdict = verify_anchored_receipt(data, world.policy, Trust())
        assert verdict.existed_before is None
