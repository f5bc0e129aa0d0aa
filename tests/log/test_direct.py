"""`auditlog.record` and `auditlog.decision`: what is in the log, and what is raised."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import auditlog
from auditlog.config import Config
from auditlog.core.errors import AuditLogError, ConfigurationError, StorageError
from auditlog.core.record import format_id, parse_entry
from auditlog.core.verify import verify_receipt
from auditlog.log.block import DecisionBlock
from auditlog.log.check import check_log
from auditlog.log.content import Content
from auditlog.log.directory import open_log
from auditlog.log.ending import _stop
from auditlog.log.leader import Leader
from auditlog.log.reader import Reader
from auditlog.log.recording import stand_in
from auditlog.log.runtime import runtime_for, stop_all
from auditlog.models.identity import Model
from auditlog.storage import Query
from tests.log.builders import ORIGIN
from tests.web.fake_runtime import FakeRuntime

NOTHING = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A log that most tests share: to make one takes longer than they do."""
    yield tmp_path_factory.mktemp("direct") / "audit"
    stop_all()


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Path]:
    """No log yet."""
    yield tmp_path / "audit"
    stop_all()


@pytest.fixture
def record(directory: Path) -> Callable[..., str]:
    return partial(auditlog.record, dir=directory, origin=ORIGIN)


@pytest.fixture
def decision(directory: Path) -> Callable[..., DecisionBlock]:
    return partial(auditlog.decision, dir=directory, origin=ORIGIN)


