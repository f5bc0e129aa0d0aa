"""One bounded request: whatever the peer does, it ends in time, in a value or ours."""

import contextlib
import datetime as dt
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlog.anchors.http import (
    MAX_RESPONSE,
    Endpoint,
    Response,
    get,
    parse_endpoint,
    post,
)
from auditlog.core.errors import AuditLogError, ConfigurationError, MalformedError
from tests.witnesses import listening

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def _silent_until(done: threading.Event) -> Callable[[socket.socket], None]:
    """Serve nothing until the client has had enough, however busy the machine is."""

    def serve(connection: socket.socket) -> None:
        done.wait(60)

    return serve


def ask(url: str, seconds: float = 5.0) -> Response:
    return post(parse_endpoint(url), "/x", b"body", time.monotonic() + seconds)


def answering(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def dripping(start: bytes, piece: bytes) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)
            time.sleep(0.01)

    return serve


class TestEndpoint:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("http://a.example", (False, "a.example", 80, "")),
            ("https://a.example/", (True, "a.example", 443, "")),
            ("https://a.example:8443/w/1/", (True, "a.example", 8443, "/w/1")),
            ("http://[::1]:81/w", (False, "::1", 81, "/w")),
            ("HTTP://A.example/W", (False, "a.example", 80, "/W")),
            ("http://a.example:0", (False, "a.example", 0, "")),
        ],
    )
    def test_taken_apart(self, url: str, expected: tuple[object, ...]) -> None:
        assert parse_endpoint(url) == Endpoint(url, *expected)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "url",
        [
            *("", "a.example", "//a.example", "/w", "ftp://a.example", "http://"),
            *("file:///etc/passwd", "http://a.example:port", "http://a.example:70000"),
            *("http://[::1", "http://a example/", "http://a.example/\n", "http:///w"),
            *("http://é.example", "http://a.example/é", "http://a.example/\x7f"),
        ],
    )
    def test_not_http(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match=r"expected an? .*URL, got"):
            parse_endpoint(url)

    @pytest.mark.parametrize(
        "url",
        [
            *("http://me@a.example", "http://me:secret@a.example", "http://a.example?"),
            *("http://a.example/?q", "http://a.example/#f", "http://@a.example"),
        ],
    )
    def test_more_than_a_prefix(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="without user or query"):
            parse_endpoint(url)

    @given(url=st.text())
    def test_any_text_gives_a_value_or_our_error(self, url: str) -> None:
        try:
            endpoint = parse_endpoint(f"http://{url}")
        except ConfigurationError:
            return
        assert endpoint.host
        assert 0 <= endpoint.port < 65536


