"""The offline verifier as a command: ``auditlog verify`` and ``verify_receipt.pyz``.

It reads the files that it is given and nothing else: no network, no log, no clock. It
needs the standard library, `cryptography` and `auditlog.core`; with a trust file also
the pure parts of `auditlog.anchors`, which are loaded then only.
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from auditlog.core.checkpoint import Policy, parse_policy
from auditlog.core.encoding import MAX_TEXT
from auditlog.core.errors import AuditLogError, MalformedError, VerificationError
from auditlog.core.receipt import MAX_RECEIPT, parse_receipt
from auditlog.core.record import MAX_ENTRY
from auditlog.core.verify import Verdict, verify_entry, verify_receipt
from auditlog.verifier_compare import Verified, compare
from auditlog.verifier_opened import check_together
from auditlog.verifier_output import (
    FORK_PROVEN,
    STATUS,
    Result,
    complaint,
    encodable,
    printable,
    time_facts,
    to_json,
    to_text,
    write,
)

__all__ = ["main", "run"]

_T = TypeVar("_T")
_Checker = Callable[[bytes, bytes | None], Verdict]
"""(file, entry of a tlog-proof or None) -> what follows."""
_ForkChecker = Callable[[bytes], Any]
"""(file) -> `auditlog.monitor.fork.ForkVerdict`."""

_FORK_SCHEMA = b'"schema":"auditlog.fork.v1"'
_PROOF_HEADER = b"c2sp.org/tlog-proof@"
_OK, _UNCHECKED, _USAGE, _INTERRUPTED, _BROKEN_PIPE = 0, 1, 2, 130, 141
_FAILED = VerificationError.exit_code
_SEVERITY = (_FAILED, 13, 16, _UNCHECKED)
_MOST = 100
"""Parties that may be asked for."""


class _Source(NamedTuple):
    """A file that was named."""

    name: str
    data: bytes
    error: str | None
    """Why it could not be read."""


class _CannotReadError(Exception):
    """A file could not be read; nothing is said about what it may hold."""


def main(argv: Sequence[str] | None = None) -> int:
    """Verify receipts; return the exit status of `DESIGN.md` §10.

    Args:
        argv: the arguments, without the program's name and verb; None takes those of
            the process.
    """
    try:
        options = _parser().parse_args(argv)
        sources = [_Source(name, *_read(name, MAX_RECEIPT)) for name in options.receipt]
        _check_usage(options, sources)
    except SystemExit as leaving:  # argparse has said why
        return leaving.code if isinstance(leaving.code, int) else _USAGE
    try:
        policy = _read_policy(options.policy)
        entry = _read_entry(options.entry)
        checker, forks = _checkers(options, policy)
    except _CannotReadError as error:
        return _complain(options.json, str(error), _UNCHECKED)
    except MalformedError as error:
        return _complain(options.json, str(error), error.exit_code)
    results = [_verify(item, entry, checker, forks) for item in sources]
    conflicts = _compare(results, sources, entry)
    write((to_json if options.json else to_text)(results, conflicts))
    codes = {result.code for result in results} | ({_FAILED} if conflicts else set())
    return next((code for code in _SEVERITY if code in codes), _OK)


def run() -> NoReturn:
    """Be a program of its own."""
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = _BROKEN_PIPE
    sys.exit(status)


def _program() -> str:
    name = os.path.basename(sys.argv[0])  # noqa: PTH119 (pathlib costs start-up time)
    return name if name.endswith(".pyz") else "auditlog verify"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_program(),
        description="Verify receipts of decisions, offline.",
        epilog="Exit status: 0 verified, 1 could not check, 2 usage, 10 verification "
        "failed, 13 untrusted key or policy not met, 16 malformed; of several files "
        "the most severe, 10 before 13 before 16 before 1.",
    )
    parser.add_argument(
        "receipt",
        nargs="+",
        metavar="RECEIPT",
        help="a .receipt.json, or a .tlog-proof with --entry; - is standard input",
    )
    given = os.environ.get("AUDITLOG_POLICY")
    parser.add_argument(
        "--policy",
        metavar="FILE",
        required=not given,
        default=given,
        help="whom you believe: log keys, witnesses, quorum (C2SP tlog-policy)",
    )
    parser.add_argument(
        "--entry", metavar="FILE", help="the entry that a .tlog-proof is about"
    )
    parser.add_argument(
        "--trust",
        metavar="FILE",
        default=os.environ.get("AUDITLOG_TRUST"),
        help="whom you believe about time, and which keys are revoked (TOML)",
    )
    parser.add_argument(
        "--min-anchors",
        metavar="K",
        type=_count,
        help="demand anchors of so many distinct parties, and tell the time that so "
        "many vouch for",
    )
    parser.add_argument(
        "--require-pq",
        action="store_true",
        help="demand a post-quantum signature of the log (ML-DSA)",
    )
    parser.add_argument("--json", action="store_true", help="write JSON")
    return parser


def _count(text: str) -> int:
    plain = text.isascii() and text.isdigit() and len(text) <= len(str(_MOST))
    if not plain or not 1 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {_MOST}")
    return int(text)


def _read_policy(name: str) -> Policy:
    return _parsed(name, _read_text(name, 4 * MAX_TEXT, "a policy"), parse_policy)


def _checkers(
    options: argparse.Namespace, policy: Policy
) -> tuple[_Checker, _ForkChecker]:
    """Return what verifies a receipt, and a fork, by what was given beside the policy.

    What is loaded here costs time, and not everybody asks for it.
    """
    from auditlog.verifier_fork import ForkRules

    asked = {"min_anchors": options.min_anchors, "require_pq": options.require_pq}
    if not options.trust:
        forks = ForkRules(policy, **asked)
        return _without_trust(policy, options.require_pq), forks.verify
    from auditlog.anchors.checking import load_trust
    from auditlog.anchors.trust import MAX_TRUST
    from auditlog.anchors.verdict import verify_anchored_entry, verify_anchored_receipt

    text = _read_text(options.trust, 4 * MAX_TRUST, "a trust file")
    trust = _parsed(options.trust, text, load_trust)

    def check(data: bytes, entry: bytes | None) -> Verdict:
        if entry is None:
            return verify_anchored_receipt(data, policy, trust, **asked)
        return verify_anchored_entry(entry, data, policy, trust, **asked)

    revoked = [one.key for one in trust.revocations]
    return check, ForkRules(policy, revoked, **asked).verify


def _without_trust(policy: Policy, require_pq: bool) -> _Checker:
    def check(data: bytes, entry: bytes | None) -> Verdict:
        if entry is None:
            return verify_receipt(data, policy, require_pq=require_pq)
        return verify_entry(entry, data, policy, require_pq=require_pq)

    return check


def _read_text(name: str, limit: int, what: str) -> str:
    data, error = _read(name, limit)
    if error:
        raise _CannotReadError(error)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedError(
            f"{name}: expected {what} in UTF-8, got other bytes"
        ) from None


def _parsed(name: str, text: str, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(text)
    except MalformedError as error:
        raise MalformedError(f"{name}: {error}") from None


def _read_entry(name: str | None) -> bytes | None:
    data, error = _read(name, MAX_ENTRY) if name else (None, None)
    if error:
        raise _CannotReadError(error)
    return data


def _read(name: str, limit: int) -> tuple[bytes, str | None]:
    """Return a file, up to one byte above the limit, or why it cannot be read."""
    try:
        if name == "-":
            return sys.stdin.buffer.read(limit + 1), None
        with open(name, "rb") as file:  # noqa: PTH123 (pathlib costs start-up time)
            return file.read(limit + 1), None
    except OSError as error:
        return b"", f"cannot read {name}: {error.strerror}"
    except ValueError:  # a zero byte in the name
        return b"", f"cannot read {name}: no such name"


def _check_usage(options: argparse.Namespace, sources: Sequence[_Source]) -> None:
    read = [item for item in sources if not item.error]
    proofs = [item.name for item in read if _is_proof(item)]
    named = [*options.receipt, options.policy, options.entry, options.trust]
    if named.count("-") > 1:
        _parser().error("standard input can be one file only")
    if options.min_anchors and not options.trust:
        _parser().error("--min-anchors needs --trust: whom you believe about time")
    if proofs and not options.entry:
        _parser().error(f"{printable(proofs[0])} is a tlog-proof: give its --entry")
    if options.entry and len(proofs) != len(read):
        _parser().error("--entry goes with .tlog-proof files; a receipt holds its own")


def _is_proof(item: _Source) -> bool:
    return item.name.endswith(".tlog-proof") or item.data.startswith(_PROOF_HEADER)


def _verify(
    item: _Source, entry: bytes | None, checker: _Checker, forks: _ForkChecker
) -> Result:
    if item.error:
        return Result(item.name, _UNCHECKED, item.error)
    try:
        if entry is None and _is_fork(item):
            return _proven_fork(item.name, forks(item.data))
        verdict = checker(item.data, entry)
        if entry is None:
            check_together(parse_receipt(item.data))
    except AuditLogError as error:
        code = error.exit_code if error.exit_code in STATUS else _UNCHECKED
        return Result(item.name, code, str(error))
    except Exception as error:  # noqa: BLE001 (a defect of ours, but never a traceback)
        kind = type(error).__name__
        return Result(item.name, _UNCHECKED, f"internal error: {kind}")
    return Result(item.name, _OK, verdict.claim, verdict, facts=time_facts(verdict))


def _is_fork(item: _Source) -> bool:
    # Canonical JSON: the schema is the last name, so it is the end of the file.
    return item.data.rstrip().endswith(_FORK_SCHEMA + b"}")


def _proven_fork(name: str, found: Any) -> Result:
    facts = {"not_proven": list(found.not_proven), "origin": found.origin}
    return Result(name, _OK, found.claim, status=FORK_PROVEN, facts=facts)


def _compare(
    results: Sequence[Result], sources: Sequence[_Source], entry: bytes | None
) -> list[str]:
    """Return what files that verify, each alone, say against each other."""
    pairs = zip(results, sources, strict=True)
    verified = [(result, source) for result, source in pairs if result.verdict]
    files = [_verified(result, source, entry) for result, source in verified]
    names = [result.file for result, _ in verified]
    conflicts = [
        f"{names[first]} and {names[second]}: {what}"
        for first, second, what in (compare(files) if len(files) > 1 else ())
    ]
    forks = {one.facts["origin"]: one for one in results if one.status == FORK_PROVEN}
    return conflicts + [
        f"{one.file} and {forks[verdict.origin].file}: the log {verdict.origin} has "
        "forked, and another history need not hold this entry"
        for (one, _), (verdict, *_) in zip(verified, files, strict=True)
        if verdict.origin in forks
    ]


def _verified(result: Result, source: _Source, entry: bytes | None) -> Verified:
    assert result.verdict is not None
    if entry is not None:
        return Verified(result.verdict, entry, None)
    receipt = parse_receipt(source.data)
    return Verified(result.verdict, receipt.entry, receipt)


def _complain(as_json: bool, text: str, code: int) -> int:
    """Say why nothing was verified at all."""
    if as_json:
        write(complaint(text, code))
    sys.stderr.write(encodable(f"{_program()}: {printable(text)}\n", sys.stderr))
    return code


if __name__ == "__main__":
    run()
