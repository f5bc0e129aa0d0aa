"""What the offline verifier prints: verdicts as text, or as JSON for programs."""

import base64
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from auditlog.core.errors import VerificationError
from auditlog.core.record import format_time
from auditlog.core.verify import Verdict

__all__ = [
    "FORK_PROVEN",
    "STATUS",
    "Result",
    "complaint",
    "encodable",
    "printable",
    "time_facts",
    "to_json",
    "to_text",
    "write",
]

SCHEMA = "auditlog.verification.v1"
FORK_PROVEN = "FORK PROVEN: the log signed two histories"
_OK, _UNCHECKED = 0, 1
_FAILED = VerificationError.exit_code
STATUS = {
    _OK: "VERIFIED",
    _FAILED: "NOT VERIFIED: the evidence does not hold",
    13: "NOT TRUSTED: the evidence does not satisfy the policy",
    16: "MALFORMED: these bytes are not what they should be",
    _UNCHECKED: "NOT CHECKED",
}
_SHOWN = 160
"""Characters shown of a disclosed value; `--json` gives all."""


@dataclass(slots=True)
class Result:
    """What came of one file."""

    file: str
    code: int
    text: str
    """The claim, or why there is none."""
    verdict: Verdict | None = None
    status: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """What `--json` tells beside the verdict."""


def time_facts(verdict: Verdict) -> dict[str, Any]:
    """Return what `AnchoredVerdict` says more, as JSON; of another one, nothing."""
    before = getattr(verdict, "existed_before", None)
    return {
        "anchors": [
            {
                "kind": bound.kind,
                "party": bound.party,
                "notAfter": format_time(bound.not_after),
                "detail": bound.detail,
            }
            for bound in getattr(verdict, "anchors", ())
        ],
        "existedBefore": None if before is None else format_time(before),
    }


def _failure(text: str, code: int) -> dict[str, Any]:
    return {
        "ok": False,
        "status": STATUS[code],
        "exit_code": code,
        "verdict": text,
        "checks": [{"name": "verification", "ok": False, "detail": text}],
        "not_proven": ["anything"],
    }


def complaint(text: str, code: int) -> str:
    """Return as JSON why nothing was verified at all."""
    return _dump({"schema": SCHEMA, **_failure(text, code)})


def to_json(results: Sequence[Result], conflicts: Sequence[str]) -> str:
    """Return one JSON document about all files."""
    files = [{"file": result.file, **_file_json(result)} for result in results]
    if len(files) == 1:
        return _dump({"schema": SCHEMA, **files[0]})
    good = sum(result.code == _OK for result in results)
    checks = [
        {"name": result.file, "ok": result.code == _OK, "detail": result.text}
        for result in results
    ]
    checks += [{"name": "comparison", "ok": False, "detail": c} for c in conflicts]
    points = dict.fromkeys(point for file in files for point in file["not_proven"])
    return _dump(
        {
            "schema": SCHEMA,
            "ok": good == len(files) and not conflicts,
            "verdict": _summary(good, len(files), conflicts),
            "checks": checks,
            "not_proven": list(points),
            "files": files,
        }
    )


def _file_json(result: Result) -> dict[str, Any]:
    verdict = result.verdict
    if verdict is None:
        failed = _failure(result.text, result.code)
        return failed if result.code else failed | _proven_fork(result)
    return {
        "ok": True,
        "status": STATUS[_OK],
        "exit_code": _OK,
        "verdict": verdict.claim,
        "checks": [
            {"name": name, "ok": True, "detail": detail}
            for name, detail in verdict.checks
        ],
        "not_proven": list(verdict.not_proven),
        "origin": verdict.origin,
        "index": verdict.index,
        "size": verdict.size,
        "root": base64.b64encode(verdict.root).decode(),
        "leaf": base64.b64encode(verdict.leaf).decode(),
        "id": verdict.id,
        "entry_type": verdict.entry_type,
        "signers": list(verdict.signers),
        "witnesses": list(verdict.witnesses),
        "disclosed": [
            {"path": path, "value": base64.b64encode(value).decode()}
            for path, value in verdict.disclosed
        ],
        **result.facts,
    }


def _proven_fork(result: Result) -> dict[str, Any]:
    check = {"name": "fork", "ok": True, "detail": result.text}
    return {"ok": True, "status": result.status, "checks": [check], **result.facts}


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2) + "\n"


def to_text(results: Sequence[Result], conflicts: Sequence[str]) -> str:
    """Return a block of lines for each file, and a summary of several."""
    blocks = [_file_text(result) for result in results]
    if len(results) > 1:
        good = sum(result.code == _OK for result in results)
        lines = [_summary(good, len(results), conflicts)]
        blocks.append("".join(f"{printable(line)}\n" for line in [*lines, *conflicts]))
    return "\n".join(blocks)


def _summary(good: int, count: int, conflicts: Sequence[str]) -> str:
    summary = f"{good} of {count} files verified"
    return f"{summary}; THEY CONTRADICT EACH OTHER" if conflicts else summary


def _file_text(result: Result) -> str:
    status = result.status or STATUS[result.code]
    lines = [f"{result.file}: {status}", f"  {result.text}"]
    verdict = result.verdict
    points = verdict.not_proven if verdict else result.facts.get("not_proven", ())
    if verdict:
        lines += ["  Checked:"]
        lines += [f"    {name:<12} {detail}" for name, detail in verdict.checks]
        if verdict.disclosed:
            lines += ["  Disclosed:"]
            lines += [
                f"    {path} = {_shown(value)}" for path, value in verdict.disclosed
            ]
    if points:
        lines += ["  This does not prove:"]
        lines += [f"    - {point}" for point in points]
    return "".join(f"{printable(line)}\n" for line in lines)


def _shown(value: bytes) -> str:
    text = value[: 4 * _SHOWN].decode("utf-8", "backslashreplace")
    if len(text) <= _SHOWN and len(value) <= 4 * _SHOWN:
        return text
    return f"{text[:_SHOWN]} ... ({len(value)} bytes)"


def printable(text: str) -> str:
    """Return text that cannot steer a terminal, whatever a file held."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )


def write(text: str) -> None:
    """Write to stdout, whatever its encoding can say."""
    sys.stdout.write(encodable(text, sys.stdout))


def encodable(text: str, stream: Any) -> str:
    """Return text with escapes for what a stream cannot say."""
    encoding = getattr(stream, "encoding", None) or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)
