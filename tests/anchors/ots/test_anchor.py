"""Asking calendars: honest, slow, gone, hostile; and what becomes final."""

import base64
import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self

import pytest
from opentimestamps.calendar import CommitmentNotFoundError, RemoteCalendar

from auditlog.anchors.attestation import Anchor, Attestation
from auditlog.anchors.batch import aggregate, format_path
from auditlog.anchors.checking import check_attestation
from auditlog.anchors.ots.anchor import OtsAnchor, configure
from auditlog.anchors.ots.check import TOLERANCE, check, parse_evidence
from auditlog.anchors.ots.proof import BITCOIN, PENDING, follow, format_proof
from auditlog.anchors.trust import parse_trust
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from tests.anchors.ots.calendar import Calendar, Chain, Handler, serving

HOUR = 3600.0
NOW = 1_800_000_000.0
MEDIA_TYPE = "application/vnd.opentimestamps.v1"


class Calendars:
    """Calendars on one chain, served, each with what comes before it."""

    def __init__(self, directory: Path) -> None:
        self.chain = Chain()
        self.digest = secrets.token_bytes(32)
        self.requests: list[tuple[str, str]] = []
        """(URL of the server, path) of each request."""
        self._directory = directory
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, before: Handler | None = None) -> Calendar:
        number = len(list(self._directory.iterdir()))
        directory = self._directory / f"c{number}"
        directory.mkdir()
        calendar = Calendar(directory, self.chain)

        def noted(request: BaseHTTPRequestHandler) -> bool:
            self.requests.append((calendar.url, request.path))
            return before is not None and before(request)

        self._stack.enter_context(serving(calendar, before=noted))
        return calendar

    def anchor(self, *urls: str, **options: Any) -> OtsAnchor:
        table = {"calendars": list(urls), "timeout": 60, **options}
        return configure("bitcoin", table, self._directory)

    def trust_file(self, *heights: int) -> str:
        (self._directory / "bitcoin.toml").write_text(self.chain.trust(*heights))
        return "bitcoin.toml"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Calendars]:
    with Calendars(tmp_path) as world:
        yield world


def answering(status: int, body: bytes, *headers: tuple[str, str]) -> Handler:
    def answer(request: BaseHTTPRequestHandler) -> bool:
        request.rfile.read(int(request.headers["Content-Length"] or 0))
        request.send_response(status)
        for name, value in headers:
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
        return True

    return answer


def on(method: str, handler: Handler) -> Handler:
    return lambda request: request.command == method and handler(request)


def size(attestation: Attestation) -> int:
    return len(base64.b64decode(attestation.evidence["ots"]))


def tags(digest: bytes, attestation: Attestation) -> list[bytes]:
    ways = parse_evidence(digest, attestation.evidence)
    return sorted(way.end.tag for way in ways)


