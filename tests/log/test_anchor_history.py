"""An anchor that keeps a log's one history: it is told each step, and can halt the log.

Whoever is away, fails, or claims what it cannot prove, halts nothing.
"""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditlog.anchors.attestation import evidence_digest
from auditlog.core.errors import NotFoundError, RollbackError, StorageError
from auditlog.log.anchor_status import watched_anchors
from auditlog.log.anchor_work import Outcome
from auditlog.log.attested import Attested
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, create_log, open_log
from auditlog.log.leader import Leader
from auditlog.log.runtime import Runtime
from auditlog.log.sequencer import Sequencer
from auditlog.metrics import LogState, Observer
from demo_service.dishonest_operator import copy_log, rebuild_without
from tests.anchoring import KINDS, FakeKeeper, World, check_attestations, write_anchors
from tests.e2e.processes import wait_until
from tests.filled import decision_at, fill_log
from tests.harness import check_whole_log
from tests.log.builders import config_of, gap_items
from tests.log.test_anchoring import HOUR, START, Site

HISTORY = "a1+history"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A log with an anchor that keeps histories."""
    with create_log(config_of(tmp_path / "audit")) as log:
        write_anchors(log.paths.directory, {"keeps": True})
        site = Site(log, anchor_interval=600.0)
        yield site
        check_attestations(log)
        check_whole_log(log.paths.directory)


def keeper(site: Site) -> FakeKeeper:
    (anchor,) = site.anchors()
    assert isinstance(anchor, FakeKeeper)
    return anchor


def told(world: World) -> list[int]:
    return [one["size"] for one in world.told("told")]


def attempts(site: Site) -> list[tuple[str, int]]:
    """Return what the log says of the anchor itself."""
    words = [one for one in site.words() if one["anchor"] == "a1"]
    return [(one["state"], one["attempt"]) for one in words]


def ticket_of(size: int) -> dict[str, int]:
    return {"size": size, "time": int(START)}


# --- what it is told ------------------------------------------------------------------


def test_each_anchored_checkpoint_is_told_after_its_digest(site: Site) -> None:
    sizes = []
    for _ in range(3):
        sizes.append(site.grow())
        site.round(after=601)
    assert told(site.world) == sizes
    calls = [one["what"] for one in site.world.told("submit", "check", "keep")]
    assert calls[:3] == ["submit", "check", "keep"]
    assert attempts(site) == [("final", 1)] * 3


def test_what_it_is_told_is_stored_and_said_before_and_when_it_has_it(
    site: Site,
) -> None:
    size, store = site.grow(), site.log.store
    seen = []
    keeper(site).before = lambda call: seen.append(
        (call, [one.state for one in store.attestations_by(HISTORY, state="pending")])
    )
    site.round()
    assert seen[-2:] == [("tell", []), ("keep", ["pending"])]
    site.round(after=60)
    (_, row) = store.attestations(size)
    assert (row.anchor, row.kind, row.state) == (HISTORY, "fake", "kept")
    said = [one for one in site.words() if one["anchor"] == HISTORY]
    assert [(one["size"], one["state"]) for one in said] == [
        (size, "pending"),
        (size, "kept"),
    ]
    assert all(one["evidence"] == evidence_digest(ticket_of(size)) for one in said)


def test_what_it_was_told_is_no_anchor_of_a_receipt_and_closes_no_window(
    site: Site,
) -> None:
    write_anchors(site.log.paths.directory, {"keeps": True, "mode": "wait"})
    size = site.grow()
    site.round()
    site.round(after=60)
    store = site.log.store
    assert [row.state for row in store.attestations(size)] == ["pending", "kept"]
    assert store.anchored(1) is None
    found = Attested(store)
    assert found.anchors(0) == []
    with pytest.raises(NotFoundError, match=r"'a1\+history' gave .*; there is: a1$"):
        found.anchors(0, renew=[HISTORY])
    site.log.paths.anchors.write_text("?")
    assert watched_anchors(store, site.log.paths.anchors) == ["a1"]
    site.log.paths.anchors.unlink()


def test_once_it_is_kept_nobody_asks_again(site: Site) -> None:
    size = site.grow()
    site.run(2 * HOUR, step=15)
    assert told(site.world) == [size]
    assert len(site.world.told("check")) == 2, "to tell it, and to see it there"
    site.restarted()
    site.run(HOUR)
    assert len(site.world.told("check")) == 3, "who knows nothing looks once"


def test_what_is_on_its_way_is_shown_with_the_next_digest(site: Site) -> None:
    """An account numbers both in one row."""
    site.world.set("slow")
    size = site.grow()
    site.round()
    site.grow()
    site.round(after=601)
    (none, one) = keeper(site).shown
    assert list(none) == []
    assert [dict(ticket.evidence) for ticket in one] == [ticket_of(size)]


def test_what_comes_true_between_two_questions_is_done(site: Site) -> None:
    site.world.set("slow")
    size = site.grow()
    site.round()

    def meanwhile(call: str) -> None:
        if call == "keep":
            site.world.set("slow", on=False)

    keeper(site).before = meanwhile
    site.round(after=60)
    (work,) = site.anchoring._works
    assert not any(one.behind() for one in work._histories)
    said = [one["state"] for one in site.words() if one["anchor"] == HISTORY]
    assert said == ["pending", "kept"]
    assert told(site.world) == [size]


def test_what_grows_is_told_after_what_is_on_its_way(site: Site) -> None:
    site.world.set("slow")
    first = site.grow()
    site.round()
    second = site.grow()
    site.round(after=601)
    assert told(site.world) == [first]
    site.world.set("slow", on=False)
    site.round(after=3600)
    assert told(site.world) == [first, second]


@pytest.mark.parametrize(
    "fate",
    [
        *("tell unreachable", "tell lost", "tell fault"),
        *("keep unreachable", "keep lost", "keep unverified"),
    ],
)
def test_whatever_gets_lost_no_tree_is_told_by_two_tickets(
    site: Site, fate: str
) -> None:
    keeper(site).fates = [fate] * 2
    size = site.grow()
    for _ in range(20):
        site.round(after=60)
        site.restarted()
    (once,) = site.world.told("told")
    row = site.log.store.attestations(size)[-1]
    assert (row.state, json.loads(row.evidence)["time"]) == ("kept", once["ticket"])


def test_what_it_has_lost_again_is_told_by_the_same_ticket(site: Site) -> None:
    """A node was wrong that said so, or a block was not as final as it seemed."""
    size = site.grow()
    site.round()
    site.round(after=60)
    (first,) = site.world.told("told")
    (site.world.directory / "world").unlink()
    site.restarted()
    site.round(after=60)
    assert site.world.told("told") == [first]
    site.round(after=60)
    said = [one["state"] for one in site.words() if one["anchor"] == HISTORY]
    assert said == ["pending", "kept", "pending", "kept"]
    assert site.log.store.attestations(size)[-1].state == "kept"
    assert check_log(site.log).problems == ()


def test_a_ticket_that_somebody_damaged_is_told_of_and_followed_no_more(
    site: Site,
) -> None:
    site.world.set("slow")
    size = site.grow()
    site.round()
    row = site.log.store.attestations(size)[-1]
    site.log.store.put_attestation(row._replace(evidence=b"?"))
    site.round(after=60)
    assert attempts(site)[-1] == ("failed", 1)
    assert site.words()[-1]["reason"] == "malformed"
    site.log.store.put_attestation(row)


def test_what_is_on_its_way_is_looked_at_ever_more_seldom(site: Site) -> None:
    site.world.set("slow")
    site.grow()
    site.run(3 * HOUR, step=15)
    assert 8 <= len(site.world.told("keep")) <= 12
    assert len(told(site.world)) == 1
    site.world.set("slow", on=False)
    site.run(HOUR, step=15)
    before = len(site.world.told("check"))
    site.run(HOUR, step=15)
    assert len(site.world.told("check")) == before


@pytest.mark.parametrize("fate", ["check unreachable", "keep unverified", "keep fault"])
def test_a_failure_is_an_attempt_like_others_and_no_submission_s_business(
    site: Site, fate: str, caplog: pytest.LogCaptureFixture
) -> None:
    keeper(site).fates = [fate] * 3
    size, reason = site.grow(), fate.partition(" ")[2]
    assert site.round() == [Outcome("a1", site.log.origin, size, "failed", reason)]
    assert site.log.store.attestations(size)[0].state == "final"
    assert f"anchor a1 failed ({reason})" in caplog.text
    assert "SECRET" not in caplog.text
    site.run(600)
    words = attempts(site)
    assert words == [("final", 1), ("failed", 1), ("failed", 2), ("failed", 3)]
    assert told(site.world) == [size]
    site.grow()
    site.round(after=601)
    assert len(site.world.submissions()) == 2


def test_who_is_away_is_told_once_of_an_attempt(site: Site) -> None:
    """Not once for the digest, and once for the history."""
    site.world.set("down")
    site.grow()
    site.round()
    assert site.states() == ["failed"]


def test_who_is_away_later_is_told_once_of_an_attempt_too(site: Site) -> None:
    write_anchors(site.log.paths.directory, {"keeps": True, "mode": "wait"})
    site.world.set("slow")
    site.grow()
    site.round()
    site.world.set("down")
    site.round("look", after=60)
    assert attempts(site) == [("pending", 1), ("failed", 1)]


def test_a_store_that_cannot_be_read_is_nobody_else_s_fault(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.grow()
    site.round()
    site.grow()

    def broken(path: str) -> bytes:
        raise StorageError(f"{path} cannot be read, as ordered")

    monkeypatch.setattr(site.log.store, "get", broken)
    with pytest.raises(StorageError, match="as ordered"):
        site.anchoring.round("now")
    monkeypatch.undo()
    assert "failed" not in site.states()


def test_of_several_logs_each_has_its_own_history(site: Site, tmp_path: Path) -> None:
    with create_log(config_of(tmp_path / "o", origin="log.example/o")) as log:
        other = Site(log)
        sizes = [site.grow(), other.grow(), other.grow()]
        site.restarted(also=[log])
        site.round()
        assert [(one["origin"], one["size"]) for one in site.world.told("told")] == [
            (site.log.origin, sizes[0]),
            (log.origin, sizes[2]),
        ]
        check_attestations(log)


# --- another past ---------------------------------------------------------------------


def _lost_the_newest(site: Site) -> None:
    with site.log.store._database.writing() as db:
        db.execute("DELETE FROM attestations")
    site.world.note("told", origin=site.log.origin, size=1000, root="11" * 32)


def _has_another(site: Site) -> None:
    with site.log.store._database.writing() as db:
        db.execute("DELETE FROM attestations")
    site.world.note("told", origin=site.log.origin, size=1, root="11" * 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_lost_the_newest, r"anchor a1, log \S+: 1000 entries are known, \d+ here"),
        (_has_another, r"anchor a1, log \S+: another root of 1 entries is known"),
    ],
)
def test_another_past_is_an_error_and_an_entry(
    site: Site, change: object, message: str
) -> None:
    assert callable(change)
    site.grow()
    change(site)
    site.grow()
    with pytest.raises(RollbackError, match=message):
        site.round()
    assert site.words()[-1]["reason"] == "rollback"


def test_what_another_process_signed_meanwhile_is_no_other_past(site: Site) -> None:
    """It signs and tells it between our look at the store and at the keeper."""
    site.grow()
    beside, once = Site(site.log), [True]

    def meanwhile(call: str) -> None:
        if call == "check" and once:
            once.clear()
            beside.grow()
            (history,) = beside.anchoring.histories()
            newest = site.log.store.newest()
            assert newest is not None
            tree = history.ledger.checkpoint(newest[0]), history.ledger.consistency
            ticket = history._keeper.tell_history(*tree, [], now=1)
            assert ticket is not None
            history._keeper.follow_history(*tree, ticket, now=1)

    keeper(site).before = meanwhile
    site.round()
    assert len(told(site.world)) == 1
    assert site.states() == ["final"]


# --- who leads ------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """The directory of a log that was served, and whose history was kept."""
    directory = tmp_path / "audit"
    fill_log(directory, 3)
    write_anchors(directory, {"keeps": True, "world": str(tmp_path / "world")})
    _serve(directory)
    assert told(World(tmp_path / "world"))
    return directory


def _serve(directory: Path, entries: int = 3) -> None:
    """Let a service run and stop, as it does."""
    with open_log(directory) as log:
        origin = log.origin
    runtime = Runtime(config_of(directory, origin=origin), kinds=KINDS)
    runtime._log.store.append(gap_items(entries, origin=origin))
    runtime.stop()


def _swap(directory: Path, other: Path) -> None:
    shutil.rmtree(directory)
    other.rename(directory)
    (directory / "place").unlink(missing_ok=True)


def test_an_old_copy_is_not_signed(
    served: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = copy_log(served, tmp_path / "copy")
    _serve(served)
    _swap(served, copy)
    before = check_whole_log(served)
    _serve(served)
    after = check_whole_log(served)
    assert after.checkpoints == before.checkpoints
    assert len(after.entries) > len(before.entries), "service goes on, nothing is lost"
    assert caplog.text.count("HALTED, nothing is signed any more: anchor a1") == 1


def test_a_rewritten_log_is_not_signed(
    served: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every key was used: the copy is a whole log, larger than what is known."""
    copy = copy_log(served, tmp_path / "copy")
    rebuild_without(copy, decision_at(copy, 1))
    _swap(served, copy)
    before = check_whole_log(served)
    _serve(served)
    assert check_whole_log(served).checkpoints == before.checkpoints
    assert "another root of" in caplog.text
    assert caplog.text.count("HALTED") == 1


