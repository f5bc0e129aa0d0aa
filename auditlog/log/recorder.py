"""From exchange to spool, off the event loop: describe, commit, seal, append.

One thread takes whatever has been submitted since it last looked and appends it in
one transaction with one fsync (group commit). Nothing is forgotten on the way: what
cannot be stored stays in memory and is tried again; what does not fit in memory any
more is named by a gap entry as soon as the store works again.
"""

import base64
import logging
import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import zstandard

from auditlog.capture.exchange import Exchange
from auditlog.core.errors import AuditLogError, ConflictError, StorageError
from auditlog.core.merkle import leaf_hash
from auditlog.core.record import DECISION, Entry, format_entry
from auditlog.core.sealing import seal
from auditlog.log.content import pack
from auditlog.log.description import Describer
from auditlog.log.emitter import Emitter, gap_entry, spans
from auditlog.storage import Index, IndexRow, Spool, SpoolItem

__all__ = ["EpochKeys", "OnAccepted", "Recorder", "index_row"]

OnAccepted = Callable[[AuditLogError | None], None]
"""Called once, on the recorder's thread, when a decision is durable or has failed."""

_log = logging.getLogger("auditlog")

_BATCH = 1024
_GATHER_SECONDS = 0.01
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
_R_BYTES = 32
_ZSTD_LEVEL = 1


class _Store(Spool, Index, Protocol):
    """Where decisions become durable, and can be looked up again."""


class EpochKeys(Protocol):
    """Where the recorder gets the key to seal under."""

    def epoch_key(self, label: str) -> tuple[bytes, bytes]:
        """Return (key id, key) of the epoch, creating it on first use."""


class _Submitted(NamedTuple):
    exchange: Exchange
    on_accepted: OnAccepted | None


class _Ready(NamedTuple):
    item: SpoolItem
    sequence: int | None
    on_accepted: OnAccepted | None


