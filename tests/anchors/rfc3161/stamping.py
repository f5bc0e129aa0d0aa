"""Authorities with clocks of their own, honest and not, and evidence made by them."""

import hashlib
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from asn1crypto import cms, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from auditlog.anchors.rfc3161.token import Token, format_response, parse_token
from auditlog.anchors.trust import Authority, Trust
from auditlog.core.encoding import format_base64
from demo_service.time_stamp_authority import (
    POLICY,
    Identity,
    TimeStampAuthority,
    authority_extensions,
    issue,
    signer_extensions,
)

__all__ = [
    "DAY",
    "DIGEST",
    "NOON",
    "Clock",
    "answering",
    "evidence_of",
    "make_authority",
    "openssl_authority",
    "pem_crl",
    "reply_with",
    "response_of",
    "swap_certificates",
    "token_of",
    "trust_in",
    "us",
]

NOON = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
DIGEST = hashlib.sha256(b"a checkpoint").digest()


class Clock:
    """Says what it is told to say."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def timestamp(self) -> float:
        return self.now.timestamp()


def us(moment: datetime) -> int:
    return (
        int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond
    )


def make_authority(
    clock: Callable[[], datetime] | None = None,
    *,
    start: datetime = NOON - DAY,
    end: datetime = NOON + 365 * DAY,
    signer: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
    issuing: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
    root: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
    signer_key: ec.EllipticCurvePrivateKey | None = None,
    **options: Any,
) -> TimeStampAuthority:
    """An authority whose root and issuing authority outlive its signer's certificate.

    All of them have the same names, as those of an impostor would.
    """
    clock = clock or Clock()
    long_ago, far_off = start - 400 * DAY, end + 4000 * DAY
    top = issue(
        "root", None, long_ago, far_off, extensions=root or authority_extensions(None)
    )
    middle = issue(
        "issuing",
        top,
        long_ago,
        far_off,
        extensions=issuing or authority_extensions(0),
    )
    usage = signer or signer_extensions()
    leaf = issue("signer", middle, start, end, extensions=usage, key=signer_key)
    return TimeStampAuthority(top, middle, leaf, clock=clock, **options)


def token_of(
    authority: TimeStampAuthority, digest: bytes = DIGEST, **options: Any
) -> Any:
    """A token of the digest, as asn1crypto's ContentInfo."""
    info = authority.info(hashlib.sha256(digest).digest())
    return authority.stamp(info, **options)


def response_of(
    authority: TimeStampAuthority,
    token: Any = None,
    above: Sequence[bytes] | None = None,
) -> bytes:
    """A response as it is kept."""
    token = token_of(authority) if token is None else token
    parts: Token = parse_token(token.dump())
    return format_response(parts, [authority.issuing.der] if above is None else above)


def evidence_of(
    authority: TimeStampAuthority,
    token: Any = None,
    *,
    crls: Sequence[bytes] = (),
    above: Sequence[bytes] | None = None,
) -> dict[str, Any]:
    """Evidence as an anchor keeps it, made without any of its checks."""
    return {
        "crls": [format_base64(one) for one in sorted(crls)],
        "response": format_base64(response_of(authority, token, above)),
    }


def trust_in(*authorities: TimeStampAuthority | Authority) -> Trust:
    return Trust(
        tuple(
            one
            if isinstance(one, Authority)
            else Authority("TSA of Example", one.policy, one.root.pem)
            for one in authorities
        )
    )


def pem_crl(der: bytes) -> str:
    crl = x509.load_der_x509_crl(der)
    return crl.public_bytes(serialization.Encoding.PEM).decode()


def swap_certificates(
    token: Any, certificates: Sequence[Identity], sid: Identity | None = None
) -> Any:
    """Put other certificates into a token, and have its signer named by one of them."""
    signed = token["content"]
    loaded = [asn1_x509.Certificate.load(one.der) for one in certificates]
    signed["certificates"] = cms.CertificateSet(
        [cms.CertificateChoices("certificate", one) for one in loaded]
    )
    if sid is not None:
        leaf = asn1_x509.Certificate.load(sid.der)
        named = {"issuer": leaf.issuer, "serial_number": leaf.serial_number}
        signed["signer_infos"][0]["sid"] = cms.SignerIdentifier(
            "issuer_and_serial_number", cms.IssuerAndSerialNumber(named)
        )
    return token


def reply_with(token: Any, status: str = "granted") -> bytes:
    """The response in which an authority sends a token."""
    return bytes(
        tsp.TimeStampResp(
            {"status": {"status": status}, "time_stamp_token": token}
        ).dump()
    )


@contextmanager
def answering(
    answer: Callable[[bytes], tuple[int, str, bytes]],
) -> Iterator[str]:
    """Serve what a function says to the body of each POST; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        wbufsize = -1

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._send(*answer(body))

        def do_GET(self) -> None:
            self._send(*answer(b""))

        def _send(self, status: int, media_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/tsr"
        finally:
            server.shutdown()
            thread.join()


_CONFIGURATION = """
[tsa]
default_tsa = cfg
[cfg]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/signer.pem
certs = {folder}/issuing.pem
signer_key = {folder}/signer.key
signer_digest = sha256
default_policy = {policy}
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = yes
tsa_name = yes
ess_cert_id_chain = {chain}
ess_cert_id_alg = {ess}
"""


@contextmanager
def openssl_authority(
    folder: Path, *, ess: str = "sha256", chain: str = "yes"
) -> Iterator[str]:
    """Serve ``openssl ts`` with the keys of `load_authority` in a folder."""
    (folder / "serial").write_text("01\n")
    text = _CONFIGURATION.format(folder=folder, policy=POLICY, ess=ess, chain=chain)
    (folder / "tsa.cnf").write_text(text)
    lock = threading.Lock()  # the file of serial numbers has one writer

    def answer(query: bytes) -> tuple[int, str, bytes]:
        with lock:
            (folder / "query").write_bytes(query)
            command = ["openssl", "ts", "-reply", "-config", str(folder / "tsa.cnf")]
            command += ["-queryfile", str(folder / "query")]
            done = subprocess.run(
                [*command, "-out", str(folder / "reply")],
                capture_output=True,
                check=False,
            )
            if done.returncode:
                return 500, "text/plain", done.stderr
            reply = (folder / "reply").read_bytes()
        return 200, "application/timestamp-reply", reply

    with answering(answer) as url:
        yield url
