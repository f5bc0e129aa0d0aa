"""The entry about a model: one for each identity, before who names it, and checked."""

import json
import multiprocessing
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import MalformedError, StorageError, VerificationError
from auditlog.core.receipt import format_receipt, parse_receipt
from auditlog.core.record import (
    DECISION,
    Entry,
    format_entry,
    format_id,
    parse_entry,
)
from auditlog.core.verify import verify_receipt
from auditlog.log.check import check_log
from auditlog.log.directory import open_log
from auditlog.log.model_entry import (
    MODEL,
    ModelCheck,
    identity,
    model_entry,
    model_entry_id,
)
from auditlog.log.preparation import plain_item
from auditlog.log.reader import Reader
from auditlog.log.runtime import Runtime
from auditlog.log.views import decision_json
from auditlog.models.identity import Model
from auditlog.storage import Query, SpoolItem
from auditlog.storage.sqlite import SqliteStore
from tests.harness import check_whole_log, read_log
from tests.log.builders import ORIGIN, config_of, exchange, now_us

DIGEST = "sha256:" + "0f" * 32
CREDIT = Model(
    *("credit", "3", DIGEST),
    details=(("format", "joblib"), ("sklearn.version", "1.9.1")),
    sealed=(("parameters", b'{"C":"0.5"}'),),
)


def record(directory: Path, *models: Model | None, **options: object) -> list[str]:
    """Record a decision on each model, in a run of a service; return their ids."""
    runtime = Runtime(config_of(directory, **options))
    ids = [submit(runtime, model) for model in models]
    runtime.stop()
    return ids


def submit(runtime: Runtime, model: Model | None) -> str:
    one = exchange(0, model=model)
    one.sequence = runtime.open(one.id, one.time)
    runtime.submit(one)
    return format_id(one.id)


def entries(directory: Path) -> list[Entry]:
    return [parse_entry(entry) for entry in check_whole_log(directory).entries]


def models_in(directory: Path) -> list[dict[str, Any]]:
    return [one.data for one in entries(directory) if one.type == MODEL]


def check_order(directory: Path) -> None:
    """Require that every decision names a model which came before it."""
    check_whole_log(directory)
    with open_log(directory, read_only=True) as log:
        assert check_log(log).problems == ()


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_a_model_is_told_once_over_all_runs(tmp_path: Path, durability: str) -> None:
    directory = tmp_path / "audit"
    other = Model("debit")
    for _ in range(2):
        record(directory, CREDIT, CREDIT, other, None, CREDIT, durability=durability)
    names = [data["model.name"] for data in models_in(directory)]
    assert names == ["credit", "debit"]
    check_order(directory)
    types = [entry.type for entry in entries(directory)]
    # In several batches the second model may come after a decision by the first.
    before = types[: types.index(DECISION)]
    assert before in (
        ["auditlog.emitter.v1", MODEL],
        ["auditlog.emitter.v1", MODEL, MODEL],
    )


