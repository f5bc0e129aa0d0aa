"""Durable files, locks between processes, secrets, and where not to write."""

import errno
import fcntl
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from auditlog.core.errors import ConfigurationError, StorageError
from auditlog.storage import files
from auditlog.storage.files import (
    FileLock,
    read_secret,
    refuse_network_filesystem,
    storage_errors,
    sync_directory,
    write_durably,
)
from tests.storage.processes import forked, killed_after, start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


# --- writing --------------------------------------------------------------------------


def test_a_file_is_replaced_whole(path: Path) -> None:
    write_durably(path, b"old")
    write_durably(path, b"new" * 100_000, mode=0o644)
    assert path.read_bytes() == b"new" * 100_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_file_is_private_unless_said_otherwise(path: Path) -> None:
    write_durably(path, b"")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_bytes_and_name_are_synced_in_this_order(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, Path.replace

    def traced_sync(fd: int) -> None:
        calls.append("sync " + Path(f"/proc/self/fd/{fd}").readlink().name[:5])
        sync(fd)

    def traced_replace(self: Path, target: Path) -> Path:
        calls.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", traced_sync)
    monkeypatch.setattr(Path, "replace", traced_replace)
    write_durably(path, b"data")
    assert calls == ["sync .file", "rename", f"sync {path.parent.name[:5]}"]


def test_where_fsync_is_not_enough_the_drive_is_flushed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: calls.append(command))
    write_durably(path, b"data")
    assert calls == [51]


def test_a_write_that_fails_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_durably(path, b"old")

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*file: disk full"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_short_writes_are_continued(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data)[:3]))
    write_durably(path, b"0123456789")
    assert path.read_bytes() == b"0123456789"


def test_a_directory_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*gone/file: No such file"):
        write_durably(tmp_path / "gone" / "file", b"")
    with pytest.raises(StorageError, match="cannot sync the directory"):
        sync_directory(tmp_path / "gone")


def raise_inside(error: OSError) -> None:
    with storage_errors("try this"):
        raise error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk full"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("odd"), "odd"),
    ],
)
def test_errors_of_the_system_say_what_was_tried(error: OSError, said: str) -> None:
    with pytest.raises(StorageError, match=f"^cannot try this: {said}$"):
        raise_inside(error)


# --- locks ----------------------------------------------------------------------------


def test_a_lock_excludes_threads_and_says_how_long_it_waited(path: Path) -> None:
    with FileLock(path):
        for timeout in (0, 0.03):
            begin = time.monotonic()
            message = f"still locked by another process or thread after {timeout} s"
            with pytest.raises(StorageError, match=message):
                FileLock(path, timeout=timeout).__enter__()
            assert time.monotonic() - begin >= timeout
    with FileLock(path, timeout=0):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_lock_is_free_after_an_error(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), FileLock(path):
        raise ZeroDivisionError
    with FileLock(path, timeout=0):
        pass


def test_who_waits_gets_the_lock(path: Path) -> None:
    lock, order = FileLock(path), []

    def second() -> None:
        with lock:
            order.append("second")

    with lock:
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


HOLD = """
    import sys, time
    from pathlib import Path
    from auditlog.storage.files import FileLock
    with FileLock(Path(sys.argv[1])):
        print("locked", flush=True)
        time.sleep(60)
    """


def test_the_lock_of_a_killed_process_is_free(path: Path) -> None:
    process = start(HOLD, path)
    assert killed_after(process, 1) == ["locked"]
    with FileLock(path, timeout=5):
        pass


def test_a_child_neither_holds_nor_frees_the_lock_of_its_parent(path: Path) -> None:
    lock = FileLock(path)
    with lock:

        def work() -> None:
            lock.__exit__()
            with pytest.raises(StorageError, match="still locked"):
                FileLock(path, timeout=0).__enter__()

        forked(work)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:  # A child that lives on, like a worker of a dead master.
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
    held = lock._held
    assert held is None
    with FileLock(path, timeout=0):
        pass
    os.close(write)
    os.waitpid(pid, 0)


ORPHAN = """
    import os, sys, time
    from pathlib import Path
    from auditlog.storage.files import FileLock
    FileLock(Path(sys.argv[1])).__enter__()
    child = os.fork()
    if child:
        print("forked", child, flush=True)
    else:
        os.close(1)
    time.sleep(60)
    """


