"""What may be wrong with a log's directory, beside a running service or without one.

Nothing is changed but for a file of a few bytes that is written and removed, and locks
that are held for a moment. Each function looks at one thing and returns what it found;
none raises for what is wrong.
"""

import contextlib
import os
import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from auditlog.anchors.http import parse_endpoint, post
from auditlog.core.checkpoint import Policy
from auditlog.core.errors import AuditLogError, ConfigurationError, MalformedError
from auditlog.core.record import format_time
from auditlog.log.anchor_file import KINDS, AnchorFile, Configure
from auditlog.log.anchor_status import status_of
from auditlog.log.directory import LogDirectory, Paths
from auditlog.log.token_scope import parse_scope
from auditlog.log.tokens import list_tokens, token_id
from auditlog.storage import Query, TokenRow
from auditlog.storage.files import (
    FileLock,
    read_secret,
    refuse_network_filesystem,
    sync_directory,
    write_durably,
)
from auditlog.storage.journal import abandoned, emitters_with_journal

__all__ = [
    "Finding",
    "look_at_anchors",
    "look_at_directory",
    "look_at_log",
    "look_at_tokens",
    "look_at_witnesses",
]

Level = Literal["ok", "warning", "problem"]

_LOCKS = Path("/proc/locks")
_MIB = 1 << 20
_SCARCE = 100 * _MIB
_LITTLE = 1024 * _MIB
_SYNCS = 5
_SLOW_SECONDS = 0.1
_BUSY_SECONDS = 2.0
_ASK_SECONDS = 3.0
_AHEAD_SECONDS = 5.0
_WAITING_SECONDS = 60.0
_PROVISIONAL = "auditlog.invalid"


class Finding(NamedTuple):
    """What was found about one thing."""

    level: Level
    what: str
    """The thing, in a word or two."""
    said: str
    todo: str = ""
    """What to do next; empty where nothing is wrong."""


def look_at_directory(directory: Path) -> Iterator[Finding]:
    """Look at the place where the log is, or will be."""
    paths = Paths(directory)
    try:
        refuse_network_filesystem(directory)
    except AuditLogError as error:
        yield Finding("problem", "directory", str(error), "choose a local disk")
    if not directory.is_dir():
        yield _missing(directory)
        return
    yield _ownership(directory)
    yield _space(directory)
    yield _syncs(directory)
    for key in (paths.log_key, paths.vault_key):
        yield _key(key)


def _missing(directory: Path) -> Finding:
    parent = directory.absolute()
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK | os.X_OK):
        todo = f"let this user write to {parent}, or name another with AUDITLOG_DIR"
        return Finding("problem", "directory", f"{directory} cannot be made", todo)
    said = f"there is no log in {directory} yet"
    return Finding(
        "warning", "directory", said, "make one with `auditlog init --origin NAME`"
    )


def _ownership(directory: Path) -> Finding:
    found = directory.stat()
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        todo = "run as the user of the service, or give it the directory"
        return Finding("problem", "directory", f"{directory} is not writable", todo)
    if found.st_uid not in {os.geteuid(), 0}:
        said = f"{directory} belongs to another user ({found.st_uid})"
        todo = "run this as the user of the service: files it makes must be theirs"
        return Finding("warning", "directory", said, todo)
    if found.st_mode & 0o022:
        said = f"{directory} can be written by others ({found.st_mode & 0o777:04o})"
        return Finding("warning", "directory", said, f"chmod go-w {directory}")
    return Finding("ok", "directory", str(directory.absolute()))


def _space(directory: Path) -> Finding:
    free = shutil.disk_usage(directory).free
    said = f"{free // _MIB} MiB free"
    if free < _LITTLE:
        level: Level = "problem" if free < _SCARCE else "warning"
        return Finding(level, "disk", said, "free some, or move the log")
    files = os.statvfs(directory)
    if files.f_files and files.f_favail < 1000:
        return Finding("problem", "disk", f"{files.f_favail} files free", "free some")
    return Finding("ok", "disk", said)


def _syncs(directory: Path) -> Finding:
    """Write durably as the log does, and say how long it takes."""
    probe = directory / f".doctor.{os.getpid()}"
    seconds = []
    try:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            write_durably(probe, os.urandom(4096))
            seconds.append(time.perf_counter() - began)
    except AuditLogError as error:
        return Finding("problem", "fsync", str(error), "the log cannot work here")
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
    with contextlib.suppress(AuditLogError):
        sync_directory(directory)
    median = statistics.median(seconds)
    said = f"a durable write takes {median * 1000:.1f} ms"
    if median > _SLOW_SECONDS:
        todo = "under durability=sync each answer waits for this: use a faster disk"
        return Finding("warning", "fsync", said, todo)
    return Finding("ok", "fsync", said)


def _key(path: Path) -> Finding:
    try:
        read_secret(path)
    except AuditLogError as error:
        todo = "restore it from your backup; without it the log cannot go on"
        return Finding("problem", "keys", str(error), todo)
    return Finding("ok", "keys", f"{path.name} is there, and its owner's alone")


