"""What a check says of erasures: each of them told, and nothing else missing."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from auditlog.core.record import DECISION
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.erasing import (
    erase,
    plan_erasure,
    replay,
)
from auditlog.log.erasure_entry import ErasureEntry
from auditlog.log.finishing import finish
from auditlog.storage import ERASED, Query
from tests.filled import fill_log
from tests.log.builders import now_us
from tests.log.erasures import ADA, give_to


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of six decisions, two of which were about Ada and are erased."""
    directory = tmp_path_factory.mktemp("filled") / "audit"
    fill_log(directory)
    with open_log(directory) as log:
        give_to(log, ADA, *_decisions(log)[:2])
        erase(log, plan_erasure(log, "person", ADA, now_us()), now=now_us())
        assert log.store.sweep()
    return directory


@pytest.fixture
def log(filled: Path, tmp_path: Path) -> LogDirectory:
    return open_log(Path(copytree(filled, tmp_path / "audit")))


def _decisions(log: LogDirectory) -> list[int]:
    rows = log.store.find(Query(type=DECISION))
    return [row.index for row in rows if row.index is not None]


def _said(log: LogDirectory) -> list[str]:
    report = check_log(log)
    return [
        *(f"{where}: {what}" for where, what in report.problems),
        *(one for one in report.unchecked if "journal" not in one),
    ]


def _run(log: LogDirectory, *statements: str) -> None:
    with sqlite3.connect(log.paths.database) as db:
        for statement in statements:
            db.execute(statement)
    db.close()


def test_an_erasure_leaves_nothing_to_remark_on(log: LogDirectory) -> None:
    assert _said(log) == []
    assert finish(log, now_us(), wait=5) == 1
    assert _said(log) == []
    assert log.store.erasures()[0].state == "final"


def test_content_that_is_called_erased_is_counted(log: LogDirectory) -> None:
    index = _decisions(log)[-1]
    _run(
        log,
        f"UPDATE vault SET key_id = zeroblob(16), sealed = x'' WHERE idx = {index}",
    )
    assert _said(log) == [
        "erasures: account for 2 entries without content, 3 have none"
    ]


def test_content_that_came_back_is_missed(log: LogDirectory) -> None:
    [erased] = [i for i in _decisions(log)[:1] if log.store.sealed(i) == (ERASED, b"")]
    _run(log, f"DELETE FROM vault WHERE idx = {erased}")
    assert _said(log) == [
        f"vault row {erased}: the stored content is missing",
        "erasures: account for 2 entries without content, 1 have none",
    ]


def test_the_count_of_an_erasure_cannot_be_hidden(log: LogDirectory) -> None:
    index = log.store.find(Query(type="auditlog.erasure.v1"))[0].index
    _run(
        log,
        f"UPDATE vault SET key_id = zeroblob(16), sealed = x'' WHERE idx = {index}",
    )
    assert _said(log) == [
        f"vault row {index}: is marked as erased, which an erasure is not",
        "1 x erasure that does not open, of how many entries",
    ]


def _keyring(log: LogDirectory) -> None:
    slot = log.store.erasures()[0].slot
    data = bytearray(log.paths.keyring.read_bytes())
    data[64 * slot] = 1
    log.paths.keyring.write_bytes(data)


def _registered(log: LogDirectory) -> None:
    row = log.store.erasures()[0]
    key = row.key_id.hex()
    _run(log, f"INSERT INTO keys VALUES (x'{key}', {row.slot}, 'subject', 'x')")


def _forgotten(log: LogDirectory) -> None:
    _run(log, "DELETE FROM erasures")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_keyring, "its key is in the keyring again"),
        (_registered, "its key is registered again"),
        (_forgotten, "the store does not know where its key was"),
    ],
)
def test_a_key_that_was_erased_may_be_nowhere(
    log: LogDirectory, change: Callable[[LogDirectory], None], expected: str
) -> None:
    id_ = log.store.erasures()[0].id.hex()
    change(log)
    assert f"erasure {id_}: {expected}" in _said(log)


def test_an_erasure_under_way_is_no_problem(log: LogDirectory) -> None:
    give_to(log, ADA, *_decisions(log)[3:])
    key_id = plan_erasure(log, "person", ADA, now_us()).key_id
    entry = ErasureEntry(key_id, log.keys, log.origin, now_us())
    log.store.begin_erasure(key_id, now_us(), entry.item_of)
    assert _said(log) == ["3 x content that is just being erased"]
    assert replay(log, now_us()) == 1
    assert _said(log) == []
