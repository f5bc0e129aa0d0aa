"""Start, stop and fork around a middleware."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import auditlog.log.runtime
from auditlog.config import Config
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    RollbackError,
    StorageError,
)
from auditlog.log.decision import current
from auditlog.web import process as process_module
from auditlog.web.asgi import App, Message, Receive, Scope, Send
from auditlog.web.middleware import AuditMiddleware
from tests.harness import check_whole_log
from tests.web.asgi_driver import START, Server, body, call, chunk, http_scope, script
from tests.web.fake_runtime import FakeRuntime

STARTUP: Message = {"type": "lifespan.startup"}
SHUTDOWN: Message = {"type": "lifespan.shutdown"}


class Runtimes:
    """Stands where runtimes are made, and keeps what was made."""

    def __init__(self) -> None:
        self.made: list[FakeRuntime] = []
        self.threads: list[threading.Thread] = []
        self.error: Exception | None = None
        self.tries = 0
        self.answers = threading.Event()
        """Cleared while the disk hangs."""
        self.answers.set()

    def make(self, config: Config) -> FakeRuntime:
        self.tries += 1
        assert self.answers.wait(10)
        if self.error is not None:
            raise self.error
        self.threads.append(threading.current_thread())
        self.made.append(FakeRuntime())
        return self.made[-1]


@pytest.fixture
def runtimes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtimes]:
    made = Runtimes()
    monkeypatch.setattr(auditlog.log.runtime, "runtime_for", made.make)
    yield made
    for runtime in made.made:
        runtime.check()


def lifespan_scope() -> Scope:
    return {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}


async def polite(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a lifespan, and any request with one byte."""
    if scope["type"] != "lifespan":
        await script(START, body(b"x"))(scope, receive, send)
        return
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def live(app: App, *incoming: Message) -> Server:
    return call(app, Server(incoming or (STARTUP, SHUTDOWN)), lifespan_scope())


def refused(app: App, why: str) -> Server:
    """Start an application that refuses to: it says so, and raises."""
    server = Server((STARTUP,))
    with pytest.raises(Exception, match=why):
        call(app, server, lifespan_scope())
    return server


def test_a_lifespan_starts_and_stops_the_runtime(runtimes: Runtimes) -> None:
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() is STARTUP
        assert len(runtimes.made) == 1
        await send({"type": "lifespan.startup.complete"})
        assert await receive() is SHUTDOWN
        order.append("app")
        assert runtimes.made[0].calls == []
        await send({"type": "lifespan.shutdown.complete"})

    server = live(AuditMiddleware(app))
    assert server.types() == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert runtimes.made[0].calls == ["flush", "stop"]
    assert runtimes.threads[0] is not threading.main_thread()


def test_everything_is_durable_before_the_server_hears_of_the_end(
    runtimes: Runtimes,
) -> None:
    calls: list[list[str]] = []

    def note(message: Message) -> None:
        if message["type"] == "lifespan.shutdown.complete":
            calls.append(list(runtimes.made[0].calls))

    call(
        AuditMiddleware(polite),
        Server([STARTUP, SHUTDOWN], fail_send=note),
        lifespan_scope(),
    )
    assert calls == [["flush", "stop"]]


def test_a_disabled_middleware_leaves_the_lifespan_alone(runtimes: Runtimes) -> None:
    live(AuditMiddleware(polite, enabled=False))
    assert runtimes.tries == 0


@pytest.mark.parametrize("on_failure", ["open", "closed"])
@pytest.mark.parametrize(
    "error", [ConfigurationError("no key here"), RollbackError("no key here")]
)
def test_a_wrong_configuration_stops_the_start(
    runtimes: Runtimes, on_failure: Any, error: AuditLogError
) -> None:
    runtimes.error = error
    ran: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        ran.append(True)

    server = refused(AuditMiddleware(app, on_failure=on_failure), "no key here")
    assert server.sent == [
        {"type": "lifespan.startup.failed", "message": "auditlog: no key here"}
    ]
    assert ran == []


