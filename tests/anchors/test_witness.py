"""Asking witnesses: the real one, the unhelpful and the malicious."""

import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.anchors import witness as module
from auditlog.anchors.witness import (
    Consistency,
    Cosigned,
    Memory,
    WitnessResult,
    ask_witness,
    ask_witnesses,
)
from auditlog.anchors.witness_answers import Question
from auditlog.core.checkpoint import Witness, open_checkpoint, parse_policy
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    RollbackError,
    StorageError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    ED25519,
    ML_DSA_44,
    make_signer,
    parse_vkey,
    sign_note,
)
from auditlog.core.proof import parse_add_checkpoint
from auditlog.web.witness_logs import LogBook
from auditlog.web.witness_server import WitnessApp
from tests.witnesses import (
    NOW,
    SomeLog,
    listening,
    new_state,
    running,
    served_witness,
    witness_signers,
)

LOG = SomeLog()
ED_SIGNER, PQ_SIGNER = witness_signers()
BOTH = [ED_SIGNER.verifier, PQ_SIGNER.verifier]
KEYS = LOG.verifiers
MONITOR = f"/{hashlib.sha256(LOG.origin.encode()).hexdigest()}/checkpoint"
SIZE = "text/x.tlog.size"


def witness(url: str | None, number: int = 0) -> Witness:
    return Witness(f"w{number}", BOTH[number], url)


def ask(
    url: str | None,
    size: int = 9,
    known: int | None = 7,
    *,
    fork: int | None = None,
    consistency: Consistency | None = None,
    newest: Callable[[], int] | None = None,
    timeout: float = 5.0,
) -> Cosigned:
    return ask_witness(
        witness(url),
        LOG.note(size, fork),
        size,
        consistency or (lambda old, new: LOG.proof(old, new, fork)),
        known,
        log_keys=KEYS,
        now=NOW,
        timeout=timeout,
        newest=newest,
    )


def ask_all(
    witnesses: Sequence[Witness],
    memory: Memory | None = None,
    *,
    now: float = NOW,
    timeout: float = 5.0,
) -> list[WitnessResult]:
    note = LOG.note(9)
    return ask_witnesses(
        witnesses,
        note,
        9,
        LOG.proof,
        memory,
        log_keys=KEYS,
        now=now,
        timeout=timeout,
    )


def reply(status: int, body: bytes, content_type: str = "text/plain") -> bytes:
    head = f"HTTP/1.1 {status} Status\r\nContent-Type: {content_type}\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def answering(*replies: bytes) -> Callable[[socket.socket], None]:
    """Answer the first request with the first reply, …, and the rest with the last."""
    left = list(replies)

    def serve(connection: socket.socket) -> None:
        connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    return serve


def old_sizes(requests: Sequence[bytes]) -> list[int]:
    bodies = [request.partition(b"\r\n\r\n")[2] for request in requests]
    return [parse_add_checkpoint(body).old_size for body in bodies]


class CountingApp:
    """A witness that counts what it is asked."""

    def __init__(self, app: WitnessApp) -> None:
        self.app = app
        self.count = 0

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        self.count += scope["type"] == "http"  # type: ignore[index]  # an ASGI scope
        await self.app(scope, receive, send)  # type: ignore[arg-type]


