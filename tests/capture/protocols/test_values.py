"""Typed values out of any JSON: what does not fit is left out, nothing is raised."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.protocols.values import (
    Shape,
    Struct,
    code_of,
    count_of,
    short_text,
    text_of,
)


class Inner(Struct):
    count: int | None = None
    word: str = ""


class Outer(Struct):
    name: str | None = None
    inner: Inner | None = None
    list_: list[Inner] = msgspec.field(default_factory=list, name="list")
    more: list[str] | None = None
    score: float | None = None
    flag: bool | None = None
    table: dict[str, int] | None = None
    anything: Any = None


OUTER = Shape(Outer)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [*msgspec.json.schema(Outer)["$defs"]["Outer"]["properties"]]
            )
            | st.sampled_from(["count", "word", "else"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (b'{"name":"a","else":[1]}', Outer(name="a")),
        (b'{"name":7,"flag":true}', Outer(flag=True)),
        (b'{"name":null}', Outer()),
        (b'{"inner":{"count":"7","word":"w"}}', Outer(inner=Inner(word="w"))),
        (b'{"inner":{"count":7.0}}', Outer(inner=Inner(count=7))),
        (b'{"inner":{"count":true}}', Outer(inner=Inner())),
        (b'{"inner":[]}', Outer()),
        (b'{"list":[{"count":1},2,{"word":3}]}', Outer(list_=[Inner(1), Inner()])),
        (b'{"list":{}}', Outer()),
        (b'{"more":["a",1,"b"]}', Outer(more=["a", "b"])),
        (b'{"score":1}', Outer(score=1.0)),
        (b'{"else":NaN,"score":1,"name":"a"}', Outer(score=1.0, name="a")),
        (b'{"name":7,"score":1' + b"0" * 400 + b"}", Outer()),
        (b'{"name":7,"anything":{"a":[]}}', Outer(anything={"a": []})),
        (b'{"name":7,"table":{"a":1,"b":"2"}}', Outer(table={"a": 1})),
        (b'{"table":[]}', Outer()),
        (b'{"name":"\xff"}', Outer(name="\ufffd")),
        (b'{"name":"a\\ud83d"}', Outer(name="a\ud83d")),
        (b'{"name":"a","name":"b"}', Outer(name="b")),
    ],
)  # fmt: skip
def test_what_fits_is_read_and_the_rest_left_out(sent: bytes, read: Outer) -> None:
    assert OUTER.read(sent) == read


@pytest.mark.parametrize(
    "sent",
    [
        *(b"", b"{", b'{"name":"a', b"[]", b"1", b"null", b"\xff", b"{}x"),
        b"[" * 100_000,
        b'{"anything":' + b"[" * 100_000,
        b'{"anything":' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_whole_object_is_none(sent: bytes) -> None:
    assert OUTER.read(sent) is None
    assert OUTER.read(sent.decode(errors="replace")) is None


@given(st.dictionaries(st.sampled_from(Outer.__struct_encode_fields__), JSON))
def test_any_json_object_is_read_and_typed(value: dict[str, Any]) -> None:
    read = OUTER.read(json.dumps(value))
    assert read is not None
    # As typed as if typed decoding had taken it, NaN and halves of pairs aside.
    builtins = msgspec.to_builtins(read)
    msgspec.convert(builtins, Outer)


@given(JSON)
def test_both_ways_of_reading_agree_wherever_both_can(value: Any) -> None:
    text = json.dumps(value)
    try:
        typed = msgspec.json.decode(text, type=Outer)
    except (ValueError, RecursionError):
        return
    assert OUTER._fitted(text) == typed


def test_halves_of_a_character_in_two_parts_make_it_whole() -> None:
    assert text_of(["a\ud83d", "\ude00b"], 9) == "a\U0001f600b"
    assert text_of(["a\ud83d", "b"], 9) == "a\ufffdb"
    assert text_of(["\ude00"], 9) == "\ufffd"
    assert text_of(["abc", "def"], 4) == "abcd"


@pytest.mark.parametrize("value", ["", "x" * 257, 7, None, ["a"], b"a"])
def test_a_name_is_a_short_text(value: object) -> None:
    assert short_text(value) is None


def test_a_name_can_be_written_as_utf8() -> None:
    assert short_text("gpt-\ud800") == "gpt-\ufffd"


@pytest.mark.parametrize("value", [-1, 1 << 53, True, 1.0, "1", None])
def test_a_count_is_a_small_number(value: object) -> None:
    assert count_of(value) is None
    assert count_of((1 << 53) - 1) == (1 << 53) - 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": "rate_limit_exceeded", "type": "requests"}, "rate_limit_exceeded"),
        ({"code": None, "type": "invalid_request_error"}, "invalid_request_error"),
        ({"code": 400, "type": "BadRequestError"}, "BadRequestError"),
        ({"code": "400", "type": "BadRequestError"}, "BadRequestError"),
        ({"code": 500}, "500"),
        ({"code": "429", "type": None}, "429"),
        ({"status": "INVALID_ARGUMENT", "code": 400}, "INVALID_ARGUMENT"),
        ({"code": "Prompt of Ms Smith is too long"}, None),
        ({"code": "x" * 65}, None),
        ({"code": ["a"], "message": "secret"}, None),
        ("secret", None),
        (None, None),
        ([], None),
    ],
)
def test_of_an_error_only_its_code_is_taken(error: object, code: str | None) -> None:
    assert code_of(error) == code
