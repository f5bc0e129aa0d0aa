"""Certificates and revocation lists, from bytes and from a verifier's PEM texts."""

from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.utils import CryptographyDeprecationWarning

from auditlog.anchors.rfc3161.path import hashed_well, signed_by
from auditlog.core.errors import MalformedError

__all__ = [
    "load_certificate",
    "load_crl",
    "load_root",
    "parse_certificate",
    "parse_crl",
]

_ILLEGIBLE = (
    CryptographyDeprecationWarning,  # where warnings are errors: refused some day
    TypeError,
    UnsupportedAlgorithm,
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


# The files of a verifier, and what an authority sends along, are the same each time.
@lru_cache(64)
def load_certificate(pem: str) -> x509.Certificate:
    """Return the certificate of a PEM text that holds one and no other.

    Raises:
        MalformedError: it does not.
    """
    try:
        (found,) = x509.load_pem_x509_certificates(pem.encode())
        _read_certificate(found)
    except _ILLEGIBLE:
        raise MalformedError("expected one X.509 certificate in PEM") from None
    return found


def load_root(pem: str) -> x509.Certificate:
    """Return a certificate that signed itself, which is where a path can end.

    Raises:
        MalformedError: it is something else.
    """
    root = load_certificate(pem)
    # Old ones signed themselves with SHA-1, which nobody needs to verify: the verifier
    # vouches for a root.
    checkable = hashed_well(root)
    if root.issuer != root.subject or (checkable and not signed_by(root, root)):
        raise MalformedError("expected a root, which is a self-signed certificate")
    return root


@lru_cache(64)
def parse_certificate(data: bytes) -> x509.Certificate:
    """Return a certificate in DER.

    Raises:
        MalformedError: it is none.
    """
    try:
        found = x509.load_der_x509_certificate(data)
        _read_certificate(found)
    except _ILLEGIBLE:
        raise MalformedError("expected an X.509 certificate in DER") from None
    return found


@lru_cache(16)
def load_crl(pem: str) -> x509.CertificateRevocationList:
    """Return the revocation list of a PEM text that holds one and no other.

    Raises:
        MalformedError: it does not.
    """
    # The library reads the first list of several, and says nothing of the others.
    if pem.count("-----BEGIN ") != 1:
        raise MalformedError("expected one X.509 revocation list in PEM")
    try:
        found = x509.load_pem_x509_crl(pem.encode())
        _read_crl(found)
    except _ILLEGIBLE:
        raise MalformedError("expected one X.509 revocation list in PEM") from None
    return found


def parse_crl(data: bytes) -> x509.CertificateRevocationList:
    """Return a revocation list in DER.

    Raises:
        MalformedError: it is none.
    """
    try:
        found = x509.load_der_x509_crl(data)
        _read_crl(found)
    except _ILLEGIBLE:
        raise MalformedError("expected an X.509 revocation list in DER") from None
    return found


def _read_certificate(certificate: x509.Certificate) -> None:
    """Read now what the library would read, and refuse, at some later use."""
    _ = certificate.issuer, certificate.subject, certificate.extensions
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _read_crl(crl: x509.CertificateRevocationList) -> None:
    _ = crl.issuer, crl.last_update_utc, crl.next_update_utc, crl.extensions