class TestRealWitness:
    def test_a_log_grows_under_its_eyes(self, tmp_path: Path) -> None:
        seen, line = None, None
        with served_witness(tmp_path, LOG.vkeys) as (url, vkeys):
            mine = Witness("w", parse_vkey(vkeys[0]), url)
            for size in (1, 7, 7, 64, 300):
                cosigned = ask_witness(
                    mine,
                    LOG.note(size),
                    size,
                    LOG.proof,
                    seen,
                    now=time.time(),
                    log_keys=KEYS,
                )
                (line,) = cosigned.lines
                assert cosigned.size == size
                assert line.verifier == mine.verifier
                assert abs(line.timestamp - time.time()) < 60
                seen = size
        assert line is not None
        policy = parse_policy(f"log {LOG.vkeys[0]}\nwitness w {vkeys[0]}\nquorum w\n")
        opened = open_checkpoint(LOG.note(300) + line.line, policy)
        assert opened.cosignatures == (
            (Witness("w", mine.verifier, None), line.timestamp),
        )

    @pytest.mark.parametrize(
        ("known", "requests"), [(None, 2), (0, 2), (3, 2), (7, 1), (9, 2), (500, 2)]
    )
    def test_what_we_know_saves_a_request(
        self, tmp_path: Path, known: int | None, requests: int
    ) -> None:
        app = CountingApp(
            WitnessApp(new_state(tmp_path), LogBook(LOG.vkeys), witness_signers())
        )
        with running(app) as url:
            ask_witness(
                witness(url), LOG.note(7), 7, LOG.proof, now=time.time(), log_keys=KEYS
            )
            app.count = 0
            mine = witness(url)
            ask_witness(
                mine, LOG.note(9), 9, LOG.proof, known, now=time.time(), log_keys=KEYS
            )
        assert app.count == requests

    def test_an_answer_that_was_lost_is_asked_for_again(self, tmp_path: Path) -> None:
        with served_witness(tmp_path, LOG.vkeys) as (url, vkeys):
            mine = Witness("w", parse_vkey(vkeys[0]), url)
            for _ in range(2):  # the second time the witness has it, and we do not know
                cosigned = ask_witness(
                    mine, LOG.note(9), 9, LOG.proof, 0, now=time.time(), log_keys=KEYS
                )
                assert len(cosigned.lines) == 1

    def test_a_restored_backup_is_a_rollback(self, tmp_path: Path) -> None:
        with served_witness(tmp_path, LOG.vkeys) as (url, _):
            now = time.time()
            with pytest.raises(UntrustedError, match="without a signature by its key"):
                ask_witness(
                    witness(url), LOG.note(9), 9, LOG.proof, now=now, log_keys=KEYS
                )
            with pytest.raises(
                RollbackError,
                match="witness w0 has seen size 9, this log has only 7: was it",
            ):
                ask_witness(
                    witness(url), LOG.note(7), 7, LOG.proof, 7, now=now, log_keys=KEYS
                )

    @pytest.mark.parametrize("size", [9, 12])
    def test_another_history_is_refused(self, tmp_path: Path, size: int) -> None:
        with served_witness(tmp_path, LOG.vkeys) as (url, vkeys):
            mine = Witness("w", parse_vkey(vkeys[0]), url)
            now = time.time()
            ask_witness(mine, LOG.note(9), 9, LOG.proof, now=now, log_keys=KEYS)
            with pytest.raises(
                RollbackError,
                match=r"refuses our history \(422\): it is not consistent with what "
                "this log signed at size 9; does a copy of this log go on elsewhere",
            ):
                ask_witness(
                    mine,
                    LOG.note(size, 3),
                    size,
                    lambda old, new: LOG.proof(old, new, 3),
                    now=now,
                    log_keys=KEYS,
                )

    def test_two_views_for_two_witnesses_meet_no_quorum_and_are_seen(
        self, tmp_path: Path
    ) -> None:
        """Who shows each another past has one cosignature for each, for ever."""
        now = time.time()
        with (
            served_witness(tmp_path / "one", LOG.vkeys) as (url1, vkeys1),
            served_witness(tmp_path / "two", LOG.vkeys) as (url2, vkeys2),
        ):
            one = Witness("one", parse_vkey(vkeys1[0]), url1)
            two = Witness("two", parse_vkey(vkeys2[0]), url2)
            views: list[tuple[Witness, Witness, int | None]]
            views = [(one, two, None), (two, one, 3)]
            lines = [
                ask_witness(
                    first, LOG.note(9, fork), 9, LOG.proof, now=now, log_keys=KEYS
                )
                for first, _, fork in views
            ]
            for _, second, fork in views:
                with pytest.raises(
                    RollbackError, match="not consistent with what this log signed at"
                ):
                    ask_witness(
                        second, LOG.note(9, fork), 9, LOG.proof, now=now, log_keys=KEYS
                    )
        keys = f"witness one {vkeys1[0]}\nwitness two {vkeys2[0]}\n"
        policy = parse_policy(
            f"log {LOG.vkeys[0]}\n{keys}group both all one two\nquorum both\n"
        )
        for cosigned, (first, _, fork) in zip(lines, views, strict=True):
            note = LOG.note(9, fork) + cosigned.lines[0].line
            with pytest.raises(
                UntrustedError, match=f"expected the quorum 'both', got {first.name}"
            ):
                open_checkpoint(note, policy)
        # One view's cosignature under the other view's checkpoint is worth nothing.
        with pytest.raises(VerificationError, match="does not verify"):
            open_checkpoint(LOG.note(9) + lines[1].lines[0].line, policy)

    def test_a_checkpoint_that_is_replayed_brings_no_newer_cosignature(
        self, tmp_path: Path
    ) -> None:
        """An answer to an older question is none to this one."""
        with served_witness(tmp_path, LOG.vkeys) as (url, vkeys):
            mine = Witness("w", parse_vkey(vkeys[0]), url)
            old = ask_witness(
                mine, LOG.note(7), 7, LOG.proof, now=time.time(), log_keys=KEYS
            )
        answers = answering(reply(200, old.lines[0].line))
        with (
            listening(answers) as url,
            pytest.raises(VerificationError, match="does not verify"),
        ):
            ask_witness(
                Witness("w", mine.verifier, url),
                LOG.note(9),
                9,
                LOG.proof,
                7,
                now=time.time(),
                log_keys=KEYS,
            )

    def test_a_log_it_does_not_know(self, tmp_path: Path) -> None:
        other = SomeLog("log.example/b")
        thief = SomeLog(LOG.origin, (ML_DSA_44,))
        with served_witness(tmp_path, LOG.vkeys) as (url, _):
            for log, status in ((other, 404), (thief, 403)):
                with pytest.raises(
                    UntrustedError, match=rf"\({status}\): have its operator add the vk"
                ):
                    ask_witness(
                        witness(url), log.note(7), 7, log.proof, now=NOW, log_keys=KEYS
                    )


