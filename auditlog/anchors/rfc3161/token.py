"""A time-stamp response: taken apart leniently, written in one spelling only.

An authority signs TSTInfo and some attributes; all else in a response may be changed
by anybody who carries it: status texts, the order and the choice of certificates,
unsigned attributes, optional parameters. So a response is kept, and believed, in the
one form that `format_response` makes of its parts (RFC 3161 §2.4.2, RFC 5652 §5.1)::

    SEQUENCE { SEQUENCE { INTEGER 0 }                  -- granted, without a text
      SEQUENCE { signedData, [0] SEQUENCE {
        INTEGER 3, SET { digest }, SEQUENCE { id-ct-TSTInfo, [0] TSTInfo },
        [0] certificates,               -- the signer's and those above it, DER order
        SET { SEQUENCE { INTEGER 1, issuer and serial, digest,
          [0] signed attributes, as they are, algorithm, signature } } } } }

Algorithms stand without parameters (`rsaEncryption` with its NULL), an ECDSA
signature with the smaller of its two values for s. OpenSSL verifies it as it verifies
the original.
"""

from collections.abc import Sequence
from typing import NamedTuple

from auditlog.anchors.rfc3161 import der
from auditlog.anchors.rfc3161.algorithms import (
    HASHES,
    canonical_signature,
    check_algorithm,
    format_algorithm,
)
from auditlog.anchors.rfc3161.attributes import TST_INFO, check_attributes
from auditlog.anchors.rfc3161.certificate import names_of
from auditlog.anchors.rfc3161.info import Info, parse_info
from auditlog.core.errors import MalformedError

__all__ = ["MAX_TOKEN", "Token", "format_response", "open_response", "parse_token"]

MAX_TOKEN = 1 << 15
"""Bytes in the longest response; common ones have 1,000 to 6,000."""

_MAX_CERTIFICATES = 8
_SIGNED_DATA = "1.2.840.113549.1.7.2"


class Token(NamedTuple):
    """The parts of a response that mean something.

    That the signer's certificate is the one which the signed attributes name is
    checked; that anybody believed issued it, and the signature itself, are not.
    """

    info: Info
    content: bytes
    """TSTInfo in DER."""
    attributes: bytes
    """Content of the signed attributes."""
    digest: str
    """OID of the hash under the signature."""
    signature: bytes
    signer: bytes
    """Certificate in DER."""
    certificates: tuple[bytes, ...]
    """All that came along, the signer's first."""


def parse_token(data: bytes) -> Token:
    """Return the parts of a token, in whatever order its sets stand.

    Args:
        data: a TimeStampToken, which is a ContentInfo, in DER.

    Raises:
        MalformedError: it is no token of one signer, or made with what is unknown.
        VerificationError: the certificate is not the one that the signature names, or
            what is signed is not what the attributes tell.
    """
    kind, content = der.pair(der.whole(data, der.SEQUENCE, "a time-stamp token"))
    if der.oid(kind, "content type") != _SIGNED_DATA or content.tag != der.tagged(0):
        raise MalformedError("expected a token that is SignedData")
    signed = der.whole(content.content, der.SEQUENCE, "SignedData")
    version, _, encapsulated, *optional, signers = _members(signed)
    if der.integer(version, "version of SignedData") != 3:
        raise MalformedError("expected SignedData of version 3")
    found = der.items(signers.content)
    if len(found) != 1:
        raise MalformedError(f"expected a token of one signer, got {len(found)}")
    given = optional and optional[0].tag == der.tagged(0)
    certificates = der.items(optional[0].content) if given else []
    return _token(_content(encapsulated), certificates, found[0])


def format_response(token: Token, above: Sequence[bytes]) -> bytes:
    """Return a response with these parts.

    Args:
        token: the parts.
        above: certificates between the signer's and the root, in DER.
    """
    digest = der.encode(der.SEQUENCE, der.encode_oid(token.digest))
    names = names_of(token.signer)
    signer = der.encode(
        der.SEQUENCE,
        der.encode_integer(1),
        der.encode(der.SEQUENCE, names.issuer, names.serial),
        digest,
        der.encode(der.tagged(0), token.attributes),
        format_algorithm(names.key, HASHES[token.digest]),
        der.encode(der.OCTET_STRING, token.signature),
    )
    content = der.encode(
        der.SEQUENCE,
        der.encode_oid(TST_INFO),
        der.encode(der.tagged(0), der.encode(der.OCTET_STRING, token.content)),
    )
    signed = der.encode(
        der.SEQUENCE,
        der.encode_integer(3),
        der.encode(der.SET, digest),
        content,
        der.encode(der.tagged(0), *sorted([token.signer, *above])),
        der.encode(der.SET, signer),
    )
    status = der.encode(der.SEQUENCE, der.encode_integer(0))
    kind, signed = der.encode_oid(_SIGNED_DATA), der.encode(der.tagged(0), signed)
    return der.encode(der.SEQUENCE, status, der.encode(der.SEQUENCE, kind, signed))


