"""Re-read and re-verify a whole log: every entry, tile, signature, index row, content.

Everything is recomputed from the stored entries, which are themselves held to the
signed checkpoints. What cannot be checked (a key is missing, a signature is by a key
that nobody named) is counted as unchecked, never reported as tampering.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    StorageError,
)
from auditlog.core.merkle import HASH_SIZE, leaf_hash
from auditlog.core.note import Verifier, open_note
from auditlog.core.record import DECISION, parse_entry
from auditlog.core.tiles import TILE_WIDTH, Tile, parse_tile_path, tile_path
from auditlog.log.check_attestations import AttestationCheck
from auditlog.log.check_erasures import ErasureCheck
from auditlog.log.check_files import Problem, check_files, key_of
from auditlog.log.check_keys import KeyCheck
from auditlog.log.check_vault import VaultCheck
from auditlog.log.completeness import MAX_SILENCE, Completeness, EmitterReport
from auditlog.log.directory import LogDirectory
from auditlog.log.emitter import spans
from auditlog.log.growth import Edge, edge_root, grow, hash_level
from auditlog.log.model_entry import ModelCheck
from auditlog.log.preparation import index_row
from auditlog.storage import Cosignature, IndexRow
from auditlog.storage.journal import emitters_with_journal

__all__ = ["CheckReport", "Problem", "check_log"]

_T = TypeVar("_T")

_CHUNK = 4096
_MAX_INDEX = (1 << 63) - 1
_MAX_PROBLEMS = 1000
_MAX_UNCHECKED = 100
_MAX_HOLE = 1 << 20
"""Missing entries that are named one by one: a forged index must not cost for ever."""

Progress = Callable[[int, int], None]
"""Called with entries done and entries in all."""


class CheckReport(NamedTuple):
    """What a full check found."""

    entries: int
    decisions: int
    checkpoints: int
    cosignatures: int
    attestations: int
    """Held against the entries about them; what they prove is not checked."""
    problems: tuple[Problem, ...]
    """Empty for a log that holds; at most 1,000."""
    unchecked: tuple[str, ...]
    """What could not be checked, and why."""
    emitters: tuple[EmitterReport, ...]
    """Whose numbers are all there, named, or unknown (`auditlog.log.completeness`)."""
    erased: int = 0
    """Entries whose content was erased."""


def check_log(
    log: LogDirectory,
    *,
    progress: Progress | None = None,
    max_silence: float = MAX_SILENCE,
) -> CheckReport:
    """Check everything that the directory holds; never raises for what it finds.

    Args:
        log: the opened log.
        progress: told how far it is.
        max_silence: seconds between two words of an emitter that are not remarked on.

    Raises:
        StorageError: the store cannot be read at all.
    """
    return _Check(log, progress or (lambda _done, _all: None), max_silence).run()


class _Check:
    """The state of one check: what has been recomputed so far."""

    def __init__(
        self, log: LogDirectory, progress: Progress, max_silence: float
    ) -> None:
        self._log = log
        self._store = log.store
        self._progress = progress
        self._max_silence = max_silence
        # Read in this order: each is covered by what is read after it.
        self._alive = emitters_with_journal(log.paths.journals)
        self._attested = AttestationCheck(self._store)
        self._sizes = self._published_sizes()
        self._head = self._store.head()
        self._problems: list[Problem] = []
        self._unchecked: Counter[str] = Counter()
        self._decisions = 0
        self._cosignatures = 0
        self._size = 0
        self._edge: Edge = ()
        self._tiles: dict[str, bytes] = {}
        self._completeness = Completeness()
        self._models = ModelCheck()
        self._keys = KeyCheck()
        self._erasures = ErasureCheck()
        self._unknown: list[str] = []
        if self._alive is None:
            self._unknown.append(
                "journals: there are none here, so that numbers which are missing "
                "cannot be told from those which the next start would admit"
            )
        self._ids: set[bytes] = set()
        self._vault = VaultCheck(log, self._erasures.note_content)
        self._ranges: dict[tuple[str, str], tuple[int, int, int]] = {}
        """First and last row, and position, of the newest problem of a kind."""
        self._departed = 0
        """Checkpoints whose root the entries do not give."""

    def run(self) -> CheckReport:
        size = self._readable()
        published = set(self._sizes)
        if not self._head.size:
            self._check_head()
        for start, end in _chunks(size, [*self._sizes, self._head.size]):
            self._check_entries(start, end)
            if end in published:
                with self._naming(f"checkpoint {end}"):
                    self._check_checkpoint(end)
            if end == self._head.size:
                self._check_head()
            self._progress(end, size)
        if self._departed > 1:
            what = f"{self._departed - 1} after the first do not match the entries"
            self._problem("checkpoints", what)
        self._check_beyond(size)
        self._check_tiles()
        for index, what in self._vault.finish():
            self._problem_at("vault row", index, what)
        self._unchecked.update(self._vault.unchecked)
        emitters = tuple(self._emitters_checked())
        with self._naming("attestations"):
            self._take(*self._attested.finish())
        with self._naming("erasures"):
            self._take(*self._erasures.finish(self._log, size, self._vault.erased))
        with self._naming("keys and files"):
            self._take(*check_files(self._log))
        with self._naming("keys of the vault"):
            self._take(*self._keys.finish(self._log, size))
        return CheckReport(
            size,
            self._decisions,
            len(self._sizes),
            self._cosignatures,
            len(self._attested.rows),
            tuple(self._problems),
            (
                *(f"{count} x {what}" for what, count in self._unchecked.items()),
                *self._unknown,
            ),
            emitters,
            self._vault.erased,
        )

    def _take(self, problems: Sequence[Problem], unchecked: Counter[str]) -> None:
        for problem in problems:
            self._problem(*problem)
        self._unchecked.update(unchecked)

    def _readable(self) -> int:
        """Return how many entries there are to check, up to a hole without measure."""
        size = self._store.size()
        for start, end in self._store.holes():
            if end - start > _MAX_HOLE:
                what = "are not in the spool; nothing after them was checked"
                self._problem(f"entries {start} to {end - 1}", what)
                return start
        return size

    def _problem(self, where: str, what: str) -> None:
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(Problem(where, what))
        else:
            self._unchecked["problem beyond the first 1,000, not listed"] += 1

    def _problem_at(self, kind: str, index: int, what: str) -> None:
        """Add a problem with one row; neighbours with the same one become a range.

        Or one bundle that was moved would fill the report, and hide what comes later.
        """
        first, last, place = self._ranges.get((kind, what), (index, index - 1, -1))
        if index != last + 1 or place < 0:
            first, place = index, len(self._problems)
            self._problem(f"{kind} {index}", what)
        else:
            self._problems[place] = Problem(f"{kind} {first} to {index}", what)
        if place < _MAX_PROBLEMS:
            self._ranges[kind, what] = first, index, place

    def _published_sizes(self) -> list[int]:
        sizes: list[int] = []
        while found := self._store.sizes(sizes[-1] + 1 if sizes else 0, _CHUNK):
            sizes.extend(found)
        return sizes

    def _check_entries(self, start: int, end: int) -> None:
        entries = self._read(start, end)
        scan = self._scan
        found = scan("index row", self._store.index_rows, start, end)
        rows = {row.index: row for row in found}
        sealed = scan("vault row", self._store.vault_rows, start, end)
        vault = {row[0]: row[1:] for row in sealed}
        for index, encoded in enumerate(entries, start):
            row, stored = rows.pop(index, None), vault.pop(index, None)
            if encoded is not None:
                self._check_entry(index, encoded, row, stored)
        for row in rows.values():
            self._problem_at("index row", row.index or 0, "belongs to no entry")
        for index in vault:
            self._problem_at("vault row", index, "belongs to no entry")
        leaves = [leaf_hash(entry or b"") for entry in entries]
        growth = grow(self._size, self._edge, leaves)
        self._size, self._edge = end, growth.edge
        for tile, data in growth.tiles:
            self._tiles[tile_path(tile.level, tile.index)] = data

    def _scan(
        self, what: str, read: Callable[[int, int], list[_T]], start: int, end: int
    ) -> list[_T]:
        """Return rows of a range; one that is none of ours is a problem, by name."""
        try:
            return read(start, end)
        except StorageError:
            found: list[_T] = []
        for index in range(start, end):
            with self._naming(f"{what} {index}"):
                found += read(index, index + 1)
        return found

    @contextmanager
    def _naming(self, where: str) -> Iterator[None]:
        """Turn what cannot be read into a problem: somebody else wrote it."""
        try:
            yield
        except StorageError as error:
            self._problem(where, str(error))

    def _read(self, start: int, end: int) -> Sequence[bytes | None]:
        """Return entries, None for each that cannot be read, which is a problem."""
        try:
            return self._store.read(start, end)
        except StorageError:
            entries: list[bytes | None] = []
        lost: dict[int, str] = {}
        for index in range(start, end):
            try:
                entries += self._store.read(index, index + 1)
            except StorageError as error:
                entries.append(None)
                lost[index] = str(error)
        for first, last in spans([*lost]):
            self._problem(f"entries {first} to {last}", lost[first])
        return entries

    def _check_entry(
        self,
        index: int,
        encoded: bytes,
        row: IndexRow | None,
        stored: tuple[bytes, bytes] | None,
    ) -> None:
        try:
            entry = parse_entry(encoded)
        except AuditLogError as error:
            self._problem_at("entry", index, str(error))
            return
        if entry.source != self._log.origin:
            self._problem_at("entry", index, f"names {entry.source!r} as its log")
        if entry.id in self._ids:
            self._problem_at("entry", index, "has the id of an earlier entry")
        self._ids.add(entry.id)
        try:
            self._completeness.note(index, entry)
            self._attested.note(index, entry)
            self._models.note(entry)
            self._keys.note(entry)
            self._erasures.note(entry)
            expected = index_row(entry)._replace(index=index)
        except (MalformedError, KeyError) as error:
            self._problem_at("entry", index, f"does not say what it must: {error}")
            return
        if row != expected:
            what = "is missing" if row is None else "differs from the entry"
            self._problem_at("index row", index, what)
        self._decisions += entry.type == DECISION
        with self._naming("keys"):
            for what in self._vault.check(index, encoded, entry, stored):
                self._problem_at("vault row", index, what)

    def _check_checkpoint(self, size: int) -> None:
        where = f"checkpoint {size}"
        found = self._store.covering(size)
        if found is None:
            self._problem(where, "vanished while the log was checked")
            return
        verifiers = [signer.verifier for signer in self._log.signers]
        try:
            opened = open_note(found[1], verifiers)
            checkpoint = parse_checkpoint(opened.text)
        except AuditLogError as error:
            self._problem(where, str(error))
            return
        if (checkpoint.origin, checkpoint.size) != (self._log.origin, size):
            self._problem(where, f"is signed for {checkpoint.origin} {checkpoint.size}")
        elif checkpoint.root != (root := edge_root(self._edge)):
            what = f"signed root {checkpoint.root.hex()}, the entries give {root.hex()}"
            self._departed += 1
            if self._departed == 1:  # whatever comes later departs, too
                self._problem(where, what)
        if len(opened.signatures) != len(verifiers):
            self._problem(where, "is not signed by every key of the log")
        self._check_cosignatures(size, found[1])

    def _check_cosignatures(self, size: int, note: bytes) -> None:
        witnesses = {verifier.key: verifier for verifier in self._witnesses()}
        for cosignature in self._store.cosignatures(size):
            verifier = witnesses.get(cosignature.key)
            where = f"cosignature {size} {cosignature.key}"
            if key_of(cosignature.line) != cosignature.key:
                self._problem(where, "is stored under another key than it is by")
            elif verifier is None:
                self._unchecked[f"cosignature by {cosignature.key}, not in policy"] += 1
            else:
                self._check_cosignature(where, note, cosignature, verifier)

    def _check_cosignature(
        self, where: str, note: bytes, cosignature: Cosignature, verifier: Verifier
    ) -> None:
        try:
            signed = open_note(note + cosignature.line, [verifier]).signatures[0]
        except AuditLogError as error:
            self._problem(where, str(error))
            return
        self._cosignatures += 1
        if signed.timestamp != cosignature.time:
            self._problem(where, "is stored with another time than it was signed")

    def _witnesses(self) -> list[Verifier]:
        try:
            return [witness.verifier for witness in self._log.policy().witnesses]
        except AuditLogError:
            return []  # `check_files` says so

    def _check_head(self) -> None:
        root = edge_root(self._edge)
        if self._head.root != root:
            self._problem(
                "head",
                f"says root {self._head.root.hex()}, the entries give {root.hex()}",
            )

    def _check_beyond(self, size: int) -> None:
        start = self._store.size()
        with self._naming(f"index rows from {start} on"):
            rows = self._store.index_rows(start, _MAX_INDEX)
            self._check_unowned("index", [row.index or 0 for row in rows])
        with self._naming(f"vault rows from {start} on"):
            vault = self._store.vault_rows(start, _MAX_INDEX)
            self._check_unowned("vault", [row[0] for row in vault])
        for beyond in (published for published in self._sizes if published > size):
            what = f"signed for {beyond} entries, only {size} exist"
            self._problem(f"checkpoint {beyond}", what)
        if self._head.size > size:
            what = f"says {self._head.size} entries, only {size} exist"
            self._problem("head", what)
        if self._head.size < (newest := max(self._sizes, default=0)):
            what = f"says {self._head.size} entries, {newest} were signed"
            self._problem("head", what)
        with self._naming("cosignatures"):
            cosigned = set(self._store.cosigned_sizes())
            for beyond in cosigned - set(self._published_sizes()):
                self._problem(f"cosignature {beyond}", "belongs to no checkpoint")

    def _check_unowned(self, kind: str, indices: list[int]) -> None:
        # A running service appends meanwhile: rows first, then how many entries exist.
        now = self._store.size()
        for index in indices:
            if index >= now:
                self._problem_at(f"{kind} row", index, "belongs to no entry")

    def _check_tiles(self) -> None:
        """Compare every stored tile; all that proofs need must be there."""
        missing = {path for path in self._tiles if self._is_full(parse_tile_path(path))}
        missing |= {tile_path(*tile) for tile in self._right_edges()}
        paths: list[str] = []
        with self._naming("objects"):
            paths = self._store.object_paths()
        now = self._store.size()
        for path in paths:
            try:
                tile = parse_tile_path(path)
                below = 8 * hash_level(tile)
            except AuditLogError:
                self._problem(f"object {path[:80]!r}", "is no tile of this log")
                continue
            last = (tile.index * TILE_WIDTH + tile.width) << below
            data: bytes | None = b""
            with self._naming(path):
                data = self._store.get(path)
            # Written since, by a running service, or outgrown and pruned by it.
            if self._size < last <= now or data is None:
                continue
            full = tile_path(tile.level, tile.index)
            expected = self._tiles.get(full, b"")[: HASH_SIZE * tile.width]
            if data != expected:
                self._problem(path, "the tile does not match the stored entries")
            missing.discard(path)
        for path in sorted(missing):
            # Pruned meanwhile, by a running service that completed it.
            full = tile_path(*parse_tile_path(path)[:2])
            with self._naming(path):
                if full == path or self._store.get(full) is None:
                    self._problem(path, "the tile is missing")

    def _emitters_checked(self) -> Iterator[EmitterReport]:
        for report in self._completeness.reports(self._alive, self._max_silence):
            for found in report.problems:
                self._problem(f"emitter {report.emitter}", found)
            for found in report.unchecked[: _MAX_UNCHECKED - len(self._unknown)]:
                self._unknown.append(f"emitter {report.emitter}: {found}")
            yield report

    def _is_full(self, tile: Tile) -> bool:
        """Return whether the tree of the head has this tile with all its hashes."""
        end = (tile.index + 1) << (8 * (hash_level(tile) + 1))
        return end <= self._head.size

    def _right_edges(self) -> Iterator[Tile]:
        """Yield the last tiles of every signed tree that no full one replaces yet."""
        for published in {*self._sizes, self._head.size}:
            size, level = min(published, self._size), 0
            while size:
                size, width = divmod(size, TILE_WIDTH)
                if width and not self._is_full(Tile(level, size)):
                    yield Tile(level, size, width)
                level += 1


def _chunks(size: int, stops: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Cut ``0 .. size`` into runs that end at each stop and are never too long."""
    start = 0
    for stop in sorted({*(one for one in stops if 0 < one < size), size}):
        while start < stop:
            end = min(start + _CHUNK, stop)
            yield start, end
            start = end