class TestStatuses:
    @pytest.mark.parametrize(
        ("answer", "kind", "reason"),
        [
            (reply(403, b"no"), UntrustedError, r"does not know this log .*\(403\)"),
            (reply(404, b"no"), UntrustedError, r"does not know this log .*\(404\)"),
            (reply(429, b""), AuditLogError, r"cannot answer now \(429\)"),
            (reply(500, b""), AuditLogError, r"cannot answer now \(500\)"),
            (reply(503, b""), AuditLogError, r"cannot answer now \(503\)"),
            (reply(301, b""), MalformedError, r"redirects \(301\), which is not foll"),
            (reply(308, b""), MalformedError, r"redirects \(308\), which is not foll"),
            (reply(201, b""), MalformedError, "answered with status 201"),
            (reply(400, b""), MalformedError, "answered with status 400"),
            (reply(413, b""), MalformedError, "answered with status 413"),
        ],
    )
    def test_each_means_one_thing(
        self, answer: bytes, kind: type[AuditLogError], reason: str
    ) -> None:
        requests: list[bytes] = []
        with (
            listening(answering(answer), requests=requests) as url,
            pytest.raises(
                kind, match=f"witness w0 .*{reason}|witness w0 {reason}"
            ) as caught,
        ):
            ask(url)
        assert type(caught.value) is kind
        assert len(requests) == 1
        retry = WitnessResult(witness(url), None, caught.value).retryable
        assert retry == (kind is AuditLogError)

    def test_nobody_there_and_too_slow_are_worth_a_retry(self) -> None:
        with (
            listening(lambda connection: time.sleep(0.3)) as url,
            pytest.raises(AuditLogError, match="in time") as slow,
        ):
            ask(url, timeout=0.1)
        with pytest.raises(AuditLogError, match="cannot reach") as gone:
            ask(url)
        for caught in (slow, gone):
            assert WitnessResult(witness(url), None, caught.value).retryable


