"""A time-stamp authority (RFC 3161) with its own certificates, small but real.

``python -m demo_service.time_stamp_authority --dir D`` makes root, issuing authority
and signer in D unless they are there, serves on the loopback interface and prints its
URL, its policy and the path of ``root.pem``, one to a line. A second start goes on with
the same keys. It answers ``POST /`` with a token and ``GET /root.crl``,
``GET /issuing.crl`` with what is revoked now.
"""

import argparse
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "POLICY",
    "Clock",
    "Identity",
    "TimeStampAuthority",
    "authority_extensions",
    "issue",
    "load_authority",
    "refusal",
    "serving",
    "signer_extensions",
    "system_clock",
]

POLICY = "1.3.6.1.4.1.32473.3161.1"
"""OID from the arc that RFC 5612 sets aside for documentation."""

Clock = Callable[[], datetime]

_MAX_QUERY = 1 << 12
_QUERY, _REPLY = "application/timestamp-query", "application/timestamp-reply"
_CRL = "application/pkix-crl"
_NAMES = ("root", "issuing", "signer")
_YEARS = {"root": 20, "issuing": 10, "signer": 3}
_IMPRINTS = {"sha256": 32, "sha384": 48, "sha512": 64}


def system_clock() -> datetime:
    """Return the time of this machine."""
    return datetime.now(UTC)


