"""Reading a log: look-ups, proofs, receipts, content. Never writes."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from auditlog.capture.reading import Reading
from auditlog.core.errors import (
    MalformedError,
    NotFoundError,
    PendingError,
    StorageError,
)
from auditlog.core.merkle import leaf_hash
from auditlog.core.proof import TlogProof
from auditlog.core.receipt import (
    Disclosure,
    Opening,
    Receipt,
    Related,
    format_receipt,
)
from auditlog.core.record import Entry, format_id, parse_entry, parse_id
from auditlog.core.tiles import (
    TILE_WIDTH,
    Tile,
    format_bundle,
    parse_tile_path,
    tile_path,
)
from auditlog.log.amendment import AMENDMENT
from auditlog.log.attested import Attested, issued_proof
from auditlog.log.content import Content, Leaf, open_sealed
from auditlog.log.directory import LogDirectory
from auditlog.log.growth import fetch_tile
from auditlog.log.model_entry import MODEL
from auditlog.log.parts import CONTEXT, SIDES, STORED
from auditlog.log.proofs import consistency_proof, inclusion_proof
from auditlog.log.protocol_leaves import read_content
from auditlog.log.publication import meets_quorum
from auditlog.storage import ERASED, IndexRow, Query
from auditlog.storage.acceptance import find_accepted
from auditlog.storage.journal import find_open

__all__ = ["LEVELS", "DecisionView", "Reader"]

LEVELS = ("opened", "accepted", "included", "witnessed", "anchored")
"""How far an entry can come. Anchored is what a final attestation covers and, where the
policy asks for witnesses, its quorum cosigned."""

_MAX_AMENDMENTS = 1000
"""Of one decision that are told, the newest."""
_CANDIDATES = 64
"""Cosigned checkpoints looked at for one that meets the policy's quorum."""


class DecisionView(NamedTuple):
    """What is known of one entry, and how far it has come."""

    id: str
    row: IndexRow | None
    """None while the decision is only journalled."""
    entry: bytes | None
    level: str
    """One of `LEVELS`."""
    amendments: tuple[bytes, ...] = ()
    """Later entries about it, canonical bytes."""
    model: bytes | None = None
    """The entry about the model that it ran on, canonical bytes."""
    vault: str | None = None
    """``sealed`` or ``erased``; None where nothing was kept besides the entry, or it is
    not in the log yet."""


