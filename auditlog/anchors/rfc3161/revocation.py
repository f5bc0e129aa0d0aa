"""What revocation lists say about the path of a token (RFC 5280 §5, RFC 3161 §4).

A list can only take belief away. Whoever carries evidence chooses which lists are in
it, so one that is missing, or older than the token, shows nothing; that is said, not
held against it. What is revoked is refused like this:

===================================================  =================================
reason                                               tokens refused
===================================================  =================================
unspecified, affiliationChanged, superseded,         those stamped at the time of
cessationOfOperation                                 revocation or later
any other, a hold too, or none stated                all: the key may have been stolen
any, with an invalidity date                         those stamped then or later, too
===================================================  =================================

A revoked authority over the signer's counts in the same way.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from auditlog.anchors.rfc3161.path import (
    Path,
    find_extension,
    hashed_well,
    name_of,
)
from auditlog.core.errors import AuditLogError, MalformedError, VerificationError

__all__ = ["RevocationList", "check_revocation", "signed_on"]

RevocationList = x509.CertificateRevocationList

_ORDERLY = {
    x509.ReasonFlags.affiliation_changed,
    x509.ReasonFlags.cessation_of_operation,
    x509.ReasonFlags.superseded,
    x509.ReasonFlags.unspecified,
}


def check_revocation(
    path: Path,
    own: Sequence[RevocationList],
    brought: Sequence[RevocationList],
    at: datetime,
    until: datetime,
) -> str:
    """Refuse a path of which a certificate was revoked when it mattered.

    Args:
        path: as `auditlog.anchors.rfc3161.path.find_path` gives it.
        own: lists of the verifier; those of other authorities are passed over.
        brought: lists that came with the evidence.
        at: the time that was stamped.
        until: the same and the tolerance of the clock: the token is no younger.

    Returns:
        What is known of the standing of the path, for a reader.

    Raises:
        VerificationError: something on the path is revoked, or a list that was
            brought is signed by nobody on it.
        AuditLogError: a list of the verifier carries the name of somebody on the path,
            but not their signature.
    """
    signers = {id(one): _signer(path, one) for one in (*own, *brought)}
    if any(signers[id(one)] is None for one in brought):
        raise VerificationError(
            "the evidence holds a revocation list that nobody on the path signed"
        )
    for one in own:
        if signers[id(one)] is None:
            _check_stranger(path, one)
    unknown, known = [], []
    for certificate, issuer in pairwise(path):
        lists = [one for one in (*own, *brought) if signers[id(one)] is issuer]
        for one in lists:
            _check_listed(certificate, one, until)
        good = _good_until(certificate, lists, at)
        if good is None:
            unknown.append(name_of(certificate))
        else:
            known.append(good)
    if not known:
        return "revocation not checked, as no list younger than the token is here"
    since = f"not revoked by {min(known):%Y-%m-%dT%H:%M:%SZ}"
    return since if not unknown else f"{since}, but not known for {', '.join(unknown)}"


def signed_on(path: Path, revoked: RevocationList) -> bool:
    """Tell whether an issuer on the path signed a list."""
    return _signer(path, revoked) is not None


def _signer(path: Path, revoked: RevocationList) -> x509.Certificate | None:
    return next((one for one in path[1:] if _signed(revoked, one)), None)


def _signed(revoked: RevocationList, issuer: x509.Certificate) -> bool:
    if revoked.issuer != issuer.subject or not hashed_well(revoked):
        return False
    usage = find_extension(issuer.extensions, x509.KeyUsage)
    if usage is not None and not usage.value.crl_sign:
        return False
    try:
        # The types of keys that may issue certificates are those that may sign lists.
        return revoked.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (TypeError, UnsupportedAlgorithm, ValueError):
        return False


def _good_until(
    certificate: x509.Certificate, lists: Sequence[RevocationList], at: datetime
) -> datetime | None:
    """Return up to when lists that do not name a certificate show it in good standing.

    None if none of them is younger than the stamped time: it shows nothing.
    """
    good = [
        one.last_update_utc
        for one in lists
        if one.last_update_utc >= at and _covers(one, certificate)
    ]
    return max(good, default=None)


def _check_stranger(path: Path, revoked: RevocationList) -> None:
    for issuer in path[1:]:
        if revoked.issuer == issuer.subject:
            raise AuditLogError(
                f"the trust file has a revocation list in the name of "
                f"{name_of(issuer)} that is not signed, over SHA-2, by the key in this "
                "path"
            )


def _check_listed(
    certificate: x509.Certificate, revoked: RevocationList, until: datetime
) -> None:
    try:
        entry = revoked.get_revoked_certificate_by_serial_number(
            certificate.serial_number
        )
        if entry is None:
            return
        since, orderly = _revocation(entry)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise MalformedError(
            "expected a revocation list with legible entries"
        ) from None
    if not orderly:
        raise VerificationError(
            f"the certificate of {name_of(certificate)} is revoked for a reason that "
            "leaves no token of it good"
        )
    if since <= until:
        raise VerificationError(
            f"the certificate of {name_of(certificate)} was revoked on "
            f"{since:%Y-%m-%dT%H:%M:%SZ}, before the time that was stamped had passed"
        )


def _revocation(entry: x509.RevokedCertificate) -> tuple[datetime, bool]:
    """Return from when on a certificate is not good, and whether it is before."""
    since, orderly = entry.revocation_date_utc, False
    for extension in entry.extensions:
        value = extension.value
        if isinstance(value, x509.CRLReason):
            orderly = value.reason in _ORDERLY
        elif isinstance(value, x509.InvalidityDate):
            since = min(since, value.invalidity_date_utc)
    return since, orderly


def _covers(revoked: RevocationList, certificate: x509.Certificate) -> bool:
    """Tell whether a list would name a certificate, were it revoked."""
    extensions = revoked.extensions
    point = ExtensionOID.ISSUING_DISTRIBUTION_POINT
    if any(one.critical and one.oid != point for one in extensions):
        return False
    part = find_extension(extensions, x509.IssuingDistributionPoint)
    if part is None:
        return True
    value = part.value
    basic = find_extension(certificate.extensions, x509.BasicConstraints)
    is_ca = basic is not None and basic.value.ca
    excluded = value.only_contains_user_certs if is_ca else value.only_contains_ca_certs
    other = value.indirect_crl or value.only_contains_attribute_certs
    return not (excluded or other or value.only_some_reasons) and _at(
        value, certificate
    )


def _at(part: x509.IssuingDistributionPoint, certificate: x509.Certificate) -> bool:
    """Tell whether a list stands where a certificate says that it is listed."""
    if part.full_name is None and part.relative_name is None:
        return True
    points = find_extension(certificate.extensions, x509.CRLDistributionPoints)
    named = {
        name
        for point in (points.value if points is not None else ())
        for name in point.full_name or ()
    }
    return bool(named & set(part.full_name or ()))
