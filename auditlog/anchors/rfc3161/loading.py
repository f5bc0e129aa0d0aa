"""Certificates and revocation lists, from bytes and from a verifier's PEM texts."""

from functools import lru_cache

from cryptography import x509

from auditlog.anchors.rfc3161.path import issued
from auditlog.core.errors import MalformedError

__all__ = ["load_certificate", "load_crl", "load_root", "parse_certificate"]


def load_certificate(pem: str) -> x509.Certificate:
    """Return the certificate of a PEM text that holds one and no other.

    Raises:
        MalformedError: it does not.
    """
    return _load_certificate(pem)


def load_root(pem: str) -> x509.Certificate:
    """Return a certificate that signed itself, which is where a path can end.

    Raises:
        MalformedError: it is something else.
    """
    root = load_certificate(pem)
    if not issued(root, root):
        raise MalformedError("expected a root, which is a self-signed certificate")
    return root


def parse_certificate(data: bytes) -> x509.Certificate:
    """Return a certificate in DER.

    Raises:
        MalformedError: it is none.
    """
    try:
        return x509.load_der_x509_certificate(data)
    except (ValueError, TypeError):
        raise MalformedError("expected an X.509 certificate in DER") from None


def load_crl(data: bytes | str) -> x509.CertificateRevocationList:
    """Return a revocation list in DER, or as text in PEM.

    Raises:
        MalformedError: it is none.
    """
    try:
        if isinstance(data, str):
            return _load_crl(data)
        return x509.load_der_x509_crl(data)
    except (ValueError, TypeError):
        raise MalformedError("expected an X.509 revocation list") from None


# The files of a verifier are the same for all evidence.
@lru_cache(64)
def _load_certificate(pem: str) -> x509.Certificate:
    try:
        (found,) = x509.load_pem_x509_certificates(pem.encode())
    except (ValueError, TypeError):
        raise MalformedError("expected one X.509 certificate in PEM") from None
    return found


@lru_cache(16)
def _load_crl(pem: str) -> x509.CertificateRevocationList:
    # The library reads the first list of several, and says nothing of the others.
    if pem.count("-----BEGIN ") != 1:
        raise MalformedError("expected one X.509 revocation list in PEM")
    return x509.load_pem_x509_crl(pem.encode())
