"""Revocation lists take belief away, and say what is known; they never add belief."""

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from auditlog.anchors.rfc3161.check import check
from auditlog.anchors.trust import Authority
from auditlog.core.errors import AuditLogError, MalformedError, VerificationError
from demo_service.time_stamp_authority import (
    POLICY,
    Identity,
    TimeStampAuthority,
    authority_extensions,
    issue,
    signer_extensions,
)
from tests.anchors.rfc3161.stamping import (
    DAY,
    DIGEST,
    NOON,
    Clock,
    evidence_of,
    make_authority,
    pem_crl,
    trust_in,
    us,
)

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
Reason = x509.ReasonFlags
UNTIMELY = "revoked on .*, before the time that was stamped had passed"
NEVER = "revoked for a reason that leaves no token of it good"


class Case:
    """An authority that stamped at noon, and whose clock then goes on."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.authority = make_authority(self.clock)
        self.token_evidence = evidence_of(self.authority)

    def lists(self, at: datetime) -> list[bytes]:
        self.clock.now = at
        return [self.authority.crl("root"), self.authority.crl("issuing")]

    def brought(self, *crls: bytes) -> str:
        """Check with lists in the evidence; return what is said of them."""
        self.clock.now = NOON
        evidence = {
            **evidence_of(self.authority, crls=crls),
            "response": self.token_evidence["response"],
        }
        bound = check(DIGEST, evidence, trust_in(self.authority))
        assert bound.not_after == us(NOON + SECOND)
        return bound.detail.partition("; ")[2]

    def own(self, *crls: bytes) -> str:
        """Check with lists in the trust file."""
        authority = self.authority
        pems = tuple(map(pem_crl, crls))
        trusted = Authority("T", POLICY, authority.root.pem, (), pems)
        bound = check(DIGEST, self.token_evidence, trust_in(trusted))
        return bound.detail.partition("; ")[2]


@pytest.fixture
def case() -> Case:
    return Case()


class TestStanding:
    def test_none(self, case: Case) -> None:
        expected = "revocation not checked, as no list younger than the token is here"
        assert case.brought() == case.own() == expected

    def test_all_of_them(self, case: Case) -> None:
        lists = case.lists(NOON + HOUR)
        expected = "not revoked by 2026-11-26T13:00:00Z"
        assert case.brought(*lists) == case.own(*lists) == expected

    def test_the_least_of_the_newest(self, case: Case) -> None:
        lists = [*case.lists(NOON + HOUR)[:1], *case.lists(NOON + 2 * HOUR)]
        assert case.brought(*lists) == "not revoked by 2026-11-26T14:00:00Z"
        lists = [case.lists(NOON + HOUR)[0], case.lists(NOON + 2 * HOUR)[1]]
        assert case.brought(*lists) == "not revoked by 2026-11-26T13:00:00Z"

    def test_of_the_signer_only(self, case: Case) -> None:
        detail = case.brought(case.lists(NOON)[1])
        assert detail == (
            "not revoked by 2026-11-26T12:00:00Z, but not known for "
            "CN=issuing,O=Time of Demo"
        )

    def test_older_than_the_token_is_no_proof(self, case: Case) -> None:
        lists = case.lists(NOON - SECOND)
        assert "revocation not checked" in case.brought(*lists)
        assert "revocation not checked" in case.own(*lists)

    def test_for_a_part_of_the_certificates(self, case: Case) -> None:
        def part(
            by: str, *, users: bool = False, authorities: bool = False, at: str = ""
        ) -> bytes:
            name = [x509.UniformResourceIdentifier(at)] if at else None
            point = x509.IssuingDistributionPoint(
                full_name=name,
                relative_name=None,
                only_contains_user_certs=users,
                only_contains_ca_certs=authorities,
                only_some_reasons=None,
                indirect_crl=False,
                only_contains_attribute_certs=False,
            )
            return signed_list(case.authority, by, (point, True))

        whole = [
            part("root", authorities=True),
            part("issuing", users=True),
        ]
        assert case.brought(*whole) == "not revoked by 2026-11-26T13:00:00Z"
        for other in (
            [part("root", users=True), part("issuing", authorities=True)],
            [part("root", at="http://a.example/1"), part("issuing", at="http://b/")],
            [signed_list(case.authority, "issuing", (UNKNOWN, True))],
        ):
            assert "revocation not checked" in case.brought(*other)

    def test_at_the_point_that_the_certificate_names(self, case: Case) -> None:
        where = x509.UniformResourceIdentifier("http://a.example/1.crl")
        point = x509.DistributionPoint([where], None, None, None)
        points = x509.CRLDistributionPoints([point])
        case.authority = make_authority(
            case.clock, signer=[*signer_extensions(), (points, False)]
        )
        case.token_evidence = evidence_of(case.authority)
        issuing_point = x509.IssuingDistributionPoint(
            full_name=[where],
            relative_name=None,
            only_contains_user_certs=True,
            only_contains_ca_certs=False,
            only_some_reasons=None,
            indirect_crl=False,
            only_contains_attribute_certs=False,
        )
        lists = [signed_list(case.authority, "issuing", (issuing_point, True))]
        assert case.brought(*lists).startswith("not revoked by 2026-11-26T13:00:00Z")


UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")


def signed_list(
    authority: TimeStampAuthority,
    by: str,
    extension: tuple[x509.ExtensionType, bool],
    key: ec.EllipticCurvePrivateKey | None = None,
) -> bytes:
    issuer = {"root": authority.root, "issuing": authority.issuing}[by]
    crl = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOON + HOUR)
        .next_update(NOON + DAY)
        .add_extension(*extension)
        .sign(key or issuer.key, hashes.SHA256())
    )
    return crl.public_bytes(serialization.Encoding.DER)


class TestRevoked:
    @pytest.mark.parametrize(
        "reason",
        [
            Reason.unspecified,
            Reason.affiliation_changed,
            Reason.superseded,
            Reason.cessation_of_operation,
        ],
    )
    def test_orderly_what_came_before_stays(self, case: Case, reason: Reason) -> None:
        authority = case.authority
        authority.revoke(authority.signer, NOON + HOUR, reason)
        lists = case.lists(NOON + 2 * HOUR)
        assert case.brought(*lists) == case.own(*lists)
        assert case.own(*lists) == "not revoked by 2026-11-26T14:00:00Z"

    @pytest.mark.parametrize("at", [NOON - HOUR, NOON, NOON + SECOND])
    def test_orderly_but_before(self, case: Case, at: datetime) -> None:
        """A second after noon is within the accuracy of the authority's clock."""
        authority = case.authority
        authority.revoke(authority.signer, at, Reason.superseded)
        lists = case.lists(NOON + HOUR)
        for checking in (case.own, case.brought):
            with pytest.raises(VerificationError, match=f"CN=signer.* was {UNTIMELY}"):
                checking(*lists)

    @pytest.mark.parametrize(
        "reason",
        [
            Reason.key_compromise,
            Reason.ca_compromise,
            Reason.aa_compromise,
            Reason.certificate_hold,
            Reason.privilege_withdrawn,
            None,
        ],
    )
    @pytest.mark.parametrize("who", ["signer", "issuing"])
    def test_stolen_or_not_said_whenever(
        self, case: Case, reason: Reason | None, who: str
    ) -> None:
        """RFC 3161 §4: without a reason, no token of the key is good."""
        case.authority.revoke(getattr(case.authority, who), NOON + 300 * DAY, reason)
        lists = case.lists(NOON + 301 * DAY)
        for checking in (case.own, case.brought):
            with pytest.raises(VerificationError, match=f"CN={who}.* is {NEVER}"):
                checking(*lists)

    def test_a_list_older_than_the_token_still_revokes(self, case: Case) -> None:
        authority = case.authority
        authority.revoke(authority.issuing, NOON - 2 * HOUR, Reason.superseded)
        with pytest.raises(VerificationError, match=f"CN=issuing.* was {UNTIMELY}"):
            case.brought(*case.lists(NOON - HOUR))

    def test_an_invalidity_date_counts(self, case: Case) -> None:
        authority = case.authority
        authority.revoke(authority.signer, NOON + DAY, Reason.superseded, NOON - HOUR)
        with pytest.raises(VerificationError, match=UNTIMELY):
            case.own(*case.lists(NOON + 2 * DAY))

    def test_another_certificate_is_another_matter(self, case: Case) -> None:
        other = issue(
            "other",
            case.authority.issuing,
            NOON - DAY,
            NOON + DAY,
            extensions=signer_extensions(),
        )
        case.authority.revoke(other, NOON - HOUR, Reason.key_compromise)
        assert case.own(*case.lists(NOON)) == "not revoked by 2026-11-26T12:00:00Z"

    def test_any_table_of_the_trust_file_revokes(self, case: Case) -> None:
        """A party with two tables cannot be believed by the more credulous one."""
        authority = case.authority
        authority.revoke(authority.signer, NOON - HOUR, Reason.key_compromise)
        crl = pem_crl(case.lists(NOON)[1])
        other = make_authority(policy="1.2.3")
        trust = trust_in(authority, Authority("T", "1.2.3", other.root.pem, (), (crl,)))
        with pytest.raises(VerificationError, match=NEVER):
            check(DIGEST, case.token_evidence, trust)


