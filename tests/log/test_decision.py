"""The decision as the application sees it."""

import asyncio
import contextvars

import pytest

import auditlog
from auditlog.capture.exchange import ModelIdentity
from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.core.record import format_id
from auditlog.log.decision import _CURRENT, Decision, current
from auditlog.log.identity import new_id

ID = new_id(1_700_000_000_000_000, bytes(10))


def test_a_decision_has_its_id_as_text() -> None:
    decision = Decision(ID)
    assert decision.id == format_id(ID) == "018bcfe5-6800-7000-8000-000000000000"
    with pytest.raises(AttributeError):
        decision.id = "other"  # type: ignore[misc]
    assert repr(decision) == f"Decision(id='{decision.id}', model=None)"


def test_the_last_model_wins_whole() -> None:
    decision = Decision(ID)
    assert decision.model is None
    decision.set_model("a", version="1", digest="sha256:" + "ab" * 32)
    decision.set_model("b")
    assert decision.model == ModelIdentity("b")


@pytest.mark.parametrize(
    ("name", "version", "digest", "message"),
    [
        ("", None, None, "model's name is a string of 1 to 256"),
        (None, None, None, "model's name is a string of 1 to 256 .* got None"),
        ("m", "", None, "model's version is a string of 1 to 256"),
        ("m", 3, None, "model's version is a string of 1 to 256 .* got 3"),
        ("m\x00", None, None, "printable"),
        ("m", None, "sha256:xyz", "64 lower-case hex digits, got 'sha256:xyz'"),
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
    assert decision.model == ModelIdentity("before")


def test_outside_a_request_there_is_no_decision() -> None:
    with pytest.raises(AuditLogError, match="expected to be inside a request"):
        auditlog.current()


def test_threads_and_tasks_reach_the_same_decision() -> None:
    decision = Decision(ID)

    async def handler() -> None:
        await asyncio.to_thread(lambda: current().set_model("from a thread"))
        assert decision.model == ModelIdentity("from a thread")
        await asyncio.create_task(task())
        assert decision.model == ModelIdentity("from a task")

    async def task() -> None:
        current().set_model("from a task")

    def run() -> None:
        _CURRENT.set(decision)
        asyncio.run(handler())

    contextvars.copy_context().run(run)
    with pytest.raises(AuditLogError, match="there is none here"):
        current()
