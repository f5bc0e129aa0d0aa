"""Routes that are added when they are first asked for: the LiteLLM proxy does so."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Mount, Route

import auditlog
from auditlog.core.errors import AuditLogError
from auditlog.web.asgi import App, Receive, Scope, Send
from auditlog.web.middleware import AuditMiddleware
from auditlog.web.process import stand_in
from tests.web.asgi_driver import Server, call, chunk, http_scope
from tests.web.fake_runtime import FakeRuntime, Seen


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    runtime = FakeRuntime()
    yield runtime
    runtime.check()


async def reading(request: Request) -> JSONResponse:
    told = await request.json()
    auditlog.current().set_model("late", version=str(told["version"]))
    return JSONResponse({"key": request.path_params["key"]})


async def deaf(request: Request) -> JSONResponse:
    return JSONResponse({})


async def broken(request: Request) -> JSONResponse:
    await request.body()
    raise ZeroDivisionError


async def streamed(request: Request) -> StreamingResponse:
    return StreamingResponse(iter([b"{", b"}"]))


ADDED = [
    Mount(
        "/v1",
        routes=[
            Route("/score/{key}", reading, methods=["POST"]),
            Route("/deaf", deaf, methods=["POST"]),
            Route("/broken", broken, methods=["POST"]),
            Route("/streamed", streamed, methods=["POST"]),
        ],
    )
]


class Lazy:
    """Adds the routes to an application at its first request."""

    def __init__(self, app: App, owner: Starlette) -> None:
        self.app = app
        self.owner = owner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self.owner.router.routes) == 1:
            self.owner.router.routes.extend(ADDED)
        await self.app(scope, receive, send)


def lazy() -> Starlette:
    app = Starlette(routes=[Route("/known", deaf, methods=["POST"])])
    app.add_middleware(Lazy, owner=app)
    return app


def ask(
    runtime: FakeRuntime, path: str, app: App | None = None, **options: Any
) -> Server:
    body = [chunk(b'{"version"', more=True), chunk(b":7}")]
    wrapped = AuditMiddleware(app or lazy(), runtime=runtime, **options)
    return call(wrapped, Server(body), http_scope(path))


def only(runtime: FakeRuntime) -> Seen:
    (seen,) = runtime.seen
    return seen


def test_the_first_request_of_a_route_is_a_decision(runtime: FakeRuntime) -> None:
    server = ask(runtime, "/v1/score/a")
    seen = only(runtime)
    assert seen.request == b'{"version":7}'
    assert seen.response == server.body() == b'{"key":"a"}'
    assert seen.exchange.route == "/v1/score/{key}"
    assert seen.exchange.target == b"/v1/score/a"
    assert seen.exchange.outcome == "completed"
    assert seen.exchange.model is not None
    assert (seen.exchange.model.name, seen.exchange.model.version) == ("late", "7")
    assert server.header(b"decision-id") is not None


def test_a_handler_that_does_not_read_is_seen_when_it_answers(
    runtime: FakeRuntime,
) -> None:
    ask(runtime, "/v1/deaf")
    assert only(runtime).states == ("unread", "complete")


def test_a_handler_that_raises_is_an_error(runtime: FakeRuntime) -> None:
    with pytest.raises(ZeroDivisionError):
        ask(runtime, "/v1/broken")
    assert only(runtime).exchange.outcome == "error"


def test_an_answer_and_who_listens_meanwhile_are_one_decision(
    runtime: FakeRuntime,
) -> None:
    # Both tasks of a streamed answer ask for the log, which starts just then.
    with stand_in(lambda _: runtime):
        server = call(AuditMiddleware(lazy()), Server(), http_scope("/v1/streamed"))
    assert runtime.only().response == server.body() == b"{}"


class Leaving(Lazy):
    """Reads of a request, and answers nothing."""

    error: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.owner.router.routes.extend(ADDED)
        assert scope["extensions"] == {}, "no body passes by us"
        await receive()
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize(
    ("error", "outcome"), [(None, "incomplete"), (ZeroDivisionError(), "error")]
)
def test_how_a_request_ends_that_is_not_answered(
    runtime: FakeRuntime, error: Exception | None, outcome: str
) -> None:
    app = Starlette(routes=[Route("/known", deaf, methods=["POST"])])
    leaving = Leaving(app, owner=app)
    leaving.error = error
    scope = http_scope("/v1/deaf", extensions={"http.response.pathsend": {}})
    with suppress(ZeroDivisionError):
        call(AuditMiddleware(leaving, runtime=runtime), Server(), scope)
    assert runtime.only().exchange.outcome == outcome


def test_what_no_route_takes_in_the_end_is_no_decision(runtime: FakeRuntime) -> None:
    server = ask(runtime, "/v1/nowhere")
    assert server.sent[0]["status"] == 404
    assert server.header(b"decision-id") is None
    assert runtime.opened == {}


def test_a_route_that_is_excluded_stays_so(runtime: FakeRuntime) -> None:
    ask(runtime, "/v1/score/a", exclude=["/v1/score/*"])
    ask(runtime, "/v1/score/a", enabled=False)
    assert runtime.opened == {}


def test_disabled_what_no_route_takes_passes_untouched(runtime: FakeRuntime) -> None:
    seen: list[Any] = []

    class Looking(Starlette):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.extend([scope["extensions"], receive, send])

    app, server = Looking(routes=[]), Server()
    extensions: dict[str, Any] = {"http.response.pathsend": {}}
    wrapped = AuditMiddleware(app, runtime=runtime, enabled=False)
    receive, send = server.receive, server.send
    scope = http_scope("/nowhere", extensions=extensions)
    asyncio.run(wrapped(scope, receive, send))
    assert seen == [extensions, receive, send]
    assert runtime.opened == {}


def test_what_an_installation_inside_recorded_is_not_recorded_twice(
    runtime: FakeRuntime,
) -> None:
    app = lazy()
    app.add_middleware(AuditMiddleware, runtime=runtime)
    ask(runtime, "/v1/score/a", app)
    assert len(runtime.seen) == 1


def test_under_closed_nothing_is_answered_that_cannot_be_recorded() -> None:
    runtime = FakeRuntime()
    runtime.is_healthy = False
    server = Server([chunk(b'{"version":7}')])
    app = AuditMiddleware(lazy(), runtime=runtime, on_failure="closed")
    with pytest.raises(AuditLogError, match=r"expected a request to be recorded, but"):
        call(app, server, http_scope("/v1/score/a"))
    assert server.sent == []


def test_under_open_an_answer_passes_that_cannot_be_recorded() -> None:
    runtime = FakeRuntime()
    runtime.open_error = OSError("no space")
    server = ask(runtime, "/v1/deaf")
    assert server.body() == b"{}"
    assert runtime.seen == []
