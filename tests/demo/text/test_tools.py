import json
from typing import Any

import pytest

from demo_service.text.tools import Tool, choose_call


def tool(name: str, *required: str, **properties: Any) -> Tool:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return Tool(name, schema)


TEXT, NUMBER, WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
SCORE = tool("credit_score", "applicant", applicant=TEXT, income=NUMBER)
RATE = tool("current_rate", term_years=WHOLE, product={"enum": ["loan", "mortgage"]})


def chosen(question: str, *tools: Tool, must: bool = False) -> Any:
    call = choose_call(tools, question, must=must)
    return call and (call.name, json.loads(call.arguments))


@pytest.mark.parametrize(
    ("question", "call"),
    [
        (
            "Credit score of applicant A-1042, whose income is 52,000.50, please",
            ("credit_score", {"applicant": "A-1042", "income": 52_000.5}),
        ),
        (
            "what is the credit score? applicant: Zoë",
            ("credit_score", {"applicant": "Zoë"}),
        ),
        (
            "The current rate of a mortgage, with 15 term years?",
            ("current_rate", {"term_years": 15, "product": "mortgage"}),
        ),
        ("Which rate is current", ("current_rate", {})),
        # What the tool cannot do without is not there.
        ("What is a credit score?", None),
        ("Why was my application declined?", None),
        ("", None),
    ],
)
def test_a_call_has_what_the_question_says(question: str, call: Any) -> None:
    assert chosen(question, SCORE, RATE) == call


def test_the_number_nearest_to_the_name_is_meant() -> None:
    both = tool("check_limits", "income", "debt", income=NUMBER, debt=NUMBER)
    question = "Check the limits for 3 people with income 4000 and a debt of 250."
    assert chosen(question, both) == ("check_limits", {"income": 4000, "debt": 250})


def test_a_value_that_may_be_left_out_has_several_types() -> None:
    term = {"type": ["integer", "null"]}
    rate = tool("current_rate", term=term, amount={"type": ["number", "null"]})
    question = "The current rate for a term of 15, amount 2000.5?"
    assert chosen(question, rate) == ("current_rate", {"term": 15, "amount": 2000.5})


def test_a_number_that_no_float_can_hold_is_none() -> None:
    for kind in (NUMBER, WHOLE):
        rate = tool("current_rate", amount=kind)
        assert chosen(f"current rate, amount {'9' * 400}", rate)[1] == {}


def test_yes_is_said_by_naming_it() -> None:
    joint = tool("check_limits", joint={"type": "boolean"})
    assert chosen("Check limits, joint application", joint)[1] == {"joint": True}
    assert chosen("Check limits", joint)[1] == {}


def test_what_must_be_called_is_called_with_what_there_is() -> None:
    assert chosen("Hello", SCORE, must=True) == ("credit_score", {})
    assert chosen("What about the rate?", SCORE, RATE, must=True)[0] == "current_rate"


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"properties": None},
        {"properties": {"credit": 5}},
        {"required": "all"},
        {"properties": {"credit": {"enum": 3}}, "required": []},
        {"properties": {"credit": {"type": {}}}, "required": [["credit"]]},
    ],
)
def test_a_schema_that_is_none_asks_for_nothing(parameters: Any) -> None:
    call = choose_call([Tool("credit", parameters)], "credit!", must=False)
    assert call is not None
    assert json.loads(call.arguments) == {}
