"""Which numbers of an emitter are in a log, named, open or unknown (`FORMATS.md` §8).

All of it follows from the entries in their order:

- a decision has its number, once; an interrupted one says no more than that;
- a gap names numbers that no decision will have, the last one of an emitter that died
  without an end, for what nobody can know;
- a beat says that every number below `next` and outside `open` came before it.

A *problem* is a statement that the log contradicts, or a number that is known to have
been issued and is nowhere. What nobody can know is *unknown*, never a problem: numbers
after the last word of an emitter, and while it was silent.

Memory grows with the emitters and the holes in their numbers, not with the entries.
"""

import base64
import binascii
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

from auditlog.core.errors import MalformedError
from auditlog.core.record import DECISION, MAX_INTEGER, Entry
from auditlog.log.ranges import Ranges, Span

__all__ = ["GUARANTEE", "MAX_SILENCE", "Completeness", "EmitterReport"]

GUARANTEE = (
    "among the numbers an emitter is known to have issued, none is missing unless "
    "named; not covered are traffic led around the middleware, replicas without it, "
    "numbers after an emitter's last beat, and the content of decisions that the "
    "operator declares interrupted."
)
"""What a log without problems proves about its numbers, in the words of §8."""

MAX_SILENCE = 90.0
"""Seconds between two words of an emitter that are not remarked on: a beat is due every
60 s, and a busy machine may be late."""

_EMITTER = "auditlog.emitter.v1"
_GAP = "auditlog.gap.v1"
_EMITTER_BYTES = 16
_SHOWN = 20
# What an emitter's state is made of, for `dump` and `load`.
_RANGES = ("_logged", "_twice", "_named", "_known")
_PLAIN = (
    *("first", "last", "_words", "_started", "_stop", "_unclean", "_interrupted"),
    *("_next", "_lies", "_silence"),
)
_MICROSECONDS = 1_000_000


class EmitterReport(NamedTuple):
    """What a log says about the numbers of one emitter; ranges include both ends."""

    emitter: str
    """Hex."""
    state: str
    """``stopped`` said that it stops; ``unclean`` died, and a gap without end says so;
    ``running`` may still be at work, or wait for the next start to close it;
    ``vanished`` has said nothing for too long, and nobody has closed it."""
    logged: int
    """Decisions that are there, interrupted ones included."""
    interrupted: int
    named: int
    """Issued, named by a gap, and not there."""
    open: tuple[Span, ...]
    """Issued, not there yet, and may still come."""
    missing: tuple[Span, ...]
    """Issued, not there, and not named."""
    unknown_from: int | None
    """Numbers from this one on may have been issued, and nobody knows; None after a
    stop, and after a gap without end the first number that it names."""
    first: int
    """Time of its first entry, microseconds since the epoch."""
    last: int
    """Time of its last word: start, beat or stop."""
    silence: float
    """Longest time between two of its words, seconds."""
    problems: tuple[str, ...]
    """What is a lie or a hole."""
    unchecked: tuple[str, ...]
    """What nobody can know."""


class Completeness:
    """Takes in the entries of a log in their order; then says what they prove."""

    def __init__(self) -> None:
        self._emitters: dict[bytes, _Emitter] = {}
        self._newest = 0

    def __contains__(self, emitter: bytes) -> bool:
        """Return whether anything was said by or about an emitter."""
        return emitter in self._emitters

    @property
    def weight(self) -> int:
        """How much memory this takes: emitters, and ranges of their numbers."""
        return sum(emitter.weight for emitter in self._emitters.values())

    def dump(self) -> dict[str, Any]:
        """Return all of it as JSON, for `load` to go on from."""
        emitters = {id_.hex(): one.dump() for id_, one in self._emitters.items()}
        return {"emitters": emitters, "newest": self._newest}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """Return what `dump` was called on; the state is the caller's own."""
        new = cls()
        new._newest = state["newest"]
        for id_, emitter in state["emitters"].items():
            new._emitters[bytes.fromhex(id_)] = _Emitter.load(emitter)
        return new

    def note(self, index: int, entry: Entry) -> None:
        """Take in the entry at `index`.

        Raises:
            MalformedError: it is about an emitter, and does not say what it must.
        """
        self._newest = max(self._newest, entry.time)
        data = entry.data
        if entry.type != DECISION and "emitter" not in data:
            return
        id_ = _emitter_of(data)
        emitter = self._emitters.get(id_)
        if emitter is None:
            emitter = _Emitter(entry.time)
        if entry.type == DECISION:
            emitter.decision(_number(data, "sequence"), data.get("outcome"))
        elif entry.type == _GAP:
            emitter.gap(_number(data, "from"), _number_or_none(data, "to"))
        elif entry.type == _EMITTER:
            emitter.word(index, entry.time, data)
        self._emitters[id_] = emitter

    def reports(
        self, alive: Container[bytes] | None, max_silence: float = MAX_SILENCE
    ) -> Iterator[EmitterReport]:
        """Return what the log says, emitter by emitter in the order of appearance.

        Args:
            alive: emitters of which a journal was there before the log was read: they
                run, or wait for the next start to close them. None of their missing
                numbers is a hole yet. None if nobody knows: then it may be all.
            max_silence: seconds between two words that are not remarked on.
        """
        for id_, emitter in self._emitters.items():
            silent = (self._newest - emitter.last) / _MICROSECONDS
            journal = alive is None or id_ in alive
            yield emitter.report(id_, _Seen(journal, silent, max_silence))


