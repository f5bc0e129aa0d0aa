"""One log in one process: start, fork, recovery, leadership, schedule, stop.

Every worker process has a runtime of its own, made on first use and never inherited
through a fork. All of them record; one of them, whoever holds the leader's lock, also
sequences and asks witnesses. Leadership is a hint that saves work; the fence is the
compare-and-swap in `Sequencer`.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from auditlog.capture.exchange import Exchange
from auditlog.config import Config
from auditlog.core.errors import (
    ConfigurationError,
    StorageError,
)
from auditlog.core.record import format_id
from auditlog.log.amending import append_amendment
from auditlog.log.amendment import Aftermath, Amendment, aftermath_entry
from auditlog.log.anchor_file import KINDS, Configure
from auditlog.log.description import Describer
from auditlog.log.directory import LogDirectory, ensure_log
from auditlog.log.emitter import Emitter
from auditlog.log.erasing import catch_up, erase_said_of
from auditlog.log.leader import Leader, time_left
from auditlog.log.preparation import Preparation
from auditlog.log.recorder import OnAccepted, Recorder
from auditlog.log.recovery import recover
from auditlog.log.rotating import resume
from auditlog.log.storing import Storing
from auditlog.metrics import observer_for
from auditlog.storage.acceptance import (
    AcceptanceFile,
)
from auditlog.storage.journal import Journal

__all__ = ["Runtime", "running_configs", "runtime_for", "stop_all"]

_log = logging.getLogger("auditlog")

_EMITTER_BYTES = 16
_BEAT_SECONDS = 60.0
_AMEND_SECONDS = 1.0
"""How long an amendment waits for decisions of this process before it."""
_COMPRESS_WAITING = 4096
"""Bytes of a body that is compressed though an answer waits for it."""
_SHARED = (
    *("depth", "durability", "on_failure", "models", "policy"),
    *("checkpoint_interval", "checkpoint_decisions", "anchor_interval", "metrics"),
)
"""Options of the log rather than of one application."""


class Runtime:
    """Records decisions of this process, and leads the log if nobody else does."""

    def __init__(
        self,
        config: Config,
        clock: Callable[[], float] = time.time,
        kinds: Mapping[str, Configure] = KINDS,
    ) -> None:
        """Open the log, admit what dead processes left, and start the threads.

        Args:
            config: names the log.
            clock: seconds since the epoch.
            kinds: what makes an anchor of each kind.

        Raises:
            ConfigurationError: the log cannot be used as it is.
            StorageError: the disk does not do what it must.
        """
        self._config = config
        self._clock = clock
        self._observer = observer_for(enabled=config.metrics)
        self._log, created = ensure_log(config)
        try:
            self._emitter = self._begin(created, kinds)
        except BaseException:
            # Whoever tries again opens it again.
            self._log.close()
            raise
        emitter = self._emitter.id
        describer = Describer(
            self._log.origin, emitter, depth=config.depth, models=config.models
        )
        self._acceptance = self._accept_ahead() if config.durability == "sync" else None
        storing = Storing(
            self._log.store,
            self._preparation(describer),
            self._emitter,
            self._log.origin,
            clock,
            self._acceptance,
            self._observer,
            lambda ids: erase_said_of(self._log, ids, self._now()),
        )
        gather = config.durability != "sync"
        self._recorder = Recorder(storing, self._emitter, gather=gather)
        self._stopping = threading.Event()
        self._journalled = True
        self._beats = threading.Thread(
            target=self._beat, name="auditlog-beat", daemon=True
        )
        self._recorder.add_entry(
            self._emitter.start_entry(self._log.origin, self._now())
        )
        self._recorder.start()
        self._leader.start()
        self._beats.start()

    def _begin(self, created: bool, kinds: Mapping[str, Configure]) -> Emitter:
        """Make sure that this log may and can be written; start its next emitter."""
        if created:
            _announce(self._log, self._config)
        self._log.claim()
        self._log.keys.require()
        resume(self._log)
        self._leader = Leader(
            self._log, self._config, self._clock, self._observer, kinds
        )
        # Before anything is recovered, that what was erased stays so.
        catch_up(self._log, self._now())
        recover(self._log, self._now(), self._observer)
        id_ = os.urandom(_EMITTER_BYTES)
        sync = self._config.on_failure == "closed"
        journal = Journal.create(self._log.paths.journals, id_, sync=sync)
        return Emitter(journal, id_)

    def _preparation(self, describer: Describer) -> Preparation:
        keyring = self._log.keys
        if self._config.durability == "sync":
            return Preparation(describer, keyring, compress_from=_COMPRESS_WAITING)
        return Preparation(describer, keyring)

    def _accept_ahead(self) -> AcceptanceFile | None:
        try:
            return AcceptanceFile.create(self._log.paths.journals, self._emitter.id)
        except StorageError as error:
            _log.warning("auditlog: decisions go to the store directly: %s", error)
            return None

    @property
    def config(self) -> Config:
        """The options with which it was started."""
        return self._config

    def require(self, config: Config) -> None:
        """Refuse to serve a second application of this process with other options.

        Raises:
            ConfigurationError: naming the options that differ.
        """
        differing = [
            name
            for name in _SHARED
            if getattr(config, name) != getattr(self._config, name)
        ]
        if config.origin not in (None, self._log.origin):
            differing.append("origin")
        if differing:
            msg = (
                f"the log in {config.dir} already runs in this process with another "
                f"{', '.join(differing)}: give both applications the same options"
            )
            raise ConfigurationError(msg)

    def open(self, id_: bytes, time_us: int) -> int:
        """Number a decision and journal the number; takes microseconds.

        Raises:
            StorageError: this runtime has stopped; or, under ``on_failure = closed``,
                the number cannot be journalled.
        """
        sequence = self._emitter.issue(id_, time_us)
        try:
            self._emitter.put_on_record(sequence, id_, time_us)
        except StorageError as error:
            if self._config.on_failure == "closed":
                self._recorder.admit(sequence, "unjournalled")
                raise
            self._complain(error)
        else:
            self._journalled = True
        return sequence

    def _complain(self, error: StorageError) -> None:
        if self._journalled:
            _log.error("auditlog: numbers cannot be journalled: %s", error)
        self._journalled = False

    def submit(self, exchange: Exchange, on_accepted: OnAccepted | None = None) -> None:
        """Hand over a finished exchange; never blocks, never raises."""
        self._recorder.submit(exchange, on_accepted)
        self._leader.wake()

    def amend(self, decision: bytes, kind: Aftermath) -> None:
        """Append what followed a decision that was submitted; never blocks."""
        entry = aftermath_entry(decision, kind, self._log.origin, self._now())
        if not self._recorder.amend(entry):
            name = format_id(decision)
            _log.error("auditlog: of decision %s it is not recorded: %s", name, kind)

    def append(self, amendment: Amendment) -> bytes:
        """Make an amendment durable and return its id; waits for the disk.

        Raises:
            NotFoundError: there is no such decision.
            ConfigurationError: it is no decision, or the keys cannot be used.
            StorageError: it is unknown whether it is there.
        """
        if self._log.store.by_id(amendment.decision) is None:
            # Under whose key it is to be sealed is known once its decision is stored.
            self._recorder.flush(_AMEND_SECONDS)
        id_ = append_amendment(self._log, amendment, self._now())
        self._leader.wake()
        return id_

    def healthy(self) -> bool:
        """Return whether decisions reach the disk, and there is room for one more."""
        return self._recorder.ready()

    def flush(self, timeout: float) -> bool:
        """Wait until everything submitted is durable; return whether it is."""
        return self._recorder.flush(timeout)

    def stop(self, timeout: float = 10.0) -> None:
        """Make everything durable, sequenced, signed and witnessed; end the threads.

        Args:
            timeout: seconds for all of it. Where a thread hangs in a system call, what
                it holds is left as it is.
        """
        if self._stopping.is_set():
            return
        deadline = time.monotonic() + timeout
        self._stopping.set()
        self._emitter.end()
        _RUNTIMES.forget(self._config)
        stop = self._emitter.stop_entry
        if self._recorder.flush(timeout):
            self._recorder.add_entry(stop(self._log.origin, self._now()))
        stopped = self._recorder.stop(time_left(deadline))
        if not stopped:
            _log.error("auditlog: some decisions are not on disk; see the journal")
        try:
            # In this order: whoever finds the journal looks for the other file.
            if self._acceptance is not None:
                self._acceptance.close(clean=stopped)
            self._emitter.close(clean=stopped)
        except StorageError as error:
            _log.error("auditlog: the journal could not be closed: %s", error)
        hangs = self._recorder.hangs
        if self._leader.stop(time_left(deadline), last_words=not hangs) and not hangs:
            self._log.close()

    def _beat(self) -> None:
        while not self._stopping.wait(_BEAT_SECONDS):
            # The beat is built now and appended after all it does not name.
            self._recorder.add_entry(
                self._emitter.beat_entry(self._log.origin, self._now())
            )

    def _now(self) -> int:
        return int(self._clock() * 1_000_000)


def _announce(log: LogDirectory, config: Config) -> None:
    _log.warning("auditlog: created log %s in %s", log.origin, config.dir)
    _log.warning("auditlog: your auditors need its keys, in %s", log.paths.vkeys)
    _log.warning("auditlog: the first is %s", log.vkeys[0])
    if config.origin is None:
        _log.warning(
            "auditlog: the log is named %s for ever; before you use it for real, "
            "remove %s and set AUDITLOG_ORIGIN to a name of yours",
            log.origin,
            config.dir,
        )


class _Runtimes:
    """The runtimes of this process, by directory; a forked child starts afresh."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[tuple[int, Path], Runtime] = {}

    def get(self, config: Config) -> Runtime:
        key = _key(config)
        with self._lock:
            runtime = self._by_key.get(key)
            if runtime is None:
                # A script, or a notebook, may go to another directory meanwhile.
                here = replace(config, dir=config.dir.absolute())
                runtime = self._by_key[key] = Runtime(here)
            runtime.require(config)
            return runtime

    def forget(self, config: Config) -> None:
        self._by_key.pop(_key(config), None)

    def running(self) -> list[Runtime]:
        """Return those of this process that were not stopped."""
        # Without the lock, as `forget`: it is held while a log starts, and where a disk
        # hangs that is for ever. An event loop may be who asks.
        return list(self._by_key.values())

    def start_afresh(self) -> None:
        """Forget what a parent had: its threads are not here, its lock may be held."""
        self._lock = threading.Lock()
        self._by_key = {}


def runtime_for(config: Config) -> Runtime:
    """Return this process's runtime for the log in ``config.dir``, starting it once.

    Raises:
        ConfigurationError: the log cannot be used as it is.
        StorageError: the disk does not do what it must.
    """
    return _RUNTIMES.get(config)


def stop_all() -> None:
    """Stop every runtime of this process, because the process ends; never raises."""
    for runtime in _RUNTIMES.running():
        try:
            runtime.stop()
        except Exception:  # noqa: BLE001 - there may be others, and nobody to tell
            # Such as an interpreter that starts no thread any more, to ask an anchor.
            _log.exception("auditlog: a log did not stop cleanly")


def running_configs() -> list[Config]:
    """Return the options of all logs that this process records into."""
    return [runtime.config for runtime in _RUNTIMES.running()]


def _key(config: Config) -> tuple[int, Path]:
    return os.getpid(), config.dir.resolve()


_RUNTIMES = _Runtimes()
os.register_at_fork(after_in_child=_RUNTIMES.start_afresh)
