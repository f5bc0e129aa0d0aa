"""The command line as a stranger runs it: a process, its two outputs, its status."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from auditlog.cli import main

__all__ = ["Done", "Running", "auditlog", "called", "environment", "started"]

_SECONDS = 60


class Done(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    def document(self) -> dict[str, Any]:
        """Return the one JSON document on stdout."""
        document: dict[str, Any] = json.loads(self.out)
        return document


def environment(**more: str) -> dict[str, str]:
    """Return the environment without anybody's options, and `more`."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("AUDITLOG_")}
    return known | {"PYTHONWARNINGS": "error"} | more


def auditlog(
    *arguments: object, cwd: Path | None = None, env: dict[str, str] | None = None
) -> Done:
    """Run a command to its end; stdin is empty, nothing is a terminal."""
    done = subprocess.run(
        _command(arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        cwd=cwd,
        env=environment(**(env or {})) | _importable(),
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def called(*arguments: object, stdin: str = "") -> Done:
    """Run a command in this process, which takes a tenth of the time."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
    before, sys.stdin = sys.stdin, io.StringIO(stdin)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = main([*map(str, arguments)])
    except SystemExit as stop:
        status = int(str(stop.code))
    finally:
        sys.stdin = before
    out.flush()
    return Done(status, out.buffer.getvalue().decode(), err.getvalue())


class Running(NamedTuple):
    """A command that stays."""

    process: subprocess.Popen[str]
    url: str


@contextmanager
def started(*arguments: object) -> Iterator[Running]:
    """Run a server with ``--json --port 0``; yield it when it says where it listens."""
    with subprocess.Popen(
        _command((*arguments, "--json", "--port", "0")),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment() | _importable(),
    ) as process:
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            document = json.loads("".join(_first_document(lines)))
            yield Running(process, document["url"])
        finally:
            process.kill()


def _first_document(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        yield line
        if line == "}\n":
            return


def _command(arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "auditlog", *map(str, arguments)]


def _importable() -> dict[str, str]:
    return {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
