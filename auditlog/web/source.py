"""The log behind the reading interface, and who may ask it what."""

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, NamedTuple

from fastapi import Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from auditlog.config import Config, load_config
from auditlog.core.errors import AuditLogError, NotFoundError
from auditlog.core.record import DECISION, format_id, parse_id
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.erasing import catch_up
from auditlog.log.publication import PublicView
from auditlog.log.reader import DecisionView, Reader
from auditlog.log.tokens import ROLES, Grant, allows, grant_of
from auditlog.web.problems import ProblemError, unavailable

__all__ = ["Authorized", "Credentials", "LogSource", "OpenedLog"]

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description=f"A token made by `auditlog token create --role {'|'.join(ROLES)}`.",
)
Credentials = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
"""What came with ``Authorization: Bearer …``; None without it."""


class OpenedLog(NamedTuple):
    """A log as one process has it."""

    process: int
    log: LogDirectory
    reader: Reader
    public: PublicView
    config: Config
    """Names its directory, and the rules by which something is redacted."""


class Authorized(NamedTuple):
    """A log, and what somebody may see of it."""

    opened: OpenedLog
    grant: Grant

    @property
    def log(self) -> LogDirectory:
        """The log."""
        return self.opened.log

    @property
    def reader(self) -> Reader:
        """Who reads it, whatever the scope."""
        return self.opened.reader

    def visible(self, id_: str) -> DecisionView:
        """Return what is known of an entry that the token may see.

        An entry about a decision is as visible as the decision. To whoever may not see
        it, it does not exist, by the same words.

        Raises:
            MalformedError: `id_` is no UUIDv7.
            NotFoundError: there is none, or none for this token.
        """
        scope = self.grant.scope
        view = self.reader.decision(id_)
        if scope.is_everything:
            return view
        seen, about = view, None if view.row is None else view.row.about
        if about is not None:
            try:
                seen = self.reader.decision(format_id(about))
            except NotFoundError:
                # Of a decision that the log does not hold; its id is not told either.
                raise self.reader.unknown(id_) from None
        known = seen.row is None or seen.row.type == DECISION
        if not known or not scope.covers(parse_id(seen.id), seen.row):
            raise self.reader.unknown(id_)
        return view


class LogSource:
    """The log behind the routes: opened on first use, once in each process."""

    def __init__(self, directory: Path | None, clock: Callable[[], float]) -> None:
        """Name the log.

        Args:
            directory: the log's; None takes ``AUDITLOG_DIR``, or the default.
            clock: seconds since the epoch.
        """
        self._directory = directory
        self._clock = clock
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
            config = load_config({"dir": self._directory})
            log = open_log(config.dir, policy=config.policy)
            with ExitStack() as opened:
                opened.callback(log.close)
                # What was begun or restored is forgotten before anything is served.
                catch_up(log, int(self._clock() * 1_000_000))
                opened.pop_all()
        except AuditLogError as error:
            # Not by its own kind: "no log here" is no answer to "no such decision".
            raise unavailable(error) from error
        return OpenedLog(os.getpid(), log, Reader(log), PublicView(log), config)

    def close(self) -> None:
        """Close what this process opened; the next request opens it again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None and opened.process == os.getpid():
            opened.log.close()

    def authorize(
        self,
        credentials: HTTPAuthorizationCredentials | None,
        needed: str,
        *,
        everything: bool = False,
    ) -> Authorized:
        """Return the log to a caller whose token carries the rights of `needed`.

        Args:
            credentials: what came with the request.
            needed: a role.
            everything: whether a token with a scope will not do.

        Raises:
            ProblemError: 401 without a token of this log, 403 if its role is too low.
        """
        if credentials is None:
            msg = f"this needs a token with the role {needed}"
            raise ProblemError(401, "unauthorized", msg, _challenge())
        opened = self()
        try:
            grant = grant_of(opened.log.store, credentials.credentials, self._clock())
        except NotFoundError as error:
            challenge = _challenge(error="invalid_token")
            raise ProblemError(401, "unauthorized", str(error), challenge) from None
        if not allows(grant.role, needed):
            msg = f"the token's role is {grant.role}; this needs {needed}"
            raise _forbidden(msg, needed)
        if everything and not grant.scope.is_everything:
            msg = "the token sees some decisions only; this needs one without a scope"
            raise _forbidden(msg, needed)
        return Authorized(opened, grant)


def _forbidden(detail: str, needed: str) -> ProblemError:
    challenge = _challenge(error="insufficient_scope", scope=needed)
    return ProblemError(403, "forbidden", detail, challenge)


def _challenge(**parameters: str) -> dict[str, str]:
    """Return the header that says which credentials to bring (RFC 6750 §3)."""
    named = {"realm": "auditlog"} | parameters
    text = ", ".join(f'{name}="{value}"' for name, value in named.items())
    return {"WWW-Authenticate": f"Bearer {text}"}
