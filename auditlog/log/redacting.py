"""The choke point: what was captured, without what a redactor took out of it.

The commitment covers everything as it was. What is stored is another matter: each body
and each ``context/`` leaf passes the redactor first, and a salt is kept only of what it
saw whole and left as it was (`FORMATS.md` §6). Everything else is known by its hash:
the member, each container above it, the decoded and the raw body, and bytes that are
covered by the commitment but not kept, in which nobody looked. Whoever has the salt of
such a leaf could try out what the value was.

The copy that is stored instead is a leaf of its own, ``context/stored.<side or leaf>``,
and ``context/redaction`` says of each side or leaf whether it was ``redacted``, or
``withheld`` because what may be stored of it could not be told. No rule is named: that
would tell what was found.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from auditlog.capture.body import Body
from auditlog.capture.cutting import whole
from auditlog.capture.decoding import decode, says_more
from auditlog.capture.exchange import Exchange
from auditlog.capture.redaction.redaction import Redaction
from auditlog.capture.redaction.redaction import Side as Name
from auditlog.core.pieces import is_text
from auditlog.core.record import canonical_json
from auditlog.log.parts import (
    CAPPED,
    CONTEXT,
    REDACTION,
    STORED,
    Content,
    Hashed,
    Part,
    Piece,
    Salted,
    Salts,
)
from auditlog.log.sides import HASHED, Side, stored_pieces

__all__ = [
    "Committed",
    "Passed",
    "Seen",
    "look",
    "pass_through",
    "redact_context",
    "without_secret",
]

_REDACTED, _WITHHELD = "redacted", "withheld"
_Leaf = Part | tuple[str, int] | None
"""What of a leaf is kept: a value, which piece of a stored side it is, or nothing."""


class Seen(NamedTuple):
    """One side after the redactor saw it."""

    untouched: bool
    """Whether it saw all of it and took nothing out."""
    copy: bytes | None = None
    """What is stored instead of it; None for nothing."""
    became: str | None = None
    """What is said of it."""


class Passed(NamedTuple):
    """An exchange after the choke point, of which not everything may be kept."""

    asked: Seen
    answered: Seen
    context: list[Part]
    """All ``context/`` leaves, copies among them, in the order of their paths."""
    gone: set[str]
    """Paths of those that may not be kept."""


def look(
    redaction: Redaction, exchange: Exchange, asked: Side, answered: Side
) -> tuple[Seen, Seen]:
    """Let the bodies of an exchange pass a redactor.

    Args:
        redaction: that of the exchange.
        exchange: finished.
        asked: its request, opened.
        answered: its response, opened.
    """
    keep = exchange.keep
    return (
        _look(redaction, "request", exchange.request, asked, keep=keep),
        _look(redaction, "response", exchange.response, answered, keep=keep),
    )


def pass_through(
    redaction: Redaction,
    bodies: Sequence[tuple[Side, Seen]],
    context: Sequence[Part],
) -> Passed | None:
    """Let what is said of an exchange pass its redactor, after its bodies.

    Args:
        redaction: that of the exchange.
        bodies: request and response, opened, and what `look` saw of them.
        context: the ``context/`` leaves.

    Returns:
        None where all of it may be kept as it is.
    """
    copies: dict[str, bytes] = {}
    said: dict[str, Any] = {}
    cut = []
    for side, seen in bodies:
        name = side.raw.path
        if seen.became is not None:
            said[name] = seen.became
        if seen.copy is not None:
            copies[name] = seen.copy
            if side.raw.leaf_hash:
                cut.append(name)
    if cut:
        said[CAPPED] = cut
    leaves, gone = _redacted(redaction, context, copies, said)
    (_, first), (_, second) = bodies
    if first.untouched and second.untouched and not gone:
        return None
    return Passed(first, second, leaves, gone)


def redact_context(
    redaction: Redaction, context: Sequence[Part]
) -> tuple[list[Part], set[str]]:
    """Let ``context/`` leaves pass a redactor.

    Returns:
        All of them, with copies and what is said of it, in the order of their paths;
        and the paths of those that may not be kept.
    """
    return _redacted(redaction, context, {}, {})


def _redacted(
    redaction: Redaction,
    context: Sequence[Part],
    copies: dict[str, bytes],
    said: dict[str, Any],
) -> tuple[list[Part], set[str]]:
    """Redact leaves; `copies` are stored and `said` is told besides."""
    gone: set[str] = set()
    for path, value, *_ in context:
        name = path.removeprefix(CONTEXT)
        copy = redaction.leaf(name, value)
        if copy == value:
            continue
        gone.add(path)
        said[name] = _WITHHELD if copy is None else _REDACTED
        if copy is not None:
            copies[name] = copy
    further = {f"{STORED}{name}": copy for name, copy in copies.items()}
    if said:
        further[REDACTION] = canonical_json(said)
    added = (Part(f"{CONTEXT}{k}", v, len(v)) for k, v in further.items())
    return sorted([*context, *added]), gone


def _look(
    redaction: Redaction,
    name: Name,
    body: Body,
    side: Side,
    *,
    keep: bool,
) -> Seen:
    raw = side.raw
    value = raw.value if side.decoded is None else side.decoded.value
    if not value or not keep:
        # What is covered and not kept was not seen either.
        return Seen(untouched=raw.leaf_hash is None)
    copy = None
    if _is_legible(body, side):
        cut = raw.leaf_hash is not None or body.state == "partial"
        copy = redaction.body(name, value, body.media_type, framed=body.framed, cut=cut)
    if copy is None:
        return Seen(untouched=False, became=_WITHHELD)
    hidden = side.decoded is not None and says_more(raw.value, body.coding or "")
    if copy != value or hidden:
        return Seen(untouched=False, copy=copy, became=_REDACTED)
    if raw.leaf_hash is None:
        return Seen(untouched=True)
    return Seen(untouched=False, copy=copy)


def _is_legible(body: Body, side: Side) -> bool:
    """Return whether a redactor can see what an encoded body says."""
    if body.coding is None or side.decoded is not None:
        return True
    # Some say that they encode and do not. What decodes says more than it shows.
    value = side.raw.value
    return is_text(value) and decode(value, body.coding) is None


class Committed(NamedTuple):
    """All of a commitment, as it is made."""

    digest: bytes
    salts: bytes
    """salt_0 and those of all leaves, 16 bytes each."""
    hashes: list[bytes]


def without_secret(
    passed: Passed, committed: Committed, asked: Side, answered: Side, depth: int
) -> Content:
    """Return what is kept of an exchange from which something was taken out.

    Args:
        passed: the exchange after the choke point.
        committed: to the exchange as it was, and to the copies.
        asked: its request, opened.
        answered: its response, opened.
        depth: levels of JSON to open.
    """
    sides = [(asked, passed.asked), (answered, passed.answered)]
    leaves: list[_Leaf] = [side.raw if seen.untouched else None for side, seen in sides]
    leaves += [
        side.decoded if seen.untouched else None
        for side, seen in sides
        if side.decoded is not None
    ]
    for side, seen in sides:
        name = side.raw.path
        leaves += [
            None if number is None else (name, number)
            for number in _numbers(side, seen, depth)
        ]
    leaves += [None if one.path in passed.gone else one for one in passed.context]
    raws = [
        side.raw if seen.untouched else Part(side.raw.path, b"", side.raw.size, hash_)
        for (side, seen), hash_ in zip(sides, committed.hashes, strict=False)
    ]
    further = [leaf for leaf in leaves[2:] if isinstance(leaf, Part)]
    return Content(None, (*raws, *further), _salts(leaves, committed))


def _salts(leaves: list[_Leaf], committed: Committed) -> Salts:
    """Return the salts of what is kept of each leaf, and hashes of all others."""
    stream, at = committed.salts, 0
    known: list[Hashed | Salted | Piece] = []
    for leaf, hash_ in zip(leaves, committed.hashes, strict=True):
        at += 16
        if leaf is None:
            known.append(Hashed(hash_))
        elif isinstance(leaf, Part):
            known.append(Salted(stream[at : at + 16]))
        else:
            side, number = leaf
            known.append(Piece(stream[at : at + 16], side, number))
    return Salts(stream[:16], tuple(known))


def _numbers(side: Side, seen: Seen, depth: int) -> Sequence[int | None]:
    """Return for each piece of a side which piece it is of what is stored of it."""
    count = len(side.leaves)
    if seen.untouched:
        return range(count)
    pieces = _pieces(side, depth)
    stored = stored_pieces(side.split, side.raw.path, seen.copy or b"", depth)
    found: list[int | None]
    if [path for path, _ in stored] == [path for path, _ in pieces]:
        paired = zip(pieces, stored, strict=True)
        found = [at if was == now else None for at, (was, now) in enumerate(paired)]
    else:
        # A redactor may take members out, or add some.
        places = {leaf: at for at, leaf in enumerate(stored)}
        found = [places.get(leaf) for leaf in pieces]
    return found + [None] * (count - len(found))


def _pieces(side: Side, depth: int) -> list[tuple[str, bytes]]:
    """Return the first pieces of a side, as they were: those that were seen whole."""
    raw = side.raw
    if not side.leaves or side.leaves[0][0] is not HASHED:
        return side.leaves
    if raw.leaf_hash is None:
        return stored_pieces(side.split, raw.path, raw.value, depth)
    found = whole(side.split, raw.value)[0]
    return [(f"{raw.path}#{at}", value) for at, value in enumerate(found)]
