"""One decision beyond HTTP, from its number to the disk: a ``with`` block.

Whoever leaves the block waits until the decision is durable, unless told not to: there
is no client to whom an answer could be held back. Under ``on_failure="open"`` a fault
of ours is logged and the work goes on; under ``closed`` it raises, before the work
begins where that can be known.
"""

import asyncio
import contextlib
import logging
import os
import time
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from auditlog.capture.exchange import Body, Exchange
from auditlog.capture.redaction.redaction import Redaction
from auditlog.config import Config
from auditlog.core.errors import AuditLogError, StorageError
from auditlog.log.decision import _CURRENT, Decision
from auditlog.log.ending import stop_at_exit
from auditlog.log.identity import new_id
from auditlog.log.operation import Operation
from auditlog.log.placing import described
from auditlog.log.recording import OnAccepted, Recording, recording_for
from auditlog.log.telling import Named, fill
from auditlog.log.together import submit_all
from auditlog.log.values import Written
from auditlog.log.waiting import LoopWaiter, Waiter, in_asyncio
from auditlog.storage.spill import SpillDirectory

if TYPE_CHECKING:
    from contextvars import Token

__all__ = ["DecisionBlock"]

_log = logging.getLogger("auditlog")

_SECRET_BYTES = 32


class _Opened(NamedTuple):
    """A number that was given out and must come back."""

    runtime: Recording
    id: bytes
    sequence: int
    time: int
    """Microseconds since the epoch."""
    started: int
    """Nanoseconds, on the monotonic clock."""
    process: int
    """Who opened it: in a child made by fork it is the parent's to record."""


