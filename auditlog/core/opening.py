"""Opened content, held against the commitment in its entry (`FORMATS.md` §2, §3).

Three depths of opening, each a superset of the one before: single leaves; a raw body,
which is split again, so that disclosed members must be its members; and the secret,
from which every salt, and with both bodies every member, is computed anew.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from auditlog.core.commitment import (
    commitment_digest,
    disclosure_hash,
    members,
    salts,
)
from auditlog.core.encoding import parse_hash
from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.receipt import Disclosure, Opening, check_fields
from auditlog.core.record import DECISION, Entry

__all__ = ["Check", "Content", "content_of", "verify_opening"]

_SPLITS = {"json": "/", "sse": "#", "ws": "#", "chunks": "#", "none": ""}
_RAW = ("request", "response")
_ORDER = (*_RAW, "request:decoded", "response:decoded")
_FIRST_MEMBERS = range(2, 5)  # after both raw bodies and up to two decoded ones
_MISPLACED = "expected members at the places that a disclosed body gives them"
_Parts = list[tuple[str, bytes]] | None


class Check(NamedTuple):
    """One thing that was checked and held."""

    name: str
    detail: str


class Content(NamedTuple):
    """What a decision says in clear about its content."""

    depth: int
    """Levels that open into members, 0 to 8."""
    digest: bytes
    """The commitment, 32 bytes."""
    splits: Mapping[str, str]
    """How `request` and `response` were split into leaves."""


def content_of(entry: Entry) -> Content:
    """Return the commitment of a decision.

    Raises:
        VerificationError: the entry is no decision, so it has none.
        MalformedError: the fields are not those of a decision.
    """
    if entry.type != DECISION:
        raise VerificationError(f"expected a decision, got an entry of {entry.type}")
    kinds = {"depth": int, "digest": str, "v": int}
    fields = check_fields(entry.data.get("commitment"), "a commitment", kinds)
    if fields["v"] != 1 or not 0 <= fields["depth"] <= 8:
        raise MalformedError("expected a commitment of version 1 and depth 0 to 8")
    splits = {side: _split_of(entry, side) for side in _RAW}
    return Content(fields["depth"], parse_hash(fields["digest"]), splits)


def _split_of(entry: Entry, side: str) -> str:
    kinds = {"mediaType": str, "state": str, "split": str}
    split = check_fields(entry.data.get(side), f"a {side}", kinds)["split"]
    if split not in _SPLITS:
        raise MalformedError(f"expected a split of ours, got {split[:40]!r}")
    return str(split)


def verify_opening(
    content: Content,
    opening: Opening,
    disclosures: tuple[Disclosure, ...],
    secret: bytes | None,
) -> tuple[list[Check], list[str]]:
    """Hold everything that a receipt opens against the commitment.

    Returns:
        What was checked, and what it leaves unproven.

    Raises:
        VerificationError: something opened is not what was committed to.
        MalformedError: a salt, size, path or depth that cannot be.
    """
    if commitment_digest(*opening) != content.digest:
        raise VerificationError("expected the commitment of the entry, got another")
    count = len(opening.hashes)
    sizes = f"request {opening.request_size} bytes, response {opening.response_size}"
    checks = [Check("commitment", f"{count} leaves; {sizes}")]
    if disclosures:
        _check_leaves(opening, disclosures)
        detail = f"{len(disclosures)} of {count} leaves, as committed to"
        checks.append(Check("disclosures", detail))
    opened = {item.path: item for item in disclosures}
    parts = {side: _parts(side, content, opened) for side in content.splits}
    firsts = _check_members(parts, opened, count)
    for side, found in parts.items():
        inside = [path for path in opened if path.startswith(f"{side}/")]
        if found and inside:
            detail = f"{len(inside)} of {len(found)}, as they stand in the {side}"
            checks.append(Check("members", detail))
    open_points = _open_points(count, content, opened, parts)
    if secret is not None:
        _check_secret(secret, opening, disclosures)
        checks.append(Check("secret", f"all {count} salts follow from it"))
        if opened.keys() >= set(_RAW) and None not in parts.values():
            every = [leaf for found in parts.values() for leaf in found or ()]
            _recompute(secret, opening, every, firsts)
            checks.append(Check("full opening", "every member of both bodies"))
    return checks, open_points


def _open_points(
    count: int,
    content: Content,
    opened: Mapping[str, Disclosure],
    parts: Mapping[str, _Parts],
) -> list[str]:
    points = []
    if len(opened) < count:
        points.append(f"anything about the {count - len(opened)} undisclosed leaves")
    points.extend(
        f"that what is disclosed of the {side} stands in its disclosed body, which "
        f"was not split again ({content.splits[side]})"
        for side, found in parts.items()
        if found is None and side in opened and len(opened) > 2
    )
    return points


def _check_leaves(opening: Opening, disclosures: tuple[Disclosure, ...]) -> None:
    sizes = (opening.request_size, opening.response_size)
    for index, path, salt, value in disclosures:
        if index >= len(opening.hashes):
            raise VerificationError(
                f"expected leaves below {len(opening.hashes)}, got {index}"
            )
        if disclosure_hash(salt, path, value) != opening.hashes[index]:
            raise VerificationError(
                f"expected leaf {index} of the commitment, got another {path!r}"
            )
        if index < 2 and len(value) != sizes[index]:
            raise VerificationError(
                f"expected {sizes[index]} bytes as {path}, got {len(value)}"
            )
    _check_order(sorted(disclosures))


def _check_order(disclosures: list[Disclosure]) -> None:
    """Refuse leaves in another order than `FORMATS.md` §3 gives them."""
    for index, path, *_ in disclosures:
        if (index < 2 or path in _RAW) and _RAW[index : index + 1] != (path,):
            raise VerificationError(
                "expected leaf 0 to be the request, leaf 1 the response, and no other "
                f"leaf to be one of them, got {path!r} as leaf {index}"
            )
    ranks = [_rank(item.path) for item in disclosures]
    if ranks != sorted(ranks):
        raise VerificationError("expected leaves in the order of their paths")


def _rank(path: str) -> tuple[int, str]:
    if path in _ORDER:
        return _ORDER.index(path), ""
    if path.startswith("context/"):
        return len(_ORDER) + 2, path
    return len(_ORDER) + path.startswith("response"), ""


def _parts(side: str, content: Content, opened: Mapping[str, Disclosure]) -> _Parts:
    """Return the members that a side must have; None if that cannot be told."""
    mark = _SPLITS[content.splits[side]]
    for path in opened:
        after = path.removeprefix(side)[:1]
        if path.startswith(side) and after in ("/", "#") and after != mark:
            raise VerificationError(
                f"expected no {path!r} of a {side} split as {content.splits[side]}"
            )
    if mark == "":
        return []
    body = opened.get(f"{side}:decoded") or opened.get(side)
    if mark == "#" or body is None:
        return None
    found = members(side, body.value, content.depth)
    if found is None and body.path != side:
        raise VerificationError(f"expected JSON as {body.path}, got other bytes")
    return found


def _check_members(
    parts: Mapping[str, _Parts], opened: Mapping[str, Disclosure], count: int
) -> list[int]:
    """Require disclosed members to be those of a disclosed body, in their places.

    Returns:
        Where the first member of the request may be, by all that is disclosed.
    """
    firsts = set(_FIRST_MEMBERS)
    before: int | None = 0
    for side, found in parts.items():
        if found is None:
            before = None
            continue
        starts = _starts(side, found, opened, count)
        if before is not None:
            firsts &= {start - before for start in starts} or firsts
            before += len(found)
    least = sum(len(found) for found in parts.values() if found)
    fitting = [first for first in firsts if first + least <= count]
    if not fitting:
        raise VerificationError(_MISPLACED)
    return fitting


def _starts(
    side: str,
    found: list[tuple[str, bytes]],
    opened: Mapping[str, Disclosure],
    count: int,
) -> set[int]:
    """Return where the members of a side start, by those of them that are opened."""
    places = {path: (at, value) for at, (path, value) in enumerate(found)}
    starts = set()
    for path, item in opened.items():
        if not path.startswith(f"{side}/"):
            continue
        at, value = places.get(path, (0, None))
        if value != item.value:
            raise VerificationError(
                f"expected {path!r} as it stands in the {side}, got another value"
            )
        starts.add(item.index - at)
    latest = count - len(found)
    if len(starts) > 1 or any(not 2 <= start <= latest for start in starts):
        raise VerificationError(_MISPLACED)
    return starts


def _check_secret(
    secret: bytes, opening: Opening, opened: Iterable[Disclosure]
) -> None:
    salt, *rest = salts(secret, len(opening.hashes))
    if salt != opening.salt or any(rest[item.index] != item.salt for item in opened):
        raise VerificationError("expected the secret behind the salts, got another")


def _recompute(
    secret: bytes, opening: Opening, found: list[tuple[str, bytes]], firsts: list[int]
) -> None:
    """Require all members, opened or not, at one of the places they may start at."""
    keys = salts(secret, len(opening.hashes))[1:]
    for first in firsts:
        leaves = zip(keys[first:], found, strict=False)
        hashes = [disclosure_hash(salt, *leaf) for salt, leaf in leaves]
        if tuple(hashes) == opening.hashes[first : first + len(found)]:
            return
    raise VerificationError("expected the members of both bodies, got other leaves")
