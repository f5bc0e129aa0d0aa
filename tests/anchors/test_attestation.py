"""What anchors give: digests, and the time that so many parties agree on."""

import base64
import hashlib
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.anchors.attestation import (
    Bound,
    anchor_digest,
    earliest_by,
    evidence_digest,
)
from auditlog.core.errors import MalformedError, UntrustedError

NOTE = b"log.example/credit\n1\nAAAA\n\n"


def bound(party: str, time: int, kind: str = "evm") -> Bound:
    return Bound(kind, party, time, "")


def test_the_anchored_digest_by_hand() -> None:
    expected = hashlib.sha256(b"auditlog/anchor/v1\n" + NOTE).digest()
    assert anchor_digest(NOTE) == expected
    assert anchor_digest(NOTE + b"x") != expected


def test_the_digest_of_evidence_is_that_of_its_one_spelling() -> None:
    canonical = b'{"a":[1,"x"],"b":null}'
    expected = base64.b64encode(hashlib.sha256(canonical).digest()).decode()
    assert evidence_digest({"b": None, "a": [1, "x"]}) == expected
    for value in (1.5, b"", object()):
        with pytest.raises(MalformedError, match="expected a string, integer"):
            evidence_digest({"a": value})


def test_the_time_of_so_many_parties() -> None:
    bounds = [bound("C", 30), bound("A", 10), bound("B", 20)]
    for order in permutations(bounds):
        assert [earliest_by(order, k) for k in (1, 2, 3)] == [10, 20, 30]


def test_one_party_counts_once_with_its_earliest_time() -> None:
    bounds = [bound("A", 30), bound("A", 10, "ots"), bound("A", 20, "rfc3161")]
    assert earliest_by(bounds, 1) == 10
    with pytest.raises(
        UntrustedError, match=r"^expected anchors of 2 distinct parties, got 1$"
    ):
        earliest_by(bounds, 2)
    with pytest.raises(UntrustedError, match="of 1 distinct parties, got 0"):
        earliest_by([], 1)


@given(
    st.lists(st.integers(1000, 2000), min_size=1, max_size=8),
    st.lists(st.integers(0, 3000), max_size=7),
    st.data(),
)
def test_fewer_liars_than_are_asked_for_cannot_back_date(
    honest: list[int], lies: list[int], data: st.DataObject
) -> None:
    """An honest party saw it no earlier than it was made, at 1000."""
    bounds = [bound(f"honest {at}", time) for at, time in enumerate(honest)]
    bounds += [bound(f"liar {at}", time) for at, time in enumerate(lies)]
    bounds += [bound(f"liar {at}", 0) for at in range(len(lies))]
    bounds = data.draw(st.permutations(bounds))
    wanted = len(lies) + 1
    assert earliest_by(bounds, wanted) >= 1000
    if lies:  # one more, and they can
        assert earliest_by(bounds, len(lies)) < 1000
