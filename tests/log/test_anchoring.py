"""Rounds of anchoring: what is asked when, what is kept, what is said in the log."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

from auditlog.anchors.attestation import anchor_digest
from auditlog.core.encoding import format_base64
from auditlog.core.errors import ConfigurationError, StorageError
from auditlog.core.record import Entry, parse_entry
from auditlog.log.anchor_pace import retry_after
from auditlog.log.anchor_work import Outcome, When
from auditlog.log.anchoring import Anchoring
from auditlog.log.directory import LogDirectory, create_log, open_log
from auditlog.log.identity import new_id
from auditlog.log.preparation import plain_item
from auditlog.log.sequencer import Sequencer
from auditlog.metrics import Observer
from auditlog.storage.files import FileLock
from tests.anchoring import KINDS, FakeAnchor, World, check_attestations, write_anchors
from tests.harness import check_whole_log
from tests.log.builders import config_of, gap_items, now_us

HOUR = 3600.0
DAY = 24 * HOUR
START = 1_800_000_000.0


class Site:
    """A log whose anchors are asked by a clock of ours."""

    def __init__(self, log: LogDirectory, **options: object) -> None:
        self.log = log
        self.now = START
        self.config = config_of(log.paths.directory, **options)
        self.world = World(log.paths.directory / "world")
        self.anchoring = self.restarted()

    def restarted(self, **more: Any) -> Anchoring:
        """Ask as a process does that knows nothing but what is stored."""
        self.anchoring = Anchoring(
            self.log, self.config, lambda: self.now, kinds=KINDS, **more
        )
        return self.anchoring

    def grow(self, *types: str, **data: object) -> int:
        """Add entries, a gap unless said otherwise, and sign; return the size."""
        items = gap_items(1)
        time, source = now_us(), self.log.origin
        if types:
            entries = [Entry(new_id(time), one, source, time, data) for one in types]
            items = [plain_item(entry) for entry in entries]
        self.log.store.append(items)
        return self.sign()

    def sign(self) -> int:
        log, newest = self.log, self.log.store.newest()
        if newest is not None and newest[0] == log.store.size():
            return newest[0]
        return Sequencer(log.store, log.origin, log.signers).step()

    def round(self, when: When = "scheduled", after: float = 0.0) -> list[Outcome]:
        """Ask after so many seconds, and sign what that added."""
        self.now += after
        try:
            return self.anchoring.round(when)
        finally:
            self.sign()

    def run(self, seconds: float, step: float = 60.0) -> None:
        """Let time pass, with a round every so often."""
        for _ in range(int(seconds / step)):
            self.round(after=step)

    def words(self) -> list[dict[str, Any]]:
        """Return what the log says of anchors."""
        store = self.log.store
        entries = map(parse_entry, store.read(0, store.size()))
        return [one.data for one in entries if one.type == "auditlog.anchor.v1"]

    def states(self) -> list[str]:
        return [word["state"] for word in self.words()]

    def anchors(self) -> list[FakeAnchor]:
        found = self.anchoring._file.anchors()
        assert all(isinstance(one, FakeAnchor) for one in found)
        return list(found)  # type: ignore[arg-type]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with create_log(config_of(tmp_path / "audit")) as log:
        write_anchors(log.paths.directory, {})
        site = Site(log, anchor_interval=600.0)
        yield site
        site.world.check()
        check_attestations(log)
        check_whole_log(log.paths.directory)


# --- one round ------------------------------------------------------------------------


def test_the_newest_checkpoint_is_anchored_as_first_signed(site: Site) -> None:
    site.grow()
    size = site.grow()
    newest = site.log.store.newest()
    assert newest is not None
    digest = anchor_digest(newest[1])
    origin = site.log.origin
    assert site.round() == [Outcome("a1", origin, size, "final")]
    assert site.world.submissions() == [format_base64(digest)]
    (row,) = site.log.store.attestations(size)
    assert (row.anchor, row.kind, row.state) == ("a1", "fake", "final")
    assert row.submitted == row.updated == START * 1_000_000


def test_an_attempt_is_an_entry_that_a_reader_can_match(site: Site) -> None:
    size = site.grow()
    site.round()
    (word,) = site.words()
    assert word["attempt"] == 1
    assert word["size"] == size
    assert word.keys() == {
        *("anchor", "attempt", "digest", "evidence", "kind", "size", "state")
    }


def test_an_empty_log_has_nothing_to_anchor(site: Site) -> None:
    assert site.round("now") == []
    assert site.world.submissions() == []


def test_without_a_file_nobody_is_asked_and_nothing_is_locked(site: Site) -> None:
    site.log.paths.anchors.unlink()
    site.grow()
    assert site.round("stop") == []
    with pytest.raises(ConfigurationError, match="no anchor to ask: name one in /"):
        site.round("now")
    assert not site.log.paths.anchor_lock.exists()
    assert site.words() == []


def test_what_must_not_be_done_twice_is_done_after_it_is_stored(site: Site) -> None:
    write_anchors(site.log.paths.directory, {"mode": "spend"})
    size = site.grow()
    seen: list[list[str]] = []

    def look(call: str) -> None:
        if call == "upgrade":
            seen.append([row.state for row in site.log.store.attestations(size)])

    site.anchors()[0].before = look
    site.round()
    assert seen == [["pending"]] * 2, "followed in the same round, once it is durable"
    assert len(site.world.told("upgrade")) == 2, "and again, for it gave something new"
    assert len(site.world.told("spend")) == 1
    assert site.states() == ["pending", "pending"], "it was sent: new evidence"


def test_all_anchors_are_asked_at_once(site: Site) -> None:
    write_anchors(site.log.paths.directory, {}, {"name": "a2"}, {"name": "a3"})
    site.grow()
    together = threading.Barrier(3, timeout=10)
    for anchor in site.anchors():
        anchor.before = lambda call: together.wait() * 0
    assert [one.state for one in site.round()] == ["final"] * 3


def test_one_that_fails_is_in_nobody_s_way(site: Site) -> None:
    write_anchors(site.log.paths.directory, {"fates": ["unreachable"]}, {"name": "a2"})
    size = site.grow()
    origin = site.log.origin
    assert site.round() == [
        Outcome("a1", origin, size, "failed", "unreachable"),
        Outcome("a2", origin, size, "final"),
    ]


# --- the schedule ---------------------------------------------------------------------


def test_a_checkpoint_is_anchored_once_and_the_next_one_after_the_interval(
    site: Site,
) -> None:
    site.grow()
    site.round()
    assert site.round(after=700) == []
    site.grow()
    assert len(site.round()) == 1
    site.grow()
    assert site.round(after=599) == []
    assert len(site.round(after=2)) == 1
    assert len(site.world.submissions()) == 3


def test_a_stop_does_not_wait_for_the_interval_but_for_the_backoff(site: Site) -> None:
    site.grow()
    site.round()
    site.grow()
    assert [one.state for one in site.round("stop", after=1)] == ["final"]
    site.world.set("down")
    site.grow()
    assert [one.state for one in site.round("stop", after=1)] == ["failed"]
    assert site.round("stop", after=1) == []
    assert [one.state for one in site.round("now")] == ["failed"]


def test_an_idle_log_is_not_anchored_for_ever(site: Site) -> None:
    """Each entry about an anchor makes the tree grow, and beats go on."""
    site.grow()
    for _ in range(50):
        site.grow("auditlog.emitter.v1", emitter="x", next=0, open=[], state="beat")
        site.round(after=700)
    assert len(site.world.submissions()) == 1
    size = site.grow()
    assert [one.size for one in site.round(after=700)] == [size]


STOP: dict[str, object] = {"emitter": "AA==", "next": 0, "state": "stop"}


@pytest.mark.parametrize(
    ("type_", "data"),
    [("gap", {}), ("emitter", STOP), ("emitter", STOP | {"state": "start"})],
)
def test_anything_but_beats_and_words_on_anchors_is_anchored(
    site: Site, type_: str, data: dict[str, object]
) -> None:
    site.grow()
    site.round()
    site.grow(f"auditlog.{type_}.v1", **data)
    assert len(site.round(after=700)) == 1


def test_a_clock_that_is_set_back_stops_nothing(site: Site) -> None:
    site.grow()
    site.round()
    site.grow()
    assert len(site.round(after=-30 * DAY)) == 1
    rows = [site.log.store.attestations(size) for size in (1, 3)]
    assert rows[1][0].updated > rows[0][0].updated, "the newest change stays the newest"


# --- outages --------------------------------------------------------------------------


def test_an_outage_of_a_day_makes_29_entries_and_ends_with_the_next_try(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.world.set("down")
    site.grow()
    site.run(DAY)
    assert caplog.text.count("anchor a1 failed") == 1, "logged once, not each time"
    assert [word["attempt"] for word in site.words()] == list(range(1, 30))
    assert {word["reason"] for word in site.words()} == {"unreachable"}
    site.world.set("down", on=False)
    site.run(HOUR)
    assert site.states()[29:] == ["final"]
    assert site.words()[-1]["attempt"] == 30


def test_what_grew_meanwhile_is_what_is_anchored(site: Site) -> None:
    site.world.set("down")
    first = site.grow()
    site.round()
    second = site.grow()
    site.world.set("down", on=False)
    assert [one.size for one in site.round(after=61)] == [second]
    assert site.log.store.attestations(first) == []


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 60), (2, 120), (6, 1920), (7, 3600), (40, 3600), (5000, 3600)],
)
def test_the_distance_of_attempts_grows_up_to_an_hour(
    failures: int, seconds: float
) -> None:
    assert retry_after(failures, 600.0) == seconds
    assert retry_after(1, 5.0) == 5.0


def test_a_restart_remembers_failures_and_does_not_hurry(site: Site) -> None:
    site.world.set("down")
    site.grow()
    site.run(HOUR)
    before = len(site.words())
    site.restarted()
    site.round(after=60)
    assert len(site.words()) == before
    site.run(HOUR)
    assert [word["attempt"] for word in site.words()] == [*range(1, before + 2)]


def test_a_failure_is_forgotten_when_another_process_succeeds(site: Site) -> None:
    site.world.set("down")
    site.grow()
    site.run(2 * HOUR)
    site.world.set("down", on=False)
    beside = Site(site.log)
    beside.now = site.now + 1
    assert [one.state for one in beside.round("now")] == ["final"]
    site.grow()
    assert [one.state for one in site.round(after=2)] == ["final"]


REASONS = ["unreachable", "unverified", "untrusted", "malformed", "misconfigured"]


@pytest.mark.parametrize("reason", [*REASONS, "fault"])
def test_why_an_attempt_failed_is_of_a_closed_list(
    site: Site, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.anchors()[0].fates = [reason]
    site.grow()
    site.round()
    (word,) = site.words()
    assert (word["state"], word["reason"]) == ("failed", reason)
    assert "evidence" not in word
    assert f"auditlog: anchor a1 failed ({reason})" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    "fate", ["another kind", "another state", "no JSON", "ours", "long"]
)
def test_an_answer_that_is_no_attestation_is_not_kept(site: Site, fate: str) -> None:
    site.anchors()[0].fates = [fate]
    size = site.grow()
    site.round()
    assert site.words()[0]["reason"] == "malformed"
    assert site.log.store.attestations(size) == []


def test_an_answer_that_was_lost_is_asked_for_again(site: Site) -> None:
    site.anchors()[0].fates = ["lost"]
    size = site.grow()
    site.round()
    site.round(after=61)
    assert site.states() == ["failed", "final"]
    assert [word["size"] for word in site.words()] == [size, size + 1]


# --- what is pending ------------------------------------------------------------------


@pytest.fixture
def waiting(site: Site) -> Site:
    write_anchors(site.log.paths.directory, {"mode": "wait"})
    site.grow()
    site.round()
    return site


def test_what_is_pending_is_looked_at_ever_more_seldom(waiting: Site) -> None:
    waiting.run(6 * HOUR, step=15.0)
    looks = [one["now"] for one in waiting.world.told("upgrade")]
    waits = [round(b - a) for a, b in pairwise(looks)]
    assert waits[:5] == [15, 30, 60, 120, 240]
    assert waits == sorted(waits)
    assert 9 <= len(looks) <= 15
    assert waiting.states() == ["pending"], "to look and find nothing is no news"


def test_what_becomes_final_is_kept_and_said(waiting: Site) -> None:
    waiting.run(HOUR)
    waiting.world.set("ripe")
    waiting.run(HOUR)
    assert waiting.states() == ["pending", "final"]
    (row,) = waiting.log.store.attestations(1)
    assert row.submitted == START * 1_000_000
    assert row.updated > row.submitted + HOUR * 1_000_000 / 2


def test_a_restart_submits_nothing_that_is_pending(waiting: Site) -> None:
    for _ in range(3):
        waiting.restarted()
        waiting.round(after=700)
    assert len(waiting.world.submissions()) == 1
    assert len(waiting.world.told("upgrade")) == 4


def test_later_checkpoints_do_not_wait_for_earlier_ones(waiting: Site) -> None:
    for _ in range(5):
        waiting.grow()
        waiting.round(after=601)
    assert len(waiting.world.submissions()) == 6
    waiting.world.set("ripe")
    waiting.run(2 * HOUR)
    assert len(waiting.log.store.attestations_by("a1", state="final")) == 6


def test_one_that_is_slow_gives_the_round_away_after_a_minute(waiting: Site) -> None:
    for _ in range(7):
        waiting.grow()
        waiting.round(after=601)
    (anchor,) = waiting.anchors()

    def slow(_: str) -> None:
        waiting.now += 25

    anchor.before = slow
    waiting.round(after=2 * HOUR)  # everything is due
    looked = waiting.world.told("upgrade")
    waiting.round(after=1)
    assert len(waiting.world.told("upgrade")) - len(looked) == 3
    waiting.round("look")
    assert len(waiting.world.told("upgrade")) - len(looked) == 3 + 8, "who asks waits"


def test_an_outage_while_looking_is_in_no_submission_s_way(waiting: Site) -> None:
    """One entry for each failure, however much is pending."""
    for _ in range(5):
        waiting.grow()
        waiting.round(after=601)
    anchor = waiting.anchors()[0]

    def down(call: str) -> None:
        anchor.fates = ["unreachable"] if call == "upgrade" else []

    anchor.before = down
    before = len(waiting.words())
    for _ in range(4 * 6):
        waiting.grow()
        waiting.run(601, step=60.1)
    failed = [word for word in waiting.words()[before:] if word["state"] == "failed"]
    assert len(waiting.world.submissions()) == 6 + 24
    assert 8 <= len(failed) <= 11, "seven in the first hour, then one in each"


def test_one_that_can_never_become_final_is_in_nobody_s_way(waiting: Site) -> None:
    """It is looked at ever more seldom, once a day in the end: each is an entry."""
    anchor, before = waiting.anchors()[0], waiting.log.store.attestations(1)

    def refuse(call: str) -> None:
        anchor.fates = ["unverified"]

    anchor.before = refuse
    waiting.run(4 * DAY, step=600.0)
    assert 12 <= len(waiting.words()) <= 18
    assert waiting.log.store.attestations(1) == before


def test_pending_attestations_of_another_kind_are_left_alone(waiting: Site) -> None:
    (row,) = waiting.log.store.attestations(1)
    waiting.log.store.put_attestation(row._replace(kind="ots", updated=row.updated + 1))
    waiting.round("now", after=700)
    assert len(waiting.world.told("upgrade")) == 1
    waiting.log.store.put_attestation(row._replace(updated=row.updated + 2))


# --- a store that fails ---------------------------------------------------------------

CALLS = ("put_attestation", "append")


@pytest.mark.parametrize("mode", ["stamp", "spend"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", ["lost", "persisted"])
def test_a_write_that_fails_loses_nothing_and_says_nothing_twice(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    call: str,
    fault: Literal["lost", "persisted"],
) -> None:
    write_anchors(site.log.paths.directory, {"mode": mode})
    site.world.set("ripe")
    for number in range(4):
        site.grow()
        _break(site, monkeypatch, call, fault, number)
        try:
            site.round("now", after=700)
        except StorageError as error:
            assert "as ordered" in str(error)  # noqa: PT017 - not every number is met
        monkeypatch.undo()
        if number % 2:
            site.restarted()
        site.round("now", after=700)
        site.round("now", after=700)
        check_attestations(site.log)
    assert set(site.states()) <= {"pending", "final"}


def _break(
    site: Site, monkeypatch: pytest.MonkeyPatch, call: str, fault: str, number: int
) -> None:
    """Let one of the next calls to the store fail, or its answer get lost."""
    whole: Callable[..., Any] = getattr(site.log.store, call)
    calls = 0

    def broken(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != number + 1:
            return whole(*arguments)
        if fault == "persisted":
            whole(*arguments)
        raise StorageError(f"{call} failed as ordered")

    monkeypatch.setattr(site.log.store, call, broken)


def test_a_failure_that_could_not_be_said_is_said_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.anchors()[0].fates = ["unreachable"]
    site.grow()
    _break(site, monkeypatch, "append", "lost", 0)
    with pytest.raises(StorageError, match="append failed as ordered"):
        site.anchoring.round()
    monkeypatch.undo()
    assert site.words() == []
    site.round(after=1)
    assert site.states() == ["failed"]


@pytest.mark.parametrize("mode", ["stamp", "wait"])
def test_a_disk_that_is_full_for_an_hour_asks_nobody_in_a_hurry(
    site: Site, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """What an anchor gave and we could not store was paid for, and is asked again."""
    write_anchors(site.log.paths.directory, {"mode": mode})
    site.grow()
    if mode == "wait":
        site.round()
        site.world.set("ripe")
    asked = len(site.world.told("submit", "upgrade"))

    def full(_: object) -> None:
        raise StorageError("cannot write: No space left on device")

    monkeypatch.setattr(site.log.store, "put_attestation", full)
    for _ in range(int(HOUR / 5)):
        with suppress(StorageError):
            site.round(after=5)
    assert len(site.world.told("submit", "upgrade")) - asked == 6
    monkeypatch.undo()
    site.run(HOUR)
    assert site.states()[-1] == "final"


# --- many logs under one digest -------------------------------------------------------


def test_many_logs_are_anchored_under_one_digest(site: Site, tmp_path: Path) -> None:
    others = [
        create_log(config_of(tmp_path / f"o{n}", origin=f"log.example/{n}"))
        for n in range(4)
    ]
    sites = [Site(other) for other in others]
    sizes = [one.grow() for one in (site, *sites)]
    site.restarted(also=others)
    outcomes = site.round()
    assert [one.size for one in outcomes] == sizes
    assert len({one.origin for one in outcomes}) == 5
    assert len(site.world.submissions()) == 1
    for one in sites:
        check_attestations(one.log)
        ((row,),) = [one.log.store.attestations(size) for size in (1,)]
        for other in sites:
            origin = other.log.origin.encode()
            assert origin not in row.evidence
        assert row.evidence.count(b'"hashes"') == 1
    salts = {site.log.store.attestations(1)[0].evidence} | {
        one.log.store.attestations(1)[0].evidence for one in sites
    }
    assert len(salts) == 5
    assert site.round("now") == []
    sites[2].grow()
    assert [one.origin for one in site.round("now")] == ["log.example/2"]
    assert b"batch" not in sites[2].log.store.attestations(3)[0].evidence
    for done in others:
        done.close()


def test_one_of_a_batch_is_followed_by_its_own_log(site: Site, tmp_path: Path) -> None:
    write_anchors(site.log.paths.directory, {"mode": "wait"})
    with create_log(config_of(tmp_path / "o", origin="log.example/o")) as log:
        other = Site(log)
        options = {"mode": "wait", "world": str(site.world.directory)}
        write_anchors(log.paths.directory, options)
        site.grow()
        other.grow()
        site.restarted(also=[log])
        assert [one.state for one in site.round()] == ["pending"] * 2
        site.world.set("ripe")
        assert [one.state for one in other.round("now")] == ["final"]
        assert check_attestations(log) == [(1, "a1", "final")]
        assert check_attestations(site.log) == [(1, "a1", "pending")]
        other.world.check()


# --- two at once ----------------------------------------------------------------------


def test_one_round_at_a_time(site: Site) -> None:
    site.grow()
    with (
        FileLock(site.log.paths.anchor_lock),
        pytest.raises(StorageError, match=r"anchors\.lock is still locked"),
    ):
        site.anchoring.round(patience=0.01)
    assert site.world.submissions() == []


def test_a_round_that_had_to_wait_asks_only_for_what_is_left(site: Site) -> None:
    site.grow()
    beside = Site(site.log)
    with open_log(site.log.paths.directory):
        waiting = threading.Thread(target=beside.anchoring.round, args=("now",))
        with FileLock(site.log.paths.anchor_lock):
            waiting.start()
        site.anchoring.round("now")
        waiting.join()
    assert len(site.world.submissions()) == 1


# --- the file of anchors --------------------------------------------------------------


def test_a_file_that_changes_is_read_again(site: Site) -> None:
    site.grow()
    site.round()
    (first,) = site.anchors()
    assert site.anchors() == [first]
    write_anchors(site.log.paths.directory, {}, {"name": "a2"})
    assert [one.name for one in site.anchors()] == ["a1", "a2"]
    assert [one.anchor for one in site.round(after=1)] == ["a2"]


def test_a_file_that_went_wrong_is_an_error_until_it_is_mended(site: Site) -> None:
    size = site.grow()
    site.log.paths.anchors.write_text("[[anchor]]\nkind = 'fake'\n")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"anchors.toml, anchor 1: name"):
            site.round()
    write_anchors(site.log.paths.directory, {})
    assert [one.size for one in site.round()] == [size]


# --- who watches ----------------------------------------------------------------------


class Counting(Observer):
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def attested(self, anchor: str, state: str) -> None:
        self.seen.append((anchor, state))


def test_every_attempt_is_counted(site: Site) -> None:
    counting = Counting()
    write_anchors(site.log.paths.directory, {"mode": "wait", "fates": ["unreachable"]})
    site.restarted(observer=counting)
    site.grow()
    site.run(HOUR)
    site.world.set("ripe")
    site.run(HOUR)
    assert counting.seen == [("a1", "failed"), ("a1", "pending"), ("a1", "final")]


def test_the_sequencer_is_woken_for_each_entry(site: Site) -> None:
    woken: list[int] = []
    site.restarted(wake=lambda: woken.append(site.log.store.size()))
    site.grow()
    site.round()
    assert woken == [2]