class TestSizes:
    def test_the_proof_is_made_again_for_the_size_it_saw(self) -> None:
        asked: list[tuple[int, int]] = []
        requests: list[bytes] = []

        def consistency(old: int, new: int) -> tuple[bytes, ...]:
            asked.append((old, new))
            return LOG.proof(old, new)

        lines = ED_SIGNER.sign(LOG.text(9), NOW)
        answers = answering(reply(409, b"5\n", SIZE), reply(200, lines))
        with listening(answers, requests=requests) as url:
            ask(url, known=7, consistency=consistency)
        assert asked == [(7, 9), (5, 9)]
        assert old_sizes(requests) == [7, 5]

    @pytest.mark.parametrize("old", [0, 9])
    def test_nothing_and_everything_need_no_proof(self, old: int) -> None:
        def never(old: int, new: int) -> tuple[bytes, ...]:
            raise AssertionError

        lines = ED_SIGNER.sign(LOG.text(9), NOW)
        with listening(answering(reply(200, lines))) as url:
            assert ask(url, known=old, consistency=never).size == 9

    @pytest.mark.parametrize("kind", [SIZE, "Text/X.Tlog.Size; charset=utf-8"])
    def test_a_larger_size_that_it_shows_is_a_rollback(self, kind: str) -> None:
        shown = reply(200, LOG.note(10) + ED_SIGNER.sign(LOG.text(10), NOW))
        answers = answering(reply(409, b"10\n", kind), shown)
        requests: list[bytes] = []
        with (
            listening(answers, requests=requests) as url,
            pytest.raises(
                RollbackError, match=r"has seen size 10, this log has only 9: was it"
            ),
        ):
            ask(url)
        assert requests[1].startswith(f"GET {MONITOR} HTTP/1.1\r\n".encode())

    @pytest.mark.parametrize(
        ("newest", "kind", "reason"),
        [
            (12, AuditLogError, "has already seen size 12: somebody asked it"),
            (11, RollbackError, "has seen size 12, this log has only 11"),
        ],
    )
    def test_a_larger_size_that_another_process_asked_for_is_none(
        self, newest: int, kind: type[AuditLogError], reason: str
    ) -> None:
        with (
            listening(
                answering(reply(409, b"12\n", SIZE), reply(200, LOG.note(12)))
            ) as url,
            pytest.raises(kind, match=reason) as caught,
        ):
            ask(url, newest=lambda: newest)
        assert type(caught.value) is kind

    @pytest.mark.parametrize(
        "body",
        [
            *(
                b"",
                b"\n",
                b"5",
                b"05\n",
                b"-5\n",
                b"5\n\n",
                b" 5\n",
                b"5.0\n",
                b"\xff\n",
            ),
            *(b"9" * 30 + b"\n", b"9" * 60_000 + b"\n"),
        ],
    )
    def test_a_size_that_is_none(self, body: bytes) -> None:
        with (
            listening(answering(reply(409, body, SIZE))) as url,
            pytest.raises(
                MalformedError, match="witness w0: expected a size and a newline"
            ),
        ):
            ask(url)

    def test_an_endless_change_of_mind_ends(self) -> None:
        requests: list[bytes] = []
        answers = [reply(409, b"%d\n" % size, SIZE) for size in (5, 6, 5, 6, 5, 6)]
        with (
            listening(answering(*answers), requests=requests) as url,
            pytest.raises(AuditLogError, match="answered 3 requests with another size"),
        ):
            ask(url)
        assert old_sizes(requests) == [7, 5, 6]

    def test_the_time_limit_is_for_all_attempts(self) -> None:
        def serve(connection: socket.socket) -> None:
            time.sleep(0.15)
            connection.sendall(reply(409, b"5\n", SIZE))

        requests: list[bytes] = []
        with (
            listening(serve, requests=requests) as url,
            pytest.raises(AuditLogError, match="did not answer in time"),
        ):
            ask(url, timeout=0.2)
        assert len(requests) == 2

    def test_a_proof_that_cannot_be_made(self) -> None:
        def broken(old: int, new: int) -> tuple[bytes, ...]:
            raise StorageError("the disk is gone")

        with (
            listening(answering(reply(200, b""))) as url,
            pytest.raises(StorageError, match="the disk is gone"),
        ):
            ask(url, consistency=broken)

    def test_cosignatures_are_not_sent_on(self) -> None:
        note = LOG.note(9) + PQ_SIGNER.sign(LOG.text(9), NOW) * 5
        requests: list[bytes] = []
        with (
            listening(answering(reply(200, b"")), requests=requests) as url,
            pytest.raises(MalformedError, match="up to 16384 bytes, got 16"),
        ):
            ask_witness(witness(url), note, 9, LOG.proof, now=NOW, log_keys=KEYS)
        assert requests == []

    def test_no_url(self) -> None:
        with pytest.raises(ConfigurationError, match="gives no URL for witness w0"):
            ask(None)
        with pytest.raises(ConfigurationError, match="expected an http or https URL"):
            ask("ftp://witness.example")


