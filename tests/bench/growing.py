"""Logs of any size, fast: one sealed decision, again and again under new ids.

Every row and every byte is as large as a real one's, so sizes and costs are those of
real decisions; but the content is sealed for the first entry only, so a full check
of such a log fails, and `checks` does not use it.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from auditlog.config import Config
from auditlog.core.record import format_id
from auditlog.log.directory import LogDirectory, create_log, open_log
from auditlog.log.identity import new_id
from auditlog.log.runtime import Runtime
from auditlog.storage import SpoolItem
from tests.bench.prepared import sequencer_of
from tests.bench.timing import Cost, measured
from tests.bench.workload import exchanges
from tests.log.builders import now_us

__all__ = ["BATCH", "Pattern", "grow_to", "make_pattern", "record"]

BATCH = 1000
"""Decisions of one append, and under one checkpoint."""


class Pattern(NamedTuple):
    """A decision to repeat."""

    item: SpoolItem
    key_id: bytes
    sealed: bytes

    def items(self, first: int, count: int, *, content: bool) -> list[SpoolItem]:
        """Return `count` decisions numbered from `first`."""
        return [self._item(number, content) for number in range(first, first + count)]

    def _item(self, number: int, content: bool) -> SpoolItem:
        row = self.item.row
        id_ = new_id(now_us())
        old, new = format_id(row.id).encode(), format_id(id_).encode()
        return SpoolItem(
            self.item.entry.replace(old, new),
            row._replace(index=None, id=id_, sequence=number),
            self.key_id if content else None,
            self.sealed if content else None,
        )


def record(directory: Path, count: int, depth: int = 1) -> None:
    """Make a log of real decisions, 1 KiB each way, all under checkpoints."""
    config = Config(dir=directory, origin="log.example/bench", depth=depth)
    create_log(config).close()
    runtime = Runtime(config)
    for one in exchanges(count):
        one.sequence = runtime.open(one.id, one.time)
        runtime.submit(one)
    assert runtime.flush(60), "decisions did not reach the disk"
    runtime.stop()


def make_pattern(directory: Path) -> Pattern:
    """Record one decision in a log of its own and return it."""
    record(directory, 1)
    with open_log(directory, read_only=True) as log:
        rows = log.store.index_rows(0, log.store.size())
        row = next(row for row in rows if row.sequence is not None)
        assert row.index is not None
        entry = log.store.read(row.index, row.index + 1)[0]
        assert "commitment" in json.loads(entry)["data"], "content was not committed to"
        stored = log.store.sealed(row.index)
    assert stored is not None, "content was not stored"
    return Pattern(SpoolItem(entry, row), *stored)


def grow_to(
    log: LogDirectory, pattern: Pattern, sizes: Sequence[int], *, content: bool
) -> Iterator[tuple[int, Cost]]:
    """Append until each of `sizes`; yield size and cost of one append, by batch."""
    sequencer, size = sequencer_of(log), log.store.size()
    if content and log.store.slot_of(pattern.key_id) is None:
        slot = log.store.last_slot() + 1
        log.store.add_keys([(pattern.key_id, slot, "record", "repeated")])
    for target in sizes:
        while size < target:
            count = min(BATCH, target - size)
            items = pattern.items(size, count, content=content)
            start = measured()
            log.store.append(items)
            sequencer.step()
            spent = measured() - start
            size += count
            yield size, Cost(*(value / count for value in spent))