class DecisionBlock:
    """What `auditlog.decision` returns; to be entered once.

    As ``async with`` it never blocks the event loop: whatever waits for a disk does so
    in a thread. It needs asyncio for that; elsewhere it works as ``with`` does.
    """

    def __init__(
        self,
        name: str,
        operation: Operation,
        config: Config,
        *,
        wait: bool,
        redaction: Redaction | None = None,
    ) -> None:
        """Take what was said so far; nothing is opened yet.

        Args:
            name: of the operation.
            operation: the decision, not opened.
            config: names the log.
            wait: leave the block only when the decision is durable.
            redaction: what everything passes before it is stored.
        """
        self.operation = operation
        """The decision."""
        self._name = name
        self._config = config
        self._wait = wait
        self._redaction = redaction
        self._closed = config.on_failure == "closed"
        self._begun = False
        self._open: _Opened | None = None
        self._token: Token[Decision | None] | None = None

    def __enter__(self) -> Operation:
        """Number the decision; may wait for a disk.

        Raises:
            ConfigurationError: the log cannot be used as it is.
            AuditLogError: under ``closed``, nothing can be recorded now.
        """
        self.begin()
        self._token = _CURRENT.set(self.operation)
        return self.operation

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record it, whatever happened.

        Raises:
            AuditLogError: under ``closed``, it could not be recorded.
        """
        self._leave()
        self.end(_outcome(kind), failing=kind is not None)

    async def __aenter__(self) -> Operation:
        """Number the decision.

        Raises:
            ConfigurationError: the log cannot be used as it is.
            AuditLogError: under ``closed``, nothing can be recorded now.
        """
        if not in_asyncio():
            return self.__enter__()
        beginning = asyncio.ensure_future(asyncio.to_thread(self.begin))
        try:
            await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # The thread may just be numbering it.
            beginning.add_done_callback(self._abandon)
            raise
        self._token = _CURRENT.set(self.operation)
        return self.operation

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Record it, whatever happened.

        Raises:
            AuditLogError: under ``closed``, it could not be recorded.
        """
        self._leave()
        outcome, failing = _outcome(kind), kind is not None
        if kind is not None and issubclass(kind, GeneratorExit):
            # Whoever is being closed must not wait for anything any more.
            self._submit(outcome)
        elif not self._wait or not in_asyncio():
            self.end(outcome, failing=failing)
        else:
            waiter = LoopWaiter()
            if self._submit(outcome, waiter.tell):
                self._settle(await waiter.answer(), failing=failing)

    def begin(self) -> None:
        """Number and journal the decision, before any of its work is done.

        Raises:
            ConfigurationError: the log cannot be used as it is.
            AuditLogError: it was entered before; or, under ``closed``, nothing can be
                recorded now.
        """
        if self._begun:
            raise AuditLogError("expected a decision to be entered once, got twice")
        opened = self._open = self._number()
        if opened is None:
            return
        self._begun = True
        self.operation.opened(opened.id, opened.runtime.open, strict=self._closed)
        outer = _CURRENT.get()
        if outer is not None and outer.recorded and not self.operation.has_cause:
            self.operation.caused_by(outer.id)

    def end(self, outcome: str, *, failing: bool = False) -> None:
        """Hand over the decision, and wait if that is wanted.

        Args:
            outcome: how the work ended.
            failing: whether the block raises already, which must not be hidden.

        Raises:
            AuditLogError: under ``closed``, it could not be recorded.
        """
        if not self._wait:
            self._submit(outcome)
            return
        waiter = Waiter()
        if self._submit(outcome, waiter.tell):
            self._settle(waiter.answer(), failing=failing)

    def _number(self) -> _Opened | None:
        """Return a new number; None where nothing is recorded."""
        now = time.time_ns() // 1000
        id_ = new_id(now)
        try:
            runtime = self._obtain()
            if runtime is None:
                return None
            sequence = runtime.open(id_, now)
        except Exception as error:  # noqa: BLE001 - decided by on_failure
            self._pass_over(error)
            return None
        started = time.perf_counter_ns()
        return _Opened(runtime, id_, sequence, now, started, os.getpid())

    def _pass_over(self, error: Exception) -> None:
        """Log why nothing is recorded, and let the work go on, where it may.

        Raises:
            AuditLogError: it may not.
        """
        fault = error if isinstance(error, AuditLogError) else _fault(error)
        if self._closed or not isinstance(fault, StorageError):
            raise fault
        _log.error("auditlog: a decision is not recorded: %s", described(error))

    def _obtain(self) -> Recording | None:
        """Return what records; None if nothing is to be.

        Raises:
            ConfigurationError: the log cannot be used as it is.
            StorageError: the disk does not do what it must.
        """
        if not self._config.enabled:
            return None
        runtime = recording_for(self._config)
        stop_at_exit()
        if self._closed and not runtime.healthy():
            raise StorageError(
                "expected decisions to reach the disk, but those before this one do "
                "not (on_failure=closed)"
            )
        return runtime

    def _submit(self, outcome: str, on_accepted: OnAccepted | None = None) -> bool:
        """Hand over the decision, once; return whether there was one."""
        opened, self._open = self._open, None
        if opened is None or opened.process != os.getpid():
            return False
        exchange = self._exchange(opened)
        exchange.outcome = outcome
        exchange.duration = (time.perf_counter_ns() - opened.started) // 1000
        submit_all(opened.runtime, [exchange, *self._fill(exchange)], on_accepted)
        return True

    def _exchange(self, opened: _Opened) -> Exchange:
        config, secret = self._config, os.urandom(_SECRET_BYTES)
        spills = _spills(config.dir, config.max_spilled_bytes)
        limit, depth = config.max_stored_bytes, config.depth
        request = Body(secret, 0, limit, spills=spills)
        response = Body(secret, 1, limit, before=request, depth=depth, spills=spills)
        _feed(request, self.operation.input)
        _feed(response, self.operation.output)
        return Exchange(
            id=opened.id,
            secret=secret,
            sequence=opened.sequence,
            time=opened.time,
            operation=self._name,
            request=request,
            response=response,
            own_key=any(fnmatchcase(self._name, one) for one in config.record_keys),
            redaction=self._redaction,
        )

    def _fill(self, exchange: Exchange) -> list[Exchange]:
        """Add what was said; return the further decisions of a batch."""
        said = self.operation.conclude()
        exchange.model = None if said is None else said.model
        try:
            return fill(exchange, said, Named(exchange.model))
        except Exception as error:  # noqa: BLE001 - ours; the number must come back
            place = described(error)
            _log.error("auditlog: what was said about a decision is lost: %s", place)
            return []

    def _settle(self, error: AuditLogError | None, *, failing: bool) -> None:
        """Tell that a decision is not durable, as `on_failure` demands."""
        if error is None:
            return
        name = self.operation.id
        _log.error("auditlog: decision %s is not recorded: %s", name, error)
        if self._closed and not failing:
            raise AuditLogError(
                f"expected decision {name} to be recorded, but it was not: what it "
                "gave must not be used (on_failure=closed)"
            ) from error

    def _leave(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            # A generator may be closed from another context than it was entered in.
            with contextlib.suppress(ValueError):
                _CURRENT.reset(token)

    def _abandon(self, beginning: "asyncio.Future[None]") -> None:
        """Record what was numbered for somebody who does not wait any more."""
        if not beginning.cancelled() and beginning.exception() is None:
            self._submit("interrupted")


def _outcome(kind: type[BaseException] | None) -> str:
    """Return how work ended that was left by an exception, or by none."""
    if kind is None:
        return "completed"
    return "error" if issubclass(kind, Exception) else "interrupted"


def _fault(cause: Exception) -> StorageError:
    """Return what takes the place of a fault that is not a disk's.

    Such as an interpreter that starts no thread any more.
    """
    return StorageError(f"a fault of auditlog's own: {type(cause).__name__}")


def _feed(body: Body, said: Written | None) -> None:
    if said is None:
        body.state = "not_observed"
        return
    body.media_type, body.state = said.media_type, "complete"
    if said.data:
        body.feed(said.data)


@lru_cache(maxsize=16)
def _spills(directory: Path, capacity: int) -> SpillDirectory:
    """Return where large bodies wait: one for a log, whose capacity all share."""
    return SpillDirectory(directory, capacity)
