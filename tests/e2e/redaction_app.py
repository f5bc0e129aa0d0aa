"""A service to which people tell what must not be kept, in every way there is."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import JSONResponse, StreamingResponse

import auditlog

PARTS = ["Dear ja", "ne.doe@", "canary.exam", "ple, ok"]
"""An answer as a model writes it."""

app = FastAPI()


def shout(text: str) -> str:
    """Take out a code word, as code of an operator would."""
    return text.replace("kumquat", "(fruit)")


app.add_middleware(auditlog.AuditMiddleware, redact=[shout])


@app.post("/echo")
async def echo(request: Request) -> JSONResponse:
    """Say what must not be kept under a name, in a place and in a text."""
    await request.body()
    decision = auditlog.current()
    decision.annotate(note="from jane.doe@canary.example", ssn="078-05-1120")
    decision.set_user("jane.doe@canary.example")
    return JSONResponse({"ssn": "078-05-1120", "answer": {"name": "Zebedee", "n": 1}})


@app.post("/stream")
async def stream() -> StreamingResponse:
    """Answer in events, a few characters each."""

    async def events() -> AsyncIterator[str]:
        for part in PARTS:
            delta: dict[str, Any] = {"index": 0, "delta": {"content": part}}
            yield f"data: {json.dumps({'choices': [delta]})}\n\n"
            await asyncio.sleep(0)
        yield "data: [DONE]\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


@app.post("/fail")
async def fail(request: Request) -> None:
    """Raise with what must not be kept in the message."""
    raise RuntimeError((await request.body()).decode())


@app.websocket("/talk")
async def talk(socket: WebSocket) -> None:
    """Say back what was said, word by word."""
    await socket.accept()
    async for text in socket.iter_text():
        for word in text.split(" "):
            await socket.send_text(word)