class TestHonest:
    def test_from_promise_to_proof(self, world: Calendars) -> None:
        one, two = world.add(), world.add()
        anchor: Anchor = world.anchor(one.url, two.url)
        assert (anchor.name, anchor.kind) == ("bitcoin", "ots")
        pending = anchor.submit(world.digest, [], now=NOW)
        assert pending.state == "pending"
        assert tags(world.digest, pending) == [PENDING, PENDING]
        for _ in range(50):  # other people's
            one.promise(secrets.token_bytes(32))
        assert anchor.upgrade(world.digest, pending, now=NOW) is pending
        height = one.mine()
        final = anchor.upgrade(world.digest, pending, now=NOW)
        assert final.state == "final"
        assert tags(world.digest, final) == [BITCOIN]
        trust = parse_trust(world.chain.trust())
        bound = check_attestation(final.kind, world.digest, final.evidence, trust)
        assert bound.not_after == (world.chain.time(height) + TOLERANCE) * 1_000_000
        assert anchor.upgrade(world.digest, final, now=NOW) is final
        assert size(pending) < 250
        assert size(final) < 800

    def test_calendars_never_see_the_digest(self, world: Calendars) -> None:
        seen: list[bytes] = []

        def look(request: BaseHTTPRequestHandler) -> bool:
            seen.append(request.rfile.read(int(request.headers["Content-Length"])))
            assert request.headers["Accept"] == MEDIA_TYPE
            return answering(500, b"")(_empty(request))

        anchor = world.anchor(world.add(look).url)
        for _ in range(2):
            with pytest.raises(AuditLogError, match="cannot answer now"):
                anchor.submit(world.digest, [], now=NOW)
        assert [len(body) for body in seen] == [32, 32]
        assert len({world.digest, *seen}) == 3

    def test_the_same_digest_again_is_another_question(self, world: Calendars) -> None:
        calendar = world.add()
        anchor = world.anchor(calendar.url)
        first = anchor.submit(world.digest, [], now=NOW)
        again = anchor.submit(world.digest, [first], now=NOW)
        assert first != again
        calendar.mine()
        trust = parse_trust(world.chain.trust())
        bounds = {
            check(
                world.digest,
                anchor.upgrade(world.digest, one, now=NOW).evidence,
                trust,
            )
            for one in (first, again)
        }
        assert len(bounds) == 1

    def test_hours_of_not_yet(self, world: Calendars) -> None:
        calendar = world.add()
        anchor = world.anchor(calendar.url)
        attestation = anchor.submit(world.digest, [], now=NOW)
        for hour in range(24):
            later = anchor.upgrade(world.digest, attestation, now=NOW + hour * HOUR)
            assert later is attestation
        calendar.mine()
        final = anchor.upgrade(world.digest, attestation, now=NOW + 24 * HOUR)
        assert final.state == "final"

    def test_an_outage_of_hours_then_a_block(self, world: Calendars) -> None:
        down = threading.Event()
        calendar = world.add(
            lambda request: down.is_set() and answering(503, b"")(request)
        )
        anchor = world.anchor(calendar.url)
        attestation = anchor.submit(world.digest, [], now=NOW)
        down.set()
        for hour in range(12):
            with pytest.raises(AuditLogError, match=r"got 0: .*now \(503\)") as caught:
                anchor.upgrade(world.digest, attestation, now=NOW + hour * HOUR)
            assert type(caught.value) is AuditLogError
        calendar.mine()
        down.clear()
        final = anchor.upgrade(world.digest, attestation, now=NOW + 12 * HOUR)
        assert final.state == "final"

    def test_one_of_two_is_gone_for_ever(self, world: Calendars) -> None:
        gone, stays = world.add(on("GET", answering(502, b""))), world.add()
        anchor = world.anchor(gone.url, stays.url)
        attestation = anchor.submit(world.digest, [], now=NOW)
        assert anchor.upgrade(world.digest, attestation, now=NOW) is attestation
        stays.mine()
        assert anchor.upgrade(world.digest, attestation, now=NOW).state == "final"

    def test_one_failing_at_submission_is_no_failure(self, world: Calendars) -> None:
        down, up = world.add(answering(500, b"")), world.add()
        anchor = world.anchor(down.url, up.url)
        attestation = anchor.submit(world.digest, [], now=NOW)
        (way,) = parse_evidence(world.digest, attestation.evidence)
        assert way.end.payload.decode() == up.url

    def test_all_are_asked_at_once(self, world: Calendars) -> None:
        together = threading.Barrier(3, timeout=60)

        def wait(request: BaseHTTPRequestHandler) -> bool:
            together.wait()
            return False

        calendars = [world.add(wait) for _ in range(3)]
        anchor = world.anchor(*(one.url for one in calendars), minimum=3)
        attestation = anchor.submit(world.digest, [], now=NOW)
        assert anchor.upgrade(world.digest, attestation, now=NOW) is attestation

    def test_the_calendar_serves_other_clients_alike(self, world: Calendars) -> None:
        calendar = world.add()
        client = RemoteCalendar(f"{calendar.url}/")
        promised = client.submit(world.digest, timeout=10)
        ((commitment, _),) = promised.all_attestations()
        with pytest.raises(CommitmentNotFoundError):
            client.get_timestamp(commitment, timeout=10)
        height = calendar.mine()
        ((root, claim),) = client.get_timestamp(commitment, 10).all_attestations()
        header = world.chain.block(height).get_header()
        assert claim.height == height
        assert claim.verify_against_blockheader(root, header) == header.nTime

    def test_many_logs_under_one_commitment(self, world: Calendars) -> None:
        calendar = world.add()
        anchor = world.anchor(calendar.url)
        digests = [secrets.token_bytes(32) for _ in range(5)]
        top, paths = aggregate(digests, [secrets.token_bytes(16) for _ in digests])
        attestation = anchor.submit(top, [], now=NOW)
        calendar.mine()
        final = anchor.upgrade(top, attestation, now=NOW)
        trust = parse_trust(world.chain.trust())
        bounds = set()
        for digest, path in zip(digests, paths, strict=True):
            evidence = {**final.evidence, "batch": format_path(path)}
            bounds.add(check_attestation("ots", digest, evidence, trust))
            with pytest.raises(VerificationError):
                check_attestation("ots", world.digest, evidence, trust)
            with pytest.raises(VerificationError, match="to the Merkle root of block"):
                check_attestation("ots", digest, final.evidence, trust)
        assert len(bounds) == 1