class Reader:
    """Everything that auditors, the API and the command line ask of a log."""

    def __init__(self, log: LogDirectory) -> None:
        """Read from an opened log."""
        self._log = log
        self._store = log.store
        self._attested = Attested(log.store)

    @property
    def origin(self) -> str:
        """The log's name."""
        return self._log.origin

    @property
    def vkeys(self) -> tuple[str, ...]:
        """The log's verifier keys, Ed25519 first."""
        return self._log.vkeys

    def checkpoint(self) -> bytes:
        """Return the newest signed checkpoint with the cosignatures collected for it.

        The public is shown another one: `auditlog.log.publication`.

        Raises:
            PendingError: none has been made yet.
        """
        return self._with_cosignatures(*self._newest())

    def tile(self, path: str) -> bytes:
        """Return a hash tile or an entry bundle that the newest checkpoint implies.

        Raises:
            MalformedError: `path` is no tile path.
            NotFoundError: the newest checkpoint does not imply it.
        """
        tile = parse_tile_path(path)
        size = self._newest()[0] if self._store.newest() else 0
        level = 0 if tile.level == "entries" else tile.level
        complete = size >> (8 * level)
        if tile.index * TILE_WIDTH + tile.width > complete:
            msg = f"{path} is not part of the log at size {size}"
            raise NotFoundError(msg)
        if tile.level == "entries":
            start = tile.index * TILE_WIDTH
            return format_bundle(self._store.read(start, start + tile.width))
        return self._hash_tile(tile)

    def _hash_tile(self, tile: Tile) -> bytes:
        try:
            return fetch_tile(self._store.get, tile)
        except StorageError as error:
            if tile.width == TILE_WIDTH:
                raise
            # A width for which no checkpoint was made: nothing implies this tile.
            msg = f"{tile_path(*tile)}: no checkpoint implies this width"
            raise NotFoundError(msg) from error

    def decision(self, id_: str) -> DecisionView:
        """Return what is known of an entry.

        Raises:
            MalformedError: `id_` is no UUIDv7.
            NotFoundError: no such entry, neither in the log nor in a journal.
        """
        raw = parse_id(id_)
        row = self._store.by_id(raw)
        if row is None or row.index is None:
            return self._on_its_way(id_, raw)
        entry, level = self.entry_at(row.index), self._level(row.index)
        at = self._model_at(entry)
        model = None if at is None else self.entry_at(at)
        vault = self._vault(row.index)
        return DecisionView(id_, row, entry, level, self._amendments(raw), model, vault)

    def _vault(self, index: int) -> str | None:
        """Return whether what was captured is sealed, or was erased."""
        key_id = self._store.sealed_by(index)
        if key_id is None:
            return None
        return "erased" if self._is_erased(key_id) else "sealed"

    def _is_erased(self, key_id: bytes) -> bool:
        # A key that was erased may still be in our memory.
        return key_id == ERASED or (
            self._log.keys.kind(key_id) is None and not self._store.is_lost(key_id)
        )

    def _model_at(self, entry: bytes) -> int | None:
        """Return the index of the entry about the model that a decision ran on."""
        named = parse_entry(entry).data.get("model.entry")
        try:
            row = self._store.by_id(parse_id(str(named)))
        except MalformedError:
            return None  # none is named; or somebody else wrote it: see the log's check
        return row.index if row is not None and row.type == MODEL else None

    def _amendments(self, decision: bytes) -> tuple[bytes, ...]:
        return tuple(self.entry_at(index) for index in self._amending(decision))

    def _amending(self, decision: bytes) -> list[int]:
        """Return the indices of the amendments of a decision, in order."""
        query = Query(type=AMENDMENT, about=decision, limit=_MAX_AMENDMENTS)
        found = (row.index for row in self._store.find(query))
        return sorted(index for index in found if index is not None)

    def _on_its_way(self, id_: str, raw: bytes) -> DecisionView:
        """Return what the files of processes, living and dead, know of a decision."""
        journals = self._log.paths.journals
        item = find_accepted(journals, raw)
        if item is not None:
            return DecisionView(id_, item.row, item.entry, "accepted")
        is_open = find_open(journals, raw)
        if self._store.by_id(raw) is not None:
            # It came into the store, and left the files, while we looked.
            return self.decision(id_)
        if is_open:
            return DecisionView(id_, None, None, "opened")
        raise self.unknown(id_)

    def unknown(self, id_: str) -> NotFoundError:
        """Return what is said of a decision that is not there, or not for the asker."""
        return NotFoundError(f"no decision {id_} in log {self.origin}")

    def entry_at(self, index: int) -> bytes:
        """Return the canonical bytes of the entry at `index`.

        Raises:
            NotFoundError: the log is not that long.
        """
        if not 0 <= index < self._store.size():
            msg = f"no entry {index}: the log holds {self._store.size()}"
            raise NotFoundError(msg)
        return self._store.read(index, index + 1)[0]

    def find(self, query: Query) -> list[IndexRow]:
        """Return rows of the index that match, newest first."""
        return self._store.find(query)

    def inclusion(self, index: int, size: int | None = None) -> TlogProof:
        """Return a proof that entry `index` is under a published checkpoint.

        Args:
            index: which entry.
            size: size of a published checkpoint; None takes the newest.

        Raises:
            NotFoundError: no checkpoint of that size.
            PendingError: the checkpoint does not cover the entry yet.
        """
        size, note = self._newest() if size is None else self._published(size)
        if index >= size:
            msg = f"entry {index} is not under the checkpoint of size {size}"
            raise PendingError(msg)
        return self._prove(index, size, self._with_cosignatures(size, note))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return a proof that the tree of size `new` begins with that of size `old`.

        Raises:
            NotFoundError: the newest checkpoint is smaller than `new`.
            MalformedError: `old` is larger than `new`, or zero.
        """
        newest = self._newest()[0]
        if new > newest:
            msg = f"the newest checkpoint has size {newest}, asked for {new}"
            raise NotFoundError(msg)
        if not 0 < old <= new:
            msg = f"expected 0 < from <= to, got from {old} to {new}"
            raise MalformedError(msg)
        if new != newest:
            self._published(new)
        return consistency_proof(self._store, old, new)

    def receipt(
        self,
        id_: str,
        *,
        disclose: Sequence[str] = (),
        open_all: bool = False,
        renew: Sequence[str] | None = None,
    ) -> bytes:
        """Return the self-contained proof file of one entry (`FORMATS.md` §7).

        It tells what each anchor gave first for a checkpoint that covers the entry,
        the entry about the model that a decision ran on, and later entries about the
        decision, as soon as they are as well proven as it is.

        Args:
            id_: which entry.
            disclose: paths to open, such as ``request/age``; none by default.
            open_all: open all that is kept and give the secret, from which every
                leaf follows.
            renew: see `auditlog.log.attested.Attested.anchors`.

        Raises:
            PendingError: the entry is not under a checkpoint yet.
            NotFoundError: no such entry, or its content was erased; or at a path
                nothing was captured, or what was can never be opened.
        """
        if disclose or open_all:
            fields = None if open_all else disclose
            return format_receipt(self.disclosed(id_, fields, renew)[0])
        return format_receipt(self._undisclosed(id_, *self._in_log(id_), renew))

    def disclosed(
        self,
        id_: str,
        fields: Sequence[str] | None,
        renew: Sequence[str] | None = None,
    ) -> tuple[Receipt, list[Leaf]]:
        """Return a receipt that opens something, and all leaves, opened or not.

        Args:
            id_: which entry.
            fields: paths to open; None opens all, as for `receipt`.
            renew: as for `receipt`.

        Raises:
            PendingError: the entry is not under a checkpoint yet.
            NotFoundError: as for `receipt`.
            VerificationError: stored content is not what the entry committed to.
        """
        index, entry = self._in_log(id_)
        content, leaves = self._open(index, entry)
        paths = _all_paths(leaves) if fields is None else fields
        receipt = replace(
            self._undisclosed(id_, index, entry, renew),
            opening=_opening(content, leaves),
            disclosures=tuple(_disclosures(content, leaves, paths)),
            secret=content.secret if fields is None else None,
        )
        return receipt, leaves

    def _undisclosed(
        self, id_: str, index: int, entry: bytes, renew: Sequence[str] | None
    ) -> Receipt:
        size, note, witnessed = self._best_checkpoint(index)
        return Receipt(
            entry=entry,
            proof=issued_proof(self._store, index, size, note),
            anchors=tuple(self._attested.anchors(index, renew)),
            related=(
                *self._models(index, entry, size, note),
                *self._related(parse_id(id_), witnessed),
            ),
        )

    def _in_log(self, id_: str) -> tuple[int, bytes]:
        """Return where an entry stands, and its canonical bytes.

        Raises:
            NotFoundError: no such entry.
            PendingError: it is not in the log yet.
        """
        row = self._store.by_id(parse_id(id_))
        if row is None or row.index is None:
            view = self.decision(id_)  # where it is, or by now
            row = view.row
            if row is None or row.index is None:
                raise PendingError(f"{id_} is {view.level}, but not in the log yet")
        return row.index, self.entry_at(row.index)

    def _models(
        self, decision: int, entry: bytes, size: int, note: bytes
    ) -> Iterator[Related]:
        """Yield the model that a decision ran on; its entry is the older one."""
        index = self._model_at(entry)
        if index is not None and index < min(size, decision):
            proof = issued_proof(self._store, index, size, note)
            yield Related("model", self.entry_at(index), proof)

    def _related(self, decision: bytes, witnessed: bool) -> Iterator[Related]:
        """Yield what is told along; only what stands as firm as the decision itself.

        A verifier holds all of it to its policy: an amendment that waits for witnesses
        would refuse a receipt that does not.
        """
        for index in self._amending(decision):
            with contextlib.suppress(PendingError):
                size, note, too = self._best_checkpoint(index)
                if too >= witnessed:
                    proof = issued_proof(self._store, index, size, note)
                    yield Related("amendment", self.entry_at(index), proof)

    def content(self, id_: str) -> Content:
        """Unseal what was captured; nothing is returned that was not committed to.

        Raises:
            NotFoundError: no such entry, nothing is stored for it, or it was erased.
            PendingError: the entry is not in the log yet.
            VerificationError: stored content is not what the entry committed to.
        """
        return self.opened(id_)[0]

    def opened(self, id_: str) -> tuple[Content, list[Leaf]]:
        """Unseal what was captured, likewise; return with it all leaves, kept or not.

        Raises:
            NotFoundError: no such entry, nothing is stored for it, or it was erased.
            PendingError: the entry is not in the log yet.
            VerificationError: stored content is not what the entry committed to.
        """
        return self._open(*self._in_log(id_))

    def read(self, id_: str) -> tuple[Content, Reading | None]:
        """Unseal what was captured, and read it by its model protocol.

        Returns:
            The content, as `content` returns it; and what it says, which is advisory,
            or None where no protocol that is built in has read it.

        Raises:
            NotFoundError: no such entry, nothing is stored for it, or it was erased.
            PendingError: the entry is not in the log yet.
            VerificationError: stored content is not what the entry committed to.
        """
        index, entry = self._in_log(id_)
        content, _ = self._open(index, entry)
        return content, read_content(parse_entry(entry), content)

    def _open(self, index: int, encoded: bytes) -> tuple[Content, list[Leaf]]:
        entry = parse_entry(encoded)
        stored = self._store.sealed(index)
        if stored is None or "commitment" not in entry.data:
            msg = f"no content is stored for {format_id(entry.id)}"
            raise NotFoundError(msg)
        key = self._key(entry, stored[0])
        return open_sealed(entry, leaf_hash(encoded), key, stored)

    def _key(self, entry: Entry, key_id: bytes) -> bytes:
        with contextlib.suppress(NotFoundError):  # its slot was overwritten
            if not self._is_erased(key_id):
                return self._log.keys.key(key_id)
        lost = self._store.is_lost(key_id)
        gone = "is lost, as was declared" if lost else "was erased"
        raise NotFoundError(
            f"the content of {format_id(entry.id)} {gone}: nothing can open it"
        )

    def firm_levels(self) -> tuple[str, ...]:
        """Return the levels that convince whoever holds to the log's own policy."""
        first = "included" if self._log.policy().quorum == "none" else "witnessed"
        return LEVELS[LEVELS.index(first) :]

    def _level(self, index: int) -> str:
        try:
            witnessed = self._best_checkpoint(index)[2]
        except PendingError:
            return "accepted"
        if self._attested.is_anchored(index) and (
            witnessed or self._log.policy().quorum == "none"
        ):
            return "anchored"
        return "witnessed" if witnessed else "included"

    def _best_checkpoint(self, index: int) -> tuple[int, bytes, bool]:
        """Return size, note, and whether the policy's quorum cosigned it."""
        size = index + 1
        for _ in range(_CANDIDATES):
            found = self._store.cosigned(size)
            if found is None:
                break
            note = self._with_cosignatures(*found)
            if meets_quorum(note, self._log.policy()):
                return found[0], note, True
            size = found[0] + 1
        covering = self._store.covering(index + 1)
        if covering is None:
            msg = f"entry {index} is accepted, but under no checkpoint yet"
            raise PendingError(msg)
        return covering[0], self._with_cosignatures(*covering), False

    def _newest(self) -> tuple[int, bytes]:
        newest = self._store.newest()
        if newest is None:
            msg = f"log {self.origin} has no checkpoint yet"
            raise PendingError(msg)
        return newest

    def _published(self, size: int) -> tuple[int, bytes]:
        found = self._store.covering(size)
        if found is None or found[0] != size:
            msg = f"no checkpoint of size {size} was published"
            raise NotFoundError(msg)
        return found

    def _with_cosignatures(self, size: int, note: bytes) -> bytes:
        return note + b"".join(one.line for one in self._store.cosignatures(size))

    def _prove(self, index: int, size: int, note: bytes) -> TlogProof:
        return TlogProof(None, index, inclusion_proof(self._store, index, size), note)