class _Seen(NamedTuple):
    """What is known of an emitter beside its own entries."""

    journal: bool
    """Whether there was one before the log was read, or may have been."""
    silent: float
    """Seconds from its last word to the newest entry of the log."""
    max_silence: float

    @property
    def too_long(self) -> bool:
        return self.silent > self.max_silence


class _Emitter:
    """What was said by and about one emitter so far."""

    def __init__(self, time: int) -> None:
        self.first = time
        self.last = time
        self._words = 0
        self._started = False
        self._stop: int | None = None
        self._unclean: int | None = None
        self._logged = Ranges()
        self._interrupted = 0
        self._twice = Ranges()
        self._named = Ranges()
        self._known = Ranges()
        """Logged or named, with or without an end, or complained of already."""
        self._next = 0
        self._claimed: list[tuple[int, Span]] = []
        """Numbers that a beat, at an index, says are in the log, and were not."""
        self._lies: list[str] = []
        self._silence = 0

    @property
    def weight(self) -> int:
        """One, and one for each range that is kept."""
        ranges = (self._logged, self._twice, self._named, self._known)
        return 1 + sum(one.pieces() for one in ranges) + len(self._claimed)

    def dump(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        ranges = {name: list(getattr(self, name).spans()) for name in _RANGES}
        claimed = [[index, *span] for index, span in self._claimed]
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {**plain, **ranges, "_claimed": claimed}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """Return what `dump` was called on."""
        new = cls(state["first"])
        for name in _PLAIN:
            setattr(new, name, state[name])
        for name in _RANGES:
            setattr(new, name, Ranges((first, last) for first, last in state[name]))
        new._claimed = [(index, (low, high)) for index, low, high in state["_claimed"]]
        return new

    def decision(self, number: int, outcome: object) -> None:
        if number in self._logged:
            self._twice.add(number, number)
        self._logged.add(number, number)
        self._known.add(number, number)
        self._interrupted += outcome == "interrupted"

    def gap(self, first: int, last: int | None) -> None:
        if last is None:
            self._unclean = (
                first if self._unclean is None else min(first, self._unclean)
            )
        elif last < first:
            raise MalformedError(f"a gap from {first} to {last} names nothing")
        else:
            self._named.add(first, last)
        self._known.add(first, MAX_INTEGER if last is None else last)

    def word(self, index: int, time: int, data: dict[str, Any]) -> None:
        """Take in a start, a beat or a stop."""
        state = data.get("state")
        if state == "start":
            self._started = True
        elif state == "beat":
            self._beat(index, _number(data, "next"), _spans(data))
        elif state == "stop":
            self._stop = _number(data, "next")
            self._next = max(self._next, self._stop)
        else:
            raise MalformedError(f"an emitter says {str(state)[:40]!r}")
        if self._words:
            self._silence = max(self._silence, time - self.last)
        self._words += 1
        self.last = time

    def _beat(self, index: int, following: int, still_open: list[Span]) -> None:
        if self._stop is not None:
            # Built before the stop, appended after it: it knows less.
            return
        if following < self._next and len(self._lies) < _SHOWN:
            self._lies.append(
                f"the beat in entry {index} says that {following} is next, an earlier "
                f"one said {self._next}"
            )
        self._next = max(following, self._next)
        not_claimed = Ranges(still_open)
        lies = [
            span
            for hole in self._known.missing(0, following - 1)
            for span in not_claimed.missing(*hole)
        ]
        for span in lies:
            self._claimed.append((index, span))
            # Once is enough: the next beat will say it again.
            self._known.add(*span)

    def report(self, id_: bytes, seen: _Seen) -> EmitterReport:
        """Return what can be said of this emitter."""
        state = self._state(seen)
        # Who has ended, without a journal that could still name its numbers, will
        # never say more.
        final = state != "running" and not seen.journal
        holes, waiting = self._nowhere(final=final)
        tail = self._tail()
        return EmitterReport(
            emitter=id_.hex(),
            state=state,
            logged=self._logged.count(),
            interrupted=self._interrupted,
            named=self._named_numbers(),
            open=waiting,
            missing=holes,
            unknown_from=tail,
            first=self.first,
            last=self.last,
            silence=self._silence / _MICROSECONDS,
            problems=tuple(self._problems(holes, seen)),
            unchecked=tuple(self._unchecked(state, waiting, tail, seen)),
        )

    def _state(self, seen: _Seen) -> str:
        if self._unclean is not None:
            return "unclean"
        if self._stop is not None:
            return "stopped"
        return "vanished" if seen.too_long and not seen.journal else "running"

    def _issued(self) -> int:
        """Return the number up to which all are known to have been issued."""
        return max(self._next, self._logged.last + 1)

    def _tail(self) -> int | None:
        """Return from which number on it is unknown what was issued."""
        if self._unclean is not None:
            return self._unclean
        return None if self._issued() == self._stop else self._issued()

    def _named_numbers(self) -> int:
        """Count what gaps name of the numbers that are known to have been issued."""
        named = Ranges(self._named.spans())
        if self._unclean is not None and self._unclean < self._issued():
            named.add(self._unclean, self._issued() - 1)
        return named.count() - named.shared(self._logged)

    def _nowhere(self, *, final: bool) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
        """Return the numbers that are issued and nowhere: holes, and still open."""
        settled = Ranges([*self._logged.spans(), *self._named.spans()])
        if self._unclean is not None:
            settled.add(self._unclean, MAX_INTEGER)
        nowhere = list(settled.missing(0, self._issued() - 1))
        if final:
            return tuple(nowhere), ()
        # Of these a beat has said that they are there: nothing can make that good.
        claimed = Ranges(span for _, span in self._claimed)
        holes = [part for span in claimed.spans() for part in settled.missing(*span)]
        lost = Ranges(holes)
        waiting = [part for span in nowhere for part in lost.missing(*span)]
        return tuple(holes), tuple(waiting)

    def _problems(self, holes: Sequence[Span], seen: _Seen) -> Iterator[str]:
        for first, last in _few(list(self._twice.spans())):
            for number in range(first, min(last + 1, first + _SHOWN)):
                yield f"number {number} is in the log twice"
        for first, last in _few(holes):
            yield f"numbers {first} to {last} are neither in the log nor named by a gap"
        if len(holes) > _SHOWN:
            yield f"{len(holes) - _SHOWN} more ranges of its numbers are missing"
        lost = Ranges(holes)
        for index, span in _few(self._claimed):
            for first, last in lost.missing(*span):
                yield (
                    f"numbers {first} to {last} were neither in the log nor named "
                    f"before the beat in entry {index}, which says that they were"
                )
        yield from self._lies
        if not self._started and self._unclean is None and not seen.journal:
            yield "it has no start"

    def _unchecked(
        self, state: str, waiting: Sequence[Span], tail: int | None, seen: _Seen
    ) -> Iterator[str]:
        if waiting:
            count = sum(last - first + 1 for first, last in waiting)
            yield f"numbers still open: {count}, from {waiting[0][0]} on"
        if state == "running" and seen.too_long:
            yield (
                f"its last word is {seen.silent:.0f} s older than the log's: if it "
                "has ended, the next start admits what its journal says"
            )
        elif state == "vanished":
            yield (
                "it ended without a stop, and no gap says so: whether it issued "
                f"numbers from {tail} on is unknown"
            )
        elif state == "stopped" and tail is not None:
            yield (
                f"it went on after its stop, which said that {self._stop} is next: "
                f"whether it issued numbers from {tail} on is unknown"
            )
        if self._silence > seen.max_silence * _MICROSECONDS:
            yield f"it was silent for {self._silence / _MICROSECONDS:.0f} s"


def _emitter_of(data: dict[str, Any]) -> bytes:
    try:
        id_ = base64.b64decode(data["emitter"], validate=True)
    except (KeyError, TypeError, ValueError, binascii.Error):
        id_ = b""
    if len(id_) != _EMITTER_BYTES:
        raise MalformedError("expected 16 bytes in base64 as emitter")
    return id_


def _number(data: dict[str, Any], name: str) -> int:
    value = data.get(name)
    if type(value) is not int or value < 0:
        raise MalformedError(f"expected a number as {name!r}, got {str(value)[:40]!r}")
    return value


def _number_or_none(data: dict[str, Any], name: str) -> int | None:
    return None if name in data and data[name] is None else _number(data, name)


def _spans(data: dict[str, Any]) -> list[Span]:
    spans = data.get("open")
    if not isinstance(spans, list) or not all(map(_is_span, spans)):
        raise MalformedError("expected ranges as 'open' of a beat")
    return [(first, last) for first, last in spans]


def _is_span(span: object) -> bool:
    return (
        isinstance(span, list)
        and len(span) == 2
        and all(type(end) is int for end in span)
        and 0 <= span[0] <= span[1]
    )


def _few(items: Sequence[Any]) -> Sequence[Any]:
    return items[:_SHOWN]
