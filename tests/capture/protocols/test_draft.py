"""Answers put together from parts, within bounds."""

import pytest

from auditlog.capture.protocols import draft
from auditlog.capture.protocols.draft import Drafts
from auditlog.capture.reading import Answer, ToolCall


def test_answers_come_in_the_order_of_their_indices() -> None:
    drafts = Drafts()
    drafts.at(1).text.append("b")
    drafts.at(0).text.append("a")
    drafts.at(1).text += ["c"]
    drafts.at(1).finish_reason = "stop"
    assert drafts.answers() == [
        Answer(index=0, text="a"),
        Answer(index=1, text="bc", finish_reason="stop"),
    ]
    assert not drafts.partial


def test_calls_to_tools_come_in_the_order_of_their_beginning() -> None:
    drafts = Drafts()
    first = drafts.at(0).tool("b")
    first.id, first.name = "call_1", "look"
    drafts.at(0).tool("a").arguments.append("{}")
    drafts.at(0).tool("b").arguments += ['{"x"', ":1}"]
    assert drafts.answers()[0].tool_calls == [
        ToolCall(id="call_1", name="look", arguments='{"x":1}'),
        ToolCall(arguments="{}"),
    ]


@pytest.mark.parametrize("where", ["text", "reasoning", "refusal"])
@pytest.mark.parametrize("parts", [["ab", "cd"], ["ab", "cd", "e"]])
def test_a_text_beyond_the_limit_is_left_out_and_said_to_be(
    where: str, parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft, "MAX_TEXT", 4)
    drafts = Drafts()
    setattr(drafts.at(0), where, parts)
    assert drafts.partial is (len(parts) == 3)
    assert getattr(drafts.answers()[0], where) == "abcd"


def test_arguments_beyond_the_limit_are_left_out_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draft, "MAX_TEXT", 4)
    drafts = Drafts()
    drafts.at(0).tool(0).arguments.append("12345")
    assert drafts.partial
    assert drafts.answers()[0].tool_calls[0].arguments == "1234"


def test_more_answers_or_tools_than_the_limits_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draft, "MAX_ANSWERS", 2)
    monkeypatch.setattr(draft, "MAX_TOOLS", 2)
    drafts = Drafts()
    for index in range(3):
        drafts.at(index).text.append("x")
    assert drafts.partial
    assert len(drafts.answers()) == 2
    drafts = Drafts()
    for key in range(3):
        drafts.at(0).tool(key).name = "x"
    assert drafts.partial
    assert len(drafts.answers()[0].tool_calls) == 2
