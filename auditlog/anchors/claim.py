"""The words of a verdict about time: what holds, by whom, and what it leaves open."""

from collections.abc import Iterable, Sequence

from auditlog.anchors.attestation import Bound, earliest_by
from auditlog.anchors.renewal import Held
from auditlog.core.errors import UntrustedError
from auditlog.core.record import format_time
from auditlog.core.verify import OWN_TIME, Verdict

__all__ = ["claim_of", "labels_of", "moment", "points_of", "times_of"]

_OPEN_WINDOW = (
    "what it was at first: until its log was cosigned or anchored, the operator could "
    "write it anew"
)


def labels_of(held: Iterable[Held]) -> dict[str, str]:
    """Return whom a bound of each party counts for, in words.

    Where evidence of one party holds only by a renewal of another, both count as one:
    a single one of them can make what both say false.
    """
    groups: list[frozenset[str]] = []
    for one in held:
        joined = [group for group in groups if group & one.parties]
        groups = [group for group in groups if group not in joined]
        groups.append(one.parties.union(*joined))
    return {party: " with ".join(sorted(group)) for group in groups for party in group}


def times_of(held: Sequence[Held]) -> list[tuple[int, str]]:
    """Return the earliest time of each independent party, and whose it is, sorted."""
    labels = labels_of(held)
    earliest: dict[str, int] = {}
    for one in held:
        label, time = labels[one.bound.party], one.bound.not_after
        earliest[label] = min(earliest.setdefault(label, time), time)
    return sorted((time, label) for label, time in earliest.items())


def claim_of(
    times: Sequence[tuple[int, str]], wanted: int | None, aside: Sequence[str]
) -> tuple[int | None, str]:
    """Return the time that holds, and the words that go on after what is signed."""
    if wanted is not None:
        try:
            bounds = [Bound("", label, time, "") for time, label in times]
            time = earliest_by(bounds, wanted)
        except UntrustedError as error:
            raise UntrustedError("; not ".join([str(error), *aside])) from None
        return time, f"; existed unchanged {_before(times, time)}"
    if not times:
        return None, ""
    first, last = times[0][0], times[-1][0]
    said = [_before(times, time) for time in dict.fromkeys((first, last))]
    return last, f"; existed unchanged {'; '.join(said)}"


def _before(times: Sequence[tuple[int, str]], time: int) -> str:
    """Return a time, and all who vouch for it."""
    *some, last = [label for other, label in times if other <= time]
    names = f"{', '.join(some)} and {last}" if some else last
    return f"before {moment(time)}, by {names}"


def moment(time: int) -> str:
    """Return microseconds since the epoch in words, without a fraction that is none."""
    return format_time(time).replace(".000000", "")


def points_of(main: Verdict, existed: int | None) -> list[str]:
    """Return what stays open; a bound of the time says more than an entry's own."""
    if existed is None:
        return list(main.not_proven)
    others = [point for point in main.not_proven if point != OWN_TIME]
    return [
        f"when it happened: only that it existed before {moment(existed)}",
        _OPEN_WINDOW,
        "that those who vouch for the time are independent of the operator",
        *others,
    ]