def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(path: Path) -> None:
    (line,) = killed_after(start(ORPHAN, path), 1)
    try:
        with FileLock(path, timeout=5):
            pass
    finally:
        os.kill(int(line.split()[1]), 9)


def test_a_lock_file_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot lock .*: No such file"):
        FileLock(tmp_path / "gone" / "lock").__enter__()
    with pytest.raises(StorageError, match=r"cannot lock .*: Is a directory"):
        FileLock(tmp_path).__enter__()


# --- secrets --------------------------------------------------------------------------


def test_a_private_key_file_is_read(path: Path) -> None:
    write_durably(path, b"secret\n")
    assert read_secret(path) == b"secret\n"
    path.chmod(0o400)
    assert read_secret(path) == b"secret\n"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_key_file_that_others_reach_is_refused(path: Path, mode: int) -> None:
    write_durably(path, b"secret", mode=mode)
    message = rf"permissions {mode:04o}, .*: chmod 600 .*file$"
    with pytest.raises(ConfigurationError, match=message):
        read_secret(path)


def test_a_key_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no key file at"):
        read_secret(tmp_path / "gone")
    with pytest.raises(ConfigurationError, match="not a plain file"):
        read_secret(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigurationError, match="not a plain file"):
        read_secret(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="cannot read the key file"):
        read_secret(tmp_path / "pipe" / "below")


def test_a_key_file_of_absurd_length_is_refused(path: Path) -> None:
    write_durably(path, bytes(65_536))
    assert len(read_secret(path)) == 65_536
    write_durably(path, bytes(65_537))
    with pytest.raises(ConfigurationError, match="longer than 65536 bytes"):
        read_secret(path)


# --- file systems ---------------------------------------------------------------------

MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/local ext4 rw 0 0
//server/share /mnt/with\\040space cifs rw 0 0
user@server: /mnt/ssh fuse.sshfs rw 0 0
/dev/sdc1 /mnt/usb fuseblk rw 0 0
lxcfs /mnt/lxc fuse.lxcfs rw 0 0
drvfs /mnt/c 9p rw 0 0
server:/x /over nfs rw 0 0
tmpfs /over tmpfs rw 0 0
broken line
"""


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("/home", "nfs4"),
        ("/home/someone/audit/log.sqlite3", "nfs4"),
        ("/mnt/with space/audit", "cifs"),
        ("/mnt/ssh/audit", r"fuse\.sshfs"),
        ("/mnt/c/audit", "9p"),
    ],
)
def test_network_file_systems_are_refused(path: Path, where: str, kind: str) -> None:
    path.write_text(MOUNTS)
    message = rf"is on a network file system \({kind}\).*: put the log on a local disk"
    with pytest.raises(ConfigurationError, match=message):
        refuse_network_filesystem(Path(where), path)


@pytest.mark.parametrize(
    "where",
    [
        "/srv/audit",
        "/homestead",
        "/home/local/audit",
        "/mnt/usb/a",
        "/mnt/lxc",
        "/over/a",
    ],
)
def test_local_file_systems_are_allowed(path: Path, where: str) -> None:
    path.write_text(MOUNTS)
    refuse_network_filesystem(Path(where), path)


def test_a_link_is_judged_by_where_it_leads(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to("/home/someone")
    path.write_text(MOUNTS)
    with pytest.raises(ConfigurationError, match="nfs4"):
        refuse_network_filesystem(link / "audit", path)


def test_where_mounts_are_not_listed_nothing_is_refused(tmp_path: Path) -> None:
    refuse_network_filesystem(Path("/home"), tmp_path / "no-mounts")


def test_any_bytes_in_the_list_of_mounts_are_survived(path: Path) -> None:
    path.write_bytes(b"\xff \xff \xff\n\\777 /\\777\\0 \xfe x\n\n" + bytes(range(256)))
    refuse_network_filesystem(path, path)


def test_this_machine_is_judged_by_its_own_list(tmp_path: Path) -> None:
    assert str(files.MOUNTS) == "/proc/mounts"
    refuse_network_filesystem(tmp_path)
