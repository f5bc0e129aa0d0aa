"""The middleware in real Starlette and FastAPI applications."""

import asyncio
import json
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route

import auditlog
from auditlog.config import load_config
from auditlog.core.errors import AuditLogError
from auditlog.core.record import parse_entry
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from auditlog.models.identity import Model
from auditlog.web.api import router as our_api
from auditlog.web.middleware import AuditMiddleware
from tests.web.fake_runtime import FakeRuntime, Seen


class Row(BaseModel):
    """What the demo endpoints take."""

    x: float


def say_model() -> None:
    auditlog.current().set_model("dependency", version="1")


async def say_model_async() -> None:
    auditlog.current().set_model("async dependency")


class SlowError(Exception):
    """Raised by the handlers of these tests."""


def build(tmp_path: Path) -> FastAPI:  # noqa: C901 - a list of endpoints
    """Return an application with one endpoint for each way to answer."""
    app = FastAPI()
    served = tmp_path / "file.bin"
    if not served.exists():
        served.write_bytes(bytes(range(256)) * 1024)

    @app.post("/sync")
    def sync(row: Row) -> dict[str, float]:
        auditlog.current().set_model("def", version="2")
        return {"y": row.x * 2}

    @app.post("/async")
    async def async_(row: Row) -> dict[str, float]:
        auditlog.current().set_model("async def", version="3")
        return {"y": row.x * 2}

    @app.post("/dependency", dependencies=[Depends(say_model)])
    def dependency() -> str:
        return "ok"

    @app.post("/async-dependency")
    async def async_dependency(_: Annotated[None, Depends(say_model_async)]) -> str:
        return "ok"

    @app.post("/scope")
    async def scope(request: Request) -> str:
        request.scope["auditlog.decision"].set_model("scope")
        return str(request.scope["auditlog.decision"].id)

    @app.post("/plain")
    def plain(row: Row) -> dict[str, float]:
        return {"y": row.x * 2}

    @app.post("/unread")
    async def unread() -> str:
        return "nothing read"

    @app.post("/stream")
    async def stream(request: Request) -> StreamingResponse:
        received = [part async for part in request.stream()]

        async def parts() -> AsyncIterator[bytes]:
            for part in received:
                yield part.upper()
            auditlog.current().set_model("stream")

        return StreamingResponse(parts(), media_type="text/event-stream")

    @app.post("/upload")
    async def upload(request: Request) -> int:
        return len(await request.body())

    @app.post("/file")
    def file() -> FileResponse:
        return FileResponse(served)

    @app.post("/empty", status_code=204)
    def empty() -> None: ...

    @app.post("/background")
    async def background() -> Response:
        return PlainTextResponse("done", background=BackgroundTask(asyncio.sleep, 0.01))

    @app.post("/forbidden")
    def forbidden() -> None:
        raise HTTPException(403, "no")

    @app.post("/boom")
    def boom() -> None:
        raise SlowError("boom")

    @app.post("/boom-stream")
    async def boom_stream() -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            yield b"begun"
            raise SlowError("boom")

        return StreamingResponse(parts())

    @app.get("/read")
    def read() -> str:
        return "a read"

    return app


Placement = Callable[[FastAPI, FakeRuntime | None], Any]
"""Puts the middleware around an application; without a runtime, leaves it out."""


def add(app: FastAPI, runtime: FakeRuntime | None, **options: Any) -> Any:
    if runtime is not None:
        app.add_middleware(AuditMiddleware, runtime=runtime, **options)
    return app


def wrap(app: FastAPI, runtime: FakeRuntime | None, **options: Any) -> Any:
    return app if runtime is None else AuditMiddleware(app, runtime=runtime, **options)


async def pass_on(request: Request, call_next: Any) -> Any:
    return await call_next(request)


def add_around_base(app: FastAPI, runtime: FakeRuntime | None) -> Any:
    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    return add(app, runtime)


