"""The middleware between a server and an application, message by message."""

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from auditlog.config import Config
from auditlog.core.commitment import disclosure_hash, leaf_salt
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    StorageError,
)
from auditlog.core.record import parse_id
from auditlog.log.decision import current
from auditlog.models.identity import Model
from auditlog.options import Options
from auditlog.web import waiting
from auditlog.web.asgi import App, Message, Receive, Scope, Send
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

MODES = [
    ("spool", "open"),
    ("spool", "closed"),
    ("sync", "open"),
    ("sync", "closed"),
]


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    made = FakeRuntime()
    yield made
    made.check()


def audited(app: App, runtime: FakeRuntime, **options: Any) -> AuditMiddleware:
    return AuditMiddleware(app, runtime=runtime, **options)


@pytest.mark.parametrize(("durability", "on_failure"), MODES)
def test_one_call_is_one_exchange(
    runtime: FakeRuntime, durability: str, on_failure: str
) -> None:
    app = audited(
        script(START, body(b'{"y":', more=True), body(b"1}")),
        runtime,
        durability=durability,
        on_failure=on_failure,
        model="credit-risk@3",
    )
    scope = http_scope("/score/7", query_string=b"a=b%20c")
    server = call(app, Server([chunk(b"{", more=True), chunk(b"}")]), scope)
    seen = runtime.only()
    exchange = seen.exchange
    assert (seen.request, seen.response) == (b"{}", b'{"y":1}')
    assert seen.states == ("complete", "complete")
    assert (exchange.method, exchange.route, exchange.status) == ("POST", None, 200)
    assert exchange.target == b"/score/7?a=b%20c"
    assert exchange.request_type == exchange.response_type == "application/json"
    assert exchange.outcome == "completed"
    assert exchange.model == Model("credit-risk", "3")
    assert 0 <= exchange.duration < 10_000_000
    header = server.header(b"decision-id")
    assert header is not None
    assert parse_id(header.decode()) == exchange.id


def test_messages_pass_as_they_are(runtime: FakeRuntime) -> None:
    messages: list[Message] = [
        {"type": "http.response.debug", "info": {}},
        START,
        {"type": "http.response.early_hint", "links": []},
        body(b"a", more=True),
        {"type": "vendor.event"},
        {"type": "http.response.body", "body": b"b"},
        {"type": "http.response.trailers", "headers": []},
    ]
    incoming = [chunk(b"a", more=True), chunk(b"b"), DISCONNECT]
    got: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        got.extend([await receive(), await receive()])
        for message in messages:
            await send(message)
        got.append(await receive())

    server = call(audited(app, runtime), Server(incoming))
    assert all(a is b for a, b in zip(got, incoming, strict=True))
    for sent, message in zip(server.sent, messages, strict=True):
        if message is START:
            assert sent is not START
            assert {**sent, "headers": START["headers"]} == START
            assert sent["headers"][:-1] == START["headers"]
            assert sent["headers"] is not START["headers"]
        else:
            assert sent is message
    assert runtime.only().exchange.outcome == "completed"


TEXT = (b"Content-Type", b"text/plain")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((TEXT, TEXT), [TEXT, TEXT]),
        ([list(TEXT)], [list(TEXT)]),
        ((pair for pair in [TEXT, (b"a", b"b")]), [TEXT, (b"a", b"b")]),
        (None, []),
        ((), []),
    ],
    ids=["tuple", "lists", "generator", "none", "empty"],
)
def test_headers_may_be_any_iterable(
    runtime: FakeRuntime, headers: Any, expected: list[Any]
) -> None:
    start = {"type": "http.response.start", "status": 200, "headers": headers}
    server = call(audited(script(start, body(b"x")), runtime))
    *theirs, ours = server.sent[0]["headers"]
    assert theirs == expected
    assert ours[0] == b"decision-id"
    assert start["headers"] is headers
    kind = runtime.only().exchange.response_type
    assert kind == ("text/plain" if expected else None)