def on_a_loop(
    test: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., None]:
    """Run an asynchronous test."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until another thread has done something."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it is no event of a loop
            await asyncio.sleep(0)


def look(directory: Path, id_: str) -> tuple[dict[str, Any], Content]:
    """Return what stands in clear, and what is sealed."""
    with open_log(directory, read_only=True) as log:
        reader = Reader(log)
        view = reader.decision(id_)
        assert view.entry is not None
        return parse_entry(view.entry).data, reader.content(id_)


def caused(content: Content) -> str | None:
    annotations = json.loads(content.context.get("annotations", b"{}"))
    cause = annotations.get("auditlog.caused_by")
    return None if cause is None else cast("str", cause["decision"])


# --- what is recorded -----------------------------------------------------------------


def test_a_record_is_a_whole_decision(
    record: Callable[..., str], directory: Path
) -> None:
    id_ = record(
        "nightly-scoring",
        input={"age": 41, "income": np.float64(52000)},
        output={"score": np.float32(0.5)},
        model="credit@3",
        subject="C-1042",
        user="scheduler",
        session="run 7",
        annotations={"shard": 3},
    )
    data, content = look(directory, id_)
    assert data["operation"] == "nightly-scoring"
    assert (data["model.name"], data["model.version"]) == ("credit", "3")
    assert data["outcome"] == "completed"
    assert not [name for name in data if name.startswith("http.")]
    whole = {"mediaType": "application/json", "split": "json", "state": "complete"}
    assert data["request"] == data["response"] == whole
    assert content.request == b'{"age":41,"income":52000.0}'
    assert content.response == b'{"score":0.5}'
    assert {name: json.loads(value) for name, value in content.context.items()} == {
        "annotations": {"shard": 3},
        "session": {"id": "run 7"},
        "subject": {"id": "C-1042", "kind": "person"},
        "user": {"caller": "scheduler"},
    }


def test_it_is_durable_when_it_is_told(
    record: Callable[..., str], directory: Path
) -> None:
    id_ = record("job", input=1, output=2)
    with open_log(directory, read_only=True) as log:
        assert Reader(log).decision(id_).level != "opened"


def test_it_need_not_be_waited_for(record: Callable[..., str], fresh: Path) -> None:
    ids = [record("job", input=n, output=n, wait=False, dir=fresh) for n in range(50)]
    stop_all()
    with open_log(fresh, read_only=True) as log:
        found = Reader(log).find(Query(route="job", limit=100))
        assert [format_id(row.id) for row in found] == ids[::-1]
        assert check_log(log).problems == ()


def test_one_member_is_disclosed_and_verified_offline(
    record: Callable[..., str], fresh: Path
) -> None:
    rows = {"instances": [{"age": 41}, {"age": 17}]}
    id_ = record("batch", input=rows, output={"predictions": [1, 0]}, dir=fresh)
    stop_all()
    with open_log(fresh, read_only=True) as log:
        policy = log.policy_path.read_text("utf-8")
        receipt = Reader(log).receipt(id_, disclose=["request/instances/1"])
    verdict = verify_receipt(receipt, policy)
    assert verdict.disclosed == (("request/instances/1", b'{"age":17}'),)


def test_bytes_and_text_have_a_media_type(
    record: Callable[..., str], directory: Path
) -> None:
    id_ = record("ocr", input=b"\x89PNG", input_type="image/png", output="Hello")
    data, content = look(directory, id_)
    assert data["request"]["mediaType"] == "image/png"
    assert data["response"]["mediaType"] == "text/plain"
    assert (content.request, content.response) == (b"\x89PNG", b"Hello")


def test_a_media_type_that_nobody_knows_is_under_the_commitment(
    record: Callable[..., str], directory: Path
) -> None:
    id_ = record("x", input=b"", input_type="application/x-secret", output=None)
    data, content = look(directory, id_)
    assert data["request"]["mediaType"] == "other"
    assert content.context["request.mediatype"] == b"application/x-secret"
    assert content.response == b"null"


def test_what_was_not_given_was_not_observed(
    record: Callable[..., str], directory: Path
) -> None:
    data, content = look(directory, record("job", input=1, outcome="error"))
    assert data["outcome"] == "error"
    unknown = {"mediaType": "none", "split": "none", "state": "not_observed"}
    assert (data["response"], content.response) == (unknown, b"")


def test_a_large_input_is_committed_to_whole_and_kept_in_part(
    record: Callable[..., str], directory: Path
) -> None:
    picture = bytes(range(256)) * 16 * 1024
    id_ = record("ocr", input=picture, output=1, max_stored_bytes=1 << 21)
    data, content = look(directory, id_)
    assert data["request"]["split"] == "chunks"
    assert content.request == picture[: 1 << 21]
    assert content.is_capped("request")


def test_the_model_may_come_from_the_options(
    record: Callable[..., str], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDITLOG_MODEL", "default@1")
    assert look(directory, record("j", input=1))[0]["model.name"] == "default"
    digest = "sha256:" + "0" * 64
    data, _ = look(directory, record("j", input=1, model=Model("m", "2", digest)))
    assert (data["model.name"], data["model.digest"]) == ("m", digest)


def test_a_model_that_is_not_declared_is_other(
    record: Callable[..., str], fresh: Path
) -> None:
    id_ = record("job", input=1, model="hidden@1", models=("known",), dir=fresh)
    data, content = look(fresh, id_)
    assert data["model.name"] == "other"
    assert json.loads(content.context["model"]) == {"name": "hidden", "version": "1"}


def test_operations_are_found_like_routes(
    record: Callable[..., str], directory: Path
) -> None:
    ids = [record(name, input=1) for name in ("one", "two", "one")]
    with open_log(directory, read_only=True) as log:
        rows = Reader(log).find(Query(route="one"))
    assert [format_id(row.id) for row in rows] == [ids[2], ids[0]]


# --- blocks ---------------------------------------------------------------------------


def test_a_block_is_the_current_decision(
    decision: Callable[..., DecisionBlock], directory: Path
) -> None:
    with decision("triage", input={"text": "help"}) as made:
        assert auditlog.current() is made
        auditlog.current().set_model("router", version="9")
        made.set_result(label="urgent", score=np.float64(0.9))
        made.set_human(reviewer="Kim", action="approved")
        made.set_output({"queue": "urgent"})
    with pytest.raises(AuditLogError, match=r"or inside a block of auditlog\.decision"):
        auditlog.current()
    data, content = look(directory, made.id)
    assert data["model.name"] == "router"
    assert data["duration"] >= 0
    assert json.loads(content.context["outcome"])["result"]["label"] == "urgent"
    assert content.response == b'{"queue":"urgent"}'


def test_a_block_is_entered_once(decision: Callable[..., DecisionBlock]) -> None:
    block = decision("job", input=1)
    with block, pytest.raises(AuditLogError, match="entered once, got twice"), block:
        pytest.fail("it was entered twice")
    with pytest.raises(AuditLogError, match="entered once, got twice"), block:
        pytest.fail("it was entered twice")


def test_what_is_printed_of_it_holds_no_content(
    decision: Callable[..., DecisionBlock],
) -> None:
    with decision("job", input="p4ssw0rd", subject="p4ssw0rd") as made:
        made.set_output("p4ssw0rd")
        assert made.id in repr(made)
        assert "p4ssw0rd" not in repr(made)


def test_the_last_input_and_output_count(
    decision: Callable[..., DecisionBlock], directory: Path
) -> None:
    with decision("job", input=1) as made:
        made.set_input([2], media_type="application/json; v=1")
        made.set_output("draft")
        made.set_output("final", media_type="text/markdown")
    data, content = look(directory, made.id)
    assert (content.request, content.response) == (b"[2]", b"final")
    assert data["response"]["mediaType"] == "text/markdown"


def test_an_exception_is_an_error_and_passes_on(
    decision: Callable[..., DecisionBlock], directory: Path
) -> None:
    block = decision("job", input=1)
    with pytest.raises(ValueError, match="on purpose"), block:
        raise ValueError("on purpose")
    data, _ = look(directory, block.operation.id)
    assert data["outcome"] == "error"


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]
)
def test_whoever_ends_the_work_interrupts_it(
    decision: Callable[..., DecisionBlock],
    directory: Path,
    error: type[BaseException],
) -> None:
    block = decision("job", input=1)
    with pytest.raises(error), block:
        raise error
    assert look(directory, block.operation.id)[0]["outcome"] == "interrupted"


def test_a_generator_that_is_closed_is_interrupted(
    decision: Callable[..., DecisionBlock], directory: Path
) -> None:
    block = decision("stream", input=1)

    def stream() -> Iterator[int]:
        with block:
            yield 1

    answer = stream()
    assert next(answer) == 1
    answer.close()  # type: ignore[attr-defined]
    assert look(directory, block.operation.id)[0]["outcome"] == "interrupted"


def test_a_skipped_one_is_no_decision(
    decision: Callable[..., DecisionBlock], directory: Path
) -> None:
    with decision("job", input={"probe": 1}) as made:
        made.skip("a dry run")
    data, content = look(directory, made.id)
    assert data["outcome"] == "skipped"
    assert (content.request, content.is_capped("request")) == (b"", True)


def test_a_block_inside_another_names_it(
    decision: Callable[..., DecisionBlock],
    record: Callable[..., str],
    directory: Path,
) -> None:
    with decision("outer", input=1) as outer:
        with decision("inner", input=2) as inner:
            told = record("told", input=3)
            assert auditlog.current() is inner
        assert auditlog.current() is outer
    causes = [caused(look(directory, id_)[1]) for id_ in (outer.id, inner.id, told)]
    assert causes == [None, outer.id, inner.id]


def test_a_worker_names_the_request_that_it_works_for(
    record: Callable[..., str], directory: Path
) -> None:
    asked = record("accept", input=1)
    done = record("work", input=1, caused_by=asked, annotations={"try": 2})
    assert caused(look(directory, done)[1]) == asked


def test_a_batch_is_split(
    decision: Callable[..., DecisionBlock], directory: Path
) -> None:
    with decision("score", input=[1, 2, 3]) as made:
        items = made.split(3)
        for number, item in enumerate(items):
            item.set_result(score=number)
        made.set_output([0.1, 0.2, 0.3])
    assert items[0] is made
    bodies = [look(directory, item.id) for item in items]
    scores = [json.loads(one.context["outcome"])["result"] for _, one in bodies]
    assert scores == [{"score": 0}, {"score": 1}, {"score": 2}]
    assert [data["request"]["state"] for data, _ in bodies] == [
        *("complete", "omitted", "omitted")
    ]
    assert {data["operation"] for data, _ in bodies} == {"score"}


def test_threads_record_side_by_side(record: Callable[..., str], fresh: Path) -> None:
    ids: list[str] = []

    def work() -> None:
        ids.extend(record("job", input=number, dir=fresh) for number in range(10))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop_all()
    with open_log(fresh, read_only=True) as log:
        found = Reader(log).find(Query(route="job", limit=100))
        assert {format_id(row.id) for row in found} == set(ids)
        assert check_log(log).problems == ()


# --- async ----------------------------------------------------------------------------


@on_a_loop
async def test_async_with_is_the_same(
    decision: Callable[..., DecisionBlock], directory: Path
) -> None:
    async with decision("outer", input=1) as outer:
        assert auditlog.current() is outer
        async with decision("inner", input=1) as inner:
            inner.set_output(2)
    data, content = look(directory, inner.id)
    assert (data["operation"], data["outcome"]) == ("inner", "completed")
    assert (content.response, caused(content)) == (b"2", outer.id)


@on_a_loop
async def test_it_never_blocks_the_loop(
    decision: Callable[..., DecisionBlock], directory: Path
) -> None:
    """The disk takes its time, and somebody else goes on: on the way in and out."""
    runtime, gate = FakeRuntime(gated=True), threading.Event()
    open_now = runtime.open

    def slow(id_: bytes, time_us: int) -> int:
        assert gate.wait(10), "nobody went on"
        return open_now(id_, time_us)

    runtime.open = slow  # type: ignore[method-assign]

    async def go_on() -> None:
        gate.set()
        await until(lambda: bool(runtime.waiting))
        runtime.accept()

    async def work() -> None:
        async with decision("job", input=1):
            assert not runtime.waiting

    with stand_in(lambda _: runtime):
        await asyncio.gather(work(), go_on())
    assert runtime.only().exchange.outcome == "completed"


@pytest.mark.parametrize("moment", ["before", "inside"])
@on_a_loop
async def test_a_cancelled_task_interrupts_it(
    decision: Callable[..., DecisionBlock], moment: str
) -> None:
    runtime, numbering, go = FakeRuntime(), threading.Event(), threading.Event()
    entered, open_now = asyncio.Event(), runtime.open

    def slow(id_: bytes, time_us: int) -> int:
        numbering.set()
        go.wait(10)
        return open_now(id_, time_us)

    runtime.open = slow  # type: ignore[method-assign]

    async def work() -> None:
        async with decision("job", input=1):
            entered.set()
            await asyncio.Event().wait()

    with stand_in(lambda _: runtime):
        task = asyncio.create_task(work())
        await asyncio.to_thread(numbering.wait, 10)
        if moment == "inside":
            go.set()
            await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        await until(lambda: bool(runtime.seen))
    assert runtime.only().exchange.outcome == "interrupted"


@on_a_loop
async def test_an_async_generator_that_is_closed_does_not_wait(
    decision: Callable[..., DecisionBlock],
) -> None:
    runtime = FakeRuntime(gated=True)

    async def stream() -> AsyncIterator[int]:
        async with decision("stream", input=1):
            yield 1

    with stand_in(lambda _: runtime):
        answer = stream()
        assert await anext(answer) == 1
        await answer.aclose()  # type: ignore[attr-defined]
    assert runtime.only().exchange.outcome == "interrupted"


def test_without_a_loop_of_asyncio_it_works_as_with_does(
    decision: Callable[..., DecisionBlock], directory: Path
) -> None:
    block = decision("job", input=1)
    for step in (block.__aenter__(), block.__aexit__(None, None, None)):
        with pytest.raises(StopIteration):
            step.send(None)
    assert look(directory, block.operation.id)[0]["outcome"] == "completed"


# --- what fails -----------------------------------------------------------------------


class BrokenDisk(FakeRuntime):
    """Numbers decisions, and then says that none reaches the disk."""

    def __init__(self) -> None:
        super().__init__()
        self.accept_error = StorageError("disk full")


def test_under_open_what_cannot_be_opened_goes_on(
    decision: Callable[..., DecisionBlock],
    record: Callable[..., str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = FakeRuntime()
    runtime.open_error = StorageError("disk full")
    with stand_in(lambda _: runtime):
        with decision("job", input=1) as made:
            assert not made.recorded
            made.set_output(1)
            assert made.split(2)[1].id == NOTHING
        assert record("job", input=1) == NOTHING
    assert caplog.text.count("a decision is not recorded: StorageError: disk full") == 2
    assert runtime.seen == []


def test_under_open_a_log_that_cannot_be_opened_goes_on(
    decision: Callable[..., DecisionBlock], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> FakeRuntime:
        raise StorageError("no such disk")

    with stand_in(fail), decision("job", input=1) as made:
        assert made.id == NOTHING
    assert "a decision is not recorded: StorageError: no such disk" in caplog.text


def test_a_fault_of_ours_is_as_bad_as_a_disk_and_no_worse(
    decision: Callable[..., DecisionBlock], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> FakeRuntime:
        raise RuntimeError("can't start new thread")

    with stand_in(fail), decision("job", input=1) as made:
        assert made.id == NOTHING
    said = "a fault of auditlog's own: RuntimeError"
    assert "a decision is not recorded: RuntimeError at " in caplog.text
    block = decision("job", input=1, on_failure="closed")
    with stand_in(fail), pytest.raises(StorageError, match=said), block:
        pytest.fail("the model ran")


def test_under_open_what_is_not_accepted_is_told(
    record: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    with stand_in(lambda _: BrokenDisk()):
        id_ = record("job", input=1)
    assert f"decision {id_} is not recorded: disk full" in caplog.text


def test_under_closed_nothing_is_decided_that_cannot_be_recorded(
    decision: Callable[..., DecisionBlock], record: Callable[..., str]
) -> None:
    runtime = FakeRuntime()
    runtime.is_healthy = False
    with stand_in(lambda _: runtime):
        block = decision("job", input=1, on_failure="closed")
        with pytest.raises(StorageError, match="those before this one do not"), block:
            pytest.fail("the model ran")
        with pytest.raises(StorageError, match=r"on_failure=closed"):
            record("job", input=1, on_failure="closed")
        runtime.is_healthy, runtime.open_error = True, StorageError("disk full")
        with pytest.raises(StorageError, match="disk full"), block:
            pytest.fail("the model ran")
    assert runtime.opened == {}


def test_under_closed_what_is_not_accepted_must_not_be_used(
    decision: Callable[..., DecisionBlock], record: Callable[..., str]
) -> None:
    with stand_in(lambda _: BrokenDisk()):
        block = decision("job", input=1, on_failure="closed")
        expected = "but it was not: what it gave must not be used"
        with pytest.raises(AuditLogError, match=expected), block:
            pass
        with pytest.raises(AuditLogError, match=expected):
            record("job", input=1, on_failure="closed")


@on_a_loop
async def test_under_closed_async_with_raises_likewise(
    decision: Callable[..., DecisionBlock],
) -> None:
    with (
        stand_in(lambda _: BrokenDisk()),
        pytest.raises(AuditLogError, match="must not be used"),
    ):
        async with decision("job", input=1, on_failure="closed"):
            pass


def test_under_closed_the_error_of_the_work_is_not_hidden(
    decision: Callable[..., DecisionBlock], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        stand_in(lambda _: BrokenDisk()),
        pytest.raises(ValueError, match="on purpose"),
        decision("job", input=1, on_failure="closed"),
    ):
        raise ValueError("on purpose")
    assert "is not recorded: disk full" in caplog.text


def test_a_disk_that_hangs_is_not_waited_for_for_ever(
    record: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("auditlog.log.waiting.SECONDS", 0.01)
    with stand_in(lambda _: FakeRuntime(gated=True)):
        record("job", input=1)
    assert "expected acceptance within 0 s, got no answer" in caplog.text


@on_a_loop
async def test_nor_is_it_on_a_loop(
    decision: Callable[..., DecisionBlock],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("auditlog.log.waiting.SECONDS", 0.01)
    runtime = FakeRuntime(gated=True)
    with stand_in(lambda _: runtime):
        async with decision("job", input=1):
            pass
    runtime.accept()
    assert "got no answer" in caplog.text


def test_an_answer_after_the_loop_is_closed_disturbs_nobody(
    decision: Callable[..., DecisionBlock],
) -> None:
    runtime = FakeRuntime(gated=True)

    async def work() -> None:
        async with decision("job", input=1):
            pass

    async def give_up() -> None:
        task = asyncio.create_task(work())
        await until(lambda: bool(runtime.waiting))
        task.cancel()

    with stand_in(lambda _: runtime):
        asyncio.run(give_up())
    runtime.accept()
    assert runtime.only().exchange.outcome == "completed"


def test_a_fault_in_what_was_said_loses_no_number(
    decision: Callable[..., DecisionBlock],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("auditlog.log.block.fill", fail)
    runtime = FakeRuntime()
    with stand_in(lambda _: runtime), decision("job", input=1):
        pass
    assert runtime.only().request == b"1"
    assert "what was said about a decision is lost" in caplog.text


def test_disabled_records_nothing_and_makes_nothing(
    decision: Callable[..., DecisionBlock],
    record: Callable[..., str],
    fresh: Path,
) -> None:
    assert record("job", input=1, enabled=False, dir=fresh) == NOTHING
    with decision("job", enabled=False, dir=fresh) as made:
        assert auditlog.current() is made
        made.set_output(1)
    assert auditlog.amend(made.id, "outcome", enabled=False, dir=fresh) == NOTHING
    assert not fresh.exists()


def test_a_log_that_cannot_be_used_stops_it_in_both_modes(
    record: Callable[..., str], fresh: Path
) -> None:
    record("job", input=1, dir=fresh)
    stop_all()
    (fresh / "keys" / "log.key").unlink()
    for on_failure in ("open", "closed"):
        with pytest.raises(ConfigurationError, match=r"log.key missing"):
            record("job", input=1, on_failure=on_failure, dir=fresh)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"operation": ""}, "expected the name of an operation of 1 to 256 char"),
        ({"operation": "a\nb"}, "the name of an operation in printable characters"),
        ({"operation": b"job"}, "expected the name of an operation as text, got byte"),
        ({"outcome": "won"}, "expected an outcome out of completed, error, "),
        ({"input": float("nan")}, "expected the input without NaN"),
        ({"output": {1: 2}}, "expected text as each key in the output"),
        ({"output": b"", "output_type": ""}, "the media type of the output of 1 to"),
        ({"caused_by": "x"}, "expected the id of a decision, a UUIDv7 in lower case"),
        ({"caused_by": 5}, "expected the id of a decision as text, got int"),
        ({"model": ""}, "a model's name is a string of 1 to 256 printable"),
        ({"model": 5}, "expected a model as text or a Model, got int"),
        ({"subject": ""}, "expected a subject of 1 to 1024 characters"),
        ({"annotations": 5}, "expected attributes as values by name, got int"),
        ({"annotations": {5: 1}}, "expected names of attributes as up to 64"),
        ({"annotations": {"auditlog.x": 1}}, "not beginning with 'auditlog.'"),
        ({"durabilty": "sync"}, "option 'durabilty' is not known; did you mean 'dur"),
    ],
)
def test_a_mistake_is_raised_where_it_is_made(
    record: Callable[..., str], fresh: Path, said: dict[str, Any], message: str
) -> None:
    said = {"operation": "job", "input": 1, **said}
    with pytest.raises(ConfigurationError, match=message):
        record(said.pop("operation"), **said, dir=fresh)
    assert not fresh.exists()


def test_two_places_of_one_process_must_agree_on_the_log(
    record: Callable[..., str],
) -> None:
    record("job", input=1)
    with pytest.raises(ConfigurationError, match="with another on_failure"):
        record("job", input=1, on_failure="closed")


def test_sync_and_spool_both_work(record: Callable[..., str], fresh: Path) -> None:
    id_ = record("job", input=1, output=2, durability="sync", dir=fresh)
    with open_log(fresh, read_only=True) as log:
        assert Reader(log).decision(id_).level != "opened"


def test_nobody_waits_for_the_company_of_others(
    record: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Decisions of requests gather for a while; a job has nothing else to do."""
    record("job", input=1)
    monkeypatch.setattr("auditlog.log.recorder._GATHER_SECONDS", 60)
    record("job", input=1)
    assert "is not recorded" not in caplog.text