class Recorder:
    """Owns the thread that turns exchanges into accepted decisions."""

    def __init__(
        self,
        spool: _Store,
        keys: EpochKeys,
        emitter: Emitter,
        describer: Describer,
        *,
        gather: bool,
        capacity: int = 10_000,
        capacity_bytes: int = 256 << 20,
        clock: Callable[[], float],
    ) -> None:
        """Prepare a recorder; `start` starts its thread.

        Args:
            spool: where decisions become durable.
            keys: where content is sealed under an epoch's key.
            emitter: whose numbers the exchanges carry.
            describer: turns an exchange into an entry.
            gather: wait a moment for company before each append (``spool``), or
                append at once (``sync``).
            capacity: how many exchanges may wait; more are admitted as a gap.
            capacity_bytes: how many bytes of bodies may wait.
            clock: seconds since the epoch.
        """
        self._spool = spool
        self._keys = keys
        self._emitter = emitter
        self._describer = describer
        self._gather = gather
        self._capacity = capacity
        self._capacity_bytes = capacity_bytes
        self._clock = clock
        self._compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
        self._wake = threading.Condition()
        # Guarded by _wake.
        self._waiting: deque[_Submitted] = deque()
        self._waiting_bytes = 0
        self._entries: deque[Entry] = deque()
        self._dropped: list[tuple[int, str]] = []
        self._stopping = False
        self._busy = False
        # Written by the recorder's thread only.
        self.failure: AuditLogError | None = None
        """Why the last append failed; None while appends succeed."""
        self._thread = threading.Thread(
            target=self._run, name="auditlog-recorder", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, exchange: Exchange, on_accepted: OnAccepted | None = None) -> None:
        """Hand over an exchange; never blocks, never raises.

        `on_accepted` gets None when the decision is durable, else the error.
        """
        with self._wake:
            if self._has_room():
                self._waiting.append(_Submitted(exchange, on_accepted))
                self._waiting_bytes += exchange.kept_bytes
                self._wake.notify()
                return
        self.admit(exchange.sequence, "overload")
        if on_accepted is not None:
            msg = "too many decisions wait for the disk; this one becomes a gap"
            on_accepted(StorageError(msg))

    def _has_room(self) -> bool:
        return (
            len(self._waiting) < self._capacity
            and self._waiting_bytes < self._capacity_bytes
        )

    def admit(self, sequence: int, reason: str) -> None:
        """Name a number of ours by a gap: there will be no decision for it."""
        with self._wake:
            self._dropped.append((sequence, reason))
            self._wake.notify()

    def add_entry(self, entry: Entry) -> None:
        """Append an entry of ours after everything submitted so far."""
        with self._wake:
            self._entries.append(entry)
            self._wake.notify()

    def flush(self, timeout: float) -> bool:
        """Wait until everything submitted is durable; return whether it is."""
        deadline = time.monotonic() + timeout
        with self._wake:
            while self._busy or self._waiting or self._entries or self._dropped:
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._thread.is_alive():
                    return False
                self._wake.notify_all()
                self._wake.wait(min(remaining, 0.05))
        return True

    def stop(self, timeout: float) -> bool:
        """Flush, end the thread, and return whether everything is durable."""
        flushed = self.flush(timeout)
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._thread.join(timeout)
        return flushed

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            submitted, entries, dropped = taken
            ready = self._prepare_all(submitted)
            ready += self._gaps(dropped)
            ready += [_Ready(_plain_item(entry), None, None) for entry in entries]
            if self._append(ready):
                self._emitter.settle(sequence for sequence, _ in dropped)
            self._done()

    def _take(
        self,
    ) -> tuple[list[_Submitted], list[Entry], list[tuple[int, str]]] | None:
        with self._wake:
            while not (self._waiting or self._entries or self._dropped):
                if self._stopping:
                    return None
                self._wake.wait()
            self._busy = True
            gather = self._gather and len(self._waiting) < _BATCH
        if gather:
            time.sleep(_GATHER_SECONDS)
        with self._wake:
            count = min(len(self._waiting), _BATCH)
            submitted = [self._waiting.popleft() for _ in range(count)]
            self._waiting_bytes -= sum(one.exchange.kept_bytes for one in submitted)
            # Our own entries speak about what was submitted before them.
            entries = [] if self._waiting else list(self._entries)
            if entries:
                self._entries.clear()
            dropped, self._dropped = self._dropped, []
            return submitted, entries, dropped

    def _done(self) -> None:
        with self._wake:
            self._busy = False
            self._wake.notify_all()
        try:
            self._emitter.compact()
        except StorageError as error:
            _log.warning("auditlog: the journal could not be compacted: %s", error)

    def _prepare_all(self, submitted: Sequence[_Submitted]) -> list[_Ready]:
        ready: list[_Ready] = []
        for exchange, on_accepted in submitted:
            try:
                item = self._prepare(exchange)
            except Exception as error:  # noqa: BLE001 - whatever it is, admit it
                _log.exception("auditlog: a decision could not be described")
                self._admit_failure(exchange, on_accepted, error, ready)
            else:
                ready.append(_Ready(item, exchange.sequence, on_accepted))
        return ready

    def _prepare(self, exchange: Exchange) -> SpoolItem:
        entry, content = self._describer.describe(exchange)
        encoded = format_entry(entry)
        key_id, key = self._keys.epoch_key(_epoch(exchange.time))
        plaintext = pack(content, self._compressor)
        r = os.urandom(_R_BYTES)
        sealed = seal(key, key_id, leaf_hash(encoded), r, plaintext)
        return SpoolItem(encoded, index_row(entry), key_id, sealed)

    def _admit_failure(
        self,
        exchange: Exchange,
        on_accepted: OnAccepted | None,
        error: Exception,
        ready: list[_Ready],
    ) -> None:
        entry = self._gap(exchange.sequence, exchange.sequence, "unrecordable")
        ready.append(_Ready(_plain_item(entry), exchange.sequence, None))
        if on_accepted is not None:
            kind = type(error).__name__
            on_accepted(StorageError(f"the decision could not be described: {kind}"))

    def _gaps(self, dropped: Sequence[tuple[int, str]]) -> list[_Ready]:
        by_reason: defaultdict[str, list[int]] = defaultdict(list)
        for sequence, reason in dropped:
            by_reason[reason].append(sequence)
        return [
            _Ready(_plain_item(self._gap(first, last, reason)), None, None)
            for reason, sequences in by_reason.items()
            for first, last in spans(sorted(sequences))
        ]

    def _gap(self, first: int, last: int, reason: str) -> Entry:
        now = int(self._clock() * 1_000_000)
        return gap_entry(
            self._emitter.id, first, last, reason, self._describer.origin, now, now
        )

    def _append(self, ready: list[_Ready]) -> bool:
        """Append until it works or we stop; whoever waits hears of a first failure."""
        attempt = 0
        while ready:
            try:
                self._spool.append([one.item for one in ready])
                break
            except ConflictError as error:
                ready = self._without_logged(ready, error)
            except AuditLogError as error:
                ready = self._after_failure(ready, error, attempt)
                if self._stopping:
                    return False
                time.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
        self.failure = None
        self._settle(ready)
        return True

    def _settle(self, ready: Sequence[_Ready]) -> None:
        self._emitter.settle(one.sequence for one in ready if one.sequence is not None)
        for one in ready:
            if one.on_accepted is not None:
                one.on_accepted(None)

    def _without_logged(
        self, ready: list[_Ready], error: ConflictError
    ) -> list[_Ready]:
        """Set aside what an earlier append, whose answer was lost, has stored."""
        stored = [one for one in ready if self._is_stored(one.item)]
        if not stored:
            # Ids are random and numbers are ours: this cannot be, so say it loudly.
            _log.critical("auditlog: %s; the batch is kept back and retried", error)
            time.sleep(_RETRY_SECONDS[-1])
            return self._after_failure(ready, error, 0)
        self._settle(stored)
        return [one for one in ready if one not in stored]

    def _is_stored(self, item: SpoolItem) -> bool:
        row = self._spool.by_id(item.row.id)
        if row is None or row.index is None:
            return False
        return self._spool.read(row.index, row.index + 1) == [item.entry]

    def _after_failure(
        self, ready: list[_Ready], error: AuditLogError, attempt: int
    ) -> list[_Ready]:
        if attempt == 0:
            _log.error("auditlog: decisions cannot be stored, retrying: %s", error)
        self.failure = error
        for one in ready:
            if one.on_accepted is not None:
                one.on_accepted(error)
        return [one._replace(on_accepted=None) for one in ready]


def index_row(entry: Entry) -> IndexRow:
    """Return what the index holds of an entry."""
    data = entry.data
    if entry.type != DECISION:
        return IndexRow(None, entry.id, entry.type, entry.time)
    return IndexRow(
        None,
        entry.id,
        entry.type,
        entry.time,
        base64.b64decode(data["emitter"]),
        data["sequence"],
        data.get("http.route"),
        data.get("model.name"),
        data.get("model.version"),
        data["outcome"],
    )


def _plain_item(entry: Entry) -> SpoolItem:
    return SpoolItem(format_entry(entry), index_row(entry))


def _epoch(microseconds: int) -> str:
    """Return the retention epoch of a moment: its day, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(microseconds // 1_000_000))
