r"""The key-encryption key in generations, in a file of its own: ``keys/vault.key``.

::

    file       = 1*2( generation LF )                newest first
    generation = base64(32 bytes) [ SP number SP made ]

A line without number and time is generation 1, as `auditlog init` writes it. `number`
is 2 and more, `made` is in microseconds since the epoch; both are decimal. There are
two generations only while keys of the keyring are wrapped again: the older one goes as
soon as nothing is left under it.

The file changes by rename, so that whoever dies half-way leaves the old file or the new
one. A name that is taken away leaves the bytes of its file on the disk, so the old file
is first given a second name, ``vault.key.old``, under which it is then overwritten with
zeros. ``vault.key.new`` is a file that is not in use yet. What is left of both is
cleared by whoever rotates next, or starts. What a disk keeps beside what it shows (a
copy on write, a spare block) is beyond any program: see ``docs/operating.md``.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from auditlog.core.encoding import format_base64, parse_base64
from auditlog.core.errors import ConfigurationError, MalformedError
from auditlog.storage.files import (
    read_secret,
    storage_errors,
    sync_directory,
    sync_file,
    write_all,
)

__all__ = ["KEK_BYTES", "FixedKey", "Generation", "VaultKey", "check_kek"]

KEK_BYTES = 32
"""Bytes of a key-encryption key."""
_LINE = re.compile(r"([A-Za-z0-9+/=]+)(?: ([1-9][0-9]{0,8}) ([1-9][0-9]{0,15}))?")
_MAX_GENERATIONS = 2
_TRIES = 3


class Generation(NamedTuple):
    """One key-encryption key."""

    key: bytes
    """32 bytes."""
    number: int = 1
    made: int = 0
    """Microseconds since the epoch; 0 for the first."""

    def __repr__(self) -> str:
        """Number the generation, never show its key."""
        return f"Generation({self.number})"


class VaultKey:
    """The file of generations. Methods may be called from any thread.

    Only whoever holds the lock of the keyring may change it.
    """

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigurationError: it is missing, others than its owner can reach it, or
                it does not hold what it must.
        """
        self.path = path
        self._known = _read(path)

    def __repr__(self) -> str:
        """Name the file, never a key."""
        return f"{type(self).__name__}({str(self.path)!r})"

    def known(self) -> tuple[Generation, ...]:
        """Return the generations as last read, newest first."""
        return self._known

    def reload(self) -> tuple[Generation, ...]:
        """Read the file again; return the generations, newest first.

        Raises:
            ConfigurationError: as in `__init__`.
        """
        self._known = _read(self.path)
        return self._known

    def begin(self, key: bytes, made: int) -> Generation:
        """Put a new generation before the one there is, durably.

        Args:
            key: 32 random bytes.
            made: microseconds since the epoch.

        Raises:
            StorageError: it is there, or nothing was changed.
        """
        (old,) = self._known
        new = Generation(check_kek(key), old.number + 1, made)
        self._replace((new, old))
        return new

    def retire(self) -> None:
        """Leave the newest generation alone; no byte of another stays in a file.

        Raises:
            StorageError: the others are gone from this file, or nothing was changed.
        """
        if len(self._known) > 1:
            self._replace(self._known[:1])

    def has_left_overs(self) -> bool:
        """Return whether somebody died, or is at work, while changing the file."""
        return any(os.path.lexists(one) for one in _beside(self.path.resolve()))

    def tidy(self) -> None:
        """Clear what somebody who died while changing the file left beside it.

        Raises:
            StorageError: it could not be overwritten.
        """
        path = self.path.resolve()
        new, old = _beside(path)
        if old.exists() and _same(old, path):
            # It was not yet replaced: this is only its second name.
            with storage_errors(f"remove {old}"):
                old.unlink()
        for left_over in (new, old):
            _scrub(left_over)

    def _replace(self, generations: Sequence[Generation]) -> None:
        self.tidy()
        # A link to a secret that is kept elsewhere stays one.
        path = self.path.resolve()
        new, old = _beside(path)
        try:
            with storage_errors(f"write {path}"):
                _write_as(path, new, b"".join(map(_format, generations)))
                os.link(path, old)
                sync_directory(path.parent)
                new.replace(path)
        except BaseException:
            self.tidy()
            raise
        sync_directory(path.parent)
        self._known = tuple(generations)
        _scrub(old)


class FixedKey:
    """One generation that is in no file; for tests and for tools."""

    def __init__(self, key: bytes) -> None:
        """Take the key.

        Raises:
            ConfigurationError: it is not 32 bytes.
        """
        self._known = (Generation(check_kek(key)),)

    def known(self) -> tuple[Generation, ...]:
        """See `VaultKey.known`."""
        return self._known

    def reload(self) -> tuple[Generation, ...]:
        """See `VaultKey.reload`."""
        return self._known


def check_kek(key: bytes) -> bytes:
    """Return a key-encryption key once it is one.

    Raises:
        ConfigurationError: it is not 32 bytes.
    """
    if len(key) != KEK_BYTES:
        raise ConfigurationError(
            f"expected a key-encryption key of {KEK_BYTES} bytes, got {len(key)}"
        )
    return key


def _read(path: Path) -> tuple[Generation, ...]:
    """Return the generations of a file that may be replaced meanwhile."""
    data = read_secret(path)
    for _ in range(_TRIES):
        try:
            return _parse(data, path)
        except ConfigurationError:
            # It may have been the old file, which was being overwritten.
            before, data = data, read_secret(path)
            if data == before:
                raise
    return _parse(data, path)


def _parse(data: bytes, path: Path) -> tuple[Generation, ...]:
    lines = data.decode("ascii", "replace").strip().split("\n")
    found = [_generation(line) for line in lines[: _MAX_GENERATIONS + 1]]
    known = tuple(one for one in found if one is not None)
    if len(known) != len(found):
        raise ConfigurationError(f"{path} does not hold 32 bytes in base64")
    numbers = [one.number for one in known]
    if len(known) > _MAX_GENERATIONS or numbers != sorted({*numbers}, reverse=True):
        raise ConfigurationError(
            f"{path}: expected one generation, or two with the newest first, got "
            f"{len(known)} or more out of order"
        )
    return known


def _generation(line: str) -> Generation | None:
    found = _LINE.fullmatch(line)
    try:
        key = parse_base64(found[1]) if found else b""
    except MalformedError:
        return None
    if found is None or len(key) != KEK_BYTES or found[2] == "1":
        return None
    return Generation(key, int(found[2] or 1), int(found[3] or 0))


def _format(one: Generation) -> bytes:
    named = f" {one.number} {one.made}" if one.number > 1 else ""
    return f"{format_base64(one.key)}{named}\n".encode()


def _beside(path: Path) -> tuple[Path, Path]:
    return path.with_name(f"{path.name}.new"), path.with_name(f"{path.name}.old")


def _same(one: Path, other: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return one.samefile(other)
    return False


def _write_as(like: Path, path: Path, data: bytes) -> None:
    """Write a new file, durably, that whoever owns the other one can read."""
    owner = like.stat()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        if os.geteuid() == 0:
            # Root rotates for a service that is not root.
            os.fchown(fd, owner.st_uid, owner.st_gid)
        write_all(fd, data)
        sync_file(fd)
    finally:
        os.close(fd)


def _scrub(path: Path) -> None:
    """Overwrite a file with zeros and remove it, durably, if it is there."""
    with storage_errors(f"overwrite {path}"):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            write_all(fd, bytes(os.fstat(fd).st_size))
            sync_file(fd)
        finally:
            os.close(fd)
        path.unlink()
    sync_directory(path.parent)
