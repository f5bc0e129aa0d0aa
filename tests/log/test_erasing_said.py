"""What was said of a decision before it was stored goes with whom that is about.

Whoever amends a decision that another process still works on cannot know whose it is.
So what is said has a key of its own, which every erasure of the decision takes along.
"""

import threading
from pathlib import Path

import pytest

from auditlog.capture.subjects import Subject
from auditlog.core.record import format_id
from auditlog.log.access import Access, record_access
from auditlog.log.amending import append_amendment
from auditlog.log.amendment import amendment
from auditlog.log.check import check_log
from auditlog.log.description import Describer
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.emitter import Emitter
from auditlog.log.erasing import (
    catch_up,
    erase,
    is_due,
    plan_decision_erasure,
    plan_erasure,
)
from auditlog.log.erasure_entry import ErasureEntry
from auditlog.log.preparation import Preparation
from auditlog.log.recovery import recover
from auditlog.log.runtime import Runtime
from auditlog.storage import ERASED, KeyErasedError
from auditlog.storage.acceptance import AcceptanceFile
from auditlog.storage.journal import Journal
from auditlog.storage.keys import RECORD, SUBJECT
from auditlog.storage.sqlite_erasures import _SAID_APART, _SAID_OF
from tests.log.builders import config_of, exchange, now_us
from tests.log.erasures import ADA, BOB, made

ADAS = Subject("person", ADA)
ID = b"\x05" * 16


@pytest.fixture
def log(tmp_path: Path) -> LogDirectory:
    return made(tmp_path / "audit")


class Working:
    """Another process, with one decision that it still works on."""

    def __init__(self, log: LogDirectory, subject: Subject | None = ADAS) -> None:
        self.log = log
        self.emitter = Emitter(Journal.create(log.paths.journals, ID), ID)
        self.one = exchange(0, subject=subject)
        self.one.sequence = self.emitter.issue(self.one.id, self.one.time)
        self.emitter.put_on_record(self.one.sequence, self.one.id, self.one.time)
        self._preparation = Preparation(Describer(log.origin, ID, depth=1), log.keys)

    @property
    def id(self) -> str:
        return format_id(self.one.id)

    def store(self) -> None:
        self.log.store.append([self._preparation.prepare(self.one)])

    def accept(self) -> None:
        acceptance = AcceptanceFile.create(self.log.paths.journals, ID)
        assert acceptance.append([self._preparation.prepare(self.one)])
        acceptance.close(clean=False)

    def die(self) -> None:
        self.emitter.close(clean=False)


def _amend(log: LogDirectory, decision: str) -> bytes:
    said = amendment(decision, "human_review", by="j.doe", reason=f"{ADA} called")
    return append_amendment(log, said, now_us())


def _kind(log: LogDirectory, id_: bytes) -> str | None:
    row = log.store.by_id(id_)
    assert row is not None
    assert row.index is not None
    key_id = log.store.sealed_by(row.index)
    assert key_id is not None
    return "erased" if key_id == ERASED else log.keys.kind(key_id)


def _check(log: LogDirectory, erased: int) -> None:
    report = check_log(log)
    assert [one for one in report.problems if "has no start" not in one.what] == []
    assert (report.erased, report.unchecked) == (erased, ())


def test_what_is_said_of_an_open_decision_goes_with_the_person(
    log: LogDirectory,
) -> None:
    work = Working(log)
    said = _amend(log, work.id)
    assert _kind(log, said) == RECORD
    work.store()
    access = Access("content", "cli", {"login": "kim"}, ["context/reason"])
    seen = record_access(log, format_id(said), access, now=now_us() / 1e6)
    _check(log, 0)
    plan = plan_erasure(log, "person", ADA, now_us())
    assert (plan.decisions, plan.amendments, plan.accesses) == (1, 1, 1)
    assert plan.unread == 0
    done = erase(log, plan, now=now_us(), reason="asked")
    assert done.records == 3
    assert {_kind(log, one) for one in (work.one.id, said)} == {"erased"}
    assert log.store.by_id(said) is not None
    assert seen
    assert [row.state for row in log.store.erasures()] == ["shredded"] * 2
    _check(log, 3)


