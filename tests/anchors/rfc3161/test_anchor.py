"""An authority asked over HTTP: what is stored, and everything that is not."""

import base64
import hashlib
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import core, tsp
from cryptography import x509

from auditlog.anchors.attestation import Anchor, Attestation
from auditlog.anchors.rfc3161.anchor import TimeStampAnchor, configure
from auditlog.anchors.rfc3161.check import MAX_CRL, check
from auditlog.anchors.rfc3161.token import MAX_TOKEN
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from demo_service.time_stamp_authority import (
    POLICY,
    TimeStampAuthority,
    refusal,
    serving,
)
from tests.anchors.rfc3161.stamping import (
    DAY,
    DIGEST,
    NOON,
    Clock,
    answering,
    make_authority,
    pem_crl,
    reply_with,
    trust_in,
    us,
)
from tests.witnesses import listening

SECOND = timedelta(seconds=1)
REPLY = "application/timestamp-reply"


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def authority(clock: Clock) -> TimeStampAuthority:
    return make_authority(clock)


@pytest.fixture
def folder(authority: TimeStampAuthority, tmp_path: Path, clock: Clock) -> Path:
    clock.now = NOON
    (tmp_path / "root.pem").write_text(authority.root.pem)
    return tmp_path


def anchor_at(url: str, folder: Path, **options: Any) -> TimeStampAnchor:
    needed = {"url": url, "policy": POLICY, "root": "root.pem"}
    return configure("tsa", {**needed, **options}, folder)


def submit(anchor: Anchor, now: float = NOON.timestamp()) -> Attestation:
    return anchor.submit(DIGEST, (), now=now)


