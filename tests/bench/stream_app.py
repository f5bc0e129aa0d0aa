"""A stream of events, with and without us: ``STREAM=audited`` or ``bare``."""

import asyncio
import os
from typing import Any

from auditlog.web.asgi import App, Receive, Scope, Send
from auditlog.web.middleware import AuditMiddleware

EVENTS = 3
"""Sent by each answer, the first one at once."""

_HEAD: dict[str, Any] = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream")],
}


async def _stream(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        for _ in range(2):
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    await send(_HEAD)
    for number in range(EVENTS):
        event = b'data: {"token": %d}\n\n' % number
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(0.001)
    await send({"type": "http.response.body"})


app: App = _stream
if os.environ.get("STREAM") == "audited":
    app = AuditMiddleware(_stream)
