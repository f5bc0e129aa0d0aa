"""Anchors in processes that get killed: run by `test_kill.py` as a program.

    python -m tests.anchors.evm.driver kill RPC DIRECTORY
    python -m tests.anchors.evm.driver race RPC DIRECTORY
    python -m tests.anchors.evm.driver keep RPC DIRECTORY [EVERY]

A child anchors one digest as the product does: each answer of the anchor is stored
before the anchor is asked again. ``kill`` kills it (SIGKILL) after its first step, and
another after its second, and so on; a second child finds what is stored, and brings it
to its end. ``race`` runs two children at once, with one account. Files named by number
hold what came out for the digest of that number. ``keep`` kills as ``kill`` does, after
every step or each so many, whoever anchors a log whose history the chain keeps.

This program has no threads, so its children can be forks of it, and start at once.
"""

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import eth_account  # noqa: F401 # once here, not once in each child

from auditlog.anchors.attestation import Attestation
from auditlog.anchors.evm.anchor import EvmAnchor, configure
from auditlog.anchors.evm.node import Node, parse_node
from auditlog.core.errors import AuditLogError
from auditlog.core.record import canonical_json
from auditlog.log.anchoring import Anchoring
from auditlog.log.directory import open_log
from auditlog.log.sequencer import Sequencer
from auditlog.storage import AttestationRow, SpoolItem
from auditlog.storage.sqlite import SqliteStore
from tests.log.builders import config_of, gap_items

CHAIN_ID = 31337
NOW = 1_795_000_000.0


class Steps:
    """Counts requests and writes, and kills the process after one of them."""

    def __init__(self, last: int | None) -> None:
        self._left = last

    def done(self) -> None:
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def mine(url: str) -> None:
    Node(parse_node(url), time.monotonic() + 60).call("anvil_mine", "0x1")


def anchor_of(url: str, directory: Path) -> EvmAnchor:
    options = {"chain_id": CHAIN_ID, "confirmations": 1, "key_file": "chain.key"}
    return configure("chain", {**options, "rpc": url}, directory)


def load(file: Path) -> Attestation | None:
    if not file.exists():
        return None
    fields = json.loads(file.read_bytes())
    return Attestation("evm", fields["state"], fields["evidence"])


def store(file: Path, found: Attestation) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(
        canonical_json({"evidence": dict(found.evidence), "state": found.state})
    )
    new.replace(file)


def count(steps: Steps) -> None:
    """Let each answer of a node be a step."""
    real = Node.call

    def counted(self: Node, method: str, *params: object) -> object:
        answer = real(self, method, *params)
        if method != "anvil_mine":  # which is ours
            steps.done()
        return answer

    Node.call = counted  # type: ignore[method-assign]  # the same, and it counts


def bring(url: str, file: Path, digest: bytes, steps: Steps, *, blocks: bool) -> None:
    """Anchor a digest to the end, making a block after each step of its own."""
    count(steps)
    anchor = anchor_of(url, file.parent)
    for turn in range(800):
        found = load(file)
        if found is not None and found.state == "final":
            return
        now = NOW + turn
        try:
            if found is None:
                newer = anchor.submit(digest, [], now=now)
            else:
                newer = anchor.upgrade(digest, found, now=now)
        except AuditLogError as error:
            sys.stderr.write(f"{error}\n")
        else:
            if newer != found:
                steps.done()
                store(file, newer)
                steps.done()
        if blocks:
            mine(url)
    raise SystemExit(f"not final: {file}")


def child(do: Callable[[], None]) -> int:
    """Run something in a process of its own; return its number."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            do()
            code = 0
        except BaseException:  # noqa: BLE001 # nothing may get out of a fork
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def kill(url: str, directory: Path) -> None:
    """Kill one after each step that there is, until one comes through."""
    for step in range(1, 200):
        digest, file = digest_of(step), directory / f"{step}.json"
        anchoring = partial(bring, url, file, digest)
        pid = child(partial(anchoring, Steps(step), blocks=True))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            return
        assert status == -signal.SIGKILL, status
        pid = child(partial(anchoring, Steps(None), blocks=True))
        assert os.waitpid(pid, 0)[1] == 0
    raise AssertionError("there is no end of steps")


def keep(url: str, directory: Path, every: int) -> None:
    """Kill whoever anchors a log after each so many steps, until one comes through."""
    for step in range(1, 400, every):
        with open_log(directory) as log:
            log.store.append(gap_items(2, origin=log.origin))
            Sequencer(log.store, log.origin, log.signers).step()
        pid = child(partial(tell, url, directory, Steps(step)))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            return
        assert status == -signal.SIGKILL, status
        if step % 2:  # or the log grows before anybody looks
            pid = child(partial(tell, url, directory, Steps(None)))
            assert os.waitpid(pid, 0)[1] == 0
    raise AssertionError("there is no end of steps")


def count_writes(steps: Steps) -> None:
    """Let each write of a store be a step, and one more before it."""
    put, append = SqliteStore.put_attestation, SqliteStore.append

    def counted(self: SqliteStore, row: AttestationRow) -> None:
        steps.done()
        put(self, row)
        steps.done()

    def appended(self: SqliteStore, items: Sequence[SpoolItem]) -> int:
        first = append(self, items)
        steps.done()
        return first

    SqliteStore.put_attestation = counted  # type: ignore[assignment,method-assign]
    SqliteStore.append = appended  # type: ignore[assignment,method-assign]


def tell(url: str, directory: Path, steps: Steps) -> None:
    """Have the newest checkpoint of a log anchored, and its history kept."""
    count(steps)
    count_writes(steps)
    with open_log(directory) as log:
        anchoring = Anchoring(log, config_of(directory), time.time)
        anchoring.round("now")
        for _ in range(20):
            mine(url)
            anchoring.round("look")
            steps.done()
            behind = any(one.behind() for one in anchoring._works[0]._histories)
            if not behind and not log.store.attestations_by("chain", state="pending"):
                Sequencer(log.store, log.origin, log.signers).step()
                return
    raise SystemExit("it is not kept")


def race(url: str, directory: Path) -> None:
    """Let two anchor two digests each; make blocks meanwhile."""

    def several(first: int) -> None:
        for number in range(first, first + 2):
            file = directory / f"{number}.json"
            bring(url, file, digest_of(number), Steps(None), blocks=False)

    running = {child(partial(several, first)) for first in (1, 3)}
    try:
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            running.discard(pid)
            assert status == 0
            mine(url)
            time.sleep(0.01)
    finally:
        for pid in running:
            os.kill(pid, signal.SIGKILL)


def digest_of(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


if __name__ == "__main__":
    verb, given, folder, *more = sys.argv[1:]
    if verb == "keep":
        keep(given, Path(folder), *map(int, more))
    else:
        {"kill": kill, "race": race}[verb](given, Path(folder))
