"""Each system call that changes a file fails, or is the last one.

A child makes a log, records decisions, makes checkpoints and stops; strace makes its
n-th call of a kind fail, or kills it there, in each of its threads; where n is odd,
under ``sync``. Whatever the child acknowledged must be there once after the next start,
and the whole log must hold.

In CI some of the invocations of each kind are tried; ``FAULTS=all`` tries each.
"""

import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.tracing import (
    CALLS,
    DECISIONS,
    expect_whole,
    needs_strace,
    run_traced,
)

pytestmark = needs_strace

ERRORS = ("EIO", "ENOSPC", "SIGKILL")
SHARE = dict.fromkeys(CALLS, 4) | {"openat": 1, "pwrite64": 1, "ftruncate": 9}
"""How many invocations of 16 are tried in CI."""


def _invocations(call: str, error: str) -> Iterator[int]:
    """Return which invocations to try: in CI some, chosen alike on every machine."""
    every = os.environ.get("FAULTS") == "all"
    for number in range(1, 1000):
        chosen = zlib.crc32(f"{call} {error} {number}".encode()) % 16 < SHARE[call]
        if every or chosen or number == 1:
            yield number


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_fails_or_kills(tmp_path: Path, call: str, error: str) -> None:
    fate = "signal=SIGKILL" if error == "SIGKILL" else f"error={error}"
    tried = 0
    for number in _invocations(call, error):
        directory = tmp_path / f"{number}"
        order = f"inject={call}:{fate}:when={number}"
        durability = ("spool", "sync")[number % 2]
        said, trace = run_traced(directory, "-e", order, durability=durability)
        if not _was_met(trace, error):
            break
        tried += 1
        expect_whole(directory, said)
        if said:  # An init that died has nothing to clear but by its next start.
            assert not list(directory.rglob(".*.tmp"))
    assert tried, f"{call} was never called"


def _was_met(trace: str, error: str) -> bool:
    return "killed by SIGKILL" in trace if error == "SIGKILL" else "(INJECTED)" in trace


@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
@pytest.mark.parametrize("call", ["fdatasync", "fsync", "openat", "pwrite64", "write"])
def test_a_disk_that_fails_for_good(tmp_path: Path, call: str, error: str) -> None:
    for number in (2, 9, 30, 31):
        directory = tmp_path / f"{number}"
        order = f"inject={call}:error={error}:when={number}+"
        durability = ("spool", "sync")[number % 2]
        said, _ = run_traced(directory, "-e", order, durability=durability)
        expect_whole(directory, said)


@pytest.mark.parametrize("durability", ["spool", "sync"])
def test_nothing_fails_without_an_order(tmp_path: Path, durability: str) -> None:
    said, trace = run_traced(tmp_path / "audit", durability=durability)
    assert len(said) == DECISIONS
    expect_whole(tmp_path / "audit", said)
    called = Counter(re.findall(r"^\d+ +(\w+)\(", trace, re.MULTILINE))
    assert set(called) == set(CALLS)
