"""Erasure of one key, of whatever kind, for tests of what stands beside it."""

from auditlog.log.directory import LogDirectory
from auditlog.log.erasing import replay
from auditlog.storage.erased_keys import ErasedKeys
from tests.log.builders import now_us

__all__ = ["erase_key"]


def erase_key(log: LogDirectory, key_id: bytes) -> None:
    """Erase a key as the copy of a list that names it would."""
    ErasedKeys(log.paths.erased).add([key_id])
    assert replay(log, now_us()) == 1