def test_the_header_can_be_renamed_or_left_out(runtime: FakeRuntime) -> None:
    named = call(audited(script(START, body()), runtime, header="x-decision"))
    assert named.header(b"x-decision") is not None
    assert named.header(b"decision-id") is None
    silent = call(audited(script(START, body()), runtime, header=""))
    assert silent.sent[0] == START
    assert len(runtime.seen) == 2


def test_a_body_that_nobody_reads_is_unread(runtime: FakeRuntime) -> None:
    server = Server([chunk(b"never read")])
    call(audited(script(START, body(b"x"), read=False), runtime), server)
    assert len(server.incoming) == 1
    assert runtime.only().states == ("unread", "complete")
    assert runtime.only().request == b""


def test_a_body_read_in_part_is_partial(runtime: FakeRuntime) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(body(b"x"))

    call(audited(app, runtime), Server([chunk(b"a", more=True), chunk(b"b")]))
    assert (runtime.only().states[0], runtime.only().request) == ("partial", b"a")


def test_what_is_read_after_the_end_is_not_recorded(runtime: FakeRuntime) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"x"))
        assert (await receive())["body"] == b"late"
        await send(body(b"later"))

    server = call(audited(app, runtime), Server([chunk(b"late")]))
    assert server.body() == b"xlater"
    assert runtime.only().states == ("unread", "complete")
    assert runtime.only().response == b"x"


def test_a_million_bytes_in_tiny_chunks(runtime: FakeRuntime) -> None:
    incoming = [chunk(b"ab", more=True) for _ in range(20_000)] + [chunk()]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while (message := await receive())["more_body"]:
            await send(body(message["body"], more=True))
        await send(body())

    server = call(audited(app, runtime, max_stored_bytes=1000), Server(incoming))
    seen = runtime.only()
    assert len(server.sent) == 20_002
    assert seen.request == seen.response == b"ab" * 500
    assert seen.exchange.request.size == seen.exchange.response.size == 40_000
    for leaf, path in enumerate(("request", "response")):
        salt = leaf_salt(seen.exchange.secret, leaf)
        expected = disclosure_hash(salt, path, b"ab" * 20_000)
        assert getattr(seen.exchange, path).leaf_hash() == expected


class BoomError(Exception):
    """Raised by the applications of these tests."""


@pytest.mark.parametrize(("durability", "on_failure"), MODES)
@pytest.mark.parametrize(
    ("messages", "status", "state"),
    [
        ([], None, "not_observed"),
        ([START], 200, "partial"),
        ([START, body(b"x", more=True)], 200, "partial"),
    ],
)
def test_an_exception_before_the_end_is_an_error(
    runtime: FakeRuntime,
    durability: str,
    on_failure: str,
    messages: list[Message],
    status: int | None,
    state: str,
) -> None:
    app = audited(
        script(*messages, then=BoomError("mine")),
        runtime,
        durability=durability,
        on_failure=on_failure,
    )
    server = Server()
    with pytest.raises(BoomError, match="mine"):
        call(app, server)
    assert server.types() == [message["type"] for message in messages]
    seen = runtime.only()
    assert (seen.exchange.outcome, seen.exchange.status) == ("error", status)
    assert seen.states == ("complete", state)


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_an_exception_after_the_end_changes_nothing(
    runtime: FakeRuntime, durability: str
) -> None:
    app = script(START, body(b"x"), then=BoomError("background"))
    with pytest.raises(BoomError, match="background"):
        call(audited(app, runtime, durability=durability))
    assert runtime.only().exchange.outcome == "completed"


def test_an_error_page_and_its_exception_are_one_error(runtime: FakeRuntime) -> None:
    app = script({**START, "status": 500}, body(b"oh"), then=BoomError("seen"))
    with pytest.raises(BoomError, match="seen"):
        call(audited(app, runtime))
    exchange = runtime.only().exchange
    assert (exchange.outcome, exchange.status) == ("error", 500)


@pytest.mark.parametrize("messages", [[], [START], [START, body(b"x", more=True)]])
def test_an_application_that_returns_early_is_incomplete(
    runtime: FakeRuntime, messages: list[Message]
) -> None:
    call(audited(script(*messages), runtime))
    assert runtime.only().exchange.outcome == "incomplete"


