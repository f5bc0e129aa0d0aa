"""Commands of the operator about anchors: now, status, upgrade, deploy."""

import argparse
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from auditlog.anchors.evm.anchor import EvmAnchor
from auditlog.anchors.evm.contract import ADDRESS
from auditlog.anchors.evm.history import History
from auditlog.anchors.outline import outline_of
from auditlog.cli.opening import config_of
from auditlog.cli.output import Output
from auditlog.config import Config
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    NotFoundError,
    PendingError,
    RollbackError,
)
from auditlog.core.record import format_time, parse_json
from auditlog.log.anchor_answer import MAX_EVIDENCE
from auditlog.log.anchor_entry import REASONS
from auditlog.log.anchor_file import KINDS, AnchorFile, Configure
from auditlog.log.anchor_ledger import Ledger
from auditlog.log.anchor_status import (
    AnchorStatus,
    attesting,
    open_window,
    status_of,
)
from auditlog.log.anchor_work import Outcome, When
from auditlog.log.anchoring import Anchoring
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.leader import make_checkpoint
from auditlog.log.recovery import recover
from auditlog.storage.files import FileLock

__all__ = ["deploy", "now", "status", "upgrade"]

_PATIENCE_SECONDS = 60.0
"""How long a round of the server may take before ours."""

_COLUMNS = ("anchor", "log", "size", "state", "reason")


def now(
    options: argparse.Namespace,
    out: Output,
    kinds: Mapping[str, Configure] = KINDS,
) -> int:
    """Sign what waits, ask all anchors once; 1 if one fails, 12 if one is pending."""
    config = config_of(options)
    with ExitStack() as opened:
        logs = _open(opened, config, options.also)
        _check_histories(config, logs, kinds)
        for log in logs:
            log.claim()
            recover(log, int(time.time() * 1_000_000))
            make_checkpoint(log)
        return _round(config, logs, "now", out, kinds)


def _check_histories(
    config: Config, logs: Sequence[LogDirectory], kinds: Mapping[str, Configure]
) -> None:
    """Sign nothing for a log of which an anchor knows another past.

    Raises:
        RollbackError: one does, and proves it. Whatever else is wrong with an anchor
            the round says.
    """
    anchoring = Anchoring(logs[0], config, time.time, kinds=kinds, also=logs[1:])
    for history in anchoring.histories():
        try:
            history.check()
        except RollbackError:
            raise
        except AuditLogError:
            continue


def upgrade(
    options: argparse.Namespace,
    out: Output,
    kinds: Mapping[str, Configure] = KINDS,
) -> int:
    """Look at what is pending; 1 if an anchor fails, 12 if anything stays pending."""
    config = config_of(options)
    with ExitStack() as opened:
        logs = _open(opened, config, [])
        logs[0].claim()
        return _round(config, logs, "look", out, kinds)


def _open(opened: ExitStack, config: Config, also: Sequence[Any]) -> list[LogDirectory]:
    logs = [opened.enter_context(open_log(config.dir, policy=config.policy))]
    logs += [opened.enter_context(open_log(one)) for one in also]
    if len({log.origin for log in logs}) != len(logs):
        raise ConfigurationError("--also takes other logs, each once")
    return logs


def _round(
    config: Config,
    logs: Sequence[LogDirectory],
    when: When,
    out: Output,
    kinds: Mapping[str, Configure],
) -> int:
    anchoring = Anchoring(logs[0], config, time.time, kinds=kinds, also=logs[1:])
    outcomes = anchoring.round(when, patience=_PATIENCE_SECONDS)
    for log in logs:
        make_checkpoint(log)  # of the entries that tell of it
    anchors = list(AnchorFile(logs[0].paths.anchors).kinds())
    found = [one for log in logs for one in _standing(log, anchors, outcomes)]
    failed = any(one.state == "failed" for one in found)
    pending = any(one.state == "pending" for one in found)
    if out.machine:
        attempts = [one._asdict() for one in found]
        out.document({"attempts": attempts}, ok=not failed)
    else:
        out.table(_COLUMNS, found)
    for one in found:
        if one.reason is not None:
            out.warn(f"{one.anchor}: {one.reason}: {REASONS[one.reason]}")
    if failed:
        return AuditLogError.exit_code
    return PendingError.exit_code if pending else 0


def _standing(
    log: LogDirectory, anchors: Sequence[str], outcomes: Sequence[Outcome]
) -> list[Outcome]:
    """Return what became of all attempts, and where there was none, what stands."""
    found = [one for one in outcomes if one.origin == log.origin]
    for anchor in anchors:
        if any(one.anchor == anchor for one in found):
            continue
        rows = [
            log.store.last_attestation(anchor, state=state)
            for state in ("pending", "final")
        ]
        known = [(row.size, row.state) for row in rows if row is not None]
        found += [Outcome(anchor, log.origin, *one) for one in known[:1]]
    return found


