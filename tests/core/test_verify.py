"""Receipts that verify, what they then claim, and everything that is refused."""

import base64
import gzip
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.checkpoint import parse_policy
from auditlog.core.commitment import CHUNK, chunks, commitment_digest, members
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.merkle import leaf_hash
from auditlog.core.note import COSIGNATURE_ED25519, ED25519, ML_DSA_44, make_signer
from auditlog.core.pieces import TEXT, frame, split_body
from auditlog.core.proof import format_tlog_proof, parse_tlog_proof
from auditlog.core.receipt import (
    Anchor,
    Opening,
    Related,
    format_receipt,
    parse_receipt,
)
from auditlog.core.record import Entry, format_entry, format_id, parse_entry
from auditlog.core.verify import (
    Check,
    compare_receipts,
    contradictions,
    verify_entry,
    verify_receipt,
)
from tests.receipts import ORIGIN, TIME, Decision, MemoryLog, make_decision, make_id

REQUEST = b'{"age": 41, "income": 52000, "name": "Ada"}'
MEMBERS = members("request", REQUEST, 1) or []


def log_of(*decisions: Decision, **options: Any) -> MemoryLog:
    """A small log with Ed25519 keys: a decision before, these, and two after."""
    log = MemoryLog(**{"types": (ED25519,), **options})
    log.add(make_decision(100).entry, *(item.entry for item in decisions))
    log.add(make_decision(101).entry, make_decision(102).entry)
    return log


def names(checks: tuple[Check, ...]) -> list[str]:
    return [check.name for check in checks]


def refused(decision: Decision, *paths: str, match: str, **changes: Any) -> None:
    """Expect the receipt of a decision, put into a log, to be refused."""
    log = log_of(decision)
    data = log.receipt(decision, *paths, **changes)
    with pytest.raises(VerificationError, match=match):
        verify_receipt(data, log.policy())


# --- what verifies, and what is said of it --------------------------------------------


def test_a_bare_receipt_claims_inclusion_and_nothing_of_content() -> None:
    decision = make_decision()
    log = log_of(decision, types=(ED25519, ML_DSA_44))
    verdict = verify_receipt(log.receipt(decision), log.policy())
    assert verdict.claim == (
        f"decision {verdict.id} of 2026-11-18T11:06:40.000000Z is entry 1 of the log "
        f"{ORIGIN}, signed by the operator and cosigned by 1 of 1 witnesses"
    )
    signers, witness = ", ".join(verdict.signers), ", ".join(verdict.witnesses)
    moment = "2026-11-18T11:06:40.000000Z"
    assert verdict.checks == (
        ("entry", f"decision {verdict.id} of {moment}, canonical, of {ORIGIN}"),
        ("signature", signers),
        ("witnesses", f"quorum quorum-of-all by {witness}"),
        ("inclusion", "leaf 1 of 4, by 2 hashes"),
    )
    assert (verdict.origin, verdict.index, verdict.size) == (ORIGIN, 1, 4)
    assert verdict.entry_type == "auditlog.decision.v1"
    assert verdict.leaf == leaf_hash(decision.entry)
    ed25519, ml_dsa = (signer.verifier for signer in log.signers)
    assert verdict.signers == (f"{ed25519.key} (Ed25519)", f"{ml_dsa.key} (ML-DSA-44)")
    key = log.witnesses[0].verifier.key
    expected = f"w0, {key} (Ed25519), at 2026-11-18T11:06:40Z"
    assert verdict.witnesses == (expected,)
    assert verdict.disclosed == ()
    assert verdict.not_proven == (
        "that no other decision was left out of the log",
        "that what the operator recorded is true, or that this model made it",
        "when it happened: the time in the entry is the operator's own",
        "that no later entry amends it, but those that are told here",
        "that the witnesses are independent of the operator",
        "that it existed earlier than a witness says to have signed",
        "anything about content: none of it is disclosed",
    )


def test_without_a_quorum_another_view_may_exist() -> None:
    decision = make_decision()
    log = log_of(decision)
    verdict = verify_receipt(log.receipt(decision), log.policy("none"))
    assert verdict.claim.endswith("signed by the operator only; another view may exist")
    point = "that nobody was shown another view: no witness was required"
    assert point in verdict.not_proven
    assert "witnesses" not in names(verdict.checks)


def test_witnesses_are_counted() -> None:
    decision = make_decision()
    log = log_of(decision, witness_types=(COSIGNATURE_ED25519, ML_DSA_44))
    verdict = verify_receipt(log.receipt(decision), log.policy())
    assert verdict.claim.endswith("cosigned by 2 of 2 witnesses")
    assert [text.split(",")[0] for text in verdict.witnesses] == ["w0", "w1"]
    assert "(ML-DSA-44)" in verdict.witnesses[1]
    by = ", ".join(verdict.witnesses)
    assert verdict.checks[2] == ("witnesses", f"quorum quorum-of-all by {by}")
    assert ", " in verdict.checks[2].detail


def test_a_parsed_policy_will_do() -> None:
    decision = make_decision()
    log = log_of(decision)
    data, policy = log.receipt(decision, "request"), log.policy()
    assert verify_receipt(data, policy) == verify_receipt(data, parse_policy(policy))
    entry, proof = decision.entry, log.proof(1)
    parsed = verify_entry(entry, proof, parse_policy(policy))
    assert parsed == verify_entry(entry, proof, policy)


def test_disclosures_open_leaves_one_by_one() -> None:
    decision = make_decision()
    log = log_of(decision)
    data = log.receipt(decision, "request/age", "context/target")
    verdict = verify_receipt(data, log.policy())
    assert verdict.disclosed == (("request/age", b"41"), ("context/target", b"/score"))
    assert names(verdict.checks)[-2:] == ["commitment", "disclosures"]
    assert verdict.checks[-2].detail == "8 leaves; request 43 bytes, response 37"
    assert verdict.checks[-1].detail == "2 of 8 leaves, as committed to"
    assert verdict.not_proven[-1] == "anything about the 6 undisclosed leaves"


def test_a_raw_body_is_split_again() -> None:
    decision = make_decision()
    log = log_of(decision)
    data = log.receipt(decision, "request", "request/age", "request/name")
    verdict = verify_receipt(data, log.policy())
    assert verdict.checks[-1] == Check(
        "members", "2 of 3, as they stand in the request"
    )
    alone = verify_receipt(log.receipt(decision, "response"), log.policy())
    assert names(alone.checks)[-1] == "disclosures"


def test_the_secret_opens_everything() -> None:
    decision = make_decision()
    log = log_of(decision)
    data = log.receipt(decision, "request", "response", full=True)
    verdict = verify_receipt(data, log.policy())
    assert names(verdict.checks) == [
        *("entry", "signature", "witnesses", "inclusion"),
        *("commitment", "disclosures", "secret", "full opening"),
    ]
    assert verdict.checks[-1].detail == "every member of both bodies"
    partial = log.receipt(decision, "request", full=True)
    verdict = verify_receipt(partial, log.policy())
    assert verdict.checks[-1] == (
        "secret",
        "its salt and those of 1 of 8 leaves follow from it",
    )
    every = log.receipt(decision, *(path for path, _ in decision.leaves), full=True)
    verdict = verify_receipt(every, log.policy())
    assert not any("undisclosed" in point for point in verdict.not_proven)