class TestWhoSignedIt:
    def test_a_stranger_in_the_evidence(self, case: Case) -> None:
        stranger = make_authority(case.clock)
        for crl in (stranger.crl("root"), stranger.crl("issuing")):
            with pytest.raises(
                VerificationError, match="that nobody on the path signe"
            ):
                case.brought(crl)

    def test_the_signer_itself(self, case: Case) -> None:
        authority = case.authority
        crl = signed_list(authority, "issuing", (UNKNOWN, False), authority.signer.key)
        with pytest.raises(VerificationError, match="that nobody on the path signed"):
            case.brought(crl)

    def test_an_authority_that_may_not_sign_lists(self, case: Case) -> None:
        usage = x509.KeyUsage(
            *(False,) * 5, key_cert_sign=True, crl_sign=False,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        basic = x509.BasicConstraints(ca=True, path_length=0)
        case.authority = make_authority(
            case.clock, issuing=[(basic, True), (usage, True)]
        )
        case.token_evidence = evidence_of(case.authority)
        with pytest.raises(VerificationError, match="that nobody on the path signed"):
            case.brought(case.authority.crl("issuing"))

    def test_the_verifiers_own_in_the_name_of_the_path(self, case: Case) -> None:
        """Nothing that revokes is passed over in silence."""
        stranger = make_authority(case.clock)
        with pytest.raises(AuditLogError, match="in the name of CN=issuing") as caught:
            case.own(stranger.crl("issuing"))
        assert type(caught.value) is AuditLogError, "it could not be checked"

    def test_the_verifiers_own_of_somebody_else(self, case: Case) -> None:
        stranger = issue(
            "stranger", None, NOON - DAY, NOON + DAY, extensions=authority_extensions(0)
        )
        authority = TimeStampAuthority(stranger, stranger, stranger, clock=case.clock)
        assert "revocation not checked" in case.own(authority.crl("root"))

    def test_a_weak_hash(self, case: Case) -> None:
        authority = case.authority
        crl = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.issuing.certificate.subject)
            .last_update(NOON)
            .next_update(NOON + DAY)
            .sign(authority.issuing.key, hashes.SHA3_256())
        )
        with pytest.raises(VerificationError, match="that nobody on the path signed"):
            case.brought(crl.public_bytes(serialization.Encoding.DER))

    def test_two_lists_in_one_text(self, case: Case) -> None:
        """The second one would be passed over in silence."""
        both = "".join(map(pem_crl, case.lists(NOON)))
        trusted = Authority("T", POLICY, case.authority.root.pem, (), (both,))
        with pytest.raises(MalformedError, match=r"one X.509 revocation list in PEM"):
            check(DIGEST, case.token_evidence, trust_in(trusted))


def test_lists_are_of_the_key_not_of_the_name() -> None:
    """A path over another certificate of the same authority is as revoked."""
    clock = Clock()
    authority = make_authority(clock)
    twin = issue(
        "issuing",
        authority.root,
        NOON - DAY,
        NOON + DAY,
        extensions=authority_extensions(0),
        key=authority.issuing.key,
    )
    authority.revoke(authority.signer, NOON, Reason.key_compromise)
    other = TimeStampAuthority(
        authority.root,
        Identity(twin.certificate, twin.key),
        authority.signer,
        clock=clock,
    )
    evidence = evidence_of(other, crls=[authority.crl("issuing")])
    with pytest.raises(VerificationError, match=NEVER):
        check(DIGEST, evidence, trust_in(authority))
