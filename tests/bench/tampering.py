"""Group d: what a check says of a large log in which every table was tampered with.

The same matrix as in `tests/log/test_tampering.py`, at 10,000 entries, and at a million
with ``--long``: all changes to one table at once, each in a place of its own.
"""

import shutil
import time
from collections.abc import Iterator

from auditlog.log.check import CheckReport
from tests.bench.context import LONG, Context
from tests.bench.report import Row, at_least, compare
from tests.tampering import build, found, is_named, tamper_often

__all__ = ["run"]

_TABLES = (
    *("checkpoints", "cosignatures", "entry_index", "objects", "spool", "vault"),
)


def run(context: Context) -> Iterator[Row]:
    """Tamper with each table of a large log, and count what the check names."""
    size = context.scale.sizes[-1 if context.scale == LONG else 0]
    context.say(f"a log of {size} entries, tampered with")
    with context.directory() as directory:
        log, kept = directory / "audit", directory / "kept.sqlite3"
        build(log, decisions=size // 50, others=size - size // 50)
        shutil.copy(log / "log.sqlite3", kept)
        for table in _TABLES:
            shutil.copy(kept, log / "log.sqlite3")
            made = tamper_often(log / "log.sqlite3", table)
            start = time.process_time()
            report = found(log)
            seconds = time.process_time() - start
            assert isinstance(report, CheckReport), report
            named = sum(is_named(*one, report) for one in made)
            title = f"d tampering, {table}, {size} entries: named of {len(made)}"
            yield compare(title, named, "changes", None, at_least(len(made)))
            yield compare(f"d tampering, {table}: check", seconds, "s")
