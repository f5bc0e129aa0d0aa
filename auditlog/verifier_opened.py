"""Whether all that is opened of one entry can be true together.

`auditlog.core.opening` holds a body that is shown against the members that are shown.
Here the rest: a member against each object that holds it and is shown, the messages of
both directions of a session against each other, and receipts of one entry as if one
had opened it all. Whoever made the commitment made it so: what clashes is fraud by
whoever signed.
"""

from collections.abc import Mapping
from dataclasses import replace

from auditlog.core.commitment import BATCH_CONTAINERS, members
from auditlog.core.errors import VerificationError
from auditlog.core.opening import Content, content_of, verify_opening
from auditlog.core.pieces import messages
from auditlog.core.receipt import Disclosure, Receipt
from auditlog.core.record import parse_entry

__all__ = ["check_together", "clash", "merged"]


def check_together(receipt: Receipt) -> None:
    """Require what one receipt opens, and `verify_opening` took, to go together.

    Raises:
        VerificationError: it cannot be true together.
    """
    if receipt.disclosures:
        content = content_of(parse_entry(receipt.entry))
        opened = {item.path: item for item in receipt.disclosures}
        _check_session(content, opened)
        _check_containers(content.depth, opened)


def clash(one: Receipt, other: Receipt) -> str | None:
    """Return why two openings of one entry cannot both hold; None if they can."""
    places = {item.path: item for item in one.disclosures}
    for item in other.disclosures:
        known = places.get(item.path)
        # Two values are told by `contradictions`.
        same = known is not None and known.value == item.value
        if known is not None and same and known.index != item.index:
            return f"expected one leaf for {item.path!r}, got two"
    both = merged(one, other)
    try:
        verify_opening(parse_entry(both.entry), both)
        check_together(both)
    except VerificationError as error:
        return str(error)
    return None


def merged(one: Receipt, other: Receipt) -> Receipt:
    """Return what is opened by either; of one path only the first."""
    every = {item.path: item for item in (*other.disclosures, *one.disclosures)}
    return replace(
        one,
        disclosures=tuple(sorted(every.values())),
        secret=one.secret or other.secret,
    )


def _check_session(content: Content, opened: Mapping[str, Disclosure]) -> None:
    """Require messages of both directions of a session to be counted together."""
    seen: set[int] = set()
    for side, fields in content.sides.items():
        if fields["split"] != "ws" or side not in opened:
            continue
        orders = {message.order for message in messages(opened[side].value)}
        if twice := sorted(seen & orders):
            raise VerificationError(
                "expected messages of both directions to be counted together, got two "
                f"with the number {twice[0]}"
            )
        seen |= orders


def _check_containers(depth: int, opened: Mapping[str, Disclosure]) -> None:
    """Require a member to stand in each container of it that is opened, too.

    Of the whole body that is known already; an object inside it may be opened alone.
    """
    inside: dict[str, set[str]] = {}
    for path in opened:
        outer = path
        while "/" in (outer := outer.rpartition("/")[0]):
            if outer in opened:
                inside.setdefault(outer, set()).add(path)
    for outer, paths in inside.items():
        first, found = opened[outer].index, _members_of(opened[outer], depth)
        known = {path: (at, value) for at, (path, value) in enumerate(found, first)}
        for path in sorted(paths):
            at, value = known.get(path, (0, None))
            if value != opened[path].value:
                raise VerificationError(
                    f"expected {path!r} as it stands in {outer!r}, got another value"
                )
            if at != opened[path].index:
                raise VerificationError(
                    f"expected {path!r} as leaf {at}, by its place in {outer!r}, got "
                    f"leaf {opened[path].index}"
                )


def _members_of(container: Disclosure, depth: int) -> list[tuple[str, bytes]]:
    """Return a container and its members, as a body of this depth has them."""
    side, *names = container.path.split("/")
    levels = depth - len(names) + BATCH_CONTAINERS.get(names[0], 0)
    # In an array, so that nothing in it passes for a batch at the top of a body.
    alone = b"[%b]" % container.value
    return [
        (f"{container.path}{path.removeprefix(f'{side}/0')}", value)
        for path, value in members(side, alone, levels + 1) or ()
    ]
