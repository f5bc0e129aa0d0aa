"""Which requests are captured, and under which template."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.convertors import CONVERTOR_TYPES, Convertor
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import (
    BaseRoute,
    Host,
    Match,
    Mount,
    Route,
    Router,
    WebSocketRoute,
)
from starlette.staticfiles import StaticFiles

from auditlog.capture.routers import Plan, find_router, match_app, route_path
from auditlog.capture.routes import Routes
from tests.web.asgi_driver import call, http_scope

POST = ["POST"]


async def end(request: Request) -> Response:
    return PlainTextResponse("ok")


def template(app: Any, path: str, method: str = "POST", **scope: Any) -> str | None:
    found = Routes(app).find(http_scope(path, method, **scope))
    return None if found is None else found.template


class AnyMethod:
    """An endpoint that is an ASGI application: it takes every method."""

    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self._answer = PlainTextResponse("any")(scope, receive, send)

    def __await__(self) -> Any:
        return self._answer.__await__()


def starlette_app() -> Starlette:
    inner = Starlette(
        routes=[
            Route("/score/{id:int}", end, methods=POST),
            Route("/score/best", end, methods=POST),
            Mount("/deep/{level}", routes=[Route("/x", end, methods=POST)]),
        ]
    )
    return Starlette(
        routes=[
            Route("/score", end, methods=POST),
            Route("/score", end, methods=["GET"]),
            Route("/any", AnyMethod),
            WebSocketRoute("/ws", end),
            Mount("/tenants/{tenant}", app=inner),
            Mount("/wrapped", app=GZipMiddleware(inner)),
            Mount("/raw", app=raw_app),
            Mount("", routes=[Route("/last/{rest:path}", end, methods=POST)]),
        ]
    )


async def raw_app(scope: Any, receive: Any, send: Any) -> None:
    await PlainTextResponse("raw")(scope, receive, send)


def fastapi_app() -> FastAPI:
    app = FastAPI(openapi_url=None)
    leaf = APIRouter(prefix="/score")

    @leaf.post("/{id}")
    async def score(id: str) -> str:  # noqa: A002 - as users name it
        return "score"

    @leaf.api_route("/", methods=["GET", "PUT"])
    def root() -> str:
        return "root"

    branch = APIRouter(prefix="/v1")
    branch.include_router(leaf, prefix="/models/{model}")
    branch.mount("/mounted", starlette_app())
    branch.add_route("/plain/{x}", end, methods=POST)
    sub = FastAPI()
    sub.include_router(leaf)
    app.include_router(branch, prefix="/api")
    app.include_router(leaf)
    app.mount("/sub/{name}", sub)

    @app.post("/score/late")
    async def late() -> str:
        return "late"

    return app


STARLETTE = [
    ("/score", "/score"),
    ("/score/", None),
    ("/any", "/any"),
    ("/ws", None),
    ("/missing", None),
    ("/tenants/acme/score/7", "/tenants/{tenant}/score/{id}"),
    ("/tenants/acme/score/best", "/tenants/{tenant}/score/best"),
    ("/tenants/acme/score/worst", None),
    ("/tenants/acme/deep/3/x", "/tenants/{tenant}/deep/{level}/x"),
    ("/tenants/acme/nothing", None),
    ("/wrapped/score/7", "/wrapped/score/{id}"),
    ("/raw/whatever/it/is", "/raw/{path}"),
    ("/last/a/b/c", "/last/{rest}"),
]
FASTAPI = [
    ("/score/7", "/score/{id}"),
    ("/score/late", "/score/{id}"),
    ("/api/v1/models/credit/score/7", "/api/v1/models/{model}/score/{id}"),
    ("/api/plain/7", "/api/plain/{x}"),
    ("/api/mounted/tenants/a/score/7", "/api/mounted/tenants/{tenant}/score/{id}"),
    ("/api/mounted/raw/x", "/api/mounted/raw/{path}"),
    ("/api/v1/nothing", None),
    ("/sub/bank/score/7", "/sub/{name}/score/{id}"),
    ("/openapi.json", None),
]


@pytest.mark.parametrize(("path", "expected"), STARLETTE)
def test_templates_of_starlette(path: str, expected: str | None) -> None:
    assert template(starlette_app(), path) == expected


@pytest.mark.parametrize(("path", "expected"), FASTAPI)
def test_templates_of_fastapi(path: str, expected: str | None) -> None:
    assert template(fastapi_app(), path) == expected


@pytest.mark.parametrize("build", [starlette_app, fastapi_app])
def test_plan_walk_and_application_agree(build: Any) -> None:
    app = build()
    plan = Plan(find_router(app))
    assert plan.usable
    parts = ["", "score", "7", "best", "v1", "api", "tenants", "sub", "raw", "last"]
    paths = {path for path, _ in STARLETTE + FASTAPI}
    for length in range(3):
        paths |= {"/" + "/".join(p) for p in itertools.product(parts, repeat=length)}
    paths |= {path + tail for path in paths for tail in ("/", "/x", "/score/1")}
    found = 0
    for path, method in itertools.product(sorted(paths), ["POST", "GET", "PUT"]):
        planned = plan.find(path, method)
        assert planned == match_app(app, dict(http_scope(path, method)), ""), path
        scope = http_scope(path, method)
        status = call(app, scope=scope).sent[0]["status"]
        if planned is None:
            assert status in {307, 404, 405}, path
        else:
            found += 1
            assert planned.opaque or scope["endpoint"] is planned.endpoint, path
    assert found > 30


@pytest.mark.parametrize("build", [starlette_app, fastapi_app])
def test_a_custom_route_class_is_asked_itself(build: Any) -> None:
    class ByHeader(APIRoute):
        def matches(self, scope: Any) -> tuple[Match, Any]:
            wanted = (b"version", b"2") in scope["headers"]
            return super().matches(scope) if wanted else (Match.NONE, {})

    app = build()
    app.router.routes.insert(0, ByHeader("/score", end, methods=POST, name="v2"))
    app.router.routes.insert(1, Route("/{anything}", end, methods=POST))
    assert not Plan(find_router(app)).usable
    routes = Routes(app)
    for _ in range(2):
        plain = routes.find(http_scope("/score"))
        versioned = routes.find(http_scope("/score", headers=[(b"version", b"2")]))
        assert plain is not None
        assert versioned is not None
        assert (plain.template, versioned.template) == ("/{anything}", "/score")


def test_a_custom_route_class_in_an_included_router_is_asked_itself() -> None:
    class Never(APIRoute):
        def matches(self, scope: Any) -> tuple[Match, Any]:
            return Match.NONE, {}

    router = APIRouter(route_class=Never, prefix="/a")
    router.add_api_route("/x", lambda: 1, methods=POST)
    app = FastAPI()
    app.include_router(router)
    assert template(app, "/a/x") is None


def test_a_host_is_asked_itself() -> None:
    app = Starlette(
        routes=[
            Host("api.example", Router([Route("/{id}", end, methods=POST)])),
            Route("/score", end, methods=POST),
        ]
    )
    routes = Routes(app)
    for _ in range(2):
        named = routes.find(http_scope(headers=[(b"host", b"api.example")]))
        other = routes.find(http_scope(headers=[(b"host", b"www.example")]))
        assert named is not None
        assert other is not None
        assert (named.template, other.template) == ("/{id}", "/score")


def test_routes_that_come_or_go_later_are_seen() -> None:
    app = fastapi_app()
    routes = Routes(app)
    assert routes.find(http_scope("/new")) is None

    @app.post("/new")
    def new() -> None: ...

    assert routes.find(http_scope("/new")) is not None
    late = APIRouter()
    app.include_router(late)
    assert routes.find(http_scope("/late")) is None
    late.add_api_route("/late", new, methods=POST)
    assert routes.find(http_scope("/late")) is not None
    app.router.routes = []
    assert routes.find(http_scope("/score/1")) is None


class Closure:
    """A middleware that hides what it wraps."""

    def __init__(self, app: Any) -> None:
        self.next = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.next(scope, receive, send)


@pytest.mark.parametrize(
    "wrap",
    [
        CORSMiddleware,
        GZipMiddleware,
        lambda app: BaseHTTPMiddleware(GZipMiddleware(app)),
        lambda app: app.__call__,
        lambda app: app.router.app,
    ],
    ids=["cors", "gzip", "base", "bound-call", "router-app"],
)
def test_the_router_is_found_through_middleware(wrap: Any) -> None:
    assert template(wrap(starlette_app()), "/tenants/a/score/7") == (
        "/tenants/{tenant}/score/{id}"
    )


def test_behind_an_opaque_middleware_the_scope_names_the_application() -> None:
    app = starlette_app()
    routes = Routes(Closure(app))
    found = routes.find(http_scope("/score", app=app))
    assert found is not None
    assert found.template == "/score"
    assert routes.find(http_scope("/missing", app=app)) is None


@pytest.mark.parametrize(
    "scope", [{}, {"app": object()}, {"app": None}, {"router": object()}]
)
def test_without_a_router_every_path_is_captured(scope: dict[str, Any]) -> None:
    found = Routes(raw_app).find(http_scope("/anything", **scope))
    assert found is not None
    assert found.template is None


def test_things_with_foreign_routes_are_no_router() -> None:
    class Litestar:
        routes = (object(),)

    found = Routes(Litestar()).find(http_scope())
    assert found is not None
    assert found.template is None


def test_a_stack_that_wraps_itself_is_no_router() -> None:
    class Loop:
        app: Any

    loop = Loop()
    loop.app = loop
    assert find_router(loop) is None
    assert Routes(loop).find(http_scope()) is not None


@pytest.mark.parametrize(
    ("server_root", "app_root", "path"),
    [
        ("/proxy", "", "/proxy/score"),
        ("/proxy", "", "/score"),
        ("", "/proxy", "/proxy/score"),
        ("", "/proxy", "/score"),
    ],
)
def test_a_root_path_is_no_part_of_the_template(
    server_root: str, app_root: str, path: str
) -> None:
    app = FastAPI()
    app.root_path = app_root
    app.add_api_route("/score", lambda: 1, methods=POST)
    assert Plan(app).usable
    for _ in range(2):
        assert template(app, path, root_path=server_root) == "/score"


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/a/b", "", "/a/b"),
        ("/a/b", "/a", "/b"),
        ("/a", "/a", ""),
        ("/ab", "/a", "/ab"),
        ("/b", "/a", "/b"),
    ],
)
def test_route_path(path: str, root: str, expected: str) -> None:
    assert route_path(path, root) == expected


def test_a_mounted_application_with_a_root_path_of_its_own_is_walked() -> None:
    inner = FastAPI()
    inner.root_path = "/elsewhere"
    inner.add_api_route("/sub/score", lambda: 1, methods=POST)
    app = Starlette(routes=[Mount("/sub", app=inner)])
    assert not Plan(app).usable
    # FastAPI forgets the mount here, and so looks at the whole path.
    assert template(app, "/sub/score") == "/sub/sub/score"


@pytest.mark.parametrize(
    ("include", "exclude", "captured"),
    [
        ((), (), {"/score/{id}", "/health", "/v1/score"}),
        (("/score/*",), (), {"/score/{id}"}),
        (("/score",), (), set()),
        (("score*",), (), set()),
        (("*score*",), (), {"/score/{id}", "/v1/score"}),
        ((), ("/health",), {"/score/{id}", "/v1/score"}),
        (("*",), ("/v1/*", "/H*"), {"/score/{id}", "/health"}),
        (("/score/[{]id}",), (), {"/score/{id}"}),
    ],
)
def test_globs_are_anchored_on_the_template(
    include: Sequence[str], exclude: Sequence[str], captured: set[str]
) -> None:
    paths = {"/score/7": "/score/{id}", "/health": "/health", "/v1/score": "/v1/score"}
    app = Starlette(routes=[Route(path, end, methods=POST) for path in paths.values()])
    routes = Routes(app, include=include, exclude=exclude)
    for _ in range(2):
        found = {routes.find(http_scope(path)) for path in paths}
        assert {route.template for route in found if route} == captured


def test_globs_look_at_the_path_where_there_is_no_router() -> None:
    routes = Routes(raw_app, include=("/score*",), exclude=("/score/test",))
    assert routes.find(http_scope("/score/7")) is not None
    assert routes.find(http_scope("/score/test")) is None
    assert routes.find(http_scope("/other")) is None


def test_our_own_routes_and_static_files_are_never_captured(tmp_path: Any) -> None:
    ours: Any = route_path
    app = Starlette(
        routes=[
            Route("/ours", ours, methods=POST),
            Route("/partial", functools.partial(ours, 1), methods=POST),
            Mount("/app", app=GZipMiddleware(ours)),
            Mount("/static", app=StaticFiles(directory=tmp_path)),
            Mount("/sub", routes=[Route("/ours", ours, methods=POST)]),
            Route("/mine", end, methods=POST),
        ]
    )
    paths = ["/ours", "/partial", "/app/x", "/static/x", "/sub/ours", "/mine"]
    assert [template(app, path) for path in paths] == [None] * 5 + ["/mine"]


def test_our_own_endpoints_are_not_captured_even_if_named() -> None:
    async def ours(request: Request) -> Response:
        return PlainTextResponse("ours")

    ours.__module__ = "auditlog.web.api"
    console = FastAPI(routes=[Route("/decisions", ours, methods=POST)])
    app = Starlette(routes=[Mount("/audit", app=console)])
    routes = Routes(app, include=["/audit/*", "*"])
    assert routes.find(http_scope("/audit/decisions")) is None


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/api/docs"])
def test_documentation_is_not_captured_where_reads_are(path: str) -> None:
    app = FastAPI()
    app.mount("/api", FastAPI())
    app.add_api_route("/mine", lambda: 1)
    assert template(app, path, "GET") is None
    assert template(app, "/mine", "GET") == "/mine"
    assert call(app, scope=http_scope(path, "GET")).sent[0]["status"] == 200


PROBES = ["/health", "/healthz", "/livez", "/readyz", "/ping", "/metrics"]


@pytest.mark.parametrize("path", PROBES)
def test_a_probe_is_captured_only_if_it_is_named(path: str) -> None:
    app = Starlette(routes=[Route(path, end, methods=["GET", "POST"])])
    assert template(app, path, "GET") is None
    assert template(app, path, "HEAD") is None
    # What is posted there may be a decision: /health may be about an insurance.
    assert template(app, path, "POST") == path
    found = Routes(app, include=["/h*", "/[lrpm]*"]).find(http_scope(path, "GET"))
    assert found is not None


def test_a_probe_below_a_prefix_is_a_route_like_others() -> None:
    app = Starlette(routes=[Route("/members/{id}/health", end)])
    assert template(app, "/members/7/health", "GET") == "/members/{id}/health"
    mounted = Starlette(routes=[Mount("/metrics", app=raw_app)])
    assert template(mounted, "/metrics/", "GET") is None


def test_a_name_that_begins_like_ours_is_not_ours() -> None:
    async def theirs(request: Request) -> Response:
        return PlainTextResponse("x")

    theirs.__module__ = "auditlogging.views"
    app = Starlette(routes=[Route("/x", theirs, methods=POST)])
    assert template(app, "/x") == "/x"


def below(seen: list[Any], inner: Any) -> Any:
    """Return an application that looks for its route as a middleware there would."""
    routes = Routes(inner)

    class Here:
        app = inner

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            found = routes.find(scope)
            seen.append(None if found is None else found.template)
            await inner(scope, receive, send)

    return Here()


@pytest.mark.parametrize("outer", [Starlette, FastAPI])
@pytest.mark.parametrize("hide", [lambda app: app, Closure])
def test_below_a_mount_the_whole_template_is_known(outer: Any, hide: Any) -> None:
    seen: list[Any] = []
    inner = FastAPI()
    inner.add_api_route("/score/{key}", lambda key: 1, methods=POST)
    app = outer(
        routes=[
            Mount("/t/{tenant}", app=hide(below(seen, inner))),
            Mount("/raw", app=hide(below(seen, raw_app))),
            Route("/r/{x}", end, methods=POST, middleware=[Middleware(Seer, seen)]),
        ]
    )
    for path in ["/t/acme/score/7", "/t/acme/other", "/raw/x/y", "/r/7"]:
        call(app, scope=http_scope(path))
    assert seen == ["/t/{tenant}/score/{key}", None, "/raw/{path}", "/r/{x}"]


def test_below_a_mount_of_an_included_router_the_whole_template_is_known() -> None:
    seen: list[Any] = []
    inner = FastAPI()
    inner.add_api_route("/score/{key}", lambda key: 1, methods=POST)
    branch = APIRouter()
    branch.add_api_route("/other/{key}", lambda key: 1, methods=POST)
    branch.mount("/m/{name}", below(seen, inner))
    for host in (False, True):
        app = FastAPI()
        app.include_router(branch, prefix="/v1")
        if host:  # then each route is asked
            app.router.routes.append(Host("h.example", Router()))
        call(app, scope=http_scope("/v1/m/x/score/7"))
    assert seen == ["/v1/m/{name}/score/{key}"] * 2


class Seer:
    """Looks for the route from inside it."""

    def __init__(self, app: Any, seen: list[Any]) -> None:
        self.app = below(seen, app)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def test_finding_a_route_leaves_the_scope_alone() -> None:
    for app in (starlette_app(), fastapi_app()):
        routes = Routes(app)
        for path, _ in STARLETTE + FASTAPI:
            scope = http_scope(path)
            routes.find(scope)
            match_app(app, dict(scope), "")
            assert scope == http_scope(path)


def test_what_a_foreign_route_raises_comes_out() -> None:
    class Broken(BaseRoute):
        def matches(self, scope: Any) -> tuple[Match, Any]:
            raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        Routes(Starlette(routes=[Broken()])).find(http_scope())


def test_known_routes_are_bounded() -> None:
    app = Starlette(routes=[Route("/x", AnyMethod)])
    routes = Routes(app)
    for number in range(3000):
        assert routes.find(http_scope("/x", f"M{number}")) is not None
    assert len(routes._known) <= 1024


def test_a_custom_convertor_with_groups_does_not_confuse_the_plan() -> None:
    class Pair(Convertor[str]):
        regex = "(a)(b)?"

        def convert(self, value: str) -> str:
            return value

        def to_string(self, value: str) -> str:
            return value

    CONVERTOR_TYPES["pair"] = Pair()
    try:
        app = Starlette(
            routes=[
                Route("/x/{p:pair}", end, methods=POST),
                Route("/y", end, methods=POST),
            ]
        )
        assert template(app, "/x/ab") == "/x/{p}"
        assert template(app, "/y") == "/y"
    finally:
        del CONVERTOR_TYPES["pair"]


def test_who_answers_where_no_route_matches_decides_too() -> None:
    inner = Router([Route("/x", end, methods=POST)], default=raw_app)
    app = Starlette(routes=[Mount("/in", inner), Route("/y", end, methods=POST)])
    assert Routes(app).find(http_scope("/in/other")) == (None, raw_app, False)
    assert template(app, "/in/x") == "/in/x"
    assert Routes(app).find(http_scope("/in/x", "PUT")) is None, "refused with 405"
    assert Routes(app).find(http_scope("/other")) is None, "answered with 404"
    api = FastAPI()
    api.router.default = raw_app
    assert Routes(api).find(http_scope("/other")) == (None, raw_app, False)
    assert Routes(api, exclude=["/oth*"]).find(http_scope("/other")) is None
