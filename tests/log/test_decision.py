"""The decision as the application sees it."""

import asyncio
import contextvars
import inspect
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import auditlog
import auditlog.log.decision as decision_module
from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.core.record import format_id
from auditlog.log.decision import _CURRENT, MAX_ITEMS, Decision, current, get_decision
from auditlog.log.identity import new_id
from auditlog.models.identity import Model

ID = new_id(1_700_000_000_000_000, bytes(10))


def test_a_decision_has_its_id_as_text() -> None:
    decision = Decision(ID)
    assert decision.id == format_id(ID) == "018bcfe5-6800-7000-8000-000000000000"
    with pytest.raises(AttributeError):
        decision.id = "other"  # type: ignore[misc]
    assert repr(decision) == f"Decision(id='{decision.id}', model=None)"
    with pytest.raises(AttributeError):
        decision.label = "x"  # type: ignore[attr-defined]


def test_the_last_model_wins_whole() -> None:
    decision = Decision(ID)
    assert decision.model is None
    decision.set_model("a", version="1", digest="sha256:" + "ab" * 32)
    decision.set_model("b")
    assert decision.model == Model("b")


@pytest.mark.parametrize(
    ("name", "version", "digest", "message"),
    [
        ("", None, None, "model's name is a string of 1 to 256"),
        (None, None, None, "model's name is a string of 1 to 256 .* got None"),
        ("m", "", None, "model's version is a string of 1 to 256"),
        ("m", 3, None, "model's version is a string of 1 to 256 .* got int"),
        ("m\x00", None, None, "printable characters, got a text of 2 characters$"),
        ("m", None, "sha256:xyz", "hex digits, got a text of 10 characters$"),
        ("m", None, "sha512:" + "0" * 64, "'sha256:' and 64"),
    ],
)
def test_a_model_that_cannot_be_logged_is_refused_and_changes_nothing(
    name: str, version: str | None, digest: str | None, message: str
) -> None:
    decision = Decision(ID)
    decision.set_model("before")
    with pytest.raises(ConfigurationError, match=message):
        decision.set_model(name, version=version, digest=digest)
    assert decision.model == Model("before")


def leaves(decision: Decision) -> dict[str, Any]:
    said = decision.conclude()
    return (
        {}
        if said is None
        else {k: json.loads(v) for k, v in said.facts.leaves().items()}
    )


def test_a_silent_handler_has_said_nothing() -> None:
    assert Decision(ID).conclude() is None


def test_what_is_said_goes_into_these_leaves() -> None:
    decision = Decision(ID)
    decision.set_subject("cafe\u0301")
    decision.set_user("clerk-7")
    decision.set_session("s-1")
    decision.set_result(label="refused", score=0.31, threshold=0.5, reasons=["R12"])
    decision.set_human(reviewer="bob", action="overridden")
    decision.annotate(channel="branch", limits={"max": 1.5, "min": None})
    decision.attempt(model="large@2", provider="a", error="timeout")
    decision.attempt(model="small@1")
    assert leaves(decision) == {
        "subject": {"id": "café", "kind": "person"},
        "user": {"caller": "clerk-7", "reviewer": "bob"},
        "session": {"id": "s-1"},
        "outcome": {
            "human": {"action": "overridden"},
            "result": {
                "label": "refused",
                "reasons": ["R12"],
                "score": "0.31",
                "threshold": "0.5",
            },
        },
        "annotations": {"channel": "branch", "limits": {"max": "1.5", "min": None}},
        "model": {
            "attempts": [
                {"error": "timeout", "model": "large@2", "provider": "a"},
                {"model": "small@1"},
            ]
        },
    }


def test_the_last_word_counts_whole() -> None:
    decision = Decision(ID)
    decision.set_result(label="refused", score=0.31)
    decision.set_result(label=True)
    decision.set_subject("1")
    decision.set_subject("v-1", kind="vehicle")
    decision.annotate(a=1, b=2)
    decision.annotate(b=3, a=None)
    decision.annotate(self=4, leaf=5)
    assert leaves(decision) == {
        "outcome": {"result": {"label": True}},
        "subject": {"id": "v-1", "kind": "vehicle"},
        "annotations": {"b": 3, "leaf": 5, "self": 4},
    }
    decision.set_result()
    assert "outcome" not in leaves(decision)


