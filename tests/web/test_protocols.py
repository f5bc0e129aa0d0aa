"""The middleware reads traffic by the protocols that it was given."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response

from auditlog.core.errors import ConfigurationError
from auditlog.core.record import parse_entry
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from auditlog.web.middleware import AuditMiddleware
from tests.web.test_middleware_apps import client

PAGE = Path(__file__).parents[2] / "auditlog" / "docs" / "protocols.md"
CHAT = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'


def example() -> Any:
    """Return an instance of the protocol in the documentation."""
    found = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(found[1], names)
    return names["Plain"]()


def build(directory: Path, **options: Any) -> FastAPI:
    app = FastAPI()

    @app.post("/plain")
    def plain(end: bool) -> PlainTextResponse:
        return PlainTextResponse("Hello" + "\nEND" * end)

    @app.post("/talk")
    @app.post("/v1/chat/completions")
    def chat(done: bool) -> Response:
        stream = CHAT + b"data: [DONE]\n\n" * done
        return Response(stream, media_type="text/event-stream")

    app.add_middleware(
        AuditMiddleware,
        dir=directory,
        origin="test.example/log",
        durability="sync",
        **options,
    )
    return app


def recorded(
    directory: Path, target: str, **options: Any
) -> tuple[str, dict[str, Any]]:
    """Return outcome and context of a call."""
    with client(build(directory, **options)) as session:
        id_ = session.post(target).headers["decision-id"]
    with open_log(directory) as log:
        reader = Reader(log)
        data = parse_entry(reader.decision(id_).entry or b"").data
        context = reader.content(id_).context
    return data["outcome"], {
        name: json.loads(value) for name, value in context.items() if name != "target"
    }


@pytest.mark.parametrize(("end", "outcome"), [(1, "completed"), (0, "incomplete")])
def test_one_of_your_own_as_documented(tmp_path: Path, end: int, outcome: str) -> None:
    directory = tmp_path / "audit"
    found = recorded(directory, f"/plain?end={end}", protocols=[example()])
    assert found[0] == outcome
    assert found[1]["protocol"]["name"] == "plain"


@pytest.mark.parametrize(("done", "outcome"), [(1, "completed"), (0, "incomplete")])
def test_those_that_are_built_in_need_no_option(
    tmp_path: Path, done: int, outcome: str
) -> None:
    found = recorded(tmp_path / "audit", f"/v1/chat/completions?done={done}")
    assert found[0] == outcome
    assert found[1]["protocol"]["name"] == "openai.chat"


@pytest.mark.parametrize(
    "options",
    [
        {"protocol": "none"},
        {"route_protocols": {"/v1/*": "none"}},
        {"protocol": "anthropic", "route_protocols": {"/v1/*": "none"}},
    ],
)
def test_who_wants_none_reads_nothing(tmp_path: Path, options: Any) -> None:
    target = "/v1/chat/completions?done=0"
    assert recorded(tmp_path / "audit", target, **options) == ("completed", {})


def test_a_protocol_can_be_named_for_a_path_that_is_not_its_own(tmp_path: Path) -> None:
    target = "/talk?done=0"
    assert recorded(tmp_path / "unnamed", target) == ("completed", {})
    options = {"protocol": "none", "route_protocols": {"/talk": "openai.chat"}}
    outcome, context = recorded(tmp_path / "audit", target, **options)
    assert outcome == "incomplete"
    assert context["protocol"]["name"] == "openai.chat"


def test_a_protocol_that_is_not_there_is_refused(tmp_path: Path) -> None:
    async def app(*_: object) -> None:
        """Never called."""

    with pytest.raises(ConfigurationError, match=r"a protocol is one of auto, none, "):
        AuditMiddleware(app, dir=tmp_path, protocol="opnai")
