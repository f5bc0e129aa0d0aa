"""The offline verifier: its words, its exit statuses, and the one-file build of it."""

import base64
import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog import build_verifier, verifier
from auditlog.build_verifier import sources
from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.note import ED25519, ML_DSA_44, sign_note, split_unverified_note
from auditlog.core.verify import verify_receipt
from auditlog.monitor.fork import Fork, format_fork
from auditlog.verifier import main
from tests.anchors.conftest import stamps_only  # noqa: F401 (a fixture)
from tests.anchors.stamps import DAY, Stamper, anchor_of
from tests.anchors.test_three_kinds import make_world
from tests.receipts import TIME, MemoryLog, make_decision

DECISION = make_decision()
LOG = MemoryLog(types=(ED25519, ML_DSA_44))
LOG.add(DECISION.entry, make_decision(1).entry)
RECEIPT = LOG.receipt(DECISION, "request", "request/age")
STRANGER = MemoryLog("other.example").policy("none")


class Files:
    """A directory with a policy, and what tests put beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.policy = self.write("policy", LOG.policy())

    def write(self, name: str, data: bytes | str) -> str:
        path = self.path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    def verify(self, *arguments: str) -> int:
        return main([*arguments, "--policy", self.policy])


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def read_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


# --- what it says ---------------------------------------------------------------------


def test_a_receipt_that_verifies(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    name = files.write("a.receipt.json", RECEIPT)
    assert files.verify(name) == 0
    shown = capsys.readouterr()
    ed25519, ml_dsa = (signer.verifier.key for signer in LOG.signers)
    witness = LOG.witnesses[0].verifier.key
    about = f"decision {json_of(files, name, capsys)['id']}"
    assert shown.err == ""
    assert shown.out == (
        f"{name}: VERIFIED\n"
        f"  {about} of 2026-11-18T11:06:40.000000Z is entry 0 of the log "
        "log.example/credit, signed by the operator and cosigned by 1 of 1 witnesses\n"
        "  Checked:\n"
        f"    entry        {about} of 2026-11-18T11:06:40.000000Z, canonical, of "
        "log.example/credit\n"
        f"    signature    {ed25519} (Ed25519), {ml_dsa} (ML-DSA-44)\n"
        f"    witnesses    quorum quorum-of-all by w0, {witness} (Ed25519), at "
        "2026-11-18T11:06:40Z\n"
        "    inclusion    leaf 0 of 2, by 1 hashes\n"
        "    commitment   8 leaves; request 43 bytes, response 37\n"
        "    disclosures  2 of 8 leaves, as committed to\n"
        "    members      1 of 3, as they stand in the request\n"
        "  Disclosed:\n"
        '    request = {"age": 41, "income": 52000, "name": "Ada"}\n'
        "    request/age = 41\n"
        "  This does not prove:\n"
        "    - that no other decision was left out of the log\n"
        "    - that what the operator recorded is true, or that this model made it\n"
        "    - when it happened: the time in the entry is the operator's own\n"
        "    - that no later entry amends it, but those that are told here\n"
        "    - that the witnesses are independent of the operator\n"
        "    - that it existed earlier than a witness says to have signed\n"
        "    - anything about the 6 undisclosed leaves\n"
    )


def json_of(files: Files, name: str, capsys: pytest.CaptureFixture[str]) -> Any:
    files.verify(name, "--json")
    return read_json(capsys)


def test_the_same_as_json(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    name = files.write("a.receipt.json", RECEIPT)
    out = json_of(files, name, capsys)
    assert out["schema"] == "auditlog.verification.v1"
    assert out["ok"] is True
    assert out["exit_code"] == 0
    assert out["file"] == name
    assert out["verdict"].endswith(
        "signed by the operator and cosigned by 1 of 1 witnesses"
    )
    assert [check["name"] for check in out["checks"]] == [
        *("entry", "signature", "witnesses", "inclusion"),
        *("commitment", "disclosures", "members"),
    ]
    assert all(check["ok"] is True and check["detail"] for check in out["checks"])
    assert "that no other decision was left out of the log" in out["not_proven"]
    assert (out["origin"], out["index"], out["size"]) == ("log.example/credit", 0, 2)
    assert out["entry_type"] == "auditlog.decision.v1"
    assert len(out["signers"]) == 2
    assert len(out["witnesses"]) == 1
    assert out["disclosed"][1] == {"path": "request/age", "value": "NDE="}


def test_without_a_quorum_the_verdict_says_so(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    files.policy = files.write("policy", LOG.policy("none"))
    assert files.verify(files.write("a", RECEIPT), "--json") == 0
    text = "signed by the operator only; another view may exist"
    assert read_json(capsys)["verdict"].endswith(text)


@pytest.mark.parametrize(
    ("data", "policy", "code", "status"),
    [
        (
            RECEIPT.replace(b"POST", b"PUSH"),
            None,
            10,
            "NOT VERIFIED: the evidence does",
        ),
        (
            RECEIPT,
            STRANGER,
            13,
            "NOT TRUSTED: the evidence does not satisfy the policy",
        ),
        (RECEIPT[:-1], None, 16, "MALFORMED: these bytes are not what they should be"),
        (b"", None, 16, "MALFORMED"),
        (b"\xff" * 100, None, 16, "MALFORMED"),
    ],
    ids=range(5),
)
def test_a_receipt_that_does_not_verify(
    files: Files,
    capsys: pytest.CaptureFixture[str],
    data: bytes,
    policy: str | None,
    code: int,
    status: str,
) -> None:
    if policy:
        files.policy = files.write("policy", policy)
    name = files.write("bad.receipt.json", data)
    assert files.verify(name) == code
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{name}: {status}")
    assert "VERIFIED\n" not in shown.out
    assert "expected" in shown.out.splitlines()[1]
    out = json_of(files, name, capsys)
    assert out["ok"] is False
    assert out["exit_code"] == code
    assert out["checks"] == [
        {"name": "verification", "ok": False, "detail": out["verdict"]}
    ]
    assert out["not_proven"] == ["anything"]


def test_a_tlog_proof_with_its_entry(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = files.write("entry", DECISION.entry)
    proof, unnamed = [files.write(name, LOG.proof(0)) for name in ("a.tlog-proof", "a")]
    for name in (proof, unnamed):
        assert files.verify(name, "--entry", entry) == 0
        assert "is entry 0 of the log" in capsys.readouterr().out
    other = files.write("other", LOG.entries[1])
    assert files.verify(proof, "--entry", other) == 10
    assert files.verify(proof, "--entry", files.write("x", b"leaf")) == 16
    damaged = files.write("b.tlog-proof", b"C" + LOG.proof(0)[1:])
    assert files.verify(damaged, "--entry", entry) == 16
    large = files.write("large", b" " * 70_000)
    assert files.verify(proof, "--entry", large) == 16
    assert "expected at most 65535 bytes" in capsys.readouterr().out


def test_standard_input(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def give(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    give(RECEIPT)
    assert files.verify("-") == 0
    give(LOG.proof(0))
    assert files.verify("-", "--entry", files.write("entry", DECISION.entry)) == 0
    give(LOG.policy().encode())
    assert main([files.write("a", RECEIPT), "--policy", "-"]) == 0


def test_the_policy_may_come_from_the_environment(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = files.write("a", RECEIPT)
    monkeypatch.setenv("AUDITLOG_POLICY", files.policy)
    assert main([name]) == 0
    other = files.write("other", STRANGER)
    assert main([name, "--policy", other]) == 13


def test_a_post_quantum_signature_can_be_demanded(files: Files) -> None:
    name = files.write("a", RECEIPT)
    assert files.verify(name, "--require-pq") == 0
    log = MemoryLog(types=(ED25519,), entries=LOG.entries)
    name = files.write("b", log.receipt(DECISION))
    assert files.verify(name) == 0
    assert files.verify(name, "--require-pq") == 13


# --- time -----------------------------------------------------------------------------

TSA_A, TSA_B = Stamper("TSA A", 1), Stamper("TSA B", 2)
ANCHORED = LOG.receipt(
    DECISION,
    anchors=(
        anchor_of(LOG, 0, TSA_A, TIME + DAY),
        anchor_of(LOG, 0, TSA_B, TIME + 2 * DAY),
    ),
)


def trust_file(*stampers: Stamper) -> str:
    return "".join(
        f'[[authority]]\nparty = "{one.authority.party}"\n'
        f'policy = "{one.authority.policy}"\nroot = "{one.authority.root}"\n'
        for one in stampers
    )


@pytest.mark.usefixtures("stamps_only")
def test_with_a_trust_file_the_verdict_knows_of_time(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    name = files.write("a.receipt.json", ANCHORED)
    trust = files.write("trust.toml", trust_file(TSA_A, TSA_B))
    assert files.verify(name, "--trust", trust) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].endswith(
        "cosigned by 1 of 1 witnesses; existed unchanged before 2026-11-19T11:06:40Z, "
        "by TSA A; before 2026-11-20T11:06:40Z, by TSA A and TSA B"
    )
    start = "    anchor       rfc3161: the checkpoint of size 2 before 2026-11-"
    assert shown[7:9] == [
        f"{start}19T11:06:40Z, by TSA A: policy 1.2.1",
        f"{start}20T11:06:40Z, by TSA B: policy 1.2.2",
    ]
    point = "    - when it happened: only that it existed before 2026-11-20T11:06:40Z"
    assert point in shown


@pytest.mark.usefixtures("stamps_only")
def test_time_as_json(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    name = files.write("a.receipt.json", ANCHORED)
    trust = files.write("trust.toml", trust_file(TSA_A, TSA_B))
    assert files.verify(name, "--trust", trust, "--min-anchors", "1", "--json") == 0
    out = read_json(capsys)
    assert out["existedBefore"] == "2026-11-19T11:06:40.000000Z"
    assert out["anchors"] == [
        {
            "kind": "rfc3161",
            "party": party,
            "notAfter": f"{day}T11:06:40.000000Z",
            "detail": f"policy 1.2.{number}",
        }
        for number, party, day in (
            (1, "TSA A", "2026-11-19"),
            (2, "TSA B", "2026-11-20"),
        )
    ]
    assert files.verify(name, "--json") == 0
    out = read_json(capsys)
    assert (out["anchors"], out["existedBefore"]) == ([], None)
    point = "anything by its anchors: that takes a trust file"
    assert point in out["not_proven"]


@pytest.mark.usefixtures("stamps_only")
def test_so_many_parties_can_be_demanded(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    name = files.write("a.receipt.json", ANCHORED)
    trust = files.write("trust.toml", trust_file(TSA_A))
    assert files.verify(name, "--trust", trust, "--min-anchors", "1") == 0
    capsys.readouterr()
    assert files.verify(name, "--trust", trust, "--min-anchors", "2") == 13
    assert capsys.readouterr().out == (
        f"{name}: NOT TRUSTED: the evidence does not satisfy the policy\n"
        "  expected anchors of 2 distinct parties, got 1; not anything by anchor 2 "
        "(rfc3161): expected a stamp by an authority of the trust file\n"
    )
    entry, proof = files.write("e", DECISION.entry), files.write("p", LOG.proof(0))
    asked = (proof, "--entry", entry, "--trust", trust)
    assert files.verify(*asked) == 0
    assert files.verify(*asked, "--min-anchors", "1") == 13


@pytest.mark.usefixtures("stamps_only")
def test_evidence_that_does_not_hold_is_not_only_left_out(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    trust = files.write("trust.toml", trust_file(TSA_A))
    token = json.loads(ANCHORED)["anchors"][0]["evidence"]["token"].encode()
    bent = ANCHORED.replace(token, b"A" * 43 + b"=")
    name = files.write("bent.receipt.json", bent)
    assert files.verify(name, "--trust", trust) == 10
    said = "  anchor 1 (rfc3161): expected a stamp of this digest, got another"
    assert said in capsys.readouterr().out
    damaged = ANCHORED.replace(token, b"?" + token[1:])
    name = files.write("damaged.receipt.json", damaged)
    assert files.verify(name, "--trust", trust) == 16


@pytest.mark.usefixtures("stamps_only")
def test_a_revoked_key_ends_at_its_last_good_checkpoint(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    name = files.write("a.receipt.json", RECEIPT)
    root = base64.b64encode(verify_receipt(RECEIPT, LOG.policy()).root).decode()
    text = "".join(
        f'[[revoked]]\nkey = "{one.verifier.key}"\nsize = SIZE\nroot = "{root}"\n'
        for one in LOG.signers
    )
    good = files.write("good", text.replace("SIZE", "2"))
    assert files.verify(name, "--trust", good) == 0
    early = files.write("early", text.replace("SIZE", "1"))
    capsys.readouterr()
    assert files.verify(name, "--trust", early) == 13
    assert "its last good one, got 2" in capsys.readouterr().out
    fork = files.write("fork", text.replace("SIZE", "2").replace(root, "A" * 43 + "="))
    assert files.verify(name, "--trust", fork) == 10
    assert "has forked" in capsys.readouterr().out


def test_a_trust_file_that_is_none(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    name = files.write("a", RECEIPT)
    for data, code in ((b"[[authorities]]", 16), (b"\xff", 16), (b"", 0)):
        trust = files.write("trust", data)
        assert files.verify(name, "--trust", trust) == code
        shown = capsys.readouterr()
        if code:
            assert shown.out == ""
            assert shown.err.startswith(f"auditlog verify: {trust}: expected ")
    assert files.verify(name, "--trust", str(files.path / "missing")) == 1
    assert "cannot read" in capsys.readouterr().err


def test_the_trust_file_may_come_from_the_environment(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = files.write("a", RECEIPT)
    monkeypatch.setenv("AUDITLOG_TRUST", files.write("trust", "x"))
    assert files.verify(name) == 16
    assert files.verify(name, "--trust", files.write("empty", "")) == 0


# --- forks ----------------------------------------------------------------------------


def root_in(note: bytes) -> bytes:
    return parse_checkpoint(split_unverified_note(note)[0]).root


OTHER = MemoryLog(types=LOG.types, entries=[LOG.entries[0], make_decision(9).entry])
_NOTES = sorted((LOG.checkpoint(), OTHER.checkpoint()), key=root_in)
FORK = format_fork(Fork(_NOTES[0], _NOTES[1]))


def test_a_file_that_proves_a_fork(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    name = files.write("fork.json", FORK)
    assert files.verify(name) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{name}: FORK PROVEN: the log signed two histories"
    assert shown[1].startswith("  log.example/credit signed two histories: one of size")
    assert shown[2:] == [
        "  This does not prove:",
        "    - which of the two is the true history",
        "    - whether the operator signed both, or somebody who has the log's key",
    ]
    fork = json_of(files, name, capsys)
    assert (fork["ok"], fork["exit_code"]) == (True, 0)
    assert fork["status"] == "FORK PROVEN: the log signed two histories"
    assert fork["checks"] == [{"name": "fork", "ok": True, "detail": fork["verdict"]}]
    assert fork["origin"] == "log.example/credit"
    none = format_fork(Fork(LOG.checkpoint(), LOG.checkpoint()))
    assert files.verify(files.write("none.json", none)) == 10
    assert "no fork: both checkpoints have root" in capsys.readouterr().out


def test_a_receipt_of_a_log_that_is_proven_to_have_forked(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    fork, receipt = files.write("fork.json", FORK), files.write("a", RECEIPT)
    assert files.verify(fork, receipt, "--json") == 10
    out = read_json(capsys)
    assert [one["ok"] for one in out["files"]] == [True, True]
    assert out["ok"] is False
    assert out["checks"][-1] == {
        "name": "comparison",
        "ok": False,
        "detail": f"{receipt} and {fork}: the log log.example/credit has forked, and "
        "another history need not hold this entry",
    }


def test_a_fork_is_held_to_what_was_asked_for(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    name, trust = files.write("fork.json", FORK), files.write("trust", "")
    assert files.verify(name, "--require-pq") == 0
    assert files.verify(name, "--trust", trust, "--min-anchors", "1") == 13
    assert "expected a receipt with anchors, got a fork" in capsys.readouterr().out
    weak = [
        sign_note(split_unverified_note(note)[0], LOG.signers[:1]) for note in _NOTES
    ]
    name = files.write("weak.json", format_fork(Fork(weak[0], weak[1])))
    assert files.verify(name, "--require-pq") == 13
    assert "expected an ML-DSA signature of the log" in capsys.readouterr().out


def test_who_took_a_key_that_is_revoked_cannot_make_a_log_look_forked(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    name = files.write("fork.json", FORK)
    tables = [
        f'[[revoked]]\nkey = "{one.verifier.key}"\nsize = 1\nroot = "{"A" * 43}="\n'
        for one in LOG.signers
    ]
    assert files.verify(name, "--trust", files.write("one", tables[0])) == 0
    capsys.readouterr()
    assert files.verify(name, "--trust", files.write("all", "".join(tables))) == 13
    shown = capsys.readouterr().out
    assert "FORK PROVEN" not in shown
    assert "signed by revoked keys only, and so by whoever took them: log.exa" in shown


def test_a_build_that_knows_no_forks_says_so(
    files: Files,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "auditlog.monitor.fork", None)
    assert files.verify(files.write("fork.json", FORK)) == 1
    assert "NOT CHECKED\n  this build cannot check forks" in capsys.readouterr().out


# --- several files --------------------------------------------------------------------


def test_several_files_end_with_the_most_severe(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    good = files.write("good", RECEIPT)
    log = MemoryLog(entries=LOG.entries)
    note = log.checkpoint(cosigners=())
    proof = log.proof(0, note=note, extra=None)
    failed = files.write("failed", RECEIPT.replace(b"POST", b"PUSH"))
    untrusted = files.write("untrusted", log.receipt(DECISION, proof=proof))
    malformed = files.write("malformed", b"{}")
    missing = str(files.path / "missing")
    worst = [failed, untrusted, malformed, missing, good]
    for at, code in enumerate((10, 13, 16, 1, 0)):
        assert files.verify(*worst[at:]) == code
        assert files.verify(*reversed(worst[at:])) == code
    capsys.readouterr()
    assert files.verify(*worst) == 10
    blocks = capsys.readouterr().out.split("\n\n")
    assert [block.split(": ")[1].split("\n")[0] for block in blocks[:-1]] == [
        *("NOT VERIFIED", "NOT TRUSTED", "MALFORMED", "NOT CHECKED", "VERIFIED")
    ]
    assert blocks[-1] == "1 of 5 files verified\n"


def test_several_files_as_json(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = files.write("good", RECEIPT), files.write("bad", b"{}")
    assert files.verify(good, bad, "--json") == 16
    out = read_json(capsys)
    assert out["schema"] == "auditlog.verification.v1"
    assert out["ok"] is False
    assert out["verdict"] == "1 of 2 files verified"
    names = [(check["name"], check["ok"]) for check in out["checks"]]
    assert names == [(good, True), (bad, False)]
    assert [item["ok"] for item in out["files"]] == [True, False]
    assert out["files"][0]["file"] == good
    assert out["files"][0]["index"] == 0
    assert "anything" in out["not_proven"]
    assert files.verify(good, good, "--json") == 0
    assert read_json(capsys)["ok"] is True


def test_receipts_that_contradict_each_other(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    forger = MemoryLog(entries=[DECISION.entry, make_decision(2).entry])
    a = files.write("a", RECEIPT)
    b = files.write("b", LOG.receipt(make_decision(1)))
    c = files.write("c", forger.receipt(DECISION))
    assert files.verify(a, b) == 0
    assert files.verify(a, c) == 10
    last = capsys.readouterr().out.split("\n\n")[-1]
    assert last == (
        "2 of 2 files verified; THEY CONTRADICT EACH OTHER\n"
        f"{a} and {c}: the log log.example/credit has forked: it signed two trees of "
        "size 2\n"
    )
    assert files.verify(a, b, c, "--json") == 10
    out = read_json(capsys)
    assert out["ok"] is False
    assert out["verdict"] == "3 of 3 files verified; THEY CONTRADICT EACH OTHER"
    assert [check["name"] for check in out["checks"]] == [a, b, c, "comparison"]
    assert out["checks"][-1]["ok"] is False


# --- what it cannot check -------------------------------------------------------------


def test_files_that_cannot_be_read(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(files.path / "missing")
    assert files.verify(missing) == 1
    assert capsys.readouterr().out == (
        f"{missing}: NOT CHECKED\n  cannot read {missing}: No such file or directory\n"
    )
    assert files.verify(str(files.path)) == 1
    assert "Is a directory" in capsys.readouterr().out
    assert files.verify("a\0b") == 1
    assert "a\\x00b: no such name" in capsys.readouterr().out
    good = files.write("a", RECEIPT)
    assert main([good, "--policy", missing]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == (
        f"auditlog verify: cannot read {missing}: No such file or directory\n"
    )
    assert main([good, "--policy", missing, "--json"]) == 1
    assert read_json(capsys)["ok"] is False
    proof = files.write("a.tlog-proof", LOG.proof(0))
    assert files.verify(proof, "--entry", missing) == 1


@pytest.mark.parametrize("policy", [b"", b"quorum none", b"log x\n", b"\xff", b"\0"])
def test_a_policy_that_is_none(
    files: Files, capsys: pytest.CaptureFixture[str], policy: bytes
) -> None:
    files.policy = files.write("policy", policy)
    code = files.verify(files.write("a", RECEIPT))
    assert code == (13 if policy == b"quorum none" else 16)
    shown = capsys.readouterr()
    assert "VERIFIED" not in shown.out
    if code == 16:
        assert shown.err.startswith(f"auditlog verify: {files.policy}: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: RECEIPT, --policy"),
        (["a"], "the following arguments are required: --policy"),
        (["a", "--policy", "p", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["a", "--policy"], "expected one argument"),
        (["-", "-", "--policy", "p"], "standard input can be one file only"),
        (["-", "--policy", "-"], "standard input can be one file only"),
        (["a.tlog-proof", "--policy", "p"], "is a tlog-proof: give its --entry"),
        (["a", "--policy", "p", "--entry", "e"], "--entry goes with .tlog-proof files"),
        (["a", "--policy", "p", "--min-anchors", "1"], "--min-anchors needs --trust"),
        (["a", "--policy", "p", "--min-anchors", "0"], "a number from 1 to 100"),
        (["a", "--policy", "p", "--min-anchors", "9" * 5000], "a number from 1 to"),
        (["a", "--policy", "p", "--min-anchors", "x"], "a number from 1 to 100"),
        (["a", "--policy", "p", "--min-anchors", "0000000012"], "a number from 1 to"),
        (["a", "--policy", "-", "--trust", "-"], "standard input can be one file only"),
    ],
    ids=range(14),
)
def test_usage(
    files: Files,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(files.path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    files.write("a", RECEIPT)
    files.write("a.tlog-proof", LOG.proof(0))
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.startswith("usage: auditlog verify")


def test_help_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "10 verification failed" in " ".join(capsys.readouterr().out.split())


# --- hostile input --------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_any_bytes_end_in_a_verdict(files: Files, data: bytes) -> None:
    name = files.write("any", data)
    code = 2 if data.startswith(b"c2sp.org/tlog-proof@") else 16
    assert files.verify(name) == code
    assert files.verify(name, "--json") == code
    entry, proof = files.write("e", data), files.write("p.tlog-proof", data)
    assert files.verify(proof, "--entry", files.write("x", DECISION.entry)) == 16
    good = files.write("good.tlog-proof", LOG.proof(0))
    assert files.verify(good, "--entry", entry) == 16
    assert main([name, "--policy", name]) == code


def test_nothing_steers_the_terminal(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    body = '{"a":"\u202eü","b":"\x7f","c":1}'.encode()
    decision = make_decision(
        request=body, response=b"\x1b[2J\r\n\xff", context={"user": b"x" * 1000}
    )
    log = MemoryLog(entries=[decision.entry])
    paths = ("request/a", "request/b", "response", "context/user")
    name = files.write("a\x1b[31m", log.receipt(decision, *paths))
    assert files.verify(name) == 0
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").isprintable()
    assert 'request/a = "\\u202eü"\n' in shown
    assert 'request/b = "\\x7f"\n' in shown
    assert "response = \\x1b[2J\\r\\n\\xff\n" in shown
    assert f"context/user = {'x' * 160} ... (1000 bytes)\n" in shown
    assert "a\\x1b[31m: VERIFIED" in shown


def test_output_that_knows_ascii_only(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = make_decision(request='{"ü":"é"}'.encode())
    log = MemoryLog(entries=[decision.entry])
    name = files.write("a", log.receipt(decision, "request/ü"))
    buffer = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(buffer, encoding="ascii"))
    assert files.verify(name) == 0
    sys.stdout.flush()
    assert b'request/\\xfc = "\\xe9"\n' in buffer.getvalue()


def test_a_defect_of_ours_is_no_traceback(
    files: Files,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(verifier, "verify_receipt", broken)
    assert files.verify(files.write("a", RECEIPT)) == 1
    shown = capsys.readouterr()
    assert "NOT CHECKED\n  internal error: RuntimeError\n" in shown.out
    assert "secret detail" not in shown.out + shown.err


# --- verify_receipt.pyz ---------------------------------------------------------------


@pytest.fixture(scope="module")
def pyz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build") / "dist" / "verify_receipt.pyz"
    build_verifier.build(out)
    return out


@pytest.fixture(scope="module")
def only_cryptography(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with cryptography, what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("cryptography", "cffi", "_cffi_backend"):
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            path = Path(spec.origin)
            path = path.parent if path.name == "__init__.py" else path
            (folder / path.name).symlink_to(path)
    return folder


def run(
    pyz: Path, site: Path, cwd: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the file in a directory, by a Python that has no other package."""
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-S", str(pyz), *arguments]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_the_build_is_reproducible(pyz: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pyz"
    build_verifier.build(again)
    assert again.read_bytes() == pyz.read_bytes()
    assert pyz.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert os.access(pyz, os.X_OK)
    with zipfile.ZipFile(pyz) as archive:
        infos = archive.infolist()
    names = [info.filename for info in infos]
    assert names == sorted(names)
    package = Path(verifier.__file__).parent
    held = {path.relative_to(package.parent).as_posix() for path in sources()}
    assert set(names) == {"__main__.py", *held}
    for info in infos:
        assert info.date_time == (1980, 1, 1, 0, 0, 0)
        assert info.compress_type == zipfile.ZIP_STORED
        assert (info.create_system, info.external_attr >> 16) == (3, 0o100644)


