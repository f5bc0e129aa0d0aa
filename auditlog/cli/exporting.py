"""The command export: all that is held on one person, in a zip for them."""

import argparse
import time
from pathlib import Path

from auditlog.cli.opening import open_chosen
from auditlog.cli.output import Output
from auditlog.cli.subjects import recipient_of, subject_of
from auditlog.cli.who import login
from auditlog.core.errors import VerificationError
from auditlog.log.person_export import Exported, export_person
from auditlog.storage.whole_file import whole_file

__all__ = ["export"]


def export(options: argparse.Namespace, out: Output) -> int:
    """Write all that is held on one person; that it was written is now in the log."""
    kind, identifier = subject_of(options)
    recipient = recipient_of(options)
    with open_chosen(options) as log:
        log.claim()
        with whole_file(options.output) as file:
            done = export_person(
                log,
                kind,
                identifier,
                file.write,
                recipient=recipient,
                by=login(),
                channel="cli",
                now=time.time(),
            )
    if out.machine:
        out.document(
            {"file": str(options.output), **done._asdict()}, ok=not done.unreadable
        )
    else:
        _say(options.output, done, out)
    return VerificationError.exit_code if done.unreadable else 0


def _say(path: Path, done: Exported, out: Output) -> None:
    out.say(
        f"wrote {path}: {done.decisions} decisions, {done.receipts} receipts; that it "
        "was made is now in the log"
    )
    if done.partly:
        out.say(f"of {done.partly} a part is not in it: index.json says which, and why")
    if done.pending:
        out.warn(
            f"{done.pending} are under no checkpoint yet and have no receipt: make it "
            "again later; `auditlog checkpoint` signs what waits where no service runs"
        )
    if done.unreadable:
        out.warn(f"{done.unreadable} are damaged: see `auditlog check`")
