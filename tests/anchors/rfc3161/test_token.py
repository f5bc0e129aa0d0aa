"""Tokens taken apart: signed attributes and structure, each rule broken once."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from asn1crypto import cms, core
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from auditlog.anchors.rfc3161.query import format_query, parse_reply
from auditlog.anchors.rfc3161.token import MAX_TOKEN, open_response, parse_token
from auditlog.core.errors import MalformedError, VerificationError
from demo_service.time_stamp_authority import POLICY, TimeStampAuthority
from tests.anchors.rfc3161.stamping import make_authority, response_of, token_of


@pytest.fixture(scope="module")
def authority() -> TimeStampAuthority:
    return make_authority()


def signed_again(
    authority: TimeStampAuthority, change: Callable[[list[Any]], None]
) -> bytes:
    """A token with other signed attributes, under a signature that holds."""
    token = token_of(authority)
    signer = token["content"]["signer_infos"][0]
    attributes = list(signer["signed_attrs"])
    change(attributes)
    signer["signed_attrs"] = cms.CMSAttributes(attributes)
    data = cms.CMSAttributes(attributes).dump()
    signature = authority.signer.key.sign(data, ec.ECDSA(hashes.SHA256()))
    signer["signature"] = core.OctetString(signature)
    return bytes(token.dump())


def attribute(kind: str, *values: Any) -> Any:
    return cms.CMSAttribute({"type": kind, "values": list(values)})


def _drop(number: int) -> Callable[[list[Any]], None]:
    return lambda attributes: attributes.pop(number)


def _twice(number: int) -> Callable[[list[Any]], None]:
    return lambda attributes: attributes.append(attributes[number])


def _nothing(attributes: list[Any]) -> None:
    pass


def _of_data(attributes: list[Any]) -> None:
    attributes[0] = attribute("content_type", "data")


def _two_types(attributes: list[Any]) -> None:
    attributes[0] = attribute("content_type", "tst_info", "tst_info")


def _other_digest(attributes: list[Any]) -> None:
    attributes[1] = attribute("message_digest", bytes(32))


def _by_hash(algorithm: str, digest: bytes) -> Callable[[list[Any]], None]:
    def change(attributes: list[Any]) -> None:
        named = {"hash_algorithm": {"algorithm": algorithm}, "cert_hash": digest}
        attributes[2] = attribute("signing_certificate_v2", {"certs": [named]})

    return change


def _of_nothing(attributes: list[Any]) -> None:
    attributes[2] = attribute("signing_certificate_v2", {"certs": []})


class TestSignedAttributes:
    def test_unchanged(self, authority: TimeStampAuthority) -> None:
        assert parse_token(signed_again(authority, _nothing))

    def test_others_do_no_harm(self, authority: TimeStampAuthority) -> None:
        extra = attribute("counter_signature")
        assert parse_token(signed_again(authority, lambda found: found.append(extra)))

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (_drop(0), MalformedError, "TSTInfo as signed content type"),
            (_of_data, MalformedError, "TSTInfo as signed content type"),
            (_two_types, MalformedError, "TSTInfo as signed content type"),
            (_twice(0), MalformedError, "each signed attribute once"),
            (_drop(1), VerificationError, "signed over other content"),
            (_other_digest, VerificationError, "signed over other content"),
            (_twice(1), MalformedError, "each signed attribute once"),
            (_drop(2), MalformedError, "signer's certificate among what is signed"),
            (_twice(2), MalformedError, "each signed attribute once"),
            (_of_nothing, MalformedError, "a known hash of the signer's certificate"),
            (
                _by_hash("sha1", bytes(20)),
                MalformedError,
                "a known hash of the signer's certificate",
            ),
            (
                _by_hash("sha512", bytes(64)),
                VerificationError,
                "not the one that its signature names",
            ),
        ],
        ids=[
            *("no type", "other type", "two types", "type twice", "no digest"),
            *("other digest", "digest twice", "no certificate", "certificate twice"),
            *("empty", "by SHA-1", "by SHA-512"),
        ],
    )
    def test_refused(
        self,
        authority: TimeStampAuthority,
        change: Callable[[list[Any]], None],
        error: type[Exception],
        message: str,
    ) -> None:
        with pytest.raises(error, match=message):
            parse_token(signed_again(authority, change))

    def test_both_names_of_the_certificate_count(
        self, authority: TimeStampAuthority
    ) -> None:
        """The one by SHA-1, too, where there are both."""
        right = hashlib.sha1(authority.signer.der).digest()
        good, bad = (
            attribute("signing_certificate", {"certs": [{"cert_hash": digest}]})
            for digest in (right, bytes(20))
        )
        assert parse_token(signed_again(authority, lambda found: found.append(good)))
        token = signed_again(authority, lambda found: found.append(bad))
        with pytest.raises(VerificationError, match="its signature names"):
            parse_token(token)


class TestStructure:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda signed: signed.__setitem__("version", "v1"),
                "SignedData of version",
            ),
            (
                lambda signed: signed.__setitem__("signer_infos", []),
                "a token of one signer, got 0",
            ),
            (
                lambda signed: signed["encap_content_info"].__setitem__(
                    "content_type", "data"
                ),
                "expected TSTInfo in the token",
            ),
            (
                lambda signed: signed["signer_infos"][0].__setitem__(
                    "digest_algorithm", {"algorithm": "sha1"}
                ),
                "a signature over SHA-256, SHA-384 or SHA-512",
            ),
            (
                lambda signed: signed["signer_infos"][0].__setitem__(
                    "signature_algorithm", {"algorithm": "sha256_rsa"}
                ),
                r"expected a signature by RSA \(PKCS #1 v1.5\), or ECDSA",
            ),
            (
                lambda signed: signed["signer_infos"][0].__setitem__(
                    "signature_algorithm", {"algorithm": "sha384_ecdsa"}
                ),
                "over the digest that is named",
            ),
            (
                lambda signed: signed["signer_infos"][0].__setitem__("signature", b"x"),
                "an ECDSA signature in DER",
            ),
            (
                lambda signed: signed["signer_infos"][0].__setitem__(
                    "signature", b"\x30\x06\x02\x01\x00\x02\x01\x01"
                ),
                "an ECDSA signature within its group",
            ),
        ],
    )
    def test_refused(
        self,
        authority: TimeStampAuthority,
        change: Callable[[Any], None],
        message: str,
    ) -> None:
        token = token_of(authority)
        change(token["content"])
        with pytest.raises(MalformedError, match=message):
            parse_token(token.dump())

    def test_another_type_of_content(self) -> None:
        data = cms.ContentInfo({"content_type": "data", "content": b"x"}).dump()
        with pytest.raises(MalformedError, match="a token that is SignedData"):
            parse_token(data)

    def test_limits(self, authority: TimeStampAuthority) -> None:
        long = bytes(MAX_TOKEN + 1)
        for read in (open_response, parse_reply):
            with pytest.raises(MalformedError, match="a response of up to 32768 bytes"):
                read(long)
        assert open_response(response_of(authority))

    def test_a_curve_that_is_not_known(self) -> None:
        other = make_authority()
        key = ec.generate_private_key(ec.SECP256K1())
        renewed = make_authority(signer_key=key)
        assert parse_token(token_of(other).dump())
        with pytest.raises(MalformedError, match="ECDSA on P-256, P-384 or P-521"):
            parse_token(token_of(renewed).dump())


def test_a_query_is_what_the_authority_reads(authority: TimeStampAuthority) -> None:
    imprint = hashlib.sha256(b"x").digest()
    for nonce in (0, 127, 128, 2**64 - 1):
        token = parse_reply(authority.reply(format_query(imprint, nonce, POLICY)))
        assert (token.info.imprint, token.info.nonce) == (imprint, nonce)
