"""``/chat``: a conversation over a WebSocket.

Each text of the client's is a question. The answer comes token by token, each as a text
message of its own, and then an empty text message: the answer is complete. Nothing but
text is understood, and the connection is the client's to close.
"""

from collections import deque

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from demo_service.named import turn_in_log
from demo_service.text.answer import Clerk, Message, Question
from demo_service.text.model import Sampling

__all__ = ["END_OF_ANSWER", "chat"]

END_OF_ANSWER = ""
"""Message after the last token of an answer."""
_REMEMBERED = 16
"""Messages of the conversation that an answer depends on."""
_MOST_CHARACTERS = 4000
_MOST_TOKENS = 256
_UNSUPPORTED = 1003
_TOO_BIG = 1009


def chat(clerk: Clerk) -> APIRouter:
    """Return the route of the conversation."""
    router = APIRouter()

    @router.websocket("/chat")
    async def converse(socket: WebSocket) -> None:
        await socket.accept()
        said: deque[Message] = deque(maxlen=_REMEMBERED)
        try:
            while (question := await _next_question(socket)) is not None:
                turn_in_log()
                said.append(Message("user", question))
                said.append(Message("assistant", await _answer(socket, clerk, said)))
        except WebSocketDisconnect:
            return  # the client hung up, which is how conversations end

    return router


async def _next_question(socket: WebSocket) -> str | None:
    """Return what the client says next; None where the connection had to be closed."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    text: str | None = message.get("text")
    if text is None:
        await socket.close(_UNSUPPORTED, "a question is text")
        return None
    if len(text) > _MOST_CHARACTERS:
        await socket.close(_TOO_BIG, f"at most {_MOST_CHARACTERS} characters")
        return None
    return text


async def _answer(socket: WebSocket, clerk: Clerk, said: deque[Message]) -> str:
    """Send the answer to what was said, and return it."""
    sampling = Sampling(clerk.seed(None))
    question = Question(
        messages=tuple(said), sampling=sampling, max_tokens=_MOST_TOKENS
    )
    (answer,) = clerk.begin(question)
    written = []
    for text in filter(None, answer.write()):
        await socket.send_text(text)
        written.append(text)
    await socket.send_text(END_OF_ANSWER)
    return "".join(written)
