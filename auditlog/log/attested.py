"""What anchors gave for an entry, as a receipt tells it, with renewals if wanted."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from auditlog.core.errors import NotFoundError, StorageError
from auditlog.core.proof import TlogProof, format_tlog_proof
from auditlog.core.receipt import MAX_RECEIPT, Anchor, with_checksum
from auditlog.core.record import parse_json
from auditlog.log.anchor_entry import is_history, row_id
from auditlog.log.proofs import inclusion_proof
from auditlog.storage import (
    AttestationRow,
    Attestations,
    Index,
    Objects,
    Publication,
    Spool,
)

__all__ = ["Attested", "AttestedStore", "issued_proof"]

_MAX_ANCHORS = 64
"""As many as a verifier looks at (`auditlog.anchors.verdict`)."""


class AttestedStore(Attestations, Index, Objects, Publication, Spool, Protocol):
    """The ports that are read here."""


def issued_proof(objects: Objects, index: int, size: int, note: bytes) -> bytes:
    """Return the tlog-proof of an entry as it stands in a receipt, with a checksum.

    Unknown signature lines are ignored by rule, so without this checksum a damaged
    line would be read as a missing one.
    """
    proof = _proof(objects, index, size, note)
    return format_tlog_proof(proof._replace(extra=sha256(note).digest()))


def _proof(objects: Objects, index: int, size: int, note: bytes) -> TlogProof:
    return TlogProof(None, index, inclusion_proof(objects, index, size), note)


@dataclass(frozen=True, slots=True)
class Attested:
    """Finds what anchors gave for an entry. Deterministic, for one state of the log."""

    store: AttestedStore

    def anchors(self, index: int, renew: Sequence[str] | None = None) -> list[Anchor]:
        """Return what each anchor gave first for a checkpoint that covers an entry.

        Args:
            index: of the entry.
            renew: the anchors whose word renews that of others, the first that can;
                empty for any, None for no renewals.

        Returns:
            At most 64, by the operator's names for the anchors.

        Raises:
            NotFoundError: an anchor of `renew` never gave anything.
            StorageError: the store cannot be read.
        """
        if renew:
            self._check_names(renew)
        rows = self._first_rows(index)
        anchors = [self._anchor(index, row) for row in rows[:_MAX_ANCHORS]]
        if renew is not None:
            pairs = zip(anchors, rows, strict=False)
            anchors = [self._renewed(anchor, row, renew) for anchor, row in pairs]
        return [with_checksum(anchor) for anchor in anchors]

    def is_anchored(self, index: int) -> bool:
        """Return whether a final attestation covers an entry."""
        return self.store.anchored(index + 1) is not None

    def _check_names(self, names: Sequence[str]) -> None:
        known = self._names()
        for name in names:
            if name not in known:
                there = ", ".join(known) or "none"
                msg = f"no anchor {name!r} gave anything in this log; there is: {there}"
                raise NotFoundError(msg)

    def _names(self) -> list[str]:
        return [one for one in self.store.attesting() if not is_history(one)]

    def _first_rows(self, index: int) -> list[AttestationRow]:
        found = (
            self.store.first_attestation(anchor, size=index + 1)
            for anchor in self._names()
        )
        return [row for row in found if row is not None]

    def _anchor(self, index: int, row: AttestationRow) -> Anchor:
        found = self.store.covering(row.size)
        if found is None or found[0] != row.size:
            raise StorageError(f"the checkpoint of size {row.size} is missing")
        proof = format_tlog_proof(_proof(self.store, index, *found))
        return Anchor(row.kind, proof, parse_json(row.evidence, limit=MAX_RECEIPT))

    def _renewed(
        self, anchor: Anchor, row: AttestationRow, renew: Sequence[str]
    ) -> Anchor:
        """Return an anchor with the renewal of its evidence, where there is one."""
        told = self.store.by_id(row_id(row))
        if told is None or told.index is None:
            return anchor
        later = {one.anchor: one for one in self._first_rows(told.index)}
        names = renew or [name for name in later if name != row.anchor]
        chosen = [later[name] for name in names if name in later]
        if not chosen:
            return anchor
        first = chosen[0] if renew else min(chosen, key=lambda one: one.updated)
        by = self._anchor(told.index, first)
        renewal: dict[str, Any] = {
            "entry": self.store.read(told.index, told.index + 1)[0].decode(),
            "proof": by.proof.decode(),
            "kind": by.kind,
            "evidence": by.evidence,
        }
        return anchor._replace(evidence={**anchor.evidence, "renewal": renewal})
