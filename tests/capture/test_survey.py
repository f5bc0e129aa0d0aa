"""What `auditlog routes` says of an application is what its requests meet."""

import importlib
import re
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from auditlog.capture.routes import NOT_DECISIONS, Routes
from auditlog.capture.survey import SurveyedRoute, survey
from auditlog.web.api import router
from tests.web.asgi_driver import http_scope


async def end(request: Any) -> PlainTextResponse:
    return PlainTextResponse("ok")


async def raw(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("raw")(scope, receive, send)


class Raw:
    """An endpoint that is an ASGI application: it takes every method."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await raw(scope, receive, send)


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/score/{id}")
    async def score(id: str) -> str:  # noqa: A002 - as users name it
        return "score"

    app.add_api_route("/both", score, methods=["GET", "PUT"])
    app.include_router(router(), prefix="/audit")
    app.mount("/files", StaticFiles(directory="."))
    app.mount("/raw", raw)
    inner = Starlette(routes=[Route("/x/{n:int}", end, methods=["POST"])])
    app.mount("/tenants/{tenant}", GZipMiddleware(inner))
    app.router.routes.append(Route("/any", Raw()))
    app.router.routes.append(WebSocketRoute("/ws", end))
    return app


def _by_template(app: Any, **options: Any) -> dict[str, list[SurveyedRoute]]:
    found: dict[str, list[SurveyedRoute]] = {}
    for row in survey(app, **options):
        found.setdefault(row.template, []).append(row)
    return found


def test_each_route_is_named_with_the_reason() -> None:
    found = {
        template: [(row.captured, ",".join(row.methods), row.why) for row in rows]
        for template, rows in _by_template(application()).items()
    }
    assert found["/score/{id}"] == [(True, "POST", "matched")]
    assert found["/both"] == [(True, "PUT", "matched"), (False, "GET", "method")]
    assert found["/docs"] == [(False, "GET,HEAD", "documentation")]
    assert found["/audit/checkpoint"] == [(False, "GET", "auditlog's own")]
    assert found["/files/{path}"] == [(False, "*", "static files")]
    assert found["/tenants/{tenant}/x/{n}"] == [(True, "POST", "matched")]
    assert found["/ws"] == [(True, "", "WebSocket: each session is a decision")]
    assert found["/any"] == [(True, "*", "matched; not GET, HEAD, OPTIONS")]
    opaque = "mounted application: its own routes are not visible"
    assert found["/raw/{path}"] == [(True, "*", f"{opaque}; not GET, HEAD, OPTIONS")]


def test_the_endpoint_is_named() -> None:
    (row,) = _by_template(application())["/tenants/{tenant}/x/{n}"]
    assert row.endpoint.endswith("test_survey.end")


def test_a_probe_is_one_only_where_reads_are_captured() -> None:
    app = Starlette(routes=[Route("/health", end, methods=["GET", "POST"])])
    taken = {m for row in survey(app) if row.captured for m in row.methods}
    assert taken == {"POST"}
    (not_taken,) = survey(
        Starlette(routes=[Route("/health", end)]), methods=["GET", "HEAD"]
    )
    assert (not_taken.captured, not_taken.why) == (False, "read by probes and monitors")
    named = survey(app, methods=["GET"], include=["/h*"])
    assert {m for row in named if row.captured for m in row.methods} == {"GET"}


@pytest.mark.parametrize("framework", ["litestar", "quart", "django"])
def test_other_frameworks_find_their_routes_themselves(framework: str) -> None:
    (row,) = survey(_foreign(framework), include=["/score"])
    assert (row.template, row.methods, row.captured) == ("", ("*",), True)
    assert row.why.startswith("as the framework's own router finds for each request")


def _foreign(framework: str) -> Any:
    if framework == "litestar":
        return importlib.import_module("litestar").Litestar([])
    if framework == "quart":
        return importlib.import_module("quart").Quart("app")
    django = importlib.import_module("django.core.handlers.asgi")
    return django.ASGIHandler.__new__(django.ASGIHandler)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"exclude": ["/score/*"]},
    {"include": ["/tenants/*"]},
    {"include": ["/score/*", "/any"], "exclude": ["/any"]},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_agrees_with_what_a_request_meets(options: dict[str, Any]) -> None:
    app = application()
    routes = Routes(app, **options)
    rows = [row for row in survey(app, **options) if row.methods]
    assert len(rows) > 10
    for row in rows:
        path = re.sub(r"\{\w+\}", "7", row.template)
        for method in row.methods:
            asked = "POST" if method == "*" else method
            found = routes.find(http_scope(path, asked))
            captured = found is not None and asked not in NOT_DECISIONS
            assert captured is row.captured, (row, found)
            assert found is None or found.template == row.template


def test_options_decide_and_are_named() -> None:
    found = _by_template(application(), exclude=["/score/*"])
    assert found["/score/{id}"][0][2:4] == (False, "excluded by option")
    found = _by_template(application(), include=["/score/*"])
    assert found["/both"][0][2:4] == (False, "not among those to include")
    found = _by_template(application(), methods=["get"])
    both = [(row.captured, row.methods) for row in found["/both"]]
    assert both == [(True, ("GET",)), (False, ("PUT",))]
    assert found["/any"][0][1:4] == (("GET",), True, "matched")


def test_without_a_router_every_path_is_captured() -> None:
    (row,) = survey(raw, include=["/score"])
    assert (row.template, row.methods, row.captured) == ("", ("*",), True)
    assert row.why.startswith("no router that is known")


@pytest.mark.parametrize(
    ("options", "captured", "why"),
    [
        ({}, True, "WebSocket: each session is a decision"),
        ({"websocket": "message"}, True, "WebSocket: each message is a decision"),
        ({"websocket": "off"}, False, "option websocket is off"),
        ({"exclude": ["/w*"]}, False, "excluded by option"),
        ({"websocket": "off", "include": ["/x"]}, False, "not among those to include"),
        ({"methods": ["PUT"]}, True, "WebSocket: each session is a decision"),
    ],
    ids=str,
)
def test_what_becomes_of_a_websocket_is_said(
    options: dict[str, Any], captured: bool, why: str
) -> None:
    (row,) = _by_template(application(), **options)["/ws"]
    assert (row.captured, row.why, row.methods) == (captured, why, ())


def test_a_host_has_no_template_of_its_own() -> None:
    inner = Starlette(routes=[Route("/x", end, methods=["POST"])])
    app = Starlette(routes=[Host("a.example", app=inner), Mount("/m", app=inner)])
    assert list(_by_template(app)) == ["/x", "/m/x"]


def test_an_application_that_answers_where_no_route_matches_is_listed() -> None:
    app = Starlette(routes=[Route("/score", end, methods=["POST"])])
    app.router.default = raw
    _, row = survey(app)
    assert row.captured
    assert row.why.startswith("answers where no route matches")
