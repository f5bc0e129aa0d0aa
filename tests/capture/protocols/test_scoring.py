"""JSON read no deeper than needed, whatever is sent instead."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditlog.capture.protocols.scoring import (
    body_of,
    count,
    is_json_text,
    members,
    named,
    text,
)
from auditlog.capture.reading import Traffic

_LARGE = 1 << 20
_LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.text())
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@settings(max_examples=25)
@given(st.dictionaries(st.text(), _JSON))
def test_members_are_those_of_any_json_object(value: dict[str, object]) -> None:
    found = members(json.dumps(value).encode())
    assert found is not None
    assert {name: json.loads(bytes(raw)) for name, raw in found.items()} == value


@settings(max_examples=25)
@given(st.lists(_JSON))
def test_elements_of_any_array_are_counted(value: list[object]) -> None:
    assert count(msgspec.Raw(json.dumps(value).encode())) == len(value)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'"a"', b"{", b'{"a":1', b'{"a":1}x', b"\xff", b"{'a':1}"]
)
def test_what_is_no_whole_object_has_no_members(body: bytes) -> None:
    assert members(body) is None


def test_nan_is_let_pass_outside_of_strings_only() -> None:
    found = members(b'{"a": [NaN, -Infinity], "b": "NaN \\" Infinity"}')
    assert found is not None
    assert bytes(found["a"]) == b"[null, null]"
    assert text(found["b"]) == 'NaN " Infinity'
    assert members(b'{"a": NaN1}') is None
    assert members(b'{"a": NaN') is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b'"m"', "m"),
        (b'""', None),
        (b"7", None),
        (b"null", None),
        (b'"\xff"', None),
        (b'"' + b"m" * 257 + b'"', None),
    ],
)
def test_a_text_is_a_short_one(value: bytes, said: str | None) -> None:
    assert text(msgspec.Raw(value)) == said


def test_a_version_stands_behind_a_name_only() -> None:
    assert named("m", "3") == "m@3"
    assert named("m", None) == "m"
    assert named(None, "3") is None


def test_a_tail_belongs_to_the_body_unless_there_is_a_gap() -> None:
    assert body_of(Traffic(path="/", response=b"ab", tail=b"c")) == b"abc"
    assert body_of(Traffic(path="/", response=b"ab", tail=b"c", capped=True)) == b"ab"


@pytest.mark.parametrize(
    "hostile",
    [b"[", b'{"a":', b'"', b'\\"', b'"\\"', b"NaN,", b"-", b"Infinity", b'{"a":"NaN'],
)
def test_a_large_hostile_body_is_read_at_all(hostile: bytes) -> None:
    # Were it done in quadratic time, nobody would wait for it.
    body = b'{"a":NaN,"b":"' + hostile * (_LARGE // len(hostile))
    assert members(body) is None
    assert not is_json_text(body)