class TestClaims:
    """A refusal stops the log only if it comes with what the log itself signed."""

    REFUSALS = (
        reply(409, b"10\n", SIZE),
        reply(409, b"9223372036854775807\n", SIZE),
        reply(409, b""),
        reply(409, b"5\n"),
        reply(422, b""),
    )

    @pytest.mark.parametrize("refusal", REFUSALS, ids=range(5))
    @pytest.mark.parametrize(
        ("shown", "reason"),
        [
            (reply(404, b"not found"), "its monitoring path answers 404"),
            (reply(500, b""), "its monitoring path answers 500"),
            (reply(200, b""), "expected an empty line before the signatures"),
            (reply(200, b"x" * 70_000), "answered more than 65536 bytes"),
            (b"", "closed without an answer"),
            (
                reply(200, LOG.text(10) + b"\n" + ED_SIGNER.sign(LOG.text(10), NOW)),
                "expected a signature by one of 1 known keys, got none",
            ),
            (
                reply(200, SomeLog(LOG.origin, (ML_DSA_44,)).note(10, 3)),
                "expected a signature by one of 1 known keys, got none",
            ),
            (
                reply(200, LOG.note(10).replace(b"\n10\n", b"\n11\n")),
                "does not verify",
            ),
            (
                reply(200, sign_note(SomeLog("log.example/b").text(500), LOG.signers)),
                "it shows a checkpoint of another log",
            ),
        ],
    )
    def test_a_bare_claim_halts_nothing(
        self, refusal: bytes, shown: bytes, reason: str
    ) -> None:
        with (
            listening(answering(refusal, shown)) as url,
            pytest.raises(
                AuditLogError,
                match=r"witness w0 (says|refuses).*, but shows nothing that this log "
                rf"signed to prove it \(.*{reason}.*\): ask its operator",
            ) as caught,
        ):
            ask(url)
        assert WitnessResult(witness(url), None, caught.value).retryable

    @pytest.mark.parametrize("refusal", REFUSALS, ids=range(5))
    @pytest.mark.parametrize("size", [0, 1, 7, 9])
    def test_our_own_past_proves_nothing(self, refusal: bytes, size: int) -> None:
        with (
            listening(answering(refusal, reply(200, LOG.note(size)))) as url,
            pytest.raises(
                AuditLogError, match=f"it shows, of size {size}, is our past"
            ) as caught,
        ):
            ask(url)
        assert type(caught.value) is AuditLogError

    @pytest.mark.parametrize("refusal", REFUSALS, ids=range(5))
    @pytest.mark.parametrize(
        ("size", "fork", "reason"),
        [
            (10, None, "has seen size 10, this log has only 9"),
            (600, 3, "has seen size 600, this log has only 9"),
            (9, 3, "not consistent with what this log signed at size 9"),
            (7, 3, "not consistent with what this log signed at size 7"),
            (1, 0, "not consistent with what this log signed at size 1"),
        ],
    )
    def test_what_this_log_signed_is_proof(
        self, refusal: bytes, size: int, fork: int | None, reason: str
    ) -> None:
        with (
            listening(answering(refusal, reply(200, LOG.note(size, fork)))) as url,
            pytest.raises(RollbackError, match=f"witness w0 .*{reason}"),
        ):
            ask(url)

    def test_a_newer_one_of_ours_that_another_process_signed_is_none(self) -> None:
        answers = answering(reply(422, b""), reply(200, LOG.note(12)))
        with (
            listening(answers) as url,
            pytest.raises(AuditLogError, match="somebody asked it with a newer") as got,
        ):
            ask(url, newest=lambda: 12)
        assert type(got.value) is AuditLogError

    def test_showing_takes_no_longer_than_the_conversation_may(self) -> None:
        left = [reply(422, b"")]

        def serve(connection: socket.socket) -> None:
            if left:
                connection.sendall(left.pop())
            else:
                time.sleep(0.3)

        with (
            listening(serve) as url,
            pytest.raises(AuditLogError, match=r"did not answer in time\)"),
        ):
            ask(url, timeout=0.2)

    def test_one_that_lies_does_not_stop_the_others(self) -> None:
        lines = PQ_SIGNER.sign(LOG.text(9), NOW)
        with (
            listening(answering(reply(409, b"500\n", SIZE))) as liar,
            listening(answering(reply(200, lines))) as honest,
        ):
            lied, good = ask_all([witness(liar), witness(honest, 1)])
        assert type(lied.error) is AuditLogError
        assert good.cosigned is not None


