"""What the signature of a token covers beside TSTInfo (RFC 5652 §11, RFC 5035)."""

import hashlib

from auditlog.anchors.rfc3161 import der
from auditlog.anchors.rfc3161.algorithms import HASHES, SHA_256
from auditlog.core.errors import MalformedError, VerificationError

__all__ = ["TST_INFO", "check_attributes"]

TST_INFO = "1.2.840.113549.1.9.16.1.4"
"""OID of the content type."""

_CONTENT_TYPE = "1.2.840.113549.1.9.3"
_MESSAGE_DIGEST = "1.2.840.113549.1.9.4"
# The first one names a certificate by SHA-1: enough to tell apart what one authority
# issued, as it takes a second preimage to put another in its place.
_SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12"
_SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"


def check_attributes(
    attributes: bytes, content: bytes, signer: bytes, digest: str
) -> None:
    """Check that signed attributes are of this content and this certificate.

    Args:
        attributes: content of the SET.
        content: TSTInfo in DER.
        signer: certificate in DER.
        digest: name of the hash over the content.

    Raises:
        MalformedError: one is missing, or there twice.
        VerificationError: they are of another content or certificate.
    """
    values: dict[str, list[der.Item]] = {}
    for attribute in der.items(attributes):
        kind, held = der.pair(attribute)
        name = der.oid(kind, "an attribute")
        if name in values or held.tag != der.SET:
            raise MalformedError("expected each signed attribute once")
        values[name] = der.items(held.content)
    if [one.raw for one in values.get(_CONTENT_TYPE, [])] != [der.encode_oid(TST_INFO)]:
        raise MalformedError("expected TSTInfo as signed content type")
    expected = hashlib.new(digest, content).digest()
    if [one.content for one in values.get(_MESSAGE_DIGEST, [])] != [expected]:
        raise VerificationError("the token is signed over other content")
    named = values.keys() & {_SIGNING_CERTIFICATE, _SIGNING_CERTIFICATE_V2}
    if not named:
        raise MalformedError("expected the signer's certificate among what is signed")
    for name in sorted(named):
        _check_certificate(name, values[name], signer)


def _check_certificate(name: str, held: list[der.Item], signer: bytes) -> None:
    """Check that the first certificate named is the signer's (RFC 5816 §2.2.1)."""
    # SEQUENCE { SEQUENCE OF SEQUENCE { [hash algorithm,] hash, … }, … }
    listed = der.items(held[0].content) if len(held) == 1 else []
    first = der.items(listed[0].content) if listed else []
    fields = der.items(first[0].content) if first else []
    if name == _SIGNING_CERTIFICATE:
        hash_name = "sha1"
    elif fields and fields[0].tag == der.SEQUENCE:
        hash_name = HASHES.get(der.algorithm(fields.pop(0), "hash algorithm"), "")
    else:
        hash_name = HASHES[SHA_256]
    if not hash_name or not fields or fields[0].tag != der.OCTET_STRING:
        raise MalformedError("expected a known hash of the signer's certificate")
    if hashlib.new(hash_name, signer).digest() != fields[0].content:
        raise VerificationError(
            "the certificate in the token is not the one that its signature names"
        )