class TestSubmit:
    def test_without_lists_it_is_final(
        self, authority: TimeStampAuthority, folder: Path
    ) -> None:
        with serving(authority) as url:
            anchor = anchor_at(url, folder)
            attestation = submit(anchor)
            assert anchor.upgrade(DIGEST, attestation, now=0) is attestation
        assert (attestation.kind, attestation.state) == ("rfc3161", "final")
        assert (anchor.kind, anchor.name) == ("rfc3161", "tsa")
        bound = check(DIGEST, attestation.evidence, trust_in(authority))
        assert bound.not_after == us(NOON + SECOND)

    def test_the_whole_chain_is_kept(
        self, authority: TimeStampAuthority, folder: Path
    ) -> None:
        """From the operator's file where the authority sends its own only."""

        class Terse(TimeStampAuthority):
            def stamp(self, info: Any, **options: Any) -> Any:
                token = super().stamp(info, **options)
                kept = [
                    one
                    for one in token["content"]["certificates"]
                    if one.chosen.dump() == self.signer.der
                ]
                token["content"]["certificates"] = kept
                return token

        terse = Terse(
            authority.root, authority.issuing, authority.signer, clock=authority.clock
        )
        (folder / "cas.pem").write_text(authority.issuing.pem + authority.root.pem)
        with serving(terse) as url:
            with pytest.raises(UntrustedError, match="no path from"):
                submit(anchor_at(url, folder))
            kept = submit(anchor_at(url, folder, intermediates="cas.pem"))
        assert check(DIGEST, kept.evidence, trust_in(authority))
        response = base64.b64decode(kept.evidence["response"])
        assert authority.issuing.der in response
        assert authority.root.der not in response

    def test_what_is_asked(self, authority: TimeStampAuthority, folder: Path) -> None:
        asked: list[Any] = []

        def answer(query: bytes) -> tuple[int, str, bytes]:
            asked.append(tsp.TimeStampReq.load(query, strict=True))
            return 200, f"{REPLY}; charset=x", authority.reply(query)

        with answering(answer) as url:
            anchor = anchor_at(url, folder)
            submit(anchor)
            submit(anchor)
        first, second = asked
        imprint = first["message_imprint"]
        assert imprint["hash_algorithm"]["algorithm"].native == "sha256"
        assert imprint["hashed_message"].native == hashlib.sha256(DIGEST).digest()
        assert first["req_policy"].native == POLICY
        assert first["cert_req"].native is True
        assert first["nonce"].native != second["nonce"].native
        assert first.dump(force=True) == first.dump()

    @pytest.mark.parametrize("suffix", ["", "/", "/tsr", "/tsr/"])
    def test_the_url_is_asked_as_it_is_written(self, folder: Path, suffix: str) -> None:
        requests: list[bytes] = []

        def serve(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")

        with (
            listening(serve, requests=requests) as url,
            pytest.raises(MalformedError, match="answered with status 404"),
        ):
            submit(anchor_at(url + suffix, folder))
        head = requests[0].decode("latin-1")
        assert head.startswith(f"POST {suffix or '/'} HTTP/1.1\r\n")
        assert "Content-Type: application/timestamp-query\r\n" in head
        assert f"Accept: {REPLY}\r\n" in head


class Faulty(TimeStampAuthority):
    """Answers with what a function makes of the request and its honest token."""

    def __init__(
        self,
        honest: TimeStampAuthority,
        info: Callable[[Any], None] = lambda info: None,
        status: str = "granted",
    ) -> None:
        super().__init__(honest.root, honest.issuing, honest.signer, clock=honest.clock)
        self.change, self.status = info, status

    def reply(self, query: bytes) -> bytes:
        asked = tsp.TimeStampReq.load(query)
        imprint = asked["message_imprint"]["hashed_message"].native
        info = self.info(imprint, asked["nonce"].native)
        self.change(info)
        return reply_with(self.stamp(info), self.status)


def _nonce(info: Any) -> None:
    info["nonce"] = 7


def _no_nonce(info: Any) -> None:
    del info["nonce"]


def _digest(info: Any) -> None:
    info["message_imprint"]["hashed_message"] = bytes(32)


def _policy(info: Any) -> None:
    info["policy"] = "1.2.3"


def _hash(info: Any) -> None:
    info["message_imprint"]["hash_algorithm"] = {"algorithm": "sha3_256"}


def _earlier(info: Any) -> None:
    info["gen_time"] = core.GeneralizedTime(NOON - DAY / 24)


def _later(info: Any) -> None:
    info["gen_time"] = core.GeneralizedTime(NOON + DAY / 24)


class TestAnswersThatProveNothing:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (_nonce, "answered another request: other nonce"),
            (_no_nonce, "answered another request: other nonce"),
            (_digest, "stamped another digest"),
            (_policy, f"under the policy 1.2.3, expected {POLICY}"),
            (_hash, "expected a token over SHA-256"),
            (_earlier, "a time -3600 s from ours"),
            (_later, r"a time \+3600 s from ours"),
        ],
    )
    def test_a_token_of_something_else(
        self,
        authority: TimeStampAuthority,
        folder: Path,
        change: Callable[[Any], None],
        message: str,
    ) -> None:
        with (
            serving(Faulty(authority, change)) as url,
            pytest.raises(VerificationError, match=message),
        ):
            submit(anchor_at(url, folder))

    def test_granted_with_modifications(
        self, authority: TimeStampAuthority, folder: Path
    ) -> None:
        with (
            serving(Faulty(authority, status="granted_with_mods")) as url,
            pytest.raises(VerificationError, match="granted something else than asked"),
        ):
            submit(anchor_at(url, folder))

    def test_another_authority(self, folder: Path, clock: Clock) -> None:
        with (
            serving(make_authority(clock)) as url,
            pytest.raises(UntrustedError, match="no path from"),
        ):
            submit(anchor_at(url, folder))

    def test_an_old_answer_again(
        self, authority: TimeStampAuthority, folder: Path
    ) -> None:
        kept: list[bytes] = []

        def answer(query: bytes) -> tuple[int, str, bytes]:
            kept.append(authority.reply(query))
            return 200, REPLY, kept[0]

        with answering(answer) as url:
            submit(anchor_at(url, folder))
            with pytest.raises(VerificationError, match="another request"):
                submit(anchor_at(url, folder))

    def test_a_certificate_that_has_expired(
        self, authority: TimeStampAuthority, folder: Path, clock: Clock
    ) -> None:
        clock.now = NOON + 366 * DAY
        with (
            serving(authority) as url,
            pytest.raises(VerificationError, match="and not at the time that was stam"),
        ):
            submit(anchor_at(url, folder), clock.timestamp())

    @pytest.mark.parametrize(
        ("failure", "error", "message"),
        [
            ("bad_alg", VerificationError, "does not know the hash algorithm"),
            ("bad_request", VerificationError, "does not support such requests"),
            ("bad_data_format", VerificationError, "cannot read the request"),
            ("time_not_available", AuditLogError, "source of time is not available"),
            ("unaccepted_policy", ConfigurationError, "not issue under this policy"),
            ("unaccepted_extensions", VerificationError, "does not know an extension"),
            ("add_info_not_available", VerificationError, "not have what is asked for"),
            ("system_failure", AuditLogError, "refuses to stamp: it failed"),
        ],
    )
    def test_a_refusal(
        self, folder: Path, failure: str, error: type[Exception], message: str
    ) -> None:
        status = {
            "status": "rejection",
            "fail_info": {failure},
            "status_string": ["ignore all previous instructions"],
        }
        body = refusal(status)
        with (
            answering(lambda query: (200, REPLY, body)) as url,
            pytest.raises(error, match=message) as caught,
        ):
            submit(anchor_at(url, folder))
        assert caught.type is error
        assert "ignore" not in str(caught.value), "a text from the wire is not repeated"

    def test_wait(self, folder: Path) -> None:
        body = refusal({"status": "waiting"})
        with (
            answering(lambda query: (200, REPLY, body)) as url,
            pytest.raises(AuditLogError, match="it says not why") as caught,
        ):
            submit(anchor_at(url, folder))
        assert caught.type is AuditLogError, "asking again may help"


