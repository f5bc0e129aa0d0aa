"""Which part of a shared body is one item's own.

A decision that was split into those of a batch holds the body of all of them
(`auditlog.log.decision.Decision.split`). What an item may be shown of it is what stands
at its own place: ``request/instances/2``, ``response/predictions/2``, where the body
has as many as the batch has items. Where no place can be told, nothing is.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from auditlog.core.commitment import BATCH_CONTAINERS
from auditlog.log.decision import BATCH

__all__ = ["NOWHERE", "Place", "own_paths", "place_in_batch"]

_CONTAINERS = "|".join(sorted(BATCH_CONTAINERS))
_ITEM = re.compile(
    rf"((?:request|response)(?:/(?:{_CONTAINERS})(?:/(?:data|index))?)?)"
    r"/(0|[1-9][0-9]*)",
    re.ASCII,
)


class Place(NamedTuple):
    """Where a decision stands in a batch."""

    holder: str | None
    """Id of the decision that holds the body; None where it is this one."""
    number: int
    """Among the items, from 0."""
    size: int


def place_in_batch(context: Mapping[str, bytes]) -> Place | None:
    """Return where a decision stands in a batch, from its ``context/`` leaves.

    Returns:
        None where nobody but itself is in its body.
    """
    try:
        said = _annotations.decode(context.get("annotations", b"{}")).batch
    except msgspec.MsgspecError:
        return NOWHERE
    if said is None or said == _Said(1):
        return None
    if not 0 <= said.index < said.size:
        return NOWHERE
    return Place(said.decision, said.index, said.size)


class _Said(msgspec.Struct, frozen=True):
    size: int
    index: int = 0
    decision: str | None = None


class _Annotations(msgspec.Struct):
    batch: _Said | None = msgspec.field(name=BATCH, default=None)


_annotations = msgspec.json.Decoder(_Annotations)
NOWHERE = Place(None, -1, 0)
"""Of who is in a batch, for all that can be read: nothing in the body is theirs."""


def own_paths(place: Place, paths: Sequence[str]) -> list[str]:
    """Return which leaves of the shared body are those of one item.

    Args:
        place: of the item; a number that is none of the batch's has no path.
        paths: of all leaves of the decision that holds the body.
    """
    found: dict[str, list[int]] = {}
    for path in paths:
        if item := _ITEM.fullmatch(path):
            found.setdefault(item[1], []).append(int(item[2]))
    every = list(range(place.size))
    return [
        f"{container}/{place.number}"
        for container, numbers in found.items()
        if numbers == every and place.number in every
    ]
