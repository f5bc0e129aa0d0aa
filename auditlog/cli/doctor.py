"""The command doctor: is this set-up fit, and what is to be done where it is not."""

import argparse
import importlib.metadata
import os
import platform
import re
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import auditlog
from auditlog.capture.redaction.configured import choke_point_beyond_http
from auditlog.cli.opening import config_of
from auditlog.cli.output import Output
from auditlog.config import Config
from auditlog.core.errors import AuditLogError, NotFoundError
from auditlog.log.backup_age import look_at_backups
from auditlog.log.diagnosis import (
    Finding,
    look_at_anchors,
    look_at_directory,
    look_at_log,
    look_at_tokens,
    look_at_witnesses,
)
from auditlog.log.directory import open_log

__all__ = ["doctor"]

_OURS = "decision-auditlog"
_FOREIGN = ("auditlog", "django-auditlog")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*>=\s*([0-9.]+)\s*(?:;\s*(.*))?")
_EXTRAS = "cli|evm|metrics|otel|presidio|rfc3161|web"
_EXTRA = re.compile(rf"extra\s*==\s*['\"]({_EXTRAS})['\"]")
_DESCRIPTORS = 1024


def doctor(options: argparse.Namespace, out: Output) -> int:
    """Look at everything a log needs; 1 if anything is a problem."""
    findings = list(_findings(options))
    problems = sum(one.level == "problem" for one in findings)
    if out.machine:
        known = {"findings": [finding._asdict() for finding in findings]}
        out.document(known, ok=not problems)
    else:
        out.lines([line for finding in findings for line in _lines(finding)])
    return AuditLogError.exit_code if problems else 0


def _lines(finding: Finding) -> list[str]:
    lines = [f"{finding.level:<8} {finding.what}: {finding.said}"]
    return [*lines, f"         -> {finding.todo}"] if finding.todo else lines


def _findings(options: argparse.Namespace) -> Iterator[Finding]:
    yield _python()
    yield from _packages()
    yield from _foreign()
    yield _descriptors()
    try:
        config = config_of(options)
    except AuditLogError as error:
        yield Finding("problem", "options", str(error), "the service would not start")
        return
    yield _options(config)
    yield _redaction(config)
    yield from look_at_directory(config.dir)
    try:
        log = open_log(config.dir, policy=config.policy, read_only=True)
    except NotFoundError:
        return
    except AuditLogError as error:
        yield Finding("problem", "log", str(error), "the service would not start")
        return
    with log:
        try:
            yield from look_at_log(log, time.time())
            yield from look_at_tokens(log, time.time())
            yield look_at_backups(log, time.time())
            yield from look_at_witnesses(log, online=options.online)
            yield from look_at_anchors(log, time.time())
        except AuditLogError as error:
            todo = "run `auditlog check`, which says more"
            yield Finding("problem", "log", str(error), todo)


def _python() -> Finding:
    said = f"{platform.python_version()} at {sys.executable}"
    return Finding("ok", "python", said)


def _packages() -> Iterator[Finding]:
    """Say what is installed of what the metadata of our distribution asks for."""
    try:
        requires = importlib.metadata.requires(_OURS) or []
        yield Finding("ok", "package", f"{_OURS} {importlib.metadata.version(_OURS)}")
    except importlib.metadata.PackageNotFoundError:
        said = (
            f"{_OURS} is not installed; this runs from {Path(auditlog.__file__).parent}"
        )
        yield Finding("warning", "package", said, f"pip install {_OURS}")
        return
    for name, least, marker in _requirements(requires):
        extra = _EXTRA.search(marker)
        if extra or not marker:
            yield _package(name, least, extra[1] if extra else None)


def _requirements(requires: list[str]) -> Iterator[tuple[str, str, str]]:
    for text in requires:
        if found := _REQUIREMENT.match(text):
            yield found[1], found[2], found[3] or ""


def _package(name: str, least: str, extra: str | None) -> Finding:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if extra is None:
            todo = f"pip install '{name}>={least}'"
            return Finding("problem", "package", f"{name} is not installed", todo)
        return Finding("ok", "package", f"{name} is not installed (extra {extra})")
    if _numbers(version) < _numbers(least):
        said = f"{name} {version} is older than {least}"
        return Finding("problem", "package", said, f"pip install '{name}>={least}'")
    return Finding("ok", "package", f"{name} {version}")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"[0-9]+", version)[:3]]


def _foreign() -> Iterator[Finding]:
    """Find other people's packages that are imported by our name."""
    found = []
    for name in _FOREIGN:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    for distribution in found:
        said = f"{distribution} is installed, which is imported as `auditlog` too"
        todo = f"pip uninstall {distribution.split()[0]}, then install {_OURS} again"
        yield Finding("problem", "package", said, todo)
    ours = Path(auditlog.__file__).resolve().parent
    for entry in dict.fromkeys(sys.path):
        other = Path(entry, "auditlog", "__init__.py").resolve().parent
        if other != ours and (other / "__init__.py").exists():
            said = f"there is another package `auditlog` at {other}"
            todo = "remove it, or see that it comes later in sys.path"
            yield Finding("warning", "package", said, todo)
    if not found:
        yield Finding("ok", "package", f"`auditlog` is ours, at {ours}")


def _descriptors() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _DESCRIPTORS:
        todo = f"ulimit -n {_DESCRIPTORS} (the hard limit is {hard})"
        said = f"a process may open {soft} files and sockets"
        return Finding("warning", "limits", said, todo)
    return Finding("ok", "limits", f"a process may open {soft} files and sockets")


def _redaction(config: Config) -> Finding:
    """Say which rules the environment names; code may add to them."""
    try:
        choke_point_beyond_http(config)
    except AuditLogError as error:
        todo = "the service would not start"
        return Finding("problem", "redaction", str(error), todo)
    names = ("redact_keys", "redact_fields", "redact_patterns")
    rules = [f"{len(getattr(config, one))} {one}" for one in names]
    return Finding("ok", "redaction", f"{', '.join(rules)} from the environment")


def _options(config: Config) -> Finding:
    given = [name for name in os.environ if name.startswith("AUDITLOG_")]
    said = f"{', '.join(sorted(given)) or 'no variable'} from the environment"
    if not config.enabled:
        todo = "unset AUDITLOG_ENABLED to record"
        return Finding("warning", "options", "`enabled` is false", todo)
    return Finding("ok", "options", said)
