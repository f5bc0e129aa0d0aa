"""How what an application says is checked, written and bounded."""

import enum
import math
import struct
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import ConfigurationError
from auditlog.core.record import parse_json
from auditlog.log.said import MAX_BYTES, Facts, json_value, number, texts, words


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, 0),
        (-3, -3),
        (2**53 - 1, 2**53 - 1),
        (2**53, "9007199254740992"),
        (-(10**20), "-100000000000000000000"),
        (0.87, "0.87"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e-7, "0.0000001"),
        (1e16, "10000000000000000"),
        (Decimal("0.10"), "0.10"),
        (Decimal("1E+3"), "1000"),
        (np.float64(0.31), "0.31"),
        (np.float32(0.5), "0.5"),
        (np.int64(7), 7),
        (np.array(0.25), "0.25"),
    ],
)
def test_decimals_and_large_integers_are_strings(value: Any, written: Any) -> None:
    assert number("a score", value) == written
    assert type(number("a score", value)) is type(written)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_written_so_that_it_reads_back(value: float) -> None:
    text = number("a score", value)
    assert isinstance(text, str)
    assert "e" not in text.lower()
    assert struct.pack(">d", float(text)) == struct.pack(">d", value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "expected a score as a finite number, got NaN"),
        (-math.inf, "finite number, got -Infinity"),
        (Decimal("NaN"), "finite number"),
        (np.float32("inf"), "finite number"),
        ("0.87", "expected a score as a number, got str"),
        (True, "expected a score as a number, got bool"),
        (None, "expected a score as a number, got None"),
        (1j, "as a number, got complex"),
        (Fraction(1, 3), "as a number, got Fraction"),
        (np.array([1.0, 2.0]), "as a number, got ndarray"),
        (Decimal("1E+9999"), "at most 4096 digits"),
        (1 << 5000, "at most 4096 bits"),
    ],
)
def test_what_is_no_finite_number_is_refused(value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        number("a score", value)


class Verdict(str, enum.Enum):  # noqa: UP042 - whose str() is another
    """As applications name their labels."""

    REFUSED = "refused"


class Grade(enum.IntEnum):
    """As others do."""

    C = 3


def test_enumerations_and_numpy_become_what_they_say() -> None:
    value = {
        "verdict": Verdict.REFUSED,
        "grade": Grade.C,
        "name": np.str_("x"),
        "flag": np.bool_(True),
        "rows": (1, [0.5, None]),
    }
    copy = json_value("it", value)
    assert copy == {
        "verdict": "refused",
        "grade": 3,
        "name": "x",
        "flag": True,
        "rows": [1, ["0.5", None]],
    }
    assert [type(copy[name]) for name in ("verdict", "grade", "name", "flag")] == [
        *(str, int, str, bool)
    ]


def test_what_is_changed_later_does_not_count() -> None:
    rows = [1]
    copy = json_value("it", {"rows": rows})
    rows.append(2)
    assert copy == {"rows": [1]}


def _nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def _cycle() -> Any:
    value: list[Any] = []
    value += [value, value]
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1: "x"}, "each key in it as text, got int"),
        ({"a": {1, 2}}, "expected it as JSON, got set in it"),
        ([b"x"], "got bytes in it"),
        (object(), "got object in it"),
        (_nested(17), "at most 16 containers deep"),
        (_cycle(), "at most 16 containers deep"),
        ([0] * (MAX_BYTES + 1), "and small"),
        ([math.nan], "finite number"),
    ],
    ids=["key", "set", "bytes", "object", "deep", "cycle", "wide", "nan"],
)
def test_what_is_no_json_of_ours_is_refused(value: Any, message: str) -> None:
    assert json_value("it", _nested(16)) == _nested(16)
    with pytest.raises(ConfigurationError, match=message):
        json_value("it", value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "of 1 to 5 characters, got 0"),
        ("123456", "of 1 to 5 characters, got 6"),
        (7, "as text, got int"),
        (None, "as text, got None"),
        (b"x", "as text, got bytes"),
    ],
)
def test_texts_have_a_length(value: Any, message: str) -> None:
    assert words("a name", "12345", 5) == "12345"
    with pytest.raises(ConfigurationError, match=f"expected a name {message}"):
        words("a name", value, 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("R12", "expected reasons as a list or tuple of texts, got str"),
        (["a", "b", "c"], "expected at most 2 reasons, got 3"),
        (["a", 1], "expected each of reasons as text, got int"),
    ],
)
def test_a_text_is_no_list_of_texts(values: Any, message: str) -> None:
    assert texts("reasons", ("a", "b"), 2, 5) == ["a", "b"]
    with pytest.raises(ConfigurationError, match=message):
        texts("reasons", values, 2, 5)


def test_leaves_are_canonical_json() -> None:
    facts = Facts().plus("b", {"z": 1, "a": ["é", {"k": None, "a": True}]})
    facts = facts.plus("a", {"x.y-z_": "text"}).plus("b", {"m": "\u2028"})
    leaves = facts.leaves()
    assert leaves == {
        "a": b'{"x.y-z_":"text"}',
        "b": '{"a":["é",{"a":true,"k":null}],"m":"\u2028","z":1}'.encode(),
    }
    assert parse_json(leaves["b"], limit=1000)["z"] == 1


def test_facts_never_change() -> None:
    first = Facts().plus("a", {"x": 1})
    second = first.plus("a", {"x": 2, "y": 3})
    assert first.leaves() == {"a": b'{"x":1}'}
    assert second.plus("a", {"x": None}).leaves() == {"a": b'{"y":3}'}
    assert second.plus("a", {"x": None, "y": None}).leaves() == {}
    assert (second.get("a", "y"), second.get("b", "y")) == (3, None)


def test_everything_together_is_bounded() -> None:
    half = "x" * (MAX_BYTES // 2)
    facts = Facts().plus("a", {"x": half})
    with pytest.raises(ConfigurationError, match="at most 65536 bytes said about a"):
        facts.plus("b", {"y": half})
    assert facts.plus("a", {"x": "y" * (MAX_BYTES - 3)}).leaves()["a"][-2:] == b'"}'


def test_half_a_character_is_refused_where_it_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"x cannot be recorded: .*surrogate"):
        Facts().plus("a", {"x": "\ud800"})
