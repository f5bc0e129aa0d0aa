"""Checks evidence of kind ``rfc3161``: tokens of time-stamp authorities (RFC 3161).

Evidence is ``{"crls": [base64…], "response": base64}``: a response in the form of
`auditlog.anchors.rfc3161.token`, with the certificates up to the root in it, and
revocation lists in DER, sorted, that were fetched when it was made. The 32 bytes of
the digest are *data* to the authority: what its token holds is their SHA-256, so that
``openssl ts -verify -data <file of the 32 bytes>`` checks the same.

rfc3161-client decodes the response a second time and verifies the signature. It has
four holes that are closed here: it takes every certificate it is given for a root
(`path` finds its own way to the verifier's, and the library gets this way only); it
does not compare the hash of the signer's certificate with the signed one (`token`);
it refuses certificates in another order than DER's (`token` sorts them); and it cuts
fractions of a second off the time (`info` reads them).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any, NamedTuple

from cryptography import x509

from auditlog.anchors.attestation import Bound
from auditlog.anchors.rfc3161.algorithms import SHA_256
from auditlog.anchors.rfc3161.loading import (
    load_certificate,
    load_crl,
    load_root,
    parse_certificate,
    parse_crl,
)
from auditlog.anchors.rfc3161.path import Path, find_path, name_of
from auditlog.anchors.rfc3161.revocation import (
    RevocationList,
    check_revocation,
    signed_on,
)
from auditlog.anchors.rfc3161.token import MAX_TOKEN, Token, open_response
from auditlog.anchors.trust import Authority, Trust
from auditlog.core.encoding import parse_base64
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.record import check_fields

__all__ = [
    "MAX_CRL",
    "MAX_CRLS",
    "Believed",
    "check",
    "check_imprint",
    "check_tables",
    "find_authority",
    "require_library",
]

MAX_CRL = 1 << 17
"""Bytes in the longest revocation list that evidence holds."""
MAX_CRLS = 4
"""In one evidence: a path has three or four certificates."""


class Believed(NamedTuple):
    """Certificates and lists of an authority in the trust file, loaded."""

    root: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    crls: tuple[RevocationList, ...]


def check(digest: bytes, evidence: Mapping[str, Any], trust: Trust) -> Bound:
    """Return the time before which `digest` existed.

    It is the authority's time and the accuracy that it states; where it states none, a
    second is added, as its time may be cut to whole ones.

    Args:
        digest: 32 bytes.
        evidence: of a token that an `auditlog.anchors.rfc3161.anchor` asked for.
        trust: whom the verifier believes.

    Raises:
        MalformedError: the evidence does not follow its format.
        VerificationError: it proves nothing about this digest.
        UntrustedError: it is by an authority, or under a policy, that the trust file
            does not name.
        AuditLogError: rfc3161-client is not installed, or a revocation list of the
            trust file cannot be used.
    """
    fields = check_fields(
        dict(evidence), "rfc3161 evidence", {"crls": list, "response": str}
    )
    response = _blob(fields["response"], "a response", MAX_TOKEN)
    crls = [_blob(one, "a revocation list", MAX_CRL) for one in fields["crls"]]
    if crls != sorted(set(crls)) or len(crls) > MAX_CRLS:
        raise MalformedError(
            f"expected up to {MAX_CRLS} revocation lists in order, none twice"
        )
    return check_imprint(hashlib.sha256(digest).digest(), response, crls, trust)


def check_imprint(
    imprint: bytes, response: bytes, crls: Sequence[bytes], trust: Trust
) -> Bound:
    """Return the time before which something of this SHA-256 existed; see `check`."""
    token = open_response(response)
    info = token.info
    if info.hash_algorithm != SHA_256:
        raise VerificationError(
            f"expected a token over SHA-256, got one over {info.hash_algorithm}"
        )
    if info.imprint != imprint:
        raise VerificationError("the token is for another digest")
    brought = [parse_crl(one) for one in crls]
    authority, path, believed = find_authority(token, trust)
    until = info.moment + timedelta(microseconds=info.tolerance)
    own = (*believed.crls, *_lists_of_others(path, authority, trust))
    standing = check_revocation(path, own, brought, info.moment, until)
    _verify_signature(token, response, path)
    detail = f"token {info.serial:x} by {name_of(path[0])}; {standing}"
    return Bound("rfc3161", authority.party, info.not_after, detail)


def find_authority(token: Token, trust: Trust) -> tuple[Authority, Path, Believed]:
    """Return the first authority of the trust file whose root the token leads to.

    Returns:
        The authority, the path to its root, and what else it is believed to have.

    Raises:
        UntrustedError: there is none.
        VerificationError: the path to one does not hold at the time that was stamped.
        MalformedError: a certificate, or the trust file, is illegible.
    """
    policy = token.info.policy
    named = [one for one in trust.authorities if one.policy == policy]
    if not named:
        raise UntrustedError(
            f"the trust file names no authority with the policy {policy}"
        )
    signer, *brought = map(parse_certificate, token.certificates)
    failures: list[VerificationError] = []
    for authority in named:
        believed = _load(authority)
        between = _distinct((*brought, *believed.intermediates))
        try:
            path = find_path(signer, between, believed.root, token.info.moment)
        except VerificationError as failure:
            failures.append(failure)
        else:
            return authority, path, believed
    # One that holds, but for the time, says more than one that leads nowhere.
    failures.sort(key=lambda failure: isinstance(failure, UntrustedError))
    raise failures[0]


def check_tables(trust: Trust) -> None:
    """Read every authority of a trust file now, and not when its first token comes.

    Raises:
        MalformedError: a certificate or a list is illegible, or a root is none.
    """
    for authority in trust.authorities:
        _load(authority)


def require_library() -> Any:
    """Return the module of rfc3161-client.

    Raises:
        AuditLogError: it is not installed.
    """
    try:
        return import_module("rfc3161_client")
    except ImportError:
        raise AuditLogError(
            "rfc3161-client is not installed, without which no time-stamp is checked: "
            "install decision-auditlog[rfc3161]"
        ) from None


def _blob(text: Any, what: str, limit: int) -> bytes:
    if type(text) is not str or len(text) > (limit + 2) // 3 * 4:
        raise MalformedError(f"expected {what} of up to {limit} bytes in base64")
    return parse_base64(text)


def _load(authority: Authority) -> Believed:
    try:
        return Believed(
            load_root(authority.root),
            tuple(map(load_certificate, authority.intermediates)),
            tuple(map(load_crl, authority.revoked)),
        )
    except MalformedError as error:
        raise MalformedError(
            f"trust file, authority {authority.party!r}: {error}"
        ) from None


def _lists_of_others(
    path: Path, authority: Authority, trust: Trust
) -> list[RevocationList]:
    """Return lists in other tables that concern a path: a party may have several."""
    return [
        crl
        for other in trust.authorities
        if other is not authority
        for crl in _load(other).crls
        if signed_on(path, crl)
    ]


def _distinct(certificates: Iterable[x509.Certificate]) -> list[x509.Certificate]:
    return list(dict.fromkeys(certificates))


def _verify_signature(token: Token, response: bytes, path: Path) -> None:
    """Verify the signature, by the library, under the path that was found."""
    library = require_library()
    *between, root = path[1:]
    try:
        verifier = library.VerifierBuilder(
            policy_id=x509.ObjectIdentifier(token.info.policy),
            tsa_certificate=path[0],
            intermediates=between,
            roots=[root],
        ).build()
        decoded = library.decode_timestamp_response(response)
        seconds = decoded.tst_info.gen_time
        verifier.verify(decoded, token.info.imprint)
    except library.VerificationError as error:
        # The library appends the state of OpenSSL, with the paths of its sources.
        reason = str(error).partition(": ErrorStack")[0][:100]
        raise VerificationError(f"the token does not verify: {reason}") from None
    except ValueError as error:
        reason = str(error)[:100]
        raise MalformedError(
            f"rfc3161-client cannot read the token: {reason}"
        ) from None
    if seconds != token.info.moment.replace(microsecond=0):
        raise MalformedError("two readings of the token find different times")
