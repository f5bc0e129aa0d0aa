"""WebSockets through the middleware, message by message."""

import asyncio
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

import auditlog
from auditlog.core.errors import AuditLogError, ConfigurationError, StorageError
from auditlog.core.pieces import messages
from auditlog.core.record import format_id, parse_id
from auditlog.log.decision import Decision
from auditlog.models.identity import Model
from auditlog.web.asgi import App, Message, Receive, Scope, Send
from auditlog.web.middleware import AuditMiddleware
from tests.web.asgi_driver import DISCONNECT, START, Server, body, call, script
from tests.web.fake_runtime import FakeRuntime, Seen
from tests.web.websocket_driver import (
    ACCEPT,
    LEFT,
    LOST,
    client,
    close,
    denial,
    denial_body,
    echo,
    handled,
    heard,
    left,
    said,
    scope,
    session,
)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    made = FakeRuntime()
    yield made
    made.check()


def audited(app: App, runtime: FakeRuntime, **options: Any) -> AuditMiddleware:
    return AuditMiddleware(app, runtime=runtime, **options)


def exchanged(seen: Seen) -> list[tuple[int, str, bytes]]:
    """Return what passed by order: who said it, and what."""
    asked = [(one.order, "client", one.payload) for one in messages(seen.request)]
    told = [(one.order, "app", one.payload) for one in messages(seen.response)]
    return sorted(asked + told)


def leaf(seen: Seen, name: str) -> Any:
    return json.loads(seen.exchange.context[name])


# What passes


@pytest.mark.parametrize("durability", ["spool", "sync"])
@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_a_session_is_one_decision(
    runtime: FakeRuntime, durability: str, on_failure: str
) -> None:
    options = {"durability": durability, "on_failure": on_failure}
    app = audited(handled(echo), runtime, model="voice@2", **options)
    server = client(heard("hello"), heard(b"\x00\x01"), LEFT)
    session(app, server, path="/chat/7", query_string=b"a=b%20c")
    seen = runtime.only()
    exchange = seen.exchange
    assert exchanged(seen) == [
        (0, "client", b"hello"),
        (1, "app", b"hello"),
        (2, "client", b"\x00\x01"),
        (3, "app", b"\x00\x01"),
    ]
    assert [one.kind for one in messages(seen.request)] == [1, 2]
    assert exchange.request.framed
    assert exchange.response.framed
    assert seen.states == ("complete", "complete")
    assert (exchange.method, exchange.status, exchange.route) == ("GET", 101, None)
    assert exchange.target == b"/chat/7?a=b%20c"
    assert exchange.request_type is exchange.response_type is None
    assert (exchange.outcome, exchange.model) == ("completed", Model("voice", "2"))
    header = server.header(b"decision-id")
    assert header is not None
    assert parse_id(header.decode()) == exchange.id
    assert leaf(seen, "websocket.close") == {
        "by": "client",
        "code": 1000,
        "reason": "",
    }
    assert "session" not in exchange.context


@pytest.mark.parametrize("websocket", ["session", "message", "off"])
@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_messages_pass_as_they_are(
    runtime: FakeRuntime, websocket: str, on_failure: str
) -> None:
    incoming = [heard("a"), heard(b"b"), {"type": "vendor.in"}, heard("c"), LEFT]
    outgoing = [said("x"), {"type": "vendor.out"}, said(b"y"), close(4000, "well")]
    got: list[Message] = []

    async def handler(receive: Receive, send: Send) -> None:
        got.extend([await receive() for _ in incoming])
        for message in outgoing:
            await send(message)

    options = {"websocket": websocket, "on_failure": on_failure}
    server = session(audited(handled(handler), runtime, **options), client(*incoming))
    assert all(a is b for a, b in zip(got, incoming, strict=True))
    accepted, *sent = server.sent
    assert all(a is b for a, b in zip(sent, outgoing, strict=True))
    assert {**accepted, "headers": []} == ACCEPT
    assert ACCEPT["headers"] == []
    assert len(accepted["headers"]) == (websocket != "off")


def test_an_accept_to_which_nothing_is_added_is_the_same_object(
    runtime: FakeRuntime,
) -> None:
    server = session(audited(handled(echo), runtime, header=""), client(LEFT))
    assert server.sent[0] is ACCEPT


@pytest.mark.parametrize("headers", [None, (), [(b"a", b"b")], ((b"a", b"b"),)])
def test_the_headers_of_an_accept_may_be_any_iterable(
    runtime: FakeRuntime, headers: Any
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**ACCEPT, "headers": headers})
        await receive()
        await receive()

    server = session(audited(app, runtime), client(LEFT))
    *theirs, ours = server.sent[0]["headers"]
    assert theirs == list(headers or ())
    assert ours == (b"decision-id", format_id(runtime.only().exchange.id).encode())


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.1", ("GET", 101)), ("2", ("CONNECT", 200)), ("3", ("CONNECT", 200))],
)
def test_a_handshake_is_recorded_as_its_version_of_http_has_it(
    runtime: FakeRuntime, version: str, expected: tuple[str, int]
) -> None:
    app = audited(handled(echo), runtime)
    session(app, client(heard("a"), LEFT), http_version=version)
    exchange = runtime.only().exchange
    assert (exchange.method, exchange.status) == expected
    assert exchange.outcome == "completed"


