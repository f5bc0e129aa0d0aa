"""Whom a decision is about: its key, its tag, and what happens when the key is erased.

An erasure is done here as far as who records can see it: the key is not registered any
more, and its slot is zero.
"""

import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zstandard import ZstdCompressor

import auditlog
from auditlog.capture.body import Body
from auditlog.capture.exchange import Exchange
from auditlog.capture.places import parse_place
from auditlog.capture.subjects import Sought, Subject
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    NotFoundError,
    StorageError,
)
from auditlog.core.merkle import leaf_hash
from auditlog.core.record import format_id, parse_entry, parse_id, parse_json
from auditlog.log.amending import append_amendment
from auditlog.log.amendment import amendment
from auditlog.log.check import CheckReport, check_log
from auditlog.log.content import Content, unpack
from auditlog.log.description import Describer
from auditlog.log.directory import LogDirectory, create_log, open_log
from auditlog.log.emitter import Emitter
from auditlog.log.erasing import erase as erase_for_ever
from auditlog.log.erasing import erase_said_of, plan_erasure, replay
from auditlog.log.erasure_entry import ERASURE, ErasureEntry, erased_entry
from auditlog.log.preparation import Preparation, epoch_of, sealed_item
from auditlog.log.recorder import Recorder
from auditlog.log.recovery import recover
from auditlog.log.runtime import Runtime, stop_all
from auditlog.log.said import subject_of
from auditlog.log.storing import Storing
from auditlog.log.subjects import look_into_bodies, take
from auditlog.storage import ERASED, KeyErasedError, Query, SpoolItem, keys
from auditlog.storage.acceptance import AcceptanceFile
from auditlog.storage.journal import Journal
from auditlog.storage.keys import EPOCH, RECORD, SUBJECT, subject_tag
from auditlog.storage.sealing import unseal
from tests.log.builders import ORIGIN, config_of, exchange, now_us

ID = bytes(range(16))
ADA, BOB = Subject("person", "Ada"), Subject("customer", "Bob")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LogDirectory]:
    with create_log(config_of(tmp_path / "audit")) as log:
        yield log


@pytest.fixture
def preparation(log: LogDirectory) -> Preparation:
    return Preparation(Describer(ORIGIN, ID, depth=1), log.keys)


def about(subject: Subject | None, number: int = 0, **fields: Any) -> Exchange:
    """Return an exchange about somebody, as the middleware hands it over."""
    one = exchange(number, **fields)
    if subject is not None:
        take(one, Sought(subject))
    return one


def erase(log: LogDirectory, subject: Subject) -> bytes:
    """Take a key away from under those who seal; return its id."""
    key_id = log.keys.subject(*subject)
    assert key_id is not None
    _erase(log, key_id)
    return key_id


def _erase(log: LogDirectory, key_id: bytes) -> None:
    slot, now = log.store.slot_of(key_id), now_us()
    assert slot is not None
    entry = ErasureEntry(key_id, log.keys, ORIGIN, now)
    log.store.begin_erasure(key_id, now, entry.item_of)
    with log.keys.keyring.writing() as writer:
        writer.destroy([slot])


def content_at(log: LogDirectory, index: int) -> Content:
    """Return what is sealed at an index, by the key that is registered for it."""
    stored = log.store.sealed(index)
    assert stored is not None
    key_id, sealed = stored
    (encoded,) = log.store.read(index, index + 1)
    leaf = leaf_hash(encoded)
    return unpack(unseal(log.keys.key(key_id), key_id, leaf, sealed))


def kind_at(log: LogDirectory, index: int) -> str | None:
    stored = log.store.sealed(index)
    assert stored is not None
    return "erased" if stored == (ERASED, b"") else log.keys.kind(stored[0])


# --- the key and the tag --------------------------------------------------------------


def test_a_decision_is_sealed_under_the_key_of_whom_it_is_about(
    log: LogDirectory, preparation: Preparation
) -> None:
    one, other, same = about(ADA), about(BOB, 1), about(ADA, 2)
    made = [preparation.prepare(each) for each in (one, other, same)]
    log.store.append(made)
    assert made[0].key_id == made[2].key_id != made[1].key_id
    assert [kind_at(log, index) for index in range(3)] == [SUBJECT] * 3
    said = [parse_json(content_at(log, n).context["subject"], limit=99) for n in (0, 1)]
    assert said == [{"id": "Ada", "kind": "person"}, {"id": "Bob", "kind": "customer"}]


