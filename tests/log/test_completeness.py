"""What a log proves about the numbers of each emitter (`FORMATS.md` §8).

A row is a small log, written as statements: ``S`` start, a number for a decision,
``i7`` an interrupted one, ``B9`` a beat with 9 as next (``B9:3-4,6`` with open ranges),
``X9`` a stop, ``G3-4`` a gap, ``G5-`` one without end, ``+60`` so many seconds later.
"""

import base64
import shutil
import tracemalloc
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import MalformedError
from auditlog.core.record import DECISION, Entry, parse_id
from auditlog.log.check import CheckReport, check_log
from auditlog.log.completeness import GUARANTEE, Completeness, EmitterReport
from auditlog.log.directory import open_log
from auditlog.log.identity import new_id
from auditlog.log.preparation import plain_item
from auditlog.log.ranges import Ranges
from auditlog.log.recovery import recover
from auditlog.log.runtime import Runtime
from tests.log.builders import ORIGIN, config_of, exchange, now_us

EMITTER = bytes(range(16))
OTHER = bytes(16)
T0 = 1_700_000_000_000_000


def _data(word: str) -> tuple[str, dict[str, object]]:
    rest = word[1:]
    if word == "S":
        return "emitter", {"state": "start"}
    if word[0] == "B":
        following, _, spans = rest.partition(":")
        ranges = [
            [int(end) for end in (one.split("-") * 2)[:2]]
            for one in spans.split(",")
            if one
        ]
        return "emitter", {"state": "beat", "next": int(following), "open": ranges}
    if word[0] == "X":
        return "emitter", {"state": "stop", "next": int(rest)}
    if word[0] == "G":
        first, _, last = rest.partition("-")
        return "gap", {"from": int(first), "to": int(last) if last else None}
    outcome = "interrupted" if word[0] == "i" else "completed"
    return "decision", {"sequence": int(word.strip("i")), "outcome": outcome}


def _entries(text: str, emitter: bytes = EMITTER) -> Iterator[Entry]:
    time = T0
    for word in text.split():
        if word[0] == "+":
            time += int(word[1:]) * 1_000_000
            continue
        kind, data = _data(word)
        data["emitter"] = base64.b64encode(emitter).decode()
        yield Entry(new_id(time), f"auditlog.{kind}.v1", ORIGIN, time, data)


def _report(text: str, *, journal: bool = False, later: int = 0) -> EmitterReport:
    """Return the report on the log, whose newest entry is `later` seconds younger."""
    log = Completeness()
    entries = [*_entries(text), *_entries(f"+{later} S X0", OTHER)]
    for index, entry in enumerate(entries):
        log.note(index, entry)
    first, *_ = log.reports({EMITTER} if journal else set())
    return first


COMPLETE = {
    "a clean life": ("S 0 1 B2 2 X3", "stopped"),
    "an idle one": ("S B0 B0 X0", "stopped"),
    "order does not matter between beats": ("S 3 1 0 2 B4 X4", "stopped"),
    "what a beat leaves open may come later": ("S 0 2 B4:1-1,3 3 1 X4", "stopped"),
    "a number that a gap names": ("S 0 2 G1-1 B3 X3", "stopped"),
    "a decision that came although a gap named it": ("S 0 G1-2 1 B3 X3", "stopped"),
    "a crash that the next start admitted": ("S 0 B3:1-2 i1 G2-2 G3-", "unclean"),
    "open numbers above a gap without end": ("S 0 B3:1-2 G1-", "unclean"),
    "a crash before the start was durable": ("i0 G1-", "unclean"),
    "a crash in a stop": ("S 0 X3 i1 i2 G3-", "unclean"),
    "numbers above a beat before the next one": ("S B0 0 1 B1:0 2 X3", "stopped"),
    "a beat that was built before the stop": ("S 0 1 X2 B1", "stopped"),
}


@pytest.mark.parametrize("row", COMPLETE)
def test_what_is_there_or_named_is_no_problem(row: str) -> None:
    text, state = COMPLETE[row]
    report = _report(text)
    assert (report.problems, report.unchecked, report.open) == ((), (), ())
    assert report.state == state


