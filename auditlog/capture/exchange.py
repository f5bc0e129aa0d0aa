"""What was captured of one call: plain values, handed from middleware to recorder."""

from dataclasses import dataclass, field

from auditlog.core.commitment import LeafHasher, leaf_salt

__all__ = ["Body", "Exchange", "ModelIdentity"]


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model decided. All strings come from configuration or code."""

    name: str
    version: str | None = None
    digest: str | None = None
    """Digest of the artifact, ``sha256:<hex>``."""


class Body:
    """One direction of an exchange, as it crossed the wire.

    Up to `limit` bytes are kept as they came. From the byte that crosses the limit
    on, everything is hashed as it passes, so that the commitment covers the whole
    body while memory stays flat; the first `limit` bytes stay as the stored copy.
    """

    __slots__ = ("_hasher", "_leaf", "_limit", "_secret", "chunks", "size", "state")

    def __init__(self, secret: bytes, leaf: int, limit: int) -> None:
        """Prepare to capture leaf `leaf` (0 request, 1 response) of a commitment."""
        self.state = "unread"
        """``complete``, ``unread``, ``partial``, ``not_observed`` or ``omitted``."""
        self.size = 0
        """Bytes that passed so far."""
        self.chunks: list[bytes] = []
        """What is kept: the whole body, or its first `limit` bytes."""
        self._secret = secret
        self._leaf = leaf
        self._limit = limit
        self._hasher: LeafHasher | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        self.size += len(chunk)
        if self._hasher is not None:
            self._hasher.update(chunk)
        elif self.size <= self._limit:
            self.chunks.append(chunk)
        else:
            self._overflow(chunk)

    def _overflow(self, chunk: bytes) -> None:
        path = ("request", "response")[self._leaf]
        hasher = LeafHasher(leaf_salt(self._secret, self._leaf), path)
        for kept in self.chunks:
            hasher.update(kept)
        hasher.update(chunk)
        self._hasher = hasher
        self.chunks.append(chunk[: len(chunk) - (self.size - self._limit)])

    @property
    def capped(self) -> bool:
        """Whether only the first bytes are kept."""
        return self._hasher is not None

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept, at most the limit."""
        return min(self.size, self._limit)

    def kept(self) -> bytes:
        """Return what is kept of the body."""
        return b"".join(self.chunks)

    def leaf_hash(self) -> bytes | None:
        """Return the hash of leaf `leaf` if the body was capped, else None."""
        return None if self._hasher is None else self._hasher.digest()


@dataclass(slots=True, kw_only=True)
class Exchange:
    """Everything the recorder needs to build one decision."""

    id: bytes
    """UUIDv7, 16 bytes, drawn when the request arrived."""
    secret: bytes
    """32 random bytes, from which all salts of the commitment are derived."""
    sequence: int
    """Number given by the emitter before the application was called."""
    time: int
    """Arrival, microseconds since the epoch."""
    method: str
    """As sent by the client."""
    route: str | None
    """Route template from the application's router; None without a router."""
    target: bytes
    """Raw path and query, as sent by the client."""
    request: Body
    response: Body
    request_type: str | None = None
    """Content-Type header as sent; None without one."""
    response_type: str | None = None
    status: int | None = None
    """None where the answer never started."""
    duration: int = 0
    """Microseconds from arrival to the end of the answer, monotonic clock."""
    outcome: str = "completed"
    model: ModelIdentity | None = None
    context: dict[str, bytes] = field(default_factory=dict)
    """Further ``context/`` leaves by name, canonical JSON or bytes."""

    @property
    def kept_bytes(self) -> int:
        """Bytes of both bodies that are held in memory."""
        return self.request.kept_bytes + self.response.kept_bytes