class Identity(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> str:
        """The certificate in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()


def issue(
    name: str,
    issuer: Identity | None,
    start: datetime,
    end: datetime,
    *,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    key: ec.EllipticCurvePrivateKey | None = None,
    serial: int | None = None,
) -> Identity:
    """Make a certificate, self-signed where there is no issuer."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    signing = issuer.key if issuer else key
    named = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
    for extension, critical in (*extensions, (named, False), (above, False)):
        builder = builder.add_extension(extension, critical)
    return Identity(builder.sign(signing, hashes.SHA256()), key)


def authority_extensions(
    path_length: int | None,
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return what makes a certificate one that issues others."""
    return [
        (x509.BasicConstraints(ca=True, path_length=path_length), True),
        (_usage(key_cert_sign=True, crl_sign=True), True),
    ]


def signer_extensions() -> list[tuple[x509.ExtensionType, bool]]:
    """Return what makes a certificate one that stamps times (RFC 3161 §2.3)."""
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True),
    ]


class TimeStampAuthority:
    """Root, issuing authority and signer; stamps, and lists what is revoked."""

    def __init__(
        self,
        root: Identity,
        issuing: Identity,
        signer: Identity,
        *,
        clock: Clock = system_clock,
        policy: str = POLICY,
        accuracy: timedelta | None = timedelta(seconds=1),
    ) -> None:
        """Take certificates, which may be of anybody.

        Args:
            root: where verifiers end.
            issuing: issued by the root.
            signer: issued by the issuing authority, for time-stamping only.
            clock: tells the time that is stamped; lists are of that time, too.
            policy: OID under which tokens are issued.
            accuracy: stated in each token, if there is any.
        """
        self.root, self.issuing, self.signer = root, issuing, signer
        self.clock, self.policy, self.accuracy = clock, policy, accuracy
        self._revoked: dict[str, list[x509.RevokedCertificate]] = {
            "root": [],
            "issuing": [],
        }

    def revoke(
        self,
        what: Identity,
        at: datetime,
        reason: x509.ReasonFlags | None,
        invalid_since: datetime | None = None,
    ) -> None:
        """List the signer or the issuing authority as revoked from now on."""
        by = "root" if what is self.issuing else "issuing"
        builder = (
            x509.RevokedCertificateBuilder()
            .serial_number(what.certificate.serial_number)
            .revocation_date(at)
        )
        if reason is not None:
            builder = builder.add_extension(x509.CRLReason(reason), critical=False)
        if invalid_since is not None:
            since = x509.InvalidityDate(invalid_since)
            builder = builder.add_extension(since, critical=False)
        self._revoked[by].append(builder.build())

    def crl(self, by: str) -> bytes:
        """Return the list of ``root`` or ``issuing`` in DER, as of now."""
        issuer = {"root": self.root, "issuing": self.issuing}[by]
        now = self.clock().replace(microsecond=0)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(issuer.certificate.subject)
            .last_update(now)
            .next_update(now + timedelta(days=7))
        )
        for one in self._revoked[by]:
            builder = builder.add_revoked_certificate(one)
        signed = builder.sign(issuer.key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.DER)

    def reply(self, query: bytes) -> bytes:
        """Return the response to a request, or a refusal (RFC 3161 §2.4.2)."""
        try:
            asked = tsp.TimeStampReq.load(query, strict=True)
            algorithm = asked["message_imprint"]["hash_algorithm"]["algorithm"].native
            imprint = asked["message_imprint"]["hashed_message"].native
            policy = asked["req_policy"].native
            nonce, wanted = asked["nonce"].native, asked["cert_req"].native
        except (TypeError, ValueError):
            return _refused("bad_data_format")
        if len(imprint) != _IMPRINTS.get(algorithm):
            return _refused("bad_alg")
        if policy not in {None, self.policy}:
            return _refused("unaccepted_policy")
        token = self.stamp(
            self.info(imprint, nonce, algorithm), with_certificates=wanted
        )
        granted = {"status": {"status": "granted"}, "time_stamp_token": token}
        return bytes(tsp.TimeStampResp(granted).dump())

    def info(
        self, imprint: bytes, nonce: int | None = None, algorithm: str = "sha256"
    ) -> Any:
        """Return what would be signed for an imprint now, as asn1crypto's TSTInfo."""
        fields: dict[str, Any] = {
            "version": "v1",
            "policy": self.policy,
            "message_imprint": {
                "hash_algorithm": {"algorithm": algorithm},
                "hashed_message": imprint,
            },
            "serial_number": int.from_bytes(secrets.token_bytes(8), "big"),
            "gen_time": core.GeneralizedTime(self.clock()),
        }
        if self.accuracy:
            fields["accuracy"] = _accuracy(self.accuracy)
        if nonce is not None:
            fields["nonce"] = nonce
        return tsp.TSTInfo(fields)

    def stamp(
        self,
        info: Any,
        *,
        with_certificates: bool = True,
        named: Identity | None = None,
    ) -> Any:
        """Return a signed token, as asn1crypto's ContentInfo.

        Args:
            info: as from `info`.
            with_certificates: put those of signer and issuing authority in.
            named: whose certificate the signature names, the signer's if None.
        """
        content = info.dump()
        digest = algos.DigestAlgorithm({"algorithm": "sha256"})
        certificate_id = {
            "hash_algorithm": digest,
            "cert_hash": hashlib.sha256((named or self.signer).der).digest(),
        }
        attributes = cms.CMSAttributes(
            [
                _attribute("content_type", "tst_info"),
                _attribute("message_digest", hashlib.sha256(content).digest()),
                _attribute("signing_certificate_v2", {"certs": [certificate_id]}),
            ]
        )
        signature = self.signer.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256()))
        leaf = asn1_x509.Certificate.load(self.signer.der)
        signer = {
            "version": "v1",
            "sid": cms.IssuerAndSerialNumber(
                {"issuer": leaf.issuer, "serial_number": leaf.serial_number}
            ),
            "digest_algorithm": digest,
            "signed_attrs": attributes,
            "signature_algorithm": {"algorithm": "sha256_ecdsa"},
            "signature": signature,
        }
        signed: dict[str, Any] = {
            "version": "v3",
            "digest_algorithms": [digest],
            "encap_content_info": {
                "content_type": "tst_info",
                "content": core.ParsableOctetString(content),
            },
            "signer_infos": [cms.SignerInfo(signer)],
        }
        if with_certificates:
            signed["certificates"] = [
                asn1_x509.Certificate.load(one)
                for one in sorted([self.signer.der, self.issuing.der])
            ]
        content_info = {
            "content_type": "signed_data",
            "content": cms.SignedData(signed),
        }
        return cms.ContentInfo(content_info)


