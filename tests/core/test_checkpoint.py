"""Checkpoints and their opening under a policy."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.checkpoint import (
    Checkpoint,
    format_checkpoint,
    open_checkpoint,
    parse_checkpoint,
    parse_policy,
)
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.merkle import root_hash
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    ED25519,
    ML_DSA_44,
    make_signer,
    sign_note,
)
from auditlog.core.proof import parse_add_checkpoint
from tests.vectorset import b64, own, public

ORIGIN = "example.com/log"
LOG = make_signer(ORIGIN, ED25519, b"\x11" * 32)
PQ = make_signer(ORIGIN, ML_DSA_44, b"\x51" * 32)
STRANGER = make_signer("example.com/other", ED25519, b"\x22" * 32)
W1 = make_signer("witness.example/w1", COSIGNATURE_ED25519, b"\x61" * 32)
W2 = make_signer("witness.example/w2-mldsa", ML_DSA_44, b"\x62" * 32)
CHECKPOINT = Checkpoint(ORIGIN, 7, bytes(range(32)))
TEXT = format_checkpoint(CHECKPOINT)
POLICY = parse_policy(f"""
log {LOG.verifier.vkey} https://log.example/
log {PQ.verifier.vkey}
witness one {W1.verifier.vkey} https://w1.example/
witness two {W2.verifier.vkey}
group some any one two
quorum some
""")
ALONE = parse_policy(f"log {LOG.verifier.vkey}\nquorum none\n")
TIME = 1_790_000_000


class TestText:
    @pytest.mark.parametrize("vector", own("checkpoints")["vectors"])
    def test_vectors_both_ways(self, vector: dict[str, Any]) -> None:
        text = vector["note_text"].encode()
        expected = Checkpoint(vector["origin"], vector["size"], b64(vector["root"]))
        assert parse_checkpoint(text) == expected
        assert format_checkpoint(expected) == text

    def test_extension_lines(self) -> None:
        text = TEXT + "first\n— second é\n".encode()
        origin, size, root = parse_checkpoint(text)
        assert Checkpoint(origin, size, root) == CHECKPOINT
        with pytest.raises(MalformedError, match="without empty lines"):
            parse_checkpoint(text + b"\n")

    ROOT = TEXT.split(b"\n")[2]

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            (b"", "ending in a newline"),
            (b"\n", "origin, size and root, got 1 lines"),
            (b"a\n7\n", "origin, size and root, got 2 lines"),
            (b"a\n7\n%s" % ROOT, "ending in a newline"),
            (b"\n7\n%s\n" % ROOT, "without empty lines"),
            (b"a\n7\n%s\n\n" % ROOT, "without empty lines"),
            (b"a\n7\n%s\n\nx\n" % ROOT, "without empty lines"),
            (b"a\n07\n%s\n" % ROOT, "decimal number"),
            (b"a\n+7\n%s\n" % ROOT, "decimal number"),
            (b"a\n-7\n%s\n" % ROOT, "decimal number"),
            (b"a\n 7\n%s\n" % ROOT, "decimal number"),
            (b"a\n7 \n%s\n" % ROOT, "decimal number"),
            (b"a\n0_7\n%s\n" % ROOT, "decimal number"),
            (b"a\n7.0\n%s\n" % ROOT, "decimal number"),
            ("a\n\u0667\n".encode() + ROOT + b"\n", "decimal number"),
            (b"a\n9223372036854775808\n%s\n" % ROOT, r"0 to 2\^63-1"),
            (b"a\n7\n%s=\n" % ROOT, "base64"),
            (b"a\n7\n %s\n" % ROOT, "base64"),
            (b"a\n7\n!!!!%s\n" % ROOT, "base64"),
            (b"a\n7\n%s\n" % ROOT[:-4], "hash of 32 bytes, got 30"),
            (b"a\n7\nAAAA\n", "hash of 32 bytes, got 3"),
            (b"a\n7\n%sA\n" % ROOT[:-2], "base64"),
            (b"a\r\n7\r\n%s\r\n" % ROOT, "control"),
            (b"a\tb\n7\n%s\n" % ROOT, "control"),
            (b"\xff\n7\n%s\n" % ROOT, "UTF-8"),
            (None, "ending in a newline"),
            (TEXT.decode(), "ending in a newline"),
        ],
        ids=lambda value: ascii(value)[:90],
    )
    def test_malformed(self, text: Any, match: str) -> None:
        with pytest.raises(MalformedError, match=match):
            parse_checkpoint(text)

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"origin": ""}, "without empty lines"),
            ({"origin": "a\nb"}, "decimal number"),
            ({"origin": "a\tb"}, "control"),
            ({"origin": "a\ud800"}, "got a surrogate"),
            ({"size": -1}, "a number (as int|from 0)"),
            ({"size": 2**63}, "a number (as int|from 0)"),
            ({"size": True}, "a number (as int|from 0)"),
            ({"size": "7"}, "a number (as int|from 0)"),
            ({"root": bytes(31)}, "32 bytes, got 31"),
            (
                {"origin": f"a\n1\n{'A' * 43}="},
                "expected an origin without newlines",
            ),
        ],
        ids=repr,
    )
    def test_what_has_no_text(self, changes: dict[str, Any], match: str) -> None:
        with pytest.raises(MalformedError, match=match):
            format_checkpoint(CHECKPOINT._replace(**changes))

    @given(
        st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1),
        st.integers(0, 2**63 - 1),
        st.binary(min_size=32, max_size=32),
    )
    def test_round_trip(self, origin: str, size: int, root: bytes) -> None:
        checkpoint = Checkpoint(origin, size, root)
        assert parse_checkpoint(format_checkpoint(checkpoint)) == checkpoint

    @given(st.binary(), st.integers(0, len(TEXT)))
    def test_one_spelling(self, data: bytes, at: int) -> None:
        for text in (data, TEXT[:at] + data + TEXT[at:], TEXT[:at] + data):
            with suppress(MalformedError):
                lines = format_checkpoint(parse_checkpoint(text))
                assert text.startswith(lines)  # only extension lines may follow


class TestOpening:
    def test_all_signed(self) -> None:
        note = sign_note(TEXT, [LOG]) + PQ.sign(TEXT)
        note += W1.sign(TEXT, TIME) + W2.sign(TEXT, TIME + 3)
        opened = open_checkpoint(note, POLICY)
        assert opened.checkpoint == CHECKPOINT
        assert opened.note == note
        assert [s.verifier for s in opened.log_signatures] == [
            LOG.verifier,
            PQ.verifier,
        ]
        one, two = POLICY.witnesses
        assert opened.cosignatures == ((one, TIME), (two, TIME + 3))

    @pytest.mark.parametrize("log", [LOG, PQ], ids=["ed25519", "ml-dsa"])
    @pytest.mark.parametrize("witness", [W1, W2], ids=["ed25519", "ml-dsa"])
    def test_one_of_each_is_enough_here(self, log: Any, witness: Any) -> None:
        note = sign_note(TEXT, [log]) + witness.sign(TEXT, TIME)
        opened = open_checkpoint(note, POLICY)
        assert [s.verifier for s in opened.log_signatures] == [log.verifier]
        ((found, time),) = opened.cosignatures
        assert (found.verifier, time) == (witness.verifier, TIME)

    def test_strangers_do_not_disturb(self) -> None:
        note = sign_note(TEXT, [LOG]) + STRANGER.sign(TEXT) + W1.sign(TEXT, TIME)
        assert open_checkpoint(note, POLICY).checkpoint == CHECKPOINT
        opened = open_checkpoint(note, ALONE)
        assert opened.cosignatures == ()
        assert len(opened.log_signatures) == 1

    def test_no_quorum(self) -> None:
        with pytest.raises(UntrustedError, match="quorum 'some', got no witness"):
            open_checkpoint(sign_note(TEXT, [LOG, PQ]), POLICY)
        both = parse_policy(
            f"log {LOG.verifier.vkey}\nwitness one {W1.verifier.vkey}\n"
            f"witness two {W2.verifier.vkey}\ngroup both all one two\nquorum both"
        )
        note = sign_note(TEXT, [LOG]) + W1.sign(TEXT, TIME)
        with pytest.raises(UntrustedError, match="quorum 'both', got one"):
            open_checkpoint(note, both)

    def test_not_signed_by_the_log(self) -> None:
        witnesses = sign_note(TEXT, [W1, W2], TIME)
        with pytest.raises(
            UntrustedError, match="by a log key of the policy, got none"
        ):
            open_checkpoint(witnesses, POLICY)
        with pytest.raises(UntrustedError, match="one of 4 known keys, got none"):
            open_checkpoint(sign_note(TEXT, [STRANGER]), POLICY)

    def test_the_key_of_another_log(self) -> None:
        """A log believed under its own origin cannot speak for another one."""
        two = parse_policy(
            f"log {LOG.verifier.vkey}\nlog {STRANGER.verifier.vkey}\nquorum none"
        )
        theirs = format_checkpoint(CHECKPOINT._replace(origin="example.com/other"))
        assert open_checkpoint(sign_note(theirs, [STRANGER]), two).checkpoint.size == 7
        for text, signer in ((theirs, LOG), (TEXT, STRANGER)):
            with pytest.raises(UntrustedError, match="one of 1 known keys, got none"):
                open_checkpoint(sign_note(text, [signer]), two)

    def test_another_origin(self) -> None:
        text = format_checkpoint(CHECKPOINT._replace(origin="x" * 5000))
        with pytest.raises(
            UntrustedError, match="origin of the policy, got 'x"
        ) as caught:
            open_checkpoint(sign_note(text, [LOG]), POLICY)
        assert len(str(caught.value)) < 200

    def test_a_forged_signature(self) -> None:
        other = format_checkpoint(CHECKPOINT._replace(size=8))
        good = sign_note(TEXT, [LOG])
        for line in (PQ.sign(other), W1.sign(other, TIME), W2.sign(other, TIME)):
            with pytest.raises(VerificationError, match="does not verify"):
                open_checkpoint(good + line, POLICY)

    @pytest.mark.parametrize("witness", [W1, W2], ids=["ed25519", "ml-dsa"])
    def test_a_witness_states_the_time(self, witness: Any) -> None:
        note = sign_note(TEXT, [LOG]) + witness.sign(TEXT, 0)
        with pytest.raises(VerificationError, match="time in each cosignature, got 0"):
            open_checkpoint(note, POLICY)

    def test_extension_lines(self) -> None:
        text = TEXT + b"more\n"
        note = sign_note(text, [LOG]) + W1.sign(text, TIME)
        assert open_checkpoint(note, POLICY).checkpoint == CHECKPOINT
        with pytest.raises(VerificationError, match="without extension lines"):
            open_checkpoint(note + W2.sign(TEXT, TIME), POLICY)

    @pytest.mark.parametrize("text", [b"a\n", TEXT[:-10] + b"\n", b"\n" + TEXT])
    def test_a_note_without_checkpoint(self, text: bytes) -> None:
        with pytest.raises(MalformedError, match="expected"):
            open_checkpoint(sign_note(text, [LOG]), ALONE)

    @given(st.binary(max_size=100), st.data())
    def test_any_bytes(self, data: bytes, draw: st.DataObject) -> None:
        note = sign_note(TEXT, [LOG])
        start = draw.draw(st.integers(0, len(note)))
        end = draw.draw(st.integers(start, len(note)))
        for changed in (data, note[:start] + data + note[end:]):
            with suppress(AuditLogError):
                assert open_checkpoint(changed, ALONE).checkpoint == CHECKPOINT

    def test_every_changed_bit(self) -> None:
        """Each is refused; no signature of the policy's keys is left to accept."""
        note = sign_note(TEXT, [LOG]) + W1.sign(TEXT, TIME)
        for at in range(len(note) * 8):
            changed = bytearray(note)
            changed[at // 8] ^= 1 << at % 8
            with pytest.raises(AuditLogError):
                open_checkpoint(bytes(changed), POLICY)


@pytest.mark.interop
def test_torchwood_log_that_signs_with_ml_dsa_only() -> None:

    vector = json.loads(public("torchwood/litewitness-mldsa.json"))
    request = parse_add_checkpoint(vector["request_body"].encode())
    policy = parse_policy(f"log {vector['log_vkey']}\nquorum none\n")
    opened = open_checkpoint(request.checkpoint, policy)
    assert opened.checkpoint.origin == "example.com/mldsa-log"
    assert (request.old_size, opened.checkpoint.size) == (0, 1)
    (signature,) = opened.log_signatures
    assert (signature.verifier.type, signature.timestamp) == (ML_DSA_44, 0)


def test_the_empty_log() -> None:
    text = format_checkpoint(Checkpoint(ORIGIN, 0, root_hash([])))
    assert open_checkpoint(sign_note(text, [LOG, PQ]), ALONE).checkpoint.size == 0
