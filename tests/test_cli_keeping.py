"""`auditlog key rotate`, `backup`, `backups`, `restore`, as an operator runs them."""

import shutil
from pathlib import Path

import pytest

from auditlog.cli import main
from auditlog.log.directory import open_log
from tests.command import Done
from tests.filled import fill_log


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("log") / "audit"
    fill_log(directory)
    return directory


@pytest.fixture
def log(filled_once: Path, tmp_path: Path) -> Path:
    """A copy of a log that takes the place of the original."""
    shutil.copytree(filled_once, tmp_path / "audit")
    (tmp_path / "audit" / "place").unlink()
    return tmp_path / "audit"


class Run:
    """Runs commands in this process, which is faster than in one of their own."""

    def __init__(self, log: Path, captured: pytest.CaptureFixture[str]) -> None:
        self._log, self._captured = log, captured

    def __call__(self, *arguments: object) -> Done:
        try:
            status = main([*map(str, arguments), "--dir", str(self._log)])
        except SystemExit as error:
            status = int(error.code or 0)
        return Done(status, *self._captured.readouterr())


@pytest.fixture
def run(log: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(log, capsys)


def test_a_keyring_is_lost_and_comes_back(run: Run, log: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    made = run("key", "backup", file, "--keep", "7d")
    assert (made.status, len(made.out)) == (0, 33)
    assert "1 keys, to be destroyed by" in made.err
    id_ = made.out.strip()
    listed = run("key", "backups").out.split("\t")
    assert (listed[0], listed[-1]) == (id_, "kept\n")

    (log / "keys" / "keyring").unlink()
    done = run("key", "restore", file, "--json")
    assert (done.status, done.document()) == (
        0,
        {"ok": True, "id": id_, "restored": 1, "kept": 0, "erased": 0, "missing": 0},
    )
    gone = run("key", "backups", "--forget", id_, "--json")
    assert [one["kept"] for one in gone.document()["backups"]] == [False]
    again = run("key", "backups", "--forget", id_)
    assert (again.status, again.out) == (1, "")
    assert "expected a backup that is still kept" in again.err
    assert run("check").status == 0


def test_a_rotation_says_what_it_takes_with_it(
    run: Run, log: Path, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    run("key", "backup", file)
    done = run("key", "rotate")
    assert (done.status, done.out) == (0, "generation 2\n")
    assert "make a new one with `auditlog key backup`" in done.err
    old = run("key", "restore", file)
    assert (old.status, old.out) == (2, "")
    assert "made under another key-encryption key: before a rotation" in old.err
    again = run("key", "rotate", "--json").document()
    assert again == {"ok": True, "generation": 3, "begun_before": False}
    assert run("check").status == 0


def test_keys_that_no_backup_has_are_a_failure(
    run: Run, log: Path, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    run("key", "backup", file)
    _make_a_key(log)
    (log / "keys" / "keyring").unlink()
    done = run("key", "restore", file)
    assert done.status == 1
    assert done.out.splitlines()[-1].split() == ["missing", "1"]
    assert "what was sealed under the keys that are missing cannot be read" in done.err


def _make_a_key(log: Path) -> None:
    with open_log(log) as opened:
        opened.keys.epoch_key("since then")


REFUSED = {
    ("backup", "FILE", "--keep", "30"): "expected a number of days, as in 30d",
    ("backup", "FILE", "--keep", "0d"): "a whole number from 1 to 36500",
    ("backup",): "the following arguments are required: FILE",
    ("backups", "--forget", "x"): "--forget: expected the id of a backup, 32 hex",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_is_typed_wrong_is_a_mistake_of_usage(
    run: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    typed = [tmp_path / "f" if one == "FILE" else one for one in arguments]
    done = run("key", *typed)
    assert (done.status, done.out) == (2, "")
    assert REFUSED[arguments] in done.err
    assert not (tmp_path / "f").exists()


def test_an_unknown_backup_and_a_file_that_is_none(
    run: Run, log: Path, tmp_path: Path
) -> None:
    done = run("key", "backups", "--forget", "0" * 32)
    assert (done.status, done.err[:29]) == (11, "auditlog: error: no backup 00")
    (tmp_path / "f").write_bytes(b"something")
    done = run("key", "restore", tmp_path / "f")
    assert done.status == 16
    assert "expected a backup of a keyring, version 1" in done.err
