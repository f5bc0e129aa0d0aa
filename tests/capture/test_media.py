"""What may be said of a message in clear."""

import pytest

from auditlog.capture.media import (
    MEDIA_TYPES,
    METHODS,
    media_type_name,
    method_name,
)
from auditlog.core.commitment import is_json


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ("  text/csv ;header=present", "text/csv"),
        (None, "none"),
    ],
)
def test_a_listed_type_stands_in_clear(header: str | None, name: str) -> None:
    assert media_type_name(header) == (name, None)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "application/vnd.acme+json",
        "application/json, text/plain",
        "text/é",
        "application/json\xa0",
        "other",
    ],
)
def test_any_other_type_is_hidden_and_its_literal_kept(header: str) -> None:
    assert media_type_name(header) == ("other", header.encode("latin-1"))


def test_the_list_is_in_its_canonical_spelling() -> None:
    for name in MEDIA_TYPES:
        assert name == name.lower().strip()
        assert name.count("/") == 1
        assert ";" not in name
    assert is_json("application/problem+json")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_listed_method_stands_in_clear(method: str) -> None:
    assert method_name(method) == method


@pytest.mark.parametrize("method", ["post", "PURGE", "", "POST ", "Ünknown"])
def test_any_other_method_is_hidden(method: str) -> None:
    assert method_name(method) == "other"
