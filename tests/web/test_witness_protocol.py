"""What a witness answers, and what it remembers of it, without HTTP."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog.core.checkpoint import open_checkpoint, parse_checkpoint, parse_policy
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    ConflictError,
    StorageError,
)
from auditlog.core.merkle import EMPTY_ROOT
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    ED25519,
    ML_DSA_44,
    Verifier,
    make_signer,
    open_note,
    parse_vkey,
    sign_note,
)
from auditlog.core.proof import parse_add_checkpoint
from auditlog.storage.witness_state import NOTHING_SEEN, Seen, WitnessState
from auditlog.web.witness_protocol import (
    SIZE_TYPE,
    TEXT_TYPE,
    Answer,
    Spec,
    finish_cosigning,
    process_add_checkpoint,
)
from tests.vectorset import own, public
from tests.witnesses import NOW, SomeLog, new_state, witness_signers

LOG = SomeLog()
WITNESS = [signer.verifier for signer in witness_signers()]
HASH_LINE = b"aGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGg=\n"
TOO_MANY_HASHES = b"old 0\n" + 64 * HASH_LINE + b"\n" + LOG.note(7)
STATUSES = {200, 400, 403, 404, 409, 422}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[WitnessState]:
    with closing(new_state(tmp_path)) as opened:
        yield opened


def ask(
    state: WitnessState, body: bytes, log: SomeLog = LOG, spec: Spec = "main"
) -> Answer:
    return process_add_checkpoint(body, state, log.keys, witness_signers(), NOW, spec)


def text_of(body: bytes) -> bytes:
    return parse_add_checkpoint(body).checkpoint.rpartition(b"\n\n")[0] + b"\n"


def signers_of(body: bytes, answer: Answer, known: Sequence[Verifier]) -> list[str]:
    """Keys whose lines in the answer verify over the checkpoint in the request."""
    assert answer.status == 200, answer
    note = parse_add_checkpoint(body).checkpoint + answer.body
    return [signature.verifier.key for signature in open_note(note, known).signatures]


class TestVectors:
    @pytest.mark.parametrize(
        ("spec", "column"),
        [("main", "expect_main_2026_07"), ("v1.0.0", "expect_v1_0_0")],
    )
    def test_the_sequence_of_the_reference(
        self, state: WitnessState, spec: Spec, column: str
    ) -> None:
        vectors: Any = own("witness_add_checkpoint_sequence")
        log = parse_vkey(vectors["log_vkey"])
        answered = 0
        for step in vectors["steps"]:
            body = step["request_body"].encode()
            answer = process_add_checkpoint(
                body, state, {log.name: [log]}, witness_signers(), NOW, spec
            )
            assert answer.status == step[column], (step["step"], answer)
            is_size = answer.content_type == SIZE_TYPE
            assert is_size == (step["content_type"] == SIZE_TYPE), step["step"]
            if "response_body" in step:
                assert answer.body == step["response_body"].encode(), step["step"]
            if answer.status == 200:
                known = [log, *WITNESS]
                verified = signers_of(body, answer, known)
                assert len(verified) == step["verified_signatures_incl_log"]
                assert answer.body.count(b"\n") == step["response_lines"]
            answered += 1
        assert answered == 20

    @pytest.mark.interop
    def test_a_log_that_signs_with_ml_dsa(self, state: WitnessState) -> None:
        vector = json.loads(public("torchwood/litewitness-mldsa.json"))
        log = parse_vkey(vector["log_vkey"])
        body = vector["request_body"].encode()
        answer = process_add_checkpoint(
            body, state, {log.name: [log]}, witness_signers(), NOW
        )
        assert signers_of(body, answer, [log, *WITNESS]) == [
            log.key,
            *(verifier.key for verifier in WITNESS),
        ]


class TestCosignatures:
    def test_both_keys_sign_the_time(self, state: WitnessState) -> None:
        body = LOG.request(0, 7)
        answer = ask(state, body)
        note = open_note(LOG.note(7) + answer.body, [*LOG.verifiers, *WITNESS])
        assert [(s.verifier.type, s.timestamp) for s in note.signatures] == [
            (ED25519, 0),
            (COSIGNATURE_ED25519, NOW),
            (ML_DSA_44, NOW),
        ]
        assert answer.content_type == TEXT_TYPE

    def test_a_fraction_of_a_second_is_cut(self, state: WitnessState) -> None:
        answer = process_add_checkpoint(
            LOG.request(0, 7), state, LOG.keys, witness_signers(), NOW + 0.9
        )
        note = open_note(LOG.note(7) + answer.body, WITNESS)
        assert {signature.timestamp for signature in note.signatures} == {NOW}

    @pytest.mark.parametrize("now", [0.0, 0.9, -5.0])
    def test_a_clock_without_a_time_signs_nothing(
        self, state: WitnessState, now: float
    ) -> None:
        with pytest.raises(ConfigurationError, match="expected a clock after 1970"):
            process_add_checkpoint(
                LOG.request(0, 7), state, LOG.keys, witness_signers(), now
            )
        assert state.latest(LOG.origin) == NOTHING_SEEN

    def test_a_later_one_never_states_an_earlier_time(
        self, state: WitnessState
    ) -> None:
        def ask_at(now: int, body: bytes) -> Answer:
            return process_add_checkpoint(body, state, LOG.keys, witness_signers(), now)

        assert ask_at(NOW, LOG.request(0, 7)).status == 200
        late = ask_at(NOW - 5, LOG.request(7, 9))
        reason = b"the clock of this witness is behind what it signed\n"
        assert late == Answer(503, TEXT_TYPE, reason, 5)
        assert state.latest(LOG.origin).size == 7
        state.advance(LOG.origin, Seen(7, LOG.root(7)), Seen(8, LOG.root(8)), b"8")
        finish_cosigning(state, LOG.origin, witness_signers(), NOW - 5)
        shown = state.cosigned(LOG.origin)
        assert shown is not None
        assert shown.startswith(LOG.text(7))
        # Other logs have their own time, and the same second is no step back.
        other = SomeLog("log.example/b")
        assert ask(state, other.request(0, 3), other).status == 200
        assert ask_at(NOW, LOG.request(8, 9)).status == 200

    def test_a_state_that_is_damaged_signs_nothing(self, state: WitnessState) -> None:
        ask(state, LOG.request(0, 7))
        state.keep_cosigned(LOG.origin, Seen(7, LOG.root(7)), b"no note")
        with pytest.raises(AuditLogError, match="expected an empty line before"):
            ask(state, LOG.request(7, 9))
        assert state.latest(LOG.origin).size == 7

    def test_growth_step_by_step(self, state: WitnessState) -> None:
        sizes = [0, 1, 2, 2, 3, 64, 65, 200, 256, 257, 600]
        old = 0
        for size in sizes:
            assert ask(state, LOG.request(old, size)).status == 200
            assert state.latest(LOG.origin) == Seen(size, LOG.root(size))
            old = size

    def test_several_logs_have_their_own_past(self, state: WitnessState) -> None:
        other = SomeLog("log.example/b", (ED25519, ML_DSA_44))
        assert ask(state, LOG.request(0, 9)).status == 200
        assert ask(state, other.request(0, 4), other).status == 200
        assert state.latest(LOG.origin).size == 9
        assert state.latest(other.origin).size == 4

    def test_one_good_key_of_a_log_is_enough(self, state: WitnessState) -> None:
        both = SomeLog(LOG.origin, (ED25519, ML_DSA_44))
        assert ask(state, LOG.request(0, 7), both).status == 200
        assert ask(state, both.request(7, 8), both).status == 200

    def test_extension_lines_get_the_signature_that_covers_them(
        self, state: WitnessState
    ) -> None:
        text = LOG.text(7) + b"extension\n"
        body = LOG.request_with(0, (), sign_note(text, LOG.signers))
        answer = ask(state, body)
        assert signers_of(body, answer, WITNESS) == [WITNESS[0].key]


class TestMonitoring:
    def test_the_newest_cosigned_note_satisfies_a_policy(
        self, state: WitnessState
    ) -> None:
        ask(state, LOG.request(0, 7))
        ask(state, LOG.request(7, 9))
        note = state.cosigned(LOG.origin)
        assert note is not None
        lines = [f"log {LOG.vkeys[0]}"]
        lines += [f"witness w{v.type} {v.vkey}" for v in WITNESS]
        policy = parse_policy("\n".join([*lines, "group g all w4 w6", "quorum g\n"]))
        opened = open_checkpoint(note, policy)
        assert (opened.checkpoint.size, opened.checkpoint.root) == (9, LOG.root(9))
        assert [(w.name, time) for w, time in opened.cosignatures] == [
            ("w4", NOW),
            ("w6", NOW),
        ]

    def test_lines_of_unknown_keys_are_not_passed_on(self, state: WitnessState) -> None:
        stranger = make_signer("stranger.example", ED25519, b"s" * 32)
        note = LOG.note(7) + stranger.sign(LOG.text(7))
        assert ask(state, LOG.request_with(0, (), note)).status == 200
        cosigned = state.cosigned(LOG.origin)
        assert cosigned is not None
        assert b"stranger" not in cosigned

    @pytest.mark.parametrize("before", [0, 7])
    def test_what_a_witness_died_before_signing_is_signed_for_them(
        self, state: WitnessState, before: int
    ) -> None:
        if before:
            ask(state, LOG.request(0, before))
        seen = state.latest(LOG.origin)
        state.advance(LOG.origin, seen, Seen(9, LOG.root(9)), LOG.note(9))
        for now in (NOW + 5, NOW + 9):
            finish_cosigning(state, LOG.origin, witness_signers(), now)
        cosigned = state.cosigned(LOG.origin)
        assert cosigned is not None
        known = [*LOG.verifiers, *WITNESS]
        note = open_note(cosigned, known)
        assert note.text == LOG.text(9)
        # Once: the second time there is nothing left to do.
        assert [s.timestamp for s in note.signatures] == [0, NOW + 5, NOW + 5]

    def test_nothing_is_signed_of_a_log_that_never_came(
        self, state: WitnessState
    ) -> None:
        finish_cosigning(state, LOG.origin, witness_signers(), NOW)
        assert state.cosigned(LOG.origin) is None


class TestTooOften:
    def test_a_log_that_asks_too_often_is_told_when_to_come(
        self, state: WitnessState
    ) -> None:
        charged: list[str] = []

        def charge(origin: str) -> int:
            charged.append(origin)
            return 17

        def ask_again(body: bytes) -> Answer:
            return process_add_checkpoint(
                body, state, LOG.keys, witness_signers(), NOW, "main", charge
            )

        answer = ask_again(LOG.request(0, 7))
        expected = b"this log has asked too often\n"
        assert answer == Answer(429, TEXT_TYPE, expected, 17)
        assert charged == [LOG.origin]
        assert state.latest(LOG.origin) == NOTHING_SEEN
        assert state.refused(LOG.origin) == []

    def test_nobody_else_can_spend_what_a_log_may_do(self, state: WitnessState) -> None:
        def charge(origin: str) -> int:
            raise AssertionError(origin)

        thief = make_signer(LOG.origin, ED25519, b"x" * 32)
        forged = LOG.request_with(0, (), sign_note(LOG.text(7), [thief]))
        damaged = LOG.request(0, 7).replace(b"\n7\n", b"\n8\n")
        for body in (b"", forged, damaged, LOG.request(8, 7)):
            answer = process_add_checkpoint(
                body, state, LOG.keys, witness_signers(), NOW, "main", charge
            )
            assert answer.status in {400, 403}


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "status", "reason"),
        [
            (b"", 400, b"expected ASCII lines"),
            (b"old 0\n\n", 400, b"expected an empty line before the signatures"),
            (LOG.request(0, 7)[:-1], 400, b"expected a signature line"),
            (LOG.request(0, 7).replace(b"old 0", b"old 00"), 400, b"leading zeros"),
            (LOG.request(0, 7).replace(b"old 0", b"old -1"), 400, b"decimal number"),
            (LOG.request(0, 7).replace(b"\n", b"\r\n"), 400, b"expected ASCII lines"),
            (TOO_MANY_HASHES, 400, b"expected up to 63 hashes, got 64"),
            (LOG.request(8, 7), 400, b"old size 8 exceeds the checkpoint's"),
            (
                b"old 0\n\n" + sign_note(b"not a checkpoint\n", LOG.signers),
                400,
                b"expected origin, size and root, got 1 lines",
            ),
            (
                LOG.request_with(0, (), LOG.note(7) + LOG.signers[0].sign(LOG.text(7))),
                400,
                b"expected one signature by log.example/a",
            ),
            (
                SomeLog("log.example/b").request(0, 7),
                404,
                b"unknown log 'log.example/b'",
            ),
            (
                LOG.request_with(
                    0,
                    (),
                    sign_note(
                        LOG.text(7), [make_signer(LOG.origin, ED25519, b"x" * 32)]
                    ),
                ),
                403,
                b"expected a signature by one of 1 known keys, got none",
            ),
            (
                LOG.request(0, 7).replace(b"\n7\n", b"\n8\n"),
                403,
                b"does not verify",
            ),
        ],
    )
    def test_a_request_that_no_state_can_save(
        self, state: WitnessState, body: bytes, status: int, reason: bytes
    ) -> None:
        answer = ask(state, body)
        assert answer.status == status
        assert answer.content_type == TEXT_TYPE
        assert reason in answer.body
        assert state.latest(LOG.origin) == NOTHING_SEEN
        assert state.refused(LOG.origin) == []

    def test_a_bad_line_of_one_known_key_beside_a_good_one(
        self, state: WitnessState
    ) -> None:
        both = SomeLog(LOG.origin, (ED25519, ML_DSA_44))
        note = sign_note(LOG.text(7), LOG.signers) + both.signers[1].sign(LOG.text(8))
        answer = ask(state, LOG.request_with(0, (), note), both)
        assert (answer.status, b"does not verify" in answer.body) == (403, True)

    @pytest.mark.parametrize(
        ("old", "new", "fork", "expected"),
        [
            (0, 9, None, b"7\n"),
            (6, 9, None, b"7\n"),
            (8, 9, None, b"7\n"),
            (0, 5, None, b"7\n"),  # rollback
            (0, 7, None, b"7\n"),
            (0, 7, 0, b"7\n"),  # forked at the very size
        ],
    )
    def test_the_size_seen_is_told(
        self,
        state: WitnessState,
        old: int,
        new: int,
        fork: int | None,
        expected: bytes,
    ) -> None:
        ask(state, LOG.request(0, 7))
        answer = ask(state, LOG.request(old, new, fork))
        assert answer == Answer(409, SIZE_TYPE, expected)
        assert state.latest(LOG.origin) == Seen(7, LOG.root(7))

    @pytest.mark.parametrize("spec", get_args(Spec))
    @pytest.mark.parametrize("fork", [0, 3, 6])
    def test_another_root_at_the_same_size(
        self, state: WitnessState, spec: Spec, fork: int
    ) -> None:
        ask(state, LOG.request(0, 7))
        answer = ask(state, LOG.request(7, 7, fork), spec=spec)
        assert answer == Answer(409 if spec == "v1.0.0" else 422, TEXT_TYPE, b"")
        assert state.latest(LOG.origin) == Seen(7, LOG.root(7))

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (LOG.request_with(7, (), LOG.note(9)), b"expected a proof from 7 to 9"),
            (
                LOG.request_with(7, LOG.proof(7, 9)[:-1], LOG.note(9)),
                b"too few hashes",
            ),
            (
                LOG.request_with(7, (*LOG.proof(7, 9), b"h" * 32), LOG.note(9)),
                b"got more hashes",
            ),
            (LOG.request_with(7, LOG.proof(6, 9), LOG.note(9)), b"expected"),
            (LOG.request(7, 9, fork=6), b"leads to old root"),
            (LOG.request_with(7, LOG.proof(7, 9), LOG.note(9, 8)), b"to new root"),
            (LOG.request_with(7, (b"h" * 32,), LOG.note(7)), b"expected no proof"),
        ],
    )
    def test_a_tree_that_is_not_proven_to_grow(
        self, state: WitnessState, body: bytes, reason: bytes
    ) -> None:
        ask(state, LOG.request(0, 7))
        answer = ask(state, body)
        assert answer.status == 422
        assert reason in answer.body
        assert state.latest(LOG.origin) == Seen(7, LOG.root(7))

    def test_a_proof_from_nothing(self, state: WitnessState) -> None:
        body = LOG.request_with(0, (b"h" * 32,), LOG.note(7))
        answer = ask(state, body)
        assert (answer.status, b"expected no proof" in answer.body) == (422, True)
        assert state.latest(LOG.origin) == NOTHING_SEEN

    def test_what_is_refused_and_signed_is_kept(
        self, state: WitnessState, caplog: pytest.LogCaptureFixture
    ) -> None:
        ask(state, LOG.request(0, 7))
        bodies = [LOG.request(7, 7, 3), LOG.request(0, 7, 2), LOG.request(7, 9, 3)]
        with caplog.at_level(logging.WARNING):
            for body in [*bodies, *bodies]:
                ask(state, body)
        kept = state.refused(LOG.origin)
        assert {refusal.request for refusal in kept} == set(bodies)
        assert {refusal.seen for refusal in kept} == {LOG.note(7)}
        assert {refusal.time for refusal in kept} == {NOW}
        messages = [record.getMessage() for record in caplog.records]
        assert [message.split("a tree of ")[1] for message in messages] == [
            "size 7, with another root than the one cosigned: refused, and kept",
            "size 7, with another root than the one cosigned: refused, and kept",
            "size 9, not proven to extend size 7: refused, and kept",
        ]

    def test_a_fork_is_kept_also_by_a_witness_that_is_full(
        self, state: WitnessState
    ) -> None:
        """Trees without a proof are cheap for a log that wants its fork forgotten."""
        ask(state, LOG.request(0, 7))
        for size in range(100, 220):
            ask(state, LOG.request_with(7, (b"h" * 32,), LOG.note(size)))
        fork = LOG.request(7, 7, 3)
        assert ask(state, fork).status == 422
        kept = state.refused(LOG.origin)
        assert len(kept) == 101
        assert fork in [refusal.request for refusal in kept]

    def test_what_is_not_signed_is_not_kept(self, state: WitnessState) -> None:
        ask(state, LOG.request(0, 7))
        thief = make_signer(LOG.origin, ED25519, b"x" * 32)
        forged = sign_note(LOG.text(7, 3), [thief])
        assert ask(state, LOG.request_with(7, (), forged)).status == 403
        assert state.refused(LOG.origin) == []


class TestEmptyTree:
    def test_it_is_cosigned(self, state: WitnessState) -> None:
        assert ask(state, LOG.request(0, 0)).status == 200
        assert state.latest(LOG.origin) == Seen(0, EMPTY_ROOT)
        assert state.cosigned(LOG.origin) is not None
        assert ask(state, LOG.request(0, 5)).status == 200

    @pytest.mark.parametrize(("spec", "status"), [("main", 422), ("v1.0.0", 409)])
    def test_with_another_root_it_is_not(
        self, state: WitnessState, spec: Spec, status: int
    ) -> None:
        text = LOG.text(1).replace(b"\n1\n", b"\n0\n")
        assert parse_checkpoint(text).size == 0
        body = LOG.request_with(0, (), sign_note(text, LOG.signers))
        answer = ask(state, body, spec=spec)
        assert answer.status == status
        assert answer.content_type != SIZE_TYPE
        assert state.cosigned(LOG.origin) is None

    def test_not_after_a_larger_one(self, state: WitnessState) -> None:
        ask(state, LOG.request(0, 5))
        assert ask(state, LOG.request(0, 0)) == Answer(409, SIZE_TYPE, b"5\n")


class FailingState(WitnessState):
    """A state whose writes fail, before or after they are on the disk."""

    fails: tuple[str, bool] | None = None

    def advance(self, origin: str, expected: Seen, new: Seen, note: bytes) -> None:
        if self.fails != ("advance", False):
            super().advance(origin, expected, new, note)
        self._fail("advance")

    def keep_cosigned(self, origin: str, tree: Seen, note: bytes) -> None:
        if self.fails != ("keep_cosigned", False):
            super().keep_cosigned(origin, tree, note)
        self._fail("keep_cosigned")

    def _fail(self, step: str) -> None:
        if self.fails is not None and self.fails[0] == step:
            raise StorageError(f"{step} failed")


@pytest.mark.parametrize("step", ["advance", "keep_cosigned"])
@pytest.mark.parametrize("persisted", [False, True])
def test_no_signature_leaves_unless_each_write_succeeded(
    tmp_path: Path, step: str, persisted: bool
) -> None:
    new_state(tmp_path).close()
    path = tmp_path / "state.sqlite3"
    with closing(FailingState(path)) as state:
        ask(state, LOG.request(0, 7))
        state.fails = (step, persisted)
        with pytest.raises(StorageError, match=f"{step} failed"):
            ask(state, LOG.request(7, 9))
    with closing(WitnessState(path)) as state:
        moved = step != "advance" or persisted
        assert state.latest(LOG.origin).size == (9 if moved else 7)
        assert ask(state, LOG.request(7, 9, fork=3)).status in {409, 422}
        answer = ask(state, LOG.request(7, 9))
        if moved:
            assert answer == Answer(409, SIZE_TYPE, b"9\n")
            answer = ask(state, LOG.request(9, 9))
        assert answer.status == 200
        cosigned = state.cosigned(LOG.origin)
        assert cosigned is not None
        assert cosigned.startswith(LOG.text(9))


def test_a_state_moved_by_another_process_is_a_conflict(tmp_path: Path) -> None:
    class Raced(WitnessState):
        def advance(self, origin: str, expected: Seen, new: Seen, note: bytes) -> None:
            with closing(WitnessState(tmp_path / "state.sqlite3")) as other:
                answer = ask(other, LOG.request(7, 100))
                assert answer.status == 200
            super().advance(origin, expected, new, note)

    with closing(new_state(tmp_path)) as state:
        ask(state, LOG.request(0, 7))
    with closing(Raced(tmp_path / "state.sqlite3")) as state:
        assert ask(state, LOG.request(7, 9)) == Answer(409, SIZE_TYPE, b"100\n")
        assert state.latest(LOG.origin) == Seen(100, LOG.root(100))


def test_the_race_raises_below(state: WitnessState) -> None:
    state.advance(LOG.origin, NOTHING_SEEN, Seen(3, LOG.root(3)), b"note")
    with pytest.raises(ConflictError, match="expected size 0, got 3"):
        state.advance(LOG.origin, NOTHING_SEEN, Seen(3, LOG.root(3)), b"note")


# --- properties -----------------------------------------------------------------------

one_state = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good request with bytes replaced, removed, doubled or put in."""
    old, new = draw(st.sampled_from([(0, 7), (7, 9), (7, 7), (3, 8), (9, 7)]))
    body = bytearray(LOG.request(old, new))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        end = start + draw(st.integers(0, 40))
        filling = draw(
            st.one_of(
                st.binary(max_size=8),
                st.just(bytes(body[start:end]) * 2),
                st.sampled_from([b"\n", b"\n\n", b"0", b"old 7\n", "— ".encode()]),
            )
        )
        body[start:end] = filling
    return bytes(body)


