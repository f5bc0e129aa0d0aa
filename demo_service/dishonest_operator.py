"""The dishonest operator: has every file and every key of the log, and uses them.

Each function changes a copy of the log's directory, as thoroughly as somebody who
knows the format would: look-up rows and sealed content move along, sealed content is
sealed again under the real keys, and a rebuilt tree gets real signatures. What the
operator does not have are the receipts that others hold, and the witness's key.
"""

import os
import shutil
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from auditlog.core.merkle import EMPTY_ROOT, leaf_hash
from auditlog.core.record import (
    DECISION,
    Entry,
    format_entry,
    format_id,
    parse_entry,
)
from auditlog.core.tiles import TILE_WIDTH, format_bundle, parse_bundle
from auditlog.log.content import Part, pack, unpack
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.identity import new_id
from auditlog.log.sequencer import Sequencer
from auditlog.storage import ERASED
from auditlog.storage.keys import SUBJECT, subject_tag
from auditlog.storage.sealing import seal, unseal

__all__ = [
    "INVENTED",
    "ask_no_witness",
    "ask_the_authority_alone",
    "copy_log",
    "delete_entry",
    "edit_content",
    "rebuild_without",
    "swap_entries",
]

_ANCHOR = "auditlog.anchor.v1"
INVENTED = 2
"""Decisions that `rebuild_without` makes up for the one that it drops; and one for each
entry that told of an anchor, so that the log does not look shorter."""


class Stored(NamedTuple):
    """One entry, with everything that the database keeps beside it."""

    entry: bytes
    row: tuple[Any, ...]
    """Its row of the look-up table, without the index."""
    vault: tuple[bytes, bytes] | None
    """Key id and sealed content."""


def copy_log(source: Path, target: Path) -> Path:
    """Copy a stopped log's directory, keys and all; return `target`."""
    shutil.copytree(source, target)
    # Without it the product does not notice that this is a copy.
    (target / "place").unlink()
    return target


def edit_content(directory: Path, index: int, find: bytes, put: bytes) -> None:
    """Change the stored response of a decision, and seal it again with the real key.

    Raises:
        ValueError: the response does not hold `find`.
    """

    def edit(packed: bytes) -> bytes:
        content = unpack(packed)
        response = content.response.replace(find, put)
        if response == content.response:
            raise ValueError(f"the response does not hold {find!r}")
        part = Part("response", response, len(response))
        parts = (content.parts[0], part, *content.parts[2:])
        compressor = zstandard.ZstdCompressor()
        return pack(replace(content, parts=parts), compressor)

    def change(log: LogDirectory, stored: list[Stored]) -> None:
        stored[index] = _sealed_again(log, stored[index], stored[index].entry, edit)

    _change(directory, change)


def delete_entry(directory: Path, index: int) -> None:
    """Remove an entry and all that is kept of it; the ones behind it move up."""

    def change(_: LogDirectory, stored: list[Stored]) -> None:
        del stored[index]

    _change(directory, change)


def swap_entries(directory: Path, one: int, other: int) -> None:
    """Let two entries change places."""

    def change(_: LogDirectory, stored: list[Stored]) -> None:
        stored[one], stored[other] = stored[other], stored[one]

    _change(directory, change)


def rebuild_without(directory: Path, index: int) -> None:
    """Make another history: one decision never was, `INVENTED` others were instead.

    Nor was it ever anchored, or shown to anybody: what tells of the true history, or
    of the decision, is left out.

    The numbers of the emitter are closed up, all content is sealed again for the
    entries that changed by it, the tree is built anew by the product's own sequencer,
    and its checkpoint is signed with the log's own keys.
    """

    def change(log: LogDirectory, stored: list[Stored]) -> None:
        gone = parse_entry(stored.pop(index).entry)
        dropped, name = gone.data, format_id(gone.id)
        kept = [one for one in stored if not _tells_of(name, parse_entry(one.entry))]
        more = INVENTED + len(stored) - len(kept)
        for number, one in enumerate(kept):
            entry = _closed_up(parse_entry(one.entry), dropped, more)
            kept[number] = _sealed_again(log, one, format_entry(entry))
        stored[:] = kept + _invented(log, kept, dropped["emitter"], more)

    _change(directory, change)
    _forget_history(directory)
    with open_log(directory) as log:
        Sequencer(log.store, log.origin, log.signers).step()


def ask_no_witness(directory: Path) -> None:
    """Take the witnesses, who know better, out of whom the log asks."""
    policy = directory / "policy"
    keys = [line for line in policy.read_text().splitlines() if line[:4] == "log "]
    policy.write_text("\n".join([*keys, "quorum none", ""]))


def ask_the_authority_alone(directory: Path) -> None:
    """Take the chain, which knows better too, out of the log's anchors."""
    anchors = directory / "anchors.toml"
    first, *_ = anchors.read_text().split("[[anchor]]")[1:]
    anchors.write_text(f"[[anchor]]{first}")


def _change(
    directory: Path, change: Callable[[LogDirectory, list[Stored]], None]
) -> None:
    """Read everything that is stored, let `change` edit it, and write it back."""
    with open_log(directory) as log, closing(_connect(log)) as database, database:
        stored = _read(database)
        change(log, stored)
        _write(database, stored)


