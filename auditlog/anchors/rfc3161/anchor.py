"""Asks a time-stamp authority (RFC 3161) over HTTP, and keeps what proves it later.

An answer is stored only if `check`, which a verifier uses, accepts it under the
operator's own root: a token that nobody could check is no anchor. With revocation
lists configured it is pending until each of them, as published at the stamped time or
later, could be put into the evidence; they show that nothing was revoked *then*, when
the authority is long gone. They are fetched from where the operator says, never from
where a certificate points.

Options of ``[[anchor]]`` with ``kind = "rfc3161"``::

    url = "https://tsa.example/tsr"
    policy = "1.2.3.4.1"              # OID; it is asked for, and must be named
    root = "tsa-root.pem"             # files: in the log's directory, or absolute
    intermediates = "tsa-cas.pem"     # optional: if tokens come without
    crls = ["http://tsa.example/ca.crl", "root.crl"]    # optional: URLs and files
    timeout = 10                      # optional: seconds for each request
"""

import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding

from auditlog.anchors.attestation import Attestation
from auditlog.anchors.http import Endpoint, Response, get, post
from auditlog.anchors.rfc3161.check import (
    MAX_CRL,
    check,
    find_authority,
    require_library,
)
from auditlog.anchors.rfc3161.loading import load_crl, parse_crl
from auditlog.anchors.rfc3161.options import parse_options, read_file
from auditlog.anchors.rfc3161.query import format_query, parse_reply
from auditlog.anchors.rfc3161.token import (
    MAX_TOKEN,
    Token,
    format_response,
    open_response,
)
from auditlog.anchors.trust import Authority, Trust
from auditlog.core.encoding import format_base64, parse_base64
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    VerificationError,
)

__all__ = ["TimeStampAnchor", "configure"]

_QUERY, _REPLY = "application/timestamp-query", "application/timestamp-reply"
_NONCE_BYTES = 8
"""More is allowed, and some authorities do not take it."""
_MAX_SKEW = 300.0
"""Seconds that the clock of an authority may differ from ours."""
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class TimeStampAnchor:
    """An `auditlog.anchors.attestation.Anchor` that is a time-stamp authority."""

    name: str
    endpoint: Endpoint
    authority: Authority
    """As the operator believes it."""
    crls: tuple[Endpoint | Path, ...] = ()
    """Where revocation lists are published."""
    timeout: float = 10.0
    """Seconds for each request, name look-up excepted."""

    @property
    def kind(self) -> str:
        """Always ``rfc3161``."""
        return "rfc3161"

    def submit(
        self, digest: bytes, pending: Sequence[Attestation], *, now: float
    ) -> Attestation:
        """Have a digest stamped; see `auditlog.anchors.attestation.Anchor`.

        Asking twice does no harm: it makes two tokens, of which either will do.
        """
        imprint = hashlib.sha256(digest).digest()
        nonce = int.from_bytes(secrets.token_bytes(_NONCE_BYTES), "big")
        token = self._ask(format_query(imprint, nonce, self.authority.policy))
        self._check_answer(token, imprint, nonce, now)
        _, path, _ = find_authority(token, self._trust)
        above = [one.public_bytes(Encoding.DER) for one in path[1:-1]]
        response = format_response(token, above)
        evidence = {"crls": [], "response": format_base64(response)}
        check(digest, evidence, self._trust)
        return Attestation(self.kind, "pending" if self.crls else "final", evidence)

    def upgrade(
        self, digest: bytes, attestation: Attestation, *, now: float
    ) -> Attestation:
        """Add revocation lists, once all of them are younger than the token."""
        if attestation.state == "final":
            return attestation
        evidence = dict(attestation.evidence)
        check(digest, evidence, self._trust)
        stamped = open_response(parse_base64(evidence["response"])).info.moment
        lists = {self._fetch(source) for source in self.crls}
        evidence["crls"] = [format_base64(one) for one in sorted(lists)]
        # Also before all of them are young enough: what is revoked is not worth a wait.
        check(digest, evidence, self._trust)
        if any(parse_crl(one).last_update_utc < stamped for one in lists):
            return attestation
        return Attestation(self.kind, "final", evidence)

    @property
    def _trust(self) -> Trust:
        return Trust(authorities=(self.authority,))

    def _ask(self, query: bytes) -> Token:
        deadline = time.monotonic() + self.timeout
        response = post(
            self.endpoint,
            _slash(self.endpoint),
            query,
            deadline,
            content_type=_QUERY,
            accept=_REPLY,
            limit=MAX_TOKEN,
        )
        body = _body(self.endpoint, response)
        if response.content_type != _REPLY:
            raise MalformedError(
                f"{self.endpoint.url} answered with {response.content_type[:60]!r}, "
                f"expected {_REPLY}: is it a time-stamp authority?"
            )
        return parse_reply(body)

    def _check_answer(
        self, token: Token, imprint: bytes, nonce: int, now: float
    ) -> None:
        """Check that a token answers this request, and by a clock like ours."""
        info = token.info
        url = self.endpoint.url
        if info.nonce != nonce:
            raise VerificationError(f"{url} answered another request: other nonce")
        if info.imprint != imprint:
            raise VerificationError(f"{url} stamped another digest")
        if info.policy != self.authority.policy:
            raise VerificationError(
                f"{url} stamped under the policy {info.policy}, expected "
                f"{self.authority.policy}"
            )
        skew = info.time / 1e6 - now
        if abs(skew) > _MAX_SKEW + info.tolerance / 1e6:
            raise VerificationError(
                f"{url} stamped a time {skew:+.0f} s from ours; expected up to "
                f"{_MAX_SKEW:.0f}: which of the two clocks is wrong?"
            )

    def _fetch(self, source: Endpoint | Path) -> bytes:
        """Return a revocation list in DER."""
        if isinstance(source, Path):
            data, name = read_file(source), str(source)
        else:
            deadline = time.monotonic() + self.timeout
            response = get(source, _slash(source), deadline, limit=MAX_CRL)
            data, name = _body(source, response), source.url
        try:
            if data.startswith(b"-----"):
                found = load_crl(data.decode("ascii", "replace"))
            else:
                found = parse_crl(data)
        except MalformedError as error:
            raise MalformedError(f"{name}: {error}") from None
        return found.public_bytes(Encoding.DER)


def configure(
    name: str, options: Mapping[str, Any], directory: Path
) -> TimeStampAnchor:
    """Return the anchor that an operator's ``[[anchor]]`` table describes.

    Args:
        name: the operator's name for it.
        options: the table without `kind` and `name`.
        directory: against which file names are resolved.

    Raises:
        ConfigurationError: an option is missing, unknown or unusable, or
            rfc3161-client is not installed.
    """
    try:
        require_library()
    except AuditLogError as error:
        raise ConfigurationError(f"anchor {name}: {error}") from None
    return TimeStampAnchor(name, *parse_options(name, options, directory))


def _slash(endpoint: Endpoint) -> str:
    """Return what `parse_endpoint` cut off: to some servers it makes a difference."""
    return "/" if endpoint.url.endswith("/") or not endpoint.path else ""


def _body(endpoint: Endpoint, response: Response) -> bytes:
    status = response.status
    if status == 200:
        return response.body
    if status == _TOO_MANY_REQUESTS or status >= 500:
        raise AuditLogError(f"{endpoint.url} cannot answer now ({status})")
    if 300 <= status < 400:
        raise MalformedError(
            f"{endpoint.url} redirects ({status}), which is not followed: configure "
            "the final URL"
        )
    raise MalformedError(f"{endpoint.url} answered with status {status}")
