"""The hashes and signatures that are believed in a token, in one spelling each."""

from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from auditlog.anchors.rfc3161 import der
from auditlog.core.errors import MalformedError

__all__ = [
    "HASHES",
    "SHA_256",
    "canonical_signature",
    "check_algorithm",
    "format_algorithm",
]

SHA_256 = "2.16.840.1.101.3.4.2.1"
HASHES = {
    SHA_256: "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
"""Names by OID."""

_RSA, _EC = "1.2.840.113549.1.1.1", "1.2.840.10045.2.1"
_RSA_WITH = {
    "sha256": "1.2.840.113549.1.1.11",
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
}
_ECDSA_WITH = {
    "sha256": "1.2.840.10045.4.3.2",
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}
_P_256 = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"
_P_384 = (
    "ffffffffffffffffffffffffffffffffffffffffffffffff"
    "c7634d81f4372ddf581a0db248b0a77aecec196accc52973"
)
_P_521 = (
    "1fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
    "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409"
)
_ORDERS = {
    "1.2.840.10045.3.1.7": int(_P_256, 16),
    "1.3.132.0.34": int(_P_384, 16),
    "1.3.132.0.35": int(_P_521, 16),
}
"""Of the groups of three curves (SEC 2), by OID."""


def check_algorithm(item: der.Item, key: tuple[str, ...], digest: str) -> None:
    """Check that an AlgorithmIdentifier fits the signer's key and digest.

    Args:
        item: of a SignerInfo.
        key: OIDs of the signer's key.
        digest: name of the hash.

    Raises:
        MalformedError: it does not, or is none that is believed.
    """
    name = der.algorithm(item, "signature algorithm")
    rsa = key == (_RSA,) and name in {_RSA, _RSA_WITH[digest]}
    ecdsa = _order(key) and name == _ECDSA_WITH[digest]
    if not (rsa or ecdsa):
        raise MalformedError(
            "expected a signature by RSA (PKCS #1 v1.5), or ECDSA on P-256, P-384 or "
            "P-521, over the digest that is named"
        )


def format_algorithm(key: tuple[str, ...], digest: str) -> bytes:
    """Return the AlgorithmIdentifier for a key that `check_algorithm` knows."""
    if key == (_RSA,):
        null = der.encode(der.NULL)
        return der.encode(der.SEQUENCE, der.encode_oid(_RSA), null)
    return der.encode(der.SEQUENCE, der.encode_oid(_ECDSA_WITH[digest]))


def canonical_signature(signature: bytes, key: tuple[str, ...]) -> bytes:
    """Return a signature with the smaller s, of the two that ECDSA takes for equal.

    Raises:
        MalformedError: it is no signature of such a key.
    """
    order = _order(key)
    if not order:
        return signature
    try:
        r, s = decode_dss_signature(signature)
    except ValueError:
        raise MalformedError("expected an ECDSA signature in DER") from None
    if not (0 < r < order and 0 < s < order):
        raise MalformedError("expected an ECDSA signature within its group")
    return encode_dss_signature(r, min(s, order - s))


def _order(key: tuple[str, ...]) -> int:
    return _ORDERS.get(key[1], 0) if len(key) == 2 and key[0] == _EC else 0
