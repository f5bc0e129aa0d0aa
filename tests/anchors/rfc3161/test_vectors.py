"""Tokens of other people's authorities, from the tests of rfc3161-client."""

import hashlib
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from auditlog.anchors.rfc3161 import check as module
from auditlog.anchors.rfc3161.check import check_imprint, find_authority
from auditlog.anchors.rfc3161.query import parse_reply
from auditlog.anchors.rfc3161.token import format_response, open_response
from auditlog.anchors.trust import Authority, Trust
from auditlog.core.errors import MalformedError, UntrustedError, VerificationError
from tests.anchors.rfc3161.stamping import us
from tests.vectorset import public, public_files

pytestmark = pytest.mark.interop

FOLDER = "rfc3161/test/fixtures"
HELLO = hashlib.sha256(b"hello").digest()
SIGSTORE = "1.3.6.1.4.1.57264.2"
IDENTRUST = "2.16.840.1.113839.0.6.13.3"


def reply(name: str) -> bytes:
    return public(f"{FOLDER}/{name}")


def trust(name: str, policy: str = SIGSTORE) -> Trust:
    data = public(f"{FOLDER}/{name}/ts_chain.pem")
    if data.startswith(b"-----"):
        chain = x509.load_pem_x509_certificates(data)
    else:  # whatever its name says
        chain = [x509.load_der_x509_certificate(data)]
    *between, root = [
        one.public_bytes(serialization.Encoding.PEM).decode() for one in chain
    ]
    # The first one, if there are several, is of the signer: as good as any stranger's.
    return Trust((Authority(name, policy, root, tuple(between)),))


def kept(name: str, trusted: Trust) -> bytes:
    token = parse_reply(reply(name))
    _, path, _ = find_authority(token, trusted)
    above = [one.public_bytes(serialization.Encoding.DER) for one in path[1:-1]]
    return format_response(token, above)


def test_sigstore_staging() -> None:
    trusted = trust("sigstage")
    response = kept("sigstage/response-sha256.tsr", trusted)
    bound = check_imprint(HELLO, response, [], trusted)
    assert bound.party == "sigstage"
    assert bound.not_after == us(datetime(2025, 5, 9, 11, 58, 56, tzinfo=UTC))
    assert "CN=sigstore-tsa,O=sigstore.dev" in bound.detail
    with pytest.raises(VerificationError, match="for another digest"):
        check_imprint(bytes(32), response, [], trusted)


@pytest.mark.parametrize("name", ["sha384", "sha512"])
def test_other_hashes(name: str) -> None:
    trusted = trust("sigstage")
    response = kept(f"sigstage/response-{name}.tsr", trusted)
    with pytest.raises(VerificationError, match="expected a token over SHA-256"):
        check_imprint(HELLO, response, [], trusted)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sigstage/response-invalid-signature.tsr", "an ECDSA signature in DER"),
        ("sigstage/response-no-embedded-cert.tsr", "one certificate of the signer"),
        ("sigstore.mock/response-expired.tsr", "one certificate of the signer"),
    ],
)
def test_refused(name: str, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_reply(reply(name))


def test_three_levels() -> None:
    trusted = trust("test_tsa")
    response = kept("test_tsa/response.tsr", trusted)
    token = open_response(response)
    assert len(token.certificates) == 2
    _, path, _ = find_authority(token, trusted)
    module._verify_signature(token, response, path)


def test_another_authority_of_the_same_names() -> None:
    token = parse_reply(reply("test_tsa/other_response.tsr"))
    with pytest.raises(UntrustedError, match="no path from"):
        find_authority(token, trust("test_tsa"))


def test_injected_certificates_are_left_behind() -> None:
    trusted = trust("test_tsa")
    name = "test_tsa/response-injected-certs.tsr"
    assert len(parse_reply(reply(name)).certificates) == 3
    assert kept(name, trusted) == kept("test_tsa/response.tsr", trusted)


def test_a_public_authority_with_rsa() -> None:
    trusted = trust("identrust", IDENTRUST)
    response = kept("identrust/issue-104.tsr", trusted)
    token = open_response(response)
    _, path, _ = find_authority(token, trusted)
    assert len(path) == 3
    module._verify_signature(token, response, path)
    with pytest.raises(VerificationError, match="expected a token over SHA-256"):
        check_imprint(HELLO, response, [], trusted)


def test_nobody_stamps_for_another() -> None:
    names = ("sigstage", "test_tsa", "sigstore.mock")
    for path in public_files(FOLDER, "response*.tsr"):
        try:
            token = parse_reply(path.read_bytes())
        except MalformedError:
            continue
        for name in names:
            if name != path.parent.name:
                with pytest.raises(UntrustedError, match="no path from"):
                    find_authority(token, trust(name))
