"""The whole-log oracle: re-read every byte of a log and verify it without its readers.

It opens the database with `sqlite3`, parses what it finds by the definitions
(`FORMATS.md`, RFC 6962, C2SP tlog-tiles), and shares with the product only the parsers
of notes and entries. Nearly every test that writes a log ends with it. The same holds
for a store in memory, which it reads from the fields, not through the ports.
"""

import hashlib
import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.note import Verifier, open_note, parse_vkey
from auditlog.core.record import parse_entry
from tests.fakes import MemoryStore

__all__ = ["Log", "check_memory_log", "check_whole_log", "read_log"]


class Log(NamedTuple):
    """What stands in a log's database."""

    entries: list[bytes]
    decisions: list[dict[str, Any]]
    """The events of type decision, parsed."""
    checkpoints: list[tuple[int, bytes]]
    head: tuple[int, int, bytes]


def read_log(directory: Path) -> Log:
    """Read the entries of a log as they are stored."""
    with sqlite3.connect(f"file:{directory}/log.sqlite3?mode=ro", uri=True) as db:
        rows = db.execute("SELECT first, count, entries FROM spool ORDER BY first")
        entries: list[bytes] = []
        for first, count, framed in rows:
            assert first == len(entries), f"index {len(entries)} is missing"
            found = _unframe(framed)
            assert len(found) == count
            entries += found
        checkpoints = db.execute("SELECT size, note FROM checkpoints ORDER BY size")
        head = db.execute("SELECT generation, size, root FROM head").fetchone()
        events = [_event(entry) for entry in entries]
        decisions = [one for one in events if one["type"] == "auditlog.decision.v1"]
        log = Log(entries, decisions, list(checkpoints), head)
    db.close()
    return log


def check_whole_log(directory: Path) -> Log:
    """Verify every entry, tile, checkpoint and number of a log, and return it."""
    log = read_log(directory)
    with sqlite3.connect(f"file:{directory}/log.sqlite3?mode=ro", uri=True) as db:
        tiles = dict(db.execute("SELECT path, data FROM objects"))
    db.close()
    vkeys = (directory / "vkeys").read_text().split()
    _check(log, tiles, [parse_vkey(vkey) for vkey in vkeys])
    return log


def check_memory_log(store: MemoryStore, verifiers: Sequence[Verifier]) -> Log:
    """Verify the same of a log in memory, and return it."""
    events = [_event(entry) for entry in store.entries]
    decisions = [one for one in events if one["type"] == "auditlog.decision.v1"]
    checkpoints = sorted(store.checkpoints.items())
    log = Log(list(store.entries), decisions, checkpoints, store.state)
    _check(log, store.objects, verifiers)
    return log


def _check(log: Log, tiles: Mapping[str, bytes], verifiers: Sequence[Verifier]) -> None:
    leaves = [hashlib.sha256(b"\x00" + entry).digest() for entry in log.entries]
    levels = _levels(leaves)
    events = [_event(entry) for entry in log.entries]
    ids = Counter(event["id"] for event in events)
    assert set(ids.values()) <= {1}, "an id stands twice"
    numbers = Counter(
        (one["data"]["emitter"], one["data"]["sequence"]) for one in log.decisions
    )
    assert set(numbers.values()) <= {1}, "a number of an emitter stands twice"
    _check_numbers(events)
    _check_models(events)
    _check_head(log, leaves)
    _check_tiles(tiles, levels, log.head[1])
    _check_checkpoints(verifiers, log, leaves)


@lru_cache(1 << 14)
def _event(entry: bytes) -> dict[str, Any]:
    parse_entry(entry)
    event: dict[str, Any] = json.loads(entry)
    return event


def _check_models(events: Sequence[Mapping[str, Any]]) -> None:
    """Require that each model was told of before a decision that names it."""
    told: dict[str, Mapping[str, Any]] = {}
    for event in events:
        data = event["data"]
        if event["type"] == "auditlog.model.v1":
            told[event["id"]] = data
        elif "model.entry" in data:
            model = told[data["model.entry"]]
            for key in ("model.name", "model.version", "model.digest"):
                assert data.get(key) == model.get(key), "another model was told of"


def _check_numbers(events: list[dict[str, Any]]) -> None:
    """Of an emitter that ended, every number is there or is admitted."""
    logged: defaultdict[str, set[int]] = defaultdict(set)
    gaps: defaultdict[str, list[tuple[int, int | None, str]]] = defaultdict(list)
    ends: dict[str, int] = {}
    for data in (event["data"] for event in events):
        emitter = data.get("emitter")
        if "sequence" in data:
            logged[emitter].add(data["sequence"])
        elif {"from", "reason"} <= data.keys():
            gap = data["from"], data["to"], data["reason"]
            assert gap not in gaps[emitter], f"{gap} is admitted twice"
            gaps[emitter].append(gap)
            if data["to"] is None:
                ends[emitter] = data["from"]
        elif data.get("state") == "stop":
            ends[emitter] = data["next"]
    for emitter, end in ends.items():
        for number in set(range(end)) - logged[emitter]:
            assert any(
                first <= number and (last is None or number <= last)
                for first, last, _ in gaps[emitter]
            ), f"number {number} of {emitter} is a hole"


def _unframe(framed: bytes) -> list[bytes]:
    entries = []
    while framed:
        length = int.from_bytes(framed[:2])
        assert len(framed) >= 2 + length
        entries.append(framed[2 : 2 + length])
        framed = framed[2 + length :]
    return entries


def _root(leaves: list[bytes]) -> bytes:
    """MTH over leaf hashes, from its definition, without recomputing what is shared."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    level = leaves
    while len(level) > 1:
        # Pairing neighbours, an odd last one passing up, is the tree of RFC 6962.
        level = [
            hashlib.sha256(b"\x01" + b"".join(level[at : at + 2])).digest()
            if at + 1 < len(level)
            else level[at]
            for at in range(0, len(level), 2)
        ]
    return level[0]


def _levels(leaves: list[bytes]) -> list[list[bytes]]:
    levels = [leaves]
    while len(levels[-1]) >= 256:
        below = levels[-1]
        whole = len(below) // 256 * 256
        levels.append([_root(below[at : at + 256]) for at in range(0, whole, 256)])
    return levels


def _check_head(log: Log, leaves: list[bytes]) -> None:
    _, size, root = log.head
    assert size <= len(leaves), "the head is ahead of the spool"
    assert root == _root(leaves[:size]), "the head's root is wrong"


def _check_tiles(
    stored: Mapping[str, bytes], levels: list[list[bytes]], size: int
) -> None:
    for path, data in stored.items():
        _, below, *rest = path.split("/")
        name, _, width = "/".join(rest).partition(".p/")
        index = int(name.replace("x", "").replace("/", ""))
        hashes = levels[int(below)][index * 256 : index * 256 + int(width or 256)]
        assert data == b"".join(hashes), f"{path} does not match the entries"
    level, complete = 0, size // 256
    while complete:
        full = [p for p in stored if p.startswith(f"tile/{level}/") and ".p/" not in p]
        assert len(full) >= complete, f"full tiles of level {level} are missing"
        level, complete = level + 1, complete // 256


def _check_checkpoints(
    verifiers: Sequence[Verifier], log: Log, leaves: list[bytes]
) -> None:
    for size, note in log.checkpoints:
        opened = open_note(note, verifiers)
        assert len(opened.signatures) == len(verifiers)
        checkpoint = parse_checkpoint(opened.text)
        assert checkpoint.size == size <= log.head[1]
        assert checkpoint.root == _root(leaves[:size]), f"checkpoint {size} is wrong"