def load_authority(directory: Path, clock: Clock = system_clock) -> TimeStampAuthority:
    """Return the authority whose keys are in a directory, made there at first."""
    directory.mkdir(parents=True, exist_ok=True)
    now = clock()
    start = now.replace(microsecond=0) - timedelta(days=1)
    found: dict[str, Identity] = {}
    for name, issuer in zip(_NAMES, (None, *_NAMES[:2]), strict=True):
        above = None if issuer is None else found[issuer]
        known = _read(directory, name)
        if known is None:
            known = issue(
                name,
                above,
                start,
                start + timedelta(days=365 * _YEARS[name]),
                extensions=signer_extensions()
                if name == "signer"
                else authority_extensions(None if name == "root" else 0),
            )
            _write(directory, name, known)
        found[name] = known
    return TimeStampAuthority(*(found[name] for name in _NAMES), clock=clock)


@contextmanager
def serving(authority: TimeStampAuthority, port: int = 0) -> Iterator[str]:
    """Serve an authority in threads of this process; yield its URL."""
    with _Server(("127.0.0.1", port), authority) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], authority: TimeStampAuthority) -> None:
        self.authority = authority
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    wbufsize = -1  # one segment for each answer: else the peer waits for its ack
    timeout = 10

    def do_POST(self) -> None:
        """Stamp."""
        size = self.headers.get("Content-Length", "")
        if self.headers.get("Content-Type") != _QUERY:
            self.send_error(415)
        elif not (size.isdecimal() and len(size) < 9 and int(size) <= _MAX_QUERY):
            self.send_error(413)
        else:
            self._answer(
                _REPLY, self.server.authority.reply(self.rfile.read(int(size)))
            )

    def do_GET(self) -> None:
        """List what is revoked."""
        name = self.path.removeprefix("/").removesuffix(".crl")
        if self.path != f"/{name}.crl" or name not in _NAMES[:2]:
            self.send_error(404)
        else:
            self._answer(_CRL, self.server.authority.crl(name))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: the demo's screen is for its story."""

    def _answer(self, media_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Time of Demo"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _usage(**granted: bool) -> x509.KeyUsage:
    all_of_them = dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment"),
            *("data_encipherment", "key_agreement", "key_cert_sign", "crl_sign"),
            *("encipher_only", "decipher_only"),
        ),
        False,
    )
    return x509.KeyUsage(**{**all_of_them, **granted})


def _attribute(kind: str, value: Any) -> Any:
    return cms.CMSAttribute({"type": kind, "values": [value]})


def _accuracy(value: timedelta) -> dict[str, int]:
    seconds, rest = divmod(value // timedelta(microseconds=1), 1_000_000)
    parts = {"seconds": seconds, "millis": rest // 1000, "micros": rest % 1000}
    return {name: number for name, number in parts.items() if number}


def refusal(status: dict[str, Any]) -> bytes:
    """Return a response without a token, which asn1crypto's own type must have.

    Args:
        status: as asn1crypto's PKIStatusInfo takes it; in DER less than 128 bytes.
    """
    info = bytes(tsp.PKIStatusInfo(status).dump())
    assert len(info) < 0x80
    return bytes([0x30, len(info)]) + info


def _refused(why: str) -> bytes:
    return refusal({"status": "rejection", "fail_info": {why}})


def _read(directory: Path, name: str) -> Identity | None:
    try:
        key = (directory / f"{name}.key").read_bytes()
        pem = (directory / f"{name}.pem").read_bytes()
    except FileNotFoundError:
        return None
    private = serialization.load_pem_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return Identity(x509.load_pem_x509_certificate(pem), private)


def _write(directory: Path, name: str, identity: Identity) -> None:
    key = identity.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(directory / f"{name}.key", flags, 0o600), "wb") as file:
        file.write(key)
    (directory / f"{name}.pem").write_text(identity.pem, "ascii")


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m demo_service.time_stamp_authority")
    parser.add_argument("--dir", type=Path, default=Path("time-stamp-authority"))
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    authority = load_authority(options.dir)
    with _Server(("127.0.0.1", options.port), authority) as server:
        print(f"url http://127.0.0.1:{server.server_port}")
        print(f"policy {authority.policy}")
        print(f"root {options.dir.resolve() / 'root.pem'}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
