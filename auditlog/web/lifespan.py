"""The lifespan of the application, with that of the log around it."""

import logging

from auditlog.web.asgi import App, Message, Receive, Scope, Send
from auditlog.web.process import Process, stops_start

__all__ = ["Lifespan"]

_log = logging.getLogger("auditlog")


class Lifespan:
    """Starts the runtime before the application, and stops it after.

    Args:
        app: the application.
        process: whose runtime is started.
        closed: whether a bad disk stops start-up too.
        send: the server's channel.
    """

    __slots__ = ("_app", "_closed", "_must_stop", "_process", "_send")

    def __init__(self, app: App, process: Process, send: Send, *, closed: bool) -> None:
        self._app = app
        self._process = process
        self._send = send
        self._closed = closed
        self._must_stop = False

    async def run(self, scope: Scope, receive: Receive) -> None:
        """Run one lifespan.

        An application without one, such as Django's, raises or returns before it asks
        for a message: then the lifespan is ours alone, so that the log is stopped. One
        that raises later, before it is up, passes; its requests are served by the
        runtime that was started here.
        """
        first = await receive()
        if first["type"] == "lifespan.startup":
            await self._start()
        waiting = [first]
        asked = False

        async def next_message() -> Message:
            nonlocal asked
            asked = True
            message = waiting.pop() if waiting else await receive()
            if message["type"] == "lifespan.shutdown":
                self._must_stop = True
                # Servers may kill what is in flight without another word.
                self._process.interrupt_all()
            return message

        try:
            await self._app(scope, next_message, self._forward)
        except Exception as error:
            if asked:
                raise
            _log.debug("auditlog: the application has no lifespan: %s", error)
        finally:
            if self._must_stop:
                await self._stop()
        if not asked:
            await self._run_alone(next_message)

    async def _run_alone(self, receive: Receive) -> None:
        await receive()
        await self._forward({"type": "lifespan.startup.complete"})
        await receive()
        await self._forward({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        try:
            await self._process.start()
        except Exception as error:
            if stops_start(error) or self._closed:
                text = f"auditlog: {error}"
                await self._send({"type": "lifespan.startup.failed", "message": text})
                # As Starlette does: its test client waits for ever without.
                raise
            self._process.complain(error)

    async def _forward(self, message: Message) -> None:
        """Pass on a message; before the last one everything is made durable."""
        kind = message["type"]
        if kind.startswith("lifespan.startup."):
            self._must_stop = True
        else:
            await self._stop()
        await self._send(message)

    async def _stop(self) -> None:
        self._must_stop = False
        self._process.interrupt_all()
        await self._process.stop()
