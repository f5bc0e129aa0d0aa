"""Evidence of time-stamp authorities: what is believed, and every attack we know of."""

import base64
import hashlib
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
import rfc3161_client
from asn1crypto import cms, core, tsp
from asn1crypto import crl as asn1_crl
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from auditlog.anchors.checking import check_attestation
from auditlog.anchors.rfc3161 import check as module
from auditlog.anchors.rfc3161.check import MAX_CRLS, check
from auditlog.anchors.rfc3161.token import MAX_TOKEN
from auditlog.anchors.trust import Authority
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
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
    response_of,
    swap_certificates,
    token_of,
    trust_in,
    us,
)

SECOND = timedelta(seconds=1)


@pytest.fixture(scope="module")
def honest() -> TimeStampAuthority:
    return make_authority()


def lenient(response: bytes, roots: list[Identity], between: list[Identity]) -> bool:
    """What rfc3161-client says by itself."""
    verifier = rfc3161_client.VerifierBuilder(
        roots=[one.certificate for one in roots],
        intermediates=[one.certificate for one in between],
    ).build()
    decoded = rfc3161_client.decode_timestamp_response(response)
    return verifier.verify_message(decoded, DIGEST)


class TestAccepted:
    def test_the_time_is_the_authoritys_and_its_accuracy(
        self, honest: TimeStampAuthority
    ) -> None:
        bound = check_attestation(
            "rfc3161", DIGEST, evidence_of(honest), trust_in(honest)
        )
        assert (bound.kind, bound.party) == ("rfc3161", "TSA of Example")
        assert bound.not_after == us(NOON + SECOND)
        assert "by CN=signer,O=Time of Demo" in bound.detail
        assert "revocation not checked" in bound.detail

    @pytest.mark.parametrize(
        ("accuracy", "added"),
        [
            (timedelta(seconds=5, milliseconds=7, microseconds=9), 5_007_009),
            (timedelta(microseconds=1), 1),
            (timedelta(milliseconds=500), 500_000),
            (None, 1_000_000),
        ],
    )
    def test_accuracy_is_added_and_a_second_where_none_is_stated(
        self, accuracy: timedelta | None, added: int
    ) -> None:
        authority = make_authority(accuracy=accuracy)
        bound = check(DIGEST, evidence_of(authority), trust_in(authority))
        assert bound.not_after == us(NOON) + added

    def test_fractions_of_a_second_count(self) -> None:
        clock = Clock(NOON + timedelta(microseconds=987_600))
        authority = make_authority(clock)
        evidence = evidence_of(authority)
        decoded = rfc3161_client.decode_timestamp_response(
            base64.b64decode(evidence["response"])
        )
        assert decoded.tst_info.gen_time == NOON, "the library would make it earlier"
        bound = check(DIGEST, evidence, trust_in(authority))
        assert bound.not_after == us(clock.now) + 1_000_000

    def test_what_has_expired_since_was_good_then(self) -> None:
        long_ago = NOON - 3000 * DAY
        authority = make_authority(
            Clock(long_ago), start=long_ago - DAY, end=long_ago + DAY
        )
        bound = check(DIGEST, evidence_of(authority), trust_in(authority))
        assert bound.not_after == us(long_ago + SECOND)

    def test_intermediates_may_come_from_the_trust_file(
        self, honest: TimeStampAuthority
    ) -> None:
        evidence = evidence_of(honest, above=[])
        with pytest.raises(
            UntrustedError, match=r"no path from .*signer.* to the root"
        ):
            check(DIGEST, evidence, trust_in(honest))
        trusted = Authority("T", POLICY, honest.root.pem, (honest.issuing.pem,))
        assert check(DIGEST, evidence, trust_in(trusted)).party == "T"

    def test_the_authority_is_the_one_whose_root_it_is(
        self, honest: TimeStampAuthority
    ) -> None:
        others = [make_authority(), make_authority(policy="1.2.3")]
        trust = trust_in(*others, Authority("The one", POLICY, honest.root.pem))
        assert check(DIGEST, evidence_of(honest), trust).party == "The one"

    def test_a_signer_directly_below_the_root(self) -> None:
        root = issue(
            "root",
            None,
            NOON - DAY,
            NOON + DAY,
            extensions=authority_extensions(0),
        )
        signer = issue(
            "signer", root, NOON - DAY, NOON + DAY, extensions=signer_extensions()
        )
        flat = TimeStampAuthority(root, root, signer, clock=Clock())
        token = swap_certificates(token_of(flat), [signer])
        assert check(DIGEST, evidence_of(flat, token, above=[]), trust_in(flat))


