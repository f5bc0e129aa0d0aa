"""Child processes of the demo: started, waited for, and never left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

__all__ = [
    "INTERRUPTIONS",
    "ROOT",
    "DemoError",
    "Processes",
    "environment",
    "free_port",
    "run",
    "wait_until",
]

ROOT = Path(__file__).resolve().parents[1]
"""Where the packages of this checkout are."""
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals after which no child may be left behind."""
_STOP_SECONDS = 15.0
_RUN_SECONDS = 60.0

T = TypeVar("T")


class DemoError(Exception):
    """Something did not behave as the demo says it does."""


class Processes:
    """The programs running beside the demo; leaving the block ends all of them."""

    def __init__(self, logs: Path) -> None:
        """Start nothing yet; `logs` is the folder for what the programs print."""
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            _reap(process)
        self._files.close()

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        env: Mapping[str, str] | None = None,
        program: str = sys.executable,
    ) -> None:
        """Start a program in the background, as `name`; Python, if nothing is said."""
        log = self._files.enter_context((self._logs / f"{name}.log").open("ab"))
        with _signals_wait():
            self._running[name] = subprocess.Popen(
                [program, *arguments],
                cwd=ROOT,
                env=environment(env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C reaches the whole foreground group; only the demo decides
                # when a child stops, so that each is stopped cleanly and once.
                start_new_session=True,
            )

    def stop(self, name: str) -> None:
        """Ask `name` to stop as a service manager would, and wait for it.

        Raises:
            DemoError: it had already ended, or did not stop in time.
        """
        process = self._running.pop(name)
        self._check_alive(name, process)
        process.terminate()
        if not _reap(process):
            msg = f"{name} did not stop within {_STOP_SECONDS:.0f} s of SIGTERM"
            raise DemoError(msg)

    def wait_until(self, what: str, attempt: Callable[[], T], seconds: float) -> T:
        """Return the first true result of `attempt`, while all programs live.

        Raises:
            DemoError: a program ended, or `seconds` went by.
        """

        def attempt_with_all_alive() -> T:
            for name, process in self._running.items():
                self._check_alive(name, process)
            return attempt()

        return wait_until(what, attempt_with_all_alive, seconds)

    def _check_alive(self, name: str, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is not None:
            text = (self._logs / f"{name}.log").read_text(errors="replace")
            msg = f"{name} ended with status {process.returncode}:\n{text[-2000:]}"
            raise DemoError(msg)


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without its log settings, and `env` on top."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AUDITLOG_") and name != "PYTHONPATH"
    }
    return inherited | {"PYTHONPATH": str(ROOT)} | dict(env or {})


def run(arguments: Sequence[str], *, cwd: Path = ROOT, status: int = 0) -> str:
    """Run ``python <arguments>`` to its end and return what it printed.

    Where it is to fail, that is also why.

    Raises:
        DemoError: it ended with another status than `status`.
    """
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_RUN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        msg = f"{' '.join(arguments)}: not done after {_RUN_SECONDS:.0f} s"
        raise DemoError(msg) from None
    if done.returncode != status:
        msg = (
            f"{' '.join(arguments)}: expected status {status}, got {done.returncode}:"
            f"\n{done.stdout}{done.stderr}"
        )
        raise DemoError(msg)
    return done.stdout + (done.stderr if status else "")


def wait_until(what: str, attempt: Callable[[], T], seconds: float) -> T:
    """Return the first true result of `attempt`, tried again and again.

    Raises:
        DemoError: `seconds` went by without one.
    """
    deadline = time.monotonic() + seconds
    while not (result := attempt()):
        if time.monotonic() > deadline:
            msg = f"waited {seconds:.0f} s for {what}, in vain"
            raise DemoError(msg)
        time.sleep(0.05)
    return result


def free_port() -> int:
    """Return a TCP port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Let nothing interrupt the block: a child must not run before we know of it."""
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in INTERRUPTIONS}
    for number in handlers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


def _reap(process: subprocess.Popen[bytes]) -> bool:
    """Wait for `process`; return False if it had to be killed."""
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True