PERSONAL = "Ada Lovelace 1815-12-10"
SAY: dict[str, Callable[[Decision], object]] = {
    "expected a subject as text, got int": lambda d: d.set_subject(7),  # type: ignore[arg-type]
    "expected a subject of 1 to 1024 characters, got 0": lambda d: d.set_subject(""),
    "expected a subject of 1 to 1024 characters, got 2300": lambda d: d.set_subject(
        PERSONAL * 100
    ),
    "expected the kind of a subject as up to 64 lower": lambda d: d.set_subject(
        "x", kind=PERSONAL
    ),
    "expected a user as text, got None": lambda d: d.set_user(None),  # type: ignore[arg-type]
    "expected a session of 1 to 1024": lambda d: d.set_session(""),
    "expected a label as text, number or bool": lambda d: d.set_result(
        label=[PERSONAL],  # type: ignore[arg-type]
    ),
    "expected a label as JSON, got bytes in it": lambda d: d.set_result(
        label=PERSONAL.encode(),  # type: ignore[arg-type]
    ),
    "expected a score as a number, got str": lambda d: d.set_result(
        score=PERSONAL,  # type: ignore[arg-type]
    ),
    "expected a threshold as a finite number": lambda d: d.set_result(
        threshold=float("nan")
    ),
    "expected reasons as a list or tuple of texts, got str": lambda d: d.set_result(
        reasons=PERSONAL
    ),
    "expected at most 64 reasons, got 65": lambda d: d.set_result(
        reasons=[PERSONAL] * 65
    ),
    "expected an action out of approved, overridden, escalated": lambda d: d.set_human(
        reviewer="x",
        action=PERSONAL,  # type: ignore[arg-type]
    ),
    "expected a reviewer as text, got None": lambda d: d.set_human(
        reviewer=None,  # type: ignore[arg-type]
        action="approved",
    ),
    "expected names of attributes as": lambda d: d.annotate(**{PERSONAL: 1}),
    "not beginning with 'auditlog.'": lambda d: d.annotate(**{"auditlog.x": 1}),
    "expected x as JSON, got set in it": lambda d: d.annotate(x={PERSONAL}),
    "expected at most 65536 bytes said about a decision, got": lambda d: d.annotate(
        x=PERSONAL * 3000
    ),
    "expected the model of an attempt of 1 to 256": lambda d: d.attempt(model=""),
    "expected the error of an attempt as text, got ValueError": lambda d: d.attempt(
        model="m",
        error=ValueError(PERSONAL),  # type: ignore[arg-type]
    ),
    "expected a reason to skip of 1 to 256": lambda d: d.skip(PERSONAL * 100),
    "expected to split into 1 to 1000": lambda d: d.split(0),
}


@pytest.mark.parametrize("message", SAY)
def test_a_mistake_is_told_without_repeating_the_value_and_changes_nothing(
    message: str,
) -> None:
    decision = Decision(ID)
    decision.set_result(label="before")
    with pytest.raises(ConfigurationError, match=message) as caught:
        SAY[message](decision)
    assert "Ada" not in str(caught.value)
    assert "1815" not in str(caught.value)
    assert leaves(decision) == {"outcome": {"result": {"label": "before"}}}


