"""Rules are checked before the first body comes."""

import pytest

from auditlog.capture.redaction.places import parse_places, step
from auditlog.capture.redaction.rules import BodyRedactor, TextRedactor, parse_rules
from auditlog.core.errors import ConfigurationError


@pytest.mark.parametrize(
    "name",
    [
        "user_name",
        "userName",
        "user-name",
        "USER NAME",
        "User_Name",
        "_userName_",
        "\uff55\uff53\uff45\uff52name",
    ],
)
def test_a_key_is_one_name_however_it_is_written(name: str) -> None:
    assert parse_rules(keys=["userName"]).is_key[name]
    assert parse_rules(keys=[name]).is_key["user_name"]


@pytest.mark.parametrize("name", ["user", "username2", "the user name", "", "name"])
def test_a_key_is_the_whole_name(name: str) -> None:
    assert not parse_rules(keys=["user_name"]).is_key[name]


def test_a_key_folds_what_is_the_same_to_a_reader() -> None:
    assert parse_rules(keys=["STRASSE"]).is_key["straße"]
    assert parse_rules(keys=["e\u0301tat"]).is_key["État"]


def test_names_of_any_number_and_length_are_not_all_remembered() -> None:
    rules = parse_rules(keys=["ssn"])
    assert not any(rules.is_key[f"name {number}"] for number in range(5_000))
    assert not rules.is_key["x" * 100]
    assert len(rules.is_key) <= 4_096
    assert rules.is_key["SSN"]


@pytest.mark.parametrize("key", ["", "_", " - "])
def test_a_key_without_a_character_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="redact_keys: expected a name with"):
        parse_rules(keys=[key])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", "redact_fields: expected request/…, response/… or /…"),
        ("applicant/name", "got 'applicant/name'"),
        ("request", "redact_fields: expected request/…"),
        ("requests/name", "got 'requests/name'"),
        ("request/a~b", "expected ~0 for ~ and ~1 for /"),
        ("/a~2", "expected ~0 for ~ and ~1 for /"),
        ("/a~", "expected ~0 for ~ and ~1 for /"),
        ("/" * 65, "expected at most 64 steps, got 65"),
    ],
)
def test_what_is_no_pointer_is_refused(rule: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match="redact_fields") as caught:
        parse_rules(fields=[rule])
    assert message in str(caught.value)


def test_a_pointer_belongs_to_the_side_before_it_or_to_both() -> None:
    places = parse_places(["request/a", "/b", "response/c~1d~0e"])
    assert set(places["request"][0].steps) == {"a", "b"}
    assert set(places["response"][0].steps) == {"b", "c/d~e"}
    assert parse_places(["request/a"])["response"] == ()


def test_a_wildcard_is_any_one_step() -> None:
    places = parse_places(["/list/*/id", "/list/0/name"])["request"]
    first = step(step(places, "list"), "0")
    assert len(first) == 2
    assert [place.ends for place in step(first, "id")] == [[True]]
    assert [place.ends for place in step(first, "name")] == [[True]]
    other = step(step(places, "list"), "1")
    assert step(other, "name") == ()
    assert step(step(other, "id"), "deeper") == ()


@pytest.mark.parametrize("pattern", ["", "a*", r"\b", "(?=a)", "x?", r"\s*", "^", "$"])
def test_a_pattern_that_matches_the_empty_text_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError, match="redact_patterns: expected an"):
        parse_rules(patterns=[pattern])


@pytest.mark.parametrize("pattern", ["(", "[a", "a{2,1}", "(?P<a>x)(?P<a>y)", "*"])
def test_a_pattern_that_does_not_compile_is_refused_by_its_name(pattern: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_rules(patterns=[pattern])
    assert "or one of card email iban ip phone" in str(caught.value)
    assert repr(pattern) in str(caught.value)


def test_what_is_neither_callable_nor_looks_at_bodies_is_refused() -> None:
    async def later(text: str) -> str:
        return text

    nothing: list[object] = ["a pattern?", later]
    messages = [
        "redact: expected a callable or an object with `body`, got str",
        "redact: expected a plain function, got later, which is async",
    ]
    for redactor, message in zip(nothing, messages, strict=True):
        with pytest.raises(ConfigurationError, match=message):
            parse_rules(redactors=[redactor])  # type: ignore[list-item]


def test_unreadable_is_one_of_two_words() -> None:
    with pytest.raises(ConfigurationError, match="expected drop or keep, got 'maybe'"):
        parse_rules(unreadable="maybe")  # type: ignore[arg-type]


class _Whole:
    def body(self, side: str, value: bytes, media_type: str | None) -> bytes | None:
        return value


def test_rules_know_on_which_side_they_apply() -> None:
    def upper(text: str) -> str:
        return text.upper()

    redactors: list[TextRedactor | BodyRedactor] = [upper, _Whole()]
    rules = parse_rules(redactors=redactors)
    assert rules.texts == (upper,)
    assert rules.bodies == (redactors[1],)
    assert rules.apply_to("request")
    assert not parse_rules().apply_to("request")
    fields = parse_rules(fields=["request/a"])
    assert fields.apply_to("request")
    assert not fields.apply_to("response")
    assert parse_rules(keys=["a"]).names("response")
    assert parse_rules(patterns=["card"]).apply_to("response")
    assert not parse_rules(patterns=["card"]).names("response")
