"""Logs behind the reading interface: one for all tests of a module, or one's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.web.served import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A log that tests only read. Decisions 2 and 5 are of /batch, others of /score."""
    with serving(tmp_path_factory.mktemp("served") / "audit") as it:
        yield it


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Served]:
    """A log that a test may change."""
    with serving(tmp_path / "audit") as it:
        yield it