@pytest.mark.parametrize("depth", [0, 1, 2, 8])
def test_any_depth_opens(depth: int) -> None:
    body = b'{"instances": [[1, 2], [3]], "x": {"y": null}}'
    decision = make_decision(request=body, response=b"not JSON", depth=depth)
    log = log_of(decision)
    every = log.receipt(decision, *(path for path, _ in decision.leaves), full=True)
    verdict = verify_receipt(every, log.policy())
    assert len(verdict.disclosed) == 3 + len(members("request", body, depth) or ())
    assert names(verdict.checks)[-1] == "full opening"


def test_the_entries_of_other_types_have_receipts_too() -> None:
    log = log_of()
    entry = Entry(make_id(7), "auditlog.gap.v1", ORIGIN, TIME, {"from": 1})
    at = log.add(format_entry(entry))
    verdict = verify_entry(log.entries[at], log.proof(at), log.policy())
    assert verdict.entry_type == "auditlog.gap.v1"
    assert verdict.claim.startswith("gap 01a1ee56-")
    receipt = replace(
        parse_receipt(log.receipt(Decision(log.entries[at], b"", (), None))),  # type: ignore[arg-type]
    )
    assert verify_receipt(format_receipt(receipt), log.policy()) == verdict
    opening = make_decision().opening
    with pytest.raises(VerificationError, match="expected a decision, got an entry of"):
        verify_receipt(format_receipt(replace(receipt, opening=opening)), log.policy())


def amendment_of(decision: Decision, *without: str) -> Decision:
    """Return an amendment with the content of a decision."""
    entry = parse_entry(decision.entry)
    kept = {name: entry.data[name] for name in {*entry.data} - {*without}}
    amended = replace(entry, type="auditlog.amendment.v1", data=kept)
    return replace(decision, entry=format_entry(amended))


def test_an_amendment_opens_part_by_part_as_a_decision_does() -> None:
    said = {"outcome": b'{"result":{"label":"paid"}}', "user": b'{"by":"Kim"}'}
    amendment = amendment_of(make_decision(request=b"", response=b"", context=said))
    log = log_of(amendment)
    data = log.receipt(amendment, "context/outcome")
    verdict = verify_receipt(data, log.policy())
    assert verdict.entry_type == "auditlog.amendment.v1"
    assert verdict.disclosed == (("context/outcome", said["outcome"]),)
    assert base64.b64encode(said["user"]) not in data
    receipt = parse_receipt(data)
    lie = receipt.disclosures[0]._replace(value=b'{"result":{"label":"lost"}}')
    with pytest.raises(VerificationError, match="expected"):
        verify_receipt(
            format_receipt(replace(receipt, disclosures=(lie,))), log.policy()
        )


@pytest.mark.parametrize("kind", ["access", "erasure", "model"])
def test_what_other_entries_commit_to_opens_part_by_part(kind: str) -> None:
    decision = make_decision(request=b"", response=b"", context={"subject": b'"Kim"'})
    entry = replace(parse_entry(decision.entry), type=f"auditlog.{kind}.v1")
    other = replace(decision, entry=format_entry(entry))
    log = log_of(other)
    verdict = verify_receipt(log.receipt(other, "context/subject"), log.policy())
    assert verdict.entry_type == entry.type
    assert verdict.disclosed == (("context/subject", b'"Kim"'),)


def test_an_amendment_without_a_commitment_opens_nothing() -> None:
    amendment = amendment_of(make_decision(), "commitment")
    log = log_of(amendment)
    with pytest.raises(MalformedError, match="expected a commitment with the fields"):
        verify_receipt(log.receipt(amendment, "request"), log.policy())


# --- every one-byte change is refused -------------------------------------------------


def exhaustive() -> tuple[bytes, str]:
    decision = make_decision(request=b'{"a":1}', response=b'{"b":[2]}')
    log = log_of(decision)
    data = log.receipt(decision, "request", "request/a", "context/target", full=True)
    return data, log.policy()


def refuse(data: bytes, policy: Any) -> None:
    try:
        verdict = verify_receipt(data, policy)
    except (MalformedError, VerificationError):
        return
    raise AssertionError(f"verified, damaged: {verdict.claim}: {data!r}")


@pytest.mark.slow
def test_every_byte_matters() -> None:
    data, text = exhaustive()
    policy = parse_policy(text)
    verify_receipt(data, policy)
    for at in range(len(data)):
        byte = data[at]
        others = {byte ^ 1, byte ^ 0x20, byte ^ 0x80, ord("A"), ord("0"), 0} - {byte}
        changed = [data[:at] + bytes([other]) + data[at + 1 :] for other in others]
        changed.append(data[:at] + data[at + 1 :])
        changed += [data[:at] + extra + data[at:] for extra in (b"0", b" ", b"\n")]
        for damaged in changed:
            if damaged != data:
                refuse(damaged, policy)
    for extra in (b"0", b" ", b"\n", b"\0"):
        refuse(data + extra, policy)


@pytest.mark.slow
def test_every_value_of_some_bytes_matters() -> None:
    data, text = exhaustive()
    policy = parse_policy(text)
    for at in range(7, len(data), 101):
        for other in set(range(256)) - {data[at]}:
            refuse(data[:at] + bytes([other]) + data[at + 1 :], policy)


def test_a_damaged_signature_of_a_stranger_shows() -> None:
    # By the rules of notes, the lines of unknown keys are ignored: the checksum is
    # what makes their damage show.
    decision = make_decision()
    log = log_of(decision)
    policy = MemoryLog(types=(ED25519,), witness_types=()).policy("none")
    data = log.receipt(decision)
    verify_receipt(data, policy)
    line = log.checkpoint().splitlines()[-1]
    damaged = data.replace(line[-9:-4], b"AAAAA", 1)
    with pytest.raises(
        VerificationError,
        match=r"^expected the checkpoint as issued, got a changed note$",
    ):
        verify_receipt(damaged, policy)
    start = data.index(line)
    for at in range(start, start + len(line)):
        for other in (data[at] ^ 1, data[at] ^ 0x20):
            refuse(data[:at] + bytes([other]) + data[at + 1 :], policy)
    unsummed = log.receipt(decision, proof=log.proof(1, extra=None))
    assert verify_receipt(unsummed, policy).index == 1


@given(st.data())
def test_damage_to_large_receipts_is_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(LARGE) - 1))
    put = data.draw(st.binary(max_size=2))
    damaged = LARGE[:at] + put + LARGE[at + data.draw(st.integers(0, 2)) :]
    if damaged != LARGE:
        refuse(damaged, LARGE_POLICY)


def large() -> tuple[bytes, Any]:
    decision = make_decision()
    log = log_of(
        decision,
        types=(ED25519, ML_DSA_44),
        witness_types=(COSIGNATURE_ED25519, ML_DSA_44),
    )
    at = log.add(format_entry(Entry(make_id(7), "auditlog.key.v1", ORIGIN, TIME, {})))
    related = (Related("key", log.entries[at], log.proof(at)),)
    data = log.receipt(decision, "request", "request/age", full=True, related=related)
    return data, parse_policy(log.policy())


