"""Which model decided: handler, callable, header, route, static, in this order."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import auditlog
from auditlog.config import load_config
from auditlog.core.errors import ConfigurationError
from auditlog.core.record import parse_entry
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from auditlog.models.identity import Model
from auditlog.web.asgi import App
from auditlog.web.middleware import AuditMiddleware
from tests.web.asgi_driver import START, body, call, http_scope, script
from tests.web.fake_runtime import FakeRuntime
from tests.web.test_middleware_apps import client


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    made = FakeRuntime()
    yield made
    made.check()


def answering(*headers: tuple[bytes, bytes], says: str | None = None) -> App:
    """Return an application whose answer has headers, and whose handler may speak."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if says is not None:
            auditlog.current().set_model(says)
        await script({**START, "headers": headers}, body(b"x"))(scope, receive, send)

    return app


HEADER = (b"X-Model", b"header@3")
SOURCES: dict[str, Any] = {
    "model": lambda scope: "callable@2",
    "model_header": "x-model",
    "route_models": {"/score*": "route@4"},
    "models": ["handler", "callable", "header@3", "route", "static"],
}


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ((), "handler"),
        (("handler",), "callable@2"),
        (("handler", "model"), "header@3"),
        (("handler", "model", "model_header"), "route@4"),
        (("handler", "model", "model_header", "route_models"), "static@5"),
    ],
    ids=["handler", "callable", "header", "route", "static"],
)
def test_the_first_source_that_knows_the_model_wins(
    runtime: FakeRuntime,
    monkeypatch: pytest.MonkeyPatch,
    without: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.setenv("AUDITLOG_MODEL", "static@5")
    options = {name: value for name, value in SOURCES.items() if name not in without}
    app = answering(HEADER, says=None if "handler" in without else "handler")
    call(AuditMiddleware(app, runtime=runtime, **options))
    exchange = runtime.only().exchange
    assert exchange.model == Model.parse(expected)
    assert exchange.context == {}


@pytest.mark.parametrize(
    ("silent", "expected"), [("model", "header@3"), ("header", "route@4")]
)
def test_a_source_that_says_nothing_leaves_it_to_the_next(
    runtime: FakeRuntime, silent: str, expected: str
) -> None:
    options = {**SOURCES, "model": lambda scope: None}
    app = answering() if silent == "header" else answering(HEADER)
    call(AuditMiddleware(app, runtime=runtime, **options))
    assert runtime.only().exchange.model == Model.parse(expected)


@pytest.mark.parametrize(
    ("models", "clear", "hidden"),
    [
        ([], "other", {"name": "m", "version": "1"}),
        (["other-one"], "other", {"name": "m", "version": "1"}),
        (["m"], "m", {"name": "m", "version": "1"}),
        (["m@2"], "other", {"name": "m", "version": "1"}),
        (["m@1"], "m@1", None),
        (["m", "m@1"], "m@1", None),
    ],
)
def test_what_a_header_names_stands_in_clear_only_if_it_is_declared(
    runtime: FakeRuntime, models: list[str], clear: str, hidden: Any
) -> None:
    app = answering((b"x-model", b"m@1"))
    call(AuditMiddleware(app, runtime=runtime, model_header="x-model", models=models))
    exchange = runtime.only().exchange
    assert exchange.model == Model.parse(clear)
    found = exchange.context.get("model")
    assert (json.loads(found) if found else None) == hidden


@pytest.mark.parametrize(
    "value", [b"", b"\xff\xfe", b"a" * 300, b"m@", b"tab\there"], ids=range(5)
)
def test_a_header_that_names_no_model_is_said_once_and_not_repeated(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture, value: bytes
) -> None:
    wrapped = AuditMiddleware(
        answering((b"x-model", value)),
        runtime=runtime,
        model="static",
        model_header="x-model",
    )
    for _ in range(2):
        server = call(wrapped)
        assert (server.body(), server.header(b"x-model")) == (b"x", value)
    for seen in runtime.seen:
        assert seen.exchange.model is None
        assert seen.exchange.context == {
            "annotations": b'{"auditlog.faults":["model header: no model\'s name"]}'
        }
    assert caplog.text.count("the header x-model names no model (said once)") == 1
    assert "aaa" not in caplog.text


def test_a_callable_that_fails_is_admitted_in_the_decision(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(scope: Any) -> str:
        raise LookupError("secret of the operator")

    app = answering(HEADER)
    options = {**SOURCES, "model": broken}
    assert call(AuditMiddleware(app, runtime=runtime, **options)).body() == b"x"
    exchange = runtime.only().exchange
    assert exchange.model is None
    assert exchange.context == {
        "annotations": b'{"auditlog.faults":["model callable: LookupError"]}'
    }
    assert caplog.text.count("the model callable failed (said once)") == 1
    assert "LookupError at " in caplog.text
    assert "test_models.py:" in caplog.text
    assert "secret of the operator" not in caplog.text


def test_what_a_callable_takes_from_a_request_is_not_logged(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    app = AuditMiddleware(
        answering(), runtime=runtime, model=lambda scope: "CANARY\x01" + scope["path"]
    )
    call(app)
    assert "a model's name is a string of 1 to 256 printable" in caplog.text
    assert "CANARY" not in caplog.text


def test_a_callable_is_not_asked_where_the_handler_knows(runtime: FakeRuntime) -> None:
    def broken(scope: Any) -> str:
        raise LookupError

    app = AuditMiddleware(answering(says="handler"), runtime=runtime, model=broken)
    call(app)
    assert runtime.only().exchange.context == {}


ROUTES = {"/v1/*": "one@1", "/v*/chat": "chat", "*": "rest@9"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/v1/chat", "one@1"), ("/v2/chat", "chat"), ("/score/7", "rest@9")],
)
@pytest.mark.parametrize("routed", [True, False])
def test_models_by_route_first_match_first(
    runtime: FakeRuntime, path: str, expected: str, routed: bool
) -> None:
    async def end(request: Request) -> Response:
        return JSONResponse({})

    paths = ("/v1/chat", "/v2/chat", "/score/{id}")
    app: Any = Starlette(routes=[Route(p, end, methods=["POST"]) for p in paths])
    if not routed:
        app = answering()
    wrapped = AuditMiddleware(app, runtime=runtime, route_models=ROUTES)
    for _ in range(2):
        call(wrapped, scope=http_scope(path))
    for seen in runtime.seen:
        assert seen.exchange.model == Model.parse(expected)


def test_globs_look_at_the_template_and_not_at_the_path(runtime: FakeRuntime) -> None:
    async def end(request: Request) -> Response:
        return JSONResponse({})

    app = Starlette(routes=[Route("/{tenant}", end, methods=["POST"])])
    options = {"route_models": {"/acme": "theirs", "/{tenant}": "ours"}}
    call(AuditMiddleware(app, runtime=runtime, **options), scope=http_scope("/acme"))  # type: ignore[arg-type]
    assert runtime.only().exchange.model == Model("ours")


def test_paths_without_a_router_do_not_fill_memory(runtime: FakeRuntime) -> None:
    app = AuditMiddleware(answering(), runtime=runtime, route_models={"*": "m"})
    for number in range(1100):
        call(app, scope=http_scope(f"/{number}"))
    assert len(app._rules.models._by_route) <= 1024


def test_options_from_the_environment() -> None:
    env = {
        "AUDITLOG_ROUTE_MODELS": "/v1/* = a@1, /score=b,",
        "AUDITLOG_MODEL_HEADER": "x-model",
        "AUDITLOG_KEEP_REJECTED": "true",
    }
    config = load_config(env=env)
    assert config.route_models == (("/v1/*", "a@1"), ("/score", "b"))
    assert (config.model_header, config.keep_rejected) == ("x-model", True)
    assert load_config({"route_models": {"/a": "m@1"}}, env).route_models == (
        ("/a", "m@1"),
    )
    assert load_config({"route_models": {}}, env).route_models == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"route_models": "/a=m"}, "'route_models' takes a mapping of strings"),
        ({"route_models": ["/a=m"]}, "'route_models' takes a mapping of strings"),
        ({"route_models": {"/a": 1}}, "'route_models' takes a mapping of strings"),
        ({"route_models": {"/a": ""}}, "a model's name is a string of 1 to 256"),
        ({"route_models": {"/a": "m@"}}, "a model's version is a string of 1 to 256"),
        ({"model_header": "X-Model"}, "'model_header' takes a header name in lower"),
        ({"models": [""]}, "a model's name is a string"),
    ],
)
def test_wrong_sources_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AuditMiddleware(answering(), **options)


