"""Group f: how long programs take to start, each a fresh process."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from auditlog.core.record import format_id
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from tests.bench.context import Context
from tests.bench.growing import record
from tests.bench.report import Row, at_most, compare
from tests.bench.timing import interleave, median

__all__ = ["run"]

_ROOT = Path(__file__).parents[2]
_MILLI = 1e3
_BARE = "bare interpreter"
_IMPORTS = {
    _BARE: "pass",
    "import auditlog": "import auditlog",
    "auditlog.AuditMiddleware": "import auditlog; auditlog.AuditMiddleware",
}


def run(context: Context) -> Iterator[Row]:
    """Measure imports over a bare interpreter, and the offline verifier."""
    context.say("start-up")
    with context.directory() as directory:
        receipt, policy = _receipt(directory)
        verify = ["verify", str(receipt), "--policy", str(policy)]
        commands = {name: _python(text) for name, text in _IMPORTS.items()}
        commands["auditlog verify"] = [sys.executable, "-m", "auditlog", *verify]
        contestants: dict[str, Callable[[], float]] = {
            name: lambda command=command: _seconds(command)  # type: ignore[misc]
            for name, command in commands.items()
        }
        rounds = interleave(contestants, context.scale.starts)
    spent = {name: median(found) * _MILLI for name, found in rounds.items()}
    bare = spent[_BARE]
    yield compare(f"f {_BARE}", bare, "ms")
    added = spent["import auditlog"] - bare
    yield compare("f import auditlog, over bare", added, "ms", None, at_most(30))
    added = spent["auditlog.AuditMiddleware"] - bare
    yield compare("f auditlog.AuditMiddleware, over bare", added, "ms")
    cold = spent["auditlog verify"]
    yield compare("f cold auditlog verify", cold, "ms", None, at_most(250))


def _python(text: str) -> list[str]:
    program = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); {text}"
    return [sys.executable, "-I", "-c", program]


def _seconds(command: list[str]) -> float:
    env = {k: v for k, v in os.environ.items() if not k.startswith("AUDITLOG_")}
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=_ROOT, env=env, capture_output=True, text=True, check=False
    )
    spent = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    return spent


def _receipt(directory: Path) -> tuple[Path, Path]:
    """Record a decision; return its receipt, and a policy that believes the log."""
    record(directory / "log", 1)
    with open_log(directory / "log", read_only=True) as log:
        rows = log.store.index_rows(0, log.store.size())
        id_ = next(format_id(row.id) for row in rows if row.sequence is not None)
        receipt, policy = directory / "receipt.json", directory / "policy"
        receipt.write_bytes(Reader(log).receipt(id_, disclose=["request/product"]))
        lines = [*(f"log {vkey}" for vkey in log.vkeys), "quorum none"]
        policy.write_text("\n".join(lines) + "\n", "utf-8")
    return receipt, policy
