"""What follows the end of a decision, message by message: one entry more, at most.

`tests/e2e/test_outcomes.py` has the same on real servers.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from auditlog.core.errors import AuditLogError, StorageError
from auditlog.web.asgi import App, Receive, Scope, Send
from auditlog.web.middleware import AuditMiddleware
from tests.web.asgi_driver import (
    DISCONNECT,
    START,
    Server,
    body,
    call,
    chunk,
    http_scope,
    script,
)
from tests.web.fake_runtime import FakeRuntime

STARTUP = {"type": "lifespan.startup"}
SHUTDOWN = {"type": "lifespan.shutdown"}


class BoomError(Exception):
    """Raised by the applications of these tests."""


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    made = FakeRuntime()
    yield made
    made.check()


def audited(app: App, runtime: FakeRuntime, **options: Any) -> AuditMiddleware:
    return AuditMiddleware(app, runtime=runtime, **options)


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_an_exception_after_the_end_is_told_by_a_later_entry(
    runtime: FakeRuntime, durability: str
) -> None:
    app = script(START, body(b"x"), then=BoomError("background"))
    with pytest.raises(BoomError, match="background"):
        call(audited(app, runtime, durability=durability))
    assert runtime.only().exchange.outcome == "completed"
    assert runtime.amended == {runtime.only().exchange.id: "error_after_response"}


def test_the_exception_behind_an_error_page_is_nothing_new(
    runtime: FakeRuntime,
) -> None:
    app = script({**START, "status": 500}, body(b"oh"), then=BoomError("seen"))
    with pytest.raises(BoomError, match="seen"):
        call(audited(app, runtime))
    assert runtime.only().exchange.outcome == "error"
    assert runtime.afterwards() == []


def test_the_exception_of_a_handler_whose_client_left_is_nothing_new(
    runtime: FakeRuntime,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await receive()
        await send(body(b"", more=False))
        raise BoomError("nobody listens")

    with pytest.raises(BoomError, match="nobody listens"):
        call(audited(app, runtime), Server([chunk(b"{}"), DISCONNECT]))
    assert runtime.only().exchange.outcome == "client_disconnected"
    assert runtime.afterwards() == []


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_a_call_that_ends_well_has_no_later_entry(
    runtime: FakeRuntime, durability: str
) -> None:
    call(audited(script(START, body(b"x")), runtime, durability=durability))
    assert runtime.only().exchange.outcome == "completed"
    assert runtime.afterwards() == []


@pytest.mark.parametrize(
    ("durability", "outcome", "afterwards"),
    [
        ("spool", "client_disconnected", []),
        # Under sync the decision was on disk before the end could be sent.
        ("sync", "completed", ["client_disconnected"]),
    ],
)
def test_a_client_that_leaves_before_the_last_message(
    runtime: FakeRuntime, durability: str, outcome: str, afterwards: list[str]
) -> None:
    def broken(message: Any) -> OSError | None:
        last = message["type"] == "http.response.body"
        return OSError("connection lost") if last else None

    app = audited(script(START, body(b"x")), runtime, durability=durability)
    with pytest.raises(OSError, match="connection lost"):
        call(app, Server(fail_send=broken))
    assert runtime.only().exchange.outcome == outcome
    assert runtime.afterwards() == afterwards


def test_an_answer_that_was_withheld_is_told_by_a_later_entry(
    runtime: FakeRuntime,
) -> None:
    runtime.accept_error = StorageError("disk full")
    options = {"durability": "sync", "on_failure": "closed"}
    with pytest.raises(AuditLogError, match="answer is withheld"):
        call(audited(script(START, body(b"x")), runtime, **options))
    # The recorder tries again until it is stored, and then it says what was answered.
    assert runtime.only().exchange.outcome == "completed"
    assert runtime.afterwards() == ["answer_withheld"]


def test_under_open_the_answer_is_released_and_nothing_follows(
    runtime: FakeRuntime,
) -> None:
    runtime.accept_error = StorageError("disk full")
    app = audited(script(START, body(b"x")), runtime, durability="sync")
    assert call(app).body() == b"x"
    assert runtime.afterwards() == []


def test_a_call_that_is_cancelled_while_its_end_is_held(runtime: FakeRuntime) -> None:
    runtime.gated = True

    async def main() -> None:
        server = Server()
        app = audited(script(START, body(b"a")), runtime, durability="sync")
        task = asyncio.create_task(app(http_scope(), server.receive, server.send))
        while not runtime.waiting:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.body() == b""

    asyncio.run(main())
    assert runtime.only().exchange.outcome == "completed"
    assert runtime.afterwards() == ["answer_withheld"]


def test_a_later_entry_that_fails_hurts_nobody(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.amend_error = StorageError("disk full")
    app = audited(script(START, body(b"x"), then=BoomError("mine")), runtime)
    for _ in range(2):
        with pytest.raises(BoomError, match="mine"):
            call(app)
    said = "what followed a decision is not recorded (said once): StorageError"
    assert caplog.text.count(said) == 1


@pytest.mark.parametrize(
    ("on_failure", "sent"), [("open", b"first last"), ("closed", b"first")]
)
def test_an_answer_that_goes_on_after_the_log_has_stopped(
    runtime: FakeRuntime, on_failure: str, sent: bytes
) -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
            return
        await send(START)
        await send(body(b"first", more=True))
        await go.wait()
        await send(body(b" last"))

    async def main() -> bytes:
        wrapped = audited(app, runtime, on_failure=on_failure)
        server, lifespan = Server(), Server([STARTUP, SHUTDOWN])
        asking = asyncio.create_task(wrapped(http_scope(), server.receive, server.send))
        await asyncio.sleep(0)
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        await wrapped(scope, lifespan.receive, lifespan.send)
        go.set()
        if on_failure == "closed":
            with pytest.raises(AuditLogError, match="its answer is cut"):
                await asking
        await asyncio.wait([asking])
        return server.body()

    assert asyncio.run(main()) == sent
    seen = runtime.only()
    assert (seen.exchange.outcome, seen.response) == ("interrupted", b"first")
    assert runtime.afterwards() == []
