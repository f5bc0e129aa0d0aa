"""Stored content, held against the commitment in its entry (`FORMATS.md` §2, §6)."""

from collections.abc import Collection, Sequence
from typing import Any

from auditlog.capture.cutting import whole
from auditlog.capture.redaction.redaction import Redaction
from auditlog.core.commitment import commit, commitment_digest, disclosure_hash, salts
from auditlog.core.encoding import format_base64
from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.opening import Content as Committed
from auditlog.core.opening import content_of
from auditlog.core.pieces import split_body
from auditlog.core.record import Entry
from auditlog.log.packing import WORTH_COMPRESSING, pack, unpack
from auditlog.log.parts import (
    SIDES,
    STORED,
    Content,
    Hashed,
    Leaf,
    Part,
    Piece,
    Salted,
    Salts,
)
from auditlog.log.redacting import redact_context
from auditlog.log.sides import stored_pieces
from auditlog.storage.sealing import unseal

__all__ = [
    "WORTH_COMPRESSING",
    "Content",
    "Leaf",
    "Part",
    "context_only",
    "leaves_of",
    "open_sealed",
    "pack",
    "unpack",
    "verify_content",
]

_HASH = 32
_NO_BODY = {"mediaType": "none", "split": "none", "state": "omitted"}
"""Nobody's request, and no answer."""


def context_only(
    secret: bytes,
    leaves: Sequence[tuple[str, bytes]],
    *,
    redaction: Redaction | None = None,
    unopened: Collection[str] = (),
) -> tuple[dict[str, Any], Content]:
    """Return what an entry says whose content is ``context/`` leaves and no body.

    Args:
        secret: 32 random bytes, never used before.
        leaves: path and value of each, in the order of `FORMATS.md` §3.
        redaction: takes out what may not be stored.
        unopened: paths of leaves of which only the hash is to be kept: who has the
            secret can open them now (`leaf_salt`), and nobody later.

    Returns:
        Members of its `data`: ``commitment``, ``request``, ``response``; and the
        content that the commitment covers, which holds no secret where something was
        taken out or stays unopened.
    """
    context = [Part(path, value, len(value)) for path, value in leaves]
    gone = set(unopened)
    if redaction is not None:
        context, taken = redact_context(redaction, context)
        gone |= taken
    named = [(part.path, part.value) for part in context]
    digest, of_leaves, hashes = commit(secret, b"", b"", named)
    said = {"depth": 0, "digest": format_base64(digest), "v": 1}
    data = {"commitment": said, "request": _NO_BODY, "response": _NO_BODY}
    every = [*(Part(side, b"", 0) for side in SIDES), *context]
    if not gone:
        return data, Content(secret, tuple(every))
    known = zip(every, of_leaves[1:], hashes, strict=True)
    salted = tuple(
        Hashed(hash_) if part.path in gone else Salted(salt)
        for part, salt, hash_ in known
    )
    kept = tuple(part for part in every if part.path not in gone)
    return data, Content(None, kept, Salts(of_leaves[0], salted))


def leaves_of(entry: Entry, content: Content) -> list[Leaf]:
    """Return all leaves of the decision's commitment, in order, with their salts.

    Raises:
        MalformedError: a leaf is none of what is stored.
    """
    committed = content_of(entry)
    if content.salts is not None:
        return _salted_leaves(committed, content, content.salts)
    decoded = content.decoded
    values = [*content.parts[:2], *decoded.values()]
    for raw in content.parts[:2]:
        split = committed.sides[raw.path]["split"]
        if raw.leaf_hash is not None and split not in {"json", "none"}:
            values += _capped_pieces(raw, split)
        elif split != "none":
            body = decoded.get(raw.path, raw).value
            found = split_body(split, raw.path, body, committed.depth) or []
            values += [Part(path, value, len(value)) for path, value in found]
    values += content.parts[2 + len(decoded) :]
    all_salts = salts(content.secret or b"", len(values))
    return [_leaf(part, salt) for part, salt in zip(values, all_salts[1:], strict=True)]


