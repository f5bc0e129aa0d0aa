"""Power cuts: what was acknowledged is synced, and what is synced is enough.

From the trace of a child that makes a log, records and stops, the disk is rebuilt as
a power cut would leave it, at each acknowledgement and at many moments between. What
had been acknowledged by then must be there after the next start.
"""

import http.client
import re
import time
from pathlib import Path
from typing import get_args

import pytest

from auditlog.storage.sqlite import SqliteStore
from tests.e2e.processes import Server, free_port, wait_until
from tests.faults.disk import Disk, Survivors, calls_of
from tests.faults.tracing import (
    DECISIONS,
    Traced,
    expect_whole,
    needs_strace,
    run_traced,
)

pytestmark = needs_strace

STRIDE = 8
"""Every so many calls the power is cut, and at each acknowledgement."""


@pytest.fixture(scope="module", params=["spool", "sync"])
def durability(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, durability: str) -> Path:
    return tmp_path_factory.mktemp(f"power-{durability}")


@pytest.fixture(scope="module")
def traced(base: Path, durability: str) -> Traced:
    options = ("-y", "-xx", "-s", "1000000")
    traced = run_traced(base / "audit", *options, durability=durability)
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
        id_ = words.get(call.data) if call.name == "write" else None
        # A write that begins while others go on ends later: it counts from its begin.
        acknowledged = id_ is not None and id_ not in said
        if id_ is not None and acknowledged:
            said.append(id_)
        disk.follow(call)
        if acknowledged or number % STRIDE == 0:
            cuts += 1
            target = tmp_path / f"{number}"
            target.mkdir()
            disk.leave(target, survivors)
            expect_whole(target / "audit", said)
    assert said == traced.said
    assert cuts > DECISIONS + 15


LAST = re.compile(rb".*}|(.*\r\n)?0\r\n\r\n", re.DOTALL)
"""The last piece of an answer, with a length or in chunks."""


# --- the whole path, from the answer's last byte to the disk --------------------------


def _ask(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"content-type": "application/json"}
    connection.request("POST", path, b'{"age": 41}', headers)
    response = connection.getresponse()
    assert (response.status, bool(response.read())) == (200, True)
    connection.close()


def _has_checkpoint(directory: Path) -> bool:
    with SqliteStore(directory / "log.sqlite3", read_only=True) as store:
        return store.newest() is not None


def _is_quiet(trace: Path) -> bool:
    size = trace.stat().st_size
    time.sleep(0.3)
    return trace.stat().st_size == size


def _events(trace: str) -> str:
    """Return what happened, a letter each, in order; see the test for the letters."""
    letters, synced = [], False
    for call in calls_of(trace):
        file = call.paths[0] if call.paths else ""
        if call.name == "sendto" and LAST.fullmatch(call.data):
            letters.append("a" if call.begins else "A")
        elif file.endswith(".accepted") and not call.begins:
            if call.name == "openat":
                synced = "O_DSYNC" in call.flags
            else:
                letters.append("pq" if call.name == "pwrite64" and synced else "p")
        elif file.endswith("log.sqlite3-wal") and not call.begins:
            letters.append("w" if call.name == "pwrite64" else "s")
        elif call.name == "recvfrom" and call.data.startswith(b"POST"):
            letters.append("R")
    return "".join(letters)


def test_an_answer_ends_after_its_decision_is_synced(tmp_path: Path) -> None:
    """R a request comes, p the acceptance file is written, q with a sync, A answered.

    w and s are the same of the write-ahead log, behind. An ``a`` is an answer that
    begins while another thread does something.
    """
    trace, port = tmp_path / "trace", free_port()
    calls = "trace=openat,recvfrom,sendto,pwrite64,fsync,fdatasync"
    under = ["strace", "-f", "-qq", "-y", "-xx", "-s", "65536", "-e", calls]
    env = {
        "AUDITLOG_DIR": str(tmp_path / "audit"),
        "AUDITLOG_DURABILITY": "sync",
        "AUDITLOG_CHECKPOINT_INTERVAL": "3600",
    }
    command = ["-m", "uvicorn", "tests.e2e.echo_app:app", "--port", str(port)]
    output = tmp_path / "output.txt"
    with Server(command, port, output, env, [*under, "-o", str(trace)]) as server:
        # Until then another thread writes as well.
        wait_until(lambda: _has_checkpoint(tmp_path / "audit"), 10, "a checkpoint")
        wait_until(lambda: _is_quiet(trace), 10, "an end of that")
        for number, path in enumerate(("/score/loan", "/stream") * 3, 1):
            _ask(port, path)
            answered = rf"(R[pqws]*(a[pqws]*)?A[pqws]*){{{number}}}"
            wait_until(
                lambda: bool(re.search(answered, _events(trace.read_text()))),  # noqa: B023
                10,
                f"answer {number} in the trace",
            )
        server.kill()
    events = _events(trace.read_text())
    between = re.findall(r"R([pqws]*)", events)
    assert len(between) == 6, events
    synced = [re.fullmatch(r"[ws]*(pq|w+s)[ws]*", one) for one in between]
    assert all(synced), events
    # Where the store is due to be filled, a decision goes there directly.
    assert sum("pq" in one for one in between) >= 5, events