class TestAttacks:
    """The adversarial table of the feasibility study, and what else we thought of."""

    def test_another_message(self, honest: TimeStampAuthority) -> None:
        with pytest.raises(VerificationError, match="the token is for another digest"):
            check(bytes(32), evidence_of(honest), trust_in(honest))

    def test_the_digest_itself_as_imprint(self, honest: TimeStampAuthority) -> None:
        token = honest.stamp(honest.info(DIGEST))
        with pytest.raises(VerificationError, match="the token is for another digest"):
            check(DIGEST, evidence_of(honest, token), trust_in(honest))

    @pytest.mark.parametrize("algorithm", ["sha1", "sha384", "sha512"])
    def test_another_hash(self, honest: TimeStampAuthority, algorithm: str) -> None:
        imprint = hashlib.new(algorithm, DIGEST).digest()
        token = honest.stamp(honest.info(imprint, algorithm=algorithm))
        with pytest.raises(VerificationError, match="expected a token over SHA-256"):
            check(DIGEST, evidence_of(honest, token), trust_in(honest))

    def test_another_policy(self, honest: TimeStampAuthority) -> None:
        trust = trust_in(Authority("T", "1.2.3.4", honest.root.pem))
        with pytest.raises(
            UntrustedError, match=f"no authority with the policy {POLICY}"
        ):
            check(DIGEST, evidence_of(honest), trust)

    def test_no_authority_at_all(self, honest: TimeStampAuthority) -> None:
        with pytest.raises(UntrustedError, match="names no authority"):
            check(DIGEST, evidence_of(honest), trust_in())

    def test_a_rogue_authority_of_the_same_names(
        self, honest: TimeStampAuthority
    ) -> None:
        rogue = make_authority()
        with pytest.raises(
            UntrustedError, match=r"no path from .*signer.* to the root"
        ):
            check(DIGEST, evidence_of(rogue), trust_in(honest))

    def test_a_rogue_authority_that_brings_its_root(
        self, honest: TimeStampAuthority
    ) -> None:
        rogue = make_authority()
        evidence = evidence_of(rogue, above=[rogue.issuing.der, rogue.root.der])
        with pytest.raises(MalformedError, match="up to, and without, the root"):
            check(DIGEST, evidence, trust_in(honest))

    def test_a_rogue_root_passed_as_intermediate(
        self, honest: TimeStampAuthority
    ) -> None:
        rogue = make_authority()
        response = response_of(rogue)
        assert lenient(response, [honest.root], [rogue.root]), "the library's hole"
        between = (rogue.root.pem, rogue.issuing.pem)
        trust = trust_in(Authority("T", POLICY, honest.root.pem, between))
        with pytest.raises(UntrustedError, match="no path from"):
            check(DIGEST, evidence_of(rogue), trust)

    def test_an_intermediate_of_another_root(self, honest: TimeStampAuthority) -> None:
        other = make_authority()
        trust = trust_in(Authority("T", POLICY, other.root.pem, (honest.issuing.pem,)))
        assert lenient(response_of(honest), [other.root], [honest.issuing, honest.root])
        with pytest.raises(UntrustedError, match="no path from"):
            check(DIGEST, evidence_of(honest), trust)

    def test_another_certificate_of_the_same_key(
        self, honest: TimeStampAuthority
    ) -> None:
        """The signer swapped for one that is valid longer, or was not revoked."""
        twin = issue(
            "signer",
            honest.issuing,
            NOON - 300 * DAY,
            NOON + 3000 * DAY,
            extensions=signer_extensions(),
            key=honest.signer.key,
        )
        token = swap_certificates(token_of(honest), [twin], twin)
        whole = bytes(
            tsp.TimeStampResp(
                {"status": {"status": "granted"}, "time_stamp_token": token}
            ).dump()
        )
        assert lenient(whole, [honest.root], [honest.issuing]), "the library's hole"
        with pytest.raises(
            VerificationError, match="not the one that its signature na"
        ):
            evidence_of(honest, token)

    def test_a_token_that_names_another_certificate(
        self, honest: TimeStampAuthority
    ) -> None:
        token = token_of(honest, named=honest.issuing)
        with pytest.raises(
            VerificationError, match="not the one that its signature na"
        ):
            evidence_of(honest, token)

    def test_two_certificates_that_match(self, honest: TimeStampAuthority) -> None:
        twin = issue(
            "signer",
            honest.issuing,
            NOON - DAY,
            NOON + DAY,
            extensions=signer_extensions(),
            serial=honest.signer.certificate.serial_number,
        )
        token = swap_certificates(token_of(honest), [honest.signer, twin])
        with pytest.raises(MalformedError, match="exactly one certificate of the sig"):
            evidence_of(honest, token)

    def test_no_certificate(self, honest: TimeStampAuthority) -> None:
        token = token_of(honest, with_certificates=False)
        with pytest.raises(MalformedError, match="exactly one certificate of the sig"):
            evidence_of(honest, token)

    def test_not_yet_valid(self) -> None:
        early = make_authority(Clock(NOON - 2 * DAY), start=NOON - DAY)
        with pytest.raises(
            VerificationError, match=r"signer.* is valid from 2026-11-25"
        ):
            check(DIGEST, evidence_of(early), trust_in(early))

    def test_stamped_after_expiry(self) -> None:
        late = make_authority(Clock(NOON + 366 * DAY))
        with pytest.raises(VerificationError, match="and not at the time that was st"):
            check(DIGEST, evidence_of(late), trust_in(late))

    def test_the_root_counts_then_as_well(self, honest: TimeStampAuthority) -> None:
        young = issue(
            "root",
            None,
            NOON + DAY,
            NOON + 9000 * DAY,
            extensions=authority_extensions(None),
            key=honest.root.key,
        )
        trust = trust_in(Authority("T", POLICY, young.pem))
        with pytest.raises(VerificationError, match=r"CN=root.* and not at the time"):
            check(DIGEST, evidence_of(honest), trust)

    @pytest.mark.parametrize(
        "usages",
        [
            [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), False)],
            [
                (
                    x509.ExtendedKeyUsage(
                        [
                            ExtendedKeyUsageOID.TIME_STAMPING,
                            ExtendedKeyUsageOID.SERVER_AUTH,
                        ]
                    ),
                    True,
                )
            ],
            [(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), True)],
            [],
        ],
        ids=["not critical", "among others", "for servers", "none"],
    )
    def test_not_for_time_stamping_only(
        self, usages: list[tuple[x509.ExtensionType, bool]]
    ) -> None:
        authority = make_authority(signer=[*signer_extensions()[:2], *usages])
        with pytest.raises(VerificationError, match="not for time-stamping only"):
            check(DIGEST, evidence_of(authority), trust_in(authority))

    def test_a_signature_of_another_key(self, honest: TimeStampAuthority) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        signer = Identity(honest.signer.certificate, key)
        forger = TimeStampAuthority(
            honest.root, honest.issuing, signer, clock=honest.clock
        )
        with pytest.raises(VerificationError, match="the token does not verify"):
            check(DIGEST, evidence_of(forger), trust_in(honest))

    def test_an_earlier_time_put_in(self, honest: TimeStampAuthority) -> None:
        token = token_of(honest)
        content = token["content"]["encap_content_info"]
        info = content["content"].parsed
        info["gen_time"] = core.GeneralizedTime(NOON - DAY)
        content["content"] = core.ParsableOctetString(info.dump())
        with pytest.raises(VerificationError, match="signed over other content"):
            evidence_of(honest, token)

    def test_of_two_tables_the_one_that_nearly_holds_is_told(
        self, honest: TimeStampAuthority
    ) -> None:
        late = make_authority(Clock(NOON + 366 * DAY))
        for trust in (trust_in(honest, late), trust_in(late, honest)):
            with pytest.raises(VerificationError, match="not at the time that was st"):
                check(DIGEST, evidence_of(late), trust)


