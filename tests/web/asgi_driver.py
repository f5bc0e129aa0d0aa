"""The server's side of one ASGI call, by hand."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from auditlog.web.asgi import App, Message, Receive, Scope, Send

START: Message = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json")],
}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def chunk(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


DISCONNECT: Message = {"type": "http.disconnect"}


def http_scope(path: str = "/score", method: str = "POST", **more: Any) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        **more,
    }


class Server:
    """Feeds messages to an application and keeps what it sends.

    Args:
        incoming: what `receive` gives, in order; then it waits for `push`.
        fail_send: given a message, may return what sending it raises.
    """

    def __init__(
        self,
        incoming: Iterable[Message] = (chunk(b"{}"),),
        fail_send: Callable[[Message], BaseException | None] = lambda message: None,
    ) -> None:
        self.incoming = list(incoming)
        self._arrived = asyncio.Event()
        self.sent: list[Message] = []
        self._fail_send = fail_send

    async def receive(self) -> Message:
        while not self.incoming:
            self._arrived.clear()
            await self._arrived.wait()
        return self.incoming.pop(0)

    def push(self, message: Message) -> None:
        """Let a message arrive now."""
        self.incoming.append(message)
        self._arrived.set()

    async def send(self, message: Message) -> None:
        error = self._fail_send(message)
        if error is not None:
            raise error
        self.sent.append(message)

    def types(self) -> list[str]:
        return [message["type"] for message in self.sent]

    def body(self) -> bytes:
        return b"".join(bytes(message.get("body", b"")) for message in self.sent)

    def header(self, name: bytes) -> bytes | None:
        for message in self.sent:
            for key, value in message.get("headers", ()):
                if key == name:
                    return bytes(value)
        return None


def script(*messages: Message, read: bool = True, then: Any = None) -> App:
    """Return an application that reads the body, sends `messages`, and ends."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if read:
            while (await receive()).get("more_body"):
                pass
        for message in messages:
            await send(message)
        if then is not None:
            raise then

    return app


def call(app: App, server: Server | None = None, scope: Scope | None = None) -> Server:
    """Run one call to its end, with what it raises."""
    server = server or Server()
    asyncio.run(_bounded(app, scope or http_scope(), server))
    return server


async def _bounded(app: App, scope: Scope, server: Server) -> None:
    async with asyncio.timeout(10):
        await app(scope, server.receive, server.send)
