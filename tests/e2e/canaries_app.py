"""A service that handles whatever it is given in every way in which a service can."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from typing import Any

import prometheus_client
from fastapi import FastAPI, HTTPException, Request, WebSocket
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import (
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.background import BackgroundTask
from starlette.routing import Route
from starlette.websockets import WebSocketDisconnect

import auditlog
from auditlog.core.errors import AuditLogError

# Everything that we say, at every level; what the server says of itself is its own.
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
for name in ("asyncio", "websockets", "multipart", "python_multipart"):
    logging.getLogger(name).setLevel(logging.CRITICAL)


class AnyMethod:
    """Takes every method."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("any")(scope, receive, send)


app = FastAPI(routes=[Route("/any", AnyMethod())])
app.add_middleware(GZipMiddleware, minimum_size=400)
app.add_middleware(auditlog.AuditMiddleware)  # outside: it sees what is compressed


@app.post("/score/{person}")
async def score(person: str, request: Request) -> Response:
    """Say all that can be said of a decision."""
    asked = await request.json()
    said, decision = asked["said"], auditlog.current()
    decision.set_subject(said["subject"], kind="person")
    decision.set_user(said["user"])
    decision.set_session(said["session"])
    decision.set_result(
        label=said["label"], score=asked["number"], reasons=[said["reason"]]
    )
    decision.set_human(reviewer=said["reviewer"], action="approved")
    decision.annotate(note={said["annotated key"]: [said["annotated"]]})
    decision.attempt(
        model=said["attempt"], provider=said["provider"], error=said["why"]
    )
    headers = {"x-model": said["model"], "x-echo": person, "set-cookie": said["cookie"]}
    return JSONResponse({"person": person, "asked": asked}, headers=headers)


@app.post("/echo")
async def echo(request: Request) -> Response:
    """Answer with the body and its media type."""
    kind = request.headers.get("content-type", "text/plain")
    return Response(await request.body(), media_type=kind)


@app.post("/upload")
async def upload(request: Request) -> int:
    """Read everything, keep nothing."""
    return sum([len(part) async for part in request.stream()])


@app.post("/events")
async def events(request: Request) -> StreamingResponse:
    """Answer with the body as events, cut where no event ends."""
    text = (await request.body()).decode()

    async def pieces() -> AsyncIterator[bytes]:
        data = f"event: token\ndata: {text}\n\ndata: [DONE]\n\n".encode()
        for start in range(0, len(data), 25):
            yield data[start : start + 25]

    return StreamingResponse(pieces(), media_type="text/event-stream")


@app.post("/endless")
async def endless(request: Request) -> StreamingResponse:
    """Answer for as long as somebody listens."""
    text = await request.body()

    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield b"data: " + text * 100 + b"\n\n"
            await asyncio.sleep(0.01)  # or nobody learns that the client left

    return StreamingResponse(pieces(), media_type="text/event-stream")


@app.post("/refused/{status}")
async def refused(status: int, request: Request) -> Response:
    """Refuse, and repeat what was wrong."""
    raise HTTPException(status, (await request.body()).decode())


@app.post("/typed")
async def typed(body: dict[str, int]) -> int:
    """Refuse what is no number, which repeats it."""
    return len(body)


@app.post("/raises")
async def raises(request: Request) -> Response:
    """Fail with what was sent in the text."""
    raise ValueError((await request.body()).decode())


@app.post("/raises/late")
async def raises_late(request: Request) -> StreamingResponse:
    """Fail in the middle of the answer."""
    text = (await request.body()).decode()

    async def pieces() -> AsyncIterator[bytes]:
        yield text.encode()
        raise ValueError(text)

    return StreamingResponse(pieces(), media_type="text/plain")


@app.post("/raises/after")
async def raises_after(request: Request) -> Response:
    """Fail after the answer."""
    text = (await request.body()).decode()

    def fail() -> None:
        raise ValueError(text)

    return PlainTextResponse("well", background=BackgroundTask(fail))


@app.post("/wrong")
async def wrong(request: Request) -> Response:
    """Say what cannot be said; whoever gets the message may log it."""
    text, decision = (await request.body()).decode(), auditlog.current()
    for say in (
        lambda: decision.set_subject(text * 100),
        lambda: decision.set_subject(text, kind=text.upper()),
        lambda: decision.set_human(reviewer=text, action=text),  # type: ignore[arg-type]
        lambda: decision.annotate(**{f"{text}!": text}),
        lambda: decision.annotate(x={text: object()}),
        lambda: decision.set_result(label=text * 100, score=float("nan")),
        lambda: auditlog.amend(text, "outcome"),
        lambda: auditlog.amend(decision.id, text),  # type: ignore[arg-type]
    ):
        try:
            say()
        except AuditLogError as error:
            logging.getLogger("auditlog").error("refused: %s", error)  # noqa: TRY400 - without a trace
    return PlainTextResponse("well")


@app.post("/job")
def job(said: dict[str, str]) -> Response:
    """Record what is beyond HTTP, and say of it what became known later."""
    id_ = auditlog.record(
        "job",
        input={said["key"]: said["input"]},
        output=said["output"],
        subject=said["subject"],
        user=said["user"],
        session=said["session"],
        annotations={"note": said["note"]},
    )
    auditlog.amend(
        id_,
        "human_review",
        by=said["by"],
        reason=said["reason"],
        label=said["label"],
        attributes={"ticket": said["ticket"]},
    )
    return JSONResponse({"id": id_})


@app.post("/batch")
async def batch(request: Request) -> Response:
    """Split one decision into those of a batch, each about somebody else."""
    asked = await request.json()
    for item, person in zip(
        auditlog.current().split(len(asked["instances"])),
        asked["instances"],
        strict=True,
    ):
        item.set_subject(person)
    return JSONResponse({"predictions": asked["instances"]})


@app.websocket("/socket")
async def socket(socket: WebSocket) -> None:
    """Answer each message with itself; raise what it is told to."""
    await socket.accept()
    try:
        while True:
            text = await socket.receive_text()
            await socket.send_text(text)
            await socket.send_bytes(text.encode())
            if text.startswith("raise"):
                raise ValueError(text)
    except WebSocketDisconnect:
        pass


@app.get("/metrics")
def metrics() -> Response:
    """Return what is counted."""
    return Response(prometheus_client.generate_latest(), media_type="text/plain")
