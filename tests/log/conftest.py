"""A filled log, made once and copied for each test that changes it."""

import shutil
from pathlib import Path

import pytest

from auditlog.core.record import format_id
from auditlog.log.runtime import Runtime
from auditlog.models.identity import Model
from tests.log.builders import config_of, exchange

DECISIONS = 300


@pytest.fixture(scope="session")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return the directory of a log with several checkpoints, and its ids."""
    directory = tmp_path_factory.mktemp("filled") / "audit"
    ids = []
    for _ in range(2):
        runtime = Runtime(config_of(directory, checkpoint_decisions=100))
        for number in range(DECISIONS // 2):
            body = b'{"age": %d, "name": "Ada"}' % number
            one = exchange(0, request=body, model=Model("credit", "3"))
            one.sequence = runtime.open(one.id, one.time)
            ids.append(format_id(one.id))
            runtime.submit(one)
        runtime.stop()
    return directory, ids


@pytest.fixture
def filled(filled_once: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """Return a copy of the filled log that a test may change."""
    directory = tmp_path / "audit"
    shutil.copytree(filled_once[0], directory)
    return directory


@pytest.fixture
def ids(filled_once: tuple[Path, list[str]]) -> list[str]:
    """Return the ids of the decisions in the filled log, in order."""
    return filled_once[1]