def test_switched_off_it_passes_untouched_and_handlers_still_work(
    runtime: FakeRuntime,
) -> None:
    decisions: list[Decision] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        decisions.append(auditlog.current())
        auditlog.current().set_model("m")
        auditlog.current().new_turn()
        assert receive == server.receive
        assert send == server.send

    server = client()
    session(audited(app, runtime, websocket="off"), server)
    assert not decisions[0].recorded
    assert runtime.opened == {}


def test_the_option_takes_one_of_three(runtime: FakeRuntime) -> None:
    expected = "option 'websocket' takes one of session, message, off; got 'all'"
    with pytest.raises(ConfigurationError, match=expected):
        audited(handled(echo), runtime, websocket="all")


# Each message


def test_each_message_of_the_client_is_a_decision(runtime: FakeRuntime) -> None:
    async def handler(receive: Receive, send: Send) -> None:
        await send(said("welcome"))
        while (message := await receive())["type"] == "websocket.receive":
            await send(said(message["text"] + "1"))
            await send(said(message["text"] + "2"))

    app = audited(handled(handler), runtime, websocket="message")
    server = session(app, client(heard("a"), heard("b"), heard("c"), LEFT))
    runtime.check()
    assert [exchanged(seen) for seen in runtime.seen] == [
        [
            (0, "app", b"welcome"),
            (1, "client", b"a"),
            (2, "app", b"a1"),
            (3, "app", b"a2"),
        ],
        [(4, "client", b"b"), (5, "app", b"b1"), (6, "app", b"b2")],
        [(7, "client", b"c"), (8, "app", b"c1"), (9, "app", b"c2")],
    ]
    assert [seen.exchange.outcome for seen in runtime.seen] == ["completed"] * 3
    assert all(seen.states == ("complete", "complete") for seen in runtime.seen)
    first = format_id(runtime.seen[0].exchange.id)
    assert server.header(b"decision-id") == first.encode()
    sessions = [leaf(seen, "session") for seen in runtime.seen]
    assert sessions == [{"connection": first}] * 3
    closed = ["websocket.close" in seen.exchange.context for seen in runtime.seen]
    assert closed == [False, False, True]


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_every_number_is_opened_before_the_application_sees_the_message(
    runtime: FakeRuntime, durability: str
) -> None:
    numbers = []

    async def handler(receive: Receive, send: Send) -> None:
        while (await receive())["type"] == "websocket.receive":
            numbers.append((len(runtime.opened), len(runtime.seen)))

    options = {"websocket": "message", "durability": durability}
    app = audited(handled(handler), runtime, **options)
    session(app, client(heard("a"), heard("b"), heard("c"), LEFT))
    assert numbers == [(1, 0), (2, 1), (3, 2)]


def test_a_client_that_says_nothing_is_one_decision_with_what_it_was_told(
    runtime: FakeRuntime,
) -> None:
    async def handler(receive: Receive, send: Send) -> None:
        await send(said("welcome"))
        await receive()

    session(audited(handled(handler), runtime, websocket="message"), client(LEFT))
    seen = runtime.only()
    assert exchanged(seen) == [(0, "app", b"welcome")]
    assert seen.exchange.outcome == "completed"


def test_what_the_handler_says_belongs_to_the_message_that_came_last(
    runtime: FakeRuntime,
) -> None:
    scopes: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        while (message := await receive())["type"] == "websocket.receive":
            decision = auditlog.current()
            decision.set_model(message["text"])
            decision.set_session("conversation")
            scopes.append(scope["auditlog.decision"].id)
        auditlog.current().annotate(end=True)

    session(
        audited(app, runtime, websocket="message"),
        client(heard("a"), heard("b"), LEFT),
    )
    ids = [format_id(seen.exchange.id) for seen in runtime.seen]
    models = [seen.exchange.model for seen in runtime.seen]
    assert models == [Model("a"), Model("b")]
    assert scopes == ids
    assert leaf(runtime.seen[1], "session") == {
        "connection": ids[0],
        "id": "conversation",
    }
    assert leaf(runtime.seen[1], "annotations") == {"end": True}
    assert "annotations" not in runtime.seen[0].exchange.context


def test_who_receives_in_a_task_of_its_own_finds_the_decision_in_the_scope(
    runtime: FakeRuntime,
) -> None:
    app = FastAPI()

    @app.websocket("/chat")
    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        for _ in range(2):
            # As `asyncio.wait_for` does before Python 3.12.
            text = await asyncio.create_task(socket.receive_text())
            socket.scope["auditlog.decision"].set_model(text)

    session(audited(app, runtime, websocket="message"), client(heard("a"), heard("b")))
    models = [seen.exchange.model for seen in runtime.seen]
    assert models == [Model("a"), Model("b")]