# --- which log it is ------------------------------------------------------------------


def test_it_is_the_log_that_the_process_records_into(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler writes where its request is written, however that was configured."""
    monkeypatch.chdir(tmp_path)
    stop_all()
    runtime_for(Config(dir=fresh, depth=3, model="routes@1"))
    id_ = auditlog.record("rules", input={"a": {"b": {"c": 1}}})
    auditlog.amend(id_, "outcome", label=1)
    data, _ = look(fresh, id_)
    assert data["commitment"]["depth"] == 3
    assert "model.name" not in data, "that of the routes is not this one"
    assert {one.name for one in tmp_path.iterdir()} == {"audit"}


def test_unless_something_else_is_said(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_all()
    runtime_for(Config(dir=fresh))
    by_option = auditlog.record("one", input=1, dir=tmp_path / "option")
    monkeypatch.setenv("AUDITLOG_DIR", str(tmp_path / "environment"))
    by_environment = auditlog.record("two", input=1)
    look(tmp_path / "option", by_option)
    look(tmp_path / "environment", by_environment)


def test_an_option_that_names_no_log_chooses_none(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stop_all()
    runtime_for(Config(dir=fresh, depth=0, durability="sync"))
    id_ = auditlog.record("job", input=b"long", max_stored_bytes=2)
    with pytest.raises(ConfigurationError, match="with another durability"):
        auditlog.record("job", input=1, durability="spool")
    stop_all()
    data, content = look(fresh, id_)
    assert data["commitment"]["depth"] == 0
    assert content.request == b"lo"
    assert {one.name for one in tmp_path.iterdir()} == {"audit"}


def test_who_begins_a_block_does_not_wait_for_a_log_that_hangs_in_its_start(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop of a service may be who begins it."""
    begun, over = threading.Event(), threading.Event()

    def hang(_: object) -> None:
        begun.set()
        over.wait(5)
        raise StorageError("gone")

    def start() -> None:
        with pytest.raises(StorageError, match="gone"):
            runtime_for(Config(dir=fresh))

    monkeypatch.setattr("auditlog.log.runtime.ensure_log", hang)
    thread = threading.Thread(target=start)
    thread.start()
    assert begun.wait(5)
    auditlog.decision("job")
    assert thread.is_alive()
    over.set()
    thread.join()


def test_of_two_logs_neither_is_guessed(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stop_all()
    for name in ("one", "two"):
        runtime_for(Config(dir=fresh.with_name(name)))
    look(tmp_path / "audit", auditlog.record("job", input=1))


def test_a_script_may_go_to_another_directory(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    stop_all()
    before = auditlog.record("job", input=1)
    monkeypatch.chdir("elsewhere")
    with auditlog.decision("job", input=bytes(2 << 20), max_stored_bytes=None) as after:
        pass
    stop_all()
    for id_ in (before, after.id):
        look(fresh, id_)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_decision_is_amended_while_it_is_made(
    decision: Callable[..., DecisionBlock], directory: Path
) -> None:
    with decision("job", input=1) as made:
        later = auditlog.amend(made.id, "human_review", dir=directory, origin=ORIGIN)
    with open_log(directory, read_only=True) as log:
        entries = Reader(log).decision(made.id).amendments
    assert [format_id(parse_entry(entry).id) for entry in entries] == [later]


def test_an_end_that_fails_is_told_and_the_others_end(
    record: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop_all()
    stopped: list[Leader] = []

    def fail(leader: Leader, *_: object, **__: object) -> bool:
        stopped.append(leader)
        raise RuntimeError("can't create new thread at interpreter shutdown")

    for name in ("one", "two"):
        record("job", input=1, dir=tmp_path / name)
    with monkeypatch.context() as patch:
        patch.setattr(Leader, "stop", fail)
        _stop()
    assert len(stopped) == 2
    assert caplog.text.count("a log did not stop cleanly") == 2
    for leader in stopped:
        leader.stop(5)
