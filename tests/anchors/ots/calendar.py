"""Calendars and a chain of blocks to test against: HTTP, aggregation, work are real.

A calendar is a process or a thread that answers as deployed ones do, and forgets
nothing that it promised: each promise is synced before it is given, so that it may be
killed at any time. Proofs are built and written by the library `opentimestamps`, never
by our own code. The chain is Bitcoin's format at the difficulty of its test network:
two hashes a block.

``python -m tests.anchors.ots.calendar PORT DIRECTORY`` serves one. Two of its paths no
deployed one has: ``POST /mine`` brings all that is pending into a block, and
``GET /headers`` gives all headers of its chain.
"""

import hashlib
import http.server
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bitcoin.core import CBlock, COutPoint, CTransaction, CTxIn, CTxOut
from bitcoin.core.script import OP_RETURN, CScript
from opentimestamps.bitcoin import make_timestamp_from_block
from opentimestamps.core.notary import PendingAttestation
from opentimestamps.core.op import OpAppend, OpPrepend, OpSHA256
from opentimestamps.core.serialize import BytesSerializationContext
from opentimestamps.core.timestamp import Timestamp, make_merkle_tree

__all__ = ["TARGET", "Calendar", "Chain", "Handler", "serve", "serving", "written"]

TARGET = 0x7FFFFF << 8 * 29
_BITS = 0x207FFFFF
_START = 1_800_000_000
_SPACING = 600
_FIRST = 900_000

Handler = Callable[[http.server.BaseHTTPRequestHandler], bool]
"""Looks at a request before the calendar does; True if it has been answered."""


def written(timestamp: Any) -> bytes:
    """Return a timestamp as the library serialises it."""
    context = BytesSerializationContext()
    timestamp.serialize(context)
    return bytes(context.getbytes())


class Chain:
    """Blocks of a few transactions, each upon the last, ten minutes apart."""

    def __init__(self, path: Path | None = None, start: int = _START) -> None:
        self.first = _FIRST
        self._path = path
        self._start = start
        self._blocks = [CBlock.deserialize(data) for data in _lines(path)]
        if not self._blocks:
            self.mine()

    def mine(self, message: bytes = b"") -> int:
        """Add a block; with a message, one transaction commits to it. Its height."""
        before = self._blocks[-1].GetHash() if self._blocks else bytes(32)
        at = self._start + _SPACING * len(self._blocks)
        height = self.first + len(self._blocks)
        paid = [_transaction(bytes([n, height % 251])) for n in range(6)]
        paid[3:3] = [_transaction(message)] if message else []
        paid.insert(0, _transaction(struct.pack("<I", height)))
        root = CBlock(2, before, bytes(32), at, _BITS, 0, paid).calc_merkle_root()
        for nonce in range(1 << 16):
            block = CBlock(2, before, root, at, _BITS, nonce, paid)
            if int.from_bytes(block.GetHash(), "little") <= TARGET:
                _add_line(self._path, block.serialize())
                self._blocks.append(block)
                return height
        raise AssertionError("no such luck")

    def block(self, height: int) -> Any:
        return self._blocks[height - self.first]

    def header(self, height: int) -> bytes:
        return bytes(self.block(height).get_header().serialize())

    def time(self, height: int) -> int:
        return int(self.block(height).nTime)

    @property
    def raw(self) -> bytes:
        """All headers, one after another."""
        return b"".join(block.get_header().serialize() for block in self._blocks)

    def trust(self, *heights: int, party: str = "Bitcoin") -> str:
        """Return the table of a trust file, with these headers or all."""
        known = heights or range(self.first, self.first + len(self._blocks))
        rows = ", ".join(f'{at} = "{self.header(at).hex()}"' for at in known)
        return f'[[bitcoin]]\nparty = "{party}"\nheaders = {{ {rows} }}\n'


