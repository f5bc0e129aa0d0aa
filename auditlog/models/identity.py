"""Which model decided: its name, its version, and the digest of its artifact."""

import re
from dataclasses import dataclass

from auditlog.core.errors import ConfigurationError

__all__ = ["Model"]

_MODEL_TEXT = 256
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Model:
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
    def parse(cls, text: str) -> "Model":
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