@pytest.mark.parametrize("ends", [True, False])
def test_a_client_that_leaves_before_the_end(runtime: FakeRuntime, ends: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(body(b"x", more=True))
        assert await receive() is DISCONNECT
        if ends:
            await send(body())

    call(audited(app, runtime), Server([chunk(b"{}"), DISCONNECT]))
    seen = runtime.only()
    assert seen.exchange.outcome == "client_disconnected"
    assert seen.states == ("complete", "partial")
    assert seen.response == b"x"


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_send_that_fails_is_a_client_that_left(
    runtime: FakeRuntime, failing: int
) -> None:
    messages = [START, body(b"x", more=True), body(b"y")]

    def fail(message: Message) -> BaseException | None:
        index = {"http.response.start": 0, "http.response.body": 1}[message["type"]]
        index += message.get("body") == b"y"
        return ConnectionResetError("gone") if index == failing else None

    app = audited(script(*messages), runtime)
    with pytest.raises(ConnectionResetError, match="gone"):
        call(app, Server(fail_send=fail))
    assert runtime.only().exchange.outcome == "client_disconnected"


def test_a_failing_send_that_the_application_hides(runtime: FakeRuntime) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            await send(body(b"x"))
        except OSError as error:
            raise ExceptionGroup("tasks", [error]) from None

    server = Server(
        fail_send=lambda message: OSError("gone") if "body" in message else None
    )
    with pytest.raises(ExceptionGroup, match="tasks"):
        call(audited(app, runtime), server)
    assert runtime.only().exchange.outcome == "client_disconnected"


@pytest.mark.parametrize("left", [True, False])
def test_a_cancelled_call_is_submitted_at_once(
    runtime: FakeRuntime, left: bool
) -> None:
    incoming = [chunk(b"{}"), DISCONNECT] if left else [chunk(b"{}")]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await receive()
        await receive()

    async def main() -> None:
        server = Server(incoming)
        wrapped = audited(app, runtime)
        task = asyncio.create_task(wrapped(http_scope(), server.receive, server.send))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(runtime.seen) == 1

    asyncio.run(main())
    expected = "client_disconnected" if left else "interrupted"
    assert runtime.only().exchange.outcome == expected


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_whatever_ends_the_process_ends_the_decision(
    runtime: FakeRuntime, error: type[BaseException]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    async def main() -> None:
        server = Server()
        with pytest.raises(error):
            await audited(app, runtime)(http_scope(), server.receive, server.send)

    asyncio.run(main())
    assert runtime.only().exchange.outcome == "interrupted"


def test_background_work_does_not_delay_the_record(runtime: FakeRuntime) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(body(b"x"))
        assert len(runtime.seen) == 1
        current().set_model("too late")

    call(audited(app, runtime))
    assert runtime.only().exchange.model is None


def test_head_is_recorded_without_a_body_if_asked_for(runtime: FakeRuntime) -> None:
    app = audited(script(START, body(b"x" * 31)), runtime, methods=["head"])
    call(app, scope=http_scope(method="HEAD"))
    seen = runtime.only()
    assert (seen.states[1], seen.response) == ("omitted", b"")
    assert seen.exchange.outcome == "completed"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading_methods_are_no_decisions(runtime: FakeRuntime, method: str) -> None:
    server = call(
        audited(script(START, body()), runtime), scope=http_scope(method=method)
    )
    assert server.sent[0] is START
    assert runtime.opened == {}


def test_methods_can_be_chosen(runtime: FakeRuntime) -> None:
    app = audited(script(START, body()), runtime, methods=["get", "PUT"])
    for method in ("GET", "PUT", "POST", "OPTIONS"):
        call(app, scope=http_scope(method=method))
    assert [one.exchange.method for one in runtime.seen] == ["GET", "PUT"]


def test_other_scopes_pass_untouched(runtime: FakeRuntime) -> None:
    kind = "vendor"
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([scope, receive, send])

    scope, server = {"type": kind}, Server()
    receive, send = server.receive, server.send
    asyncio.run(audited(app, runtime)(scope, receive, send))
    assert seen == [scope, receive, send]
    assert scope == {"type": kind}


def test_bodies_cannot_pass_by_us(runtime: FakeRuntime) -> None:
    extensions: dict[str, Any] = {
        "http.response.pathsend": {},
        "http.response.zerocopysend": {},
        "http.response.debug": {},
    }
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["extensions"])
        await send(START)
        await send({"type": "http.response.pathsend", "path": "/etc/hosts"})

    server = call(audited(app, runtime), scope=http_scope(extensions=extensions))
    assert seen == [{"http.response.debug": {}}]
    assert len(extensions) == 3
    assert server.types()[-1] == "http.response.pathsend"
    assert runtime.only().states[1] == "not_observed"
    assert runtime.only().exchange.outcome == "completed"


@pytest.mark.parametrize("extensions", [None, {}, {"tls": {}}])
def test_other_extensions_stay(runtime: FakeRuntime, extensions: Any) -> None:
    scope = http_scope(extensions=extensions)
    call(audited(script(START, body()), runtime), scope=scope)
    assert scope["extensions"] is extensions


def test_trailers_are_waited_for_where_the_server_can_send_them(
    runtime: FakeRuntime,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "trailers": True})
        await send(body(b"x"))
        assert runtime.seen == []
        await send({"type": "http.response.trailers", "headers": []})
        assert len(runtime.seen) == 1

    extensions: dict[str, Any] = {"http.response.trailers": {}}
    call(audited(app, runtime), scope=http_scope(extensions=extensions))