class Calendar:
    """What a calendar promised, and the proofs it has brought into blocks."""

    def __init__(self, directory: Path, chain: Chain | None = None) -> None:
        self.chain = Chain(directory / "chain") if chain is None else chain
        self.url = ""
        """Set once it is served."""
        self._promised = directory / "promised"
        self._proven = directory / "proven"
        self._lock = threading.Lock()
        # A proof stands behind the message that it belongs to, of 44 bytes.
        self._done = {line[:44]: line[44:] for line in _lines(self._proven)}
        self._pending = [
            line for line in _lines(self._promised) if line not in self._done
        ]

    def promise(self, digest: bytes) -> bytes:
        """Return a proof from a commitment to our promise, once it is durable."""
        start = timestamp = Timestamp(digest)
        for operation in (
            *(OpPrepend(os.urandom(32)), OpSHA256()),  # from its aggregation
            *(
                OpPrepend(struct.pack(">I", len(self._pending))),
                OpAppend(os.urandom(8)),
            ),
        ):
            timestamp = timestamp.ops.add(operation)
        timestamp.attestations.add(PendingAttestation(self.url))
        with self._lock:
            _add_line(self._promised, timestamp.msg)
            self._pending.append(timestamp.msg)
        return written(start)

    def find(self, commitment: bytes) -> bytes | None:
        """Return the proof from what was promised to a block, or None."""
        return self._done.get(commitment)

    def mine(self) -> int:
        """Bring all that is pending into one block; return its height."""
        with self._lock:
            leaves = [Timestamp(message) for message in self._pending]
            if not leaves:
                return self.chain.mine()
            tip = make_merkle_tree([leaf.ops.add(OpSHA256()) for leaf in leaves])
            height = self.chain.mine(tip.msg)
            block = self.chain.block(height)
            tip.merge(make_timestamp_from_block(tip.msg, block, height))
            for leaf in leaves:
                _add_line(self._proven, leaf.msg + written(leaf))
                self._done[leaf.msg] = written(leaf)
            self._pending = []
            return height

    def reorganise(self, chain: Chain) -> None:
        """Go over to another chain, on which nothing is proven yet."""
        with self._lock:
            self.chain = chain
            self._pending += self._done
            self._done.clear()
            self._proven.unlink()


def serve(
    calendar: Calendar, port: int = 0, before: Handler | None = None
) -> http.server.ThreadingHTTPServer:
    """Return a server, bound and named, whose loop is not yet running."""

    class Handling(http.server.BaseHTTPRequestHandler):
        wbufsize = -1

        def do_POST(self) -> None:
            if before is not None and before(self):
                return
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path == "/mine":
                self._send(200, str(calendar.mine()).encode())
            elif self.path == "/digest" and len(body) <= 64:
                self._send(200, calendar.promise(body))
            else:
                self._send(400, b"")

        def do_GET(self) -> None:
            if before is not None and before(self):
                return
            if self.path == "/headers":
                self._send(200, calendar.chain.raw)
                return
            _, _, name = self.path.partition("/timestamp/")
            proof = calendar.find(bytes.fromhex(name))
            pending = b"Pending confirmation in Bitcoin blockchain"
            self._send(404 if proof is None else 200, proof or pending)

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.opentimestamps.v1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handling)
    calendar.url = f"http://127.0.0.1:{server.server_port}"
    return server


@contextmanager
def serving(
    calendar: Calendar, port: int = 0, before: Handler | None = None
) -> Iterator[str]:
    """Serve a calendar in a thread; yield its URL."""
    with serve(calendar, port, before) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield calendar.url
        finally:
            server.shutdown()
            thread.join()


def _transaction(message: bytes) -> Any:
    source = COutPoint(hashlib.sha256(message).digest(), 0)
    output = CTxOut(0, CScript([OP_RETURN, message]))
    return CTransaction([CTxIn(source)], [output])


def _lines(path: Path | None) -> list[bytes]:
    """Return what `_add_line` wrote; a line that was cut short was never answered."""
    if path is None or not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [bytes.fromhex(line) for line in lines if line.endswith("\n")]


def _add_line(path: Path | None, data: bytes) -> None:
    if path is None:
        return
    with path.open("a") as file:
        file.write(f"{data.hex()}\n")
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    serve(Calendar(Path(sys.argv[2])), int(sys.argv[1])).serve_forever()