LARGE, LARGE_POLICY = large()


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    for receipt in (data, b'{"entry":%b}\n' % data):
        with pytest.raises(AuditLogError):
            verify_receipt(receipt, LARGE_POLICY)
        with pytest.raises(AuditLogError):
            verify_entry(receipt, receipt, LARGE_POLICY)
    with pytest.raises(AuditLogError):
        verify_receipt(LARGE, data.decode("latin-1"))


# --- whom to believe ------------------------------------------------------------------


def test_the_policy_decides() -> None:
    decision = make_decision()
    log = log_of(decision)
    data = log.receipt(decision)
    stranger = MemoryLog("other.example", types=(ED25519,)).policy("none")
    with pytest.raises(UntrustedError, match="expected an origin of the policy"):
        verify_receipt(data, stranger)
    other = make_signer(ORIGIN, ED25519, bytes(32)).verifier.vkey
    with pytest.raises(UntrustedError, match="expected a signature by"):
        verify_receipt(data, f"log {other}\nquorum none\n")
    with pytest.raises(MalformedError, match="expected a quorum line"):
        verify_receipt(data, f"log {other}\n")


def test_the_quorum_must_be_met() -> None:
    decision = make_decision()
    log = log_of(decision, witness_types=(COSIGNATURE_ED25519, COSIGNATURE_ED25519))
    note = log.checkpoint(cosigners=log.witnesses[:1])
    data = log.receipt(decision, proof=log.proof(1, note=note))
    assert len(verify_receipt(data, log.policy("any")).witnesses) == 1
    assert len(verify_receipt(data, log.policy("w0")).witnesses) == 1
    for quorum in ("all", "2", "w1"):
        with pytest.raises(UntrustedError, match="expected the quorum"):
            verify_receipt(data, log.policy(quorum))


def test_a_post_quantum_signature_can_be_demanded() -> None:
    decision = make_decision()
    log = log_of(decision)
    with pytest.raises(UntrustedError, match="an ML-DSA signature of the log"):
        verify_receipt(log.receipt(decision), log.policy(), require_pq=True)
    with pytest.raises(UntrustedError, match="an ML-DSA signature of the log"):
        verify_entry(decision.entry, log.proof(1), log.policy(), require_pq=True)
    both = log_of(decision, types=(ED25519, ML_DSA_44))
    verify_receipt(both.receipt(decision), both.policy(), require_pq=True)
    verify_entry(decision.entry, both.proof(1), both.policy(), require_pq=True)
    # A key that the policy does not list counts for nothing.
    with pytest.raises(UntrustedError, match="an ML-DSA signature of the log"):
        verify_receipt(both.receipt(decision), log.policy(), require_pq=True)
    # Related entries are held to it too.
    decision = make_decision(data=ON_MODEL)
    both = MemoryLog(types=(ED25519, ML_DSA_44))
    at = both.add(format_entry(MODEL))
    both.add(decision.entry)
    weak = replace(both, types=(ED25519,))
    related = (Related("model", both.entries[at], weak.proof(at)),)
    data = both.receipt(decision, related=related)
    verify_receipt(data, both.policy())
    with pytest.raises(UntrustedError, match="an ML-DSA signature of the log"):
        verify_receipt(data, both.policy(), require_pq=True)


def test_an_entry_of_another_log_is_refused() -> None:
    decision = make_decision(origin="other.example")
    refused(decision, match="an entry of the log 'log.example/credit', got one of 'oth")


def test_a_proof_for_another_place_is_refused() -> None:
    decision = make_decision()
    log = log_of(decision)
    proof = parse_tlog_proof(log.proof(1))
    for changed in (
        proof._replace(index=0),
        proof._replace(index=3),
        proof._replace(index=4),
        proof._replace(hashes=proof.hashes[::-1]),
        proof._replace(hashes=proof.hashes[:-1]),
        proof._replace(hashes=()),
    ):
        data = log.receipt(decision, proof=format_tlog_proof(changed))
        with pytest.raises(AuditLogError):
            verify_receipt(data, log.policy())
    missing = make_decision(9)
    log.entries[1:2] = [missing.entry]
    data = log.receipt(missing, proof=format_tlog_proof(proof))
    with pytest.raises(VerificationError):
        verify_receipt(data, log.policy())


# --- dishonest content ----------------------------------------------------------------


def test_another_commitment_is_refused() -> None:
    decision = make_decision()
    other = make_decision(request=b"{}")
    opening = decision.opening
    match = "expected the commitment of the entry, got another"
    refused(decision, match=match, opening=other.opening)
    for changed in (
        opening._replace(salt=bytes(16)),
        opening._replace(request_size=1),
        opening._replace(response_size=1),
        opening._replace(hashes=opening.hashes[:-1]),
        opening._replace(hashes=opening.hashes[::-1]),
    ):
        refused(decision, match=match, opening=changed)
    log = log_of(decision)
    short = opening._replace(hashes=opening.hashes[:1])
    with pytest.raises(MalformedError, match="expected two leaves or more"):
        verify_receipt(log.receipt(decision, opening=short), log.policy())


def test_another_disclosure_is_refused() -> None:
    decision = make_decision()
    (leaf,) = decision.disclose("request/age")
    for changed in (
        leaf._replace(index=3),
        leaf._replace(path="request/name"),
        leaf._replace(salt=bytes(16)),
        leaf._replace(value=b"42"),
    ):
        refused(
            decision,
            match=r"expected leaf [23] of the commitment, got another 'request/",
            opening=decision.opening,
            disclosures=(changed,),
        )
    refused(
        decision,
        match="got 'request/age' as leaf 8 of 8",
        opening=decision.opening,
        disclosures=(leaf._replace(index=8),),
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"commitment": None}, "expected a commitment with the fields"),
        ({"commitment": {"depth": 9, "v": 1}}, "version 1 and depth 0 to 8"),
        ({"commitment": {"depth": -1, "v": 1}}, "version 1 and depth 0 to 8"),
        ({"commitment": {"depth": 1, "v": 2}}, "version 1 and depth 0 to 8"),
        ({"commitment": {"depth": 1}}, "expected a commitment with the fields"),
        ({"commitment": {"depth": 1, "v": 1, "x": 1}}, "a commitment with the fields"),
        ({"commitment": {"depth": "1", "v": 1}}, "expected int as depth"),
        ({"commitment": {"depth": 1, "digest": "AA==", "v": 1}}, "hash of 32 bytes"),
        ({"request": None}, "expected a request with the fields"),
        ({"response": {"split": "json"}}, "expected a response with the fields"),
        (
            {"response": {"mediaType": "x", "state": "complete", "split": "xml"}},
            "expected a split and a state of ours, got 'xml', 'complete'",
        ),
        (
            {"request": {"mediaType": "x", "state": "lost", "split": "json"}},
            "expected a split and a state of ours, got 'json', 'lost'",
        ),
        (
            {"commitment": {"depth": 0, "v": 1}},
            "expected no members at depth 0, got json",
        ),
    ],
    ids=range(13),
)
def test_a_malformed_decision_is_no_evidence(
    fields: dict[str, Any], message: str
) -> None:
    block = fields.get("commitment")
    if block and "digest" not in block and block.keys() >= {"depth", "v"}:
        digest = base64.b64encode(make_decision().commitment.digest).decode()
        fields = {"commitment": {"digest": digest, **block}}
    decision = make_decision(data=fields)
    log = log_of(decision)
    with pytest.raises(MalformedError, match=message):
        verify_receipt(log.receipt(decision, "request"), log.policy())