def test_trailers_that_the_server_cannot_send_are_not_waited_for(
    runtime: FakeRuntime,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "trailers": True})
        await send(body(b"x"))
        assert len(runtime.seen) == 1

    call(audited(app, runtime))


@pytest.mark.parametrize("times", [2, 3])
def test_installed_twice_records_once(runtime: FakeRuntime, times: int) -> None:
    inner = FakeRuntime()
    app: App = script(START, body())
    for _ in range(times - 1):
        app = audited(app, inner, header="x-inner")
    server = call(audited(app, runtime))
    assert runtime.only().exchange.outcome == "completed"
    assert inner.opened == {}
    assert server.header(b"x-inner") is None


def test_disabled_leaves_messages_alone_and_handlers_working() -> None:
    runtime = FakeRuntime()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        current().set_model("works")
        assert scope["auditlog.decision"] is current()
        await send(START)
        await send(body(b"x"))

    async def main() -> Server:
        server = Server()
        wrapped = audited(app, runtime, enabled=False)
        await wrapped(http_scope(), server.receive, server.send)
        with pytest.raises(AuditLogError, match="expected to be inside a request"):
            current()
        return server

    server = asyncio.run(main())
    assert server.sent[0] is START
    assert runtime.opened == {}
    assert runtime.calls == []


def test_the_decision_is_in_scope_and_context_and_gone_afterwards(
    runtime: FakeRuntime,
) -> None:
    ids: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["auditlog.decision"] is current()
        ids.append(current().id)
        current().set_model("m", version="2", digest="sha256:" + "00" * 32)
        await send(START)
        await send(body())

    async def main() -> None:
        server = Server()
        await audited(app, runtime, model="other")(
            http_scope(), server.receive, server.send
        )
        with pytest.raises(AuditLogError, match="is the middleware installed"):
            current()

    asyncio.run(main())
    exchange = runtime.only().exchange
    assert parse_id(ids[0]) == exchange.id
    assert exchange.model == Model("m", "2", "sha256:" + "00" * 32)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("m@1", Model("m", "1")),
        (Model("m", "1"), Model("m", "1")),
        (lambda scope: "m@" + scope["path"][1:], Model("m", "score")),
        (lambda scope: Model("m"), Model("m")),
        (lambda scope: None, Model("from", "env")),
        (None, Model("from", "env")),
    ],
    ids=["text", "identity", "call-text", "call-identity", "call-none", "none"],
)
def test_sources_of_the_model(
    runtime: FakeRuntime,
    monkeypatch: pytest.MonkeyPatch,
    given: Any,
    expected: Model,
) -> None:
    monkeypatch.setenv("AUDITLOG_MODEL", "from@env")
    call(audited(script(START, body()), runtime, model=given))
    assert runtime.only().exchange.model == expected


