"""The command line: ``auditlog VERB …``.

Data goes to stdout, talk to stderr, and the exit status is the verdict
(`auditlog.core.errors`). Nothing heavy is imported before the verb is known:
``auditlog verify`` loads the core only.
"""

import io
import os
import sys
import traceback
from collections.abc import Sequence

from auditlog.core.errors import AuditLogError

__all__ = ["main"]

_INTERRUPTED = 130
_BROKEN_PIPE = 141
"""128 + SIGPIPE, which a program that does not catch it ends with."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status.

    Args:
        argv: arguments after the program's name; None takes the process's own.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _print_anything()
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return _leave_quietly()
    except AuditLogError as error:
        return _fail(arguments, f"error: {error}", error, error.exit_code)
    # Whatever happens, a person gets one line and a script a status.
    except Exception as error:  # noqa: BLE001
        name = type(error).__name__
        return _fail(arguments, f"internal error: {name}: {error}", error, 1)
    return status


def _print_anything() -> None:
    """Let stdout escape what its encoding cannot say, as stderr does."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["verify"]:
        from auditlog.verifier import main as verify

        return verify([word for word in arguments[1:] if word != "--traceback"])
    from auditlog.cli.parser import parse

    return parse(arguments).run()


def _fail(arguments: list[str], line: str, error: Exception, status: int) -> int:
    """Say on stderr what went wrong, on stdout too for a machine that asked."""
    if "--traceback" in arguments:
        traceback.print_exception(error)
    from auditlog.cli.output import printable, write_failure

    try:
        sys.stderr.write(f"auditlog: {printable(line)}\n")
        if "--json" in arguments:
            write_failure(line.partition(": ")[2], status)
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_quietly()
    return status


def _leave_quietly() -> int:
    """Point stdout at nothing, so that the interpreter's last flush cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _BROKEN_PIPE
