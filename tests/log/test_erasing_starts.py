"""Whoever starts completes erasures, and forgets again what was restored."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from shutil import copy

import pytest
from fastapi.testclient import TestClient

from auditlog.core.errors import ConfigurationError, NotFoundError
from auditlog.core.record import DECISION, format_id
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.erasing import (
    Plan,
    catch_up,
    erase,
    is_due,
    plan_erasure,
)
from auditlog.log.erasure_entry import ErasureEntry
from auditlog.log.finishing import finish, settled, waiting_for
from auditlog.log.reader import Reader
from auditlog.log.runtime import Runtime
from auditlog.log.tokens import create_token
from auditlog.storage import Query
from auditlog.web.api import create_app
from tests.command import started
from tests.filled import ORIGIN, fill_log
from tests.log.builders import config_of, now_us
from tests.log.erasures import ADA, BOB, add_decision, give_to

HOUR = 3_600_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A log with three decisions about Ada."""
    path = tmp_path / "audit"
    fill_log(path)
    with open_log(path) as log:
        rows = log.store.find(Query(type=DECISION, limit=3))
        give_to(log, ADA, *(row.index or 0 for row in rows))
    return path


def _begin(log: LogDirectory) -> Plan:
    """Die after the first step."""
    plan = plan_erasure(log, "person", ADA, now_us())
    subject = ("person", ADA)
    entry = ErasureEntry(plan.key_id, log.keys, log.origin, now_us(), subject=subject)
    log.store.begin_erasure(plan.key_id, now_us(), entry.item_of)
    return plan


def _runtime(directory: Path) -> None:
    Runtime(config_of(directory, origin=ORIGIN)).stop()


def _serve(directory: Path) -> None:
    with started("serve", "--dir", directory):
        pass


def _request(directory: Path) -> None:
    with TestClient(create_app(directory)) as client:
        client.get("/checkpoint").raise_for_status()


@pytest.mark.parametrize("start", [_runtime, _serve, _request])
def test_every_start_completes_what_was_begun(
    directory: Path, start: Callable[[Path], None]
) -> None:
    with open_log(directory) as log:
        plan = _begin(log)
    start(directory)
    with open_log(directory, read_only=True) as log:
        assert not is_due(log)
        assert log.store.sealed_under(plan.key_id) == []
        [row] = log.store.erasures()
        assert row.state in ("shredded", "final")
        assert check_log(log).problems == ()


@pytest.mark.parametrize("start", [_runtime, _request])
def test_every_start_forgets_what_backups_remember(
    directory: Path, tmp_path: Path, start: Callable[[Path], None]
) -> None:
    keys, database = directory / "keys" / "keyring", directory / "log.sqlite3"
    with open_log(directory) as log:
        assert log.store._database.truncate()
        copy(keys, tmp_path)
        copy(database, tmp_path)
        plan = plan_erasure(log, "person", ADA, now_us())
        erase(log, plan, now=now_us())
    for end in ("-wal", "-shm"):
        database.with_name(f"log.sqlite3{end}").unlink(missing_ok=True)
    for one in (keys, database):
        copy(tmp_path / one.name, one)
    _check_refused(directory, plan)
    start(directory)
    with open_log(directory, read_only=True) as log:
        assert not is_due(log)
        assert log.store.sealed_under(plan.key_id) == []
        assert log.store.slot_of(plan.key_id) is None
        assert check_log(log).problems == ()


def _check_refused(directory: Path, plan: Plan) -> None:
    """Who only reads finds it there again, and does not open it."""
    with open_log(directory, read_only=True) as log:
        assert is_due(log)
        index = log.store.sealed_under(plan.key_id)[0]
        [row] = log.store.index_rows(index, index + 1)
        with pytest.raises(NotFoundError, match="was erased"):
            Reader(log).content(format_id(row.id))