class TestForm:
    """One spelling, and nothing else, of whatever no signature covers."""

    def refused(
        self,
        authority: TimeStampAuthority,
        response: bytes,
        message: str = "canonical form",
    ) -> None:
        evidence = {"crls": [], "response": base64.b64encode(response).decode()}
        with pytest.raises(MalformedError, match=message):
            check(DIGEST, evidence, trust_in(authority))

    def changed(self, authority: TimeStampAuthority, change: Any) -> bytes:
        response = tsp.TimeStampResp.load(response_of(authority))
        change(response, response["time_stamp_token"]["content"])
        return bytes(response.dump())

    def test_unchanged_it_is_the_same(self, honest: TimeStampAuthority) -> None:
        response = self.changed(honest, lambda response, signed: None)
        evidence = {"crls": [], "response": base64.b64encode(response).decode()}
        assert check(DIGEST, evidence, trust_in(honest))

    def test_trailing_bytes(self, honest: TimeStampAuthority) -> None:
        self.refused(honest, response_of(honest) + b"\0", "DER")
        self.refused(honest, response_of(honest) + response_of(honest), "nothing else")

    def test_a_status_text(self, honest: TimeStampAuthority) -> None:
        def change(response: Any, signed: Any) -> None:
            response["status"]["status_string"] = ["Operation Okay"]

        self.refused(honest, self.changed(honest, change))

    @pytest.mark.parametrize("status", ["granted_with_mods", "rejection"])
    def test_another_status(self, honest: TimeStampAuthority, status: str) -> None:
        def change(response: Any, signed: Any) -> None:
            response["status"]["status"] = status

        self.refused(honest, self.changed(honest, change))

    def test_certificates_in_another_order(self, honest: TimeStampAuthority) -> None:
        ordered = sorted([honest.signer.der, honest.issuing.der])
        response = response_of(honest)
        swapped = response.replace(b"".join(ordered), b"".join(reversed(ordered)))
        assert swapped != response
        with pytest.raises(ValueError, match="InvalidSetOrdering"):
            lenient(swapped, [honest.root], [])
        self.refused(honest, swapped)

    def test_certificates_that_lead_elsewhere(self, honest: TimeStampAuthority) -> None:
        stranger = issue(
            "stranger", None, NOON, NOON + DAY, extensions=authority_extensions(0)
        )
        for above in ([stranger.der], [honest.issuing.der, stranger.der]):
            self.refused(
                honest, response_of(honest, above=above), "each issued the one before"
            )

    def test_a_certificate_twice(self, honest: TimeStampAuthority) -> None:
        self.refused(honest, response_of(honest, above=[honest.issuing.der] * 2))
        twice = response_of(honest, above=[honest.signer.der])
        self.refused(honest, twice, "exactly one certificate of the signer")

    def test_too_many_certificates(self, honest: TimeStampAuthority) -> None:
        response = response_of(honest, above=[honest.issuing.der] * 8)
        self.refused(honest, response, "expected up to 8 certificates")

    def test_unsigned_attributes(self, honest: TimeStampAuthority) -> None:
        def change(response: Any, signed: Any) -> None:
            signed["signer_infos"][0]["unsigned_attrs"] = [
                {"type": "content_type", "values": ["data"]}
            ]

        self.refused(honest, self.changed(honest, change))

    def test_a_revocation_list_inside(self, honest: TimeStampAuthority) -> None:
        def change(response: Any, signed: Any) -> None:
            crl = asn1_crl.CertificateList.load(honest.crl("issuing"))
            choice = cms.RevocationInfoChoice("crl", crl)
            signed["crls"] = cms.RevocationInfoChoices([choice])

        self.refused(honest, self.changed(honest, change))

    def test_parameters_of_an_algorithm(self, honest: TimeStampAuthority) -> None:
        def change(response: Any, signed: Any) -> None:
            signed["signer_infos"][0]["digest_algorithm"]["parameters"] = core.Null()

        self.refused(honest, self.changed(honest, change))

    def test_more_digest_algorithms(self, honest: TimeStampAuthority) -> None:
        def change(response: Any, signed: Any) -> None:
            signed["digest_algorithms"] = [
                {"algorithm": "sha256"},
                {"algorithm": "sha384"},
            ]

        self.refused(honest, self.changed(honest, change))

    def test_the_other_of_two_signatures(self, honest: TimeStampAuthority) -> None:
        """(r, s) and (r, n - s) verify alike."""
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

        def change(response: Any, signed: Any) -> None:
            signer = signed["signer_infos"][0]
            pair = core.SequenceOf.load(signer["signature"].native, spec=core.Integer)
            numbers = [pair[0].native, order - pair[1].native]
            other = core.SequenceOf(
                [core.Integer(n) for n in numbers], spec=core.Integer
            )
            signer["signature"] = core.OctetString(other.dump())

        response = self.changed(honest, change)
        assert lenient(response, [honest.root], [honest.issuing])
        self.refused(honest, response)

    def test_a_signer_named_by_its_key(self, honest: TimeStampAuthority) -> None:
        def change(response: Any, signed: Any) -> None:
            signed["signer_infos"][0]["sid"] = ("subject_key_identifier", b"abc")

        self.refused(honest, self.changed(honest, change), "issuer and serial number")

    def test_two_signers(self, honest: TimeStampAuthority) -> None:
        def change(response: Any, signed: Any) -> None:
            signed["signer_infos"].append(signed["signer_infos"][0].copy())

        self.refused(honest, self.changed(honest, change), "one signer, got 2")

    def test_too_long(self, honest: TimeStampAuthority) -> None:
        self.refused(honest, bytes(MAX_TOKEN + 10), f"a response of up to {MAX_TOKEN}")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"response": None}, "expected str as response"),
            ({"response": "A"}, "canonical padded base64"),
            ({"response": ""}, "in DER"),
            ({"response": "MAA="}, "a SEQUENCE of two"),
            ({"crls": {}}, "expected list as crls"),
            ({"crls": [1]}, "a revocation list of up to"),
            ({"crls": ["AAAA"]}, "expected an X.509 revocation list"),
            ({"crls": ["AAAA", "AAAA"]}, "in order, none twice"),
            ({"crls": ["AQ==", "AA=="]}, "in order, none twice"),
            (
                {"crls": [base64.b64encode(bytes([n])).decode() for n in range(5)]},
                f"up to {MAX_CRLS} revocation lists",
            ),
            ({"chain": []}, "with the fields crls, response"),
        ],
    )
    def test_json(
        self, honest: TimeStampAuthority, change: dict[str, Any], message: str
    ) -> None:
        evidence = evidence_of(honest) | change
        with pytest.raises(MalformedError, match=message):
            check(DIGEST, evidence, trust_in(honest))

    @pytest.mark.parametrize("name", ["crls", "response"])
    def test_a_field_missing(self, honest: TimeStampAuthority, name: str) -> None:
        evidence = evidence_of(honest)
        del evidence[name]
        with pytest.raises(MalformedError, match="with the fields crls, response"):
            check(DIGEST, evidence, trust_in(honest))