class TestBusy:
    @staticmethod
    def busy(seconds: str, status: int = 429) -> bytes:
        head = f"HTTP/1.1 {status} Busy\r\nContent-Length: 0\r\nRetry-After: "
        return f"{head}{seconds}\r\n\r\n".encode()

    @pytest.mark.parametrize("status", [429, 503])
    def test_it_is_left_alone_for_as_long_as_it_asks(self, status: int) -> None:
        requests: list[bytes] = []
        memory = Memory()
        begun = time.monotonic()
        with listening(answering(self.busy("120", status)), requests=requests) as url:
            (first,) = ask_all([witness(url)], memory)
            (second,) = ask_all([witness(url + "/")], memory)
        assert len(requests) == 1
        assert str(first.error) == (
            f"witness w0 cannot answer now ({status}), and asks to wait for 120 s"
        )
        assert re.match(
            r"witness w0 is busy, and asked not to be asked for 1\d\d s",
            str(second.error),
        )
        assert first.retryable
        assert second.retryable
        assert 119 < memory.resting[url] - begun < 150

    def test_but_not_for_longer_than_an_hour(self) -> None:
        memory = Memory()
        with listening(answering(self.busy("999999999"))) as url:
            ask_all([witness(url)], memory)
        assert memory.resting[url] <= time.monotonic() + 3600

    @pytest.mark.parametrize("said", ["", "0", "-5", "Fri, 27 Nov 2026 23:59:59 GMT"])
    def test_one_that_does_not_say_how_long_is_asked_again(self, said: str) -> None:
        memory = Memory()
        with listening(answering(self.busy(said))) as url:
            (result,) = ask_all([witness(url)], memory)
        assert str(result.error) == "witness w0 cannot answer now (429)"
        assert memory.resting == {}

    def test_an_error_does_not_say_when_to_come_back(self) -> None:
        memory = Memory()
        with listening(answering(self.busy("120", 500))) as url:
            ask_all([witness(url)], memory)
        assert memory.resting == {}

    def test_after_that_it_is_asked_and_its_past_is_known(self) -> None:
        requests: list[bytes] = []
        lines = ED_SIGNER.sign(LOG.text(9), NOW)
        with listening(answering(reply(200, lines)), requests=requests) as url:
            memory = Memory({BOTH[0].key: 7}, {url: time.monotonic() - 1})
            (result,) = ask_all([witness(url)], memory)
        assert result.cosigned is not None
        assert old_sizes(requests) == [7]
        assert memory == Memory({BOTH[0].key: 9}, {})

    def test_what_is_known_survives_a_failure(self) -> None:
        memory = Memory({BOTH[0].key: 7})
        with listening(answering(reply(500, b""))) as url:
            ask_all([witness(url)], memory)
        assert memory == Memory({BOTH[0].key: 7}, {})


