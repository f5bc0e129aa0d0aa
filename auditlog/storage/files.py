"""Files that survive a power cut, locks between processes, and secrets on disk.

A file is durable once its bytes *and* its name are: ``fsync`` of the file, then of
the directory that holds the name. What remains is that a failed ``fsync`` may drop
dirty pages and report success the next time; every failure here is therefore an
error for the caller, never a retry.
"""

import contextlib
import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from auditlog.core.errors import ConfigurationError, StorageError

__all__ = [
    "MOUNTS",
    "FileLock",
    "check_private",
    "close_own",
    "open_own",
    "own",
    "read_secret",
    "refuse_network_filesystem",
    "storage_errors",
    "sync_directory",
    "sync_file",
    "try_lock",
    "write_all",
    "write_durably",
]

MOUNTS = Path("/proc/mounts")
"""Where Linux lists mounted file systems; on other systems nothing is checked."""

_NETWORK = """
    9p acfs afs beegfs ceph cifs coda davfs glusterfs gpfs lustre ncpfs nfs nfs4
    orangefs panfs pvfs2 quobyte smb2 smb3 smbfs
""".split()  # noqa: SIM905
_NETWORK_FUSE = """
    afp-fuse blobfuse blobfuse2 ceph ceph-fuse curlftpfs davfs davfs2 gcsfuse
    glusterfs goofys juicefs mfs moosefs mount-s3 mountpoint-s3 quobyte rclone
    s3fs seaweedfs smbnetfs sshfs
""".split()  # noqa: SIM905
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_MAX_SECRET = 1 << 16
_POLL_SECONDS = 0.01


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Turn OSError into StorageError: what was tried, and what stood against it."""
    try:
        yield
    except OSError as error:
        reason = "disk full" if error.errno in _NO_SPACE else error.strerror or error
        raise StorageError(f"cannot {what}: {reason}") from None


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, however many calls it takes.

    Raises:
        OSError: as the system call.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace the file at `path` by `data`, atomically and durably.

    After a crash the file holds the old bytes or the new ones, nothing between.

    Raises:
        StorageError: the file holds what it held before, or it is unknown whether
            the new bytes are durable.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    with storage_errors(f"write {path}"):
        try:
            _write_new(temporary, data, mode)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    sync_directory(path.parent)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        write_all(fd, data)
        os.fchmod(fd, mode)
        sync_file(fd)
    finally:
        os.close(fd)


def sync_file(fd: int) -> None:
    """Make what was written to an open file durable.

    Raises:
        OSError: it is unknown whether it is.
    """
    # macOS: fsync leaves the bytes in the drive's cache.
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(fd)
    else:
        fcntl.fcntl(fd, full)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        StorageError: it is unknown whether they are.
    """
    with storage_errors(f"sync the directory {path}"):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def read_secret(path: Path) -> bytes:
    """Return the bytes of a key file that nobody but its owner may touch.

    Raises:
        ConfigurationError: there is no such file, it is too long for a key file, or
            its permissions let the group or others at it.
    """
    try:
        # A pipe under this name must not make us wait.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            check_private(fd, path)
            return _read_limited(fd, path)
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise ConfigurationError(f"no key file at {path}") from None
    except OSError as error:
        reason = error.strerror
        raise ConfigurationError(f"cannot read the key file {path}: {reason}") from None


def check_private(fd: int, path: Path) -> None:
    """Refuse an open key file that is not a plain file of its owner alone.

    Raises:
        ConfigurationError: saying which permissions it has, and what to do.
    """
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        raise ConfigurationError(f"the key file {path} is not a plain file")
    if mode & 0o077:
        raise ConfigurationError(
            f"the key file {path} has permissions {stat.S_IMODE(mode):04o}, so others "
            f"than its owner can reach it: chmod 600 {path}"
        )


def _read_limited(fd: int, path: Path) -> bytes:
    data = b""
    while len(data) <= _MAX_SECRET and (chunk := os.read(fd, _MAX_SECRET + 1)):
        data += chunk
    if len(data) > _MAX_SECRET:
        raise ConfigurationError(
            f"the key file {path} is longer than {_MAX_SECRET} bytes"
        )
    return data