def open_response(data: bytes) -> Token:
    """Return the parts of a response in the one form that is kept.

    Raises:
        MalformedError: `format_response` makes no such response.
        VerificationError: as for `parse_token`.
    """
    if len(data) > MAX_TOKEN:
        raise MalformedError(f"expected a response of up to {MAX_TOKEN} bytes")
    _, content = der.pair(der.whole(data, der.SEQUENCE, "a time-stamp response"))
    token = parse_token(content.raw)
    if format_response(token, _above(token)) != data:
        raise MalformedError("expected a time-stamp response in its canonical form")
    return token


def _above(token: Token) -> list[bytes]:
    """Return the certificates beside the signer's, if they are a chain upwards."""
    names = names_of(token.signer)
    left = {names_of(one): one for one in token.certificates[1:]}
    found = []
    while left:
        issuers = [one for one in left if one.subject == names.issuer]
        if len(issuers) != 1 or issuers[0].issuer == issuers[0].subject:
            raise MalformedError(
                "expected certificates of which each issued the one before, up to, "
                "and without, the root"
            )
        names = issuers[0]
        found.append(left.pop(names))
    return found


def _members(signed: der.Item) -> list[der.Item]:
    """Return the members of SignedData: four, and certificates and lists if any."""
    fields = der.items(signed.content)
    tags = [one.tag for one in fields]
    if len(fields) < 4 or tags[1:3] != [der.SET, der.SEQUENCE] or tags[-1] != der.SET:
        raise MalformedError("expected the members of SignedData")
    both = [der.tagged(0), der.tagged(1)]
    if tags[3:-1] not in ([], both[:1], both[1:], both):
        raise MalformedError("expected certificates and revocation lists, once each")
    return fields


def _token(content: bytes, certificates: list[der.Item], item: der.Item) -> Token:
    fields = der.items(item.content) if item.tag == der.SEQUENCE else []
    tags = [der.INTEGER, der.SEQUENCE, der.SEQUENCE, der.tagged(0)]
    tags += [der.SEQUENCE, der.OCTET_STRING]
    if [one.tag for one in fields][:6] != tags or len(fields) > 7:
        raise MalformedError(
            "expected a signer by issuer and serial number, with signed attributes"
        )
    signer, others = _find_signer(fields[1].content, certificates)
    digest = der.algorithm(fields[2], "digest algorithm")
    if digest not in HASHES:
        raise MalformedError("expected a signature over SHA-256, SHA-384 or SHA-512")
    check_attributes(fields[3].content, content, signer, HASHES[digest])
    key = names_of(signer).key
    check_algorithm(fields[4], key, HASHES[digest])
    signature = canonical_signature(fields[5].content, key)
    return Token(
        parse_info(content),
        content,
        fields[3].content,
        digest,
        signature,
        signer,
        (signer, *others),
    )


def _content(item: der.Item) -> bytes:
    kind, content = der.pair(item)
    if der.oid(kind, "content type") != TST_INFO or content.tag != der.tagged(0):
        raise MalformedError("expected TSTInfo in the token")
    return der.whole(content.content, der.OCTET_STRING, "TSTInfo").content


def _find_signer(
    sid: bytes, certificates: list[der.Item]
) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the one certificate with that issuer and serial number, and the others."""
    if len(certificates) > _MAX_CERTIFICATES:
        raise MalformedError(f"expected up to {_MAX_CERTIFICATES} certificates")
    found: list[bytes] = []
    others: list[bytes] = []
    for one in certificates:
        names = names_of(one.raw)
        matches = names.issuer + names.serial == sid
        (found if matches else others).append(one.raw)
    if len(found) != 1:
        raise MalformedError(
            f"expected exactly one certificate of the signer, got {len(found)}"
        )
    return found[0], tuple(others)