def test_whoever_dies_after_the_first_step_leaves_both_to_the_next(
    log: LogDirectory,
) -> None:
    work = Working(log)
    said = _amend(log, work.id)
    work.store()
    key_id = plan_erasure(log, "person", ADA, now_us()).key_id
    entry = ErasureEntry(key_id, log.keys, log.origin, now_us())
    log.store.begin_erasure(key_id, now_us(), entry.item_of)
    assert entry.total == 2
    with pytest.raises(KeyErasedError, match="got 1 erased"):
        log.store.begin_erasure(key_id, now_us(), entry.item_of)
    with open_log(log.paths.directory) as other:
        assert catch_up(other, now_us()) == 2
        assert not is_due(other)
        assert {_kind(other, one) for one in (work.one.id, said)} == {"erased"}
        _check(other, 2)


def test_what_others_said_of_others_stays(log: LogDirectory) -> None:
    work = Working(log, Subject("person", BOB))
    said = _amend(log, work.id)
    work.store()
    log.keys.subject_key("person", ADA)
    done = erase(log, plan_erasure(log, "person", ADA, now_us()), now=now_us())
    assert done.records == 0
    assert [_kind(log, one) for one in (work.one.id, said)] == [SUBJECT, RECORD]
    assert plan_erasure(log, "person", BOB, now_us()).amendments == 1


def test_recovery_of_what_was_erased_on_its_way_takes_it_along(
    log: LogDirectory,
) -> None:
    work = Working(log)
    said = _amend(log, work.id)
    work.accept()
    erase(log, plan_erasure(log, "person", ADA, now_us()), now=now_us())
    assert _kind(log, said) == RECORD, "nothing leads to it yet"
    work.die()
    assert recover(log, now_us()) == 1
    assert {_kind(log, one) for one in (work.one.id, said)} == {"erased"}
    _check(log, 2)


def test_a_service_that_stores_what_was_erased_on_its_way_takes_it_along(
    log: LogDirectory,
) -> None:
    runtime = Runtime(config_of(log.paths.directory, durability="sync"))
    one = exchange(0, subject=ADAS)
    one.sequence = runtime.open(one.id, one.time)
    said = _amend(log, format_id(one.id))
    accepted = threading.Event()
    runtime.submit(one, lambda _: accepted.set())
    assert accepted.wait(30)
    plan = plan_erasure(log, "person", ADA, now_us())
    runtime._log.keys.forget([plan.key_id])  # as if it had too many others
    erase(log, plan, now=now_us())
    runtime.stop()
    assert {_kind(log, id_) for id_ in (one.id, said)} == {"erased"}


def test_what_is_about_nobody_can_be_erased_alone(log: LogDirectory) -> None:
    work = Working(log, None)
    said = _amend(log, work.id)
    work.store()
    _check(log, 0)
    done = erase(
        log, plan_decision_erasure(log, format_id(said), now_us()), now=now_us()
    )
    assert done.records == 1
    assert _kind(log, said) == "erased"
    assert _kind(log, work.one.id) == "epoch"
    _check(log, 1)


def test_check_finds_an_amendment_under_the_key_of_another(log: LogDirectory) -> None:
    work = Working(log)
    said = [_amend(log, work.id) for _ in range(2)]
    work.store()
    with log.store._database.writing() as connection:
        query = "UPDATE vault SET key_id = (SELECT key_id FROM vault WHERE idx = 1)"
        connection.execute(f"{query} WHERE idx = 0")
    found = [one.what for one in check_log(log).problems if "vault" in one.where]
    assert found[0].startswith("sealed under a key of record, expected the key of epo")
    assert len(said) == 2


def test_the_look_for_it_walks_no_table(log: LogDirectory) -> None:
    """It takes place in a transaction that every writer waits for."""
    work = Working(log)
    _amend(log, work.id)
    work.store()
    key_id = plan_erasure(log, "person", ADA, now_us()).key_id
    assert log.store.said_of(work.one.id) == log.store.said_apart(key_id) != []
    for query in (_SAID_APART, _SAID_OF):
        with log.store._database.reading() as connection:
            plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", (key_id,))
            steps = [row[3] for row in plan.fetchall()]
        assert [step for step in steps if step.startswith("SCAN")] == [], steps
