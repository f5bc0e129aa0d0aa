"""A service that takes uploads of any size and answers without end."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

import auditlog

BLOCK = bytes(range(256)) * 255
"""65,280 bytes, so that chunks of 64 KiB begin at other places."""

app = FastAPI()
app.add_middleware(auditlog.AuditMiddleware)


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
            yield BLOCK
            await asyncio.sleep(0)  # or nobody learns that the client left

    return StreamingResponse(blocks(), media_type="application/octet-stream")
