"""Other people's servers, each in an environment of its own: they agree on nothing.

``requirements-<name>.txt`` pins everything but auditlog, which is found where we are.
`make lock` resolves it anew from ``requirements-<name>.in``.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import IN_CI

__all__ = ["environment_of", "needs_servers"]

ROOT = Path(__file__).parents[2]
SECONDS = 540

needs_servers = pytest.mark.skipif(
    not (IN_CI or os.environ.get("COMPAT")),
    reason="installs other people's servers, over a gigabyte: set COMPAT=1 to run it",
)
"""Marks what CI always runs, and a user only if asked."""


def environment_of(name: str) -> Path:
    """Return the environment of a server, made where it is not there yet.

    It is kept beside our own packages until what it holds is pinned otherwise. Other
    processes wait for the one that makes it.
    """
    pins = Path(__file__).parent / f"requirements-{name}.txt"
    key = hashlib.sha256(pins.read_bytes() + sys.version.encode()).hexdigest()[:12]
    made = ROOT / ".venv" / f"compat-{name}-{key}"
    with (ROOT / ".venv" / f"compat-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made / "complete").exists():
            for stale in made.parent.glob(f"compat-{name}-*"):
                shutil.rmtree(stale)
            _make(made, pins)
            (made / "complete").touch()
    return made


def _make(environment: Path, pins: Path) -> None:
    _run(sys.executable, "-m", "venv", environment)
    # Most modules are never imported: those that are, are compiled when they are.
    options = ("--no-deps", "--no-compile", "--only-binary", ":all:")
    pip = ("-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet")
    python = environment / "bin" / "python"
    _run(python, *pip, "install", *options, "-r", pins)


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
