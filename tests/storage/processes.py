"""Run a function in a process of its own, started afresh or forked, maybe killed."""

import os
import signal
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["forked", "killed_after", "start", "wait_all"]

ROOT = Path(__file__).resolve().parents[2]


def start(
    program: str, *args: object, under: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """Start Python on `program`, which finds `args` in ``sys.argv``."""
    command = [*under, sys.executable, "-c", textwrap.dedent(program), *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def wait_all(processes: list[subprocess.Popen[str]]) -> list[str]:
    """Wait until all end well; return what they wrote."""
    written = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return written


def killed_after(process: subprocess.Popen[str], lines: int) -> list[str]:
    """Kill a process with SIGKILL once it wrote so many lines; return all it wrote."""
    assert process.stdout is not None
    with process.stdout as written:
        seen = [written.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        seen += written.readlines()
    assert process.wait(60) == -signal.SIGKILL
    # The last one may be cut.
    return [line.rstrip("\n") for line in seen if line.endswith("\n")]


def forked(work: Callable[[], None]) -> None:
    """Run `work` in a forked child and fail if it fails there."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