def test_a_size_that_is_a_lie_is_refused() -> None:
    honest = make_decision()
    for side, opening in (
        ("request", honest.opening._replace(request_size=5)),
        ("response", honest.opening._replace(response_size=5)),
    ):
        digest = base64.b64encode(commitment_digest(*opening)).decode()
        block = {"depth": 1, "digest": digest, "v": 1}
        liar = make_decision(data={"commitment": block})
        refused(liar, side, match=f"expected 5 bytes as {side}, got", opening=opening)


@pytest.mark.parametrize(
    ("leaves", "paths", "message"),
    [
        (
            [("request", b"x")],
            ["request"],
            "expected leaf 0 to be the request, leaf 1 the resp",
        ),
        (
            [("response", b"x")],
            ["response"],
            "expected leaf 0 to be the request, leaf 1 the resp",
        ),
        (
            [("context/a", b""), ("request/age", b"41")],
            ["context/a", "request/age"],
            "expected leaves in the order of their paths",
        ),
        (
            [("response/score", b""), ("request/age", b"41")],
            ["response/score", "request/age"],
            "expected leaves in the order of their paths",
        ),
        (
            [("context/b", b""), ("context/a", b"")],
            ["context/b", "context/a"],
            "expected leaves in the order of their paths",
        ),
        (
            [("request/age", b"42")],
            ["request", "request/age"],
            "expected 'request/age' as it stands in the request, got another",
        ),
        (
            [("request/age", b"41 ")],
            ["request", "request/age"],
            "expected 'request/age' as it stands in the request, got another",
        ),
        (
            [("request/score", b"1")],
            ["request", "request/score"],
            "expected 'request/score' as it stands in the request, got another",
        ),
        (
            [("response/score", b"0.1")],
            ["response", "response/score"],
            "expected 'response/score' as it stands in the response, got another",
        ),
        (
            [("request/income", b"52000"), ("request/age", b"41")],
            ["request", "request/age", "request/income"],
            "expected members at the places that a disclosed body gives",
        ),
        (
            [("request/name", b'"Ada"')],
            ["request", "request/name"],
            "expected members at the places that a disclosed body gives",
        ),
        (
            [("request/age", b"41")],
            ["request", "request/age"],
            "expected members at the places that a disclosed body gives",
        ),
        (
            [("context/a", b""), *MEMBERS],
            ["request", "context/a"],
            "expected members at the places that a disclosed body gives",
        ),
        (
            [("response/score", b"0.8731"), *MEMBERS],
            ["request", "response/score"],
            "expected members at the places that a disclosed body gives",
        ),
        (
            [("request:decoded", REQUEST), ("context/a", b"")],
            ["request:decoded", "context/a"],
            "expected members at the places that a disclosed body gives",
        ),
        (
            [*MEMBERS, ("request:decoded", REQUEST)],
            ["request:decoded"],
            "got 'request:decoded' as leaf 5 of 6",
        ),
        (
            [("request:decoded", b"{}"), *MEMBERS, ("response:decoded", b"{}")],
            ["response:decoded"],
            "got 'response:decoded' as leaf 6 of 7",
        ),
    ],
    ids=range(17),
)
def test_a_dishonest_operator_is_caught_by_what_is_disclosed(
    leaves: list[tuple[str, bytes]], paths: list[str], message: str
) -> None:
    decision = make_decision(leaves=leaves)
    disclosures = tuple(
        item
        for path in paths
        for item in decision.disclose(path)
        if paths != [path] or item.index > 1
    )
    refused(decision, match=message, opening=decision.opening, disclosures=disclosures)


@pytest.mark.parametrize(
    "body",
    [b'{"age":17,"age":41}', b"age=17", b'\xef\xbb\xbf{"age":17}', b'["age"', b""],
)
def test_a_text_without_members_has_none_to_disclose(body: bytes) -> None:
    decision = make_decision(
        request=body, leaves=[("request/age", b"41")], split={"request": "json"}
    )
    match = "expected members in request, split as json, got none"
    refused(decision, "request", "request/age", match=match)
    refused(decision, "request", match=match)


def test_what_was_not_observed_is_not_passed_off_as_empty() -> None:
    fields = {"mediaType": "application/json", "state": "unread", "split": "none"}
    decision = make_decision(request=b"", data={"request": fields})
    log = log_of(decision)
    verdict = verify_receipt(log.receipt(decision, "request"), log.policy())
    detail = next(c.detail for c in verdict.checks if c.name == "commitment")
    assert detail == "5 leaves; request 0 bytes, response 37; request unread"


def test_a_single_member_proves_only_the_commitment_to_it() -> None:
    decision = make_decision(leaves=[("request/age", b"42")])
    log = log_of(decision)
    verdict = verify_receipt(log.receipt(decision, "request/age"), log.policy())
    assert "members" not in names(verdict.checks)
    assert verdict.not_proven[-1] == "anything about the 2 undisclosed leaves"


def test_members_of_a_response_follow_those_of_the_request() -> None:
    response = [("response/decision", b'"approve"'), ("response/score", b"0.8731")]
    decision = make_decision(leaves=response)  # those of the request are left out
    log = log_of(decision)
    verify_receipt(log.receipt(decision, "response", "response/score"), log.policy())
    match = "expected members at the places that a disclosed body gives"
    refused(decision, "request", "response", "response/score", match=match)


def test_members_of_a_response_alone_keep_their_places() -> None:
    match = "expected members at the places that a disclosed body gives"
    score, decision = ("response/score", b"0.8731"), ("response/decision", b'"approve"')
    paths = ("response", "response/score", "response/decision")
    swapped = make_decision(leaves=[score, decision])
    refused(swapped, *paths, match=match)
    refused(make_decision(leaves=[score]), *paths[:2], match=match)
    cut_off = make_decision(leaves=[decision])
    refused(cut_off, paths[0], paths[2], match=match)
    # What comes before them takes the place of one that is not disclosed.
    age = ("request/age", b"41")
    pushed = make_decision(leaves=[decision, age, score])
    refused(pushed, "response", "request/age", "response/score", match=match)


def test_members_of_a_request_stand_side_by_side() -> None:
    found = members("request", REQUEST, 1)
    assert found is not None
    age, income, name = found
    strangers = [("context/a", b""), ("context/b", b"")]
    apart = make_decision(leaves=[age, income, *strangers, name])
    match = "expected members at the places that a disclosed body gives"
    refused(apart, "request", "request/income", "request/name", match=match)


def test_a_body_that_was_not_split_has_no_members() -> None:
    for split, path in (("none", "request/age"), ("sse", "request/age")):
        decision = make_decision(split={"request": split})
        match = f"expected no 'request/age' of a request split as {split}"
        refused(decision, path, match=match)
    decision = make_decision(leaves=[("response#0", b"x")])
    match = "expected no 'response#0' of a response split as json"
    refused(decision, "response#0", match=match)


STREAM = b"data: 1\n\ndata: 2\r\n\r\ndata: 3"
FRAMES = b"".join(frame(2 * n, TEXT, b"turn %d" % n) for n in range(3))
NUMBERED = [("sse", STREAM), ("ws", FRAMES)]


