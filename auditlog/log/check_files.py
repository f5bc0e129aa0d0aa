"""What `check` says of the files beside the database: keys, policy, journals.

None of them is evidence: they say who signs, whom to ask, and what was under way. What
contradicts the log is a problem; what only a lost key could tell is unchecked.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from auditlog.core.encoding import parse_base64
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
)
from auditlog.log.directory import LogDirectory
from auditlog.storage.journal import read_journals

__all__ = ["Problem", "check_files", "key_of"]


_PAGE = 1024


class Problem(NamedTuple):
    """One thing that is not as it was recorded."""

    where: str
    what: str


def check_files(log: LogDirectory) -> tuple[list[Problem], Counter[str]]:
    """Return the problems of the files of a log, and what could not be checked.

    Raises:
        StorageError: a journal cannot be read.
    """
    unchecked: Counter[str] = Counter()
    problems = [*_check_vkeys(log), *_check_policy(log, unchecked)]
    problems += _check_journals(log, unchecked)
    problems += [
        Problem(f"database {name}", "is not as this auditlog makes it")
        for name in log.store.schema_changes()
    ]
    unchecked.update(_unopened(log))
    return problems, unchecked


def _unopened(log: LogDirectory) -> Iterator[str]:
    # Not by `Keys`, which would ask the store about each of a million.
    read, keys = log.keys.keyring.read_many, log.store.registered_keys()
    while page := [key[:2] for key in islice(keys, _PAGE)]:
        try:
            read(page)
        except AuditLogError:
            for key in page:
                try:
                    read([key])
                except AuditLogError as error:
                    yield f"key not opened: {error}"


def key_of(line: bytes) -> str:
    """Return name and key id of a signature line, or nothing if it is none."""
    try:
        _, name, encoded = line.decode().split(" ")
        key_id = parse_base64(encoded.removesuffix("\n"))[:4]
    except (MalformedError, ValueError):
        return ""
    return f"{name}+{key_id.hex()}"


def _check_vkeys(log: LogDirectory) -> list[Problem]:
    where = log.paths.vkeys.name
    try:
        named = log.paths.vkeys.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return [Problem(where, f"cannot be read: {error}")]
    if named != list(log.vkeys):
        return [Problem(where, "does not name the keys that sign, in their order")]
    return []


def _check_policy(log: LogDirectory, unchecked: Counter[str]) -> list[Problem]:
    where = log.policy_path.name
    try:
        policy = log.policy()
    except ConfigurationError as error:
        unchecked[f"witnesses: {error}"] += 1
        return []
    except MalformedError as error:
        return [Problem(where, str(error))]
    named = {verifier.vkey for verifier in policy.log_keys(log.origin)}
    problems = [
        Problem(where, f"names a key of this log that does not sign: {vkey[:300]}")
        for vkey in sorted(named - set(log.vkeys))
    ]
    if not named & set(log.vkeys):
        problems.append(Problem(where, "names no key of this log"))
    return problems


def _check_journals(log: LogDirectory, unchecked: Counter[str]) -> list[Problem]:
    problems = []
    for journal in read_journals(log.paths.journals):
        where = f"journal {journal.emitter.hex()}"
        if journal.damaged:
            unchecked[f"bytes of {where} that are no record"] += journal.damaged
        for record in journal.records:
            row = log.store.by_id(record.id)
            if row is not None and (row.emitter, row.sequence) != (
                journal.emitter,
                record.sequence,
            ):
                what = f"number {record.sequence} has the id of entry {row.index}"
                problems.append(Problem(where, what))
    return problems
