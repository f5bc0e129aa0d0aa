"""Random schedules: recorders, sequencers and recoverers, two of each, that may die.

Whoever runs is stopped before each call to the store, and may be continued, told that
the call failed (done or not), or killed, while the others go on. After every step the
oracle runs, and nothing acknowledged or published may have changed. ``FAULTS=all``
tries many more schedules.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from auditlog.core.errors import ConflictError, StorageError
from auditlog.core.record import format_id
from auditlog.log.description import Describer
from auditlog.log.directory import LogDirectory
from auditlog.log.emitter import Emitter
from auditlog.log.identity import new_id
from auditlog.log.preparation import Preparation
from auditlog.log.recorder import _Submitted
from auditlog.log.recovery import recover
from auditlog.log.storing import Ready, Storing
from auditlog.storage.acceptance import AcceptanceFile
from auditlog.storage.journal import Journal
from tests.fakes import MemoryStore
from tests.faults.actors import Actor
from tests.faults.logs import (
    ITEMS,
    VERIFIERS,
    directory_of,
    in_the_log,
    sequencer_of,
)
from tests.faults.stores import CHANGES, FATES, Fate
from tests.harness import check_memory_log
from tests.log.builders import ORIGIN, exchange, now_us

FIRST = 252
"""Entries at the start: a few more fill a tile."""
ROLES = ("recorder", "recorder", "sequencer", "sequencer", "recoverer", "reaper")
_COUNTS = st.integers(min_value=1, max_value=4)
_NUMBERS = st.integers(min_value=0, max_value=1)
_WHICH = st.integers(min_value=0, max_value=5)

Work = Callable[[Any], None]


def _recover(log: LogDirectory) -> None:
    recover(log, now_us())


class Process:
    """One boot of a process that records: its emitter, and what it has issued."""

    def __init__(self, store: MemoryStore, directory: Path) -> None:
        log = directory_of(store, directory)
        id_ = new_id(now_us())
        self.emitter = Emitter(Journal.create(log.paths.journals, id_), id_)
        self._acceptance = AcceptanceFile.create(log.paths.journals, id_)
        self._preparation = Preparation(Describer(ORIGIN, id_, depth=0), log.keys)

    def issue(self) -> Ready:
        """Number and journal a decision, and prepare it."""
        one = exchange(0)
        one.sequence = self.emitter.issue(one.id, one.time)
        self.emitter.put_on_record(one.sequence, one.id, one.time)
        item = self._preparation.prepare(one)
        numbers = range(one.sequence, one.sequence + 1)
        return Ready(item, numbers, _Submitted(one, None))

    def storing(self, store: Any) -> Storing:
        """Return what the recorder's thread works with."""
        preparation, emitter = self._preparation, self.emitter
        arguments = (store, preparation, emitter, ORIGIN, time.time, self._acceptance)
        return Storing(*arguments)

    def leave(self) -> None:
        """Let go of what a dead process held; its files stay."""
        self._acceptance.close(clean=False)
        self.emitter.close(clean=False)


def _store_until_it_works(storing: Storing, ready: list[Ready]) -> None:
    """Do what the recorder's thread does, without waiting between attempts."""
    while True:
        try:
            storing.store(ready)
        except StorageError:
            continue
        return


