"""Uploads and streams of any length: memory stays flat, the commitment covers all.

``LARGE_BODY_MIB=1024`` uploads and streams so much; in CI it is 48 MiB.
"""

import http.client
import itertools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from auditlog.core.commitment import (
    CHUNK,
    MAX_MEMBERS,
    chunks,
    disclosure_hash,
    leaf_hasher,
)
from auditlog.core.record import parse_entry
from auditlog.core.verify import verify_receipt
from auditlog.log.content import Leaf, verify_content
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from tests.e2e.large_app import BLOCK
from tests.e2e.processes import Server, free_port, wait_until

MIB = 1 << 20
SIZE = int(os.environ.get("LARGE_BODY_MIB", "48")) * MIB
GROWTH = 40 * MIB
"""What the process may grow by, however large a body is."""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="resident memory is read in /proc"
)


def sent(size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of what is sent over and over."""
    for _ in range(size // len(BLOCK)):
        yield BLOCK
    yield BLOCK[: size % len(BLOCK)]


class Memory:
    """The peak of a process's resident memory, in bytes."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        (self._proc / "clear_refs").write_text("5")  # the peak starts anew
        self._before = self._peak()

    def growth(self) -> int:
        return self._peak() - self._before

    def _peak(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", (self._proc / "status").read_text())
        assert found
        return int(found[1]) * 1024


@contextmanager
def serving(tmp_path: Path, **options: str) -> Iterator[Server]:
    port = free_port()
    server = Server(
        ["-m", "uvicorn", "tests.e2e.large_app:app", "--port", str(port)],
        port,
        tmp_path / "server.log",
        env={"AUDITLOG_DIR": str(tmp_path / "audit"), **options},
    )
    with server:
        # What every process takes once is not what is measured.
        upload(server, 3 * MIB)
        listen(server, 3 * MIB)
        yield server


def upload(server: Server, size: int) -> str:
    """Upload and return the decision's id."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"content-length": str(size), "content-type": "video/mp4"}
    connection.request("POST", "/upload", sent(size), headers)
    answer = connection.getresponse()
    assert int(answer.read()) == size
    id_ = answer.headers["decision-id"]
    connection.close()
    return id_


def listen(server: Server, size: int) -> str:
    """Take so much of an endless stream, leave, and return the decision's id."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/endless")
    answer = connection.getresponse()
    left, parts = size, itertools.cycle([BLOCK])
    while left:
        taken = answer.read(min(left, len(BLOCK)))
        assert taken == next(parts)[: len(taken)]
        left -= len(taken)
    id_ = answer.headers["decision-id"]
    connection.close()
    return id_


def raw_hash(leaf: Leaf, size: int) -> bytes:
    """Hash a raw leaf over what was sent, by the definition."""
    hasher = leaf_hasher(leaf.salt, leaf.path)
    for part in sent(size):
        hasher.update(part)
    return hasher.digest()


def chunk_hashes(side: str, leaves: list[Leaf], size: int) -> list[bytes]:
    """Hash the chunk leaves over what was sent, by the definition."""
    whole = sent(size)
    hashes, buffer = [], b""
    for leaf in leaves:
        while len(buffer) < CHUNK and (part := next(whole, b"")):
            buffer += part
        hashes.append(disclosure_hash(leaf.salt, leaf.path, buffer[:CHUNK]))
        buffer = buffer[CHUNK:]
    assert not buffer
    assert next(whole, b"") == b""
    assert [leaf.path for leaf in leaves] == [
        f"{side}#{number}" for number in range(-(-size // CHUNK))
    ]
    return hashes


def check_decision(directory: Path, id_: str, side: str, state: str, kept: int) -> int:
    """Hold a decision to what was sent; return the size of the body."""
    with open_log(directory) as log:
        reader = Reader(log)
        wait_until(lambda: reader.decision(id_).level == "included", 60, "included")
        view = reader.decision(id_)
        assert view.entry is not None
        entry, content = parse_entry(view.entry), reader.content(id_)
        part = content.parts[("request", "response").index(side)]
        leaves = verify_content(entry, content)
        size = part.size
        chunked = size <= CHUNK * MAX_MEMBERS
        receipt = reader.receipt(id_, disclose=[f"{side}#1"] if chunked else [])
        verdict = verify_receipt(receipt, log.policy())
    assert part.value == b"".join(sent(min(size, kept)))
    raw = next(leaf for leaf in leaves if leaf.path == side)
    assert raw.hash == raw_hash(raw, size)
    cut = [leaf for leaf in leaves if leaf.path.startswith(f"{side}#")]
    assert entry.data[side]["state"] == state
    if not chunked:
        assert (entry.data[side]["split"], cut) == ("none", [])
        return size
    assert entry.data[side]["split"] == "chunks"
    assert [leaf.hash for leaf in cut] == chunk_hashes(side, cut, size)
    assert verdict.disclosed == (chunks(side, part.value)[1],)
    return size


def test_a_huge_upload_leaves_memory_flat_and_is_committed_to_whole(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as server:
        memory = Memory(server.pid)
        id_ = upload(server, SIZE)
        assert memory.growth() < GROWTH
        size = check_decision(tmp_path / "audit", id_, "request", "complete", MIB)
        assert memory.growth() < GROWTH
    assert size == SIZE


def test_an_endless_stream_leaves_memory_flat_and_is_committed_to_whole(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as server:
        memory = Memory(server.pid)
        id_ = listen(server, SIZE)
        size = check_decision(tmp_path / "audit", id_, "response", "partial", MIB)
        assert memory.growth() < GROWTH
    assert size >= SIZE


def test_a_larger_copy_waits_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    kept = 4 * MIB
    with serving(tmp_path, AUDITLOG_MAX_STORED_BYTES=str(kept)) as server:
        memory = Memory(server.pid)
        id_ = upload(server, SIZE)
        # Only while it is sealed is the copy in memory, a few times over.
        size = check_decision(tmp_path / "audit", id_, "request", "complete", kept)
        assert memory.growth() < GROWTH
    assert size == SIZE


def test_where_no_disk_takes_it_the_copy_is_shorter_and_the_commitment_is_not(
    tmp_path: Path,
) -> None:
    kept = {
        "AUDITLOG_MAX_STORED_BYTES": str(8 * MIB),
        "AUDITLOG_MAX_SPILLED_BYTES": "0",
    }
    with serving(tmp_path, **kept) as server:
        id_ = upload(server, 5 * MIB)
        check_decision(tmp_path / "audit", id_, "request", "complete", MIB)
    assert "the disk does not take all of" in (tmp_path / "server.log").read_text()
