"""Proof files and witness requests: one spelling, whatever comes in."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.checkpoint import (
    Checkpoint,
    format_checkpoint,
    open_checkpoint,
    parse_policy,
)
from auditlog.core.encoding import format_base64
from auditlog.core.errors import AuditLogError, MalformedError
from auditlog.core.merkle import (
    leaf_hash,
    nodes_of,
    prove_inclusion,
    verify_inclusion,
)
from auditlog.core.note import ED25519, make_signer, sign_note
from auditlog.core.proof import (
    AddCheckpoint,
    TlogProof,
    format_add_checkpoint,
    format_tlog_proof,
    parse_add_checkpoint,
    parse_tlog_proof,
)
from tests.vectorset import b64, own

LOG = make_signer("example.com/log", ED25519, b"\x11" * 32)
POLICY = parse_policy(f"log {LOG.verifier.vkey}\nquorum none\n")
NOTE = sign_note(format_checkpoint(Checkpoint("example.com/log", 3, bytes(32))), [LOG])
HASH = format_base64(bytes(range(32)))
PROOF = TlogProof(None, 1, (bytes(range(32)), bytes(32)), NOTE)
FILE = format_tlog_proof(PROOF)
REQUEST = AddCheckpoint(2, (bytes(range(32)),), NOTE)
BODY = format_add_checkpoint(REQUEST)
HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=63)


def file(*lines: str, note: bytes = NOTE) -> bytes:
    return "".join([f"{line}\n" for line in lines]).encode() + note


class TestTlogProof:
    @pytest.mark.parametrize("vector", own("tlog_proofs_log_only")["vectors"])
    def test_vectors_both_ways(self, vector: dict[str, Any]) -> None:
        data = vector["tlog_proof"].encode()
        proof = parse_tlog_proof(data)
        assert format_tlog_proof(proof) == data
        assert proof.index == vector["index"]
        assert len(proof.hashes) == vector["hashes"]
        assert (proof.extra or b"") == b64(vector["extra"])
        checkpoint = open_checkpoint(proof.checkpoint, POLICY).checkpoint
        assert checkpoint.size == vector["size"]
        leaf = leaf_hash(vector["leaf_data"].encode())
        verify_inclusion(
            proof.index, checkpoint.size, leaf, proof.hashes, checkpoint.root
        )

    def test_its_text(self) -> None:
        zero = format_base64(bytes(32))
        header = "c2sp.org/tlog-proof@v1"
        assert file(header, "index 1", HASH, zero, "") == FILE
        extra = PROOF._replace(extra=b"some")
        assert format_tlog_proof(extra) == file(
            header, "extra c29tZQ==", "index 1", HASH, zero, ""
        )
        assert parse_tlog_proof(format_tlog_proof(extra)) == extra

    def test_the_longest(self) -> None:
        hashes = (bytes(32),) * 63
        many = PROOF._replace(hashes=hashes)
        assert parse_tlog_proof(format_tlog_proof(many)) == many
        # The number of digits in the index fills what base64 leaves.
        size = (2 << 20) - len(format_tlog_proof(PROOF._replace(extra=b""))) - 3
        longest = PROOF._replace(extra=bytes(size // 4 * 3), index=10 ** (3 + size % 4))
        data = format_tlog_proof(longest)
        assert len(data) == 2 << 20
        assert parse_tlog_proof(data) == longest
        with pytest.raises(MalformedError, match="up to 2097152 bytes"):
            format_tlog_proof(longest._replace(index=10 * longest.index))

    def test_empty_extra_data_is_not_none(self) -> None:
        empty = PROOF._replace(extra=b"")
        data = format_tlog_proof(empty)
        assert b"\nextra \n" in data
        assert parse_tlog_proof(data) == empty

    V1 = "c2sp.org/tlog-proof@v1"

    @pytest.mark.parametrize(
        ("data", "match"),
        [
            (b"", "ASCII lines, then an empty one"),
            (b"\n", "ASCII lines, then an empty one"),
            (file(V1), "empty line before"),
            (file(V1, ""), "line with index and a number"),
            (file(""), "empty line before"),
            (file("", ""), "first line to be c2sp"),
            (file(V1.replace("v1", "v2"), "index 1", ""), "first line to be c2sp"),
            (file(V1 + " ", "index 1", ""), "first line to be c2sp"),
            (file(V1.upper(), "index 1", ""), "first line to be c2sp"),
            (file("\ufeff" + V1, "index 1", ""), "ASCII lines"),
            (file(V1, HASH, ""), "line with index and a number"),
            (file(V1, "index", ""), "line with index and a number"),
            (file(V1, "Index 1", ""), "line with index and a number"),
            (file(V1, "index\t1", ""), "line with index and a number"),
            (file(V1, "index  1", ""), "decimal number"),
            (file(V1, "index 01", ""), "decimal number"),
            (file(V1, "index +1", ""), "decimal number"),
            (file(V1, "index -1", ""), "decimal number"),
            (file(V1, "index 1 ", ""), "decimal number"),
            (file(V1, "index \u0661", ""), "ASCII lines"),
            (file(V1, f"index {2**63}", ""), r"0 to 2\^63-1"),
            (file(V1, "index 1", "index 2", ""), "base64"),
            (file(V1, "index 1", "extra AAAA", ""), "base64"),
            (file(V1, "extra AAAA", ""), "line with index and a number"),
            (file(V1, "extra AAAA", "extra AAAA", "index 1", ""), "with index"),
            (file(V1, "extra", "index 1", ""), "with index"),
            (file(V1, "extra AAA", "index 1", ""), "base64"),
            (file(V1, "extra AAB=", "index 1", ""), "base64"),
            (file(V1, "extra  AAAA", "index 1", ""), "base64"),
            (file(V1, "index 1", HASH + "=", ""), "base64"),
            (file(V1, "index 1", HASH[:-4], ""), "hash of 32 bytes, got 30"),
            (file(V1, "index 1", *[HASH] * 64, ""), "up to 63 hashes, got 64"),
            (file(V1, "index 1", "", note=b""), "empty line before"),
            (file(V1, "index 1", "", "", note=NOTE), "without empty lines"),
            (file(V1, "index 1", "", note=NOTE[:-1]), "signature line"),
            (FILE.replace(b"\n", b"\r\n"), "ASCII lines"),
            (b"\n" + FILE, "first line to be c2sp"),
            (FILE + b"x", "signature line"),
            (FILE + b"\n", "signature lines, got 0"),
            (bytes(3 << 20), "up to 2097152 bytes"),
            (FILE.decode(), "up to 2097152 bytes"),
            (None, "up to 2097152 bytes"),
        ],
        ids=lambda value: ascii(value)[:100],
    )
    def test_malformed(self, data: Any, match: str) -> None:
        with pytest.raises(MalformedError, match=match):
            parse_tlog_proof(data)

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"index": -1}, "a number (as int|from 0)"),
            ({"index": True}, "a number (as int|from 0)"),
            ({"index": 2**63}, "a number (as int|from 0)"),
            ({"hashes": (bytes(31),)}, "32 bytes, got 31"),
            ({"hashes": (bytes(32),) * 64}, "up to 63 hashes, got 64"),
            ({"hashes": [bytes(32)]}, "made of int, bytes and a note"),
            ({"checkpoint": b"no note"}, "empty line before"),
            ({"extra": bytes(2 << 20)}, "up to 2097152 bytes"),
        ],
        ids=lambda value: repr(value)[:50],
    )
    def test_what_has_no_file(self, changes: dict[str, Any], match: str) -> None:
        with pytest.raises(MalformedError, match=match):
            format_tlog_proof(PROOF._replace(**changes))

    @given(st.none() | st.binary(), st.integers(0, 2**63 - 1), HASHES)
    def test_round_trip(
        self, extra: bytes | None, index: int, hashes: list[bytes]
    ) -> None:
        proof = TlogProof(extra, index, tuple(hashes), NOTE)
        assert parse_tlog_proof(format_tlog_proof(proof)) == proof

    @given(st.binary(max_size=60), st.data())
    def test_one_spelling(self, data: bytes, draw: st.DataObject) -> None:
        start = draw.draw(st.integers(0, len(FILE)))
        end = draw.draw(st.integers(start, len(FILE)))
        for changed in (data, FILE[:start] + data + FILE[end:]):
            with suppress(MalformedError):
                assert format_tlog_proof(parse_tlog_proof(changed)) == changed

    def test_no_changed_bit_is_accepted(self) -> None:
        leaves = [leaf_hash(b"leaf-%d" % i) for i in range(5)]
        root = nodes_of(leaves[:4])(2, 0)
        checkpoint = Checkpoint("example.com/log", 4, root)
        hashes = prove_inclusion(2, 4, nodes_of(leaves))
        note = sign_note(format_checkpoint(checkpoint), [LOG])
        good = format_tlog_proof(TlogProof(None, 2, hashes, note))

        def verify(data: bytes) -> None:
            proof = parse_tlog_proof(data)
            tree = open_checkpoint(proof.checkpoint, POLICY).checkpoint
            verify_inclusion(proof.index, tree.size, leaves[2], proof.hashes, tree.root)

        verify(good)
        for at in range(len(good) * 8):
            changed = bytearray(good)
            changed[at // 8] ^= 1 << at % 8
            with pytest.raises(AuditLogError):
                verify(bytes(changed))


class TestAddCheckpoint:
    @pytest.mark.parametrize(
        "step",
        own("witness_add_checkpoint_sequence")["steps"],
        ids=lambda step: str(step["step"]),
    )
    def test_vectors_both_ways(self, step: dict[str, Any]) -> None:
        body = step["request_body"].encode()
        refusals = {
            "malformed-old-line": "line with old and a number",
            "malformed-proof-base64": "base64",
            "no-blank-line": "empty line before the signatures",
        }
        if step["step"] in refusals:
            assert step["expect_main_2026_07"] == 400
            with pytest.raises(MalformedError, match=refusals[step["step"]]):
                parse_add_checkpoint(body)
            return
        assert format_add_checkpoint(parse_add_checkpoint(body)) == body

    def test_its_text(self) -> None:
        assert file("old 2", HASH, "") == BODY
        assert format_add_checkpoint(AddCheckpoint(0, (), NOTE)) == file("old 0", "")
        many = REQUEST._replace(hashes=(bytes(32),) * 63)
        assert parse_add_checkpoint(format_add_checkpoint(many)) == many

    @pytest.mark.parametrize(
        ("body", "match"),
        [
            (b"", "ASCII lines, then an empty one"),
            (file("old"), "empty line before"),
            (file("old", ""), "line with old and a number"),
            (file("old ", ""), "decimal number"),
            (file("old 05", ""), "decimal number"),
            (file("old +5", ""), "decimal number"),
            (file("old -5", ""), "decimal number"),
            (file("old  5", ""), "decimal number"),
            (file("OLD 5", ""), "line with old and a number"),
            (file("old \u0665", ""), "ASCII lines"),
            (file(f"old {2**63}", ""), r"0 to 2\^63-1"),
            (file("old " + "9" * 5000, ""), "decimal number"),
            (file("old 5", *[HASH] * 64, ""), "up to 63 hashes, got 64"),
            (file("old 5", "AAAA", ""), "hash of 32 bytes, got 3"),
            (file("old 5", " " + HASH, ""), "base64"),
            (file("old 5", "", note=b"x"), "empty line before"),
            (BODY.replace(b"\n", b"\r\n"), "ASCII lines"),
            (BODY.decode(), "request of up to 2097152 bytes"),
            (None, "request of up to 2097152 bytes"),
        ],
        ids=lambda value: ascii(value)[:100],
    )
    def test_malformed(self, body: Any, match: str) -> None:
        with pytest.raises(MalformedError, match=match):
            parse_add_checkpoint(body)

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"old_size": -1}, "a number (as int|from 0)"),
            ({"old_size": False}, "a number (as int|from 0)"),
            ({"hashes": (bytes(33),)}, "32 bytes, got 33"),
            ({"hashes": (bytes(32),) * 64}, "up to 63 hashes, got 64"),
            ({"hashes": [bytes(32)]}, "made of int, bytes and a note"),
            ({"checkpoint": b""}, "empty line before"),
        ],
        ids=lambda value: repr(value)[:50],
    )
    def test_what_has_no_body(self, changes: dict[str, Any], match: str) -> None:
        with pytest.raises(MalformedError, match=match):
            format_add_checkpoint(REQUEST._replace(**changes))

    @given(st.integers(0, 2**63 - 1), HASHES)
    def test_round_trip(self, old_size: int, hashes: list[bytes]) -> None:
        request = AddCheckpoint(old_size, tuple(hashes), NOTE)
        assert parse_add_checkpoint(format_add_checkpoint(request)) == request

    @given(st.binary(max_size=60), st.data())
    def test_one_spelling(self, data: bytes, draw: st.DataObject) -> None:
        start = draw.draw(st.integers(0, len(BODY)))
        end = draw.draw(st.integers(start, len(BODY)))
        for changed in (data, BODY[:start] + data + BODY[end:]):
            with suppress(MalformedError):
                assert format_add_checkpoint(parse_add_checkpoint(changed)) == changed
