"""Where strings stand, and which of them may go on in each other."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.redaction.spots import WAYS, Reader, Spot
from auditlog.core.errors import MalformedError

LIMIT = 1000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text() | st.sampled_from(["id", "index"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


def strings(*texts: str) -> list[list[Spot]]:
    reader = Reader()
    found = [reader.strings(text, LIMIT) for text in texts]
    return [spots for spots in found if spots is not None]


def together(one: object, other: object) -> set[int]:
    """The ways in which the first strings of two texts belong together."""
    (first, *_), (second, *_) = strings(json.dumps(one), json.dumps(other))
    return {way for way in range(WAYS) if first.keys[way] == second.keys[way]}


def values_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value
    is_container = isinstance(value, dict | list)
    return [one for each in inner for one in values_of(each)] if is_container else []


@given(values=st.lists(JSON, min_size=1, max_size=3), ascii_=st.booleans())
def test_all_strings_are_found_where_they_stand(
    values: list[Any], ascii_: bool
) -> None:
    texts = [json.dumps(value, ensure_ascii=ascii_) for value in values]
    found = strings(*texts)
    assert len(found) == len(values)
    for value, text, spots in zip(values, texts, found, strict=True):
        assert [spot.value for spot in spots] == values_of(value)
        assert all(json.loads(text[one.start : one.end]) == one.value for one in spots)


@pytest.mark.parametrize("piece", ['\\"', '\\"a\\":', '"\\'])
@pytest.mark.parametrize("start", ["", '["'])
def test_no_text_takes_more_than_time_in_its_length(start: str, piece: str) -> None:
    # Were anything quadratic here, this would take a minute.
    text = start + piece * (100_000 // len(piece))
    assert not Reader().strings(text, LIMIT)


@given(text=st.text('{}[]",:\\u01ae ', max_size=20))
def test_any_text_has_strings_or_is_no_json(text: str) -> None:
    found = strings(text, text)
    assert found in ([], [found[0], found[0]] if found else [])


@pytest.mark.parametrize(
    ("one", "other", "ways"),
    [
        ({"a": "x"}, {"a": "y"}, {0, 1, 2, 3}),
        ({"a": "x"}, {"b": "y"}, set()),
        ({"a": {"t": "x"}}, {"b": {"t": "y"}}, {3}),
        ({"t": "x", "index": 0}, {"t": "y", "index": 1}, {0}),
        ({"t": "x", "output_index": 1}, {"t": "y", "output_index": 1}, {0, 1, 2, 3}),
        ({"t": "x", "item_id": "a"}, {"t": "y", "item_id": "b"}, {0, 1, 3}),
        ([{"t": "x", "index": 1}], [{}, {"t": "y", "index": 1}], {0, 1, 2, 3}),
        ([{"t": "x"}], [{}, {"t": "y"}], {0, 3}),
        ("x", "y", {0, 1, 2, 3}),
    ],
)
def test_strings_belong_together_in_some_ways(
    one: object, other: object, ways: set[int]
) -> None:
    assert together(one, other) == ways


@pytest.mark.parametrize(
    "text",
    ['{"a": "b"', '{"a": NaN}', "[" * 65 + '""' + "]" * 65, '["\\x"]', '{"a" "b"}', ""],
)
def test_what_is_no_json_has_none(text: str) -> None:
    assert Reader().strings(text, LIMIT) is None


def test_texts_of_one_shape_have_values_of_their_own() -> None:
    one, other = strings('{"id": "1", "a": "x"}', '{"id": "2", "a": "y"}')
    assert [spot.value for spot in one + other] == ["1", "x", "2", "y"]
    assert one[1].keys[2] != other[1].keys[2]
    assert one[1].keys[1] == other[1].keys[1]


def test_more_than_anybody_means_is_refused() -> None:
    with pytest.raises(MalformedError, match="expected at most 262144 names and val"):
        Reader().strings("[" + "1," * (1 << 18) + "1]", LIMIT)