def pieces(split: str, *leaves: tuple[str, bytes], body: bytes) -> Decision:
    """A decision with a response that is split so, and these leaves of it."""
    found = members("request", REQUEST, 1) or []
    return make_decision(
        response=body, leaves=[*found, *leaves], split={"response": split}
    )


def honest(split: str, body: bytes) -> list[tuple[str, bytes]]:
    found = split_body(split, "response", body, 1)
    assert found
    return found


@pytest.mark.parametrize(("split", "body"), NUMBERED)
def test_one_piece_of_a_stream_or_session_can_be_disclosed(
    split: str, body: bytes
) -> None:
    decision = pieces(split, *honest(split, body), body=body)
    log = log_of(decision)
    verdict = verify_receipt(log.receipt(decision, "response#1"), log.policy())
    expected = {"sse": b"data: 2\r\n\r\n", "ws": b"turn 1"}[split]
    assert verdict.disclosed == (("response#1", expected),)
    assert verdict.not_proven[-1] == "anything about the 7 undisclosed leaves"


@pytest.mark.parametrize(("split", "body"), NUMBERED)
def test_a_stream_or_session_is_cut_again(split: str, body: bytes) -> None:
    decision = pieces(split, *honest(split, body), body=body)
    log = log_of(decision)
    data = log.receipt(decision, "response", "response#0", "response#2")
    verdict = verify_receipt(data, log.policy())
    detail = "2 of 3, as they stand in the response"
    assert Check("members", detail) in verdict.checks
    data = log.receipt(decision, "request", "response", full=True)
    verdict = verify_receipt(data, log.policy())
    assert names(verdict.checks)[-1] == "full opening"


@pytest.mark.parametrize(("split", "body"), NUMBERED)
def test_a_piece_of_another_body_or_place_is_refused(split: str, body: bytes) -> None:
    found = honest(split, body)
    (_, first), (_, second), (_, third) = found
    swapped = [("response#0", second), ("response#1", first), found[2]]
    match = "expected 'response#0' as it stands in the response, got another value"
    refused(pieces(split, *swapped, body=body), "response", "response#0", match=match)
    match = "expected the members of both bodies, got other leaves"
    liars = [swapped, [*found[:2], ("response#2", third + b"!")]]
    for leaves in liars:
        liar = pieces(split, *leaves, body=body)
        refused(liar, "request", "response", full=True, match=match)
    match = "expected 'response#3' as it stands in the response, got another value"
    more = pieces(split, *found, ("response#3", b""), body=body)
    refused(more, "response", "response#3", match=match)


@pytest.mark.parametrize(("split", "body"), NUMBERED)
def test_a_body_with_a_piece_left_out_is_refused(split: str, body: bytes) -> None:
    found = honest(split, body)
    places = "expected pieces of the response at the places that their numbers give"
    fewer = pieces(split, found[0], found[2], body=body)
    refused(fewer, "response#0", "response#2", match=places)
    refused(fewer, "response", "response#0", "response#2", match=places)
    match = "expected members at the places that a disclosed body gives them"
    refused(fewer, "request", "response", "response#0", match=match)
    refused(fewer, "request", "response", full=True, match=match)


def test_pieces_stand_where_their_numbers_say_though_no_body_is_disclosed() -> None:
    found = honest("sse", STREAM)
    swapped = pieces("sse", found[0], found[2], found[1], body=STREAM)
    match = "expected pieces of the response at the places that their numbers give them"
    refused(swapped, "response#1", "response#2", match=match)
    early = make_decision(leaves=[("response#1", b"x")], split={"response": "sse"})
    refused(early, "response#1", match=match)


@pytest.mark.parametrize(
    ("split", "body"),
    [
        ("ws", STREAM),
        ("ws", FRAMES[:-1]),
        ("ws", FRAMES + FRAMES),
        ("ws", b"\xff"),
        ("json", STREAM),
        ("sse", b""),
    ],
)
def test_a_body_that_is_not_what_its_split_says_is_refused(
    split: str, body: bytes
) -> None:
    decision = pieces(split, ("response#0", b"turn 0"), body=body)
    match = f"expected members in response, split as {split}, got none"
    refused(decision, "response", match=match)


@pytest.mark.parametrize(
    ("split", "path"),
    [
        ("sse", "response/0"),
        ("ws", "response/0"),
        ("sse", "response#0/data"),
        ("ws", "response#0/a"),
        ("none", "response#0"),
        ("json", "response#0"),
    ],
)
def test_a_path_that_a_split_does_not_give_is_refused(split: str, path: str) -> None:
    match = f"expected no '{path}' of a response split as {split}, got 1 bytes"
    refused(pieces(split, (path, b"1"), body=STREAM), path, match=match)


def test_a_session_is_no_event_stream() -> None:
    # Frames can be text: then they would be one block of a stream.
    decision = pieces("sse", *honest("ws", FRAMES), body=FRAMES)
    match = "expected 'response#1' as it stands in the response, got another value"
    refused(decision, "response", "response#1", match=match)


def test_the_blocks_of_a_compressed_stream_are_those_of_its_decoded_form() -> None:
    found = honest("sse", STREAM)
    leaves = [("response:decoded", STREAM), *(members("request", REQUEST, 1) or ())]
    coded = gzip.compress(STREAM, mtime=0)
    decision = make_decision(
        response=coded, leaves=[*leaves, *found], split={"response": "sse"}
    )
    log = log_of(decision)
    paths = [path for path, _ in decision.leaves]
    verdict = verify_receipt(log.receipt(decision, *paths, full=True), log.policy())
    assert names(verdict.checks)[-1] == "full opening"
    # Without the decoded form it cannot be told: no alarm, and no claim.
    data = log.receipt(decision, "response", "response#1")
    verdict = verify_receipt(data, log.policy())
    assert verdict.not_proven[-1] == (
        "that what is disclosed of the response stands in its disclosed body, which "
        "was not split again (sse)"
    )
    liar = make_decision(
        response=coded,
        leaves=[*leaves, *honest("sse", STREAM[1:])],
        split={"response": "sse"},
    )
    match = "expected 'response#0' as it stands in the response, got another value"
    refused(liar, "response:decoded", "response#0", match=match)


@pytest.mark.parametrize(("split", "size"), [("ws", 14), ("chunks", 2_000_000)])
def test_what_is_cut_as_it_was_sent_has_no_decoded_form(split: str, size: int) -> None:
    leaves = [("response:decoded", FRAMES), *honest("ws", FRAMES)]
    liar = make_decision(
        response=frame(0, TEXT, b"other").ljust(size),
        leaves=leaves,
        split={"response": split},
    )
    match = f"expected no 'response:decoded' of a response split as {split}, got 45"
    refused(liar, "response", "response:decoded", match=match)
    refused(liar, "response:decoded", match=match)


def test_at_depth_0_a_large_body_is_cut_all_the_same() -> None:
    decision = make_decision(
        request=LARGE,
        depth=0,
        leaves=chunks("request", LARGE),
        split={"request": "chunks", "response": "none"},
    )
    log = log_of(decision)
    data = log.receipt(decision, "request", "request#3", "response", full=True)
    assert names(verify_receipt(data, log.policy()).checks)[-1] == "full opening"


LARGE = bytes(range(251)) * 4500
"""Over 1 MiB: 18 chunks, no two alike, the last one shorter."""


