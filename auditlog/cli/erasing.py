"""The command erase: say what erasing would do, do it, bring it to its end."""

import argparse
import time
from functools import partial
from pathlib import Path

from auditlog.cli.erasure_receipt import complete, keep
from auditlog.cli.opening import open_chosen, read_option
from auditlog.cli.output import Output
from auditlog.cli.subjects import subject_of
from auditlog.cli.who import login
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    NotFoundError,
    PendingError,
)
from auditlog.core.record import format_time, parse_id
from auditlog.log.access import Access, record_access, record_person_access
from auditlog.log.directory import LogDirectory
from auditlog.log.erasing import (
    Erased,
    Plan,
    erase,
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
from auditlog.storage.files import storage_errors

__all__ = ["erase_content"]

_MAX_LIST = 1 << 30
_WAIT_SECONDS = 2.0


def erase_content(options: argparse.Namespace, out: Output) -> int:
    """Erase somebody, or one decision; without ``--yes`` only say what that does."""
    with open_chosen(options) as log:
        if options.list:
            return _list(log, out)
        if options.finish:
            return _finish(log, options.receipt, out)
        if options.replay is not None:
            return _replay(log, options.replay, out)
        plan = _plan(log, options)
        if not options.yes:
            _log_search(log, plan, options)
            _show(plan, out)
            return 0
        return _erase(log, plan, options, out)


def _now() -> int:
    return time.time_ns() // 1000


def _plan(log: LogDirectory, options: argparse.Namespace) -> Plan:
    if options.decision is not None:
        read_option("--decision", options.decision, parse_id)
        return plan_decision_erasure(log, options.decision, _now())
    return plan_erasure(log, *subject_of(options), _now())


def _log_search(log: LogDirectory, plan: Plan, options: argparse.Namespace) -> None:
    """Make durable that it was looked for what is held, as whoever reads it does."""
    log.claim()
    access = Access("search", "cli", login())
    if plan.subject is None:
        record_access(log, options.decision, access, now=time.time())
    else:
        record_person_access(log, plan.key_id, access, now=time.time())


# --- doing it -------------------------------------------------------------------------


def _erase(
    log: LogDirectory, plan: Plan, options: argparse.Namespace, out: Output
) -> int:
    path = options.receipt
    if path is not None:
        _check_receipt(plan, path)
    log.claim()
    erased = _erase_and_keep(log, plan, path, options.reason)
    erased = settled(log, erased, _now(), wait=_WAIT_SECONDS)
    status = 0 if path is None else _receipt(log, path, erased, out)
    _tell(erased, path if status == 0 else None, out)
    return status


def _erase_and_keep(
    log: LogDirectory, plan: Plan, path: Path | None, reason: str | None
) -> Erased:
    kept = None if path is None else partial(keep, path)
    try:
        return erase(log, plan, now=_now(), reason=reason, by=login(), keep=kept)
    except NotFoundError:
        # What was written down opens nothing: somebody else was first.
        if path is not None:
            path.unlink(missing_ok=True)
        raise


def _check_receipt(plan: Plan, path: Path) -> None:
    """Refuse before anything is erased: what opens the receipt is kept nowhere else."""
    if plan.subject is None:
        raise ConfigurationError(
            "--receipt: expected a subject; of one decision, its own receipt and the "
            "erasure entry are all there is"
        )
    if path.exists() or path.is_symlink():
        raise ConfigurationError(f"--receipt: expected a new file, {path} is there")


def _receipt(log: LogDirectory, path: Path, erased: Erased, out: Output) -> int:
    """Make the receipt; where that fails, say what is missing."""
    if erased.proof is None:
        path.unlink()
        out.warn("another process was first to erase it, and has what opens a receipt")
        return PendingError.exit_code
    try:
        complete(log, path)
    except AuditLogError as error:
        out.warn(str(error))
        return error.exit_code
    return 0


def _tell(erased: Erased, receipt: Path | None, out: Output) -> None:
    if out.machine:
        known = {"id": erased.id, "state": erased.state, "records": erased.records}
        out.document(known | {"receipt": None if receipt is None else str(receipt)})
        return
    out.fields(
        [
            ("erasure", erased.id),
            ("state", erased.state),
            ("entries", erased.records),
            ("receipt", receipt),
        ]
    )
    out.say("Tell those to whom something was disclosed: GDPR Article 19.")
    if erased.state != "final":
        out.say("It is final later: see `auditlog erase --list`.")


def _finish(log: LogDirectory, receipt: Path | None, out: Output) -> int:
    log.claim()
    if receipt is not None:
        complete(log, receipt)
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
    out.say("Nothing was erased. With --yes this content is erased for ever.")
    out.warn("that it was looked for what is held is now in the log")


def _elsewhere(plan: Plan) -> str | None:
    if not plan.elsewhere:
        return None
    return (
        f"{plan.elsewhere} decisions are items of batches: request and answer are "
        "stored with the first of each, under the key of whom that one is about"
    )


def _time(us: int | None) -> str | None:
    return None if us is None else format_time(us)
