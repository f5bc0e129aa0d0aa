"""The command check: what holds, what does not, and what nobody can know."""

import argparse
from collections.abc import Iterable
from typing import Any

from auditlog.cli.opening import open_chosen
from auditlog.cli.output import Output, Progress
from auditlog.core.errors import AuditLogError, VerificationError
from auditlog.core.record import format_time
from auditlog.log.check import CheckReport, check_log
from auditlog.log.completeness import GUARANTEE, MAX_SILENCE, EmitterReport
from auditlog.log.ranges import Span

__all__ = ["check"]

_EMITTER_COLUMNS = (
    *("emitter", "state", "first", "last", "logged", "interrupted", "named", "open"),
    *("missing", "unknown from"),
)


def check(options: argparse.Namespace, out: Output) -> int:
    """Check everything that the directory holds; 10 if anything does not hold."""
    progress = Progress("entries")
    most = MAX_SILENCE if options.max_gap is None else options.max_gap
    with open_chosen(options) as log:
        try:
            report = check_log(log, progress=progress, max_silence=most)
        finally:
            progress.clear()
    # Silence proves nothing against anybody; it fails who demands that there be none.
    silent = [one for one in report.emitters if _is_silent(one, most)]
    demanded = options.max_gap is not None and bool(silent)
    if out.machine:
        ok = not report.problems and not demanded
        out.document(_report_json(report), ok=ok)
    else:
        problems = [f"{problem.where}: {problem.what}" for problem in report.problems]
        out.lines([f"problem: {line}" for line in problems])
        out.lines([f"not checked: {line}" for line in report.unchecked])
        if options.emitters:
            out.table(_EMITTER_COLUMNS, [_emitter_row(one) for one in report.emitters])
        out.lines([_numbers_line(report), _summary(report)])
    if report.problems:
        return VerificationError.exit_code
    if demanded:
        out.warn(f"emitters that were silent for more than {most:g} s: {len(silent)}")
    return AuditLogError.exit_code if demanded else 0


def _is_silent(emitter: EmitterReport, most: float) -> bool:
    return emitter.silence > most or emitter.state == "vanished"


def _emitter_row(emitter: EmitterReport) -> list[object]:
    return [
        emitter.emitter,
        emitter.state,
        format_time(emitter.first),
        format_time(emitter.last),
        emitter.logged,
        emitter.interrupted,
        emitter.named,
        _count(emitter.open),
        _count(emitter.missing),
        emitter.unknown_from,
    ]


def _count(spans: Iterable[Span]) -> int:
    return sum(last - first + 1 for first, last in spans)


def _report_json(report: CheckReport) -> dict[str, Any]:
    return report._asdict() | {
        "problems": [problem._asdict() for problem in report.problems],
        "emitters": [_emitter_json(emitter) for emitter in report.emitters],
        "guarantee": GUARANTEE,
    }


def _emitter_json(emitter: EmitterReport) -> dict[str, Any]:
    times = {name: format_time(getattr(emitter, name)) for name in ("first", "last")}
    return emitter._asdict() | times


def _numbers_line(report: CheckReport) -> str:
    """Say what became of all numbers, and what that proves if they hold."""
    emitters = report.emitters
    counts = (
        (sum(one.logged for one in emitters), "there"),
        (sum(one.interrupted for one in emitters), "of them interrupted"),
        (sum(one.named for one in emitters), "named by gaps"),
        (sum(_count(one.open) for one in emitters), "still open"),
        (sum(_count(one.missing) for one in emitters), "missing"),
    )
    said = ", ".join(f"{count} {what}" for count, what in counts if count) or "none"
    many = "s" * (len(emitters) != 1)
    line = f"numbers of {len(emitters)} emitter{many}: {said}"
    return line if report.problems else f"{line}; {GUARANTEE}"


def _summary(report: CheckReport) -> str:
    found = len(report.problems)
    verdict = f"{found} problem{'s' * (found != 1)} found" if found else "all hold"
    attested = f", {report.attestations} attestations" * bool(report.attestations)
    return (
        f"{report.entries} entries ({report.decisions} decisions), "
        f"{report.checkpoints} checkpoints, "
        f"{report.cosignatures} cosignatures{attested}: {verdict}"
    )