class TestMinimum:
    def test_so_many_must_promise(self, world: Calendars) -> None:
        down, up = world.add(answering(500, b"")), world.add()
        anchor = world.anchor(down.url, up.url, minimum=2)
        with pytest.raises(
            AuditLogError, match=r"expected 2 calendars that promise, got 1: .*\(500\)"
        ) as caught:
            anchor.submit(world.digest, [], now=NOW)
        assert type(caught.value) is AuditLogError

    def test_so_many_must_deliver(self, world: Calendars) -> None:
        one, two, three = world.add(), world.add(), world.add()
        anchor = world.anchor(one.url, two.url, three.url, minimum=2)
        pending = anchor.submit(world.digest, [], now=NOW)
        one.mine()
        first = anchor.upgrade(world.digest, pending, now=NOW)
        assert first.state == "pending"
        assert tags(world.digest, first) == [BITCOIN, PENDING, PENDING, PENDING]
        asked = len(world.requests)
        assert anchor.upgrade(world.digest, first, now=NOW) is first
        # The one that has delivered is not asked again.
        assert {url for url, _ in world.requests[asked:]} == {two.url, three.url}
        three.mine()
        final = anchor.upgrade(world.digest, first, now=NOW)
        assert final.state == "final"
        assert tags(world.digest, final) == [BITCOIN, BITCOIN]

    def test_a_calendar_that_copies_another_does_not_count(
        self, world: Calendars
    ) -> None:
        """A proxy in front of another calendar: one way, under two names."""
        honest = world.add()

        def copy(request: BaseHTTPRequestHandler) -> bool:
            if request.command == "GET":
                proof = honest.find(bytes.fromhex(request.path.rpartition("/")[2]))
                return answering(200 if proof else 404, proof or b"")(request)
            seen.wait(60)
            proof = given[0]
            mine = proof.replace(honest.url.encode(), copycat.url.encode())
            return answering(200, mine)(request)

        seen, given = threading.Event(), []
        promise = honest.promise

        def spied(digest: bytes) -> bytes:
            given.append(promise(digest))
            seen.set()
            return given[0]

        honest.promise = spied  # type: ignore[method-assign]
        copycat = world.add(copy)
        assert len(copycat.url) == len(honest.url)
        anchor = world.anchor(honest.url, copycat.url, minimum=2)
        with pytest.raises(AuditLogError, match="name the same"):
            anchor.submit(world.digest, [], now=NOW)

    def test_a_promise_cut_short_does_not_count_for_the_longer_one(
        self, world: Calendars
    ) -> None:
        lazy_url = b""
        lazy = world.add(
            lambda request: (
                request.command == "POST"
                and answering(200, _promise(lazy_url))(request)
            )
        )
        lazy_url = lazy.url.encode()
        honest = world.add()
        anchor = world.anchor(lazy.url, honest.url, minimum=2)
        attestation = anchor.submit(world.digest, [], now=NOW)
        honest.mine()
        once = anchor.upgrade(world.digest, attestation, now=NOW)
        assert once.state == "pending"
        assert anchor.upgrade(world.digest, once, now=NOW) is once
        assert lazy.url in {url for url, _ in world.requests[-1:]}


def _promise(uri: bytes) -> bytes:
    payload = bytes([len(uri)]) + uri
    return b"\x00" + PENDING + bytes([len(payload)]) + payload


def _block(height: int) -> bytes:
    return b"\x00" + BITCOIN + bytes([1, height])