def cut(*leaves: tuple[str, bytes], request: bytes = LARGE) -> Decision:
    """A decision with a large request, whose further leaves these are."""
    return make_decision(request=request, leaves=leaves, split={"request": "chunks"})


def test_one_chunk_of_a_large_body_can_be_disclosed() -> None:
    decision = cut(*chunks("request", LARGE))
    log = log_of(decision)
    for path, size in (("request#0", CHUNK), ("request#17", len(LARGE) - 17 * CHUNK)):
        verdict = verify_receipt(log.receipt(decision, path), log.policy())
        ((found, value),) = verdict.disclosed
        assert (found, len(value)) == (path, size)
        assert value == LARGE[int(path[8:]) * CHUNK :][:CHUNK]
        assert verdict.not_proven[-1] == "anything about the 19 undisclosed leaves"


def test_a_large_body_is_cut_again() -> None:
    response = members("response", b'{"decision":"approve","score":0.8731}', 1) or []
    decision = cut(*chunks("request", LARGE), *response)
    log = log_of(decision)
    data = log.receipt(decision, "request", "request#3", "response/score")
    verdict = verify_receipt(data, log.policy())
    detail = "1 of 18, as they stand in the request"
    assert Check("members", detail) in verdict.checks
    data = log.receipt(decision, "request", "response", full=True)
    verdict = verify_receipt(data, log.policy())
    assert names(verdict.checks)[-1] == "full opening"


def test_another_chunk_than_the_body_has_is_refused() -> None:
    pairs = chunks("request", LARGE)
    pairs[3] = ("request#3", pairs[4][1])
    match = "expected 'request#3' as it stands in the request, got another value"
    refused(cut(*pairs), "request", "request#3", match=match)
    response = members("response", b'{"decision":"approve","score":0.8731}', 1) or []
    match = "expected the members of both bodies, got other leaves"
    refused(cut(*pairs, *response), "request", "response", full=True, match=match)


@pytest.mark.parametrize(
    ("path", "value", "request_"),
    [
        ("request#3", LARGE[: CHUNK - 1], LARGE),  # as long as no chunk is
        ("request#3", LARGE[: CHUNK + 1], LARGE),
        ("request#17", LARGE[:CHUNK], LARGE),  # the last one is shorter
        ("request#18", b"", LARGE),  # there is none after the last
        ("request#3/a", LARGE[:CHUNK], LARGE),
        ("request#0", LARGE[:CHUNK], LARGE[: 1 << 20]),  # 1 MiB is not cut
        ("request/a", b"1", LARGE),
    ],
)
def test_what_is_no_chunk_of_a_body_of_this_size_is_refused(
    path: str, value: bytes, request_: bytes
) -> None:
    match = f"expected no '{path}' of a request split as chunks, got {len(value)} bytes"
    refused(cut((path, value), request=request_), path, match=match)


def test_chunks_keep_their_places() -> None:
    pairs = chunks("request", LARGE)
    pairs[3], pairs[4] = pairs[4], pairs[3]
    match = "expected pieces of the request at the places that their numbers give them"
    refused(cut(*pairs), "request", "request#3", "request#4", match=match)


def compressed(*extra: tuple[str, bytes]) -> Decision:
    leaves = [("request:decoded", REQUEST), *extra]
    leaves += members("response", b'{"ok":true}', 1) or ()
    return make_decision(
        request=gzip.compress(REQUEST, mtime=0),
        response=b'{"ok":true}',
        leaves=leaves,
        split={"request": "json"},
    )


def test_the_members_of_a_compressed_body_are_those_of_its_decoded_one() -> None:
    decision = compressed(*(members("request", REQUEST, 1) or ()))
    log = log_of(decision)
    every = [path for path, _ in decision.leaves]
    verdict = verify_receipt(log.receipt(decision, *every, full=True), log.policy())
    assert names(verdict.checks)[-1] == "full opening"
    # Without the decoded body it cannot be told: no alarm, and no claim.
    data = log.receipt(decision, "request", "request/age", "response", full=True)
    verdict = verify_receipt(data, log.policy())
    assert names(verdict.checks)[-1] == "secret"
    assert "which was not split again (json)" in verdict.not_proven[-1]
    # Nor when these two leaves are all that is disclosed.
    data = log.receipt(decision, "request", "request/age")
    verdict = verify_receipt(data, log.policy())
    assert "which was not split again (json)" in verdict.not_proven[-1]


def test_a_decoded_body_is_not_decoded_again_and_the_verdict_says_so() -> None:
    decision = compressed(*(members("request", REQUEST, 1) or ()))
    log = log_of(decision)
    paths = ("request", "request:decoded", "request/age")
    verdict = verify_receipt(log.receipt(decision, *paths), log.policy())
    assert verdict.checks[-1].detail == "1 of 3, as they stand in the request:decoded"
    assert verdict.not_proven[-1] == (
        "that request:decoded is what the request decodes to"
    )


def test_a_stored_copy_is_not_what_crossed_the_wire_and_the_verdict_says_so() -> None:
    copies = {"stored.request": b'{"age": 0}', "stored.response": b"{}"}
    decision = make_decision(context=copies)
    log = log_of(decision)
    paths = [f"context/{name}" for name in copies]
    points = [
        f"that {path} crossed the wire: it is the operator's redacted copy"
        for path in paths
    ]
    verdict = verify_receipt(log.receipt(decision, *paths), log.policy())
    assert dict(verdict.disclosed) == dict(zip(paths, copies.values(), strict=True))
    assert verdict.not_proven[-2:] == tuple(points)
    # Beside the member that was committed to as it was, and each by itself.
    data = log.receipt(decision, "request/age", "context/stored.request")
    assert verify_receipt(data, log.policy()).not_proven[-1] == points[0]
    other = verify_receipt(log.receipt(decision, "context/target"), log.policy())
    assert not set(points) & set(other.not_proven)


def test_a_decoded_body_must_hold_the_members() -> None:
    liar = compressed(("request/age", b"40"))
    match = "expected 'request/age' as it stands in the request, got another"
    refused(liar, "request:decoded", "request/age", match=match)
    decision = make_decision(
        request=b"x", leaves=[("request:decoded", b"y")], split={"request": "json"}
    )
    match = "expected members in request:decoded, split as json, got none"
    refused(decision, "request:decoded", match=match)


def test_another_secret_is_refused() -> None:
    decision = make_decision()
    match = "expected the secret behind the salts, got another"
    refused(decision, "request", match=match, secret=bytes(32))
    # salt_0 alone would do for the commitment; the salts of leaves must follow too.
    salted = replace(
        decision,
        commitment=make_decision(1).commitment._replace(
            salts=(decision.commitment.salts[0], *make_decision(1).commitment.salts[1:])
        ),
    )
    opening = salted.opening
    digest = base64.b64encode(commitment_digest(*opening)).decode()
    liar = make_decision(data={"commitment": {"depth": 1, "digest": digest, "v": 1}})
    refused(
        liar,
        match=match,
        opening=opening,
        disclosures=salted.disclose("request/age"),
        secret=decision.secret,
    )