def add_inside_others(app: FastAPI, runtime: FakeRuntime | None) -> Any:
    add(app, runtime)
    app.add_middleware(GZipMiddleware, minimum_size=10)
    app.add_middleware(CORSMiddleware, allow_origins=["https://a.example"])
    return app


def add_sync(app: FastAPI, runtime: FakeRuntime | None) -> Any:
    return add(app, runtime, durability="sync")


def wrap_closed(app: FastAPI, runtime: FakeRuntime | None) -> Any:
    return wrap(app, runtime, durability="sync", on_failure="closed")


PLACEMENTS = [add, wrap, add_around_base, add_inside_others, add_sync, wrap_closed]


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    made = FakeRuntime()
    yield made
    made.check()


def ask(app: Any, path: str, method: str = "POST", **more: Any) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://t"
        ) as client:
            return await client.request(method, path, **more)

    return asyncio.run(main())


@pytest.mark.parametrize("place", PLACEMENTS)
@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/sync", Model("def", "2")),
        ("/async", Model("async def", "3")),
        ("/dependency", Model("dependency", "1")),
        ("/async-dependency", Model("async dependency")),
        ("/scope", Model("scope")),
        ("/stream", Model("stream")),
    ],
)
def test_the_model_is_known_wherever_it_is_said(
    runtime: FakeRuntime, tmp_path: Path, place: Placement, path: str, model: Any
) -> None:
    answer = ask(place(build(tmp_path), runtime), path, json={"x": 1.5})
    assert answer.status_code == 200
    exchange = runtime.only().exchange
    assert (exchange.model, exchange.route) == (model, path)
    assert answer.headers["decision-id"] == _text(runtime.only())


def _text(seen: Seen) -> str:
    return auditlog.Decision(seen.exchange.id).id


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("/plain", {"json": {"x": 1}}),
    ("/plain", {"content": b"{"}),
    ("/unread", {"content": b"x" * 70_000}),
    ("/upload", {"files": {"file": b"y" * 200_000}}),
    ("/file", {}),
    ("/file", {"headers": {"range": "bytes=10-20"}}),
    ("/empty", {}),
    ("/background", {}),
    ("/forbidden", {}),
    ("/boom", {}),
    ("/missing", {}),
]


@pytest.mark.parametrize("place", PLACEMENTS)
@pytest.mark.parametrize(("path", "more"), REQUESTS)
def test_answers_are_the_same_with_and_without(
    runtime: FakeRuntime,
    tmp_path: Path,
    place: Placement,
    path: str,
    more: dict[str, Any],
) -> None:
    plain = ask(place(build(tmp_path), None), path, **more)
    audited = ask(place(build(tmp_path), runtime), path, **more)
    assert (audited.status_code, audited.content) == (plain.status_code, plain.content)
    theirs = [pair for pair in audited.headers.raw if pair[0] != b"decision-id"]
    assert theirs == plain.headers.raw
    assert len(runtime.opened) == (path != "/missing")


@pytest.mark.parametrize("place", [add, wrap, add_around_base])
@pytest.mark.parametrize(
    ("path", "outcome", "status"),
    [
        ("/forbidden", "rejected", 403),
        ("/empty", "completed", 204),
        ("/background", "completed", 200),
        ("/file", "completed", 200),
    ],
)
def test_outcomes(
    runtime: FakeRuntime,
    tmp_path: Path,
    place: Placement,
    path: str,
    outcome: str,
    status: int,
) -> None:
    ask(place(build(tmp_path), runtime), path)
    exchange = runtime.only().exchange
    assert (exchange.outcome, exchange.status) == (outcome, status)


@pytest.mark.parametrize(
    ("place", "status"), [(add, None), (wrap, 500), (add_around_base, None)]
)
def test_an_exception_before_the_answer_is_one_error(
    runtime: FakeRuntime, tmp_path: Path, place: Placement, status: int | None
) -> None:
    answer = ask(place(build(tmp_path), runtime), "/boom")
    assert answer.status_code == 500
    exchange = runtime.only().exchange
    assert (exchange.outcome, exchange.status) == ("error", status)