def look_at_log(log: LogDirectory, now: float) -> Iterator[Finding]:
    """Look into a log that was opened; `now` is seconds since the epoch."""
    yield _origin(log)
    yield _keyring(log)
    yield _writable(log.paths.database)
    yield from _journals(log.paths.journals)
    newest = log.store.find(Query(limit=1))
    if newest:
        yield _clock(newest[0].time / 1_000_000, now)
    leader = _holder(log.paths.leader_lock)
    yield leader
    yield _signed(log, now, leads="nobody" not in leader.said)


_PLURALS = {
    "entry": "entries",
    "process": "processes",
    "token": "tokens",
    "witness": "witnesses",
}


def _many(count: int, noun: str) -> str:
    return f"{count} {noun if count == 1 else _PLURALS[noun]}"


def _origin(log: LogDirectory) -> Finding:
    if log.origin.partition("/")[0] == _PROVISIONAL:
        todo = "make the log that counts anew, with `auditlog init --origin NAME`"
        said = f"the log is named {log.origin} for ever, a name for trying things out"
        return Finding("warning", "origin", said, todo)
    return Finding("ok", "origin", log.origin)


def _keyring(log: LogDirectory) -> Finding:
    try:
        log.keys.require()
    except AuditLogError as error:
        todo = (
            "restore keys/keyring and keys/vault.key: content cannot be read; where no "
            "backup has a key, `auditlog key lost`"
        )
        return Finding("problem", "keyring", str(error), todo)
    return Finding("ok", "keyring", "opens with vault.key")


