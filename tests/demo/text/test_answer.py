from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demo_service.text.answer import Answer, Clerk, Message, Question
from demo_service.text.model import Sampling, train_text_model
from demo_service.text.tools import Tool

MODEL = train_text_model()
WHY = Message("user", "Why was my application declined?")
TOOL = Tool("credit_score", {"properties": {"income": {"type": "number"}}})
ASKS = Message("user", "The credit score for an income of 52,000?")


def begun(*messages: Message, seed: int = 3, **more: Any) -> Answer:
    asked = {"max_tokens": 500, "sampling": Sampling(seed), **more}
    return Answer(MODEL, Question(messages=messages or (WHY,), **asked))


def text(answer: Answer) -> str:
    return "".join(answer.write())


def test_an_answer_ends_where_the_model_finds_it_complete() -> None:
    answer = begun()
    assert text(answer).endswith(".")
    assert answer.finish == "end"
    assert answer.call is None


@settings(max_examples=30)
@given(st.integers(0, 50), st.integers(1, 40))
def test_at_the_limit_it_is_cut(seed: int, limit: int) -> None:
    whole, cut = begun(seed=seed), begun(seed=seed, max_tokens=limit)
    text_of_whole = text(whole)
    assert text_of_whole.startswith(text(cut))
    assert cut.tokens == min(limit, whole.tokens)
    assert (cut.finish == "limit") == (whole.tokens > limit)


@settings(max_examples=50)
@given(
    st.integers(0, 30),
    st.lists(
        st.sampled_from([".", " the", "e a", "because", ". The application", "zzz"])
    ),
)
def test_it_stops_before_the_first_stop_and_sends_no_part_of_it(
    seed: int, stops: list[str]
) -> None:
    whole = text(begun(seed=seed))
    answer = begun(seed=seed, stops=stops)
    places = [whole.index(stop) for stop in stops if stop in whole]
    written = text(answer)
    if places:
        assert written == whole[: min(places)]
        assert answer.finish == "stop"
        assert whole.startswith(answer.stopped_by or "?", min(places))
    else:
        assert written == whole
        assert (answer.finish, answer.stopped_by) == ("end", None)


def test_bytes_of_one_character_are_sent_together() -> None:
    answer = begun(
        Message("user", "credit score of applicant Zoë-Ω"),
        tools=[Tool("credit_score", {"properties": {"applicant": {"type": "string"}}})],
    )
    pieces = list(answer.write())
    assert "Ω" in pieces
    assert "".join(pieces) == '{"applicant": "Zoë-Ω"}'


def test_a_call_is_written_like_a_text() -> None:
    answer = begun(ASKS, tools=[TOOL])
    assert answer.call is not None
    assert text(answer) == answer.call.arguments == '{"income": 52000}'
    assert answer.finish == "call"
    cut = begun(ASKS, tools=[TOOL], max_tokens=2)
    assert answer.call.arguments.startswith(text(cut))
    assert (cut.finish, cut.tokens) == ("limit", 2)


@pytest.mark.parametrize(
    ("last", "must", "called"),
    [("user", False, True), ("tool", False, False), ("tool", True, True)],
)
def test_what_a_tool_has_returned_is_answered_in_words(
    last: str, must: bool, called: bool
) -> None:
    answer = begun(ASKS, Message(last, ASKS.text), tools=[TOOL], must_call=must)
    assert (answer.call is not None) == called


def test_answers_side_by_side_differ_and_each_can_be_had_again() -> None:
    clerk = Clerk(MODEL)
    question = Question(messages=[WHY], sampling=Sampling(3), max_tokens=99)
    first, second = map(text, clerk.begin(question, 2))
    assert first != second
    assert [first, second] == list(map(text, clerk.begin(question, 2)))


def test_a_seed_that_is_not_given_is_drawn() -> None:
    clerk = Clerk(MODEL, token=lambda size: "0f" * size)
    assert clerk.seed(None) == 0x0F0F0F0F
    assert clerk.seed(-5) == 5
    assert Clerk(MODEL).seed(None) != Clerk(MODEL).seed(None)
    assert clerk.identifier("msg_") == "msg_" + "0f" * 12


def test_the_prompt_is_all_that_the_model_is_given() -> None:
    clerk = Clerk(MODEL)
    question = Question(messages=[WHY], sampling=Sampling(3), max_tokens=9)
    assert question.prompt == f"user: {WHY.text}\n"
    assert clerk.count(question) == len(MODEL.tokenizer.encode(question.prompt))