@pytest.mark.parametrize("error", [StorageError("disk full"), OSError("disk full")])
def test_a_bad_disk_at_the_start_obeys_on_failure(
    runtimes: Runtimes, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    runtimes.error = error
    assert live(AuditMiddleware(polite)).types()[0] == "lifespan.startup.complete"
    assert "disk full" in caplog.text
    closed = refused(AuditMiddleware(polite, on_failure="closed"), "disk full")
    assert closed.types() == ["lifespan.startup.failed"]


@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_without_a_lifespan_the_first_request_starts(
    runtimes: Runtimes, on_failure: Any
) -> None:
    app = AuditMiddleware(polite, on_failure=on_failure)
    call(app, scope=http_scope(method="GET"))
    assert runtimes.tries == 0
    for _ in range(2):
        call(app)
    assert runtimes.tries == 1
    assert len(runtimes.made[0].seen) == 2
    assert runtimes.threads[0] is not threading.main_thread()


@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_without_a_lifespan_a_wrong_configuration_stops_requests(
    runtimes: Runtimes, on_failure: Any
) -> None:
    runtimes.error = ConfigurationError("no key here")
    app = AuditMiddleware(polite, on_failure=on_failure)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="no key here"):
            call(app)
    assert call(app, scope=http_scope(method="GET")).body() == b"x"


def test_without_a_lifespan_a_bad_disk_obeys_on_failure_and_is_tried_again(
    runtimes: Runtimes, caplog: pytest.LogCaptureFixture
) -> None:
    runtimes.error = StorageError("disk full")
    app, closed = AuditMiddleware(polite), AuditMiddleware(polite, on_failure="closed")
    for _ in range(5):
        server = call(app)
        assert (server.body(), server.header(b"decision-id")) == (b"x", None)
        assert caplog.text.count("no decision can be recorded now") in {1, 2}
        assert call(closed).sent[0]["status"] == 503
    assert runtimes.tries == 2, "tried once a second, not at each request"
    runtimes.error = None
    app._process._retry_at = 0.0
    _wait_until_recorded(app)
    assert len(runtimes.made[0].seen) == 1


@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_without_a_lifespan_a_start_that_hangs_is_waited_for_once(
    runtimes: Runtimes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    on_failure: Any,
) -> None:
    monkeypatch.setattr(process_module, "_FIRST_SECONDS", 0.05)
    runtimes.answers.clear()
    app = AuditMiddleware(polite, on_failure=on_failure)
    call(app)
    monkeypatch.setattr(process_module, "_FIRST_SECONDS", 60)
    for _ in range(3):
        server = call(app)
        expected = 200 if on_failure == "open" else 503
        assert server.sent[0]["status"] == expected
        assert server.header(b"decision-id") is None
    assert runtimes.tries == 1, "one try, however many ask"
    assert "expected the log to start within 0.05 s, got no answer" in caplog.text
    runtimes.answers.set()
    _wait_until_recorded(app)
    assert runtimes.tries == 1


