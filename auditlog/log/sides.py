"""The two bodies of an exchange, opened into the leaves of its commitment.

A body that was held in memory is decoded and split here. One that was not has been
hashed while it passed, and its leaves come as hashes.
"""

import msgspec

from auditlog.capture.body import Body
from auditlog.capture.cutting import whole
from auditlog.capture.splitting import fast_members, open_body
from auditlog.core.commitment import disclosure_hash, leaf_salt
from auditlog.core.errors import MalformedError
from auditlog.core.pieces import messages, split_body
from auditlog.log.parts import Part

__all__ = ["HASHED", "Side", "closed_sides", "open_sides", "stored_pieces"]

HASHED = ""
"""Stands for the path of a leaf of which only the hash is there, as its value."""


class Side(msgspec.Struct, eq=False):
    """One body and the leaves that it has besides its raw one."""

    # A struct, because two are made for each decision.

    raw: Part
    decoded: Part | None
    split: str
    """``json``, ``sse``, ``ws``, ``chunks`` or ``none``."""
    leaves: list[tuple[str, bytes]]
    """Members or pieces: path and value, or `HASHED` and hash."""


def open_sides(request: Body, response: Body, depth: int) -> tuple[Side, Side]:
    """Return both sides of an exchange; may read what was spilled.

    Args:
        request: finished.
        response: finished.
        depth: levels of a JSON body that open into members.
    """
    asked = _open_held("request", request, depth)
    answered = _open_held("response", response, depth)
    if asked is not None and answered is not None:
        return asked, answered
    first = 2
    for side in (asked, answered):
        first += side is not None and side.decoded is not None
    asked = asked or _open_large("request", request, first, depth)
    first += len(asked.leaves)
    return asked, answered or _open_large("response", response, first, depth)


def closed_sides(request: Body, response: Body) -> tuple[Side, Side]:
    """Return both sides of an exchange whose bodies are committed to and not kept."""
    return _close("request", request), _close("response", response)


def _close(path: str, body: Body) -> Side:
    raw = Part(path, b"", body.size)
    if body.size:
        salt = leaf_salt(body.secret, body.leaf)
        known = body.leaf_hash() or disclosure_hash(salt, path, body.kept())
        raw = raw._replace(leaf_hash=known)
    return Side(raw, None, "none", [])


def _open_held(path: str, body: Body, depth: int) -> Side | None:
    """Return the side of a body that is in memory; None if it is not."""
    if body.large is not None:
        return None
    value, coding = body.kept(), body.coding
    decoded, split, leaves = open_body(
        path, value, body.media_type, coding, depth, framed=body.framed
    )
    side = Side(Part(path, value, len(value)), None, split, leaves)
    if decoded is not None:
        name = f"{path}:decoded"
        side.decoded = Part(name, decoded, len(decoded), coding=coding)
    return side


def _open_large(path: str, body: Body, first: int, depth: int) -> Side:
    """Return the side of a body that is not held; its leaves begin at `first`."""
    split, hashes = body.piece_hashes(first, depth)
    value = body.kept()
    raw = Part(path, value, body.size)
    if len(value) < body.size:
        kept = len(whole(split, value)[0]) if hashes else 0
        rest = b"".join(hashes[kept:])
        raw = raw._replace(leaf_hash=body.leaf_hash(), piece_hashes=rest)
    return Side(raw, None, split, [(HASHED, one) for one in hashes])


def stored_pieces(
    split: str, side: str, stored: bytes, depth: int
) -> list[tuple[str, bytes]]:
    """Return the pieces of what is stored of a body, which may be a copy of it.

    It may be the first bytes, and it may be anything that a redactor made of them:
    the last piece may be cut, and there are none where it cannot be split.

    Args:
        split: what the body itself was split into, as its entry says.
        side: ``request`` or ``response``.
        stored: the copy.
        depth: levels of JSON to open.
    """
    if split == "json":
        return fast_members(side, stored, depth) or []
    if split == "ws":
        try:
            found = messages(stored, cut=True)
        except MalformedError:
            return []
        return [(f"{side}#{at}", one.payload) for at, one in enumerate(found)]
    return [] if split == "none" else split_body(split, side, stored, depth) or []