BROKEN = {
    "a number twice": ("S 0 1 1 B2 X2", "number 1 is in the log twice"),
    "a decision and an interrupted one": ("S 0 i0 X1", "number 0 is in the log twice"),
    "a hole below a beat": (
        "S 0 2 B3 X3",
        "numbers 1 to 1 are neither in the log nor named by a gap",
    ),
    "a hole below a stop": (
        "S 0 1 X9",
        "numbers 2 to 8 are neither in the log nor named by a gap",
    ),
    "an open number that a stop forgot": (
        "S 0 B3:1-2 1 X3",
        "numbers 2 to 2 are neith",
    ),
    "a hole below what came after a stop": ("S 0 X1 3", "numbers 1 to 2 are neither"),
    "a hole that recovery did not name": ("S 0 2 G3-", "numbers 1 to 1 are neither"),
    "a beat that claims what comes later": (
        "S 0 B2 1 X2",
        "numbers 1 to 1 were neither in the log nor named before the beat in entry 2,",
    ),
    "two beats that claim what comes later": ("S 0 B2 B2 1 X2", "numbers 1 to 1 were"),
    "a beat that claims what a gap names later": ("S 0 B3 G1-", "numbers 1 to 2 were"),
    "a beat that goes back": (
        "S 0 1 B2 B1 X2",
        "the beat in entry 4 says that 1 is next, an earlier one said 2",
    ),
    "no start": ("0 1 B2 X2", "it has no start"),
}


@pytest.mark.parametrize("row", BROKEN)
def test_a_hole_or_a_false_statement_is_a_problem(row: str) -> None:
    text, expected = BROKEN[row]
    found = _report(text).problems
    assert len(found) == 1
    assert found[0].startswith(expected)


@pytest.mark.parametrize("row", BROKEN)
def test_a_problem_stays_one_whatever_comes_later(row: str) -> None:
    """Only holes that a journal may still fill wait for it."""
    text, expected = BROKEN[row]
    later = _report(f"{text} +5", later=500).problems
    assert [one for one in later if one.startswith(expected)]


def test_one_emitter_s_numbers_do_not_stand_in_for_another_s() -> None:
    log = Completeness()
    for index, entry in enumerate(
        [*_entries("S 0 2 X3"), *_entries("S 0 1 2 X3", OTHER)]
    ):
        log.note(index, entry)
    first, second = log.reports(set())
    assert first.missing == ((1, 1),)
    assert second.problems == ()


def test_a_running_emitter_s_open_numbers_are_counted_and_no_problem() -> None:
    report = _report("S 0 1 2 B5:3-4 7", journal=True)
    assert (report.state, report.open) == ("running", ((3, 6),))
    assert report.problems == ()
    assert report.unchecked == ("numbers still open: 4, from 3 on",)
    assert report.unknown_from == 8


def test_a_number_that_a_beat_claims_is_a_hole_even_while_the_emitter_runs() -> None:
    report = _report("S 0 2 B5:3-4", journal=True)
    assert report.missing == ((1, 1),)
    assert report.open == ((3, 4),)


def test_open_numbers_of_the_dead_wait_for_the_journal_that_is_there() -> None:
    report = _report("S 0 B3:1-2", journal=True, later=500)
    assert (report.state, report.problems) == ("running", ())
    assert report.unchecked[1].startswith("its last word is 500 s older than the log's")


def test_who_ended_without_a_word_or_a_journal_owes_its_open_numbers() -> None:
    report = _report("S 0 B3:1-2", later=500)
    assert (report.state, report.missing) == ("vanished", ((1, 2),))
    (said,) = report.unchecked
    assert said == (
        "it ended without a stop, and no gap says so: whether it issued numbers from "
        "3 on is unknown"
    )


def test_who_just_fell_silent_is_not_suspected() -> None:
    report = _report("S 0 B3:1-2", later=89)
    assert (report.state, report.problems) == ("running", ())


def test_numbers_after_a_stop_reopen_what_it_had_closed() -> None:
    report = _report("S 0 X1 1")
    assert report.problems == ()
    (said,) = report.unchecked
    assert said == (
        "it went on after its stop, which said that 1 is next: whether it issued "
        "numbers from 2 on is unknown"
    )


def test_a_start_that_is_not_durable_yet_is_no_problem() -> None:
    assert _report("0", journal=True).problems == ()


