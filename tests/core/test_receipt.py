"""Receipts as files: one spelling, these fields, and nothing else."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import AuditLogError, MalformedError
from auditlog.core.note import ED25519
from auditlog.core.proof import format_tlog_proof, parse_tlog_proof
from auditlog.core.receipt import (
    Anchor,
    Disclosure,
    Opening,
    Receipt,
    Related,
    format_receipt,
    parse_receipt,
    with_checksum,
)
from auditlog.core.record import canonical_json
from tests.receipts import MemoryLog, make_decision

DECISION = make_decision()
LOG = MemoryLog(types=(ED25519,))
LOG.add(DECISION.entry, make_decision(1).entry)
PROOF = LOG.proof(0)
FULL = Receipt(
    entry=DECISION.entry,
    proof=PROOF,
    opening=DECISION.opening,
    disclosures=DECISION.disclose("request", "request/age", "context/target"),
    secret=DECISION.secret,
    anchors=(with_checksum(Anchor("rfc3161", PROOF, {"token": "AA=="})),),
    related=(Related("key", LOG.entries[1], LOG.proof(1)),),
)
BYTES_16 = st.binary(min_size=16, max_size=16)
BYTES_32 = st.binary(min_size=32, max_size=32)
PATHS = st.sampled_from(
    [
        "request",
        "response",
        "request:decoded",
        "request/",
        "request/a~1b/~0",
        "response/0/é",
        "response#0",
        "response#17/choices/0",
        "context/target",
        "context/stored.request",
    ]
)
NUMBERS = st.integers(0, 2**53 - 1)
RECEIPTS = st.builds(
    Receipt,
    entry=st.text().map(str.encode),
    proof=st.text().map(str.encode),
    opening=st.builds(
        Opening, BYTES_16, NUMBERS, NUMBERS, st.lists(BYTES_32, max_size=5).map(tuple)
    ),
    disclosures=st.lists(
        st.builds(Disclosure, NUMBERS, PATHS, BYTES_16, st.binary()),
        unique_by=(lambda item: item.index, lambda item: item.path),
    ).map(tuple),
    secret=st.none() | BYTES_32,
)


def edited(**changes: Any) -> bytes:
    """The full receipt with fields of its JSON replaced, canonical again."""
    fields = {**json.loads(format_receipt(FULL)), **changes}
    return canonical_json({k: v for k, v in fields.items() if v != "gone"}) + b"\n"


def test_a_receipt_has_these_fields() -> None:
    data = format_receipt(FULL)
    fields = json.loads(data)
    assert data == canonical_json(fields) + b"\n"
    assert set(fields) == {
        *("schema", "entry", "proof", "commitment", "disclosures", "secret"),
        *("anchors", "related"),
    }
    assert fields["schema"] == "auditlog.receipt.v1"
    assert fields["entry"].encode() == DECISION.entry
    assert fields["proof"].encode() == PROOF
    assert set(fields["commitment"]) == {
        "salt",
        "requestSize",
        "responseSize",
        "hashes",
    }
    assert set(fields["disclosures"][0]) == {"index", "path", "salt", "value"}
    assert set(fields["anchors"][0]) == {"kind", "proof", "evidence"}
    assert set(fields["related"][0]) == {"rel", "entry", "proof"}
    assert edited() == data


def test_what_is_empty_is_absent() -> None:
    data = format_receipt(Receipt(entry=b"{}", proof=b"x"))
    assert data == b'{"entry":"{}","proof":"x","schema":"auditlog.receipt.v1"}\n'
    assert parse_receipt(data) == Receipt(entry=b"{}", proof=b"x")


def test_receipts_round_trip() -> None:
    assert parse_receipt(format_receipt(FULL)) == FULL


@given(RECEIPTS)
def test_any_receipt_round_trips(receipt: Receipt) -> None:
    data = format_receipt(receipt)
    assert parse_receipt(data) == receipt
    assert format_receipt(parse_receipt(data)) == data


GOOD = json.loads(format_receipt(FULL))
LEAF = GOOD["disclosures"][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "auditlog.receipt.v2"}, "expected schema auditlog.receipt.v1"),
        ({"schema": "gone"}, "expected a receipt with the fields schema, entry"),
        ({"entry": "gone"}, "expected a receipt with the fields"),
        ({"proof": "gone"}, "expected a receipt with the fields"),
        ({"policy": ""}, "expected a receipt with the fields"),
        ({"entry": {}}, "expected str as entry of a receipt, got dict"),
        ({"proof": None}, "expected str as proof of a receipt, got NoneType"),
        ({"secret": None}, "expected str as secret of a receipt, got NoneType"),
        ({"secret": "AA=="}, "expected 32 bytes in base64, got 1"),
        ({"secret": "!"}, "expected canonical padded base64"),
        ({"commitment": "gone"}, "expected a commitment beside disclosures"),
        (
            {"commitment": "gone", "disclosures": "gone"},
            "expected a commitment beside disclosures and secret",
        ),
        ({"commitment": []}, "expected dict as commitment of a receipt, got list"),
        ({"commitment": {}}, "expected a commitment with the fields salt"),
        (
            {"commitment": {**GOOD["commitment"], "n": 2}},
            "a commitment with the fields",
        ),
        ({"commitment": {**GOOD["commitment"], "salt": "AA=="}}, "16 bytes in base64"),
        (
            {"commitment": {**GOOD["commitment"], "hashes": ["AA=="]}},
            "32 bytes in base",
        ),
        ({"commitment": {**GOOD["commitment"], "hashes": [1]}}, "canonical padded"),
        (
            {"commitment": {**GOOD["commitment"], "requestSize": -1}},
            r"a size from 0 to 2\^53-1",
        ),
        (
            {"commitment": {**GOOD["commitment"], "requestSize": True}},
            "int as requestSi",
        ),
        ({"disclosures": []}, "expected a canonical receipt"),
        ({"disclosures": [1]}, "expected a disclosure with the fields"),
        (
            {"disclosures": [LEAF, LEAF]},
            "each index and each path to be disclosed once",
        ),
        (
            {"disclosures": [LEAF, {**LEAF, "index": 9}]},
            "each index and each path to be",
        ),
        ({"disclosures": [LEAF, {**LEAF, "path": "request/a"}]}, "each index and each"),
        (
            {"disclosures": [{**LEAF, "index": -1}]},
            r"expected an index from 0 to 2\^53-1",
        ),
        ({"disclosures": [{**LEAF, "index": False}]}, "expected int as index"),
        ({"disclosures": [{**LEAF, "salt": ""}]}, "expected 16 bytes in base64, got 0"),
        ({"disclosures": [{**LEAF, "value": "AB=="}]}, "canonical padded base64"),
        ({"anchors": []}, "expected a canonical receipt"),
        ({"anchors": ["x"]}, "expected an anchor with the fields kind, proof"),
        (
            {"anchors": [{"kind": "x", "proof": "x", "evidence": None}]},
            "expected ASCII lines",
        ),
        (
            {"anchors": [{"kind": 1, "proof": "", "evidence": 1}]},
            "expected str as kind",
        ),
        (
            {"anchors": [{"kind": "x", "proof": PROOF.decode()}]},
            "expected an anchor with the fields kind, proof, evidence",
        ),
        (
            {
                "anchors": [
                    {"kind": "x", "proof": PROOF.decode(), "evidence": 1, "y": 1}
                ]
            },
            "expected an anchor with the fields kind, proof",
        ),
        ({"related": []}, "expected a canonical receipt"),
        ({"related": [{}]}, "expected a related entry with the fields rel, entry"),
        (
            {"related": [{"rel": "gap", "entry": "", "proof": ""}]},
            "expected a relation we know, got 'gap'",
        ),
    ],
    ids=range(38),
)
def test_other_fields_and_values_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_receipt(edited(**changes))


@pytest.mark.parametrize(
    "path",
    [
        "",
        "request ",
        "Request",
        "requests",
        "request:",
        "request:decoded/a",
        "request~",
        "request/a~",
        "request/~2",
        "request#",
        "request#01",
        "request#-1",
        "request#1a",
        "response#1#2",
        "context",
        "context/",
        "context/Target",
        "context/a/b",
        "context/é",
        "context/a\n",
        "request/" + "a" * 1017,
        "request" + "/a" * 500_000,
        "request/" + "a~" * 500_000,
    ],
    ids=lambda path: path[:30] + str(len(path)),
)
def test_paths_are_those_of_formats(path: str) -> None:
    with pytest.raises(MalformedError, match="expected a path to content"):
        parse_receipt(edited(disclosures=[{**LEAF, "path": path}]))


def test_a_receipt_has_one_spelling() -> None:
    data = format_receipt(FULL)
    assert b"/score" in data
    for other in (
        data[:-1],
        data + b"\n",
        b" " + data,
        data.replace(b",", b", ", 1),
        data.replace(b"/score", b"\\/score", 1),
        data.replace(b"\xe2\x80\x94", b"\\u2014", 1),
        json.dumps(dict(reversed(json.loads(data).items()))).encode() + b"\n",
    ):
        assert other != data
        with pytest.raises(MalformedError, match="expected a canonical receipt"):
            parse_receipt(other)
    with pytest.raises(MalformedError, match="expected unique names"):
        parse_receipt(data.replace(b'{"anchors"', b'{"schema":"","anchors"', 1))


def test_other_writers_may_leave_the_checksum_out_and_spell_as_they_like() -> None:
    receipt = replace(FULL, proof=LOG.proof(0, extra=None))
    fields = json.loads(format_receipt(receipt))
    for other in (
        json.dumps(fields),
        json.dumps(fields, indent=2) + "\n",
        json.dumps(dict(reversed(fields.items())), ensure_ascii=False),
    ):
        assert parse_receipt(other.encode()) == receipt
    with pytest.raises(MalformedError, match="expected unique names"):
        parse_receipt(b'{"schema":"","schema":""}')


def test_receipts_are_at_most_16_mib() -> None:
    value = Disclosure(2, "request/a", bytes(16), bytes(12 << 20))
    with pytest.raises(MalformedError, match="a receipt of at most 16777216 bytes"):
        format_receipt(replace(FULL, disclosures=(value,)))
    with pytest.raises(MalformedError, match="at most 16777216 bytes of JSON"):
        parse_receipt(b" " * ((16 << 20) + 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"entry": b"\xff"}, "expected entry and proof in UTF-8"),
        ({"proof": b"\xff"}, "expected entry and proof in UTF-8"),
        ({"secret": b""}, "expected 32 bytes in base64, got 0"),
        ({"opening": None}, "expected a commitment beside"),
        ({"anchors": (Anchor("x", PROOF, 1.5),)}, "decimals are written as strings"),
        ({"anchors": (Anchor("x", b"\xff", 1),)}, "expected entry and proof in UTF-8"),
        ({"related": (Related("gap", b"", b""),)}, "expected a relation we know"),
    ],
    ids=range(7),
)
def test_what_no_receipt_may_hold_is_not_written(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(MalformedError, match=message):
        format_receipt(replace(FULL, **changes))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "rfc3162"},
        {"evidence": {"token": "AA=="}, "kind": "evm"},
        {"evidence": {"token": "AB=="}},
        {"evidence": {"token": "AA==", "more": 1}},
        {"proof": LOG.proof(1, extra=None)},
        {"proof": LOG.proof(0, extra=b"")},
        {"proof": LOG.proof(0, extra=bytes(32))},
    ],
    ids=range(7),
)
def test_damage_of_an_anchor_shows_to_those_who_cannot_check_it(
    change: dict[str, Any],
) -> None:
    (anchor,) = FULL.anchors
    extra = parse_tlog_proof(anchor.proof).extra
    changed = anchor._replace(**change)
    if "proof" in change and parse_tlog_proof(changed.proof).extra is None:
        proof = parse_tlog_proof(changed.proof)._replace(extra=extra)
        changed = changed._replace(proof=format_tlog_proof(proof))
    with pytest.raises(
        MalformedError, match=r"^expected an anchor as issued, got a changed one$"
    ):
        parse_receipt(format_receipt(replace(FULL, anchors=(changed,))))


def test_others_may_leave_the_checksum_of_an_anchor_out() -> None:
    anchor = Anchor("x", LOG.proof(0, extra=None), 1)
    receipt = replace(FULL, anchors=(anchor,))
    assert parse_receipt(format_receipt(receipt)).anchors == (anchor,)


JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(st.binary() | JSON.map(json.dumps).map(str.encode))
def test_any_bytes_are_a_receipt_or_our_error(data: bytes) -> None:
    with pytest.raises(AuditLogError):
        parse_receipt(data)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), JSON))
def test_any_field_gives_a_receipt_or_our_error(changes: dict[str, Any]) -> None:
    data = json.dumps({**GOOD, **changes}, sort_keys=True, separators=(",", ":"))
    try:
        receipt = parse_receipt(data.encode() + b"\n")
    except AuditLogError:
        return
    assert parse_receipt(format_receipt(receipt)) == receipt