@pytest.mark.parametrize("text", ["/a", "=m", "/a=", "/a=m,/b"])
def test_wrong_pairs_in_the_environment_are_refused(text: str) -> None:
    message = "AUDITLOG_ROUTE_MODELS takes key=value"
    with pytest.raises(ConfigurationError, match=message):
        load_config(env={"AUDITLOG_ROUTE_MODELS": text})


@pytest.mark.parametrize(("models", "clear"), [(("named",), "named"), ((), "other")])
def test_in_a_real_log_an_undeclared_model_is_sealed(
    tmp_path: Path, models: tuple[str, ...], clear: str
) -> None:
    async def end(request: Request) -> Response:
        return JSONResponse({}, headers={"x-model": "named@CANARY"})

    app = Starlette(routes=[Route("/score", end, methods=["POST"])])
    app.add_middleware(
        AuditMiddleware,
        dir=tmp_path / "audit",
        origin="test.example/log",
        durability="sync",
        model_header="x-model",
        models=models,
    )
    with client(app) as session:
        id_ = session.post("/score", json={}).headers["decision-id"]
    reader = Reader(open_log(tmp_path / "audit"))
    entry = reader.decision(id_).entry or b""
    assert parse_entry(entry).data["model.name"] == clear
    assert b"CANARY" not in entry
    assert reader.content(id_).context["model"] == (
        b'{"name":"named","version":"CANARY"}'
    )