def test_its_tag_follows_from_the_key_and_from_nothing_else(
    log: LogDirectory, preparation: Preparation
) -> None:
    made = [preparation.prepare(about(ADA, number)) for number in range(3)]
    tags = {parse_entry(item.entry).subject for item in made}
    assert len(tags) == 3, "one person, and nothing tells that it is one"
    for item in made:
        assert item.key_id is not None
        tag = subject_tag(log.keys.key(item.key_id), item.row.id)
        assert parse_entry(item.entry).subject == urlsafe_b64encode(tag).decode()


def test_without_a_subject_the_tag_is_random_and_the_key_the_days(
    log: LogDirectory, preparation: Preparation
) -> None:
    one = about(None)
    twice = [preparation.prepare(one), preparation.prepare(one)]
    assert {item.key_id for item in twice} == {
        log.keys.epoch_key(epoch_of(one.time))[0]
    }
    assert len({parse_entry(item.entry).subject for item in twice}) == 2


def test_a_decision_about_nobody_may_have_a_key_of_its_own(
    log: LogDirectory, preparation: Preparation
) -> None:
    made = [about(None, n, own_key=True) for n in range(2)]
    made.append(about(ADA, 2, own_key=True))
    preparation.begin(made)
    log.store.append([preparation.prepare(one) for one in made])
    assert [kind_at(log, index) for index in range(3)] == [RECORD, RECORD, SUBJECT]
    key_id = log.store.sealed(0)[0]  # type: ignore[index]
    assert log.store.use_of(key_id) == (RECORD, format_id(made[0].id))
    assert not _report(log).unchecked