def _writable(database: Path) -> Finding:
    """Begin to write, and do not."""
    try:
        with contextlib.closing(
            sqlite3.connect(database, timeout=_BUSY_SECONDS, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
    except sqlite3.Error as error:
        todo = "see which program holds it, such as a backup, or whose file it is"
        return Finding("problem", "database", f"cannot be written: {error}", todo)
    return Finding("ok", "database", "opens, and can be written")


def _journals(directory: Path) -> Iterator[Finding]:
    """Count journals; those of the dead are locked for a moment to tell them apart.

    A service that starts in that moment leaves them to the next start.
    """
    try:
        every = len(emitters_with_journal(directory) or ())
        # Nothing is locked where nothing is: the lock's file would be ours.
        left_over = abandoned(directory) if every else []
        for journal in left_over:
            journal.close()
    except AuditLogError as error:
        yield Finding("problem", "journal", str(error), "mend its permissions")
        return
    dead = len(left_over)
    yield Finding(
        "ok",
        "processes",
        f"{_many(every - dead, 'process')} recording into this log now",
    )
    if dead:
        said = f"{_many(dead, 'process')} ended without a stop, and not admitted yet"
        todo = "the next start does it, or `auditlog checkpoint`"
        yield Finding("warning", "journal", said, todo)
    else:
        yield Finding("ok", "journal", "nothing waits to be admitted")


def _clock(newest: float, now: float) -> Finding:
    ahead = newest - now
    if ahead > _AHEAD_SECONDS:
        said = f"it is {ahead:.0f} s behind the newest entry"
        return Finding("problem", "clock", said, "set the clock, and keep it by NTP")
    return Finding("ok", "clock", f"the newest entry is {-ahead:.0f} s old")


def _holder(lock: Path) -> Finding:
    """Say which process leads the log: the one that sequences and asks witnesses."""
    nobody = Finding("ok", "lead", "nobody leads the log: no service runs on it")
    if not lock.exists():
        # To make it here would make it ours, and perhaps not the service's.
        return nobody
    try:
        with FileLock(lock, timeout=0):
            return nobody
    except AuditLogError:
        pid = _locked_by(lock)
        who = "another process" if pid is None else f"process {pid}"
        return Finding("ok", "lead", f"{who} leads the log")


def _locked_by(path: Path) -> int | None:
    try:
        wanted = str(path.stat().st_ino)
        lines = _LOCKS.read_text("ascii").splitlines()
    except OSError:
        return None
    for fields in map(str.split, lines):
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == wanted:
            return int(fields[4])
    return None


def _signed(log: LogDirectory, now: float, *, leads: bool) -> Finding:
    """Say how far the newest checkpoint is behind the entries."""
    newest, size = log.store.newest(), log.store.size()
    covered = 0 if newest is None else newest[0]
    if covered == size:
        said = f"{_many(size, 'entry')}, all under a checkpoint"
        return Finding("ok", "checkpoint", said)
    first = log.store.index_rows(covered, covered + 1)[0].time
    age = now - first / 1_000_000
    said = f"{_many(size - covered, 'entry')} without one, since {format_time(first)}"
    if age < _WAITING_SECONDS:
        return Finding("ok", "checkpoint", said)
    if leads:
        todo = "look into the service's log for HALTED or 'cannot sequence'"
        return Finding("problem", "checkpoint", said, todo)
    todo = "start the service, or run `auditlog checkpoint`"
    return Finding("warning", "checkpoint", said, todo)


def look_at_tokens(log: LogDirectory, now: float) -> Iterator[Finding]:
    """Look at who may ask over HTTP: for ever, or not any more, or unreadably."""
    tokens = list_tokens(log.store)
    for row in tokens:
        if (found := _token(row, now)) is not None:
            yield found
    if tokens:
        said = f"{_many(len(tokens), 'token')} for the reading interface"
        yield Finding("ok", "tokens", said)


def _token(row: TokenRow, now: float) -> Finding | None:
    """Return what is wrong with a token; None if nothing is."""
    id_ = token_id(row.hash)
    revoke = f"`auditlog token revoke {id_}`"
    try:
        parse_scope(row.scope)
    except MalformedError:
        said = f"the scope of {id_} cannot be read, so it opens nothing"
        return Finding("warning", "tokens", said, f"{revoke}, and make another")
    if row.expires is None:
        said = f"{id_} ({row.role}) never expires"
        todo = f"make one with --expires in its place, then {revoke}"
        return Finding("warning", "tokens", said, todo)
    if row.expires <= now:
        return Finding("warning", "tokens", f"{id_} ({row.role}) has expired", revoke)
    return None


def look_at_witnesses(log: LogDirectory, *, online: bool) -> Iterator[Finding]:
    """Look at the policy, and with `online` whether its witnesses answer."""
    try:
        policy = log.policy()
    except AuditLogError as error:
        todo = f"mend {log.policy_path}; no witness is asked meanwhile"
        yield Finding("problem", "policy", str(error), todo)
        return
    yield _quorum(policy)
    if any(witness.url for witness in policy.witnesses):
        yield _witnessed(log)
    for witness in policy.witnesses if online else ():
        if witness.url is not None:
            yield _answers(witness.name, witness.url)


def look_at_anchors(
    log: LogDirectory, now: float, kinds: Mapping[str, Configure] = KINDS
) -> Iterator[Finding]:
    """Look at each anchor that is configured: can it be used, and did it answer.

    Args:
        log: the opened log.
        now: seconds since the epoch.
        kinds: what makes an anchor of each kind.
    """
    try:
        anchors = AnchorFile(log.paths.anchors, kinds).each()
    except ConfigurationError as error:
        todo = "mend it: the service would not start"
        yield Finding("problem", "anchors", str(error), todo)
        return
    if not anchors:
        said = f"none configured in {log.paths.anchors.name}"
        yield Finding("ok", "anchors", said)
    for name, kind, anchor in anchors:
        if isinstance(anchor, ConfigurationError):
            todo = "mend it: the service would not start"
            yield Finding("problem", f"anchor {name}", str(anchor), todo)
        else:
            yield _anchored(log, name, kind, now)


def _anchored(log: LogDirectory, name: str, kind: str, now: float) -> Finding:
    found = status_of(log.store, name, kind, 0.0, now)
    if found.failures:
        said = f"failed {found.failures} times in a row: {found.reason}"
        todo = "see the service's log, or `auditlog anchor now`"
        return Finding("warning", f"anchor {name}", said, todo)
    if not found.final_size:
        said = f"{kind}, nothing final yet, {found.pending} pending"
        return Finding("ok", f"anchor {name}", said)
    said = f"{kind}, final up to {_many(found.final_size, 'entry')}"
    return Finding("ok", f"anchor {name}", f"{said}, {found.pending} pending")


def _quorum(policy: Policy) -> Finding:
    count = len(policy.witnesses)
    if policy.quorum == "none":
        said = f"{_many(count, 'witness')}, and none must agree"
        todo = "name witnesses and a quorum: until then you could rewrite the log"
        return Finding("warning", "policy", said, todo)
    return Finding("ok", "policy", f"{_many(count, 'witness')}, quorum {policy.quorum}")


def _witnessed(log: LogDirectory) -> Finding:
    cosigned, newest = log.store.cosigned_sizes(), log.store.newest()
    if newest is None or newest[0] in cosigned:
        return Finding("ok", "witnesses", "the newest checkpoint is cosigned")
    behind = newest[0] - max(cosigned, default=0)
    said = f"{_many(behind, 'entry')} under no cosigned checkpoint yet"
    todo = "the schedule asks (AUDITLOG_ANCHOR_INTERVAL), or `checkpoint --witness`"
    return Finding("warning", "witnesses", said, todo)


def _answers(name: str, url: str) -> Finding:
    """Ask for nothing: any answer in HTTP will do."""
    try:
        endpoint = parse_endpoint(url)
        deadline = time.monotonic() + _ASK_SECONDS
        status = post(endpoint, "/add-checkpoint", b"", deadline).status
    except AuditLogError as error:
        todo = "see whether it runs, and whether this host may reach it"
        return Finding("problem", f"witness {name}", str(error), todo)
    return Finding("ok", f"witness {name}", f"{url} answers ({status} to an empty ask)")