def test_the_file_verifies_where_nothing_is_installed(
    pyz: Path, only_cryptography: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.receipt.json").write_bytes(RECEIPT)
    (tmp_path / "policy").write_text(LOG.policy())
    arguments = ("a.receipt.json", "--policy", "policy")
    done = run(pyz, only_cryptography, tmp_path, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("a.receipt.json: VERIFIED\n")
    usage = run(pyz, only_cryptography, tmp_path)
    assert usage.returncode == 2
    assert usage.stderr.startswith("usage: verify_receipt.pyz")
    probe = (
        "import sys; sys.path.insert(0, sys.argv[1]); import auditlog.verifier as v;"
    )
    probe += "print(v.__file__)"
    command = [sys.executable, "-S", "-c", probe, str(pyz)]
    environment = {**os.environ, "PYTHONPATH": str(only_cryptography)}
    where = subprocess.run(command, env=environment, capture_output=True, check=True)
    assert where.stdout.decode().startswith(str(pyz))


def test_the_file_weighs_anchors_where_nothing_is_installed(
    pyz: Path, only_cryptography: Path, tmp_path: Path
) -> None:
    later = anchor_of(LOG, 0, TSA_A)._replace(kind="later")
    (tmp_path / "a.receipt.json").write_bytes(LOG.receipt(DECISION, anchors=(later,)))
    (tmp_path / "policy").write_text(LOG.policy())
    (tmp_path / "trust").write_text("")
    arguments = ("a.receipt.json", "--policy", "policy", "--trust", "trust")
    done = run(pyz, only_cryptography, tmp_path, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    point = "anything by anchor 1 (later): this version checks evm, ots, rfc3161, not"
    assert point in done.stdout
    asked = run(pyz, only_cryptography, tmp_path, *arguments, "--min-anchors", "1")
    assert asked.returncode == 13


def test_without_the_library_two_kinds_are_checked_and_the_third_is_said_to_be_missing(
    pyz: Path, only_cryptography: Path, tmp_path: Path
) -> None:
    world = make_world(tmp_path)
    (tmp_path / "a.receipt.json").write_bytes(world.receipt)
    (tmp_path / "policy").write_text(world.policy)
    (tmp_path / "trust").write_text(world.trust)
    arguments = ("a.receipt.json", "--policy", "policy", "--trust", "trust")
    done = run(pyz, only_cryptography, tmp_path, *arguments, "--min-anchors", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].endswith(", by Ethereum and Bitcoin")
    point = "anything by anchor 1 (rfc3161): rfc3161-client is not installed"
    assert f"    - {point}" in done.stdout
    asked = run(pyz, only_cryptography, tmp_path, *arguments, "--min-anchors", "3")
    assert asked.returncode == 13
    assert f"expected anchors of 3 distinct parties, got 2; not {point}" in asked.stdout
    assert "does not hold" not in asked.stdout


def test_the_file_refuses_damage(
    pyz: Path, only_cryptography: Path, tmp_path: Path
) -> None:
    names = []
    for at in range(0, len(RECEIPT), 9):
        damaged = bytearray(RECEIPT)
        damaged[at] ^= 1 << at % 8
        names.append(f"{at}.receipt.json")
        (tmp_path / names[-1]).write_bytes(damaged)
    (tmp_path / "policy").write_text(LOG.policy())
    arguments = (*names, "--policy", "policy", "--json")
    done = run(pyz, only_cryptography, tmp_path, *arguments)
    assert done.returncode == 10
    out = json.loads(done.stdout)
    assert out["verdict"] == f"0 of {len(names)} files verified"
    assert {item["exit_code"] for item in out["files"]} <= {10, 13, 16}
    assert done.stderr == ""


def test_the_file_says_what_it_needs(pyz: Path, tmp_path: Path) -> None:
    done = run(pyz, tmp_path, tmp_path, "a", "--policy", "b")
    assert done.returncode == 1
    assert done.stderr == (
        "verify_receipt.pyz needs the package cryptography, 48 or newer\n"
    )


def test_a_reader_that_leaves_is_no_error(
    pyz: Path, only_cryptography: Path, tmp_path: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    (tmp_path / "a").write_bytes(RECEIPT)
    (tmp_path / "policy").write_text(LOG.policy())
    command = [sys.executable, "-S", str(pyz), "a", "--policy", "policy"]
    environment = {**os.environ, "PYTHONPATH": str(only_cryptography)}
    with os.fdopen(write, "wb") as broken:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=broken,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == 141
    assert done.stderr == b""


def test_the_builder_as_a_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert build_verifier.main([]) == 0
    digest, name = capsys.readouterr().out.split()
    assert (len(digest), name) == (64, "dist/verify_receipt.pyz")
    assert Path(name).is_file()
    assert build_verifier.main(["x.pyz"]) == 0
    assert build_verifier.main(["a", "b"]) == 2
    assert build_verifier.main(["--help"]) == 2
    (tmp_path / "file").touch()
    assert build_verifier.main(["file/x.pyz"]) == 1
    assert "cannot write file/x.pyz" in capsys.readouterr().err
