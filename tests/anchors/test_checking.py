"""Which check evidence goes to, and what is refused before it does."""

from typing import Any

import pytest

from auditlog.anchors.attestation import anchor_digest
from auditlog.anchors.batch import aggregate, format_path
from auditlog.anchors.checking import KINDS, check_attestation
from auditlog.anchors.trust import Trust
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from tests.anchors.stamps import KIND, Stamper, trust_of

A = Stamper("TSA A", 1)
DIGEST = anchor_digest(b"a note")


def test_the_kinds_that_are_known() -> None:
    assert sorted(KINDS) == ["evm", "ots", "rfc3161"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_nothing_is_proven_by_nothing(kind: str) -> None:
    with pytest.raises(AuditLogError):
        check_attestation(kind, DIGEST, {}, Trust())


@pytest.mark.parametrize("evidence", [None, [], "x", 1, b"y"])
def test_evidence_is_an_object(evidence: Any) -> None:
    with pytest.raises(MalformedError, match=r"^expected evidence as a JSON object$"):
        check_attestation(KIND, DIGEST, evidence, Trust())


def test_a_kind_that_is_not_known_is_not_checked_and_no_tampering() -> None:
    with pytest.raises(AuditLogError, match=r"^this version checks evm, ots") as caught:
        check_attestation("k" * 1000, DIGEST, {}, Trust())
    assert type(caught.value) is AuditLogError
    assert len(str(caught.value)) < 100


@pytest.mark.usefixtures("stamps_only")
def test_a_batch_is_followed_before_the_check() -> None:
    top, paths = aggregate([bytes(32), DIGEST], [bytes(16), b"s" * 16])
    evidence = A.stamp(top, 7)
    with pytest.raises(VerificationError, match="expected a stamp of this digest"):
        check_attestation(KIND, DIGEST, evidence, trust_of(A))
    batched = evidence | {"batch": format_path(paths[1])}
    assert check_attestation(KIND, DIGEST, batched, trust_of(A)).not_after == 7
    with pytest.raises(VerificationError, match="inclusion proof leads to root"):
        check_attestation(KIND, bytes(32), batched, trust_of(A))
    with pytest.raises(MalformedError, match="expected a batch path"):
        check_attestation(KIND, DIGEST, evidence | {"batch": None}, trust_of(A))
    with pytest.raises(UntrustedError, match="by an authority of the trust file"):
        check_attestation(KIND, DIGEST, batched, Trust())