def test_a_batch_makes_its_keys_at_once(
    log: LogDirectory, preparation: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [about(Subject("person", f"{n}"), n) for n in range(50)]
    made += [about(None, 50 + n, own_key=True) for n in range(50)]
    times: list[int] = []
    register = log.store.add_keys

    def counted(rows: Sequence[tuple[bytes, int, str, str]]) -> None:
        times.append(len(rows))
        register(rows)

    monkeypatch.setattr(log.store, "add_keys", counted)
    preparation.begin(made)
    for one in made:
        preparation.prepare(one)
    assert times == [1, 50, 50], "what blinds, the subjects, the decisions alone"


@given(st.text(min_size=1, max_size=64))
def test_any_text_that_is_an_identifier_is_told_alike(text: str) -> None:
    """By a handler or by a rule: the leaf has the same bytes."""
    spoken = auditlog.Decision(bytes(16))
    try:
        subject = subject_of(text, "customer")
    except ConfigurationError:
        with pytest.raises(ConfigurationError):
            spoken.set_subject(text, kind="customer")
        return
    one = exchange(0)
    take(one, Sought(subject))
    spoken.set_subject(text, kind="customer")
    said = spoken.conclude()
    assert said is not None
    assert one.context["subject"] == said.facts.leaves()["subject"]
    assert one.subject == subject


@pytest.mark.parametrize(
    ("identifier", "kind", "message"),
    [
        ("", "person", "a subject of 1 to 1024 characters, got 0"),
        ("x" * 1025, "person", "a subject of 1 to 1024 characters, got 1025"),
        ("a\udc00", "person", "written as UTF-8, got a lone surrogate"),
        (7, "person", "a subject as text, got int"),
        ("a", "Person", "kind of a subject as up to 64 lower-case letters"),
        ("a", "", "kind of a subject of 1 to 256 characters, got 0"),
        ("a", None, "kind of a subject as text, got None"),
    ],
)
def test_what_is_no_subject_is_a_fault_of_the_decision_and_no_more(
    preparation: Preparation, identifier: Any, kind: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        subject_of(identifier, kind)
    one = exchange(0)
    take(one, Sought(Subject(kind, identifier)))
    assert one.subject is None
    assert "subject" not in one.context
    said = parse_json(one.context["annotations"], limit=999)
    assert message in said["auditlog.faults"][0]
    assert preparation.prepare(one).sealed


# --- looked for in bodies -------------------------------------------------------------


def test_a_subject_in_a_body_is_found_before_the_keys_are_made(
    log: LogDirectory, preparation: Preparation
) -> None:
    one = exchange(0, subjects=parse_place("customer:request/name"))
    preparation.begin([one])
    item = preparation.prepare(one)
    assert item.key_id == log.keys.subject("customer", "Ada")
    assert one.context["subject"] == b'{"id":"Ada","kind":"customer"}'


def test_what_a_handler_said_wins_over_a_body(preparation: Preparation) -> None:
    one = about(BOB, subjects=parse_place("request/name"))
    preparation.prepare(one)
    assert one.subject == BOB


def test_items_of_a_batch_are_about_whom_its_body_names_unless_told(
    preparation: Preparation,
) -> None:
    first = exchange(0, subjects=parse_place("request/name"))
    other = about(BOB, 1, request=b"", response=b"")
    third = exchange(2, b"", b"", subjects=parse_place("request/name"), whole=first)
    preparation.begin([first, other, third])
    assert [one.subject for one in (first, other, third)] == [ADA, BOB, ADA]
    assert third.whole is None, "bodies are not held longer than they are looked into"


class _Broken:
    def find(self, *_: bytes, **__: str | None) -> Sought:
        raise RuntimeError("secret of a client")


def test_a_finder_that_breaks_its_promise_loses_no_decision(
    preparation: Preparation,
) -> None:
    one = exchange(0, subjects=_Broken())
    preparation.begin([one])
    assert preparation.prepare(one).sealed
    said = parse_json(one.context["annotations"], limit=999)
    assert said == {"auditlog.faults": ["subject in a body: RuntimeError"]}


@pytest.mark.parametrize("limit", [0, 5])
def test_a_body_that_is_not_kept_whole_names_nobody(limit: int) -> None:
    body = Body(bytes(32), 0, limit)
    body.feed(b'{"name":"Ada"}')
    one = exchange(0, body, subjects=parse_place("request/name"))
    look_into_bodies(one)
    assert one.subject is None


# --- erased while it is on its way ----------------------------------------------------


@pytest.fixture
def emitter(log: LogDirectory) -> Emitter:
    return Emitter(Journal.create(log.paths.journals, ID), ID)


class Spool:
    """The real store; before an append, something else may happen."""

    def __init__(self, log: LogDirectory) -> None:
        self._store = log.store
        self.before: list[Callable[[], object]] = []
        self.lost = False

    def append(self, items: Sequence[SpoolItem]) -> int:
        if self.before:
            self.before.pop(0)()
        first = self._store.append(items)
        if self.lost:
            self.lost = False
            raise StorageError("the answer was lost")
        return first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def spool(log: LogDirectory) -> Spool:
    return Spool(log)


@pytest.fixture
def make(
    log: LogDirectory, spool: Spool, emitter: Emitter, preparation: Preparation
) -> Iterator[Callable[..., Recorder]]:
    made: list[Recorder] = []

    def recorder(acceptance: AcceptanceFile | None = None) -> Recorder:
        storing = Storing(
            *(spool, preparation, emitter, ORIGIN, time.time, acceptance),
            erase_said=lambda ids: erase_said_of(log, ids, now_us()),
        )
        made.append(Recorder(storing, emitter, gather=False))
        return made[-1]

    yield recorder
    for one in made:
        one.stop(5)
    emitter.close()


def _submit(recorder: Recorder, emitter: Emitter, one: Exchange) -> list[Any]:
    one.sequence = emitter.issue(one.id, one.time)
    emitter.put_on_record(one.sequence, one.id, one.time)
    verdict: list[AuditLogError | None] = []
    recorder.submit(one, verdict.append)
    return verdict


def _report(log: LogDirectory) -> CheckReport:
    report = check_log(log)
    problems = [one for one in report.problems if one.what != "it has no start"]
    assert not problems, problems
    return report


def test_what_was_queued_is_sealed_under_the_next_key(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter, spool: Spool
) -> None:
    """Its entry was nowhere yet: it is made again, with a tag of the new key."""
    erased: list[bytes] = []
    spool.before = [lambda: erased.append(erase(log, ADA))]
    recorder = make()
    verdicts = [_submit(recorder, emitter, about(one)) for one in (ADA, BOB, None)]
    recorder.start()
    assert recorder.flush(5)
    assert verdicts == [[None]] * 3
    assert log.keys.subject(*ADA) == log.store.sealed(0)[0] != erased[0]  # type: ignore[index]
    assert [kind_at(log, n) for n in range(3)] == [SUBJECT, SUBJECT, EPOCH]
    assert content_at(log, 0).context["subject"] == b'{"id":"Ada","kind":"person"}'
    assert not _report(log).unchecked


def test_what_was_queued_may_be_refused_again_and_again(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter, spool: Spool
) -> None:
    spool.before = [lambda: erase(log, ADA)] * 5
    recorder = make()
    verdict = _submit(recorder, emitter, about(ADA))
    recorder.start()
    assert recorder.flush(5)
    assert verdict == [None]
    assert (log.store.size(), kind_at(log, 0)) == (1, SUBJECT)


def test_what_is_stored_already_is_not_sealed_again(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter, spool: Spool
) -> None:
    """An append whose answer was lost, then the erasure, then the second attempt."""
    spool.lost = True
    spool.before = [lambda: None, lambda: erase(log, ADA)]
    recorder = make()
    for one in (about(ADA), about(BOB)):
        _submit(recorder, emitter, one)
    recorder.start()
    assert recorder.flush(5)
    assert log.store.size() == 2
    assert log.keys.subject(*ADA) is None, "no key was made for what is there"
    assert emitter.state() == (2, [])


def test_what_was_accepted_ahead_keeps_its_entry(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter, spool: Spool
) -> None:
    erased: list[bytes] = []
    acceptance = AcceptanceFile.create(log.paths.journals, ID)
    spool.before = [lambda: erased.append(erase(log, ADA))]
    recorder = make(acceptance)
    made = [about(ADA), about(BOB), about(ADA)]
    verdicts = [_submit(recorder, emitter, one) for one in made]
    recorder.start()
    assert recorder.flush(5)
    acceptance.close(clean=True)
    assert verdicts == [[None]] * 3
    assert log.store.size() == 3
    assert [row.id for row in log.store.index_rows(0, 3)] == [one.id for one in made]
    for index in (0, 2):
        assert log.store.sealed(index)[0] == log.keys.subject(*ADA) != erased[0]  # type: ignore[index]
        assert content_at(log, index).context["subject"]


def test_what_nothing_opens_any_more_is_stored_as_erased_and_counted(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter, spool: Spool
) -> None:
    """The key is not even in memory: the entry was acknowledged, and stays."""

    def erased_and_forgotten() -> None:
        log.keys.forget([erase(log, ADA)])

    acceptance = AcceptanceFile.create(log.paths.journals, ID)
    spool.before, spool.lost = [erased_and_forgotten], False
    recorder = make(acceptance)
    for one in (about(ADA), about(BOB), about(ADA)):
        _submit(recorder, emitter, one)
    recorder.start()
    assert recorder.flush(5)
    acceptance.close(clean=True)
    assert [kind_at(log, n) for n in range(4)] == ["erased", SUBJECT, "erased", EPOCH]
    assert content_at(log, 3).context == {"records": b"2"}
    assert parse_entry(log.store.read(3, 4)[0]).data["state"] == "shredded"
    assert _report(log).erased == 2


def test_an_answer_that_is_lost_after_that_counts_it_once(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter, spool: Spool
) -> None:
    def erased_and_forgotten() -> None:
        log.keys.forget([erase(log, ADA)])
        spool.before = [lambda: setattr(spool, "lost", True)]

    acceptance = AcceptanceFile.create(log.paths.journals, ID)
    spool.before = [erased_and_forgotten]
    recorder = make(acceptance)
    _submit(recorder, emitter, about(ADA))
    recorder.start()
    assert recorder.flush(5)
    acceptance.close(clean=True)
    assert [kind_at(log, n) for n in range(2)] == ["erased", EPOCH]
    assert log.store.size() == 2
    assert _report(log).erased == 1


def test_keys_that_cannot_be_reached_while_sealing_again_lose_nothing(
    log: LogDirectory,
    make: Callable[..., Recorder],
    emitter: Emitter,
    spool: Spool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register, failing = log.store.add_keys, [True, True]

    def refused(rows: Sequence[tuple[bytes, int, str, str]]) -> None:
        if rows[0][2] == SUBJECT and failing:
            failing.pop()
            raise StorageError("disk full")
        register(rows)

    def erased() -> None:
        erase(log, ADA)
        monkeypatch.setattr(log.store, "add_keys", refused)

    acceptance = AcceptanceFile.create(log.paths.journals, ID)
    spool.before = [erased]
    recorder = make(acceptance)
    _submit(recorder, emitter, about(ADA))
    recorder.start()
    assert recorder.flush(5)
    acceptance.close(clean=True)
    assert not failing
    assert (log.store.size(), kind_at(log, 0)) == (1, SUBJECT)
    assert content_at(log, 0).context["subject"]


# --- erased while nobody was there ----------------------------------------------------


def _leave_accepted(log: LogDirectory, exchanges: Sequence[Exchange]) -> None:
    emitter = Emitter(Journal.create(log.paths.journals, ID), ID)
    preparation = Preparation(Describer(ORIGIN, ID, depth=1), log.keys)
    acceptance = AcceptanceFile.create(log.paths.journals, ID)
    for one in exchanges:
        one.sequence = emitter.issue(one.id, one.time)
        emitter.put_on_record(one.sequence, one.id, one.time)
        assert acceptance.append([preparation.prepare(one)])
    acceptance.close(clean=False)
    emitter.close(clean=False)


def test_recovery_stores_as_erased_what_was_erased_meanwhile(log: LogDirectory) -> None:
    made = [about(ADA), about(BOB), about(ADA), about(None)]
    _leave_accepted(log, made)
    key_id = erase(log, ADA)
    assert recover(log, now_us()) == 1
    rows = log.store.index_rows(0, log.store.size())
    assert [row.id for row in rows[:4]] == [one.id for one in made]
    kinds = [kind_at(log, index) for index in range(4)]
    assert kinds == ["erased", SUBJECT, "erased", EPOCH]
    (told,) = log.store.find(Query(type=ERASURE))
    assert told.index is not None
    assert content_at(log, told.index).context == {"records": b"2"}
    entry = parse_entry(log.store.read(told.index, told.index + 1)[0])
    assert entry.data["key"] == b64encode(key_id).decode()
    assert _report(log).erased == 2


def test_recovery_after_an_answer_that_was_lost_counts_once(
    log: LogDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    _leave_accepted(log, [about(ADA)])
    erase(log, ADA)
    append = log.store.append

    def lost(items: Sequence[SpoolItem]) -> int:
        append(items)
        raise StorageError("the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(log.store, "append", lost)
        with pytest.raises(StorageError, match="the answer was lost"):
            recover(log, now_us())
    assert recover(log, now_us()) == 1
    assert len(log.store.find(Query(type=ERASURE))) == 1
    assert _report(log).erased == 1


# --- erased by a real erasure, beside a service that runs ----------------------------


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_beside_an_erasure_each_decision_stands_and_check_finds_nothing(
    tmp_path: Path, durability: str
) -> None:
    """Whenever the erasures come: before, while or after a decision is on its way."""
    config = config_of(tmp_path / "audit", durability=durability)
    runtime, erased = Runtime(config), 0
    told: list[AuditLogError | None] = []
    with open_log(config.dir) as other:
        for number in range(240):
            one = about(ADA if number % 2 else BOB)
            one.sequence = runtime.open(one.id, one.time)
            runtime.submit(one, told.append)
            if number % 40 == 10:
                assert runtime.flush(5), "so that there is something to erase"
            if number % 40 == 20:
                plan = plan_erasure(other, *ADA, now_us())
                erased += erase_for_ever(other, plan, now=now_us()).records or 0
    runtime.stop()
    assert told == [None] * 240
    with open_log(config.dir, read_only=True) as log:
        report = check_log(log)
        assert not report.problems
        assert report.decisions == 240
        # What the service completes itself takes decisions along that wait for a place.
        assert report.erased >= erased > 0
        rows = log.store.index_rows(0, log.store.size())
        last = [
            kind_at(log, row.index or 0) for row in rows if row.sequence is not None
        ]
        assert last.count("erased") == report.erased
        assert set(last) <= {SUBJECT, "erased"}


# --- what is said later ---------------------------------------------------------------


def test_an_amendment_goes_with_whom_its_decision_is_about(
    log: LogDirectory, preparation: Preparation
) -> None:
    one = about(ADA)
    log.store.append([preparation.prepare(one)])
    said = amendment(format_id(one.id), "override", by="j.doe")
    append_amendment(log, said, now_us())
    assert log.store.sealed(1)[0] == log.keys.subject(*ADA)  # type: ignore[index]
    assert not _report(log).unchecked


def test_an_amendment_of_what_is_only_accepted_does_too(log: LogDirectory) -> None:
    one = about(ADA)
    _leave_accepted(log, [one])
    append_amendment(log, amendment(format_id(one.id), "appeal", by="a"), now_us())
    assert log.store.sealed(0)[0] == log.keys.subject(*ADA)  # type: ignore[index]


def test_an_amendment_whose_key_goes_meanwhile_is_sealed_again(
    log: LogDirectory, preparation: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = about(ADA)
    log.store.append([preparation.prepare(one)])
    append = log.store.append
    attempts: list[SpoolItem] = []

    def erased_first(items: Sequence[SpoolItem]) -> int:
        if not attempts:
            erase(log, ADA)
        attempts.append(items[0])
        return append(items)

    monkeypatch.setattr(log.store, "append", erased_first)
    id_ = append_amendment(
        log, amendment(format_id(one.id), "override", by="j.doe"), now_us()
    )
    assert [item.entry for item in attempts] == [attempts[0].entry] * 2
    assert kind_at(log, 1) == RECORD, "nobody knows any more whom it is about"
    assert id_ == attempts[0].row.id
    assert not [one for one in _report(log).unchecked if "being erased" not in one]


def test_an_amendment_right_after_its_decision_finds_its_key(tmp_path: Path) -> None:
    config = config_of(tmp_path / "audit")
    runtime = Runtime(config)
    one = about(ADA)
    one.sequence = runtime.open(one.id, one.time)
    runtime.submit(one)
    id_ = runtime.append(amendment(format_id(one.id), "override", by="j.doe"))
    runtime.stop()
    with open_log(config.dir, read_only=True) as log:
        row = log.store.by_id(id_)
        assert row is not None
        assert row.index is not None
        assert log.store.sealed(row.index)[0] == log.keys.subject(*ADA)  # type: ignore[index]


# --- beyond HTTP ----------------------------------------------------------------------


def test_decisions_beyond_http_have_keys_likewise(tmp_path: Path) -> None:
    where = tmp_path / "audit"
    options: Any = {"dir": where, "record_keys": ["night*"]}
    ids = [
        auditlog.record("nightly", input=1, subject="Ada", **options),
        auditlog.record("nightly", input=2, **options),
        auditlog.record("daily", input=3, **options),
        auditlog.record("nightly", input=4, subject=BOB, **options),
    ]
    with auditlog.decision("daily", input=4, **options) as block:
        first, second = block.split(2)
        first.set_subject("Ada")
        second.set_subject("Bob", kind="customer")
    stop_all()
    with open_log(where, read_only=True) as log:
        rows = [log.store.by_id(parse_id(id_)) for id_ in [*ids, first.id, second.id]]
        stored = [log.store.sealed(row.index)[0] for row in rows]  # type: ignore[index, union-attr, arg-type]
        kinds = [log.keys.kind(key_id) for key_id in stored]
        assert kinds == [SUBJECT, RECORD, EPOCH, *[SUBJECT] * 3]
        assert stored[0] == stored[4] == log.keys.subject(*ADA)
        assert stored[3] == stored[5] == log.keys.subject(*BOB)
        report = check_log(log)
        assert not report.problems
        assert not report.unchecked


# --- what check says ------------------------------------------------------------------


def _sealed_under(
    log: LogDirectory, preparation: Preparation, one: Exchange, key_id: bytes
) -> SpoolItem:
    """Return the item of an exchange, sealed under another key than it should be."""
    item = preparation.prepare(one)
    assert item.key_id is not None
    assert item.sealed is not None
    leaf = leaf_hash(item.entry)
    plain = unseal(log.keys.key(item.key_id), item.key_id, leaf, item.sealed)
    entry = parse_entry(item.entry)
    made = sealed_item(entry, unpack(plain), log.keys, ZstdCompressor(), under=key_id)
    return made._replace(row=item.row)


def _problems(log: LogDirectory) -> list[str]:
    report = check_log(log)
    return [one.what for one in report.problems if one.where.startswith("vault")]


def test_check_finds_the_key_of_another_subject(
    log: LogDirectory, preparation: Preparation
) -> None:
    bobs, _ = log.keys.subject_key(*BOB)
    log.store.append([_sealed_under(log, preparation, about(ADA), bobs)])
    assert sorted(_problems(log)) == [
        "sealed under a key that does not give the tag of its entry",
        "sealed under the key of another subject than its content names",
    ]


@pytest.mark.parametrize("kind", [RECORD, "index", EPOCH])
def test_check_finds_a_key_that_is_for_something_else(
    log: LogDirectory, preparation: Preparation, kind: str
) -> None:
    one, other = about(None), about(None, 1)
    log.keys.subject_key(*ADA)
    key_id = {
        RECORD: log.keys.record_keys([other.id])[0][0],
        "index": log.store.key_slot("index", "")[0],  # type: ignore[index]
        EPOCH: log.keys.epoch_key("1999-12-31")[0],
    }[kind]
    log.store.append([_sealed_under(log, preparation, one, key_id)])
    expected = f"expected the key of epoch {epoch_of(one.time)}"
    (found, *_) = _problems(log)
    assert found.startswith("sealed under")
    assert found.endswith(expected)


def test_check_finds_an_amendment_under_the_key_of_somebody_else(
    log: LogDirectory, preparation: Preparation
) -> None:
    one, other = about(ADA), about(BOB, 1)
    log.store.append([preparation.prepare(one), preparation.prepare(other)])
    append_amendment(log, amendment(format_id(one.id), "appeal", by="a"), now_us())
    bobs = log.keys.subject(*BOB)
    (encoded,) = log.store.read(2, 3)
    item = sealed_item(
        *(parse_entry(encoded), content_at(log, 2), log.keys, ZstdCompressor()),
        under=bobs,
    )
    with log.store._database.writing() as connection:
        values = (item.key_id, item.sealed, 2)
        connection.execute(
            "UPDATE vault SET key_id = ?, sealed = ? WHERE idx = ?", values
        )
    (found,) = _problems(log)
    assert found.startswith("sealed under a key of subject, expected the key of epoch")
    assert found.endswith("or of the decision that it is about")


@pytest.mark.parametrize("since", [-61_000_000, -1_000_000, 1])
def test_a_tag_of_an_older_key_is_unchecked_only_where_an_erasure_is_younger(
    log: LogDirectory, preparation: Preparation, since: int
) -> None:
    one = about(ADA)
    item = preparation.prepare(one)
    old = erase(log, ADA)
    again = preparation.seal_again(item)
    assert again is not None
    told = erased_entry(old, 0, log.keys, ORIGIN, one.time + since)
    log.store.append([again, told])
    report = check_log(log)
    problems = [p.what for p in report.problems if p.where.startswith("vault")]
    sealed_again = "1 x tag of a decision older than an erasure: it was sealed again"
    if since > -60_000_000:
        assert not problems
        assert sealed_again in report.unchecked
    else:
        assert problems == [
            "sealed under a key that does not give the tag of its entry"
        ]
        assert sealed_again not in report.unchecked


def test_what_is_just_being_erased_is_no_problem(
    log: LogDirectory, preparation: Preparation
) -> None:
    log.store.append([preparation.prepare(about(ADA))])
    erase(log, ADA)
    report = _report(log)
    assert "1 x content that is just being erased" in report.unchecked
    assert report.erased == 0


def test_a_row_marked_as_erased_holds_nothing(
    log: LogDirectory, preparation: Preparation
) -> None:
    item = preparation.prepare(about(ADA))
    log.store.append([item._replace(key_id=ERASED)])
    assert _problems(log) == ["is marked as erased, but holds content"]


def test_a_key_that_vanished_without_an_erasure_is_a_problem(
    log: LogDirectory, preparation: Preparation
) -> None:
    item = preparation.prepare(about(ADA))
    log.store.append([item])
    with log.store._database.writing() as connection:
        connection.execute("DELETE FROM keys WHERE key_id = ?", (item.key_id,))
    (found,) = _problems(log)
    assert found.startswith("sealed under a key that is not registered, expected the")


# --- refused by the store -------------------------------------------------------------


def test_the_store_names_the_keys_that_live_no_more(
    log: LogDirectory, preparation: Preparation
) -> None:
    made = [about(Subject("person", f"{n}"), n) for n in range(40)]
    items = [preparation.prepare(one) for one in made]
    gone = {erase(log, one.subject) for one in made[::7] if one.subject}
    with pytest.raises(KeyErasedError, match=r"keys that live, got 6 erased") as caught:
        log.store.append(items)
    assert set(caught.value.key_ids) == gone
    assert log.store.size() == 0
    log.store.append([one for one in items if one.key_id not in gone])
    assert log.store.size() == 34


def test_a_key_that_another_process_erased_is_not_used_again(
    log: LogDirectory, preparation: Preparation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what is accepted long after the erasure would go with who dies then."""
    monkeypatch.setattr(keys, "_LOOK_SECONDS", 0.0)
    before, late, one = (about(ADA, number) for number in range(3))
    log.store.append([preparation.prepare(before)])
    behind = preparation.prepare(late)
    with open_log(log.paths.directory) as other:
        plan = plan_erasure(other, *ADA, now_us())
        erase_for_ever(other, plan, now=now_us())
    preparation.begin([one])
    item = preparation.prepare(one)
    log.store.append([item])
    assert item.key_id == log.keys.subject(*ADA) != plan.key_id
    assert preparation.seal_again(behind) is not None
    log.keys.settled()
    assert preparation.seal_again(behind) is None


def test_a_slot_that_is_damaged_stops_nothing_about_others(
    log: LogDirectory, make: Callable[..., Recorder], emitter: Emitter
) -> None:
    """It is admitted by name, as what cannot be described; all the rest is recorded."""
    (adas, _), _ = log.keys.subject_keys([ADA, BOB])
    at = 64 * (log.store.slot_of(adas) or 0)
    slots = log.paths.keyring.read_bytes()
    log.paths.keyring.write_bytes(slots[:at] + bytes([9]) * 64 + slots[at + 64 :])
    log.keys.forget([adas])
    recorder = make()
    verdicts = [_submit(recorder, emitter, about(one)) for one in (ADA, BOB, None)]
    recorder.start()
    assert recorder.flush(5)
    assert [verdict == [None] for verdict in verdicts] == [False, True, True]
    stored = [parse_entry(one) for one in log.store.read(0, log.store.size())]
    reasons = [one.data["reason"] for one in stored if "reason" in one.data]
    assert (len(stored), reasons) == (3, ["unrecordable"])


def test_who_completes_an_erasure_leaves_what_was_just_sealed_to_be_sealed_again(
    log: LogDirectory, preparation: Preparation
) -> None:
    """The leader does so beside those who record, in the same process."""
    item = preparation.prepare(about(ADA))
    erase(log, ADA)
    assert replay(log, now_us()) == 1
    with pytest.raises(NotFoundError, match="was erased"):
        log.keys.key(item.key_id or b"")
    again = preparation.seal_again(item)
    assert again is not None
    assert again.key_id == log.keys.subject(*ADA) != item.key_id
    log.keys.settled()
    assert preparation.seal_again(item) is None