class TestLines:
    """What stands in a 200 is believed only if the witness's key verifies it."""

    STRANGER = make_signer("stranger.example", COSIGNATURE_ED25519, b"s" * 32)
    THIEF = make_signer("witness.example/w1", COSIGNATURE_ED25519, b"t" * 32)

    @pytest.mark.parametrize(
        ("lines", "kind", "reason"),
        [
            (b"", MalformedError, "witness w0: expected 1 to 100 signature lines"),
            (b"garbage", MalformedError, "witness w0: expected a signature line"),
            (b"\xff\xfe\n", MalformedError, "witness w0: expected a signature line"),
            (b"\n", MalformedError, "witness w0: expected 1 to 100 signature lines"),
            (
                STRANGER.sign(LOG.text(9), NOW),
                UntrustedError,
                "witness w0 answered without a signature by its key",
            ),
            (
                THIEF.sign(LOG.text(9), NOW),
                UntrustedError,
                "witness w0 answered without a signature by its key",
            ),
            (
                LOG.signers[0].sign(LOG.text(9)),
                UntrustedError,
                "witness w0 answered without a signature by its key",
            ),
            (
                ED_SIGNER.sign(LOG.text(8), NOW),
                VerificationError,
                "witness.example/w1.* does not verify",
            ),
            (
                ED_SIGNER.sign(LOG.text(9), 0),
                VerificationError,
                f"witness w0 signed the time 0; expected one within 300 s of {NOW}",
            ),
            (
                ED_SIGNER.sign(LOG.text(9), NOW - 301),
                VerificationError,
                f"witness w0 signed the time {NOW - 301}; expected",
            ),
            (
                SomeLog("log.example/b").note(9).partition(b"\n\n")[2]
                + ED_SIGNER.sign(SomeLog("log.example/b").text(9), NOW),
                VerificationError,
                "witness.example/w1.* does not verify",
            ),
            (
                ED_SIGNER.sign(LOG.text(9), NOW) + ED_SIGNER.sign(LOG.text(9), NOW - 1),
                MalformedError,
                "witness w0: expected one signature by witness.example/w1",
            ),
            (
                ED_SIGNER.sign(LOG.text(9), NOW + 301),
                VerificationError,
                f"witness w0 signed the time {NOW + 301}; expected",
            ),
            (
                ED_SIGNER.sign(LOG.text(9), 2**63 - 1),
                VerificationError,
                "witness w0 signed the time 9223372036854775807; expected",
            ),
            (
                ED_SIGNER.sign(LOG.text(9), NOW) * 2,
                MalformedError,
                "witness w0: expected one signature by witness.example/w1",
            ),
            (
                STRANGER.sign(LOG.text(9), NOW) * 101,
                MalformedError,
                "witness w0: expected 1 to 100 signature lines, got 101",
            ),
            (
                b"evil\n\n" + ED_SIGNER.sign(LOG.text(9) + b"\nevil\n", NOW),
                MalformedError,
                "witness w0: expected signature lines, got another text",
            ),
        ],
    )
    def test_not_believed(
        self, lines: bytes, kind: type[AuditLogError], reason: str
    ) -> None:
        with (
            listening(answering(reply(200, lines))) as url,
            pytest.raises(kind, match=reason) as caught,
        ):
            ask(url)
        assert type(caught.value) is kind

    @pytest.mark.parametrize("time_", [NOW - 300, NOW, NOW + 300])
    def test_believed_among_others(self, time_: int) -> None:
        line = ED_SIGNER.sign(LOG.text(9), time_)
        others = [
            self.STRANGER.sign(LOG.text(9), NOW),
            PQ_SIGNER.sign(LOG.text(9), NOW),
            self.STRANGER.sign(LOG.text(8), NOW),
        ]
        body = b"".join([*others[:2], line, others[2]])
        with listening(answering(reply(200, body))) as url:
            (signature,) = ask(url).lines
        assert signature == (ED_SIGNER.verifier, time_, line)

    @given(lines=st.binary())
    def test_any_bytes_give_an_error_of_ours(self, lines: bytes) -> None:
        question = Question(LOG.note(9), 9, LOG.proof, None, KEYS, 1.0, NOW)
        result = module._result(witness("http://a.example"), question, lines)
        assert isinstance(result.error, AuditLogError)
        assert result.cosignatures == ()


