"""Erasure of a key as the design has it, for tests of what stands beside it."""

import contextlib
import os
import sqlite3

from auditlog.log.directory import LogDirectory
from tests.log.builders import now_us

__all__ = ["erase_key"]


def erase_key(log: LogDirectory, key_id: bytes) -> None:
    """Take a key out of the registry, note it as erased, and destroy its slot."""
    slot = log.store.slot_of(key_id)
    assert slot is not None
    with contextlib.closing(sqlite3.connect(log.paths.database)) as db, db:
        row = (os.urandom(16), key_id, slot, "shredded", now_us(), None)
        db.execute("INSERT INTO erasures VALUES (?, ?, ?, ?, ?, ?)", row)
        db.execute("DELETE FROM keys WHERE key_id = ?", (key_id,))
    listed = log.paths.keyring.with_name("erased")
    with listed.open("ab") as file:
        file.write(key_id.hex().encode() + b"\n")
    listed.chmod(0o600)
    with log.keys.keyring.writing() as writer:
        writer.destroy([slot])
