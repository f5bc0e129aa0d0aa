"""Files that are whole or not there, whatever happens while they are written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from auditlog.storage.files import storage_errors, sync_directory, sync_file

__all__ = ["whole_file", "write_whole"]

_PRIVATE, _USUAL = 0o600, 0o666


@contextmanager
def whole_file(
    path: Path, *, private: bool = True, replace: bool = True
) -> Iterator[BinaryIO]:
    """Yield a file that takes its name, or that of an older one, when it is durable.

    Until then it has no name, where the system can do that: what is killed in between
    leaves nothing that was to be handed out, or nobody was to see.

    Args:
        path: its name.
        private: whether it is for its owner alone.
        replace: whether it may take the place of an older one.

    Raises:
        StorageError: it cannot be written; what was at `path` is still there.
    """
    unfinished = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    with storage_errors(f"write {path}"):
        try:
            with _new(unfinished, _PRIVATE if private else _USUAL) as file:
                yield file
                file.flush()
                sync_file(file.fileno())
                _give_name(file.fileno(), unfinished, path, replace=replace)
        finally:
            unfinished.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_whole(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file, as `whole_file`.

    Raises:
        StorageError: it cannot be written.
    """
    with whole_file(path, private=private) as file:
        file.write(data)


def _new(name: Path, mode: int) -> BinaryIO:
    """Return a new file; without a name where it can be given one later."""
    try:
        fd = os.open(name.parent, os.O_WRONLY | os.O_TMPFILE, mode)
        if Path(_link_of(fd)).exists():
            return os.fdopen(fd, "wb")
        os.close(fd)
    except (AttributeError, OSError):
        pass  # another system, or a file system that has no such files
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.fdopen(os.open(name, flags, mode), "wb")


def _give_name(fd: int, unfinished: Path, path: Path, *, replace: bool) -> None:
    if unfinished.exists():
        if not replace:
            # Unlike a rename, a link never takes the place of anything.
            os.link(unfinished, path)
            return
    else:
        try:
            _name(fd, path)
        except FileExistsError:
            if not replace:
                raise
            _name(fd, unfinished)
        else:
            return
    unfinished.replace(path)


def _name(fd: int, name: Path) -> None:
    # With a directory, or Python takes link(2), which does not follow.
    directory = os.open(name.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.link(_link_of(fd), name, src_dir_fd=directory, follow_symlinks=True)
    finally:
        os.close(directory)


def _link_of(fd: int) -> str:
    return f"/proc/self/fd/{fd}"
