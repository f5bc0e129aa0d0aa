"""Commands that keep the keys of the vault: rotate, backup, backups, restore, lost."""

import argparse
import re
import time
from typing import Any

from auditlog.cli.opening import open_chosen, read_option
from auditlog.cli.output import Output
from auditlog.core.errors import AuditLogError, MalformedError
from auditlog.core.record import format_time
from auditlog.log.backing import back_up, forget
from auditlog.log.backing import restore as restore_keys
from auditlog.log.losing import declare_lost, find_lost
from auditlog.log.rotating import rotate as rotate_keys
from auditlog.storage.sqlite_backups import BackupRow

__all__ = ["backup", "backups", "lost", "restore", "rotate"]

_BACKUP_ID = re.compile("[0-9a-f]{32}")
_NOT_YET = (
    "Nothing was changed. Restore what any backup has first (`auditlog key restore`). "
    "With --yes the rest is given up for ever, and the log says so."
)
_NOTHING_OPENS = "No key opens: is keys/vault.key the one of this log, and of today?"
_KEPT = {True: "kept", False: "gone"}


def rotate(options: argparse.Namespace, out: Output) -> int:
    """Rotate the key-encryption key, beside a service that runs or without one."""
    with open_chosen(options) as log:
        log.claim()
        rotated = rotate_keys(log, _now())
    if out.machine:
        out.document(rotated._asdict())
        return 0
    out.lines([f"generation {rotated.generation}"])
    if rotated.begun_before:
        out.say("That finished a rotation which was begun before; none was begun now.")
    out.say(
        "Backups of the keyring need the key before it, which is gone: make a new one "
        "with `auditlog key backup`, and a new copy of keys/vault.key."
    )
    return 0


def backup(options: argparse.Namespace, out: Output) -> int:
    """Copy the keyring to a file; 1 if there are keys that could not be copied."""
    with open_chosen(options) as log:
        log.claim()
        made = back_up(log, options.file, options.keep, _now())
    if out.machine:
        known = {"file": str(options.file), "keys": made.keys, "damaged": made.damaged}
        out.document(_told(made.row) | known, ok=not made.damaged)
    else:
        out.lines([made.row.id.hex()])
        out.say(
            f"{made.keys} keys, to be destroyed by {format_time(made.row.expires)}. "
            "Without keys/vault.key of today it opens nothing: keep that elsewhere."
        )
    if made.damaged:
        out.warn(
            f"{made.damaged} keys are not in it, for their slots do not open: "
            "`auditlog key restore` an older backup"
        )
    return AuditLogError.exit_code if made.damaged else 0


def backups(options: argparse.Namespace, out: Output) -> int:
    """List the backups on record, or record that one was destroyed."""
    with open_chosen(options) as log:
        if options.forget is not None:
            log.claim()
            id_ = read_option("--forget", options.forget, _parse_backup_id)
            rows = [forget(log, id_, _now())]
        else:
            rows = log.store.keyring_backups()
    now = _now()
    told = [{**_told(row), "kept": row.expires > now} for row in rows]
    if out.machine:
        out.document({"backups": told})
    else:
        names = ("id", "made", "expires", "kept")
        rows_of = [[*map(one.get, names[:3]), _KEPT[one["kept"]]] for one in told]
        out.table(names, rows_of)
    return 0


def restore(options: argparse.Namespace, out: Output) -> int:
    """Put back keys from a backup; 1 if some are lost nevertheless."""
    with open_chosen(options) as log:
        log.claim()
        done = restore_keys(log, options.file, _now())
    if out.machine:
        known = done._asdict() | {"id": done.id.hex()}
        out.document(known, ok=not done.missing)
    else:
        said = done._asdict()
        names = ("restored", "kept", "erased", "missing")
        out.fields([(name, said[name]) for name in names])
    if done.missing:
        out.warn(
            "what was sealed under the keys that are missing cannot be read: they were "
            "made after this backup, and a newer one may have them"
        )
    return AuditLogError.exit_code if done.missing else 0


def lost(options: argparse.Namespace, out: Output) -> int:
    """Say which keys do not open; with ``--yes``, declare them lost for ever."""
    with open_chosen(options) as log:
        if options.yes:
            log.claim()
            loss = declare_lost(log, _now())
        else:
            loss = find_lost(log)
    if out.machine:
        known = {"lost": len(loss.key_ids), "kinds": loss.kinds}
        known |= {"entries": loss.entries, "left": loss.left}
        out.document(known | {"dryRun": not options.yes})
    else:
        kinds = [(f"of {kind}", count) for kind, count in sorted(loss.kinds.items())]
        counts = [("entries they seal", loss.entries), ("keys that open", loss.left)]
        out.fields([("keys lost", len(loss.key_ids)), *kinds, *counts])
    if loss.key_ids and not options.yes:
        out.say(_NOT_YET if loss.left else f"{_NOTHING_OPENS} {_NOT_YET}")
    return 0


def _told(row: BackupRow) -> dict[str, Any]:
    times = {"made": format_time(row.made), "expires": format_time(row.expires)}
    return {"id": row.id.hex()} | times


def _parse_backup_id(text: str) -> bytes:
    if not _BACKUP_ID.fullmatch(text):
        raise MalformedError("expected the id of a backup, 32 hex digits")
    return bytes.fromhex(text)


def _now() -> int:
    return int(time.time() * 1_000_000)
