"""What is handed out in a file is whole there, or nothing of it is."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from auditlog.core.errors import AuditLogError, StorageError
from auditlog.storage.whole_file import whole_file, write_whole
from tests.command import environment

KILLED = """
import os, sys
from pathlib import Path
from auditlog.storage.whole_file import whole_file
with whole_file(Path(sys.argv[1])) as file:
    file.write(b"personal")
    file.flush()
    os.kill(os.getpid(), 9)
"""


def test_what_is_killed_in_between_leaves_nothing(tmp_path: Path) -> None:
    """A file without a name goes with its process, however that ends."""
    command = [sys.executable, "-c", KILLED, str(tmp_path / "person.zip")]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(command, env=environment(PYTHONPATH=root), check=False)
    assert done.returncode == -9
    assert list(tmp_path.iterdir()) == []


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "person.zip"
    file.write_bytes(b"older")

    def fail() -> None:
        with whole_file(file) as unfinished:
            unfinished.write(b"personal")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {
        "person.zip": b"older"
    }


@pytest.mark.parametrize("older", [None, b"older"])
def test_it_is_private_whatever_was_there(tmp_path: Path, older: bytes | None) -> None:
    file = tmp_path / "person.zip"
    if older is not None:
        file.write_bytes(older)
        file.chmod(0o644)
    write_whole(file, b"personal", private=True)
    assert (file.read_bytes(), [*tmp_path.iterdir()]) == (b"personal", [file])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_where_files_need_a_name_it_is_as_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")
    with whole_file(tmp_path / "person.zip") as file:
        (unfinished,) = tmp_path.iterdir()
        assert stat.S_IMODE(unfinished.stat().st_mode) == 0o600
        file.write(b"personal")
    (only,) = tmp_path.iterdir()
    assert (only.name, only.read_bytes()) == ("person.zip", b"personal")


@pytest.mark.parametrize("named", [False, True])
def test_what_must_be_new_never_takes_the_place_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    if named:
        monkeypatch.delattr(os, "O_TMPFILE")
    file = tmp_path / "backup"

    def write() -> None:
        with whole_file(file, replace=False) as unfinished:
            unfinished.write(b"keys")

    write()
    file.write_bytes(b"older")
    with pytest.raises(StorageError, match=f"cannot write {file}: File exists"):
        write()
    assert [(one, one.read_bytes()) for one in tmp_path.iterdir()] == [(file, b"older")]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    file = tmp_path / "receipt"
    file.symlink_to(tmp_path / "theirs")
    write_whole(file, b"personal")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert (file.is_symlink(), file.read_bytes()) == (False, b"personal")


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    file = tmp_path / "none" / "x"
    with pytest.raises(AuditLogError, match=f"cannot write {file}: No such file"):
        write_whole(file, b"")
