"""Erasure: what it does, what it leaves, and whom it may be told."""

import os
import sqlite3
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from auditlog.core.errors import NotFoundError, VerificationError
from auditlog.core.receipt import format_receipt, parse_receipt
from auditlog.core.record import DECISION, format_id, parse_entry
from auditlog.core.verify import verify_receipt
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.erasing import (
    erase,
    erasure_receipt,
    is_due,
    plan_erasure,
    replay,
)
from auditlog.log.finishing import finish
from auditlog.log.leader import make_checkpoint
from auditlog.log.reader import Reader
from auditlog.storage import ERASED, Query
from tests.harness import check_whole_log
from tests.log.builders import now_us
from tests.log.erasures import ADA, BOB, add_decision, fill, made


@pytest.fixture
def log(tmp_path: Path) -> LogDirectory:
    log = made(tmp_path / "audit")
    fill(log)
    return log


def test_a_plan_says_what_is_held_and_who_was_given_what(log: LogDirectory) -> None:
    size = log.store.size()
    plan = plan_erasure(log, "person", ADA, now_us())
    assert (plan.decisions, plan.amendments, plan.accesses) == (3, 1, 1)
    assert (plan.records, plan.unread, plan.elsewhere) == (5, 0, 0)
    assert plan.routes == ("/score",)
    assert plan.backup_expiry is None
    [given] = plan.given
    assert (given.recipient, given.purpose) == ("Court of Appeal", "case 7")
    assert given.what == "disclosure"
    assert ADA not in repr(plan)
    assert log.store.size() == size


def test_who_comes_back_does_not_keep_the_erasure_from_being_final(
    log: LogDirectory,
) -> None:
    erase(log, plan_erasure(log, "person", ADA, now_us()), now=now_us())
    add_decision(log, ADA)
    assert finish(log, now_us()) == 1
    erase(log, plan_erasure(log, "person", ADA, now_us()), now=now_us())
    assert finish(log, now_us()) == 1


def test_a_plan_holds_one_content_at_a_time(log: LogDirectory) -> None:
    size = 1 << 18
    for _ in range(16):
        add_decision(log, "eve", request=os.urandom(size))
    tracemalloc.start()
    try:
        assert plan_erasure(log, "person", "eve", now_us()).decisions == 16
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * size


def test_who_is_not_known_cannot_be_erased(log: LogDirectory) -> None:
    for kind, person in (("person", "eve@example.org"), ("customer", ADA)):
        with pytest.raises(NotFoundError, match="nothing is held about this subject"):
            plan_erasure(log, kind, person, now_us())


def test_what_was_sealed_is_gone_and_every_proof_stays(log: LogDirectory) -> None:
    ids = [row.id for row in log.store.find(Query(type=DECISION))]
    receipts = [Reader(log).receipt(format_id(id_)) for id_ in ids]
    plan = plan_erasure(log, "person", ADA, now_us())
    under = log.store.sealed_under(plan.key_id)
    done = erase(log, plan, now=now_us(), reason="asked on paper")
    assert (done.state, done.records) == ("shredded", 5)
    assert [log.store.sealed(index) for index in under] == [(ERASED, b"")] * 5
    make_checkpoint(log)
    check_whole_log(log.paths.directory)
    policy = log.policy_path.read_text()
    for receipt in receipts:
        verify_receipt(receipt, policy)
    with pytest.raises(NotFoundError, match="nothing is held"):
        plan_erasure(log, "person", ADA, now_us())
    assert plan_erasure(log, "person", BOB, now_us()).records == 5


