"""Everything at once: four workers under load, while everything around them goes wrong.

Workers and their master are killed and stopped, clients leave in the middle, the disk
is full for a while and the database locked. Rounds under ``sync`` and ``closed``, where
an answer is a promise, take turns with rounds under ``spool`` and ``open``, where the
service goes on whatever happens.

``CHAOS_SECONDS=3600`` goes on for so long, ``CHAOS_SEED=7`` takes other turns.
"""

import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from auditlog.cli import main
from auditlog.log.check import check_log
from auditlog.log.directory import open_log
from tests.e2e.processes import Server
from tests.e2e.servers import Stream, recovered, serve, states
from tests.harness import Log

SECONDS = float(os.environ.get("CHAOS_SECONDS", "30"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
ROUND_SECONDS = 4.0
CLIENTS = 6
MODES = [("sync", "closed"), ("spool", "open")]
UVICORN = ["-m", "uvicorn", "--workers", "4", "--timeout-graceful-shutdown", "1"]

ENDS = {
    "completed": {"completed"},
    "streamed": {"completed"},
    "rejected": {"rejected"},
    "raises_later": {"completed"},
}
"""What the log must say of a call whose answer has ended, by endpoint."""
CUT = {"client_disconnected", "interrupted", "completed", "error", "incomplete"}
"""What it may say of one whose end the client has not seen."""


class Seen(NamedTuple):
    """A call as its client saw it."""

    id: str
    endpoint: str
    ended: bool
    """The whole answer arrived."""
    promised: bool
    """It was asked under ``sync`` and ``closed``."""
    journalled: bool = True
    """The disk had room for its number all the time."""


class Load:
    """Clients that ask without pause and remember what they saw."""

    def __init__(self, port: int, *, promised: bool) -> None:
        self.seen: list[Seen] = []
        self._port = port
        self._promised = promised
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(number,))
            for number in range(CLIENTS)
        ]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _ask(self, number: int) -> None:
        endpoints = [*ENDS, "endless"]
        while not self._stop.is_set():
            number += 1
            endpoint = endpoints[number % len(endpoints)]
            try:
                if endpoint == "endless":
                    self._leave()
                else:
                    self._read(endpoint)
            except (OSError, http.client.HTTPException, AssertionError):
                time.sleep(0.05)

    def _read(self, endpoint: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        with closing(connection):
            headers = {"content-type": "application/json"}
            connection.request("POST", f"/{endpoint}", b'{"x":1}', headers)
            with connection.getresponse() as answer:
                id_ = answer.getheader("decision-id")
                if id_ is None:
                    return  # Refused, or not recorded: nothing was promised.
                ended = False
                try:
                    answer.read()
                    ended = True
                finally:
                    self.seen.append(Seen(id_, endpoint, ended, self._promised))

    def _leave(self) -> None:
        stream = Stream(self._port, "/endless")
        with closing(stream):
            if b"decision-id" in stream.received:
                self.seen.append(Seen(stream.id, "endless", False, self._promised))
            stream.read_more(2)


class Monkey:
    """Does one thing after the other to a service and its disk."""

    def __init__(self, turns: random.Random, disk: "Disk") -> None:
        self._turns = turns
        self._disk = disk
        self.done: Counter[str] = Counter()

    def pester(self, server: Server, seconds: float) -> None:
        """Pester the workers for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(self._turns.uniform(0.3, 1.0))
            deed = self._turns.choice(["kill", "kill", "term", "fill", "lock"])
            self.done[deed] += 1
            if deed == "fill":
                self._disk.be_full(self._turns.uniform(0.1, 0.5))
            elif deed == "lock":
                self._disk.be_locked(self._turns.uniform(0.1, 0.3))
            else:
                self._signal_a_worker(server, deed)

    def end(self, server: Server) -> None:
        """End the service, kindly or not."""
        deed = self._turns.choice(["stop", "kill all", "kill master"])
        self.done[deed] += 1
        if deed == "stop":
            server.terminate()
            server.wait()
        elif deed == "kill master":
            server.signal(signal.SIGKILL)
            time.sleep(self._turns.uniform(0.0, 0.5))
        server.kill()

    def _signal_a_worker(self, server: Server, deed: str) -> None:
        workers = [pid for pid in server.workers() if _is_worker(pid)]
        if workers:
            name = signal.SIGKILL if deed == "kill" else signal.SIGTERM
            with suppress(ProcessLookupError):
                os.kill(self._turns.choice(workers), name)


def _is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


class Disk:
    """A small file system of its own where we may mount one, else the common one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.was_full = False
        directory.mkdir()
        options = ["-t", "tmpfs", "-o", "size=1g", "tmpfs", str(directory)]
        command = ["mount", *options]
        self.mounted = (
            os.geteuid() == 0
            and subprocess.run(command, check=False, capture_output=True).returncode
            == 0
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.directory)], check=True)

    def be_full(self, seconds: float) -> None:
        """Have no room for a while, where that can be had."""
        if not self.mounted:
            self.be_locked(seconds)
            return
        self.was_full = True
        used = os.statvfs(self.directory)
        blocks = used.f_blocks - used.f_bfree
        self._resize(str(max(1, blocks * used.f_frsize)))
        time.sleep(seconds)
        self._resize("1g")

    def be_locked(self, seconds: float) -> None:
        """Have the database held by another program for a while."""
        database = self.directory / "audit" / "log.sqlite3"
        other = sqlite3.connect(database, isolation_level=None)
        with closing(other), suppress(sqlite3.OperationalError):
            other.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            other.execute("ROLLBACK")

    def _resize(self, size: str) -> None:
        # It refuses to be smaller than what was written meanwhile.
        command = ["mount", "-o", f"remount,size={size}", str(self.directory)]
        subprocess.run(command, check=False, capture_output=True)