@pytest.mark.parametrize("place", [add, wrap])
def test_an_exception_in_a_stream_is_an_error(
    runtime: FakeRuntime, tmp_path: Path, place: Placement
) -> None:
    ask(place(build(tmp_path), runtime), "/boom-stream")
    seen = runtime.only()
    assert (seen.exchange.outcome, seen.exchange.status) == ("error", 200)
    assert (seen.response, seen.states[1]) == (b"begun", "partial")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/read"),
        ("HEAD", "/read"),
        ("POST", "/read"),
        ("OPTIONS", "/sync"),
        ("POST", "/missing"),
        ("PUT", "/sync"),
        ("POST", "/sync/"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
    ],
)
def test_what_is_no_decision(
    runtime: FakeRuntime, tmp_path: Path, method: str, path: str
) -> None:
    answer = ask(wrap(build(tmp_path), runtime), path, method)
    assert "decision-id" not in answer.headers
    assert runtime.opened == {}


@pytest.mark.parametrize(
    "options", [{}, {"methods": ["GET"], "exclude": ["/*"]}, {"include": ["/other"]}]
)
def test_a_handler_that_is_not_captured_speaks_in_vain_and_works(
    runtime: FakeRuntime, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    app = FastAPI()

    @app.get("/")
    def read(request: Request) -> str:
        decision = auditlog.current()
        assert request.scope["auditlog.decision"] is decision
        assert not decision.recorded
        decision.set_model("m")
        decision.set_result(label="x")
        return str(decision.id)

    @app.get("/silent")
    def silent() -> str:
        return "silent"

    add(app, runtime, **options)
    answers = [ask(app, path, "GET") for path in ("/silent", "/", "/")]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert not [answer for answer in answers if "decision-id" in answer.headers]
    assert answers[-1].json() == "00000000-0000-0000-0000-000000000000"
    assert caplog.text.count("a handler spoke of a decision (said once)") == 1
    assert "see the options methods, include and exclude" in caplog.text


def test_where_the_middleware_is_missing_a_handler_is_told() -> None:
    app = FastAPI()
    app.add_api_route("/", lambda: auditlog.current().id, methods=["POST"])
    with pytest.raises(AuditLogError, match="is the middleware installed"):
        raise_for(app, "/")


def raise_for(app: Any, path: str) -> None:
    async def main() -> None:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://t"
        ) as client:
            await client.post(path)

    asyncio.run(main())


