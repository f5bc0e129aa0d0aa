"""What was captured of one call: plain values, handed from middleware to recorder."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from auditlog.core.commitment import leaf_hasher, leaf_salt
from auditlog.core.errors import ConfigurationError

if TYPE_CHECKING:
    import hashlib

__all__ = ["Body", "Exchange", "ModelIdentity"]

_MODEL_TEXT = 256
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model decided. All strings come from configuration or code.

    Raises:
        ConfigurationError: name or version is not 1 to 256 printable characters, or
            the digest is not ``sha256:`` and 64 lower-case hex digits.
    """

    name: str
    version: str | None = None
    digest: str | None = None
    """Digest of the artifact, ``sha256:<hex>``."""

    def __post_init__(self) -> None:
        """Refuse what an entry could not say."""
        _check_text("name", self.name)
        if self.version is not None:
            _check_text("version", self.version)
        if self.digest is not None and not _is_digest(self.digest):
            raise ConfigurationError(
                "a model's digest is 'sha256:' and 64 lower-case hex digits, "
                f"got {self.digest!r}"
            )

    @classmethod
    def parse(cls, text: str) -> "ModelIdentity":
        """Read ``name`` or ``name@version``; the last ``@`` separates them.

        Raises:
            ConfigurationError: name or version is empty or cannot stand in an entry.
        """
        name, separator, version = text.rpartition("@")
        return cls(name, version) if separator else cls(text)


def _check_text(what: str, text: object) -> None:
    # Printable also means: no lone surrogate, so that it can be written as UTF-8.
    if isinstance(text, str) and 0 < len(text) <= _MODEL_TEXT and text.isprintable():
        return
    raise ConfigurationError(
        f"a model's {what} is a string of 1 to {_MODEL_TEXT} printable characters, "
        f"got {text!r:.80}"
    )


def _is_digest(digest: object) -> bool:
    return isinstance(digest, str) and _DIGEST.fullmatch(digest) is not None


class Body(msgspec.Struct, eq=False):
    """One direction of an exchange, as it crossed the wire.

    Up to `limit` bytes are kept as they came. From the byte that crosses the limit
    on, everything is hashed as it passes, so that the commitment covers the whole
    body while memory stays flat; the first `limit` bytes stay as the stored copy.
    """

    # Structs, here and in `Exchange`, because several are made for each request.
    secret: bytes
    """Of the commitment, 32 bytes."""
    leaf: int
    """Of the commitment: 0 request, 1 response."""
    limit: int
    state: str = "unread"
    """``complete``, ``unread``, ``partial``, ``not_observed`` or ``omitted``."""
    size: int = 0
    """Bytes that passed so far."""
    # Most bodies are one chunk, kept as it is; a second one starts a buffer, so
    # that a million small chunks cost no more memory than their bytes.
    _first: bytes = b""
    _more: bytearray | None = None
    _hasher: "hashlib._Hash | None" = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body; they must not change afterwards."""
        if not self.size and len(chunk) <= self.limit:
            self.size = len(chunk)
            self._first = chunk
            return
        self.size += len(chunk)
        if self._hasher is not None:
            self._hasher.update(chunk)
        elif self.size <= self.limit:
            self._keep(chunk)
        else:
            self._overflow(chunk)

    def _keep(self, chunk: bytes) -> None:
        if self._more is None:
            self._more = bytearray()
        self._more += chunk

    def _overflow(self, chunk: bytes) -> None:
        path = ("request", "response")[self.leaf]
        hasher = leaf_hasher(leaf_salt(self.secret, self.leaf), path)
        hasher.update(self.kept())
        hasher.update(chunk)
        self._hasher = hasher
        self._keep(chunk[: len(chunk) - (self.size - self.limit)])

    @property
    def capped(self) -> bool:
        """Whether only the first bytes are kept."""
        return self._hasher is not None

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept, at most the limit."""
        return min(self.size, self.limit)

    def kept(self) -> bytes:
        """Return what is kept of the body."""
        return self._first if self._more is None else self._first + self._more

    def leaf_hash(self) -> bytes | None:
        """Return the hash of leaf `leaf` if the body was capped, else None."""
        return None if self._hasher is None else self._hasher.digest()


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
    keep: bool = True
    """Whether bodies are stored; the commitment covers them in any case."""
    model: ModelIdentity | None = None
    context: dict[str, bytes] = msgspec.field(default_factory=dict)
    """Further ``context/`` leaves by name, canonical JSON or bytes."""

    @property
    def kept_bytes(self) -> int:
        """Bytes of bodies and context that are held in memory."""
        context = sum(map(len, self.context.values())) if self.context else 0
        return self.request.kept_bytes + self.response.kept_bytes + context
