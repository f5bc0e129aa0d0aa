"""A log's directory is created whole or not at all, and opened only if complete."""

import multiprocessing
import shutil
import stat
from pathlib import Path

import pytest

from auditlog.core.checkpoint import parse_policy
from auditlog.core.errors import ConfigurationError, MalformedError, NotFoundError
from auditlog.core.note import parse_vkey
from auditlog.log.directory import create_log, ensure_log, open_log
from tests.log.builders import ORIGIN, config_of


def test_a_new_log_has_keys_data_policy_and_is_ignored_by_git(tmp_path: Path) -> None:
    with create_log(config_of(tmp_path / "audit")) as log:
        assert log.origin == ORIGIN
        assert [parse_vkey(vkey).name for vkey in log.vkeys] == [ORIGIN, ORIGIN]
        assert log.policy().quorum == "none"
        assert [key.verifier.vkey for key in log.policy().logs] == list(log.vkeys)
    assert (tmp_path / "audit" / ".gitignore").read_text() == "*\n"
    assert not (tmp_path / "audit" / "initialising").exists()


def test_private_files_are_private(tmp_path: Path) -> None:
    create_log(config_of(tmp_path / "audit")).close()
    for name in ("keys/log.key", "keys/vault.key"):
        mode = (tmp_path / "audit" / name).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600, name


def test_a_log_without_a_name_gets_one_that_cannot_be_mistaken(tmp_path: Path) -> None:
    with create_log(config_of(tmp_path / "audit", origin=None)) as log:
        assert log.origin.startswith("auditlog.invalid/")


def test_init_refuses_a_directory_that_holds_a_log(tmp_path: Path) -> None:
    create_log(config_of(tmp_path / "audit")).close()
    with pytest.raises(
        ConfigurationError, match="already holds a log, or a part of one"
    ):
        create_log(config_of(tmp_path / "audit"))


def test_there_is_nothing_to_open_where_nothing_was_created(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="create one with `auditlog init`"):
        open_log(tmp_path / "audit")


@pytest.mark.parametrize("lost", ["keys/log.key", "keys/vault.key", "log.sqlite3"])
def test_a_key_without_data_or_data_without_a_key_refuses_to_start(
    tmp_path: Path, lost: str
) -> None:
    create_log(config_of(tmp_path / "audit")).close()
    (tmp_path / "audit" / lost).unlink()
    for attempt in (open_log, lambda path: ensure_log(config_of(path))):
        with pytest.raises(ConfigurationError, match=rf"{lost} missing; restore it"):
            attempt(tmp_path / "audit")


def test_an_init_that_died_half_way_is_begun_again(tmp_path: Path) -> None:
    create_log(config_of(tmp_path / "audit")).close()
    (tmp_path / "audit" / "initialising").touch()
    (tmp_path / "audit" / "keys" / "vault.key").unlink()
    log, created = ensure_log(config_of(tmp_path / "audit"))
    assert created
    assert log.store.size() == 0
    log.close()


def test_a_log_keeps_its_name(tmp_path: Path) -> None:
    create_log(config_of(tmp_path / "audit")).close()
    with pytest.raises(
        ConfigurationError, match="name another directory for a new log"
    ):
        ensure_log(config_of(tmp_path / "audit", origin="log.example/other"))


def test_a_key_of_another_log_is_refused(tmp_path: Path) -> None:
    create_log(config_of(tmp_path / "one")).close()
    create_log(config_of(tmp_path / "two", origin="log.example/two")).close()
    other = (tmp_path / "two" / "keys" / "log.key").read_bytes()
    (tmp_path / "one" / "keys" / "log.key").write_bytes(other)
    with pytest.raises(ConfigurationError, match=r"but the log is 'log.example/tests'"):
        open_log(tmp_path / "one")


@pytest.mark.parametrize("content", [b"", b"short", b"!" * 44, b"AAAA" * 20])
def test_a_damaged_vault_key_is_refused(tmp_path: Path, content: bytes) -> None:
    create_log(config_of(tmp_path / "audit")).close()
    (tmp_path / "audit" / "keys" / "vault.key").write_bytes(content)
    with pytest.raises(ConfigurationError, match="does not hold 32 bytes in base64"):
        open_log(tmp_path / "audit")


def test_a_damaged_log_key_is_refused_without_showing_it(tmp_path: Path) -> None:
    create_log(config_of(tmp_path / "audit")).close()
    path = tmp_path / "audit" / "keys" / "log.key"
    secret = path.read_text().splitlines()[0]
    path.write_text(secret[:-2] + "\n")
    with pytest.raises(MalformedError) as caught:
        open_log(tmp_path / "audit")
    assert secret[-30:-2] not in str(caught.value)


def test_secrets_do_not_show(tmp_path: Path) -> None:
    with create_log(config_of(tmp_path / "audit")) as log:
        secrets = (tmp_path / "audit" / "keys" / "log.key").read_text().split()
        assert not [
            one for one in secrets if one in repr(log) or one in repr(log.signers)
        ]


def test_the_policy_must_be_there_and_well_formed(tmp_path: Path) -> None:
    with create_log(config_of(tmp_path / "audit")) as log:
        log.paths.policy.write_text("quorum nobody\n")
        with pytest.raises(MalformedError, match="nobody"):
            log.policy()
        log.paths.policy.unlink()
        with pytest.raises(ConfigurationError, match="no policy file at"):
            log.policy()


def test_a_policy_of_an_init_that_died_goes_with_its_keys(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    create_log(config_of(directory)).close()
    policy = directory / "policy"
    left_over = policy.read_text()
    shutil.rmtree(directory)
    directory.mkdir()
    policy.write_text(left_over)
    with create_log(config_of(directory)) as log:
        assert [key.verifier.vkey for key in log.policy().logs] == list(log.vkeys)


def test_a_policy_that_was_there_first_stays(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    directory.mkdir()
    (directory / "policy").write_text("# whom we believe\nquorum none\n")
    create_log(config_of(directory)).close()
    assert (directory / "policy").read_text() == "# whom we believe\nquorum none\n"


def _start(directory: Path, results: "multiprocessing.Queue[str]") -> None:
    log, created = ensure_log(config_of(directory, origin=None))
    results.put(f"{log.origin} {created}")
    log.close()


def test_four_workers_that_start_at_once_make_one_log(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    workers = [
        context.Process(target=_start, args=(tmp_path / "audit", results))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=30).split() for _ in workers]
    for worker in workers:
        worker.join(30)
    assert len({origin for origin, _ in found}) == 1
    assert sorted(created for _, created in found) == [
        "False",
        "False",
        "False",
        "True",
    ]
    parse_policy((tmp_path / "audit" / "policy").read_text())