class TestHostile:
    """One calendar alone is hostile, so what it does is what comes of it."""

    @pytest.mark.parametrize(
        ("answer", "kind", "message"),
        [
            (answering(429, b""), AuditLogError, r"cannot answer now \(429\)"),
            (answering(503, b""), AuditLogError, r"cannot answer now \(503\)"),
            (answering(404, b""), MalformedError, "answered with status 404"),
            (answering(204, b""), MalformedError, "answered with status 204"),
            (
                answering(301, b"", ("Location", "/elsewhere")),
                MalformedError,
                r"redirects \(301\), which is not followed",
            ),
            (answering(200, b""), MalformedError, "cut short"),
            (answering(200, b"<html>Welcome</html>"), MalformedError, "got 0x3c"),
            (answering(200, b"\xf0" * 8001), MalformedError, "more than 8000 bytes"),
            (answering(200, b"\x08" * 256), MalformedError, "operations in a row"),
            (answering(200, _block(7)), VerificationError, "without the promise of a"),
            (
                answering(200, b"\x08" + _promise(b"http://evil.example")),
                VerificationError,
                "without the promise of a calendar of the list",
            ),
        ],
    )
    def test_promises(
        self,
        world: Calendars,
        answer: Handler,
        kind: type[AuditLogError],
        message: str,
    ) -> None:
        anchor = world.anchor(world.add(answer).url)
        with pytest.raises(kind, match=message) as caught:
            anchor.submit(world.digest, [], now=NOW)
        assert type(caught.value) is kind
        assert {path for _, path in world.requests} == {"/digest"}

    @pytest.mark.parametrize(
        ("answer", "kind", "message"),
        [
            (answering(429, b""), AuditLogError, r"cannot answer now \(429\)"),
            (answering(400, b""), MalformedError, "answered with status 400"),
            (
                answering(302, b"", ("Location", "/elsewhere")),
                MalformedError,
                r"redirects \(302\)",
            ),
            (answering(200, b""), MalformedError, "cut short"),
            (answering(200, b"<html>Sorry</html>"), MalformedError, "got 0x3c"),
            (answering(200, b"\xf0" * 8001), MalformedError, "more than 8000 bytes"),
            (
                answering(200, b"\x08" + _promise(b"http://evil.example/x")),
                VerificationError,
                "answers without a Bitcoin attestation",
            ),
            (
                answering(200, _block(7)),  # of what it promised, which is no root
                VerificationError,
                "without a Bitcoin attestation",
            ),
            (
                answering(200, b"\x08" * 250 + _block(7)),
                MalformedError,
                "a proof of up to 255 operations",
            ),
        ],
    )
    def test_blocks(
        self,
        world: Calendars,
        answer: Handler,
        kind: type[AuditLogError],
        message: str,
    ) -> None:
        calendar = world.add(on("GET", answer))
        anchor = world.anchor(calendar.url)
        attestation = anchor.submit(world.digest, [], now=NOW)
        with pytest.raises(kind, match=message) as caught:
            anchor.upgrade(world.digest, attestation, now=NOW)
        assert type(caught.value) is kind
        assert len(world.requests) == 2

    @pytest.mark.parametrize(
        ("start", "message"),
        [
            (b"\x08" * 254, "a proof of up to 255 operations"),
            (b"\xf0\xe1\x01" + bytes(225), "promises 257 bytes; expected up to 256"),
        ],
    )
    def test_promises_too_long_to_keep(
        self, world: Calendars, start: bytes, message: str
    ) -> None:
        def promise(request: BaseHTTPRequestHandler) -> bool:
            return answering(200, start + _promise(calendar.url.encode()))(request)

        calendar = world.add(promise)
        with pytest.raises(MalformedError, match=message):
            world.anchor(calendar.url).submit(world.digest, [], now=NOW)

    def test_no_url_of_an_answer_is_ever_asked(self, world: Calendars) -> None:
        foreign = world.add()

        def both(request: BaseHTTPRequestHandler) -> bool:
            trap = b"\xff\x08" + _promise(foreign.url.encode())
            own = b"\xf0\x01x" + _promise(calendar.url.encode())
            return answering(200, trap + own)(request)

        calendar = world.add(on("POST", both))
        anchor = world.anchor(calendar.url)
        attestation = anchor.submit(world.digest, [], now=NOW)
        assert tags(world.digest, attestation) == [PENDING]
        anchor.upgrade(world.digest, attestation, now=NOW)
        assert {url for url, _ in world.requests} == {calendar.url}

    def test_no_url_of_evidence_is_ever_asked(self, world: Calendars) -> None:
        left_out, listed = world.add(), world.add()
        attestation = world.anchor(left_out.url).submit(world.digest, [], now=NOW)
        asked = len(world.requests)
        with pytest.raises(ConfigurationError, match="is not among its calendars"):
            world.anchor(listed.url).upgrade(world.digest, attestation, now=NOW)
        assert len(world.requests) == asked

    def test_another_calendar_of_the_list_cannot_be_promised_for(
        self, world: Calendars
    ) -> None:
        honest = world.add()
        liar = world.add(answering(200, b"\x08" + _promise(honest.url.encode())))
        anchor = world.anchor(liar.url, honest.url, minimum=2)
        with pytest.raises(VerificationError, match=f"{liar.url} answers without"):
            anchor.submit(world.digest, [], now=NOW)

    def test_an_answer_that_never_ends(self, world: Calendars) -> None:
        stop = threading.Event()

        def drip(request: BaseHTTPRequestHandler) -> bool:
            request.send_response(200)
            request.end_headers()
            request.wfile.flush()
            while not stop.wait(0.02):
                try:
                    request.wfile.write(b"\x08")
                    request.wfile.flush()
                except OSError:
                    break
            return True

        anchor = world.anchor(world.add(drip).url, timeout=0.3)
        try:
            with pytest.raises(AuditLogError, match="did not answer in time") as caught:
                anchor.submit(world.digest, [], now=NOW)
        finally:
            stop.set()
        assert type(caught.value) is AuditLogError

    def test_most_of_a_flood_of_blocks_is_left(self, world: Calendars) -> None:
        flood = (
            b"".join(b"\xff\x08" + _block(n) for n in range(60)) + b"\x08" + _block(99)
        )
        calendar = world.add(on("GET", answering(200, flood)))
        anchor = world.anchor(calendar.url)
        attestation = anchor.submit(world.digest, [], now=NOW)
        final = anchor.upgrade(world.digest, attestation, now=NOW)
        heights = [
            way.end.height for way in parse_evidence(world.digest, final.evidence)
        ]
        assert heights == [0, 1, 2, 3]

    def test_the_longest_answers_of_all_calendars_still_fit(
        self, world: Calendars
    ) -> None:
        fill = b"\xf1\xfc\x1e" + bytes(3964)  # twice as much per answer, to 8,000
        padded = fill + b"\x08" + fill + b"\x08"

        def long(request: BaseHTTPRequestHandler) -> bool:
            url = f"http://{request.headers['Host']}".encode()
            body = _promise(url) if request.command == "POST" else _block(7)
            salt = b"\xf0\x05" + url[-5:]
            return answering(200, salt + padded + body)(request)

        calendars = [world.add(long) for _ in range(8)]
        anchor = world.anchor(*(one.url for one in calendars), minimum=8)
        attestation = anchor.submit(world.digest, [], now=NOW)
        assert size(attestation) > 8 * 7900
        final = anchor.upgrade(world.digest, attestation, now=NOW)
        assert final.state == "final"
        assert size(final) > 16 * 7900

    def test_evidence_that_is_not_ours(self, world: Calendars) -> None:
        anchor = world.anchor(world.add().url)
        for evidence in ({}, {"ots": "AAAA"}, {"ots": 7}):
            broken = Attestation("ots", "pending", evidence)
            with pytest.raises(MalformedError, match="expected"):
                anchor.upgrade(world.digest, broken, now=NOW)


