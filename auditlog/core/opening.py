"""Opened content, held against the commitment in its entry (`FORMATS.md` §2, §3).

Three depths of opening, each a superset of the one before: single leaves; a raw body,
which is split again, so that disclosed members must be its members; and the secret,
from which every salt, and with both bodies every member, is computed anew.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from auditlog.core.commitment import (
    chunk_sizes,
    commitment_digest,
    disclosure_hash,
    salts,
)
from auditlog.core.encoding import parse_hash
from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.pieces import is_text, split_body
from auditlog.core.receipt import Disclosure, Opening, Receipt
from auditlog.core.record import DECISION, Entry, check_fields

__all__ = ["Check", "Content", "content_of", "verify_opening"]

# What follows the name of a side in the paths of its further leaves.
_SPLITS = {"json": ":/", "sse": ":#", "ws": "#", "chunks": "#", "none": ":"}
_STATES = {"complete", "unread", "partial", "not_observed", "omitted"}
_COMMITTING = ("access", "amendment", "decision", "erasure", "model")
_RAW = ("request", "response")
_PLACES: dict[str, tuple[int, ...]] = {"request": (0,), "response": (1,)}
_PLACES |= {"request:decoded": (2,), "response:decoded": (2, 3)}
_FIRST_MEMBERS = range(2, 5)  # after both raw bodies and up to two decoded ones
_Parts = list[tuple[str, bytes]] | None
_Sides = Mapping[str, _Parts]
_Opened = Mapping[str, Disclosure]


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
    sides: Mapping[str, Mapping[str, str]]
    """What is said of `request` and of `response`: `split`, `state`, `mediaType`."""


def content_of(entry: Entry) -> Content:
    """Return the commitment of an entry of a type that has one.

    Raises:
        VerificationError: the entry is of another type, so it has none.
        MalformedError: the fields are not those of a decision.
    """
    if entry.type not in {f"auditlog.{kind}.v1" for kind in _COMMITTING}:
        raise VerificationError(f"expected a decision, got an entry of {entry.type}")
    kinds = {"depth": int, "digest": str, "v": int}
    fields = check_fields(entry.data.get("commitment"), "a commitment", kinds)
    if fields["v"] != 1 or not 0 <= fields["depth"] <= 8:
        raise MalformedError("expected a commitment of version 1 and depth 0 to 8")
    sides = {side: _side(entry, side) for side in _RAW}
    for split in (side["split"] for side in sides.values()):
        if not fields["depth"] and split not in ("chunks", "none"):
            raise MalformedError(f"expected no members at depth 0, got {split}")
    return Content(fields["depth"], parse_hash(fields["digest"]), sides)


def _side(entry: Entry, side: str) -> dict[str, str]:
    kinds = {"mediaType": str, "state": str, "split": str}
    fields = check_fields(entry.data.get(side), f"a {side}", kinds)
    if fields["split"] not in _SPLITS or fields["state"] not in _STATES:
        got = f"{fields['split'][:40]!r}, {fields['state'][:40]!r}"
        raise MalformedError(f"expected a split and a state of ours, got {got}")
    return fields


def verify_opening(entry: Entry, receipt: Receipt) -> tuple[list[Check], list[str]]:
    """Hold everything that a receipt opens against the commitment in its entry.

    Returns:
        What was checked, and what it leaves unproven.

    Raises:
        VerificationError: something opened is not what was committed to.
        MalformedError: a salt, size, path or depth that cannot be.
    """
    opening, disclosures = receipt.opening, receipt.disclosures
    if opening is None:
        nothing = ["anything about content: none of it is disclosed"]
        return [], nothing if entry.type == DECISION else []
    content = content_of(entry)
    if commitment_digest(*opening) != content.digest:
        raise VerificationError("expected the commitment of the entry, got another")
    count = len(opening.hashes)
    sizes = {"request": opening.request_size, "response": opening.response_size}
    said = f"request {opening.request_size} bytes, response {opening.response_size}"
    for side, fields in content.sides.items():
        said += f"; {side} {fields['state']}" * (fields["state"] != "complete")
    checks = [Check("commitment", f"{count} leaves; {said}")]
    if disclosures:
        _check_leaves(opening.hashes, sizes, disclosures)
        detail = f"{len(disclosures)} of {count} leaves, as committed to"
        checks.append(Check("disclosures", detail))
    opened = {item.path: item for item in disclosures}
    parts = {side: _parts(side, content, sizes[side], opened) for side in content.sides}
    firsts = _check_places(parts, opened, count)
    for side, found in parts.items():
        inside = _inside(side, opened)
        if found and inside:
            body = f"{side}:decoded" if f"{side}:decoded" in opened else side
            detail = f"{len(inside)} of {len(found)}, as they stand in the {body}"
            checks.append(Check("members", detail))
    open_points = _open_points(count, content, opened, parts)
    if receipt.secret is not None:
        checks += _check_secret(receipt.secret, opening, opened, parts, firsts)
    return checks, open_points


def _inside(side: str, opened: Iterable[str]) -> list[str]:
    """Return the paths of members and pieces of a side."""
    return [path for path in opened if path.startswith((f"{side}/", f"{side}#"))]


def _open_points(
    count: int, content: Content, opened: _Opened, parts: _Sides
) -> list[str]:
    points = []
    if len(opened) < count:
        points.append(f"anything about the {count - len(opened)} undisclosed leaves")
    for side, found in parts.items():
        if found is None and side in opened and _inside(side, opened):
            points.append(
                f"that what is disclosed of the {side} stands in its disclosed body, "
                f"which was not split again ({content.sides[side]['split']})"
            )
        if f"{side}:decoded" in opened:
            points.append(f"that {side}:decoded is what the {side} decodes to")
        if (copy := f"context/stored.{side}") in opened:
            text = f"that {copy} crossed the wire: it is the operator's redacted copy"
            points.append(text)
    return points


def _check_leaves(
    hashes: tuple[bytes, ...],
    sizes: Mapping[str, int],
    disclosures: tuple[Disclosure, ...],
) -> None:
    count = len(hashes)
    for index, path, salt, value in disclosures:
        if index >= count or index not in _PLACES.get(path, range(2, count)):
            raise VerificationError(
                "expected leaf 0 to be the request, leaf 1 the response, decoded ones "
                f"next, then all others, got {path!r} as leaf {index} of {count}"
            )
        if disclosure_hash(salt, path, value) != hashes[index]:
            raise VerificationError(
                f"expected leaf {index} of the commitment, got another {path!r}"
            )
        if len(value) != sizes.get(path, len(value)):
            raise VerificationError(
                f"expected {sizes[path]} bytes as {path}, got {len(value)}"
            )
    ranks = [_rank(item.path) for item in sorted(disclosures)]
    if ranks != sorted(ranks):
        raise VerificationError("expected leaves in the order of their paths")


def _rank(path: str) -> tuple[int, str]:
    """Return what leaves are sorted by (`FORMATS.md` §3): bodies first."""
    if path in _PLACES:
        return 0, ""
    if path.startswith("context/"):
        return 3, path
    return 1 + path.startswith("response"), ""


def _parts(side: str, content: Content, size: int, opened: _Opened) -> _Parts:
    """Return the members that a side must have; None if that cannot be told."""
    split = content.sides[side]["split"]
    _check_paths(side, split, size, opened)
    body = opened.get(f"{side}:decoded") or opened.get(side)
    if split == "none":
        return []
    if body is None:
        return None
    found = split_body(split, side, body.value, content.depth)
    # A compressed body has none itself: they are those of its decoded one, not shown.
    if found is None and (split == "ws" or body.path != side or is_text(body.value)):
        raise VerificationError(
            f"expected members in {body.path}, split as {split}, got none"
        )
    return found


def _check_paths(side: str, split: str, size: int, opened: _Opened) -> None:
    """Require what is disclosed inside a side to be such as its split gives."""
    lengths = {f"{side}#{at}": long for at, long in enumerate(chunk_sizes(size))}
    firsts = set()
    for path, (index, _, _, value) in opened.items():
        if path == side or not path.startswith(side):
            continue
        mark, name = path[len(side)], path[len(side) + 1 :]
        odd = split == "chunks" and len(value) != lengths.get(path)
        if odd or mark not in _SPLITS[split] or (mark == "#" and not name.isdecimal()):
            raise VerificationError(
                f"expected no {path!r} of a {side} split as {split}, "
                f"got {len(value)} bytes"
            )
        if mark == "#":
            firsts.add(index - int(name))
    if len(firsts) > 1 or any(first < 2 for first in firsts):
        raise VerificationError(
            f"expected pieces of the {side} at the places that their numbers give them"
        )


def _check_places(parts: _Sides, opened: _Opened, count: int) -> list[int]:
    """Require disclosed members to be those of a disclosed body, in their places.

    Returns:
        Where the first member of the request may be, if both bodies were split.
    """
    request, response = (
        range(count + 1) if found is None else _starts(side, found, opened, count)
        for side, found in parts.items()
    )
    before = parts["request"]
    if before is None:
        firsts = [*response]
    else:
        possible = [at for at in _FIRST_MEMBERS if at in request]
        firsts = [at for at in possible if at + len(before) in response]
    if not firsts:
        raise VerificationError(
            "expected members at the places that a disclosed body gives them"
        )
    return firsts


def _starts(
    side: str, found: list[tuple[str, bytes]], opened: _Opened, count: int
) -> range:
    """Return where the members of a side may start, by all that is disclosed."""
    places = {path: (at, value) for at, (path, value) in enumerate(found)}
    first, last = 2, count - len(found)
    rank = _rank(f"{side}/")
    for path, item in opened.items():
        if _rank(path) < rank:
            first = max(first, item.index + 1)
        elif _rank(path) > rank:
            last = min(last, item.index - len(found))
        else:
            at, value = places.get(path, (0, None))
            if value != item.value:
                raise VerificationError(
                    f"expected {path!r} as it stands in the {side}, got another value"
                )
            first, last = max(first, item.index - at), min(last, item.index - at)
    return range(first, last + 1)


def _check_secret(
    secret: bytes, opening: Opening, opened: _Opened, parts: _Sides, firsts: list[int]
) -> list[Check]:
    """Require salts to follow from the secret, and all members, opened or not."""
    count = len(opening.hashes)
    salt, *keys = salts(secret, count)
    if salt != opening.salt or any(keys[i.index] != i.salt for i in opened.values()):
        raise VerificationError("expected the secret behind the salts, got another")
    detail = f"its salt and those of {len(opened)} of {count} leaves follow from it"
    checks = [Check("secret", detail)]
    if opened.keys() >= set(_RAW) and None not in parts.values():
        every = [leaf for found in parts.values() for leaf in found or ()]
        for first in firsts:
            leaves = zip(keys[first:], every, strict=False)
            hashes = tuple(disclosure_hash(salt, *leaf) for salt, leaf in leaves)
            if hashes == opening.hashes[first : first + len(every)]:
                return [*checks, Check("full opening", "every member of both bodies")]
        raise VerificationError("expected the members of both bodies, got other leaves")
    return checks