def test_silence_between_two_words_is_told_not_blamed() -> None:
    assert _report("S +60 B0 +89 B0 +60 X0").unchecked == ()
    report = _report("S +60 B0 +200 B0 X0")
    assert (report.silence, report.problems) == (200.0, ())
    assert report.unchecked == ("it was silent for 200 s",)


def test_what_a_gap_without_end_names_of_what_was_issued_is_counted() -> None:
    report = _report("S 0 1 B9:2-8 5 G2-")
    assert (report.logged, report.named, report.missing) == (3, 6, ())
    assert report.unknown_from == 2


def test_every_number_is_there_named_open_missing_or_unknown() -> None:
    report = _report("S 0 i1 2 3 G3-5 7 B9:6-6,8 G9-", journal=True)
    assert (report.logged, report.interrupted, report.named) == (5, 1, 2)
    assert (report.open, report.missing) == (((6, 6), (8, 8)), ())
    assert report.unknown_from == 9


MALFORMED: dict[str, tuple[dict[str, object], str]] = {
    "an emitter that is no base64": ({"emitter": "x", "state": "start"}, "16 bytes"),
    "a short one": ({"emitter": "AAAA", "state": "start"}, "16 bytes"),
    "a list": ({"emitter": [], "state": "start"}, "16 bytes"),
    "another state": ({"state": "pause"}, "an emitter says 'pause'"),
    "a beat without next": ({"state": "beat", "open": []}, "number as 'next'"),
    "a beat without open": ({"state": "beat", "next": 1}, "ranges as 'open'"),
    "a range of one": ({"state": "beat", "next": 1, "open": [[1]]}, "ranges as 'open'"),
    "a range that ends before it begins": (
        {"state": "beat", "next": 1, "open": [[1, 0]]},
        "ranges as 'open'",
    ),
    "a stop at true": ({"state": "stop", "next": True}, "number as 'next'"),
    "a negative one": ({"state": "stop", "next": -1}, "number as 'next'"),
}


@pytest.mark.parametrize("row", MALFORMED)
def test_what_an_emitter_cannot_have_said_is_refused(row: str) -> None:
    data, expected = MALFORMED[row]
    said: dict[str, object] = {"emitter": base64.b64encode(EMITTER).decode(), **data}
    entry = Entry(new_id(T0), "auditlog.emitter.v1", ORIGIN, T0, said)
    with pytest.raises(MalformedError, match=expected):
        Completeness().note(0, entry)


def test_a_gap_that_names_nothing_is_refused() -> None:
    for text, expected in (("G5-3", "names nothing"), ("G-1", "number as 'from'")):
        entry = next(_entries(text.replace("G-", "G0-")))
        if text == "G-1":
            entry.data["from"] = None
        with pytest.raises(MalformedError, match=expected):
            Completeness().note(0, entry)


def test_a_decision_without_a_number_is_refused() -> None:
    entry = Entry(new_id(T0), DECISION, ORIGIN, T0, {"outcome": "completed"})
    with pytest.raises(MalformedError, match="16 bytes in base64 as emitter"):
        Completeness().note(0, entry)


def test_memory_does_not_grow_with_the_numbers() -> None:
    log = Completeness()
    entry = next(_entries("0"))
    log.note(0, entry)
    tracemalloc.start()
    for number in range(2, 200_000):
        entry.data["sequence"] = number ^ 1  # as concurrent requests end
        log.note(number, entry)
    grown = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (report,) = log.reports(set())
    assert (report.logged, report.open) == (199_999, ((1, 1),))
    assert grown < 20_000


# --- ranges ---------------------------------------------------------------------------

NUMBERS = st.integers(0, 40)
SPANS = st.lists(st.tuples(NUMBERS, NUMBERS).map(lambda two: (min(two), max(two))))


def _numbers(spans: Iterable[tuple[int, int]]) -> set[int]:
    return {n for first, last in spans for n in range(first, last + 1)}