class TestHeaders:
    def lying(self, world: Calendars) -> Handler:
        """A calendar that says of anything that it is in a block."""
        return on("GET", answering(200, b"\x08\x00" + BITCOIN + b"\x03\xa1\xf7\x36"))

    def test_without_them_a_liar_is_believed_until_somebody_checks(
        self, world: Calendars
    ) -> None:
        anchor = world.anchor(world.add(self.lying(world)).url)
        attestation = anchor.submit(world.digest, [], now=NOW)
        final = anchor.upgrade(world.digest, attestation, now=NOW)
        assert final.state == "final"
        world.chain.mine()
        trust = parse_trust(world.chain.trust())
        with pytest.raises(VerificationError, match="Merkle root of block 900001"):
            check(world.digest, final.evidence, trust)

    def test_with_them_a_liar_is_found_out(self, world: Calendars) -> None:
        liar, honest = world.add(self.lying(world)), world.add()
        world.chain.mine()
        alone = world.anchor(liar.url, headers=world.trust_file())
        attestation = alone.submit(world.digest, [], now=NOW)
        with pytest.raises(VerificationError, match="Merkle root of block 900001"):
            alone.upgrade(world.digest, attestation, now=NOW)
        both = world.anchor(liar.url, honest.url, headers=world.trust_file())
        attestation = both.submit(world.digest, [], now=NOW)
        assert both.upgrade(world.digest, attestation, now=NOW) is attestation
        honest.mine()
        world.trust_file()
        final = both.upgrade(world.digest, attestation, now=NOW)
        assert final.state == "final"
        assert tags(world.digest, final) == [BITCOIN]

    def test_a_block_of_which_no_header_is_there_yet(self, world: Calendars) -> None:
        calendar = world.add()
        anchor = world.anchor(calendar.url, headers=world.trust_file())
        pending = anchor.submit(world.digest, [], now=NOW)
        height = calendar.mine()
        brought = anchor.upgrade(world.digest, pending, now=NOW)
        assert brought.state == "pending"
        assert tags(world.digest, brought) == [BITCOIN, PENDING]
        with pytest.raises(UntrustedError, match="add it"):
            check(
                world.digest, brought.evidence, parse_trust(world.chain.trust(900000))
            )
        asked = len(world.requests)
        assert anchor.upgrade(world.digest, brought, now=NOW) is brought
        world.trust_file(height)
        final = anchor.upgrade(world.digest, brought, now=NOW)
        assert final.state == "final"
        assert tags(world.digest, final) == [BITCOIN]
        assert len(world.requests) == asked

    def test_a_block_that_was_reorganised_away_is_asked_for_again(
        self, world: Calendars
    ) -> None:
        calendar = world.add()
        anchor = world.anchor(calendar.url, headers=world.trust_file())
        pending = anchor.submit(world.digest, [], now=NOW)
        height = calendar.mine()
        stale = anchor.upgrade(world.digest, pending, now=NOW)
        assert stale.state == "pending"
        other = Chain(start=1_800_100_000)
        assert other.mine() == height
        (world._directory / "bitcoin.toml").write_text(other.trust())
        with pytest.raises(VerificationError, match=f"Merkle root of block {height}"):
            anchor.upgrade(world.digest, stale, now=NOW)
        calendar.reorganise(other)
        assert anchor.upgrade(world.digest, stale, now=NOW) is stale
        calendar.mine()
        (world._directory / "bitcoin.toml").write_text(other.trust())
        final = anchor.upgrade(world.digest, stale, now=NOW)
        assert final.state == "final"
        assert tags(world.digest, final) == [BITCOIN]
        bound = check(world.digest, final.evidence, parse_trust(other.trust()))
        assert bound.detail == f"block {height + 1}"

    def test_a_file_that_breaks_while_we_run(self, world: Calendars) -> None:
        calendar = world.add()
        anchor = world.anchor(calendar.url, headers=world.trust_file())
        pending = anchor.submit(world.digest, [], now=NOW)
        calendar.mine()
        path = world._directory / "bitcoin.toml"
        path.write_text("")
        with pytest.raises(
            ConfigurationError, match=r"expected a \[\[bitcoin\]\] table"
        ):
            anchor.upgrade(world.digest, pending, now=NOW)
        first, second = (world.chain.header(900000 + at).hex() for at in range(2))
        path.write_text(world.chain.trust().replace(first, second))
        with pytest.raises(ConfigurationError, match=r"bitcoin\.toml: trust file, bit"):
            anchor.upgrade(world.digest, pending, now=NOW)
        path.unlink()
        with pytest.raises(ConfigurationError, match="cannot read the headers"):
            anchor.upgrade(world.digest, pending, now=NOW)


