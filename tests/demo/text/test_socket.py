import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from demo_service.text.answer import Clerk
from demo_service.text.model import train_text_model
from demo_service.text.routes import add_text_model
from demo_service.text.socket import END_OF_ANSWER

CLERK = Clerk(train_text_model(), token=lambda size: "07" * size)


@pytest.fixture(scope="module")
def client() -> TestClient:
    service = FastAPI()
    add_text_model(service, CLERK)
    return TestClient(service)


def answer(socket: WebSocketTestSession, question: str) -> list[str]:
    socket.send_text(question)
    return list(iter(socket.receive_text, END_OF_ANSWER))


def test_an_answer_comes_token_by_token_and_has_an_end(client: TestClient) -> None:
    with client.websocket_connect("/chat") as socket:
        tokens = answer(socket, "Does my rent count?")
    encode = CLERK.model.tokenizer.encode
    assert len(tokens) > 3
    assert all(len(encode(token)) == 1 for token in tokens)
    assert "".join(tokens).endswith(".")


def test_questions_follow_one_another(client: TestClient) -> None:
    with client.websocket_connect("/chat") as socket:
        first = answer(socket, "Does my rent count?")
        # The clerk's random numbers are always the same, the conversation is not.
        again = answer(socket, "Does my rent count?")
        for _ in range(20):
            assert answer(socket, "Why?")
    with client.websocket_connect("/chat") as socket:
        assert answer(socket, "Does my rent count?") == first
    assert again


@pytest.mark.parametrize(
    ("message", "code"), [(b"\x00", 1003), ("x" * 4001, 1009)], ids=["binary", "long"]
)
def test_what_is_no_question_ends_the_conversation(
    client: TestClient, message: str | bytes, code: int
) -> None:
    with client.websocket_connect("/chat") as socket:
        if isinstance(message, bytes):
            socket.send_bytes(message)
        else:
            socket.send_text(message)
        with pytest.raises(WebSocketDisconnect) as ended:
            socket.receive_text()
    assert ended.value.code == code


def test_who_hangs_up_is_not_missed(client: TestClient) -> None:
    with client.websocket_connect("/chat") as socket:
        socket.send_text("Why?")
        socket.receive_text()
        socket.close()