def test_the_person_gets_a_receipt_that_only_they_can_show(log: LogDirectory) -> None:
    done = erase(log, plan_erasure(log, "person", ADA, now_us()), now=now_us())
    make_checkpoint(log)
    assert done.proof is not None
    receipt = erasure_receipt(log, done.id, done.proof.disclosure)
    policy = log.policy_path.read_text()
    verdict = verify_receipt(receipt, policy)
    said = f'{{"id":"{ADA}","kind":"person"}}'.encode()
    assert verdict.disclosed == (("context/subject", said),)
    assert verdict.entry_type == "auditlog.erasure.v1"
    parsed = parse_receipt(receipt)
    lie = parsed.disclosures[0]._replace(value=said.replace(b"ada", b"eve"))
    lied = format_receipt(replace(parsed, disclosures=(lie,)))
    with pytest.raises(VerificationError, match="expected leaf 3 of the commitment"):
        verify_receipt(lied, policy)
    content = Reader(log).content(done.id)
    assert content.secret is None
    assert "subject" not in content.context
    assert content.context["records"] == b"5"
    entry = parse_entry(parse_receipt(receipt).entry)
    assert sorted(entry.data) == ["commitment", "key", "request", "response", "state"]


def test_it_is_final_when_nothing_is_left_in_the_files(log: LogDirectory) -> None:
    plan = plan_erasure(log, "person", ADA, now_us())
    key, slot = log.keys.key(plan.key_id), log.store.slot_of(plan.key_id)
    label = log.store.use_of(plan.key_id)
    sealed = [log.store.sealed(i) for i in log.store.sealed_under(plan.key_id)]
    assert slot is not None
    assert label is not None
    erase(log, plan, now=now_us())
    assert finish(log, now_us(), wait=5) == 1
    assert finish(log, now_us()) == 0
    assert log.store._database.truncate()
    files = [one for one in log.paths.directory.rglob("*") if one.is_file()]
    held = b"".join(one.read_bytes() for one in files)
    assert log.paths.keyring.read_bytes()[64 * slot : 64 * slot + 64] == bytes(64)
    assert key not in held
    assert label[1].encode() not in held
    for one in sealed:
        assert one is not None
        assert one[1][40:] not in held
    # Once in the table of erasures and once in its index.
    assert held.count(plan.key_id) == 2


def test_a_restored_keyring_forgets_again(log: LogDirectory) -> None:
    kept = log.paths.keyring.read_bytes()
    erase(log, plan_erasure(log, "person", ADA, now_us()), now=now_us())
    assert not is_due(log)
    log.paths.keyring.write_bytes(kept)
    assert is_due(log)
    assert replay(log, now_us()) == 1
    assert log.paths.keyring.read_bytes() != kept
    assert not is_due(log)


def test_a_restored_database_forgets_again(log: LogDirectory) -> None:
    directory = log.paths.directory
    log.store.tidy()
    with sqlite3.connect(log.paths.database) as db:
        old = sqlite3.connect(directory / "old")
        db.backup(old)
    old.close()
    db.close()
    plan = plan_erasure(log, "person", ADA, now_us())
    kept = log.paths.keyring.read_bytes()
    erase(log, plan, now=now_us())
    log.close()
    for end in ("-wal", "-shm"):
        log.paths.database.with_name(f"log.sqlite3{end}").unlink(missing_ok=True)
    (directory / "old").replace(log.paths.database)
    log.paths.keyring.write_bytes(kept)
    with open_log(directory, read_only=True) as restored:
        index = restored.store.sealed_under(plan.key_id)[0]
        name = format_id(restored.store.index_rows(index, index + 1)[0].id)
        with pytest.raises(NotFoundError, match="was erased"):
            Reader(restored).content(name)
    with open_log(directory) as restored:
        assert is_due(restored)
        assert replay(restored, now_us()) == 1
        assert restored.store.sealed_under(plan.key_id) == []
        assert not is_due(restored)


def test_who_comes_back_gets_another_key(log: LogDirectory) -> None:
    plan = plan_erasure(log, "person", ADA, now_us())
    erase(log, plan, now=now_us())
    add_decision(log, ADA)
    again = plan_erasure(log, "person", ADA, now_us())
    assert again.key_id != plan.key_id
    assert again.records == 1