class TestMany:
    def test_one_server_with_two_keys_is_asked_once(self, tmp_path: Path) -> None:
        app = CountingApp(
            WitnessApp(new_state(tmp_path), LogBook(LOG.vkeys), witness_signers())
        )
        with running(app) as url:
            results = ask_all([witness(url), witness(url + "/", 1)], now=time.time())
        assert app.count == 1
        assert [result.witness.name for result in results] == ["w0", "w1"]
        assert [result.error for result in results] == [None, None]
        types = [line.verifier.type for r in results for line in r.cosignatures]
        assert types == [COSIGNATURE_ED25519, ML_DSA_44]

    def test_the_newest_size_known_of_either_key_is_used(self) -> None:
        requests: list[bytes] = []
        known = {BOTH[0].key: 3, BOTH[1].key: 5}
        with listening(answering(reply(500, b"")), requests=requests) as url:
            ask_all([witness(url), witness(url, 1)], Memory(sizes=known))
        assert old_sizes(requests) == [5]

    def test_a_bad_line_spoils_its_own_key_only(self) -> None:
        lines = ED_SIGNER.sign(LOG.text(8), NOW) + PQ_SIGNER.sign(LOG.text(9), NOW)
        with listening(answering(reply(200, lines))) as url:
            bad, good = ask_all([witness(url), witness(url, 1)])
        assert isinstance(bad.error, VerificationError)
        assert not bad.retryable
        assert bad.cosignatures == ()
        assert good.error is None
        assert good.cosigned is not None
        assert good.cosignatures == good.cosigned.lines != ()

    def test_one_that_fails_does_not_keep_the_others(self) -> None:
        lines = PQ_SIGNER.sign(LOG.text(9), NOW)
        done: list[float] = []

        def prompt(connection: socket.socket) -> None:
            connection.sendall(reply(200, lines))
            done.append(time.monotonic())

        begun = time.monotonic()
        with (
            listening(lambda connection: time.sleep(0.4)) as slow,
            listening(prompt) as fast,
        ):
            failed, unasked, good = (
                witness(slow),
                Witness("no url", BOTH[0]),
                witness(fast, 1),
            )
            results = ask_all([failed, unasked, good], timeout=0.2)
        assert [result.witness for result in results] == [failed, good]
        assert [result.url for result in results] == [slow, fast]
        assert results[0].retryable
        assert results[1].error is None
        assert done[0] - begun < 0.2

    def test_a_url_that_cannot_be_used_is_a_result(self) -> None:
        (result,) = ask_all([witness("ftp://a.example")])
        assert isinstance(result.error, ConfigurationError)
        assert not result.retryable

    def test_nobody_to_ask(self) -> None:
        assert ask_all([]) == []
        assert ask_all([witness(None)]) == []

    def test_proofs_are_made_one_at_a_time(self) -> None:
        inside = threading.Lock()
        made: list[int] = []

        def consistency(old: int, new: int) -> tuple[bytes, ...]:
            assert inside.acquire(blocking=False)
            time.sleep(0.02)
            made.append(old)
            inside.release()
            return LOG.proof(old, new)

        servers = [listening(answering(reply(500, b""))) for _ in range(3)]
        with servers[0] as one, servers[1] as two, servers[2] as three:
            witnesses = [witness(url) for url in (one, two, three)]
            ask_witnesses(
                witnesses,
                LOG.note(9),
                9,
                consistency,
                Memory(sizes={BOTH[0].key: 7}),
                log_keys=KEYS,
                now=NOW,
            )
        assert made == [7, 7, 7]

    def test_the_log_with_both_keys_fits_a_request(self, tmp_path: Path) -> None:
        log = SomeLog("log.example/both", (ED25519, ML_DSA_44))
        with served_witness(tmp_path, log.vkeys) as (url, vkeys):
            mine = Witness("w", parse_vkey(vkeys[1]), url)
            now = time.time()
            ask_witness(
                mine, log.note(255), 255, log.proof, now=now, log_keys=log.verifiers
            )
            cosigned = ask_witness(
                mine,
                log.note(600),
                600,
                log.proof,
                255,
                now=now,
                log_keys=log.verifiers,
            )
        assert re.match(rb"\xe2\x80\x94 witness.example/w1 ", cosigned.lines[0].line)
