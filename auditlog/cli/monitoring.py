"""The command monitor: follow somebody's log from outside, once or until stopped."""

import argparse
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from auditlog.anchors.http import parse_endpoint
from auditlog.cli.output import Output
from auditlog.core.checkpoint import Policy, parse_policy
from auditlog.core.encoding import MAX_TEXT
from auditlog.core.errors import AuditLogError, ConfigurationError, MalformedError
from auditlog.core.record import format_time
from auditlog.monitor.account import Limits
from auditlog.monitor.alerts import Gauge, Webhook, write_metrics
from auditlog.monitor.findings import CODES
from auditlog.monitor.round import Options, Round
from auditlog.monitor.source import Source, Terms
from auditlog.monitor.state import StateDirectory
from auditlog.monitor.watch import Monitor
from auditlog.storage.files import read_secret

__all__ = ["monitor"]

_LOOPBACK = ("127.", "::1", "localhost")
_NOT_VISIBLE = "expected a token of visible ASCII"


def monitor(options: argparse.Namespace, out: Output) -> int:
    """Look at a log once, or every so often until it is stopped."""
    stop = threading.Event()
    policy = _policy(options.policy)
    origin = options.origin or _only_origin(policy)
    terms = Terms(options.timeout, stop.is_set)
    log = Source(options.url, terms, _token(options.token_file))
    vantages = [Source(url, terms) for url in options.vantage]
    url = options.webhook or os.environ.get("AUDITLOG_WEBHOOK")
    webhook = Webhook(url, stopped=stop.is_set) if url else None
    _warn_in_clear(log, out)
    limits = Limits(options.max_anchor_lag, options.max_silence)
    watched = Options(
        origin=origin,
        policy=policy,
        limits=limits,
        start=options.start,
        max_time=options.max_time,
    )
    with StateDirectory(options.dir) as directory:
        one = Monitor(directory, log, vantages, watched, webhook)

        def look() -> int:
            done = one.round(time.time())
            if not stop.is_set():
                _report(done, out)
                if options.metrics is not None:
                    requests = sum(source.requests for source in (log, *vantages))
                    write_metrics(options.metrics, _gauges(done, requests))
            return done.status

        return look() if options.once else _until_stopped(look, stop, options, out)


def _until_stopped(
    look: Callable[[], int],
    stop: threading.Event,
    options: argparse.Namespace,
    out: Output,
) -> int:
    """Look again and again; a round that fails is told, and is not the last one."""
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    status = 0
    out.say(f"auditlog: watching {options.url} every {options.interval:g} s")
    while not stop.is_set():
        begun = time.monotonic()
        try:
            status = look()
        except AuditLogError as error:
            out.warn(str(error))
        stop.wait(max(0.0, options.interval - (time.monotonic() - begun)))
    return status if status == CODES["fork"] else 0


def _policy(path: Path) -> Policy:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_TEXT + 1).decode()
        return parse_policy(text)
    except OSError as error:
        raise AuditLogError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise MalformedError(f"{path}: expected a policy in UTF-8") from None
    except MalformedError as error:
        raise MalformedError(f"{path}: {error}") from None


def _only_origin(policy: Policy) -> str:
    origins = {key.verifier.name for key in policy.logs}
    if len(origins) != 1:
        raise ConfigurationError(
            f"the policy names {len(origins)} logs: say which with --origin"
        )
    return origins.pop()


def _token(path: Path | None) -> str:
    """Return the token in a file, or in the environment; empty if there is none."""
    if path is not None:
        text = read_secret(path).decode("ascii", "replace").strip()
    else:
        text = os.environ.get("AUDITLOG_TOKEN", "").strip()
    if text and not (text.isascii() and text.isprintable() and " " not in text):
        raise ConfigurationError(_NOT_VISIBLE)
    if path is not None and not text:
        raise ConfigurationError(f"{path}: {_NOT_VISIBLE}, got none")
    return text


def _warn_in_clear(log: Source, out: Output) -> None:
    where = parse_endpoint(log.url)
    if log.token and not where.secure and not where.host.startswith(_LOOPBACK):
        out.warn("the token crosses the network in clear: use https")


def _report(done: Round, out: Output) -> None:
    """Print one round: a line of JSON, or of text and one for each finding."""
    if out.machine:
        out.text(json.dumps(_json(done), ensure_ascii=False) + "\n")
    else:
        out.lines([f"{one.kind}: {one.text}" for one in done.findings])
        out.lines([_line(done)])
    out.flush()


def _json(done: Round) -> dict[str, Any]:
    return (
        {"ok": done.status == 0}
        | done._asdict()
        | {
            "time": format_time(int(done.time * 1_000_000)),
            "root": None if done.root is None else done.root.hex(),
            "findings": [one._asdict() for one in done.findings],
            "vantages": [{"url": url, "size": size} for url, size in done.vantages],
        }
    )


def _line(done: Round) -> str:
    if done.root is None:
        return f"{done.origin}: nothing verified yet"
    what = "entries and tiles" if done.entries else "tiles (not the entries)"
    since = f" from {done.start} on" if done.start else ""
    agreeing = sum(1 for _, size in done.vantages if size is not None)
    seen = f", {agreeing} of {len(done.vantages)} vantage points answered"
    return (
        f"{done.origin}: {done.size} entries under root {done.root.hex()}, {what} "
        f"rebuilt{since}{seen if done.vantages else ''}"
    )


def _gauges(done: Round, requests: int) -> Iterator[Gauge]:
    labels = (("origin", done.origin),)

    def gauge(
        name: str, value: float | None, *more: tuple[str, str]
    ) -> Iterator[Gauge]:
        if value is not None:
            yield Gauge(name, value, (*labels, *more))

    yield from gauge("status", done.status)
    yield from gauge("round_timestamp_seconds", done.time)
    yield from gauge("verified_size", done.size)
    yield from gauge("served_size", done.served)
    yield from gauge("requests", requests)
    yield from gauge("anchor_lag_seconds", done.anchor_lag)
    yield from gauge("emitter_silence_seconds", done.silence)
    yield from gauge("untold_alerts", done.untold)
    for kind in CODES:
        count = sum(1 for one in done.findings if one.kind == kind)
        yield from gauge("findings", count, ("kind", kind))
    for url, size in done.vantages:
        yield from gauge("vantage_size", size, ("vantage", url))
