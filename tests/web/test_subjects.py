"""Whom a decision is about: handler, callable, route, in this order."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

import auditlog
from auditlog.capture.exchange import Exchange
from auditlog.capture.subjects import Subject
from auditlog.core.errors import ConfigurationError
from auditlog.core.record import parse_json
from auditlog.log.check import check_log
from auditlog.log.directory import open_log
from auditlog.log.runtime import stop_all
from auditlog.log.subjects import look_into_bodies
from auditlog.storage.keys import EPOCH, RECORD, SUBJECT
from auditlog.web.middleware import AuditMiddleware
from tests.web.asgi_driver import START, Server, body, call, chunk, http_scope, script
from tests.web.fake_runtime import FakeRuntime
from tests.web.test_middleware_apps import client
from tests.web.websocket_driver import client as websocket_client
from tests.web.websocket_driver import echo, handled, heard, left, session


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    made = FakeRuntime()
    yield made
    made.check()


def answering(says: str | None = None, answer: bytes = b"{}") -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if says is not None:
            auditlog.current().set_subject(says, kind="handler")
        await script(START, body(answer))(scope, receive, send)

    return app


def _faults(exchange: Exchange) -> list[str]:
    said = exchange.context.get("annotations", b"{}")
    found: list[str] = parse_json(said, limit=9999).get("auditlog.faults", [])
    return found


SOURCES: dict[str, Any] = {
    "subject": lambda scope: "callable",
    "route_subjects": {"/score*": "customer:query/id"},
}


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ((), Subject("handler", "Ada")),
        (("handler",), Subject("person", "callable")),
        (("handler", "subject"), Subject("customer", "route")),
        (("handler", "subject", "route_subjects"), None),
    ],
    ids=["handler", "callable", "route", "nobody"],
)
def test_the_first_source_that_knows_the_subject_wins(
    runtime: FakeRuntime, without: tuple[str, ...], expected: Subject | None
) -> None:
    options = {name: value for name, value in SOURCES.items() if name not in without}
    app = answering(None if "handler" in without else "Ada")
    scope = http_scope(query_string=b"id=route")
    call(AuditMiddleware(app, runtime=runtime, **options), scope=scope)
    exchange = runtime.only().exchange
    assert exchange.subject == expected
    leaf = exchange.context.get("subject")
    said = None if leaf is None else json.loads(leaf)
    assert said == (expected and {"id": expected.identifier, "kind": expected.kind})
    assert not _faults(exchange)


def test_a_callable_that_says_nothing_leaves_it_to_the_route(
    runtime: FakeRuntime,
) -> None:
    options = SOURCES | {"subject": lambda scope: None}
    scope = http_scope(query_string=b"id=Ada")
    call(AuditMiddleware(answering(), runtime=runtime, **options), scope=scope)
    assert runtime.only().exchange.subject == Subject("customer", "Ada")


def _raising(_: Any) -> str:
    raise KeyError("Ada is a secret")


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (_raising, "subject callable: KeyError"),
        (lambda scope: 7, "subject callable: ConfigurationError"),
        (lambda scope: "", "expected a subject of 1 to 1024 characters, got 0"),
        (lambda scope: "x" * 1025, "expected a subject of 1 to 1024 characters"),
        (lambda scope: Subject("A B", "x"), "expected the kind of a subject as"),
    ],
)
def test_a_callable_that_fails_is_admitted_and_no_other_source_is_asked(
    runtime: FakeRuntime,
    caplog: pytest.LogCaptureFixture,
    source: Any,
    fault: str,
) -> None:
    options = SOURCES | {"subject": source}
    scope = http_scope(query_string=b"id=Bob")
    server = call(AuditMiddleware(answering(), runtime=runtime, **options), scope=scope)
    assert server.sent[-1]["body"] == b"{}"
    exchange = runtime.only().exchange
    assert exchange.subject is None
    assert "subject" not in exchange.context
    (said,) = _faults(exchange)
    assert said.startswith(fault)
    assert "Ada" not in caplog.text


def test_what_cannot_be_read_is_admitted(runtime: FakeRuntime) -> None:
    options = {"route_subjects": SOURCES["route_subjects"]}
    scope = http_scope(query_string=b"id=a&id=b")
    call(AuditMiddleware(answering(), runtime=runtime, **options), scope=scope)
    exchange = runtime.only().exchange
    assert exchange.subject is None
    said = "subject at customer:query/id: it is there more than once"
    assert _faults(exchange) == [said]


@pytest.mark.parametrize("place", ["request/id", "response/id"])
def test_bodies_are_looked_into_off_the_event_loop(
    runtime: FakeRuntime, place: str
) -> None:
    app = answering(answer=b'{"id":"Ada"}')
    wrapped = AuditMiddleware(app, runtime=runtime, route_subjects={"*": place})
    call(wrapped, Server([chunk(b'{"id":"Ada"}')]))
    exchange = runtime.only().exchange
    assert exchange.subject is None, "not yet"
    look_into_bodies(exchange)
    assert exchange.subject == Subject("person", "Ada")


def test_a_websocket_is_about_whom_its_path_names(runtime: FakeRuntime) -> None:
    places = {"/chat*": "query/id"}
    app = AuditMiddleware(handled(echo), runtime=runtime, route_subjects=places)
    messages = websocket_client(heard("a"), left(1000))
    session(app, messages, query_string=b"id=Ada")
    assert runtime.only().exchange.subject == Subject("person", "Ada")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"route_subjects": {"*": "body/id"}}, "got 'body/id'"),
        ({"route_subjects": {"*": "path/"}}, "takes path/<name>, query/<name>"),
        ({"subject": "Ada"}, "takes a plain function of the scope, got str"),
        ({"subject": 7}, "takes a plain function of the scope, got int"),
    ],
)
def test_options_that_do_not_fit_are_refused_at_once(option: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AuditMiddleware(answering(), **option)


def test_a_coroutine_is_no_callable_for_it() -> None:
    async def source(scope: Any) -> str:
        return "Ada"

    wrong: Any = source
    with pytest.raises(ConfigurationError, match="plain function of the scope"):
        AuditMiddleware(answering(), subject=wrong)


# --- in real applications, with a real log --------------------------------------------


def _stored(where: Path) -> list[tuple[str, str]]:
    """Return kind of key and label of each decision, and check the whole log."""
    stop_all()
    with open_log(where, read_only=True) as log:
        report = check_log(log)
        assert not report.problems
        assert not report.unchecked
        rows = log.store.index_rows(0, log.store.size())
        rows = [row for row in rows if row.sequence is not None]
        rows.sort(key=lambda row: row.sequence or 0)
        found = []
        for row in rows:
            assert row.index is not None
            stored = log.store.sealed(row.index)
            assert stored is not None
            use = log.store.use_of(stored[0])
            assert use is not None
            found.append(use)
        return found


def _customers(where: Path, *names: str) -> list[str | None]:
    with open_log(where, read_only=True) as log:
        found = [log.keys.subject("customer", name) for name in names]
        uses = [None if one is None else log.store.use_of(one) for one in found]
        return [None if use is None else use[1] for use in uses]


def build(where: Path, **options: Any) -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/customers/{number}/score")
    async def score(number: int) -> dict[str, int]:
        return {"number": number}

    @app.post("/batch")
    async def batch(request: Request) -> list[str]:
        await request.body()
        items = auditlog.current().split(3)
        items[1].set_subject("other", kind="customer")
        return [item.id for item in items]

    @app.post("/plain")
    async def plain(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(auditlog.AuditMiddleware, dir=where, **options)
    return app


PLACES = {
    "/customers/*": "customer:path/number",
    "/batch": "customer:request/who",
    "/plain": "customer:header/x-customer",
}


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_each_decision_is_sealed_under_its_subjects_key(
    tmp_path: Path, durability: str
) -> None:
    where = tmp_path / "audit"
    app = build(
        where, route_subjects=PLACES, record_keys=["/plain"], durability=durability
    )
    with client(app) as asked:
        asked.post("/customers/42/score")
        asked.post("/plain", headers={"x-customer": "42"})
        asked.post("/plain")
        asked.post("/batch", json={"who": 42})
    stored = _stored(where)
    known, other = _customers(where, "42", "other")
    whose = [label if kind == SUBJECT else kind for kind, label in stored]
    assert whose == [known, known, RECORD, known, other, known]


def test_without_sources_it_is_the_key_of_the_day(tmp_path: Path) -> None:
    where = tmp_path / "audit"
    with client(build(where)) as asked:
        asked.post("/customers/42/score")
    assert [kind for kind, _ in _stored(where)] == [EPOCH]


class Copying:
    """A middleware that passes on a copy of the scope, as some do."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(dict(scope), receive, send)


@pytest.mark.parametrize("copying", [False, True])
def test_a_path_is_read_below_mounts_and_behind_copies_of_the_scope(
    runtime: FakeRuntime, copying: bool
) -> None:
    async def score(request: Request) -> Response:
        return JSONResponse(request.path_params["who"])

    inner = [Route("/c/{who}/score", score, methods=["POST"])]
    app = Starlette(routes=[Mount("/api", routes=inner)])
    if copying:
        app.add_middleware(Copying)
    places = {"/api/c/*": "path/who"}
    app.add_middleware(AuditMiddleware, runtime=runtime, route_subjects=places)
    with client(app) as asked:
        assert asked.post("/api/c/Ada/score").json() == "Ada"
    exchange = runtime.only().exchange
    assert exchange.route == "/api/c/{who}/score"
    assert exchange.subject == Subject("person", "Ada")


def test_install_takes_a_callable_too(runtime: FakeRuntime, tmp_path: Path) -> None:
    app = FastAPI(openapi_url=None)
    auditlog.install(app, subject=lambda scope: "Ada", dir=tmp_path / "audit")
    (added,) = app.user_middleware
    source: Any = added.kwargs["subject"]
    assert source({}) == "Ada"
