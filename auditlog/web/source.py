"""The log behind the reading interface, and who may ask it what."""

import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, NamedTuple

from fastapi import Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from auditlog.config import load_config
from auditlog.core.errors import AuditLogError
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.erasing import catch_up
from auditlog.log.publication import PublicView
from auditlog.log.reader import Reader
from auditlog.log.tokens import allows, role_of
from auditlog.web.problems import ProblemError, unavailable

__all__ = ["Credentials", "LogSource", "OpenedLog"]

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="A token made by `auditlog token create --role auditor|content`.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
"""What came with ``Authorization: Bearer …``; None without it."""


class OpenedLog(NamedTuple):
    """A log as one process has it."""

    process: int
    log: LogDirectory
    reader: Reader
    public: PublicView


class LogSource:
    """The log behind the routes: opened on first use, once in each process."""

    def __init__(self, directory: Path | None) -> None:
        """Name the directory; None takes ``AUDITLOG_DIR``, or the default."""
        self._directory = directory
        self._lock = threading.Lock()
        self._opened: OpenedLog | None = None

    def __call__(self) -> OpenedLog:
        """Return the opened log; a child of a fork opens its own."""
        opened = self._opened
        if opened is not None and opened.process == os.getpid():
            return opened
        with self._lock:
            if self._opened is None or self._opened.process != os.getpid():
                self._opened = self._open()
            return self._opened

    def _open(self) -> OpenedLog:
        try:
            config = load_config()
            log = open_log(self._directory or config.dir, policy=config.policy)
            with ExitStack() as opened:
                opened.callback(log.close)
                # What was begun or restored is forgotten before anything is served.
                now = time.time_ns() // 1000  # noqa: TID251 - the log is opened here
                catch_up(log, now)
                opened.pop_all()
        except AuditLogError as error:
            # Not by its own kind: "no log here" is no answer to "no such decision".
            raise unavailable(error) from error
        return OpenedLog(os.getpid(), log, Reader(log), PublicView(log))

    def close(self) -> None:
        """Close what this process opened; the next request opens it again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None and opened.process == os.getpid():
            opened.log.close()

    def authorize(
        self, credentials: HTTPAuthorizationCredentials | None, needed: str
    ) -> OpenedLog:
        """Return the log to a caller whose token carries the rights of `needed`.

        Raises:
            ProblemError: 401 without a token of this log, 403 if its role is too low.
        """
        if credentials is None:
            msg = f"this needs a token with the role {needed}"
            raise ProblemError(401, "unauthorized", msg, _challenge())
        opened = self()
        role = role_of(opened.log.store, credentials.credentials)
        if role is None:
            challenge = _challenge(error="invalid_token")
            raise ProblemError(401, "unauthorized", "no such token", challenge)
        if not allows(role, needed):
            msg = f"the token's role is {role}; this needs {needed}"
            challenge = _challenge(error="insufficient_scope", scope=needed)
            raise ProblemError(403, "forbidden", msg, challenge)
        return opened


def _challenge(**parameters: str) -> dict[str, str]:
    """Return the header that says which credentials to bring (RFC 6750 §3)."""
    named = {"realm": "auditlog"} | parameters
    text = ", ".join(f'{name}="{value}"' for name, value in named.items())
    return {"WWW-Authenticate": f"Bearer {text}"}