def _wait_until_recorded(app: App) -> None:
    deadline = time.monotonic() + 10
    while call(app).header(b"decision-id") is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_start_that_is_tried_again_delays_nobody(
    runtimes: Runtimes, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes.error = StorageError("disk full")
    app = AuditMiddleware(polite)
    assert call(app).header(b"decision-id") is None
    runtimes.error = None
    runtimes.answers.clear()
    monkeypatch.setattr(process_module, "_RETRY_SECONDS", 0.0)
    app._process._retry_at = 0.0
    for _ in range(3):
        assert call(app).body() == b"x"
    assert runtimes.tries == 2
    runtimes.answers.set()
    _wait_until_recorded(app)


@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_a_start_that_hangs_obeys_on_failure(
    runtimes: Runtimes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    on_failure: Any,
) -> None:
    monkeypatch.setattr(process_module, "_START_SECONDS", 0.05)
    runtimes.answers.clear()
    app = AuditMiddleware(polite, on_failure=on_failure)
    if on_failure == "open":
        assert live(app).types()[0] == "lifespan.startup.complete"
        assert "expected the log to start within 0.05 s" in caplog.text
    else:
        refused(app, "expected the log to start within 0.05 s")
    runtimes.answers.set()


def test_once_started_even_a_wrong_configuration_is_a_run_time_fault(
    runtimes: Runtimes,
) -> None:
    app = AuditMiddleware(polite)
    call(app)
    runtimes.made[0].open_error = StorageError("gone")
    assert call(app).body() == b"x"
    runtimes.error = ConfigurationError("the directory is gone")
    assert call(app).body() == b"x"


@pytest.mark.parametrize("fault", ["open_error", "submit_error"])
def test_a_runtime_that_fails_is_asked_for_again(
    runtimes: Runtimes, fault: str
) -> None:
    app = AuditMiddleware(polite)
    call(app)
    setattr(runtimes.made[0], fault, StorageError("stopped"))
    call(app)
    call(app)
    assert runtimes.tries == 2
    assert len(runtimes.made[1].seen) == 1


async def _raises(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        msg = "only http here"
        raise TypeError(msg)
    await polite(scope, receive, send)


async def _raises_late(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
    await _raises(scope, receive, send)


async def _returns(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await polite(scope, receive, send)


@pytest.mark.parametrize("without", [_raises, _returns])
def test_for_an_application_without_lifespan_the_log_has_one(
    runtimes: Runtimes, without: App
) -> None:
    app = AuditMiddleware(without)

    async def main() -> list[str]:
        server = Server([STARTUP])
        life = asyncio.create_task(app(lifespan_scope(), server.receive, server.send))
        async with asyncio.timeout(10):
            while not server.sent:  # noqa: ASYNC110 - the application sends it
                await asyncio.sleep(0.001)
        request = Server()
        await app(http_scope(), request.receive, request.send)
        assert runtimes.made[0].calls == []
        server.push(SHUTDOWN)
        await life
        return server.types()

    assert asyncio.run(main()) == [
        *("lifespan.startup.complete", "lifespan.shutdown.complete")
    ]
    assert runtimes.tries == 1
    assert runtimes.made[0].calls == ["flush", "stop"]
    assert len(runtimes.made[0].seen) == 1


def test_an_application_that_raises_while_it_starts_is_left_to_the_server(
    runtimes: Runtimes,
) -> None:
    app = AuditMiddleware(_raises_late)
    with pytest.raises(TypeError, match="only http here"):
        live(app)
    call(app)
    assert runtimes.tries == 1
    assert runtimes.made[0].calls == []


@pytest.mark.parametrize("how", ["raises", "returns", "failed"])
def test_an_application_that_ends_badly_still_stops_the_runtime(
    runtimes: Runtimes, how: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if how == "raises":
            raise LookupError("at the end")
        if how == "failed":
            await send({"type": "lifespan.shutdown.failed", "message": "x"})

    wrapped = AuditMiddleware(app)
    if how == "raises":
        with pytest.raises(LookupError, match="at the end"):
            live(wrapped)
    else:
        live(wrapped)
    assert runtimes.made[0].calls == ["flush", "stop"]


def test_an_application_that_refuses_to_start_stops_the_runtime(
    runtimes: Runtimes,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no model"})

    assert live(AuditMiddleware(app)).sent[0]["message"] == "no model"
    assert runtimes.made[0].calls == ["flush", "stop"]


def test_a_stop_that_fails_does_not_keep_the_server(
    runtimes: Runtimes, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        runtimes.made[0].stop_error = StorageError("disk full")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    server = live(AuditMiddleware(app))
    assert server.types()[-1] == "lifespan.shutdown.complete"
    assert "did not stop cleanly" in caplog.text


def test_a_lifespan_may_come_again_and_requests_may_come_after_it(
    runtimes: Runtimes,
) -> None:
    app = AuditMiddleware(polite)
    for _ in range(2):
        live(app)
    call(app)
    assert [runtime.calls for runtime in runtimes.made] == [["flush", "stop"]] * 2 + [
        []
    ]
    assert len(runtimes.made[2].seen) == 1


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_shutdown_finalises_what_is_in_flight_and_lets_it_go_on(
    durability: Any,
) -> None:
    runtime = FakeRuntime()

    async def main() -> None:
        go, live_server = asyncio.Event(), Server([STARTUP])
        handler = _streams(go)
        app = AuditMiddleware(handler, runtime=runtime, durability=durability)
        up = asyncio.create_task(
            app(lifespan_scope(), live_server.receive, live_server.send)
        )
        servers = [Server([chunk(b"{}")]) for _ in range(3)]
        calls = [
            asyncio.create_task(app(http_scope(), server.receive, server.send))
            for server in servers
        ]
        await asyncio.sleep(0.01)
        live_server.push(SHUTDOWN)
        await up
        assert runtime.calls == ["flush", "stop"]
        assert [one.exchange.outcome for one in runtime.seen] == ["interrupted"] * 3
        go.set()
        async with asyncio.timeout(5):
            await asyncio.gather(*calls)
        assert [server.body() for server in servers] == [b"first last"] * 3

    asyncio.run(main())
    runtime.check()
    for seen in runtime.seen:
        assert (seen.response, seen.states) == (b"first", ("complete", "partial"))


def _streams(go: asyncio.Event) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await receive()
        await send(START)
        await send(body(b"first", more=True))
        await go.wait()
        current().set_model("too late, but no error")
        await send(body(b" last"))

    return app


def test_shutdown_finalises_before_the_application_hears_of_it_and_again_after() -> (
    None
):
    runtime = FakeRuntime()
    outcomes: list[list[str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await send(START)
            await asyncio.Event().wait()
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        outcomes.append([one.exchange.outcome for one in runtime.seen])
        tasks.append(begin())
        await asyncio.sleep(0.01)
        await send({"type": "lifespan.shutdown.complete"})
        outcomes.append([one.exchange.outcome for one in runtime.seen])

    def begin() -> "asyncio.Task[None]":
        server = Server()
        return asyncio.ensure_future(wrapped(http_scope(), server.receive, server.send))

    async def main() -> None:
        tasks.append(begin())
        await asyncio.sleep(0.01)
        server = Server([STARTUP, SHUTDOWN])
        await wrapped(lifespan_scope(), server.receive, server.send)
        for task in tasks:
            task.cancel()

    tasks: list[asyncio.Task[None]] = []
    wrapped = AuditMiddleware(app, runtime=runtime)
    asyncio.run(main())
    runtime.check()
    assert outcomes == [["interrupted"], ["interrupted"] * 2]


def test_an_application_that_says_nothing_is_stopped_at_shutdown(
    runtimes: Runtimes,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert [await receive(), await receive()] == [STARTUP, SHUTDOWN]

    assert live(AuditMiddleware(app)).sent == []
    assert runtimes.made[0].calls == ["flush", "stop"]


def test_without_asyncio_the_runtime_starts_in_place(runtimes: Runtimes) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return chunk(b"{}")

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(StopIteration):
        AuditMiddleware(polite)(http_scope(), receive, send).send(None)
    assert len(sent) == 2
    assert runtimes.threads == [threading.main_thread()]


def test_two_middlewares_share_a_stop(runtimes: Runtimes) -> None:
    runtime = FakeRuntime()
    inner = AuditMiddleware(polite, runtime=runtime)
    live(AuditMiddleware(inner, runtime=runtime))
    assert runtime.calls == ["flush", "stop"] * 2
    runtime.check()


FORK = """
import os

from auditlog.web.middleware import AuditMiddleware
from tests.web.fake_runtime import FakeRuntime

process = AuditMiddleware(print)._process
given = AuditMiddleware(print, runtime=FakeRuntime())._process
process.runtime = FakeRuntime()
process.in_flight.add(object())
process._attempt = object()
child = os.fork()
if child:
    os.waitpid(child, 0)
print(child == 0, process.runtime is None, len(process.in_flight))
print(process._attempt is None)
print(given.runtime is not None)
"""


def test_a_fork_leaves_the_parents_runtime_behind() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, check=True
    )
    child = ["True True 0", "True", "True"]
    assert done.stdout.splitlines() == [*child, "False False 1", "False", "True"]


def test_the_real_runtime_is_made_for_the_configuration(tmp_path: Path) -> None:
    app = AuditMiddleware(polite, dir=tmp_path / "audit", origin="test.example/log")
    live(app)
    assert (tmp_path / "audit").is_dir()


def _answered(app: App) -> bool:
    """Ask once; return whether the answer has the id of a decision."""
    server = call(app)
    assert server.body() == b"x"
    return server.header(b"decision-id") is not None


def test_a_runtime_that_somebody_stopped_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = AuditMiddleware(polite, dir=tmp_path / "audit", origin="test.example/log")
    assert _answered(app)
    runtime: Any = app._process.runtime
    runtime.stop()
    # No id is given out that nobody records.
    assert [_answered(app) for _ in range(3)] == [False, True, True]
    assert "the log has been stopped in this process" in caplog.text
    asyncio.run(app._process.stop())
    assert len(check_whole_log(tmp_path / "audit").decisions) == 3


def test_a_request_that_comes_while_the_log_stops_is_recorded_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = AuditMiddleware(polite, dir=tmp_path / "audit", origin="test.example/log")
    assert _answered(app)
    first: Any = app._process.runtime
    flushing, go, flush = threading.Event(), threading.Event(), first.flush

    def slowly(timeout: float) -> bool:
        flushing.set()
        assert go.wait(10)
        return bool(flush(timeout))

    monkeypatch.setattr(first, "flush", slowly)

    async def main() -> Server:
        stopping = asyncio.create_task(app._process.stop())
        await asyncio.to_thread(flushing.wait, 10)
        server = Server()
        asking = asyncio.create_task(app(http_scope(), server.receive, server.send))
        await asyncio.sleep(0.05)
        go.set()
        await asyncio.gather(stopping, asking)
        return server

    server = asyncio.run(main())
    assert server.header(b"decision-id") is not None
    assert app._process.runtime is not first
    asyncio.run(app._process.stop())
    assert len(check_whole_log(tmp_path / "audit").decisions) == 2
