"""One small application with a WebSocket for each way a session can end."""

import asyncio
import contextlib

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

import auditlog


class BoomError(Exception):
    """Raised on purpose."""


async def echo(socket: WebSocket) -> None:
    """Answer each message with itself; take no care of a client that leaves."""
    await socket.accept(subprotocol="chat" if socket.scope["subprotocols"] else None)
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"])
        await socket.send({**message, "type": "websocket.send"})


async def turns(socket: WebSocket) -> None:
    """Say a line for each that comes, and who decided it."""
    await socket.accept()
    async for text in socket.iter_text():
        decision = auditlog.current()
        decision.set_model("parrot", version="1")
        decision.new_turn()
        await socket.send_text(f"{text}, {text}!")
        await socket.send_text(decision.id)


async def closed(socket: WebSocket) -> None:
    """Close as everybody should."""
    await socket.accept()
    await socket.receive_text()
    await socket.send_text("well")
    await socket.close(1000, "done")


async def failed(socket: WebSocket) -> None:
    """Close as one that failed."""
    await socket.accept()
    await socket.close(1011)


async def raises(socket: WebSocket) -> None:
    """Raise in the middle."""
    await socket.accept()
    await socket.send_text("well")
    raise BoomError


async def raises_first(socket: WebSocket) -> None:
    """Raise before the handshake is answered."""
    raise BoomError


async def returns(socket: WebSocket) -> None:
    """Return without a close."""
    await socket.accept()
    await socket.send_text("well")


async def refused(socket: WebSocket) -> None:
    """Close instead of accepting."""
    await socket.close(1008)


async def answered(socket: WebSocket) -> None:
    """Answer instead of accepting."""
    await socket.send_denial_response(PlainTextResponse("not you", 401))


async def pushes(socket: WebSocket) -> None:
    """Say something until the client leaves, and notice only when it is said."""
    await socket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.send_text("tick")
            await asyncio.sleep(0.01)


async def stopped(socket: WebSocket) -> None:
    """Wait for a message that never comes."""
    await socket.accept()
    await socket.send_text("ready")
    with contextlib.suppress(WebSocketDisconnect):
        await socket.receive_text()


ENDPOINTS = (
    *(echo, turns, closed, failed, raises, raises_first, returns, refused, answered),
    *(pushes, stopped),
)
app = Starlette(
    routes=[WebSocketRoute(f"/{one.__name__}", one) for one in ENDPOINTS]
    + [WebSocketRoute(f"/echo/{why}", echo) for why in ("lost", "wordless", "away")]
)
app.add_middleware(auditlog.AuditMiddleware, keep_rejected=True)
