"""What receipts tell of anchors, renewals and amendments, from a real log."""

from collections.abc import Callable
from pathlib import Path

import pytest

from auditlog.anchors.attestation import anchor_digest
from auditlog.anchors.trust import Trust
from auditlog.anchors.verdict import AnchoredVerdict, verify_anchored_receipt
from auditlog.cli import main
from auditlog.core.errors import NotFoundError, StorageError
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    make_signer,
    split_unverified_note,
)
from auditlog.core.receipt import parse_receipt
from auditlog.core.record import canonical_json, format_id, parse_id
from auditlog.log.anchor_ledger import Ledger
from auditlog.log.attested import Attested
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.reader import Reader
from auditlog.log.runtime import Runtime
from auditlog.storage import AttestationRow, Cosignature
from tests.anchors.conftest import stamps_only  # noqa: F401 (a fixture)
from tests.anchors.stamps import DAY, KIND, Stamper, trust_of
from tests.filled import fill_log, record_unsigned
from tests.log.builders import config_of, exchange
from tests.receipts import TIME

pytestmark = pytest.mark.usefixtures("stamps_only")

A, B = Stamper("TSA A", 1), Stamper("TSA B", 2)
NOW = 1_800_000_000_000_000


class Log:
    """A log on disk that grows by single decisions, and is anchored by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = NOW

    def grow(self) -> str:
        """Record a decision under a checkpoint of its own; return its id."""
        return fill_log(self.path, 1)[0]

    def newest(self) -> int:
        with open_log(self.path, read_only=True) as log:
            size, _ = log.store.newest() or (0, b"")
        return size

    def anchor(
        self, name: str, stamper: Stamper, time: int, state: str = "final"
    ) -> int:
        """Have the newest checkpoint attested; return its size."""
        self.now += 1
        with open_log(self.path) as log:
            size, note = log.store.newest() or (0, b"")
            evidence = canonical_json(stamper.stamp(anchor_digest(note), time))
            row = AttestationRow(size, name, KIND, state, evidence, NOW, self.now)
            Ledger(log.store, log.origin).keep(row, 1)
        return size

    def read(self, ask: Callable[[Reader], bytes]) -> bytes:
        with open_log(self.path, read_only=True) as log:
            return ask(Reader(log))

    def receipt(self, id_: str, renew: list[str] | None = None) -> bytes:
        return self.read(lambda reader: reader.receipt(id_, renew=renew))

    def level(self, id_: str) -> str:
        with open_log(self.path, read_only=True) as log:
            return Reader(log).decision(id_).level

    def verify(
        self, id_: str, trust: Trust | None = None, renew: list[str] | None = None
    ) -> AnchoredVerdict:
        policy = (self.path / "policy").read_text()
        trust = trust_of(A, B) if trust is None else trust
        return verify_anchored_receipt(self.receipt(id_, renew), policy, trust)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "audit")


def test_a_receipt_has_the_first_of_each_anchor_that_covers_the_entry(log: Log) -> None:
    first = log.grow()
    small = log.anchor("tsa-a", A, TIME + DAY)
    second = log.grow()
    middle = log.anchor("tsa-b", B, TIME + 2 * DAY)
    log.anchor("slow", B, TIME, state="pending")
    log.grow()
    large = log.anchor("tsa-a", A, TIME + 3 * DAY)
    assert small < middle < large
    verdict = log.verify(first)
    assert [bound.not_after for bound in verdict.anchors] == [
        *(TIME + DAY, TIME + 2 * DAY)
    ]
    assert verdict.existed_before == TIME + 2 * DAY
    later = log.verify(second)
    assert [bound.party for bound in later.anchors] == ["TSA A", "TSA B"]
    assert later.existed_before == TIME + 3 * DAY
    assert log.receipt(first) == log.receipt(first)


def test_without_attestations_a_receipt_is_what_it_was(log: Log) -> None:
    id_ = log.grow()
    receipt = parse_receipt(log.receipt(id_))
    assert (receipt.anchors, [one.rel for one in receipt.related]) == ((), ["model"])
    log.anchor("slow", A, TIME, state="pending")
    assert parse_receipt(log.receipt(id_)).anchors == ()
    assert log.level(id_) == "included"


def test_evidence_is_renewed_by_another_anchor(log: Log) -> None:
    id_ = log.grow()
    log.anchor("tsa-a", A, TIME + DAY)
    log.grow()
    log.anchor("tsa-b", B, TIME + 50 * DAY)
    old = Stamper("TSA A", 1, until=TIME + 100 * DAY)
    trust = trust_of(old, B)
    bare = log.verify(id_, trust)
    assert [bound.party for bound in bare.anchors] == ["TSA B"]
    verdict = log.verify(id_, trust, renew=[])
    assert [bound.party for bound in verdict.anchors] == ["TSA A", "TSA B"]
    assert verdict.anchors[0].detail.endswith("by TSA B")
    assert log.verify(id_, trust, renew=["tsa-b"]) == verdict
    with pytest.raises(
        NotFoundError,
        match=r"^no anchor 'tsa-c' gave anything in this log; there is: tsa-a, tsa-b$",
    ):
        log.receipt(id_, renew=["tsa-b", "tsa-c"])
    # By itself it renews nothing that a verifier would take.
    log.grow()
    log.anchor("tsa-a", A, TIME + 60 * DAY)
    assert log.verify(id_, trust, renew=["tsa-a"]).anchors == bare.anchors
    assert log.verify(id_, trust, renew=["tsa-a", "tsa-b"]).anchors == bare.anchors
    assert log.verify(id_, trust, renew=["tsa-b", "tsa-a"]) == verdict


def test_what_no_later_checkpoint_covers_is_not_renewed(log: Log) -> None:
    id_ = log.grow()
    log.anchor("tsa-a", A, TIME + DAY)
    log.anchor("tsa-b", B, TIME + DAY)
    receipt = parse_receipt(log.receipt(id_, renew=[]))
    assert all("renewal" not in anchor.evidence for anchor in receipt.anchors)
    assert receipt == parse_receipt(log.receipt(id_))


def test_what_could_not_be_renewed_is_said(
    log: Log, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    id_ = log.grow()
    log.anchor("tsa-a", A, TIME + DAY)
    ask = ["receipt", id_, "--dir", str(log.path)]
    assert main(ask) == 0
    assert capsysbinary.readouterr().err == b""
    assert main([*ask, "--renew"]) == 0
    shown = capsysbinary.readouterr()
    assert b"1 of 1 anchors are not renewed: it takes a later" in shown.err
    assert parse_receipt(shown.out).anchors
    assert main([*ask, "--renew-by", "tsa-c"]) == 11


def test_an_attestation_without_its_checkpoint_is_a_broken_store(log: Log) -> None:
    id_ = log.grow()
    log.anchor("tsa-a", A, TIME + DAY)
    with open_log(log.path, read_only=True) as opened:
        index = opened.store.by_id(parse_id(id_))
        assert index is not None

        class Lacking:
            """The store, but for its checkpoints."""

            def __getattr__(self, name: str) -> object:
                return getattr(opened.store, name)

            def covering(self, _: int) -> None:
                return None

        lacking: LogDirectory = Lacking()  # type: ignore[assignment]
        with pytest.raises(StorageError, match="checkpoint of size 4 is missing"):
            Attested(lacking).anchors(index.index or 0)  # type: ignore[arg-type]


WITNESS = make_signer("w.example", COSIGNATURE_ED25519, bytes(32))


def ask_for_a_witness(path: Path) -> None:
    policy = path / "policy"
    asked = f"witness w {WITNESS.verifier.vkey}\nquorum w"
    policy.write_text(policy.read_text().replace("quorum none", asked))


def cosign_newest(path: Path) -> None:
    with open_log(path) as log:
        size, note = log.store.newest() or (0, b"")
        line = WITNESS.sign(split_unverified_note(note)[0], 7)
        log.store.add_cosignatures([Cosignature(size, WITNESS.verifier.key, 7, line)])


# --- levels ---------------------------------------------------------------------------


def test_a_decision_is_anchored_by_a_final_attestation_that_covers_it(log: Log) -> None:
    first = log.grow()
    assert log.level(first) == "included"
    log.anchor("slow", A, TIME, state="pending")
    assert log.level(first) == "included"
    log.anchor("tsa-a", A, TIME + DAY)
    assert log.level(first) == "anchored"
    second = log.grow()
    assert (log.level(first), log.level(second)) == ("anchored", "included")
    third = record_unsigned(log.path)
    assert log.level(third) == "accepted"


def test_where_witnesses_are_asked_for_an_anchor_does_not_stand_for_them(
    log: Log,
) -> None:
    first = log.grow()
    log.anchor("tsa-a", A, TIME + DAY)
    ask_for_a_witness(log.path)
    assert log.level(first) == "included"


def test_the_command_waits_for_an_anchor_and_asks_for_renewals(
    log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    id_, where = log.grow(), ["--dir", str(log.path)]
    wait = ["receipt", id_, *where, "--wait", "anchored", "--timeout", "0"]
    assert main(wait) == 12
    said = "is included, not anchored after 0 s; if no service is running on this log"
    assert said in capsys.readouterr().err
    log.anchor("tsa-a", A, TIME + DAY)
    log.grow()
    log.anchor("tsa-b", B, TIME + 2 * DAY)
    file = tmp_path / "a.receipt.json"
    assert main([*wait, "-o", str(file)]) == 0
    assert f"{id_} is anchored" in capsys.readouterr().err
    assert file.read_bytes() == log.receipt(id_)
    for option in (["--renew"], ["--renew-by", "tsa-b"]):
        assert main([*wait, "-o", str(file), *option]) == 0
        assert file.read_bytes() == log.receipt(id_, renew=[])
        assert b'"renewal"' in file.read_bytes()
    assert main(["show", id_, *where]) == 0
    assert "anchored" in capsys.readouterr().out


# --- amendments -----------------------------------------------------------------------


def test_a_receipt_tells_what_followed_its_decision(tmp_path: Path) -> None:
    config = config_of(tmp_path / "audit")
    runtime = Runtime(config)
    done, other = exchange(0), exchange(0)
    for one in (done, other):
        one.sequence = runtime.open(one.id, one.time)
        runtime.submit(one)
    runtime.amend(done.id, "answer_withheld")
    runtime.stop()
    log = Log(config.dir)
    receipt = parse_receipt(log.receipt(format_id(done.id)))
    assert [item.rel for item in receipt.related] == ["amendment"]
    verdict = log.verify(format_id(done.id))
    assert "; followed by amendment (answer_withheld) " in verdict.claim
    assert parse_receipt(log.receipt(format_id(other.id))).related == ()
    assert "followed" not in log.verify(format_id(other.id)).claim


def test_an_amendment_that_waits_for_witnesses_refuses_no_receipt(
    tmp_path: Path,
) -> None:
    config = config_of(tmp_path / "audit")
    runtime = Runtime(config)
    done = exchange(0)
    done.sequence = runtime.open(done.id, done.time)
    runtime.submit(done)
    runtime.stop()
    log, id_ = Log(config.dir), format_id(done.id)
    ask_for_a_witness(config.dir)
    cosign_newest(config.dir)
    assert log.level(id_) == "witnessed"
    runtime = Runtime(config)
    runtime.amend(done.id, "answer_withheld")
    runtime.stop()
    with open_log(config.dir, read_only=True) as opened:
        assert len(Reader(opened).decision(id_).amendments) == 1
    assert "followed" not in log.verify(id_).claim
    cosign_newest(config.dir)
    assert "; followed by amendment (answer_withheld) " in log.verify(id_).claim
    log.anchor("tsa-a", A, TIME + DAY)
    assert log.level(id_) == "anchored"
