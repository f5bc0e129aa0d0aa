"""A store whose calls meet their fates, and processes that die in the middle of one."""

import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from auditlog.core.errors import StorageError

__all__ = [
    "CHANGES",
    "FATES",
    "Fate",
    "FaultyStore",
    "Forked",
    "acknowledged_by",
    "die",
    "fork",
    "no_more_files_open",
    "rows",
]

Fate = Literal["lost", "persisted", "killed before", "killed after"]
"""What happens at a call: it is not done, or its answer is lost, or we die there."""

Work = Callable[[Callable[[str], None]], None]
"""What a child does; it acknowledges by calling the argument."""

FATES: tuple[Fate, ...] = ("lost", "persisted", "killed before", "killed after")

CHANGES = frozenset(
    {
        *("add_cosignatures", "add_keys", "append", "prune", "publish", "put"),
        *("put_attestation", "swap_head"),
    }
)
"""The calls that change something. Of all others a lost answer is a lost call."""


class FaultyStore:
    """Counts the calls to a store; those that are named meet their fate instead."""

    def __init__(self, store: Any, fates: Mapping[int, Fate] | None = None) -> None:
        self._store = store
        self._fates = fates or {}
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        return (
            partial(self._call, name, attribute) if callable(attribute) else attribute
        )

    def _call(
        self, name: str, method: Callable[..., Any], *arguments: Any, **named: Any
    ) -> Any:
        fate = self._fates.get(len(self.calls))
        self.calls.append(name)
        if fate == "lost":
            raise StorageError(f"{name} failed as ordered: nothing was done")
        if fate == "killed before":
            die()
        answer = method(*arguments, **named)
        if fate == "killed after":
            die()
        if fate == "persisted":
            raise StorageError(f"{name} failed as ordered: the answer was lost")
        return answer


def die() -> None:
    """End this process as SIGKILL does: no handler, no flush, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


def rows(calls: list[str], *fates: Fate) -> list[tuple[int, Fate]]:
    """Return each call with each fate that makes a difference there."""
    after: tuple[Fate, ...] = ("persisted", "killed after")
    return [
        (number, fate)
        for number, name in enumerate(calls)
        for fate in fates
        if name in CHANGES or fate not in after
    ]


class Forked(NamedTuple):
    """A child that runs, and may be killed."""

    pid: int
    source: int
    """Where it says what it acknowledged."""

    def kill(self) -> None:
        """Kill it, if it still runs."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> list[str]:
        """Wait until it ends; return what it acknowledged until then."""
        with os.fdopen(self.source) as pipe:
            said = pipe.read().split()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        assert status in {0, -signal.SIGKILL}, f"the child failed by itself: {status}"
        return said


def acknowledged_by(
    work: Work, meanwhile: Callable[[int], None] = lambda pid: None
) -> list[str]:
    """Run `work` in a forked child that may be killed; return what it acknowledged.

    Args:
        work: run in the child.
        meanwhile: called here with the child's process id.
    """
    child = fork(work)
    meanwhile(child.pid)
    return child.wait()


def fork(work: Work) -> Forked:
    """Run `work` in a forked child.

    The child acknowledges by calling its argument; what it said before its death
    counts, as a client that read the answer would say.
    """
    source, target = os.pipe()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads in a forking process; ours hold no lock then.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(source)
        _run_child(partial(work, partial(_say, target)))
    os.close(target)
    return Forked(pid, source)


def _say(fd: int, word: str) -> None:
    os.write(fd, f"{word}\n".encode())


def _run_child(work: Callable[[], None]) -> None:
    status = 1
    try:
        work()
        status = 0
    except BaseException:  # noqa: BLE001 - it must not return into the tests
        traceback.print_exc()
    finally:
        os._exit(status)


@contextmanager
def no_more_files_open() -> Iterator[None]:
    """Fail if the block leaves a file open: who fails and tries again must not leak."""
    before = _open_files()
    yield
    assert _open_files() <= before


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))
