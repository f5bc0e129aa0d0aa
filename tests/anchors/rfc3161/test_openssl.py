"""The real thing: OpenSSL stamps what we ask and verifies what we keep."""

import base64
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which
from signal import SIGSTOP

import pytest
import rfc3161_client
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from auditlog.anchors.attestation import Attestation
from auditlog.anchors.rfc3161.anchor import configure
from auditlog.anchors.rfc3161.check import check
from auditlog.anchors.trust import Authority, Trust
from auditlog.core.errors import AuditLogError, UntrustedError
from demo_service.time_stamp_authority import (
    POLICY,
    TimeStampAuthority,
    load_authority,
    serving,
    signer_extensions,
)
from tests.anchors.rfc3161.stamping import DAY, DIGEST, openssl_authority
from tests.conftest import IN_CI
from tests.e2e.processes import Server, free_port

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module", autouse=True)
def _openssl() -> None:
    if which("openssl") is None:
        if IN_CI:
            pytest.fail("no openssl, which CI must have")
        pytest.skip("openssl is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    load_authority(tmp_path)
    return tmp_path


def ask(url: str, folder: Path, digest: bytes = DIGEST) -> Attestation:
    options = {"url": url, "policy": POLICY, "root": "root.pem"}
    return configure("tsa", options, folder).submit(digest, (), now=time.time())


def trust(folder: Path) -> Trust:
    return Trust((Authority("T", POLICY, (folder / "root.pem").read_text()),))


def verified(attestation: Attestation, folder: Path, data: bytes, *more: str) -> str:
    """What ``openssl ts -verify`` says of a kept response."""
    (folder / "kept.tsr").write_bytes(
        base64.b64decode(attestation.evidence["response"])
    )
    (folder / "data").write_bytes(data)
    command = ["openssl", "ts", "-verify", "-in", str(folder / "kept.tsr")]
    command += ["-data", str(folder / "data"), "-CAfile", str(folder / "root.pem")]
    done = subprocess.run(
        [*command, *more], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.fixture(params=["openssl", "ours"])
def url(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    server = (
        openssl_authority(folder)
        if request.param == "openssl"
        else serving(load_authority(folder))
    )
    with server as address:
        yield address


def test_what_is_kept_is_verified_by_openssl(url: str, folder: Path) -> None:
    """The 32 bytes are data to it, and the certificates on the way are in the file."""
    before = datetime.now(UTC)
    attestation = ask(url, folder)
    assert "Verification: OK" in verified(attestation, folder, DIGEST)
    assert "message imprint mismatch" in verified(attestation, folder, bytes(32))
    bound = check(DIGEST, attestation.evidence, trust(folder))
    ahead = bound.not_after / 1e6 - before.timestamp()
    assert 0 <= ahead < 60, "a second of accuracy, and the time that it took"


def test_openssl_does_not_sort_certificates(folder: Path) -> None:
    authority = load_authority(folder)
    signer, issuing = authority.signer.der, authority.issuing.der
    with openssl_authority(folder) as url:
        kept = base64.b64decode(ask(url, folder).evidence["response"])
    reply = (folder / "reply").read_bytes()
    assert issuing < signer, "it is shorter"
    assert reply.index(signer) < reply.index(issuing)
    assert kept.index(issuing) < kept.index(signer)
    with pytest.raises(ValueError, match="InvalidSetOrdering"):
        rfc3161_client.decode_timestamp_response(reply)


@pytest.mark.parametrize("ess", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("chain", ["yes", "no"])
def test_however_it_names_its_certificate(folder: Path, ess: str, chain: str) -> None:
    with openssl_authority(folder, ess=ess, chain=chain) as url:
        attestation = ask(url, folder)
    assert check(DIGEST, attestation.evidence, trust(folder)).party == "T"
    assert "Verification: OK" in verified(attestation, folder, DIGEST)


def test_rsa(folder: Path) -> None:
    """Most public authorities sign with RSA."""
    issuing = load_authority(folder).issuing
    key = rsa.generate_private_key(65537, 2048)
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuing.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
    )
    for extension, critical in signer_extensions():
        builder = builder.add_extension(extension, critical)
    signer = builder.sign(issuing.key, hashes.SHA256())
    (folder / "signer.pem").write_bytes(signer.public_bytes(serialization.Encoding.PEM))
    (folder / "signer.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    with openssl_authority(folder) as url:
        attestation = ask(url, folder)
    assert check(DIGEST, attestation.evidence, trust(folder)).party == "T"
    assert "Verification: OK" in verified(attestation, folder, DIGEST)


def test_a_root_that_signed_itself_with_sha1(folder: Path) -> None:
    """As old ones did; the verifier vouches for it, and not its signature."""
    command = ["openssl", "x509", "-in", f"{folder}/root.pem", "-preserve_dates"]
    command += ["-signkey", f"{folder}/root.key", "-sha1", "-out", f"{folder}/weak.pem"]
    subprocess.run(command, capture_output=True, check=True)
    (folder / "weak.pem").replace(folder / "root.pem")
    assert load_authority(folder).root.certificate.signature_hash_algorithm is not None
    with openssl_authority(folder) as url:
        attestation = ask(url, folder)
    assert check(DIGEST, attestation.evidence, trust(folder)).party == "T"


def test_openssl_reads_our_revocation_lists(folder: Path) -> None:
    authority = load_authority(folder)
    for name in ("root", "issuing"):
        (folder / f"{name}.crl").write_bytes(authority.crl(name))
        command = [
            "openssl",
            "crl",
            "-inform",
            "DER",
            "-in",
            str(folder / f"{name}.crl"),
        ]
        command += ["-CAfile", str(folder / f"{name}.pem"), "-noout"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "verify OK" in done.stdout + done.stderr


def test_two_authorities_are_two_parties(tmp_path: Path) -> None:
    trusted = []
    attestations = []
    for name in ("a", "b"):
        authority = load_authority(tmp_path / name)
        trusted.append(Authority(name.upper(), POLICY, authority.root.pem))
        with openssl_authority(tmp_path / name) as url:
            attestations.append(ask(url, tmp_path / name))
    bounds = [
        check(DIGEST, one.evidence, Trust(tuple(trusted))) for one in attestations
    ]
    assert [bound.party for bound in bounds] == ["A", "B"]
    with pytest.raises(UntrustedError):
        check(DIGEST, attestations[1].evidence, Trust(tuple(trusted[:1])))


class TestProcess:
    """`python -m demo_service.time_stamp_authority`, killed and started again."""

    def test_killed_in_mid_request_and_started_again(self, tmp_path: Path) -> None:
        port = free_port()
        command = ["-m", "demo_service.time_stamp_authority"]
        command += ["--dir", str(tmp_path), "--port", str(port)]
        server = Server(command, port, tmp_path / "out")
        url = f"http://127.0.0.1:{port}"
        failures: list[AuditLogError] = []

        def ask_in_vain() -> None:
            try:
                ask(url, tmp_path)
            except AuditLogError as error:
                failures.append(error)

        with server:
            first = ask(url, tmp_path)
            server.signal(SIGSTOP)
            thread = threading.Thread(target=ask_in_vain)
            thread.start()
            server.kill()
            thread.join()
        assert [type(one) for one in failures] == [AuditLogError], "try again later"
        with server:
            second = ask(url, tmp_path)
        for attestation in (first, second):
            assert check(DIGEST, attestation.evidence, trust(tmp_path)).party == "T"
        said = dict(
            line.split(" ", 1) for line in (tmp_path / "out").read_text().splitlines()
        )
        assert said == {"url": url, "policy": POLICY, "root": f"{tmp_path}/root.pem"}

    def test_keys_are_for_their_owner(self, folder: Path) -> None:
        for key in folder.glob("*.key"):
            assert key.stat().st_mode & 0o777 == 0o600

    def test_a_token_outlives_its_authority(self, folder: Path) -> None:
        """Checked offline when the certificate has expired and nobody answers."""
        long_ago = datetime.now(UTC) - timedelta(days=5000)
        authority: TimeStampAuthority = load_authority(folder / "old", lambda: long_ago)
        options = {"policy": POLICY, "root": "root.pem"}
        with serving(authority) as url:
            anchor = configure("tsa", {"url": url, **options}, folder / "old")
            kept = anchor.submit(DIGEST, (), now=long_ago.timestamp())
        assert check(DIGEST, kept.evidence, trust(folder / "old"))
        then = ("-attime", str(int(long_ago.timestamp())))
        root = folder / "old"
        assert "Verification: OK" in verified(kept, root, DIGEST, *then)
        assert "certificate has expired" in verified(kept, root, DIGEST)
