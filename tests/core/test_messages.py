"""Every refusal of the core, word for word: what was expected, and what came."""

import base64
import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from auditlog.core.errors import MalformedError, UntrustedError, VerificationError
from tests.receipts import Decision, MemoryLog, make_decision, make_id

# Untyped, for half of what is refused here is of a wrong type.
checkpoint: Any = import_module("auditlog.core.checkpoint")
commitment: Any = import_module("auditlog.core.commitment")
encoding: Any = import_module("auditlog.core.encoding")
merkle: Any = import_module("auditlog.core.merkle")
note: Any = import_module("auditlog.core.note")
proof: Any = import_module("auditlog.core.proof")
receipt: Any = import_module("auditlog.core.receipt")
record: Any = import_module("auditlog.core.record")
tiles: Any = import_module("auditlog.core.tiles")
verify: Any = import_module("auditlog.core.verify")

H, KEY_ID = b"h" * 32, b"i" * 16
NODE = merkle.nodes_of([H])
SIGNER, WITNESS, PQ, OTHER = (
    note.make_signer(name, kind, bytes([number]) * 32)
    for number, (name, kind) in enumerate(
        [("x", 1), ("w.example", 4), ("x", 6), ("x", 1)], 1
    )
)
WITNESS_2 = note.make_signer("v.example", 4, bytes(32))
ROOT = base64.b64encode(H)
TEXT = b"x\n1\n" + ROOT + b"\n"
NOTE = note.sign_note(TEXT, [SIGNER])
LINE = SIGNER.sign(b"x\n")
W = f"witness w {WITNESS.verifier.vkey}\n"
W2 = f"witness v {WITNESS_2.verifier.vkey}\n"
W3 = f"witness u {note.make_signer('u.example', 4, H).verifier.vkey}\n"
LONG = "n" * 120
OPENING = receipt.Opening(KEY_ID, 1, 2, (H, H))
LEAF = receipt.Disclosure(0, "request", KEY_ID, b"")
DECISION = make_decision()
LOG = MemoryLog()
LOG.add(DECISION.entry)


def policy(name: str = "x", more: str = "quorum none\n") -> Any:
    signer = note.make_signer(name, 1, bytes([1]) * 32)
    return checkpoint.parse_policy(f"log {signer.verifier.vkey}\n{more}")


def entry(**changes: Any) -> Any:
    fields: dict[str, Any] = {"type": "auditlog.gap.v1", "source": "x", "data": {}}
    return record.Entry(id=make_id(1), time=0, **(fields | changes))


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def made(**changes: Any) -> Any:
    fields: dict[str, Any] = {"entry": DECISION.entry, "proof": LOG.proof(0)}
    return receipt.Receipt(**(fields | changes))


def told(**changes: Any) -> Any:
    return record.canonical_json(json.loads(LOG.receipt(DECISION)) | changes) + b"\n"


DIGEST = base64.b64encode(DECISION.commitment.digest).decode()
(SWAPPED,) = (one._replace(index=3) for one in DECISION.disclose("request/age"))
SHORT = receipt.Disclosure(2, "request:decoded", KEY_ID, b"")
(FIRST,) = DECISION.disclose("request")
MOVED = [("request/income", b"52000"), ("request/age", b"41")]
HIDDEN = [("request/age", b"99"), *DECISION.leaves[3:]]


def block(**changes: Any) -> dict[str, Any]:
    return {"commitment": {"depth": 1, "digest": DIGEST, "v": 1} | changes}


def side(split: str, state: str) -> dict[str, Any]:
    return {"request": {"mediaType": "x", "split": split, "state": state}}


def shown(
    decision: Decision,
    *paths: str,
    origin: str = "log.example/credit",
    require_pq: bool = False,
    **changes: Any,
) -> None:
    """Verify the receipt of a decision, in a log that signs whatever it is given."""
    log = MemoryLog(origin, types=(1,), witness_types=())
    log.add(decision.entry)
    data = log.receipt(decision, *paths, **changes)
    verify.verify_receipt(data, log.policy("none"), require_pq=require_pq)