def _opening(content: Content, leaves: Sequence[Leaf]) -> Opening:
    request, response = content.parts[:2]
    return Opening(
        content.first_salt,
        request.size,
        response.size,
        tuple(leaf.hash for leaf in leaves),
    )


def _all_paths(leaves: Sequence[Leaf]) -> list[str]:
    """Return the leaves that open all that is kept, each byte of a large body once."""
    kept = [leaf.path for leaf in leaves if leaf.value is not None]
    # Pieces follow from the body that they are cut from: beside it they add nothing.
    whole = tuple(f"{side}#" for side in ("request", "response") if side in kept)
    return [path for path in kept if not path.startswith(whole)]


def _disclosures(
    content: Content, leaves: Sequence[Leaf], paths: Sequence[str]
) -> list[Disclosure]:
    by_path = {leaf.path: number for number, leaf in enumerate(leaves) if leaf.path}
    for path in paths:
        at = by_path.get(path)
        if at is None or leaves[at].value is None:
            raise NotFoundError(_why_not(content, by_path, path)[:2000])
    chosen = sorted({by_path[path] for path in paths})
    return [_disclosure(number, leaves[number]) for number in chosen]


def _why_not(content: Content, by_path: Mapping[str, int], path: str) -> str:
    """Return why a path cannot be opened."""
    name, became = content.became(path)
    if became is not None:
        copy = f"{CONTEXT}{STORED}{name}"
        instead = f"; stored instead is {copy}" if copy in by_path else ""
        known = path in {name, f"{CONTEXT}{name}"}
        unsure = "" if known else ", or it was never there"
        return (
            f"{path!r} was {became} when it was recorded{unsure}: it can never be "
            f"opened{instead}"
        )
    bare = content.salts is not None and name in SIDES
    if path in by_path or (bare and content.is_capped(name)):
        return f"only the first bytes of {path!r} were kept; it cannot be opened"
    # What was captured is not told: names of members are content, too.
    return (
        f"nothing was captured at {path[:80]!r}; a field is named as in request/age, "
        "response or context/outcome"
    )


def _disclosure(number: int, leaf: Leaf) -> Disclosure:
    assert leaf.value is not None
    return Disclosure(number, leaf.path, leaf.salt, leaf.value)