def test_an_entry_about_a_model_says_this_and_nothing_else(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    record(directory, CREDIT, Model("bare"))
    credit, bare = sorted(models_in(directory), key=len, reverse=True)
    nothing = {"mediaType": "none", "split": "none", "state": "omitted"}
    assert len(credit.pop("commitment")["digest"]) == 44
    assert credit == {
        "model.details": {"format": "joblib", "sklearn.version": "1.9.1"},
        "model.digest": DIGEST,
        "model.name": "credit",
        "model.version": "3",
        "request": nothing,
        "response": nothing,
    }
    assert bare == {"model.name": "bare"}


def test_other_details_are_another_entry(tmp_path: Path) -> None:
    """Such as the same file under a newer library."""
    directory = tmp_path / "audit"
    newer = replace(CREDIT, details=(("sklearn.version", "1.10"),))
    record(directory, CREDIT, newer, CREDIT)
    assert len(models_in(directory)) == 2
    named = [
        entry.data["model.entry"]
        for entry in entries(directory)
        if entry.type == DECISION
    ]
    assert named[0] == named[2] != named[1]


def test_undeclared_models_have_no_entry(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    (id_,) = record(directory, Model("hidden", "7"), models=("credit",))
    assert models_in(directory) == []
    with open_log(directory, read_only=True) as log:
        reader = Reader(log)
        view = reader.decision(id_)
        assert (view.model, decision_json(view)["ranOn"]) == (None, None)
        assert parse_receipt(reader.receipt(id_)).related == ()


def test_what_is_sealed_of_a_model_opens_like_the_content_of_a_decision(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "audit"
    record(directory, CREDIT)
    assert b'"C"' not in b"".join(read_log(directory).entries)
    id_ = format_id(model_entry_id(CREDIT))
    policy = (directory / "policy").read_text()
    with open_log(directory, read_only=True) as log:
        reader = Reader(log)
        assert reader.content(id_).context == {"parameters": b'{"C":"0.5"}'}
        receipt = reader.receipt(id_, disclose=["context/parameters"])
        whole = reader.receipt(id_, open_all=True)
    verdict = verify_receipt(receipt, policy)
    assert verdict.entry_type == MODEL
    assert verdict.disclosed == (("context/parameters", b'{"C":"0.5"}'),)
    assert verify_receipt(whole, policy).id == id_


def test_a_receipt_tells_of_the_model_and_a_verifier_holds_it_to_the_decision(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "audit"
    first, second = record(directory, CREDIT, Model("credit", "3"))
    policy = (directory / "policy").read_text()
    with open_log(directory, read_only=True) as log:
        reader = Reader(log)
        shown = decision_json(reader.decision(first))["ranOn"]
        assert shown["id"] == format_id(model_entry_id(CREDIT))
        assert shown["details"] == dict(CREDIT.details)
        receipt = reader.receipt(first)
        other = reader.receipt(second)
    (related,) = parse_receipt(receipt).related
    assert json.loads(related.entry)["data"]["model.digest"] == DIGEST
    verdict = verify_receipt(receipt, policy)
    assert verdict.checks[-1].name == "related"
    assert verdict.checks[-1].detail.startswith(f"model {shown['id']} of ")
    others = parse_receipt(other).related
    swapped = format_receipt(replace(parse_receipt(receipt), related=others))
    expected = "expected the model of the decision, got another"
    with pytest.raises(VerificationError, match=expected):
        verify_receipt(swapped, policy)


# --- races, and answers that are lost -------------------------------------------------


def _record_in_a_process(directory: Path, barrier: Any) -> None:
    runtime = Runtime(config_of(directory))
    barrier.wait(60)
    for _ in range(20):
        submit(runtime, CREDIT)
        submit(runtime, Model("debit"))
    runtime.stop()


def test_processes_that_race_tell_of_it_once(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    record(directory)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    workers = [
        context.Process(target=_record_in_a_process, args=(directory, barrier))
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len(models_in(directory)) == 2
    assert len(read_log(directory).decisions) == 120
    check_order(directory)


class Losing:
    """A store that loses answers, or is raced, when a model is first told of."""

    def __init__(self, store: SqliteStore, how: str) -> None:
        self._store = store
        self._how: str | None = how

    def append(self, items: Sequence[SpoolItem]) -> int:
        how = self._how
        if how is None or all(item.row.type != MODEL for item in items):
            return self._store.append(items)
        self._how = None
        if how == "lost before":
            raise StorageError("disk full")
        if how == "raced":
            rival = model_entry(CREDIT, ORIGIN, now_us(), bytes(32))[0]
            plain = replace(rival, data=dict(list(rival.data.items())[:4]))
            self._store.append([plain_item(plain)])
            return self._store.append(items)
        self._store.append(items)
        raise StorageError("the answer was lost")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.mark.parametrize("durability", ["spool", "sync"])
@pytest.mark.parametrize("how", ["lost before", "lost after", "raced"])
def test_whatever_the_store_does_it_is_told_once_and_no_decision_is_lost(
    tmp_path: Path, how: str, durability: str
) -> None:
    directory = tmp_path / "audit"
    record(directory)
    runtime = Runtime(config_of(directory, durability=durability))
    runtime._recorder._storing._store = Losing(runtime._log.store, how)
    ids = [submit(runtime, CREDIT) for _ in range(5)]
    runtime.stop()
    assert [one["id"] for one in read_log(directory).decisions] == ids
    assert len(models_in(directory)) == 1
    assert "unrecordable" not in str([one.data for one in entries(directory)])
    check_order(directory)


def test_many_threads_that_name_a_model_first_tell_of_it_once(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    runtime = Runtime(config_of(directory))
    threads = [
        threading.Thread(target=submit, args=(runtime, CREDIT)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    runtime.stop()
    assert len(models_in(directory)) == 1
    check_order(directory)


# --- what check says ------------------------------------------------------------------


def told(model: Model = CREDIT, /, **changes: Any) -> Entry:
    entry = model_entry(model, ORIGIN, now_us(), bytes(32))[0]
    return replace(entry, data={**entry.data, **changes})


def decided(**changes: Any) -> Entry:
    data = {**identity(CREDIT), "model.entry": format_id(model_entry_id(CREDIT))}
    said = {key: value for key, value in {**data, **changes}.items() if value}
    return Entry(model_entry_id(Model("x")), DECISION, ORIGIN, now_us(), said)


def test_a_model_and_its_decisions_hold() -> None:
    check = ModelCheck()
    for entry in (told(), decided(), decided(), told(Model("m")), told()):
        check.note(entry)
    check.note(Entry(bytes(16), DECISION, ORIGIN, 0, {"model.name": "before 0.2"}))


@pytest.mark.parametrize(
    ("noted", "match"),
    [
        ([decided()], "expected the entry of its model before it, got none"),
        ([told(), decided(**{"model.entry": 7})], "before it, got none"),
        ([told(), decided(**{"model.version": "4"})], "that it names, got others"),
        ([told(), decided(**{"model.digest": None})], "that it names, got others"),
        (
            [told(CREDIT, **{"model.version": "4"})],
            "the id that follows from the model",
        ),
        ([told(CREDIT, **{"model.details": {}})], "the id that follows from the model"),
        (
            [told(CREDIT, **{"model.details": {"format": 7}})],
            "detail 'format' is a string",
        ),
        ([told(CREDIT, **{"model.size": 7})], "expected a model with the fields"),
        ([told(CREDIT, **{"model.name": ""})], "a model's name is a string"),
        ([replace(told(), data={})], "expected a model with the fields"),
    ],
)
def test_a_model_that_is_not_the_one_that_is_named_is_found(
    noted: list[Entry], match: str
) -> None:
    check = ModelCheck()
    *before, last = noted
    for entry in before:
        check.note(entry)
    with pytest.raises(MalformedError, match=match):
        check.note(last)


def test_an_entry_about_another_model_is_a_problem_of_the_log(tmp_path: Path) -> None:
    """Written by an operator who has every key."""
    directory = tmp_path / "audit"
    record(directory, Model("bare"))
    with open_log(directory) as log:
        forged = told(Model("debit"), **{"model.name": "credit"})
        log.store.append([plain_item(forged)])
    with open_log(directory, read_only=True) as log:
        problems = [str(problem) for problem in check_log(log).problems]
    assert any("the id that follows from the model" in one for one in problems)


def test_find_lists_decisions_and_not_the_entry_of_their_model(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    record(directory, CREDIT, CREDIT)
    with open_log(directory, read_only=True) as log:
        rows = Reader(log).find(Query(model="credit"))
        about = Reader(log).find(Query(type=MODEL))
    assert [row.type for row in rows] == [DECISION, DECISION]
    assert [row.id for row in about] == [model_entry_id(CREDIT)]


MODELS = st.builds(
    Model,
    st.text(min_size=1, max_size=9).filter(str.isprintable),
    st.none() | st.sampled_from(["3", "4"]),
    st.none() | st.just(DIGEST),
    st.dictionaries(st.sampled_from("abc"), st.just("1")).map(
        lambda found: tuple(found.items())
    ),
)


@given(MODELS, MODELS)
def test_ids_are_those_of_identities(one: Model, other: Model) -> None:
    assert (model_entry_id(one) == model_entry_id(other)) is (one == other)
    first, content = model_entry(one, ORIGIN, 0, bytes(32))
    again, _ = model_entry(one, ORIGIN, now_us(), bytes(range(32)))
    assert (first.id, first.data) == (again.id, again.data)
    assert content is None
    assert parse_entry(format_entry(first)) == first


def test_an_id_never_changes() -> None:
    """Else each upgrade would tell of every model once more."""
    found = format_id(model_entry_id(CREDIT))
    assert found == "00000000-0000-712b-806c-0c17122005c0"