@pytest.mark.parametrize(
    "leaves",
    [
        [],
        [("request/age", b"41"), ("request/income", b"52000")],
        [
            ("request/age", b"99"),
            *(members("request", REQUEST, 1) or ())[1:],
            ("response/decision", b'"approve"'),
            ("response/score", b"0.8731"),
        ],
    ],
    ids=range(3),
)
def test_a_full_opening_finds_lies_in_what_is_not_disclosed(
    leaves: list[tuple[str, bytes]],
) -> None:
    decision = make_decision(leaves=leaves)
    match = "expected (the members of both bodies, got other|members at the places)"
    refused(decision, "request", "response", match=match, full=True)


# --- anchors and related entries ------------------------------------------------------


def test_anchors_are_not_checked_without_a_trust_file_and_the_verdict_says_so() -> None:
    decision = make_decision()
    log = log_of(decision)
    anchors = tuple(
        Anchor(kind, log.proof(1, extra=None), "AA==") for kind in ("rfc3161", "x")
    )
    verdict = verify_receipt(log.receipt(decision, anchors=anchors), log.policy())
    point = "anything by its anchors: that takes a trust file"
    assert verdict.not_proven[-1] == point
    bare = verify_receipt(log.receipt(decision), log.policy())
    assert verdict.claim == bare.claim
    assert verdict.checks == bare.checks


def amended(log: MemoryLog, about: Any, kind: Any = "answer_withheld") -> Related:
    data = {"decision": about, "kind": kind}
    entry = Entry(make_id(8), "auditlog.amendment.v1", ORIGIN, TIME, data)
    at = log.add(format_entry(entry))
    return Related("amendment", log.entries[at], log.proof(at))


def test_an_amendment_is_told_in_the_claim() -> None:
    decision = make_decision()
    log = log_of(decision)
    id_ = verify_receipt(log.receipt(decision), log.policy()).id
    related = amended(log, id_)
    verdict = verify_receipt(log.receipt(decision, related=(related,)), log.policy())
    assert "cosigned by 1 of 1 witnesses; followed by amendment (answer_withheld) " in (
        verdict.claim
    )
    assert verdict.checks[-1].name == "related"
    assert verdict.checks[-1].detail.startswith("amendment (answer_withheld) 01a1ee56-")
    assert "that no later entry amends it, but those that are told here" in (
        verdict.not_proven
    )
    assert not any("concern this one" in point for point in verdict.not_proven)
    large = amended(log, id_, ["x" * 100])
    verdict = verify_receipt(log.receipt(decision, related=(large,)), log.policy())
    assert len(verdict.claim) < 400


@pytest.mark.parametrize(
    "kind", ["x); cosigned by 9 of 9 witnesses (y", "a b", "", "1", "a\n"]
)
def test_an_amendment_cannot_write_on_the_verdict(kind: str) -> None:
    decision = make_decision()
    log = log_of(decision)
    id_ = verify_receipt(log.receipt(decision), log.policy()).id
    related = amended(log, id_, kind)
    verdict = verify_receipt(log.receipt(decision, related=(related,)), log.policy())
    assert "; followed by amendment 01a1ee56-" in verdict.claim
    assert verdict.checks[-1].detail.startswith("amendment 01a1ee56-")


@pytest.mark.parametrize("about", [None, 1, [], "", "01a1ee56-0000-7000-8000-0", {}])
def test_an_amendment_of_another_decision_is_refused(about: Any) -> None:
    decision = make_decision()
    log = log_of(decision)
    related = amended(log, about)
    with pytest.raises(
        VerificationError, match=r"^expected amendments of 0.*, got one of another$"
    ):
        verify_receipt(log.receipt(decision, related=(related,)), log.policy())


def test_what_parsed_as_a_receipt_will_do() -> None:
    decision = make_decision()
    log = log_of(decision)
    data = log.receipt(decision, "request")
    parsed = verify_receipt(parse_receipt(data), log.policy())
    assert parsed == verify_receipt(data, log.policy())


def test_trees_of_related_entries_are_held_against_other_receipts() -> None:
    honest, forger, decision = forked()
    small = honest.receipt(decision, size=2)
    related = Related("amendment", *_amendment_of(forger, decision))
    told = forger.receipt(decision, size=2, related=(related,))
    compare_receipts(small, told, honest.policy())
    forger_size = len(forger.entries)
    honest.add(make_decision(105).entry)
    assert len(honest.entries) == forger_size
    other = honest.receipt(make_decision(102))
    match = f"it signed two trees of size {forger_size}"
    with pytest.raises(VerificationError, match=match):
        compare_receipts(told, other, honest.policy())


def _amendment_of(log: MemoryLog, decision: Decision) -> tuple[bytes, bytes]:
    id_ = verify_receipt(log.receipt(decision), log.policy()).id
    _, entry, proof = amended(log, id_)
    return entry, proof


ON_MODEL = {"model.entry": format_id(make_id(7)), "model.version": "3"}
MODEL = Entry(
    *(make_id(7), "auditlog.model.v1", ORIGIN, TIME),
    {"model.name": "credit", "model.version": "3"},
)


@pytest.mark.parametrize(
    ("decision", "model"),
    [
        ({"model.entry": format_id(make_id(8))}, {}),
        ({"model.entry": None}, {}),
        ({"model.version": "4"}, {}),
        ({}, {"model.version": "4"}),
        ({}, {"model.digest": "sha256:" + "0" * 64}),
        ({}, {"model.name": "debit"}),
    ],
)
def test_a_model_that_the_decision_does_not_name_is_refused(
    decision: dict[str, str], model: dict[str, str]
) -> None:
    made = make_decision(data={**ON_MODEL, **decision})
    log = MemoryLog(types=(ED25519,))
    at = log.add(format_entry(replace(MODEL, data={**MODEL.data, **model})))
    log.add(made.entry)
    related = (Related("model", log.entries[at], log.proof(at)),)
    with pytest.raises(
        VerificationError, match=r"^expected the model of the decision, got another$"
    ):
        verify_receipt(log.receipt(made, related=related), log.policy())


def test_a_related_entry_that_is_told_twice_is_refused() -> None:
    """Or one amendment would stand in the claim as many."""
    decision = make_decision()
    log = log_of(decision)
    said = {"decision": format_id(make_id(0)), "kind": "override"}
    entry = Entry(make_id(9), "auditlog.amendment.v1", ORIGIN, TIME, said)
    at = log.add(format_entry(entry))
    related = Related("amendment", log.entries[at], log.proof(at))
    verify_receipt(log.receipt(decision, related=(related,)), log.policy())
    twice = (related, related._replace(proof=log.proof(at, at + 1, extra=None)))
    with pytest.raises(
        VerificationError, match=r"^expected each related entry once, got one twice$"
    ):
        verify_receipt(log.receipt(decision, related=twice), log.policy())


def test_what_is_told_of_a_model_once_it_has_decided_is_refused() -> None:
    """Its id was named before; what else it says could have been made up since."""
    decision = make_decision(data=ON_MODEL)
    log = log_of(decision)
    at = log.add(format_entry(MODEL))
    related = (Related("model", log.entries[at], log.proof(at)),)
    with pytest.raises(
        VerificationError,
        match=r"^expected a model told of before it decides, got after$",
    ):
        verify_receipt(log.receipt(decision, related=related), log.policy())