def test_a_store_that_misses_its_past_halts_all_the_same(
    served: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a rewritten log, what was anchored is gone: to look at it is an error."""
    world = World(tmp_path / "world")
    (served / "place").unlink()
    with open_log(served) as log, log.store._database.writing() as db:
        db.execute("UPDATE attestations SET state = 'pending'")
    rebuild_without(served, decision_at(served, 1))
    world.set("down")
    with open_log(served) as log:
        config = config_of(served, origin=log.origin, anchor_interval=0.1)
        leader = Leader(log, config, time.time, kinds=KINDS)
        leader.start()
        wait_until(lambda: leader._sequencer is not None, 10, "the lead")
        world.set("down", on=False)
        wait_until(lambda: "HALTED" in caplog.text, 10, "a halt")
        leader.stop(5)


def test_who_learns_of_another_past_while_it_leads_halts(
    served: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A chain that was away at the take-over."""
    world = World(tmp_path / "world")
    with open_log(served) as log:
        config = config_of(served, origin=log.origin, anchor_interval=0.1)
        world.set("down")
        leader = Leader(log, config, time.time, kinds=KINDS)
        leader.start()
        wait_until(lambda: leader._sequencer is not None, 10, "the lead")
        assert "cannot reach https://tsa.example" in caplog.text
        world.note("told", origin=log.origin, size=10_000, root="11" * 32)
        world.set("down", on=False)
        log.store.append(gap_items(1, origin=log.origin))
        wait_until(lambda: "HALTED" in caplog.text, 10, "a halt")
        size = log.store.size()  # of which a step under way may still sign all
        log.store.append(gap_items(5, origin=log.origin))
        leader.stop(5)
        published = log.store.newest()
        assert published is not None
        assert published[0] <= size


def test_a_keeper_that_hangs_keeps_nobody_from_leading(
    log_with_hanging_keeper: tuple[LogDirectory, threading.Event],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And if it proves another past after all, the log halts then."""
    log, answers = log_with_hanging_keeper
    monkeypatch.setattr("auditlog.log.leader._FIRST_ASK_SECONDS", 0.1)
    leader = Leader(log, config_of(log.paths.directory), time.time, kinds=KINDS)
    (found,) = leader._anchoring._read()
    assert isinstance(found, FakeKeeper)
    found.before = lambda call: answers.wait(30) if call == "check" else None
    leader.start()
    wait_until(lambda: leader._sequencer is not None, 10, "the lead")
    assert "HALTED" not in caplog.text
    answers.set()
    wait_until(lambda: "HALTED" in caplog.text, 10, "a halt")
    leader.stop(5)


def test_a_halt_is_said_once_nothing_is_being_signed_any_more(
    served: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever reads it may rely on it: the newest checkpoint is the last one."""
    signing, go_on = threading.Event(), threading.Event()
    with open_log(served) as log:
        leader = Leader(log, config_of(served), time.time, kinds=KINDS)
        sequencer = Sequencer(log.store, log.origin, log.signers)
        whole = sequencer.step

        def step() -> int:
            signing.set()
            assert go_on.wait(60)
            return whole()

        sequencer.step = step  # type: ignore[method-assign]
        leader._sequencer = sequencer
        log.store.append(gap_items(1, origin=log.origin))
        stepping = threading.Thread(target=leader._step)
        stepping.start()
        assert signing.wait(60)
        halting = threading.Thread(target=leader._halt, args=(RollbackError("x"),))
        halting.start()
        wait_until(leader._halted.is_set, 30, "the halt")
        assert "HALTED" not in caplog.text
        go_on.set()
        halting.join()
        stepping.join()
        assert "HALTED" in caplog.text
        leader._sequencer = sequencer
        assert not leader._step()


def test_a_fault_of_ours_ends_no_thread_that_asks_witnesses(
    served: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    def ask(*_: object, **__: object) -> None:
        asked.append(1)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("auditlog.log.witnessing.Witnessing.ask", ask)
    with open_log(served) as log:
        leader = Leader(log, config_of(served), time.time, kinds=KINDS)
        leader.start()
        wait_until(lambda: len(asked) > 3, 10, "it is asked again")
        index = log.store.append(gap_items(1, origin=log.origin))
        wait_until(lambda: (log.store.newest() or (0,))[0] > index, 10, "signed")
        before = len(asked)
        wait_until(lambda: len(asked) > before + 1, 10, "it is asked again")
        leader.stop(5)
    assert caplog.text.count("witnesses were not asked: RuntimeError at ") == 1


class Watching(Observer):
    """Takes in how old the oldest entry is that nobody signed."""

    def __init__(self) -> None:
        self.delays: list[float] = []

    @property
    def watches(self) -> bool:
        return True

    def log_state(self, state: LogState) -> None:
        self.delays.append(state.merge_delay)


def test_a_log_that_is_halted_is_watched_all_the_same(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alert on what nobody signs must come, above all now."""
    monkeypatch.setattr("auditlog.log.leader._OBSERVE_SECONDS", 0.0)
    observer = Watching()
    with open_log(served) as log:
        leader = Leader(log, config_of(served), time.time, observer, KINDS)
        leader.start()
        wait_until(lambda: bool(observer.delays), 10, "a first look")
        leader._halt(RollbackError("x"))
        log.store.append(gap_items(1, origin=log.origin))
        wait_until(lambda: observer.delays[-1] > 0.0, 10, "a look at what waits")
        leader.stop(5)


def test_a_fault_of_a_keeper_is_no_reason_not_to_lead_and_tells_no_secret(
    served: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_anchors(
        served,
        {"keeps": True, "world": str(tmp_path / "world"), "fates": ["check fault"]},
    )
    with open_log(served) as log:
        leader = Leader(log, config_of(served), time.time, kinds=KINDS)
        leader.start()
        wait_until(lambda: leader._sequencer is not None, 10, "the lead")
        leader.stop(5)
    assert "history was not checked: ZeroDivisionError at " in caplog.text
    assert "SECRET" not in caplog.text


@pytest.fixture
def log_with_hanging_keeper(
    tmp_path: Path,
) -> Iterator[tuple[LogDirectory, threading.Event]]:
    with create_log(config_of(tmp_path / "audit")) as log:
        write_anchors(log.paths.directory, {"keeps": True})
        world = World(log.paths.directory / "world")
        world.note("told", origin=log.origin, size=7, root="11" * 32)
        answers = threading.Event()
        yield log, answers
        answers.set()