def test_an_answer_that_comes_from_another_task_belongs_to_the_last_message(
    runtime: FakeRuntime,
) -> None:
    async def handler(receive: Receive, send: Send) -> None:
        questions: asyncio.Queue[str] = asyncio.Queue()

        async def answer() -> None:
            for _ in range(2):
                await send(said(await questions.get()))

        answering = asyncio.create_task(answer())
        while (message := await receive())["type"] == "websocket.receive":
            questions.put_nowait(message["text"])
        await answering

    app = audited(handled(handler), runtime, websocket="message")
    session(app, client(heard("a"), heard("b"), LEFT))
    # Both questions had come before the first was answered.
    assert [exchanged(seen) for seen in runtime.seen] == [
        [(0, "client", b"a")],
        [(1, "client", b"b"), (2, "app", b"a"), (3, "app", b"b")],
    ]


def test_a_message_may_be_split_into_decisions(runtime: FakeRuntime) -> None:
    async def handler(receive: Receive, send: Send) -> None:
        for text in ("a", "b"):
            assert (await receive())["text"] == text
            first, second = auditlog.current().split(2)
            first.set_result(label=f"{text}0")
            second.set_result(label=f"{text}1")
            second.new_turn()

    app = audited(handled(handler), runtime, websocket="message")
    session(app, client(heard("a"), heard("b")))
    labels = [leaf(seen, "outcome")["result"]["label"] for seen in runtime.seen]
    assert labels == ["a0", "a1", "b0", "b1"]
    states = [seen.states[0] for seen in runtime.seen]
    assert states == ["complete", "omitted", "partial", "omitted"]


def test_turns_are_marked_in_a_session_and_in_a_message(runtime: FakeRuntime) -> None:
    async def handler(receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            if message["text"] != "b":
                auditlog.current().new_turn()
            await send(said("answer"))

    incoming = [heard("a"), heard("b"), heard("c"), LEFT]
    session(audited(handled(handler), runtime), client(*incoming))
    assert leaf(runtime.seen[0], "websocket.turns") == {"begin": [0, 4], "further": 0}
    app = audited(handled(handler), runtime, websocket="message")
    session(app, client(*incoming))
    turns = [seen.exchange.context.get("websocket.turns") for seen in runtime.seen[1:]]
    assert [turn and json.loads(turn)["begin"] for turn in turns] == [[0], None, [4]]


def test_a_turn_after_the_end_has_no_effect(runtime: FakeRuntime) -> None:
    async def handler(receive: Receive, send: Send) -> None:
        await send(close())
        auditlog.current().new_turn()

    session(audited(handled(handler), runtime), client())
    assert "websocket.turns" not in runtime.only().exchange.context


def test_a_request_has_no_turns(runtime: FakeRuntime) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ConfigurationError, match="expected the decision of a WebS"):
            auditlog.current().new_turn()

    call(audited(app, runtime))


# How it ends


@pytest.mark.parametrize("websocket", ["session", "message"])
@pytest.mark.parametrize(
    ("sent", "status", "outcome", "kept"),
    [
        ([close(1008)], 403, "rejected", b""),
        ([denial(401), denial_body(b"no")], 401, "rejected", b"no"),
        ([denial(503), denial_body(b"oh")], 503, "error", b"oh"),
    ],
    ids=["closed", "answered", "failed"],
)
def test_a_handshake_that_is_refused(
    runtime: FakeRuntime,
    websocket: str,
    sent: list[Message],
    status: int,
    outcome: str,
    kept: bytes,
) -> None:
    app = script(*sent, read=False)
    options = {"websocket": websocket, "keep_rejected": True}
    server = session(audited(app, runtime, **options), client())
    seen = runtime.only()
    assert (seen.exchange.status, seen.exchange.outcome) == (status, outcome)
    assert seen.response == kept
    assert seen.exchange.keep
    if kept:
        assert server.header(b"decision-id") is not None
        assert seen.states == ("unread", "complete")
        assert server.body() == kept
    else:
        assert server.sent == sent


def test_what_a_refused_handshake_answered_is_not_kept_unless_asked_for(
    runtime: FakeRuntime,
) -> None:
    app = script(denial(401), denial_body(b"no"), read=False)
    session(audited(app, runtime), client())
    assert runtime.only().exchange.keep is False


class BoomError(Exception):
    """Raised on purpose."""


async def _boom(receive: Receive, send: Send) -> None:
    await send(said("a"))
    raise BoomError


async def _boom_after_close(receive: Receive, send: Send) -> None:
    await send(close())
    raise BoomError


async def _boom_after_leave(receive: Receive, send: Send) -> None:
    await receive()
    raise BoomError


async def _return(receive: Receive, send: Send) -> None:
    await send(said("a"))


async def _close_badly(receive: Receive, send: Send) -> None:
    await send(close(1011))


