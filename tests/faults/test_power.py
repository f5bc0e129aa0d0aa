"""Power cuts: what was acknowledged is synced, and what is synced is enough.

From the trace of a child that makes a log, records and stops, the disk is rebuilt as
a power cut would leave it, at each acknowledgement and at many moments between. What
had been acknowledged by then must be there after the next start.
"""

from pathlib import Path
from typing import get_args

import pytest

from tests.faults.disk import Disk, Survivors, calls_of
from tests.faults.tracing import (
    DECISIONS,
    Traced,
    expect_whole,
    needs_strace,
    run_traced,
)

pytestmark = needs_strace

STRIDE = 4
"""Every so many calls the power is cut, and at each acknowledgement."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("power")


@pytest.fixture(scope="module")
def traced(base: Path) -> Traced:
    traced = run_traced(base / "audit", "-y", "-xx", "-s", "1000000")
    assert len(traced.said) == DECISIONS
    # Beside its original a copy refuses to go on.
    (base / "audit").rename(base / "gone")
    return traced


@pytest.mark.parametrize("survivors", get_args(Survivors))
def test_what_was_acknowledged_outlives_a_power_cut(
    base: Path, traced: Traced, tmp_path: Path, survivors: Survivors
) -> None:
    disk, cuts = Disk(base), 0
    said: list[str] = []
    words = {f"{id_}\n".encode(): id_ for id_ in traced.said}
    for number, call in enumerate(calls_of(traced.trace)):
        acknowledged = call.name == "write" and call.data in words
        if acknowledged:
            said.append(words[call.data])
        disk.follow(call)
        if acknowledged or number % STRIDE == 0:
            cuts += 1
            target = tmp_path / f"{number}"
            target.mkdir()
            disk.leave(target, survivors)
            expect_whole(target / "audit", said)
    assert said == traced.said
    assert cuts > DECISIONS + 20
