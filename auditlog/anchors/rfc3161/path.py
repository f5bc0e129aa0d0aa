"""From the certificate of a time-stamp authority up to a root (RFC 5280 §6).

A root comes from the verifier, and from nowhere else. Certificates between may come
from anybody: each must be issued by the next, and the last by the root, so one too
many, a stranger's root among them, leads nowhere. All must be valid at the time that
was stamped, whatever has expired since. Not supported, and refused where critical:
name and policy constraints.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from auditlog.core.errors import UntrustedError, VerificationError

__all__ = [
    "Path",
    "find_extension",
    "find_path",
    "hashed_well",
    "name_of",
    "signed_by",
]

Path = tuple[x509.Certificate, ...]
"""The signer first, the root last."""

_T = TypeVar("_T", bound=x509.ExtensionType)

_MAX_LENGTH = 6
_DIGESTS = {"sha256", "sha384", "sha512"}
_UNDERSTOOD = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.CERTIFICATE_POLICIES,  # any policy of a certificate will do
    ExtensionOID.EXTENDED_KEY_USAGE,
    ExtensionOID.KEY_USAGE,
}
_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
_CA_USAGES = {_STAMPING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


def find_path(
    signer: x509.Certificate,
    between: Sequence[x509.Certificate],
    root: x509.Certificate,
    at: datetime,
) -> Path:
    """Return a path on which a certificate could stamp a time.

    All certificates are as `auditlog.anchors.rfc3161.loading` gives them.

    Args:
        signer: of the authority.
        between: what may stand between, from whatever source.
        root: the verifier's.
        at: the time that was stamped.

    Raises:
        UntrustedError: nothing leads to the root.
        VerificationError: the path does not hold at that time, or not for this use.
    """
    failures: list[VerificationError] = []
    path = _climb((signer,), between, root, at, failures)
    if path is not None:
        _check_signer(signer, at)
        return path
    if failures:
        raise failures[0]
    raise UntrustedError(
        f"no path from the certificate of {name_of(signer)} to the root {name_of(root)}"
    )


def find_extension(
    extensions: x509.Extensions, kind: type[_T]
) -> x509.Extension[_T] | None:
    """Return the extension of a kind, None if there is none."""
    try:
        return extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def hashed_well(
    signed: x509.Certificate | x509.CertificateRevocationList,
) -> bool:
    """Tell whether a signature is over a hash in which nobody finds collisions."""
    try:
        algorithm = signed.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return False
    return algorithm is not None and algorithm.name in _DIGESTS


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether a certificate bears the name and the signature of an issuer."""
    if certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, UnsupportedAlgorithm, ValueError):
        return False
    return True


def name_of(certificate: x509.Certificate) -> str:
    """Return the subject of a certificate for a reader: printable, not too long."""
    try:
        text = certificate.subject.rfc4514_string()
    except ValueError:
        text = "?"
    legible = "".join(letter if letter.isprintable() else "?" for letter in text)
    return legible[:100] or "?"


def _climb(
    trail: Path,
    between: Sequence[x509.Certificate],
    root: x509.Certificate,
    at: datetime,
    failures: list[VerificationError],
) -> Path | None:
    """Return the first way up that holds; note why others do not."""
    for issuer in (root, *between):
        if issuer in trail or not _issued(trail[-1], issuer):
            continue
        try:
            _check_issuer(issuer, trail, at)
        except VerificationError as failure:
            failures.append(failure)
            continue
        if issuer == root:
            return (*trail, issuer)
        if len(trail) < _MAX_LENGTH - 1:
            path = _climb((*trail, issuer), between, root, at, failures)
            if path is not None:
                return path
    return None


@lru_cache(64)  # the way up is the same for all tokens of an authority
def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    return hashed_well(certificate) and signed_by(certificate, issuer)


def _check_signer(certificate: x509.Certificate, at: datetime) -> None:
    """Check that a certificate is for stamping times only (RFC 3161 §2.3)."""
    extensions = _common(certificate, at)
    name = name_of(certificate)
    usage = find_extension(extensions, x509.ExtendedKeyUsage)
    if usage is None or not usage.critical or list(usage.value) != [_STAMPING]:
        raise VerificationError(
            f"the certificate of {name} is not for time-stamping only: expected that "
            "as its one, critical, extended key usage"
        )
    basic = find_extension(extensions, x509.BasicConstraints)
    keys = find_extension(extensions, x509.KeyUsage)
    if (basic is not None and basic.value.ca) or (
        keys is not None and not _signs_only(keys.value)
    ):
        raise VerificationError(
            f"the certificate of {name} is not for digital signatures only"
        )


def _signs_only(usage: x509.KeyUsage) -> bool:
    other = (
        usage.key_encipherment,
        usage.data_encipherment,
        usage.key_agreement,
        usage.key_cert_sign,
        usage.crl_sign,
    )
    return (usage.digital_signature or usage.content_commitment) and not any(other)


def _check_issuer(certificate: x509.Certificate, trail: Path, at: datetime) -> None:
    """Check that a certificate may issue the last one of a trail."""
    extensions = _common(certificate, at)
    name = name_of(certificate)
    basic = find_extension(extensions, x509.BasicConstraints)
    keys = find_extension(extensions, x509.KeyUsage)
    if (
        basic is None
        or not basic.value.ca
        or (keys is not None and not keys.value.key_cert_sign)
    ):
        raise VerificationError(f"{name} is not an authority that issues certificates")
    usage = find_extension(extensions, x509.ExtendedKeyUsage)
    if usage is not None and not _CA_USAGES & set(usage.value):
        raise VerificationError(f"{name} does not issue for time-stamping")
    below = sum(one.issuer != one.subject for one in trail[1:])
    if basic.value.path_length is not None and basic.value.path_length < below:
        raise VerificationError(f"the path below {name} is longer than it allows")


def _common(certificate: x509.Certificate, at: datetime) -> x509.Extensions:
    """Check what every certificate of a path must be, and return its extensions."""
    name = name_of(certificate)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= at <= end:
        raise VerificationError(
            f"the certificate of {name} is valid from {start:%Y-%m-%dT%H:%M:%SZ} to "
            f"{end:%Y-%m-%dT%H:%M:%SZ}, and not at the time that was stamped, "
            f"{at:%Y-%m-%dT%H:%M:%SZ}"
        )
    extensions = certificate.extensions
    for one in extensions:
        if one.critical and one.oid not in _UNDERSTOOD:
            raise VerificationError(
                f"the certificate of {name} has a critical extension that is not "
                f"understood here, {one.oid.dotted_string}"
            )
    return extensions