@pytest.mark.parametrize("websocket", ["session", "message"])
@pytest.mark.parametrize(
    ("handler", "incoming", "outcome", "after"),
    [
        (_boom, [], "error", []),
        (_boom_after_close, [], "completed", ["error_after_response"]),
        # To raise is how most applications take the leave of a client.
        (_boom_after_leave, [LEFT], "completed", []),
        (_boom_after_leave, [LOST], "client_disconnected", []),
        (_return, [], "incomplete", []),
        (_close_badly, [], "error", []),
        (echo, [left(1012)], "interrupted", []),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_how_a_session_ends(
    runtime: FakeRuntime,
    websocket: str,
    handler: Any,
    incoming: list[Message],
    outcome: str,
    after: list[str],
) -> None:
    app = audited(handled(handler), runtime, websocket=websocket)
    try:
        session(app, client(*incoming))
    except BoomError:
        assert "boom" in handler.__name__
    assert runtime.only().exchange.outcome == outcome
    assert runtime.afterwards() == after


def test_an_application_that_fails_before_it_accepts(runtime: FakeRuntime) -> None:
    with pytest.raises(BoomError):
        session(audited(script(read=False, then=BoomError()), runtime), client())
    seen = runtime.only()
    assert (seen.exchange.outcome, seen.exchange.status) == ("error", None)
    assert seen.states == ("unread", "not_observed")


@pytest.mark.parametrize("websocket", ["session", "message"])
def test_a_message_that_cannot_be_sent_is_a_client_that_left(
    runtime: FakeRuntime, websocket: str
) -> None:
    def fail(message: Message) -> BaseException | None:
        return ConnectionResetError() if message.get("text") == "b" else None

    app = audited(handled(echo), runtime, websocket=websocket)
    with pytest.raises(ConnectionResetError):
        session(app, client(heard("a"), heard("b"), fail_send=fail))
    last = runtime.seen[-1]
    assert last.exchange.outcome == "client_disconnected"
    assert last.states == ("partial", "partial")
    assert (2, "client", b"b") in exchanged(last)


def test_a_client_that_is_gone_before_the_close_can_be_sent(
    runtime: FakeRuntime,
) -> None:
    def fail(message: Message) -> BaseException | None:
        gone = message["type"] == "websocket.close"
        return ConnectionResetError() if gone else None

    async def handler(receive: Receive, send: Send) -> None:
        await send(close())

    app = audited(handled(handler), runtime)
    with pytest.raises(ConnectionResetError):
        session(app, client(fail_send=fail))
    assert runtime.only().exchange.outcome == "client_disconnected"


@pytest.mark.parametrize("websocket", ["session", "message"])
def test_a_session_that_the_server_cancels_was_interrupted(
    runtime: FakeRuntime, websocket: str
) -> None:
    async def run() -> None:
        server = client(heard("a"))
        app = audited(handled(echo), runtime, websocket=websocket)
        task = asyncio.create_task(app(scope(), server.receive, server.send))
        await _until(lambda: len(server.sent) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert runtime.only().exchange.outcome == "interrupted"


@pytest.mark.parametrize("websocket", ["session", "message"])
def test_a_message_that_we_cannot_read_passes_and_nothing_counts_as_complete(
    runtime: FakeRuntime, websocket: str
) -> None:
    strange = {"type": "websocket.receive", "text": "\ud800"}
    got = []

    async def handler(receive: Receive, send: Send) -> None:
        got.append(await receive())
        await send(close())

    app = audited(handled(handler), runtime, websocket=websocket)
    session(app, client(strange))
    assert got == [strange]
    seen = runtime.only()
    assert seen.exchange.outcome == "completed"
    assert seen.states == ("unread", "partial")


# The log stops


async def _until(done: Any) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110 - of fakes that tell nobody
            await asyncio.sleep(0)


class Live:
    """A session that a test drives while it runs."""

    def __init__(self, app: AuditMiddleware, *incoming: Message) -> None:
        self.app, self.server = app, client(*incoming)
        self.task = asyncio.create_task(
            app(scope(), self.server.receive, self.server.send)
        )

    async def sent(self, count: int) -> None:
        """Wait for so many messages of the application, the accept among them."""
        await _until(lambda: len(self.server.sent) >= count or self.task.done())

    async def end(self) -> BaseException | None:
        async with asyncio.timeout(10):
            return await self._end()

    async def _end(self) -> BaseException | None:
        (error,) = await asyncio.gather(self.task, return_exceptions=True)
        return error


@pytest.mark.parametrize("websocket", ["session", "message"])
def test_a_session_goes_on_after_the_log_has_stopped(
    runtime: FakeRuntime, websocket: str
) -> None:
    async def run() -> None:
        app = audited(handled(echo), runtime, websocket=websocket)
        live = Live(app, heard("a"))
        await live.sent(2)
        app._process.interrupt_all()
        live.server.push(heard("b"))
        await live.sent(3)
        live.server.push(LEFT)
        assert await live.end() is None

    asyncio.run(run())
    outcomes = [seen.exchange.outcome for seen in runtime.seen]
    # A message that comes later is a decision of the log's next start.
    more = ["completed"] if websocket == "message" else []
    assert outcomes == ["interrupted", *more]
    assert exchanged(runtime.seen[0]) == [(0, "client", b"a"), (1, "app", b"a")]


def test_the_first_message_after_the_log_has_stopped_is_a_decision_too(
    runtime: FakeRuntime,
) -> None:
    async def run() -> None:
        live = Live(audited(handled(echo), runtime, websocket="message"))
        await live.sent(1)
        live.app._process.interrupt_all()
        live.server.push(heard("a"))
        await live.sent(2)
        live.server.push(LEFT)
        assert await live.end() is None

    asyncio.run(run())
    outcomes = [seen.exchange.outcome for seen in runtime.seen]
    assert outcomes == ["interrupted", "completed"]
    assert exchanged(runtime.seen[1]) == [(0, "client", b"a"), (1, "app", b"a")]


@pytest.mark.parametrize("websocket", ["session", "message"])
def test_under_closed_a_session_is_closed_after_the_log_has_stopped(
    runtime: FakeRuntime, websocket: str
) -> None:
    got: list[Message] = []

    async def handler(receive: Receive, send: Send) -> None:
        got.append(await receive())
        await send(said("a"))
        got.append(await receive())
        with pytest.raises(AuditLogError, match="to end before the log stopped"):
            await send(said("b"))

    async def run() -> None:
        options = {"websocket": websocket, "on_failure": "closed"}
        app = audited(handled(handler), runtime, **options)
        live = Live(app, heard("a"))
        await live.sent(2)
        app._process.interrupt_all()
        live.server.push(heard("b"))
        assert await live.end() is None
        assert live.server.types() == [
            "websocket.accept",
            "websocket.send",
            "websocket.close",
        ]
        assert live.server.sent[-1]["code"] == 1013

    asyncio.run(run())
    assert (got[1]["type"], got[1]["code"]) == ("websocket.disconnect", 1013)
    assert runtime.only().exchange.outcome == "interrupted"


# Under sync


@pytest.mark.parametrize("websocket", ["session", "message"])
def test_the_close_waits_until_the_decision_is_accepted(websocket: str) -> None:
    runtime = FakeRuntime(gated=True)

    async def handler(receive: Receive, send: Send) -> None:
        await receive()
        await send(said("a"))
        await send(close())

    async def run() -> None:
        options = {"websocket": websocket, "durability": "sync"}
        live = Live(audited(handled(handler), runtime, **options), heard("a"))
        await _until(lambda: runtime.waiting)
        await asyncio.sleep(0)
        assert live.server.types() == ["websocket.accept", "websocket.send"]
        runtime.accept()
        assert await live.end() is None
        assert live.server.types()[-1] == "websocket.close"

    asyncio.run(run())
    assert runtime.only().exchange.outcome == "completed"


def test_the_close_is_withheld_where_nothing_may_be_released_unlogged() -> None:
    runtime = FakeRuntime(gated=True)

    async def handler(receive: Receive, send: Send) -> None:
        with pytest.raises(AuditLogError, match="its answer is withheld"):
            await send(close())

    async def run() -> None:
        options = {"durability": "sync", "on_failure": "closed"}
        live = Live(audited(handled(handler), runtime, **options))
        await _until(lambda: runtime.waiting)
        runtime.accept(StorageError("full"))
        assert await live.end() is None
        assert live.server.types() == ["websocket.accept"]

    asyncio.run(run())
    assert runtime.afterwards() == ["answer_withheld"]


def test_the_next_message_waits_until_the_decision_before_is_accepted() -> None:
    runtime = FakeRuntime(gated=True)

    async def run() -> None:
        options = {"websocket": "message", "durability": "sync"}
        live = Live(audited(handled(echo), runtime, **options), heard("a"), heard("b"))
        await _until(lambda: runtime.waiting)
        await asyncio.sleep(0)
        assert live.server.types() == ["websocket.accept", "websocket.send"]
        assert len(runtime.opened) == 2
        runtime.accept()
        await live.sent(3)
        live.server.push(LEFT)
        assert await live.end() is None

    asyncio.run(run())
    runtime.check()
    assert len(runtime.seen) == 2


@pytest.mark.parametrize("on_failure", ["open", "closed"])
def test_a_decision_that_is_lost_before_the_next_message(
    on_failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = FakeRuntime(gated=True)
    options = {"websocket": "message", "durability": "sync", "on_failure": on_failure}

    async def run() -> list[str]:
        live = Live(audited(handled(echo), runtime, **options), heard("a"), heard("b"))
        await _until(lambda: runtime.waiting)
        runtime.accept(StorageError("full"))
        await live.sent(3)
        live.server.push(LEFT)
        assert await live.end() is None
        return live.server.types()[2:]

    with caplog.at_level(logging.ERROR):
        rest = asyncio.run(run())
    runtime.check()
    last = runtime.seen[-1].exchange.outcome
    if on_failure == "open":
        assert (rest, last) == (["websocket.send"], "completed")
    else:
        assert (rest, last) == (["websocket.close"], "interrupted")
    assert "is not recorded: StorageError: full" in caplog.text


def test_a_handler_that_stops_waiting_loses_no_message() -> None:
    runtime = FakeRuntime(gated=True)
    got: list[Message] = []

    async def handler(receive: Receive, send: Send) -> None:
        got.append(await receive())
        waiting = asyncio.ensure_future(receive())
        await _until(lambda: runtime.waiting)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await send(said("are you there?"))
        runtime.accept()
        got.append(await receive())
        got.append(await receive())

    async def run() -> None:
        options = {"websocket": "message", "durability": "sync"}
        app = audited(handled(handler), runtime, **options)
        live = Live(app, heard("a"), heard("b"), LEFT)
        assert await live.end() is None

    asyncio.run(run())
    runtime.check()
    assert got == [heard("a"), heard("b"), LEFT]
    assert [exchanged(seen) for seen in runtime.seen] == [
        [(0, "client", b"a")],
        [(1, "app", b"are you there?"), (2, "client", b"b")],
    ]


def test_tasks_that_receive_at_once_get_each_message_once_and_in_order() -> None:
    runtime = FakeRuntime(gated=True)
    got: list[Message] = []

    async def handler(receive: Receive, send: Send) -> None:
        async def take() -> None:
            got.append(await receive())

        await take()
        waiting = [asyncio.ensure_future(take()) for _ in range(3)]
        for _ in range(2):
            await _until(lambda: runtime.waiting)
            # Whoever would overtake does so now.
            await asyncio.sleep(0)
            runtime.accept()
        await asyncio.gather(*waiting)

    async def run() -> None:
        options = {"websocket": "message", "durability": "sync"}
        app = audited(handled(handler), runtime, **options)
        incoming = [heard("a"), heard("b"), heard("c"), LEFT]
        assert await Live(app, *incoming).end() is None

    asyncio.run(run())
    runtime.check()
    assert got == [heard("a"), heard("b"), heard("c"), LEFT]
    assert [exchanged(seen) for seen in runtime.seen] == [
        [(0, "client", b"a")],
        [(1, "client", b"b")],
        [(2, "client", b"c")],
    ]


# The log fails


@pytest.mark.parametrize("failing", ["unhealthy", "unnumbered"])
@pytest.mark.parametrize("extension", [True, False])
def test_under_closed_no_session_begins_that_cannot_be_recorded(
    runtime: FakeRuntime, failing: str, extension: bool
) -> None:
    runtime.is_healthy = failing != "unhealthy"
    runtime.open_error = None if runtime.is_healthy else StorageError("full")
    if failing == "unnumbered":
        runtime.open_error = StorageError("full")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pytest.fail("the application was called")

    named = ["websocket.http.response"] if extension else []
    server = session(
        audited(app, runtime, on_failure="closed"),
        client(),
        extensions={name: {} for name in named},
    )
    if extension:
        assert server.sent[0]["status"] == 503
        assert b"none is made" in server.body()
        assert all(kind.startswith("websocket.http.res") for kind in server.types())
    else:
        assert server.sent == [{"type": "websocket.close", "code": 1013}]
    assert runtime.opened == {}


def test_under_open_a_session_that_cannot_be_numbered_passes_unrecorded(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.open_error = StorageError("full")
    server = session(audited(handled(echo), runtime), client(heard("a"), LEFT))
    assert server.types() == ["websocket.accept", "websocket.send"]
    assert server.sent[0] is ACCEPT
    assert runtime.opened == {}


@pytest.mark.parametrize("websocket", ["session", "message"])
def test_under_closed_a_session_is_closed_when_the_log_begins_to_fail(
    runtime: FakeRuntime, websocket: str
) -> None:
    got: list[Message] = []

    async def handler(receive: Receive, send: Send) -> None:
        got.append(await receive())
        await send(said("a"))
        runtime.is_healthy = False
        got.append(await receive())
        assert await receive() is got[1]
        with pytest.raises(AuditLogError, match="it is closed"):
            await send(said("b"))

    options = {"websocket": websocket, "on_failure": "closed"}
    app = audited(handled(handler), runtime, **options)
    server = session(app, client(heard("a"), heard("b")))
    reason = "decisions cannot be recorded"
    assert got == [heard("a"), left(1013, reason)]
    assert server.sent[-1] == close(1013, reason)
    seen = runtime.only()
    assert exchanged(seen) == [(0, "client", b"a"), (1, "app", b"a")]
    expected = "completed" if websocket == "message" else "interrupted"
    assert seen.exchange.outcome == expected


def test_under_closed_the_first_message_too_needs_a_log_that_works(
    runtime: FakeRuntime,
) -> None:
    async def handler(receive: Receive, send: Send) -> None:
        runtime.is_healthy = False
        assert (await receive())["type"] == "websocket.disconnect"

    options = {"websocket": "message", "on_failure": "closed"}
    session(audited(handled(handler), runtime, **options), client(heard("a")))
    assert runtime.only().exchange.outcome == "interrupted"


def test_under_closed_no_message_passes_that_cannot_be_numbered(
    runtime: FakeRuntime,
) -> None:
    async def handler(receive: Receive, send: Send) -> None:
        await receive()
        runtime.open_error = StorageError("full")
        assert (await receive())["code"] == 1013

    options = {"websocket": "message", "on_failure": "closed"}
    app = audited(handled(handler), runtime, **options)
    server = session(app, client(heard("a"), heard("b")))
    assert server.types()[1:] == ["websocket.close"]
    assert exchanged(runtime.only()) == [(0, "client", b"a")]


@pytest.mark.parametrize("error", [OSError, RuntimeError])
def test_a_close_of_ours_that_cannot_be_sent_harms_nobody(
    runtime: FakeRuntime, error: type[Exception]
) -> None:
    def fail(message: Message) -> BaseException | None:
        return error() if message["type"] == "websocket.close" else None

    async def handler(receive: Receive, send: Send) -> None:
        runtime.is_healthy = False
        assert (await receive())["code"] == 1013

    app = audited(handled(handler), runtime, on_failure="closed")
    session(app, client(heard("a"), fail_send=fail))
    assert runtime.only().exchange.outcome == "interrupted"


def test_under_open_a_message_that_cannot_be_numbered_passes_unrecorded(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = []

    async def handler(receive: Receive, send: Send) -> None:
        for number in range(4):
            broken = StorageError("full") if number in {1, 2} else None
            runtime.open_error = broken
            message = await receive()
            recorded.append(auditlog.current().recorded)
            await send(said(message["text"]))
        await receive()

    app = audited(handled(handler), runtime, websocket="message")
    incoming = [heard(text) for text in "abcd"]
    server = session(app, client(*incoming, LEFT))
    assert server.types()[1:] == ["websocket.send"] * 4
    assert recorded == [True, False, False, True]
    # That something is missing shows in the order of messages.
    assert [exchanged(seen) for seen in runtime.seen] == [
        [(0, "client", b"a"), (1, "app", b"a")],
        [(6, "client", b"d"), (7, "app", b"d")],
    ]
    assert caplog.text.count("the decision of a message could not be opened") == 1


@pytest.mark.parametrize("fault", ["raises", "cannot send"])
def test_what_becomes_of_an_unrecorded_message_is_not_said_of_the_one_before(
    runtime: FakeRuntime, fault: str
) -> None:
    def fail(message: Message) -> Exception | None:
        return OSError() if message["type"] == "websocket.close" else None

    async def handler(receive: Receive, send: Send) -> None:
        await receive()
        runtime.open_error = StorageError("full")
        await receive()
        if fault == "raises":
            raise ZeroDivisionError
        await send(close())

    app = audited(handled(handler), runtime, websocket="message")
    server = client(heard("a"), heard("b"), fail_send=fail)
    with pytest.raises((ZeroDivisionError, OSError)):
        session(app, server)
    assert runtime.only().exchange.outcome == "completed"
    assert runtime.afterwards() == []


def test_a_runtime_that_refuses_what_it_numbered_harms_no_session(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.submit_error = StorageError("gone")
    app = audited(handled(echo), runtime, websocket="message", durability="sync")
    server = session(app, client(heard("a"), heard("b"), LEFT))
    assert server.types()[1:] == ["websocket.send"] * 2
    assert caplog.text.count("is not recorded: StorageError: gone") == 2


# Models, subjects, traces


def test_subject_trace_and_model_work_as_for_requests(runtime: FakeRuntime) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        auditlog.current().set_subject("customer-7")
        await send({**ACCEPT, "headers": [(b"x-model", b"voice@7")]})
        await receive()

    options = {"model_header": "x-model", "models": ["voice@7"]}
    headers = [(b"traceparent", TRACE.encode())]
    session(audited(app, runtime, **options), client(LEFT), headers=headers)
    seen = runtime.only()
    assert seen.exchange.model == Model("voice", "7")
    assert leaf(seen, "subject") == {"id": "customer-7", "kind": "person"}
    assert leaf(seen, "trace")["source"] == "traceparent"


def test_a_header_names_the_model_where_none_carries_the_id(
    runtime: FakeRuntime,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**ACCEPT, "headers": [(b"x-model", b"voice")]})

    options = {"model_header": "x-model", "models": ["voice"], "header": ""}
    server = session(audited(app, runtime, **options), client())
    assert server.sent[0]["headers"] == [(b"x-model", b"voice")]
    assert runtime.only().exchange.model == Model("voice")


def test_a_callable_names_the_model_of_a_session(runtime: FakeRuntime) -> None:
    app = AuditMiddleware(
        handled(echo), runtime=runtime, model=lambda scope: scope["path"][1:]
    )
    session(app, client(LEFT), path="/voice")
    assert runtime.only().exchange.model == Model("voice")


# Frameworks


def routed() -> FastAPI:
    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        while True:
            await socket.send_text(await socket.receive_text())

    inner = Starlette(routes=[WebSocketRoute("/rooms/{room:int}", chat)])
    app = FastAPI()
    branch = APIRouter(prefix="/v1")
    branch.websocket("/chat/{user}")(chat)
    branch.mount("/deep", inner)
    app.include_router(branch, prefix="/api")
    app.websocket("/chat")(chat)
    app.post("/chat")(lambda: "posted")
    app.get("/get/{x}")(lambda x: x)
    app.mount("/tenants/{tenant}", inner)
    return app


@pytest.mark.parametrize("place", ["added", "wrapped"])
@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/chat", "/chat"),
        ("/api/v1/chat/ada", "/api/v1/chat/{user}"),
        ("/api/deep/rooms/7", "/api/deep/rooms/{room}"),
        ("/tenants/acme/rooms/7", "/tenants/{tenant}/rooms/{room}"),
        ("/tenants/acme/rooms/x", None),
        ("/get/7", None),
        ("/nothing", None),
    ],
)
def test_a_session_is_known_by_its_route_and_without_one_it_is_no_decision(
    runtime: FakeRuntime, place: str, path: str, template: str | None
) -> None:
    app: Any = routed()
    if place == "added":
        app.add_middleware(AuditMiddleware, runtime=runtime)
    else:
        app = AuditMiddleware(app, runtime=runtime)
    with pytest.raises(WebSocketDisconnect) if template else _quiet():
        server = client(heard("a"), LEFT)
        session(app, server, path=path)
    assert [seen.exchange.route for seen in runtime.seen] == (
        [template] if template else []
    )
    if template:
        assert runtime.only().exchange.outcome == "completed"


def _quiet() -> Any:
    return warnings.catch_warnings()


def test_routes_of_sessions_can_be_chosen(runtime: FakeRuntime) -> None:
    app = AuditMiddleware(routed(), runtime=runtime, exclude=["/chat"])
    with pytest.raises(WebSocketDisconnect):
        session(app, client(LEFT), path="/chat")
    # The methods of requests say nothing of sessions.
    app = AuditMiddleware(
        routed(), runtime=runtime, include=["/api/*"], methods=["PUT"]
    )
    for path in ("/chat", "/api/v1/chat/x"):
        with pytest.raises(WebSocketDisconnect):
            session(app, client(LEFT), path=path)
    assert runtime.only().exchange.route == "/api/v1/chat/{user}"


def test_a_request_and_a_session_of_one_path_have_each_their_route(
    runtime: FakeRuntime,
) -> None:
    async def get(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(body(b"x"))

    app = Starlette(routes=[WebSocketRoute("/both", _chat)])
    app.add_middleware(AuditMiddleware, runtime=runtime)
    call(app, Server([DISCONNECT]), {**_post("/both")})
    assert runtime.opened == {}
    session(app, client(LEFT), path="/both")
    call(app, Server([DISCONNECT]), {**_post("/both")})
    assert runtime.only().exchange.route == "/both"


async def _chat(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


def _post(path: str) -> Scope:
    return {**scope(path), "type": "http", "method": "POST"}


def test_installed_twice_a_session_is_one_decision(runtime: FakeRuntime) -> None:
    inner = Starlette(routes=[WebSocketRoute("/ws", _chat)])
    inner.add_middleware(AuditMiddleware, runtime=runtime, websocket="message")
    app = Starlette(routes=[Mount("/in", app=inner)])
    app.add_middleware(AuditMiddleware, runtime=runtime)
    session(app, client(heard("a"), LEFT), path="/in/ws")
    assert runtime.only().exchange.route == "/in/ws"


def test_an_outer_one_that_is_off_leaves_it_to_the_inner_one(
    runtime: FakeRuntime,
) -> None:
    inner = audited(handled(echo), runtime)
    session(audited(inner, FakeRuntime(), websocket="off"), client(LEFT))
    assert runtime.only().exchange.outcome == "completed"


@pytest.mark.parametrize("websocket", ["session", "message"])
def test_with_starlettes_test_client_and_other_middleware(
    runtime: FakeRuntime, websocket: Literal["session", "message"]
) -> None:
    async def pass_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    async def chat(
        socket: WebSocket,
        decision: Annotated[Decision, Depends(auditlog.get_decision)],
    ) -> None:
        decision.annotate(dependency=True)
        await socket.accept()
        async for text in socket.iter_text():
            auditlog.current().set_result(label=text)
            await socket.send_text(text.upper())

    app = FastAPI()
    app.websocket("/chat")(chat)
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    app.add_middleware(AuditMiddleware, runtime=runtime, websocket=websocket)
    with _test_client(app) as http, http.websocket_connect("/chat") as socket:
        for text in ("a", "b"):
            socket.send_text(text)
            assert socket.receive_text() == text.upper()
        assert parse_id(socket.extra_headers[0][1].decode())
    runtime.check()
    labels = [leaf(seen, "outcome")["result"]["label"] for seen in runtime.seen]
    assert labels == (["b"] if websocket == "session" else ["a", "b"])
    assert leaf(runtime.seen[0], "annotations") == {"dependency": True}
    assert {seen.exchange.outcome for seen in runtime.seen} == {"completed"}


def _test_client(app: Any) -> Any:
    """Return Starlette's test client, whose import warns about its httpx."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient  # noqa: PLC0415
    return TestClient(app)


def test_every_session_has_a_secret_of_its_own(runtime: FakeRuntime) -> None:
    app = audited(handled(echo), runtime, websocket="message")
    session(app, client(heard("a"), heard("b"), LEFT))
    session(app, client(heard("a"), heard("b"), LEFT))
    secrets = {seen.exchange.secret for seen in runtime.seen}
    assert len(secrets) == len(runtime.seen) == 4
    bodies = [seen.exchange.request for seen in runtime.seen]
    assert all(one.secret in secrets for one in bodies)


def test_a_scope_that_the_application_changes_is_read_when_it_comes(
    runtime: FakeRuntime,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"], scope["http_version"] = "/changed", "9"
        await receive()
        await send(ACCEPT)
        await receive()

    session(audited(app, runtime), client(LEFT))
    exchange = runtime.only().exchange
    assert (exchange.target, exchange.method) == (b"/chat", "GET")