def test_a_copy_is_not_written_to(directory: Path, tmp_path: Path) -> None:
    with open_log(directory) as log:
        _begin(log)
    _runtime_place(directory)
    other = tmp_path / "other"
    other.mkdir()
    for one in directory.rglob("*"):
        if one.is_file():
            target = other / one.relative_to(directory)
            target.parent.mkdir(exist_ok=True)
            copy(one, target)
    with open_log(other) as log, pytest.raises(ConfigurationError, match="is a copy"):
        catch_up(log, now_us())
    create = create_app(other)
    with TestClient(create) as client:
        assert client.get("/checkpoint").status_code == 503


def _runtime_place(directory: Path) -> None:
    (directory / "place").write_bytes(f"{directory.resolve()}\n".encode())


def test_a_service_that_runs_completes_what_another_process_began(
    directory: Path,
) -> None:
    runtime = Runtime(config_of(directory, origin=ORIGIN))
    try:
        with open_log(directory) as log:
            _begin(log)
            runtime._leader._erase_at = 0.0
            deadline = time.monotonic() + 30
            while [row.state for row in log.store.erasures()] != ["final"]:
                assert time.monotonic() < deadline
                time.sleep(0.02)
    finally:
        runtime.stop()
    with open_log(directory, read_only=True) as log:
        assert check_log(log).problems == ()


def test_a_backup_that_is_kept_holds_up_the_end(directory: Path) -> None:
    now = now_us()
    with open_log(directory) as log:
        _backup(log, b"before", made=now - HOUR, expires=now + 5 * HOUR)
        _backup(log, b"older", made=now - 2 * HOUR, expires=now + HOUR)
        plan = plan_erasure(log, "person", ADA, now)
        assert plan.backup_expiry == now + 5 * HOUR
        erase(log, plan, now=now)
        _backup(log, b"after", made=now + HOUR, expires=now + 99 * HOUR)
        assert finish(log, now, wait=5) == 0
        assert finish(log, now + 5 * HOUR - 1) == 0
        [row] = log.store.erasures()
        assert (row.state, row.pending) == ("shredded", None)
        said = waiting_for(log, row, now)
        assert said == "the last backup of the keyring to expire"
        assert finish(log, now + 5 * HOUR) == 1
        assert waiting_for(log, log.store.erasures()[0], now) is None


def test_that_another_erasure_is_final_is_not_said_of_this_one(directory: Path) -> None:
    now = now_us()
    with open_log(directory) as log:
        add_decision(log, BOB)
        erase(log, plan_erasure(log, "person", ADA, now), now=now)
        _backup(log, b"later", made=now + 1, expires=now + HOUR)
        made = erase(log, plan_erasure(log, "person", BOB, now + 2), now=now + 2)
        assert settled(log, made, now + 2, wait=5).state == "shredded"
        assert [row.state for row in log.store.erasures()] == ["final", "shredded"]
        assert settled(log, made, now + HOUR).state == "final"


def test_an_erasure_holds_where_its_end_cannot_be_reached(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Or what shows whom it was about would be lost with the error."""
    with open_log(directory) as log:
        made = erase(log, plan_erasure(log, "person", ADA, now_us()), now=now_us())
        log.store.close()
        assert settled(log, made, now_us()) == made
    assert "an erasure is not final yet" in caplog.text


def _backup(log: LogDirectory, id_: bytes, made: int, expires: int) -> None:
    with sqlite3.connect(log.paths.database) as db:
        db.execute("INSERT INTO keyring_backups VALUES (?, ?, ?)", (id_, made, expires))
    db.close()


def test_a_token_opens_nothing_that_was_erased(directory: Path) -> None:
    with open_log(directory) as log:
        index = log.store.sealed_under(log.keys.subject("person", ADA) or b"")[0]
        [row] = log.store.index_rows(index, index + 1)
        token = create_token(log.store, "content", now=0)
        headers = {"Authorization": f"Bearer {token}"}
        path = f"/api/v1/decisions/{format_id(row.id)}/content"
        with TestClient(create_app(directory), headers=headers) as client:
            assert client.get(path).status_code == 200
            erase(log, plan_erasure(log, "person", ADA, now_us()), now=now_us())
            assert client.get(path).status_code == 404
