"""In-memory stand-ins that hold to the contracts of the ports, and fail on order."""

import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Literal

from auditlog.core.errors import ConflictError, StorageError
from auditlog.core.merkle import EMPTY_ROOT
from auditlog.storage import (
    ERASED,
    AttestationRow,
    Cosignature,
    HeadState,
    IndexRow,
    KeyErasedError,
    Query,
    SpoolItem,
)
from auditlog.storage.sqlite_backups import BackupRow
from auditlog.storage.sqlite_erasures import ErasureRow, ErasureState

__all__ = ["MemoryStore"]

Fault = Literal["lost", "persisted"]
"""``lost``: nothing was written; ``persisted``: it was, but the answer got lost."""


class MemoryStore:
    """All ports of the log in memory, checking what a store must check.

    A test breaks a method's next call by ``store.faults["publish"] = "persisted"``.
    `writes` names every method that changed something, in order.
    """

    def __init__(self, origin: str = "test.example/log") -> None:
        self.origin = origin
        self.faults: dict[str, Fault] = {}
        self.writes: list[str] = []
        self.entries: list[bytes] = []
        self.rows: list[IndexRow] = []
        self.vault: dict[int, tuple[bytes, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.checkpoints: dict[int, bytes] = {}
        self.lines: dict[tuple[int, str], Cosignature] = {}
        self.attested: dict[tuple[int, str], AttestationRow] = {}
        self.keys: dict[bytes, tuple[int, str, str]] = {}
        self.erased: dict[bytes, int] = {}
        """Slots of keys that were erased."""
        self.state = HeadState(0, 0, EMPTY_ROOT)
        self._lock = threading.RLock()

    def copy(self) -> "MemoryStore":
        """Return a store that holds the same and has no faults ahead."""
        other = MemoryStore(self.origin)
        other.entries, other.rows = list(self.entries), list(self.rows)
        other.vault, other.objects = dict(self.vault), dict(self.objects)
        other.checkpoints, other.lines = dict(self.checkpoints), dict(self.lines)
        other.erased = dict(self.erased)
        other.keys, other.state = dict(self.keys), self.state
        other.attested = dict(self.attested)
        return other

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        with self._lock:
            fault = self.faults.pop(name, None)
            if fault == "lost":
                raise StorageError(f"{name} failed as ordered: nothing was written")
            yield
            self.writes.append(name)
            if fault == "persisted":
                raise StorageError(f"{name} failed as ordered: the answer was lost")

    # Spool

    def append(self, items: Sequence[SpoolItem]) -> int:
        with self._writing("append"):
            first = len(self.entries)
            rows = list(self.rows)
            named = {item.key_id for item in items if item.key_id is not None}
            if erased := named - self.keys.keys() - {ERASED}:
                raise KeyErasedError(sorted(erased))
            for index, item in enumerate(items, first):
                if not 1 <= len(item.entry) <= 65_535:
                    raise StorageError(f"an entry of {len(item.entry)} bytes")
                assert item.row.index is None
                assert (item.key_id is None) == (item.sealed is None)
                _check_new(rows, item.row)
                rows.append(item.row._replace(index=index))
            for index, item in enumerate(items, first):
                self.entries.append(bytes(item.entry))
                if item.key_id is not None and item.sealed is not None:
                    self.vault[index] = (item.key_id, item.sealed)
            self.rows = rows
            return first

    def size(self) -> int:
        return len(self.entries)

    def read(self, start: int, end: int) -> list[bytes]:
        if not 0 <= start <= end <= len(self.entries):
            raise StorageError(f"an entry of {start} to {end} is not in the spool")
        return self.entries[start:end]

    # Objects

    def put(self, objects: Sequence[tuple[str, bytes]]) -> None:
        with self._writing("put"):
            new = dict(self.objects)
            for path, data in objects:
                assert data, f"an empty object under {path}"
                if new.setdefault(path, data) != data:
                    raise ConflictError(f"other bytes are stored under {path}")
            self.objects = new

    def get(self, path: str) -> bytes | None:
        return self.objects.get(path)

    def prune(self, paths: Sequence[str]) -> None:
        with self._writing("prune"):
            for path in paths:
                self.objects.pop(path, None)

    # Head

    def head(self) -> HeadState:
        return self.state

    def swap_head(self, expected: HeadState, new: HeadState) -> None:
        if new.generation != expected.generation + 1 or new.size < expected.size:
            raise StorageError("expected a head of the next generation, not smaller")
        with self._writing("swap_head"):
            if self.state != expected:
                raise ConflictError(
                    f"the head is not generation {expected.generation} any more"
                )
            self.state = new

    # Publication

    def publish(self, size: int, note: bytes) -> None:
        with self._writing("publish"):
            if self.checkpoints.get(size) == note:
                return
            newest = max(self.checkpoints, default=-1)
            if newest >= size:
                raise ConflictError(
                    f"cannot publish a checkpoint of size {size}: {newest} is published"
                )
            self.checkpoints[size] = note

    def newest(self) -> tuple[int, bytes] | None:
        return max(self.checkpoints.items(), default=None)

    def covering(self, size: int) -> tuple[int, bytes] | None:
        return min((c for c in self.checkpoints.items() if c[0] >= size), default=None)

    def cosigned(self, size: int) -> tuple[int, bytes] | None:
        signed = {at for at, _ in self.lines}
        found = [c for c in self.checkpoints.items() if c[0] >= size and c[0] in signed]
        return min(found, default=None)

    def sizes(self, start: int, limit: int) -> list[int]:
        return sorted(s for s in self.checkpoints if s >= start)[: max(0, limit)]

    def add_cosignatures(self, cosignatures: Sequence[Cosignature]) -> None:
        with self._writing("add_cosignatures"):
            for one in cosignatures:
                kept = self.lines.get((one.size, one.key))
                if kept is None or kept.time < one.time:
                    self.lines[one.size, one.key] = one

    def cosignatures(self, size: int) -> list[Cosignature]:
        found = [one for one in self.lines.values() if one.size == size]
        return sorted(found, key=lambda one: one.key)

    # Attestations

    def put_attestation(self, row: AttestationRow) -> None:
        with self._writing("put_attestation"):
            if row.size not in self.checkpoints:
                raise ConflictError(
                    f"expected the size of a published checkpoint, got {row.size}"
                )
            stored = self.attested.get((row.size, row.anchor))
            if stored is not None and stored.state == "final":
                if stored[2:5] != row[2:5]:
                    raise ConflictError(
                        f"{row.anchor} has given a final attestation of another content"
                    )
                return
            self.attested[row.size, row.anchor] = row

    def attestations(self, size: int) -> list[AttestationRow]:
        found = [row for row in self.attested.values() if row.size == size]
        return sorted(found, key=lambda row: row.anchor)

    def attestations_by(self, anchor: str, *, state: str) -> list[AttestationRow]:
        rows = self.attested.values()
        found = [row for row in rows if (row.anchor, row.state) == (anchor, state)]
        return sorted(found, key=lambda row: row.size)

    def last_attestation(self, anchor: str, *, state: str) -> AttestationRow | None:
        rows = self.attestations_by(anchor, state=state)
        return rows[-1] if rows else None

    def first_attestation(self, anchor: str, *, size: int) -> AttestationRow | None:
        found = self.attestations_by(anchor, state="final")
        return next((row for row in found if row.size >= size), None)

    def newest_change(self, anchor: str) -> AttestationRow | None:
        rows = (row for row in self.attested.values() if row.anchor == anchor)
        return max(rows, key=lambda row: row.updated, default=None)

    def attesting(self) -> list[str]:
        return sorted({anchor for _, anchor in self.attested})

    def anchored(self, size: int) -> tuple[int, bytes] | None:
        final = {row.size for row in self.attested.values() if row.state == "final"}
        found = [c for c in self.checkpoints.items() if c[0] >= size and c[0] in final]
        return min(found, default=None)

    def attested_sizes(self) -> list[int]:
        return sorted({size for size, _ in self.attested})

    # Vault, Index

    def sealed(self, index: int) -> tuple[bytes, bytes] | None:
        return self.vault.get(index)

    def sealed_by(self, index: int) -> bytes | None:
        return None if index not in self.vault else self.vault[index][0]

    def sealed_under(self, key_id: bytes) -> list[int]:
        return sorted(at for at, (named, _) in self.vault.items() if named == key_id)

    def by_id(self, id_: bytes) -> IndexRow | None:
        return next((row for row in self.rows if row.id == id_), None)

    def find(self, query: Query) -> list[IndexRow]:
        found = [row for row in reversed(self.rows) if _matches(row, query)]
        if query.sealed_under is not None:
            under = self.sealed_under(query.sealed_under)
            found = [row for row in found if row.index in under]
        return found[: max(0, query.limit)]

    def sequences(self, emitter: bytes) -> list[int]:
        numbers = (row.sequence for row in self.rows if row.emitter == emitter)
        return sorted(number for number in numbers if number is not None)

    # Scan

    def index_rows(self, start: int, end: int) -> list[IndexRow]:
        return self.rows[max(0, start) : max(0, end)]

    def first_but(self, start: int, types: Sequence[str]) -> IndexRow | None:
        rows = self.rows[max(0, start) :]
        return next((row for row in rows if row.type not in types), None)

    def vault_rows(self, start: int, end: int) -> list[tuple[int, bytes, bytes]]:
        return [(i, *self.vault[i]) for i in sorted(self.vault) if start <= i < end]

    def object_paths(self) -> list[str]:
        return sorted(self.objects)

    def cosigned_sizes(self) -> list[int]:
        return sorted({size for size, _ in self.lines})

    def holes(self) -> list[tuple[int, int]]:
        return []

    def schema_changes(self) -> list[str]:
        return []

    # Where keys are

    def registered_keys(self) -> Iterator[tuple[bytes, int, str, str]]:
        found = [(id_, *key) for id_, key in self.keys.items()]
        return iter(sorted(found, key=lambda key: key[1]))

    def slots_taken(self) -> tuple[int, int, int]:
        return len(self.keys) + len(self.erased), self.last_slot(), 0

    def key_slot(self, kind: str, label: str) -> tuple[bytes, int] | None:
        for key_id, (slot, *named) in self.keys.items():
            if named == [kind, label]:
                return key_id, slot
        return None

    def key_slots(
        self, kind: str, labels: Sequence[str]
    ) -> dict[str, tuple[bytes, int]]:
        return {
            label: (key_id, slot)
            for key_id, (slot, of, label) in self.keys.items()
            if of == kind and label in labels
        }

    def keyring_backups(self) -> list[BackupRow]:
        return []

    def erasures(self, *_: ErasureState) -> list[ErasureRow]:
        """Return none: keys go from here by hand, and no entry says so."""
        return []

    def slot_of(self, key_id: bytes) -> int | None:
        return self.keys[key_id][0] if key_id in self.keys else None

    def use_of(self, key_id: bytes) -> tuple[str, str] | None:
        found = self.keys.get(key_id)
        return None if found is None else (found[1], found[2])

    def is_lost(self, _key_id: bytes) -> bool:
        return False

    def lost_keys(self) -> list[tuple[bytes, int]]:
        return []

    def is_erased(self, key_id: bytes) -> bool:
        return key_id in self.erased

    def last_key(self) -> tuple[bytes, int] | None:
        found = max(((key[0], id_) for id_, key in self.keys.items()), default=None)
        return None if found is None else (found[1], found[0])

    def last_slot(self) -> int:
        taken = [*(key[0] for key in self.keys.values()), *self.erased.values()]
        return max(taken, default=-1)

    def add_keys(self, keys: Sequence[tuple[bytes, int, str, str]]) -> None:
        with self._writing("add_keys"):
            for key_id, slot, kind, label in keys:
                taken = slot in {key[0] for key in self.keys.values()}
                if key_id in self.keys or taken or self.key_slot(kind, label):
                    raise ConflictError("the key id, the slot, or the label is taken")
                self.keys[key_id] = (slot, kind, label)


def _check_new(rows: Sequence[IndexRow], row: IndexRow) -> None:
    if row.id in {other.id for other in rows}:
        raise ConflictError(f"id {row.id.hex()} is already in the log")
    number = (row.emitter, row.sequence)
    if None not in number and number in {(r.emitter, r.sequence) for r in rows}:
        raise ConflictError(
            f"number {row.sequence} of an emitter is already in the log"
        )


def _matches(row: IndexRow, query: Query) -> bool:
    assert row.index is not None
    return all(
        (
            query.time_from is None or row.time >= query.time_from,
            query.time_to is None or row.time < query.time_to,
            query.before is None or row.index < query.before,
            query.model in (None, row.model),
            query.version in (None, row.version),
            query.route in (None, row.route),
            query.outcome in (None, row.outcome),
            query.type in (None, row.type),
            query.about in (None, row.about),
            query.ids is None or row.id in query.ids,
            query.routes is None
            or any(_fits(row.route, glob) for glob in query.routes),
        )
    )


def _fits(route: str | None, glob: str) -> bool:
    pattern = ".*".join(map(re.escape, glob.split("*")))
    return route is not None and re.fullmatch(pattern, route, re.DOTALL) is not None