class TestPools:
    def test_a_pool_hands_on_to_calendars_of_the_list(self, world: Calendars) -> None:
        calendar, other = world.add(), world.add()
        pool = world.add(
            lambda request: answering(200, calendar.promise(request.rfile.read(32)))(
                _empty(request)
            )
        )
        anchor = world.anchor(calendar.url, other.url, pools=[pool.url])
        attestation = anchor.submit(world.digest, [], now=NOW)
        assert {url for url, _ in world.requests} == {pool.url}
        calendar.mine()
        assert anchor.upgrade(world.digest, attestation, now=NOW).state == "final"
        with pytest.raises(VerificationError, match="without the promise"):
            world.anchor(other.url, pools=[pool.url]).submit(world.digest, [], now=NOW)

    def test_two_pools_of_one_calendar_are_one(self, world: Calendars) -> None:
        calendar = world.add()
        pools = [
            world.add(
                lambda request: answering(
                    200, calendar.promise(request.rfile.read(32))
                )(_empty(request))
            ).url
            for _ in range(2)
        ]
        anchor = world.anchor(calendar.url, pools=pools, minimum=2)
        with pytest.raises(AuditLogError, match="got 1: they name the same calendar"):
            anchor.submit(world.digest, [], now=NOW)


def _empty(request: BaseHTTPRequestHandler) -> BaseHTTPRequestHandler:
    """Mark the body of a request as read."""
    request.headers.replace_header("Content-Length", "0")
    return request


