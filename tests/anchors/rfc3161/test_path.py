"""Paths of certificates: every rule of RFC 5280 that is relied upon, broken once."""

from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from auditlog.anchors.rfc3161.path import find_path, name_of
from auditlog.core.errors import UntrustedError, VerificationError
from demo_service.time_stamp_authority import (
    Identity,
    authority_extensions,
    issue,
    signer_extensions,
)
from tests.anchors.rfc3161.stamping import DAY, NOON

Extension = tuple[x509.ExtensionType, bool]
START, END = NOON - DAY, NOON + DAY


def new(
    name: str,
    issuer: Identity | None,
    extensions: list[Extension],
    *,
    start: datetime = START,
    end: datetime = END,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> Identity:
    return issue(name, issuer, start, end, extensions=extensions, key=key)


def usage(*granted: str) -> Extension:
    names = (
        *("digital_signature", "content_commitment", "key_encipherment"),
        *("data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"),
        *("encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{name: name in granted for name in names}), True


def found(signer: Identity, between: list[Identity], root: Identity) -> list[str]:
    certificates = [one.certificate for one in between]
    path = find_path(signer.certificate, certificates, root.certificate, NOON)
    return [name_of(one).partition(",")[0].removeprefix("CN=") for one in path]


@pytest.fixture(scope="module")
def root() -> Identity:
    return new("root", None, authority_extensions(None))


@pytest.fixture(scope="module")
def middle(root: Identity) -> Identity:
    return new("middle", root, authority_extensions(None))


CA = x509.BasicConstraints(ca=True, path_length=None), True
NO_CA = x509.BasicConstraints(ca=False, path_length=None), True
STAMPING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True
CRITICAL = (
    x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
    True,
)
NAMES = (
    x509.NameConstraints([x509.DNSName("a.example")], None),
    True,
)


class TestFound:
    def test_whatever_the_order(self, root: Identity, middle: Identity) -> None:
        low = new("low", middle, authority_extensions(0))
        signer = new("signer", low, signer_extensions())
        for between in ([low, middle], [middle, low], [root, middle, low, signer]):
            assert found(signer, between, root) == ["signer", "low", "middle", "root"]

    def test_around_a_certificate_that_has_expired(self, root: Identity) -> None:
        old = new("middle", root, authority_extensions(0), end=NOON - DAY / 2)
        renewed = new("middle", root, authority_extensions(0), key=old.key)
        signer = new("signer", old, signer_extensions())
        assert found(signer, [old, renewed], root) == ["signer", "middle", "root"]

    @pytest.mark.parametrize(
        "extensions",
        [
            [STAMPING],
            [(STAMPING[0], True), usage("digital_signature")],
            [STAMPING, usage("content_commitment")],
            [STAMPING, usage("digital_signature", "content_commitment"), NO_CA],
            [STAMPING, (CRITICAL[0], False)],
        ],
    )
    def test_signers(self, root: Identity, extensions: list[Extension]) -> None:
        assert found(new("signer", root, extensions), [], root)

    @pytest.mark.parametrize(
        "extensions",
        [
            [CA],
            [CA, usage("key_cert_sign")],
            [CA, (STAMPING[0], False)],
            [
                CA,
                (
                    x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),
                    False,
                ),
            ],
        ],
    )
    def test_issuers(self, root: Identity, extensions: list[Extension]) -> None:
        low = new("low", root, extensions)
        assert found(new("signer", low, signer_extensions()), [low], root)


class TestRefused:
    @pytest.mark.parametrize(
        "extensions",
        [
            [STAMPING, CA],
            [STAMPING, usage("key_cert_sign", "digital_signature")],
            [STAMPING, usage("key_encipherment", "digital_signature")],
            [STAMPING, usage("crl_sign")],
        ],
    )
    def test_signers_of_other_things(
        self, root: Identity, extensions: list[Extension]
    ) -> None:
        with pytest.raises(VerificationError, match="not for digital signatures only"):
            found(new("signer", root, extensions), [], root)

    @pytest.mark.parametrize(
        ("extensions", "message"),
        [
            ([], "CN=low.* is not an authority that issues certificates"),
            ([NO_CA], "is not an authority that issues certificates"),
            ([CA, usage("crl_sign")], "is not an authority that issues certificates"),
            (
                [
                    CA,
                    (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
                ],
                "CN=low.* does not issue for time-stamping",
            ),
            ([CA, CRITICAL], "critical extension that is not understood here, 1.2.3.4"),
            ([CA, NAMES], "that is not understood here, 2.5.29.30"),
        ],
    )
    def test_issuers(
        self, root: Identity, extensions: list[Extension], message: str
    ) -> None:
        low = new("low", root, extensions)
        signer = new("signer", low, signer_extensions())
        with pytest.raises(VerificationError, match=message):
            found(signer, [low], root)

    def test_a_signer_that_issues(self, root: Identity) -> None:
        first = new("first", root, signer_extensions())
        second = new("second", first, signer_extensions())
        with pytest.raises(VerificationError, match=r"CN=first.* is not an authority"):
            found(second, [first], root)

    def test_a_path_longer_than_allowed(self) -> None:
        root = new("root", None, authority_extensions(0))
        low = new("low", root, authority_extensions(0))
        signer = new("signer", low, signer_extensions())
        with pytest.raises(
            VerificationError, match=r"below CN=root.* is longer than it"
        ):
            found(signer, [low], root)

    def test_a_path_longer_than_any(self, root: Identity) -> None:
        between = [root]
        for number in range(6):
            between.append(new(f"{number}", between[-1], authority_extensions(None)))
        assert found(new("s", between[4], signer_extensions()), between[1:], root)
        with pytest.raises(UntrustedError, match="no path from"):
            found(new("s", between[5], signer_extensions()), between[1:], root)

    def test_a_critical_extension_of_the_signer(self, root: Identity) -> None:
        signer = new("signer", root, [*signer_extensions(), CRITICAL])
        with pytest.raises(VerificationError, match="that is not understood here"):
            found(signer, [], root)

    def test_a_name_without_the_key(self, root: Identity, middle: Identity) -> None:
        impostor = new("middle", root, authority_extensions(None))
        signer = new("signer", middle, signer_extensions())
        with pytest.raises(
            UntrustedError, match=r"no path from .*CN=signer.* to the root"
        ):
            found(signer, [impostor], root)

    def test_a_circle(self, root: Identity) -> None:
        """Two that issued each other lead nowhere, and do not take for ever."""
        one = new("one", None, authority_extensions(None))
        two = new("two", one, authority_extensions(None))
        back = new("one", two, authority_extensions(None), key=one.key)
        signer = new("signer", one, signer_extensions())
        with pytest.raises(UntrustedError, match="no path from"):
            found(signer, [one, two, back], root)

    @pytest.mark.parametrize("algorithm", [hashes.SHA224(), hashes.SHA3_256()])
    def test_a_hash_that_is_not_believed(
        self, root: Identity, algorithm: hashes.HashAlgorithm
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "s")]))
            .issuer_name(root.certificate.subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(START)
            .not_valid_after(END)
            .add_extension(*STAMPING)
        )
        signer = builder.sign(root.key, algorithm)  # type: ignore[arg-type]
        with pytest.raises(UntrustedError, match="no path from"):
            find_path(signer, [], root.certificate, NOON)


def test_whoever_leads_nowhere_is_a_stranger_first(root: Identity) -> None:
    """An unfit certificate of a stranger is no sign of tampering."""
    stranger = new("stranger", None, authority_extensions(None))
    with pytest.raises(UntrustedError, match="no path from"):
        found(new("signer", stranger, []), [stranger], root)


def test_names_are_legible() -> None:
    evil = "a\x1b[2J\u202e" + "x" * 55
    name = name_of(new(evil, None, authority_extensions(None)).certificate)
    assert name.startswith("CN=a?[2J?xxx")
    assert len(name) <= 100
