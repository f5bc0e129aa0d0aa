"""Whether what the keyring holds could be restored: for `auditlog doctor`."""

from auditlog.core.record import format_time
from auditlog.log.diagnosis import Finding
from auditlog.log.directory import LogDirectory

__all__ = ["look_at_backups"]

_WHAT = "keyring backup"
_ADVICE = "make one with `auditlog key backup FILE`, kept apart from vault.key"


def look_at_backups(log: LogDirectory, now: float) -> Finding:
    """Look whether a backup of the keyring is kept, and how old the newest is.

    Args:
        log: the opened log.
        now: seconds since the epoch.
    """
    if log.store.last_slot() < 0:
        return Finding("ok", _WHAT, "there are no keys to back up yet")
    rows = log.store.keyring_backups()
    kept = [row for row in rows if row.expires > now * 1_000_000]
    if not kept:
        said = "none is kept: with the keyring all content would be lost"
        return Finding("warning", _WHAT, said, _ADVICE)
    made = max(row.made for row in kept)
    said = f"the newest is of {format_time(made)}"
    if made < _rotated(log):
        said += ", before the key-encryption key was rotated: it opens nothing"
        return Finding("warning", _WHAT, said, _ADVICE)
    if made < _changed(log):
        said += ", and keys were made or destroyed since then"
        return Finding("warning", _WHAT, said, _ADVICE)
    return Finding("ok", _WHAT, said)


def _rotated(log: LogDirectory) -> int:
    return 0 if log.vault_key is None else log.vault_key.known()[0].made


def _changed(log: LogDirectory) -> int:
    """Return when a slot of the keyring was last written, in microseconds."""
    try:
        return log.paths.keyring.stat().st_mtime_ns // 1000
    except OSError:
        return 0  # it is missing, which another finding says
