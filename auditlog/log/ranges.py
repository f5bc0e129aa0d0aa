"""Sets of whole numbers as ranges: a million numbers without a hole are one range."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

__all__ = ["Ranges", "Span"]

Span = tuple[int, int]
"""First and last number, both included."""


class Ranges:
    """A set of whole numbers; its memory grows with the holes in it."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        # Ascending, disjoint, and never adjacent.
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        for first, last in spans:
            self.add(first, last)

    def add(self, first: int, last: int) -> None:
        """Add all numbers from `first` to `last`."""
        firsts, lasts = self._firsts, self._lasts
        if lasts and first == lasts[-1] + 1:
            lasts[-1] = last
            return
        low = bisect_left(lasts, first - 1)
        high = bisect_right(firsts, last + 1)
        if low < high:
            first, last = min(first, firsts[low]), max(last, lasts[high - 1])
        firsts[low:high] = [first]
        lasts[low:high] = [last]

    def __contains__(self, number: int) -> bool:
        """Return whether a number is in the set."""
        at = bisect_left(self._lasts, number)
        return at < len(self._firsts) and self._firsts[at] <= number

    def pieces(self) -> int:
        """Return how many ranges there are."""
        return len(self._firsts)

    def missing(self, first: int, last: int) -> Iterator[Span]:
        """Return what is not in the set, from `first` to `last`, ascending."""
        at = bisect_left(self._lasts, first)
        while first <= last and at < len(self._firsts) and self._firsts[at] <= last:
            if first < self._firsts[at]:
                yield first, self._firsts[at] - 1
            first = self._lasts[at] + 1
            at += 1
        if first <= last:
            yield first, last

    def from_on(self, low: int) -> Iterator[int]:
        """Return the numbers of the set from `low` on, ascending."""
        for first, last in self.spans():
            yield from range(max(first, low), last + 1)

    def spans(self) -> Iterator[Span]:
        """Return the ranges, ascending."""
        return zip(self._firsts, self._lasts, strict=True)

    def count(self) -> int:
        """Return how many numbers are in the set."""
        return sum(last - first + 1 for first, last in self.spans())

    def shared(self, other: "Ranges") -> int:
        """Return how many numbers are in both sets."""
        missing = (other.missing(*span) for span in self.spans())
        return self.count() - sum(
            last - first + 1 for spans in missing for first, last in spans
        )

    @property
    def last(self) -> int:
        """The largest number; -1 if there is none."""
        return self._lasts[-1] if self._lasts else -1