def test_the_65th_attempt_is_refused() -> None:
    decision = Decision(ID)
    for number in range(64):
        decision.attempt(model=f"m{number}")
    with pytest.raises(ConfigurationError, match="expected at most 64 attempts"):
        decision.attempt(model="m64")
    assert len(leaves(decision)["model"]["attempts"]) == 64


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads take turns at almost every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_threads_that_speak_at_once_lose_nothing() -> None:
    decision = Decision(ID)
    start = threading.Barrier(8)

    def speak(number: int) -> None:
        start.wait()
        for index in range(50):
            decision.annotate(**{f"a{number}.{index}": index})
        for _ in range(8):
            decision.attempt(model=f"m{number}")

    threads = [threading.Thread(target=speak, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = leaves(decision)
    assert len(found["annotations"]) == 400
    assert len(found["model"]["attempts"]) == 64


class Numbers:
    """Numbers decisions as a runtime does; may fail from one on."""

    def __init__(self, fails_at: int = 1 << 30) -> None:
        self.given: list[tuple[bytes, int]] = []
        self._fails_at = fails_at

    def number(self, id_: bytes, time: int) -> int:
        if len(self.given) + 1 >= self._fails_at:
            raise OSError("disk full")
        self.given.append((id_, time))
        return len(self.given)


def test_a_split_numbers_each_further_decision_at_once() -> None:
    numbers = Numbers()
    decision = Decision(ID, numbers.number)
    decision.set_user("clerk")
    decision.set_model("m")
    first, second, third = decision.split(3)
    assert first is decision
    assert [time for _, time in numbers.given] == [1_700_000_000_000_000] * 2
    second.set_result(label="b")
    third.set_model("other")
    first.set_user("later")
    said = decision.conclude()
    assert said is not None
    assert [(item.decision, item.sequence) for item in said.items] == [
        (second, 1),
        (third, 2),
    ]
    assert [format_id(id_) for id_, _ in numbers.given] == [second.id, third.id]
    assert leaves(second) == {
        "annotations": {
            "auditlog.batch": {"decision": decision.id, "index": 1, "size": 3}
        },
        "outcome": {"result": {"label": "b"}},
        "user": {"caller": "clerk"},
    }
    assert (second.model, third.model) == (Model("m"), Model("other"))


@pytest.mark.parametrize("n", [0, -1, MAX_ITEMS + 1, True, 2.0, "2", None])
def test_a_split_has_bounds(n: Any) -> None:
    numbers = Numbers()
    decision = Decision(ID, numbers.number)
    with pytest.raises(ConfigurationError, match="expected to split into 1 to 1000"):
        decision.split(n)
    assert numbers.given == []
    assert len(decision.split(MAX_ITEMS)) == MAX_ITEMS


def test_a_split_is_done_once() -> None:
    decision = Decision(ID, Numbers().number)
    decision.split(2)
    with pytest.raises(ConfigurationError, match="split a decision once, got twice"):
        decision.split(2)


def test_one_of_a_batch_is_not_split_again() -> None:
    numbers = Numbers()
    _, second = Decision(ID, numbers.number).split(2)
    given = len(numbers.given)
    with pytest.raises(ConfigurationError, match="split a decision once, got twice"):
        second.split(2)
    assert len(numbers.given) == given, "a number that nobody would submit"


def test_a_split_after_the_end_gives_out_no_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    numbers = Numbers()
    decision = Decision(ID, numbers.number)
    decision.conclude()
    assert [one.recorded for one in decision.split(3)] == [True, False, False]
    assert caplog.text.count("the answer to go on, but it has ended") == 1
    strict = Decision(ID, numbers.number, True)
    strict.conclude()
    with pytest.raises(AuditLogError, match="the answer to go on, but it has ended"):
        strict.split(3)
    assert numbers.given == []


@pytest.mark.usefixtures("restless")
def test_no_number_is_given_out_that_the_end_misses() -> None:
    for _ in range(200):
        numbers = Numbers()
        decision = Decision(ID, numbers.number)
        start = threading.Barrier(2)

        def split(decision: Decision = decision, start: Any = start) -> None:
            start.wait()
            decision.split(50)

        thread = threading.Thread(target=split)
        thread.start()
        start.wait()
        said = decision.conclude()
        thread.join()
        items = () if said is None else said.items
        assert [(item.id, item.time) for item in items] == numbers.given


def test_a_split_that_cannot_be_numbered_stops_a_strict_service_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    decision = Decision(ID, Numbers(3).number)
    decisions = decision.split(5)
    assert [one.recorded for one in decisions] == [True, True, True, False, False]
    assert caplog.text.count("a batch is not recorded whole: OSError at ") == 1
    said = decision.conclude()
    assert said is not None
    assert len(said.items) == 2
    strict = Decision(ID, Numbers(3).number, True)
    with pytest.raises(AuditLogError, match="disk full"):
        strict.split(5)
    said = strict.conclude()
    assert said is not None
    assert len(said.items) == 2


def test_where_nothing_is_recorded_everything_works() -> None:
    decision = Decision(ID)
    assert not decision.recorded
    for one in decision.split(3):
        one.set_result(label="x")
        one.skip("not recorded anyway")
        assert not one.recorded


def test_a_child_does_not_wait_for_a_lock_of_its_parent() -> None:
    decision = Decision(ID)
    with decision_module._LOCK:
        pid = os.fork()
        if pid == 0:
            signal.alarm(10)
            decision.set_user("child")
            os._exit(0 if leaves(decision) else 1)
        _, status = os.waitpid(pid, 0)
    assert status == 0


def test_the_dependency_of_fastapi_needs_no_thread() -> None:
    assert inspect.iscoroutinefunction(get_decision)
    assert not inspect.signature(get_decision).parameters
    decision = Decision(ID)

    async def main() -> None:
        _CURRENT.set(decision)
        assert await auditlog.get_decision() is decision

    asyncio.run(main())


def test_outside_a_request_there_is_no_decision() -> None:
    with pytest.raises(AuditLogError, match="expected to be inside a request"):
        auditlog.current()


def test_threads_and_tasks_reach_the_same_decision() -> None:
    decision = Decision(ID)

    async def handler() -> None:
        await asyncio.to_thread(lambda: current().set_model("from a thread"))
        assert decision.model == Model("from a thread")
        await asyncio.create_task(task())
        assert decision.model == Model("from a task")

    async def task() -> None:
        current().set_model("from a task")

    def run() -> None:
        _CURRENT.set(decision)
        asyncio.run(handler())

    contextvars.copy_context().run(run)
    with pytest.raises(AuditLogError, match="there is none here"):
        current()