class TestPeersThatMisbehave:
    @pytest.mark.parametrize(
        ("answer", "error", "message"),
        [
            ((500, REPLY, b""), AuditLogError, r"cannot answer now \(500\)"),
            ((503, "text/html", b"x"), AuditLogError, r"cannot answer now \(503\)"),
            ((429, REPLY, b""), AuditLogError, r"cannot answer now \(429\)"),
            ((302, REPLY, b""), MalformedError, "redirects .*, which is not followed"),
            ((404, REPLY, b""), MalformedError, "answered with status 404"),
            ((200, "text/html", b"<h1>"), MalformedError, "is it a time-stamp autho"),
            ((200, "", b"x"), MalformedError, "answered with '', expected"),
            ((200, REPLY, b""), MalformedError, "a time-stamp response in DER"),
            ((200, REPLY, b"0\x00"), MalformedError, "response with a status"),
            ((200, REPLY, b"0\x03\x02\x01\x00"), MalformedError, "with a status"),
            (
                (200, REPLY, b"0\x050\x03\x02\x01\x00"),
                MalformedError,
                "a token in a response that is granted",
            ),
            (
                (200, REPLY, bytes(MAX_TOKEN + 1)),
                MalformedError,
                "more than 32768 byte",
            ),
        ],
    )
    def test_answers(
        self,
        folder: Path,
        answer: tuple[int, str, bytes],
        error: type[Exception],
        message: str,
    ) -> None:
        message = message.replace("response with a status", "response with a status")
        with (
            answering(lambda query: answer) as url,
            pytest.raises(error, match=message) as caught,
        ):
            submit(anchor_at(url, folder))
        assert caught.type is error

    def test_refused(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        with pytest.raises(AuditLogError, match="cannot reach http://127") as caught:
            submit(anchor_at(f"http://127.0.0.1:{port}", folder))
        assert caught.type is AuditLogError

    def test_slow(self, folder: Path) -> None:
        def drip(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
            while True:
                connection.sendall(b"0")
                time.sleep(0.05)

        with (
            listening(drip) as url,
            pytest.raises(AuditLogError, match="did not answer in time") as caught,
        ):
            submit(anchor_at(url, folder, timeout=1))
        assert caught.type is AuditLogError


class TestUpgrade:
    @pytest.fixture
    def served(self, authority: TimeStampAuthority, folder: Path) -> Any:
        with serving(authority) as url:
            crls = [f"{url}/issuing.crl", f"{url}/root.crl"]
            yield anchor_at(url, folder, crls=crls)

    def test_pending_until_all_lists_are_younger(
        self,
        authority: TimeStampAuthority,
        clock: Clock,
        served: TimeStampAnchor,
    ) -> None:
        attestation = submit(served)
        assert (attestation.state, attestation.evidence["crls"]) == ("pending", [])
        clock.now = NOON - SECOND  # a mirror that lags behind
        again = served.upgrade(DIGEST, attestation, now=clock.timestamp())
        assert again == attestation
        clock.now = NOON + DAY
        final = served.upgrade(DIGEST, attestation, now=clock.timestamp())
        assert final.state == "final"
        assert len(final.evidence["crls"]) == 2
        bound = check(DIGEST, final.evidence, trust_in(authority))
        assert bound.not_after == us(NOON + SECOND)
        assert bound.detail.endswith("not revoked by 2026-11-27T12:00:00Z")
        assert served.upgrade(DIGEST, final, now=0) is final

    def test_it_may_be_repeated_after_any_crash(
        self, served: TimeStampAnchor, clock: Clock
    ) -> None:
        attestation = submit(served)
        clock.now = NOON + DAY
        first = served.upgrade(DIGEST, attestation, now=clock.timestamp())
        # Lists are signed anew at each request; the token is the same.
        second = served.upgrade(DIGEST, attestation, now=clock.timestamp())
        assert first.evidence["response"] == second.evidence["response"]
        assert attestation.state == "pending"
        assert attestation.evidence["crls"] == []

    def test_lists_from_files(
        self, authority: TimeStampAuthority, folder: Path, clock: Clock
    ) -> None:
        (folder / "i.crl").write_bytes(authority.crl("issuing"))
        (folder / "r.pem").write_text(pem_crl(authority.crl("root")))
        with serving(authority) as url:
            anchor = anchor_at(url, folder, crls=["i.crl", str(folder / "r.pem")])
            final = anchor.upgrade(DIGEST, submit(anchor), now=clock.timestamp())
        assert final.state == "final"
        assert "not revoked by 2026-11-26T12:00:00Z" in (
            check(DIGEST, final.evidence, trust_in(authority)).detail
        )

    def test_revoked_meanwhile(self, folder: Path, clock: Clock) -> None:
        authority = make_authority(clock)
        (folder / "root.pem").write_text(authority.root.pem)
        with serving(authority) as url:
            anchor = anchor_at(url, folder, crls=[f"{url}/issuing.crl"])
            attestation = submit(anchor)
            clock.now = NOON + DAY
            reason = x509.ReasonFlags.key_compromise
            authority.revoke(authority.signer, clock.now, reason)
            with pytest.raises(VerificationError, match="leaves no token of it good"):
                anchor.upgrade(DIGEST, attestation, now=clock.timestamp())

    def test_an_old_list_revokes_at_once(self, folder: Path, clock: Clock) -> None:
        clock.now = NOON - DAY
        authority = make_authority(clock, start=NOON - 2 * DAY)
        (folder / "root.pem").write_text(authority.root.pem)
        reason = x509.ReasonFlags.superseded
        authority.revoke(authority.signer, clock.now, reason)
        (folder / "old.crl").write_bytes(authority.crl("issuing"))
        clock.now = NOON
        with serving(authority) as url:
            anchor = anchor_at(url, folder, crls=["old.crl"])
            with pytest.raises(VerificationError, match="before the time that was sta"):
                anchor.upgrade(DIGEST, submit(anchor), now=clock.timestamp())

    def test_a_list_of_somebody_else(
        self, authority: TimeStampAuthority, folder: Path, clock: Clock
    ) -> None:
        clock.now = NOON
        (folder / "other.crl").write_bytes(make_authority(clock).crl("issuing"))
        with serving(authority) as url:
            anchor = anchor_at(url, folder, crls=["other.crl"])
            with pytest.raises(VerificationError, match="nobody on the path signed"):
                anchor.upgrade(DIGEST, submit(anchor), now=clock.timestamp())

    def test_evidence_of_another_digest(self, served: TimeStampAnchor) -> None:
        with pytest.raises(VerificationError, match="for another digest"):
            served.upgrade(bytes(32), submit(served), now=0)

    @pytest.mark.parametrize(
        ("answer", "error", "message"),
        [
            ((500, "", b""), AuditLogError, "cannot answer now"),
            ((200, "", b"<html>"), MalformedError, "/tsr: expected an X.509 revocatio"),
            ((200, "", b"-----BEGIN"), MalformedError, "/tsr: expected one X.509 revo"),
            ((200, "", bytes(MAX_CRL + 1)), MalformedError, "answered more than 13107"),
        ],
    )
    def test_lists_that_do_not_come(
        self,
        authority: TimeStampAuthority,
        folder: Path,
        answer: tuple[int, str, bytes],
        error: type[Exception],
        message: str,
    ) -> None:
        with serving(authority) as url, answering(lambda _: answer) as lists:
            anchor = anchor_at(url, folder, crls=[lists])
            attestation = submit(anchor)
            with pytest.raises(error, match=message) as caught:
                anchor.upgrade(DIGEST, attestation, now=0)
        assert caught.type is error


class TestConfigure:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"uri": "x"}, "anchor tsa: unknown option 'uri', expected url, policy"),
            ({"url": None}, "anchor tsa: expected str as url, got NoneType"),
            ({"url": "ftp://a"}, "anchor tsa: url: expected an http or https URL"),
            ({"url": "https://u@a"}, "url: expected a URL without user or query"),
            ({"policy": "1"}, "expected an OID in dots as policy, got '1'"),
            ({"policy": "3.1.1"}, "expected an OID in dots as policy"),
            ({"policy": "1.40.1"}, "expected an OID in dots as policy"),
            ({"policy": "1.2.03"}, "expected an OID in dots as policy"),
            ({"policy": "1.2" + ".1" * 100}, "expected an OID in dots as policy"),
            ({"root": "none.pem"}, r"cannot read .*none.pem: No such file"),
            ({"root": "junk.pem"}, "expected certificates in PEM as root, got someth"),
            ({"root": "both.pem"}, "expected one certificate as root, got 2"),
            ({"root": "issuing.pem"}, "root: expected a root, which is a self-signed"),
            ({"root": "long.pem"}, "long.pem to have up to 1048576 bytes"),
            ({"intermediates": "junk.pem"}, "certificates in PEM as intermediates"),
            ({"intermediates": ["issuing.pem"]}, "expected str as intermediates"),
            ({"crls": "x"}, "expected list as crls, got str"),
            ({"crls": [1]}, "expected up to 4 URLs or files as crls"),
            ({"crls": ["http://a"] * 5}, "expected up to 4 URLs or files as crls"),
            ({"crls": ["ftp://a"]}, "crls: expected an http or https URL"),
            ({"crls": ["none.crl"]}, "cannot read .*none.crl"),
            ({"timeout": 0}, "expected a timeout of 1 to 600 seconds, got 0"),
            ({"timeout": 601}, "expected a timeout of 1 to 600 seconds"),
            ({"timeout": True}, "expected int as timeout, got bool"),
        ],
    )
    def test_refused(
        self,
        authority: TimeStampAuthority,
        folder: Path,
        change: dict[str, Any],
        message: str,
    ) -> None:
        (folder / "junk.pem").write_text("junk")
        (folder / "issuing.pem").write_text(authority.issuing.pem)
        (folder / "both.pem").write_text(authority.root.pem + authority.issuing.pem)
        (folder / "long.pem").write_bytes(bytes((1 << 20) + 1))
        with pytest.raises(ConfigurationError, match=message):
            anchor_at(**{"url": "http://a.example", "folder": folder, **change})

    def test_policies(self, folder: Path) -> None:
        for policy in ("1.2.3", "0.39.0", "2.999.1", "2.0.0"):
            anchor = anchor_at("http://a.example", folder, policy=policy)
            assert anchor.authority.policy == policy

    @pytest.mark.parametrize("key", ["url", "policy", "root"])
    def test_missing(self, folder: Path, key: str) -> None:
        options = {"url": "http://a", "policy": POLICY, "root": "root.pem"}
        del options[key]
        with pytest.raises(
            ConfigurationError, match=f"tsa: expected the option {key}$"
        ):
            configure("tsa", options, folder)

    def test_without_the_library(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "rfc3161_client", None)
        with pytest.raises(
            ConfigurationError, match="anchor tsa: rfc3161-client is not"
        ):
            anchor_at("http://a.example", folder)
