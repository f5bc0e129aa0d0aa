"""Pairs of names and values, in forms and in what was asked for."""

from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.redaction.form import redact_form, redact_target
from auditlog.capture.redaction.rules import parse_rules


def _form(value: str | bytes, *, cut: bool = False, **rules: Any) -> str:
    made = parse_rules(**rules)
    data = value.encode() if isinstance(value, str) else value
    return redact_form(made, data, made.places["request"], cut=cut).decode("latin-1")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("ssn=123", "ssn=[redacted]"),
        ("SSN=1&b=2", "SSN=[redacted]&b=2"),
        ("a=1&ssn=1&ssn=2&", "a=1&ssn=[redacted]&ssn=[redacted]&"),
        ("s%73n=1", "s%73n=[redacted]"),
        ("s+s+n=1", "s+s+n=[redacted]"),
        ("person[ssn]=1&person.ssn=2", "person[ssn]=[redacted]&person.ssn=[redacted]"),
        ("a=1;ssn=2", "a=1;ssn=[redacted]"),
        ("ssn=1;2&b=3;4", "ssn=[redacted]&b=3;4"),
        ("ssn=1;b=2;ssn=3", "ssn=[redacted]"),
        (
            "a:ssn=1&a(ssn)=2&a->ssn=3&ssn%00=4",
            "a:ssn=[redacted]&a(ssn)=[redacted]&a->ssn=[redacted]&ssn%00=[redacted]",
        ),
        ("ssn", "ssn"),
        ("ssn=", "ssn=[redacted]"),
        ("ssn=a=b", "ssn=[redacted]"),
        ("assn=1", "assn=1"),
        ("&&=&=1", "&&=&=1"),
        ("", ""),
        ('p=%7B"ssn"%3A1,"b"%3A2%7D', "p=%7B%22ssn%22:%22[redacted]%22,%22b%22:2%7D"),
    ],
)
def test_the_value_of_a_key_goes(value: str, stored: str) -> None:
    assert _form(value, keys=["ssn"]) == stored


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a=joe@x.de", "a=[redacted]"),
        ("a=1;joe@x.de;joe@x.de=2", "a=1;[redacted];[redacted]=2"),
        ("a=joe%40x.de", "a=[redacted]"),
        ("a=%6a%6Fe%40x%2ede&b=%41", "a=[redacted]&b=%41"),
        ("a=to+joe%40x.de+now", "a=to+[redacted]+now"),
        ("joe%40x.de=1", "[redacted]=1"),
        ("joe@x.de", "[redacted]"),
        ("a=%ff+joe@x.de", "a=%FF+[redacted]"),
        ("a=%zz&b=100%", "a=%zz&b=100%"),
    ],
)
def test_a_match_in_what_a_value_says_goes(value: str, stored: str) -> None:
    assert _form(value, patterns=["email"]) == stored


def test_a_name_that_becomes_a_key_is_one() -> None:
    rules: dict[str, Any] = {"keys": ["ssn"], "patterns": ["QQ"]}
    stored = _form("ssnQQ=1&ssnQ=1", **rules)
    assert stored == "ssn[redacted]=[redacted]&ssnQ=1"
    assert _form(stored, **rules) == stored


def test_a_pointer_names_a_field_and_goes_into_json_within_it() -> None:
    fields = ["request/pin", "/person/name"]
    value = "pin=1&name=2&person=" + "%7B%22name%22:3,%22age%22:4%7D"
    assert _form(value, fields=fields) == (
        "pin=[redacted]&name=2&person=%7B%22name%22:%22[redacted]%22,%22age%22:4%7D"
    )


def test_bytes_that_are_no_text_stay() -> None:
    assert _form(b"a=\xff\xfe&ssn=\xff", keys=["ssn"]) == "a=\xff\xfe&ssn=[redacted]"


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a=1&b=joe%40", "a=1&b=[redacted]"),
        ("a=1&b=joe%4", "a=1&b=[redacted]"),
        ("a=1&jo", "a=1&[redacted]"),
        ("a=1&ssn=4", "a=1&ssn=[redacted]"),
        ("a=1&b=2&", "a=1&b=2&"),
    ],
)
def test_of_a_form_that_is_cut_the_last_text_goes(value: str, stored: str) -> None:
    assert _form(value, cut=True, keys=["ssn"], patterns=["email"]) == stored


PAIRS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b c", "ssn", "S-S-N", "é"]),
        st.sampled_from(["1", "canary", "a canary b", "cänary", "&=;%+", ""])
        | st.text(st.characters(exclude_categories=["Cs"])),
    )
)


@given(PAIRS)
def test_other_readers_find_the_same_pairs_in_it(pairs: list[tuple[str, str]]) -> None:
    stored = _form(urlencode(pairs), keys=["ssn"], patterns=["canary"])
    found = parse_qsl(stored, keep_blank_values=True, strict_parsing=bool(pairs))
    assert found == [
        (
            name,
            "[redacted]"
            if name in ("ssn", "S-S-N")
            else value.replace("canary", "[redacted]"),
        )
        for name, value in pairs
    ]
    assert _form(stored, keys=["ssn"], patterns=["canary"]) == stored


@given(PAIRS, st.integers(0, 200))
def test_a_cut_anywhere_shows_no_start_of_a_secret(
    pairs: list[tuple[str, str]], size: int
) -> None:
    value = urlencode([*pairs, ("x", "CANARY")])[:size]
    stored = _form(value, cut=True, keys=["ssn"], patterns=["CANARY"])
    assert "CANAR" not in stored


@given(st.binary(max_size=50), st.booleans())
def test_any_bytes_are_a_form_and_a_target(value: bytes, cut: bool) -> None:
    rules = parse_rules(keys=["a"], patterns=["email", "x+"])
    assert isinstance(redact_form(rules, value, cut=cut), bytes)
    stored = redact_target(rules, value)
    assert redact_target(rules, stored) == stored


# --- targets --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "stored"),
    [
        ("/score", "/score"),
        ("/score?ssn=1&b=%32", "/score?ssn=[redacted]&b=%32"),
        ("/users/joe@x.de/score?q=1", "/users/[redacted]/score?q=1"),
        ("/users/joe%40x.de", "/users/[redacted]"),
        ("/a%2Fjoe%40x.de", "/a%2F[redacted]"),
        ("/a;ssn=1;b=2/c", "/a;ssn=[redacted];b=2/c"),
        ("/a/ssn=1/b", "/a/ssn=[redacted]/b"),
        ("/a?to=joe%40x.de", "/a?to=[redacted]"),
        ("/a?joe@x.de", "/a?[redacted]"),
        ("/customers/4711/x?y", "/[redacted]/[redacted]/x?y"),
        ("/%63ustomers/4711", "/[redacted]/[redacted]"),
        ("*", "*"),
        ("", ""),
        ("/a?", "/a?"),
        ("/a?b?ssn=1", "/a?b?ssn=[redacted]"),
        ("/%E9/joe@x.de?%E9", "/%E9/[redacted]?%E9"),
        ("//x//", "//x//"),
    ],
)
def test_of_a_target_only_what_a_rule_names_goes(target: str, stored: str) -> None:
    rules = parse_rules(keys=["ssn"], patterns=["email", "customers/[0-9]+"])
    assert redact_target(rules, target.encode()).decode() == stored
