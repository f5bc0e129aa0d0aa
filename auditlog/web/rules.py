"""What is the same for every request and session of one middleware."""

import logging
import re

import msgspec

from auditlog.capture.kept import Spills
from auditlog.capture.protocols.registry import Protocols
from auditlog.capture.redaction.redaction import Redaction
from auditlog.log.placing import described
from auditlog.web.asgi import App
from auditlog.web.models import ModelSources
from auditlog.web.process import Process
from auditlog.web.subjects import SubjectSources

__all__ = ["Faults", "Rules"]

_log = logging.getLogger("auditlog")


class Faults:
    """Logs faults that lose no decision, each kind of them once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, what: str, error: Exception) -> None:
        """Log that `what` happened, unless it was said before.

        What a foreign exception says may hold what a client sent: only its kind and
        its place are logged.
        """
        if what not in self._said:
            self._said.add(what)
            _log.error("auditlog: %s (said once): %s", what, described(error))


class Rules(msgspec.Struct, kw_only=True, frozen=True, eq=False):
    """What is the same for every request of one middleware."""

    app: App
    process: Process
    """Told of requests while they are in flight."""
    faults: Faults
    models: ModelSources
    """Name the model of a request that ends and did not name it."""
    subjects: SubjectSources | None
    """Name whom a request is about that ends and did not say it; None if none is to."""
    own_keys: re.Pattern[str] | None
    """Routes of which each decision about nobody has a key of its own."""
    header: bytes
    """Name of the response header with the id; empty sends none."""
    protocols: Protocols
    """Read what traffic says."""
    limit: int
    """Bytes of each body that are kept."""
    depth: int
    """Levels of a JSON body that open into members."""
    spills: Spills
    """Where kept bytes go that are too many for memory."""
    sync: bool
    """Hold the end of an answer until its decision is durable."""
    closed: bool
    """Release nothing unlogged."""
    keep_rejected: bool = False
    """Keep bodies of answers such as 401."""
    redaction: Redaction | None = None
    """What everything passes before it is stored; None where nothing has to go."""
