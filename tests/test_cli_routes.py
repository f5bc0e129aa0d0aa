"""`auditlog routes APP` as a process: what it finds, says and refuses."""

from pathlib import Path

import pytest

from tests.command import Done, auditlog

APP = """
from fastapi import FastAPI, WebSocket
from starlette.middleware.gzip import GZipMiddleware

import auditlog

plain = FastAPI(openapi_url=None)

@plain.post("/score/{id}")
async def score(id: str) -> str:
    return id

@plain.get("/facts")
async def facts() -> str:
    return "well"

@plain.websocket("/chat")
async def chat(socket: WebSocket) -> None:
    await socket.accept()

added = FastAPI(openapi_url=None)
added.include_router(plain.router)
added.add_middleware(auditlog.AuditMiddleware, exclude=["/score/*"])
options = {"methods": ["GET"], "websocket": "off"}
wrapped = GZipMiddleware(auditlog.AuditMiddleware(plain, **options))
off = auditlog.AuditMiddleware(plain, enabled=False)
class Holder:
    app = off
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "service.py").write_text(APP)
    return tmp_path


def _routes(here: Path, app: str, *more: str, **env: str) -> Done:
    return auditlog("routes", app, *more, cwd=here, env=env)


def test_it_prints_each_route_and_starts_nothing(here: Path) -> None:
    done = _routes(here, "service:plain")
    assert done.status == 0
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert ["yes", "POST", "/score/{id}", "matched", "handler"] in rows
    assert ["no", "GET", "/facts", "method", ""] in rows
    why = "WebSocket: each session is a decision"
    assert ["yes", "websocket", "/chat", why, "handler"] in rows
    assert "2 of 3 are captured\n" in done.err
    assert "warning: the middleware is not installed" in done.err
    assert {path.name for path in here.iterdir()} <= {"service.py", "__pycache__"}


def test_it_uses_the_options_of_the_middleware_that_is_installed(here: Path) -> None:
    added = _routes(here, "service:added")
    assert "no\tPOST\t/score/{id}\texcluded by option\t\n" in added.out
    assert "warning" not in added.err
    wrapped = _routes(here, "service:wrapped")
    assert "no\tPOST\t/score/{id}\tmethod\t\n" in wrapped.out
    assert "yes\tGET\t/facts\tmatched\thandler\n" in wrapped.out
    assert "no\twebsocket\t/chat\toption websocket is off\t\n" in wrapped.out


def test_without_one_it_uses_the_environment(here: Path) -> None:
    done = _routes(here, "service:plain", AUDITLOG_METHODS="GET,POST")
    assert "3 of 3 are captured\n" in done.err


def test_it_says_when_the_middleware_is_off(here: Path) -> None:
    done = _routes(here, "service:Holder.app")
    assert "warning: `enabled` is false: nothing is captured at all" in done.err


def test_its_document_says_the_same(here: Path) -> None:
    document = _routes(here, "service:added", "--json").document()
    assert (document["ok"], document["installed"], document["enabled"]) == (True,) * 3
    assert document["routes"][0] == {
        "template": "/score/{id}",
        "methods": ["POST"],
        "captured": False,
        "why": "excluded by option",
        "endpoint": "service.score",
        "subject": "",
    }


def test_it_says_where_it_comes_from_whom_decisions_are_about(here: Path) -> None:
    source = f"""{APP}
places = {{"/score/*": "customer:path/id"}}
known = auditlog.AuditMiddleware(plain, route_subjects=places)
asking = FastAPI(openapi_url=None)
asking.include_router(plain.router)
asking.add_middleware(
    auditlog.AuditMiddleware, subject=lambda scope: None, route_subjects=places
)
wrong = auditlog.AuditMiddleware(plain, route_subjects={{"*": "body/id"}})
"""
    (here / "service.py").write_text(source.replace("wrong", "# wrong"))
    known = _routes(here, "service:known").out
    assert "yes\tPOST\t/score/{id}\tmatched\tcustomer:path/id\n" in known
    asking = _routes(here, "service:asking").out
    assert "\tmatched\tcallable, then customer:path/id\n" in asking
    assert "is a decision\tcallable\n" in asking
    (here / "service.py").write_text(source)
    refused = _routes(here, "service:wrong")
    assert refused.status == 1
    assert "option 'route_subjects' takes path/<name>" in refused.err
    assert "got 'body/id'" in refused.err


REFUSALS = {
    "service": (2, "expected an application as module:attribute, got 'service'"),
    "nowhere:app": (2, "no module 'nowhere' here"),
    "service:nothing": (2, "service has no 'nothing'"),
    "broken:app": (1, "importing broken failed: ValueError: not today"),
    "needy:app": (1, "needy needs nobody_has_this, which is not installed"),
}


@pytest.mark.parametrize("app", REFUSALS)
def test_what_cannot_be_loaded_is_named(here: Path, app: str) -> None:
    (here / "broken.py").write_text("raise ValueError('not today')")
    (here / "needy.py").write_text("import nobody_has_this")
    status, expected = REFUSALS[app]
    done = _routes(here, app)
    assert done.status == status
    assert expected in done.err
