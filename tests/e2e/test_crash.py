"""Four workers under load, killed without warning: nothing acknowledged is lost.

``KILLS=100`` kills so often; in CI it is ten times.
"""

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auditlog.config import Config
from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.merkle import leaf_hash, nodes_of, prove_consistency
from auditlog.core.merkle import verify_consistency as verify
from auditlog.core.note import split_unverified_note
from auditlog.core.verify import verify_receipt
from auditlog.log.check import check_log
from auditlog.log.directory import create_log, open_log
from auditlog.log.reader import Reader
from auditlog.storage.sqlite import SqliteStore
from auditlog.web.witness_server import init_witness
from tests.e2e.processes import Server, free_port, wait_until
from tests.harness import check_whole_log

KILLS = int(os.environ.get("KILLS", "10"))
ROUND = 5
"""Kills in a round: all but the last one hit a worker, the last one everybody."""
CLIENTS = 8


class Load:
    """Clients that ask without pause and remember every cleanly ended 200."""

    def __init__(self, port: int) -> None:
        self.acknowledged: list[str] = []
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

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

    def wait_for(self, count: int) -> None:
        """Wait until so many more were acknowledged."""
        enough = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= enough, 30, f"{count} more")

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                body = json.dumps({"number": number}).encode()
                path = "/stream" if number % 3 == 0 else "/score/loan"
                headers = {"content-type": "application/json"}
                connection.request("POST", path, body, headers)
                response = connection.getresponse()
                response.read()
                if response.status == 200:
                    self.acknowledged.append(response.headers["decision-id"])
            except (OSError, http.client.HTTPException):
                connection.close()
                time.sleep(0.02)
        connection.close()


def _cosigned_sizes(directory: Path) -> set[int]:
    with SqliteStore(directory / "log.sqlite3", read_only=True) as store:
        return set(store.cosigned_sizes())


def _service(port: int, directory: Path, output: Path) -> Server:
    command = ["-m", "uvicorn", "tests.e2e.echo_app:app", "--workers", "4"]
    env = {
        "AUDITLOG_DIR": str(directory),
        "AUDITLOG_DURABILITY": "sync",
        "AUDITLOG_CHECKPOINT_INTERVAL": "0.2",
        "AUDITLOG_ANCHOR_INTERVAL": "0.3",
    }
    return Server([*command, "--port", str(port)], port, output, env)


def _log_with_witness(tmp_path: Path, witness_port: int) -> tuple[Path, str]:
    """Make a log and a witness of it; return the log's directory and its first key."""
    directory = tmp_path / "audit"
    vkeys = init_witness(tmp_path / "witness", "witness.example/w1")
    with create_log(Config(dir=directory, origin="log.example/crash")) as log:
        url = f"http://127.0.0.1:{witness_port}"
        lines = [f"log {vkey}" for vkey in log.vkeys]
        lines += [f"witness w{n} {vkey} {url}" for n, vkey in enumerate(vkeys)]
        lines += ["group all-of-it all w0 w1", "quorum all-of-it"]
        log.paths.policy.write_text("\n".join(lines) + "\n")
        return directory, log.vkeys[0]


def _kill_a_worker(server: Server, number: int) -> None:
    """Kill one of those that have been there longest."""
    wait_until(lambda: len(_recording(server)) > 1, 30, "two that record")
    os.kill(_recording(server)[number % 2], signal.SIGKILL)


def _recording(server: Server) -> list[int]:
    """Return the workers that have a journal: a new one records nothing yet."""
    return [pid for pid in server.workers() if any(map(_is_journal, _files(pid)))]


def _files(pid: int) -> list[Path]:
    with contextlib.suppress(OSError):
        return list(Path(f"/proc/{pid}/fd").iterdir())
    return []


def _is_journal(descriptor: Path) -> bool:
    with contextlib.suppress(OSError):
        return str(descriptor.readlink()).endswith(".journal")
    return False


def _round(port: int, directory: Path, output: Path) -> tuple[list[str], bytes]:
    """Serve under load, kill worker after worker, then all; return ids, a receipt."""
    before = _cosigned_sizes(directory)
    with _service(port, directory, output) as server:
        load = Load(port)
        with load.running():
            for number in range(1, ROUND):
                load.wait_for(50)
                _kill_a_worker(server, number)
            load.wait_for(50)
            # The witness cosigns while the service runs, in every round.
            wait_until(lambda: _cosigned_sizes(directory) > before, 30, "a cosignature")
            with open_log(directory, read_only=True) as log:
                first = load.acknowledged[0]
                receipt = Reader(log).receipt(first, disclose=["request"])
            server.kill()
    return load.acknowledged, receipt


def _check_consistent(directory: Path) -> None:
    log = check_whole_log(directory)
    leaves = [leaf_hash(entry) for entry in log.entries]
    texts = [split_unverified_note(note)[0] for _, note in log.checkpoints]
    last = parse_checkpoint(texts[-1])
    for text in texts[:-1]:
        old = parse_checkpoint(text)
        proof = prove_consistency(old.size, last.size, nodes_of(leaves[: last.size]))
        verify(old.size, old.root, last.size, last.root, proof)


def test_kill_9_of_one_worker_and_of_all_loses_nothing_acknowledged(
    tmp_path: Path,
) -> None:
    port, witness_port = free_port(), free_port()
    directory, vkey = _log_with_witness(tmp_path, witness_port)
    output = tmp_path / "output.txt"
    witness = [
        *("-m", "auditlog", "witness", "serve", "--dir", str(tmp_path / "witness")),
        *("--log", vkey, "--host", "127.0.0.1", "--port", str(witness_port)),
    ]
    acknowledged: list[str] = []
    receipts = []
    with Server(witness, witness_port, output):
        for _ in range(-(-KILLS // ROUND)):
            ids, receipt = _round(port, directory, output)
            acknowledged += ids
            receipts.append(receipt)
        with _service(port, directory, output):
            pass  # One clean start and stop admits what the last kill left.
    log = check_whole_log(directory)
    killed = [one for one in log.entries if b'"reason":"unclean-stop"' in one]
    assert len(killed) >= KILLS
    counted = Counter(one["id"] for one in log.decisions)
    assert {id_: counted[id_] for id_ in acknowledged} == dict.fromkeys(acknowledged, 1)
    _check_consistent(directory)
    policy = (directory / "policy").read_text()
    for receipt in receipts:
        verify_receipt(receipt, policy)
    with open_log(directory, read_only=True) as opened:
        report = check_log(opened)
    assert (report.problems, report.unchecked) == ((), ())
    assert log.head[1] == len(log.entries)
