"""A request that no route takes when it comes, and perhaps one takes it in the end.

Some applications add routes when they are first asked for: the LiteLLM proxy loads
whole groups of them so, in a middleware of its own. Which route will answer is then not
known before the application is called, but it is at the first message, in whichever
direction it goes. By then nothing was read and nothing was said, so that a decision
which is opened there has all of its content. What a handler said of its decision before
that is in vain.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from auditlog.web.asgi import Message, Receive, Send
from auditlog.web.responder import Responder

if TYPE_CHECKING:
    from auditlog.capture.tap import Ending

__all__ = ["Latecomer"]


class Latecomer:
    """Looks for the route of one request once more, at its first message.

    Args:
        look: opens the decision, if there is one; what it raises, the application gets
            for each message, so that nothing passes.
        receive: the server's channel.
        send: the server's channel.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[Responder | None]],
        receive: Receive,
        send: Send,
    ) -> None:
        self._look = look
        self._has_looked = False
        self._responder: Responder | None = None
        self._receive = receive
        self._send = send

    async def run(self, call: Callable[[Receive, Send], Awaitable[None]]) -> None:
        """Let the application answer; a decision that was opened is submitted once."""
        ending: Ending = "interrupted"
        try:
            await call(self.receive, self.send)
            ending = "incomplete"
        except Exception:
            ending = "error"
            raise
        finally:
            if self._responder is not None:
                self._responder.end(ending)

    async def receive(self) -> Message:
        """Pass on a message of the server."""
        await self._settle()
        return await self._receive()

    async def send(self, message: Message) -> None:
        """Pass on a message of the application."""
        await self._settle()
        await self._send(message)

    async def _settle(self) -> None:
        if self._has_looked:
            return
        responder = await self._look()
        self._has_looked = True
        if responder is not None:
            self._responder = responder
            self._receive, self._send = responder.receive, responder.send
