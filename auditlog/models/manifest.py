"""The digest of a file or directory of a model: one hash over everything in it.

A file's digest is the SHA-256 of its bytes: what ``sha256sum`` prints. A directory's is
the SHA-256 of its *manifest*::

    auditlog/model-directory/v1
    sha256:<hex> <size> <path>
    …

one line for each file, each ended by LF. `path` is relative, in UTF-8, with ``/``
between names; lines are sorted by the bytes of the path. Names with control characters
or other than UTF-8 are refused, so every line has one reading. Empty directories,
modes, owners and times are not part of a model.

A link to a file inside the directory counts as that file, as do links to directories;
one that leads out is refused, except into the blob store of a Hugging Face cache, which
is what its snapshots are made of. Anything that is neither file nor directory is
refused. Every file is looked at again after all were read, so that a model which is
being replaced is noticed.

OpenSSF model signing hashes the digests of the files, in the order of their paths, but
without the paths. That does not tell two files from the same two under other names, so
it is no identity here; it is computed on the way, to be matched with a signature.
"""

import errno
import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from auditlog.core.errors import ConfigurationError, NotFoundError

__all__ = ["MAX_FILES", "Item", "Manifest", "read_manifest"]

MAX_FILES = 100_000
"""Files and directories in one directory of a model."""
_MAX_DEPTH = 64
_PIECE = 1 << 20
_HEADER = b"auditlog/model-directory/v1\n"

_NEITHER = "is neither a file nor a directory"
_CHANGED = "changed while it was read: let its writer finish first"

_Stamp = tuple[int, int, int, int, int]


class Item(NamedTuple):
    """One file of a model."""

    path: str
    """Relative to the directory; the file's name where the model is one file."""
    size: int
    digest: bytes
    """SHA-256, 32 bytes."""


class Manifest(NamedTuple):
    """All files of a model."""

    items: tuple[Item, ...]
    """Sorted by the bytes of their paths."""
    is_directory: bool

    def digest(self) -> str:
        """Return the digest of the model, ``sha256:<hex>``."""
        if not self.is_directory:
            return f"sha256:{self.items[0].digest.hex()}"
        hasher = sha256(_HEADER)
        for path, size, digest in self.items:
            hasher.update(f"sha256:{digest.hex()} {size} {path}\n".encode())
        return f"sha256:{hasher.hexdigest()}"

    def openssf_digest(self) -> str:
        """Return what OpenSSF model signing 1.x has as the digest of its subject.

        By files, with SHA-256. It ignores a signature beside the model and what belongs
        to Git; a model that has such files has another digest there.
        """
        ordered = sorted(self.items, key=lambda item: item.path.split("/"))
        joined = b"".join(item.digest for item in ordered)
        return f"sha256:{sha256(joined).hexdigest()}"


def read_manifest(root: Path, *, allowed: Path | None = None) -> Manifest:
    """Read all of a file or directory; nothing in it is run.

    Args:
        root: a file or directory, or a link to one.
        allowed: another directory that links may lead into.

    Raises:
        NotFoundError: there is nothing.
        ConfigurationError: it cannot be read, holds what a model does not, or changed
            while it was read.
    """
    try:
        base = _resolved(root)
        if base.is_dir():
            return _read_directory(base, allowed)
        if not base.is_file():
            raise _refused(root.name, _NEITHER)
        item, stamp = _read(root.name, base)
        _check_unchanged(root.name, base, stamp)
    except FileNotFoundError:
        if root.exists():
            raise _refused("one of them", _CHANGED) from None
        raise NotFoundError(f"no model at {root}") from None
    except OSError as error:
        raise ConfigurationError(
            f"expected a model that can be read at {root}, got {error.strerror}"
        ) from None
    return Manifest((item,), is_directory=False)


def _resolved(root: Path) -> Path:
    try:
        return root.resolve(strict=True)
    except RuntimeError:  # of Python before 3.13
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None


def _read_directory(base: Path, allowed: Path | None) -> Manifest:
    places = [base, *([allowed.resolve()] if allowed else [])]
    files = dict(_walk(base, places))
    manifest = _read_all(files)
    if dict(_walk(base, places)) != files:
        raise _refused("its directory", _CHANGED)
    return manifest


def _read_all(files: dict[str, Path]) -> Manifest:
    if not files:
        raise ConfigurationError("expected a model, got a directory without files")
    names = sorted(files, key=str.encode)
    read = [_read(name, files[name]) for name in names]
    for name, (_, stamp) in zip(names, read, strict=True):
        _check_unchanged(name, files[name], stamp)
    return Manifest(tuple(item for item, _ in read), is_directory=True)


def _walk(base: Path, places: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yield the path in the manifest, and on disk, of each file of a directory."""
    left: list[tuple[tuple[str, ...], Path]] = [((), base)]
    count = 0
    while left:
        names, directory = left.pop()
        if len(names) > _MAX_DEPTH:
            raise _refused("/".join(names), "is a directory too deep, or a circle")
        for found in directory.iterdir():
            count += 1
            if count > MAX_FILES:
                raise ConfigurationError(
                    f"expected at most {MAX_FILES} files in a model, got more"
                )
            inner = (*names, _name(found.name))
            path = _inside(inner, found, places)
            if path.is_dir():
                left.append((inner, path))
            elif path.is_file():
                yield "/".join(inner), path
            else:
                raise _refused("/".join(inner), _NEITHER)


def _name(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _refused(ascii(name), "has a name that is not UTF-8") from None
    if any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise _refused(ascii(name), "has control characters in its name")
    return name


def _inside(names: tuple[str, ...], path: Path, places: list[Path]) -> Path:
    """Return where a path leads to, which must be inside the model."""
    if not path.is_symlink():
        return path
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise _refused(
            "/".join(names), "is a link to nothing, or in a circle"
        ) from None
    if not any(target.is_relative_to(place) for place in places):
        raise _refused("/".join(names), "is a link that leads out of the model")
    return target


def _read(name: str, path: Path) -> tuple[Item, _Stamp]:
    hasher, size = sha256(), 0
    # Should it have become a pipe since, opening it must not wait for a writer.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb", buffering=0) as file:
        stamp = _stamp(name, os.fstat(fd))
        while piece := file.read(_PIECE):
            hasher.update(piece)
            size += len(piece)
    return Item(name, size, hasher.digest()), stamp


def _stamp(name: str, found: os.stat_result) -> _Stamp:
    if not stat.S_ISREG(found.st_mode):
        raise _refused(name, _NEITHER)
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return found.st_dev, found.st_ino, found.st_size, *times


def _check_unchanged(name: str, path: Path, stamp: _Stamp) -> None:
    if _stamp(name, path.stat()) != stamp:
        raise _refused(name, _CHANGED)


def _refused(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"expected the files of a model, but {name} {why}")
