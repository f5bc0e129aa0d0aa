"""Several applications in one process on one log, and a start that is refused."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from auditlog.core.errors import ConfigurationError
from auditlog.web.middleware import AuditMiddleware
from tests.harness import check_whole_log


async def _ask(app: Any) -> str:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        return str((await client.post("/")).headers["decision-id"])


def _application(directory: Path, **options: Any) -> AuditMiddleware:
    settings: Any = {"dir": directory, "origin": "log.example/two", **options}
    return AuditMiddleware(PlainTextResponse("yes"), **settings)


def test_two_applications_on_one_log_do_not_stop_each_other(tmp_path: Path) -> None:
    one, two = (_application(tmp_path / "audit") for _ in range(2))

    async def run() -> list[str]:
        ids = [await _ask(one), await _ask(two)]
        await two._process.stop()
        ids.append(await _ask(one))
        await one._process.stop()
        return ids

    ids = asyncio.run(run())
    log = check_whole_log(tmp_path / "audit")
    assert [decision["id"] for decision in log.decisions] == ids
    assert log.checkpoints[-1][0] == len(log.entries)


@pytest.mark.parametrize("change", [{"depth": 3}, {"origin": "log.example/other"}])
def test_a_second_application_may_not_have_other_options(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    one = _application(tmp_path / "audit")

    async def run() -> None:
        await _ask(one)
        two = _application(tmp_path / "audit", **change)
        with pytest.raises(ConfigurationError, match=f"another {next(iter(change))}"):
            await _ask(two)
        await one._process.stop()

    asyncio.run(run())


def test_a_refused_start_is_said_and_raised_as_by_starlette(tmp_path: Path) -> None:
    (tmp_path / "audit").write_text("not a directory")
    app = Starlette()
    app.add_middleware(AuditMiddleware, dir=tmp_path / "audit")
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(ConfigurationError, match="cannot create the log's directory"):
        asyncio.run(app({"type": "lifespan", "state": {}}, receive, send))
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