class FileLock:
    """A lock between processes, and between threads, on a file that is never removed.

    ``flock``, not ``fcntl`` locks: the latter are dropped when any descriptor of the
    file is closed, and two threads do not exclude each other. Who waits without a
    time limit is woken by the kernel; no polling. A child made by ``fork`` never
    holds a lock of its parent, not even when the parent dies.
    """

    def __init__(self, path: Path, timeout: float | None = None) -> None:
        """Name the file; it is created (0600) by the first who locks.

        Args:
            path: the lock file; its directory must exist.
            timeout: seconds to wait for the lock; None waits for ever.
        """
        self._path = path
        self._timeout = timeout
        self._held: tuple[int, int] | None = None
        """Process and descriptor of whoever holds the lock."""

    def __enter__(self) -> Self:
        """Wait for the lock.

        Raises:
            StorageError: it is still taken after the time limit, or the file cannot
                be created.
        """
        with storage_errors(f"lock {self._path}"):
            fd = open_own(self._path, os.O_RDWR | os.O_CREAT)
            try:
                self._lock(fd)
            except BaseException:
                close_own(fd)
                raise
        self._held = os.getpid(), fd
        return self

    def __exit__(self, *_: object) -> None:
        """Let the next one in.

        Raises:
            StorageError: it is unknown whether it can come in.
        """
        held, self._held = self._held, None
        if held is None or held[0] != os.getpid():
            return
        with storage_errors(f"unlock {self._path}"):
            try:
                # A program that is just being started may still have a copy of the
                # descriptor, which would keep the file locked after close.
                fcntl.flock(held[1], fcntl.LOCK_UN)
            finally:
                close_own(held[1])

    def _lock(self, fd: int) -> None:
        if self._timeout is None:
            fcntl.flock(fd, fcntl.LOCK_EX)
        else:
            self._poll(fd, self._timeout)

    def _poll(self, fd: int, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not try_lock(fd):
            if time.monotonic() >= deadline:
                raise StorageError(
                    f"{self._path} is still locked by another process or thread after "
                    f"{timeout} s"
                )
            time.sleep(_POLL_SECONDS)


def open_own(path: Path, flags: int) -> int:
    """Open a file (0600 if it is new) on a descriptor that no child will keep.

    Raises:
        OSError: as the system call.
    """
    return own(os.open(path, flags, 0o600))


def own(fd: int) -> int:
    """Let a descriptor be closed in every child; return it.

    A child made by ``fork`` would otherwise hold the locks of its parent beyond the
    parent's death.
    """
    _OWN.add(fd)
    return fd


def close_own(fd: int) -> None:
    """Close a descriptor of `own`."""
    _OWN.discard(fd)
    os.close(fd)


_OWN: set[int] = set()


def _close_inherited() -> None:
    while _OWN:
        with contextlib.suppress(OSError):
            os.close(_OWN.pop())


os.register_at_fork(after_in_child=_close_inherited)


def try_lock(fd: int) -> bool:
    """Take the ``flock`` of an open file if it is free; return whether it was.

    Raises:
        OSError: the file cannot be locked at all.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def refuse_network_filesystem(path: Path, mounts: Path = MOUNTS) -> None:
    """Refuse to write where locks and ``fsync`` do not mean what they say.

    Args:
        path: the file or directory to be written; it need not exist.
        mounts: list of mounted file systems, as in Linux's ``/proc/mounts``.

    Raises:
        ConfigurationError: `path` is on a network file system.
    """
    kind = _filesystem_of(path, mounts)
    family, _, name = kind.partition(".")
    if kind in _NETWORK or (family == "fuse" and name in _NETWORK_FUSE):
        raise ConfigurationError(
            f"{path} is on a network file system ({kind}), where locks between "
            "processes and fsync cannot be relied on: put the log on a local disk"
        )


def _filesystem_of(path: Path, mounts: Path) -> str:
    try:
        lines = mounts.read_bytes().splitlines()
    except OSError:
        return "unknown"
    real = os.path.realpath(os.fsencode(path))
    best, kind = b"", "unknown"
    for fields in map(bytes.split, lines):
        if len(fields) < 3:
            continue
        point = re.sub(rb"\\([0-7]{3})", _unescape, fields[1]).rstrip(b"/") + b"/"
        # Of two mounts on one point the later one is on top.
        if (real + b"/").startswith(point) and len(point) >= len(best):
            best, kind = point, fields[2].decode("ascii", "replace")
    return kind


def _unescape(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1], 8) & 0xFF,))
