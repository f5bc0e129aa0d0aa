"""Runs one round after another, each killed at its next step on the file system.

As a process of its own: ``killed.py URL POLICY DIRECTORY``. `DIRECTORY` is a monitor's;
each round begins with a copy of it, is killed by SIGKILL before its n-th step, and is
followed by a round that nobody kills. Prints one line for each n: what that one found.
"""

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from tests.monitor.tiled import look

_STEPS = frozenset({"open", "os.rename", "os.remove", "os.mkdir", "os.chmod"})


def _kill_at(step: int, directory: Path) -> None:
    """Kill this process before its n-th step in a directory."""
    left = [step]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _STEPS and str(directory) in str(arguments[0]):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _forked(step: int, url: str, policy: str, directory: Path) -> int:
    """Run a round in a child, killed at a step if that is not 0; return its end."""
    child = os.fork()
    if not child:
        if step:
            _kill_at(step, directory)
        done = look(directory, url, policy=policy)
        kinds = ",".join(one.kind for one in done.findings)
        if not step:
            print(done.status, done.size, kinds or "-", flush=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(url: str, policy: str, source: Path) -> None:
    """Go on until a round ends by itself before it is killed."""
    step, ended = 0, -signal.SIGKILL
    while ended == -signal.SIGKILL:
        step += 1
        directory = source.with_name(f"killed-{step}")
        shutil.copytree(source, directory)
        ended = _forked(step, url, policy, directory)
        if _forked(0, url, policy, directory):
            print(f"failed after a kill at step {step}", flush=True)
        if [*directory.glob(".*.tmp")]:
            print("left a temporary file", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).read_text("utf-8"), Path(sys.argv[3]))
