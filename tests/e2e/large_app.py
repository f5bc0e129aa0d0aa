"""A service that takes bodies of every kind and size, and answers without end."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, HTTPException, Request
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import StreamingResponse

import auditlog

BLOCK = bytes(range(256)) * 255
"""65,280 bytes, so that chunks of 64 KiB begin at other places."""

app = FastAPI()
app.add_middleware(GZipMiddleware, minimum_size=1)
app.add_middleware(auditlog.AuditMiddleware)  # outside: it sees what is compressed


@app.post("/upload")
async def upload(request: Request) -> int:
    """Read everything, keep nothing."""
    size = 0
    async for part in request.stream():
        size += len(part)
    return size


@app.post("/endless")
async def endless() -> StreamingResponse:
    """Answer for as long as somebody listens."""

    async def blocks() -> AsyncIterator[bytes]:
        while True:
            yield BLOCK[:1] + BLOCK[1:]  # memory of its own, if somebody kept it
            await asyncio.sleep(0)  # or nobody learns that the client left

    return StreamingResponse(blocks(), media_type="application/octet-stream")


@app.post("/stream")
async def stream(events: int) -> StreamingResponse:
    """Answer with so many events."""

    async def blocks() -> AsyncIterator[bytes]:
        for number in range(events):
            yield b": %b\r\n\r\ndata: %d\r" % (b"ping" * 500, number)
            yield b"\n\r\n"

    return StreamingResponse(blocks(), media_type="text/event-stream")


@app.post("/predict")
async def predict(request: Request) -> dict[str, object]:
    """Read everything, answer JSON."""
    return {"score": 0.87, "size": len(await request.body())}


@app.post("/v1/models/credit:predict")
async def score(batch: dict[str, list[list[float]]]) -> dict[str, list[float]]:
    """Score each instance of a batch, as KServe does."""
    return {"predictions": [sum(row) for row in batch["instances"]]}


@app.post("/forbidden")
async def forbidden() -> None:
    """Refuse without reading."""
    raise HTTPException(403)