REFUSALS: list[tuple[Callable[[], object], type[Exception], str]] = [
    (
        lambda: checkpoint.open_checkpoint(
            TEXT + b"\n" + WITNESS.sign(TEXT, 5), policy(more=W + "quorum w\n")
        ),
        UntrustedError,
        "expected a signature by a log key of the policy, got none",
    ),
    (
        lambda: checkpoint.open_checkpoint(
            NOTE + WITNESS.sign(TEXT, 5) + WITNESS_2.sign(TEXT, 5),
            policy(more=W + W2 + W3 + "group g all w v u\nquorum g\n"),
        ),
        UntrustedError,
        "expected the quorum 'g', got v, w",
    ),
    (
        lambda: checkpoint.parse_policy(
            W.replace("witness w", f"witness {LONG}")
            + W2.replace("witness v", f"witness {LONG}")
        ),
        MalformedError,
        f"policy line 2: expected an unused name, got '{'n' * 100}'",
    ),
    (
        lambda: checkpoint.parse_policy("quorum none\u00a0\n"),
        MalformedError,
        "policy line 1: expected an earlier name, got 'none\\xa0'",
    ),
    (
        lambda: encoding.check_range("a number", "1", 5),
        MalformedError,
        "expected a number as int, got str",
    ),
    (
        lambda: encoding.check_range("a number", True, 5),
        MalformedError,
        "expected a number as int, got bool",
    ),
    (
        lambda: encoding.check_range("a number", 6, 5),
        MalformedError,
        "expected a number from 0 to 5",
    ),
    (
        lambda: encoding.check_range("a number", 2**64, 2**63 - 1, lowest=1),
        MalformedError,
        "expected a number from 1 to 2^63-1",
    ),
    (
        lambda: encoding.check_range("a number", 2**32, 2**32 - 1),
        MalformedError,
        "expected a number from 0 to 4294967295",
    ),
    (
        lambda: encoding.check_range("a number", 2**33, 2**32),
        MalformedError,
        "expected a number from 0 to 2^33-1",
    ),
    (
        lambda: encoding.decode_text("x\n"),
        MalformedError,
        "expected a text of up to 1 MiB, ending in a newline",
    ),
    (
        lambda: encoding.decode_text(b"x"),
        MalformedError,
        "expected a text of up to 1 MiB, ending in a newline",
    ),
    (
        lambda: encoding.decode_text(b"\x1f\n"),
        MalformedError,
        "expected a text without control characters",
    ),
    (
        lambda: encoding.decode_text(b"\xff\n"),
        MalformedError,
        "expected a text in UTF-8, got other bytes",
    ),
    (
        lambda: encoding.parse_base64("AA"),
        MalformedError,
        "expected canonical padded base64, got something else",
    ),
    (
        lambda: encoding.format_decimal(-1),
        MalformedError,
        "expected a number from 0 to 2^63-1",
    ),
    (
        lambda: encoding.parse_decimal("01"),
        MalformedError,
        "expected a decimal number without sign or leading zeros",
    ),
    (
        lambda: encoding.parse_decimal("9" * 19),
        MalformedError,
        "expected a number from 0 to 2^63-1",
    ),
    (
        lambda: encoding.parse_hash("AA=="),
        MalformedError,
        "expected a hash of 32 bytes, got 1",
    ),
    (
        lambda: merkle.tree_root(-1, NODE),
        MalformedError,
        "expected tree size from 0 to 2^63-1",
    ),
    (
        lambda: merkle.prove_inclusion(-1, 1, NODE),
        MalformedError,
        "expected leaf index from 0 to 2^63-1",
    ),
    (
        lambda: merkle.prove_inclusion(0, -1, NODE),
        MalformedError,
        "expected tree size from 0 to 2^63-1",
    ),
    (
        lambda: merkle.prove_inclusion(3, 3, NODE),
        MalformedError,
        "expected a leaf index below 3, got 3",
    ),
    (
        lambda: merkle.prove_consistency(-1, 1, NODE),
        MalformedError,
        "expected old size from 0 to 2^63-1",
    ),
    (
        lambda: merkle.prove_consistency(1, -1, NODE),
        MalformedError,
        "expected new size from 0 to 2^63-1",
    ),
    (
        lambda: merkle.prove_consistency(2, 1, NODE),
        MalformedError,
        "expected an old size up to 1, got 2",
    ),
    (
        lambda: merkle.verify_inclusion(-1, 1, H, [], H),
        MalformedError,
        "expected leaf index from 0 to 2^63-1",
    ),
    (
        lambda: merkle.verify_inclusion(0, -1, H, [], H),
        MalformedError,
        "expected tree size from 0 to 2^63-1",
    ),
    (
        lambda: merkle.verify_inclusion(0, 1, "", [], H),
        MalformedError,
        "expected leaf hash as bytes, got str",
    ),
    (
        lambda: merkle.verify_inclusion(0, 1, b"1", [], H),
        MalformedError,
        "expected leaf hash of 32 bytes, got 1",
    ),
    (
        lambda: merkle.verify_inclusion(0, 1, H, [], b"12"),
        MalformedError,
        "expected root of 32 bytes, got 2",
    ),
    (
        lambda: merkle.verify_inclusion(0, 1, H, H, H),
        MalformedError,
        "expected the proof as list or tuple, got bytes",
    ),
    (
        lambda: merkle.verify_inclusion(0, 1, H, [H] * 65, H),
        VerificationError,
        "expected up to 64 hashes, got 65",
    ),
    (
        lambda: merkle.verify_inclusion(0, 1, H, [b"123"], H),
        MalformedError,
        "expected proof hash of 32 bytes, got 3",
    ),
    (
        lambda: merkle.verify_inclusion(3, 3, H, [], H),
        VerificationError,
        "expected a leaf index below 3, got 3",
    ),
    (
        lambda: merkle.verify_inclusion(0, 1, H, [H], H),
        VerificationError,
        "expected the proof to end at the root, got more hashes",
    ),
    (
        lambda: merkle.verify_inclusion(0, 2, H, [], H),
        VerificationError,
        "expected the proof to end at the root, got too few hashes",
    ),
    (
        lambda: merkle.verify_inclusion(0, 1, H, [], bytes(32)),
        VerificationError,
        (
            "inclusion proof leads to root "
            "6868686868686868686868686868686868686868686868686868686868686868, "
            "expected "
            "0000000000000000000000000000000000000000000000000000000000000000"
        ),
    ),
    (
        lambda: merkle.verify_consistency(-1, H, 1, H, []),
        MalformedError,
        "expected old size from 0 to 2^63-1",
    ),
    (
        lambda: merkle.verify_consistency(1, H, -1, H, []),
        MalformedError,
        "expected new size from 0 to 2^63-1",
    ),
    (
        lambda: merkle.verify_consistency(2, H, 1, H, []),
        VerificationError,
        "expected an old size up to 1, got 2",
    ),
    (
        lambda: merkle.verify_consistency(1, b"1", 2, H, [H]),
        MalformedError,
        "expected old root of 32 bytes, got 1",
    ),
    (
        lambda: merkle.verify_consistency(1, H, 2, b"1", [H]),
        MalformedError,
        "expected new root of 32 bytes, got 1",
    ),
    (
        lambda: merkle.verify_consistency(1, "", 1, H, []),
        MalformedError,
        "expected old root as bytes, got str",
    ),
    (
        lambda: merkle.verify_consistency(1, H, 1, "", []),
        MalformedError,
        "expected new root as bytes, got str",
    ),
    (
        lambda: merkle.verify_consistency(1, H, 1, H, [H, H]),
        VerificationError,
        "expected no proof from 1 to 1, got 2 hashes",
    ),
    (
        lambda: merkle.verify_consistency(0, H, 1, H, []),
        VerificationError,
        (
            "root of the empty tree is "
            "6868686868686868686868686868686868686868686868686868686868686868, "
            "expected "
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        ),
    ),
    (
        lambda: merkle.verify_consistency(0, merkle.EMPTY_ROOT, 1, H, [H]),
        VerificationError,
        "expected no proof from 0 to 1, got 1 hashes",
    ),
    (
        lambda: merkle.verify_consistency(1, H, 1, bytes(32), []),
        VerificationError,
        (
            "root at the same size is "
            "0000000000000000000000000000000000000000000000000000000000000000, "
            "expected "
            "6868686868686868686868686868686868686868686868686868686868686868"
        ),
    ),
    (
        lambda: merkle.verify_consistency(1, H, 2, H, []),
        VerificationError,
        "expected a proof from 1 to 2, got 0 hashes",
    ),
    (
        lambda: merkle.verify_consistency(3, H, 4, H, [H, H]),
        VerificationError,
        "expected the proof to end at the root, got too few hashes",
    ),
    (
        lambda: merkle.verify_consistency(1, H, 2, H, [bytes(32)]),
        VerificationError,
        (
            "consistency proof leads to new root "
            "845066411aa445121f9388779fb05def1304c656afa89809a60faef65d7a3e7f, "
            "expected "
            "6868686868686868686868686868686868686868686868686868686868686868"
        ),
    ),
    (
        lambda: merkle.verify_consistency(3, H, 4, H, [H, H, H]),
        VerificationError,
        (
            "consistency proof leads to old root "
            "89cce6da14c2599db7fbd35228bbff6089ec56535aa16299ded399db90e7e1ea, "
            "expected "
            "6868686868686868686868686868686868686868686868686868686868686868"
        ),
    ),
    (
        lambda: tiles.tile_path(64, 0),
        MalformedError,
        "expected tile level from 0 to 63",
    ),
    (
        lambda: tiles.tile_path(0, -1),
        MalformedError,
        "expected tile index from 0 to 2^63-1",
    ),
    (
        lambda: tiles.tile_path(0, 0, 0),
        MalformedError,
        "expected tile width from 1 to 256",
    ),
    (
        lambda: tiles.tile_path(0, 0, 257),
        MalformedError,
        "expected tile width from 1 to 256",
    ),
    (
        lambda: tiles.parse_tile_path("tile/0/1"),
        MalformedError,
        "expected a path such as tile/0/x001/067.p/8",
    ),
    (
        lambda: tiles.parse_tile_path("tile/00/001"),
        MalformedError,
        "expected the path tile/0/001, got tile/00/001",
    ),
    (
        lambda: tiles.parse_tile_path("tile/0/000/001"),
        MalformedError,
        "expected a path such as tile/0/x001/067.p/8",
    ),
    (
        lambda: tiles.format_bundle([]),
        MalformedError,
        "expected entries in a bundle from 1 to 256",
    ),
    (
        lambda: tiles.format_bundle([b""] * 257),
        MalformedError,
        "expected entries in a bundle from 1 to 256",
    ),
    (
        lambda: tiles.format_bundle([bytes(65_536)]),
        MalformedError,
        "expected bytes in an entry from 0 to 65535",
    ),
    (
        lambda: tiles.parse_bundle(bytearray(b"\0\0")),
        MalformedError,
        "expected a bundle as bytes, got bytearray",
    ),
    (
        lambda: tiles.parse_bundle(b"\0"),
        MalformedError,
        "expected 1 to 256 entries, each after its length as u16",
    ),
    (
        lambda: tiles.parse_bundle(b"\0\0" * 257),
        MalformedError,
        "expected 1 to 256 entries, each after its length as u16",
    ),
    (
        lambda: tiles.parse_bundle(b"\0\0\0\0", 3),
        MalformedError,
        "expected 3 entries, got 2",
    ),
    (
        lambda: commitment.leaf_hasher(KEY_ID, "\ud800"),
        MalformedError,
        "expected no lone surrogate in a path",
    ),
    (
        lambda: commitment.leaf_hasher(KEY_ID, "x" * 1025),
        MalformedError,
        "expected a path of at most 1024 bytes, got 1025",
    ),
    (
        lambda: commitment.leaf_hasher(b"1", "x"),
        MalformedError,
        "expected a salt of 16 bytes, got 1",
    ),
    (
        lambda: commitment.commitment_digest(b"1", 0, 0, [H, H]),
        MalformedError,
        "expected a salt of 16 bytes and hashes of 32",
    ),
    (
        lambda: commitment.commitment_digest(KEY_ID, 0, 0, [H, b"1"]),
        MalformedError,
        "expected a salt of 16 bytes and hashes of 32",
    ),
    (
        lambda: commitment.commitment_digest(KEY_ID, 0, 0, [H]),
        MalformedError,
        "expected two leaves or more, got 1",
    ),
    (
        lambda: commitment.commitment_digest(KEY_ID, -1, 0, [H, H]),
        MalformedError,
        "expected body sizes that fit in 64 bits",
    ),
    (
        lambda: commitment.commitment_digest(KEY_ID, 0, 1 << 64, [H, H]),
        MalformedError,
        "expected body sizes that fit in 64 bits",
    ),
    (
        lambda: commitment.commit(b"1", b"", b"", []),
        MalformedError,
        "expected a secret of 32 bytes, got 1",
    ),
    (
        lambda: record.canonical_json(1.5),
        MalformedError,
        (
            "expected a string, integer, boolean, null, list or dict in JSON, got a"
            " float; decimals are written as strings"
        ),
    ),
    (
        lambda: record.canonical_json({1: 2}),
        MalformedError,
        "expected strings as JSON object keys",
    ),
    (
        lambda: record.canonical_json(2**53),
        MalformedError,
        "expected integers up to 2^53-1, got a larger one",
    ),
    (
        lambda: record.canonical_json("\ud800"),
        MalformedError,
        "expected no lone surrogate in JSON",
    ),
    (
        lambda: record.canonical_json(nested(65)),
        MalformedError,
        "expected JSON at most 64 containers deep",
    ),
    (
        lambda: record.parse_json("1", limit=9),
        MalformedError,
        "expected JSON as bytes, got str",
    ),
    (
        lambda: record.parse_json(b"1234", limit=3),
        MalformedError,
        "expected at most 3 bytes of JSON, got 4",
    ),
    (
        lambda: record.parse_json(b"[" * 65 + b"]" * 65, limit=999),
        MalformedError,
        "expected JSON at most 64 containers deep",
    ),
    (
        lambda: record.parse_json(b"\xff", limit=9),
        MalformedError,
        "expected JSON in UTF-8, got other bytes",
    ),
    (
        lambda: record.parse_json(b"[1,]", limit=9),
        MalformedError,
        ("expected JSON, got other text: Expecting value: line 1 column 4 (char 3)"),
    ),
    (
        lambda: record.parse_json(b"1.5", limit=9),
        MalformedError,
        "expected integers as JSON numbers, got another number",
    ),
    (
        lambda: record.parse_json(b"NaN", limit=9),
        MalformedError,
        "expected integers as JSON numbers, got another number",
    ),
    (
        lambda: record.parse_json(b"9007199254740992", limit=99),
        MalformedError,
        "expected integers up to 2^53-1, got a larger one",
    ),
    (
        lambda: record.parse_json(b"99999999999999999999999", limit=99),
        MalformedError,
        "expected integers up to 2^53-1, got a larger one",
    ),
    (
        lambda: record.parse_json(b'{"a":1,"a":2}', limit=99),
        MalformedError,
        "expected unique names in a JSON object, got one twice",
    ),
    (
        lambda: record.parse_json(rb'"\ud800"', limit=99),
        MalformedError,
        "expected no lone surrogate in JSON",
    ),
    (
        lambda: record.check_fields([], "a thing", {"a": int}, {"b": str}),
        MalformedError,
        "expected a thing with the fields a, b",
    ),
    (
        lambda: record.check_fields({"a": "x"}, "a thing", {"a": int}),
        MalformedError,
        "expected int as a of a thing, got str",
    ),
    (
        lambda: record.format_time(-1),
        MalformedError,
        "expected a time from 1970 to 9999, got -1 µs",
    ),
    (
        lambda: record.parse_time("2026-11-23 " * 9),
        MalformedError,
        (
            "expected a time such as 2026-11-23T08:00:00.000000Z, got '2026-11-23 "
            "2026-11-23 2026-11-23 2026-11'"
        ),
    ),
    (
        lambda: record.format_id(bytes(16)),
        MalformedError,
        "expected a UUIDv7, 16 bytes, as id",
    ),
    (
        lambda: record.parse_id("X" * 50),
        MalformedError,
        (
            "expected a UUIDv7 in lower case, got "
            "'XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX'"
        ),
    ),
    (
        lambda: record.format_entry(entry(type="t" * 70)),
        MalformedError,
        (
            "expected an entry type of ours, got "
            "'tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt'"
        ),
    ),
    (
        lambda: record.format_entry(entry(source="")),
        MalformedError,
        "expected the log's origin as source of an entry",
    ),
    (
        lambda: record.format_entry(entry(type="auditlog.decision.v1")),
        MalformedError,
        "expected a subject tag in a decision, got none",
    ),
    (
        lambda: record.format_entry(entry(subject="x")),
        MalformedError,
        "expected 16 bytes in padded base64url as subject tag",
    ),
    (
        lambda: record.format_entry(entry(data=[])),
        MalformedError,
        "expected a dict as data of an entry",
    ),
    (
        lambda: record.format_entry(entry(data={"é": 1})),
        MalformedError,
        "expected ASCII keys in an entry, got another one",
    ),
    (
        lambda: record.format_entry(entry(data={"a": "x" * 66_000})),
        MalformedError,
        "expected an entry of at most 65535 bytes, got 66156",
    ),
    (
        lambda: record.parse_entry(b"{}"),
        MalformedError,
        (
            "expected an entry with the fields data, id, source, specversion, time,"
            " type, subject"
        ),
    ),
    (
        lambda: record.parse_entry(
            record.format_entry(entry()).replace(b",", b", ", 1)
        ),
        MalformedError,
        "expected a canonical entry (RFC 8785), got another form",
    ),
    (
        lambda: note.Verifier("a b", b"1234", 1, H),
        MalformedError,
        "expected a key name without spaces, controls and +",
    ),
    (
        lambda: note.Verifier("", b"1234", 1, H),
        MalformedError,
        "expected a key name of 1 to 255 bytes of UTF-8",
    ),
    (
        lambda: note.Verifier("a", b"1234", 2, H),
        MalformedError,
        "expected key type 0x01, 0x04 or 0x06, got 0x02",
    ),
    (
        lambda: note.Verifier("a", b"1234", 6, H),
        MalformedError,
        "expected 1312 bytes of public key, got 32",
    ),
    (
        lambda: note.Verifier("a", b"1234", 1, bytes(32)),
        MalformedError,
        "expected a public key, got one of small order",
    ),
    (
        lambda: note.Verifier("a", b"1234", 1, H),
        MalformedError,
        "expected key id 7e60a9f2, got 31323334",
    ),
    (
        lambda: SIGNER.verifier.verify(b"x\n", b"1"),
        VerificationError,
        "expected 64 bytes of signature by x+ec863d5f, got 1",
    ),
    (
        lambda: SIGNER.verifier.verify(b"x\n", bytes(64)),
        VerificationError,
        "signature by x+ec863d5f does not verify",
    ),
    (
        lambda: WITNESS.verifier.verify(b"x\n", b"\xff" * 72),
        VerificationError,
        "expected a time below 2^63 by w.example+a26f2ad7",
    ),
    (
        lambda: WITNESS.sign(b"x\n", -1),
        MalformedError,
        "expected a time from 0 to 2^63-1",
    ),
    (
        lambda: PQ.sign(b"x\n1\n"),
        MalformedError,
        "expected a checkpoint of three lines under ML-DSA-44",
    ),
    (
        lambda: PQ.sign(b"x\n1\n" + ROOT + b"\nextension\n"),
        VerificationError,
        (
            "expected a checkpoint without extension lines, which ML-DSA-44 does "
            "not cover, got 4 lines"
        ),
    ),
    (
        lambda: PQ.sign(b"\n1\n" + ROOT + b"\n"),
        MalformedError,
        "expected an origin of 1 to 255 bytes, got 0",
    ),
    (
        lambda: note.parse_vkey("x"),
        MalformedError,
        "expected the vkey as name+hex+base64",
    ),
    (
        lambda: note.parse_vkey(5),
        MalformedError,
        "expected the vkey as name+hex+base64",
    ),
    (
        lambda: note.parse_vkey("a+01234567+"),
        MalformedError,
        "expected a key in the vkey, got none",
    ),
    (
        lambda: note.parse_vkey(
            SIGNER.verifier.vkey.replace(
                SIGNER.verifier.key_id.hex(), SIGNER.verifier.key_id.hex().upper()
            )
        ),
        MalformedError,
        "expected a vkey with its key id in lowercase hex",
    ),
    (
        lambda: note.parse_skey("x"),
        MalformedError,
        "expected an skey, starting with PRIVATE+KEY+",
    ),
    (
        lambda: note.parse_skey("PRIVATE+KEY+x"),
        MalformedError,
        "expected the skey as name+hex+base64",
    ),
    (
        lambda: note.parse_skey("PRIVATE+KEY+a+01234567+"),
        MalformedError,
        "expected a key in the skey, got none",
    ),
    (
        lambda: note.parse_skey("PRIVATE+KEY+a+01234567+" + SIGNER.skey.split("+")[-1]),
        MalformedError,
        "expected an skey with the key id of its own key",
    ),
    (
        lambda: note.make_signer("a", 2, H),
        MalformedError,
        "expected key type 0x01, 0x04 or 0x06, got 0x02",
    ),
    (
        lambda: note.make_signer("a", 1, b"1"),
        MalformedError,
        "expected a seed of 32 bytes, got 1",
    ),
    (
        lambda: note.sign_note(b"x\n", []),
        MalformedError,
        "expected at least one signer, got none",
    ),
    (
        lambda: note.open_note(b"x", []),
        MalformedError,
        "expected an empty line before the signatures, got none",
    ),
    (
        lambda: note.open_note("x", []),
        MalformedError,
        "expected a note of up to 1048576 bytes",
    ),
    (
        lambda: note.open_note(b"x\n\n", []),
        MalformedError,
        "expected 1 to 100 signature lines, got 0",
    ),
    (
        lambda: note.open_note(b"x\n\n" + LINE * 101, []),
        MalformedError,
        "expected 1 to 100 signature lines, got 101",
    ),
    (
        lambda: note.open_note(b"x\n\nx\n", []),
        MalformedError,
        "expected a signature line: — name base64",
    ),
    (
        lambda: note.open_note("x\n\n— a AA==\n".encode(), []),
        MalformedError,
        "expected key id and signature, got less than 5 bytes",
    ),
    (
        lambda: note.open_note(b"x\n\n" + LINE, []),
        UntrustedError,
        "expected a signature by one of 0 known keys, got none",
    ),
    (
        lambda: note.open_note(b"x\n\n" + LINE + LINE, [SIGNER.verifier]),
        MalformedError,
        "expected one signature by x+ec863d5f, got two",
    ),
    (
        lambda: note.open_note(b"y\n\n" + LINE, [SIGNER.verifier]),
        VerificationError,
        "signature by x+ec863d5f does not verify",
    ),
    (
        lambda: checkpoint.parse_checkpoint(b"x\n1\n"),
        MalformedError,
        "expected origin, size and root, got 2 lines",
    ),
    (
        lambda: checkpoint.parse_checkpoint(b"x\n1\n" + ROOT + b"\n\n"),
        MalformedError,
        "expected a checkpoint without empty lines",
    ),
    (
        lambda: checkpoint.format_checkpoint(checkpoint.Checkpoint("\ud800", 1, H)),
        MalformedError,
        "expected an origin in Unicode, got a surrogate",
    ),
    (
        lambda: checkpoint.format_checkpoint(checkpoint.Checkpoint("x\ny", 1, H)),
        MalformedError,
        "expected a decimal number without sign or leading zeros",
    ),
    (
        lambda: checkpoint.format_checkpoint(
            checkpoint.Checkpoint("x\n1\n" + ROOT.decode(), 1, H)
        ),
        MalformedError,
        "expected an origin without newlines",
    ),
    (
        lambda: checkpoint.open_checkpoint(NOTE, policy("x" * 120)),
        UntrustedError,
        "expected an origin of the policy, got 'x'",
    ),
    (
        lambda: checkpoint.open_checkpoint(note.sign_note(TEXT, [OTHER]), policy()),
        UntrustedError,
        "expected a signature by one of 1 known keys, got none",
    ),
    (
        lambda: checkpoint.open_checkpoint(
            note.sign_note(b"y" * 120 + TEXT[1:], [SIGNER]), policy()
        ),
        UntrustedError,
        (
            "expected an origin of the policy, got 'yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
            "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy'"
        ),
    ),
    (
        lambda: checkpoint.open_checkpoint(NOTE, policy(more=W + "quorum w\n")),
        UntrustedError,
        "expected the quorum 'w', got no witness",
    ),
    (
        lambda: checkpoint.open_checkpoint(
            NOTE, policy(more=W + f"group {LONG} 1 w\nquorum {LONG}\n")
        ),
        UntrustedError,
        (
            "expected the quorum 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
            "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn', got no witness"
        ),
    ),
    (
        lambda: checkpoint.open_checkpoint(
            NOTE + WITNESS.sign(TEXT, 5),
            policy(more=W + W2 + "group g all w v\nquorum g\n"),
        ),
        UntrustedError,
        "expected the quorum 'g', got w",
    ),
    (
        lambda: checkpoint.open_checkpoint(
            NOTE + WITNESS.sign(TEXT), policy(more=W + "quorum w\n")
        ),
        VerificationError,
        "expected a time in each cosignature, got 0",
    ),
    (
        lambda: checkpoint.parse_policy(b""),
        MalformedError,
        "expected a policy of up to 1 MiB, without controls",
    ),
    (
        lambda: checkpoint.parse_policy("\0"),
        MalformedError,
        "expected a policy of up to 1 MiB, without controls",
    ),
    (
        lambda: checkpoint.parse_policy(""),
        MalformedError,
        "expected a quorum line in the policy, got none",
    ),
    (
        lambda: checkpoint.parse_policy("\nhello world\n"),
        MalformedError,
        "policy line 2: expected log, witness, group or quorum, complete",
    ),
    (
        lambda: checkpoint.parse_policy("quorum none\nquorum none\n"),
        MalformedError,
        "policy line 2: expected one quorum line, got two",
    ),
    (
        lambda: checkpoint.parse_policy(f"quorum {LONG}\n"),
        MalformedError,
        (
            "policy line 1: expected an earlier name, got 'nnnnnnnnnnnnnnnnnnnnnnnn"
            "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
            "nnnnnn'"
        ),
    ),
    (
        lambda: checkpoint.parse_policy(W + W),
        MalformedError,
        "policy line 2: expected each key once, got w.example+a26f2ad7 again",
    ),
    (
        lambda: checkpoint.parse_policy(W + W2.replace("witness v", "witness w")),
        MalformedError,
        "policy line 2: expected an unused name, got 'w'",
    ),
    (
        lambda: checkpoint.parse_policy(W.replace("witness w", "witness none")),
        MalformedError,
        "policy line 1: expected an unused name, got 'none'",
    ),
    (
        lambda: checkpoint.parse_policy(W + f"group g 1 {LONG}\n"),
        MalformedError,
        (
            "policy line 2: expected an earlier name, got 'nnnnnnnnnnnnnnnnnnnnnnnn"
            "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
            "nnnnnn'"
        ),
    ),
    (
        lambda: checkpoint.parse_policy(W + "group g 1 none\n"),
        MalformedError,
        "policy line 2: expected an earlier name, got 'none'",
    ),
    (
        lambda: checkpoint.parse_policy(W + "group g 1 w w\n"),
        MalformedError,
        "policy line 2: expected 'w' in one group, got two",
    ),
    (
        lambda: checkpoint.parse_policy(
            W + f"group {LONG} 1 w\ngroup g 1 {LONG}\ngroup h 1 {LONG}\n"
        ),
        MalformedError,
        (
            "policy line 4: expected 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
            "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn' in one group,"
            " got two"
        ),
    ),
    (
        lambda: checkpoint.parse_policy(W + "group g 0 w\n"),
        MalformedError,
        "policy line 2: expected a threshold from 1 to 1, got 0",
    ),
    (
        lambda: checkpoint.parse_policy(W + "group g 2 w\n"),
        MalformedError,
        "policy line 2: expected a threshold from 1 to 1, got 2",
    ),
    (
        lambda: checkpoint.parse_policy(W.replace("witness w", "log")),
        MalformedError,
        ("policy line 1: expected a key of type 0x01 or 0x06 in this role, got 0x04"),
    ),
    (
        lambda: checkpoint.parse_policy(f"witness s {SIGNER.verifier.vkey}\n"),
        MalformedError,
        ("policy line 1: expected a key of type 0x04 or 0x06 in this role, got 0x01"),
    ),
    (
        lambda: checkpoint.parse_policy(
            W.replace("witness w", f"witness {'w' * 120}") * 2
        ),
        MalformedError,
        "policy line 2: expected each key once, got w.example+a26f2ad7 again",
    ),
    (
        lambda: proof.parse_tlog_proof("x"),
        MalformedError,
        "expected a tlog-proof of up to 2097152 bytes",
    ),
    (
        lambda: proof.parse_tlog_proof(b"x"),
        MalformedError,
        "expected ASCII lines, then an empty one, in a tlog-proof",
    ),
    (
        lambda: proof.parse_tlog_proof("é\n\n".encode() + NOTE),
        MalformedError,
        "expected ASCII lines, then an empty one, in a tlog-proof",
    ),
    (
        lambda: proof.parse_tlog_proof(b"x\n\n" + NOTE),
        MalformedError,
        "expected the first line to be c2sp.org/tlog-proof@v1",
    ),
    (
        lambda: proof.parse_tlog_proof(b"c2sp.org/tlog-proof@v1\n\n" + NOTE),
        MalformedError,
        "expected a line with index and a number",
    ),
    (
        lambda: proof.parse_tlog_proof(
            b"c2sp.org/tlog-proof@v1\nindex 0\n" + (ROOT + b"\n") * 64 + b"\n" + NOTE
        ),
        MalformedError,
        "expected up to 63 hashes, got 64",
    ),
    (
        lambda: proof.parse_add_checkpoint(b"x"),
        MalformedError,
        "expected ASCII lines, then an empty one, in an add-checkpoint request",
    ),
    (
        lambda: proof.parse_add_checkpoint(b"x\n\n" + NOTE),
        MalformedError,
        "expected a line with old and a number",
    ),
    (
        lambda: proof.format_tlog_proof(proof.TlogProof(None, 0, [], NOTE)),
        MalformedError,
        "expected a proof made of int, bytes and a note",
    ),
    (
        lambda: proof.format_add_checkpoint(proof.AddCheckpoint(0, [], NOTE)),
        MalformedError,
        "expected a request made of int, bytes and a note",
    ),
    (
        lambda: receipt.parse_receipt(b"{}"),
        MalformedError,
        (
            "expected a receipt with the fields schema, entry, proof, commitment, "
            "disclosures, secret, anchors, related"
        ),
    ),
    (
        lambda: receipt.parse_receipt(told(schema="s" * 70)),
        MalformedError,
        (
            "expected schema auditlog.receipt.v1, got "
            "'ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss'"
        ),
    ),
    (
        lambda: receipt.parse_receipt(told(commitment={})),
        MalformedError,
        (
            "expected a commitment with the fields salt, requestSize, responseSize,"
            " hashes"
        ),
    ),
    (
        lambda: receipt.parse_receipt(told(disclosures=[{}])),
        MalformedError,
        "expected a disclosure with the fields index, path, salt, value",
    ),
    (
        lambda: receipt.parse_receipt(told(anchors=[{}])),
        MalformedError,
        "expected an anchor with the fields kind, proof, evidence",
    ),
    (
        lambda: receipt.parse_receipt(told(related=[{}])),
        MalformedError,
        "expected a related entry with the fields rel, entry, proof",
    ),
    (
        lambda: receipt.parse_receipt(b" " + told()),
        MalformedError,
        "expected a canonical receipt, got another spelling of it",
    ),
    (
        lambda: receipt.format_receipt(made(secret=H)),
        MalformedError,
        "expected a commitment beside disclosures and secret",
    ),
    (
        lambda: receipt.format_receipt(made(opening=OPENING, secret=b"1")),
        MalformedError,
        "expected 32 bytes in base64, got 1",
    ),
    (
        lambda: receipt.format_receipt(made(opening=OPENING._replace(salt=b"1"))),
        MalformedError,
        "expected 16 bytes in base64, got 1",
    ),
    (
        lambda: receipt.format_receipt(made(opening=OPENING._replace(request_size=-1))),
        MalformedError,
        "expected a size from 0 to 2^53-1",
    ),
    (
        lambda: receipt.format_receipt(
            made(opening=OPENING._replace(response_size=-1))
        ),
        MalformedError,
        "expected a size from 0 to 2^53-1",
    ),
    (
        lambda: receipt.format_receipt(made(opening=OPENING._replace(hashes=(b"1",)))),
        MalformedError,
        "expected 32 bytes in base64, got 1",
    ),
    (
        lambda: receipt.format_receipt(made(opening=OPENING, disclosures=(LEAF, LEAF))),
        MalformedError,
        "expected each index and each path to be disclosed once",
    ),
    (
        lambda: receipt.format_receipt(
            made(opening=OPENING, disclosures=(LEAF._replace(index=-1),))
        ),
        MalformedError,
        "expected an index from 0 to 2^53-1",
    ),
    (
        lambda: receipt.format_receipt(
            made(opening=OPENING, disclosures=(LEAF._replace(path="p" * 90),))
        ),
        MalformedError,
        (
            "expected a path to content, got 'ppppppppppppppppppppppppppppppppppppp"
            "ppppppppppppppppppppppppppppppppppppppppppp'"
        ),
    ),
    (
        lambda: receipt.format_receipt(
            made(opening=OPENING, disclosures=(LEAF._replace(salt=b"1"),))
        ),
        MalformedError,
        "expected 16 bytes in base64, got 1",
    ),
    (
        lambda: receipt.format_receipt(
            made(related=(receipt.Related("r" * 50, b"", b""),))
        ),
        MalformedError,
        ("expected a relation we know, got 'rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr'"),
    ),
    (
        lambda: receipt.format_receipt(made(entry=b"\xff")),
        MalformedError,
        "expected entry and proof in UTF-8",
    ),
    (
        lambda: receipt.format_receipt(made(entry=b"x" * (16 << 20))),
        MalformedError,
        "expected a receipt of at most 16777216 bytes",
    ),
    (
        lambda: shown(make_decision(data=block(depth=9)), "request"),
        MalformedError,
        "expected a commitment of version 1 and depth 0 to 8",
    ),
    (
        lambda: shown(make_decision(data=block(depth=0)), "request"),
        MalformedError,
        "expected no members at depth 0, got json",
    ),
    (
        lambda: shown(
            make_decision(data=block(depth=0), split={"request": "ws"}), "request"
        ),
        MalformedError,
        "expected no members at depth 0, got ws",
    ),
    (
        lambda: shown(make_decision(data=side(LONG, "lost")), "request"),
        MalformedError,
        (
            "expected a split and a state of ours, got "
            "'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn', 'lost'"
        ),
    ),
    (
        lambda: shown(make_decision(data=side("json", LONG)), "request"),
        MalformedError,
        (
            "expected a split and a state of ours, got 'json', "
            "'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn'"
        ),
    ),
    (
        lambda: shown(make_decision(data={"commitment": None}), "request"),
        MalformedError,
        "expected a commitment with the fields depth, digest, v",
    ),
    (
        lambda: shown(DECISION, "request", opening=make_decision(1).opening),
        VerificationError,
        "expected the commitment of the entry, got another",
    ),
    (
        lambda: shown(DECISION, "request", disclosures=(FIRST._replace(index=1),)),
        VerificationError,
        (
            "expected leaf 0 to be the request, leaf 1 the response, decoded ones "
            "next, then all others, got 'request' as leaf 1 of 8"
        ),
    ),
    (
        lambda: shown(make_decision(leaves=[]), "request", disclosures=(SHORT,)),
        VerificationError,
        (
            "expected leaf 0 to be the request, leaf 1 the response, decoded ones "
            "next, then all others, got 'request:decoded' as leaf 2 of 2"
        ),
    ),
    (
        lambda: shown(DECISION, "request", disclosures=(SWAPPED,)),
        VerificationError,
        "expected leaf 3 of the commitment, got another 'request/age'",
    ),
    (
        lambda: shown(
            make_decision(leaves=[("context/b", b""), ("context/a", b"")]),
            "context/b",
            "context/a",
        ),
        VerificationError,
        "expected leaves in the order of their paths",
    ),
    (
        lambda: shown(
            make_decision(leaves=[("request/age", b"42")]), "request", "request/age"
        ),
        VerificationError,
        "expected 'request/age' as it stands in the request, got another value",
    ),
    (
        lambda: shown(
            make_decision(leaves=MOVED), "request", "request/age", "request/income"
        ),
        VerificationError,
        "expected members at the places that a disclosed body gives them",
    ),
    (
        lambda: shown(DECISION, "request", secret=bytes(32)),
        VerificationError,
        "expected the secret behind the salts, got another",
    ),
    (
        lambda: shown(make_decision(leaves=[]), "request", "response", full=True),
        VerificationError,
        "expected members at the places that a disclosed body gives them",
    ),
    (
        lambda: shown(make_decision(leaves=HIDDEN), "request", "response", full=True),
        VerificationError,
        "expected the members of both bodies, got other leaves",
    ),
    (
        lambda: shown(make_decision(split={"request": "sse"}), "request/age"),
        VerificationError,
        "expected no 'request/age' of a request split as sse, got 2 bytes",
    ),
    (
        lambda: shown(
            make_decision(leaves=[("request#1", b"")], split={"request": "sse"}),
            "request#1",
        ),
        VerificationError,
        "expected pieces of the request at the places that their numbers give them",
    ),
    (
        lambda: shown(
            make_decision(request=b"1 2", split={"request": "json"}), "request"
        ),
        VerificationError,
        "expected members in request, split as json, got none",
    ),
    (
        lambda: shown(DECISION, require_pq=True),
        UntrustedError,
        "expected an ML-DSA signature of the log, got none",
    ),
    (
        lambda: shown(make_decision(origin=LONG), origin="o" * 120),
        VerificationError,
        (
            "expected an entry of the log 'oooooooooooooooooooooooooooooooooooooooo"
            "oooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo', got one"
            " of 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
            "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn'"
        ),
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), REFUSALS, ids=range(len(REFUSALS))
)
def test_a_refusal_says_what_was_expected_and_what_came(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == message
