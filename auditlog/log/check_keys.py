"""What `check` says of the keys of the vault: their entries, backups and slots.

Rows of `keyring_backups` are held against the entries about them: who takes one away
would have an erasure called final while a copy still holds the key. A slot that no key
is registered for must be empty. Whether a backup was really destroyed, or copied again,
no check can see.
"""

import contextlib
from collections import Counter
from collections.abc import Sequence

from auditlog.core.errors import MalformedError
from auditlog.core.record import Entry, parse_entry
from auditlog.log.check_files import Problem
from auditlog.log.directory import LogDirectory
from auditlog.log.key_entry import KEY, BackupWord, LostWord, parse_key_entry
from auditlog.storage import Query
from auditlog.storage.sealing import SLOT_SIZE
from auditlog.storage.sqlite_backups import BackupRow

__all__ = ["KeyCheck"]

_MAX_NEW = 1 << 16
"""Key entries that a running service may append while its log is checked."""


class KeyCheck:
    """Takes in the entries of a log, in its order, then looks at the rest."""

    def __init__(self) -> None:
        self._generation = 1
        self._backups: dict[bytes, BackupRow] = {}
        self._lost: set[bytes] = set()

    def note(self, entry: Entry) -> None:
        """Take in the next entry.

        Raises:
            MalformedError: a key entry is not as one is written, or contradicts an
                earlier one.
        """
        if entry.type != KEY:
            return
        said = parse_key_entry(entry.data)
        if isinstance(said, BackupWord):
            self._note_backup(said, entry.time)
        elif isinstance(said, LostWord):
            self._lost.update(said.key_ids)
        elif said <= self._generation:
            raise MalformedError(
                f"expected a generation after {self._generation}, got {said}"
            )
        else:
            self._generation = said

    def _note_backup(self, said: BackupWord, time: int) -> None:
        known = self._backups.get(said.id)
        if said.what == "backup" and said.expires is not None:
            if known is not None:
                raise MalformedError("expected a new backup, got the id of another")
            self._backups[said.id] = BackupRow(said.id, time, said.expires)
        elif said.what == "forgotten":
            if known is None or known.expires <= time:
                raise MalformedError("expected a backup that was kept until then")
            self._backups[said.id] = known._replace(expires=time)

    def finish(
        self, log: LogDirectory, size: int
    ) -> tuple[list[Problem], Counter[str]]:
        """Return the problems, and what could not be checked.

        Args:
            log: the opened log.
            size: how many entries were taken in.

        Raises:
            StorageError: the store or the keyring cannot be read.
        """
        unchecked: Counter[str] = Counter()
        problems = _check_slots(log)
        # Before entries that are younger than what was taken in.
        lost = [key_id for key_id, _ in log.store.lost_keys()]
        problems += _compare(self._backups, self._rows(log, size))
        problems += self._check_lost(log, lost)
        if log.vault_key is not None:
            newest = log.vault_key.reload()[0].number
            if newest < self._generation:
                what = f"generation {newest}, the log tells of {self._generation}"
                unchecked[f"vault.key is of {what}"] += 1
        return problems, unchecked

    def _check_lost(self, log: LogDirectory, lost: Sequence[bytes]) -> list[Problem]:
        """Hold the keys that are on record as lost against what entries say."""
        said = self._lost
        problems = [
            Problem(f"lost key {key_id.hex()}", "no entry says that it is lost")
            for key_id in lost
            if key_id not in said
        ]
        problems += [
            Problem(f"lost key {key_id.hex()}", "is lost, but not on record as such")
            for key_id in sorted(said.difference(lost))
            if not log.store.is_lost(key_id)
        ]
        return problems

    def _rows(self, log: LogDirectory, size: int) -> Sequence[BackupRow]:
        """Return the rows of backups, all of whose entries were taken in.

        Row and entry change in one transaction, and a service may run.
        """
        while True:
            before = log.store.keyring_backups()
            end = log.store.size()
            for row in reversed(log.store.find(Query(type=KEY, limit=_MAX_NEW))):
                if row.index is not None and size <= row.index < end:
                    (encoded,) = log.store.read(row.index, row.index + 1)
                    with contextlib.suppress(MalformedError):
                        self.note(parse_entry(encoded))
            size = max(size, end)
            if log.store.keyring_backups() == before:
                return before


def _compare(
    expected: dict[bytes, BackupRow], rows: Sequence[BackupRow]
) -> list[Problem]:
    found = {row.id: row for row in rows}
    problems = []
    for id_ in sorted(expected.keys() | found.keys()):
        if id_ not in found:
            what = "is in the log, but not on record: no erasure would wait for it"
        elif id_ not in expected:
            what = "belongs to no entry"
        elif found[id_] != expected[id_]:
            what = "is on record with other times than in the log"
        else:
            continue
        problems.append(Problem(f"keyring backup {id_.hex()}", what))
    return problems


def _check_slots(log: LogDirectory) -> list[Problem]:
    # In this order: of what a running service makes meanwhile the last slot says that
    # it is not ours to judge, and what it erases meanwhile is empty.
    last = log.store.last_slot()
    keys = (slot for _, slot, *_ in log.store.registered_keys())
    taken = {*keys, *(row.slot for row in log.store.erasures())}
    # Who declares keys lost may not have come to clear their slots.
    taken.update(slot for _, slot in log.store.lost_keys())
    raw = log.keys.keyring.raw()
    return [
        Problem(f"keyring slot {slot}", "holds something, but is no registered key's")
        for slot in range(min(last + 1, len(raw) // SLOT_SIZE))
        if slot not in taken and any(raw[slot * SLOT_SIZE : (slot + 1) * SLOT_SIZE])
    ]
