"""Presidio as a redactor: what is ours of it, without Presidio."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from auditlog.capture.redaction.presidio import PresidioRedactor
from auditlog.core.errors import ConfigurationError


@dataclass
class Result:
    start: int
    end: int


class Digits:
    """An analyzer that finds numbers, and refuses texts that are too long for it."""

    def __init__(self, *more: tuple[int, int]) -> None:
        self.more = more
        self.asked: list[Any] = []

    def analyze(self, text: str, language: str, **options: Any) -> Sequence[Result]:
        assert len(text) <= 50_000
        self.asked.append((language, options))
        found = [Result(*one.span()) for one in re.finditer(r"\d+", text)]
        return [*found, *(Result(*one) for one in self.more)]

    def get_supported_entities(self, language: str | None = None) -> Sequence[str]:
        if language != "en":
            raise ValueError("No matching recognizers were found")
        return ["NUMBER", "NAME"]


def test_what_is_found_is_replaced_and_what_overlaps_is_one() -> None:
    redactor = PresidioRedactor(analyzer=Digits((0, 1), (3, 5), (4, 6)))
    assert redactor("x 12 34 y") == "[redacted] [redacted] y"


def test_it_is_asked_as_was_said() -> None:
    analyzer = Digits()
    PresidioRedactor(analyzer=analyzer, entities=("NAME",), threshold=0.5)("a 1")
    options = {"entities": ["NAME"], "score_threshold": 0.5}
    assert analyzer.asked == [("en", options)]


def test_a_long_text_is_looked_at_in_windows_and_nothing_falls_between() -> None:
    analyzer = Digits()
    text = ("x" * 24_991 + " 12345678 ") * 8
    assert PresidioRedactor(analyzer=analyzer)(text) == text.replace(
        "12345678", "[redacted]"
    )
    assert len(analyzer.asked) > 1


@pytest.mark.parametrize("text", ["", " \n"])
def test_of_nothing_it_is_not_asked(text: str) -> None:
    analyzer = Digits()
    assert PresidioRedactor(analyzer=analyzer)(text) == text
    assert analyzer.asked == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 2}, "threshold takes 0 to 1, got 2"),
        ({"entities": "NAME"}, "entities takes a sequence of names, got 'NAME'"),
        ({"entities": ["EMAIL"]}, "expected entities out of NAME, NUMBER; got EMAIL"),
        ({"entities": []}, "expected entities out of NAME, NUMBER; got none"),
        ({"language": "de"}, "the language 'de', got one that finds nothing in it"),
    ],
)
def test_what_it_cannot_do_is_refused_at_once(
    options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        PresidioRedactor(analyzer=Digits(), **options)


def test_who_has_not_installed_it_is_told_how() -> None:
    with pytest.raises(ConfigurationError, match=r"decision-auditlog\[presidio\]"):
        PresidioRedactor()


def test_presidio_has_no_analyzer_of_its_own_for_other_languages() -> None:
    with pytest.raises(ConfigurationError, match="expected an analyzer for the lang"):
        PresidioRedactor(language="de")
