"""What stands at an item's own place in the body of a batch, and nothing besides."""

import json

import pytest

from auditlog.core.commitment import members
from auditlog.log.batch_part import Place, own_paths, place_in_batch

NOWHERE = Place(None, -1, 0)


def context(batch: object) -> dict[str, bytes]:
    return {"annotations": json.dumps({"auditlog.batch": batch}).encode()}


@pytest.mark.parametrize(
    ("batch", "place"),
    [
        ({"size": 3}, Place(None, 0, 3)),
        ({"size": 3, "index": 2, "decision": "x"}, Place("x", 2, 3)),
        ({"size": 1}, None),
        (None, None),
        # What cannot be read opens nothing, rather than everything.
        ({"size": True}, NOWHERE),
        ({"size": "3"}, NOWHERE),
        ({"size": 3, "index": "2"}, NOWHERE),
        ({"size": 3, "index": 3}, NOWHERE),
        ({"size": 3, "index": -1}, NOWHERE),
        ({"size": 0}, NOWHERE),
        ([], NOWHERE),
        ({}, NOWHERE),
    ],
)
def test_the_annotation_says_where_an_item_stands(
    batch: object, place: Place | None
) -> None:
    assert place_in_batch(context(batch)) == place


def test_without_one_a_body_is_nobody_elses() -> None:
    assert place_in_batch({"annotations": b'{"x":1}'}) is None
    assert place_in_batch({}) is None


@pytest.mark.parametrize("annotations", [b"[]", b"no JSON", b""])
def test_what_is_no_annotations_opens_nothing(annotations: bytes) -> None:
    assert place_in_batch({"annotations": annotations}) == NOWHERE


def own(body: object, number: int, size: int, depth: int = 1) -> list[str]:
    found = members("request", json.dumps(body).encode(), depth)
    assert found is not None
    paths = ["request", "response", *(path for path, _ in found), "context/subject"]
    return own_paths(Place(None, number, size), paths)


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({"instances": [1, 2, 3]}, ["request/instances/1"]),
        ({"inputs": [[1], [2], [3]], "id": "x"}, ["request/inputs/1"]),
        ([1, 2, 3], ["request/1"]),
        (
            {"dataframe_split": {"columns": ["a", "b", "c"], "data": [[1], [2], [3]]}},
            ["request/dataframe_split/data/1"],
        ),
    ],
)
def test_an_item_has_the_place_of_its_number(body: object, paths: list[str]) -> None:
    assert own(body, 1, 3) == paths


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [1, 2]},
        {"instances": [1, 2, 3, 4]},
        {"rows": [1, 2, 3]},
        {"a": 1, "b": 2, "c": 3},
        {"instances": []},
    ],
)
def test_where_there_are_not_as_many_as_items_none_is_its_own(body: object) -> None:
    assert own(body, 1, 3, depth=2) == []


def test_no_item_has_a_number_beyond_the_size() -> None:
    assert own([1, 2, 3], 3, 3) == []
    assert own([1, 2, 3], -1, 3) == []
    assert own([], -1, 0) == []
