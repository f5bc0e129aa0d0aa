"""What was captured of one call: plain values, handed from middleware to recorder."""

import re
from dataclasses import dataclass

import msgspec

from auditlog.capture.body import Body
from auditlog.core.errors import ConfigurationError

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
                f"got {_describe(self.digest)}"
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
        f"got {_describe(text)}"
    )


def _describe(value: object) -> str:
    # Never the value: handlers and callables may take it from the request.
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    return "None" if value is None else type(value).__name__


def _is_digest(digest: object) -> bool:
    return isinstance(digest, str) and _DIGEST.fullmatch(digest) is not None


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