class TestTrustFile:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"root": "x"}, "authority 'T': expected one X.509 certificate in PEM"),
            ({"intermediates": ("",)}, "'T': expected one X.509 certificate in PEM"),
            ({"revoked": ("x",)}, "'T': expected one X.509 revocation list in PEM"),
        ],
    )
    def test_unusable(
        self, honest: TimeStampAuthority, change: dict[str, Any], message: str
    ) -> None:
        fields = {"party": "T", "policy": POLICY, "root": honest.root.pem} | change
        with pytest.raises(MalformedError, match=message):
            check(DIGEST, evidence_of(honest), trust_in(Authority(**fields)))

    def test_two_certificates_where_one_belongs(
        self, honest: TimeStampAuthority
    ) -> None:
        """The second one would be passed over in silence."""
        both = honest.root.pem + honest.issuing.pem
        with pytest.raises(MalformedError, match=r"expected one X.509 certificate"):
            check(DIGEST, evidence_of(honest), trust_in(Authority("T", POLICY, both)))

    def test_a_root_that_is_none(self, honest: TimeStampAuthority) -> None:
        trust = trust_in(Authority("T", POLICY, honest.issuing.pem))
        with pytest.raises(
            MalformedError, match="expected a root, which is a self-sig"
        ):
            check(DIGEST, evidence_of(honest), trust)


class TestWithoutTheLibrary:
    def test_it_says_what_to_install(
        self, honest: TimeStampAuthority, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "rfc3161_client", None)
        with pytest.raises(
            AuditLogError, match=r"install decision-auditlog\[rfc3161\]"
        ) as e:
            check(DIGEST, evidence_of(honest), trust_in(honest))
        assert type(e.value) is AuditLogError

    def test_it_is_not_loaded_before_it_is_needed(self) -> None:
        program = (
            f"import sys, {module.__name__}; "
            "print({'rfc3161_client', 'asn1crypto'} & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "set()"