class TestConfigure:
    def test_defaults(self, tmp_path: Path) -> None:
        anchor = configure("b", {"calendars": ["https://a.example/"]}, tmp_path)
        assert (anchor.minimum, anchor.timeout, anchor.pools) == (1, 20.0, ())
        assert anchor.headers is None

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "expected options with the fields calendars, headers, minimum"),
            ({"calendars": "https://a.example"}, "expected list as calendars"),
            ({"calendars": []}, "1 to 8 different URLs as calendars"),
            ({"calendars": [f"https://{n}.example" for n in range(9)]}, "1 to 8 diff"),
            ({"calendars": ["http://a", "http://a/"]}, "1 to 8 different URLs"),
            ({"calendars": [7]}, "expected calendars as URLs"),
            ({"calendars": ["ftp://a"]}, "expected an http or https URL"),
            ({"calendars": ["http://me:pw@a"]}, "without user or query"),
            ({"calendars": ["http://a"], "pools": []}, "different URLs as pools"),
            ({"calendars": ["http://a"], "minimum": 2}, "from 1 to .* 1, got 2"),
            ({"calendars": ["http://a"], "minimum": 0}, "from 1 to .* 1, got 0"),
            ({"calendars": ["http://a"], "minimum": True}, "expected int as minimum"),
            ({"calendars": ["http://a"], "timeout": 0}, "a timeout of up to 300"),
            ({"calendars": ["http://a"], "timeout": 301}, "a timeout of up to 300"),
            ({"calendars": ["http://a"], "timeout": "9"}, "a timeout of up to 300"),
            ({"calendars": ["http://a"], "headers": "no"}, "cannot read the headers"),
            (
                {"calendars": ["http://a"], "headers": "\0"},
                "the headers .*null byte",
            ),
            ({"calendars": ["http://a"], "more": 1}, r"timeout; unknown: more$"),
        ],
    )
    def test_refused(
        self, tmp_path: Path, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=message):
            configure("b", options, tmp_path)

    @pytest.mark.parametrize("text", ["", "x = 1", "[[chain]]", "\xff"])
    def test_headers_that_are_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "h").write_bytes(text.encode("latin-1"))
        with pytest.raises(ConfigurationError, match=r"headers|h: "):
            configure("b", {"calendars": ["http://a"], "headers": "h"}, tmp_path)


def test_what_is_final_is_what_the_verifier_reads(world: Calendars) -> None:
    """Nothing is lost on the way: the proof of the calendar stands in the evidence."""
    calendar = world.add()
    anchor = world.anchor(calendar.url)
    pending = anchor.submit(world.digest, [], now=NOW)
    (promise,) = parse_evidence(world.digest, pending.evidence)
    commitment = follow(promise.operations, world.digest)
    calendar.mine()
    final = anchor.upgrade(world.digest, pending, now=NOW)
    ways = parse_evidence(world.digest, final.evidence)
    tails = [
        way._replace(operations=way.operations[len(promise.operations) :])
        for way in ways
    ]
    assert format_proof(tails) == calendar.find(commitment)
