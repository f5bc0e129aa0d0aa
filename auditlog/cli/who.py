"""Who is at the keyboard, as far as the host knows."""

import contextlib
import os
import pwd
from pathlib import Path

__all__ = ["login"]

_AUDIT_ID = Path("/proc/self/loginuid")
_UNSET = (1 << 32) - 1


def login() -> dict[str, str]:
    """Return who runs this command, for the log.

    It is who logged in, where the host keeps that (it survives ``sudo``), and whose
    rights are used where they are another's. Environment variables are not asked: they
    say what anybody wants.
    """
    used = os.geteuid()
    first = os.getuid()
    with contextlib.suppress(OSError, ValueError):
        number = int(_AUDIT_ID.read_text("ascii"))
        first = first if number == _UNSET else number
    known = {"login": _name(first)}
    return known if first == used else known | {"as": _name(used)}


def _name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"uid {number}"
