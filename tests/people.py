"""A log in which decisions are about people, sealed under their own keys."""

import os
from pathlib import Path

from zstandard import ZstdCompressor

from auditlog.config import load_config
from auditlog.core.merkle import leaf_hash
from auditlog.core.record import canonical_json, format_id
from auditlog.log.content import pack
from auditlog.log.description import Describer
from auditlog.log.directory import LogDirectory, create_log
from auditlog.log.leader import make_checkpoint
from auditlog.models.identity import Model
from auditlog.storage import SpoolItem
from auditlog.storage.sealing import seal
from tests.log.builders import ORIGIN, exchange

__all__ = ["ADA", "BOB", "People"]

ADA, BOB = "ada@example.org", "bob-0815"


class People:
    """Records decisions about people in a log of its own."""

    def __init__(self, directory: Path) -> None:
        config = load_config({"dir": directory, "origin": ORIGIN}, env={})
        self.directory = directory
        self.log: LogDirectory = create_log(config)
        self._describer = Describer(ORIGIN, os.urandom(16), depth=1)
        self._sequence = -1

    def item(
        self,
        subject: str,
        *,
        kind: str = "person",
        said: dict[str, object] | None = None,
        **fields: object,
    ) -> SpoolItem:
        """Return a decision about somebody; `said` are further ``context/`` leaves."""
        self._sequence += 1
        leaves = {"subject": {"id": subject, "kind": kind}, **(said or {})}
        context = {name: canonical_json(value) for name, value in leaves.items()}
        usual = {"model": Model("credit", "3"), "context": context}
        done = exchange(self._sequence, **{**usual, **fields})  # type: ignore[arg-type]
        entry, row, content = self._describer.describe(done)
        key_id, key = self.log.keys.subject_key(kind, subject)
        plaintext = pack(content, ZstdCompressor())
        sealed = seal(key, key_id, leaf_hash(entry), os.urandom(32), plaintext)
        return SpoolItem(entry, row, key_id, sealed)

    def record(self, subject: str, **fields: object) -> str:
        """Make a decision durable; return its id."""
        item = self.item(subject, **fields)  # type: ignore[arg-type]
        self.log.store.append([item])
        return format_id(item.row.id)

    def checkpoint(self) -> None:
        """Sign everything that is there."""
        make_checkpoint(self.log)
