"""The documentation is held to the code: options, tests and files that it names."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from auditlog.config import Config

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "auditlog" / "docs"


def _table() -> str:
    """Return the table of options, from the fields of `Config` and their docstrings."""
    source = ast.parse((ROOT / "auditlog" / "config.py").read_text("utf-8"))
    config = next(node for node in source.body if isinstance(node, ast.ClassDef))
    texts = {}
    for before, node in zip(config.body, config.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(node, ast.Expr):
            assert isinstance(node.value, ast.Constant)
            texts[ast.unparse(before.target)] = " ".join(str(node.value.value).split())
    rows = ["| option | default | |", "|---|---|---|"]
    for field in fields(Config):
        default = "" if field.default in (None, (), "") else f"`{field.default}`"
        text = texts[field.name].replace("``", "`").replace("|", "\\|")
        rows.append(f"| `{field.name}` | {default} | {text} |")
    return "\n".join(rows)


def test_the_options_are_those_of_the_code() -> None:
    text = (DOCS / "operating.md").read_text("utf-8")
    found = re.search(r"<!-- options:.*?-->\n(.*?)\n<!-- /options -->", text, re.DOTALL)
    assert found
    assert found[1] == _table()


def _named_tests() -> list[str]:
    text = "".join(page.read_text("utf-8") for page in sorted(DOCS.glob("*.md")))
    return sorted(set(re.findall(r"`(tests/[a-z0-9_/]+\.py(?:::\w+)?)`", text)))


@pytest.mark.parametrize("name", _named_tests())
def test_every_test_that_a_page_names_exists(name: str) -> None:
    path, _, test = name.partition("::")
    source = (ROOT / path).read_text("utf-8")
    assert not test or f"def {test}(" in source


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    for name in re.findall(
        r"`((?:core|capture|log|web|storage|anchors|cli)/[a-z0-9_/]+\.py)`", text
    ):
        assert (ROOT / "auditlog" / name).exists(), name
    for name in re.findall(r"`(auditlog/[a-z_/]+(?:\.py)?)`", text):
        assert (ROOT / name).exists(), name
