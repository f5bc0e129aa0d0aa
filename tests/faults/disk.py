"""What a disk holds after a power cut, from a trace of what was written and synced.

The pessimist's disk: of a file only what was there when the last sync of it *began* is
sure to remain, of a directory only the names of its last sync. Of what was written
later nothing, everything, or every other write may be there as well.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

__all__ = ["Disk", "Survivors", "calls_of"]

Survivors = Literal["nothing", "everything", "every other"]
"""Which of the writes since the last sync reached the disk all the same."""

_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+).*")
_UNFINISHED = re.compile(r"(\d+) +(\w+\(.*) <unfinished \.\.\.>")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
_FD = re.compile(r"(?:AT_FDCWD|\d+)<((?:\\x[0-9a-f]{2})*)(?:\(deleted\))?>")
_CARRYING = frozenset({"pwrite64", "recvfrom", "sendto", "write"})
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


class Call(NamedTuple):
    """One system call that succeeded, or the beginning of one."""

    name: str
    paths: list[str]
    """Of its descriptor, if it has one, and of its other arguments."""
    data: bytes
    flags: str
    """The rest of the arguments, as text."""
    begins: bool
    """True at the beginning of a call in which others came in between."""


def calls_of(trace: str) -> Iterator[Call]:
    """Return the calls of a trace made with ``-f -y -xx`` in the order of their ends.

    A sync is also returned when it begins: what is written meanwhile is not in it.
    """
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        if found := _UNFINISHED.fullmatch(line):
            begun[found[1]] = found[2]
            call = _parse(f"{found[1]} {found[2]}) = 0", begins=True)
        elif found := _RESUMED.fullmatch(line):
            call = _parse(f"{found[1]} {begun.pop(found[1])}{found[2]}", begins=False)
        else:
            call = _parse(line, begins=False)
        if call is not None:
            yield call


def _parse(line: str, *, begins: bool) -> Call | None:
    found = _LINE.fullmatch(line)
    if found is None or int(found[4]) < 0:
        return None
    name, arguments = found[2], found[3]
    texts = [_unhex(text) for text in _TEXT.findall(arguments)]
    files = [_unhex(path).decode() for path in _FD.findall(arguments)]
    data = texts[0] if texts and name in _CARRYING else b""
    if name in {"openat", "mkdir", "rename", "unlink"}:
        files = [text.decode() for text in texts]
    return Call(name, files, data, arguments.rpartition('"')[2], begins)


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@dataclass
class _File:
    volatile: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    later: list[tuple[int, bytes]] = field(default_factory=list)
    """Writes and, with no bytes, cuts that no sync covers yet."""
    syncing: tuple[bytes, int] | None = None
    """Content and number of `later` writes when the sync that runs began."""

    def write(self, offset: int, data: bytes) -> None:
        _put(self.volatile, offset, data)
        self.later.append((offset, data))

    def cut(self, size: int) -> None:
        _cut(self.volatile, size)
        self.later.append((size, b""))

    def begin_sync(self) -> None:
        self.syncing = bytes(self.volatile), len(self.later)

    def end_sync(self) -> None:
        if self.syncing is None:
            self.begin_sync()
        assert self.syncing is not None
        self.durable, covered = self.syncing
        self.later, self.syncing = self.later[covered:], None

    def after(self, survivors: Survivors) -> bytes:
        step = {"nothing": 0, "everything": 1, "every other": 2}[survivors]
        content = bytearray(self.durable)
        for offset, data in self.later[::step] if step else ():
            _put(content, offset, data) if data else _cut(content, offset)
        return bytes(content)


def _put(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _cut(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


class Disk:
    """Follows the calls of a process below one directory."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._directories = {self._root}
        self._files: dict[str, _File] = {}
        self._synced: set[str] = set()
        """Files of which each write is its own sync."""
        self._durable: dict[str, _File | None] = {}
        """Names that are sure to remain; a directory is None."""

    def follow(self, call: Call) -> None:
        """Do what a call did; calls elsewhere and in shared memory are no matter."""
        paths = [p for p in call.paths if p.startswith(self._root)]
        if not paths or paths[0].endswith("-shm"):
            return
        if call.begins:
            if call.name in {"fsync", "fdatasync"} and paths[0] in self._files:
                self._files[paths[0]].begin_sync()
            return
        getattr(self, f"_{call.name}", self._ignore)(call, *paths)

    def leave(self, target: Path, survivors: Survivors) -> None:
        """Write what a power cut would leave of the directory to `target`."""
        for path, file in sorted(self._durable.items()):
            place = target / Path(path).relative_to(self._root)
            if not place.parent.is_dir():
                continue  # With its directory everything below it is lost.
            if file is None:
                place.mkdir()
            else:
                place.write_bytes(file.after(survivors))
                place.chmod(0o600)

    def _ignore(self, call: Call, *_: str) -> None:
        assert call.name in {"fchmod", "flock"}, call.name

    def _mkdir(self, _: Call, path: str) -> None:
        self._directories.add(path)

    def _openat(self, call: Call, path: str) -> None:
        if "O_CREAT" in call.flags:
            self._files.setdefault(path, _File())
        if "O_DSYNC" in call.flags:
            self._synced.add(path)
        if "O_TRUNC" in call.flags:
            self._files[path].cut(0)

    def _write(self, call: Call, path: str) -> None:
        # All of ours append, or write new files from their first byte.
        self._files[path].write(len(self._files[path].volatile), call.data)
        self._end_write(path)

    def _pwrite64(self, call: Call, path: str) -> None:
        self._files[path].write(int(call.flags.split(",")[-1]), call.data)
        self._end_write(path)

    def _end_write(self, path: str) -> None:
        if path in self._synced:
            self._files[path].end_sync()

    def _ftruncate(self, call: Call, path: str) -> None:
        self._files[path].cut(int(call.flags.split(",")[-1]))

    def _rename(self, _: Call, source: str, target: str) -> None:
        self._files[target] = self._files.pop(source)

    def _unlink(self, _: Call, path: str) -> None:
        self._files.pop(path, None)

    def _fsync(self, _: Call, path: str) -> None:
        if path in self._files:
            self._files[path].end_sync()
        elif path in self._directories or self._root.startswith(path):
            self._sync_names(path)

    _fdatasync = _fsync

    def _sync_names(self, directory: str) -> None:
        names: dict[str, _File | None] = dict.fromkeys(self._directories)
        names.update(self._files)
        kept = {p: f for p, f in self._durable.items() if _parent(p) != directory}
        here = {p: f for p, f in names.items() if _parent(p) == directory}
        self._durable = kept | here


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
