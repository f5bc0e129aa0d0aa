"""Group h: what privacy costs a decision, and how fast a person is forgotten.

The request is that of group a, a kilobyte of JSON each way. *3 rules* takes out a
member of both bodies by its place, one by its name, and e-mail addresses, so that a
redacted copy is made of each decision. *One person* is about one of 16 people again and
again, *new person* about somebody new each time, whose key has to be made. What is
added over the bare application is held to the goals of group a.

A person with 100 decisions is then exported, and another one erased, among many.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI, Request, Response

import auditlog
from auditlog.capture.subjects import Subject
from auditlog.config import Config
from auditlog.core.record import DECISION
from auditlog.log.access import make_recipient
from auditlog.log.directory import LogDirectory, create_log, open_log
from auditlog.log.erasing import erase
from auditlog.log.erasure_plan import plan_erasure
from auditlog.log.finishing import finish
from auditlog.log.leader import make_checkpoint
from auditlog.log.person_export import export_person
from auditlog.log.runtime import Runtime
from auditlog.storage import Query, SpoolItem
from auditlog.web.asgi import App
from tests.bench.arms import BARE, Running, start_arm, start_configured
from tests.bench.context import Context
from tests.bench.growing import Pattern
from tests.bench.peers import MIDDLEWARE, NOT_INSTALLED
from tests.bench.report import Row, at_most, compare, missing, ratio_at_most
from tests.bench.requests import CALLERS, drive, one_round
from tests.bench.timing import Cost, interleave, median
from tests.bench.workload import BODY, Endpoint, exchanges
from tests.log.builders import now_us

__all__ = ["ARMS", "rows_of", "run"]

_MICRO, _MILLI = 1e6, 1e3
_PEOPLE = 16
_AT_ONCE = 8192
"""Decisions in one append while the log is made."""
_OF_ONE = 100
"""Decisions about the person who is erased, or asks for everything."""
_LOOP_GOAL, _TOTAL_GOAL = at_most(15), ratio_at_most(1 / 5)
_ERASE_GOAL = at_most(1000)
_RULES = {
    "redact_keys": ("currency",),
    "redact_fields": ("/applicant/feature_07",),
    "redact_patterns": ("email",),
}


class _Arm(NamedTuple):
    """What is switched on."""

    name: str
    rules: bool
    people: int | None
    """How many different ones decisions are about; 0 for a new one each time."""


ARMS = (
    _Arm("no privacy", rules=False, people=None),
    _Arm("3 rules", rules=True, people=None),
    _Arm("one person", rules=False, people=_PEOPLE),
    _Arm("new person", rules=False, people=0),
    _Arm("3 rules, one person", rules=True, people=_PEOPLE),
    _Arm("3 rules, new person", rules=True, people=0),
)


def run(context: Context) -> Iterator[Row]:
    """Measure decisions, then erasure and export at each size."""
    context.say("decisions with rules and subjects, in process")
    yield from rows_of(_measure(context))
    for size in context.scale.sizes:
        context.say(f"one person among {size:,} decisions")
        with context.directory() as directory:
            yield from _person(directory / "log", size)


# --- a decision -----------------------------------------------------------------------


def _measure(context: Context) -> dict[str, list[Cost]]:
    """Return the cost of one request by contestant, in each round."""
    with ExitStack() as stack, asyncio.Runner() as runner:
        directory = stack.enter_context(context.directory())
        arms = dict(_started(directory))
        for running in arms.values():
            stack.callback(running.stop)
            runner.run(drive(running.app, _endpoint(None), 2 * CALLERS))
        each: dict[str, Callable[[], Cost]] = {
            name: partial(
                one_round, runner, running, _endpoint(None), context.scale.requests
            )
            for name, running in arms.items()
        }
        return interleave(each, context.scale.rounds)


def _started(directory: Path) -> Iterator[tuple[str, Running]]:
    yield BARE, start_arm(BARE, _endpoint(None).make(), directory)
    for number, arm in enumerate(ARMS):
        options = _RULES if arm.rules else {}
        app = _endpoint(arm.people).make()
        yield arm.name, start_configured(app, directory / str(number), **options)
    peer = MIDDLEWARE[0]
    if peer.installed:
        yield peer.name, start_arm(peer.name, _endpoint(None).make(), directory)


def _endpoint(people: int | None) -> Endpoint:
    return Endpoint("echo", partial(_app, people), "/echo", BODY)


def _app(people: int | None) -> App:
    app, numbers = FastAPI(), itertools.count()

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        if people is not None:
            number = next(numbers)
            auditlog.current().set_subject(f"c-{number % people if people else number}")
        return Response(await request.body(), media_type="application/json")

    return app


def rows_of(spent: dict[str, list[Cost]]) -> Iterator[Row]:
    """Yield what each arm adds over bare, from the cost of a request in each round."""
    peer = MIDDLEWARE[0]
    total = {name: _added(costs, spent[BARE], "cpu") for name, costs in spent.items()}
    loop = {name: _added(costs, spent[BARE], "main") for name, costs in spent.items()}
    first = ARMS[0].name
    for name in (arm.name for arm in ARMS):
        yield compare(
            f"h {name}: loop CPU added, peer {first}",
            loop[name],
            "µs",
            loop[first],
            _LOOP_GOAL,
        )
    for name in (arm.name for arm in ARMS):
        title = f"h {name}: total CPU added, peer {peer.title}"
        if peer.installed:
            yield compare(title, total[name], "µs", total[peer.name], _TOTAL_GOAL)
        else:
            yield missing(title, total[name], "µs", NOT_INSTALLED, _TOTAL_GOAL)
    for name in (arm.name for arm in ARMS[1:]):
        title = f"h {name}: total CPU added, peer {first}"
        yield compare(title, total[name], "µs", total[first])


def _added(costs: Sequence[Cost], bare: Sequence[Cost], which: str) -> float:
    """Return what was added in microseconds, each round against bare in the same."""
    pairs = zip(costs, bare, strict=True)
    return median(
        (getattr(one, which) - getattr(base, which)) * _MICRO for one, base in pairs
    )


# --- a person -------------------------------------------------------------------------


def _person(directory: Path, size: int) -> Iterator[Row]:
    with _log_of(directory, size) as log:
        what = f"{_OF_ONE} decisions of {size:,}"
        yield compare(f"h export {what}", _timed(partial(_export, log)), "ms")
        erasing = _timed(partial(_erase, log))
        yield compare(f"h plan and erase {what}", erasing, "ms", None, _ERASE_GOAL)
        yield compare(
            f"h no copy of it left, {what}", _timed(partial(_sweep, log)), "ms"
        )


def _timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * _MILLI


def _export(log: LogDirectory) -> None:
    written: list[bytes] = []
    done = export_person(
        log,
        "person",
        "asks",
        written.append,
        recipient=make_recipient("the person"),
        by={"name": "bench"},
        channel="cli",
        now=time.time(),
    )
    assert done.decisions == _OF_ONE, done


def _erase(log: LogDirectory) -> None:
    erased = erase(log, plan_erasure(log, "person", "goes", now_us()), now=now_us())
    assert erased.records == _OF_ONE, erased


def _sweep(log: LogDirectory) -> None:
    assert finish(log, now_us(), wait=60) == 1


def _log_of(directory: Path, size: int) -> LogDirectory:
    """Return a log in which decisions about two people stand among many others."""
    config = Config(dir=directory, origin="log.example/bench")
    create_log(config).close()
    runtime = Runtime(config)
    people = [*["asks", "goes"] * _OF_ONE, *[None] * 10]
    for one, person in zip(exchanges(len(people)), people, strict=True):
        if person is not None:
            one.subject = Subject("person", person)
        one.sequence = runtime.open(one.id, one.time)
        runtime.submit(one)
    assert runtime.flush(60), "decisions did not reach the disk"
    runtime.stop()
    log = open_log(directory)
    _fill(log, _pattern(log), size)
    return log


def _fill(log: LogDirectory, pattern: Pattern, size: int) -> None:
    """Append until there are so many, with one checkpoint over all of it."""
    at = log.store.size()
    while at < size:
        items = pattern.items(at, min(_AT_ONCE, size - at), content=True)
        log.store.append(items)
        at += len(items)
    make_checkpoint(log)


def _pattern(log: LogDirectory) -> Pattern:
    """Return the newest decision, which is about nobody, to be repeated."""
    (row,) = log.store.find(Query(type=DECISION, limit=1))
    assert row.index is not None
    stored = log.store.sealed(row.index)
    assert stored is not None, "content was not stored"
    entry = log.store.read(row.index, row.index + 1)[0]
    return Pattern(SpoolItem(entry, row), *stored)