def _connect(log: LogDirectory) -> sqlite3.Connection:
    return sqlite3.connect(log.paths.database)


def _read(database: sqlite3.Connection) -> list[Stored]:
    bundles = database.execute("SELECT entries FROM spool ORDER BY first")
    entries = [entry for (data,) in bundles for entry in parse_bundle(data)]
    rows = {row[0]: row[1:] for row in database.execute("SELECT * FROM entry_index")}
    vault = {row[0]: row[1:] for row in database.execute("SELECT * FROM vault")}
    return [
        Stored(entry, rows[index], vault.get(index))
        for index, entry in enumerate(entries)
    ]


def _write(database: sqlite3.Connection, stored: list[Stored]) -> None:
    for table in ("spool", "entry_index", "vault"):
        database.execute(f"DELETE FROM {table}")  # noqa: S608  names from above
    for first in range(0, len(stored), TILE_WIDTH):
        some = [one.entry for one in stored[first : first + TILE_WIDTH]]
        row = (first, len(some), format_bundle(some))
        database.execute("INSERT INTO spool VALUES (?, ?, ?)", row)
    for index, one in enumerate(stored):
        marks = ", ".join("?" * (1 + len(one.row)))
        insert = f"INSERT INTO entry_index VALUES ({marks})"  # noqa: S608
        database.execute(insert, (index, *one.row))
        if one.vault is not None:
            database.execute("INSERT INTO vault VALUES (?, ?, ?)", (index, *one.vault))


def _forget_history(directory: Path) -> None:
    with open_log(directory) as log, closing(_connect(log)) as database, database:
        for table in ("objects", "checkpoints", "cosignatures", "attestations"):
            database.execute(f"DELETE FROM {table}")  # noqa: S608  names from above
        database.execute(
            "UPDATE head SET generation = 0, size = 0, root = ?", (EMPTY_ROOT,)
        )


def _about_the_same(log: LogDirectory, one: Stored, made: Entry) -> Entry:
    """Return an invented decision with the tag of whom the real one is about."""
    key_id = b"" if one.vault is None else one.vault[0]
    if log.keys.kind(key_id) != SUBJECT:
        return made
    tag = urlsafe_b64encode(subject_tag(log.keys.key(key_id), made.id)).decode()
    return replace(made, subject=tag)


def _tells_of(decision: str, entry: Entry) -> bool:
    """Return whether an entry tells of a decision, or of the true history."""
    return entry.type == _ANCHOR or entry.data.get("decision") == decision


def _sealed_again(
    log: LogDirectory,
    one: Stored,
    entry: bytes,
    edit: Callable[[bytes], bytes] = lambda packed: packed,
) -> Stored:
    """Return `one` with other bytes for its entry, its content sealed to match."""
    parsed = parse_entry(entry)
    row = _row(one.row, parsed)
    if one.vault is None or one.vault[0] == ERASED:
        return Stored(entry, row, one.vault)
    key_id, sealed = one.vault
    key = log.keys.key(key_id)
    packed = edit(unseal(key, key_id, leaf_hash(one.entry), sealed))
    sealed = seal(key, key_id, leaf_hash(entry), os.urandom(32), packed)
    return Stored(entry, row, (key_id, sealed))


def _row(row: tuple[Any, ...], entry: Entry) -> tuple[Any, ...]:
    id_, type_, time, emitter, sequence, *rest = row
    if type_ == DECISION:
        id_, time, sequence = entry.id, entry.time, entry.data["sequence"]
    return (id_, type_, time, emitter, sequence, *rest)


def _closed_up(entry: Entry, dropped: dict[str, Any], more: int) -> Entry:
    """Return the entry as if the dropped decision's number had never been given."""
    data = dict(entry.data)
    if data.get("emitter") != dropped["emitter"]:
        return entry
    if data.get("sequence", -1) > dropped["sequence"]:
        data["sequence"] -= 1
    if data.get("next", -1) > dropped["sequence"]:
        data["next"] += more - 1 if data["state"] == "stop" else -1
    return replace(entry, data=data)


def _invented(
    log: LogDirectory, stored: list[Stored], emitter: str, count: int
) -> list[Stored]:
    """Make up decisions: real ones again, under new ids, times and numbers."""
    decided = [
        (entry, one)
        for one in stored
        if (entry := parse_entry(one.entry)).type == DECISION
        and entry.data["emitter"] == emitter
    ]
    # How many were erased is told in the log, so none of these is told again.
    kept = [two for two in decided if two[1].vault and two[1].vault[0] != ERASED]
    following = 1 + max(entry.data["sequence"] for entry, _ in decided)
    invented = []
    for number, (entry, one) in enumerate(islice(cycle(kept), count)):
        time = decided[-1][0].time + 1 + number
        data = {**entry.data, "sequence": following + number}
        made = _about_the_same(
            log, one, replace(entry, id=new_id(time), time=time, data=data)
        )
        invented.append(_sealed_again(log, one, format_entry(made)))
    return invented
