"""Five frameworks, unmodified, behind the one line, each with its own router."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

import auditlog
from auditlog.capture.routes import Routes
from auditlog.core.errors import ConfigurationError
from auditlog.models.identity import Model
from auditlog.web.middleware import AuditMiddleware
from tests.web import websocket_driver
from tests.web.asgi_driver import http_scope
from tests.web.fake_runtime import FakeRuntime
from tests.web.framework_apps import CHATS, FRAMEWORKS, TEMPLATES, make, make_chat
from tests.web.test_middleware_apps import ask

AUTHORITATIVE = ("fastapi", "starlette", "litestar", "quart")
"""Frameworks whose router has the last word about what is a route."""


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    made = FakeRuntime()
    yield made
    made.check()


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_one_line_records_every_framework(
    runtime: FakeRuntime, name: str, prefix: str
) -> None:
    row, path = {"income": 41_000}, f"{prefix}/score/7"
    plain = ask(AuditMiddleware(make(name), enabled=False), path, json=row)
    answer = ask(AuditMiddleware(make(name), runtime=runtime), path, json=row)
    assert answer.status_code == plain.status_code == 200
    assert {**answer.json(), "decision": ""} == {**plain.json(), "decision": ""}
    assert answer.json()["key"] == 7
    assert answer.json()["decision"] == answer.headers["decision-id"]
    seen = runtime.only()
    exchange = seen.exchange
    assert exchange.route == prefix + TEMPLATES[name]
    assert exchange.model == Model("credit", "3")
    assert exchange.outcome == "completed"
    assert json.loads(seen.request) == row
    assert seen.response == answer.content
    assert exchange.context == {
        "outcome": b'{"result":{"label":"approved","score":"0.75"}}'
    }


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_error_page_is_one_error(runtime: FakeRuntime, name: str) -> None:
    answer = ask(AuditMiddleware(make(name), runtime=runtime), "/boom")
    assert answer.status_code == 500
    exchange = runtime.only().exchange
    assert (exchange.outcome, exchange.route) == ("error", "/boom")


@pytest.mark.parametrize("name", AUTHORITATIVE)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/missing"), ("POST", "/score/x"), ("PUT", "/score/7"), ("POST", "/")],
)
def test_what_no_route_answers_is_no_decision(
    runtime: FakeRuntime, name: str, method: str, path: str
) -> None:
    answer = ask(AuditMiddleware(make(name), runtime=runtime), path, method)
    assert answer.status_code in {404, 405, 422} or name == "fastapi"
    if (name, path) != ("fastapi", "/score/x"):  # its template takes any text
        assert runtime.opened == {}


def test_what_django_has_not_matched_yet_is_captured_without_a_path(
    runtime: FakeRuntime,
) -> None:
    answer = ask(AuditMiddleware(make("django"), runtime=runtime), "/missing")
    assert answer.status_code == 404
    assert runtime.only().exchange.route is None


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_globs_look_at_templates(runtime: FakeRuntime, name: str) -> None:
    options = {"include": [TEMPLATES[name]], "route_models": {"/score/*": "by-route"}}
    app = AuditMiddleware(make(name), runtime=runtime, **options)  # type: ignore[arg-type]
    for path in ("/score/7", "/api/score/7"):
        assert ask(app, path, json={}).status_code == 200
    assert [one.exchange.route for one in runtime.seen] == [TEMPLATES[name]]


@pytest.mark.parametrize("name", FRAMEWORKS)
@pytest.mark.parametrize("path", ["/proxy/score/7", "/score/7"])
def test_a_prefix_that_a_proxy_added_is_no_part_of_the_template(
    name: str, path: str
) -> None:
    routes = Routes(make(name))
    found = routes.find(http_scope(path, root_path="/proxy"))
    assert found is not None
    assert found.template == TEMPLATES[name]


@pytest.mark.parametrize("name", ["litestar", "quart"])
def test_routes_that_come_late_are_found(name: str) -> None:
    app = make(name)
    routes = Routes(app)
    assert routes.find(http_scope("/late")) is None
    if name == "quart":
        app.add_url_rule("/late", "late", lambda: "late", methods=["POST"])
    else:
        from litestar import post  # noqa: PLC0415

        @post("/late")
        async def late() -> str:
            return "late"

        app.register(late)
    found = routes.find(http_scope("/late"))
    assert found is not None
    assert found.template == "/late"


@pytest.mark.parametrize("path", ["/score/7/", "/score//7"])
def test_litestar_takes_other_spellings_of_a_path(
    runtime: FakeRuntime, path: str
) -> None:
    answer = ask(AuditMiddleware(make("litestar"), runtime=runtime), path, json={})
    assert answer.status_code == 200
    assert runtime.only().exchange.route == "/score/{key}"


def test_a_quart_application_that_routes_by_host_is_not_guessed_at() -> None:
    app = make("quart")
    app.url_map.host_matching = True
    found = Routes(app).find(http_scope("/score/7"))
    assert found is not None
    assert found.template is None


def test_an_application_mounted_in_litestar_has_no_template() -> None:
    from litestar import Litestar, asgi  # noqa: PLC0415
    from litestar.types import Receive, Scope, Send  # noqa: PLC0415

    @asgi("/raw", is_mount=True, copy_scope=True)
    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    found = Routes(Litestar([raw], logging_config=None)).find(
        http_scope("/raw/secret/path")
    )
    assert found is not None
    assert found.template is None


def test_a_router_that_fails_is_said_once_and_the_request_is_captured(
    runtime: FakeRuntime,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise LookupError("foreign")

    inner = make("django")
    monkeypatch.setattr("django.urls.get_resolver", broken)
    app = AuditMiddleware(inner, runtime=runtime)
    for _ in range(2):
        ask(app, "/score/7", json={})
    assert [one.exchange.route for one in runtime.seen] == [None, None]
    assert caplog.text.count("the route of a request could not be found") == 1


@pytest.mark.parametrize("name", ["fastapi", "starlette", "quart"])
def test_install_is_the_one_line(
    name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = FakeRuntime()
    monkeypatch.setattr("auditlog.web.process.Process._make", lambda self: runtime)
    app = make(name)
    auditlog.install(app, dir=tmp_path / "audit", model="m@1")
    answer = ask(app, "/score/7", json={})
    assert answer.headers["decision-id"] == answer.json()["decision"]
    assert runtime.only().exchange.route == TEMPLATES[name]


@pytest.mark.parametrize("name", ["fastapi", "starlette"])
def test_install_that_comes_too_late_says_so(name: str) -> None:
    app = make(name)
    ask(app, "/boom")
    with pytest.raises(ConfigurationError, match=r"it has started: call auditlog\.in"):
        auditlog.install(app)
    with pytest.raises(RuntimeError, match="Cannot add middleware after"):
        app.add_middleware(AuditMiddleware)


@pytest.mark.parametrize("name", ["litestar", "django"])
def test_install_says_what_has_to_be_wrapped(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"app = auditlog\.AuditMiddleware"):
        auditlog.install(make(name))


@pytest.mark.parametrize("name", ["fastapi", "quart"])
def test_install_refuses_wrong_options_before_it_changes_anything(name: str) -> None:
    app = make(name)
    with pytest.raises(ConfigurationError, match="did you mean 'durability'"):
        auditlog.install(app, durabilty="sync")  # type: ignore[call-arg]
    assert ask(app, "/missing").status_code == 404


HANDSHAKE = [
    (b"host", b"localhost"),
    (b"connection", b"upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
]


@pytest.mark.parametrize("name", CHATS)
def test_one_line_records_the_websockets_of_other_frameworks(
    runtime: FakeRuntime, name: str
) -> None:
    app = AuditMiddleware(make_chat(name), runtime=runtime)
    for path in ("/chat/7", "/chat/x", "/elsewhere"):
        client = websocket_driver.client(websocket_driver.heard("hello"))
        websocket_driver.session(app, client, path=path, headers=HANDSHAKE)
    seen = runtime.only()
    assert seen.exchange.route == CHATS[name]
    assert seen.exchange.model == Model("parrot")
    assert seen.exchange.outcome == "completed"
    assert seen.response.endswith(b"hello")


def test_django_serves_no_websocket_so_there_is_no_decision(
    runtime: FakeRuntime,
) -> None:
    app = AuditMiddleware(make("django"), runtime=runtime)
    with pytest.raises(ValueError, match="Django can only handle"):
        websocket_driver.session(app, websocket_driver.client(), path="/score/7")
    assert runtime.opened == {}
