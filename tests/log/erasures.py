"""A log with content about people, made by hand under their keys."""

import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import zstandard

from auditlog.core.merkle import leaf_hash
from auditlog.core.record import Entry, canonical_json, format_id
from auditlog.log.amendment import AMENDMENT
from auditlog.log.content import context_only, pack
from auditlog.log.description import Describer
from auditlog.log.directory import LogDirectory, create_log
from auditlog.log.identity import new_id
from auditlog.log.leader import make_checkpoint
from auditlog.log.preparation import sealed_item
from auditlog.storage import SpoolItem
from auditlog.storage.sealing import seal, unseal
from tests.log.builders import ORIGIN, config_of, exchange, now_us

__all__ = [
    "ADA",
    "BOB",
    "add_access",
    "add_decision",
    "fill",
    "give_record_key",
    "give_to",
    "made",
]

ADA, BOB = "ada@example.org", "bob@example.org"
_COMPRESSOR = zstandard.ZstdCompressor()


def made(directory: Path) -> LogDirectory:
    """Return a new log."""
    return create_log(config_of(directory))


def fill(log: LogDirectory, decisions: int = 3) -> None:
    """Add decisions about two people, and what was said of each, under a checkpoint."""
    for person in (ADA, BOB):
        ids = [add_decision(log, person) for _ in range(decisions)]
        add_amendment(log, person, ids[0])
        add_access(log, person, ids[0], "Court of Appeal")
    add_decision(log, None)
    make_checkpoint(log)


def add_decision(
    log: LogDirectory, person: str | None, *, kind: str = "person", **fields: object
) -> bytes:
    """Append a decision sealed under the key of a person, or of its day."""
    describer = Describer(log.origin, os.urandom(16), depth=1, models=())
    one = exchange(0, **fields)  # type: ignore[arg-type]
    entry, row, content = describer.describe(one)
    if person is None:
        key_id, key = log.keys.epoch_key("2026-11-27")
    else:
        key_id, key = log.keys.subject_key(kind, person)
    plaintext = pack(content, _COMPRESSOR)
    sealed = seal(key, key_id, leaf_hash(entry), os.urandom(32), plaintext)
    log.store.append([SpoolItem(entry, row, key_id, sealed)])
    return one.id


def give_to(log: LogDirectory, person: str, *indices: int) -> None:
    """Seal stored content again, under the key of a person."""
    _seal_again(log, *log.keys.subject_key("person", person), indices)


def give_record_key(log: LogDirectory, index: int) -> None:
    """Seal stored content again, under a key of its own."""
    row = log.store.index_rows(index, index + 1)[0]
    ((key_id, key),) = log.keys.record_keys([row.id])
    _seal_again(log, key_id, key, [index])


def _seal_again(
    log: LogDirectory, under: bytes, key: bytes, indices: Sequence[int]
) -> None:
    with sqlite3.connect(log.paths.database) as db:
        for index in indices:
            stored = log.store.sealed(index)
            assert stored is not None
            leaf = leaf_hash(*log.store.read(index, index + 1))
            plaintext = unseal(log.keys.key(stored[0]), stored[0], leaf, stored[1])
            sealed = seal(key, under, leaf, os.urandom(32), plaintext)
            query = "UPDATE vault SET key_id = ?, sealed = ? WHERE idx = ?"
            db.execute(query, (under, sealed, index))
    db.close()


def add_amendment(log: LogDirectory, person: str, decision: bytes) -> None:
    """Say something of a decision, under the key of whom it is about."""
    data = {"decision": format_id(decision), "kind": "human_review"}
    _add(log, AMENDMENT, person, data, {"reason": {"text": "looked at again"}})


def add_access(log: LogDirectory, person: str, decision: bytes, recipient: str) -> None:
    """Say that something of a decision was disclosed."""
    data = {
        "channel": "cli",
        "decision": format_id(decision),
        "what": "disclosure",
    }
    said = {"recipient": {"name": recipient, "purpose": "case 7"}}
    _add(log, "auditlog.access.v1", person, data, said)


def _add(
    log: LogDirectory,
    type_: str,
    person: str,
    data: Mapping[str, object],
    said: Mapping[str, object],
) -> None:
    leaves = [(f"context/{name}", canonical_json(one)) for name, one in said.items()]
    fields, content = context_only(os.urandom(32), leaves)
    now = now_us()
    entry = Entry(new_id(now), type_, ORIGIN, now, fields | dict(data))
    under, _ = log.keys.subject_key("person", person)
    log.store.append([sealed_item(entry, content, log.keys, _COMPRESSOR, under=under)])
