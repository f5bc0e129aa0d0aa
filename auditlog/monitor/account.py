"""What the entries of a log say about its anchors and emitters, while they pass by.

All of it is the operator's own word, which the tree only keeps from being changed: an
`anchor` entry claims an attestation, it is none. What it is good for: an operator who
stops anchoring, or whose service falls silent, has to say so or lie in signed entries.

State and work for each entry are bounded, whatever a log holds; what goes beyond is
said to be unaccounted.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Self

from auditlog.core.errors import AuditLogError, MalformedError
from auditlog.core.record import DECISION, Entry, format_time, parse_entry
from auditlog.log.completeness import Completeness, EmitterReport
from auditlog.monitor.findings import Finding

__all__ = ["NO_LIMITS", "Account", "Limits"]

_ANCHOR = "auditlog.anchor.v1"
_EMITTER = "auditlog.emitter.v1"
_MAX_ANCHORS = 64
_MAX_MARKS = 4096
_MAX_WEIGHT = 20_000
_WEIGH_EVERY = 1024
_MAX_TEXT = 200
_MICROSECONDS = 1_000_000


class Limits(NamedTuple):
    """What is too long, in seconds; None does not mind."""

    anchor_lag: float | None = None
    silence: float | None = None


NO_LIMITS = Limits()


@dataclass(slots=True)
class _Anchor:
    """The newest final attestation that an anchor is said to have given."""

    size: int
    time: int
    """Of the entry that says so, microseconds since the epoch."""


class Account:
    """Takes in entries in their order, and says what is wrong with what they say."""

    def __init__(
        self, origin: str, start: int = 0, max_weight: int = _MAX_WEIGHT
    ) -> None:
        """Begin at entry `start` of a log.

        Args:
            origin: entries with another source are not of this log.
            start: where reading begins; emitters that started before are left out.
            max_weight: emitters, and ranges of their numbers, that are followed.
        """
        self._origin = origin
        self._start = start
        self._max_weight = max_weight
        self._unweighed = 0
        """How much may have come on top since the weight was taken."""
        self._completeness = Completeness()
        self._anchors: dict[str, _Anchor] = {}
        self._marks: list[tuple[int, int]] = []
        """Index and time of entries that are worth anchoring, thinned out."""
        self.size = start
        self.foreign = 0
        """Entries that are none of ours: another product's log is no fault."""
        self.overflow = False
        """Whether emitters are too many, or their numbers too torn, to be followed."""

    def take_all(self, first: int, entries: Sequence[bytes]) -> None:
        """Take in entries in their order, from index `first` on."""
        for index, encoded in enumerate(entries, first):
            self.take(index, encoded)

    def take(self, index: int, encoded: bytes) -> None:
        """Take in the entry at `index`."""
        self.size = index + 1
        try:
            entry = parse_entry(encoded)
            if entry.source != self._origin:
                raise MalformedError("another log's")
            self._note(index, entry)
        except AuditLogError:
            self.foreign += 1

    def anchored(self) -> int:
        """Return the size under the newest final attestation that the log claims."""
        return max((one.size for one in self._anchors.values()), default=0)

    def lag(self, now: float) -> float:
        """Return the age of the oldest entry under no final attestation, in seconds."""
        covered = self.anchored()
        oldest = next((time for index, time in self._marks if index >= covered), None)
        return 0.0 if oldest is None else max(0.0, now - oldest / _MICROSECONDS)

    def silent(self, now: float) -> dict[str, float]:
        """Return how long each emitter at work has said nothing, in seconds."""
        return {
            one.emitter: max(0.0, now - one.last / _MICROSECONDS)
            for one in self._reports()
            if one.state == "running"
        }

    def findings(self, now: float, limits: Limits) -> Iterator[Finding]:
        """Yield what is wrong at a time, in seconds since the epoch."""
        for report in self._reports():
            yield from _about(report, now, limits.silence)
        lag = self.lag(now)
        if limits.anchor_lag is not None and lag > limits.anchor_lag:
            yield Finding(
                "anchors",
                "",
                f"the oldest entry without a final anchor, by the log's own word, is "
                f"{lag:.0f} s old; expected at most {limits.anchor_lag:g} s "
                f"({self.anchored()} of {self.size} entries are anchored)",
            )
        if self.overflow:
            yield Finding(
                "unchecked",
                "emitters",
                "its emitters are too many, or their numbers too torn, to be followed",
            )

    def _reports(self) -> Iterator[EmitterReport]:
        return self._completeness.reports(None)

    def _note(self, index: int, entry: Entry) -> None:
        if entry.type == _ANCHOR:
            self._anchor(index, entry)
            return
        if entry.type != _EMITTER:
            self._mark(index, entry.time)
        if self.overflow or not self._is_followed(entry):
            return
        self._completeness.note(index, entry)
        still_open = entry.data.get("open")
        self._unweighed += 1 + (len(still_open) if type(still_open) is list else 0)
        if self._unweighed >= _WEIGH_EVERY:
            self._unweighed = 0
            if self._completeness.weight > self._max_weight:
                self.overflow, self._completeness = True, Completeness()

    def _is_followed(self, entry: Entry) -> bool:
        """Say whether all that an emitter said is known: its start is, or index 0."""
        if not self._start or (entry.type != DECISION and "emitter" not in entry.data):
            return True
        if entry.type == _EMITTER and entry.data.get("state") == "start":
            return True
        try:
            return base64.b64decode(entry.data["emitter"]) in self._completeness
        except (KeyError, TypeError, ValueError):
            return True  # `Completeness.note` says what is wrong with it

    def _anchor(self, index: int, entry: Entry) -> None:
        name, size = entry.data.get("anchor"), entry.data.get("size")
        if type(name) is not str or type(size) is not int or not 0 <= size <= index:
            raise MalformedError("expected a name and a size before it in an anchor")
        if entry.data.get("state") != "final":
            return
        known = self._anchors.get(name)
        if known is None and len(self._anchors) >= _MAX_ANCHORS:
            raise MalformedError("too many anchors")
        if known is None or known.size < size:
            self._anchors[name] = _Anchor(size, entry.time)
        # What lies below, nobody will ask about any more.
        covered = self.anchored()
        self._marks = [mark for mark in self._marks if mark[0] >= covered]

    def _mark(self, index: int, time: int) -> None:
        self._marks.append((index, time))
        if len(self._marks) > _MAX_MARKS:
            # The oldest stays; of others an age may come out younger, never older.
            self._marks = self._marks[::2]

    def anchors(self) -> dict[str, dict[str, Any]]:
        """Return size and time of the newest final attestation of each anchor."""
        return {
            name: {"size": one.size, "time": format_time(one.time)}
            for name, one in sorted(self._anchors.items())
        }

    def dump(self) -> dict[str, Any]:
        """Return all of it as JSON, for `load` to go on from."""
        return {
            "anchors": {n: [one.size, one.time] for n, one in self._anchors.items()},
            "completeness": self._completeness.dump(),
            "foreign": self.foreign,
            "marks": [list(mark) for mark in self._marks],
            "origin": self._origin,
            "overflow": self.overflow,
            "size": self.size,
            "start": self._start,
        }

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """Return what `dump` was called on; the state is our own."""
        new = cls(state["origin"], state["start"])
        new._completeness = Completeness.load(state["completeness"])
        new._anchors = {n: _Anchor(*one) for n, one in state["anchors"].items()}
        new._marks = [(index, time) for index, time in state["marks"]]
        new.size, new.foreign = state["size"], state["foreign"]
        new.overflow = state["overflow"]
        return new


def _about(
    report: EmitterReport, now: float, max_silence: float | None
) -> Iterator[Finding]:
    """Yield what is wrong with one emitter."""
    name = report.emitter
    for text in islice(report.problems, 3):
        yield Finding(
            "numbers", f"{name} {text}", f"emitter {name}: {text[:_MAX_TEXT]}"
        )
    if report.state == "unclean":
        yield Finding(
            "unclean",
            name,
            f"emitter {name} ended without a stop: whether it issued numbers from "
            f"{report.unknown_from} on is unknown",
        )
    age = now - report.last / _MICROSECONDS
    if max_silence is None or age <= max_silence:
        return
    if report.state == "running":
        yield Finding(
            "silence",
            name,
            f"emitter {name} has said nothing for {age:.0f} s; expected a word every "
            f"{max_silence:g} s, or a stop",
        )
    elif report.open:
        first = report.open[0][0]
        yield Finding(
            "open",
            name,
            f"emitter {name} has stopped {age:.0f} s ago, and its numbers from {first} "
            "on are neither in the log nor named by a gap",
        )
