"""Which model decided: its name, its version, and the digest of its artifact."""

import os
import re
from dataclasses import dataclass, field
from typing import Any

from auditlog.core.errors import ConfigurationError
from auditlog.models.details import DETAIL, MAX_TEXT, is_printable

__all__ = ["MAX_SEALED", "Model"]

_MAX_DETAILS = 64
_MAX_CLEAR = 1 << 14
"""Bytes of all details: an entry holds four times as many."""
MAX_SEALED = 1 << 18
"""Bytes of everything that is told of a model under a commitment."""
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LEAF = re.compile(r"[a-z][a-z0-9._]{0,63}")


@dataclass(frozen=True, slots=True)
class Model:
    """Which model decided. All strings come from configuration, code or its artifact.

    Two models are one if name, version, digest and details are the same.

    Raises:
        ConfigurationError: name or version is not 1 to 256 printable characters, or
            the digest is not ``sha256:`` and 64 lower-case hex digits, or what is said
            beyond them is not as described.
    """

    name: str
    version: str | None = None
    digest: str | None = None
    """Digest of the artifact, ``sha256:<hex>``."""
    details: tuple[tuple[str, str], ...] = field(default=(), hash=False)
    """What stands in clear beside it, once in the log: format, versions of libraries.
    Up to 64 unique names (lower-case letters, digits, ``.``, ``_``, ``-``), each with
    1 to 256 printable characters; kept sorted."""
    sealed: tuple[tuple[str, bytes], ...] = field(default=(), repr=False, compare=False)
    """What is told once under a commitment and can be opened later, such as
    parameters: unique names of ``context/`` leaves (lower-case letters, digits, ``.``,
    ``_``) with up to 256 KiB together; kept sorted. The digest covers it."""

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
        object.__setattr__(self, "details", _checked_details(self.details))
        object.__setattr__(self, "sealed", _checked_sealed(self.sealed))

    @classmethod
    def parse(cls, text: str) -> "Model":
        """Read ``name`` or ``name@version``; the last ``@`` separates them.

        Raises:
            ConfigurationError: name or version is empty or cannot stand in an entry.
        """
        name, separator, version = text.rpartition("@")
        return cls(name, version) if separator else cls(text)

    @classmethod
    def from_path(
        cls,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        version: str | None = None,
    ) -> "Model":
        """Return the identity of a model's file or directory; nothing in it is run.

        All of it is read once, so this takes as long as reading it: do it at start-up.
        Formats that are recognised (MLflow, Hugging Face, ONNX, safetensors, GGUF,
        joblib and pickle) add details; anything else has a digest all the same. See
        `auditlog.models.artifact`.

        Args:
            path: file or directory.
            name: of the model; None takes what the artifact is called.
            version: None takes that of a registry's or a hub's layout, if it is one.

        Raises:
            NotFoundError: there is nothing.
            ConfigurationError: it cannot be read, changes while it is read, or holds
                what a model does not: links that lead out of it, devices, more than
                100,000 files.
        """
        from auditlog.models.artifact import read_artifact  # noqa: PLC0415 - for few

        found = read_artifact(path)
        return cls(
            found.name if name is None else name,
            found.version if version is None else version,
            found.digest,
            found.details,
            found.sealed,
        )

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str, version: str | None = None
    ) -> "Model":
        """Return the identity of a fitted estimator, such as scikit-learn's.

        The digest covers its class, its parameters and all that it learned, in a form
        that another process gives as well: see `auditlog.models.estimator`. Versions
        of libraries are details; parameters are sealed.

        Args:
            estimator: has ``get_params``, as scikit-learn asks.
            name: of the model.
            version: likewise.

        Raises:
            ConfigurationError: it holds something that has no canonical form, which is
                named, or is no estimator.
        """
        from auditlog.models.estimator import read_estimator  # noqa: PLC0415 - for few

        digest, details, sealed = read_estimator(estimator)
        return cls(name, version, digest, details, sealed)


def _check_text(what: str, text: object) -> None:
    if not is_printable(text):
        raise ConfigurationError(
            f"a model's {what} is a string of 1 to {MAX_TEXT} printable characters, "
            f"got {_describe(text)}"
        )


def _describe(value: object) -> str:
    # Never the value: handlers and callables may take it from the request.
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    return "None" if value is None else type(value).__name__


def _is_digest(digest: object) -> bool:
    return isinstance(digest, str) and _DIGEST.fullmatch(digest) is not None


def _checked_details(given: object) -> tuple[tuple[str, str], ...]:
    pairs = _pairs("details", given, DETAIL)
    for name, text in pairs:
        _check_text(f"detail {name!r}", text)
    size = sum(len(name) + len(text.encode()) for name, text in pairs)
    if len(pairs) > _MAX_DETAILS or size > _MAX_CLEAR:
        raise ConfigurationError(
            f"expected at most {_MAX_DETAILS} details of a model, {_MAX_CLEAR} bytes "
            f"together, got {len(pairs)} of {size}"
        )
    return pairs


def _checked_sealed(given: object) -> tuple[tuple[str, bytes], ...]:
    pairs = _pairs("sealed", given, _LEAF)
    if not all(isinstance(value, bytes) for _, value in pairs):
        raise ConfigurationError("expected bytes as what is sealed of a model")
    size = sum(len(value) for _, value in pairs)
    if size > MAX_SEALED or len(pairs) > _MAX_DETAILS:
        raise ConfigurationError(
            f"expected at most {MAX_SEALED} bytes in {_MAX_DETAILS} parts sealed of a "
            f"model, got {size} in {len(pairs)}"
        )
    return pairs


def _pairs(what: str, given: object, names: re.Pattern[str]) -> tuple[Any, ...]:
    """Return pairs sorted by their unique names."""
    try:
        pairs = sorted((name, value) for name, value in given)  # type: ignore[attr-defined]
        wrong = [name for name, _ in pairs if not names.fullmatch(name)]
    except (TypeError, ValueError):
        raise ConfigurationError(
            f"expected the {what} of a model as pairs of a name and a value"
        ) from None
    if wrong or len({name for name, _ in pairs}) != len(pairs):
        raise ConfigurationError(
            f"expected unique names, in lower case, in the {what} of a model"
        )
    return tuple(pairs)