class Schedules(RuleBasedStateMachine):
    """Two of everything over one store; see the module."""

    def __init__(self) -> None:
        super().__init__()
        logging.disable(logging.CRITICAL)
        self._scratch = tempfile.TemporaryDirectory()
        self._directory = Path(self._scratch.name)
        self.store = MemoryStore(ORIGIN)
        self.processes: dict[int, Process] = {}
        self.sequencers: dict[int, Any] = {}
        self.actors: dict[tuple[str, int], Actor] = {}
        self.issued: list[str] = []
        self.acknowledged: list[str] = []
        self.accepted_ahead: list[str] = []
        self.published: dict[int, bytes] = {}

    @initialize()
    def fill(self) -> None:
        self.store.append(ITEMS[:FIRST])
        sequencer_of(self.store).step()

    # --- who begins what --------------------------------------------------------------

    @rule(role=st.sampled_from(ROLES), number=_NUMBERS, count=_COUNTS)
    def begin(self, role: str, number: int, count: int) -> None:
        if role == "reaper":
            self._bury("recorder", number)
        elif (role, number) not in self.actors:
            work = getattr(self, f"_{role}")(number, count)
            self.actors[role, number] = Actor(self.store, work)
            self._collect(role, number)

    def _recorder(self, number: int, count: int) -> Work:
        if number not in self.processes:
            self.processes[number] = Process(self.store, self._directory)
        process = self.processes[number]
        ready = [process.issue() for _ in range(count)]
        ids = [format_id(one.item.row.id) for one in ready]
        self.issued += ids

        def work(store: Any) -> None:
            storing = process.storing(store)
            ahead = count % 2 == 1 and storing.accept(ready)
            self.accepted_ahead += ids if ahead else ()
            _store_until_it_works(storing, [] if ahead else ready)
            self.acknowledged += ids

        return work

    def _sequencer(self, number: int, _: int) -> Work:
        def work(store: Any) -> None:
            # The object outlives a failed step, as in the leader.
            sequencer = self.sequencers.pop(number, None) or sequencer_of(store)
            sequencer._store = store
            try:
                sequencer.step()
            except ConflictError:
                return
            except StorageError:
                pass
            self.sequencers[number] = sequencer

        return work

    def _recoverer(self, _number: int, _count: int) -> Work:
        return lambda store: _recover(directory_of(store, self._directory))

    # --- how it goes on ---------------------------------------------------------------

    @precondition(lambda self: self.actors)
    @rule(which=_WHICH, fate=st.sampled_from(FATES))
    def meet(self, which: int, fate: Fate) -> None:
        """Let a change meet its fate; calls that only read are hardly worth one."""
        role, number = self._one(which)
        self.actors[role, number].reach(CHANGES)
        self.actors[role, number].advance(fate)
        self._collect(role, number)
        if fate.startswith("killed"):
            self._bury(role, number)

    @precondition(lambda self: self.actors)
    @rule(which=_WHICH, fate=st.sampled_from(FATES))
    def meet_at_once(self, which: int, fate: Fate) -> None:
        """Let whatever call is next meet its fate."""
        role, number = self._one(which)
        self.actors[role, number].advance(fate)
        self._collect(role, number)
        if fate.startswith("killed"):
            self._bury(role, number)

    @precondition(lambda self: self.actors)
    @rule(which=_WHICH, past=st.booleans())
    def pause(self, which: int, past: bool) -> None:
        """Run up to a change, or past it, and let others go on meanwhile."""
        actor = self.actors[self._one(which)]
        actor.reach(CHANGES)
        if past:
            actor.advance()
        self._collect(*self._one(which))

    @precondition(lambda self: self.actors)
    @rule(which=_WHICH)
    def finish(self, which: int) -> None:
        self.actors[self._one(which)].finish()
        self._collect(*self._one(which))

    def _one(self, which: int) -> tuple[str, int]:
        actors = sorted(self.actors)
        return actors[which % len(actors)]

    def _collect(self, role: str, number: int) -> None:
        actor = self.actors[role, number]
        if not actor.done:
            return
        del self.actors[role, number]
        error = actor.error
        if error is not None and not isinstance(error, StorageError):
            raise AssertionError(f"a {role} failed by itself") from error

    def _bury(self, role: str, number: int) -> None:
        """Let go of what a dead process held; its memory is gone anyway."""
        if role == "sequencer":
            self.sequencers.pop(number, None)
        if role == "recorder" and number in self.processes:
            if (role, number) in self.actors:
                self.actors.pop((role, number)).advance("killed before")
            self.processes.pop(number).leave()

    # --- what must hold ---------------------------------------------------------------

    @invariant()
    def the_log_is_whole(self) -> None:
        found = check_memory_log(self.store, VERIFIERS)
        wanted = self.acknowledged
        assert in_the_log(found, wanted) == [1] * len(wanted)

    @invariant()
    def what_was_published_stays(self) -> None:
        stored = self.store.checkpoints
        for size, note in self.published.items():
            assert stored[size] == note, f"checkpoint {size} was another one"
        new = set(stored) - set(self.published)
        assert all(size > max(self.published, default=-1) for size in new)
        self.published = dict(stored)

    def teardown(self) -> None:
        try:
            self._end()
        finally:
            logging.disable(logging.NOTSET)
            self._scratch.cleanup()

    def _end(self) -> None:
        """Kill everybody; one healthy start must make the log whole."""
        for role, number in list(self.actors):
            self.actors.pop((role, number)).advance("killed before")
            self._bury(role, number)
        for number in list(self.processes):
            self._bury("recorder", number)
        _recover(directory_of(self.store, self._directory))
        size = sequencer_of(self.store).step()
        self.the_log_is_whole()
        self.what_was_published_stays()
        found = check_memory_log(self.store, VERIFIERS)
        assert size in {0, len(found.entries)}
        assert in_the_log(found, self.issued) == [1] * len(self.issued)
        completed = [one["id"] for one in found.decisions if _is_completed(one)]
        assert set(self.accepted_ahead) <= set(completed)


def _is_completed(decision: dict[str, Any]) -> bool:
    return bool(decision["data"]["outcome"] == "completed")


TestSchedules = Schedules.TestCase
TestSchedules.settings = settings(
    stateful_step_count=50,
    max_examples=2000 if os.environ.get("FAULTS") == "all" else 50,
)
