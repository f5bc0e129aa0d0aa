"""An emitter: one boot of one process, which numbers its decisions without holes.

What is issued is journalled before the application is called, so that a number
whose process died is known to have been issued. `FORMATS.md` §8 fixes the entries.
"""

import base64
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from auditlog.core.errors import StorageError
from auditlog.core.record import DECISION, Entry, format_time
from auditlog.log.identity import new_id
from auditlog.storage.journal import AbandonedJournal, Journal, JournalRecord

__all__ = ["GAP", "Emitter", "gap_entry", "recovery_entries", "spans"]

GAP = "auditlog.gap.v1"
_ENTROPY_BYTES = 10
_ID_BYTES = 16
_MAX_RANGES = 1000
"""In one beat, which must fit into an entry however many streams are open."""


class Emitter:
    """Gives out sequence numbers and remembers which are still open.

    Numbers are issued on event loops and settled on the recorder's thread.
    """

    def __init__(self, journal: Journal, emitter: bytes) -> None:
        """Take over a fresh journal."""
        self.id = emitter
        self._journal = journal
        self._lock = threading.Lock()
        self._next = 0
        self._ended = False
        self._open: dict[int, tuple[bytes, int]] = {}

    def issue(self, id_: bytes, time: int) -> int:
        """Return the next number, for decision `id_`; to be journalled next.

        Raises:
            StorageError: there is none after `end`.
        """
        with self._lock:
            if self._ended:
                raise StorageError("the log has been stopped in this process")
            sequence = self._next
            self._next += 1
            self._open[sequence] = (id_, time)
        return sequence

    def end(self) -> None:
        """Issue no more numbers: those of the stop are all that there are."""
        with self._lock:
            self._ended = True

    def put_on_record(self, sequence: int, id_: bytes, time: int) -> None:
        """Journal a number that was issued; takes microseconds.

        Raises:
            StorageError: a crash would leave this number as a hole without id.
        """
        self._journal.opened(sequence, id_, time)

    def settle(self, sequences: Iterable[int]) -> None:
        """Forget numbers that are durable in the spool."""
        with self._lock:
            for sequence in sequences:
                self._open.pop(sequence, None)

    def compact(self) -> None:
        """Drop settled numbers from the journal if it has grown."""
        if self._journal.wants_compaction:
            with self._lock:
                following = self._next
                still_open = [(n, *self._open[n]) for n in sorted(self._open)]
            self._journal.compact(still_open, following)

    def state(self) -> tuple[int, list[int]]:
        """Return the next number, and the numbers that are open, ascending."""
        with self._lock:
            return self._next, sorted(self._open)

    @property
    def open_count(self) -> int:
        """How many numbers are issued and not settled."""
        return len(self._open)

    def close(self, *, clean: bool = True) -> None:
        """Remove the journal, or leave it for recovery.

        Args:
            clean: whether the entry that closes this emitter is in the log. Without
                it, or with numbers open, recovery has something to say.
        """
        if clean and not self.state()[1]:
            self._journal.close_clean()
        else:
            self._journal.abandon()

    def start_entry(self, source: str, time: int) -> Entry:
        """Return the entry that announces this emitter."""
        return self._entry(source, time, {"state": "start"})

    def beat_entry(self, source: str, time: int) -> Entry:
        """Return the entry that says which numbers are still open.

        It must reach the spool after every number that it does not name.
        """
        following, numbers = self.state()
        ranges = [list(span) for span in _coarse(spans(numbers))]
        data = {"next": following, "open": ranges, "state": "beat"}
        return self._entry(source, time, data)

    def stop_entry(self, source: str, time: int) -> Entry:
        """Return the entry that closes this emitter."""
        return self._entry(source, time, {"next": self.state()[0], "state": "stop"})

    def _entry(self, source: str, time: int, data: dict[str, object]) -> Entry:
        data["emitter"] = base64.b64encode(self.id).decode()
        return Entry(new_id(time), "auditlog.emitter.v1", source, time, data)


def spans(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending `numbers` as ranges, both ends included."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _coarse(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return few ranges that cover these: to call more open than are claims less."""
    kept, rest = ranges[: _MAX_RANGES - 1], ranges[_MAX_RANGES - 1 :]
    return [*kept, (rest[0][0], rest[-1][1])] if rest else kept


def recovery_entries(
    journal: AbandonedJournal, logged: Sequence[int], source: str, time: int
) -> Iterator[Entry]:
    """Admit what a dead emitter left behind.

    A journalled number that never reached the spool becomes an interrupted decision
    under its own id; a number that was issued but neither logged nor journalled is
    named by a gap; a last gap without end stands for what no journal can know.

    Args:
        journal: the dead emitter's journal.
        logged: its numbers in the log, ascending.
        source: the log's origin.
        time: now, microseconds since the epoch.

    Yields:
        Decisions first, then gaps. The same journal gives the same ids each time, so
        that nothing is admitted twice when an answer of the store was lost.
    """
    present = set(logged)
    lost = [record for record in journal.records if record.sequence not in present]
    for record in lost:
        yield _interrupted(journal.emitter, record, source)
    known = present | {record.sequence for record in lost}
    following = max(known, default=journal.base - 1) + 1
    holes = [n for n in range(journal.base, following) if n not in known]
    oldest = min([journal.written, *(record.time for record in journal.records)])
    gaps = [(*span, "unjournalled") for span in spans(holes)]
    for first, last, reason in [*gaps, (following, None, "unclean-stop")]:
        gap = gap_entry(journal.emitter, first, last, reason, source, oldest, time)
        named = f"{journal.emitter.hex()} {first} {last} {reason}".encode()
        entropy = hashlib.sha256(named).digest()[:_ENTROPY_BYTES]
        yield replace(gap, id=new_id(oldest, entropy))


def gap_entry(
    emitter: bytes,
    first: int,
    last: int | None,
    reason: str,
    source: str,
    not_before: int,
    not_after: int,
) -> Entry:
    """Return an entry that names numbers which are not in the log.

    Args:
        emitter: who issued them, 16 bytes.
        first: the first number.
        last: the last number; None where nobody can know it.
        reason: why, from a closed list.
        source: the log's origin.
        not_before: microseconds since the epoch before which none was issued.
        not_after: microseconds since the epoch after which none was issued.
    """
    data = {
        "emitter": base64.b64encode(emitter).decode(),
        "from": first,
        "notAfter": format_time(not_after),
        "notBefore": format_time(not_before),
        "reason": reason,
        "to": last,
    }
    return Entry(new_id(not_after), GAP, source, not_after, data)


def _interrupted(emitter: bytes, record: JournalRecord, source: str) -> Entry:
    unknown = {"mediaType": "none", "split": "none", "state": "not_observed"}
    data = {
        "emitter": base64.b64encode(emitter).decode(),
        "outcome": "interrupted",
        "request": unknown,
        "response": unknown,
        "sequence": record.sequence,
    }
    subject = base64.urlsafe_b64encode(os.urandom(_ID_BYTES)).decode()
    return Entry(record.id, DECISION, source, record.time, data, subject)
