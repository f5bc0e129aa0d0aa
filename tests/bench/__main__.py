"""`python -m tests.bench`; the package says what there is."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path

from tests.bench import peers
from tests.bench.context import LONG, NORMAL, QUICK, Context
from tests.bench.report import Row, machine, show, write_json

__all__ = ["main"]

_ROOT = Path(__file__).parents[2]
_GROUPS = {
    "a": ("requests", "latency", "streams"),
    "b": ("appends",),
    "c": ("proofs",),
    "d": ("checks", "tampering"),
    "e": ("sizes",),
    "f": ("startup",),
    "g": ("protocols",),
    "h": ("privacy",),
}
_HOW_TO_GET_PEERS = """\
{count} comparisons were skipped: peers are not installed. To install them:
  .venv/bin/python -m pip install --no-deps --require-hashes \\
      --target {directory} -r tests/bench/requirements-peers.txt"""


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a look, under a minute")
    size.add_argument("--long", action="store_true", help="up to a million entries")
    parser.add_argument("--only", metavar="a,b", help="groups, of: a b c d e f g h")
    parser.add_argument("--gate", action="store_true", help="fail if a goal is missed")
    parser.add_argument("--peers", type=Path, default=Path(sys.prefix) / "bench-peers")
    parser.add_argument("--scratch", type=Path, help="a directory on the disk to use")
    parser.add_argument("--output", type=Path, default=_ROOT / "bench.json")
    options = parser.parse_args(arguments)
    only = options.only.split(",") if options.only else list(_GROUPS)
    if not set(only) <= set(_GROUPS):
        parser.error(f"--only takes groups of {', '.join(_GROUPS)}")
    options.groups = [group for group in _GROUPS if group in only]
    return options


def _measure(context: Context, groups: Sequence[str]) -> Iterator[Row]:
    for group in groups:
        for module in _GROUPS[group]:
            run: Callable[[Context], Iterator[Row]]
            run = import_module(f"tests.bench.{module}").run
            yield from run(context)


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark; return the exit status."""
    options = _options(arguments)
    peers.add_directory(options.peers)
    scale = QUICK if options.quick else LONG if options.long else NORMAL
    begin = time.monotonic()

    def say(what: str) -> None:
        sys.stderr.write(f"{time.monotonic() - begin:4.0f} s  {what} ...\n")

    print(machine())
    with tempfile.TemporaryDirectory(dir=options.scratch, prefix="bench-") as scratch:
        context = Context(scale, options.peers, Path(scratch), say)
        rows = list(_measure(context, options.groups))
    print(show(rows))
    if any("*" in row.name for row in rows):
        print("* measured elsewhere, see DESIGN; not in this run")
    write_json(options.output, rows)
    missed = [row for row in rows if row.gate == "goal" and not row.ok]
    gates = sum(1 for row in rows if row.gate == "goal")
    print(f"{gates - len(missed)} of {gates} goals met, {len(rows)} rows,", end=" ")
    print(f"{time.monotonic() - begin:.0f} s, in {options.output}")
    skipped = sum(1 for row in rows if row.peer == peers.NOT_INSTALLED)
    if skipped:
        print(_HOW_TO_GET_PEERS.format(count=skipped, directory=options.peers))
    return 1 if options.gate and missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