def _capped_pieces(raw: Part, split: str) -> list[Part]:
    """Return the pieces of a body, those that are not kept whole as hashes."""
    found, _ = whole(split, raw.value)
    rest = raw.piece_hashes
    hashes = [rest[at : at + _HASH] for at in range(0, len(rest), _HASH)]
    return [
        *(
            Part(f"{raw.path}#{number}", value, len(value))
            for number, value in enumerate(found)
        ),
        *(
            Part(f"{raw.path}#{number}", b"", 0, leaf_hash)
            for number, leaf_hash in enumerate(hashes, len(found))
        ),
    ]


def _leaf(part: Part, salt: bytes) -> Leaf:
    if part.leaf_hash is not None:
        return Leaf(part.path, None, salt, part.leaf_hash)
    hash_ = disclosure_hash(salt, part.path, part.value)
    return Leaf(part.path, part.value, salt, hash_)


def _salted_leaves(committed: Committed, content: Content, known: Salts) -> list[Leaf]:
    """Return the leaves of content without a secret, each as far as it is known."""
    pieces = {side: _pieces_of(committed, content, side) for side in SIDES}
    further = iter(content.parts[2:])
    leaves = []
    for place, one in enumerate(known.leaves):
        path = SIDES[place] if place < len(SIDES) else ""
        if isinstance(one, Hashed):
            leaves.append(Leaf(path, None, b"", one.hash))
            continue
        if isinstance(one, Piece):
            path, value = _numbered(pieces[one.side], one)
        else:
            part = content.parts[place] if path else next(further)
            path, value = part.path, part.value
        hash_ = disclosure_hash(one.salt, path, value)
        leaves.append(Leaf(path, value, one.salt, hash_))
    return leaves


def _pieces_of(
    committed: Committed, content: Content, side: str
) -> list[tuple[str, bytes]]:
    """Return what is stored of a side, split as its entry says."""
    raw = content.parts[SIDES.index(side)]
    copy = content.context.get(f"{STORED}{side}")
    stored = content.decoded.get(side, raw).value if copy is None else copy
    split = committed.sides[side]["split"]
    return stored_pieces(split, side, stored, committed.depth)


def _numbered(pieces: list[tuple[str, bytes]], one: Piece) -> tuple[str, bytes]:
    if one.number >= len(pieces):
        msg = (
            f"expected piece {one.number} of the stored {one.side} to be one of its "
            f"{len(pieces)}"
        )
        raise MalformedError(msg)
    return pieces[one.number]


def open_sealed(
    entry: Entry, leaf: bytes, key: bytes, stored: tuple[bytes, bytes]
) -> tuple[Content, list[Leaf]]:
    """Unseal what is stored of an entry, and hold it against its commitment.

    Args:
        entry: the entry.
        leaf: `auditlog.core.merkle.leaf_hash` of its canonical bytes.
        key: K under which it is sealed, 32 bytes.
        stored: key id and sealed bytes, as the vault gives them.

    Raises:
        VerificationError: it is not what the entry committed to.
        MalformedError: it is not as we store it.
    """
    key_id, sealed = stored
    content = unpack(unseal(key, key_id, leaf, sealed))
    return content, verify_content(entry, content)


def verify_content(entry: Entry, content: Content) -> list[Leaf]:
    """Recompute the commitment from stored content; return its leaves.

    Raises:
        VerificationError: the content is not what the entry committed to.
        MalformedError: a leaf is none of what is stored.
    """
    leaves = leaves_of(entry, content)
    digest = commitment_digest(
        content.first_salt,
        content.parts[0].size,
        content.parts[1].size,
        [leaf.hash for leaf in leaves],
    )
    committed = content_of(entry).digest
    if digest != committed:
        msg = (
            "stored content does not match the commitment in its entry: expected "
            f"{committed.hex()}, recomputed {digest.hex()}"
        )
        raise VerificationError(msg)
    return leaves
