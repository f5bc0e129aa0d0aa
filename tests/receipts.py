"""A log in memory, with keys from fixed seeds: whatever a test needs to make receipts.

It follows the formats, not the product's code above `core`: entries, commitments,
checkpoints, proofs, receipts, and the policy that believes them.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from auditlog.core.checkpoint import Checkpoint, format_checkpoint
from auditlog.core.commitment import Commitment, commit, members
from auditlog.core.merkle import leaf_hash, nodes_of, prove_inclusion, tree_root
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    ED25519,
    ML_DSA_44,
    Signer,
    make_signer,
    sign_note,
)
from auditlog.core.proof import TlogProof, format_tlog_proof
from auditlog.core.receipt import Disclosure, Opening, Receipt, format_receipt
from auditlog.core.record import DECISION, Entry, format_entry

__all__ = ["ORIGIN", "TIME", "Decision", "MemoryLog", "make_decision", "make_id"]

ORIGIN = "log.example/credit"
TIME = 1_795_000_000_000_000
"""Microseconds since the epoch at which everything starts."""


def make_id(number: int) -> bytes:
    """Return a UUIDv7 for a number, the same each time."""
    tail = sha256(b"id %d" % number).digest()[:10]
    head = (TIME // 1000 + number).to_bytes(6, "big")
    return head + bytes([0x70 | tail[0] & 15, tail[1], 0x80 | tail[2] & 63]) + tail[3:]


@dataclass(frozen=True)
class Decision:
    """An entry with the content behind its commitment."""

    entry: bytes
    secret: bytes
    leaves: tuple[tuple[str, bytes], ...]
    """All leaves, the raw bodies first."""
    commitment: Commitment

    @property
    def opening(self) -> Opening:
        sizes = [len(value) for _, value in self.leaves[:2]]
        salt_0, hashes = self.commitment.salts[0], self.commitment.hashes
        return Opening(salt_0, sizes[0], sizes[1], hashes)

    def disclose(self, *paths: str) -> tuple[Disclosure, ...]:
        """Open leaves by path, in the order of the leaves."""
        known = {path for path, _ in self.leaves}
        assert known.issuperset(paths), set(paths) - known
        return tuple(
            Disclosure(index, path, self.commitment.salts[index + 1], value)
            for index, (path, value) in enumerate(self.leaves)
            if path in paths
        )


def make_decision(
    number: int = 0,
    request: bytes = b'{"age": 41, "income": 52000, "name": "Ada"}',
    response: bytes = b'{"decision":"approve","score":0.8731}',
    *,
    depth: int = 1,
    context: Mapping[str, bytes] | None = None,
    split: Mapping[str, str] | None = None,
    leaves: Sequence[tuple[str, bytes]] | None = None,
    origin: str = ORIGIN,
    data: Mapping[str, Any] | None = None,
) -> Decision:
    """Make a decision; `leaves`, `split` and `data` can make it a dishonest one."""
    secret = sha256(b"secret %d" % number).digest()
    found = {
        side: members(side, body, depth)
        for side, body in (("request", request), ("response", response))
    }
    if leaves is None:
        leaves = [leaf for side in found.values() for leaf in side or ()]
        context = {"target": b"/score", **(context or {})}
        leaves += [(f"context/{key}", context[key]) for key in sorted(context)]
    commitment = commit(secret, request, response, leaves)
    sides: dict[str, Any] = {
        side: {
            "mediaType": "application/json",
            "split": "none" if found[side] is None else "json",
            "state": "complete",
        }
        for side in found
    }
    for side, value in (split or {}).items():
        sides[side]["split"] = value
    digest = base64.b64encode(commitment.digest).decode()
    fields = {
        "commitment": {"depth": depth, "digest": digest, "v": 1},
        "duration": 1234,
        "emitter": base64.b64encode(bytes(16)).decode(),
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/score",
        "model.name": "credit",
        "outcome": "completed",
        "sequence": number,
        **sides,
        **(data or {}),
    }
    tag = base64.urlsafe_b64encode(sha256(b"%d" % number).digest()[:16]).decode()
    entry = Entry(make_id(number), DECISION, origin, TIME + number, fields, tag)
    opened = (("request", request), ("response", response), *leaves)
    return Decision(format_entry(entry), secret, opened, commitment)


def _seed(text: str) -> bytes:
    return sha256(text.encode()).digest()


@dataclass
class MemoryLog:
    """Entries in order, the keys that sign them, and witnesses that cosign."""

    origin: str = ORIGIN
    types: tuple[int, ...] = (ED25519, ML_DSA_44)
    """Key types of the log's signers."""
    witness_types: tuple[int, ...] = (COSIGNATURE_ED25519,)
    """One witness for each, ``w0``, ``w1`` and so on."""
    entries: list[bytes] = field(default_factory=list)
    time: int = TIME // 1_000_000
    """Seconds that witnesses state."""

    @property
    def signers(self) -> list[Signer]:
        return [
            make_signer(self.origin, type_, _seed(f"{self.origin} {type_}"))
            for type_ in self.types
        ]

    @property
    def witnesses(self) -> list[Signer]:
        return [
            make_signer(f"w{number}.example", type_, _seed(f"witness {number}"))
            for number, type_ in enumerate(self.witness_types)
        ]

    def add(self, *entries: bytes) -> int:
        """Append entries; return the index of the last."""
        self.entries += entries
        return len(self.entries) - 1

    def policy(self, quorum: str = "all") -> str:
        """Return a policy; `quorum` is none, all, any, a number or a witness."""
        lines = [f"log {signer.verifier.vkey}" for signer in self.signers]
        names = [f"w{number}" for number in range(len(self.witness_types))]
        for name, signer in zip(names, self.witnesses, strict=True):
            lines.append(f"witness {name} {signer.verifier.vkey}")
        if quorum != "none" and quorum not in names:
            lines.append(f"group quorum-of-all {quorum} {' '.join(names)}")
            quorum = "quorum-of-all"
        return "".join(f"{line}\n" for line in [*lines, f"quorum {quorum}"])

    def checkpoint(
        self, size: int | None = None, *, cosigners: Sequence[Signer] | None = None
    ) -> bytes:
        """Return a checkpoint signed by the log, cosigned by all or some witnesses."""
        leaves = [leaf_hash(entry) for entry in self.entries[:size]]
        root = tree_root(len(leaves), nodes_of(leaves))
        text = format_checkpoint(Checkpoint(self.origin, len(leaves), root))
        witnesses = self.witnesses if cosigners is None else cosigners
        lines = [witness.sign(text, self.time) for witness in witnesses]
        return sign_note(text, self.signers) + b"".join(lines)

    def proof(
        self,
        index: int,
        size: int | None = None,
        *,
        note: bytes | None = None,
        extra: bytes | None = b"",
    ) -> bytes:
        """Return a tlog-proof; `extra` is the checksum unless told otherwise."""
        leaves = [leaf_hash(entry) for entry in self.entries[:size]]
        note = self.checkpoint(size) if note is None else note
        extra = sha256(note).digest() if extra == b"" else extra
        hashes = prove_inclusion(index, len(leaves), nodes_of(leaves))
        return format_tlog_proof(TlogProof(extra, index, hashes, note))

    def receipt(
        self,
        decision: Decision,
        *paths: str,
        size: int | None = None,
        full: bool = False,
        **changes: Any,
    ) -> bytes:
        """Return the receipt of a decision in the log, with these paths disclosed.

        `full` adds the secret; `changes` replace fields of `Receipt`.
        """
        index = self.entries.index(decision.entry)
        receipt = Receipt(
            entry=decision.entry,
            proof=changes.pop("proof", None) or self.proof(index, size),
            opening=decision.opening if paths or full else None,
            disclosures=decision.disclose(*paths),
            secret=decision.secret if full else None,
        )
        return format_receipt(replace(receipt, **changes))
