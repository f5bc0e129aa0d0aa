"""The service under test: FastAPI, and the one line."""

import os

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

import auditlog

app = FastAPI()
app.add_middleware(auditlog.AuditMiddleware)


@app.post("/score/{product}")
async def score(product: str, request: Request) -> dict[str, object]:
    """Answer with what was asked."""
    auditlog.current().set_model("echo", version="1")
    return {"product": product, "asked": await request.json(), "pid": os.getpid()}


@app.post("/stream")
async def stream(request: Request) -> StreamingResponse:
    """Answer in several chunks."""
    body = await request.body()
    return StreamingResponse((body for _ in range(5)), media_type="text/plain")
