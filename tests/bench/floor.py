"""The bare floor: the work that nobody can leave out, in a plain loop, no product.

For each decision the salts, leaf hashes and commitment, the leaf hash of the entry, the
record key, both bodies compressed, and the content sealed; then, in batches as large
as the product's, the same rows into the same SQLite schema with the same settings;
then, for each checkpoint, the entries read again and hashed, the nodes, the tiles, and
the two signatures. Left out is everything else: describing, JSON, queues, threads,
checks. The entries, rows and leaves are ready before the clock starts.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from auditlog.capture.exchange import Exchange
from auditlog.core.commitment import members
from auditlog.core.note import Signer
from auditlog.storage import SpoolItem
from auditlog.storage.sealing import padme_length
from auditlog.storage.sqlite import SqliteStore

__all__ = ["Ready", "bare_floor", "batches_of", "make_ready"]

_TILE = 256
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 4096",
)


class Ready(NamedTuple):
    """A decision of which everything is known that the floor does not compute."""

    secret: bytes
    bodies: tuple[bytes, bytes]
    leaves: tuple[tuple[bytes, bytes], ...]
    """Length and path, and value, of every leaf."""
    item: SpoolItem


def make_ready(exchange: Exchange, item: SpoolItem, depth: int) -> Ready:
    """Prepare a decision for the floor, from the item that the product made of it."""
    bodies = exchange.request.kept(), exchange.response.kept()
    named = list(zip(("request", "response"), bodies, strict=True))
    for prefix, body in zip(("request", "response"), bodies, strict=True):
        named += members(prefix, body, depth) or []
    named.append(("context/target", exchange.target or b""))
    leaves = tuple(
        (len(path).to_bytes(2) + path.encode(), value) for path, value in named
    )
    return Ready(exchange.secret, bodies, leaves, item)


def batches_of(database: Path) -> list[list[int]]:
    """Return how a log was filled: batches of bundle sizes, as its spool shows them.

    A batch ends with a bundle that is not full; the product's largest has four.
    """
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT count FROM spool ORDER BY first").fetchall()
    batches: list[list[int]] = [[]]
    for (count,) in rows:
        batches[-1].append(count)
        if count < _TILE or len(batches[-1]) == 4:
            batches.append([])
    return [batch for batch in batches if batch]


def bare_floor(
    path: Path,
    decisions: Sequence[Ready],
    batches: Sequence[Sequence[int]],
    signers: Sequence[Signer],
    checkpoint_every: int,
) -> None:
    """Do it all for `decisions`, in the batches of the product.

    Args:
        path: a database that is made here.
        decisions: what to append.
        batches: sizes of the bundles of each transaction.
        signers: of the checkpoints.
        checkpoint_every: decisions under one checkpoint.
    """
    SqliteStore.create(path, "log.example/floor").close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in _PRAGMAS:
            connection.execute(pragma).fetchall()
        tree = _Tree(connection, signers)
        work = iter(decisions)
        size = 0
        for bundles in batches:
            size += _append(connection, size, bundles, work)
            if size - tree.size >= checkpoint_every:
                tree.grow(size)
        tree.grow(size)


def _append(
    connection: sqlite3.Connection,
    first: int,
    bundles: Sequence[int],
    work: Iterator[Ready],
) -> int:
    """Append one batch in one durable transaction; return its size."""
    spool, index, vault = [], [], []
    at = first
    compress = zstandard.ZstdCompressor(level=1).compress
    for count in bundles:
        bundle = bytearray()
        # The product's log also has a few entries about its emitter.
        decisions = list(islice(work, count))
        for number, one in enumerate(decisions, at):
            item = one.item
            bundle += len(item.entry).to_bytes(2) + item.entry
            index.append((number, *item.row[1:]))
            vault.append((number, item.key_id, _seal(one, compress)))
        if decisions:
            spool.append((at, len(decisions), bytes(bundle)))
        at += len(decisions)
    if not index:
        return 0
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO spool VALUES (?, ?, ?)", spool)
    marks = ", ".join("?" * len(index[0]))
    connection.executemany(f"INSERT INTO entry_index VALUES ({marks})", index)
    connection.executemany("INSERT INTO vault VALUES (?, ?, ?)", vault)
    connection.execute("COMMIT")
    return at - first


_KEY = os.urandom(32)


def _seal(one: Ready, compress: Callable[[bytes], bytes]) -> bytes:
    """Commit to a decision and seal it, as `FORMATS.md` §2 and §4 say."""
    sha256 = hashlib.sha256
    count = len(one.leaves)
    stream = hashlib.shake_128(b"auditlog/salts/v1\n" + one.secret).digest(
        16 + 16 * count
    )
    hashes = [
        sha256(b"\0" + stream[at : at + 16] + path + value).digest()
        for at, (path, value) in zip(
            range(16, 16 * count + 16, 16), one.leaves, strict=True
        )
    ]
    sizes = b"".join(len(body).to_bytes(8) for body in one.bodies)
    sha256(
        b"auditlog/commitment/v1\n" + stream[:16] + sizes + b"".join(hashes)
    ).digest()
    leaf = sha256(b"\0" + one.item.entry).digest()
    r = os.urandom(32)
    key = hashlib.shake_256(b"auditlog/record-key/v1\n" + _KEY + r).digest(32)
    request, response = one.bodies
    packed = b"".join(
        (one.secret, compress(request), compress(response), one.leaves[-1][1])
    )
    packed = packed.ljust(padme_length(len(packed)), b"\0")
    aad = b"auditlog/seal/v1\n" + leaf + (one.item.key_id or b"")
    return b"\1" + r + AESGCM(key).encrypt(bytes(12), packed, aad)


class _Tree:
    """The tree over what is in the database, checkpoint by checkpoint."""

    def __init__(
        self, connection: sqlite3.Connection, signers: Sequence[Signer]
    ) -> None:
        self.size = 0
        self._connection = connection
        self._signers = signers

    def grow(self, size: int) -> None:
        """Bring everything below `size` under a checkpoint."""
        if size == self.size:
            return
        tiles = self._tiles(size)
        connection = self._connection
        # Tiles, head and checkpoint are durable one after the other.
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT OR IGNORE INTO objects VALUES (?, ?)", tiles)
        connection.execute("COMMIT")
        connection.execute("UPDATE head SET size = ?", (size,))
        # What is signed is computed again, from what is stored.
        self._tiles(size)
        text = b"log.example/floor\n%d\n%b\n" % (size, b"A" * 43 + b"=")
        note = text + b"".join(signer.sign(text) for signer in self._signers)
        connection.execute("INSERT INTO checkpoints VALUES (?, ?)", (size, note))
        self.size = size

    def _tiles(self, size: int) -> list[tuple[str, bytes]]:
        sha256 = hashlib.sha256
        rows = self._connection.execute(
            "SELECT entries FROM spool WHERE first >= ? ORDER BY first", (self.size,)
        )
        leaves = []
        for (data,) in rows.fetchall():
            at = 0
            while at < len(data):
                end = at + 2 + (data[at] << 8 | data[at + 1])
                leaves.append(sha256(b"\0" + data[at + 2 : end]).digest())
                at = end
        for at in range(0, len(leaves), _TILE):
            level = leaves[at : at + _TILE]
            while len(level) > 1:
                pairs = zip(level[::2], level[1::2], strict=False)
                level = [sha256(b"\1" + one + two).digest() for one, two in pairs]
        return [
            (f"tile/0/{self.size + at}", b"".join(leaves[at : at + _TILE]))
            for at in range(0, len(leaves), _TILE)
        ]
