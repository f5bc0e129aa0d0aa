"""The command erase: say what erasing would do, do it, bring it to its end."""

import argparse
import sys
import time
from pathlib import Path

from auditlog.cli.opening import open_chosen, read_option
from auditlog.cli.output import Output
from auditlog.core.errors import ConfigurationError, PendingError
from auditlog.core.record import format_time, parse_id
from auditlog.log.directory import LogDirectory
from auditlog.log.erasing import (
    Erased,
    Plan,
    erase,
    erasure_receipt,
    forget_listed,
    plan_decision_erasure,
    plan_erasure,
)
from auditlog.log.erasure_views import (
    OUT_OF_REACH,
    STAYS,
    erasures_json,
    plan_json,
)
from auditlog.log.finishing import finish, settled
from auditlog.log.leader import make_checkpoint
from auditlog.log.said import subject_of
from auditlog.storage.files import storage_errors, write_durably

__all__ = ["erase_content"]

_MAX_SUBJECT = 1 << 16
_MAX_LIST = 1 << 30
_WAIT_SECONDS = 2.0


def erase_content(options: argparse.Namespace, out: Output) -> int:
    """Erase somebody, or one decision; without ``--yes`` only say what that does."""
    with open_chosen(options) as log:
        if options.list:
            return _list(log, out)
        if options.finish:
            return _finish(log, out)
        if options.replay is not None:
            return _replay(log, options.replay, out)
        plan = _plan(log, options)
        if not options.yes:
            _show(plan, out)
            return 0
        return _erase(log, plan, options, out)


def _now() -> int:
    return time.time_ns() // 1000


def _plan(log: LogDirectory, options: argparse.Namespace) -> Plan:
    if options.decision is not None:
        read_option("--decision", options.decision, parse_id)
        return plan_decision_erasure(log, options.decision, _now())
    subject = options.subject
    if subject == "-":
        # So that it stands in no list of processes and no history of a shell.
        subject = sys.stdin.readline(_MAX_SUBJECT).rstrip("\n")
    named = subject_of(subject, options.kind)
    return plan_erasure(log, named.kind, named.identifier, _now())


# --- doing it -------------------------------------------------------------------------


def _erase(
    log: LogDirectory, plan: Plan, options: argparse.Namespace, out: Output
) -> int:
    log.claim()
    if options.receipt is not None:
        _check_receipt(log, plan, options.receipt)
    erased = erase(log, plan, now=_now(), reason=options.reason)
    erased = settled(log, erased, _now(), wait=_WAIT_SECONDS)
    if options.receipt is not None:
        make_checkpoint(log)
        write_durably(options.receipt, erasure_receipt(log, erased))
    _tell(erased, options, out)
    return 0


def _check_receipt(log: LogDirectory, plan: Plan, path: Path) -> None:
    """Refuse before anything is erased: what opens the receipt is kept nowhere."""
    if plan.subject is None:
        raise ConfigurationError(
            "--receipt: expected a subject; of one decision, its own receipt and the "
            "erasure entry are all there is"
        )
    make_checkpoint(log)  # a log that signs nothing gives no receipt
    with storage_errors(f"write {path}"):
        path.touch(mode=0o600, exist_ok=False)


def _tell(erased: Erased, options: argparse.Namespace, out: Output) -> None:
    if out.machine:
        known = {"id": erased.id, "state": erased.state, "records": erased.records}
        receipt = None if options.receipt is None else str(options.receipt)
        out.document(known | {"receipt": receipt})
        return
    out.fields(
        [
            ("erasure", erased.id),
            ("state", erased.state),
            ("entries", erased.records),
            ("receipt", options.receipt),
        ]
    )
    out.say("Tell those to whom something was disclosed: GDPR Article 19.")
    if erased.state != "final":
        out.say("It is final later: see `auditlog erase --list`.")


def _finish(log: LogDirectory, out: Output) -> int:
    log.claim()
    done = finish(log, _now(), wait=_WAIT_SECONDS)
    left = len(log.store.erasures("pending", "shredded"))
    if out.machine:
        out.document({"final": done, "waiting": left})
    else:
        out.fields([("final now", done), ("waiting", left)])
    return PendingError.exit_code if left else 0


def _replay(log: LogDirectory, path: Path, out: Output) -> int:
    log.claim()
    with storage_errors(f"read {path}"), path.open("rb") as file:
        listed = file.read(_MAX_LIST + 1)
    done = forget_listed(log, listed, _now())
    if out.machine:
        out.document({"forgotten": done})
    else:
        out.fields([("keys forgotten again", done)])
    return 0


# --- saying it ------------------------------------------------------------------------


def _list(log: LogDirectory, out: Output) -> int:
    rows = erasures_json(log, _now())
    if out.machine:
        out.document({"erasures": rows})
    else:
        names = ("id", "state", "since", "key", "waitsFor")
        out.table(names, [[row[name] for name in names] for row in rows])
    return 0


def _show(plan: Plan, out: Output) -> None:
    if out.machine:
        out.document(plan_json(plan))
        return
    out.fields(
        [
            ("decisions", plan.decisions),
            ("amendments", plan.amendments),
            ("access entries", plan.accesses),
            ("not opened", plan.unread or None),
            ("routes", ", ".join(plan.routes) or None),
            ("from", _time(plan.first)),
            ("to", _time(plan.last)),
            ("backups expire", _time(plan.backup_expiry) or "no backup is recorded"),
            ("stays", STAYS),
            ("out of reach", OUT_OF_REACH),
            ("elsewhere", _elsewhere(plan)),
        ]
    )
    header = ("given", "recipient", "purpose", "what", "decision")
    given = [
        (_time(one.time), one.recipient, one.purpose, one.what, one.decision)
        for one in plan.given
    ]
    out.table(header, given)
    out.say("Nothing was changed. With --yes this content is erased for ever.")


def _elsewhere(plan: Plan) -> str | None:
    if not plan.elsewhere:
        return None
    return (
        f"{plan.elsewhere} decisions are items of batches: request and answer are "
        "stored with the first of each, under the key of whom that one is about"
    )


def _time(us: int | None) -> str | None:
    return None if us is None else format_time(us)
