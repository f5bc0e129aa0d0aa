"""Input and output beyond HTTP as bytes: what JSON can say, and what is refused."""

import enum
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.commitment import members
from auditlog.core.errors import ConfigurationError
from auditlog.log.values import ABSENT, written


class Answer(enum.IntEnum):
    YES = 1


KEYS = st.text(max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | KEYS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)


@given(VALUES.filter(lambda value: not isinstance(value, str)))
def test_json_reads_back_as_it_was(value: Any) -> None:
    body = written("the input", value)
    assert body.media_type == "application/json"
    assert json.loads(body.data) == value


@given(st.dictionaries(KEYS, SCALARS, min_size=1, max_size=5))
def test_its_members_open_one_by_one(value: Mapping[str, Any]) -> None:
    found = members("request", written("the input", value).data, 1)
    assert found is not None
    assert [json.loads(one) for _, one in found] == list(value.values())


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (np.float64(0.25), b"0.25"),
        (np.float32(0.5), b"0.5"),
        (np.int8(3), b"3"),
        (np.bool_(1), b"true"),
        ({"probability": np.float32(0.5)}, b'{"probability":0.5}'),
        (np.array([[1, 2], [3, 4]]), b"[[1,2],[3,4]]"),
        ([np.array([0.5]), (1, 2)], b"[[0.5],[1,2]]"),
        (np.array(["a", "b"]), b'["a","b"]'),
        ({np.str_("k"): None}, b'{"k":null}'),
        (None, b"null"),
        ({"naïve": "é"}, '{"naïve":"é"}'.encode()),
        (Answer.YES, b"1"),
    ],
)
def test_what_models_give_is_json(value: Any, data: bytes) -> None:
    assert written("the output", value).data == data


def test_bytes_and_text_are_as_they_are() -> None:
    assert written("x", b"\xff") == (b"\xff", "application/octet-stream")
    assert written("x", bytearray(b"a")) == (b"a", "application/octet-stream")
    assert written("x", memoryview(b"a"), "image/png") == (b"a", "image/png")
    assert written("x", "né") == ("né".encode(), "text/plain; charset=utf-8")
    assert written("x", '{"a":1}', "application/json").media_type == "application/json"


def test_what_changes_later_changes_nothing() -> None:
    row = [1.0]
    body = written("the input", {"row": row})
    row[0] = 2.0
    assert body.data == b'{"row":[1.0]}'


class Secret:
    """Something of which no message may show a value."""

    def __repr__(self) -> str:
        return "p4ssw0rd"


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


def circle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


REFUSED: dict[str, tuple[Any, str]] = {
    "NaN": (float("nan"), "without NaN, infinity .*: say None for a value"),
    "infinity": ({"a": [float("-inf")]}, "expected the input without NaN"),
    "NaN in an array": (np.array([1.0, np.nan]), "expected the input without NaN"),
    "thousands of digits": ([10**5000], "integers of thousands of digits"),
    "keys": ({1: "p4ssw0rd"}, "expected text as each key in the input, got int"),
    "object": (Secret(), "expected the input as bytes, text or JSON, got Secret in it"),
    "object inside": ([{"a": Secret()}], "got Secret in it"),
    "set": ({"p4ssw0rd"}, "got set in it"),
    "decimal": (Decimal("0.1"), "got Decimal in it"),
    "dates": (np.array(["2026-01-01"], "M8[s]"), "got datetime in it"),
    "more than a double": (np.longdouble(1), "got longdouble in it"),
    "surrogate": ("\ud800", "expected the input without lone surrogates"),
    "surrogate inside": ({"a": "\ud800"}, "expected the input without lone surrogates"),
    "too deep": (deep(65), "expected the input at most 64 containers deep"),
    "circle": (circle(), "expected the input at most 64 containers deep"),
    "nothing": (ABSENT, "got Absent in it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_json_cannot_say_is_refused(name: str) -> None:
    value, message = REFUSED[name]
    with pytest.raises(ConfigurationError, match=message) as caught:
        written("the input", value)
    assert "p4ssw0rd" not in str(caught.value)


def test_as_deep_as_json_may_be() -> None:
    assert written("the input", deep(64)).data == b"[" * 64 + b"0" + b"]" * 64


@pytest.mark.parametrize("media_type", ["", "x" * 257, "text/plain\n", "té/xt", 5])
def test_a_media_type_is_printable_ascii(media_type: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected the media type of the in"):
        written("the input", b"", media_type)
