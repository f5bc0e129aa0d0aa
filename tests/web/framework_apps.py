"""The same small service in five frameworks, unmodified: none knows of auditlog.

Each has ``POST /score/<key>`` and, by whatever the framework has for that, the same
below ``/api``; the handler says what it decided. ``POST /boom`` raises.
"""

import json
import sys
import types
from importlib import import_module
from typing import Any

import auditlog

__all__ = ["CHATS", "FRAMEWORKS", "TEMPLATES", "make", "make_chat"]

FRAMEWORKS = ("fastapi", "starlette", "litestar", "quart", "django")

TEMPLATES = {
    "fastapi": "/score/{key}",
    "starlette": "/score/{key}",
    "litestar": "/score/{key}",
    "quart": "/score/<int:key>",
    "django": "/score/<int:key>",
}
"""How each framework writes the template of the scoring route."""

CHATS = {"litestar": "/chat/{room}", "quart": "/chat/<int:room>"}
"""Other routers that know WebSockets, and the template of the chat."""

_URLS = "tests_framework_urls"


def make(name: str) -> Any:
    """Return the service in one framework."""
    return {
        "fastapi": _fastapi,
        "starlette": _starlette,
        "litestar": _litestar,
        "quart": _quart,
        "django": _django,
    }[name]()


def _decide(key: int, row: Any) -> dict[str, Any]:
    decision = auditlog.current()
    decision.set_model("credit", version="3")
    decision.set_result(label="approved", score=0.75)
    return {"key": key, "row": row, "decision": decision.id}


def _fastapi() -> Any:
    from fastapi import APIRouter, FastAPI  # noqa: PLC0415

    router = APIRouter()

    @router.post("/score/{key}")
    def score(key: int, row: dict[str, Any]) -> dict[str, Any]:
        return _decide(key, row)

    @router.post("/boom")
    def boom() -> None:
        raise LookupError("boom")

    app = FastAPI()
    app.include_router(router)
    app.include_router(router, prefix="/api")
    return app


def _starlette() -> Any:
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import JSONResponse  # noqa: PLC0415
    from starlette.routing import Mount, Route  # noqa: PLC0415

    async def score(request: Request) -> JSONResponse:
        key = request.path_params["key"]
        return JSONResponse(_decide(key, await request.json()))

    async def boom(request: Request) -> JSONResponse:
        raise LookupError("boom")

    routes = [
        Route("/score/{key:int}", score, methods=["POST"]),
        Route("/boom", boom, methods=["POST"]),
    ]
    return Starlette(routes=[*routes, Mount("/api", routes=routes)])


def _litestar() -> Any:
    from litestar import Litestar, Request, Router, post  # noqa: PLC0415

    @post("/score/{key:int}", status_code=200)
    async def score(request: Request[Any, Any, Any]) -> dict[str, Any]:
        return _decide(request.path_params["key"], await request.json())

    @post("/boom")
    async def boom() -> None:
        raise LookupError("boom")

    below = Router("/api", route_handlers=[score])
    # It would set up logging for the whole process.
    return Litestar([score, boom, below], logging_config=None)


def _quart() -> Any:
    from quart import Blueprint, Quart, request  # noqa: PLC0415

    app, api = Quart(__name__), Blueprint("api", __name__, url_prefix="/api")

    async def score(key: int) -> dict[str, Any]:
        return _decide(key, await request.get_json())

    for scaffold in (app, api):
        scaffold.add_url_rule("/score/<int:key>", "score", score, methods=["POST"])

    @app.post("/boom")
    async def boom() -> str:
        raise LookupError("boom")

    app.register_blueprint(api)
    return app


def _django() -> Any:
    # Without types of its own.
    conf, urls = import_module("django.conf"), import_module("django.urls")
    http = import_module("django.http")

    def score(request: Any, key: int) -> Any:
        return http.JsonResponse(_decide(key, json.loads(request.body)))

    async def boom(request: Any) -> Any:
        raise LookupError("boom")

    routes = [urls.path("score/<int:key>", score), urls.path("boom", boom)]
    module: Any = sys.modules.setdefault(_URLS, types.ModuleType(_URLS))
    module.urlpatterns = [*routes, urls.path("api/", urls.include(routes))]
    if not conf.settings.configured:
        conf.settings.configure(
            ROOT_URLCONF=_URLS,
            ALLOWED_HOSTS=["*"],
            MIDDLEWARE=[],
            SECRET_KEY="tests",
            LOGGING_CONFIG=None,
        )
    return import_module("django.core.asgi").get_asgi_application()


def make_chat(name: str) -> Any:
    """Return a service that answers one message of a WebSocket."""
    return {"litestar": _litestar_chat, "quart": _quart_chat}[name]()


def _litestar_chat() -> Any:
    litestar: Any = import_module("litestar")

    async def chat(socket: Any) -> None:
        await socket.accept()
        auditlog.current().set_model("parrot")
        await socket.send_text(await socket.receive_text())
        await socket.close()

    chat.__annotations__["socket"] = litestar.WebSocket
    return litestar.Litestar([litestar.websocket("/chat/{room:int}")(chat)])


def _quart_chat() -> Any:
    quart: Any = import_module("quart")
    app = quart.Quart("app")

    @app.websocket("/chat/<int:room>")  # type: ignore[untyped-decorator]
    async def chat(room: int) -> None:
        await quart.websocket.accept()
        auditlog.current().set_model("parrot")
        await quart.websocket.send(await quart.websocket.receive())

    return app
