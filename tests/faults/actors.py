"""Work that stops before each call to its store, until somebody says how it goes on.

Threads, but never two at once: what runs is decided call by call, so that every
schedule can be repeated.
"""

import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from auditlog.core.errors import StorageError
from tests.faults.stores import Fate

__all__ = ["Actor"]

_SECONDS = 30.0


class _Killed(BaseException):
    """Nothing in the product catches this, as nothing catches SIGKILL."""


class Actor:
    """Runs `work(store)` in a thread; `store` stops before each of its calls."""

    def __init__(self, store: Any, work: Callable[[Any], None]) -> None:
        """Run `work` up to its first call."""
        self.done = False
        self.call = ""
        """The call that is next."""
        self.error: BaseException | None = None
        """What `work` raised, if it did; never for having been killed."""
        self._store = store
        self._fate: Fate | None = None
        self._go = threading.Semaphore(0)
        self._stopped = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        self._wait()

    def advance(self, fate: Fate | None = None) -> None:
        """Let the next call meet its fate, and run up to the one after it."""
        if self.done:
            return
        self._fate = fate
        self._go.release()
        self._wait()

    def reach(self, calls: Collection[str]) -> None:
        """Run up to the next of these calls."""
        while not self.done and self.call not in calls:
            self.advance()

    def finish(self) -> None:
        """Let everything that is left succeed."""
        while not self.done:
            self.advance()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._store, name)
        if not callable(attribute):
            return attribute
        return partial(self._call, name, attribute)

    def _run(self, work: Callable[[Any], None]) -> None:
        try:
            work(self)
        except _Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.error = error
        self.done = True
        self._stopped.release()

    def _call(self, name: str, method: Callable[..., Any], *arguments: Any) -> Any:
        self.call = name
        self._stopped.release()
        self._go.acquire()
        fate = self._fate
        if fate == "lost":
            raise StorageError(f"{name} failed as ordered: nothing was done")
        if fate == "killed before":
            raise _Killed
        answer = method(*arguments)
        if fate == "killed after":
            raise _Killed
        if fate == "persisted":
            raise StorageError(f"{name} failed as ordered: the answer was lost")
        return answer

    def _wait(self) -> None:
        assert self._stopped.acquire(timeout=_SECONDS), "the work hangs"
        if self.done:
            self._thread.join(_SECONDS)
