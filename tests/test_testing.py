"""`auditlog.testing.capture()`, as the tests of an application use it."""

import asyncio
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

import auditlog
import auditlog.testing
from auditlog.web.middleware import AuditMiddleware

with warnings.catch_warnings():
    # It asks for a client library that is not ours to choose.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient


def _app(directory: Path, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(AuditMiddleware, dir=directory, **options)

    @app.post("/score/{product}")
    async def score(product: str, request: Request) -> dict[str, object]:
        auditlog.current().set_model("credit", version="3")
        return {"product": product, "asked": await request.json()}

    @app.post("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter([b"a", b"b"]), media_type="text/plain")

    @app.post("/broken")
    def broken() -> None:
        raise ValueError("on purpose")

    return app


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return _app(tmp_path / "audit")


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test leaves a file, a thread, or the log of the application."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    before = set(threading.enumerate())
    yield
    assert list(temporary.iterdir()) == []
    ours = [one.name for one in set(threading.enumerate()) - before]
    assert [name for name in ours if name.startswith("auditlog")] == []


def test_a_decision_is_given_with_entry_and_content(app: FastAPI) -> None:
    with auditlog.testing.capture() as decisions:
        answer = TestClient(app).post("/score/loan", json={"income": 52000})
    (decision,) = decisions
    assert decision.id == answer.headers["decision-id"]
    assert (decision.outcome, decision.method, decision.status) == (
        "completed",
        "POST",
        200,
    )
    assert decision.route == "/score/{product}"
    assert (decision.model, decision.version) == ("credit", "3")
    assert decision.json("request") == {"income": 52000}
    assert decision.response == answer.content
    assert decision.context["target"] == b"/score/loan"
    assert decision.entry["request"]["state"] == "complete"
    with pytest.raises(KeyError, match="usage"):
        decision.json("usage")


def test_they_can_be_read_inside_the_block(app: FastAPI) -> None:
    with auditlog.testing.capture() as decisions:
        assert len(decisions) == 0
        client = TestClient(app)
        for number in range(3):
            client.post("/stream")
            assert len(decisions) == number + 1
        assert [one.response for one in decisions[1:]] == [b"ab", b"ab"]
    assert len(decisions) == 3


def test_an_error_of_the_application_passes_and_is_recorded(app: FastAPI) -> None:
    with (
        auditlog.testing.capture() as decisions,
        pytest.raises(ValueError, match="on purpose"),
    ):
        TestClient(app).post("/broken")
    assert [one.outcome for one in decisions] == ["error"]


def test_the_lifespan_may_start_and_stop_inside(app: FastAPI) -> None:
    with auditlog.testing.capture() as decisions:
        for _ in range(2):
            with TestClient(app) as client:
                client.post("/stream")
        TestClient(app).post("/stream")
    assert len(decisions) == 3


def test_an_application_that_recorded_before_is_captured_too(app: FastAPI) -> None:
    with TestClient(app) as client:
        client.post("/stream")
        with auditlog.testing.capture() as decisions:
            client.post("/stream")
        client.post("/stream")
    assert len(decisions) == 1


def test_each_block_sees_its_own(app: FastAPI) -> None:
    for _ in range(2):
        with auditlog.testing.capture() as decisions:
            TestClient(app).post("/stream")
        assert len(decisions) == 1


def test_the_log_of_the_application_is_not_touched(
    app: FastAPI, tmp_path: Path
) -> None:
    with auditlog.testing.capture():
        TestClient(app).post("/stream")
    assert not (tmp_path / "audit").exists()


def test_afterwards_the_application_records_where_it_did(
    app: FastAPI, tmp_path: Path
) -> None:
    with auditlog.testing.capture() as decisions:
        TestClient(app).post("/stream")
    with TestClient(app) as client:
        client.post("/stream")
    assert (tmp_path / "audit" / "log.sqlite3").exists()
    assert len(decisions) == 1


def test_event_loops_come_and_go(app: FastAPI) -> None:
    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://a"
        ) as client:
            await client.post("/stream")

    with auditlog.testing.capture() as decisions:
        for _ in range(3):
            asyncio.run(ask())
        assert len(decisions) == 3


def test_two_applications_with_other_options_are_captured_together(
    app: FastAPI, tmp_path: Path
) -> None:
    other = _app(tmp_path / "other", durability="sync", on_failure="closed", depth=0)
    with auditlog.testing.capture() as decisions:
        TestClient(app).post("/stream")
        TestClient(other).post("/score/x", json=[])
    assert [one.route for one in decisions] == ["/stream", "/score/{product}"]


def test_a_failing_assertion_shows_what_there_is_but_no_content(app: FastAPI) -> None:
    with auditlog.testing.capture() as decisions:
        TestClient(app).post("/score/loan", json={"name": "Ada"})
    assert "outcome='completed'" in repr(decisions)
    assert "Ada" not in repr(decisions)


def test_what_is_recorded_beyond_http_is_captured_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDITLOG_DIR", str(tmp_path / "audit"))
    with auditlog.testing.capture() as decisions:
        told = auditlog.record("nightly", input={"row": 1}, output=0.5, model="m@1")
        with auditlog.decision("outer") as outer:
            pass
        later = auditlog.amend(told, "outcome", by="crm", label="repaid")
    one, other = decisions
    assert (one.id, one.operation, one.model) == (told, "nightly", "m")
    assert (one.method, one.route, one.status) == (None, None, None)
    assert (one.json("request"), one.json("response")) == ({"row": 1}, 0.5)
    assert (other.id, other.response, other.amendments) == (outer.id, b"", ())
    (amendment,) = one.amendments
    assert (amendment.id, amendment.kind) == (later, "outcome")
    assert amendment.json("outcome") == {"result": {"label": "repaid"}}
    assert "crm" not in repr(decisions)
    with pytest.raises(KeyError, match="reason"):
        amendment.json("reason")
    assert not (tmp_path / "audit").exists()


def test_a_handler_records_where_its_request_is_recorded(tmp_path: Path) -> None:
    app = _app(tmp_path / "audit", durability="sync", depth=0)

    @app.post("/rules")
    def rules() -> str:
        return auditlog.record("rules", input=1)

    with auditlog.testing.capture() as decisions:
        id_ = TestClient(app).post("/rules").json()
    inner, outer = decisions
    assert (inner.id, inner.operation) == (id_, "rules")
    assert outer.route == "/rules"
    assert inner.entry["commitment"]["depth"] == 0


@pytest.mark.parametrize("websocket", ["session", "message"])
def test_what_was_said_on_a_websocket_is_read_in_its_order(
    tmp_path: Path, websocket: Literal["session", "message"]
) -> None:
    app = _app(tmp_path / "audit", websocket=websocket)

    @app.websocket("/chat")
    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        for _ in range(2):
            await socket.send_bytes((await socket.receive_text()).encode())
        await socket.close()

    with auditlog.testing.capture() as decisions:
        TestClient(app).post("/stream")
        with TestClient(app).websocket_connect("/chat") as socket:
            for text in ("hello", "you"):
                socket.send_text(text)
                assert socket.receive_bytes() == text.encode()
    said: list[tuple[str, str | bytes]] = [
        *(("client", "hello"), ("application", b"hello")),
        *(("client", "you"), ("application", b"you")),
    ]
    request, *session = [one.messages for one in decisions]
    assert request == []
    assert session == ([said] if websocket == "session" else [said[:2], said[2:]])
