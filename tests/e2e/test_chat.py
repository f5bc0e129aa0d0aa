"""A conversation with the demo's text model over a WebSocket, by a real client."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from websockets.sync.client import ClientConnection, connect

from auditlog.core.pieces import messages
from auditlog.core.record import parse_entry
from auditlog.core.verify import verify_receipt
from auditlog.log.content import Content
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from demo_service.text.answer import Clerk, Message, Question
from demo_service.text.model import Sampling, train_text_model
from demo_service.text.socket import END_OF_ANSWER
from tests.e2e.servers import SERVERS, recovered, serve

APP = "tests.e2e.textmodel_app:app"
QUESTIONS = ("Does my rent count?", "And a mortgage: what is it? — «Ω»")
MODEL = train_text_model()


class Conversation(NamedTuple):
    """What a client heard, and what the log has of it."""

    heard: list[list[str]]
    """For each question, the messages up to the end of the answer."""
    data: dict[str, object]
    content: Content
    disclosed: tuple[tuple[str, bytes], ...]
    """By a receipt that opens the third message of the service's."""


def _ask(socket: ClientConnection, question: str) -> list[str]:
    socket.send(question)
    return [str(one) for one in iter(lambda: socket.recv(20), END_OF_ANSWER)]


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> Conversation:
    directory = tmp_path_factory.mktemp("chat")
    with serve(SERVERS["uvicorn"], APP, directory, {"LOGGED": "logged"}) as server:
        url = f"ws://127.0.0.1:{server.port}/chat"
        with connect(url, open_timeout=20, close_timeout=20) as socket:
            heard = [_ask(socket, question) for question in QUESTIONS]
            assert socket.response is not None
            id_ = socket.response.headers["decision-id"]
    recovered(directory)
    with open_log(directory / "audit", read_only=True) as log:
        reader = Reader(log)
        entry = parse_entry(reader.decision(id_).entry or b"")
        receipt = reader.receipt(id_, disclose=["response#2"])
        disclosed = verify_receipt(receipt, log.policy()).disclosed
        return Conversation(heard, entry.data, reader.content(id_), disclosed)


def _expected(said: Sequence[Message]) -> str:
    clerk = Clerk(MODEL, token=lambda size: "5a" * size)
    asked = Question(messages=said, sampling=Sampling(clerk.seed(None)), max_tokens=256)
    (answer,) = clerk.begin(asked)
    return "".join(answer.write())


def test_the_client_hears_what_the_model_says(conversation: Conversation) -> None:
    said: list[Message] = []
    for question, tokens in zip(QUESTIONS, conversation.heard, strict=True):
        said.append(Message("user", question))
        said.append(Message("assistant", _expected(said)))
        assert "".join(tokens) == said[-1].text
        assert len(tokens) > 3


def test_the_whole_conversation_is_one_decision(conversation: Conversation) -> None:
    data = conversation.data
    assert data["http.route"] == "/chat"
    assert data["outcome"] == "completed"
    assert data["model.name"] == MODEL.name
    assert data["model.digest"] == MODEL.digest


def test_every_message_is_stored_as_it_was_heard(conversation: Conversation) -> None:
    asked = messages(conversation.content.request)
    assert tuple(one.payload.decode() for one in asked) == QUESTIONS
    answered = [one.payload.decode() for one in messages(conversation.content.response)]
    first, second = conversation.heard
    assert answered == [*first, END_OF_ANSWER, *second, END_OF_ANSWER]


def test_the_log_says_where_each_turn_began(conversation: Conversation) -> None:
    orders = [one.order for one in messages(conversation.content.request)]
    turns = json.loads(conversation.content.context["websocket.turns"])
    assert turns == {"begin": orders, "further": 0}


def test_one_token_is_shown_alone(conversation: Conversation) -> None:
    ((path, token),) = conversation.disclosed
    assert path == "response#2"
    assert token.decode() == conversation.heard[0][2]
