"""What was captured of one call: plain values, handed from middleware to recorder."""

import msgspec

from auditlog.capture.body import Body
from auditlog.capture.protocols.registry import Protocols
from auditlog.capture.redaction.redaction import Redaction
from auditlog.capture.subjects import Subject, SubjectFinder
from auditlog.models.identity import Model

__all__ = ["Body", "Exchange"]


class Exchange(msgspec.Struct, kw_only=True, eq=False):
    """Everything the recorder needs to build one decision."""

    id: bytes
    """UUIDv7, 16 bytes, drawn when the request arrived."""
    secret: bytes
    """32 random bytes, from which all salts of the commitment are derived."""
    sequence: int
    """Number given by the emitter before the application was called."""
    time: int
    """Arrival, microseconds since the epoch."""
    method: str | None = None
    """As sent by the client; None beyond HTTP."""
    route: str | None = None
    """Route template from the application's router; None without a router."""
    target: bytes | None = None
    """Raw path and query, as sent by the client; None beyond HTTP."""
    operation: str | None = None
    """Name that code gives to a decision beyond HTTP; None for a call over HTTP."""
    request: Body
    response: Body
    status: int | None = None
    """None where the answer never started."""
    duration: int = 0
    """Microseconds from arrival to the end of the answer, monotonic clock."""
    outcome: str = "completed"
    keep: bool = True
    """Whether bodies are stored; the commitment covers them in any case."""
    model: Model | None = None
    protocols: Protocols | None = None
    """Read what it says, when it is described; None where nothing is to be read."""
    subject: Subject | None = None
    """Whom it is about, as said by a handler, or found."""
    subjects: SubjectFinder | None = None
    """Looks for it where nobody said it; None where nothing is to be looked for."""
    whole: "Exchange | None" = None
    """Of a batch, the one that has the bodies, where they are to be looked into."""
    own_key: bool = False
    """Whether its content is sealed under a key of its own, if it is about nobody."""
    redaction: Redaction | None = None
    """Takes out what may not be stored; None where everything may be."""
    context: dict[str, bytes] = msgspec.field(default_factory=dict)
    """Further ``context/`` leaves by name, canonical JSON or bytes."""

    @property
    def request_type(self) -> str | None:
        """Content-Type of the request as sent; None without one."""
        return self.request.media_type

    @property
    def response_type(self) -> str | None:
        """Content-Type of the response as sent; None without one."""
        return self.response.media_type

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies and context that are in memory."""
        context = sum(map(len, self.context.values())) if self.context else 0
        return self.request.held_bytes + self.response.held_bytes + context

    @property
    def kept_bytes(self) -> int:
        """Bytes of both bodies that are kept, in memory or elsewhere."""
        return self.request.kept_bytes + self.response.kept_bytes
