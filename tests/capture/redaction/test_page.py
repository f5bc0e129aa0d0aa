"""The tables of `auditlog/docs/redaction.md` say what happens."""

import re
from pathlib import Path

import pytest

from auditlog.capture.redaction.documents import redact_document
from auditlog.capture.redaction.identifiers import FINDERS
from auditlog.capture.redaction.rules import parse_rules

PAGE = Path(__file__).parents[3] / "auditlog" / "docs" / "redaction.md"


def _examples() -> list[tuple[str, str, str, str]]:
    """Return kind of rule, rule, body, and what is stored of it."""
    found = []
    kind = ""
    for line in PAGE.read_text("utf-8").splitlines():
        cells = re.findall(r"(?<=\| )`([^`]+)`(?= \|)", line)
        if head := re.match(r"\| (keys|fields|patterns) \| body \| stored \|", line):
            kind = head[1]
        elif not line.startswith("|"):
            kind = ""
        elif kind and len(cells) == 3:
            found.append((kind, cells[0], cells[1], cells[2]))
    return found


def test_every_row_is_run() -> None:
    rows = re.findall(r"^\| `[^|]+\| `[{[].*$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(_examples()) == len(rows) > 10


@pytest.mark.parametrize(("kind", "rule", "body", "stored"), _examples())
def test_an_example_is_true(kind: str, rule: str, body: str, stored: str) -> None:
    rules = parse_rules(**{kind: [rule]})  # type: ignore[arg-type]
    found = redact_document(rules, "request", body.encode(), "application/json")
    assert found == stored.encode()


def test_every_built_in_pattern_is_described() -> None:
    page = PAGE.read_text("utf-8")
    assert all(f"\n| `{name}` | " in page for name in FINDERS)