@pytest.mark.parametrize("outside", [True, False])
def test_what_is_recorded_under_compression(
    runtime: FakeRuntime, tmp_path: Path, outside: bool
) -> None:
    app = build(tmp_path)
    if outside:
        app.add_middleware(GZipMiddleware, minimum_size=10)
        add(app, runtime)
    else:
        add_inside_others(app, runtime)
    answer = ask(app, "/file", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    recorded = runtime.only().response
    assert (recorded == answer.content) == (not outside)
    assert (recorded[:2] == b"\x1f\x8b") == outside


@pytest.mark.parametrize("above", [True, False])
def test_mounts_and_prefixes_in_a_real_application(
    runtime: FakeRuntime, above: bool
) -> None:
    api = APIRouter(prefix="/score")

    @api.post("/{key}")
    def score(key: str) -> str:
        return key

    sub = FastAPI()
    sub.include_router(api, prefix="/v1")
    outer = FastAPI()
    outer.include_router(api, prefix="/api")
    if above:
        add(outer, runtime)
    else:
        add(sub, runtime)
    outer.mount("/tenants/{tenant}", sub)
    for path in ("/tenants/acme/v1/score/alice", "/api/score/bob", "/tenants/a/none"):
        ask(outer, path)
    routes = [one.exchange.route for one in runtime.seen]
    expected = ["/tenants/{tenant}/v1/score/{key}", "/api/score/{key}"]
    assert routes == (expected if above else expected[:1])
    assert runtime.seen[0].exchange.target == b"/tenants/acme/v1/score/alice"


def test_installed_on_both_sides_of_a_mount_records_once(runtime: FakeRuntime) -> None:
    sub, inner = FastAPI(), FakeRuntime()
    sub.add_api_route("/x", lambda: "x", methods=["POST"])
    add(sub, inner)
    outer = Starlette(
        routes=[Mount("/sub", app=sub)],
        middleware=[Middleware(AuditMiddleware, runtime=runtime)],
    )
    ask(outer, "/sub/x")
    assert runtime.only().exchange.route == "/sub/x"
    assert inner.opened == {}


def test_include_and_exclude_in_a_real_application(
    runtime: FakeRuntime, tmp_path: Path
) -> None:
    app = add(build(tmp_path), runtime, include=["/*sync"], exclude=["/a*"])
    for path in ("/sync", "/async", "/unread"):
        ask(app, path, json={"x": 1})
    assert [one.exchange.route for one in runtime.seen] == ["/sync"]


def test_our_own_routes_are_not_captured(runtime: FakeRuntime, tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(our_api(tmp_path / "audit"), prefix="/audit")
    app.add_api_route("/mine", lambda: "mine")
    add(app, runtime, methods=["GET"])
    for path in ("/audit/checkpoint", "/audit/api/v1/decisions", "/mine"):
        ask(app, path, "GET")
    assert [one.exchange.route for one in runtime.seen] == ["/mine"]


def test_an_upload_is_recorded_as_it_crossed_the_wire(
    runtime: FakeRuntime, tmp_path: Path
) -> None:
    answer = ask(add(build(tmp_path), runtime), "/upload", files={"file": b"y" * 5000})
    seen = runtime.only()
    assert answer.json() == len(seen.request)
    assert seen.request.count(b"y" * 5000) == 1
    assert seen.exchange.request_type == answer.request.headers["content-type"]


def client(app: Any) -> Any:
    """Return Starlette's test client, whose import warns about its httpx."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient  # noqa: PLC0415
    return TestClient(app)


@pytest.mark.parametrize("place", [add, wrap, add_around_base])
def test_starlettes_test_client(
    runtime: FakeRuntime, tmp_path: Path, place: Placement
) -> None:
    with client(place(build(tmp_path), runtime)) as session:
        assert session.post("/sync", json={"x": 2}).json() == {"y": 4}
        assert session.post("/stream", content=b"abc").text == "ABC"
    assert runtime.calls == ["flush", "stop"]
    assert [one.exchange.outcome for one in runtime.seen] == ["completed"] * 2


def test_a_plain_starlette_route_table(runtime: FakeRuntime) -> None:
    async def score(request: Request) -> Response:
        return JSONResponse({"path": request.path_params, "body": await request.json()})

    app = Starlette(routes=[Route("/score/{key:int}", score, methods=["POST"])])
    app.add_middleware(AuditMiddleware, runtime=runtime, model="m@1")
    answer = ask(app, "/score/7?verbose=1", json=[1])
    seen = runtime.only()
    assert (
        json.loads(seen.response) == answer.json() == {"path": {"key": 7}, "body": [1]}
    )
    assert seen.exchange.route == "/score/{key}"
    assert seen.exchange.target == b"/score/7?verbose=1"


def test_one_line_records_in_a_real_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDITLOG_DIR", str(tmp_path / "audit"))
    monkeypatch.setenv("AUDITLOG_ORIGIN", "test.example/log")
    monkeypatch.setenv("AUDITLOG_DURABILITY", "sync")
    app = build(tmp_path)
    app.add_middleware(AuditMiddleware)
    with client(app) as session:
        answer = session.post("/async", json={"x": 3})
    reader = Reader(open_log(load_config().dir))
    view = reader.decision(answer.headers["decision-id"])
    assert view.entry is not None
    data = parse_entry(view.entry).data
    assert (data["http.route"], data["outcome"]) == ("/async", "completed")
    assert (data["model.name"], data["model.version"]) == ("async def", "3")
    assert (
        data["request"]
        == data["response"]
        == {
            "mediaType": "application/json",
            "split": "json",
            "state": "complete",
        }
    )
