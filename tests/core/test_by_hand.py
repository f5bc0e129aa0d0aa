"""A receipt written by hand from FORMATS §2 and §7, with nothing of ours but the check.

As a stranger would write it: plain `json.dumps`, no checksum, own hashing and signing.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.verify import verify_receipt

ORIGIN = "log.example/by-hand"
WITNESS = "witness.example"
SECRET = bytes(range(32))
LEAVES = (
    ("request", b'{"age": 41, "name": "Ada"}'),
    ("response", b'{"decision":"approve"}'),
    ("request/age", b"41"),
    ("request/name", b'"Ada"'),
    ("response/decision", b'"approve"'),
    ("context/target", b"/score"),
)
LOG_KEY = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
WITNESS_KEY = Ed25519PrivateKey.from_private_bytes(bytes([2]) * 32)
PLACE, SIZE = 3, 7


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def key_id(name: str, kind: int, key: Ed25519PrivateKey) -> bytes:
    public = key.public_key().public_bytes_raw()
    return sha256(name.encode(), b"\n", bytes([kind]), public)[:4]


def vkey(name: str, kind: int, key: Ed25519PrivateKey) -> str:
    public = key.public_key().public_bytes_raw()
    return f"{name}+{key_id(name, kind, key).hex()}+{b64(bytes([kind]) + public)}"


POLICY = (
    f"log {vkey(ORIGIN, 1, LOG_KEY)}\n"
    f"witness w {vkey(WITNESS, 4, WITNESS_KEY)}\n"
    "quorum w\n"
)


def salts(count: int) -> list[bytes]:
    stream = hashlib.shake_128(b"auditlog/salts/v1\n" + SECRET).digest(16 * count)
    return [stream[16 * k : 16 * k + 16] for k in range(count)]


def make_entry(digest: bytes) -> str:
    side = {"mediaType": "application/json", "split": "json", "state": "complete"}
    event = {
        "data": {
            "commitment": {"depth": 1, "digest": b64(digest), "v": 1},
            "request": side,
            "response": side,
        },
        "id": "01a1ee56-0000-7000-8000-000000000000",
        "source": ORIGIN,
        "specversion": "1.0",
        "subject": "AAAAAAAAAAAAAAAAAAAAAA==",
        "time": "2026-11-23T08:00:00.000000Z",
        "type": "auditlog.decision.v1",
    }
    return json.dumps(event, sort_keys=True, separators=(",", ":"))


def make_proof(entry: str) -> str:
    """Return the tlog-proof of leaf 3 of 7, under a cosigned checkpoint."""
    leaf = [sha256(b"\0entry %d" % number) for number in range(SIZE)]
    leaf[PLACE] = sha256(b"\0", entry.encode())
    left, right = sha256(b"\1", *leaf[0:2]), sha256(b"\1", *leaf[2:4])
    rest = sha256(b"\1", sha256(b"\1", *leaf[4:6]), leaf[6])
    root = sha256(b"\1", sha256(b"\1", left, right), rest)
    text = f"{ORIGIN}\n{SIZE}\n{b64(root)}\n"
    time = 1_795_000_000
    message = f"cosignature/v1\ntime {time}\n{text}".encode()
    by_log = key_id(ORIGIN, 1, LOG_KEY) + LOG_KEY.sign(text.encode())
    by_witness = key_id(WITNESS, 4, WITNESS_KEY) + time.to_bytes(8, "big")
    by_witness += WITNESS_KEY.sign(message)
    lines = [
        "c2sp.org/tlog-proof@v1",
        f"index {PLACE}",
        *map(b64, (leaf[2], left, rest)),
        "",
        *text.splitlines(),
        "",
        f"— {ORIGIN} {b64(by_log)}",
        f"— {WITNESS} {b64(by_witness)}",
    ]
    return "".join(f"{line}\n" for line in lines)


def make_fields(
    leaves: Sequence[tuple[str, bytes]] = LEAVES, opened: Sequence[int] = ()
) -> dict[str, Any]:
    salt = salts(1 + len(leaves))
    hashes = [
        sha256(b"\0", salt[i + 1], len(path).to_bytes(2, "big"), path.encode(), value)
        for i, (path, value) in enumerate(leaves)
    ]
    sizes = [len(value) for _, value in leaves[:2]]
    packed = b"".join(size.to_bytes(8, "big") for size in sizes)
    digest = sha256(b"auditlog/commitment/v1\n", salt[0], packed, *hashes)
    entry = make_entry(digest)
    return {
        "schema": "auditlog.receipt.v1",
        "entry": entry,
        "proof": make_proof(entry),
        "commitment": {
            "salt": b64(salt[0]),
            "requestSize": sizes[0],
            "responseSize": sizes[1],
            "hashes": [b64(item) for item in hashes],
        },
        "disclosures": [
            {
                "index": i,
                "path": leaves[i][0],
                "salt": b64(salt[i + 1]),
                "value": b64(leaves[i][1]),
            }
            for i in opened
        ],
    }


def make_receipt(**changes: Any) -> bytes:
    return json.dumps({**make_fields(), **changes}, indent=2).encode()


def test_a_receipt_by_hand_verifies() -> None:
    verdict = verify_receipt(make_receipt(), POLICY)
    assert (verdict.origin, verdict.index, verdict.size) == (ORIGIN, PLACE, SIZE)
    assert verdict.claim.endswith(
        "signed by the operator and cosigned by 1 of 1 witnesses"
    )
    assert verdict.disclosed == ()


def test_without_any_content() -> None:
    fields = make_fields()
    del fields["commitment"], fields["disclosures"]
    verdict = verify_receipt(json.dumps(fields).encode(), POLICY)
    assert verdict.not_proven[-1].startswith("anything about content")


def test_with_disclosures_and_secret() -> None:
    fields = make_fields(opened=range(6))
    verdict = verify_receipt(json.dumps(fields).encode(), POLICY)
    assert verdict.disclosed == LEAVES
    full = json.dumps({**fields, "secret": b64(SECRET)}, ensure_ascii=False)
    verdict = verify_receipt(full.encode(), POLICY)
    assert [check.name for check in verdict.checks[-2:]] == ["secret", "full opening"]


def change(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda fields: fields["disclosures"][0].update({name: value})


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (change("index", 3), VerificationError, "leaf 3 of the commitment, got anot"),
        (change("index", 0), VerificationError, "got 'request/age' as leaf 0 of 6"),
        (change("index", 6), VerificationError, "got 'request/age' as leaf 6 of 6"),
        (change("index", True), MalformedError, "expected int as index"),
        (change("index", -2), MalformedError, r"index from 0 to 2\^53-1"),
        (change("index", 2.0), MalformedError, "integers as JSON numbers"),
        (change("path", "request"), VerificationError, "got 'request' as leaf 2 of 6"),
        (change("path", "request/Age"), VerificationError, "leaf 2 of the commitment"),
        (change("path", "request/a\u0301"), VerificationError, "leaf 2 of the commit"),
        (change("path", "request/\ud800"), MalformedError, "no lone surrogate"),
        (change("path", "request/~"), MalformedError, "expected a path to content"),
        (change("path", "request" + "/a" * 600), MalformedError, "a path to content"),
        (change("value", "NDE"), MalformedError, "canonical padded base64"),
        (change("value", "NDF="), MalformedError, "canonical padded base64"),
        (change("value", "NDI="), VerificationError, "leaf 2 of the commitment"),
        (change("salt", b64(bytes(16))), VerificationError, "leaf 2 of the commitment"),
    ],
    ids=range(16),
)
def test_damage_to_a_disclosure(
    damage: Callable[[dict[str, Any]], None],
    error: type[Exception],
    message: str,
) -> None:
    fields = make_fields(opened=[2])
    damage(fields)
    with pytest.raises(error, match=message):
        verify_receipt(json.dumps(fields).encode(), POLICY)