@one_state
@given(body=st.one_of(st.binary(), damaged()))
def test_whatever_comes_the_state_moves_with_a_200_only(
    state: WitnessState, body: bytes
) -> None:
    before = state.latest(LOG.origin)
    answer = ask(state, body)
    after = state.latest(LOG.origin)
    assert answer.status in STATUSES
    if answer.status != 200:
        assert after == before
        return
    request = parse_add_checkpoint(body)
    assert request.old_size == before.size
    assert after == Seen(after.size, LOG.root(after.size))
    assert signers_of(body, answer, WITNESS) == [v.key for v in WITNESS]


sizes = st.integers(0, 40)
requests = st.tuples(
    st.one_of(st.none(), sizes),  # old size; None is the right one
    sizes,
    st.sampled_from([None, None, 0, 5, 17]),  # where the tree forks
    st.sampled_from(["proof", "proof", "proof", "none", "long", "other"]),
)


@one_state
@given(walk=st.lists(requests, min_size=1, max_size=12))
def test_a_random_walk_agrees_with_a_model(
    state: WitnessState, walk: list[tuple[int | None, int, int | None, str]]
) -> None:
    """The model knows entries, not hashes: a past is (size, where it forked)."""
    state._db.execute("PRAGMA synchronous = OFF")
    state._db.execute("DELETE FROM seen")
    size, root = 0, EMPTY_ROOT
    signed: dict[int, bytes] = {}
    for wanted, new, fork, kind in walk:
        old = size if wanted is None else wanted
        good = LOG.proof(old, new, fork) if old <= new else ()
        hashes = {
            "proof": good,
            "none": (),
            "long": (*good, b"h" * 32),
            "other": tuple(b"x" * 32 for _ in good),
        }[kind]
        answer = ask(state, LOG.request_with(old, hashes, LOG.note(new, fork)))
        extends = LOG.root(size, fork) == root and hashes == good
        if old > new:
            expected = 400
        elif old != size:
            expected = 409
        else:
            expected = 200 if extends else 422
        assert answer.status == expected
        if expected == 200:
            size, root = new, LOG.root(new, fork)
            assert signed.setdefault(size, root) == root
            assert size == max(signed)
        assert state.latest(LOG.origin) == Seen(size, root)