def _wreak(disk: Disk, monkey: Monkey) -> list[Seen]:
    """Serve, round after round, until the time is over."""
    seen: list[Seen] = []
    deadline = time.monotonic() + SECONDS
    rounds = 0
    while (left := deadline - time.monotonic()) > 0:
        durability, on_failure = MODES[rounds % len(MODES)]
        env = {
            "PLACEMENT": ("added", "wrapped", "behind")[rounds % 3],
            "AUDITLOG_DURABILITY": durability,
            "AUDITLOG_ON_FAILURE": on_failure,
            "AUDITLOG_CHECKPOINT_INTERVAL": "0.2",
        }
        app = "tests.e2e.outcomes_app:app"
        with serve(UVICORN, app, disk.directory, env) as server:
            disk.was_full = False
            load = Load(server.port, promised=on_failure == "closed")
            with load.running():
                monkey.pester(server, min(ROUND_SECONDS, left))
                monkey.end(server)
        seen += [one._replace(journalled=not disk.was_full) for one in load.seen]
        rounds += 1
    return seen


def _expect_all_told(log: Log, seen: list[Seen]) -> None:
    """Each call stands once, as it ended; where there was no room, or a gap does."""
    counted = Counter(one["id"] for one in log.decisions)
    outcomes = {one["id"]: one["data"]["outcome"] for one in log.decisions}
    for one in seen:
        assert counted[one.id] <= 1, f"{one} stands twice"
        outcome = outcomes.get(one.id)
        if outcome is None:
            # Its number could not be journalled, and then its process was killed.
            assert not one.promised, f"{one} is lost"
            assert not one.journalled, f"{one} is lost"
            assert states(log)["unclean-stop"] > 0
        elif one.ended:
            killed = set() if one.promised else {"interrupted"}
            assert outcome in ENDS[one.endpoint] | killed, (one, outcome)
        else:
            assert outcome in CUT | ENDS.get(one.endpoint, set()), (one, outcome)


def _events(log: Log) -> list[dict[str, Any]]:
    return [json.loads(entry) for entry in log.entries]


def _expect_no_unexplained_number(log: Log) -> None:
    """Each emitter has ended, so that `check_whole_log` has accounted for it."""
    started, ended = set(), set()
    for event in _events(log):
        data = event["data"]
        if data.get("state") == "start":
            started.add(data["emitter"])
        elif data.get("state") == "stop" or data.get("reason") == "unclean-stop":
            ended.add(data["emitter"])
        elif "sequence" in data:
            started.add(data["emitter"])
    assert started <= ended


def _expect_amendments_of_decisions(log: Log) -> None:
    ids = {one["id"] for one in log.decisions}
    amended = [
        one["data"]["decision"]
        for one in _events(log)
        if one["type"] == "auditlog.amendment.v1"
    ]
    assert set(amended) <= ids
    assert len(set(amended)) == len(amended)


def test_whatever_goes_wrong_each_call_is_told(tmp_path: Path) -> None:
    turns = random.Random(SEED)
    with Disk(tmp_path / "disk") as disk:
        monkey = Monkey(turns, disk)
        seen = _wreak(disk, monkey)
        log = recovered(disk.directory)
        audit = disk.directory / "audit"
        with open_log(audit, read_only=True) as opened:
            report = check_log(opened)
        assert main(["check", "--dir", str(audit)]) == 0
    assert (report.problems, report.unchecked) == ((), ())
    _expect_all_told(log, seen)
    _expect_no_unexplained_number(log)
    _expect_amendments_of_decisions(log)
    kept = [one for one in seen if one.promised and one.ended]
    assert len(kept) > CLIENTS, "too little happened to say anything"
    assert monkey.done.keys() & {"kill", "term", "kill all", "kill master"}
