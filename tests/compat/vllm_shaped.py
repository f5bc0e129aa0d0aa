"""An application built in the order in which vLLM builds its own, without its models.

Routes, a check of keys that is pure ASGI, then each ``--middleware`` by
its name: a class with no argument but the application. Nothing else of vLLM is here.
"""

import inspect
import os
from collections.abc import AsyncIterator
from importlib import import_module
from typing import Any, cast

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class _Keys:
    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self.key = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self.app
        if scope["type"] == "http" and scope["path"].startswith("/v1"):
            key = dict(scope["headers"]).get(b"authorization")
            if key != self.key:
                app = JSONResponse({"error": "Unauthorized"}, status_code=401)
        await app(scope, receive, send)


def _routes(app: FastAPI) -> None:
    @app.post("/v1/completions")
    async def completions(request: Request) -> StreamingResponse:
        words = (await request.json())["prompt"].split()

        async def events() -> AsyncIterator[str]:
            for word in words:
                yield f'data: {{"choices":[{{"index":0,"text":"{word}"}}]}}\n\n'
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.post("/tokenize")
    async def tokenize(request: Request) -> dict[str, int]:
        return {"count": len((await request.json())["prompt"])}

    @app.api_route("/ping", methods=["GET", "POST"])
    @app.get("/health")
    async def health() -> None:
        return None


def build() -> FastAPI:
    """Return the application; the names of middleware come from the environment."""
    app = FastAPI()
    _routes(app)
    app.add_middleware(_Keys, key="KEY")
    for name in os.environ["MIDDLEWARE"].split():
        module, _, attribute = name.rpartition(".")
        found = getattr(import_module(module), attribute)
        assert inspect.isclass(found), name
        app.add_middleware(cast("Any", found))
    return app
