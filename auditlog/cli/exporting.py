"""The command export: all that is held on one person, in a zip for them."""

import argparse
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from auditlog.cli.opening import open_chosen
from auditlog.cli.output import Output
from auditlog.cli.subjects import recipient_of, subject_of
from auditlog.cli.who import login
from auditlog.core.errors import AuditLogError, VerificationError
from auditlog.log.person_export import Exported, export_person

__all__ = ["export"]


def export(options: argparse.Namespace, out: Output) -> int:
    """Write all that is held on one person; that it was written is now in the log."""
    kind, identifier = subject_of(options)
    recipient = recipient_of(options)
    with open_chosen(options) as log:
        log.claim()
        with _whole_file(options.output) as file:
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


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a private file that takes its name when it is whole, or leaves nothing."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        file = os.fdopen(os.open(unfinished, flags, 0o600), "wb")
    except OSError as error:
        raise _cannot(path, error) from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise _cannot(path, error) from None
    finally:
        unfinished.unlink(missing_ok=True)


def _cannot(path: Path, error: OSError) -> AuditLogError:
    return AuditLogError(f"cannot write {path}: {error.strerror}")
