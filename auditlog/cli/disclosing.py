"""The command disclose: open parts of a decision for somebody, and log that."""

import argparse
import time
from collections.abc import Sequence

from auditlog.cli.opening import open_chosen, read_option
from auditlog.cli.output import Output
from auditlog.cli.reading import renewing, say_what_is_not_renewed, wait_for
from auditlog.cli.who import login
from auditlog.core.record import parse_id
from auditlog.log.access import make_recipient
from auditlog.log.disclosing import Disclosed, disclose
from auditlog.log.reader import Reader
from auditlog.storage.whole_file import write_whole

__all__ = ["run"]

_NAMED = 40
"""Paths that are named of those not shown; `--json` gives all."""


def run(options: argparse.Namespace, out: Output) -> int:
    """Write a receipt that opens what was asked for, and say what it shows."""
    read_option("ID", options.id, parse_id)
    recipient = make_recipient(options.recipient, options.purpose)
    with open_chosen(options) as log:
        log.claim()
        if options.wait is not None:
            wait_for(Reader(log), options.id, options.wait, options.timeout)
        given = disclose(
            log,
            options.id,
            None if options.all else options.field,
            recipient=recipient,
            by=login(),
            channel="cli",
            now=time.time(),
            renew=renewing(options),
        )
    say_what_is_not_renewed(given.receipt, options, out)
    if options.output is None or str(options.output) == "-":
        out.bytes(given.receipt)
    else:
        write_whole(options.output, given.receipt, private=True)
    if out.machine and options.output is not None and str(options.output) != "-":
        out.document(_document(options, given))
    else:
        _say(given, recipient.name, out)
    return 0


def _document(options: argparse.Namespace, given: Disclosed) -> dict[str, object]:
    return {
        "id": options.id,
        "file": str(options.output),
        "recipient": options.recipient,
        "shown": list(given.shown),
        "hidden": list(given.hidden),
        "lost": list(given.lost),
        "nameless": given.nameless,
        "secret": given.secret,
        "access": given.access,
    }


def _say(given: Disclosed, recipient: str, out: Output) -> None:
    count = len(given.shown) + len(given.hidden) + len(given.lost) + given.nameless
    out.say(f"It shows to {recipient} {len(given.shown)} of {count} parts:")
    _list(given.shown, out, most=count)
    if given.secret:
        out.say("It holds the secret: a guess at anything else can be confirmed.")
    if given.hidden:
        out.say("It does not show:")
        _list(given.hidden, out)
    if given.lost:
        out.say("Nobody can open any more what is not kept whole:")
        _list(given.lost, out)
    if given.nameless:
        out.say(
            f"Of {given.nameless} parts, in which something was redacted, only hashes "
            "are kept: nobody can open them, or confirm a guess."
        )
    out.say(
        "Whoever has it also learns how many parts there are, and the size of both "
        f"bodies. That it was handed out is in the log, as {given.access}."
    )


def _list(paths: Sequence[str], out: Output, most: int = _NAMED) -> None:
    for path in paths[:most]:
        out.say(f"    {path}")
    if len(paths) > most:
        out.say(f"    and {len(paths) - most} more")