def deploy(options: argparse.Namespace, out: Output) -> int:
    """Deploy the contract of an anchor where it is missing; 12 while it is on its way.

    With ``--dry-run`` nothing is sent: 11 if the contract is missing.
    """
    config = config_of(options)
    with open_log(config.dir, policy=config.policy) as log:
        history = _history(log, options.anchor)
        stands, sent = history.deployed(), None
        if not stands and not options.dry_run:
            log.claim()
            # The server's transactions have numbers of the same account.
            with FileLock(log.paths.anchor_lock, _PATIENCE_SECONDS):
                sent = history.deploy(now=time.time())
    transaction = None if sent is None else f"0x{sent.hex()}"
    if out.machine:
        found = {"contract": f"0x{ADDRESS.hex()}", "stands": stands}
        out.document(found | {"transaction": transaction})
    else:
        missing = "missing" if options.dry_run else "on its way"
        out.fields(
            [
                ("contract", f"0x{ADDRESS.hex()}"),
                ("state", "stands" if stands else missing),
                ("transaction", transaction),
            ]
        )
    if stands:
        return 0
    return NotFoundError.exit_code if options.dry_run else PendingError.exit_code


def _history(log: LogDirectory, name: str) -> History:
    for anchor in AnchorFile(log.paths.anchors).anchors():
        if anchor.name == name and isinstance(anchor, EvmAnchor):
            return anchor.history
    raise ConfigurationError(
        f"expected the name of an anchor of kind evm in {log.paths.anchors}, got "
        f"{name!r}"
    )


def status(options: argparse.Namespace, out: Output) -> int:
    """Say how far each anchor has come, and what none of them covers yet."""
    config = config_of(options)
    with open_log(config.dir, policy=config.policy) as log:
        moment, store = time.time(), log.store
        kinds = AnchorFile(log.paths.anchors).kinds()
        names = [*kinds, *(one for one in attesting(store) if one not in kinds)]
        found = [
            status_of(store, name, kinds.get(name), config.anchor_interval, moment)
            for name in names
        ]
        said = {name: _outline(log, name, out) for name in names}
        window = open_window(store, names, moment)
    if out.machine:
        document = {
            "anchors": [
                _status_json(one) | {"says": said[one.anchor]} for one in found
            ],
            "anchored": window.size,
            "open": window.lag._asdict(),
        }
        out.document(document)
        return 0
    for one in found:
        out.fields(_status_fields(one, said[one.anchor]))
        out.lines([""])
    out.lines([_window_line(window.size, window.lag.entries, window.lag.seconds)])
    return 0


def _outline(log: LogDirectory, anchor: str, out: Output) -> dict[str, str | int]:
    """Return what the last final evidence says of itself, which nobody checked here."""
    row = log.store.last_attestation(anchor, state="final")
    if row is None:
        return {}
    try:
        evidence = parse_json(row.evidence, limit=MAX_EVIDENCE)
        digest = Ledger(log.store, log.origin).digest(row.size)
        return outline_of(row.kind, digest, evidence)
    except AuditLogError as error:
        out.warn(f"{anchor}: what it gave cannot be read: {error}")
        return {}


def _status_json(one: AnchorStatus) -> dict[str, Any]:
    times = ("final_time", "pending_since", "next_try")
    said = {name: _time(getattr(one, name)) for name in times}
    return one._asdict() | said | {"lag": one.lag._asdict()}


def _status_fields(
    one: AnchorStatus, said: Mapping[str, object]
) -> list[tuple[str, object]]:
    final = f"checkpoint {one.final_size}, {_time(one.final_time)}"
    pending = f"{one.pending}, since {_time(one.pending_since)}"
    failures = f"{one.failures} in a row, {one.reason}"
    lag = f"{one.lag.entries} entries, {one.lag.seconds:.0f} s"
    return [
        ("anchor", one.anchor),
        ("kind", one.kind if one.configured else f"{one.kind}, not configured"),
        ("final", final if one.final_size else "nothing yet"),
        ("says", ", ".join(f"{k} {v}" for k, v in said.items()) or None),
        ("pending", pending if one.pending else None),
        ("failures", failures if one.failures else None),
        ("behind", lag if one.lag.entries else "nothing"),
        ("next try", _time(one.next_try)),
    ]


def _window_line(size: int, entries: int, seconds: float) -> str:
    if not entries:
        only = "nothing is open but entries about anchors and emitters"
        return f"{only}, after the first {size} entries"
    return (
        f"open: {entries} entries, for {seconds:.0f} s, are under no final attestation "
        "yet; whoever has the keys could still rewrite them"
    )


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else format_time(int(seconds * 1_000_000))
