"""No server at all: test clients, and functions that live for one invocation."""

import asyncio
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from auditlog.config import Config
from auditlog.log.runtime import runtime_for
from auditlog.web.middleware import AuditMiddleware
from tests.e2e.processes import ROOT
from tests.e2e.servers import ORIGIN, outcomes, recovered, states
from tests.harness import check_whole_log
from tests.web.asgi_driver import Server, chunk, http_scope


def _application(directory: Path, **options: Any) -> Starlette:
    async def score(request: Request) -> JSONResponse:
        return JSONResponse({"asked": await request.json()})

    app = Starlette(routes=[Route("/score", score, methods=["POST"])])
    settings: Any = {"dir": directory / "audit", "origin": ORIGIN, **options}
    app.add_middleware(AuditMiddleware, **settings)
    return app


def _client(app: Starlette) -> Any:
    """Return Starlette's test client, whose import warns about its httpx."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from starlette.testclient import TestClient  # noqa: PLC0415
    return TestClient(app)


def _score(client: Any) -> str:
    return str(client.post("/score", json={"x": 1}).headers["decision-id"])


def test_a_test_client_as_context_manager_starts_and_stops(tmp_path: Path) -> None:
    app = _application(tmp_path)
    ids = []
    for _ in range(2):
        with _client(app) as client:
            ids += [_score(client), _score(client)]
    log = check_whole_log(tmp_path / "audit")
    assert outcomes(log) == dict.fromkeys(ids, "completed")
    assert states(log) == {"start": 2, "stop": 2}


def test_a_test_client_without_context_makes_a_loop_for_each_call(
    tmp_path: Path,
) -> None:
    app = _application(tmp_path, durability="sync")
    client = _client(app)
    ids = [_score(client) for _ in range(3)]
    # Nobody stopped it: that is left to us.
    runtime_for(Config(dir=tmp_path / "audit", durability="sync")).stop()
    log = check_whole_log(tmp_path / "audit")
    assert outcomes(log) == dict.fromkeys(ids, "completed")
    assert states(log) == {"start": 1, "stop": 1}


async def _invoke(app: Starlette) -> str:
    """Answer one request, as an adapter for functions does."""
    server = Server([chunk(b'{"x":1}')])
    await app(http_scope(), server.receive, server.send)
    id_ = server.header(b"decision-id")
    assert id_ is not None
    return id_.decode()


async def _live_once(app: Starlette) -> str:
    """Start the application, answer one request, and stop it."""
    messages: asyncio.Queue[Any] = asyncio.Queue()
    answers: asyncio.Queue[Any] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    living = asyncio.create_task(app(scope, messages.get, answers.put))
    await messages.put({"type": "lifespan.startup"})
    assert (await answers.get())["type"] == "lifespan.startup.complete"
    id_ = await _invoke(app)
    await messages.put({"type": "lifespan.shutdown"})
    assert (await answers.get())["type"] == "lifespan.shutdown.complete"
    await living
    return id_


def test_a_function_that_lives_once_per_invocation(tmp_path: Path) -> None:
    app = _application(tmp_path)
    ids = []
    for _ in range(3):
        ids.append(asyncio.run(_live_once(app)))
        # Frozen now: all there is to say has been said.
        log = check_whole_log(tmp_path / "audit")
        assert outcomes(log) == dict.fromkeys(ids, "completed")
        assert states(log)["start"] == states(log)["stop"] == len(ids)


FROZEN = """
import asyncio, os, signal, sys
from pathlib import Path

from tests.e2e.test_invocations import _application, _invoke

app = _application(Path(sys.argv[1]), durability="sync")
for _ in range(3):
    print(asyncio.run(_invoke(app)), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_function_that_is_frozen_and_killed_after_its_answer(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FROZEN, str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT
    )
    ids = done.stdout.split()
    assert len(ids) == 3, done.stderr
    log = recovered(tmp_path)
    assert outcomes(log) == dict.fromkeys(ids, "completed")
