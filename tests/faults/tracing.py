"""A child under strace, which records a log from its first file to its clean stop."""

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from auditlog.core.errors import AuditLogError, PendingError
from auditlog.core.record import format_id
from auditlog.log.check import check_log
from auditlog.log.directory import ensure_log
from auditlog.log.leader import make_checkpoint
from auditlog.log.recovery import recover
from auditlog.log.runtime import Runtime
from tests.conftest import IN_CI
from tests.faults.logs import in_the_log
from tests.faults.stores import acknowledged_by
from tests.harness import check_whole_log
from tests.log.builders import config_of, exchange, now_us

__all__ = ["CALLS", "DECISIONS", "Traced", "expect_whole", "needs_strace", "run_traced"]

CALLS = (
    *("fchmod", "fdatasync", "flock", "fsync", "ftruncate", "mkdir", "openat"),
    *("pwrite64", "rename", "unlink", "write"),
)
"""The system calls by which a log changes its files."""
DECISIONS = 4
_SECONDS = 30.0


def _strace_works() -> bool:
    try:
        done = subprocess.run(
            ["strace", "-f", "-e", "trace=write", "true"],
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


needs_strace = pytest.mark.skipif(
    not IN_CI and not _strace_works(),
    reason="strace is not installed, or may not trace here",
)


class Traced(NamedTuple):
    """What a traced child did."""

    said: list[str]
    """Ids of the decisions that it acknowledged."""
    trace: str


def run_traced(directory: Path, *options: str, durability: str = "spool") -> Traced:
    """Record decisions under checkpoints in a child under strace, and stop.

    Args:
        directory: where the log is to be; not there yet.
        options: more of them for strace, such as what to inject.
        durability: the option of that name.
    """
    trace = directory.with_name(f"{directory.name}.trace")
    gate, opener = os.pipe()
    ends = ExitStack()

    def work(say: Callable[[str], None]) -> None:
        os.close(opener)
        os.read(gate, 1)
        logging.disable(logging.CRITICAL)
        _record_all(directory, durability, say)

    def attach(pid: int) -> None:
        command = ["strace", "-f", "-qq", "-o", str(trace), "-p", str(pid)]
        command += ["-e", f"trace={','.join(CALLS)}", *options]
        tracer = subprocess.Popen(command)
        ends.callback(tracer.wait, _SECONDS)
        _wait_until_traced(pid)
        patience = threading.Timer(_SECONDS, os.kill, (pid, signal.SIGABRT))
        patience.start()
        ends.callback(patience.cancel)
        os.close(opener)

    with ends:
        said = acknowledged_by(work, attach)
        os.close(gate)
    return Traced(said, trace.read_text())


def _wait_until_traced(pid: int) -> None:
    deadline = time.monotonic() + _SECONDS
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < deadline, "strace did not attach"
        time.sleep(0.001)


def _record_all(directory: Path, durability: str, say: Callable[[str], None]) -> None:
    # Where the disk fails, errors of ours are right; any other one is a fault.
    with contextlib.suppress(AuditLogError):
        runtime = Runtime(config_of(directory, durability=durability))
        try:
            for _ in range(DECISIONS):
                _record(runtime, say)
                time.sleep(0.06)  # Longer than it takes to the next checkpoint.
        finally:
            runtime.stop(0.5)


def _record(runtime: Runtime, say: Callable[[str], None]) -> None:
    one = exchange(0)
    one.sequence = runtime.open(one.id, one.time)
    told = threading.Event()

    def tell(error: AuditLogError | None) -> None:
        # The pipe to the test is a file like any other.
        with contextlib.suppress(OSError):
            if error is None:
                say(format_id(one.id))
        told.set()

    runtime.submit(one, tell)
    assert told.wait(_SECONDS)


def expect_whole(directory: Path, said: list[str]) -> None:
    """Start again on a healthy disk: what was acknowledged is there, and all holds."""
    log, _ = ensure_log(config_of(directory))
    with log:
        log.claim()
        log.keys.require()
        recover(log, now_us())
        with contextlib.suppress(PendingError):
            make_checkpoint(log)
        found = check_whole_log(directory)
        assert in_the_log(found, said) == [1] * len(said)
        assert found.head[1] == len(found.entries)
        report = check_log(log)
        assert (report.problems, report.unchecked) == ((), ())
