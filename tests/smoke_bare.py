"""Installed bare, the package captures on SQLite and verifies: no extra, no framework.

Not a test of pytest's: `.ci/run` starts it in an empty directory, with the interpreter
of a venv that holds the wheel and its three dependencies only::

    python -I …/tests/smoke_bare.py
"""

import asyncio
import importlib.util
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Self

import auditlog
from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.verify import verify_receipt

Message = MutableMapping[str, Any]

DIRECTORY = Path("audit")
EXTRAS = ["fastapi", "jinja2", "pydantic", "rich", "sklearn", "starlette", "uvicorn"]
QUESTION = b'{"income": 52000}'


async def service(scope: Any, receive: Any, send: Any) -> None:
    """Say yes to every request; any ASGI application will do."""
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{phase}"
            await send({"type": f"lifespan.{phase}.complete"})
        return
    assert (await receive())["body"] == QUESTION
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"approved": true}'})


class Server:
    """The part of an ASGI server that one request needs."""

    def __init__(self, app: Any) -> None:
        """Serve `app`."""
        self._app = app

    async def __aenter__(self) -> Self:
        """Start the application's lifespan."""
        self._told: asyncio.Queue[Message] = asyncio.Queue()
        self._heard: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        call = self._app(scope, self._told.get, self._heard.put)
        self._lifespan = asyncio.create_task(call)
        await self._turn("startup")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the application's lifespan."""
        await self._turn("shutdown")
        await self._lifespan

    async def _turn(self, phase: str) -> None:
        await self._told.put({"type": f"lifespan.{phase}"})
        heard = asyncio.create_task(self._heard.get())
        await asyncio.wait({heard, self._lifespan}, return_when=asyncio.FIRST_COMPLETED)
        assert heard.done(), f"the lifespan ended in {phase}: {self._lifespan!r}"
        assert heard.result()["type"] == f"lifespan.{phase}.complete"

    async def post(self, path: str, body: bytes) -> list[Message]:
        """Send one JSON request; return the messages of the answer."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"content-type", b"application/json")],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }
        told: asyncio.Queue[Message] = asyncio.Queue()
        await told.put({"type": "http.request", "body": body, "more_body": False})
        heard: list[Message] = []

        async def send(message: Message) -> None:
            heard.append(message)

        await self._app(scope, told.get, send)
        return heard


async def capture(receipt: Path) -> None:
    """Record one decision and fetch its receipt while the service runs."""
    app = auditlog.AuditMiddleware(service, dir=DIRECTORY, durability="sync")
    async with Server(app) as server:
        answer = await server.post("/decide", QUESTION)
        assert answer[-1]["body"] == b'{"approved": true}'
        decision_id = dict(answer[0]["headers"])[b"decision-id"].decode()
        arguments = ["receipt", decision_id, "--wait", "included", "-o", str(receipt)]
        assert await asyncio.to_thread(command, *arguments) == 0


def command(*arguments: str) -> int:
    """Run the installed `auditlog` command; return its exit status."""
    program = Path(sys.executable).with_name("auditlog")
    return subprocess.run([program, *arguments], check=False).returncode


def main() -> None:
    """Capture, verify, and see a damaged receipt refused."""
    present = [name for name in EXTRAS if importlib.util.find_spec(name)]
    assert not present, f"not a bare install: {present}"
    good, bad = Path("good.receipt.json"), Path("bad.receipt.json")
    asyncio.run(capture(good))
    receipt = good.read_bytes()
    policy = (DIRECTORY / "policy").read_text("utf-8")
    print(verify_receipt(receipt, policy).claim, flush=True)
    damaged = receipt.replace(b"POST", b"PUSH", 1)
    assert damaged != receipt
    bad.write_bytes(damaged)
    trust = ("--policy", str(DIRECTORY / "policy"))
    assert command("verify", str(good), *trust) == 0
    refused = {VerificationError.exit_code, MalformedError.exit_code}
    assert command("verify", str(bad), *trust) in refused
    assert command("check") == 0
    print("installed bare: captured, verified, and refused what was damaged")


if __name__ == "__main__":
    main()