class TestAnswers:
    def test_what_is_sent(self) -> None:
        seen: list[bytes] = []
        with listening(answering(OK), requests=seen) as url:
            assert ask(url + "/prefix/").body == b"hi"
        head, _, body = seen[0].partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"POST /prefix/x HTTP/1.1"
        assert b"Accept-Encoding: identity" in lines
        assert b"Content-Length: 4" in lines
        assert body == b"body"

    def test_what_else_may_be_sent(self) -> None:
        seen: list[bytes] = []
        deadline = time.monotonic() + 5
        with listening(answering(OK), requests=seen) as url:
            endpoint = parse_endpoint(url + "/prefix")
            assert get(endpoint, "/y", deadline, accept="text/plain").body == b"hi"
            post(endpoint, "/z", b"{}", deadline, content_type="application/json")
        asked, sent = (one.split(b"\r\n") for one in seen)
        assert asked[0] == b"GET /prefix/y HTTP/1.1"
        assert b"Accept: text/plain" in asked
        assert not any(line.lower().startswith(b"content-") for line in asked)
        assert sent[0] == b"POST /prefix/z HTTP/1.1"
        assert b"Content-Type: application/json" in sent
        assert not any(line.startswith(b"Accept:") for line in sent)

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_the_caller_says_how_long_an_answer_may_be(self, method: str) -> None:
        def ask_for(size: int) -> bytes:
            endpoint, end = parse_endpoint(url), time.monotonic() + 5
            if method == "get":
                return get(endpoint, "/x", end, limit=size).body
            return post(endpoint, "/x", b"", end, limit=size).body

        body = b"x" * (MAX_RESPONSE + 1)
        with listening(answering(b"HTTP/1.1 200 OK\r\n\r\n" + body)) as url:
            assert ask_for(len(body)) == body
            with pytest.raises(MalformedError, match="answered more than 9 bytes"):
                ask_for(9)

    @pytest.mark.parametrize(
        ("said", "seconds"),
        [
            *((b"120", 120), (b"0", 0), (b" 7 ", 7), (b"999999999", 999_999_999)),
            *((b"", None), (b"-1", None), (b"1.5", None), (b"1e3", None)),
            *((b"9999999999", None), (b"\xb2", None), (b"soon", None)),
            (b"Fri, 27 Nov 2026 23:59:59 GMT", None),
        ],
    )
    def test_how_long_it_asks_us_to_wait(
        self, said: bytes, seconds: int | None
    ) -> None:
        head = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: "
        with listening(answering(head + said + b"\r\n\r\n")) as url:
            assert ask(url) == Response(503, "", b"", seconds)

    @pytest.mark.parametrize("status", [200, 204, 301, 404, 409, 500, 599])
    def test_any_status_is_returned(self, status: int) -> None:
        with listening(
            answering(b"HTTP/1.1 %d Yes\r\nContent-Length: 0\r\n\r\n" % status)
        ) as url:
            assert ask(url) == Response(status, "", b"")

    def test_a_media_type_without_its_parameters(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: Text/X.TLOG.Size ; a=b\r\n"
        with listening(answering(head + b"Content-Length: 0\r\n\r\n")) as url:
            assert ask(url).content_type == "text/x.tlog.size"

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 200 OK\r\n\r\nhi",
            b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nhi",
            CHUNKED + b"2\r\nhi\r\n0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        ],
    )
    def test_framings(self, data: bytes) -> None:
        with listening(answering(data)) as url:
            assert ask(url).body == b"hi"

    def test_the_longest_body(self) -> None:
        body = b"x" * MAX_RESPONSE
        with listening(answering(b"HTTP/1.1 200 OK\r\n\r\n" + body)) as url:
            assert ask(url).body == body
        with (
            listening(answering(b"HTTP/1.1 200 OK\r\n\r\nx" + body)) as url,
            pytest.raises(MalformedError, match="answered more than 65536 bytes"),
        ):
            ask(url)

    def test_no_redirect_is_followed_and_no_proxy_asked(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def never(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nwrong place")

        asked: list[bytes] = []
        with listening(never, requests=asked) as wrong:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
                monkeypatch.setenv(name, wrong)
            moved = f"HTTP/1.1 307 Moved\r\nLocation: {wrong}/x\r\n"
            with listening(
                answering(moved.encode() + b"Content-Length: 0\r\n\r\n")
            ) as url:
                assert ask(url).status == 307
        assert asked == []


class TestHostility:
    @pytest.mark.parametrize(
        ("start", "piece"),
        [
            (b"", b"H"),  # a status line that never ends
            (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"z"),
            (CHUNKED, b"1\r\nz\r\n"),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
                b"T: t\r\n",
            ),
        ],
    )
    def test_dripping_ends_at_the_deadline(self, start: bytes, piece: bytes) -> None:
        with listening(dripping(start, piece)) as url:
            begun = time.monotonic()
            with pytest.raises(AuditLogError, match="did not answer in time") as caught:
                ask(url, 0.15)
            assert time.monotonic() - begun < 2
        assert type(caught.value) is AuditLogError

    def test_silence_ends_at_the_deadline(self) -> None:
        asked = threading.Event()
        with listening(_silent_until(asked)) as url:
            with pytest.raises(AuditLogError, match="did not answer in time"):
                ask(url, 0.1)
            asked.set()

    def test_a_deadline_that_has_passed(self) -> None:
        with pytest.raises(AuditLogError, match="did not answer in time"):
            ask("http://127.0.0.1:1", -1)

    def test_nobody_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with pytest.raises(AuditLogError, match=r"cannot reach .*refused") as caught:
            ask(f"http://127.0.0.1:{port}")
        assert type(caught.value) is AuditLogError

    @pytest.mark.parametrize("host", ["a..b", "x" * 64])
    def test_no_such_name(self, host: str) -> None:
        with pytest.raises(AuditLogError, match="cannot reach ") as caught:
            ask(f"http://{host}")
        assert type(caught.value) is AuditLogError

    def test_an_address_that_swallows_everything_leaves_time_for_the_next(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with (
            socket.create_server(("127.0.0.1", 0), backlog=0) as full,
            contextlib.ExitStack() as waiting,
            listening(answering(OK)) as url,
        ):
            for _ in range(8):  # more than its queue takes: the rest is not answered
                caller = waiting.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex(full.getsockname())
            good = ("127.0.0.1", parse_endpoint(url).port)
            found = [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", address)
                for address in (full.getsockname(), good)
            ]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            assert ask(url, 0.6).body == b"hi"

    def test_hanging_up_without_an_answer(self) -> None:
        with (
            listening(lambda connection: None) as url,
            pytest.raises(AuditLogError, match="closed without an answer") as caught,
        ):
            ask(url)
        assert type(caught.value) is AuditLogError

    @pytest.mark.parametrize(
        "data",
        [
            b"SSH-2.0-OpenSSH\r\n",
            b"HTTP/1.1 999999 X\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n" + 200 * b"X: y\r\n" + b"\r\n",
            b"HTTP/1.1 200 OK\r\nX: " + 100_000 * b"y" + b"\r\n\r\n",
        ],
    )
    def test_not_http(self, data: bytes) -> None:
        with (
            listening(answering(data)) as url,
            pytest.raises(MalformedError, match="does not speak HTTP: "),
        ):
            ask(url)

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
            CHUNKED + b"5\r\nhi",
            CHUNKED + b"2\r\nhi\r\n",
            CHUNKED + b"zz\r\n",
            b"HTTP/1.1 409 Conflict\r\nContent-Type: text/x.tl",
            b"HTTP/1.1 409 Conflict\r\nX: y\r\n",
            b"HTTP/1.1 409 Conflict\r\n",
            b"HTTP/1.1 409 Conf",
        ],
    )
    def test_half_an_answer_is_none(self, data: bytes) -> None:
        with (
            listening(answering(data)) as url,
            pytest.raises(AuditLogError, match="cut its answer short") as caught,
        ):
            ask(url)
        assert type(caught.value) is AuditLogError

    @settings(max_examples=50)
    @given(data=st.one_of(st.binary(), st.binary().map(lambda b: OK[:17] + b)))
    def test_any_bytes_give_a_value_or_our_error(self, data: bytes) -> None:
        with listening(answering(data)) as url:
            try:
                answer = ask(url)
            except AuditLogError:
                return
            assert len(answer.body) <= MAX_RESPONSE


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> Path:
        """A self-signed certificate for 127.0.0.1 with its key, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        now = dt.datetime.now(dt.UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        made = (
            x509.CertificateBuilder(name, name, key.public_key())
            .serial_number(1)
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(), critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        path = tmp_path / "tls.pem"
        path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
        return path

    def test_a_trusted_certificate(
        self, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with listening(answering(OK), tls=certificate) as url:
            assert url.startswith("https://")
            assert ask(url).body == b"hi"

    def test_an_unknown_certificate(self, certificate: Path) -> None:
        with (
            listening(answering(OK), tls=certificate) as url,
            pytest.raises(AuditLogError, match=r"cannot reach .*CERTIFICATE"),
        ):
            ask(url)

    def test_a_certificate_for_another_host(
        self, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with (
            listening(answering(OK), tls=certificate) as url,
            pytest.raises(AuditLogError, match=r"cannot reach .*CERTIFICATE"),
        ):
            ask(url.replace("127.0.0.1", "localhost"))

    def test_a_handshake_that_never_comes(self) -> None:
        asked = threading.Event()
        with listening(_silent_until(asked), read=False) as url:
            with pytest.raises(AuditLogError, match="did not answer in time"):
                ask(url.replace("http:", "https:"), 0.15)
            asked.set()

    def test_plain_http_where_tls_was_expected(self) -> None:
        with (
            listening(answering(OK), read=False) as url,
            pytest.raises(AuditLogError, match=r"cannot reach .*SSL"),
        ):
            ask(url.replace("http:", "https:"))


def _usage() -> x509.KeyUsage:
    flags = dict.fromkeys(
        (
            *("content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    return x509.KeyUsage(digital_signature=True, key_cert_sign=True, **flags)