def test_a_related_entry_that_nothing_ties_to_the_decision_is_said_to_be_one() -> None:
    decision = make_decision()
    log = log_of(decision)
    at = log.add(format_entry(Entry(make_id(7), "auditlog.key.v1", ORIGIN, TIME, {})))
    related = (Related("key", log.entries[at], log.proof(at)),)
    verdict = verify_receipt(log.receipt(decision, related=related), log.policy())
    point = "that the related entries, though in the log, concern this one"
    assert verdict.not_proven[-1] == point


def test_related_entries_are_verified_like_the_main_one() -> None:
    decision = make_decision(data=ON_MODEL)
    log = MemoryLog(types=(ED25519,))
    at = log.add(make_decision(5).entry, format_entry(MODEL))
    log.add(decision.entry)
    policy = log.policy()
    good = Related("model", log.entries[at], log.proof(at))
    verdict = verify_receipt(log.receipt(decision, related=(good,)), policy)
    assert verdict.checks[-1].name == "related"
    assert verdict.checks[-1].detail.startswith("model 01a1ee56-")
    other = MemoryLog("other.example", types=(ED25519,))
    other.add(format_entry(replace(MODEL, source="other.example")))
    elsewhere = Related("model", other.entries[0], other.proof(0))
    for related, match in (
        (good._replace(rel="key"), "a related auditlog.key.v1, got auditlog"),
        (good._replace(proof=log.proof(2)), "expected"),
        (good._replace(entry=log.entries[2]), "expected"),
        (good._replace(proof=log.proof(at, extra=bytes(32))), "got a changed note"),
        (elsewhere, "expected an origin of the policy"),
    ):
        with pytest.raises(VerificationError, match=match):
            verify_receipt(log.receipt(decision, related=(related,)), policy)
    lines = other.policy("none").splitlines()[0]
    data = log.receipt(decision, related=(elsewhere,))
    with pytest.raises(
        VerificationError, match=r"^expected a related entry of the same log$"
    ):
        verify_receipt(data, f"{lines}\n{policy}")


def test_a_fork_within_one_receipt_is_found() -> None:
    decision = make_decision(data=ON_MODEL)
    log, fork = MemoryLog(types=(ED25519,)), MemoryLog(types=(ED25519,))
    for each, later in ((log, decision), (fork, make_decision(5))):
        each.add(format_entry(MODEL), later.entry)
    related = Related("model", fork.entries[0], fork.proof(0))
    data = log.receipt(decision, related=(related,))
    with pytest.raises(
        VerificationError, match="forked: it signed two trees of size 2"
    ):
        verify_receipt(data, log.policy())


# --- tlog-proof files -----------------------------------------------------------------


def test_an_entry_verifies_with_its_tlog_proof() -> None:
    decision = make_decision()
    log = log_of(decision)
    verdict = verify_entry(decision.entry, log.proof(1), log.policy())
    assert verdict.index == 1
    assert verdict == verify_entry(
        decision.entry, log.proof(1, extra=None), log.policy()
    )
    foreign = verify_entry(decision.entry, log.proof(1, extra=b"x"), log.policy())
    assert foreign.not_proven[-1] == "anything about the extra data in the proof file"


def test_refusals_of_tlog_proofs() -> None:
    decision = make_decision()
    log = log_of(decision)
    proof, policy = log.proof(1), log.policy()
    with pytest.raises(MalformedError, match="expected JSON"):
        verify_entry(b"leaf-1", proof, policy)
    with pytest.raises(VerificationError):
        verify_entry(log.entries[0], proof, policy)
    with pytest.raises(MalformedError):
        verify_entry(decision.entry, proof[:-1], policy)
    with pytest.raises(UntrustedError):
        verify_entry(decision.entry, proof, MemoryLog("x.example").policy("none"))


# --- receipts against each other ------------------------------------------------------


def test_receipts_of_one_honest_log_agree() -> None:
    decision = make_decision()
    log = log_of(decision)
    early = log.receipt(decision, "request/age", size=2)
    late = log.receipt(decision, "request/age", "request/name", "request")
    compare_receipts(early, late, log.policy())
    compare_receipts(late, late, log.policy())


def test_two_values_of_one_path_are_evidence_of_fraud() -> None:
    # One commitment can name a path twice; each receipt alone holds.
    decision = make_decision(leaves=[("request/age", b"41"), ("request/age", b"17")])
    log = log_of(decision)
    first, second = decision.disclose("request/age")
    receipts = [
        log.receipt(decision, opening=decision.opening, disclosures=(item,))
        for item in (first, second)
    ]
    for data in receipts:
        verify_receipt(data, log.policy())
    match = "evidence of fraud: two values of 'request/age' in one decision"
    with pytest.raises(VerificationError, match=match):
        compare_receipts(receipts[0], receipts[1], log.policy())


def forked() -> tuple[MemoryLog, MemoryLog, Decision]:
    decision = make_decision()
    honest, forger = log_of(decision), log_of(decision)
    forger.entries[-1] = make_decision(103).entry
    return honest, forger, decision


def test_two_roots_of_one_size_are_a_fork() -> None:
    honest, forger, decision = forked()
    a, b = honest.receipt(decision), forger.receipt(decision)
    match = f"the log {ORIGIN} has forked: it signed two trees of size 4"
    with pytest.raises(VerificationError, match=match):
        compare_receipts(a, b, honest.policy())


def test_two_entries_with_one_index_are_a_fork() -> None:
    honest, forger, _ = forked()
    honest.add(make_decision(104).entry)
    a = honest.receipt(make_decision(102))
    b = forger.receipt(make_decision(103))
    match = f"the log {ORIGIN} has forked: it signed two entries with index 3"
    with pytest.raises(VerificationError, match=match):
        compare_receipts(a, b, honest.policy())


def test_one_id_in_two_entries_is_evidence_of_fraud() -> None:
    first, second = make_decision(), make_decision(response=b'{"decision":"deny"}')
    log = log_of(first, second)
    match = "evidence of fraud: the log .* holds two entries with id"
    with pytest.raises(VerificationError, match=match):
        compare_receipts(log.receipt(first), log.receipt(second), log.policy())


def test_contradictions_name_the_pair() -> None:
    honest, forger, decision = forked()
    verdicts = [
        verify_receipt(log.receipt(item), log.policy())
        for log, item in (
            (honest, decision),
            (honest, make_decision(100)),
            (forger, decision),
        )
    ]
    (found,) = contradictions(verdicts)
    assert (found.first, found.second) == (0, 2)
    assert contradictions(verdicts[:2]) == []
    assert contradictions([]) == []


def test_two_logs_may_differ() -> None:
    here, there = make_decision(), make_decision(origin="other.example")
    logs = [log_of(here), MemoryLog("other.example", types=(ED25519,))]
    logs[1].add(there.entry)
    verdicts = [
        verify_receipt(log.receipt(item), log.policy("none"))
        for log, item in zip(logs, (here, there), strict=True)
    ]
    assert contradictions(verdicts) == []


def test_a_damaged_receipt_is_not_compared() -> None:
    decision = make_decision()
    log = log_of(decision)
    data = log.receipt(decision)
    with pytest.raises(MalformedError):
        compare_receipts(data, data[:-1], log.policy())


def test_the_checksum_is_over_the_note() -> None:
    log = log_of(make_decision())
    proof = parse_tlog_proof(log.proof(1))
    assert proof.extra == sha256(proof.checkpoint).digest()
    assert parse_entry(log.entries[1]).source == ORIGIN
    assert isinstance(make_decision().opening, Opening)