@given(spans=SPANS, others=SPANS, first=NUMBERS, last=NUMBERS)
def test_ranges_are_a_set_of_numbers(
    spans: list[tuple[int, int]], others: list[tuple[int, int]], first: int, last: int
) -> None:
    ranges, numbers = Ranges(spans), _numbers(spans)
    assert _numbers(ranges.spans()) == numbers
    kept = list(ranges.spans())
    assert all(a[1] + 1 < b[0] for a, b in pairwise(kept))
    assert ranges.count() == len(numbers)
    assert ranges.last == max(numbers, default=-1)
    wanted = set(range(first, last + 1))
    assert _numbers(ranges.missing(first, last)) == wanted - numbers
    assert (first in ranges) == (first in numbers)
    assert ranges.shared(Ranges(others)) == len(numbers & _numbers(others))
    assert [*ranges.from_on(20)] == sorted(one for one in numbers if one >= 20)


# --- a whole log ----------------------------------------------------------------------


def _check(directory: Path) -> CheckReport:
    with open_log(directory, read_only=True) as log:
        return check_log(log)


def test_the_check_reports_each_emitter_of_a_log(filled: Path) -> None:
    report = _check(filled)
    assert [one.state for one in report.emitters] == ["stopped", "stopped"]
    assert [one.logged for one in report.emitters] == [150, 150]


def _record(runtime: Runtime, count: int) -> None:
    for _ in range(count):
        one = exchange(0)
        one.sequence = runtime.open(one.id, one.time)
        runtime.submit(one)


def test_the_check_beside_a_running_service_knows_it_by_its_journal(
    tmp_path: Path,
) -> None:
    runtime = Runtime(config_of(tmp_path / "audit"))
    try:
        _record(runtime, 3)
        runtime.open(parse_id("01995e6c-0000-7000-8000-000000000000"), now_us())
        assert runtime.flush(10)
        (report,) = _check(tmp_path / "audit").emitters
    finally:
        runtime.stop()
    assert (report.state, report.logged, report.problems) == ("running", 3, ())


def test_a_stop_with_open_numbers_waits_for_recovery_and_then_holds(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "audit"
    runtime = Runtime(config_of(directory))
    _record(runtime, 3)
    runtime.open(parse_id("01995e6c-0000-7000-8000-000000000000"), now_us())
    runtime.stop()
    before = _check(directory)
    assert before.problems == ()
    assert "numbers still open: 1, from 3 on" in before.unchecked[0]
    with open_log(directory) as log:
        assert recover(log, now_us()) == 1
    after = _check(directory)
    assert (after.problems, after.unchecked) == ((), ())
    assert (after.emitters[0].state, after.emitters[0].interrupted) == ("unclean", 1)


def test_without_the_journal_the_same_number_is_a_hole(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    runtime = Runtime(config_of(directory))
    runtime.open(parse_id("01995e6c-0000-7000-8000-000000000000"), now_us())
    runtime.stop()
    for journal in (directory / "journal").glob("*.journal"):
        journal.unlink()
    (problem,) = _check(directory).problems
    assert problem.what == "numbers 0 to 0 are neither in the log nor named by a gap"


def test_without_any_journals_nothing_is_blamed_on_a_copy(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    runtime = Runtime(config_of(directory))
    runtime.open(parse_id("01995e6c-0000-7000-8000-000000000000"), now_us())
    runtime.stop()
    shutil.rmtree(directory / "journal")
    report = _check(directory)
    assert report.problems == ()
    assert report.unchecked[0].startswith("journals: there are none here, so that num")
    assert "numbers still open: 1, from 0 on" in report.unchecked[1]


def test_an_entry_that_no_emitter_can_have_made_is_named(filled: Path) -> None:
    (filled / "place").unlink()
    with open_log(filled) as log:
        size = log.store.size()
        said = {"emitter": "AAAA", "state": "start"}
        time = now_us()
        entry = Entry(new_id(time), "auditlog.emitter.v1", ORIGIN, time, said)
        log.store.append([plain_item(entry)])
    (problem,) = _check(filled).problems
    assert problem.where == f"entry {size}"
    assert "expected 16 bytes in base64 as emitter" in problem.what


def test_the_guarantee_says_what_the_format_says() -> None:
    assert GUARANTEE.startswith("among the numbers an emitter is known to have issued")
    for uncovered in ("traffic led around", "replicas", "last beat", "interrupted"):
        assert uncovered in GUARANTEE
