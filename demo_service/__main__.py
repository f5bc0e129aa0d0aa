"""``make demo``: a service, its log, an auditor, and a dishonest operator.

Everything that is printed happened in this run and was checked; if anything does not
behave as it should, the demo says what, and ends with status 1.
"""

import argparse
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from auditlog.core.errors import AuditLogError
from demo_service.processes import INTERRUPTIONS, ROOT, DemoError, Processes
from demo_service.screen import Screen
from demo_service.story import Story

__all__ = ["main"]

_MARK = ".auditlog-demo"
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the demo; return 0 if everything behaved as it says."""
    options = _parser().parse_args(arguments)
    for number in INTERRUPTIONS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    started = time.monotonic()
    screen = Screen()
    try:
        output = _fresh(options.output.absolute())
        with Processes(output / "processes") as processes:
            story = Story(output, processes, screen)
            story.play()
        seconds = time.monotonic() - started
        screen.act(
            f"All of this happened, and was checked, in {seconds:.0f} s. Try it:"
        )
        screen.lines(_commands(_shortest(output), story.patient))
    except (AuditLogError, DemoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m demo_service", description="Play the demo of auditlog."
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "demo-output",
        metavar="DIR",
        help="where everything goes; what an earlier demo left there is removed",
    )
    return parser


def _fresh(output: Path) -> Path:
    """Return an empty folder for the demo, having removed only what a demo left.

    Raises:
        DemoError: somebody else's files are there.
    """
    if output.exists() and any(output.iterdir()):
        if not (output / _MARK).exists():
            raise DemoError(f"{output} is not empty, and no demo made it: name another")
        shutil.rmtree(output)
    (output / "processes").mkdir(parents=True)
    (output / _MARK).touch()
    (output / ".gitignore").write_text("*\n")
    return output


def _commands(output: str, patient: str) -> list[str]:
    """Return what the reader may want to do with what the demo left."""
    python, output = shlex.quote(_shortest(sys.executable)), shlex.quote(output)
    script = Path(sys.executable).with_name("auditlog")
    ours = script.exists()
    auditlog = shlex.quote(_shortest(script)) if ours else f"{python} -m auditlog"
    return [
        f"{python} -I {output}/verify_receipt.pyz --trust {output}/trust \\",
        f"    --policy {output}/policy {output}/receipts/*.receipt.json",
        f"{auditlog} show --dir {output}/log --content \\",
        f"    {patient}",
        f"{auditlog} anchor status --dir {output}/log",
        f"{auditlog} check --dir {output}/log",
        f"{auditlog} check --dir {output}/operator/deleted",
    ]


def _shortest(path: Path | str) -> str:
    """Return a path as somebody in this directory would type it."""
    absolute, relative = str(path), os.path.relpath(path)
    return relative if len(relative) < len(absolute) else absolute


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as after Ctrl-C, so that no process is left behind."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