def test_the_model_callable_runs_when_the_answer_ends(runtime: FakeRuntime) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"version": "9"}
        await send(START)
        await send(body())

    call(audited(app, runtime, model=lambda scope: "m@" + scope["state"]["version"]))
    assert runtime.only().exchange.model == Model("m", "9")


@pytest.mark.parametrize(
    "source",
    [lambda scope: 1 / 0, lambda scope: 7, lambda scope: "", lambda scope: b"m"],
    ids=["raises", "number", "empty", "bytes"],
)
def test_a_model_callable_that_fails_is_said_once(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture, source: Any
) -> None:
    app = audited(script(START, body(b"x")), runtime, model=source)
    for _ in range(3):
        assert call(app).body() == b"x"
    assert [one.exchange.model for one in runtime.seen] == [None] * 3
    assert [record.name for record in caplog.records] == ["auditlog"]
    assert "the model callable failed (said once)" in caplog.text


def test_every_option_of_a_log_is_typed() -> None:
    typed = set(Options.__annotations__) | {"model"}
    assert typed == {field.name for field in dataclasses.fields(Config)}


async def _async_model(scope: Scope) -> str:
    return "m"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"durabilty": "sync"}, "did you mean 'durability'"),
        ({"colour": "red"}, "option 'colour' is not known"),
        ({"durability": "never"}, "option 'durability' takes one of"),
        ({"header": "Decision-Id"}, "option 'header' takes a header name in lower"),
        ({"header": "a b"}, "option 'header' takes a header name"),
        ({"model": ""}, "a model's name is a string"),
        ({"model": 7}, "option 'model' takes 'name', 'name@version'"),
        ({"model": _async_model}, "option 'model' takes"),
        ({"depth": 9}, "option 'depth' takes 0 to 8"),
        ({"include": 5}, "option 'include' takes a sequence of strings, got 5"),
        ({"dir": 5}, "option 'dir' takes a path, got 5"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AuditMiddleware(script(), **options)


def test_creating_it_starts_and_opens_nothing(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = threading.active_count()
    AuditMiddleware(script())
    assert threading.active_count() == threads
    assert list(tmp_path.iterdir()) == []


def held(
    messages: list[Message],
    runtime: FakeRuntime,
    check: Callable[[Server], None],
    error: StorageError | None = None,
    scope: Scope | None = None,
    **options: Any,
) -> Server:
    """Send until something is held, check, release, and run to the end."""

    async def main() -> Server:
        server = Server()
        app = audited(script(*messages), runtime, durability="sync", **options)
        task = asyncio.create_task(
            app(scope or http_scope(), server.receive, server.send)
        )
        while not runtime.waiting:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert not task.done()
        check(server)
        await asyncio.to_thread(runtime.accept, error)
        async with asyncio.timeout(5):
            try:
                await task
            except AuditLogError as raised:
                server.sent.append({"type": "raised", "error": raised})
        return server

    return asyncio.run(main())


@pytest.mark.parametrize("on_failure", ["open", "closed"])
@pytest.mark.parametrize(
    ("messages", "before"),
    [
        ([START, body(b"a", more=True), body(b"b")], 2),
        ([START, body(b"a")], 1),
        (
            [
                {**START, "headers": [(b"content-length", b"2")]},
                body(b"a", more=True),
                body(b"b", more=True),
                body(),
            ],
            2,
        ),
        ([{**START, "status": 204}, body()], 0),
        ([{**START, "headers": [(b"content-length", b"0")]}, body()], 0),
    ],
    ids=["stream", "whole", "content-length", "no-content", "empty"],
)
def test_sync_holds_what_completes_the_answer_and_nothing_else(
    messages: list[Message], before: int, on_failure: str
) -> None:
    runtime = FakeRuntime(gated=True)

    def check(server: Server) -> None:
        assert len(server.sent) == before
        assert len(runtime.seen) == 1

    server = held(messages, runtime, check, on_failure=on_failure)
    assert len(server.sent) == len(messages)
    assert runtime.only().exchange.outcome == "completed"


def test_sync_holds_trailers() -> None:
    runtime = FakeRuntime(gated=True)
    trailers = {"type": "http.response.trailers", "headers": []}
    server = held(
        [{**START, "trailers": True}, body(b"a"), trailers],
        runtime,
        lambda server: None if len(server.sent) == 2 else pytest.fail("not held"),
        scope=http_scope(extensions={"http.response.trailers": {}}),
    )
    assert len(server.sent) == 3


def test_sync_and_open_release_what_could_not_be_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = FakeRuntime(gated=True)
    server = held(
        [START, body(b"a")],
        runtime,
        lambda server: None,
        StorageError("disk full"),
        on_failure="open",
    )
    assert server.body() == b"a"
    assert "is not recorded: StorageError: disk full" in caplog.text
    assert len(caplog.records) == 1


def test_sync_and_closed_withhold_what_could_not_be_recorded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    runtime = FakeRuntime(gated=True)
    server = held(
        [START, body(b"a", more=True), body(b"b")],
        runtime,
        lambda server: None,
        StorageError("disk full"),
        on_failure="closed",
    )
    assert server.body() == b"a"
    assert "its answer is withheld" in str(server.sent[-1]["error"])
    assert "disk full" in caplog.text


def test_what_is_withheld_stays_withheld() -> None:
    runtime = FakeRuntime()
    runtime.accept_error = StorageError("disk full")
    raised: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for _ in range(3):
            try:
                await send(body(b"secret"))
            except AuditLogError as error:
                raised.append(str(error))

    options = {"durability": "sync", "on_failure": "closed"}
    server = call(audited(app, runtime, **options))
    assert server.types() == ["http.response.start"]
    assert len(raised) == 3


@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_a_runtime_that_never_answers(
    monkeypatch: pytest.MonkeyPatch, on_failure: str
) -> None:
    monkeypatch.setattr(waiting, "SECONDS", 0.05)
    runtime = FakeRuntime(gated=True)
    app = audited(
        script(START, body(b"a")), runtime, durability="sync", on_failure=on_failure
    )
    if on_failure == "open":
        assert call(app).body() == b"a"
    else:
        with pytest.raises(AuditLogError, match="answer is withheld"):
            call(app)
    runtime.accept()  # late, when the loop is closed: nobody minds
    runtime.check()


def test_a_call_cancelled_while_held(runtime: FakeRuntime) -> None:
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
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: complaints.append(context)
        )
        await asyncio.to_thread(runtime.accept)
        await asyncio.sleep(0.01)
        assert server.types() == ["http.response.start"]

    complaints: list[Any] = []
    asyncio.run(main())
    assert complaints == []
    assert runtime.only().exchange.outcome == "completed"


def test_streams_are_not_delayed_under_sync(runtime: FakeRuntime) -> None:
    times: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for _ in range(3):
            await send(body(b"x", more=True))
            times.append(time.monotonic())
        assert runtime.seen == []
        await send(body())

    started = time.monotonic()
    call(audited(app, runtime, durability="sync"))
    assert times[-1] - started < 1
    assert runtime.only().response == b"xxx"


@pytest.mark.parametrize("durability", ["spool", "sync"])
@pytest.mark.parametrize("fault", ["open_error", "submit_error"])
def test_under_open_a_failing_runtime_changes_nothing(
    caplog: pytest.LogCaptureFixture, durability: str, fault: str
) -> None:
    runtime = FakeRuntime()
    setattr(runtime, fault, ValueError("not even ours"))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        current().set_model("m")
        await send(START)
        await send(body(b"x"))

    server = call(audited(app, runtime, durability=durability))
    assert server.body() == b"x"
    # An id that is not in the log must not be handed out.
    assert (server.header(b"decision-id") is None) == (fault == "open_error")
    assert {record.name for record in caplog.records} == {"auditlog"}
    assert "ValueError at " in caplog.text
    assert "not even ours" not in caplog.text, "it may say what was sent"
    assert runtime.violations == []


def _refused(server: Server) -> None:
    assert server.sent[0]["status"] == 503
    assert server.header(b"content-type") == b"application/problem+json"
    assert server.header(b"content-length") == b"%d" % len(server.body())
    assert b'"status":503' in server.body()
    assert server.header(b"decision-id") is None


@pytest.mark.parametrize("durability", ["spool", "sync"])
@pytest.mark.parametrize("fault", ["unhealthy", "open"])
def test_under_closed_a_failing_runtime_refuses_before_the_model_runs(
    durability: str, fault: str
) -> None:
    runtime = FakeRuntime()
    runtime.is_healthy = fault != "unhealthy"
    runtime.open_error = StorageError("disk full") if fault == "open" else None
    ran: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        ran.append(True)

    wrapped = audited(app, runtime, durability=durability, on_failure="closed")
    _refused(call(wrapped))
    assert ran == []
    call(wrapped, scope=http_scope(method="GET"))
    assert ran == [True]
    assert runtime.opened == {}


def test_under_closed_and_sync_a_submit_that_fails_withholds() -> None:
    runtime = FakeRuntime()
    runtime.submit_error = StorageError("stopped")
    app = script(START, body(b"x"))
    with pytest.raises(AuditLogError, match="answer is withheld"):
        call(audited(app, runtime, durability="sync", on_failure="closed"))


def test_under_open_an_unhealthy_runtime_is_still_given_everything(
    runtime: FakeRuntime,
) -> None:
    runtime.is_healthy = False
    call(audited(script(START, body()), runtime))
    assert runtime.only().exchange.outcome == "completed"


def test_a_message_that_cannot_be_read_passes(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    messages = [
        {**START, "status": "two hundred"},
        {"type": "http.response.body", "body": "text", "more_body": True},
        body(b"x"),
    ]
    server = call(
        audited(script(*messages), runtime),
        Server([{"type": "http.request", "body": "text"}]),
    )
    assert server.sent[1:] == messages[1:]
    seen = runtime.only()
    assert seen.exchange.status is None
    assert seen.states == ("unread", "not_observed")
    assert caplog.text.count("a message could not be read") == 1


@pytest.mark.parametrize("direction", ["in", "out"])
def test_after_a_message_that_cannot_be_read_nothing_is_called_complete(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture, direction: str
) -> None:
    broken = {"body": "text", "more_body": True}
    incoming: list[Message] = [chunk(b"a")]
    outgoing = [START, body(b"x", more=True), body(b"y")]
    if direction == "in":
        incoming.insert(0, {"type": "http.request", **broken})
    else:
        outgoing.insert(2, {"type": "http.response.body", **broken})
    call(audited(script(*outgoing), runtime), Server(incoming))
    seen = runtime.only()
    assert seen.states == ("partial", "partial")
    assert (seen.request, seen.response) == (b"a", b"xy")
    assert seen.exchange.outcome == "completed"
    assert caplog.text.count("a message could not be read (said once): TypeError") == 1


def test_the_duration_ends_with_the_answer(runtime: FakeRuntime) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.02)
        await send(START)
        await send(body())
        await asyncio.sleep(0.2)

    call(audited(app, runtime))
    assert 20_000 <= runtime.only().exchange.duration < 200_000


@pytest.mark.parametrize("then", [None, BoomError("x")])
def test_nothing_stays_behind(runtime: FakeRuntime, then: BoomError | None) -> None:
    app = audited(script(START, then=then), runtime)
    if then is None:
        call(app)
    else:
        with pytest.raises(BoomError):
            call(app)
    assert app._process.in_flight == set()


def test_a_route_that_cannot_be_found_is_captured_without_it(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def matches(self, scope: Scope) -> None:
            raise LookupError("broken")

    class App:
        routes = (Broken(),)

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await script(START, body(b"x"))(scope, receive, send)

    app = audited(App(), runtime)
    for _ in range(2):
        assert call(app).body() == b"x"
    assert [one.exchange.route for one in runtime.seen] == [None, None]
    assert caplog.text.count("route of a request could not be found") == 1


def test_a_scope_without_anything_optional(runtime: FakeRuntime) -> None:
    headers = [(b"x-request-id", b"12")]  # as long as Content-Type
    scope = {"type": "http", "method": "POST", "path": "/a b/ü", "headers": headers}
    server = call(audited(script(START, body()), runtime), scope=scope)
    assert server.header(b"decision-id") is not None
    exchange = runtime.only().exchange
    assert exchange.target == b"/a%20b/%C3%BC"
    assert exchange.request_type is None


@pytest.mark.parametrize(
    ("raw", "query", "expected"),
    [
        (b"/s%20x", b"", b"/s%20x"),
        (b"/s", b"a=1", b"/s?a=1"),
        (b"/s?a=1", b"a=1", b"/s?a=1"),
        (None, b"a=1", b"/score?a=1"),
    ],
)
def test_the_target_is_what_the_client_sent(
    runtime: FakeRuntime, raw: bytes | None, query: bytes, expected: bytes
) -> None:
    scope = http_scope(raw_path=raw, query_string=query)
    call(audited(script(START, body()), runtime), scope=scope)
    assert runtime.only().exchange.target == expected


def test_what_the_application_does_to_the_scope_is_not_recorded(
    runtime: FakeRuntime,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope.update(method="DELETE", path="/other", raw_path=b"/other", headers=[])
        await send(START)
        await send(body())

    call(audited(app, runtime))
    exchange = runtime.only().exchange
    assert (exchange.method, exchange.target) == ("POST", b"/score")
    assert exchange.request_type == "application/json"


def test_many_calls_at_once_are_kept_apart(runtime: FakeRuntime) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"][1:]
        data = (await receive())["body"]
        await asyncio.sleep(0)
        current().set_model(name)
        await send(START)
        await asyncio.sleep(0)
        await send(body(data))

    async def main() -> None:
        wrapped = audited(app, runtime, durability="sync")

        async def one(number: int) -> None:
            server = Server([chunk(b"%d" % number)])
            await wrapped(http_scope(f"/{number}"), server.receive, server.send)
            assert server.body() == b"%d" % number

        async with asyncio.timeout(20):
            await asyncio.gather(*(one(number) for number in range(200)))

    asyncio.run(main())
    runtime.check()
    assert len(runtime.seen) == 200
    for seen in runtime.seen:
        assert seen.exchange.model is not None
        assert seen.request.decode() == seen.exchange.model.name
        assert seen.request == seen.response
    assert len({seen.exchange.secret for seen in runtime.seen}) == 200


def test_no_log_line_holds_content(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    runtime.accept_error = StorageError("disk full")
    app = audited(script(START, body(b"card 4111")), runtime, durability="sync")
    call(app, Server([chunk(b"name Alice")]))
    assert "4111" not in caplog.text
    assert "Alice" not in caplog.text


@pytest.mark.parametrize(("durability", "on_failure"), MODES)
def test_without_asyncio_nothing_is_held_but_all_is_recorded(
    runtime: FakeRuntime, durability: str, on_failure: str
) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return chunk(b"{}")

    async def send(message: Message) -> None:
        sent.append(message)

    app = audited(
        script(START, body(b"x")), runtime, durability=durability, on_failure=on_failure
    )
    call = app(http_scope(), receive, send)
    if (durability, on_failure) == ("sync", "closed"):
        with pytest.raises(AuditLogError, match="answer is withheld"):
            call.send(None)  # one step is the whole call: nothing in it waits
        assert len(sent) == 1
    else:
        with pytest.raises(StopIteration):
            call.send(None)
        assert len(sent) == 2
    assert runtime.only().exchange.outcome == "completed"
