"""Real processes for end-to-end tests: started, waited for, killed, never left over."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

__all__ = ["Server", "free_port", "members", "run_commands", "wait_until"]

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition, failing the test when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.02)


def run_commands(
    script: str, directory: Path, seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run commands of a document with bash, as somebody with our environment would.

    What they left in the background is killed.
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(script, process.returncode, output)


class Server:
    """A server in a process group of its own."""

    def __init__(
        self,
        command: list[str],
        port: int,
        output: Path,
        env: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
    ) -> None:
        """Name the command; it runs with this interpreter and finds the project.

        Args:
            command: arguments for Python.
            port: where it will answer.
            output: gets what it writes.
            env: variables, over ours without any of the product's.
            under: a command that runs it, such as strace.
        """
        self.port = port
        self._command = [*under, sys.executable, *command]
        self._output = output
        self._env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("AUDITLOG_")},
            "PYTHONPATH": str(ROOT),
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the server and wait until it answers."""
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                env=self._env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(self._answers, 60, f"{self._command} (see {self._output})")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the server as an operator would, or kill it if it does not listen."""
        process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            self.kill()

    def terminate(self) -> None:
        """Ask the first process to stop, as an operator would, and do not wait."""
        self.signal(signal.SIGTERM)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the first process only."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self, seconds: float = 30) -> None:
        """Wait until the first process has ended."""
        assert self._process is not None
        self._process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL every process of the group, and wait until all are gone."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        # One that is still dying may hold its locks.
        wait_until(lambda: not members(process.pid), 10, "the end of all workers")

    @property
    def pid(self) -> int:
        """The first process."""
        assert self._process is not None
        return self._process.pid

    def workers(self) -> list[int]:
        """Return the processes of the group but the first, as /proc shows them."""
        assert self._process is not None
        first = self._process.pid
        return [pid for pid in members(first) if pid != first]

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._output.read_text()[-3000:]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/")
            connection.getresponse().read()
            return True
        return False


def members(group: int) -> list[int]:
    """Return the processes of a group that have a living thread, as /proc shows them.

    The first thread may be a zombie while others still hold the files of the process.
    """
    found = set()
    for stat in Path("/proc").glob("[0-9]*/task/*/stat"):
        with suppress(OSError, ValueError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.add(int(stat.parts[2]))
    return sorted(found)
