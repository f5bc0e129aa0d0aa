"""One call of the application: stands on both its channels while a tap looks on."""

from contextvars import Token

import msgspec

from auditlog.capture.tap import Ending
from auditlog.log.decision import _CURRENT, SCOPE_KEY, Decision
from auditlog.web.asgi import Message, Receive, Scope, Send
from auditlog.web.opened import Opened, Watching

__all__ = ["Responder"]

_OPENINGS = frozenset(
    {"http.response.start", "websocket.accept", "websocket.http.response.start"}
)
"""Messages whose headers the client gets."""


class Responder(msgspec.Struct, eq=False):
    """Answers one request, or one WebSocket, through the application."""

    # Made for each request, so a struct.
    opened: Opened
    """The decision that is open now: in a session there may be several in turn."""
    scope: Scope
    from_server: Receive
    to_server: Send
    tap: Watching

    async def run(self) -> None:
        """Call the application; whatever it does, submit once."""
        token = self.begin()
        ending: Ending = "interrupted"
        try:
            await self.opened.rules.app(self.scope, self.receive, self.send)
            ending = "incomplete"
        except Exception:
            ending = "error"
            raise
        finally:
            _CURRENT.reset(token)
            self.end(ending)

    def begin(self) -> Token[Decision | None]:
        """Make this the current decision; `end` must follow."""
        decision = self.scope[SCOPE_KEY] = self.opened.decision
        return _CURRENT.set(decision)

    def end(self, ending: Ending) -> None:
        """Submit, unless that was done; the application has returned, or raised."""
        if ending == "error":
            self.opened.fail()
        self.opened.finish(ending)

    async def receive(self) -> Message:
        """Pass on a message of the server, having looked at it."""
        message = await self.from_server()
        try:
            self.tap.received(message)
        except Exception as error:  # noqa: BLE001 - ours; the application goes on
            self.opened.note(error)
        return message

    async def send(self, message: Message) -> None:
        """Pass on a message of the application, having looked at it.

        Raises:
            AuditLogError: nothing may be released unlogged, and this would be.
            Exception: whatever the server raises.
        """
        opened = self.opened
        if opened.withheld is not None:
            raise opened.withheld
        last = False
        try:
            if message.get("type") in _OPENINGS:
                message = opened.add_header(message)
            last = self.tap.sent(message)
        except Exception as error:  # noqa: BLE001 - ours; the application goes on
            opened.note(error)
        if last:
            await opened.end(message, self.to_server)
            return
        try:
            await self.to_server(message)
        except OSError:
            self.tap.disconnected = True
            raise
